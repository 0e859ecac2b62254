//! Arguments of `identity`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ServerArgs;

/// Arguments of `identity`.
#[derive(Args, Debug)]
#[command(after_help = "\
An identity is given by its id, or by its name if no other one has it. The server checks all
values, as in calls of its API.

Examples:
  countersign identity create worker
  countersign identity attach-certificate worker --ca clients-ca.crt --common-name worker-1
  countersign identity attach-universal worker --ttl 3600 --trusted-ip 10.0.0.0/8
  countersign identity client-secret worker --ttl 2592000
  countersign identity assign worker viewer --project lab
  countersign identity detach worker certificate")]
pub struct IdentityArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub server: ServerArgs,
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub command: IdentityCommand,
}

/// Commands for machine identities.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Show the organization to which all identities belong.
    #[command(alias = "organisation")]
    Organization {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the identities, their roles and login methods.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show an identity and its login methods.
    Show {
        /// Id or name of the identity.
        identity: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create an identity, and print its id. It cannot log in until a method is attached.
    #[command(alias = "add")]
    Create {
        /// Name of the identity.
        name: String,
        /// Its role in the organization: admin may administer identities.
        #[arg(long, value_name = "ROLE", default_value = "no-access")]
        role: String,
        /// Refuse to delete the identity.
        #[arg(long)]
        delete_protection: bool,
    },
    /// Change the name, the role or the protection of an identity.
    Update {
        /// Id or name of the identity.
        identity: String,
        /// New name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// New role in the organization.
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Whether a deletion is refused.
        #[arg(long, value_name = "BOOL")]
        delete_protection: Option<bool>,
    },
    /// Delete an identity. Its tokens are refused at once.
    Delete {
        /// Id or name of the identity.
        identity: String,
    },
    /// Give an identity roles in a project, in place of those that it has there.
    Assign {
        /// Id or name of the identity.
        identity: String,
        /// Roles in the project.
        #[arg(required = true)]
        roles: Vec<String>,
        /// Name or id of the project.
        #[arg(long, short, value_name = "PROJECT")]
        project: String,
    },
    /// Remove an identity from a project, with its roles there.
    Unassign {
        /// Id or name of the identity.
        identity: String,
        /// Name or id of the project.
        #[arg(long, short, value_name = "PROJECT")]
        project: String,
    },
    /// Add a role for identities to the organization or to a project.
    AddRole {
        /// The role: lower-case letters, digits and hyphens.
        role: String,
        /// Name or id of the project (default: the organization).
        #[arg(long, short, value_name = "PROJECT")]
        project: Option<String>,
    },
    /// List the roles that identities can have in the organization or in a project.
    Roles {
        /// Name or id of the project (default: the organization).
        #[arg(long, short, value_name = "PROJECT")]
        project: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let an identity log in with a TLS client certificate.
    AttachCertificate(CertificateArgs),
    /// Let an identity log in with a client id and a secret, and print the client id.
    AttachUniversal(UniversalArgs),
    /// Remove a login method. Its tokens are refused at once.
    Detach {
        /// Id or name of the identity.
        identity: String,
        /// The login method.
        method: LoginMethod,
    },
    /// Create a client secret, and print it. It is shown only once.
    ClientSecret(SecretArgs),
    /// List the client secrets of an identity, without the secrets themselves.
    ClientSecrets {
        /// Id or name of the identity.
        identity: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a client secret, and the tokens that were obtained with it.
    RevokeSecret {
        /// Id or name of the identity.
        identity: String,
        /// Id of the secret, from `identity client-secrets`.
        secret: String,
    },
    /// Let clients that are locked out after wrong secrets try again, on one server.
    Unlock {
        /// Id or name of the identity.
        identity: String,
    },
}

/// A login method.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LoginMethod {
    /// By a TLS client certificate.
    #[value(alias = "tls-cert-auth")]
    Certificate,
    /// By a client id and a secret.
    #[value(alias = "universal-auth")]
    Universal,
}

/// Terms of the access tokens of a login method.
#[derive(Args, Debug)]
pub struct TermsArgs {
    /// Change the attached method. Options that are left out keep their values.
    #[arg(long)]
    pub change: bool,
    /// Lifetime of a token in seconds; 0 for the longest of the server (default: 30 days).
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u64>,
    /// Lifetime of a token with all its renewals in seconds (default: 30 days).
    #[arg(long, value_name = "SECONDS")]
    pub max_ttl: Option<u64>,
    /// How often a token can be used; 0 for no limit (default: 0).
    #[arg(long, value_name = "N")]
    pub uses: Option<u64>,
    /// Address or network from which tokens can be used; repeatable (default: any).
    #[arg(long = "trusted-ip", value_name = "NETWORK")]
    pub trusted_ips: Vec<String>,
}

/// Arguments of `identity attach-certificate`.
#[derive(Args, Debug)]
pub struct CertificateArgs {
    /// Id or name of the identity.
    pub identity: String,
    /// Certificate of the authority that issues the client certificates, in PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "change")]
    pub ca: Option<PathBuf>,
    /// Common name that a certificate may have; repeatable (default: any). An empty one, with
    /// `--change`, allows any again.
    #[arg(long = "common-name", value_name = "NAME")]
    pub common_names: Vec<String>,
    /// Alternative name of which a certificate must have one, such as `DNS:worker.example` or
    /// `URI:spiffe://example/worker`; repeatable (default: any). An empty one, with `--change`,
    /// allows any again.
    #[arg(long = "alt-name", value_name = "NAME")]
    pub alt_names: Vec<String>,
    /// Accept certificates of intermediate authorities, which the client presents.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub chain: Option<bool>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub terms: TermsArgs,
}

/// Arguments of `identity attach-universal`.
#[derive(Args, Debug)]
pub struct UniversalArgs {
    /// Id or name of the identity.
    pub identity: String,
    /// Address or network from which logins are accepted; repeatable (default: any).
    #[arg(long = "secret-trusted-ip", value_name = "NETWORK")]
    pub secret_trusted_ips: Vec<String>,
    /// Lifetime of tokens that can be renewed without end, in seconds; 0 for ordinary ones.
    #[arg(long, value_name = "SECONDS")]
    pub period: Option<u64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub terms: TermsArgs,
}

/// Arguments of `identity client-secret`.
#[derive(Args, Debug)]
pub struct SecretArgs {
    /// Id or name of the identity.
    pub identity: String,
    /// Description.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// How many logins it allows; 0 for no limit (default: 0).
    #[arg(long, value_name = "N")]
    pub uses: Option<u64>,
    /// Its lifetime in seconds; 0 for no limit (default: 0).
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u64>,
}
