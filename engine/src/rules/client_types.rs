//! The client types of a token.

use crate::{reject::Reject, token::Value};

/// The client types of a token: the claim that holds them, and the allowed values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTypes {
    /// The claim, a comma-separated string or a list of strings.
    pub claim: Box<str>,
    /// The type of a token without this claim; `None` refuses such tokens.
    pub when_absent: Option<Box<str>>,
    /// The types that the issuer's tokens may have; `None` allows any.
    pub allowed: Option<Box<[Box<str>]>>,
}

impl ClientTypes {
    pub(super) fn check(&self, claim: Option<Value<'_, '_>>) -> Result<(), Reject> {
        match claim {
            Some(claim) => each_client_type(claim, |client_type| self.check_one(client_type)),
            None => match &self.when_absent {
                Some(client_type) => self.check_one(client_type),
                None => Err(Reject::ClientTypesMissing),
            },
        }
    }

    fn check_one(&self, client_type: &str) -> Result<(), Reject> {
        let allowed = |types: &[Box<str>]| types.iter().any(|one| **one == *client_type);
        match &self.allowed {
            Some(types) if !allowed(types) => Err(Reject::ClientTypes),
            _ => Ok(()),
        }
    }

    /// Returns the client types of a claim that has passed [`check`](Self::check), joined by
    /// commas. The result is in `buffer` unless the claim already has that form.
    pub(crate) fn join<'r>(
        &'r self,
        claim: Option<Value<'_, 'r>>,
        buffer: &'r mut String,
    ) -> &'r str {
        let Some(claim) = claim else { return self.when_absent.as_deref().unwrap_or_default() };
        // One type, or several without white space: the claim already has the right form.
        if let Some(types) = claim.as_str().filter(|types| !types.contains(char::is_whitespace)) {
            return types;
        }
        buffer.clear();
        let read = each_client_type(claim, |client_type| {
            if !buffer.is_empty() {
                buffer.push(',');
            }
            buffer.push_str(client_type);
            Ok(())
        });
        debug_assert!(read.is_ok(), "the claim has passed `check`");
        buffer
    }
}

/// Calls `visit` with each client type of the claim.
///
/// White space around the types of a comma-separated string is ignored. An empty type, or one that
/// contains a comma, is refused.
fn each_client_type(
    claim: Value<'_, '_>,
    mut visit: impl FnMut(&str) -> Result<(), Reject>,
) -> Result<(), Reject> {
    let mut visit = |client_type: &str| match client_type {
        "" => Err(Reject::ClientTypesFormat),
        client_type => visit(client_type),
    };
    if let Some(types) = claim.as_str() {
        // Usually there is exactly one.
        if types.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
            return visit(types);
        }
        return types.split(',').try_for_each(|one| visit(one.trim()));
    }
    let types = claim.elements().ok_or(Reject::ClientTypesFormat)?;
    let mut is_empty = true;
    for one in types {
        is_empty = false;
        match one.as_str() {
            Some(one) if !one.contains(',') => visit(one)?,
            _ => return Err(Reject::ClientTypesFormat),
        }
    }
    // A list without a type is refused like an empty string.
    if is_empty { Err(Reject::ClientTypesFormat) } else { Ok(()) }
}
