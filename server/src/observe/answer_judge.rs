//! [`AnswerJudge`]: whether each answer of a load test is right, by the [`TokenKind`] of its
//! request, and how long it took.

mod latencies;
mod token_kind;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::StatusCode;

use self::latencies::LatencyHistogram;
pub use self::{
    latencies::{LatencySummary, TestedProtocol},
    token_kind::TokenKind,
};
use super::{
    access_log::CompletedRequest,
    figures::outcomes,
    metrics::{OUTCOMES, current_shard, outcome_slot},
};
use crate::base::{outcome::Outcome, route::Route};

/// The counters of all threads, and the tokens whose answers are known.
///
/// # Synchronization
/// Every thread adds to its own shard with relaxed ordering: a counter orders no other access.
pub struct AnswerJudge {
    kinds: HashMap<Box<[u8]>, TokenKind>,
    shards: Vec<JudgeShard>,
}

/// Slot of responses without an [`Outcome`], such as those to malformed requests.
const WITHOUT_OUTCOME: usize = OUTCOMES;
const KINDS: usize = TokenKind::ALL.len();

/// Counters of one thread, aligned to cache lines of their own to avoid false sharing.
#[repr(align(128))]
struct JudgeShard {
    answers: [[AtomicU64; OUTCOMES + 1]; KINDS],
    right: [AtomicU64; KINDS],
    latencies: [LatencyHistogram; TestedProtocol::ALL.len()],
}

/// The answers to the requests of one kind.
pub struct KindAnswers {
    /// Number of right answers.
    pub right: u64,
    /// Number of wrong answers.
    pub wrong: u64,
    /// The codes of all answers that occurred, with their numbers.
    pub codes: Vec<(&'static str, u64)>,
}

impl AnswerJudge {
    /// Creates the judge of a server with this many threads, which knows these tokens.
    #[must_use]
    pub fn new<'t>(threads: usize, tokens: impl IntoIterator<Item = (&'t str, TokenKind)>) -> Self {
        let known = tokens.into_iter().map(|(token, kind)| (token.as_bytes().into(), kind));
        let shards = (0..threads.max(1)).map(|_| JudgeShard::new()).collect();
        Self { kinds: known.collect(), shards }
    }

    /// Returns the kind of a token. One that is not in the corpus is [`TokenKind::Other`].
    #[must_use]
    pub fn kind_of(&self, token: &[u8]) -> TokenKind {
        self.kinds.get(token).copied().unwrap_or(TokenKind::Other)
    }

    /// Counts the answer to a check. Other requests are not judged, and `kind` is not called.
    pub fn count(
        &self,
        completed: &CompletedRequest,
        took: Duration,
        kind: impl FnOnce() -> TokenKind,
    ) {
        if !matches!(completed.route, Route::Auth | Route::Check) {
            return;
        }
        let (kind, shard) = (kind(), self.shard());
        let slot = completed.outcome.map_or(WITHOUT_OUTCOME, outcome_slot);
        shard.answers[kind.index()][slot].fetch_add(1, Ordering::Relaxed);
        if is_right(kind, completed.outcome, completed.status) {
            shard.right[kind.index()].fetch_add(1, Ordering::Relaxed);
        }
        shard.latencies[TestedProtocol::of(completed).index()].add(took);
    }

    /// Returns the answers to the requests of a kind, over all threads.
    #[must_use]
    pub fn answers(&self, kind: TokenKind) -> KindAnswers {
        let named = outcomes().map(|outcome| (outcome.name(), outcome_slot(outcome)));
        let named = named.chain([("without_outcome", WITHOUT_OUTCOME)]);
        let codes =
            named.map(|(code, slot)| (code, self.sum(|shard| &shard.answers[kind.index()][slot])));
        let codes: Vec<_> = codes.filter(|(_, count)| *count > 0).collect();
        let all: u64 = codes.iter().map(|(_, count)| count).sum();
        // An answer that is counted meanwhile may already be among the right ones.
        let right = self.sum(|shard| &shard.right[kind.index()]).min(all);
        KindAnswers { right, wrong: all - right, codes }
    }

    /// Returns the latencies over a protocol, over all threads.
    #[must_use]
    pub fn latencies(&self, protocol: TestedProtocol) -> LatencySummary {
        LatencySummary::of(self.shards.iter().map(|shard| &shard.latencies[protocol.index()]))
    }

    /// Sets all counters to zero, for a new run.
    pub fn reset(&self) {
        for shard in &self.shards {
            let answers = shard.answers.iter().flatten().chain(&shard.right);
            answers.for_each(|counter| counter.store(0, Ordering::Relaxed));
            shard.latencies.iter().for_each(LatencyHistogram::reset);
        }
    }

    fn shard(&self) -> &JudgeShard {
        &self.shards[current_shard() % self.shards.len()]
    }

    fn sum(&self, counter: impl Fn(&JudgeShard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }
}

impl JudgeShard {
    fn new() -> Self {
        let zero = |_| AtomicU64::new(0);
        Self {
            answers: std::array::from_fn(|_| std::array::from_fn(zero)),
            right: std::array::from_fn(zero),
            latencies: std::array::from_fn(|_| LatencyHistogram::new()),
        }
    }
}

/// Whether this is the answer that a request of the kind must get. Any refusal of a token that is
/// not in the corpus is right, but not one for want of resources.
fn is_right(kind: TokenKind, outcome: Option<Outcome>, status: StatusCode) -> bool {
    match kind.expected() {
        Some((expected, code)) => status == expected && outcome == Some(code),
        None => status == StatusCode::UNAUTHORIZED,
    }
}

#[cfg(test)]
mod tests {
    use countersign_engine::Reject;

    use super::*;
    use crate::{base::clock::Stopwatch, observe::metrics::RequestProtocol};

    fn completed(route: Route, status: u16, outcome: Option<Outcome>) -> CompletedRequest {
        CompletedRequest {
            protocol: RequestProtocol::Http1,
            route,
            status: StatusCode::from_u16(status).unwrap(),
            outcome,
            started: Stopwatch::start(),
        }
    }

    fn judge() -> AnswerJudge {
        AnswerJudge::new(2, [("good", TokenKind::Valid), ("old", TokenKind::Expired)])
    }

    #[test]
    fn right_and_wrong_answers_are_counted_by_kind() {
        let judge = judge();
        let expired = Some(Outcome::Rejected(Reject::Expired));
        for (token, status, outcome) in [
            ("good", 200, Some(Outcome::Verified)),
            ("good", 401, Some(Outcome::Rejected(Reject::Signature))),
            ("good", 503, None),
            ("old", 401, expired),
            ("old", 403, expired),
            ("old", 200, Some(Outcome::Verified)),
            ("unknown", 401, Some(Outcome::Rejected(Reject::Base64))),
            ("unknown", 200, Some(Outcome::Verified)),
        ] {
            let kind = || judge.kind_of(token.as_bytes());
            judge.count(&completed(Route::Auth, status, outcome), Duration::ZERO, kind);
        }
        let counts = |kind| {
            let answers = judge.answers(kind);
            (answers.right, answers.wrong)
        };
        assert_eq!(counts(TokenKind::Valid), (1, 2));
        assert_eq!(counts(TokenKind::Expired), (1, 2));
        assert_eq!(counts(TokenKind::Other), (1, 1));
        assert_eq!(counts(TokenKind::Missing), (0, 0));
        let codes = judge.answers(TokenKind::Valid).codes;
        assert_eq!(codes, [("signature", 1), ("verified", 1), ("without_outcome", 1)]);
        assert_eq!(judge.latencies(TestedProtocol::Http1).count, 8);
        judge.reset();
        assert_eq!(counts(TokenKind::Valid), (0, 0));
        assert_eq!(judge.latencies(TestedProtocol::Http1).count, 0);
    }

    #[test]
    fn only_checks_are_judged() {
        let judge = judge();
        let request = completed(Route::Live, 200, None);
        judge.count(&request, Duration::ZERO, || panic!("its kind is not needed"));
        assert_eq!(judge.latencies(TestedProtocol::Http1).count, 0);
    }
}
