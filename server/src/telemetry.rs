//! Logs, on standard error. No token and no key is ever among them.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error: lines for people on a terminal, JSON
/// otherwise. `COUNTERSIGN_LOG` filters, as in `debug` or `countersign_server=trace`.
pub fn start_logging() {
    let filter = EnvFilter::try_from_env("COUNTERSIGN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
}
