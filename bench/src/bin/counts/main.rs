//! Instructions of verification and of the server's `/auth`.
//!
//! Usage: `target/dist/counts` after `cargo build --profile dist -p countersign-bench
//! --no-default-features --bin counts`.

mod scenarios;
mod fixture;

use std::process::ExitCode;

use countersign_bench::counts;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> counts::Result<ExitCode> {
    counts::main(&scenarios::SCENARIOS)
}
