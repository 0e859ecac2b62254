//! What must hold for any input whatever: the bodies of the fuzz targets.
//!
//! Plain functions, so that one body serves libFuzzer (`fuzz/`), the replay of
//! its corpus in every ordinary test run, and a debugger at a crashing file. The
//! engine is judged by readers that share no code with it: `serde_json` for JSON,
//! the `base64` crate for segments, one HMAC computed here for signatures.

mod check_request;
mod http1;
mod http2;
mod http3;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
pub use check_request::{assert_same, check_request};
use countersign_engine::{
    Algorithm, AlgorithmSet, Claims, ClientTypes, Issuer, IssuerConfig, KeyMaterial, KeySet,
    KeyType, Reject, Rules, Snapshot, UnixTime, VerificationKey, Verified, Verifier,
    jwks::{Origin, Policy, SkippedKey},
    jws::{self, UnverifiedToken},
    limits,
};
use countersign_server::{
    config::{Config, ConfigFormat, Problem, Problems, RawConfig},
    keysource::written,
};
pub use http1::http1;
pub use http2::http2;
pub use http3::http3;
use serde_json::{Map, Value};

/// The moment every token is judged at.
const NOW: UnixTime = UnixTime(1_700_000_000);
/// Known to the target, and to whoever adds tokens to the corpus.
const SECRET: &[u8; 32] = b"countersign fuzz target's secret";
const ISSUER: &str = "https://issuer.example/";
const AUDIENCE: &str = "https://countersign.example/";
const CLIENT_TYPES: [&str; 3] = ["agent", "compiler", "api"];

/// Any bytes as a token; and, properly signed, as the payload, as further claims
/// and as the header of one, so that everything behind the signature is reached.
pub fn token(data: &[u8]) {
    const HEADER: &[u8] = br#"{"alg":"HS256"}"#;
    let good_claims =
        format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"someone","exp":1800000000}}"#);
    let more_claims =
        [format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","#).as_bytes(), data, b"}"].concat();

    judge_token(data);
    judge_token(&signed(data, good_claims.as_bytes()));
    judge_token(&signed(HEADER, &more_claims));
    let with_payload = signed(HEADER, data);
    judge_token(&with_payload);

    // Below the level of claims a payload may be anything, and comes out as it went in.
    let expected = if with_payload.len() > limits::MAX_TOKEN_BYTES {
        Err(Reject::TooLong)
    } else {
        Ok(data.to_vec())
    };
    assert_eq!(jws::verify(&with_payload, &engine().keys), expected);
}

/// Any bytes as a published and as a static key set, under several policies.
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
            judge_key_set(data, Policy { origin, algorithms });
        }
    }
}

/// Any bytes as keys that an operator wrote down, for secrets and for public keys.
pub fn written(data: &[u8]) {
    let algorithms: [&[Algorithm]; 4] = [
        &[Algorithm::Hs256],
        &[Algorithm::Rs256, Algorithm::Ps384],
        &[Algorithm::Es256, Algorithm::Es512],
        &[Algorithm::EdDsa],
    ];
    for algorithms in algorithms.map(|all| all.iter().copied().collect::<AlgorithmSet>()) {
        match written::parse_keys(data, algorithms) {
            Ok((keys, remarks)) => {
                assert!(!keys.is_empty(), "a set without keys is a mistake");
                assert_keys_fit(
                    &keys,
                    Policy { origin: Origin::Static, algorithms: Some(algorithms) },
                );
                assert!(
                    remarks.iter().all(|remark| remark.starts_with("key skipped: ")),
                    "{remarks:?}"
                );
            }
            Err(fault) => assert!(!fault.is_empty() && !fault.contains('\n'), "{fault:?}"),
        }
    }
}

/// Any text as a configuration file: TOML if the first byte is a `t`, INI if it
/// is anything else.
pub fn configuration(data: &[u8]) {
    let Some((format, text)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let format = if *format == b't' { ConfigFormat::Toml } else { ConfigFormat::Ini };
    let reading = Reading::of(text, format);
    reading.assert_well_formed();
    assert_eq!(reading.meaning(), Reading::of(text, format).meaning(), "one text has one meaning");
    assert_keys_stay_secret(text, format, &reading.raw);
}

// Tokens

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
        let issuer = Issuer::new(Arc::new(issuer_config()), Some(Arc::clone(&keys)));
        let verifier = Verifier::new(Snapshot::new([issuer]).expect("one issuer is no duplicate"));
        // A small one, so that fuzzing fills and empties it all the time.
        Engine { verifier: verifier.with_cache(256 << 10).expect("room for a cache"), keys }
    })
}

fn issuer_config() -> IssuerConfig {
    let usual = crate::engine::config([Algorithm::Hs256]);
    let allowed = Some(CLIENT_TYPES.map(Box::from).into());
    let rules = Rules {
        audience: AUDIENCE.into(),
        username_claim: "preferred_username".into(),
        client_types: ClientTypes { allowed, ..usual.rules.client_types },
        ..usual.rules
    };
    IssuerConfig { name: ISSUER.into(), section: "auth_jwt_fuzz".into(), rules, ..usual }
}

/// A token over these bytes, with a signature that is right.
fn signed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)).into_bytes()
}

fn judge_token(token: &[u8]) {
    let verdict = engine().verifier.verify(token, NOW);
    let again = engine().verifier.verify(token, NOW);
    assert_eq!(
        answer(&verdict),
        answer(&again),
        "the same token at the same time gets the same answer"
    );

    let decoded = UnverifiedToken::decode(token);
    if let Ok(decoded) = &decoded {
        assert_one_spelling(token, decoded);
    }
    let Ok(verified) = verdict else { return };
    assert!(decoded.is_ok(), "what verifies can be shown");
    assert_genuine(token, verified.claims());
    assert_acceptable(verified.claims());
    assert_alterations_are_refused(token);
    if let Some(end) = verified.claims().expires_at() {
        assert_eq!(
            answer(&engine().verifier.verify(token, end)),
            Err(Reject::Expired),
            "exp is the first second too late"
        );
    }
}

/// All that can be asked of a verdict: whatever a cache brings back is in it.
fn answer(verdict: &Result<Verified<'_>, Reject>) -> Result<String, Reject> {
    verdict.as_ref().map_err(|reject| *reject).map(|verified| {
        let (claims, identity) = (verified.claims(), verified.identity());
        let names = (
            claims.subject(),
            claims.username(),
            claims.environment(),
            claims.client_types().collect::<Vec<_>>(),
        );
        let headers =
            [identity.subject(), identity.user(), identity.issuer(), identity.client_types()];
        let key = verified.key() == engine().keys.iter().next().expect("its only key").identity();
        format!(
            "{names:?} {headers:?} {:?} {} {key} {:?}",
            claims.expires_at(),
            verified.issuer().name,
            claims.json()
        )
    })
}

/// Encoding what was decoded gives the token's own characters back, so no second
/// spelling of a header or payload is ever read.
fn assert_one_spelling(token: &[u8], decoded: &UnverifiedToken) {
    strict_object(&decoded.header);
    let spelled = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(&decoded.header),
        URL_SAFE_NO_PAD.encode(&decoded.payload)
    );
    assert!(
        token.starts_with(spelled.as_bytes()),
        "{spelled} is another spelling of an accepted token"
    );
}

/// An accepted token is three segments, HS256 by its own header, and carries the
/// tag that only the secret makes.
fn assert_genuine(token: &[u8], claims: Claims<'_>) {
    let segments: Vec<_> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = segments[..] else {
        panic!("accepted with {} segments", segments.len())
    };
    let decode = |segment| {
        URL_SAFE_NO_PAD.decode(segment).expect("an accepted segment is canonical base64url")
    };
    let header = strict_object(&decode(header));
    assert_eq!(header.get("alg").and_then(Value::as_str), Some("HS256"));
    assert!(!header.contains_key("crit"), "accepted without understanding a critical extension");
    assert_eq!(decode(payload), claims.json());
    let signed = &token[..token.len() - signature.len() - 1];
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    hmac::verify(&key, signed, &decode(signature))
        .expect("an accepted token was signed with the secret");
}

/// The claim rules once more, on another reader's idea of the claims.
fn assert_acceptable(claims: Claims<'_>) {
    let json = strict_object(&claims.json());
    let text = |name: &str| {
        json.get(name).map(|claim| claim.as_str().expect("a registered text is a string"))
    };
    // The other reader may round the last bit of a fraction up, hence `<=` below.
    let seconds =
        |name: &str| json.get(name).map(|claim| claim.as_f64().expect("a time is a number"));
    let now = 1_700_000_000.0;

    assert_eq!(text("iss"), Some(ISSUER));
    assert!(
        json.get("aud").is_some_and(|audience| strings(audience).contains(&AUDIENCE)),
        "meant for another audience"
    );
    assert!(seconds("exp").is_none_or(|end| end > now), "accepted after its end");
    assert_eq!(json.contains_key("exp"), claims.expires_at().is_some_and(|end| end > NOW));
    assert!(seconds("nbf").is_none_or(|start| start <= now + 1.0), "accepted before its start");
    assert!(
        seconds("iat").is_none_or(|issued| issued <= now + 1.0),
        "accepted before it was issued"
    );
    assert_eq!(claims.subject(), text("sub"));
    assert_eq!(claims.environment(), text("urn:inmanta:env"));
    assert_eq!(claims.username(), json.get("preferred_username").and_then(Value::as_str));
    text("jti");
    for claim in json.values().filter(|claim| claim.is_array()) {
        strings(claim);
    }
    assert!(
        claims.client_types().all(|client_type| CLIENT_TYPES.contains(&client_type)),
        "a client type nobody allowed"
    );
}

/// A string, or the elements of a list of nothing but strings.
fn strings(claim: &Value) -> Vec<&str> {
    match claim.as_array() {
        Some(list) => list
            .iter()
            .map(|one| one.as_str().expect("an accepted list is one of strings"))
            .collect(),
        None => claim.as_str().into_iter().collect(),
    }
}

fn assert_alterations_are_refused(token: &[u8]) {
    let refused = |altered: &[u8]| engine().verifier.verify(altered, NOW).is_err();
    let ends =
        (0..token.len()).filter(|place| token.get(place + 1).is_none_or(|next| *next == b'.'));
    for last_of_segment in ends {
        let mut altered = token.to_vec();
        altered[last_of_segment] = if token[last_of_segment] == b'A' { b'B' } else { b'A' };
        assert!(refused(&altered), "accepted with another character at {last_of_segment}");
    }
    for suffix in ["=", "A", ".", "\n"] {
        assert!(
            refused(&[token, suffix.as_bytes()].concat()),
            "accepted with {suffix:?} behind it"
        );
    }
}

/// What `serde_json` makes of JSON that the engine has accepted: an object, with
/// no member name twice at any level.
fn strict_object(json: &[u8]) -> Map<String, Value> {
    let value: Value = serde_json::from_slice(json).expect("accepted JSON is JSON to others too");
    assert_eq!(members_kept(&value), members_written(json), "accepted with a member twice");
    match value {
        Value::Object(members) => members,
        other => panic!("accepted as an object: {other}"),
    }
}

/// `serde_json` keeps one of several members of a name.
fn members_kept(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.len() + members.values().map(members_kept).sum::<usize>(),
        Value::Array(elements) => elements.iter().map(members_kept).sum(),
        _ => 0,
    }
}

/// The members of valid JSON are its colons outside strings.
fn members_written(json: &[u8]) -> usize {
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

fn judge_key_set(json: &[u8], policy: Policy) {
    let read = || KeySet::from_jwks(json, policy);
    let (keys, skipped) = match (read(), read()) {
        (Ok(first), Ok(second)) => {
            assert_eq!(
                (places(&first.0), &first.1),
                (places(&second.0), &second.1),
                "one document is one key set"
            );
            first
        }
        (Err(first), Err(second)) => return assert_eq!(first, second),
        _ => panic!("the same document was refused and accepted"),
    };
    let document = strict_object(json);
    let entries =
        document.get("keys").map_or(1, |keys| keys.as_array().expect("`keys` is an array").len());
    assert!(entries <= limits::MAX_KEYS && keys.len() <= entries * Algorithm::ALL.len());
    if policy.algorithms.is_none() {
        assert_eq!(keys.len() + skipped.len(), entries, "each JWK is one key or one remark");
    }
    assert_keys_fit(&keys, policy);
    assert_remarks_are_readable(&skipped, entries);
}

fn places(keys: &KeySet) -> Vec<(Option<&str>, Algorithm, impl PartialEq + std::fmt::Debug)> {
    keys.iter().map(|key| (key.kid(), key.algorithm(), key.identity())).collect()
}

fn assert_keys_fit(keys: &KeySet, policy: Policy) {
    let allowed = policy
        .algorithms
        .unwrap_or_else(|| Algorithm::ALL.iter().copied().collect::<AlgorithmSet>());
    let secrets = keys.iter().filter(|key| key.algorithm().key_type() == KeyType::Secret).count();
    match policy.origin {
        Origin::Published => {
            assert_eq!(secrets, 0, "a shared secret was taken from a published set")
        }
        Origin::Static => {
            assert!(secrets == 0 || secrets == keys.len(), "secrets beside public keys")
        }
    }
    for key in keys.iter() {
        assert!(allowed.contains(key.algorithm()), "{} is not configured", key.algorithm());
        let found = keys
            .select(key.kid(), key.algorithm())
            .expect("a key is found by its kid and algorithm");
        assert_eq!(found.identity(), key.identity());
        assert_zeros_are_no_signature(key);
    }
}

/// Zeros for r and s once passed for any message's signature (CVE-2022-21449), and
/// do for Ed25519 keys of small order, which are no keys therefore.
fn assert_zeros_are_no_signature(key: &VerificationKey) {
    for length in [0, 32, 64, 96, 132, 256] {
        assert!(
            key.verify(b"message", &vec![0; length]).is_err(),
            "{key:?} takes zeros for a signature"
        );
    }
}

fn assert_remarks_are_readable(skipped: &[SkippedKey], entries: usize) {
    assert!(skipped.is_sorted_by(|one, next| one.index < next.index), "one remark a key, in order");
    for remark in skipped {
        let shown = remark.to_string();
        assert!(
            remark.index < entries && shown.starts_with(&format!("keys[{}]", remark.index)),
            "{shown}"
        );
        assert!(!shown.chars().any(char::is_control), "a key set writes {shown:?} into a log");
        assert!(remark.kid.as_ref().is_none_or(|kid| kid.chars().count() <= 64), "{shown}");
    }
}

// Configurations

struct Reading {
    raw: RawConfig,
    /// What parsing complained about.
    parsing: Vec<Problem>,
    config: Result<Config, Problems>,
}

impl Reading {
    fn of(text: &str, format: ConfigFormat) -> Self {
        let (mut raw, mut parsing) = (RawConfig::default(), Vec::new());
        raw.add("fuzz", text, format, &mut parsing);
        // These two name files that are opened: not for the fuzzer to choose.
        if let Some(server) = raw.sections.get_mut("server") {
            server
                .settings
                .retain(|option, _| !["ssl_cert_file", "ssl_key_file"].contains(&option.as_str()));
        }
        Self { config: Config::from_raw(raw.clone()), raw, parsing }
    }

    /// Everything a person is told.
    fn remarks(&self) -> impl Iterator<Item = &Problem> {
        let found = match &self.config {
            Ok(config) => &config.warnings,
            Err(problems) => &problems.0,
        };
        self.parsing.iter().chain(&self.raw.warnings).chain(found)
    }

    /// What the text comes to, whatever order its mistakes were found in.
    fn meaning(&self) -> (Option<String>, BTreeSet<&str>) {
        let config = self.config.as_ref().ok().map(|config| format!("{config:?}"));
        (config, self.remarks().map(|problem| problem.place.as_str()).collect())
    }

    fn assert_well_formed(&self) {
        assert!(
            self.config.as_ref().err().is_none_or(|problems| !problems.0.is_empty()),
            "refused without a reason"
        );
        for problem in self.remarks() {
            assert!(!problem.place.is_empty() && !problem.text.is_empty(), "{problem:?}");
            assert!(problem.help.as_ref().is_none_or(|help| !help.is_empty()), "{problem:?}");
        }
    }
}

/// A key is looked for in the remarks under another name: an input may well use
/// the text of its key for something that is shown, so that finding the key itself
/// would prove nothing. A canary in its place can have come from nowhere else.
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
        let reading = Reading::of(&text.replace(&secret, canary), format);
        if !keys(&reading.raw).iter().any(|key| key.contains(canary)) {
            continue;
        }
        assert!(
            !format!("{:?}", reading.config).to_lowercase().contains(canary),
            "Debug shows a key"
        );
        for problem in reading.remarks() {
            assert!(
                !problem.to_string().to_lowercase().contains(canary),
                "a key is shown: {problem}"
            );
        }
    }
}
