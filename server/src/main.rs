//! The `countersign` binary: parses the command line and runs the command.

use std::process::ExitCode;

use countersign_server::cli::{self, arguments::Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::from_arguments(std::env::args_os()) {
        Ok(cli) => cli::run(cli),
        Err(error) => error.exit(),
    }
}
