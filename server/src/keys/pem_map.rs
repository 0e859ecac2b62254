//! Google's form of a key set: a JSON object that maps each `kid` to a certificate or public key in
//! PEM.

use std::fmt;

use countersign_engine::{
    KeyError,
    jwks::SkippedKey,
    limits::{MAX_KEY_SET_BYTES, MAX_KEYS},
};
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

/// Converts a map of PEM texts. `None` for any other document, in which no member is PEM.
pub(super) fn to_jwks(document: &[u8]) -> Option<ConvertedMap> {
    // A longer document is left to the parser of key sets, which rejects it.
    if document.len() > MAX_KEY_SET_BYTES {
        return None;
    }
    let PemMap(members) = serde_json::from_slice(document).ok()?;
    let is_of_jwks = |name: &str| ["keys", "kty"].contains(&name);
    if !members.iter().any(|(_, text)| is_pem(text))
        || members.iter().any(|(name, _)| is_of_jwks(name))
    {
        return None;
    }
    if members.len() > MAX_KEYS {
        // The parser of key sets counts them, and rejects the set.
        let jwks = json!({ "keys": vec![0; members.len()] }).to_string().into_bytes();
        return Some(ConvertedMap { jwks, remarks: Vec::new(), skipped: Vec::new() });
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
                let kid = kid.chars().take(MAX_KID_CHARACTERS).collect::<String>();
                remarks.push(format!("key skipped: kid {kid:?}, in PEM: {reason}"));
                let kid = Some(kid.into());
                skipped.push(SkippedKey { index, kid, error: KeyError::Pem });
            }
        }
    }
    let jwks = json!({ "keys": jwks }).to_string().into_bytes();
    Some(ConvertedMap { jwks, remarks, skipped })
}

/// Characters of a `kid` in a report. Longer ones are cut.
const MAX_KID_CHARACTERS: usize = 64;

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
        while let Some((kid, value)) = map.next_entry::<String, Value>()? {
            // A value of another type is reported as one without PEM.
            let text = value.as_str().unwrap_or_default().to_owned();
            members.push((kid, text));
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
        for other in ["null", "1", "\"\"", "\"text\""] {
            let (jwks, remarks) = converted(&format!("{{\"b\":{other},\"a\":{pem}}}")).unwrap();
            assert_eq!((jwks, remarks.len()), (json!({ "keys": [jwk("a")] }), 1), "{other}");
        }
    }

    #[test]
    fn number_of_members_is_limited_as_that_of_jwks() {
        let members: Vec<_> =
            (0..=MAX_KEYS).map(|kid| format!("\"{kid}\":{}", json!(PEM))).collect();
        let ConvertedMap { jwks, skipped, .. } =
            to_jwks(format!("{{{}}}", members.join(",")).as_bytes()).unwrap();
        let jwks: Value = serde_json::from_slice(&jwks).unwrap();
        assert_eq!((jwks["keys"].as_array().unwrap().len(), skipped.len()), (MAX_KEYS + 1, 0));
    }

    #[test]
    fn other_documents_are_no_pem_map() {
        let pem = json!(PEM);
        for document in [
            "{}".to_owned(),
            "[]".to_owned(),
            "{\"keys\":[]}".to_owned(),
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
