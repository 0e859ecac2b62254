//! What the system says about this process.

/// The bytes of memory this process occupies.
///
/// # Panics
/// There is no `/proc`, as everywhere but on Linux.
#[must_use]
pub fn resident_bytes() -> usize {
    let status =
        std::fs::read_to_string("/proc/self/status").expect("Linux says what a process occupies");
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kilobytes.map_or(0, |kilobytes: usize| kilobytes * 1024)
}

/// Binds this thread to one of the machine's cores.
///
/// # Panics
/// There are not so many.
#[cfg(feature = "peers")]
pub fn stay_on(core: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).expect("a core of this number");
}

/// The CPU time that this thread has spent, in seconds.
#[cfg(feature = "peers")]
#[must_use]
pub fn thread_seconds() -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a time of minutes")]
    let seconds = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
    seconds
}
