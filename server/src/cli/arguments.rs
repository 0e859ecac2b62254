//! Command line arguments.

mod audit;
mod authorization;
mod identity;
mod import;
mod load_test;
mod policy;
mod remote;
mod routes;
mod serve;
mod server_url;
mod token;

use std::{ffi::OsString, path::PathBuf};

pub use audit::{AuditArgs, AuditSince};
pub use authorization::EndpointsCommand;
use clap::{
    Args, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue},
};
pub use identity::{
    CertificateArgs, IdentityArgs, IdentityCommand, LoginMethod, SecretArgs, TermsArgs,
    UniversalArgs,
};
pub use import::{ImportArgs, ImportCommand};
pub use load_test::{CorpusArgs, LoadTestArgs, LoadTestCommand, ServeProfile};
pub use policy::{PolicyCommand, PolicyInputArgs};
pub use remote::{
    AssignmentArgs, ClientConfigArgs, EnvironmentArgs, EnvironmentCommand, KeysRefreshArgs,
    LoginArgs, LogoutArgs, ProjectArgs, ProjectCommand, RoleArgs, RoleCommand, ServerArgs,
    TokenCreateArgs, TokenDeleteArgs, TokenListArgs, UserArgs, UserCommand,
};
pub use routes::{ExplainRouteArgs, RoutesCommand};
pub use serve::{IssuerArgs, ServeCommandArgs};
pub use server_url::{ServerUrl, server_url};
pub use token::{RevokeArgs, SignArgs, TokenCommand, VerifyArgs};

use crate::{base::redacted::shown, config::host};

/// Verifies bearer tokens for reverse proxies and applications.
#[derive(Parser)]
#[command(
    name = "countersign",
    version,
    max_term_width = 100,
    after_help = "\
Without a command, it runs the server. Without --config, the server uses an embedded
default configuration: a state directory with a generated signing key. It then prints
a token to try it with.

Examples:
  countersign
  countersign serve --config /etc/countersign/ --threads 4
  countersign config check --config server.cfg --config auth.cfg
  countersign token sign --client-type api --expire 3600
  echo \"$TOKEN\" | countersign token verify --config server.cfg

Environment:
  INMANTA_<SECTION>_<OPTION>  overrides an option of the configuration
  COUNTERSIGN_STATE_DIR       the state directory; the default is countersign in
                              XDG_STATE_HOME or ~/.local/state
  HTTPS_PROXY, NO_PROXY, ...  the proxy for requests to key providers
  COUNTERSIGN_SERVER          the URL of the server for commands such as user and token create;
                              the default is from the configuration
  COUNTERSIGN_TOKEN           the token for these commands; the default is that of login
  COUNTERSIGN_IMPORT_FROM     the database that import inmanta reads
  COUNTERSIGN_LOG             the log level: error, warn, info (default), debug, trace

Exit codes: 0 success, 1 failure, 2 invalid command line or configuration.
A refused token is a result, not a failure."
)]
pub struct Cli {
    /// Configuration file (.cfg or .toml) or directory of such files; repeatable, later ones win.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Vec<PathBuf>,

    /// State directory: revocations, and the files of the embedded default configuration.
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub serve: ServeArgs,

    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub command: Option<Command>,
}

impl Cli {
    /// Parses a command line.
    ///
    /// # Errors
    /// The command line is invalid, or asks for help. The error quotes an argument only if it
    /// cannot be a token, a key or a URL with a password.
    pub fn from_arguments<A: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments).map_err(|mut error| {
            // The address of `import` may have its password in any part.
            let names_source = matches!(
                error.get(ContextKind::InvalidArg),
                Some(ContextValue::String(argument)) if argument.starts_with("--from ")
            );
            for kind in
                [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
            {
                if let Some(ContextValue::String(text)) = error.get(kind) {
                    let is_value = kind == ContextKind::InvalidValue;
                    let has_password = text.contains('@') || (names_source && is_value);
                    let hidden = if has_password { "...".into() } else { shown(text).into_owned() };
                    if hidden != *text {
                        error.insert(kind, ContextValue::String(hidden));
                        // It quotes the argument, too.
                        error.remove(ContextKind::Suggested);
                    }
                }
            }
            error
        })
    }
}

/// Commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server (the default).
    #[command(after_help = "\
With --issuer, it verifies tokens of this issuer without a configuration file. The keys come
from URL/.well-known/openid-configuration.

With --profile loadtest, it is the target of a load test. Its keys are public, so it listens on
loopback only, and takes no configuration with issuers. See docs/loadtest.md.

Examples:
  countersign serve --config /etc/countersign/ --threads 4
  countersign serve --issuer https://idp.example --audience https://service.example/
  countersign serve --profile loadtest --algorithm EdDSA")]
    Serve(ServeCommandArgs),
    /// Check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Sign, inspect, verify, issue and revoke tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Explain the rules for requests by route.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Verify signatures without checking claims.
    #[command(subcommand)]
    Jws(JwsCommand),
    /// Generate keys, show the key status of the issuers, and fetch their keys.
    #[command(subcommand, visible_alias = "key")]
    Keys(KeysCommand),
    /// Create the first user, an administrator, on the machine of the server.
    #[command(after_help = "\
Asks for the name and password of the user. Fails if there are users already. Prints a
section that signs tokens if the configuration has none.

Examples:
  countersign setup --config /etc/inmanta/inmanta.d/
  printf '%s\\n' \"$PASSWORD\" | countersign setup --config /etc/inmanta/inmanta.d/ --yes --username admin --password-stdin")]
    Setup(SetupArgs),
    /// Manage the users of a running server.
    User(UserArgs),
    /// Manage the roles of a running server and their assignment to users.
    Role(RoleArgs),
    /// Manage the projects of a running server, to which environments belong.
    Project(ProjectArgs),
    /// Manage the environments of a running server.
    Environment(EnvironmentArgs),
    /// Manage the machine identities of a running server and their login methods.
    Identity(IdentityArgs),
    /// Print the configuration section of a client, with a new token.
    #[command(after_help = "\
The running server issues the token. With --local, the command signs the token itself.

Examples:
  countersign client-config --agent -e prod --config /etc/inmanta/inmanta.d/
  countersign client-config --compiler -e 11111111-1111-1111-1111-111111111111 --local --remote")]
    ClientConfig(ClientConfigArgs),
    /// Check that clients can connect, that their tokens are valid, and that all servers on
    /// one database accept the same tokens.
    #[command(after_help = "\
Checks each *_rest_transport section, and the servers recorded in [database]. The exit
code is 1 if a check fails.

Example:
  countersign doctor --config /etc/inmanta/inmanta.d/")]
    Doctor,
    /// Log in to a running server and store the session for later commands.
    #[command(after_help = "\
The token is stored in countersign/sessions in XDG_CONFIG_HOME or ~/.config, readable by you
only, and is sent to this server only. COUNTERSIGN_TOKEN and a token in
[cmdline_rest_transport] are used instead of it. If standard output is not a terminal, the
token is also printed.

Examples:
  countersign login alice --server https://auth.example
  TOKEN=$(printf '%s\\n' \"$PASSWORD\" | countersign login alice --print)")]
    Login(LoginArgs),
    /// Delete the stored session with a server.
    #[command(after_help = "Example:\n  countersign logout --server https://auth.example")]
    Logout(LogoutArgs),
    /// Print the audit log: logins, refused administrative calls, and administrative changes
    #[command(after_help = "\
The command reads the database of the server, so it runs on the server's machine, with its
--config or --state-dir.

Examples:
  countersign audit --since 7d --config /etc/inmanta/inmanta.d/
  countersign audit --user alice --outcome refused
  countersign audit --since 1h --json --follow")]
    Audit(AuditArgs),
    /// Make endpoint files.
    #[command(subcommand)]
    Endpoints(EndpointsCommand),
    /// Check, test and explain access policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Make certificates for the server.
    #[command(subcommand)]
    Cert(CertCommand),
    /// Check and repair stored revocations, while servers refuse all tokens because of them.
    #[command(subcommand)]
    Revocations(RevocationsCommand),
    /// Maintain the database of users, roles and tokens.
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Copy the contents of another server into the database.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Make the tokens of load tests.
    #[command(subcommand)]
    Loadtest(LoadTestCommand),
}

/// Options of the server.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Number of threads that serve requests (default: one per core).
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// Commands for the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Validate the configuration; print a summary, or all errors, with all warnings.
    #[command(after_help = "Example:\n  countersign config check --config /etc/inmanta/inmanta.d/")]
    Check,
    /// Print the reference of all sections and options, in Markdown.
    #[command(after_help = "\
Examples:
  countersign config reference
  countersign config reference listen")]
    Reference {
        /// Print this section only, without brackets.
        section: Option<String>,
    },
}

/// Commands for the database.
#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Migrate the schema to the version of this program.
    ///
    /// A server does this when it starts, unless `migrate = false` in `[database]`.
    #[command(after_help = "Example:\n  countersign database migrate --config server.cfg")]
    Migrate,
    /// Write a backup of users, roles, tokens and revocations to a file, while servers run.
    ///
    /// The file is as secret as the database. It can be restored into SQLite and PostgreSQL.
    #[command(after_help = "\
Everything is of one moment. The backup is complete when the file appears.

Example:
  countersign database backup /backup/countersign-$(date +%F).db --config server.cfg")]
    Backup {
        /// The file to write.
        file: PathBuf,
        /// Replace an earlier backup in the file.
        #[arg(long)]
        force: bool,
    },
    /// Confirm that the databases are the intended ones, after the server reported others.
    ///
    /// The state directory records which databases the server used. It logs an error when they are
    /// others, or lack what they had.
    #[command(after_help = "Example:\n  countersign database confirm --config server.cfg")]
    Confirm,
    /// Restore a backup into the database of the configuration.
    #[command(after_help = "\
All servers of the database must be stopped. Revocations of the database that the backup lacks
are kept.

Example:
  countersign database restore /backup/countersign-2026-01-31.db --config server.cfg")]
    Restore {
        /// A file of `database backup`.
        file: PathBuf,
        /// Restore this part of the backup only. Nothing else is changed, and no --force is needed.
        #[arg(long, value_name = "PART")]
        only: Option<BackupPart>,
        /// Replace the contents of the database.
        #[arg(long)]
        force: bool,
    },
}

/// A part of a backup.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackupPart {
    /// Revocations, which are added to those of the database.
    Revocations,
}

/// Commands for stored revocations.
#[derive(Debug, Subcommand)]
pub enum RevocationsCommand {
    /// Read every stored revocation, and print the problems.
    #[command(after_help = "\
The exit code is 1 if something is wrong.

Example:
  countersign revocations check --config server.cfg")]
    Check,
    /// Repair stored revocations. No revoked token becomes valid.
    #[command(after_help = "\
A damaged file is kept under another name, and a new one with all that can be read takes its
place. Records that cannot be parsed are moved to the table countersign_damaged_revocation.

Example:
  countersign revocations repair --config server.cfg")]
    Repair {
        /// If revocations are lost, revoke every token issued so far instead.
        #[arg(long)]
        revoke_issued_tokens: bool,
    },
}

/// Commands for signatures.
#[derive(Debug, Subcommand)]
pub enum JwsCommand {
    /// Verify compact JWS from standard input, one per line; print one line of JSON for each.
    #[command(after_help = "\
Payloads are arbitrary bytes. Keys without alg are rejected, because an attacker could
use them with an algorithm that their owner did not intend.

Example:
  countersign jws verify --jwks keys.json < tokens.txt")]
    Verify {
        /// A JWK Set, or a single JWK.
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
    },
}

/// Commands for keys and secrets.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Generate an HS256 key for an auth_jwt section.
    #[command(after_help = "Example:\n  echo \"key=$(countersign key generate)\" >> auth.cfg")]
    Generate,
    /// Generate a secret for a client that may revoke tokens and fetch keys, and its line for
    /// `[api_clients]`.
    #[command(after_help = "Example:\n  countersign key client deployer")]
    Client {
        /// The client's name.
        #[arg(value_parser = client_name)]
        name: String,
    },
    /// Show the key status of each issuer in a running server.
    #[command(after_help = "\
The command asks the metrics listener, whose address is in the configuration.

Examples:
  countersign keys status --config auth.cfg
  countersign keys status --url http://127.0.0.1:8082/keys --json")]
    Status {
        /// URL of the key status (default: from the configuration).
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch the keys of one section, or of all, in a running server now.
    #[command(after_help = "\
The command authenticates as a client of [api_clients]. The secret is that of
COUNTERSIGN_CLIENT_SECRET, or is asked for.

Example:
  countersign keys refresh auth_jwt_oidc --client deployer --config auth.cfg")]
    Refresh(KeysRefreshArgs),
    /// Put the next key of the section that signs in force, on all servers of the database.
    #[command(after_help = "\
It is refused while a running server does not verify the key yet. Afterwards it prints how and
when the old key is removed. Repeating it changes nothing.

Example:
  countersign keys rotate --config auth.cfg")]
    Rotate(KeysRotateArgs),
}

/// Arguments of `keys rotate`.
#[derive(Args, Debug)]
pub struct KeysRotateArgs {
    /// The section that signs (default: the one with sign = true).
    #[arg(long, value_name = "SECTION")]
    pub section: Option<String>,
    /// Rotate although a running server does not verify the key.
    #[arg(long)]
    pub force: bool,
}

/// Commands for certificates.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Make a certificate that is its own authority, and its key.
    #[command(after_help = "\
Writes tls.crt and tls.key (ECDSA P-256). Commands with the configuration of the server trust
the certificate. Other clients need a copy of tls.crt as their authority.

Examples:
  countersign cert self-signed localhost 127.0.0.1
  countersign cert self-signed auth.example --out /etc/countersign --days 90")]
    SelfSigned(SelfSignedArgs),
}

/// Arguments of `cert self-signed`.
#[derive(Args, Debug)]
pub struct SelfSignedArgs {
    /// Names and addresses of the server.
    #[arg(required = true, value_name = "HOST", value_parser = host)]
    pub hosts: Vec<String>,
    /// Output directory, created if missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Days until the certificate expires.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
    /// Replace existing files.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `setup`.
#[derive(Args, Debug)]
pub struct SetupArgs {
    /// Do not ask whether this is the machine of the server.
    #[arg(long, short)]
    pub yes: bool,
    /// Name of the user; do not ask for it.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Read the password from standard input, even if it is a terminal.
    #[arg(long)]
    pub password_stdin: bool,
}

fn client_name(name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err("use letters, digits, `-`, `_` and `.`".into());
    }
    Ok(name.into())
}
