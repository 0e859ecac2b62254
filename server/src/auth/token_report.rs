//! Every check of one token, with what it expects, what it finds, and the line of the configuration
//! that decides: for `countersign token explain`, the console and the Admin API.
//!
//! Nothing of a token is kept, and no key is fetched for it.

mod contents;
mod damage;
mod expectations;
mod inspected;

use std::collections::BTreeMap;

use countersign_engine::{
    ClaimCheck, IssuerConfig, KeySet, Presentation, Reject, TokenExplanation, UnixTime,
    jws::UnverifiedToken,
};
use serde_json::Value;

use self::expectations::{CheckExpectation, ReadToken};
pub use self::{
    contents::{MemberMeaning, TokenMember, claim_members, header_members},
    inspected::{DecodedPart, DecodedParts, InspectedToken, bare_token},
};
use super::Authenticator;
use crate::{
    base::printable::printable,
    config::{
        options::{self, DefaultValue},
        setting::Section,
    },
};

/// The checks of a token, in the order in which they are made.
#[derive(Debug)]
pub struct TokenReport {
    /// The checks of its issuer and its signature, up to the first that fails.
    pub authenticity: Vec<ReportRow>,
    /// Whether a key of the issuer has made the signature. Otherwise the author of the token is
    /// unknown.
    pub is_authentic: bool,
    /// The checks of its claims, and of revocations; empty for an unknown issuer.
    pub claims: Vec<ReportRow>,
}

/// One check of a [`TokenReport`].
#[derive(Debug)]
pub struct ReportRow {
    /// The name of the check.
    pub name: &'static str,
    /// What the configuration expects.
    pub expected: String,
    /// What the token has.
    pub found: String,
    /// The result.
    pub result: Result<(), Reject>,
    /// The lines of the configuration that decide, or the default.
    pub decided_by: Vec<String>,
}

impl TokenReport {
    /// Makes all checks of a token, as presented by a request. `sections` are the configuration as
    /// written.
    ///
    /// # Errors
    /// The [`Reject`] of a token that cannot be read.
    pub fn of(
        authenticator: &Authenticator,
        (token, now): (&[u8], UnixTime),
        presentation: Presentation<'_>,
        sections: &BTreeMap<String, Section>,
    ) -> Result<Self, Reject> {
        let parts = UnverifiedToken::decode(token)?;
        let read = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap_or_default();
        let read = ReadToken { header: read(&parts.header), claims: read(&parts.payload), now };
        let all_keys = authenticator.keys_in_use();
        match authenticator.verifier.explain(token, now, presentation) {
            Ok(explanation) => {
                let keys = all_keys
                    .into_iter()
                    .find(|(source, _)| source.section().issuer == explanation.issuer)
                    .and_then(|(_, keys)| keys);
                Ok(Self::of_explanation(&explanation, keys.as_deref(), &read, sections))
            }
            Err(reject @ (Reject::IssuerUnknown | Reject::IssuerMissing)) => {
                let names = all_keys.iter().flat_map(|(source, _)| source.section().issuer.names());
                let unknown = ReportRow {
                    name: "issuer",
                    expected: names.collect::<Vec<_>>().join(", or "),
                    found: read.claim("iss"),
                    result: Err(reject),
                    decided_by: Vec::new(),
                };
                Ok(Self { authenticity: vec![unknown], is_authentic: false, claims: Vec::new() })
            }
            Err(reject) => Err(reject),
        }
    }

    fn of_explanation(
        explanation: &TokenExplanation,
        keys: Option<&KeySet>,
        read: &ReadToken,
        sections: &BTreeMap<String, Section>,
    ) -> Self {
        let issuer = &*explanation.issuer;
        let lines = ConfigurationLines { issuer, sections };
        let mut authenticity = vec![lines.row(read.issuer(issuer), Ok(()))];
        let steps = read.authenticity(issuer, keys, explanation.authenticity);
        authenticity.extend(steps.into_iter().map(|(step, result)| lines.row(step, result)));
        let checked = explanation.checks.iter().filter_map(|(check, result)| {
            let expectation = read.expectation(*check, issuer);
            let is_written = expectation.options.iter().any(|option| lines.has(option));
            let is_shown = result.is_err() || is_written || expectation.found != ReadToken::ABSENT;
            is_shown.then(|| lines.row(expectation, *result))
        });
        let mut claims: Vec<_> = checked.collect();
        let is_revoked = explanation.revocation.is_err();
        let revocation = CheckExpectation {
            name: "revocation",
            expected: "not revoked".into(),
            found: if is_revoked { "revoked" } else { "not revoked" }.into(),
            options: &[],
        };
        claims.push(lines.row(revocation, explanation.revocation));
        Self { authenticity, is_authentic: explanation.authenticity.is_ok(), claims }
    }

    /// Returns all checks, in their order.
    pub fn rows(&self) -> impl Iterator<Item = &ReportRow> {
        self.authenticity.iter().chain(&self.claims)
    }

    /// Returns the reason of the first check that fails.
    #[must_use]
    pub fn first_reject(&self) -> Option<Reject> {
        self.rows().find_map(|row| row.result.err())
    }
}

/// The configuration of an issuer as written.
struct ConfigurationLines<'c> {
    issuer: &'c IssuerConfig,
    sections: &'c BTreeMap<String, Section>,
}

impl ConfigurationLines<'_> {
    fn row(&self, expectation: CheckExpectation, result: Result<(), Reject>) -> ReportRow {
        let CheckExpectation { name, expected, found, options } = expectation;
        let written = options.iter().filter_map(|option| self.written(option));
        let mut decided_by: Vec<_> = written.collect();
        if decided_by.is_empty() {
            decided_by.extend(options.first().map(|option| self.default_of(option)));
        }
        ReportRow { name, expected, found, result, decided_by }
    }

    fn has(&self, option: &str) -> bool {
        self.written(option).is_some()
    }

    /// Returns an option as it is written, with its place.
    fn written(&self, option: &str) -> Option<String> {
        let section = &self.issuer.section;
        let setting = self.sections.get(&**section)?.settings.get(option)?;
        let text = match options::section(section).and_then(|spec| spec.option(option)) {
            Some(spec) if spec.is_secret => "(not shown)".into(),
            _ => setting.text.split('\n').collect::<Vec<_>>().join("; "),
        };
        Some(format!("[{section}] {option} = {}, in {}", printable(&text), setting.place))
    }

    /// Returns the default of an option that is not written.
    fn default_of(&self, option: &str) -> String {
        let section = &self.issuer.section;
        let spec = options::section(section).and_then(|section| section.option(option));
        let default = match spec.map(|spec| spec.default) {
            Some(DefaultValue::Value(text) | DefaultValue::Described(text)) => text,
            Some(DefaultValue::Required) | None => "",
        };
        format!("[{section}] {option} is not set; its default: {default}")
    }
}

/// Which step of the authentication a reason belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AuthenticationStep {
    Algorithm,
    Key,
    Signature,
}

impl AuthenticationStep {
    fn of(reject: Reject) -> Self {
        match reject {
            Reject::AlgorithmMissing
            | Reject::AlgorithmUnsupported
            | Reject::AlgorithmNotAllowed => Self::Algorithm,
            Reject::Signature | Reject::NotAdmitted => Self::Signature,
            _ => Self::Key,
        }
    }
}

/// The name of a check in the report.
fn check_name(check: ClaimCheck) -> &'static str {
    match check {
        ClaimCheck::Type => "type (typ)",
        ClaimCheck::IssuedAt => "issue time (iat)",
        ClaimCheck::NotBefore => "start time (nbf)",
        ClaimCheck::Expiry => "expiry time (exp)",
        ClaimCheck::Lifetime => "lifetime (iat, exp)",
        ClaimCheck::Tenant => "tenant (tid)",
        ClaimCheck::Audience => "audience",
        ClaimCheck::Subject => "subject (sub)",
        ClaimCheck::TokenId => "token id (jti)",
        ClaimCheck::ClientTypes => "client types",
        ClaimCheck::Environment => "environment",
        ClaimCheck::Scopes => "scopes",
        ClaimCheck::Constraints => "claims",
        ClaimCheck::Username => "username",
        ClaimCheck::Confirmation => "confirmation (cnf)",
    }
}
