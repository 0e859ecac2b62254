//! The token inspector. The token is neither stored nor logged, and no key is fetched for it.

use countersign_engine::UnixTime;
use http::StatusCode;
use serde_json::{Value, json};

use super::{AdminCall, Answer, optional_time};
use crate::{
    auth::token_report::{
        DecodedPart, InspectedToken, MemberMeaning, ReportRow, TokenMember, TokenReport, bare_token,
    },
    base::{clock, reply},
};

/// Returns every check of a token.
pub(super) fn inspect(call: &AdminCall<'_>) -> Answer {
    let presented = (bare_token(call.body.text("token")), clock::now());
    let sections = &call.context.settings.loaded;
    let inspected = InspectedToken::of(call.context.authenticator, presented, sections);
    Ok(reply::json(StatusCode::OK, &inspected_json(&inspected)))
}

fn inspected_json(inspected: &InspectedToken) -> Value {
    let (report, parts) = (inspected.report.as_ref().ok(), inspected.parts.as_ref());
    let checks = report.into_iter().flat_map(TokenReport::rows).map(check_json);
    let reject = inspected.reject();
    json!({
        "is_accepted": reject.is_none(),
        "code": reject.map(|reject| reject.code()),
        "reason": reject.map(|reject| reject.to_string()),
        "is_authentic": report.is_some_and(|report| report.is_authentic),
        "damages": inspected.damages,
        "header": parts.map_or_else(Vec::new, |parts| members_json(&parts.header)),
        "payload": parts.map_or_else(Vec::new, |parts| members_json(&parts.payload)),
        "checks": checks.collect::<Value>(),
    })
}

fn members_json(part: &DecodedPart) -> Vec<Value> {
    part.members.iter().flatten().map(member_json).collect()
}

fn member_json(TokenMember { name, value, meaning }: &TokenMember) -> Value {
    let (meaning, time): (_, Option<UnixTime>) = match *meaning {
        None => (None, None),
        Some(MemberMeaning::Words(words)) => (Some(words), None),
        Some(MemberMeaning::Time(words, at)) => (Some(words), at),
    };
    json!({ "name": name, "value": value, "meaning": meaning, "time": optional_time(time) })
}

fn check_json(row: &ReportRow) -> Value {
    let reject = row.result.err();
    json!({
        "name": row.name,
        "is_passed": reject.is_none(),
        "code": reject.map(|reject| reject.code()),
        "reason": reject.map(|reject| reject.to_string()),
        "expected": row.expected,
        "found": row.found,
        "decided_by": row.decided_by,
    })
}
