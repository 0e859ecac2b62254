//! Logs, on standard error. No token and no key is ever among them.

use std::{
    env::VarError,
    error::Error as _,
    io::{self, IsTerminal as _, StderrLock, Write},
    iter::once,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::PIPE_BUF,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::config::LogFormat;

/// Starts logging to standard error. `COUNTERSIGN_LOG` filters, as in `debug` or
/// `countersign_server=trace`.
pub fn start_logging(format: LogFormat) {
    let asked = EnvFilter::try_from_env("COUNTERSIGN_LOG");
    let fault = asked
        .as_ref()
        .err()
        .filter(|error| !error.source().is_some_and(|error| error.is::<VarError>()));
    let fault = fault.map(ToString::to_string);
    let filter = quiet_libraries(asked.unwrap_or_else(|_| EnvFilter::new("info")));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| NonBlockingStderr);
    let for_people = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    if for_people {
        log.with_target(false).with_ansi(io::stderr().is_terminal()).init();
    } else {
        log.json().flatten_event(true).init();
    }
    if let Some(fault) = fault {
        tracing::warn!(
            "COUNTERSIGN_LOG cannot be read, so it is info: {fault}; write one such as debug or warn,request=info"
        );
    }
}

/// Leaves out what libraries warn of that any client can bring about as often as it likes,
/// unless everything is asked for.
fn quiet_libraries(filter: EnvFilter) -> EnvFilter {
    if filter.max_level_hint().is_none_or(|most| most > LevelFilter::INFO) {
        return filter;
    }
    let libraries = ["h2=error", "quinn_proto=error"].map(str::parse);
    libraries.into_iter().flatten().fold(filter, EnvFilter::add_directive)
}

/// Standard error, written to only where there is room. Whoever reads it may have
/// stopped reading, and the threads that serve requests are not to wait for that: lines
/// that do not fit are lost, and how many is said when others fit again.
///
/// # Synchronization
/// The numbers are relaxed: they are changed under the lock of standard error, but for
/// telling, which may tell one line late.
struct NonBlockingStderr;

static DROPPED_LINES: AtomicU64 = AtomicU64::new(0);
/// Whether the last line went out without its end.
static HAS_PARTIAL_LINE: AtomicBool = AtomicBool::new(false);

impl Write for NonBlockingStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_written = write_line(&mut io::stderr().lock(), line)?;
        if !is_written {
            DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
        } else if let lost @ 1.. = DROPPED_LINES.swap(0, Ordering::Relaxed) {
            tracing::warn!("{lost} lines of the log are lost: whoever reads it did not");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says whether the line is out.
fn write_line(out: &mut StderrLock<'_>, line: &[u8]) -> io::Result<bool> {
    let end_of_the_last: &[u8] = if HAS_PARTIAL_LINE.load(Ordering::Relaxed) { b"\n" } else { b"" };
    // Where there is room at all, so much fits without waiting.
    for part in once(end_of_the_last).chain(line.chunks(PIPE_BUF)).filter(|part| !part.is_empty()) {
        if !is_writable(out) {
            return Ok(false);
        }
        out.write_all(part)?;
        HAS_PARTIAL_LINE.store(!part.ends_with(b"\n"), Ordering::Relaxed);
    }
    Ok(true)
}

fn is_writable(out: &StderrLock<'_>) -> bool {
    let mut asked = [PollFd::new(out, PollFlags::OUT)];
    // What cannot be asked is written to.
    poll(&mut asked, Some(&Timespec::default())).map_or(true, |answered| answered > 0)
}
