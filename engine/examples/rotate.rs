//! Fetches the keys of a provider when they are due, and replaces them while tokens are verified.
//!
//! Run it with `cargo run -p countersign-engine --example rotate`.
#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{error::Error, sync::Arc, time::Duration};

use countersign_engine::{
    Algorithm, Issuer, IssuerConfig, KeyMaterial, KeySet, UnixTime, VerificationKey, Verifier,
    rotation::{Event, Rotation, Timing},
};

const ISSUER: &str = "https://idp.example/";
/// A token signed with the key `k2`.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsyIn0.\
    eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLyIsImF1ZCI6ImFwaSIsInN1YiI6ImFsaWNlIiwiZXhwIjoxODAwMDAwMDAwfQ.\
    hOnXbv9yZQNAfO0Ea3FR4GJBGaCLgxrSCj1l_jt36_0";

/// Stands for a request to the provider, which has published a key with this `kid`.
fn fetch(kid: &str) -> Result<Arc<KeySet>, Box<dyn Error>> {
    let secret = KeyMaterial::Secret(b"an example secret with 32 bytes!");
    let key = VerificationKey::new(Some(kid), Algorithm::Hs256, secret)?;
    Ok(Arc::new(KeySet::published(vec![key])))
}

fn main() -> Result<(), Box<dyn Error>> {
    let issuer = Arc::new(IssuerConfig::new(ISSUER, "api", [Algorithm::Hs256]));
    let verifier = Verifier::builder().issuers([Issuer::new(issuer, None)]).build()?;
    let outcome = || match verifier.verify(TOKEN.as_bytes(), UnixTime(1_700_000_000)) {
        Ok(verified) => format!("accepted, cached: {}", verified.is_cached()),
        Err(reject) => format!("refused: {}", reject.code()),
    };
    println!("before the first fetch: {}", outcome());

    // Times are durations since the start of the program. The jitter is a random number.
    let confirmed = Event::Confirmed { max_age: None };
    let (rotation, actions) = Rotation::new(Timing::default(), 0).step(Duration::ZERO, Event::Wake);
    println!("fetch because of {:?}", actions.fetch);
    let keys = fetch("k1")?;
    verifier.update(|snapshot| snapshot.set_keys(ISSUER, Some(&keys)))?;
    let (rotation, _) = rotation.step(Duration::from_secs(1), confirmed);
    println!("with k1 only: {}", outcome());

    // A token names a key that the provider has published since.
    let (rotation, actions) = rotation.step(Duration::from_secs(60), Event::UnknownKid);
    println!("fetch because of {:?}", actions.fetch);
    let keys = fetch("k2")?;
    verifier.update(|snapshot| snapshot.set_keys(ISSUER, Some(&keys)))?;
    let (rotation, _) = rotation.step(Duration::from_secs(61), confirmed);
    println!("with k2: {}, then {}", outcome(), outcome());

    println!("next fetch at {:?}", rotation.wake_at());
    Ok(())
}
