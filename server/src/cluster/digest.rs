//! Digests of the settings that decide which tokens a server accepts.
//!
//! Servers on one database store theirs there, and `countersign doctor` compares them. Digests
//! contain no secrets. Shared secrets are compared by their [`secret_id`].

use aws_lc_rs::digest::{SHA256, digest};
use countersign_engine::{
    AudienceRule, ClaimPath, ClientTypes, Constraint, ExportFormat, ExportedClaim, IssuerConfig,
    IssuerTenants, KeyType, Rules, UsernameRule, VerificationKey,
};
use serde_json::{Value, json};

use crate::{
    base::hex::to_hex,
    keys::{
        IssuerSection,
        secret_id::secret_id,
        settings::{KeyLocation, KeySource},
    },
    store::servers::ConfigDigests,
};

/// Computes the [`ConfigDigests`] of `sections`, whose order does not matter.
pub fn config_digests<'s>(sections: impl IntoIterator<Item = &'s IssuerSection>) -> ConfigDigests {
    let mut all = ConfigDigests::default();
    for section in sections {
        let rules = acceptance_rules(section).to_string();
        let rules = to_hex(digest(&SHA256, rules.as_bytes()).as_ref());
        all.sections.insert(section.section().to_owned(), rules);
        if let (true, Some(secrets)) = (section.sign, section.secrets()) {
            all.signing_key = secret_id(secrets.signer().expose());
            all.verified_keys = secrets.ids().into_iter().collect();
        }
    }
    all
}

/// Returns every setting of a section that decides whether a token is accepted, and may administer.
///
/// The structures are destructured in full, so that a new field cannot be forgotten here.
fn acceptance_rules(section: &IssuerSection) -> Value {
    let IssuerConfig { name, aliases, tenants, section: _, algorithms, kid_required, rules } =
        &*section.issuer;
    let tenants = match tenants {
        IssuerTenants::Any => vec!["*"],
        IssuerTenants::Listed(tenants) => sorted(tenants),
    };
    let Rules {
        audience: AudienceRule { claim: audience_claim, accepted, all, required: must_name },
        token_types,
        require_expiry,
        max_lifetime,
        leeway,
        username: UsernameRule { claims: username_claims, required, takes_numbers, prefix },
        issued_at_leeway,
        numeric_ids,
        client_types: ClientTypes { claim, when_absent, allowed },
        environment_claim,
        scopes,
        constraints,
        verify_confirmation,
        exported_claims,
        // These are about requests: they change which requests are allowed, but no token.
        conditions: _,
        withheld_claims: _,
        // No section has them.
        logout_tokens: _,
    } = rules;
    json!({
        "issuer": name,
        "aliases": sorted(aliases),
        "tenants": tenants,
        "algorithms": algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
        "kid_required": kid_required,
        "audience": {
            "claim": audience_claim.as_ref().map(ClaimPath::as_str), "accepted": sorted(accepted),
            "all": all, "required": must_name,
        },
        "token_types": token_types.as_deref().map(sorted),
        "require_expiry": require_expiry,
        "max_lifetime": max_lifetime,
        "leeway": leeway,
        "username": {
            "claims": username_claims.iter().map(ClaimPath::as_str).collect::<Vec<_>>(),
            "required": required, "takes_numbers": takes_numbers, "prefix": prefix,
        },
        "issued_at_leeway": issued_at_leeway,
        "numeric_ids": numeric_ids,
        "scopes": sorted(scopes),
        "client_types": { "claim": claim, "when_absent": when_absent, "allowed": allowed.as_deref().map(sorted) },
        "environment_claim": environment_claim,
        "constraints": sorted(&constraints.iter().map(constraint_text).collect::<Vec<_>>()),
        "verify_confirmation": verify_confirmation,
        "exported_claims": exported_claims
            .iter()
            .map(|claim| json!([claim.path.as_str(), format_of(claim)]))
            .collect::<Vec<_>>(),
        "keys": keys(section),
        "administers": section.administration.is_granted(),
    })
}

/// Returns the form of an exported claim. Earlier versions had two of them.
fn format_of(claim: &ExportedClaim) -> Value {
    match claim.format {
        ExportFormat::Text => false.into(),
        ExportFormat::Json => true.into(),
        ExportFormat::Typed => "typed".into(),
    }
}

/// Sorts a list whose order has no meaning.
fn sorted<T: AsRef<str>>(texts: &[T]) -> Vec<&str> {
    let mut texts: Vec<_> = texts.iter().map(AsRef::as_ref).collect();
    texts.sort_unstable();
    texts
}

fn constraint_text(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Is { claim, value } => json!([claim.as_str(), "is", value]),
        Constraint::Contains { claim, value } => json!([claim.as_str(), "contains", value]),
    }
    .to_string()
}

/// Returns the keys of a section, as far as the configuration determines them. Paths are
/// left out, because the same file may have a different path on each machine.
fn keys(section: &IssuerSection) -> Value {
    match &section.keys {
        // The id of the signing key is stored separately.
        KeySource::Secret(_) if section.sign => Value::Null,
        KeySource::Secret(secrets) => secret_id(secrets.key().expose()).into(),
        KeySource::Static(keys) => {
            let keys: Vec<_> = keys.iter().map(|key| static_key(key).to_string()).collect();
            sorted(&keys).into()
        }
        KeySource::Refreshed(keys) => match &keys.location {
            KeyLocation::File { .. } => "file".into(),
            KeyLocation::Jwks(uri) => json!({ "jwks_uri": uri }),
            KeyLocation::Discovery(uri) => json!({ "discovery_uri": uri }),
        },
    }
}

/// Returns kid, algorithm and thumbprint of a key. The thumbprint of a secret would allow guesses
/// of it.
fn static_key(key: &VerificationKey) -> Value {
    let is_secret = key.algorithm().key_type() == KeyType::Secret;
    let thumbprint = (!is_secret).then(|| to_hex(&key.identity().bytes()));
    json!({ "kid": key.kid(), "algorithm": key.algorithm().name(), "thumbprint": thumbprint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigFormat, RawConfig};

    const KEY: &str = "rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs";

    fn signing(lines: &str) -> String {
        format!(
            "[auth_jwt_own]\nalgorithm=HS256\nsign=true\nclient_types=agent,api\nissuer=i\n{lines}\n"
        )
    }

    fn idp(lines: &str) -> String {
        format!(
            "[auth_jwt_idp]\nalgorithms=RS256,ES256\nclient_types=api,agent\nissuer=j\naudience=a\n{lines}\n"
        )
    }

    fn of(text: &str) -> ConfigDigests {
        let mut raw = RawConfig::default();
        raw.add("c.cfg", text, ConfigFormat::Ini);
        config_digests(&Config::from_raw(raw).unwrap().issuers)
    }

    #[test]
    fn digest_ignores_order_and_fetch_settings() {
        let (key, keys) =
            (format!("key={KEY}"), "jwks_uri=https://idp/keys\nclaims=a is b\n  c in d");
        let one = of(&format!("{}{}", signing(&key), idp(keys)));
        let same = format!(
            "{}\njwks_refresh_interval=60\njwks_stale=5",
            keys.replace("a is b\n  c in d", "c in d\n  a is b")
        );
        let other =
            idp(&same).replace("RS256,ES256", "ES256, RS256").replace("api,agent", "agent,api");
        assert_eq!(one, of(&format!("{other}{}", signing(&format!("{key}\nexpire=60")))));
    }

    #[test]
    fn digest_changes_only_for_its_section() {
        let all = |own: &str, of_idp: &str| of(&format!("{}{}", signing(own), idp(of_idp)));
        let (key, keys) = (format!("key={KEY}"), "jwks_uri=https://idp/keys");
        let before = all(&key, keys);
        for line in [
            "claims=a is b",
            "leeway=1",
            "require_exp=false",
            "username_required=true",
            "username_as_text=true",
            "username_prefix=idp:",
            "cnf=ignore",
            "typ=at+jwt",
            "max_lifetime=60",
            "enforce_client_types=false",
        ] {
            let after = all(&key, &format!("{keys}\n{line}"));
            assert_ne!(before.sections["auth_jwt_idp"], after.sections["auth_jwt_idp"], "{line}");
            assert_eq!(before.sections["auth_jwt_own"], after.sections["auth_jwt_own"], "{line}");
            assert_eq!(before.signing_key, after.signing_key, "{line}");
        }
        let elsewhere = all(&key, "jwks_uri=https://other/keys");
        assert_ne!(before.sections["auth_jwt_idp"], elsewhere.sections["auth_jwt_idp"]);
        let other_key = all("key=eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM", keys);
        assert_ne!(before.signing_key, other_key.signing_key);
        assert_eq!(before.sections, other_key.sections, "the signing key has a separate id");
    }

    #[test]
    fn digests_do_not_depend_on_a_guessable_secret() {
        let phrase = |words: &str| of(&signing(&format!("key={words}")));
        let one = phrase("correct-horse-battery-staple-and-many-more-words");
        let other = phrase("another-phrase-of-words-that-is-long-enough-too");
        assert_eq!((&one, &one.signing_key), (&other, &None));
        assert_eq!(of(&signing(&format!("key={KEY}"))).signing_key.unwrap().len(), 16);
    }
}
