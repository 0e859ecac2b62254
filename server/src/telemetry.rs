//! Logs, on standard error. No token and no key is ever among them.

use std::{env::VarError, error::Error as _, io::IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging to standard error. `COUNTERSIGN_LOG` filters, as in `debug` or
/// `countersign_server=trace`.
pub fn start_logging(format: LogFormat) {
    let asked = EnvFilter::try_from_env("COUNTERSIGN_LOG");
    let fault = asked.as_ref().err().filter(|error| !error.source().is_some_and(|error| error.is::<VarError>()));
    let fault = fault.map(ToString::to_string);
    let filter = asked.unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let for_people = match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    if for_people {
        log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    } else {
        log.json().flatten_event(true).init();
    }
    if let Some(fault) = fault {
        tracing::warn!("COUNTERSIGN_LOG cannot be read, so it is info: {fault}; write one such as debug or warn,request=info");
    }
}
