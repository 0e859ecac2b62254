//! `auth_jwt_*` sections: one issuer each.

use std::{collections::BTreeMap, sync::Arc};

use countersign_engine::{
    Algorithm, AlgorithmSet, ClientTypes, Constraint, IssuerConfig, KeyType, Rules, UsernameRule,
    jwks::Origin,
};

use super::{
    administration::Administration,
    secret_id::keyed_digest,
    settings::{self, KeyLocation, KeySource},
};
use crate::{
    base::{
        claims::{CLIENT_TYPES_CLAIM, ClientType, ENVIRONMENT_CLAIM, TOKEN_TYPE},
        redacted::{quoted, shown},
    },
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
    /// Client types that tokens may be signed for.
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

    /// Returns a [`keyed_digest`] of two texts under the secret of the section.
    #[must_use]
    pub fn keyed_digest(&self, parts: [&str; 2]) -> String {
        let secret = match &self.keys {
            KeySource::Secret(secret) => secret.expose(),
            KeySource::Static(_) | KeySource::Refreshed(_) => &[],
        };
        keyed_digest(secret, parts)
    }

    /// Whether `other` is the same issuer with the same rights and the same
    /// [`KeySource::Refreshed`], so that its refresh thread can be kept. Static keys are read again.
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

/// Reads all sections. One of them must sign tokens, unless the server `only_verifies`.
pub(crate) fn read_all(
    sections: &BTreeMap<String, Section>,
    (serves_tls, only_verifies): (bool, bool),
    problems: &mut Problems,
) -> Vec<IssuerSection> {
    let defaults =
        IssuerDefaults::read(&mut SectionReader::new(sections, "server", problems), serves_tls);
    let names: Vec<_> = sections.keys().filter(|name| name.starts_with(ISSUER_PREFIX)).collect();
    let read =
        |name: &&String| read_one(&mut SectionReader::new(sections, name, problems), defaults);
    let issuers = names.iter().filter_map(read).collect();
    if !only_verifies {
        check_one_signs(sections, &names, problems);
    }
    check_issuers_differ(sections, &names, problems);
    issuers
}

/// Defaults from `[server]` for all `auth_jwt_*` sections.
#[derive(Clone, Copy)]
struct IssuerDefaults {
    serves_tls: bool,
    enforce_client_types: bool,
    require_client_type: bool,
}

impl IssuerDefaults {
    fn read(server: &mut SectionReader<'_>, serves_tls: bool) -> Self {
        Self {
            serves_tls,
            enforce_client_types: server.flag("enforce_client_types"),
            require_client_type: server.flag("legacy_require_client_type"),
        }
    }
}

fn read_one(reader: &mut SectionReader<'_>, defaults: IssuerDefaults) -> Option<IssuerSection> {
    let algorithms = read_algorithms(reader);
    let client_types = read_client_types(reader);
    let sign = reader.flag("sign");
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
    for option in ["issuer", "audience", "jwt_username_claim"] {
        if reader.text(option) == Some("") {
            reader.error(
                option,
                format!("{option} in {} is empty", reader.section),
                "remove the line to use the default",
            );
        }
    }
    let name: Box<str> = reader.text_or_default("issuer").into();
    // Anyone can read a public key, so tokens of such sections come from elsewhere.
    let is_public =
        algorithms.is_some_and(|all| all.iter().all(|one| one.key_type() != KeyType::Secret));
    let allowed = client_types.as_deref().unwrap_or_default();
    let rules = read_rules(reader, &name, defaults, allowed, is_public);
    if sign {
        check_own_tokens(reader, &rules, expire);
    }
    let (algorithms, client_types) = (algorithms?, client_types?);
    let context = settings::KeyContext { algorithms, sign, serves_tls: defaults.serves_tls };
    let keys = settings::read(reader, context)?;
    let issuer = IssuerConfig {
        name,
        section: reader.section.into(),
        algorithms,
        kid_required: has_published_keys(&keys),
        rules,
    };
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

/// Reads `algorithm` with Inmanta's two values, or the extension `algorithms`.
fn read_algorithms(reader: &mut SectionReader<'_>) -> Option<AlgorithmSet> {
    if let Some(names) = reader.list("algorithms") {
        let known = |name: &&str| Algorithm::from_name(name);
        if let Some(unknown) = names.iter().find(|name| known(name).is_none()) {
            let all: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
            let text =
                format!("Algorithm {} in {} is not supported", shown(unknown), reader.section);
            reader.error("algorithms", text, &format!("choose from {}", all.join(", ")));
            return None;
        }
        if !names.is_empty() {
            return Some(names.iter().filter_map(known).collect());
        }
    }
    let Some(name) = reader.text("algorithm") else {
        reader.error(
            "algorithm",
            format!("algorithm is required in {} section", reader.section),
            "write algorithm = HS256 or algorithm = RS256",
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

fn read_client_types(reader: &mut SectionReader<'_>) -> Option<Vec<ClientType>> {
    let Some(names) = reader.list("client_types") else {
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

fn read_rules(
    reader: &mut SectionReader<'_>,
    issuer: &str,
    defaults: IssuerDefaults,
    client_types: &[ClientType],
    is_public: bool,
) -> Rules {
    /// Public keys belong to issuers on other machines, with other clocks.
    const PUBLIC_LEEWAY: u32 = 30;
    let enforce =
        reader.optional_flag("enforce_client_types").unwrap_or(defaults.enforce_client_types);
    let require =
        reader.optional_flag("legacy_require_client_type").unwrap_or(defaults.require_client_type);
    Rules {
        audience: reader.text("audience").unwrap_or(issuer).into(),
        token_types: read_token_types(reader),
        require_expiry: reader.optional_flag("require_exp").unwrap_or(is_public),
        max_lifetime: reader.optional_number("max_lifetime"),
        leeway: reader.optional_number("leeway").unwrap_or(if is_public {
            PUBLIC_LEEWAY
        } else {
            0
        }),
        username: read_username(reader),
        lists_of_strings: true,
        client_types: ClientTypes {
            claim: CLIENT_TYPES_CLAIM.into(),
            when_absent: (!require).then(|| ClientType::Api.name().into()),
            allowed: enforce.then(|| client_types.iter().map(|one| one.name().into()).collect()),
        },
        environment_claim: ENVIRONMENT_CLAIM.into(),
        constraints: read_constraints(reader),
        verify_confirmation: reads_confirmation(reader),
    }
}

/// Reads the options of the username. A claim that is written down is one that applications rely
/// on, so a token without it is refused. The default, `sub`, is absent from many tokens of
/// machines.
fn read_username(reader: &mut SectionReader<'_>) -> UsernameRule {
    let is_written = reader.text("jwt_username_claim").is_some();
    UsernameRule {
        claim: reader.text_or_default("jwt_username_claim").into(),
        required: reader.optional_flag("username_required").unwrap_or(is_written),
        takes_numbers: reader.flag("username_as_text"),
        prefix: reader.text_or_default("username_prefix").into(),
    }
}

/// Reads `cnf`: whether tokens with this claim are refused without a proof of possession.
fn reads_confirmation(reader: &mut SectionReader<'_>) -> bool {
    const CHOICES: [(&str, bool); 2] = [("verify", true), ("ignore", false)];
    let (_, is_verified) = reader.choice("cnf", &CHOICES, |(name, _)| name);
    if !is_verified {
        let text = format!(
            "cnf is ignored in {}: a stolen token that is bound to a key can be used without it",
            reader.section
        );
        reader.warn("cnf", text, "remove the line, and present bound tokens over mutual TLS");
    }
    is_verified
}

/// Rejects a section that would refuse the tokens it signs, or name our users otherwise than
/// `/api/v2` does.
fn check_own_tokens(reader: &mut SectionReader<'_>, rules: &Rules, expire: u64) {
    for (option, is_set, reason) in [
        (
            "username_required",
            rules.username.required,
            "tokens of agents and compilers have no username",
        ),
        (
            "username_prefix",
            !rules.username.prefix.is_empty(),
            "the names of users would not be those of /api/v2",
        ),
        (
            "require_exp",
            rules.require_expiry && expire == 0,
            "expire is 0, so its tokens never expire",
        ),
    ] {
        if is_set {
            let text = format!("{option} in {}, which signs: {reason}", reader.section);
            reader.error(option, text, "remove the line");
        }
    }
    if rules
        .token_types
        .as_ref()
        .is_some_and(|types| !types.iter().any(|one| one.eq_ignore_ascii_case(TOKEN_TYPE)))
    {
        let text = format!(
            "{} signs tokens of type {TOKEN_TYPE}, which its typ option refuses",
            reader.section
        );
        reader.error("typ", text, &format!("add {TOKEN_TYPE} to typ, or remove the line"));
    }
    let Some(most) = rules.max_lifetime.filter(|most| expire == 0 || expire > u64::from(*most))
    else {
        return;
    };
    let lifetime = if expire == 0 { "never expire".into() } else { format!("live for {expire} s") };
    let text = format!(
        "tokens signed by {} {lifetime}, which exceeds its max_lifetime of {most} s",
        reader.section
    );
    reader.error("max_lifetime", text, "set expire to max_lifetime or less");
}

/// Reads `typ`: the accepted token types, without `application/` as in RFC 7515 section
/// 4.1.9.
fn read_token_types(reader: &mut SectionReader<'_>) -> Option<Box<[Box<str>]>> {
    let types = reader.list("typ")?;
    if types.is_empty() || types.contains(&"") {
        let text = format!("typ in {} contains an empty type", reader.section);
        let help =
            "write typ = at+jwt, or remove the line to accept tokens without an explicit type";
        reader.error("typ", text, help);
    }
    Some(
        types
            .into_iter()
            .map(|one| one.to_lowercase())
            .map(|one| one.strip_prefix("application/").unwrap_or(&one).into())
            .collect(),
    )
}

/// Reads `claims`, an option of older Inmanta versions: lines of `<value> in <list claim>`
/// and `<claim> is <string>`. Any other line is an error, so that the check fails closed.
fn read_constraints(reader: &mut SectionReader<'_>) -> Box<[Constraint]> {
    let mut constraints = Vec::new();
    let text = reader.text("claims").unwrap_or_default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match parse_constraint(line) {
            Some(constraint) => constraints.push(constraint),
            None => reader.error(
                "claims",
                format!("{} in {} is not a claims expression", quoted(line), reader.section),
                "write <value> in <claim>, or <claim> is <value>, one per line",
            ),
        }
    }
    constraints.into()
}

/// Parses one line of `claims`. The last `in` or `is` between words is the operator, as in
/// Inmanta's greedy regular expression.
fn parse_constraint(line: &str) -> Option<Constraint> {
    let words: Vec<_> = line.split_whitespace().collect();
    let last = words.len().checked_sub(1)?;
    let place = (1..last).rev().find(|place| ["in", "is"].contains(&words[*place]))?;
    let left = words[..place].join(" ").into();
    let right = words[place + 1..].join(" ").into();
    Some(match words[place] {
        "in" => Constraint::Contains { claim: right, value: left },
        _ => Constraint::Is { claim: left, value: right },
    })
}

/// Whether the issuer publishes its keys. Inmanta requires a `kid` in tokens then.
fn has_published_keys(keys: &KeySource) -> bool {
    match keys {
        KeySource::Secret(_) | KeySource::Static(_) => false,
        KeySource::Refreshed(keys) => match &keys.location {
            KeyLocation::Jwks(_) | KeyLocation::Discovery(_) => true,
            KeyLocation::File { origin, .. } => *origin == Origin::Published,
        },
    }
}

/// Checks that one section signs. Sections with other errors count too.
fn check_one_signs(
    sections: &BTreeMap<String, Section>,
    names: &[&String],
    problems: &mut Problems,
) {
    let signs = |name: &&String| {
        let setting = sections.get(*name).and_then(|section| section.settings.get("sign"));
        setting.and_then(|setting| parse_flag(&setting.text)) == Some(true)
    };
    let count = names.iter().filter(|name| signs(name)).count();
    let start = match count {
        1 => return,
        0 if names.is_empty() => return,
        0 => "One auth_jwt section should have sign set to true:".into(),
        count => format!(
            "Only one auth_jwt section may have sign set to true, found {count} instances instead:"
        ),
    };
    // All sections with their values, in Python's spelling as Inmanta prints them.
    let line =
        |name: &&String| format!("\n{name} -> sign={}", if signs(name) { "True" } else { "False" });
    let text = start + &names.iter().map(line).collect::<String>();
    problems.push(
        Problem::error("auth_jwt_*", text)
            .help("set sign = true in exactly one section whose algorithm is HS256"),
    );
}

fn check_issuers_differ(
    sections: &BTreeMap<String, Section>,
    names: &[&String],
    problems: &mut Problems,
) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for section in names {
        let mut reader = SectionReader::new(sections, section, problems);
        let issuer = reader.text_or_default("issuer").to_owned();
        let help = seen.get(&issuer).map(|earlier| {
            format!(
                "{earlier} also has the issuer {issuer}; the default issuer is \
                 https://localhost:8888/"
            )
        });
        if let Some(help) = help {
            reader.error("issuer", "Only one configuration per issuer is supported", &help);
        }
        seen.insert(issuer, section);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_constraints_parse_or_fail_closed() {
        let contains = |value: &str, claim: &str| {
            Some(Constraint::Contains { claim: claim.into(), value: value.into() })
        };
        let is = |claim: &str, value: &str| {
            Some(Constraint::Is { claim: claim.into(), value: value.into() })
        };
        assert_eq!(parse_constraint("prod in environments"), contains("prod", "environments"));
        assert_eq!(parse_constraint("type is dc"), is("type", "dc"));
        assert_eq!(parse_constraint("my value  in  my claim"), contains("my value", "my claim"));
        assert_eq!(parse_constraint("a is b is c"), is("a is b", "c"));
        assert_eq!(parse_constraint("x in y"), contains("x", "y"));
        for odd in [
            "prod",
            "in environments",
            "prod in",
            "prod on environments",
            "prodin environments",
            "",
        ] {
            assert_eq!(parse_constraint(odd), None, "{odd}");
        }
    }
}
