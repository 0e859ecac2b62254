//! Parts of the overview: the times of answers by version of HTTP, and the budgets of signature
//! checks.

use maud::{Markup, html};

use super::{
    reference::figure_link,
    text::{duration, whole},
};
use crate::observe::{
    figures::RequestCounts,
    metrics::{Budget, RequestProtocol},
};

/// Returns the times within which requests with a token were answered, by version of HTTP.
pub(super) fn protocol_table(recent: Option<&RequestCounts>) -> Markup {
    let responses = |version| recent.map_or(0, |counts| counts.responses_over(version));
    let versions = RequestProtocol::ALL.into_iter().filter(|version| responses(*version) > 0);
    let versions: Vec<_> = versions.collect();
    let within = |version, part| {
        let bound = recent.and_then(|counts| counts.quantile_over(version, part));
        bound.map_or_else(|| "–".into(), |seconds| format!("≤ {}", duration(seconds)))
    };
    html! {
        @if versions.is_empty() {
            p.empty { "No request was answered." }
        } @else {
            table {
                thead {
                    tr {
                        th { "Version" } th.number { "Requests" }
                        th { a href=(figure_link("p99")) { "Half within" } } th { "99 % within" }
                    }
                }
                tbody {
                    @for version in versions {
                        tr {
                            td data-label="Version" { (protocol_name(version)) }
                            td.number data-label="Requests" { (whole(responses(version))) }
                            td data-label="Half within" { (within(version, 0.5)) }
                            td data-label="99 % within" { (within(version, 0.99)) }
                        }
                    }
                }
            }
        }
    }
}

fn protocol_name(protocol: RequestProtocol) -> String {
    match protocol {
        RequestProtocol::Spop => "SPOP".into(),
        version => format!("HTTP/{}", version.name()),
    }
}

/// Returns the numbers of signature checks that exceeded a budget.
pub(super) fn check_facts(recent: Option<&RequestCounts>) -> Markup {
    let delayed = recent.map_or(0, |counts| counts.delayed);
    let refused = recent.map_or([0; Budget::ALL.len()], |counts| counts.not_admitted);
    let refused = Budget::ALL.into_iter().zip(refused).filter(|(_, count)| *count > 0);
    let refused: Vec<_> = refused.collect();
    html! {
        @if delayed == 0 && refused.is_empty() {
            p { span.state data-state="good" { "✓ all within their budgets" } }
        } @else {
            dl.facts {
                dt { "Waited" } dd { (whole(delayed)) }
                @for (budget, count) in refused {
                    dt { "Not made, budget " (budget.name()) }
                    dd { span.state data-state="warning" { "! " (whole(count)) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::{
        base::route::Route,
        observe::{
            figures::RecentFigures,
            metrics::{MetricEvent, Metrics},
            settings::MetricsSettings,
        },
    };

    #[test]
    fn parts_show_versions_and_exceeded_budgets() {
        let (metrics, figures) =
            (Metrics::new(1, &MetricsSettings::default()), RecentFigures::default());
        assert!(protocol_table(None).into_string().contains("No request was answered."));
        assert!(check_facts(None).into_string().contains("all within their budgets"));
        figures.add_sample(&metrics);
        let took = Some(Duration::from_micros(100));
        metrics.count_response(RequestProtocol::Http3, Route::Auth, StatusCode::OK, took);
        metrics.count_event(MetricEvent::CheckDelayed);
        metrics.count_event(MetricEvent::NotAdmitted(Budget::Issuer));
        figures.add_sample(&metrics);
        let counts = figures.recent().unwrap().counts;
        let table = protocol_table(Some(&counts)).into_string();
        assert!(table.contains("HTTP/3") && table.contains("≤ 131 µs"), "{table}");
        assert!(!table.contains("HTTP/2"), "{table}");
        let facts = check_facts(Some(&counts)).into_string();
        assert!(facts.contains("<dt>Waited</dt><dd>1</dd>"), "{facts}");
        assert!(facts.contains("Not made, budget issuer</dt>") && facts.contains("! 1"), "{facts}");
    }
}
