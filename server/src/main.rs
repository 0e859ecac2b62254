//! The `countersign` binary: parses the command line and runs the command.

use std::process::ExitCode;

use clap::Parser as _;
use countersign_server::cli::{self, arguments::Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
