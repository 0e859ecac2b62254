//! What the configuration expects of a token, and what the token has, in words.

use countersign_engine::{
    AudienceRule, ClaimCheck, ClaimPath, Constraint, IssuerConfig, IssuerTenants, KeySet, Reject,
    Rules, UnixTime,
};
use serde_json::Value;

use super::{AuthenticationStep, check_name};
use crate::base::clock::{date_of, distance};

/// A token, read for display.
pub(super) struct ReadToken {
    pub(super) header: Value,
    pub(super) claims: Value,
    pub(super) now: UnixTime,
}

/// What a check expects and finds.
pub(super) struct CheckExpectation {
    pub(super) name: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
    /// The options of the section that decide.
    pub(super) options: &'static [&'static str],
}

impl ReadToken {
    pub(super) const ABSENT: &str = "absent";

    pub(super) fn issuer(&self, issuer: &IssuerConfig) -> CheckExpectation {
        let names = issuer.names().collect::<Vec<_>>().join(", or ");
        let tenants = match &issuer.tenants {
            _ if !issuer.has_tenants() => String::new(),
            IssuerTenants::Any => ", with any tenant".into(),
            IssuerTenants::Listed(tenants) => format!(", with a tenant of {}", tenants.join(", ")),
        };
        CheckExpectation {
            name: "issuer (iss)",
            expected: names + &tenants,
            found: self.claim("iss"),
            options: &["issuer", "tenants"],
        }
    }

    /// Returns the steps of the authentication up to the one that failed.
    pub(super) fn authenticity(
        &self,
        issuer: &IssuerConfig,
        keys: Option<&KeySet>,
        result: Result<(), Reject>,
    ) -> Vec<(CheckExpectation, Result<(), Reject>)> {
        let algorithms: Vec<_> = issuer.algorithms.iter().map(|one| one.name()).collect();
        let algorithm = CheckExpectation {
            name: "algorithm (alg)",
            expected: algorithms.join(", "),
            found: shown(self.header.get("alg")),
            options: &["algorithms", "algorithm"],
        };
        let kids = keys.map(|keys| {
            let mut kids: Vec<_> = keys.iter().map(|key| key.kid().unwrap_or("no kid")).collect();
            kids.dedup();
            kids.truncate(20);
            format!("a key of the issuer: {}", kids.join(", "))
        });
        let key = CheckExpectation {
            name: "key (kid)",
            expected: kids.unwrap_or_else(|| "keys, which are not available".into()),
            found: shown(self.header.get("kid")),
            options: &["jwks_uri", "discovery_uri", "key_file", "key"],
        };
        let signature = CheckExpectation {
            name: "signature",
            expected: "made with the key".into(),
            found: if result.is_ok() { "made with it" } else { "not made with it" }.into(),
            options: &[],
        };
        let failed = result.err().map(|reject| (AuthenticationStep::of(reject), reject));
        let steps = [
            (AuthenticationStep::Algorithm, algorithm),
            (AuthenticationStep::Key, key),
            (AuthenticationStep::Signature, signature),
        ];
        let reached =
            steps.into_iter().filter(|(step, _)| failed.is_none_or(|(at, _)| *step <= at));
        let result = |step| match failed {
            Some((at, reject)) if at == step => Err(reject),
            _ => Ok(()),
        };
        reached.map(|(step, row)| (row, result(step))).collect()
    }

    /// Returns what one check of the claims expects and finds.
    pub(super) fn expectation(&self, check: ClaimCheck, issuer: &IssuerConfig) -> CheckExpectation {
        let rules = &issuer.rules;
        let (expected, found, options) = self.check(check, issuer, rules);
        CheckExpectation { name: check_name(check), expected, found, options }
    }

    fn check(
        &self,
        check: ClaimCheck,
        issuer: &IssuerConfig,
        rules: &Rules,
    ) -> (String, String, &'static [&'static str]) {
        let now = self.now.0;
        let tolerated = rules.leeway.max(rules.issued_at_leeway);
        let in_time = |seconds: u32| format!("{} or earlier", date_of(now + u64::from(seconds)));
        match check {
            ClaimCheck::Type => {
                let types = rules.token_types.as_ref().map(|types| types.join(" or "));
                let any = || "none, or one of an access token: JWT, at+jwt".to_owned();
                (types.unwrap_or_else(any), shown(self.header.get("typ")), &["typ"])
            }
            ClaimCheck::IssuedAt => (in_time(tolerated), self.time("iat"), &["leeway"]),
            ClaimCheck::NotBefore => (in_time(rules.leeway), self.time("nbf"), &["leeway"]),
            ClaimCheck::Expiry => {
                let after = date_of(now.saturating_sub(rules.leeway.into()));
                let or_none = if rules.require_expiry { "" } else { ", or none" };
                (
                    format!("later than {after}{or_none}"),
                    self.time("exp"),
                    &["require_exp", "leeway"],
                )
            }
            ClaimCheck::Lifetime => {
                let most = rules.max_lifetime.map(|most| format!("at most {most} seconds"));
                let times = [self.claim("iat"), self.claim("exp")].join(" to ");
                let found = if most.is_some() { times } else { Self::ABSENT.into() };
                (most.unwrap_or_else(|| "any".into()), found, &["max_lifetime"])
            }
            ClaimCheck::Tenant => {
                let expected = if issuer.has_tenants() { "the tenant in iss" } else { "any" };
                (expected.into(), self.claim("tid"), &["tenants"])
            }
            ClaimCheck::Audience => (
                audience(&rules.audience),
                self.claim(rules.audience.claim.as_ref().map_or("aud", ClaimPath::as_str)),
                &["audience", "audience_match", "audience_claim", "require_audience"],
            ),
            ClaimCheck::Subject => (id(rules), self.claim("sub"), &["subject_as_text"]),
            ClaimCheck::TokenId => (id(rules), self.claim("jti"), &["subject_as_text"]),
            ClaimCheck::ClientTypes => {
                let allowed = rules.client_types.allowed.as_ref().map(|types| types.join(", "));
                let or_none = match rules.client_types.when_absent {
                    Some(_) => ", or none",
                    None => "",
                };
                let expected = allowed.unwrap_or_else(|| "any".into()) + or_none;
                let options =
                    &["client_types", "enforce_client_types", "legacy_require_client_type"];
                (expected, self.claim(&rules.client_types.claim), options)
            }
            ClaimCheck::Environment => {
                ("a text, or none".into(), self.claim(&rules.environment_claim), &[])
            }
            ClaimCheck::Scopes => {
                let expected = match rules.scopes.is_empty() {
                    true => "any".into(),
                    false => rules.scopes.join(" and "),
                };
                let found = match (self.claim("scope"), self.claim("scp")) {
                    (scope, scp) if scp == Self::ABSENT => scope,
                    (scope, scp) if scope == Self::ABSENT => scp,
                    (scope, scp) => format!("{scope} and {scp}"),
                };
                (expected, found, &["scopes"])
            }
            ClaimCheck::Constraints => self.constraints(&rules.constraints),
            ClaimCheck::Username => {
                let names: Vec<_> = rules.username.claims.iter().map(ClaimPath::as_str).collect();
                let kind =
                    if rules.username.takes_numbers { "a text or whole number" } else { "a text" };
                let or_none = if rules.username.required { "" } else { ", or none" };
                let found = names.iter().map(|name| self.claim(name));
                let found = found.collect::<Vec<_>>().join(", ");
                let options = &["jwt_username_claim", "username_required", "username_as_text"];
                (format!("{kind} in {}{or_none}", names.join(", or ")), found, options)
            }
            ClaimCheck::Confirmation => {
                let expected = match rules.verify_confirmation {
                    true => "none, or the thumbprint of the client's certificate in x5t#S256",
                    false => "any",
                };
                (expected.into(), self.claim("cnf"), &["cnf"])
            }
        }
    }

    fn constraints(&self, constraints: &[Constraint]) -> (String, String, &'static [&'static str]) {
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        for constraint in constraints {
            let (claim, text) = match constraint {
                Constraint::Is { claim, value } => {
                    (claim, format!("{} is {value}", claim.as_str()))
                }
                Constraint::Contains { claim, value } => {
                    (claim, format!("{value} in {}", claim.as_str()))
                }
            };
            expected.push(text);
            found.push(format!("{} = {}", claim.as_str(), self.claim(claim.as_str())));
        }
        match constraints.is_empty() {
            true => ("any".into(), Self::ABSENT.into(), &["claims"]),
            false => (expected.join(" and "), found.join(", "), &["claims"]),
        }
    }

    fn time(&self, name: &str) -> String {
        match self.claims.get(name).and_then(Value::as_u64) {
            Some(at) => format!("{} ({at}), {}", date_of(at), distance(at, self.now)),
            None => self.claim(name),
        }
    }

    /// Returns a claim by its name or path.
    pub(super) fn claim(&self, path: &str) -> String {
        let pointer = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => format!("/{}", path.replace('.', "/")),
        };
        shown(self.claims.get(path).or_else(|| self.claims.pointer(&pointer)))
    }
}

fn shown(value: Option<&Value>) -> String {
    const MAX_CHARACTERS: usize = 300;
    let Some(value) = value else { return ReadToken::ABSENT.into() };
    let text = value.to_string();
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn audience(rule: &AudienceRule) -> String {
    let or_none = if rule.required { "" } else { ", or none" };
    rule.accepted.join(if rule.all { " and " } else { ", or " }) + or_none
}

fn id(rules: &Rules) -> String {
    let kind = if rules.numeric_ids { "a text or whole number" } else { "a text" };
    format!("{kind}, or none")
}
