//! `countersign token explain`: every check of a token, with the configuration that decides it.

mod report_row;

use std::{collections::BTreeMap, io};

use countersign_engine::{
    ClaimCheck, IssuerConfig, KeySet, Reject, TokenExplanation, Verified, jws::UnverifiedToken,
};
use serde_json::Value;

use self::report_row::{ReadToken, ReportRow};
use super::{CommandError, CommandVerifier, ConfigSource, inspect, print};
use crate::{
    base::printable::printable,
    cli::{arguments::VerifyArgs, environment_variables},
    config::{
        load_raw,
        options::{self, DefaultValue},
        setting::Section,
    },
};

pub(super) fn run(
    source: &ConfigSource,
    token: Option<String>,
    how: &VerifyArgs,
) -> Result<(), CommandError> {
    let token = token.map_or_else(inspect::read_input, Ok)?;
    let sections = load_raw(&source.files()?, environment_variables()).sections;
    let config = source.load()?;
    let verifier = CommandVerifier::new(source, config, how)?;
    let decision = verifier.verify(token.as_bytes()).map(|verified| summary(&verified));
    print(match &decision {
        Ok(summary) => format!("accepted: {summary}"),
        Err(reject) => format!("refused ({}): {reject}", reject.code()),
    })?;
    let Ok(parts) = UnverifiedToken::decode(token.as_bytes()) else { return Ok(()) };
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap_or_default();
    let read = ReadToken {
        header: read(&parts.header),
        claims: read(&parts.payload),
        now: verifier.now(),
    };
    let engine = &verifier.app.authenticator.verifier;
    let explained = verifier
        .presenting(|presentation| engine.explain(token.as_bytes(), verifier.now(), presentation));
    let report = TokenReport { read, sections };
    let keys = verifier.app.authenticator.keys_in_use();
    match explained {
        Ok(explanation) => {
            let keys = keys
                .into_iter()
                .find(|(source, _)| source.section().issuer == explanation.issuer)
                .and_then(|(_, keys)| keys);
            report.print(&explanation, keys.as_deref())?;
            report.print_surface(&explanation, decision.err())?;
        }
        Err(reject @ (Reject::IssuerUnknown | Reject::IssuerMissing)) => {
            let names = keys.iter().flat_map(|(source, _)| source.section().issuer.names());
            let expected = names.collect::<Vec<_>>().join(", or ");
            let found = report.read.claim("iss");
            let options = &["issuer"];
            let row = ReportRow { name: "issuer", expected, found, options };
            report.print_row(None, Err(reject), &row)?;
        }
        Err(_) => {}
    }
    Ok(())
}

fn summary(verified: &Verified<'_>) -> String {
    let username = verified.claims().username().map(printable);
    let section = &verified.issuer().section;
    match username {
        Some(username) => format!("a token of [{section}], username {username}"),
        None => format!("a token of [{section}], without a username"),
    }
}

/// What is printed about one token.
struct TokenReport {
    read: ReadToken,
    /// The configuration as written.
    sections: BTreeMap<String, Section>,
}

impl TokenReport {
    fn print(&self, explanation: &TokenExplanation, keys: Option<&KeySet>) -> io::Result<()> {
        let issuer = &*explanation.issuer;
        self.print_row(Some(issuer), Ok(()), &self.read.issuer(issuer))?;
        for (row, result) in self.read.authenticity(issuer, keys, explanation.authenticity) {
            self.print_row(Some(issuer), result, &row)?;
        }
        if explanation.authenticity.is_err() {
            print("\nThe claims are not authentic. If they were:")?;
        }
        for (check, result) in &explanation.checks {
            let row = self.read.expectation(*check, issuer);
            let is_written = row.options.iter().any(|option| self.is_written(issuer, option));
            if result.is_err() || is_written || row.found != ReadToken::ABSENT {
                self.print_row(Some(issuer), *result, &row)?;
            }
        }
        let revoked = ReportRow {
            name: "revocation",
            expected: "not revoked".into(),
            found: if explanation.revocation.is_err() { "revoked" } else { "not revoked" }.into(),
            options: &[],
        };
        self.print_row(Some(issuer), explanation.revocation, &revoked)
    }

    /// Prints what the surface refuses beyond the rules of the issuer.
    fn print_surface(
        &self,
        explanation: &TokenExplanation,
        refused: Option<Reject>,
    ) -> io::Result<()> {
        let explained = explanation.checks.iter().map(|(_, result)| *result);
        let mut explained = explained.chain([explanation.authenticity, explanation.revocation]);
        match refused {
            Some(reject) if !explained.any(|result| result == Err(reject)) => {
                print(format_args!("\nrefused  by the surface or for want of keys: {reject}"))
            }
            _ => Ok(()),
        }
    }

    fn print_row(
        &self,
        issuer: Option<&IssuerConfig>,
        result: Result<(), Reject>,
        row: &ReportRow,
    ) -> io::Result<()> {
        let ReportRow { name, expected, found, options } = row;
        let mark = if result.is_ok() { "ok" } else { "refused" };
        print(format_args!("\n{mark:8} {name}"))?;
        print(format_args!("         expected  {}", printable(expected)))?;
        print(format_args!("         found     {}", printable(found)))?;
        if let Err(reject) = result {
            print(format_args!("         reason    {reject} ({})", reject.code()))?;
        }
        let lines = issuer.into_iter().flat_map(|issuer| {
            let written = options.iter().filter_map(|option| self.written(issuer, option));
            written.collect::<Vec<_>>()
        });
        let lines: Vec<_> = lines.collect();
        if lines.is_empty()
            && let (Some(issuer), Some(option)) = (issuer, options.first())
        {
            print(format_args!("         by        {}", default_of(issuer, option)))?;
        }
        lines.iter().try_for_each(|line| print(format_args!("         by        {line}")))
    }

    fn is_written(&self, issuer: &IssuerConfig, option: &str) -> bool {
        self.written(issuer, option).is_some()
    }

    /// Returns an option as it is written, with its place.
    fn written(&self, issuer: &IssuerConfig, option: &str) -> Option<String> {
        let setting = self.sections.get(&*issuer.section)?.settings.get(option)?;
        let text = setting.text.split('\n').collect::<Vec<_>>().join("; ");
        let section = &issuer.section;
        Some(format!("[{section}] {option} = {}, in {}", printable(&text), setting.place))
    }
}

/// Returns the default of an option that is not written.
fn default_of(issuer: &IssuerConfig, option: &str) -> String {
    let spec = options::section(&issuer.section).and_then(|section| section.option(option));
    let default = match spec.map(|spec| spec.default) {
        Some(DefaultValue::Value(text) | DefaultValue::Described(text)) => text,
        Some(DefaultValue::Required) | None => "",
    };
    format!("[{}] {option} is not set; its default: {default}", issuer.section)
}

/// Which step of the authentication a reason belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AuthenticationStep {
    Algorithm,
    Key,
    Signature,
}

impl AuthenticationStep {
    pub(super) fn of(reject: Reject) -> Self {
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
pub(super) fn check_name(check: ClaimCheck) -> &'static str {
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
