//! Cost of a decision by route, as the ratio to the cached verification before it. There are 1,000
//! routes, each with a scope, a client type, and a condition of its own.
//!
//! Usage: `taskset -c 1 target/dist/routes`, on an otherwise idle machine.

use std::hint::black_box;

use countersign_bench::{NOW, cache_bytes, paired::compare, routes::RoutedRequest};
use countersign_server::authorization::routes::RouteMatch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let given = RoutedRequest::new(1_000, cache_bytes(1_000));
    let token = given.token.as_bytes();
    let verify = || given.verifier.verify(black_box(token), NOW).is_ok();
    let verified = given.verifier.verify(token, NOW).expect("a good token");
    let decide = || given.allows(black_box(&given.target), &verified);
    compare("a decision among 1,000 routes / a cached verification", &decide, &verify);
    let find =
        || matches!(given.table().find("GET", black_box(&given.target)), RouteMatch::Token(_));
    compare("finding one of 1,000 routes / a cached verification", &find, &verify);
}
