//! Arguments of the `routes` commands.

use clap::{Args, Subcommand};

use super::VerifyArgs;

/// Commands for rules by route. Not [`Debug`], because an argument may be a token.
#[derive(Subcommand)]
pub enum RoutesCommand {
    /// Show which route decides about a request, and whether a token meets its requirements.
    #[command(after_help = "\
The exit code is 0 if the request is allowed, and 1 if it is denied.

Examples:
  countersign routes explain GET /api/orders/7 --config server.cfg
  echo \"$TOKEN\" | countersign routes explain GET /api/orders/7 --token - --config server.cfg")]
    Explain(ExplainRouteArgs),
}

/// Arguments of `routes explain`. Not [`Debug`], because an argument may be a token.
#[derive(Args)]
pub struct ExplainRouteArgs {
    /// Method of the request, in capitals.
    pub method: String,
    /// Path of the request, as the client would write it.
    pub path: String,
    /// The token of the request; - reads it from standard input, where other users cannot see it
    /// (default: a request without a token).
    #[arg(long)]
    pub token: Option<String>,
    /// The listener that is asked, such as main (default: all with authorization = routes).
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// `X-Tenant-ID` of the request, on a listener with the orchestrate surface.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub tenant: String,
    /// How the token is verified.
    #[command(flatten)]
    pub how: VerifyArgs,
}
