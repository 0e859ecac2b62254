//! The way of a token: bytes in, proof or reason out.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    keyset::KeySet,
    reject::Reject,
    snapshot::Snapshot,
    time::UnixTime,
    token::{ClaimNodes, Scratch, Value, with_scratch},
    verified::{Claims, Verified},
};

/// Verifies tokens against the current [`Snapshot`], from any number of threads.
///
/// # Synchronization
/// The snapshot sits behind one [`ArcSwap`]. Readers load it without a lock and
/// without writing to shared memory; a swap is visible to every verification
/// that starts after it returns.
#[derive(Debug, Default)]
pub struct Verifier {
    current: ArcSwap<Snapshot>,
}

impl Verifier {
    /// A verifier that starts with `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot) }
    }

    /// Verifies a compact JWT (RFC 7519 section 7.2) at the moment `now`.
    ///
    /// # Errors
    /// The first [`Reject`] on the token's way; bounds come before parsing,
    /// parsing before cryptography, and the signature before any claim.
    pub fn verify(&self, token: &[u8], now: UnixTime) -> Result<Verified, Reject> {
        let snapshot = self.current.load();
        with_scratch(|scratch| verify(&snapshot, scratch, token, now))
    }

    /// The snapshot that verifications starting now would use.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces everything.
    pub fn replace(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }

    /// Replaces the keys of one issuer; the other issuers are not touched, even
    /// if they change at the same time.
    pub fn replace_keys(&self, issuer: &str, keys: &Arc<KeySet>) {
        self.current.rcu(|current| current.with_keys(issuer, keys));
    }
}

fn verify(snapshot: &Snapshot, scratch: &mut Scratch, token: &[u8], now: UnixTime) -> Result<Verified, Reject> {
    let jws = scratch.jws.decode(token)?;
    let document = scratch.claims.parse(jws.payload).map_err(|fault| fault.reject(Reject::ClaimsJson))?;
    let claims = ClaimNodes::find(&document);

    // A claim chooses the issuer, but only among those configured, and everything
    // that follows is bound to that issuer (RFC 8725 section 3.8).
    let issuer = claims.issuer.ok_or(Reject::IssuerMissing)?;
    let issuer = Value::as_str(issuer).and_then(|name| snapshot.issuer(name)).ok_or(Reject::IssuerUnknown)?;
    let key = issuer.select(jws.header)?;
    key.verify(jws.signing_input, jws.signature)?;

    let config = issuer.config();
    let named = config.rules.find(&claims);
    config.rules.check(&claims, &named, now)?;
    let claims = Claims::collect(&config.rules, &claims, &named, jws.payload)?;
    Ok(Verified::new(Arc::clone(config), key.identity(), claims))
}
