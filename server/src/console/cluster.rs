//! The servers that share the database: versions, heartbeats, and differences of their settings.

use countersign_engine::UnixTime;
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
    text::moment,
};
use crate::{
    base::{clock, printable::printable, reply::Body},
    cluster::{
        comparison::{ACTIVE_WINDOW_SECONDS, ServerDifference, VERSION, differences},
        digest::config_digests,
    },
    store::servers::{ConfigDigests, ServerRun},
};

const PATH: &str = "/console/cluster";
const PAGE: AdministratorPage =
    AdministratorPage { title: "Cluster", path: PATH, right: "see the servers" };
/// Age in seconds up to which servers without a heartbeat are listed.
const SHOWN_SECONDS: u64 = 24 * 3600;

/// Returns the page.
///
/// # Errors
/// The user may not read it, or the database cannot be queried.
pub(super) async fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    PAGE.check(context, user)?;
    let store = &context.api.users.ok_or(ConsoleError::Unavailable)?.store;
    let query = request::query(request);
    let now = clock::now();
    let since = UnixTime(now.0.saturating_sub(SHOWN_SECONDS));
    let servers = store.servers_active_since(since).await?;
    let found = compare(context, &servers, now);
    let content = html! {
        h1 { "Cluster" }
        (sentence(&servers, &found, now))
        @if servers.is_empty() {
            p.empty {
                "No server has recorded a heartbeat yet. Each does so within 30 seconds of its \
                 start; all servers with the same " code { "url" } " in " code { "[database]" }
                " are listed here."
            }
        } @else {
            (server_table(&servers, now).render(Some(TableOrder { path: PATH, query: &query })))
        }
        (difference_list(&found))
        (as_command("countersign doctor --config FILE"))
    };
    Ok(PAGE.respond(user, StatusCode::OK, &content))
}

fn is_active(server: &ServerRun, now: UnixTime) -> bool {
    now.0.saturating_sub(server.seen_at.0) < ACTIVE_WINDOW_SECONDS
}

/// Compares the active servers of this version, and this one as it is configured.
fn compare(
    context: &ConsoleContext<'_>,
    servers: &[ServerRun],
    now: UnixTime,
) -> Vec<ServerDifference> {
    let compared = servers.iter().filter(|one| is_active(one, now) && one.version == VERSION);
    let compared: Vec<_> = compared.cloned().collect();
    let sources = context.api.authenticator.keys.all();
    let own = config_digests(sources.iter().map(|source| source.section()));
    let api_keys = context.api.auth.api_key_ids();
    differences(&compared, &ConfigDigests { api_keys, ..own })
}

fn sentence(servers: &[ServerRun], found: &[ServerDifference], now: UnixTime) -> Markup {
    let count = servers.iter().filter(|one| is_active(one, now)).count();
    let versions = servers.iter().filter(|one| is_active(one, now) && one.version != VERSION);
    let others = versions.count();
    let running = if count == 1 { "1 server runs".into() } else { format!("{count} servers run") };
    html! {
        p.sentence {
            (running) " on this database. "
            @if found.is_empty() {
                span.state data-state="good" { "✓ No difference in issuers, keys and API keys." }
            } @else {
                span.state data-state="bad" {
                    "✗ "
                    a href="#differences" {
                        (found.len())
                        @if found.len() == 1 { " difference" } @else { " differences" }
                    }
                    "."
                }
            }
            @if others > 0 {
                " " span.state data-state="warning" {
                    "! " (others) " of another version, which are not compared."
                }
            }
        }
    }
}

fn server_table(servers: &[ServerRun], now: UnixTime) -> ConsoleTable<5> {
    ConsoleTable {
        columns: [
            TableColumn::sorted("Server", "server"),
            TableColumn::sorted("State", "state"),
            TableColumn::sorted("Version", "version"),
            TableColumn::sorted("Started", "started"),
            TableColumn::sorted("Last seen", "seen"),
        ],
        rows: servers.iter().map(|server| row(server, now)).collect(),
        is_filtered: false,
    }
}

fn row(server: &ServerRun, now: UnixTime) -> [TableCell; 5] {
    let is_active = is_active(server, now);
    let state = html! {
        @if is_active {
            span.state data-state="good" { "✓ runs" }
        } @else {
            span.state data-state="warning" { "! no heartbeat" }
        }
    };
    let version = html! {
        (printable(&server.version))
        @if server.version != VERSION { " (this is " (VERSION) ")" }
    };
    [
        TableCell::text(&server.name, html! { strong { (printable(&server.name)) } }),
        TableCell::number(is_active.into(), state),
        TableCell::text(&server.version, version),
        TableCell::number(server.started_at.0, moment(server.started_at, now)),
        TableCell::number(server.seen_at.0, moment(server.seen_at, now)),
    ]
}

fn difference_list(found: &[ServerDifference]) -> Markup {
    html! {
        @if !found.is_empty() {
            section #differences {
                h2 { "Differences" }
                @for ServerDifference { text, help } in found {
                    p {
                        span.state data-state="bad" { "✗ " (text) }
                        br; span.empty { (help) }
                    }
                }
            }
        }
    }
}
