//! Arguments of the commands that connect to a running server.

use clap::{ArgGroup, Args, Subcommand};

use super::server_url::{ServerUrl, server_url};
use crate::config::host;

/// Address of the server.
#[derive(Args, Clone, Debug, Default)]
pub struct ServerArgs {
    /// URL of the server, such as `https://auth.example` (default: `COUNTERSIGN_SERVER`, or the
    /// configuration).
    #[arg(long, global = true, value_name = "URL", value_parser = server_url, conflicts_with_all = ["host", "port"])]
    pub server: Option<ServerUrl>,
    /// Host of the server, instead of the configured one.
    #[arg(long, global = true, value_name = "HOST", value_parser = host)]
    pub host: Option<String>,
    /// Port of the server, instead of the configured one.
    #[arg(long, global = true, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

/// Arguments of `keys refresh`.
#[derive(Args, Debug)]
pub struct KeysRefreshArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// Name of the section (default: all sections).
    #[arg(value_name = "SECTION")]
    pub section: Option<String>,
    /// Name of the client in `[api_clients]`.
    #[arg(long, value_name = "NAME")]
    pub client: String,
}

/// Arguments of `token create`.
#[derive(Args, Debug)]
pub struct TokenCreateArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// Name or id of the environment.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
    /// For command lines and programs that call the API.
    #[arg(long)]
    pub api: bool,
    /// For a compiler.
    #[arg(long)]
    pub compiler: bool,
    /// For an agent.
    #[arg(long)]
    pub agent: bool,
    /// Lifetime in seconds (default: expire of the server's signing section).
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "idempotent")]
    pub expire: Option<u32>,
    /// Omit all dates, so that the same request gives the same token; the server does not
    /// record it.
    #[arg(long)]
    pub idempotent: bool,
}

/// Arguments of `token list`.
#[derive(Args, Debug)]
pub struct TokenListArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// Name or id of the environment.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `token delete`.
#[derive(Args, Debug)]
pub struct TokenDeleteArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// Name or id of the environment.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
    /// Id (jti) of the token, from `token list`.
    pub jti: String,
}

/// Arguments of `user`.
#[derive(Args, Debug)]
#[command(after_help = "\
Passwords are typed on the terminal without echo. Without a terminal, or with
--password-stdin, they are read from standard input, one per line.

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

/// Commands for users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user with a password.
    Add {
        /// Name of the user.
        name: String,
        /// Make the user an administrator.
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input, even if it is a terminal.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the users and their roles.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete a user.
    Delete {
        /// Name of the user.
        name: String,
    },
    /// Change a user's password; your own requires the current password.
    Password {
        /// Name of the user.
        name: String,
        /// Read passwords from standard input, even if it is a terminal.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Make a user an administrator, or revoke that.
    Admin {
        /// Name of the user.
        name: String,
        /// Revoke the administrator's rights instead.
        #[arg(long)]
        revoke: bool,
    },
}

/// Arguments of `role`.
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

/// Commands for roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Add a role.
    Add {
        /// Name of the role.
        name: String,
    },
    /// List the roles.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete a role that is not assigned to any user.
    Delete {
        /// Name of the role.
        name: String,
    },
    /// Assign a role to a user in an environment.
    Assign(AssignmentArgs),
    /// Remove an assignment.
    Unassign(AssignmentArgs),
}

/// Arguments of `role assign` and `role unassign`.
#[derive(Args, Debug)]
pub struct AssignmentArgs {
    /// Name of the user.
    pub user: String,
    /// Name of the role.
    pub role: String,
    /// Name or id of the environment.
    #[arg(long, short, value_name = "ENV")]
    pub environment: String,
}

/// Arguments of `project`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  countersign project add lab
  countersign environment add prod --project lab
  countersign project list")]
pub struct ProjectArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub command: ProjectCommand,
}

/// Commands for projects.
#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Add a project, and print its id.
    Add {
        /// Name of the project.
        name: String,
        /// Id of the project, if other systems already use one (default: generated).
        #[arg(long, value_name = "UUID")]
        id: Option<String>,
    },
    /// List the projects.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete a project without environments.
    Delete {
        /// Name or id of the project.
        project: String,
    },
}

/// Arguments of `environment`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  countersign environment add prod
  countersign environment add prod --project lab
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

/// Commands for environments.
#[derive(Debug, Subcommand)]
pub enum EnvironmentCommand {
    /// Add an environment, and print its id.
    Add {
        /// Name of the environment.
        name: String,
        /// Name or id of its project (default: the project named default, which is added).
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Id of the environment, if other systems already use one (default: generated).
        #[arg(long, value_name = "UUID")]
        id: Option<String>,
    },
    /// List the environments.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete an environment, with its role assignments and tokens.
    Delete {
        /// Name or id of the environment.
        environment: String,
    },
}

/// Arguments of `login`.
#[derive(Args, Debug)]
pub struct LoginArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// Name of the user.
    pub user: String,
    /// Read the password from standard input, even if it is a terminal.
    #[arg(long)]
    pub password_stdin: bool,
    /// Print the token and do not store it.
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `logout`.
#[derive(Args, Debug)]
pub struct LogoutArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    /// End all sessions of the user, not only this one.
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `client-config`.
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
    /// Name or id of the environment that the token is scoped to; with --local, its id.
    #[arg(long, short, value_name = "ENV", required_unless_present = "local")]
    pub environment: Option<String>,
    /// Sign the token with the section that has sign = true, without a running server.
    #[arg(long, conflicts_with_all = ["server", "host", "port"])]
    pub local: bool,
    /// The client is on another machine: print server_address, not internal_server_address.
    #[arg(long)]
    pub remote: bool,
    /// Lifetime of the token in seconds (default: expire of the signing section).
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub expire: Option<u32>,
}
