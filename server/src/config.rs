//! Configuration in two stages: as written ([`raw`]), and as meant (here), with
//! types, bounds and every mistake named at its place.

mod clients;
mod database;
mod ext_authz;
mod ini;
mod issuer;
mod keys;
mod limits;
mod listener;
mod log;
mod login;
pub mod options;
mod problem;
mod protocols;
mod quic;
pub mod raw;
mod reader;
mod revocation;
pub mod setting;
mod server;
mod tls;
mod toml;
mod transport;
mod web_ui;

use std::{path::PathBuf, sync::Arc};

pub use clients::{ApiClients, hash_secret};
pub use database::{Database, DatabaseLocation, DatabaseUrl};
pub use ext_authz::ExtAuthz;
pub use issuer::{ClientType, IssuerSection};
pub use keys::{KeyLocation, KeySource, RefreshedKeys, SigningSecret};
pub use limits::{SignatureLimits, Timeouts};
pub use listener::{ListenAddress, Listener, Serves};
pub use log::{LogFormat, LogSettings, LoggedRequests};
pub use login::LoginSettings;
pub use problem::{Problem, Problems};
pub use protocols::Protocols;
pub use quic::QuicSettings;
pub use raw::{ConfigFormat, RawConfig};
pub use revocation::RevocationSettings;
pub use server::{AuthorizationProvider, IdentityHeaders, Server};
pub use tls::{ClientAuthorities, ClientCertificates, TlsFileKind, TlsFiles};
pub use transport::{AdvertisedAddresses, BearerToken, Transport, Transports, host};
pub use web_ui::{AuthMethod, OpenIdProvider, WebUi};

/// A configuration that can be run.
#[derive(Debug)]
pub struct Config {
    /// `[server]`, `[listen]`, `[limits]`, `[metrics]`, `[identity_headers]` and `[ext_authz]`.
    pub server: Server,
    /// The `auth_jwt_*` sections, by name.
    pub issuers: Vec<IssuerSection>,
    /// `[database]`.
    pub database: Database,
    /// `[revocation]`.
    pub revocation: RevocationSettings,
    /// The `*_rest_transport` sections: how clients reach the server.
    pub transports: Transports,
    /// `[web-ui]`.
    pub web_ui: WebUi,
    /// What looks like a slip but need not be one.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads configuration files, in order, and the environment over them.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn load(
        paths: &[PathBuf],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        Self::from_raw(RawConfig::load(paths, environment)?)
    }

    /// The meaning of what was written.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn from_raw(raw: RawConfig) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut warnings = raw.warnings;
        let mut server = Server::read(&raw.sections, &mut problems, &mut warnings);
        let issuers = issuer::read_all(
            &raw.sections,
            server.listeners[0].tls.is_some(),
            &mut problems,
            &mut warnings,
        );
        server.signing = issuers.iter().find(|section| section.sign).cloned().map(Arc::new);
        let database = Database::read(&raw.sections, &mut problems);
        let revocation = RevocationSettings::read(&raw.sections, &mut problems);
        let transports = Transports::read(&raw.sections, &mut problems, &mut warnings);
        let web_ui = WebUi::read(&raw.sections, &mut problems, &mut warnings);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self { server, issuers, database, revocation, transports, web_ui, warnings })
    }

    /// The section that signs our own tokens, if any section is configured.
    #[must_use]
    pub fn signing(&self) -> Option<&IssuerSection> {
        self.server.signing.as_deref()
    }
}
