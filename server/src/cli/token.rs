//! The commands about tokens.

use clap::{Args, Subcommand};

use super::{TokenCreateArgs, TokenDeleteArgs, TokenListArgs};
use crate::{
    config::ClientType,
    surface::inmanta::{CLIENT_TYPES_CLAIM, ENVIRONMENT_CLAIM},
};

/// Tokens. Not `Debug`: one may be among the arguments.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Sign a token with the section that has sign = true.
    #[command(after_help = "Examples:
  countersign token sign --client-type api --expire 3600
  countersign token sign --client-type agent --env 11111111-1111-1111-1111-111111111111 --idempotent")]
    Sign(SignArgs),
    /// Sign a token for everything that expires in an hour.
    #[command(
        after_help = "Example:\n  curl -H \"Authorization: Bearer $(countersign token bootstrap)\" http://127.0.0.1:8888/auth"
    )]
    Bootstrap,
    /// Have a running server issue a token for an environment.
    #[command(after_help = "\
The token is for client type api unless said otherwise.

Examples:
  countersign token create --environment prod --api
  countersign token create -e 11111111-1111-1111-1111-111111111111 --agent --expire 86400 --host orchestrator.example")]
    Create(TokenCreateArgs),
    /// List the tokens that a running server has issued for an environment.
    #[command(after_help = "Example:\n  countersign token list --environment prod --json")]
    List(TokenListArgs),
    /// Have a running server revoke a token that it has issued.
    #[command(after_help = "\
What `token list` shows as revoked is refused from then on. For tokens of
others, and without a server, there is `token revoke`.

Example:
  countersign token delete -e prod 5f0c4f0e-8f0e-4a5c-9d3a-2f6f1c1f9a11")]
    Delete(TokenDeleteArgs),
    /// Show in words what a token says, without trusting it.
    #[command(
        after_help = "Example:\n  countersign token sign --client-type api | countersign token inspect"
    )]
    Inspect {
        /// The token; read from standard input if it is not given.
        token: Option<String>,
    },
    /// Revoke tokens, at once and for every server that uses this state directory.
    #[command(after_help = "\
A token says itself what is to be revoked. Without one, name what is meant.

Examples:
  countersign token revoke \"$TOKEN\" --config auth.cfg
  countersign token revoke --issuer https://idp.example/ --subject bob
  countersign token revoke --issuer https://idp.example/ --kid leaked-key
  countersign token revoke --issued-before 1700000000")]
    Revoke(RevokeArgs),
    /// Verify tokens from standard input, one a line; one line of JSON for each.
    #[command(after_help = "\
Lines are never trimmed: an empty line is an empty token.

Example:
  countersign token verify --config server.cfg --now 1700000000 < tokens.txt")]
    Verify {
        /// The moment to verify at, in seconds since 1970; the present unless said otherwise.
        #[arg(long, value_name = "UNIX", allow_negative_numbers = true)]
        now: Option<u64>,
    },
}

/// Which tokens to revoke. Not `Debug`: one may be among the arguments.
#[derive(Args)]
pub struct RevokeArgs {
    /// The token, which must be genuine; - reads it from standard input.
    #[arg(conflicts_with_all = ["issuer", "jti", "subject", "kid", "issued_before", "signing_input_sha256", "until"])]
    pub token: Option<String>,
    /// The issuer of the tokens meant.
    #[arg(long, value_name = "ISSUER")]
    pub issuer: Option<String>,
    /// One token, by its id (jti).
    #[arg(long, value_name = "ID")]
    pub jti: Option<String>,
    /// Every token of a subject (sub) issued before a moment, or until now.
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Every token signed with the key of this id.
    #[arg(long, value_name = "ID")]
    pub kid: Option<String>,
    /// Seconds since 1970: tokens issued from then on are not meant.
    #[arg(long, value_name = "UNIX")]
    pub issued_before: Option<u64>,
    /// One token, by the SHA-256 of everything before its last dot, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    pub signing_input_sha256: Option<String>,
    /// Seconds since 1970: none of the tokens is alive from then on, so that the
    /// revocation may be forgotten.
    #[arg(long, value_name = "UNIX")]
    pub until: Option<u64>,
}

/// What a token is to say.
#[derive(Args, Debug)]
pub struct SignArgs {
    /// What its bearer is: agent, compiler or api. May be given more than once.
    #[arg(long = "client-type", value_name = "TYPE", required = true, value_delimiter = ',')]
    pub client_types: Vec<ClientType>,
    /// The environment it is scoped to.
    #[arg(long = "env", short = 'e', value_name = "ID")]
    pub environment: Option<String>,
    /// Its lifetime in seconds; what the section says unless said otherwise.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "idempotent")]
    pub expire: Option<u32>,
    /// Leave every date out: the same request gives the same token.
    #[arg(long)]
    pub idempotent: bool,
    /// A further claim, a text. May be given more than once.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = named_value)]
    pub claims: Vec<(String, String)>,
}

/// The claims that are not for `--claim` to set.
const RESERVED_CLAIMS: [&str; 7] =
    ["aud", CLIENT_TYPES_CLAIM, ENVIRONMENT_CLAIM, "exp", "iat", "iss", "nbf"];

fn named_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if RESERVED_CLAIMS.contains(&name) {
        return Err(format!(
            "{name} is set by the section, or by --client-type, --env and --expire"
        ));
    }
    Ok((name.into(), value.into()))
}
