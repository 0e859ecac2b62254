//! Digests of the sections that decide about requests, by which a server and the tiers that follow
//! its feed are compared.
//!
//! They contain no secrets. Shared secrets and API keys are compared by their ids, which those that
//! can be guessed do not have. Paths are left out, and the contents of files compared instead, as
//! far as they are read with the configuration.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{
    options::{
        self, DefaultValue, IDENTITY_HEADERS_SECTION, LISTENER_PREFIX, MULTI_TENANCY_SECTION,
        OptionKind, OptionSpec, ROUTE_PREFIX, ROUTES_SECTION,
    },
    reader::parse_flag,
    setting::{Section, is_claim_option},
    settings::Settings,
};
use crate::{
    base::hex::to_hex,
    cluster::digest::config_digests,
    feed::configuration::{SectionDigest, SectionDigests},
    keys::IssuerSection,
};

/// A section, or the prefix of its name, and those of its options that decide about requests.
type ComparedSection = (&'static str, &'static [&'static str]);

/// All sections but those of issuers. Those with a fixed name are compared by their defaults if
/// they are not written.
const COMPARED: [ComparedSection; 11] = [
    ("server", &["auth_additional_header", "token_cookie", "rejected_token_status"]),
    ("listen", LISTENER),
    (LISTENER_PREFIX, LISTENER),
    (IDENTITY_HEADERS_SECTION, ALL),
    ("ext_authz", &["forward_credentials"]),
    (MULTI_TENANCY_SECTION, &["enabled", "claims_namespace"]),
    ("endpoints", &[]),
    ("policy_engine", &["max_time"]),
    (ROUTES_SECTION, ALL),
    (ROUTE_PREFIX, ALL),
    (
        "limits",
        &["bad_signatures_per_core", "bad_signatures_per_issuer", "bad_signatures_per_source"],
    ),
];

const LISTENER: &[&str] = &["surface", "authorization", "open_paths", "preflight"];
/// Every option.
const ALL: &[&str] = &["*"];

/// Length of a digest in bytes.
const DIGEST_BYTES: usize = 16;

/// Computes the digests of the sections, with the contents of the files that they name.
pub(super) fn section_digests(
    sections: &BTreeMap<String, Section>,
    issuers: &[IssuerSection],
    settings: &Settings,
) -> SectionDigests {
    let mut digests = of_issuers(issuers);
    for compared in &COMPARED {
        for section in names(sections, compared.0) {
            let written = sections.get(section);
            let options = effective_options(written, compared);
            let contents = [json!(options), contents(section, written.is_some(), settings)];
            digests.push(section_digest(section, &json!(contents)));
        }
    }
    SectionDigests(digests)
}

fn of_issuers(issuers: &[IssuerSection]) -> Vec<SectionDigest> {
    let digests = config_digests(issuers);
    let signing = issuers.iter().find(|section| section.sign).map(IssuerSection::section);
    let digest = |(section, rules): (&String, &String)| {
        let is_signing = signing == Some(section.as_str());
        let keys = is_signing.then(|| verified_keys(&digests.verified_keys));
        section_digest(section, &json!([rules, keys.flatten()]))
    };
    digests.sections.iter().map(digest).collect()
}

/// Returns the ids of the keys that verify tokens of the section that signs, whichever of them signs.
fn verified_keys(ids: &BTreeSet<String>) -> Option<String> {
    (!ids.is_empty()).then(|| ids.iter().map(String::as_str).collect::<Vec<_>>().join(","))
}

/// Returns the section with this name, or those with this prefix, in the order in which they are
/// written.
fn names<'s>(sections: &'s BTreeMap<String, Section>, name: &'s str) -> Vec<&'s str> {
    if !matches!(name, LISTENER_PREFIX | ROUTE_PREFIX) {
        return vec![name];
    }
    let mut found: Vec<_> = sections.iter().filter(|(one, _)| one.starts_with(name)).collect();
    found.sort_by_key(|(_, section)| section.order);
    found.into_iter().map(|(name, _)| name.as_str()).collect()
}

/// Returns the compared options of a section, with their defaults, in their normal form.
fn effective_options(
    section: Option<&Section>,
    (name, compared): &ComparedSection,
) -> BTreeMap<String, String> {
    let is_compared = |option: &str| *compared == ALL || compared.contains(&option);
    let specs = options::section(name).into_iter().flat_map(options::SectionSpec::options);
    let mut effective = BTreeMap::new();
    for spec in specs.filter(|spec| is_compared(spec.name)) {
        let written = section.and_then(|section| section.settings.get(spec.name));
        let text = written.map_or_else(|| default(spec), |setting| &*setting.text);
        effective.insert(spec.name.to_owned(), normal(spec.kind, text));
    }
    let written = section.iter().flat_map(|section| &section.settings);
    for (option, setting) in written.filter(|(option, _)| is_claim_option(name, option)) {
        effective.insert(option.clone(), setting.text.trim().to_owned());
    }
    effective
}

const fn default(spec: &OptionSpec) -> &'static str {
    match spec.default {
        DefaultValue::Value(default) => default,
        DefaultValue::Described(_) | DefaultValue::Required => "",
    }
}

/// Returns a text that is the same for all spellings of a value.
fn normal(kind: OptionKind, text: &str) -> String {
    let text = text.trim();
    match kind {
        OptionKind::Flag => parse_flag(text).map_or_else(|| text.to_owned(), |one| one.to_string()),
        OptionKind::List(_) => text.split(',').map(str::trim).collect::<Vec<_>>().join(","),
        _ => text.to_owned(),
    }
}

/// Returns the contents of the files of a section, and the ids of its secrets.
fn contents(section: &str, is_written: bool, settings: &Settings) -> Value {
    let authorization = &settings.auth.authorization;
    match section {
        "endpoints" if is_written => authorization.endpoints.data(),
        "policy_engine" => json!(authorization.policy.policy.as_ref().map(|one| one.text())),
        MULTI_TENANCY_SECTION => json!(settings.auth.api_key_ids()),
        _ => Value::Null,
    }
}

fn section_digest(section: &str, contents: &Value) -> SectionDigest {
    let whole = digest(&SHA256, contents.to_string().as_bytes());
    let bytes = whole.as_ref().get(..DIGEST_BYTES).unwrap_or_default();
    SectionDigest { section: section.to_owned(), digest: to_hex(bytes) }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigFormat, RawConfig};

    const ISSUERS: &str = "[auth_jwt_own]\nalgorithm=HS256\nsign=true\nclient_types=agent,api\n\
                           issuer=i\nkey=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs\n\
                           [auth_jwt_idp]\nalgorithms=RS256\nissuer=j\naudience=a\n\
                           client_types=api\njwks_uri=https://idp/keys\n";

    /// Returns the difference between two configurations with these issuers.
    fn difference(own: &str, server: &str) -> String {
        let digests = |text: &str| {
            let mut raw = RawConfig::default();
            raw.add("c.cfg", &format!("{ISSUERS}{text}"), ConfigFormat::Ini);
            Config::from_raw(raw).unwrap().digests
        };
        let difference = digests(own).difference(&digests(server));
        difference.map(|difference| difference.to_string()).unwrap_or_default()
    }

    #[test]
    fn digests_are_those_of_the_effective_configuration() {
        let written = "[limits]\nbad_signatures_per_core=75\n[routes]\ndefault=deny\n[server]\n\
                       rejected_token_status = 403\n[listen]\nopen_paths=/a , /b\npreflight=refuse\n";
        assert_eq!(difference(written, "[listen]\nopen_paths=/a,/b\n"), "");
        let elsewhere = "[server]\nbind_port=1\nserver_address=auth.example\n[cache]\nmegabytes=1\n\
                         [log]\nlevel=warn\n[listen]\nthreads=1\ntrusted_proxies=10.0.0.1\n";
        assert_eq!(difference(elsewhere, ""), "", "these do not decide");
    }

    #[test]
    fn digest_changes_for_each_section_that_decides() {
        for (text, expected) in [
            ("[limits]\nbad_signatures_per_core=off\n", "different: [limits]"),
            ("[server]\ntoken_cookie=__Host-t\n", "different: [server]"),
            ("[listen]\nopen_paths=/a\n", "different: [listen]"),
            ("[identity_headers]\nuser=Remote-User\n", "different: [identity_headers]"),
            ("[identity_headers]\nclaim.email=X-Email\n", "[identity_headers]"),
            ("[ext_authz]\nforward_credentials=true\n", "different: [ext_authz]"),
            ("[routes]\ndefault=allow\n", "different: [routes]"),
            ("[route_a]\nmatch=GET /a\n", "only here: [route_a]"),
            ("[listener_a]\nbind=127.0.0.1:1\n", "only here: [listener_a]"),
            (
                "[auth_jwt_b]\nalgorithms=ES256\nissuer=b\naudience=b\nclient_types=api\njwks_uri=https://b/\n",
                "only here: [auth_jwt_b]",
            ),
        ] {
            let difference = difference(text, "");
            assert!(difference.contains(expected), "{text}: {difference}");
        }
        let rule = |path: &str| format!("[route_a]\nmatch=GET {path}\n");
        assert_eq!(difference(&rule("/a"), &rule("/b")), "different: [route_a]");
    }

    #[test]
    fn guessable_secrets_are_not_in_digests() {
        let digests = |key: &str| {
            let mut raw = RawConfig::default();
            let text = ISSUERS.replace("rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs", key);
            raw.add("c.cfg", &text, ConfigFormat::Ini);
            Config::from_raw(raw).unwrap().digests
        };
        let one = digests("correct-horse-battery-staple-and-many-more-words");
        assert_eq!(one, digests("another-phrase-of-words-that-is-long-enough-too"));
        let random = digests("eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM");
        assert_ne!(random, digests("rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs"));
    }
}
