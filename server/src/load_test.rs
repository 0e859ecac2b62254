//! Load tests: the profile `loadtest` of `countersign serve`.
//!
//! Its keys are part of the program and therefore public: anyone can sign tokens that it accepts.
//! The tokens of its [`Corpus`] are the same on every machine, and it knows which answer each of
//! them must get. [`LoadTest`] lists them at `/corpus` and reports at `/stats` how the answers were.

pub mod keys;
pub mod tokens;
pub mod corpus;
pub mod configuration;
mod stats;

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};

pub use self::{
    corpus::{Corpus, CorpusToken},
    keys::TestKey,
};
use crate::{
    base::{
        clock::Stopwatch,
        reply::{Body, json, no_store, problem, typed},
        route::STATS_PATH,
    },
    observe::answer_judge::AnswerJudge,
};

/// The load test of a running server.
pub struct LoadTest {
    corpus: Corpus,
    /// Counts the answers.
    pub judge: Arc<AnswerJudge>,
    started: Stopwatch,
}

impl LoadTest {
    /// Creates the load test of a server with this many threads.
    #[must_use]
    pub fn new(corpus: Corpus, threads: usize) -> Self {
        let tokens = corpus.tokens.iter().map(|token| (token.text.as_str(), token.kind));
        let judge = Arc::new(AnswerJudge::new(threads, tokens));
        Self { corpus, judge, started: Stopwatch::start() }
    }

    /// Answers a request to one of its paths. DELETE sets the counters of `/stats` to zero.
    #[must_use]
    pub fn respond(&self, method: &Method, path: &str) -> Response<Body> {
        let is_read = method == Method::GET || method == Method::HEAD;
        if path == STATS_PATH && method == Method::DELETE {
            self.judge.reset();
            return no_store(json(StatusCode::OK, &self.stats()));
        }
        no_store(match path {
            _ if !is_read => method_not_allowed(path),
            STATS_PATH => json(StatusCode::OK, &self.stats()),
            _ => typed(StatusCode::OK, "text/tab-separated-values", self.corpus.lines()),
        })
    }
}

fn method_not_allowed(path: &str) -> Response<Body> {
    let allowed = if path == STATS_PATH { "GET, HEAD, DELETE" } else { "GET, HEAD" };
    let detail = format!("this route answers {allowed}");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &detail);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
