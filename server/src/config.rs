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
pub(crate) mod without_secrets;
mod request_memory;
pub mod reference;
pub mod changed_defaults;
mod misplaced_keys;
pub(crate) mod orchestrate;
mod infisical;
mod listener;
pub(crate) mod protocols;
mod quic;
mod remarks;
mod section_digests;
mod settings;
pub(crate) mod socket_file;
mod timeouts;
mod request_limits;
mod transport;
mod web_ui;

use std::{path::PathBuf, sync::Arc};

pub use self::{
    listener::Listener,
    problem::{Problem, Problems, Severity},
    quic::QuicSettings,
    raw::{ConfigFormat, RawConfig},
    settings::Settings,
    transport::{AdvertisedAddresses, BearerToken, Transport, Transports, host},
    web_ui::{AuthMethod, KeycloakRealm, OpenIdProvider, WebUi},
};
use crate::{
    audit::settings::AuditSettings,
    authorization::Authorization,
    base::route::Serves,
    console::{
        loaded_config::LoadedConfig,
        openid::SignInSettings,
        provider::ConsoleProvider,
        settings::{ConsoleDefaults, ConsoleSettings},
    },
    feed::{configuration::SectionDigests, settings::FeedSettings},
    identities::settings::IdentitySettings,
    keys::{IssuerSection, administration, issuer},
    load_test::Corpus,
    revocation::settings::RevocationSettings,
    store::settings::Database,
};

/// A valid configuration.
#[derive(Debug)]
pub struct Config {
    /// `[server]`, `[listen]`, `[limits]`, `[metrics]`, `[identity_headers]` and `[ext_authz]`.
    pub settings: Settings,
    /// The `auth_jwt_*` sections, by name, and that of the access tokens of machine identities.
    pub issuers: Vec<IssuerSection>,
    /// `[database]`.
    pub database: Database,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[revocation]`.
    pub revocation: RevocationSettings,
    /// `[feed]`, if it has a socket.
    pub feed: Option<FeedSettings>,
    /// Digests of the sections that decide about requests.
    pub digests: SectionDigests,
    /// The `*_rest_transport` sections: how clients reach the server.
    pub transports: Transports,
    /// `[web-ui]`.
    pub web_ui: WebUi,
    /// How the console signs in with the provider of `[web-ui]`, if there is one.
    pub sign_in: Option<SignInSettings>,
    /// The tokens of a load test, in the profile `loadtest`.
    pub load_test: Option<Corpus>,
    /// What changed for this configuration since an earlier version.
    pub changed_defaults: Vec<String>,
    /// Warnings and notes, which do not keep the server from running.
    pub remarks: Problems,
}

/// Reads configuration files, in order, and merges the environment, which overrides them.
pub fn load_raw(
    paths: &[PathBuf],
    environment: impl IntoIterator<Item = (String, String)>,
) -> RawConfig {
    let environment: Vec<_> = environment.into_iter().collect();
    let mut raw = RawConfig::load_files(paths);
    orchestrate::add(&mut raw, !paths.is_empty(), environment.iter().cloned());
    infisical::add(&mut raw, environment.iter().cloned());
    raw.add_environment(environment);
    raw
}

impl Config {
    /// Loads configuration files, in order; the environment overrides them.
    ///
    /// # Errors
    /// All mistakes in them, with the warnings and notes.
    pub fn load(
        paths: &[PathBuf],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        Self::from_raw(load_raw(paths, environment))
    }

    /// Whether a server of this configuration uses a database of users, roles and tokens.
    #[must_use]
    pub const fn uses_database(&self) -> bool {
        self.settings.api.requires_token || self.database.is_configured
    }

    /// Validates a [`RawConfig`].
    ///
    /// # Errors
    /// All mistakes in it, with the warnings and notes.
    pub fn from_raw(raw: RawConfig) -> Result<Self, Problems> {
        let RawConfig { mut sections, mut problems } = raw;
        misplaced_keys::refuse(&mut sections, &mut problems);
        let mut settings = Settings::read(&sections, &mut problems);
        let listeners = listener::properties(&settings.listeners);
        let mut issuers = issuer::read_all(&sections, listeners, &mut problems);
        let web_ui = WebUi::read(&sections, &mut problems);
        administration::assign(&mut issuers, web_ui.login());
        let sign_in = web_ui.sign_in(&issuers);
        let written = issuers.len();
        let requires_token = settings.api.requires_token;
        let identities = IdentitySettings::read(&sections, &issuers, requires_token, &mut problems);
        issuers.extend(identities.as_ref().map(IdentitySettings::section));
        settings.api.identities = identities.map(Arc::new);
        for section in &mut issuers {
            section.export_claims(settings.auth.identity_headers.exported_claims());
        }
        settings.auth.authorization =
            Authorization::read(&sections, &mut issuers, settings.uses_policy(), &mut problems);
        settings.api.set_signing(&issuers);
        let everything = settings.listeners.iter().filter(|one| one.serves == Serves::Everything);
        let defaults = ConsoleDefaults {
            listeners: everything.map(|listener| listener.name.as_str()).collect(),
            is_served: web_ui.serves_console(settings.api.issues_tokens()),
            requires_token: settings.api.requires_token,
            allows_passwords: web_ui.allows_passwords(),
            unverified_authority: sign_in.as_ref().err().copied(),
        };
        settings.console = ConsoleSettings::read(&sections, &defaults, &mut problems);
        settings.config_js = web_ui.config_js(&settings.api);
        let sign_in = sign_in.unwrap_or_default();
        let database = Database::read(&sections, &mut problems);
        let audit = AuditSettings::read(&sections, &mut problems);
        let revocation = RevocationSettings::read(&sections, &mut problems);
        let feed = FeedSettings::read(&sections, &mut problems);
        let transports = Transports::read(&sections, &mut problems);
        let written = &issuers[..written];
        let changed_defaults = changed_defaults::that_apply(&sections, &settings.api, written);
        remarks::add(&sections, &settings, written, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        let digests = section_digests::section_digests(&sections, &issuers, &settings);
        let remarks = problems;
        settings.api.deciding = settings.deciding_listeners();
        if settings.console.listener.is_some() {
            settings.console.loaded = Arc::new(LoadedConfig {
                sections: Arc::clone(&settings.api.loaded),
                remarks: remarks.0.clone(),
            });
        }
        Ok(Self {
            settings,
            issuers,
            database,
            audit,
            revocation,
            feed,
            digests,
            transports,
            web_ui,
            sign_in,
            load_test: None,
            changed_defaults,
            remarks,
        })
    }

    /// Returns the OpenID provider of the console, if the console is served and has one. Keeps what
    /// it has in common with that of `before`.
    pub(crate) fn console_provider(
        &self,
        before: Option<&ConsoleProvider>,
    ) -> Option<Arc<ConsoleProvider>> {
        let sign_in = self.sign_in.as_ref().filter(|_| self.settings.console.listener.is_some());
        ConsoleProvider::of_config(sign_in, self.signing(), before)
    }

    /// Returns the section that signs tokens, if any.
    #[must_use]
    pub fn signing(&self) -> Option<&IssuerSection> {
        self.settings.api.signing.as_deref()
    }
}
