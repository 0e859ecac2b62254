//! The cache by the size of the working set, in random order, and by the share of
//! the traffic that it knows. `src/bin/cache.rs` decides; this tracks.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use countersign_bench::{
    Tokens, accepts, cached,
    order::{BATCH, Order, Presented},
    paired::Lookup,
    tables,
};
use criterion::{Bencher, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn working_sets(criterion: &mut Criterion) {
    let mut tokens = Tokens::make(0..1_000_000);
    // The largest first, so that they are signed once.
    for number in [1_000_000, 100_000, 1_000, 1] {
        tokens.keep(number);
        let verifier = cached(number * 6 / 5 + 1_000);
        tokens.iter().for_each(|token| assert!(accepts(&verifier, token)));
        let dashmap = tables::dashmap(&tokens);
        let mut measure = |name: &str, lookup: Lookup<'_>| {
            let (mut order, mut presented) = (Order::new(1), Presented::default());
            criterion.bench_function(&format!("cache/{number} tokens/{name}"), |bencher| {
                batches(bencher, &mut presented, lookup, |presented| {
                    presented.fill(&tokens, &mut order)
                });
            });
        };
        measure("countersign", &|token| accepts(&verifier, token));
        measure("dashmap", &|token| dashmap.contains_key(token));
    }
}

/// A thousand tokens that the cache knows, among others that come round so seldom
/// that it has long dropped them.
fn hit_ratios(criterion: &mut Criterion) {
    const KNOWN: usize = 1_000;
    let (known, others) = (Tokens::make(0..KNOWN), Tokens::make(KNOWN..KNOWN + 200_000));
    for percent in [0, 50, 90, 99, 100] {
        let verifier = cached(KNOWN * 2);
        (0..4).for_each(|_| known.iter().for_each(|token| assert!(accepts(&verifier, token))));
        let (mut order, mut presented, mut next) = (Order::new(1), Presented::default(), 0);
        criterion.bench_function(&format!("cache/{percent} % known"), |bencher| {
            let mut choose = || {
                if order.below(100) < percent {
                    return known.get(order.below(KNOWN));
                }
                next = (next + 1) % others.len();
                others.get(next)
            };
            batches(bencher, &mut presented, &|token| accepts(&verifier, token), |presented| {
                presented.fill_with(&mut choose)
            });
        });
    }
}

/// Times lookups of what lies ready, and not laying it ready.
fn batches(
    bencher: &mut Bencher<'_>,
    presented: &mut Presented,
    lookup: Lookup<'_>,
    mut fill: impl FnMut(&mut Presented),
) {
    bencher.iter_custom(|calls| {
        let (batch, mut spent) = (u64::try_from(BATCH).unwrap(), Duration::ZERO);
        // Whole batches only; what is more than asked for is taken off again.
        let batches = calls.div_ceil(batch);
        for _ in 0..batches {
            fill(presented);
            let start = Instant::now();
            presented.iter().for_each(|token| assert!(lookup(black_box(token))));
            spent += start.elapsed();
        }
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a share")]
        spent.mul_f64(calls as f64 / (batches * batch) as f64)
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    targets = working_sets, hit_ratios
}
criterion_main!(benches);
