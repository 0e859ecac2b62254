//! Arguments of the `token` commands.

use clap::{Args, Subcommand};
use countersign_engine::CertificateThumbprint;
use serde_json::Value;

use super::{TokenCreateArgs, TokenDeleteArgs, TokenListArgs};
use crate::{
    auth::profile::Profile,
    base::claims::{CLIENT_TYPES_CLAIM, ClientType, ENVIRONMENT_CLAIM},
};

/// Commands for tokens. Not [`Debug`], because an argument may be a token.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Sign a token with the section that has sign = true.
    #[command(after_help = "Examples:
  countersign token sign --client-type api --expire 3600
  countersign token sign --client-type agent --environment 11111111-1111-1111-1111-111111111111 --idempotent")]
    Sign(SignArgs),
    /// Sign a token for all client types that expires in an hour.
    #[command(
        after_help = "Example:\n  curl -H \"Authorization: Bearer $(countersign token bootstrap)\" http://127.0.0.1:8888/auth"
    )]
    Bootstrap,
    /// Issue a token for an environment, by a running server.
    #[command(after_help = "\
The default client type is api.

Examples:
  countersign token create --environment prod --api
  countersign token create -e 11111111-1111-1111-1111-111111111111 --agent --expire 86400 --host orchestrator.example")]
    Create(TokenCreateArgs),
    /// List the tokens that a running server has issued for an environment.
    #[command(after_help = "Example:\n  countersign token list --environment prod --json")]
    List(TokenListArgs),
    /// Revoke a token that a running server has issued.
    #[command(after_help = "\
The server refuses the token from then on, and `token list` shows it as revoked. Use
`token revoke` for tokens of other issuers, and without a running server.

Example:
  countersign token delete -e prod 5f0c4f0e-8f0e-4a5c-9d3a-2f6f1c1f9a11")]
    Delete(TokenDeleteArgs),
    /// Show the contents of a token without verifying it.
    #[command(
        after_help = "Example:\n  countersign token sign --client-type api | countersign token inspect"
    )]
    Inspect {
        /// The token (default: read from standard input, where other users cannot see it).
        token: Option<String>,
    },
    /// Show every check of a token: what the configuration expects, what the token has, and the
    /// line that decides.
    #[command(
        after_help = "Example:\n  echo \"$TOKEN\" | countersign token explain --config server.cfg"
    )]
    Explain {
        /// The token (default: read from standard input, where other users cannot see it).
        token: Option<String>,
        /// How it is verified.
        #[command(flatten)]
        how: VerifyArgs,
    },
    /// Revoke tokens for every server that uses this state directory.
    #[command(after_help = "\
Give one token to revoke it, or use the options to revoke a set of tokens.

Examples:
  echo \"$TOKEN\" | countersign token revoke - --config auth.cfg
  countersign token revoke --issuer https://idp.example/ --subject bob
  countersign token revoke --identity 11111111-1111-1111-1111-111111111111
  countersign token revoke --issuer https://idp.example/ --kid leaked-key
  countersign token revoke --issued-before 1700000000")]
    Revoke(RevokeArgs),
    /// Verify tokens from standard input, one per line; print one line of JSON for each.
    #[command(after_help = "\
Lines are not trimmed: an empty line is an empty token.

Example:
  countersign token verify --config server.cfg --now 1700000000 < tokens.txt")]
    Verify(VerifyArgs),
}

/// How a token is verified.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Time of verification, in seconds since 1970 (default: now).
    #[arg(long, value_name = "UNIX", allow_negative_numbers = true)]
    pub now: Option<u64>,
    /// SHA-256 of the certificate (DER) of the client that presents the token, in base64url: the
    /// value of x5t#S256 in tokens bound to it.
    #[arg(long, value_name = "THUMBPRINT", value_parser = thumbprint, allow_hyphen_values = true)]
    pub certificate_thumbprint: Option<CertificateThumbprint>,
    /// Surface whose answers are given: generic, or inmanta, which demands more of a token.
    #[arg(long, value_name = "NAME", default_value = "generic", value_parser = surface)]
    pub surface: Profile,
}

fn surface(name: &str) -> Result<Profile, &'static str> {
    let named = Profile::ALL.into_iter().find(|profile| profile.name() == name);
    named.ok_or("the surfaces are generic and inmanta")
}

fn thumbprint(text: &str) -> Result<CertificateThumbprint, &'static str> {
    CertificateThumbprint::parse(text).ok_or("write the 43 characters of base64url without padding")
}

/// Arguments of `token revoke`. Not [`Debug`], because an argument may be a token.
#[derive(Args)]
pub struct RevokeArgs {
    /// The token, whose signature must be valid; - reads it from standard input, where other
    /// users cannot see it.
    #[arg(conflicts_with_all = [
        "issuer", "jti", "subject", "kid", "environment", "issued_before", "signing_input_sha256",
        "until", "identity",
    ])]
    pub token: Option<String>,
    /// Issuer (iss) of the tokens.
    #[arg(long, value_name = "ISSUER")]
    pub issuer: Option<String>,
    /// One token, by its id (jti).
    #[arg(long, value_name = "ID")]
    pub jti: Option<String>,
    /// All tokens of a subject (sub) issued before --issued-before, or until the end of this
    /// second.
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// All access tokens of a machine identity, by its id, issued before --issued-before, or until
    /// the end of this second. It can log in again.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = ["issuer", "jti", "subject", "kid", "environment"]
    )]
    pub identity: Option<String>,
    /// All tokens signed with the key of this id (kid).
    #[arg(long, value_name = "ID")]
    pub kid: Option<String>,
    /// All tokens scoped to an environment, for ever.
    #[arg(long, value_name = "ID")]
    pub environment: Option<String>,
    /// Only tokens issued before this time, in seconds since 1970.
    #[arg(long, value_name = "UNIX")]
    pub issued_before: Option<u64>,
    /// One token, by the SHA-256 of everything before its last dot, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    pub signing_input_sha256: Option<String>,
    /// Time when all these tokens have expired, in seconds since 1970; the revocation is
    /// deleted then.
    #[arg(long, value_name = "UNIX")]
    pub until: Option<u64>,
}

/// Arguments of `token sign`.
#[derive(Args, Debug)]
pub struct SignArgs {
    /// Client type: agent, compiler or api; repeatable.
    #[arg(long = "client-type", value_name = "TYPE", required = true, value_delimiter = ',')]
    pub client_types: Vec<ClientType>,
    /// Id of the environment that the token is scoped to.
    #[arg(long, short, value_name = "ID")]
    pub environment: Option<String>,
    /// Lifetime in seconds (default: expire of the signing section).
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "idempotent")]
    pub expire: Option<u32>,
    /// Omit all dates, so that the same request gives the same token.
    #[arg(long)]
    pub idempotent: bool,
    /// Additional claim with a text value; repeatable.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = named_value)]
    pub claims: Vec<(String, String)>,
    /// Additional claim with a value in JSON, such as an object; repeatable.
    #[arg(long = "claim-json", value_name = "NAME=JSON", value_parser = named_json)]
    pub json_claims: Vec<(String, Value)>,
}

/// Claims that `--claim` and `--claim-json` must not set.
const RESERVED_CLAIMS: [&str; 7] =
    ["aud", CLIENT_TYPES_CLAIM, ENVIRONMENT_CLAIM, "exp", "iat", "iss", "nbf"];

fn named_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if RESERVED_CLAIMS.contains(&name) {
        return Err(format!(
            "{name} is reserved: the section, --client-type, --environment and --expire set it"
        ));
    }
    Ok((name.into(), value.into()))
}

fn named_json(text: &str) -> Result<(String, Value), String> {
    let (name, json) = named_value(text)?;
    // The error of the parser has a position, but none of the text.
    let value = serde_json::from_str(&json).map_err(|error| format!("not JSON: {error}"))?;
    Ok((name, value))
}
