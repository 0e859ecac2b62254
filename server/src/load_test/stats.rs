//! `/stats`: the answers by kind, and the latencies by protocol.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::LoadTest;
use crate::observe::answer_judge::{LatencySummary, TestedProtocol, TokenKind};

impl LoadTest {
    /// Returns the figures since the start, or since they were set to zero.
    pub(super) fn stats(&self) -> Value {
        let kinds: Map<_, _> =
            TokenKind::ALL.iter().map(|kind| (kind.name().to_owned(), self.kind(*kind))).collect();
        let sum =
            |member: &str| -> u64 { kinds.values().filter_map(|kind| kind[member].as_u64()).sum() };
        let (right, wrong) = (sum("right"), sum("wrong"));
        let summaries =
            TestedProtocol::ALL.map(|protocol| (protocol, self.judge.latencies(protocol)));
        let used = summaries.into_iter().filter(|(_, summary)| summary.count > 0);
        let latencies: Map<_, _> = used
            .map(|(protocol, summary)| (protocol.name().to_owned(), latency(&summary)))
            .collect();
        json!({
            "profile": "loadtest",
            "algorithm": self.corpus.algorithm.name(),
            "seconds_since_start": self.started.elapsed().as_secs_f64(),
            "checks": right + wrong,
            "right": right,
            "wrong": wrong,
            "kinds": kinds,
            "latency_us": latencies,
        })
    }

    fn kind(&self, kind: TokenKind) -> Value {
        let answers = self.judge.answers(kind);
        let codes: Map<_, _> =
            answers.codes.iter().map(|(code, count)| ((*code).to_owned(), json!(count))).collect();
        json!({
            "tokens": self.corpus.tokens.iter().filter(|token| token.kind == kind).count(),
            "expected": kind.expected().map(|(status, outcome)| {
                json!({ "status": status.as_u16(), "code": outcome.name() })
            }),
            "right": answers.right,
            "wrong": answers.wrong,
            "answers": codes,
        })
    }
}

fn latency(summary: &LatencySummary) -> Value {
    let micros = |latency: Duration| latency.as_nanos() as f64 / 1000.0;
    let [p50, p90, p99, p999] = summary.percentiles.map(micros);
    json!({
        "count": summary.count,
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "p99.9": p999,
        "max": micros(summary.max),
    })
}
