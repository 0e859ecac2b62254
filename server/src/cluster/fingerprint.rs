//! Fingerprints of the settings that decide which tokens a server accepts.
//!
//! Servers on one database store theirs there, and `countersign doctor` compares them. A
//! fingerprint does not reveal the configuration.

use aws_lc_rs::digest::{SHA256, digest};
use countersign_engine::{ClientTypes, Constraint, IssuerConfig, KeyType, Rules, VerificationKey};
use serde_json::{Value, json};

use crate::{
    accounts::password::{self, HashingMemory, OutOfMemoryError, Salt},
    base::hex::to_hex,
    keys::{
        IssuerSection,
        settings::{KeyLocation, KeySource},
    },
    store::servers::{Fingerprint, Fingerprints},
};

/// Computes the [`Fingerprints`] of `sections`, whose order does not matter. Each secret costs as
/// much time as a password hash.
///
/// # Errors
/// [`OutOfMemoryError`] if a hash does not fit into memory.
pub fn fingerprints<'s>(
    sections: impl IntoIterator<Item = &'s IssuerSection>,
) -> Result<Fingerprints, OutOfMemoryError> {
    let (mut all, mut memory) = (Fingerprints::default(), HashingMemory::default());
    for section in sections {
        let acceptance_rules = acceptance_rules(section, &mut memory)?.to_string();
        let digest = to_hex(digest(&SHA256, acceptance_rules.as_bytes()).as_ref());
        all.sections.insert(section.section().to_owned(), Fingerprint::new(digest));
        if let (true, KeySource::Secret(secret)) = (section.sign, &section.keys) {
            let stretched = stretched(secret.expose(), &section.issuer.name, &mut memory)?;
            all.signing_key = Some(Fingerprint::new(stretched));
        }
    }
    Ok(all)
}

/// Returns every setting of a section that decides whether a token is accepted.
///
/// The structures are destructured in full, so that a new field cannot be forgotten here.
fn acceptance_rules(
    section: &IssuerSection,
    memory: &mut HashingMemory,
) -> Result<Value, OutOfMemoryError> {
    let IssuerConfig { name, section: _, algorithms, kid_required, rules } = &*section.issuer;
    let Rules {
        audience,
        token_types,
        max_lifetime,
        leeway,
        username_claim,
        lists_of_strings,
        client_types: ClientTypes { claim, when_absent, allowed },
        environment_claim,
        constraints,
    } = rules;
    Ok(json!({
        "issuer": name,
        "algorithms": algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
        "kid_required": kid_required,
        "audience": audience,
        "token_types": token_types.as_deref().map(sorted),
        "max_lifetime": max_lifetime,
        "leeway": leeway,
        "username_claim": username_claim,
        "lists_of_strings": lists_of_strings,
        "client_types": { "claim": claim, "when_absent": when_absent, "allowed": allowed.as_deref().map(sorted) },
        "environment_claim": environment_claim,
        "constraints": sorted(&constraints.iter().map(constraint_text).collect::<Vec<_>>()),
        "keys": keys(section, memory)?,
    }))
}

/// Sorts a list whose order has no meaning.
fn sorted<T: AsRef<str>>(texts: &[T]) -> Vec<&str> {
    let mut texts: Vec<_> = texts.iter().map(AsRef::as_ref).collect();
    texts.sort_unstable();
    texts
}

fn constraint_text(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Is { claim, value } => json!([claim, "is", value]),
        Constraint::Contains { claim, value } => json!([claim, "contains", value]),
    }
    .to_string()
}

/// Returns the keys of a section, as far as the configuration determines them. Paths are
/// left out, because the same file may have a different path on each machine.
fn keys(section: &IssuerSection, memory: &mut HashingMemory) -> Result<Value, OutOfMemoryError> {
    Ok(match &section.keys {
        // The signing key has a separate fingerprint.
        KeySource::Secret(_) if section.sign => Value::Null,
        KeySource::Secret(secret) => {
            stretched(secret.expose(), &section.issuer.name, memory)?.into()
        }
        KeySource::Static(keys) => {
            let keys = keys
                .iter()
                .map(|key| Ok(static_key(key, &section.issuer.name, memory)?.to_string()));
            sorted(&keys.collect::<Result<Vec<_>, _>>()?).into()
        }
        KeySource::Refreshed(keys) => match &keys.location {
            KeyLocation::File { .. } => "file".into(),
            KeyLocation::Jwks(uri) => json!({ "jwks_uri": uri }),
            KeyLocation::Discovery(uri) => json!({ "discovery_uri": uri }),
        },
    })
}

fn static_key(
    key: &VerificationKey,
    issuer: &str,
    memory: &mut HashingMemory,
) -> Result<Value, OutOfMemoryError> {
    let identity = match key.algorithm().key_type() {
        KeyType::Secret => stretched(&key.identity().bytes(), issuer, memory)?,
        _ => to_hex(&key.identity().bytes()),
    };
    Ok(json!({ "kid": key.kid(), "algorithm": key.algorithm().name(), "identity": identity }))
}

/// Returns a slow hash of a secret (argon2id, 64 MiB), in hexadecimal.
///
/// A fingerprint allows offline guessing of the secret, as any token signed with it does.
/// Generated secrets have 256 bits and cannot be guessed. A secret chosen by a person has
/// the same length but may be guessable, so each guess costs as much as a password hash.
/// The salt cannot be random, because all servers must compute the same value. It contains
/// the issuer, so that precomputed guesses for one issuer are useless for another. It also
/// separates the value from all other uses of the key.
fn stretched(
    secret: &[u8],
    issuer: &str,
    memory: &mut HashingMemory,
) -> Result<String, OutOfMemoryError> {
    let label = digest(&SHA256, format!("countersign fingerprint of a key of {issuer}").as_bytes());
    let mut salt = Salt::default();
    salt.iter_mut().zip(label.as_ref()).for_each(|(salt, byte)| *salt = *byte);
    Ok(to_hex(&password::derive(secret, &salt, memory)?))
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

    fn of(text: &str) -> Fingerprints {
        let mut raw = RawConfig::default();
        raw.add("c.cfg", text, ConfigFormat::Ini);
        fingerprints(&Config::from_raw(raw).unwrap().issuers).unwrap()
    }

    #[test]
    fn fingerprint_ignores_order_and_fetch_settings() {
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
    fn fingerprint_changes_only_for_its_section() {
        let all = |own: &str, of_idp: &str| of(&format!("{}{}", signing(own), idp(of_idp)));
        let (key, keys) = (format!("key={KEY}"), "jwks_uri=https://idp/keys");
        let before = all(&key, keys);
        for line in [
            "claims=a is b",
            "leeway=1",
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
        assert_eq!(
            before.sections, other_key.sections,
            "the signing key has a separate fingerprint"
        );
    }

    #[test]
    fn fingerprint_hides_and_stretches_secrets() {
        let fingerprints = of(&signing(&format!("key={KEY}")));
        let shown = format!("{fingerprints:?}");
        let key = fingerprints.signing_key.unwrap();
        assert!(key.expose().len() == 64 && !shown.contains(key.expose()), "{shown}");
        let salt: Salt = digest(&SHA256, b"countersign fingerprint of a key of i").as_ref()[..16]
            .try_into()
            .unwrap();
        let secret = crate::keys::static_keys::decode_secret(KEY).unwrap();
        assert_eq!(
            key.expose(),
            to_hex(&password::derive(&secret, &salt, &mut HashingMemory::default()).unwrap())
        );
    }
}
