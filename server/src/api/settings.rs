//! The options of `[server]` about the Inmanta API, and the policy engine.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderValue, header};

use crate::{
    accounts::settings::LoginSettings,
    auth::profile::Profile,
    authorization::{AuthorizationProvider, ListenerAccess, policy::settings::read_log_level},
    base::redacted::quoted,
    config::{
        problem::Problems, reader::SectionReader, setting::Section,
        without_secrets::without_secrets,
    },
    identities::settings::IdentitySettings,
    keys::IssuerSection,
};

/// Consequence of `auth = false`.
pub(crate) const OPEN_API: &str = "auth is false: everybody who reaches /api/v2 can list users, \
                                   roles, environments and issued tokens";

/// Consequence of a configuration in which no section signs.
pub(crate) const ISSUES_NOTHING: &str =
    "no auth_jwt_* section has sign = true: this server verifies tokens, and its API issues none";

/// Reason of a refused path that is not that of a call.
pub(crate) const NO_SUCH_CALL: &str = "there is no such call";

/// Settings of the API.
#[derive(Debug)]
pub struct ApiSettings {
    /// Whether `/api/v2` requires a token. `/auth` and `/v1` always do.
    pub requires_token: bool,
    /// `Access-Control-Allow-Origin` of `/api/v2`.
    pub allow_origin: Option<HeaderValue>,
    /// Settings for logins of local users.
    pub login: LoginSettings,
    /// The authorization provider.
    pub authorization_provider: AuthorizationProvider,
    /// The section that signs tokens, if any section is configured.
    pub signing: Option<Arc<IssuerSection>>,
    /// Machine identities, if they are enabled. The assembly sets it.
    pub identities: Option<Arc<IdentitySettings>>,
    /// The configuration as written, without secrets, for administrators.
    pub loaded: Arc<BTreeMap<String, Section>>,
    /// The listeners that answer checks of requests. The assembly sets them.
    pub deciding: Arc<[DecidingListener]>,
}

/// A listener, as far as it decides about requests.
#[derive(Clone, Debug)]
pub struct DecidingListener {
    /// Its name.
    pub name: String,
    /// The system that it imitates.
    pub profile: Profile,
    /// How it authorizes requests.
    pub access: ListenerAccess,
}

impl ApiSettings {
    /// Reads the options from their sections. The assembly sets the section
    /// that signs.
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let _level = read_log_level(&mut SectionReader::new(sections, "policy_engine", problems));
        let login = LoginSettings::read(sections, problems);
        let mut server = SectionReader::new(sections, "server", problems);
        Self {
            requires_token: server.flag("auth"),
            allow_origin: read_allow_origin(&mut server),
            login,
            authorization_provider: AuthorizationProvider::read(&mut server),
            signing: None,
            identities: None,
            loaded: Arc::new(without_secrets(sections)),
            deciding: Arc::default(),
        }
    }

    pub(crate) fn set_signing(&mut self, issuers: &[IssuerSection]) {
        self.signing = issuers.iter().find(|section| section.sign).cloned().map(Arc::new);
    }

    /// Logs a warning if `/api/v2` requires no token, and a note if it issues none.
    pub(crate) fn log_restrictions(&self) {
        if !self.requires_token {
            tracing::warn!("{OPEN_API}; remove the line from [server] to require a token");
        }
        if self.signing.is_none() {
            tracing::info!("{ISSUES_NOTHING}");
        }
    }

    /// Whether `/api/v2` has accounts: it requires tokens, and a section can issue them.
    #[must_use]
    pub fn issues_tokens(&self) -> bool {
        self.requires_token && self.signing.is_some()
    }
}

fn read_allow_origin(server: &mut SectionReader<'_>) -> Option<HeaderValue> {
    let text = server.given("access_control_allow_origin")?;
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        let name = header::ACCESS_CONTROL_ALLOW_ORIGIN;
        server.error(
            "access_control_allow_origin",
            format!("{} is not a valid value of the header {name}", quoted(text)),
            "write an origin or *",
        );
    }
    value
}
