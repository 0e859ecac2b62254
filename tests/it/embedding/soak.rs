//! Both modules under load while keys change, tokens are revoked, and processes are replaced and
//! killed. Each answer is compared with the right ones at its time.

/// The answers that are right at a time.
mod answers;
mod disturbances;
mod memory;
mod report;
mod site;
mod target;
mod tokens;

use std::{
    env,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use self::{
    disturbances::DisturbanceDriver,
    memory::MemoryRecord,
    report::SoakReport,
    site::{SoakProxies, SoakSite},
    target::FaultList,
    tokens::TokenPool,
};

/// Kept connections to each proxy.
const CONNECTIONS: u32 = 8;

/// Length and load of a soak test.
#[derive(Clone, Copy, Debug)]
struct SoakOptions {
    /// At least. Each disturbance happens once.
    duration: Duration,
    /// Requests a second, to each proxy.
    rate: f64,
    /// Longest time between two disturbances.
    pause: Duration,
    seed: u64,
}

/// Runs a test and returns its report.
fn run(options: SoakOptions) -> SoakReport {
    let (site, issuers) = SoakSite::create();
    let server = site.serve();
    let proxies = SoakProxies::start(&site.of_proxies());
    let start = Instant::now();
    let (faults, end) = (FaultList::new(start), AtomicBool::new(false));
    let targets = proxies.targets(&faults);
    let memory = MemoryRecord::new(start, server.process());
    let keys = issuers.iter().filter_map(|issuer| issuer.keys.last().map(Arc::clone));
    let pool = TokenPool::new(keys.collect());
    let mut random = fastrand::Rng::with_seed(options.seed);
    let interval = Duration::from_secs(1).mul_f64(f64::from(CONNECTIONS) / options.rate);
    let counts = thread::scope(|scope| {
        let _end = EndOnDrop(&end);
        scope.spawn(|| memory.watch(&proxies, &faults, &end));
        for target in &targets {
            for _ in 0..CONNECTIONS {
                let (seed, pool, end) = (random.u64(..), &pool, &end);
                scope.spawn(move || target.load(pool, seed, interval, end));
            }
        }
        let disturber = DisturbanceDriver {
            site: &site,
            issuers,
            server: Some(server),
            proxies: &proxies,
            targets: &targets,
            pool: &pool,
            memory: &memory,
            faults: &faults,
            random: random.fork(),
            youngest_worker: start,
        };
        disturber.run(start + options.duration, options.pause)
    });
    let duration = start.elapsed();
    proxies.check_subjects(&faults);
    proxies.check_logs(counts.killed_workers, &faults);
    let growth = memory.growth(duration, &faults);
    SoakReport::new(options, duration, &targets, &counts, growth, &faults)
}

/// Ends the load, also when a check panics.
struct EndOnDrop<'s>(&'s AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn modules_answer_rightly_while_all_changes() {
    let pause = Duration::from_millis(100);
    let report = run(SoakOptions { duration: Duration::ZERO, rate: 60.0, pause, seed: 1 });
    assert!(report.is_good(), "{report}");
}

#[test]
#[ignore = "takes an hour: run tests/soak"]
#[expect(clippy::print_stdout, reason = "the report")]
fn modules_answer_rightly_for_an_hour() {
    let options = SoakOptions {
        duration: Duration::from_secs(60).mul_f64(option("SOAK_MINUTES", 60.0)),
        rate: option("SOAK_RATE", 300.0),
        pause: Duration::from_secs(4),
        seed: option("SOAK_SEED", 1),
    };
    let report = run(options);
    println!("{report}");
    assert!(report.is_good());
}

/// Returns an option of `tests/soak`.
fn option<T: FromStr>(name: &str, default: T) -> T {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name} is not a number"));
    env::var(name).map_or(default, parse)
}
