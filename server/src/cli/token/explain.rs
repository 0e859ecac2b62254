//! `countersign token explain`: every check of a token, with the configuration that decides it.

use std::io;

use countersign_engine::Verified;

use super::{CommandError, CommandVerifier, ConfigSource, inspect, print};
use crate::{
    auth::token_report::{ReportRow, TokenReport},
    base::printable::printable,
    cli::{arguments::VerifyArgs, environment_variables},
    config::load_raw,
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
    let presented = (token.as_bytes(), verifier.now());
    let report = verifier.presenting(|presentation| {
        TokenReport::of(&verifier.app.authenticator, presented, presentation, &sections)
    });
    let Ok(report) = report else { return Ok(()) };
    report.authenticity.iter().try_for_each(print_row)?;
    if !report.claims.is_empty() && !report.is_authentic {
        print("\nThe claims are not authentic. If they were:")?;
    }
    report.claims.iter().try_for_each(print_row)?;
    // What the surface refuses beyond the rules of the issuer.
    if let Err(reject) = decision
        && !report.rows().any(|row| row.result == Err(reject))
    {
        print(format_args!("\nrefused  by the surface or for want of keys: {reject}"))?;
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

fn print_row(row: &ReportRow) -> io::Result<()> {
    let ReportRow { name, expected, found, result, decided_by } = row;
    let mark = if result.is_ok() { "ok" } else { "refused" };
    print(format_args!("\n{mark:8} {name}"))?;
    print(format_args!("         expected  {}", printable(expected)))?;
    print(format_args!("         found     {}", printable(found)))?;
    if let Err(reject) = result {
        print(format_args!("         reason    {reject} ({})", reject.code()))?;
    }
    decided_by.iter().try_for_each(|line| print(format_args!("         by        {line}")))
}
