//! Tracks a verification while nothing changes, and while another thread installs new sets of 100
//! keys all the time. Claims are decided by `src/bin/rotation.rs`.

use std::{hint::black_box, time::Duration};

use countersign_bench::{
    accepts, cache_bytes, cached_verifier, hs256_token, hundred_keys, tenant, verifier,
    with_key_replacement,
};
use countersign_engine::Algorithm;
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn rotation(criterion: &mut Criterion) {
    let token = hs256_token(&tenant(0), 1);
    let [first, second] = hundred_keys();
    let cold = verifier(Algorithm::Hs256, first);
    let cached = cached_verifier(Algorithm::Hs256, second, cache_bytes(1_000));
    for (how, verifier) in [("cold", &cold), ("cached", &cached)] {
        let mut measure = |name: &str| {
            criterion.bench_function(&format!("rotation/{how}, {name}"), |bencher| {
                bencher.iter(|| assert!(accepts(verifier, black_box(token.as_bytes()))));
            });
        };
        measure("quiet");
        with_key_replacement(verifier, || measure("100 keys replaced every half millisecond"));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(50);
    targets = rotation
}
criterion_main!(benches);
