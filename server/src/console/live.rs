//! The figures of the overview, as its page shows them and as the page updates them.
//!
//! The page fetches them at intervals. Each has a name, by which the script finds its place. Tables
//! are replaced as a whole.

use countersign_engine::UnixTime;
use http::{Response, StatusCode};
use serde_json::{Map, json};

use super::{
    ConsoleContext,
    error_page::ConsoleError,
    issuers::IssuerRow,
    overview,
    page_updates::FigureAudience,
    refused_requests,
    session::ConsoleUser,
    text::{duration, percent, rate},
    traffic,
};
use crate::{
    base::{
        clock,
        outcome::Outcome,
        reply::{Body, typed},
    },
    observe::figures::{RequestCounts, SampleInterval},
};

/// A small chart with its current value.
pub(super) struct FigureChart {
    /// Its name for the script.
    pub(super) name: &'static str,
    /// Its title.
    pub(super) title: &'static str,
    /// The current value, with its unit.
    pub(super) value: String,
    /// The points of its line, in the coordinates of [`WIDTH`] and [`HEIGHT`].
    pub(super) line: String,
}

/// The figures of the overview, from the [samples](crate::observe::figures::RecentFigures), and the
/// issuers.
pub(super) struct LiveFigures {
    /// The state in a sentence or two.
    pub(super) sentence: String,
    /// The charts.
    pub(super) charts: [FigureChart; 4],
    /// The most frequent reasons for refusals, with their numbers.
    pub(super) reasons: Vec<(Outcome, u64)>,
    /// The issuers.
    pub(super) issuers: Vec<IssuerRow>,
    /// The events of the last minutes; `None` at the start.
    pub(super) recent: Option<RequestCounts>,
}

/// Width of a chart: one for each interval.
pub(super) const WIDTH: usize = 150;
/// Height of a chart.
pub(super) const HEIGHT: usize = 32;
/// Reasons that are shown.
const MAX_REASONS: usize = 5;

impl LiveFigures {
    /// Collects the figures.
    pub(super) fn of(context: &ConsoleContext<'_>) -> Self {
        let now = clock::now();
        let issuers = IssuerRow::all(context, now);
        let (intervals, current) = (context.api.figures.intervals(), context.api.figures.current());
        let recent = context.api.figures.recent().map(|recent| recent.counts);
        let mut reasons = recent.as_ref().map_or_else(Vec::new, RequestCounts::reasons);
        reasons.truncate(MAX_REASONS);
        Self {
            sentence: sentence(&issuers, recent.as_ref()),
            charts: charts(&intervals, current.as_ref()),
            reasons,
            issuers,
            recent,
        }
    }
}

/// Answers with the figures in JSON: texts, lines and tables by name.
///
/// # Errors
/// The database cannot be queried.
pub(super) async fn respond(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
) -> Result<Response<Body>, ConsoleError> {
    let (updates, audience) = (context.updates, overview::audience(context, user));
    let sampled_at = context.api.figures.sampled_at();
    let body = match updates.kept(audience, sampled_at) {
        Some(kept) => kept,
        None => {
            let body = update(context, audience).await?;
            updates.keep(audience, sampled_at, &body);
            body
        }
    };
    Ok(typed(StatusCode::OK, "application/json", body))
}

async fn update(
    context: &ConsoleContext<'_>,
    audience: FigureAudience,
) -> Result<Body, ConsoleError> {
    let changes = overview::last_changes(context, audience).await?;
    let LiveFigures { sentence, charts, reasons, issuers, recent } = LiveFigures::of(context);
    let (mut texts, mut lines, mut blocks) = (Map::new(), Map::new(), Map::new());
    texts.insert("sentence".into(), sentence.into());
    for FigureChart { name, value, line, .. } in charts {
        texts.insert(name.into(), value.into());
        lines.insert(name.into(), line.into());
    }
    for (name, block) in [
        ("issuers", overview::issuer_table(&issuers)),
        ("reasons", overview::reason_table(&reasons)),
        ("protocols", traffic::protocol_table(recent.as_ref())),
        ("checks", traffic::check_facts(recent.as_ref())),
        ("refused-requests", refused_requests::table(context, audience, clock::now())),
        ("changes", changes),
    ] {
        blocks.insert(name.into(), block.into_string().into());
    }
    Ok(json!({ "texts": texts, "lines": lines, "blocks": blocks }).to_string().into())
}

fn charts(intervals: &[SampleInterval], current: Option<&SampleInterval>) -> [FigureChart; 4] {
    type Reading = fn(&SampleInterval) -> Option<f64>;
    let requests: Reading = |one| Some(one.rate(one.counts.requests));
    let refused: Reading = |one| Some(one.rate(one.counts.refusals()));
    let p99: Reading = |one| one.counts.quantile(0.99);
    let hits: Reading = |one| match one.counts.cache() {
        (_, 0) => None,
        (hits, all) => Some(hits as f64 / all as f64),
    };
    let per_second = |reading: Reading| {
        current.and_then(reading).map_or_else(none, |value| format!("{}/s", rate(value)))
    };
    let latency = current.and_then(|one| {
        let [median, p99] = [0.5, 0.99].map(|part| one.counts.quantile(part));
        Some(format!("≤ {} (half ≤ {})", duration(p99?), duration(median?)))
    });
    let ratio = current.and_then(|one| {
        let (hits, all) = one.counts.cache();
        percent(hits, all)
    });
    let chart = |name, title, value, reading: Reading| FigureChart {
        name,
        title,
        value,
        line: line(intervals.iter().map(reading)),
    };
    [
        chart("requests", "Requests", per_second(requests), requests),
        chart("refused", "Refused", per_second(refused), refused),
        chart("p99", "99 % answered within", latency.unwrap_or_else(none), p99),
        chart("hits", "From the cache", ratio.unwrap_or_else(none), hits),
    ]
}

/// The value of a figure without events.
fn none() -> String {
    "–".into()
}

/// Returns the points of a line, the newest at the right. Its height is relative to the largest.
fn line(values: impl Iterator<Item = Option<f64>>) -> String {
    let values: Vec<_> = values.map(Option::unwrap_or_default).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    let first = WIDTH.saturating_sub(values.len());
    let points = values.iter().enumerate().map(|(index, value)| {
        let part = if largest > 0.0 { value / largest } else { 0.0 };
        let height = 1.0 + (HEIGHT as f64 - 2.0) * (1.0 - part);
        format!("{},{height:.0}", first + index)
    });
    points.collect::<Vec<_>>().join(" ")
}

/// Returns whether issuers answer and how many requests are refused, in words.
fn sentence(issuers: &[IssuerRow], recent: Option<&RequestCounts>) -> String {
    let failing: Vec<_> = issuers.iter().filter(|issuer| !issuer.state.is_good()).collect();
    let keys = match (issuers, failing.as_slice()) {
        ([], _) => "No issuer is configured.".to_owned(),
        ([_], []) => "The issuer has its keys.".to_owned(),
        (all, []) => format!("All {} issuers have their keys.", all.len()),
        (all, [one]) if all.len() == 1 => format!("Issuer {}: {}.", one.section, one.state_words()),
        (all, failing) => {
            let names: Vec<_> = failing.iter().map(|one| one.section.as_str()).collect();
            let need = if failing.len() == 1 { "needs" } else { "need" };
            let (count, names) = (failing.len(), names.join(", "));
            format!("{count} of {} issuers {need} a look: {names}.", all.len())
        }
    };
    let Some(counts) = recent.filter(|counts| counts.requests > 0) else {
        return format!("{keys} No requests in the last minutes.");
    };
    let refused = percent(counts.refusals(), counts.requests).unwrap_or_else(none);
    match counts.reasons().first() {
        None => format!("{keys} No request was refused in the last minutes."),
        Some((reason, _)) => {
            format!("{keys} {refused} of requests refused, most: {}.", reason.words())
        }
    }
}

/// Returns the id of a reason for a refusal in pages. A tenant may be refused because of the token,
/// or of the request: both have the same code.
pub(super) fn reason_id(reason: Outcome) -> String {
    let of_request = if reason == Outcome::Tenant { "request-" } else { "" };
    format!("reason-{of_request}{}", reason.name())
}

/// Returns the time since a success, in words.
pub(super) fn age(at: Option<UnixTime>, now: UnixTime) -> String {
    at.map_or_else(none, |at| super::text::ago(at, now))
}
