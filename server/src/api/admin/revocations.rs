//! Revocations. None is ever withdrawn.

use countersign_engine::{Revocation, UnixTime};
use http::StatusCode;
use serde_json::{Value, json};

use super::{AdminCall, Answer, error::AdminError, page::ListPage};
use crate::{
    api::{
        audited::AuditedCall,
        revoke::{RecordError, revoke_record},
    },
    base::reply,
    revocation::record::RevocationRecord,
};

/// Returns a [`ListPage`] of the revocations.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let after = page.after_number()?.unwrap_or_default();
    let limit = u32::try_from(page.limit + 1).unwrap_or(u32::MAX);
    let revocations = call.context.revocations.list(after, limit).await?;
    let items = revocations.iter().map(|(number, revocation)| {
        let (kind, record) = (revocation.target.kind_name(), record_json(revocation));
        (number.to_string(), json!({ "number": number, "kind": kind, "record": record }))
    });
    Ok(page.of_rest(call, items.collect()))
}

/// Revokes tokens.
pub(super) async fn add(call: AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let members = Value::Object(call.body.into_members());
    let record: RevocationRecord = serde_json::from_value(members)
        .map_err(|_| AdminError::body("the body is not a revocation"))?;
    let revoked = revoke_record(&call.context, record, audited).await;
    let revocation = revoked.map_err(|error| match error {
        RecordError::Invalid(mistake) => match mistake.member {
            Some(member) => AdminError::member(member, "", &mistake.text),
            None => AdminError::body(&mistake.text),
        },
        RecordError::Store(error) => error.into(),
    })?;
    let valid_from = RevocationRecord::tokens_valid_from(&revocation);
    let added = json!({
        "kind": revocation.target.kind_name(),
        "record": record_json(&revocation),
        "tokens_valid_from": valid_from.map(|UnixTime(at)| at),
    });
    Ok(reply::json(StatusCode::CREATED, &added))
}

fn record_json(revocation: &Revocation) -> Value {
    serde_json::to_value(RevocationRecord::from(revocation)).unwrap_or_default()
}
