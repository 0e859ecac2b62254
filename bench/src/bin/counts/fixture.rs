//! Inputs of the scenarios: keys and tokens in files, and servers configured with them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::signature::KeyPair as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{
    AUDIENCE, ISSUER, Keys, SECRET,
    counts::{self, CALLS, Result},
    verifier,
};
use countersign_engine::{
    Algorithm, KeySet, Verifier,
    jwks::{Origin, Policy},
};
use countersign_server::{
    app::App,
    config::{Config, ConfigFormat, RawConfig},
    revocation::{RevocationService, settings::RevocationSettings},
};
use serde_json::json;

/// Keys and tokens in files: generating an RSA key under valgrind takes minutes.
pub(crate) struct Fixture {
    directory: PathBuf,
}

impl counts::Fixture for Fixture {
    fn make(directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        let keys = Keys::generate();
        for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            let tokens: Vec<_> = (0..CALLS).map(|index| keys.token(algorithm, index)).collect();
            std::fs::write(directory.join(algorithm.name()), tokens.join("\n"))?;
            std::fs::write(directory.join(format!("{algorithm}.json")), jwks(&keys, algorithm))?;
        }
        Ok(())
    }

    fn read(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl Fixture {
    pub(crate) fn keys(&self, algorithm: Algorithm) -> KeySet {
        let jwks = std::fs::read(self.directory.join(format!("{algorithm}.json")))
            .expect("a readable key set");
        KeySet::from_jwks(&jwks, POLICY).expect("a readable key set")
    }

    /// Returns a server that verifies RS256 tokens, with these further sections.
    pub(crate) fn app(&self, options: &str) -> Arc<App> {
        let jwks =
            std::fs::read_to_string(self.directory.join("RS256.json")).expect("a readable key set");
        let text = format!(
            "[auth_jwt_signing]\nalgorithm=HS256\nsign=true\nclient_types=api\nkey={}\n\
             [auth_jwt_bench]\nalgorithms=RS256\nclient_types=api\nissuer={ISSUER}\naudience={AUDIENCE}\nkey={jwks}\n{options}",
            encode(&SECRET)
        );
        let mut raw = RawConfig::default();
        raw.add("bench", &text, ConfigFormat::Ini);
        let config = Config::from_raw(raw).unwrap_or_else(|problems| panic!("{problems}"));
        let settings = RevocationSettings { capacity: 0, ..config.revocation.clone() };
        let desk = RevocationService::open(Err("nothing is revoked".into()), &settings, None)
            .expect("a desk");
        App::new(config, 1, desk, None).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Returns a file with the endpoint that the requests are made to.
    pub(crate) fn endpoints(&self) -> PathBuf {
        let page = json!({
            "client_types": ["api"],
            "auth_label": "page.read",
            "read_only": true,
            "environment_param": null,
        });
        let path = self.directory.join("endpoints.json");
        std::fs::write(&path, json!({ "GET /page": page }).to_string()).expect("a writable file");
        path
    }

    pub(crate) fn verifier(&self, algorithm: Algorithm) -> Verifier {
        verifier(algorithm, self.keys(algorithm))
    }

    pub(crate) fn tokens(&self, algorithm: Algorithm) -> Vec<String> {
        let tokens = std::fs::read_to_string(self.directory.join(algorithm.name()))
            .expect("a readable token file");
        tokens.lines().map(str::to_owned).collect()
    }
}

/// Policy for reading key sets.
pub(crate) const POLICY: Policy = Policy { origin: Origin::Static, algorithms: None };

/// Encodes bytes as base64url.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks(keys: &Keys, algorithm: Algorithm) -> String {
    let rsa = keys.rsa.public_key();
    let (n, e) = (
        rsa.modulus().big_endian_without_leading_zero(),
        rsa.exponent().big_endian_without_leading_zero(),
    );
    let (x, y) = keys.ecdsa.public_key().as_ref()[1..].split_at(32);
    let mut key = match algorithm {
        Algorithm::Rs256 => json!({ "kty": "RSA", "n": encode(n), "e": encode(e) }),
        Algorithm::Es256 => json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }),
        Algorithm::EdDsa => {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(keys.ed25519.public_key().as_ref()) })
        }
        _ => json!({ "kty": "oct", "k": encode(&SECRET) }),
    };
    key["kid"] = "bench".into();
    key["alg"] = algorithm.name().into();
    json!({ "keys": [key] }).to_string()
}
