//! The settings of authorization: `[endpoints]`, the providers, and what issuers may state.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    ListenerAccess,
    endpoints::{EndpointTable, settings as endpoint_settings},
    routes::{OpenPaths, RouteTable},
};
use crate::{
    base::redacted::shown,
    config::{problem::Problems, reader::SectionReader, setting::Section},
    keys::IssuerSection,
};

/// The way in which the requests of a listener, or calls of our own API, are authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationProvider {
    /// Every verified token allows every request.
    None,
    /// By the rules of `[route_<name>]`.
    Routes,
    /// By client types and environments of tokens.
    Legacy,
    /// By a policy for users. Other callers as with [`Legacy`](Self::Legacy).
    PolicyEngine,
}

impl AuthorizationProvider {
    /// Every provider.
    pub const ALL: [Self; 4] = [Self::None, Self::Routes, Self::Legacy, Self::PolicyEngine];

    /// Returns its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Routes => "routes",
            Self::Legacy => "legacy",
            Self::PolicyEngine => "policy-engine",
        }
    }

    /// Reads `authorization_provider` of `[server]`.
    pub(crate) fn read(server: &mut SectionReader<'_>) -> Self {
        let name = server.text_or_default("authorization_provider");
        match name.to_lowercase().as_str() {
            "legacy" => Self::Legacy,
            "policy-engine" => Self::PolicyEngine,
            _ => {
                let text = format!(
                    "Invalid value for config option server.authorization-provider: {}. Valid \
                     values: legacy or policy-engine",
                    shown(name)
                );
                server.error("authorization_provider", text, "");
                Self::Legacy
            }
        }
    }
}

impl ListenerAccess {
    /// Reads the options of a listener. `None` if every verified token allows every request.
    pub(crate) fn read(reader: &mut SectionReader<'_>) -> Option<Self> {
        let provider = reader.choice(
            "authorization",
            &AuthorizationProvider::ALL,
            AuthorizationProvider::name,
        );
        let open_paths = OpenPaths::read(reader);
        let is_used = provider != AuthorizationProvider::None || !open_paths.patterns().is_empty();
        is_used.then_some(Self { provider, open_paths })
    }
}

/// Everything that decides about requests of verified tokens.
#[derive(Debug, Default)]
pub struct Authorization {
    /// The rules for requests by route.
    pub routes: RouteTable,
    /// The known endpoints.
    pub endpoints: EndpointTable,
    /// The issuer whose tokens this server signs.
    pub(super) own_issuer: Option<Box<str>>,
    /// Issuers whose tokens may administer.
    pub(super) administrators: Box<[Box<str>]>,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
}

impl Authorization {
    /// Reads the options from their sections.
    pub(crate) fn read(
        sections: &BTreeMap<String, Section>,
        issuers: &mut [IssuerSection],
        problems: &mut Problems,
    ) -> Self {
        let routes = RouteTable::read(sections, issuers, problems);
        let (endpoints, file) = endpoint_settings::read(sections, problems);
        let own = issuers.iter().find(|section| section.sign);
        let administrators = issuers.iter().filter(|one| one.administration.is_granted());
        Self {
            routes,
            endpoints,
            own_issuer: own.map(|section| section.issuer.name.clone()),
            administrators: administrators.map(|one| one.issuer.name.clone()).collect(),
            files: file.into_iter().collect(),
        }
    }
}
