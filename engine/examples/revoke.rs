//! Revokes one token, and then all tokens of a subject.
//!
//! Run it with `cargo run -p countersign-engine --example revoke`.
#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::error::Error;

use countersign_engine::{
    Algorithm, IssuerConfig, KeyMaterial, KeySet, Revocation, RevocationTarget, RevocationsWriter,
    UnixTime, VerificationKey, Verifier,
};

const ISSUER: &str = "https://idp.example/";

/// Two tokens of alice with the ids 1 and 2, the second issued at 1699990000.
const TOKENS: [&str; 2] = [
    "eyJhbGciOiJIUzI1NiJ9.\
     eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLyIsImF1ZCI6ImFwaSIsInN1YiI6ImFsaWNlIiwianRpIjoiMSIsImV4cCI6MTgwMDAwMDAwMH0.\
     _SIfJtgKdsEap8jzycM8LYpuQPifhLpr3em_35soerI",
    "eyJhbGciOiJIUzI1NiJ9.\
     eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLyIsImF1ZCI6ImFwaSIsInN1YiI6ImFsaWNlIiwianRpIjoiMiIsImlhdCI6MTY5OTk5MDAwMCwiZXhwIjoxODAwMDAwMDAwfQ.\
     bco3nHJJXNg0fZp-BhNyIdKTvxgY_wIkRfKGCSpyzCg",
];

fn main() -> Result<(), Box<dyn Error>> {
    let secret = KeyMaterial::Secret(b"an example secret with 32 bytes!");
    let keys = KeySet::new(vec![VerificationKey::new(None, Algorithm::Hs256, secret)?]);
    let issuer = IssuerConfig::new(ISSUER, "api", [Algorithm::Hs256]);
    // At most 1,000 revocations. A program stores each of them before it inserts it.
    let mut writer = RevocationsWriter::new(1000);
    let verifier =
        Verifier::builder().issuer(issuer, keys).revocations(writer.revocations()).build()?;
    let now = UnixTime(1_700_000_000);
    let outcomes = || {
        TOKENS
            .map(|token| verifier.verify(token.as_bytes(), now).map_or_else(|r| r.code(), |_| "ok"))
    };
    println!("at first: {:?}", outcomes());

    let revocation = verifier.revocation_of(TOKENS[0].as_bytes())?;
    println!("expires at {:?}", revocation.until.map(|until| until.0));
    writer.insert(&[revocation])?;
    println!("after token 1 is revoked: {:?}", outcomes());

    // Everything that alice got before now; a token issued later is valid.
    let (issuer, subject) = (ISSUER.into(), "alice".into());
    let target = RevocationTarget::Subject { issuer, subject, issued_before: now };
    writer.insert(&[Revocation { target, until: None }])?;
    println!("after alice is revoked: {:?}", outcomes());

    let purged = writer.purge_expired(UnixTime(1_800_000_000));
    println!("purged {purged}, {} left", writer.count());
    Ok(())
}
