//! Logging to standard error. Tokens and keys are never logged.

use std::{
    env::VarError,
    error::Error as _,
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
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::settings::LogFormat;

/// Starts logging to standard error, filtered by `COUNTERSIGN_LOG`, or by `level` without it.
/// Filters are as in `debug` or `countersign_server=trace`.
pub fn start_logging(level: &str, format: LogFormat) {
    let requested = EnvFilter::try_from_env(VARIABLE);
    let error = requested
        .as_ref()
        .err()
        .filter(|error| !error.source().is_some_and(|error| error.is::<VarError>()));
    let error = error.map(ToString::to_string);
    let is_fixed = requested.is_ok();
    let filter = requested.map_or_else(|_| filter(level), quiet_libraries);
    let log = tracing_subscriber::fmt().with_writer(|| NonBlockingStderr);
    let for_people = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    if for_people {
        let log = log.with_target(false).with_ansi(io::stderr().is_terminal());
        let log = log.with_env_filter(filter).with_filter_reloading();
        let handle = log.reload_handle();
        log.init();
        keep_filter(is_fixed, move |filter| drop(handle.reload(filter)));
    } else {
        let log = log.json().flatten_event(true).with_env_filter(filter).with_filter_reloading();
        let handle = log.reload_handle();
        log.init();
        keep_filter(is_fixed, move |filter| drop(handle.reload(filter)));
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

/// Replaces the filter of the log. Absent if the environment fixes the filter.
static REPLACE_FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

fn keep_filter(is_fixed: bool, replace: impl Fn(EnvFilter) + Send + Sync + 'static) {
    if !is_fixed {
        // Logging starts once per process.
        let _first = REPLACE_FILTER.set(Box::new(replace));
    }
}

/// Changes the level of the log after a reload, unless `COUNTERSIGN_LOG` sets it.
pub fn set_level(level: &str) {
    if let Some(replace) = REPLACE_FILTER.get() {
        replace(filter(level));
    }
}

fn filter(level: &str) -> EnvFilter {
    // The configuration is checked when it is read.
    quiet_libraries(EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info")))
}

/// Suppresses library warnings that clients can cause at will, unless the filter enables
/// debug output.
fn quiet_libraries(filter: EnvFilter) -> EnvFilter {
    if filter.max_level_hint().is_none_or(|most| most > LevelFilter::INFO) {
        return filter;
    }
    let libraries = ["h2=error", "quinn_proto=error"].map(str::parse);
    libraries.into_iter().flatten().fold(filter, EnvFilter::add_directive)
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
