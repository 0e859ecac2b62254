//! Verifies a token with the JWK Set that a provider publishes.
//!
//! Run it with `cargo run -p countersign-engine --example verify_jwks`.
#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::error::Error;

use countersign_engine::{
    Algorithm, AlgorithmSet, IssuerConfig, KeySet, UnixTime, Verifier,
    jwks::{Origin, Policy},
};

/// The document at the provider's `jwks_uri`; an HTTP client of your choice fetches it.
const JWKS: &str = r#"{"keys":[
    {"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"2026-11",
     "x":"N8DhBOIiU7u_3D0F-4OBe8S0YlNnQp8BsyUSQLdblg8",
     "y":"jrbQK-zF7nQHsJqPlGUlZ812_IKvSOqjgF9d2ilkdE8"},
    {"kty":"oct","alg":"HS256","kid":"mistake","k":"a secret does not belong here"}
]}"#;

/// `{"iss":"https://idp.example/","aud":"api","sub":"alice","exp":1800000000}`
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjIwMjYtMTEifQ.\
    eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLyIsImF1ZCI6ImFwaSIsInN1YiI6ImFsaWNlIiwiZXhwIjoxODAwMDAwMDAwfQ.\
    cPYiI0UntUFU1eRSphs4yvqfix8qSdCcZoyZ3kwD6lsu0g1okj6dPn81WHB6zuhteE8sLAAwttyMYdJXtmQ8oA";

fn main() -> Result<(), Box<dyn Error>> {
    let algorithms: AlgorithmSet = [Algorithm::Rs256, Algorithm::Es256].into_iter().collect();
    let policy = Policy { origin: Origin::Published, algorithms: Some(algorithms) };
    let keys = KeySet::from_jwks(JWKS.as_bytes(), policy)?;
    println!("{} usable", keys.len());
    for key in keys.skipped() {
        println!("skipped {key}");
    }

    let issuer = IssuerConfig::new("https://idp.example/", "api", algorithms.iter());
    let verifier = Verifier::builder().issuer(issuer, keys).build()?;
    let now = UnixTime(1_700_000_000);
    let verified = verifier.verify(TOKEN.as_bytes(), now)?;
    println!("{}", String::from_utf8_lossy(&verified.claims().json()));

    // One changed character of the signature.
    let forged = TOKEN.replace(".cPYi", ".cPYj");
    println!("forged: {:?}", verifier.verify(forged.as_bytes(), now).map(drop));
    Ok(())
}
