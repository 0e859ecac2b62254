//! The command line.

mod remote;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_engine::Algorithm;

use crate::{
    config::ClientType,
    surface::inmanta::{CLIENT_TYPES_CLAIM, ENVIRONMENT_CLAIM},
};

pub use remote::{
    AssignmentArgs, ClientConfigArgs, EnvironmentArgs, EnvironmentCommand, LoginArgs, RoleArgs, RoleCommand, ServerArgs,
    TokenCreateArgs, TokenDeleteArgs, TokenListArgs, UserArgs, UserCommand,
};

/// Verifies bearer tokens for reverse proxies and applications.
#[derive(Parser)]
#[command(
    name = "countersign",
    version,
    max_term_width = 100,
    after_help = "\
Without a command it serves. Without --config it serves an embedded default: a
state directory with a generated signing key, and a token to try it with.

Examples:
  countersign
  countersign serve --config /etc/countersign/ --threads 4
  countersign config check --config server.cfg --config auth.cfg
  countersign token sign --client-type api --expire 3600
  echo \"$TOKEN\" | countersign token verify --config server.cfg

Environment:
  INMANTA_<SECTION>_<OPTION>  overrides an option of the configuration
  COUNTERSIGN_STATE_DIR       the state directory; else below XDG_STATE_HOME or ~/.local/state
  HTTPS_PROXY, NO_PROXY, ...  the way to key providers
  COUNTERSIGN_LOG             what is logged: error, warn, info (default), debug, trace

Exit codes: 0 done, 1 it could not be done, 2 the command line or the
configuration is wrong. Refused tokens are answers, not failures."
)]
pub struct Cli {
    /// Configuration files (.cfg or .toml) or directories of them; later ones win.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Vec<PathBuf>,

    /// Where revocations are kept, and what the embedded default makes up.
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub serve: ServeArgs,

    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Serve requests (what happens without a command, too).
    #[command(after_help = "Example:\n  countersign serve --config /etc/countersign/ --threads 4")]
    Serve(ServeArgs),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Sign, read and verify tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Verify signatures below the level of claims.
    #[command(subcommand)]
    Jws(JwsCommand),
    /// Make keys, and see how those of the issuers stand.
    #[command(subcommand, visible_alias = "key")]
    Keys(KeysCommand),
    /// Set the first user up, who is an administrator, on the machine of the server.
    #[command(after_help = "\
Asks what it has to know. Refuses if there are users already, and prints a section
that signs tokens if the configuration has none.

Examples:
  countersign setup --config /etc/inmanta/inmanta.d/
  printf '%s\\n' \"$PASSWORD\" | countersign setup --config /etc/inmanta/inmanta.d/ --yes --username admin --password-stdin")]
    Setup(SetupArgs),
    /// Manage the users of a running server.
    User(UserArgs),
    /// Manage the roles of a running server, and who has them.
    Role(RoleArgs),
    /// Manage the environments of a running server.
    Environment(EnvironmentArgs),
    /// Print the section by which a client reaches the server, with a token in it.
    #[command(after_help = "\
The server issues the token, asked by way of [cmdline_rest_transport], or with
--local this command signs it.

Examples:
  countersign client-config --agent -e prod --config /etc/inmanta/inmanta.d/
  countersign client-config --compiler -e 11111111-1111-1111-1111-111111111111 --local --remote")]
    ClientConfig(ClientConfigArgs),
    /// Check that clients reach the server as configured, and that their tokens are good.
    #[command(after_help = "\
Looks at each *_rest_transport section. Exit code 1 if something is wrong.

Example:
  countersign doctor --config /etc/inmanta/inmanta.d/")]
    Doctor,
    /// Log in at a running server, and print the token that it gives.
    #[command(after_help = "Example:\n  countersign login alice --host orchestrator.example")]
    Login(LoginArgs),
    /// Look after the database of users, roles and tokens.
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Write a deterministic load-test corpus.
    ///
    /// Its keys are part of this program and known to everyone.
    #[command(after_help = "\
Writes tokens.txt, expected.txt (200 or 401, a line a token), jwks.json and
countersign.cfg, which serves on the default port.

Example:
  countersign corpus --alg RS256 --count 200 --out corpus --valid 0.9
  countersign serve --config corpus/countersign.cfg")]
    Corpus(CorpusArgs),
}

/// How to serve.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Threads that serve requests; one per core unless said otherwise.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// Looking at the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Explain what the configuration means, or everything that is wrong with it.
    #[command(after_help = "Example:\n  countersign config check --config /etc/inmanta/inmanta.d/")]
    Check,
}

/// Looking after the database.
#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Bring its schema to the version that this program needs.
    ///
    /// A server does so when it starts, unless `migrate = false` in `[database]`.
    #[command(after_help = "Example:\n  countersign database migrate --config server.cfg")]
    Migrate,
}

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
    #[command(after_help = "Example:\n  countersign token sign --client-type api | countersign token inspect")]
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

/// Signatures.
#[derive(Debug, Subcommand)]
pub enum JwsCommand {
    /// Verify compact JWS from standard input, one a line; one line of JSON for each.
    #[command(after_help = "\
Payloads may be anything. A key without alg is refused: it could be made to
serve an algorithm its owner never meant.

Example:
  countersign jws verify --jwks keys.json < tokens.txt")]
    Verify {
        /// A JWK Set, or a single JWK.
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
    },
}

/// Keys and secrets.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Print a fresh HS256 key for an auth_jwt section.
    #[command(after_help = "Example:\n  echo \"key=$(countersign key generate)\" >> auth.cfg")]
    Generate,
    /// Print a fresh secret for a client that may revoke tokens, and its line for `[api_clients]`.
    #[command(after_help = "Example:\n  countersign key client deployer")]
    Client {
        /// The name it will call itself by.
        #[arg(value_parser = client_name)]
        name: String,
    },
    /// Ask the running server how the keys of each issuer stand.
    #[command(after_help = "\
The server is asked at its listener for metrics, which the configuration names.

Examples:
  countersign keys status --config auth.cfg
  countersign keys status --url http://127.0.0.1:8082/keys --json")]
    Status {
        /// Where to ask, if not where the configuration says.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Answers to what setting up asks.
#[derive(Args, Debug)]
pub struct SetupArgs {
    /// It runs on the machine of the server: do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// The name of the user: do not ask.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Read the password from standard input, even if that is a terminal.
    #[arg(long)]
    pub password_stdin: bool,
}

/// What a corpus is to hold.
#[derive(Args, Debug)]
pub struct CorpusArgs {
    /// The algorithm of its tokens, such as RS256.
    #[arg(long, value_parser = algorithm)]
    pub alg: Algorithm,
    /// How many tokens.
    #[arg(long, value_name = "N")]
    pub count: usize,
    /// The directory to write to, made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The share of tokens that are good, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub valid: f64,
}

/// The claims that are not for `--claim` to set.
const RESERVED_CLAIMS: [&str; 7] = ["aud", CLIENT_TYPES_CLAIM, ENVIRONMENT_CLAIM, "exp", "iat", "iss", "nbf"];

fn named_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if RESERVED_CLAIMS.contains(&name) {
        return Err(format!("{name} is set by the section, or by --client-type, --env and --expire"));
    }
    Ok((name.into(), value.into()))
}

fn client_name(name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err("use letters, digits, `-`, `_` and `.`".into());
    }
    Ok(name.into())
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Algorithm::ALL.iter().map(|one| one.name()).collect();
        format!("choose one of {}", names.join(", "))
    })
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "write a number from 0 to 1".into())
}
