//! The settings of authorization: `[endpoints]`, the providers, and what issuers may state.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::{
    ListenerAccess,
    decision_cache::DecisionCache,
    endpoints::{EndpointTable, settings as endpoint_settings},
    policy::{
        log::PolicyLog,
        settings::{FAILED_START, PolicySettings},
    },
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
    administrators: Box<[Box<str>]>,
    /// The access policy.
    pub policy: PolicySettings,
    /// The log of the policy engine, if that is used.
    pub(super) policy_log: Option<Arc<PolicyLog>>,
    /// Decisions of the policy, if they may be reused.
    pub(super) decisions: Option<DecisionCache>,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
}

impl Authorization {
    /// Reads the options from their sections.
    pub(crate) fn read(
        sections: &BTreeMap<String, Section>,
        issuers: &mut [IssuerSection],
        uses_policy: bool,
        problems: &mut Problems,
    ) -> Self {
        let routes = RouteTable::read(sections, issuers, problems);
        let (endpoints, file) = endpoint_settings::read(sections, problems);
        let data = endpoints.data();
        let policy = PolicySettings::read(sections, &data["endpoints"], uses_policy, problems);
        let decisions = policy.cached_decisions();
        let policy_file = policy.policy.as_ref().map(|policy| policy.path().into());
        let own = issuers.iter().find(|section| section.sign);
        let administrators = issuers.iter().filter(|one| one.administration.is_granted());
        Self {
            routes,
            endpoints,
            own_issuer: own.map(|section| section.issuer.name.clone()),
            administrators: administrators.map(|one| one.issuer.name.clone()).collect(),
            files: file.into_iter().chain(policy_file).collect(),
            policy,
            policy_log: None,
            decisions: DecisionCache::new(decisions),
        }
    }

    /// Whether tokens of an issuer may administer.
    #[must_use]
    pub fn may_administer(&self, issuer: &str) -> bool {
        self.administrators.iter().any(|name| **name == *issuer)
    }

    /// Writes the mistake of a policy that was not loaded to the log of the policy engine.
    pub(crate) fn log_policy_error(&self, problems: &str) {
        if let Some(log) = self.policy_log.as_ref().filter(|_| problems.contains(FAILED_START)) {
            log.record_error(problems);
        }
    }

    /// Opens the log of the policy engine, if that is used. The log of `before` stays open if it is
    /// the same file.
    pub(crate) fn open_log(&mut self, before: Option<&Self>) {
        let Some(policy) = &self.policy.policy else { return };
        let path = &self.policy.log_file;
        let kept = before.filter(|before| before.policy.log_file == *path);
        let log = kept.and_then(|before| before.policy_log.clone()).or_else(|| {
            let opened = PolicyLog::open(path).map(Arc::new);
            opened.inspect_err(|error| tracing::error!("no log of the policy engine: {error}")).ok()
        });
        if let Some(log) = &log {
            log.record_load(self.policy.log_level, policy.path());
        }
        self.policy_log = log;
    }
}
