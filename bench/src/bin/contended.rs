//! Figures of several threads: two against one, and two while a third presents new tokens all the
//! time.
//!
//! Usage: `target/dist/contended`, on an otherwise idle machine with two cores. A loop over
//! registers runs in the same rounds: two hyper-threads of one core do not give that loop twice the
//! speed either.

use std::{
    hint::black_box,
    process::ExitCode,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use countersign_bench::{
    Tokens, accepts, budget, hits,
    machine::{pin_to_core, thread_cpu_seconds},
    order::SplitMix64,
    paired::report,
    verifier_caching,
};
use countersign_engine::Verifier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 41;
const PHASE: Duration = Duration::from_millis(50);
/// New tokens that the writer presents per second.
const NEW_PER_SECOND: f64 = 50_000.0;
/// More than all phases with a writer use.
const NEW_TOKENS: usize = 300_000;
/// Less than the writer presents in total, so that the cache is full and evicts.
const CACHED: usize = 50_000;

#[expect(clippy::print_stderr, reason = "the requirement")]
fn main() -> ExitCode {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("this benchmark needs two cores");
        return ExitCode::FAILURE;
    }
    let new =
        UnseenTokens { tokens: Tokens::make(1_000..1_000 + NEW_TOKENS), next: AtomicUsize::new(0) };
    for (number, words) in [(1, "1 token"), (1_000, "1,000 tokens")] {
        new.next.store(0, Ordering::Relaxed);
        scaling(number, words, &new);
    }
    ExitCode::SUCCESS
}

/// Runs rounds, each with every phase, so that the machine's speed is the same for all phases.
fn scaling(number: usize, words: &str, new: &UnseenTokens) {
    let (tokens, verifier) = (Tokens::make(0..number), verifier_caching(CACHED));
    for token in tokens.iter().chain(tokens.iter()) {
        assert!(accepts(&verifier, token), "a good token was rejected");
    }
    let own = [Tokens::make(0..number), tokens];
    let hitting = |core: usize| {
        // Each thread has its own copy of the tokens, as each worker of a server reads from its own
        // sockets.
        let (verifier, tokens) = (&verifier, &own[core]);
        let mut order = SplitMix64::new(u64::try_from(core).unwrap_or_default());
        move || (0..64).filter(|_| accepts(verifier, tokens.get(order.below(tokens.len())))).count()
    };
    let registers = |_| registers;
    let write = |stop: &AtomicBool| new.present(&verifier, stop);
    let idle = |_: &AtomicBool| ();
    let mut ratios = PhaseRatios::default();
    for _ in 0..ROUNDS {
        let (one_loop, two_loops) =
            (together([0], registers, idle), together([0, 1], registers, idle));
        let (one, two) = (together([0], hitting, idle), together([0, 1], hitting, idle));
        let beside = together([0, 1], hitting, write);
        ratios.registers.push(two_loops.per_second / one_loop.per_second);
        ratios.scaling.push(two.per_second / one.per_second);
        ratios
            .of_possible
            .push(two.per_second / one.per_second / (two_loops.per_second / one_loop.per_second));
        ratios.beside.push(beside.per_second / two.per_second);
        ratios.beside_cpu.push(beside.per_cpu_second / two.per_cpu_second);
    }
    ratios.report(words);
    // After all that the writer added.
    let known = own[0].iter().filter(|token| hits(&verifier, token)).count();
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a count for a figure")]
    budget::print(
        &format!("hits of two threads, {words}"),
        known as f64 / number as f64,
        &format!("{known} of {number}"),
    );
}

/// Ratios of the rounds, by phase.
#[derive(Default)]
struct PhaseRatios {
    registers: Vec<f64>,
    scaling: Vec<f64>,
    of_possible: Vec<f64>,
    beside: Vec<f64>,
    beside_cpu: Vec<f64>,
}

impl PhaseRatios {
    fn report(self, words: &str) {
        report(&format!("two threads / one, registers beside {words}"), self.registers, "");
        report(&format!("two threads / one, {words}"), self.scaling, "");
        report(&format!("two threads / one, {words}, over registers"), self.of_possible, "");
        report(&format!("beside a writer / without, {words}"), self.beside, "");
        report(&format!("beside a writer / without, {words}, by CPU time"), self.beside_cpu, "");
    }
}

/// Calls of the threads of one phase together.
struct Rate {
    calls: f64,
    per_second: f64,
    /// By the CPU time that the threads had.
    per_cpu_second: f64,
}

/// Runs one worker on each of these cores for a [`PHASE`], and `other` on any core. A call of a
/// worker's function makes some verifications and returns how many were right.
fn together<const N: usize, W>(
    cores: [usize; N],
    worker: impl Fn(usize) -> W + Sync,
    other: impl Fn(&AtomicBool) + Send,
) -> Rate
where
    W: FnMut() -> usize,
{
    let (start, stop) = (Barrier::new(N + 1), AtomicBool::new(false));
    let (start, stop, worker) = (&start, &stop, &worker);
    thread::scope(|scope| {
        let workers = cores.map(|core| {
            scope.spawn(move || {
                pin_to_core(core);
                let work = worker(core);
                start.wait();
                work_for(PHASE, work)
            })
        });
        scope.spawn(move || {
            start.wait();
            other(stop);
        });
        let rates = workers.map(|worker| worker.join().expect("a worker of good tokens"));
        stop.store(true, Ordering::Relaxed);
        rates.into_iter().fold(
            Rate { calls: 0.0, per_second: 0.0, per_cpu_second: 0.0 },
            |sum, rate| Rate {
                calls: sum.calls + rate.calls,
                per_second: sum.per_second + rate.per_second,
                per_cpu_second: sum.per_cpu_second + rate.per_cpu_second,
            },
        )
    })
}

fn work_for(time: Duration, mut work: impl FnMut() -> usize) -> Rate {
    let (begin, cpu) = (Instant::now(), thread_cpu_seconds());
    let mut calls = 0;
    while begin.elapsed() < time {
        let right = work();
        assert_eq!(right, 64, "a good token was rejected");
        calls += right;
    }
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a count for a rate")]
    let calls = calls as f64;
    Rate {
        calls,
        per_second: calls / begin.elapsed().as_secs_f64(),
        per_cpu_second: calls / (thread_cpu_seconds() - cpu),
    }
}

/// Only arithmetic: eight independent chains, so that the loop uses the whole width of a core and
/// shows whether there are two.
fn registers() -> usize {
    let mut chains = black_box([1u64, 2, 3, 4, 5, 6, 7, 8]);
    for _ in 0..64 {
        for chain in &mut chains {
            *chain = (*chain ^ (*chain >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    black_box(chains);
    64
}

/// Tokens that have not been presented before.
struct UnseenTokens {
    tokens: Tokens,
    next: AtomicUsize,
}

impl UnseenTokens {
    /// Presents [`NEW_PER_SECOND`] tokens a second until `stop` is set. It runs on a thread that
    /// mostly sleeps; the time it takes from the other threads' cores counts against them.
    fn present(&self, verifier: &Verifier, stop: &AtomicBool) {
        let begin = Instant::now();
        let mut presented = 0.0;
        while !stop.load(Ordering::Relaxed) {
            while presented < begin.elapsed().as_secs_f64() * NEW_PER_SECOND {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                assert!(accepts(verifier, self.tokens.get(index)), "a new token was rejected");
                presented += 1.0;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let due = begin.elapsed().as_secs_f64() * NEW_PER_SECOND;
        assert!(presented >= due * 0.8, "the writer did not keep up: {presented} of {due}");
    }
}
