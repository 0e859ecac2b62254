//! What makes one server accept what another refuses, as digests: servers that share a
//! database compare them there, and need not show each other what they are configured with.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_engine::{ClientTypes, Constraint, IssuerConfig, KeyType, Rules, VerificationKey};
use serde_json::{Value, json};

use crate::{
    config::{IssuerSection, KeyLocation, KeySource},
    revocation::record::to_hex,
    users::password::{self, HashingMemory, OutOfMemoryError, Salt},
};

/// A digest, in hexadecimal. Not for logs: that of a signing key stands for a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// As it was written down.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// As it is written down.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn of(bytes: &[u8]) -> Self {
        Self(to_hex(digest(&SHA256, bytes).as_ref()))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// The fingerprints of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprints {
    /// By the name of each section, of which tokens it accepts; apart from the key, where
    /// the section signs.
    pub sections: BTreeMap<String, Fingerprint>,
    /// Of the key that tokens are signed with, if any are.
    pub signing_key: Option<Fingerprint>,
}

impl Fingerprints {
    /// Those of these sections, in whatever order. Takes the time of a password for each
    /// secret.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn of<'s>(
        sections: impl IntoIterator<Item = &'s IssuerSection>,
    ) -> Result<Self, OutOfMemoryError> {
        let (mut all, mut memory) = (Self::default(), HashingMemory::default());
        for section in sections {
            let acceptance_rules = acceptance_rules(section, &mut memory)?.to_string();
            all.sections
                .insert(section.section().to_owned(), Fingerprint::of(acceptance_rules.as_bytes()));
            if let (true, KeySource::Secret(secret)) = (section.sign, &section.keys) {
                all.signing_key = Some(Fingerprint(stretched(
                    secret.expose(),
                    &section.issuer.name,
                    &mut memory,
                )?));
            }
        }
        Ok(all)
    }
}

/// Everything in a section that decides about a token. Taken apart as a whole, so that what
/// is added to it cannot be forgotten here.
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

/// Where the order says nothing.
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

/// The keys, as far as the configuration says which they are. The same file may be
/// elsewhere on each machine.
fn keys(section: &IssuerSection, memory: &mut HashingMemory) -> Result<Value, OutOfMemoryError> {
    Ok(match &section.keys {
        // It has a fingerprint of its own.
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

/// What stands for a secret, in hexadecimal.
///
/// Whoever reads it can try what the secret may be, as whoever has a token of it can. One
/// that was generated has 256 bits, and nobody gets to the end of trying. One that somebody
/// thought up is as long and may be guessed all the same: so each try costs what one at a
/// password does (argon2id, 64 MiB). The salt cannot be random, as all servers have to come
/// to the same; it keeps what is computed for one issuer from serving for another, and
/// from being anything that the key is used for elsewhere.
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
        raw.add("c.cfg", text, ConfigFormat::Ini, &mut Vec::new());
        Fingerprints::of(&Config::from_raw(raw).unwrap().issuers).unwrap()
    }

    #[test]
    fn what_decides_about_no_token_changes_nothing() {
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
    fn whatever_decides_about_tokens_changes_that_of_its_section_alone() {
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
        assert_eq!(before.sections, other_key.sections, "the signing key is told apart by its own");
    }

    #[test]
    fn a_secret_is_neither_shown_nor_cheap_to_try() {
        let fingerprints = of(&signing(&format!("key={KEY}")));
        let shown = format!("{fingerprints:?}");
        let key = fingerprints.signing_key.unwrap();
        assert!(key.expose().len() == 64 && !shown.contains(key.expose()), "{shown}");
        let salt: Salt = digest(&SHA256, b"countersign fingerprint of a key of i").as_ref()[..16]
            .try_into()
            .unwrap();
        let secret = crate::keysource::written::decode_secret(KEY).unwrap();
        assert_eq!(
            key.expose(),
            to_hex(&password::derive(&secret, &salt, &mut HashingMemory::default()).unwrap())
        );
    }
}
