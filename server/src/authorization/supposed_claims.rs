//! [`SupposedClaims`]: the bearer of a request in a preview, without a token.

use countersign_engine::{ClientTypes, Reject};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{IssuerStanding, Principal};
use crate::base::claims::{CLIENT_TYPES_CLAIM, ClientType, ENVIRONMENT_CLAIM};

/// Claims that a token of this server could have.
#[derive(Clone, Debug)]
pub struct SupposedClaims {
    claims: Map<String, Value>,
    client_types: Vec<String>,
}

/// A mistake in [`SupposedClaims`]: no token of this server has such a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimMistake {
    /// The client types; with an index, one in a list.
    ClientTypes(Option<usize>),
    /// The environment.
    Environment,
}

impl SupposedClaims {
    /// Reads claims. The client types are a list, or names separated by commas. `absent` is the
    /// type of a token that states none, if such tokens are accepted.
    ///
    /// # Errors
    /// The [`ClaimMistake`].
    pub fn read(claims: &Map<String, Value>, absent: Option<&str>) -> Result<Self, ClaimMistake> {
        let client_types = match claims.get(CLIENT_TYPES_CLAIM) {
            None => absent.map(str::to_owned).into_iter().collect(),
            Some(Value::String(names)) => {
                let names = names.split(',').map(|name| known_client_type(name.trim()));
                names.collect::<Option<_>>().ok_or(ClaimMistake::ClientTypes(None))?
            }
            Some(Value::Array(names)) if !names.is_empty() => {
                let names = names.iter().enumerate().map(|(index, name)| {
                    let known = name.as_str().and_then(known_client_type);
                    known.ok_or(ClaimMistake::ClientTypes(Some(index)))
                });
                names.collect::<Result<_, _>>()?
            }
            Some(_) => return Err(ClaimMistake::ClientTypes(None)),
        };
        let is_uuid = |claim: &Value| claim.as_str().is_some_and(|id| Uuid::parse_str(id).is_ok());
        if !claims.get(ENVIRONMENT_CLAIM).is_none_or(is_uuid) {
            return Err(ClaimMistake::Environment);
        }
        Ok(Self { claims: claims.clone(), client_types })
    }

    /// Returns why a token with these client types would be rejected by the rule of an issuer.
    #[must_use]
    pub fn rejected_by(&self, rule: &ClientTypes) -> Option<Reject> {
        let is_allowed = |name: &String| {
            rule.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|one| **one == **name))
        };
        if self.client_types.is_empty() {
            return Some(Reject::ClientTypesMissing);
        }
        (!self.client_types.iter().all(is_allowed)).then_some(Reject::ClientTypes)
    }
}

fn known_client_type(name: &str) -> Option<String> {
    name.parse::<ClientType>().ok().map(|one| one.to_string())
}

impl Principal for SupposedClaims {
    fn client_types(&self) -> Vec<&str> {
        self.client_types.iter().map(String::as_str).collect()
    }

    fn environment(&self) -> Option<&str> {
        self.claims.get(ENVIRONMENT_CLAIM)?.as_str()
    }

    fn all_claims(&self) -> Map<String, Value> {
        self.claims.clone()
    }

    fn standing(&self) -> IssuerStanding<'_> {
        IssuerStanding { section: "", is_own: true, administers: true }
    }
}
