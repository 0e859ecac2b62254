//! Arguments of `audit`.

use clap::{Args, builder::PossibleValuesParser, builder::TypedValueParser as _};
use countersign_engine::UnixTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::audit::{AuditOperation, AuditOutcome};

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Only events of this time: 30m, 12h, 7d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<AuditSince>,
    /// Only events by or about this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only events of this operation
    #[arg(long, value_name = "NAME", value_parser = operation_parser())]
    pub operation: Option<AuditOperation>,
    /// Only events with this outcome
    #[arg(long, value_name = "NAME", value_parser = outcome_parser())]
    pub outcome: Option<AuditOutcome>,
    /// Maximum number of events: the latest are printed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: u32,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Wait for further events, and print them as JSON
    #[arg(long, requires = "json")]
    pub follow: bool,
}

/// Start of the time to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSince {
    /// This time.
    At(UnixTime),
    /// This many seconds ago.
    Ago(u64),
}

impl AuditSince {
    /// Returns the time, as of now.
    #[must_use]
    pub fn before(self, now: UnixTime) -> UnixTime {
        match self {
            Self::At(at) => at,
            Self::Ago(seconds) => UnixTime(now.0.saturating_sub(seconds)),
        }
    }
}

fn operation_parser() -> impl clap::builder::TypedValueParser<Value = AuditOperation> {
    named(AuditOperation::ALL, AuditOperation::name)
}

fn outcome_parser() -> impl clap::builder::TypedValueParser<Value = AuditOutcome> {
    named(&AuditOutcome::ALL, AuditOutcome::name)
}

/// Returns the parser of values that are given by their names.
fn named<V: Copy + Send + Sync + 'static>(
    values: &'static [V],
    name: fn(V) -> &'static str,
) -> impl clap::builder::TypedValueParser<Value = V> {
    let names = values.iter().map(move |value| name(*value));
    PossibleValuesParser::new(names).try_map(move |given| {
        values.iter().copied().find(|value| name(*value) == given).ok_or("unknown name")
    })
}

fn since(text: &str) -> Result<AuditSince, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let ago = UNITS.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(*unit)?.parse::<u64>().ok()?.checked_mul(*seconds)
    });
    let at = || OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp().try_into().ok();
    ago.map(AuditSince::Ago)
        .or_else(|| at().map(|at| AuditSince::At(UnixTime(at))))
        .ok_or_else(|| "write a time such as 30m, 12h, 7d or 2026-01-31T12:00:00Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_or_a_time() {
        for (text, expected) in [
            ("90s", Some(AuditSince::Ago(90))),
            ("30m", Some(AuditSince::Ago(1800))),
            ("7d", Some(AuditSince::Ago(604_800))),
            ("2026-01-31T12:00:00Z", Some(AuditSince::At(UnixTime(1_769_860_800)))),
            ("7", None),
            ("yesterday", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(since(text).ok(), expected, "{text}");
        }
        assert_eq!(AuditSince::Ago(10).before(UnixTime(5)), UnixTime(0));
    }
}
