//! Logging to standard error. Tokens and keys are never logged.

use std::{
    io::{self, IsTerminal as _, StderrLock, Write},
    iter::once,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::PIPE_BUF,
};
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, ParseError, Targets},
    fmt,
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use super::settings::LogFormat;

/// Starts logging to standard error, filtered by `COUNTERSIGN_LOG`, or by `level` without it.
/// Filters are as in `debug` or `countersign_server=trace`.
pub fn start_logging(level: &str, format: LogFormat) {
    let requested = requested_filter();
    let is_fixed = matches!(requested, Some(Ok(_)));
    let (error, filter) = match requested {
        Some(Ok(filter)) => (None, quiet_libraries(filter)),
        Some(Err(error)) => (Some(error), filter(level)),
        None => (None, filter(level)),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let log = fmt::layer().with_writer(|| NonBlockingStderr);
    let for_people = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    if for_people {
        registry.with(log.with_target(false).with_ansi(io::stderr().is_terminal())).init();
    } else {
        registry.with(log.json().flatten_event(true)).init();
    }
    if !is_fixed {
        // Logging starts once per process.
        let _first = FILTER.set(handle);
    }
    if let Some(error) = error {
        tracing::warn!(
            "{VARIABLE} is invalid, using {level}: {error}; write a filter such as debug or \
             warn,request=info"
        );
    }
}

/// The environment variable with a filter, which takes precedence over the configuration.
const VARIABLE: &str = "COUNTERSIGN_LOG";

/// The filter of the log. Absent if the environment fixes it.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Returns the filter of the environment, or the error in it.
#[expect(clippy::disallowed_methods, reason = "the environment sets the log filter")]
fn requested_filter() -> Option<Result<Targets, String>> {
    let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().map_err(|error: ParseError| error.to_string()))
}

/// Changes the level of the log after a reload, unless `COUNTERSIGN_LOG` sets it.
pub fn set_level(level: &str) {
    if let Some(handle) = FILTER.get() {
        // The layer lives as long as the process.
        let _ignored = handle.reload(filter(level));
    }
}

fn filter(level: &str) -> Targets {
    // The configuration is checked when it is read.
    let filter = level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    quiet_libraries(filter)
}

/// Suppresses library warnings that clients can cause at will, unless the filter enables debug
/// output, and a line for every query of the database, unless the filter names sqlx.
fn quiet_libraries(filter: Targets) -> Targets {
    let default = filter.default_level().unwrap_or(LevelFilter::OFF);
    let names_sqlx = filter.iter().any(|(target, _)| target.starts_with("sqlx"));
    let filter = if names_sqlx {
        filter
    } else {
        filter.with_target("sqlx", default.min(LevelFilter::WARN))
    };
    let levels = filter.iter().map(|(_, level)| level).chain([default]);
    if levels.max() > Some(LevelFilter::INFO) {
        return filter;
    }
    filter.with_target("h2", LevelFilter::ERROR).with_target("quinn_proto", LevelFilter::ERROR)
}

/// Non-blocking writer to standard error.
///
/// The reader may have stopped reading, and threads that serve requests must not wait for
/// it. Lines that do not fit into the pipe are dropped. Their number is logged with the
/// next line that fits.
///
/// # Synchronization
/// The atomics are relaxed. They are written under the lock of standard error, except for
/// the reset of [`DROPPED_LINES`], which may report a dropped line one report late.
struct NonBlockingStderr;

static DROPPED_LINES: AtomicU64 = AtomicU64::new(0);
/// Whether the last line was written only in part.
static HAS_PARTIAL_LINE: AtomicBool = AtomicBool::new(false);

impl Write for NonBlockingStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_written = write_line(&mut io::stderr().lock(), line)?;
        if !is_written {
            DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
        } else if let dropped @ 1.. = DROPPED_LINES.swap(0, Ordering::Relaxed) {
            tracing::warn!("dropped {dropped} log lines: the reader is too slow");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line. Returns whether all of it was written.
fn write_line(out: &mut StderrLock<'_>, line: &[u8]) -> io::Result<bool> {
    let pending_line_feed: &[u8] =
        if HAS_PARTIAL_LINE.load(Ordering::Relaxed) { b"\n" } else { b"" };
    // A writable pipe has room for at least PIPE_BUF bytes, so no chunk blocks.
    for part in once(pending_line_feed).chain(line.chunks(PIPE_BUF)).filter(|part| !part.is_empty())
    {
        if !is_writable(out) {
            return Ok(false);
        }
        out.write_all(part)?;
        HAS_PARTIAL_LINE.store(!part.ends_with(b"\n"), Ordering::Relaxed);
    }
    Ok(true)
}

fn is_writable(out: &StderrLock<'_>) -> bool {
    let mut descriptors = [PollFd::new(out, PollFlags::OUT)];
    // If polling fails, try to write.
    poll(&mut descriptors, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
}
