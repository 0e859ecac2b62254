//! Verifies a token with a shared secret: accepted, accepted from the cache, and refused.
//!
//! Run it with `cargo run -p countersign-engine --example verify_hs256`.
#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::error::Error;

use countersign_engine::{
    Algorithm, IssuerConfig, KeyMaterial, KeySet, Rules, UnixTime, VerificationKey, Verifier,
};

/// `{"iss":"https://idp.example/","aud":"api","sub":"alice","exp":1800000000}`
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLyIsImF1ZCI6ImFwaSIsInN1YiI6ImFsaWNlIiwiZXhwIjoxODAwMDAwMDAwfQ.\
    DgQ5FuiidF-kgWv3JdADuH4a65t6JV4G7V8SjvX8-Cs";

fn main() -> Result<(), Box<dyn Error>> {
    // A secret for HS256 has at least 32 bytes.
    let secret = KeyMaterial::Secret(b"an example secret with 32 bytes!");
    let keys = KeySet::new(vec![VerificationKey::new(None, Algorithm::Hs256, secret)?]);

    // Tolerate clocks that differ by five seconds.
    let mut issuer = IssuerConfig::new("https://idp.example/", "api", [Algorithm::Hs256]);
    issuer.rules = Rules { leeway: 5, ..Rules::new("api") };
    let verifier = Verifier::builder().issuer(issuer, keys).cache_bytes(1 << 20).build()?;

    // The engine has no clock: a program passes in the time since 1970.
    for now in [1_799_999_998, 1_800_000_004, 1_800_000_005] {
        match verifier.verify(TOKEN.as_bytes(), UnixTime(now)) {
            Ok(verified) => {
                let subject = verified.claims().subject().unwrap_or_default();
                println!("{now}: {subject}, from the cache: {}", verified.is_cached());
            }
            Err(reject) => println!("{now}: refused, {}: {reject}", reject.code()),
        }
    }
    Ok(())
}
