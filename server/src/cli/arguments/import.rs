//! Arguments of `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::import::source::SourceAddress;

/// Commands for the contents of other servers.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Copy users, roles, projects, environments and registered tokens of an Inmanta server.
    #[command(after_help = "\
The command reads the PostgreSQL database of that server (18.1 or later), which may run
meanwhile, and writes to the database of the configuration, whose servers may run too. It
can be repeated: what was changed or deleted here stays so. Copy the section that signs
tokens, with its key, into the configuration first.

The address of the database is read from --from-file, from COUNTERSIGN_IMPORT_FROM, or
from --from. Other users of the machine see arguments, so --from takes no password: that of
PGPASSWORD or ~/.pgpass is used.

Examples:
  countersign import inmanta --from-file source.txt --dry-run --config /etc/countersign/
  countersign import inmanta --config /etc/countersign/ \\
      --from postgres://inmanta@db.example/inmanta?sslmode=verify-full")]
    Inmanta(ImportArgs),
}

/// Arguments of `import inmanta`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Address of the PostgreSQL database, without a password.
    #[arg(long, value_name = "URL", value_parser = source_without_password)]
    pub from: Option<SourceAddress>,
    /// File with the address of the PostgreSQL database.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub from_file: Option<PathBuf>,
    /// Print what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

fn source_without_password(text: &str) -> Result<SourceAddress, String> {
    let address = SourceAddress::parse(text)?;
    if address.has_password {
        return Err(
            "arguments are visible to other users of the machine, so the address must not \
                    contain a password: write it to a file for --from-file, or set PGPASSWORD"
                .into(),
        );
    }
    Ok(address)
}
