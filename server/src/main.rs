//! The `countersign` binary: parse the command line, run the command.

use std::process::ExitCode;

use clap::Parser as _;
use countersign_server::{cli::Cli, command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::run(Cli::parse())
}
