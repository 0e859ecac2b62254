//! Tests of requests against routes and the access policy. Nothing is decided, stored or logged.

use http::StatusCode;
use serde_json::{Value, json};

use super::{AdminCall, Answer, error::AdminError};
use crate::{
    api::request_test::{API_PLACE, RequestPart, TestResult, TestedBearer, TestedRequest},
    auth::token_report::bare_token,
    authorization::{
        explanation::DecidingFact,
        policy::explainer::{ExplainedRule, PolicyExplanation},
        preview::PreviewVerdict,
    },
    base::{
        claims::{CLIENT_TYPES_CLAIM, ENVIRONMENT_CLAIM},
        reply,
    },
};

/// Returns what would be decided about a request, and why.
pub(super) async fn test(call: &AdminCall<'_>) -> Answer {
    let listener = call.body.get("listener").and_then(Value::as_str);
    let request = TestedRequest {
        place: listener.unwrap_or(API_PLACE),
        method: call.body.text("method"),
        target: call.body.text("target"),
        environment: call.body.text("environment"),
        tenant: call.body.text("tenant"),
    };
    let tested = request.result(&call.context, bearer(call)?).await.map_err(|mistake| {
        let (member, element) = place_of(mistake.part);
        AdminError::member(member, &element, mistake.text)
    })?;
    Ok(reply::json(StatusCode::OK, &result_json(&tested)))
}

/// Returns the member of the body that a part of a request is in, and the pointer from there.
fn place_of(part: RequestPart) -> (&'static str, String) {
    let member = match part {
        RequestPart::Place => "listener",
        RequestPart::Method => "method",
        RequestPart::Target => "target",
        RequestPart::Environment => "environment",
        RequestPart::ClientTypes(index) => {
            let index = index.map_or_else(String::new, |index| format!("/{index}"));
            return ("claims", format!("/{CLIENT_TYPES_CLAIM}{index}"));
        }
        RequestPart::TokenEnvironment => return ("claims", format!("/{ENVIRONMENT_CLAIM}")),
    };
    (member, String::new())
}

fn bearer<'c>(call: &'c AdminCall<'_>) -> Result<TestedBearer<'c>, AdminError> {
    let token = call.body.get("token").and_then(Value::as_str);
    match (token.map(bare_token), call.body.get("claims").and_then(Value::as_object)) {
        (None, None) => Ok(TestedBearer::NoToken),
        (Some(token), None) => Ok(TestedBearer::Token(token)),
        (None, Some(claims)) => Ok(TestedBearer::Claims(claims)),
        (Some(_), Some(_)) => {
            Err(AdminError::member("claims", "", "the request has a token already"))
        }
    }
}

fn result_json(TestResult { preview, explanation }: &TestResult) -> Value {
    let (decision, reason) = match &preview.verdict {
        PreviewVerdict::Allowed(reason) => ("allowed", reason),
        PreviewVerdict::Denied(reason) => ("denied", reason),
        PreviewVerdict::Undecided(reason) => ("undecided", reason),
    };
    let explanation = explanation.as_ref().map(Result::as_ref);
    json!({
        "decision": decision,
        "reason": reason,
        "facts": preview.facts.iter().map(fact_json).collect::<Value>(),
        "policy_input": preview.policy_input,
        "policy": explanation.and_then(Result::ok).map(policy_json),
        "policy_failure": explanation.and_then(Result::err),
    })
}

fn fact_json(DecidingFact { label, text }: &DecidingFact) -> Value {
    json!({ "label": label, "text": text })
}

fn policy_json(explanation: &PolicyExplanation) -> Value {
    json!({
        "is_known_endpoint": explanation.is_known_endpoint,
        "rules": explanation.rules.iter().map(rule_json).collect::<Value>(),
        "is_cut_off": explanation.is_cut_off,
        "prints": explanation.prints,
    })
}

fn rule_json(ExplainedRule { line, comment, failure }: &ExplainedRule) -> Value {
    json!({
        "line": line,
        "comment": comment,
        "holds": failure.is_none(),
        "failed_line": failure.as_ref().map(|(line, _)| line),
        "failed_expression": failure.as_ref().map(|(_, expression)| expression),
    })
}
