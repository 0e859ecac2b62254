//! Resident memory of the processes, over time.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use countersign_tests::process::resident_bytes;

use super::{site::SoakProxies, target::FaultList};

/// Shortest test whose memory is judged. In a shorter one, caches still fill.
const MIN_JUDGED: Duration = Duration::from_secs(600);
/// Growth of a quarter's median that is a fault.
const MAX_GROWTH: f64 = 1.10;
const INTERVAL: Duration = Duration::from_secs(1);

/// Memory of the processes, in bytes.
pub(super) struct MemoryRecord {
    start: Instant,
    /// Process of the server; 0 while it is stopped.
    pub(super) server: AtomicU32,
    samples: Mutex<[Vec<(Duration, u64)>; ROLES.len()]>,
}

/// Processes by their role.
const ROLES: [&str; 4] = ["server", "nginx, master", "nginx, worker", "Envoy"];

/// Medians of a role.
pub(super) struct MemoryGrowth {
    pub(super) role: &'static str,
    pub(super) second_quarter: u64,
    pub(super) last_quarter: u64,
}

impl MemoryRecord {
    pub(super) fn new(start: Instant, server: u32) -> Self {
        Self { start, server: AtomicU32::new(server), samples: Mutex::default() }
    }

    /// Takes samples, and checks that the proxies run and pass on the right subjects, until the end.
    pub(super) fn watch(&self, proxies: &SoakProxies, faults: &FaultList, end: &AtomicBool) {
        while !end.load(Ordering::Relaxed) {
            self.sample(proxies, faults);
            proxies.check_subjects(faults);
            thread::sleep(INTERVAL);
        }
    }

    fn sample(&self, proxies: &SoakProxies, faults: &FaultList) {
        let master = resident_bytes(proxies.nginx.running.process());
        let envoy = resident_bytes(proxies.envoy.proxy.running.process());
        for (role, memory) in [(ROLES[1], master), (ROLES[3], envoy)] {
            if memory.is_none() {
                faults.add(&format!("{role} has ended"));
            }
        }
        let workers = proxies.workers();
        let workers = workers.iter().filter_map(|worker| resident_bytes(*worker)).max();
        // It may be killed at the same time.
        let server = self.server.load(Ordering::Relaxed);
        let server = (server > 0).then(|| resident_bytes(server)).flatten();
        let mut samples = self.samples.lock().unwrap();
        for (samples, bytes) in samples.iter_mut().zip([server, master, workers, envoy]) {
            samples.extend(bytes.map(|bytes| (self.start.elapsed(), bytes)));
        }
    }

    /// Returns the medians of all roles, and whether they may be judged.
    pub(super) fn growth(&self, duration: Duration, faults: &FaultList) -> Vec<MemoryGrowth> {
        let samples = self.samples.lock().unwrap();
        let growth = ROLES.into_iter().zip(samples.iter()).map(|(role, samples)| {
            let quarter =
                |number| median(samples, duration * number / 4..duration * (number + 1) / 4);
            MemoryGrowth { role, second_quarter: quarter(1), last_quarter: quarter(3) }
        });
        let growth: Vec<_> = growth.collect();
        for MemoryGrowth { role, second_quarter, last_quarter } in &growth {
            let is_more = *last_quarter as f64 > *second_quarter as f64 * MAX_GROWTH;
            if duration >= MIN_JUDGED && is_more {
                faults.add(&format!("{role} grew from {second_quarter} to {last_quarter} bytes"));
            }
        }
        growth
    }
}

/// Returns the median of the samples in a time, or 0 without any.
fn median(samples: &[(Duration, u64)], time: std::ops::Range<Duration>) -> u64 {
    let within = samples.iter().filter(|(at, _)| time.contains(at));
    let mut within: Vec<_> = within.map(|(_, bytes)| *bytes).collect();
    within.sort_unstable();
    within.get(within.len() / 2).copied().unwrap_or(0)
}
