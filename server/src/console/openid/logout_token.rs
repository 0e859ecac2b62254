//! Logout tokens (OpenID Connect Back-Channel Logout 1.0): the provider ends the sessions of a
//! user.
//!
//! They arrive from anyone who reaches this server, so that each is verified like a credential: by
//! the engine, which accepts no other token in the place of one, and by the rules of section 2.6.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_engine::{Blame, Presentation, Reject, UnixTime, Verified};
use http::StatusCode;
use serde_json::Value;

use super::{
    error::SignInError,
    id_token::read_text,
    provider::{KnownProvider, may_have_new_key},
};
use crate::{
    auth::Caller,
    base::{claims::SESSION_ID_CLAIM, clock, exact_json, hex::to_hex},
    store::{Store, StoreError, logout_tokens::ProviderLogout},
};

/// Age in seconds from which a logout token is refused, so that its id has to be known for this
/// time only.
const MAX_AGE_SECONDS: u64 = 300;
/// Clock difference that is tolerated, in seconds.
const MAX_CLOCK_DIFFERENCE: u64 = 30;
/// Longest `jti` in bytes.
const MAX_ID_BYTES: usize = 512;

/// A verified logout token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// `sub`: the user. Without a session, all sessions of the user end.
    pub subject: Option<String>,
    /// `sid`: the session at the provider that ends.
    pub session: Option<String>,
    /// `iss`: the provider.
    pub issuer: String,
    /// Digest of the issuer and `jti`, in hexadecimal. A token is used once.
    pub id: String,
    /// Time from which the token is refused for its age.
    pub until: UnixTime,
}

/// The reason to refuse a [`LogoutToken`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutTokenError {
    /// The body is not a form with one `logout_token`.
    Form,
    /// The engine refuses it.
    Token(Reject),
    /// A claim is missing, wrong, or must not be there.
    Claim(&'static str),
    /// It was issued too long ago (`iat`).
    Old,
    /// It was used before (`jti`).
    Used,
    /// It cannot be judged: the provider cannot be reached.
    Unavailable(SignInError),
    /// It cannot be judged: the database cannot be reached.
    Database,
    /// The tokens of its subjects cannot be revoked.
    Revocation,
}

impl LogoutToken {
    /// Reads the token in the body of a request (section 2.5).
    ///
    /// # Errors
    /// The body is not a form with one `logout_token`.
    pub fn read_form(body: &[u8]) -> Result<String, LogoutTokenError> {
        let fields: Vec<(String, String)> =
            serde_urlencoded::from_bytes(body).map_err(|_| LogoutTokenError::Form)?;
        let mut tokens = fields.into_iter().filter(|(name, _)| name == "logout_token");
        match (tokens.next(), tokens.next()) {
            (Some((_, token)), None) if !token.is_empty() => Ok(token),
            _ => Err(LogoutTokenError::Form),
        }
    }

    /// Ends the sessions that it names, and records its use, on all servers of the database.
    /// Returns the subject of each session.
    ///
    /// # Errors
    /// It was used before, or the database cannot be reached; then no session has ended.
    pub async fn end_sessions(
        &self,
        store: &Store,
        section: &str,
    ) -> Result<Vec<String>, LogoutTokenError> {
        unless_used(store.end_provider_sessions(self.logout(section)).await)
    }

    /// Returns the subject of each session that it would end.
    ///
    /// # Errors
    /// It was used before, or the database cannot be reached.
    pub async fn subjects(
        &self,
        store: &Store,
        section: &str,
    ) -> Result<Vec<String>, LogoutTokenError> {
        unless_used(store.subjects_of_logout(self.logout(section)).await)
    }

    fn logout(&self, section: &str) -> ProviderLogout {
        ProviderLogout {
            id: self.id.clone(),
            until: self.until,
            section: section.to_owned(),
            subject: self.subject.clone(),
            session: self.session.clone(),
        }
    }

    /// Verifies a logout token of the provider, within the budgets of its caller.
    pub(super) async fn verify(
        provider: &KnownProvider,
        token: &str,
        caller: &Caller<'_, '_>,
    ) -> Result<Self, LogoutTokenError> {
        let now = clock::now();
        let verify = |turn| {
            let (verifier, presentation) = (&provider.logout_tokens, Presentation::default());
            let presented = (token.as_bytes(), now);
            caller.admission.verify(&caller.client, presentation, verifier, presented, turn)
        };
        let attempt = verify(None);
        let verified = match attempt.delayed {
            None => attempt.result,
            Some(delayed) => {
                let exceeded = |_| LogoutTokenError::Token(Reject::NotAdmitted);
                let turn = delayed.map_err(exceeded)?.wait().await.map_err(exceeded)?;
                verify(Some(turn)).result
            }
        };
        Self::check(&verified.map_err(LogoutTokenError::Token)?, now)
    }

    /// Checks the claims of a token whose signature is right.
    fn check(verified: &Verified<'_>, now: UnixTime) -> Result<Self, LogoutTokenError> {
        let claims = exact_json::claims(&verified.claims().json());
        let issued_at = verified.claims().issued_at().ok_or(LogoutTokenError::Claim("iat"))?;
        let until = issued_at.plus(MAX_AGE_SECONDS + MAX_CLOCK_DIFFERENCE);
        if now >= until {
            return Err(LogoutTokenError::Old);
        }
        // It distinguishes ID tokens, which a thief may have.
        if claims.contains_key("nonce") {
            return Err(LogoutTokenError::Claim("nonce"));
        }
        let text = |name| read_text(&claims, name).map_err(|_| LogoutTokenError::Claim(name));
        let (subject, session) = (text("sub")?, text(SESSION_ID_CLAIM)?);
        if subject.is_none() && session.is_none() {
            return Err(LogoutTokenError::Claim("sub"));
        }
        let id = claims.get("jti").and_then(Value::as_str);
        let id = id.filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
        let id = id.ok_or(LogoutTokenError::Claim("jti"))?;
        let issuer = verified.issuer_name().to_owned();
        let id = to_hex(digest(&SHA256, format!("{issuer}\0{id}").as_bytes()).as_ref());
        Ok(Self { subject, session, issuer, id, until })
    }
}

fn unless_used(
    subjects: Result<Option<Vec<String>>, StoreError>,
) -> Result<Vec<String>, LogoutTokenError> {
    let subjects = subjects.map_err(|error| {
        tracing::warn!("cannot end sessions by a logout token: {error}");
        LogoutTokenError::Database
    })?;
    subjects.ok_or(LogoutTokenError::Used)
}

impl LogoutTokenError {
    /// Whether the provider may have a key that signed the token, and that is not known here.
    pub(super) const fn may_have_new_key(&self) -> bool {
        matches!(self, Self::Token(reject) if may_have_new_key(*reject))
    }

    /// Returns the status of the answer (section 2.8).
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) | Self::Database | Self::Revocation => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Token(reject) if matches!(reject.blame(), Blame::Unavailable) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for LogoutTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("the body is not a form with one logout_token"),
            Self::Token(Reject::Type) => {
                f.write_str("the logout token is refused: typ or events are of another token")
            }
            Self::Token(reject) => write!(f, "the logout token is refused: {reject}"),
            Self::Claim(name) => {
                write!(f, "the claim {name} of the logout token is missing or not allowed")
            }
            Self::Old => f.write_str("the logout token is too old (iat)"),
            Self::Used => f.write_str("the logout token was used before (jti)"),
            Self::Unavailable(error) => write!(f, "the logout token cannot be judged: {error}"),
            Self::Database => {
                f.write_str("the logout token cannot be judged: the database cannot be reached")
            }
            Self::Revocation => f.write_str("the tokens of the user cannot be revoked now"),
        }
    }
}

impl std::error::Error for LogoutTokenError {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            id_token::tests::{NOW, Signer, changed},
            provider::tests::{CLIENT_ID, ISSUER},
        },
        *,
    };

    fn verify_typed(kind: Option<&str>, changes: &Value) -> Result<LogoutToken, LogoutTokenError> {
        let claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "sub": "u1", "sid": "s1", "jti": "j1",
            "iat": NOW.0, "exp": NOW.0 + 120,
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        let signer = Signer::new();
        let token = signer.sign(kind, &changed(claims, changes));
        let verified = signer.provider.logout_tokens.verify(token.as_bytes(), NOW);
        LogoutToken::check(&verified.map_err(LogoutTokenError::Token)?, NOW)
    }

    #[test]
    fn logout_token_names_the_sessions_to_end() {
        for kind in [None, Some("JWT"), Some("logout+jwt"), Some("application/logout+jwt")] {
            let token = verify_typed(kind, &json!({})).unwrap();
            let named = (token.subject.as_deref(), token.session.as_deref());
            assert_eq!(named, (Some("u1"), Some("s1")));
        }
        for (changes, named) in [
            (json!({ "sid": null }), (Some("u1"), None)),
            (json!({ "sub": null }), (None, Some("s1"))),
            (json!({ "exp": null }), (Some("u1"), Some("s1"))),
        ] {
            let token = verify_typed(None, &changes).unwrap();
            assert_eq!((token.subject.as_deref(), token.session.as_deref()), named, "{changes}");
        }
        let id = |changes| verify_typed(None, &changes).unwrap().id;
        assert_ne!(id(json!({})), id(json!({ "jti": "j2" })));
    }

    #[test]
    fn token_that_breaks_a_rule_ends_no_session() {
        for (changes, error) in [
            (json!({ "nonce": "n" }), LogoutTokenError::Claim("nonce")),
            (json!({ "sub": null, "sid": null }), LogoutTokenError::Claim("sub")),
            (json!({ "sid": 5 }), LogoutTokenError::Claim("sid")),
            (json!({ "jti": null }), LogoutTokenError::Claim("jti")),
            (json!({ "jti": "" }), LogoutTokenError::Claim("jti")),
            (json!({ "iat": null }), LogoutTokenError::Claim("iat")),
            (json!({ "iat": NOW.0 - 330 }), LogoutTokenError::Old),
            (json!({ "iat": NOW.0 + 60 }), LogoutTokenError::Token(Reject::IssuedInFuture)),
            (json!({ "exp": NOW.0 }), LogoutTokenError::Token(Reject::Expired)),
            (json!({ "aud": "api" }), LogoutTokenError::Token(Reject::Audience)),
            (json!({ "iss": "https://other" }), LogoutTokenError::Token(Reject::IssuerUnknown)),
            (json!({ "events": null }), LogoutTokenError::Token(Reject::Type)),
            (json!({ "events": { "other": {} } }), LogoutTokenError::Token(Reject::Type)),
        ] {
            assert_eq!(verify_typed(None, &changes), Err(error), "{changes}");
        }
        assert!(verify_typed(None, &json!({ "iat": NOW.0 - 329 })).is_ok());
        for kind in ["at+jwt", "secevent+jwt"] {
            let refused = verify_typed(Some(kind), &json!({}));
            assert_eq!(refused, Err(LogoutTokenError::Token(Reject::Type)), "{kind}");
        }
        let reason = LogoutTokenError::Token(Reject::Type).to_string();
        assert!(reason.contains("typ or events"), "{reason}");
    }

    #[test]
    fn logout_request_has_one_token() {
        assert_eq!(LogoutToken::read_form(b"logout_token=a.b.c&x=y").as_deref(), Ok("a.b.c"));
        for body in ["", "logout_token", "token=a", "logout_token=a&logout_token=b"] {
            let read = LogoutToken::read_form(body.as_bytes());
            assert_eq!(read, Err(LogoutTokenError::Form), "{body}");
        }
    }
}
