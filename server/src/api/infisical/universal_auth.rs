//! Calls about the login method by a client id and a secret, and logins with it.

use http::Response;
use serde_json::{Value, json};

use super::{
    InfisicalContext,
    body::BodyReader,
    error::InfisicalError,
    identities::find,
    methods::{
        MAX_TTL, TermsChanges, changed_method, check_stored, delete_method, method_json,
        new_method, normalized_ips, warn_of_one_family,
    },
    new_id, ok,
};
use crate::{
    base::{clock, reply::Body},
    identities::trusted_ips,
    store::{
        identity_methods::{MethodKind, TokenTerms},
        universal_auth_methods::{LockoutSettings, UniversalAuthMethod},
    },
};

/// Members of an attachment or a change.
pub(super) struct UniversalMembers {
    secret_trusted_ips: Option<Vec<String>>,
    period: Option<u64>,
    lockout_enabled: Option<bool>,
    lockout_threshold: Option<u64>,
    lockout_duration: Option<u64>,
    lockout_counter_reset: Option<u64>,
    terms: TermsChanges,
}

impl UniversalMembers {
    /// Reads the members of a body. A change may leave any of them out.
    pub(super) fn read(body: &[u8], is_change: bool) -> Result<Self, InfisicalError> {
        let mut reader = BodyReader::parse(body)?;
        let secret_trusted_ips = reader.objects("clientSecretTrustedIps", "ipAddress");
        if secret_trusted_ips.as_ref().is_some_and(Vec::is_empty) {
            reader.report("clientSecretTrustedIps", "Array must contain at least 1 element(s)");
        }
        let members = Self {
            secret_trusted_ips,
            period: reader.number("accessTokenPeriod", 0, MAX_TTL),
            lockout_enabled: reader.flag("lockoutEnabled"),
            lockout_threshold: reader.number("lockoutThreshold", 1, 30),
            lockout_duration: reader.number("lockoutDurationSeconds", 30, 86_400),
            lockout_counter_reset: reader.number("lockoutCounterResetSeconds", 5, 3600),
            terms: TermsChanges::read(&mut reader, is_change, 0),
        };
        reader.finish()?;
        Ok(members)
    }

    fn apply(self, method: &mut UniversalAuthMethod) -> Result<(), InfisicalError> {
        self.terms.apply(&mut method.method.terms)?;
        if let Some(trusted_ips) = self.secret_trusted_ips {
            method.secret_trusted_ips = normalized_ips("clientSecretTrustedIps", &trusted_ips)?;
        }
        let (terms, lockout) = (&mut method.method.terms, &mut method.lockout);
        terms.period = self.period.unwrap_or(terms.period);
        lockout.enabled = self.lockout_enabled.unwrap_or(lockout.enabled);
        lockout.threshold = self.lockout_threshold.unwrap_or(lockout.threshold);
        lockout.duration = self.lockout_duration.unwrap_or(lockout.duration);
        lockout.counter_reset = self.lockout_counter_reset.unwrap_or(lockout.counter_reset);
        Ok(())
    }
}

pub(super) async fn attach(
    context: &InfisicalContext<'_>,
    identity: &str,
    members: UniversalMembers,
) -> Result<Response<Body>, InfisicalError> {
    find(context, identity).await?;
    let terms = TokenTerms::default();
    let mut method = UniversalAuthMethod {
        client_id: new_id()?,
        secret_trusted_ips: terms.trusted_ips.clone(),
        method: new_method(identity, terms)?,
        lockout: LockoutSettings { enabled: true, threshold: 3, duration: 300, counter_reset: 30 },
    };
    members.apply(&mut method)?;
    let stored = context.users.store.add_universal_auth_method(method.clone()).await;
    let already = "Failed to add universal auth to already configured identity";
    check_stored(stored, &method.method, already)?;
    Ok(shown(&method))
}

pub(super) async fn modify(
    context: &InfisicalContext<'_>,
    identity: &str,
    members: UniversalMembers,
) -> Result<Response<Body>, InfisicalError> {
    find(context, identity).await?;
    let (now, have_trusted_ips) = (clock::now(), members.terms.have_trusted_ips());
    let changed = context.users.store.change_universal_auth_method(identity, move |method| {
        method.method.updated_at = now;
        members.apply(method)
    });
    let method = changed_method(context, changed.await, DETACHED)?;
    if have_trusted_ips {
        warn_of_one_family(&method.method);
    }
    Ok(shown(&method))
}

pub(super) async fn get(
    context: &InfisicalContext<'_>,
    identity: &str,
) -> Result<Response<Body>, InfisicalError> {
    Ok(shown(&attached(context, identity).await?))
}

pub(super) async fn delete(
    context: &InfisicalContext<'_>,
    identity: &str,
) -> Result<Response<Body>, InfisicalError> {
    let method = attached(context, identity).await?;
    delete_method(context, &method.method, MethodKind::UniversalAuth).await?;
    Ok(shown(&method))
}

/// Lets clients that are locked out try again.
pub(super) async fn clear_lockouts(
    context: &InfisicalContext<'_>,
    identity: &str,
) -> Result<Response<Body>, InfisicalError> {
    let method = attached(context, identity).await?;
    Ok(ok(&json!({ "deleted": context.checks.lockouts.clear(&method.method.id) })))
}

/// The message for an identity without the method.
const DETACHED: &str = "The identity does not have universal auth";

/// Returns the method of an identity of the organization.
pub(super) async fn attached(
    context: &InfisicalContext<'_>,
    identity: &str,
) -> Result<UniversalAuthMethod, InfisicalError> {
    find(context, identity).await?;
    let method = context.users.store.universal_auth_method(identity).await?;
    method.ok_or_else(detached)
}

/// Returns the error for an identity without the method.
pub(super) fn detached() -> InfisicalError {
    InfisicalError::bad_request(DETACHED)
}

fn shown(method: &UniversalAuthMethod) -> Response<Body> {
    let mut shown = method_json(&method.method);
    let trusted_ips = method.secret_trusted_ips.iter();
    let lockout = method.lockout;
    for (member, value) in [
        ("clientId", Value::from(method.client_id.as_str())),
        ("clientSecretTrustedIps", trusted_ips.map(|one| trusted_ips::shown(one)).collect()),
        ("accessTokenPeriod", method.method.terms.period.into()),
        ("lockoutEnabled", lockout.enabled.into()),
        ("lockoutThreshold", lockout.threshold.into()),
        ("lockoutDurationSeconds", lockout.duration.into()),
        ("lockoutCounterResetSeconds", lockout.counter_reset.into()),
    ] {
        shown[member] = value;
    }
    ok(&json!({ "identityUniversalAuth": shown }))
}
