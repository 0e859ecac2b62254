//! Figures of this process, as the operating system has them (proc(5)).

use std::{io::Read as _, path::Path};

use rustix::{
    fs::{Dir, Mode, OFlags, open},
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use crate::base::watched_file::open_regular;

/// Figures of this process. Those that the system does not provide are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Processor time in user and system mode, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Time of the start, in seconds since 1970.
    pub start_time: Option<f64>,
    /// Number of threads.
    pub threads: Option<u64>,
    /// Number of open file descriptors.
    pub open_fds: Option<u64>,
    /// Limit of open file descriptors.
    pub max_fds: Option<u64>,
}

impl ProcessFigures {
    /// Reads the figures.
    #[must_use]
    pub fn read() -> Self {
        let ticks = clock_ticks_per_second();
        let booted_at = text("/proc/stat").and_then(|stat| boot_time(&stat));
        let of_stat = text("/proc/self/stat").and_then(|stat| {
            Self::of_stat(&stat, ticks, u64::try_from(page_size()).ok()?, booted_at)
        });
        Self {
            open_fds: count_open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
            ..of_stat.unwrap_or_default()
        }
    }

    /// Parses `/proc/self/stat`. The name of the program is in parentheses, and may contain spaces
    /// and further parentheses.
    fn of_stat(stat: &str, ticks: u64, page: u64, booted_at: Option<u64>) -> Option<Self> {
        /// Number of the first field after the name.
        const STATE: usize = 3;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - STATE)?.parse::<u64>().ok();
        let seconds = |count: u64| count as f64 / ticks as f64;
        Some(Self {
            cpu_seconds: Some(seconds(field(14)?.checked_add(field(15)?)?)),
            threads: field(20),
            start_time: booted_at.zip(field(22)).map(|(at, after)| at as f64 + seconds(after)),
            virtual_bytes: field(23),
            resident_bytes: field(24)?.checked_mul(page),
            ..Self::default()
        })
    }
}

/// Parses the time at which the system was started from `/proc/stat`, in seconds since 1970.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn text(path: &str) -> Option<String> {
    /// `/proc/stat` has a line for each core, and one with a number for each interrupt.
    const MAX_BYTES: u64 = 1 << 20;
    let mut text = String::new();
    open_regular(Path::new(path)).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Counts the open file descriptors, without the one that it needs itself.
fn count_open_fds() -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open("/proc/self/fd", flags, Mode::empty()).ok()?;
    let entries = Dir::new(directory).ok()?.filter_map(Result::ok);
    let count = entries.filter(|entry| !entry.file_name().to_bytes().starts_with(b".")).count();
    u64::try_from(count.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_figures_are_fields_of_proc_stat() {
        let stat = "41 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 12 18 700 4096 3 1844\n";
        let figures = ProcessFigures::of_stat(stat, 100, 4096, Some(1_700_000_000));
        let expected = ProcessFigures {
            cpu_seconds: Some(2.0),
            resident_bytes: Some(12_288),
            virtual_bytes: Some(4096),
            start_time: Some(1_700_000_007.0),
            threads: Some(12),
            ..ProcessFigures::default()
        };
        assert_eq!(figures, Some(expected));
        let unknown_boot = ProcessFigures::of_stat(stat, 100, 4096, None);
        assert_eq!(unknown_boot, Some(ProcessFigures { start_time: None, ..expected }));
        for stat in ["", "41 (a", "41 (a) S 1 2 3"] {
            assert_eq!(ProcessFigures::of_stat(stat, 100, 4096, None), None, "{stat}");
        }
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\nprocesses 5\n"), Some(1_700_000_000));
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }

    #[test]
    fn own_figures_are_plausible() {
        let figures = ProcessFigures::read();
        let now = crate::base::clock::now().0 as f64;
        assert!(figures.start_time.is_some_and(|at| at <= now + 1.0 && at > now - 86_400.0));
        assert!(figures.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{figures:?}");
        assert!(figures.virtual_bytes > figures.resident_bytes, "{figures:?}");
        assert!(figures.threads.is_some_and(|threads| threads >= 2), "{figures:?}");
        let before = figures.open_fds.unwrap();
        let _open = open("/proc/self/fd", OFlags::RDONLY, Mode::empty()).unwrap();
        assert!(ProcessFigures::read().open_fds.unwrap() > before - 3, "{figures:?}");
        assert!(figures.max_fds.is_none_or(|limit| limit > before), "{figures:?}");
    }
}
