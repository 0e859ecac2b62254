//! Revocation of all tokens of a subject, by a user or by the provider.

use std::fmt;

use http::StatusCode;
use maud::html;

use super::ChangePreview;
use crate::{
    audit::{AuditCaller, AuditOperation, AuditOutcome, AuditTarget},
    console::{
        ConsoleContext,
        api_call::UserCalls,
        audit_event,
        error_page::{CallRefusal, ConsoleError},
        request::FormFields,
    },
    revocation::record::RevocationRecord,
};

const PAGE: &str = "/console/issuers";

/// The reason why the tokens of a subject are not revoked.
pub(in crate::console) enum SubjectRevocationError {
    /// The description is not one of a revocation.
    Invalid(String),
    /// It cannot be stored.
    Unavailable(String),
}

impl fmt::Display for SubjectRevocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(reason) | Self::Unavailable(reason)) = self;
        f.write_str(reason)
    }
}

/// Revokes the tokens of a subject that an issuer has issued up to now.
///
/// # Errors
/// The [`SubjectRevocationError`].
pub(in crate::console) async fn revoke_subject(
    context: &ConsoleContext<'_>,
    issuer: &str,
    subject: &str,
) -> Result<(), SubjectRevocationError> {
    let authenticator = context.api.authenticator;
    let record = record(issuer, subject);
    let validated = authenticator.validate_revocation(record);
    let revocation = validated.map_err(|mistake| SubjectRevocationError::Invalid(mistake.text))?;
    let stored = authenticator.revoke_described(context.api.revocations, &revocation).await;
    stored.map_err(|error| SubjectRevocationError::Unavailable(error.to_string()))
}

fn record(issuer: &str, subject: &str) -> RevocationRecord {
    RevocationRecord {
        issuer: Some(issuer.to_owned()),
        subject: Some(subject.to_owned()),
        ..RevocationRecord::default()
    }
}

/// Returns the name of the issuer of a section.
fn issuer_of(calls: &UserCalls<'_>, section: &str) -> Result<String, ConsoleError> {
    let sources = calls.context.api.authenticator.keys.all();
    let found = sources.iter().map(|source| source.section()).find(|one| one.section() == section);
    let missing = || CallRefusal::not_found(format!("No issuer has the section {section}."));
    Ok(found.ok_or_else(missing)?.issuer.name.to_string())
}

pub(super) fn preview(
    calls: &UserCalls<'_>,
    fields: &FormFields,
) -> Result<ChangePreview, ConsoleError> {
    let (section, subject) = (fields.get("section"), fields.get("subject"));
    let issuer = issuer_of(calls, section)?;
    if subject.is_empty() {
        let message = "Which subject? Nothing was changed.".into();
        return Err(CallRefusal::new(StatusCode::BAD_REQUEST, message).into());
    }
    Ok(ChangePreview {
        title: format!("Revoke all tokens of {subject}"),
        consequences: vec![
            format!(
                "Each token of {subject} that {issuer} has issued is refused, on every server."
            ),
            "How many are in use is not known: tokens of issuers are not stored.".into(),
            "Tokens that are issued from the next second on are accepted: block the user at the \
             issuer, too."
                .into(),
            "It cannot be undone.".into(),
        ],
        name: subject.to_owned(),
        state: String::new(),
        inputs: html! {},
        button: "Revoke the tokens",
        back: format!("{PAGE}#issuer-{section}"),
        done: format!("{PAGE}?done=revoke#issuer-{section}"),
        command: format!(
            "countersign token revoke --issuer {issuer} --subject SUBJECT --config FILE"
        ),
    })
}

pub(super) async fn make(calls: &UserCalls<'_>, fields: &FormFields) -> Result<(), ConsoleError> {
    let (context, subject) = (calls.context, fields.get("subject"));
    let issuer = issuer_of(calls, fields.get("section"))?;
    let mut event = audit_event::new(AuditOperation::RevokeToken, calls.caller);
    event.caller = AuditCaller::of(&calls.user.session);
    event.target = AuditTarget::from(&record(&issuer, subject));
    event.detail = Some(format!("by subject, of {issuer}"));
    let mut begun = context.api.audit.begin(event).await?;
    let revoked = revoke_subject(context, &issuer, subject).await;
    begun.event_mut().outcome =
        if revoked.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
    context.api.audit.finish(begun).await;
    revoked.map_err(|error| match error {
        SubjectRevocationError::Invalid(message) => {
            CallRefusal::new(StatusCode::BAD_REQUEST, message).into()
        }
        SubjectRevocationError::Unavailable(message) => {
            tracing::error!("cannot revoke the tokens of a subject: {message}");
            CallRefusal::new(StatusCode::SERVICE_UNAVAILABLE, message).into()
        }
    })
}
