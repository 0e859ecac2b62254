//! Configuration in two stages: the text of files and environment ([`RawConfig`]), then validated
//! and typed values ([`Config`]). Every [`Problem`] is reported with its place.
//!
//! This module has the file syntax, the table of options, and the assembly. Each feature reads its
//! own options through the `SectionReader` of [`reader`].

pub mod raw;
pub(crate) mod ini;
mod toml;
pub mod setting;
pub mod problem;
pub mod options;
pub mod reader;
mod listener;
pub(crate) mod protocols;
mod quic;
mod settings;
mod timeouts;
mod transport;
mod web_ui;

use std::{path::PathBuf, sync::Arc};

pub use self::{
    listener::Listener,
    problem::{Problem, Problems},
    quic::QuicSettings,
    raw::{ConfigFormat, RawConfig},
    settings::Settings,
    transport::{AdvertisedAddresses, BearerToken, Transport, Transports, host},
    web_ui::{AuthMethod, OpenIdProvider, WebUi},
};
use crate::{
    keys::{IssuerSection, issuer},
    revocation::settings::RevocationSettings,
    store::settings::Database,
};

/// A valid configuration.
#[derive(Debug)]
pub struct Config {
    /// `[server]`, `[listen]`, `[limits]`, `[metrics]`, `[identity_headers]` and `[ext_authz]`.
    pub settings: Settings,
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
    /// Likely mistakes that do not keep the server from running.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Loads configuration files, in order; the environment overrides them.
    ///
    /// # Errors
    /// All mistakes in them.
    pub fn load(
        paths: &[PathBuf],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        Self::from_raw(RawConfig::load(paths, environment)?)
    }

    /// Validates a [`RawConfig`].
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn from_raw(raw: RawConfig) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut warnings = raw.warnings;
        let mut settings = Settings::read(&raw.sections, &mut problems, &mut warnings);
        let issuers = issuer::read_all(
            &raw.sections,
            settings.listeners[0].tls.is_some(),
            &mut problems,
            &mut warnings,
        );
        settings.api.signing = issuers.iter().find(|section| section.sign).cloned().map(Arc::new);
        let database = Database::read(&raw.sections, &mut problems);
        let revocation = RevocationSettings::read(&raw.sections, &mut problems);
        let transports = Transports::read(&raw.sections, &mut problems, &mut warnings);
        let web_ui = WebUi::read(&raw.sections, &mut problems, &mut warnings);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self { settings, issuers, database, revocation, transports, web_ui, warnings })
    }

    /// Returns the section that signs tokens, if any.
    #[must_use]
    pub fn signing(&self) -> Option<&IssuerSection> {
        self.settings.api.signing.as_deref()
    }
}
