//! `auth_jwt_*` sections: one issuer each.

mod names;
mod rules;

pub(crate) use rules::read_scopes;

use std::{collections::BTreeMap, sync::Arc};

use countersign_engine::{
    Algorithm, AlgorithmSet, ExportedClaim, IssuerConfig, KeyType, TokenConditions,
};

use super::{
    administration::Administration,
    published::{has_published_keys, public_key_algorithms},
    secret_id::keyed_digest,
    secret_keys::SecretKeys,
    settings::{self, KeySource},
};
use crate::{
    base::{claims::ClientType, redacted::shown},
    config::{
        options::ISSUER_PREFIX,
        problem::{Problem, Problems},
        reader::{SectionReader, parse_flag},
        setting::Section,
    },
};

/// One `auth_jwt_*` section.
#[derive(Clone, Debug)]
pub struct IssuerSection {
    /// Name, algorithms and rules for the engine.
    pub issuer: Arc<IssuerConfig>,
    /// Source of the keys.
    pub keys: KeySource,
    /// Whether this section signs the tokens issued here.
    pub sign: bool,
    /// Lifetime of signed tokens in seconds. 0 for tokens that never expire.
    pub expire: u64,
    /// Client types that tokens may be signed for, or have. Empty also if `client_types` is not
    /// written.
    pub client_types: Vec<ClientType>,
    /// `administers`, if it is written.
    pub(super) administers: Option<bool>,
    /// Whether its tokens may administer. Decided once all sections are read.
    pub administration: Administration,
}

impl IssuerSection {
    /// Name of the section.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.issuer.section
    }

    /// Sets the claims that applications receive, the same for every section. A change invalidates
    /// the cached tokens, as that of any rule does.
    pub(crate) fn export_claims(&mut self, exported: &Arc<[ExportedClaim]>) {
        Arc::make_mut(&mut self.issuer).rules.exported_claims = Arc::clone(exported);
    }

    /// Sets the conditions that are evaluated for each token, the same for every section. Unless
    /// the section may administer, the `administrative` claims meet none of them.
    pub(crate) fn set_conditions(&mut self, conditions: &TokenConditions, administrative: &[&str]) {
        let is_withheld = !self.administration.is_granted() && !conditions.list().is_empty();
        let withheld = administrative.iter().filter(|_| is_withheld);
        let rules = &mut Arc::make_mut(&mut self.issuer).rules;
        rules.withheld_claims = withheld.map(|name| Box::from(*name)).collect();
        rules.conditions = conditions.clone();
    }

    /// Returns a [`keyed_digest`] of two texts under `key` of the section.
    #[must_use]
    pub fn keyed_digest(&self, parts: [&str; 2]) -> String {
        let secret = match &self.keys {
            KeySource::Secret(secrets) => secrets.key().expose(),
            KeySource::Static(_) | KeySource::Refreshed(_) => &[],
        };
        keyed_digest(secret, parts)
    }

    /// Creates the section of tokens that this server signs with secrets of their own. They may
    /// not administer as users do.
    pub(crate) fn internal(issuer: IssuerConfig, secrets: SecretKeys) -> Self {
        Self {
            issuer: Arc::new(issuer),
            keys: KeySource::Secret(secrets),
            sign: false,
            expire: 0,
            client_types: Vec::new(),
            administers: Some(false),
            administration: Administration::Written(false),
        }
    }

    /// Returns the shared secrets of the section. `None` if it has none.
    #[must_use]
    pub fn secrets(&self) -> Option<&SecretKeys> {
        let KeySource::Secret(secrets) = &self.keys else { return None };
        Some(secrets)
    }

    /// Returns secrets for another purpose, [derived](SecretKeys::derived) from those of the
    /// section. `None` if the section has none.
    pub(crate) fn secrets_for(&self, purpose: &str) -> Option<SecretKeys> {
        Some(self.secrets()?.derived(purpose))
    }

    /// Whether `other` is the same issuer with the same rights and the same
    /// [`KeySource::Refreshed`], so that its refresh thread can be kept. Static keys are read
    /// again.
    #[must_use]
    pub fn has_same_source(&self, other: &Self) -> bool {
        let is_same_source = matches!((&self.keys, &other.keys), (KeySource::Refreshed(one), KeySource::Refreshed(other)) if one == other);
        let is_same_right = self.administration.is_granted() == other.administration.is_granted();
        self.issuer == other.issuer && is_same_source && is_same_right
    }

    /// Whether keys fetched for this section are valid for `other`, so that `other` need
    /// not wait for a fetch. `other` may allow more algorithms, because each key has its
    /// own algorithm.
    #[must_use]
    pub fn can_share_keys_with(&self, other: &Self) -> bool {
        let (KeySource::Refreshed(here), KeySource::Refreshed(there)) = (&self.keys, &other.keys)
        else {
            return false;
        };
        let has_algorithms =
            self.issuer.algorithms.iter().all(|one| other.issuer.algorithms.contains(one));
        self.issuer.name == other.issuer.name && has_algorithms && here.has_same_trust(there)
    }
}

/// Properties of the listeners that the sections depend on.
#[derive(Clone, Copy)]
pub(crate) struct ListenerProperties {
    /// Whether the main listener uses TLS.
    pub(crate) serves_tls: bool,
    /// Whether a listener has the `inmanta` surface, where every section needs its client types.
    pub(crate) has_inmanta_surface: bool,
}

/// Reads all sections. At most one of them signs tokens.
pub(crate) fn read_all(
    sections: &BTreeMap<String, Section>,
    listeners: ListenerProperties,
    problems: &mut Problems,
) -> Vec<IssuerSection> {
    let defaults =
        IssuerDefaults::read(&mut SectionReader::new(sections, "server", problems), listeners);
    let names: Vec<_> = sections.keys().filter(|name| name.starts_with(ISSUER_PREFIX)).collect();
    let read =
        |name: &&String| read_one(&mut SectionReader::new(sections, name, problems), defaults);
    let issuers = names.iter().filter_map(read).collect();
    check_one_signs(sections, &names, problems);
    names::check_distinct(sections, &names, problems);
    issuers
}

/// Defaults from `[server]` for all `auth_jwt_*` sections.
#[derive(Clone, Copy)]
struct IssuerDefaults {
    listeners: ListenerProperties,
    enforce_client_types: bool,
    require_client_type: bool,
}

impl IssuerDefaults {
    fn read(server: &mut SectionReader<'_>, listeners: ListenerProperties) -> Self {
        Self {
            listeners,
            enforce_client_types: server.flag("enforce_client_types"),
            require_client_type: server.flag("legacy_require_client_type"),
        }
    }
}

fn read_one(reader: &mut SectionReader<'_>, defaults: IssuerDefaults) -> Option<IssuerSection> {
    let algorithms = read_algorithms(reader);
    let sign = reader.flag("sign");
    let client_types = read_client_types(reader, sign || defaults.listeners.has_inmanta_surface);
    let expire = reader.number("expire");
    if sign && reader.text("jwt_username_claim").is_some() {
        let text =
            format!("auth config {} used for signing cannot use a custom claim.", reader.section);
        reader.error(
            "jwt_username_claim",
            text,
            "remove jwt_username_claim, or sign with another section",
        );
    }
    for option in [
        "issuer",
        "tenants",
        "audience",
        "audience_claim",
        "jwt_username_claim",
        "scopes",
        "claims",
        "algorithms",
        "client_types",
    ] {
        if reader.text(option).is_some_and(|text| text.trim().is_empty()) {
            reader.error(
                option,
                format!("{option} in {} is empty", reader.section),
                "remove the line to use the default",
            );
        }
    }
    let named = names::read(reader);
    names::check(&named, reader, sign);
    // Anyone can read a public key, so tokens of such sections come from elsewhere.
    let is_public =
        algorithms.is_some_and(|all| all.iter().all(|one| one.key_type() != KeyType::Secret));
    let allowed = client_types.as_deref().unwrap_or_default();
    let rules = rules::read(reader, &named.name, defaults, allowed, is_public);
    if sign {
        rules::check_own_tokens(reader, &rules, expire);
    }
    let (algorithms, client_types) = (algorithms?, client_types?);
    let context =
        settings::KeyContext { algorithms, sign, serves_tls: defaults.listeners.serves_tls };
    let keys = settings::read(reader, context)?;
    const KID: [(&str, bool); 2] = [("optional", false), ("required", true)];
    let (_, kid_required) = reader.choice("kid", &KID, |(name, _)| name);
    let issuer =
        IssuerConfig { section: reader.section.into(), algorithms, kid_required, rules, ..named };
    let administers = reader.optional_flag("administers");
    Some(IssuerSection {
        issuer: Arc::new(issuer),
        keys,
        sign,
        expire,
        client_types,
        administers,
        administration: Administration::Not { would_follow_method: false },
    })
}

/// Reads `algorithm` with Inmanta's two values, or the extension `algorithms`, which has a default
/// for published keys.
fn read_algorithms(reader: &mut SectionReader<'_>) -> Option<AlgorithmSet> {
    if let Some(names) = reader.list("algorithms") {
        let known = |name: &&str| Algorithm::from_name(name);
        if let Some(unknown) = names.iter().find(|name| known(name).is_none()) {
            let all: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
            let text =
                format!("Algorithm {} in {} is not supported", shown(unknown), reader.section);
            let reason = match Algorithm::unsupported(unknown) {
                Some(name) => {
                    format!("{name} is registered for JWS or COSE, but not implemented: ")
                }
                None => String::new(),
            };
            reader.error("algorithms", text, &format!("{reason}choose from {}", all.join(", ")));
            return None;
        }
        if !names.is_empty() {
            return Some(names.iter().filter_map(known).collect());
        }
    }
    let Some(name) = reader.text("algorithm") else {
        if has_published_keys(reader) {
            return Some(public_key_algorithms().collect());
        }
        reader.error(
            "algorithm",
            format!("algorithm is required in {} section", reader.section),
            "write algorithm = HS256 or algorithm = RS256, or name an https:// issuer whose keys \
             are published",
        );
        return None;
    };
    match name.to_lowercase().as_str() {
        "hs256" => Some([Algorithm::Hs256].into_iter().collect()),
        "rs256" => Some([Algorithm::Rs256].into_iter().collect()),
        _ => {
            // The trailing space is Inmanta's.
            let text = format!("Algorithm {} in {} is not support ", shown(name), reader.section);
            reader.error(
                "algorithm",
                text,
                "algorithm takes HS256 or RS256; for others write algorithms = ES256, or a list",
            );
            None
        }
    }
}

fn read_client_types(reader: &mut SectionReader<'_>, is_required: bool) -> Option<Vec<ClientType>> {
    let Some(names) = reader.list("client_types") else {
        if !is_required {
            return Some(Vec::new());
        }
        let text = format!("client_types is a required option for {}", reader.section);
        reader.error(
            "client_types",
            text,
            "write client_types = agent,compiler,api or a part of that list",
        );
        return None;
    };
    let mut types = Vec::new();
    for name in names {
        match name.parse() {
            Ok(client_type) => types.push(client_type),
            Err(_) => {
                let text = format!("invalid client_type {} in {}", shown(name), reader.section);
                reader.error("client_types", text, "the client types are agent, compiler and api");
                return None;
            }
        }
    }
    Some(types)
}

/// Checks that at most one section signs, and one if `auth = true` is written. Sections with other
/// errors count too.
fn check_one_signs(
    sections: &BTreeMap<String, Section>,
    names: &[&String],
    problems: &mut Problems,
) {
    let flag = |section: &str, option: &str| {
        parse_flag(&sections.get(section)?.settings.get(option)?.text)
    };
    let signs = |name: &&String| flag(name, "sign") == Some(true);
    let count = names.iter().filter(|name| signs(name)).count();
    let (start, help) = match count {
        1 => return,
        0 if names.is_empty() || flag("server", "auth") != Some(true) => return,
        0 => (
            "One auth_jwt section should have sign set to true:".into(),
            "set sign = true in exactly one section whose algorithm is HS256, or remove auth = \
             true from [server] to verify tokens only",
        ),
        count => (
            format!(
                "Only one auth_jwt section may have sign set to true, found {count} instances \
                 instead:"
            ),
            "set sign = true in exactly one section whose algorithm is HS256",
        ),
    };
    // All sections with their values, in Python's spelling as Inmanta prints them.
    let line =
        |name: &&String| format!("\n{name} -> sign={}", if signs(name) { "True" } else { "False" });
    let text = start + &names.iter().map(line).collect::<String>();
    problems.push(Problem::error("auth_jwt_*", text).help(help));
}
