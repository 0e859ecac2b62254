//! Bodies of the fuzz targets: invariants that hold for any input.
//!
//! They are plain functions. libFuzzer (`fuzz/`), the replay of the corpus in every test run
//! and a debugger with a crashing file all call the same body. The engine is compared with
//! implementations that share no code with it: `serde_json` for JSON, the `base64` crate for
//! segments, and an HMAC computed here for signatures.

mod check_request;
mod client_certificates;
mod front;
mod http1;
mod http2;
mod http3;
mod network;
mod request_path;
mod rsa_lanes;
mod spop;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
pub use check_request::{assert_same, check_request};
pub use client_certificates::{certificate_header, certificate_rules};
use countersign_engine::{
    Algorithm, AlgorithmSet, AudienceRule, Claims, ClientTypes, IssuerConfig, KeyMaterial, KeyName,
    KeySet, KeyType, Reject, Rules, UnixTime, UsernameRule, VerificationKey, Verified, Verifier,
    jwks::{Origin, Policy, SkippedKey},
    jws::{self, UnverifiedToken},
    limits,
};
use countersign_server::{
    config::{Config, ConfigFormat, Problem, Problems, RawConfig},
    keys::static_keys,
};
pub use front::front;
pub use http1::http1;
pub use http2::http2;
pub use http3::http3;
pub use network::network;
pub use request_path::request_path;
pub use rsa_lanes::rsa_lanes;
use serde_json::{Map, Value};
pub use spop::spop;

/// Verification time of every token.
const NOW: UnixTime = UnixTime(1_700_000_000);
/// Secret of the only issuer. Tokens in the corpus are signed with it.
const SECRET: &[u8; 32] = b"countersign fuzz target's secret";
const ISSUER: &str = "https://issuer.example/";
const AUDIENCE: &str = "https://countersign.example/";
const CLIENT_TYPES: [&str; 3] = ["agent", "compiler", "api"];

/// Fuzz target: any bytes as a token. The same bytes also become the payload, additional claims
/// and the header of correctly signed tokens, so that the code after the signature check is
/// reached.
pub fn token(data: &[u8]) {
    const HEADER: &[u8] = br#"{"alg":"HS256"}"#;
    let good_claims =
        format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"someone","exp":1800000000}}"#);
    let more_claims =
        [format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","#).as_bytes(), data, b"}"].concat();

    check_token(data);
    check_token(&signed(data, good_claims.as_bytes()));
    check_token(&signed(HEADER, &more_claims));
    let with_payload = signed(HEADER, data);
    check_token(&with_payload);

    // `jws::verify` accepts any payload and returns it unchanged.
    let expected = if with_payload.len() > limits::MAX_TOKEN_BYTES {
        Err(Reject::TooLong)
    } else {
        Ok(data.to_vec())
    };
    assert_eq!(jws::verify(&with_payload, &engine().keys), expected);
}

/// Fuzz target: any bytes as a published and as a static key set, under several policies.
pub fn jwks(data: &[u8]) {
    let policies: [Option<&[Algorithm]>; 4] = [
        None,
        Some(Algorithm::ALL),
        Some(&[Algorithm::Hs256]),
        Some(&[Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]),
    ];
    for origin in [Origin::Static, Origin::Published] {
        for algorithms in policies {
            let algorithms = algorithms.map(|allowed| allowed.iter().copied().collect());
            check_key_set(data, Policy { origin, algorithms });
        }
    }
}

/// Fuzz target: any bytes as static keys of the configuration, secret and public.
pub fn static_keys_file(data: &[u8]) {
    let algorithms: [&[Algorithm]; 4] = [
        &[Algorithm::Hs256],
        &[Algorithm::Rs256, Algorithm::Ps384],
        &[Algorithm::Es256, Algorithm::Es512],
        &[Algorithm::EdDsa],
    ];
    for algorithms in algorithms.map(|all| all.iter().copied().collect::<AlgorithmSet>()) {
        match static_keys::parse_keys(data, algorithms) {
            Ok((keys, warnings)) => {
                assert!(!keys.is_empty(), "a set without keys is a mistake");
                assert_keys_fit(
                    &keys,
                    Policy { origin: Origin::Static, algorithms: Some(algorithms) },
                );
                assert!(
                    warnings.iter().all(|warning| warning.starts_with("key skipped: ")),
                    "{warnings:?}"
                );
            }
            Err(fault) => assert!(!fault.is_empty() && !fault.contains('\n'), "{fault:?}"),
        }
    }
}

/// Fuzz target: any text as a configuration file. The first byte selects TOML (`t`) or INI.
pub fn configuration(data: &[u8]) {
    let Some((format, text)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let format = if *format == b't' { ConfigFormat::Toml } else { ConfigFormat::Ini };
    let reading = ParsedConfig::of(text, format);
    reading.assert_well_formed();
    assert_eq!(
        reading.summary(),
        ParsedConfig::of(text, format).summary(),
        "parsing is deterministic"
    );
    assert_keys_stay_secret(text, format, &reading.raw);
}

// Tokens

/// Verifier under test, with its key.
struct Engine {
    verifier: Verifier,
    keys: Arc<KeySet>,
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let key = VerificationKey::new(None, Algorithm::Hs256, KeyMaterial::Secret(SECRET))
            .expect("the secret is long enough");
        let keys = Arc::new(KeySet::new(vec![key]));
        // A small cache, so that fuzzing evicts entries all the time.
        let builder = Verifier::builder().issuer(issuer_config(), Arc::clone(&keys));
        Engine { verifier: builder.cache_bytes(256 << 10).build().expect("a verifier"), keys }
    })
}

fn issuer_config() -> IssuerConfig {
    let usual = crate::engine::config([Algorithm::Hs256]);
    let allowed = Some(CLIENT_TYPES.map(Box::from).into());
    let rules = Rules {
        audience: AudienceRule::new(AUDIENCE),
        username: UsernameRule {
            claims: ["preferred_username".into()].into(),
            ..usual.rules.username
        },
        client_types: ClientTypes { allowed, ..usual.rules.client_types },
        ..usual.rules
    };
    IssuerConfig { name: ISSUER.into(), section: "auth_jwt_fuzz".into(), rules, ..usual }
}

/// Makes a token over these bytes with a valid signature.
fn signed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)).into_bytes()
}

fn check_token(token: &[u8]) {
    let result = engine().verifier.verify(token, NOW);
    let again = engine().verifier.verify(token, NOW);
    assert_eq!(outcome(&result), outcome(&again), "verification is deterministic");

    let decoded = UnverifiedToken::decode(token);
    if let Ok(decoded) = &decoded {
        assert_canonical_encoding(token, decoded);
    }
    let Ok(verified) = result else { return };
    assert!(decoded.is_ok(), "an accepted token can be decoded");
    assert_signature_valid(token, verified.claims());
    assert_claims_valid(verified.claims());
    assert_alterations_are_refused(token);
    if let Some(end) = verified.claims().expires_at() {
        assert_eq!(
            outcome(&engine().verifier.verify(token, end)),
            Err(Reject::Expired),
            "a token expires in the second of its exp"
        );
    }
}

/// Returns everything that a verification result exposes, so that a cached result can be compared
/// with an uncached one.
fn outcome(result: &Result<Verified<'_>, Reject>) -> Result<String, Reject> {
    result.as_ref().map_err(|reject| *reject).map(|verified| {
        let (claims, identity) = (verified.claims(), verified.identity());
        let names = (
            claims.subject(),
            claims.username(),
            claims.environment(),
            claims.client_types().collect::<Vec<_>>(),
        );
        let headers = [
            identity.subject(),
            identity.user(),
            identity.issuer(),
            identity.client_types(),
            identity.environment(),
        ]
        .map(<[u8]>::escape_ascii);
        let key = verified.key() == engine().keys.iter().next().expect("its only key").identity();
        format!(
            "{names:?} {headers:?} {:?} {} {key} {:?}",
            claims.expires_at(),
            verified.issuer().name,
            claims.json()
        )
    })
}

/// Asserts that header and payload are encoded canonically: encoding the decoded bytes returns
/// the characters of the token.
fn assert_canonical_encoding(token: &[u8], decoded: &UnverifiedToken) {
    strict_object(&decoded.header);
    let encoded = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(&decoded.header),
        URL_SAFE_NO_PAD.encode(&decoded.payload)
    );
    assert!(
        token.starts_with(encoded.as_bytes()),
        "an accepted token is not canonical, expected {encoded}"
    );
}

/// Asserts that an accepted token has three segments, the algorithm HS256 and the tag by
/// [`SECRET`].
fn assert_signature_valid(token: &[u8], claims: Claims<'_>) {
    let segments: Vec<_> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = segments[..] else {
        panic!("accepted with {} segments", segments.len())
    };
    let decode = |segment| {
        URL_SAFE_NO_PAD.decode(segment).expect("an accepted segment is canonical base64url")
    };
    let header = strict_object(&decode(header))
        .unwrap_or_else(|| Map::from_iter([("alg".to_owned(), "HS256".into())]));
    assert_eq!(header.get("alg").and_then(Value::as_str), Some("HS256"));
    assert!(!header.contains_key("crit"), "accepted with an unsupported critical extension");
    assert_eq!(decode(payload), claims.json());
    let signed = &token[..token.len() - signature.len() - 1];
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    hmac::verify(&key, signed, &decode(signature))
        .expect("an accepted token was signed with the secret");
}

/// Checks the claim rules again on the claims as parsed by `serde_json`.
fn assert_claims_valid(claims: Claims<'_>) {
    let Some(json) = strict_object(&claims.json()) else { return };
    let text = |name: &str| {
        json.get(name).map(|claim| claim.as_str().expect("a registered text claim is a string"))
    };
    // `serde_json` may round the last bit of a fraction up, hence `<=` below.
    let seconds =
        |name: &str| json.get(name).map(|claim| claim.as_f64().expect("a time is a number"));
    let now = 1_700_000_000.0;

    assert_eq!(text("iss"), Some(ISSUER));
    assert!(
        json.get("aud").is_some_and(|audience| string_or_list(audience).contains(&AUDIENCE)),
        "accepted for another audience"
    );
    assert!(seconds("exp").is_none_or(|end| end > now), "accepted after its exp");
    assert!(seconds("exp").is_none_or(|end| end < 5e9), "accepted with an exp in milliseconds");
    assert_eq!(json.contains_key("exp"), claims.expires_at().is_some_and(|end| end > NOW));
    assert!(seconds("nbf").is_none_or(|start| start <= now + 1.0), "accepted before its nbf");
    assert!(seconds("iat").is_none_or(|issued| issued <= now + 1.0), "accepted before its iat");
    assert_eq!(claims.subject(), text("sub"));
    assert_eq!(claims.environment(), text("urn:inmanta:env"));
    let username = json.get("preferred_username").and_then(Value::as_str);
    assert_eq!(claims.username(), username.filter(|name| !name.is_empty()));
    assert!(!json.contains_key("cnf"), "a bound token was accepted without proof");
    text("jti");
    for claim in json.values().filter(|claim| claim.is_array()) {
        string_or_list(claim);
    }
    assert!(
        claims.client_types().all(|client_type| CLIENT_TYPES.contains(&client_type)),
        "accepted with a client type that is not allowed"
    );
}

/// Returns a string, or the elements of a list of strings.
fn string_or_list(claim: &Value) -> Vec<&str> {
    match claim.as_array() {
        Some(list) => list
            .iter()
            .map(|one| one.as_str().expect("an accepted list contains only strings"))
            .collect(),
        None => claim.as_str().into_iter().collect(),
    }
}

fn assert_alterations_are_refused(token: &[u8]) {
    let refused = |altered: &[u8]| engine().verifier.verify(altered, NOW).is_err();
    let ends =
        (0..token.len()).filter(|index| token.get(index + 1).is_none_or(|next| *next == b'.'));
    for last_of_segment in ends {
        let mut altered = token.to_vec();
        altered[last_of_segment] = if token[last_of_segment] == b'A' { b'B' } else { b'A' };
        assert!(refused(&altered), "accepted with a changed character at {last_of_segment}");
    }
    for suffix in ["=", "A", ".", "\n"] {
        assert!(refused(&[token, suffix.as_bytes()].concat()), "accepted with {suffix:?} appended");
    }
}

/// Parses JSON that the engine has accepted by `serde_json`; `None` if it has a number beyond the
/// doubles, which only the engine accepts. Asserts that it is an object without duplicate members
/// at any level.
fn strict_object(json: &[u8]) -> Option<Map<String, Value>> {
    let value: Value = match serde_json::from_slice(json) {
        Err(error) if error.to_string().starts_with("number out of range") => return None,
        parsed => parsed.expect("serde_json parses accepted JSON"),
    };
    assert_eq!(
        count_kept_members(&value),
        count_written_members(json),
        "accepted with a duplicate member"
    );
    match value {
        Value::Object(members) => Some(members),
        other => panic!("accepted, but not an object: {other}"),
    }
}

/// Counts the members that `serde_json` keeps. It keeps one of several with the same name.
fn count_kept_members(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            members.len() + members.values().map(count_kept_members).sum::<usize>()
        }
        Value::Array(elements) => elements.iter().map(count_kept_members).sum(),
        _ => 0,
    }
}

/// Counts the members of valid JSON as its colons outside of strings.
fn count_written_members(json: &[u8]) -> usize {
    let (mut colons, mut in_string, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => colons += 1,
            _ => {}
        }
    }
    colons
}

// Key sets

fn check_key_set(json: &[u8], policy: Policy) {
    let read = || KeySet::from_jwks(json, policy);
    let keys = match (read(), read()) {
        (Ok(first), Ok(second)) => {
            assert_eq!(
                (key_identities(&first), first.skipped()),
                (key_identities(&second), second.skipped()),
                "parsing is deterministic"
            );
            first
        }
        (Err(first), Err(second)) => return assert_eq!(first, second),
        _ => panic!("the same document was both rejected and accepted"),
    };
    let skipped = keys.skipped();
    let entries = match count_entries(json) {
        Some(entries) => entries,
        None => limits::MAX_KEYS,
    };
    assert!(entries <= limits::MAX_KEYS && keys.len() <= entries * Algorithm::ALL.len());
    if policy.algorithms.is_none() && entries < limits::MAX_KEYS {
        assert_eq!(keys.len() + skipped.len(), entries, "each JWK is either a key or skipped");
    }
    assert_keys_fit(&keys, policy);
    assert_skipped_keys_are_printable(skipped, entries);
}

/// Counts the JWKs of an accepted set by `serde_json`; `None` if it refuses one of them.
fn count_entries(json: &[u8]) -> Option<usize> {
    let document: Value = serde_json::from_slice(json).ok()?;
    let keys = document.get("keys");
    Some(keys.map_or(1, |keys| keys.as_array().expect("`keys` is an array").len()))
}

fn key_identities(
    keys: &KeySet,
) -> Vec<(Option<&str>, Algorithm, impl PartialEq + std::fmt::Debug)> {
    keys.iter().map(|key| (key.kid(), key.algorithm(), key.identity())).collect()
}

fn assert_keys_fit(keys: &KeySet, policy: Policy) {
    let allowed = policy
        .algorithms
        .unwrap_or_else(|| Algorithm::ALL.iter().copied().collect::<AlgorithmSet>());
    let secrets = keys.iter().filter(|key| key.algorithm().key_type() == KeyType::Secret).count();
    match policy.origin {
        Origin::Published => {
            assert_eq!(secrets, 0, "a shared secret was accepted from a published set")
        }
        Origin::Static => {
            assert!(
                secrets == 0 || secrets == keys.len(),
                "a key set mixes secrets and public keys"
            )
        }
    }
    for key in keys.iter() {
        assert!(allowed.contains(key.algorithm()), "{} is not configured", key.algorithm());
        let kid = key
            .kid()
            .map_or_else(KeyName::default, |kid| KeyName { kid: Some(kid), ..KeyName::default() });
        match keys.select(kid, key.algorithm()) {
            Ok(found) => assert!(found.iter().any(|found| found.identity() == key.identity())),
            Err(reject) => assert_eq!((key.kid(), reject), (None, Reject::KidMissing)),
        }
        assert_zero_signature_rejected(key);
    }
}

/// Asserts that zeros are not a valid signature. ECDSA implementations have accepted r = s = 0
/// (CVE-2022-21449), and Ed25519 keys of small order would, which is why they are rejected.
fn assert_zero_signature_rejected(key: &VerificationKey) {
    for length in [0, 32, 64, 96, 132, 256] {
        assert!(
            key.verify(b"message", &vec![0; length]).is_err(),
            "{key:?} accepts zeros as a signature"
        );
    }
}

fn assert_skipped_keys_are_printable(skipped: &[SkippedKey], entries: usize) {
    assert!(skipped.is_sorted_by(|one, next| one.index < next.index), "one remark a key, in order");
    for skipped_key in skipped {
        let shown = skipped_key.to_string();
        assert!(
            skipped_key.index < entries
                && shown.starts_with(&format!("keys[{}]", skipped_key.index)),
            "{shown}"
        );
        assert!(
            !shown.chars().any(char::is_control),
            "control characters of a key set in the log: {shown:?}"
        );
        assert!(shown.len() < 1000, "{shown}");
    }
}

// Configurations

/// A configuration file at every stage of parsing.
struct ParsedConfig {
    raw: RawConfig,
    config: Result<Config, Problems>,
}

impl ParsedConfig {
    fn of(text: &str, format: ConfigFormat) -> Self {
        let mut raw = RawConfig::default();
        raw.add("fuzz", text, format);
        // The server opens these files, so the fuzzer must not choose them.
        if let Some(server) = raw.sections.get_mut("server") {
            server
                .settings
                .retain(|option, _| !["ssl_cert_file", "ssl_key_file"].contains(&option.as_str()));
        }
        Self { config: Config::from_raw(raw.clone()), raw }
    }

    /// Returns all problems and warnings shown to the operator.
    fn problems(&self) -> impl Iterator<Item = &Problem> {
        let found = match &self.config {
            Ok(config) => &config.remarks,
            Err(problems) => problems,
        };
        found.0.iter()
    }

    /// Returns the parsed configuration and the locations of problems, independent of their
    /// order.
    fn summary(&self) -> (Option<String>, BTreeSet<&str>) {
        let config = self.config.as_ref().ok().map(|config| format!("{config:?}"));
        (config, self.problems().map(|problem| problem.place.as_str()).collect())
    }

    fn assert_well_formed(&self) {
        assert!(
            self.config.as_ref().err().is_none_or(Problems::has_errors),
            "rejected without a problem"
        );
        for problem in self.problems() {
            assert!(!problem.place.is_empty() && !problem.text.is_empty(), "{problem:?}");
            assert!(problem.help.as_ref().is_none_or(|help| !help.is_empty()), "{problem:?}");
        }
    }
}

/// Asserts that messages do not contain secret keys. The key is replaced by a canary first. An
/// input may use the text of its key also for something that is shown, so finding the original
/// key would prove nothing. A canary can only come from the key.
fn assert_keys_stay_secret(text: &str, format: ConfigFormat, raw: &RawConfig) {
    const GOOD_KEY: &str = "canary-0123456789-abcdefghijklmnopqrstuvwxy";
    const SHORT_KEY: &str = "canary-01234567";
    const NOT_BASE64: &str = "canary/0123456789/abcdefghijklmnopqrstuvwxy!";
    if text.to_lowercase().contains("canary") {
        return;
    }
    let keys = |raw: &RawConfig| {
        raw.sections
            .values()
            .filter_map(|section| Some(section.settings.get("key")?.text.clone()))
            .collect::<Vec<_>>()
    };
    let mut secrets = keys(raw).into_iter();
    let Some(secret) = secrets.find(|key| key.len() >= 16 && text.matches(key).count() == 1) else {
        return;
    };
    for canary in [GOOD_KEY, SHORT_KEY, NOT_BASE64] {
        let reading = ParsedConfig::of(&text.replace(&secret, canary), format);
        if !keys(&reading.raw).iter().any(|key| key.contains(canary)) {
            continue;
        }
        assert!(
            !format!("{:?}", reading.config).to_lowercase().contains(canary),
            "the Debug output contains a key"
        );
        for problem in reading.problems() {
            assert!(
                !problem.to_string().to_lowercase().contains(canary),
                "a message contains a key: {problem}"
            );
        }
    }
}
