//! Tracks one verifier shared by several threads: readers that hit, and writers that present new
//! tokens, on all cores. A row is the time of one hit as one reader sees it. Without contention it
//! does not grow with the number of threads. Claims are decided by `src/bin/contended.rs`.

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use countersign_bench::{
    Tokens, accepts, machine::pin_to_core, order::SplitMix64, verifier_caching,
};
use countersign_engine::Verifier;
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SET: usize = 1_000;

fn contended(criterion: &mut Criterion) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (set, new) = (Tokens::make(0..SET), Tokens::make(SET..SET + 200_000));
    let verifier = verifier_caching(50_000);
    set.iter().for_each(|token| assert!(accepts(&verifier, token)));
    let next = AtomicUsize::new(0);
    for readers in (0..).map(|power| 1 << power).take_while(|readers| *readers <= cores) {
        for writers in [0, 1] {
            criterion.bench_function(
                &format!("contended/{readers} readers, {writers} writers, {cores} cores"),
                |bencher| {
                    bencher.iter_custom(|calls| {
                        let done = AtomicBool::new(false);
                        thread::scope(|scope| {
                            (0..writers).for_each(|_| {
                                drop(scope.spawn(|| present(&verifier, &new, &next, &done)))
                            });
                            let elapsed = read(&verifier, &set, readers, calls);
                            done.store(true, Ordering::Relaxed);
                            elapsed
                        })
                    });
                },
            );
        }
    }
}

/// Makes each reader hit `calls` times, and returns the time of the slowest.
fn read(verifier: &Verifier, set: &Tokens, readers: usize, calls: u64) -> Duration {
    let start = Barrier::new(readers);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..readers)
            .map(|core| {
                let start = &start;
                scope.spawn(move || {
                    pin_to_core(core);
                    let mut order = SplitMix64::new(u64::try_from(core).unwrap());
                    start.wait();
                    let begin = Instant::now();
                    for _ in 0..calls {
                        assert!(accepts(verifier, black_box(set.get(order.below(SET)))));
                    }
                    begin.elapsed()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap_or_default()
    })
}

/// Presents fifty new tokens a millisecond. Tokens repeat only long after the cache has evicted
/// them.
fn present(verifier: &Verifier, new: &Tokens, next: &AtomicUsize, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        for _ in 0..50 {
            let index = next.fetch_add(1, Ordering::Relaxed) % new.len();
            assert!(accepts(verifier, new.get(index)));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    targets = contended
}
criterion_main!(benches);
