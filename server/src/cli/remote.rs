//! The commands that talk to a running server.

use clap::{ArgGroup, Args, Subcommand};

use crate::config::host;

/// Which server is asked. What is not said here is in `[cmdline_rest_transport]`.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The host of the server, if not that of `[cmdline_rest_transport]`.
    #[arg(long, global = true, value_name = "HOST", value_parser = host)]
    pub host: Option<String>,
    /// Its port.
    #[arg(long, global = true, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

/// Issuing a token for an environment.
#[derive(Args, Debug)]
pub struct TokenCreateArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// The environment, by its name or id.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
    /// For programs and people that call the API.
    #[arg(long)]
    pub api: bool,
    /// For a compiler.
    #[arg(long)]
    pub compiler: bool,
    /// For an agent.
    #[arg(long)]
    pub agent: bool,
    /// Its lifetime in seconds; what the server's section says unless said otherwise.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "idempotent")]
    pub expire: Option<u32>,
    /// Leave every date out: the same request gives the same token, which the server
    /// keeps no record of.
    #[arg(long)]
    pub idempotent: bool,
}

/// Listing the tokens of an environment.
#[derive(Args, Debug)]
pub struct TokenListArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// The environment, by its name or id.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Revoking a token of an environment.
#[derive(Args, Debug)]
pub struct TokenDeleteArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// The environment, by its name or id.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
    /// The token's id (jti), as `token list` shows it.
    pub jti: String,
}

/// Users.
#[derive(Args, Debug)]
#[command(after_help = "\
Passwords are asked for on the terminal, and never shown. Without a terminal, or
with --password-stdin, they are lines of standard input.

Examples:
  countersign user add alice --admin
  printf '%s\\n' \"$PASSWORD\" | countersign user add bob
  countersign user list --json")]
pub struct UserArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub command: UserCommand,
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, who logs in with a password.
    Add {
        /// The name of the user.
        name: String,
        /// Make the user an administrator, too.
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input, even if that is a terminal.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the users and their roles.
    List {
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete a user.
    Delete {
        /// The name of the user.
        name: String,
    },
    /// Change a user's password; of one's own, the current one is asked for first.
    Password {
        /// The name of the user.
        name: String,
        /// Read passwords from standard input, even if that is a terminal.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Make a user an administrator, or no longer.
    Admin {
        /// The name of the user.
        name: String,
        /// Take it away instead.
        #[arg(long)]
        revoke: bool,
    },
}

/// Roles.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  countersign role add operator
  countersign role assign alice operator --environment prod")]
pub struct RoleArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub command: RoleCommand,
}

/// What to do with roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Add a role.
    Add {
        /// The name of the role.
        name: String,
    },
    /// List the roles.
    List {
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete a role that nobody has.
    Delete {
        /// The name of the role.
        name: String,
    },
    /// Give a user a role in an environment.
    Assign(AssignmentArgs),
    /// Take it away.
    Unassign(AssignmentArgs),
}

/// Who has which role where.
#[derive(Args, Debug)]
pub struct AssignmentArgs {
    /// The name of the user.
    pub user: String,
    /// The name of the role.
    pub role: String,
    /// The environment, by its name or id.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
}

/// Environments.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  countersign environment add prod
  countersign environment add test --id 11111111-1111-1111-1111-111111111111
  countersign environment list")]
pub struct EnvironmentArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub command: EnvironmentCommand,
}

/// What to do with environments.
#[derive(Debug, Subcommand)]
pub enum EnvironmentCommand {
    /// Add an environment, and print its id.
    Add {
        /// The name of the environment.
        name: String,
        /// Its id, if it has one elsewhere already.
        #[arg(long, value_name = "UUID")]
        id: Option<String>,
    },
    /// List the environments.
    List {
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete an environment, with the roles and tokens that there are in it.
    Delete {
        /// The environment, by its name or id.
        environment: String,
    },
}

/// Logging in.
#[derive(Args, Debug)]
pub struct LoginArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// The name of the user.
    pub user: String,
    /// Read the password from standard input, even if that is a terminal.
    #[arg(long)]
    pub password_stdin: bool,
}

/// What a client is to be told.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("kind").required(true)))]
pub struct ClientConfigArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// For an agent: `[agent_rest_transport]`.
    #[arg(long, group = "kind")]
    pub agent: bool,
    /// For a compiler: `[compiler_rest_transport]`.
    #[arg(long, group = "kind")]
    pub compiler: bool,
    /// For command lines and programs: `[cmdline_rest_transport]` and `[client_rest_transport]`.
    #[arg(long, group = "kind")]
    pub api: bool,
    /// The environment that the token is scoped to, by its name or, with --local, its id.
    #[arg(long, short, value_name = "ENV", required_unless_present = "local")]
    pub environment: Option<String>,
    /// Sign the token here, with the section that has sign = true.
    #[arg(long, conflicts_with_all = ["host", "port"])]
    pub local: bool,
    /// The client is on another machine: it is told server_address, not internal_server_address.
    #[arg(long)]
    pub remote: bool,
    /// The lifetime of the token in seconds; what the section says unless said otherwise.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub expire: Option<u32>,
}
