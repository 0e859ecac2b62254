//! The options of `[server]` about the Inmanta API, and the policy engine.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderValue, header};

use crate::{
    accounts::settings::LoginSettings,
    authorization::AuthorizationProvider,
    config::{problem::Problems, reader::SectionReader, setting::Section},
    keys::IssuerSection,
};

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
}

impl ApiSettings {
    /// Reads the options from their sections. The signing section is set by the assembly.
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        check_policy_engine(&mut SectionReader::new(sections, "policy_engine", problems));
        let login = LoginSettings::read(sections, problems);
        let mut server = SectionReader::new(sections, "server", problems);
        Self {
            requires_token: server.flag("auth"),
            allow_origin: read_allow_origin(&mut server),
            login,
            authorization_provider: AuthorizationProvider::read(&mut server),
            signing: None,
        }
    }
}

/// Checks the log level of the policy engine, with the message of the Inmanta server.
fn check_policy_engine(reader: &mut SectionReader<'_>) {
    let (level, levels) = (reader.text_or_default("log_level"), reader.choices("log_level"));
    if !levels.contains(&level) {
        let text = format!("Invalid value {level}. Valid values: ['{}']", levels.join("', '"));
        reader.error("log_level", text, "");
    }
}

fn read_allow_origin(server: &mut SectionReader<'_>) -> Option<HeaderValue> {
    let text = server.given("access_control_allow_origin")?;
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        let name = header::ACCESS_CONTROL_ALLOW_ORIGIN;
        server.error(
            "access_control_allow_origin",
            format!("{text:?} is not a valid value of the header {name}"),
            "write an origin or *",
        );
    }
    value
}
