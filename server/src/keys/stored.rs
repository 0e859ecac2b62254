//! The last good key set of each provider, kept in the database for the next start of the server.
//!
//! Only public keys are stored. A stored set is used only for the same section, issuer, location
//! and trust, is parsed again, and keeps its age.

use std::{sync::Once, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use countersign_engine::{AlgorithmSet, KeyError, KeyIdentity, KeySet, jwks::Origin};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::timeout;

use super::{IssuerSection, settings::RefreshedKeys, static_keys::parse_jwks};
use crate::{
    base::{clock, hex::to_hex},
    store::{
        Store,
        key_sets::{KeySetOwner, StoredKeySet},
    },
};

/// Longest delay of the first fetch by the database.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Seconds by which the clocks of two servers of one database may differ.
const MAX_CLOCK_DIFFERENCE: u64 = 60;

/// The place in the database for the key set of one section.
pub(super) struct StoredKeys {
    store: Store,
    owner: KeySetOwner,
    algorithms: AlgorithmSet,
}

/// A key set of an earlier run.
pub(super) struct RestoredKeys {
    pub(super) keys: KeySet,
    pub(super) stored: StoredKeySet,
    /// Time since it was fetched.
    pub(super) age: Duration,
}

impl StoredKeys {
    /// Returns the place for keys that are fetched over a network; `None` for others, which need
    /// none.
    pub(super) fn new(
        store: Option<&Store>,
        section: &IssuerSection,
        source: &RefreshedKeys,
    ) -> Option<Self> {
        let owner = KeySetOwner {
            section: section.section().into(),
            issuer: section.issuer.name.to_string(),
            source: source_digest(source)?,
        };
        let (store, algorithms) = (store?.clone(), section.issuer.algorithms);
        Some(Self { store, owner, algorithms })
    }

    /// Returns the stored keys that can be used.
    pub(super) async fn load(&self) -> Option<RestoredKeys> {
        let section = &*self.owner.section;
        let stored = match timeout(LOAD_TIMEOUT, self.store.key_set(self.owner.clone())).await {
            Ok(Ok(stored)) => stored?,
            Ok(Err(error)) => {
                tracing::warn!(section, "cannot read the stored keys: {error}");
                return None;
            }
            Err(_elapsed) => {
                tracing::warn!(section, "cannot read the stored keys: the database is slow");
                return None;
            }
        };
        let now = clock::now();
        // Their age is unknown then. Used as new ones, they would outlive any number of restarts.
        if stored.fetched_at > now.plus(MAX_CLOCK_DIFFERENCE) {
            tracing::warn!(
                section,
                "the stored keys are not used: by the clock of this machine they were fetched in \
                 the future"
            );
            return None;
        }
        let age = Duration::from_secs(now.0.saturating_sub(stored.fetched_at.0));
        match parse_jwks(stored.keys.as_bytes(), Origin::Published, self.algorithms) {
            Ok((keys, _)) => Some(RestoredKeys { keys, stored, age }),
            Err(error) => {
                tracing::warn!(section, "the stored keys cannot be used: {error}");
                None
            }
        }
    }

    /// Stores a key set of [`public_jwks`], in the background.
    pub(super) fn save(&self, keys: String) {
        let (store, owner) = (self.store.clone(), self.owner.clone());
        let stored = StoredKeySet { keys, fetched_at: clock::now() };
        self.store.spawn_task(async move { report(store.save_key_set(owner, stored).await) });
    }

    /// Deletes the key set, in the background.
    pub(super) fn delete(&self) {
        let (store, owner) = (self.store.clone(), self.owner.clone());
        self.store.spawn_task(async move { report(store.delete_key_set(owner).await) });
    }
}

/// Logs the first error. The server needs the stored keys only if it restarts while a provider is
/// down.
fn report(stored: Result<(), crate::store::StoreError>) {
    static WARNED: Once = Once::new();
    if let Err(error) = stored {
        tracing::debug!("cannot store fetched keys: {error}");
        WARNED.call_once(|| {
            tracing::warn!(
                "cannot store fetched keys, which a restart while their provider is down needs: \
                 {error}"
            );
        });
    }
}

/// Returns a digest of the location and of what authenticates it, without which its keys are not
/// to be trusted. A query may be a secret, so the location itself is not stored.
pub(super) fn source_digest(source: &RefreshedKeys) -> Option<String> {
    let RefreshedKeys {
        location,
        validate_cert,
        authorities,
        token_file: _,
        timeout: _,
        timing: _,
    } = source;
    let uri = location.uri()?;
    let mut context = Context::new(&SHA256);
    let mut update = |part: &[u8]| {
        // Lengths keep two splits of the same bytes apart.
        context.update(&part.len().to_be_bytes());
        context.update(part);
    };
    update(location.option().as_bytes());
    update(uri.as_bytes());
    update(&[u8::from(*validate_cert)]);
    authorities.iter().for_each(|authority| update(authority));
    Some(to_hex(context.finish().as_ref()))
}

/// Returns the public keys of a fetched key set as a JWK Set, which gives exactly `keys` when it is
/// parsed; `None` if that is not possible.
pub(super) fn public_jwks(json: &[u8], keys: &KeySet, algorithms: AlgorithmSet) -> Option<String> {
    /// The set, without a look into its keys.
    #[derive(Deserialize)]
    struct PublishedSet {
        keys: Option<Vec<Box<RawValue>>>,
    }
    let PublishedSet { keys: members } = serde_json::from_slice(json).ok()?;
    let members = match members {
        Some(members) => members,
        None => vec![serde_json::from_slice(json).ok()?],
    };
    // Those skipped before the conversion to JWKs are not in the set.
    let skipped = || keys.skipped().iter().filter(|key| key.error != KeyError::Pem);
    let is_skipped = |index| skipped().any(|key| key.index == index);
    let usable = members.iter().enumerate().filter(|(index, _)| !is_skipped(*index));
    let public: Vec<_> = usable
        .filter_map(|(_, member)| public_jwk(serde_json::from_str(member.get()).ok()?))
        .collect();
    let stored = json!({ "keys": public }).to_string();
    let (parsed, _) = parse_jwks(stored.as_bytes(), Origin::Published, algorithms).ok()?;
    parsed.iter().map(described).eq(keys.iter().map(described)).then_some(stored)
}

fn described(key: &countersign_engine::VerificationKey) -> (Option<&str>, &str, KeyIdentity) {
    (key.kid(), key.algorithm().name(), key.identity())
}

/// Returns the members of a public key; `None` for any other key.
fn public_jwk(member: Value) -> Option<Value> {
    const PUBLIC: [&str; 11] =
        ["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "x5t", "x5t#S256"];
    // The private members of RFC 7518 section 6, of which `k` is a secret.
    const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    let Value::Object(mut jwk) = member else { return None };
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return None;
    }
    jwk.retain(|name, _| PUBLIC.contains(&&**name) || name == "key_ops");
    Some(Value::Object(jwk))
}

#[cfg(test)]
mod tests {
    use countersign_engine::Algorithm;

    use super::*;

    /// The public key of RFC 8037 appendix A.2.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn stored(members: &Value) -> Option<String> {
        let (json, algorithms) =
            (json!({ "keys": members }).to_string(), [Algorithm::EdDsa].into_iter().collect());
        let (keys, _) = parse_jwks(json.as_bytes(), Origin::Published, algorithms).unwrap();
        public_jwks(json.as_bytes(), &keys, algorithms)
    }

    #[test]
    fn only_public_keys_are_stored() {
        let good = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": X, "x5c": ["q"] });
        let private = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "b", "x": X, "d": "secret" });
        let secret = json!({ "kty": "oct", "kid": "c", "k": "c2VjcmV0" });
        let kept = stored(&json!([good, private, secret, 5])).unwrap();
        let expected = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": X });
        assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), json!({ "keys": [expected] }));
    }

    #[test]
    fn set_is_stored_without_its_unusable_keys() {
        let good = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{X}","x5t":"t"}}"#);
        let twice = good.replace(r#""kid":"a""#, r#""kid":"b","kid":"b""#);
        let json = format!(r#"{{"keys":[{twice},{good},{{"n":1e400}}],"n":1e400}}"#);
        let algorithms = [Algorithm::EdDsa].into_iter().collect();
        let (keys, _) = parse_jwks(json.as_bytes(), Origin::Published, algorithms).unwrap();
        let kept = public_jwks(json.as_bytes(), &keys, algorithms).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept, json!({ "keys": [serde_json::from_str::<Value>(&good).unwrap()] }));
    }

    #[test]
    fn set_with_a_key_that_would_differ_is_not_stored() {
        // The engine accepts a key with these members, and they are not its own.
        let odd = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": X, "k": "c2VjcmV0" });
        assert_eq!(stored(&json!([odd])), None);
    }
}
