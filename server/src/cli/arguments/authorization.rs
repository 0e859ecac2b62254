//! Arguments of the commands about authorization.

use std::path::PathBuf;

use clap::Subcommand;

/// Commands about endpoints.
#[derive(Subcommand)]
pub enum EndpointsCommand {
    /// Print the endpoints of an OpenAPI document.
    #[command(after_help = "\
The extensions x-auth-label, x-client-types, x-read-only and x-environment-param of an
operation, its path or the document set its properties.

Example:
  countersign endpoints import openapi.json > /etc/countersign/endpoints.json")]
    Import {
        /// The document: OpenAPI 3 in JSON.
        #[arg(value_name = "FILE")]
        document: PathBuf,
        /// Put before all paths (default: the path of the first server in the document).
        #[arg(long, value_name = "PATH")]
        base_path: Option<String>,
    },
}
