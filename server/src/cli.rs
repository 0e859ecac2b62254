//! The command line.

mod remote;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_engine::Algorithm;

pub use remote::{
    AssignmentArgs, ClientConfigArgs, EnvironmentArgs, EnvironmentCommand, LoginArgs, RoleArgs,
    RoleCommand, ServerArgs, TokenCreateArgs, TokenDeleteArgs, TokenListArgs, UserArgs,
    UserCommand,
};
pub use token::{RevokeArgs, SignArgs, TokenCommand};

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
    /// Check that clients reach the server as configured, that their tokens are good, and
    /// that servers on one database accept the same.
    #[command(after_help = "\
Looks at each *_rest_transport section, and at the servers in [database]. Exit code 1 if
something is wrong.

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
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "write a number from 0 to 1".into())
}
