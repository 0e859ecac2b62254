//! `[console]`: where the console is served, and how long its sessions last.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::loaded_config::LoadedConfig;
use crate::{
    base::redacted::quoted,
    config::{
        options::CONSOLE_SECTION,
        problem::{Problem, Problems},
        reader::SectionReader,
        setting::Section,
    },
};

/// Settings of the console.
#[derive(Clone, Debug, Default)]
pub struct ConsoleSettings {
    /// Name of the listener that serves the console; `None` if it is off.
    pub listener: Option<Box<str>>,
    /// Time without a request after which a session ends.
    pub session_idle: Duration,
    /// Time after its begin at which a session ends.
    pub session_max: Duration,
    /// Time after a sign-in for which changes that cannot be undone need no password again.
    pub reauthenticate: Duration,
    /// Whether local users sign in with their password.
    pub allows_passwords: bool,
    /// The OpenID provider, if no section verifies its access tokens.
    pub unverified_authority: Option<Box<str>>,
    /// Whether a back-channel logout revokes the tokens of the user.
    pub backchannel_revokes_tokens: bool,
    /// The whole configuration, if the console is served. The assembly sets it.
    pub loaded: Arc<LoadedConfig>,
}

/// The parts of the configuration on which the defaults of [`ConsoleSettings`] depend.
#[derive(Debug)]
pub(crate) struct ConsoleDefaults<'c> {
    /// Names of the listeners that serve all routes. The main listener is first, if it is one.
    pub(crate) listeners: Vec<&'c str>,
    /// Whether the console is served if `[console]` does not decide.
    pub(crate) is_served: bool,
    /// Whether the API requires a token.
    pub(crate) requires_token: bool,
    /// Whether local users sign in with their password.
    pub(crate) allows_passwords: bool,
    /// The OpenID provider, if no section verifies its access tokens.
    pub(crate) unverified_authority: Option<&'c str>,
}

/// The value of `listener` for no console.
const OFF: &str = "off";
/// The main listener.
const MAIN: &str = "main";

impl ConsoleSettings {
    pub(crate) fn read(
        sections: &BTreeMap<String, Section>,
        defaults: &ConsoleDefaults<'_>,
        problems: &mut Problems,
    ) -> Self {
        let mut reader = SectionReader::new(sections, CONSOLE_SECTION, problems);
        let settings = Self {
            session_idle: reader.seconds("session_idle"),
            session_max: reader.seconds("session_max"),
            reauthenticate: reader.seconds("reauthenticate"),
            allows_passwords: defaults.allows_passwords,
            backchannel_revokes_tokens: reader.flag("backchannel_revokes_tokens"),
            unverified_authority: defaults.unverified_authority.map(Into::into),
            listener: read_listener(&mut reader, defaults).map(Into::into),
            loaded: Arc::default(),
        };
        if let Some(text) = settings.missing_section() {
            problems
                .push(Problem::note("[web-ui] oidc_authority", text).help(MISSING_SECTION_HELP));
        }
        settings
    }

    /// Returns the problem of a console that is served, but whose users cannot sign in with the
    /// provider.
    fn missing_section(&self) -> Option<String> {
        let authority = self.unverified_authority.as_ref().filter(|_| self.listener.is_some())?;
        Some(format!(
            "no section verifies the access tokens of {authority}: users cannot sign in to the \
             console with it"
        ))
    }

    /// Logs a warning if users cannot sign in with the provider.
    pub(crate) fn log_missing_section(&self) {
        if let Some(text) = self.missing_section() {
            tracing::warn!("{text}; {MISSING_SECTION_HELP}");
        }
    }
}

const MISSING_SECTION_HELP: &str = "set issuer of an external auth_jwt_* section to oidc_authority, or to the iss of the access \
     tokens if there is one such section only";

fn read_listener<'r>(
    reader: &mut SectionReader<'r>,
    defaults: &ConsoleDefaults<'_>,
) -> Option<&'r str> {
    let Some(name) = reader.given("listener") else {
        return (defaults.is_served && defaults.listeners.contains(&MAIN)).then_some(MAIN);
    };
    if name == OFF {
        return None;
    }
    if !defaults.listeners.contains(&name) {
        let text = format!("listener in {CONSOLE_SECTION}: {} cannot serve it", quoted(name));
        let help = format!("choose {OFF}, or a listener that serves everything: {}", {
            defaults.listeners.join(", ")
        });
        reader.error("listener", text, &help);
    }
    if !defaults.requires_token {
        let text = "the console cannot be served with auth = false, because it has no user then";
        reader.error("listener", text, "remove auth = false from [server], or the listener");
    }
    Some(name)
}
