//! Google's form of a key set: a JSON object that maps each `kid` to a certificate or public key in
//! PEM.

use std::fmt;

use countersign_engine::{KeyError, jwks::SkippedKey, limits::MAX_KEY_SET_BYTES};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json};

use super::{pem::is_pem, public_key::pem_to_jwk};

/// A map of PEM texts as a JWK Set.
pub(super) struct ConvertedMap {
    pub(super) jwks: Vec<u8>,
    /// A remark for each member that was skipped, and for each expired certificate.
    pub(super) remarks: Vec<String>,
    /// The members that are not in the JWK Set.
    pub(super) skipped: Vec<SkippedKey>,
}

/// Converts a map of PEM texts. `None` for any other document, including one with a member that is
/// not PEM.
pub(super) fn to_jwks(document: &[u8]) -> Option<ConvertedMap> {
    // A longer document is left to the parser of key sets, which rejects it.
    if document.len() > MAX_KEY_SET_BYTES {
        return None;
    }
    let PemMap(members) = serde_json::from_slice(document).ok()?;
    if members.is_empty() || !members.iter().all(|(_, text)| is_pem(text)) {
        return None;
    }
    let (mut jwks, mut remarks, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (kid, text)) in members.into_iter().enumerate() {
        match pem_to_jwk(&text) {
            Ok((mut jwk, expiry)) => {
                jwk["kid"] = Value::String(kid.clone());
                jwks.push(jwk);
                remarks.extend(expiry.map(|expiry| format!("kid {kid:?}: {expiry}")));
            }
            Err(reason) => {
                remarks.push(format!("key skipped: kid {kid:?}, in PEM: {reason}"));
                let kid = Some(kid.into());
                skipped.push(SkippedKey { index, kid, error: KeyError::Pem });
            }
        }
    }
    let jwks = json!({ "keys": jwks }).to_string().into_bytes();
    Some(ConvertedMap { jwks, remarks, skipped })
}

/// Members of a JSON object in their order. The same name may occur repeatedly, as in key sets.
struct PemMap(Vec<(String, String)>);

impl<'de> Deserialize<'de> for PemMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PemMapVisitor)
    }
}

struct PemMapVisitor;

impl<'de> Visitor<'de> for PemMapVisitor {
    type Value = PemMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<PemMap, M::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(PemMap(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public key of RFC 8410 section 10.1.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    fn converted(document: &str) -> Option<(Value, Vec<String>)> {
        let ConvertedMap { jwks, remarks, skipped } = to_jwks(document.as_bytes())?;
        assert_eq!(skipped.len(), remarks.len());
        Some((serde_json::from_slice(&jwks).unwrap(), remarks))
    }

    #[test]
    fn each_member_becomes_a_key_with_its_kid() {
        let pem = json!(PEM);
        let x = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE";
        let jwk = |kid: &str| json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid });
        let (jwks, remarks) =
            converted(&format!("{{\"a\":{pem},\"b\\n\":{pem},\"a\":{pem}}}")).unwrap();
        assert_eq!(jwks, json!({ "keys": [jwk("a"), jwk("b\n"), jwk("a")] }));
        assert_eq!(remarks, [""; 0]);
        let broken = "\"-----BEGIN CERTIFICATE-----\\nYWJj\\n-----END CERTIFICATE-----\"";
        let (jwks, remarks) = converted(&format!("{{\"bad\\n\":{broken},\"a\":{pem}}}")).unwrap();
        assert_eq!(jwks, json!({ "keys": [jwk("a")] }));
        assert_eq!(remarks, ["key skipped: kid \"bad\\n\", in PEM: it is damaged"]);
    }

    #[test]
    fn other_documents_are_no_pem_map() {
        let pem = json!(PEM);
        for document in [
            "{}".to_owned(),
            "[]".to_owned(),
            "{\"keys\":[]}".to_owned(),
            format!("{{\"a\":{pem},\"b\":\"text\"}}"),
            format!("{{\"a\":{pem},\"b\":1}}"),
            format!("{{\"a\":{pem},\"keys\":[]}}"),
            format!("{{\"a\":[{pem}]}}"),
            format!("{{\"a\":{pem}"),
            pem.to_string(),
        ] {
            assert!(to_jwks(document.as_bytes()).is_none(), "{document}");
        }
        let long = format!("{{\"a\":{}}}", json!("x".repeat(MAX_KEY_SET_BYTES) + PEM));
        assert!(to_jwks(long.as_bytes()).is_none());
    }
}
