//! Memory, CPU time and core affinity of this process.

/// Returns the resident memory of this process in bytes (VmRSS).
///
/// # Panics
/// `/proc` is missing: this works on Linux only.
#[must_use]
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status")
        .expect("/proc/self/status is readable on Linux");
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kilobytes.map_or(0, |kilobytes: usize| kilobytes * 1024)
}

/// Binds this thread to one core of the machine.
///
/// # Panics
/// The machine has no such core.
#[cfg(feature = "peers")]
pub fn pin_to_core(core: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).expect("the machine has this core");
}

/// Returns the CPU time of this thread in seconds.
#[cfg(feature = "peers")]
#[must_use]
pub fn thread_cpu_seconds() -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let elapsed = clock_gettime(ClockId::ThreadCPUTime);
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "minutes at most")]
    let seconds = elapsed.tv_sec as f64 + elapsed.tv_nsec as f64 / 1e9;
    seconds
}
