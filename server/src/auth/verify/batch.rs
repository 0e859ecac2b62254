//! `POST /v1/verify/batch`: verifies many tokens for an application.
//!
//! The body has one token a line, and the response one line of JSON for each, in their order: the
//! answer of `POST /v1/verify` to the token as its whole body. Both are streams of any length.
//!
//! Tokens that have arrived are verified in slices, RSA signatures eight at a time where the
//! processor can. A worker verifies one slice, then serves its other connections, then verifies the
//! next slice of any batch. A token that has to wait, for the keys of its issuer or for the turn of
//! its signature check, is verified as a single one is, while others are served.

/// Lines of the body.
mod lines;
/// The number of tokens in a slice.
mod slice;

use std::ops::Deref;

use bytes::Bytes;
use countersign_engine::{Reject, Verified};
use countersign_front::{BodyExchange, exchange::MAX_RESPONSE_PART};
use http::{HeaderValue, Response, header};
use tokio::{sync::Mutex, task::yield_now};

use self::{lines::TokenLines, slice::SliceLength};
use super::{VerifyContext, verified_json};
use crate::{
    auth::{Authenticator, Caller, DecisionSettings, Rejection},
    base::{
        clock::{self, Stopwatch},
        outcome::Outcome,
        reply::Reply,
    },
    client::ClientCertificate,
};

/// The order in which the batches of a worker are verified: one slice each, then the next one.
pub type BatchTurns = Mutex<()>;

/// Length of a part of the response to which no more answers are added.
const PART_BYTES: usize = MAX_RESPONSE_PART / 4 * 3;

/// Returns status and header lines of the response.
#[must_use]
pub fn head() -> Response<()> {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head
}

/// A call with many tokens.
pub struct BatchCall<'a, F> {
    /// Verifies the tokens.
    pub authenticator: &'a Authenticator,
    /// Returns the current settings. Each slice is verified under those of its time.
    pub settings: F,
    /// The listener of the call.
    pub listener: usize,
    /// The application.
    pub caller: Caller<'a, 'static>,
    /// The order of the worker's batches.
    pub turns: &'a BatchTurns,
}

impl<F: Fn() -> S, S: Deref<Target: DecisionSettings>> BatchCall<'_, F> {
    /// Verifies the tokens of the body until it ends.
    pub async fn respond(self, exchange: BodyExchange) {
        let caller = Caller { certificate: ClientCertificate::Known(None), ..self.caller };
        let call = Self { caller, ..self };
        let (mut lines, mut length) = (TokenLines::default(), SliceLength::default());
        while lines.receive(&exchange).await {
            call.answer_slice(&mut lines, &mut length, &exchange).await;
        }
    }

    /// Verifies the first tokens of those that have arrived, and writes their answers.
    async fn answer_slice(
        &self,
        lines: &mut TokenLines,
        length: &mut SliceLength,
        exchange: &BodyExchange,
    ) {
        let turn = self.turns.lock().await;
        let tokens = lines.first(length.get());
        let (mut part, started) = (Vec::new(), Stopwatch::start());
        let mut answered = self.answer_ready(&tokens, &mut part);
        length.adapt(tokens.len(), started.elapsed());
        yield_now().await;
        drop(turn);
        if answered == 0
            && let Some(token) = tokens.first()
        {
            // Those after it are verified again, since much can change during the wait.
            length.shrink();
            let result = self.authenticator.verify(&self.caller, token).await;
            self.answer(&self.context(&*(self.settings)()), token, result, &mut part);
            answered = 1;
        }
        lines.remove(answered);
        exchange.write(&mut part).await;
    }

    fn context<'s>(&'s self, settings: &'s (impl DecisionSettings + ?Sized)) -> VerifyContext<'s> {
        let rules = settings.rules(self.listener);
        VerifyContext { authenticator: self.authenticator, settings: settings.auth(), rules }
    }

    /// Answers tokens until one has to wait, or the part is long enough. Returns their number.
    fn answer_ready(&self, tokens: &[&[u8]], part: &mut Vec<u8>) -> usize {
        let results = self.authenticator.verify_batch(&self.caller, tokens, clock::now());
        let settings = (self.settings)();
        let context = self.context(&*settings);
        let mut answered = 0;
        for (token, result) in tokens.iter().zip(results) {
            if has_to_wait(&result) || part.len() >= PART_BYTES {
                break;
            }
            self.answer(&context, token, result, part);
            answered += 1;
        }
        answered
    }

    /// Appends the answer to a token, and counts it as `POST /v1/verify` does.
    fn answer(
        &self,
        context: &VerifyContext<'_>,
        token: &[u8],
        result: Result<Verified<'_>, Rejection>,
        part: &mut Vec<u8>,
    ) {
        let authenticator = self.authenticator;
        let reply = match result {
            Ok(verified) => match context.decide(&verified, None) {
                Ok(tenant) => {
                    authenticator.metrics.count_check(Outcome::Verified);
                    let json = verified_json(&verified, None, tenant.as_ref());
                    return push_line(part, json.as_bytes());
                }
                Err(refusal) => context.problem(refusal, token),
            },
            Err(rejection) => context.refused(rejection, token),
        };
        if let Some(outcome) = reply.outcome {
            authenticator.metrics.count_check(outcome);
        }
        let line = || Some(("POST", "/v1/verify/batch"));
        authenticator.record_refusal(&reply, &self.caller.client, line, || None);
        push_problem(part, reply);
    }
}

/// Whether a token is verified again as a single one, which may wait.
fn has_to_wait(result: &Result<Verified<'_>, Rejection>) -> bool {
    let reject = result.as_ref().err().map(|rejection| rejection.reject);
    matches!(reject, Some(Reject::KidUnknown | Reject::NotAdmitted))
}

/// Appends a problem document. `Retry-After` becomes a member, since a line has no headers.
fn push_problem(part: &mut Vec<u8>, reply: Reply) {
    let retry_after = reply.response.headers().get(header::RETRY_AFTER).cloned();
    let body: Bytes = reply.response.into_body();
    let seconds = retry_after.as_ref().and_then(|value| value.to_str().ok());
    match (body.strip_suffix(b"}"), seconds) {
        (Some(members), Some(seconds)) => {
            push_line(part, &[members, b",\"retry_after\":", seconds.as_bytes(), b"}"].concat());
        }
        _ => push_line(part, &body),
    }
}

/// Appends JSON as a line. Strings have no line ends, so those of claims, which are as they were
/// signed, are white space.
fn push_line(part: &mut Vec<u8>, json: &[u8]) {
    part.extend(json.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    }));
    part.push(b'\n');
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::base::reply::problem;

    #[test]
    fn answer_is_one_line_of_json() {
        let mut part = Vec::new();
        push_line(&mut part, b"{\"a\":\n\t\"b\\n\"\r\n}");
        assert_eq!(part, b"{\"a\": \t\"b\\n\"  }\n");
    }

    #[test]
    fn retry_after_is_a_member_of_the_problem() {
        let response = problem(StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", "later");
        let [mut plain, mut late] = [response.clone(), response];
        late.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        plain.headers_mut().clear();
        let lines = [plain, late].map(|response| {
            let mut part = Vec::new();
            push_problem(&mut part, response.into());
            serde_json::from_slice::<serde_json::Value>(&part).unwrap()
        });
        assert_eq!((&lines[0]["code"], lines[0].get("retry_after")), (&lines[1]["code"], None));
        assert_eq!(lines[1]["retry_after"], 7);
    }
}
