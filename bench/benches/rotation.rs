//! A verification while nothing changes, and while another thread puts new sets of
//! 100 keys in place all the time. `src/bin/rotation.rs` decides; this tracks.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use countersign_bench::{NOW, hundred_keys, secret_token, tenant, verifier};
use countersign_engine::Algorithm;
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn rotation(criterion: &mut Criterion) {
    let [before, after] = hundred_keys();
    let (verifier, token) = (Arc::new(verifier(Algorithm::Hs256, before)), secret_token(&tenant(0), 1));
    let mut measure = |name: &str| {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| verifier.verify(black_box(token.as_bytes()), NOW).unwrap());
        });
    };
    measure("rotation/quiet");

    let (done, sets) =
        (Arc::new(AtomicBool::new(false)), [Arc::new(after), Arc::new(hundred_keys().into_iter().next().unwrap())]);
    let swapping = thread::spawn({
        let (verifier, done) = (Arc::clone(&verifier), Arc::clone(&done));
        move || {
            for set in sets.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                verifier.replace_keys(&tenant(0), set);
                thread::sleep(Duration::from_micros(500));
            }
        }
    });
    measure("rotation/100 keys swapped every half millisecond");
    done.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
}

criterion_group!(benches, rotation);
criterion_main!(benches);
