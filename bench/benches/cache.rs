//! Tracks the cache by working-set size, in random order, and by hit ratio. Claims are decided by
//! `src/bin/cache.rs`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use countersign_bench::{
    Tokens, accepts,
    order::{BATCH, SplitMix64, TokenBatch},
    paired::Lookup,
    tables, verifier_caching,
};
use criterion::{Bencher, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn working_sets(criterion: &mut Criterion) {
    let mut tokens = Tokens::make(0..1_000_000);
    // The largest set first, so that tokens are signed once.
    for number in [1_000_000, 100_000, 1_000, 1] {
        tokens.truncate(number);
        let verifier = verifier_caching(number * 6 / 5 + 1_000);
        tokens.iter().for_each(|token| assert!(accepts(&verifier, token)));
        let dashmap = tables::dashmap(&tokens);
        let mut measure = |name: &str, lookup: Lookup<'_>| {
            let (mut order, mut batch) = (SplitMix64::new(1), TokenBatch::default());
            criterion.bench_function(&format!("cache/{number} tokens/{name}"), |bencher| {
                batches(bencher, &mut batch, lookup, |batch| batch.fill(&tokens, &mut order));
            });
        };
        measure("countersign", &|token| accepts(&verifier, token));
        measure("dashmap", &|token| dashmap.contains_key(token));
    }
}

/// Measures a thousand cached tokens among others that recur so rarely that the cache has evicted
/// them by then.
fn hit_ratios(criterion: &mut Criterion) {
    const KNOWN: usize = 1_000;
    let (known, others) = (Tokens::make(0..KNOWN), Tokens::make(KNOWN..KNOWN + 200_000));
    for percent in [0, 50, 90, 99, 100] {
        let verifier = verifier_caching(KNOWN * 2);
        (0..4).for_each(|_| known.iter().for_each(|token| assert!(accepts(&verifier, token))));
        let (mut order, mut batch, mut next) = (SplitMix64::new(1), TokenBatch::default(), 0);
        criterion.bench_function(&format!("cache/{percent} % known"), |bencher| {
            let mut choose = || {
                if order.below(100) < percent {
                    return known.get(order.below(KNOWN));
                }
                next = (next + 1) % others.len();
                others.get(next)
            };
            batches(bencher, &mut batch, &|token| accepts(&verifier, token), |batch| {
                batch.fill_with(&mut choose)
            });
        });
    }
}

/// Times the lookups of a [`TokenBatch`], without filling it.
fn batches(
    bencher: &mut Bencher<'_>,
    batch: &mut TokenBatch,
    lookup: Lookup<'_>,
    mut fill: impl FnMut(&mut TokenBatch),
) {
    bencher.iter_custom(|calls| {
        let (batch_size, mut elapsed) = (u64::try_from(BATCH).unwrap(), Duration::ZERO);
        // Whole batches only; the time is scaled down to the calls asked for.
        let batches = calls.div_ceil(batch_size);
        for _ in 0..batches {
            fill(batch);
            let start = Instant::now();
            batch.iter().for_each(|token| assert!(lookup(black_box(token))));
            elapsed += start.elapsed();
        }
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a share")]
        elapsed.mul_f64(calls as f64 / (batches * batch_size) as f64)
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    targets = working_sets, hit_ratios
}
criterion_main!(benches);
