//! The registered claims (RFC 7519 section 4.1), located but not checked.

use super::json::{Document, Members, Value};

/// The registered claims in a parsed payload.
pub(crate) struct ClaimNodes<'d, 'b> {
    pub(crate) issuer: Option<Value<'d, 'b>>,
    pub(crate) subject: Option<Value<'d, 'b>>,
    pub(crate) audience: Option<Value<'d, 'b>>,
    pub(crate) expires: Option<Value<'d, 'b>>,
    pub(crate) not_before: Option<Value<'d, 'b>>,
    pub(crate) issued_at: Option<Value<'d, 'b>>,
    pub(crate) token_id: Option<Value<'d, 'b>>,
    /// `cnf` (RFC 7800 section 3.1).
    pub(crate) confirmation: Option<Value<'d, 'b>>,
    /// `events` (RFC 8417 section 2.2).
    pub(crate) events: Option<Value<'d, 'b>>,
    all: Members<'d, 'b>,
}

impl<'d, 'b> ClaimNodes<'d, 'b> {
    pub(crate) fn find(document: &'d Document<'b>) -> Self {
        let all = document.members();
        let mut found = Self {
            issuer: None,
            subject: None,
            audience: None,
            expires: None,
            not_before: None,
            issued_at: None,
            token_id: None,
            confirmation: None,
            events: None,
            all: all.clone(),
        };
        for (name, value) in all {
            match name {
                "iss" => found.issuer = Some(value),
                "sub" => found.subject = Some(value),
                "aud" => found.audience = Some(value),
                "exp" => found.expires = Some(value),
                "nbf" => found.not_before = Some(value),
                "iat" => found.issued_at = Some(value),
                "jti" => found.token_id = Some(value),
                "cnf" => found.confirmation = Some(value),
                "events" => found.events = Some(value),
                _ => {}
            }
        }
        found
    }

    /// All claims, in document order.
    pub(crate) fn all(&self) -> Members<'d, 'b> {
        self.all.clone()
    }

    /// Returns the claim with this name, of any type.
    pub(crate) fn get(&self, name: &str) -> Option<Value<'d, 'b>> {
        self.all().get(name)
    }
}
