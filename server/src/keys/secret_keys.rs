//! The shared secrets of one section: one signs, and all verify, so that they rotate without an
//! outage.
//!
//! Which one signs is a row of the database, the same for all servers. Each server applies it to its
//! own [`SecretKeys`], by the [id](secret_id) of the secret.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use countersign_engine::limits::MAX_TRIED_KEYS;

use super::{
    secret_id::{derived_secret, secret_id},
    settings::SigningSecret,
};

/// Maximum number of the secrets of a section: each may be tried for a token.
pub const MAX_SECRETS: usize = MAX_TRIED_KEYS;

/// The shared secrets of a section.
///
/// # Synchronization
/// The index of the one that signs is shared by all clones and derived secrets. It
/// is relaxed: it selects from an immutable list, and orders no other access.
#[derive(Clone, Debug)]
pub struct SecretKeys {
    /// `key`, then `next_key` if it is set, then `previous_keys`.
    secrets: Arc<[SigningSecret]>,
    has_next: bool,
    signer: Arc<AtomicUsize>,
}

/// Why a secret of a section signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignerChoice {
    /// It is `key`, because the keys were never rotated.
    Configured,
    /// It is the one in force, `key` or `next_key`.
    InForce,
    /// It is the one in force, although it is one of `previous_keys`.
    Previous,
    /// It is `key`, because the one in force is not configured here.
    Unknown,
}

impl From<SigningSecret> for SecretKeys {
    fn from(secret: SigningSecret) -> Self {
        Self::new(secret, None, Vec::new())
    }
}

impl SecretKeys {
    /// Creates the secrets of a section, of which `key` signs.
    pub(crate) fn new(
        key: SigningSecret,
        next: Option<SigningSecret>,
        previous: Vec<SigningSecret>,
    ) -> Self {
        let has_next = next.is_some();
        let secrets = std::iter::once(key).chain(next).chain(previous).collect();
        Self { secrets, has_next, signer: Arc::default() }
    }

    /// Returns the secret that signs.
    #[must_use]
    pub fn signer(&self) -> &SigningSecret {
        self.secrets.get(self.signer.load(Ordering::Relaxed)).unwrap_or_else(|| self.key())
    }

    /// Returns `key`.
    #[must_use]
    pub fn key(&self) -> &SigningSecret {
        &self.secrets[0]
    }

    /// Returns the secret that a rotation puts in force: `next_key`, or `key` without one.
    #[must_use]
    pub fn target(&self) -> &SigningSecret {
        self.secrets.get(usize::from(self.has_next)).unwrap_or_else(|| self.key())
    }

    /// Whether `next_key` is set.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.has_next
    }

    /// Returns all secrets. Each verifies.
    #[must_use]
    pub fn all(&self) -> &[SigningSecret] {
        &self.secrets
    }

    /// Returns the ids of the secrets that have one, in their order.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.secrets.iter().filter_map(|secret| secret_id(secret.expose())).collect()
    }

    /// Returns the files that they were read from.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.secrets.iter().filter_map(SigningSecret::file)
    }

    /// Has the secret with this id sign, which is the one in force. Without an id, and if it is not
    /// among these, `key` signs, which every server verifies.
    pub fn choose(&self, in_force: Option<&str>) -> SignerChoice {
        let has_id = |secret: &SigningSecret| secret_id(secret.expose()).as_deref() == in_force;
        let (signer, choice) = match in_force {
            None => (0, SignerChoice::Configured),
            Some(_) => match self.secrets.iter().position(has_id) {
                None => (0, SignerChoice::Unknown),
                Some(index) if index > usize::from(self.has_next) => {
                    (index, SignerChoice::Previous)
                }
                Some(index) => (index, SignerChoice::InForce),
            },
        };
        self.signer.store(signer, Ordering::Relaxed);
        choice
    }

    /// Returns the secrets for another purpose, derived from these. Of the two sets, the same one
    /// always signs. Neither reveals the other.
    pub(super) fn derived(&self, purpose: &str) -> Self {
        let derive = |secret: &SigningSecret| {
            SigningSecret::new(derived_secret(secret.expose(), purpose), None)
        };
        Self { secrets: self.secrets.iter().map(derive).collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret_encoding::SecretEncoding;

    const KEYS: [&str; 3] = [
        "rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs",
        "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ",
        "6tE2vQz9pXo4Wm8sLr1uYc7JkNbHfGd3aTi5oVxP0qM",
    ];

    fn secret(index: usize) -> SigningSecret {
        let bytes = SecretEncoding::Base64Url.decode(KEYS[index].as_bytes()).unwrap();
        SigningSecret::new(bytes, None)
    }

    fn id(index: usize) -> String {
        secret_id(secret(index).expose()).unwrap()
    }

    #[test]
    fn key_in_force_signs() {
        let keys = SecretKeys::new(secret(0), Some(secret(1)), vec![secret(2)]);
        let derived = keys.derived("a purpose");
        let signer = || {
            KEYS.iter()
                .enumerate()
                .position(|(index, _)| keys.signer().expose() == secret(index).expose())
        };
        assert_eq!((signer(), keys.ids()), (Some(0), vec![id(0), id(1), id(2)]));
        assert_eq!((keys.choose(Some(&id(1))), signer()), (SignerChoice::InForce, Some(1)));
        let expected = derived_secret(secret(1).expose(), "a purpose");
        assert_eq!(derived.signer().expose(), expected, "a derived secret follows");
        assert_eq!((keys.choose(Some(&id(0))), signer()), (SignerChoice::InForce, Some(0)));
        assert_eq!((keys.choose(Some(&id(2))), signer()), (SignerChoice::Previous, Some(2)));
        assert_eq!((keys.choose(None), signer()), (SignerChoice::Configured, Some(0)));
    }

    #[test]
    fn unknown_key_in_force_leaves_key_to_sign() {
        let keys = SecretKeys::from(secret(0));
        assert_eq!(keys.choose(Some(&id(1))), SignerChoice::Unknown);
        assert_eq!(keys.signer().expose(), secret(0).expose());
        assert_eq!(keys.choose(Some("")), SignerChoice::Unknown);
    }

    #[test]
    fn rotation_puts_the_next_key_in_force() {
        let with_next = SecretKeys::new(secret(0), Some(secret(1)), Vec::new());
        assert_eq!(with_next.target().expose(), secret(1).expose());
        let moved = SecretKeys::new(secret(1), None, vec![secret(0)]);
        assert_eq!(moved.target().expose(), secret(1).expose());
    }
}
