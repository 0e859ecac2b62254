use std::collections::BTreeSet;

use countersign_engine::{
    KeySet,
    jwks::{Origin, Policy},
    jws,
};
use countersign_tests::shared;
use serde_json::Value;

/// Cases in which a strict verifier disagrees with the labels: a JWK for another algorithm than the
/// header's or an unregistered one (346, 347, 350, 351), tokens labelled invalid that are byte for
/// byte the valid 357 (367, 370), and tokens containing `?` labelled valid (372, 373).
const DISAGREEMENTS: [u64; 8] = [346, 347, 350, 351, 367, 370, 372, 373];

/// Returns the number of cases, and the ids of those accepted although invalid or refused although
/// valid.
fn disagreements(vectors: &Value) -> (usize, BTreeSet<u64>) {
    let (mut count, mut wrong) = (0, BTreeSet::new());
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = if group["public"].is_object() { &group["public"] } else { &group["private"] };
        let set = KeySet::from_jwks(
            keys.to_string().as_bytes(),
            Policy { origin: Origin::Static, algorithms: None },
        );
        for case in group["tests"].as_array().unwrap() {
            count += 1;
            let token = case["jws"].as_str().map_or_else(|| case["jws"].to_string(), str::to_owned);
            let accepted =
                set.as_ref().is_ok_and(|keys| jws::verify(token.as_bytes(), keys).is_ok());
            if accepted != (case["result"] == "valid") {
                wrong.insert(case["tcId"].as_u64().unwrap());
            }
        }
    }
    (count, wrong)
}

#[test]
fn wycheproof_signatures_agree_except_listed() {
    let Some(vectors) = shared::json("vectors/wycheproof_json_web_signature_test.json") else {
        return;
    };
    assert_eq!(disagreements(&vectors), (401, DISAGREEMENTS.into()));
}

#[test]
fn wycheproof_keys_agree() {
    let Some(vectors) = shared::json("vectors/wycheproof_json_web_key_test.json") else { return };
    assert_eq!(disagreements(&vectors), (26, BTreeSet::new()));
}
