//! Tenants and API keys: their names, never a key.

use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ConsoleContext, ConsoleRequest,
    administrator_page::AdministratorPage,
    error_page::ConsoleError,
    layout::as_command,
    request,
    session::ConsoleUser,
    table::{ConsoleTable, TableCell, TableColumn, TableOrder},
    text::whole,
};
use crate::{
    base::{printable::printable, reply::Body},
    observe::request_series::{RequestSeries, TenantCount},
    tenancy::{api_keys::ListedKey, settings::TenancySettings},
};

const PATH: &str = "/console/tenants";
const PAGE: AdministratorPage =
    AdministratorPage { title: "Tenants and API keys", path: PATH, right: "see the tenants" };

/// Returns the page.
///
/// # Errors
/// The user may not see it.
pub(super) fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    PAGE.check(context, user)?;
    let series = context.api.authenticator.metrics.series();
    let query = request::query(request);
    let order = TableOrder { path: PATH, query: &query };
    let content = html! {
        h1 { "Tenants and API keys" }
        @match &context.api.auth.tenancy {
            None => p.empty {
                "This server knows no tenants. A listener with "
                code { "surface = orchestrate" } " does: it takes the tenant of a request from a \
                claim of its token."
            },
            Some(tenancy) => {
                (facts(tenancy))
                section { h2 { "API keys" } (key_table(tenancy, order)) }
                section {
                    h2 { "Tenants with requests since the start" }
                    (tenant_table(series, order))
                }
            },
        }
    };
    Ok(PAGE.respond(user, StatusCode::OK, &content))
}

fn facts(tenancy: &TenancySettings) -> Markup {
    html! {
        @if !tenancy.verifies {
            p.state data-state="warning" {
                "! Multi-tenancy is off: every request is allowed, as one of the tenant _."
            }
        }
        dl.facts {
            dt { "Tenant of a token" } dd { "the claim " code { (tenancy.claim.name()) } }
            @if let Some(file) = &tenancy.key_file {
                dt { "File of API keys" } dd { code { (printable(&file.display().to_string())) } }
            }
        }
    }
}

fn key_table(tenancy: &TenancySettings, order: TableOrder<'_>) -> Markup {
    html! {
        @if tenancy.keys.is_empty() {
            p.empty {
                "No API key: machines use tokens. A line " code { "name = key" } " in the "
                code { "api_key_file" } " of " code { "[multi_tenancy]" } " makes the first."
            }
            (as_command("countersign key generate"))
        } @else {
            (ConsoleTable {
                columns: [
                    TableColumn::sorted("Name", "name"),
                    TableColumn::sorted("Id", "id"),
                    TableColumn::sorted("From", "from"),
                ],
                rows: tenancy.keys.list().map(|key| key_row(&key)).collect(),
                is_filtered: false,
            }
            .render(Some(order)))
            p.empty {
                "The id is derived from the key: the same key has the same id on each server."
            }
        }
    }
}

fn key_row(key: &ListedKey<'_>) -> [TableCell; 3] {
    let (id, sources) = (key.id, key.sources.join(", "));
    let shown_id = html! {
        @match id {
            Some(id) => code data-copy="" { (id) },
            None => "without one: it was not generated here",
        }
    };
    let shown_sources = if sources.is_empty() { "any address" } else { &sources };
    [
        TableCell::text(key.name, html! { strong { (printable(key.name)) } }),
        TableCell::text(id.unwrap_or_default(), shown_id),
        TableCell::text(&sources, html! { (shown_sources) }),
    ]
}

fn tenant_table(series: Option<&RequestSeries>, order: TableOrder<'_>) -> Markup {
    let counts = series.map(RequestSeries::tenant_counts).unwrap_or_default();
    html! {
        @if counts.is_empty() {
            p.empty {
                "No request was counted by tenant. " code { "orchestrate_names = true" } " and "
                code { "orchestrate_tenants = 100" } " in " code { "[metrics]" }
                " count them. Each tenant is known from tokens only."
            }
        } @else {
            (ConsoleTable {
                columns: [
                    TableColumn::sorted("Tenant", "tenant"),
                    TableColumn::number("Requests", "requests"),
                    TableColumn::number("Refused", "refused"),
                ],
                rows: counts.iter().map(tenant_row).collect(),
                is_filtered: false,
            }
            .render(Some(order)))
            p.empty { code { "_" } " stands for checked requests without a tenant." }
        }
    }
}

fn tenant_row((tenant, count): &(String, TenantCount)) -> [TableCell; 3] {
    let number = |count: u64| TableCell::number(count, html! { (whole(count)) });
    let name = TableCell::text(tenant, html! { code { (printable(tenant)) } });
    [name, number(count.all), number(count.refused)]
}
