//! One verifier, several threads: readers that hit, beside writers that present
//! tokens nobody has seen, on as many cores as there are. A row is the time of one
//! hit as one reader sees it: it stays the same where nothing is contended.
//! `src/bin/contended.rs` decides; this tracks.

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use countersign_bench::{Tokens, accepts, cached, machine::stay_on, order::Order};
use countersign_engine::Verifier;
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SET: usize = 1_000;

fn contended(criterion: &mut Criterion) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (set, new) = (Tokens::make(0..SET), Tokens::make(SET..SET + 200_000));
    let verifier = cached(50_000);
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
                            let spent = read(&verifier, &set, readers, calls);
                            done.store(true, Ordering::Relaxed);
                            spent
                        })
                    });
                },
            );
        }
    }
}

/// So many hits by each reader, and the time of the slowest.
fn read(verifier: &Verifier, set: &Tokens, readers: usize, calls: u64) -> Duration {
    let start = Barrier::new(readers);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..readers)
            .map(|core| {
                let start = &start;
                scope.spawn(move || {
                    stay_on(core);
                    let mut order = Order::new(u64::try_from(core).unwrap());
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

/// Fifty new tokens a millisecond; the last of them come round when the first have
/// long been dropped.
fn present(verifier: &Verifier, new: &Tokens, next: &AtomicUsize, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        for _ in 0..50 {
            let place = next.fetch_add(1, Ordering::Relaxed) % new.len();
            assert!(accepts(verifier, new.get(place)));
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
