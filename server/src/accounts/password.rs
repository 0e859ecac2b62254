//! Password policy, hashing and verification.
//!
//! Hashes have the format and cost of libsodium's `crypto_pwhash_str` at interactive cost, which
//! the Inmanta server uses: argon2id, 64 MiB, two passes, one lane, 97 characters.
//!
//! Passwords are normalized to NFKC before hashing, so that composed and decomposed letters are
//! equal. Older hashes of unnormalized passwords are recognized
//! ([`PasswordMatch::Unnormalized`]) and replaced.

use std::borrow::Cow;

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::phc::PasswordHash};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfkc_quick};

/// Requirements of new passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Minimum number of characters.
    pub min_length: usize,
    /// Minimum number of character classes: lower case, upper case, digits, others.
    pub min_classes: usize,
}

/// Maximum number of characters of a new password.
pub const MAX_LENGTH: usize = 128;
/// Maximum number of characters of a password to verify. A longer one never matches.
const MAX_VERIFIED_LENGTH: usize = 1024;

impl PasswordPolicy {
    /// Checks a new password.
    ///
    /// # Errors
    /// The requirement that it does not meet.
    pub fn check(&self, password: &str) -> Result<(), String> {
        let password = normalized(password);
        let length = password.chars().count();
        if length < self.min_length {
            return Err(format!(
                "the password should be at least {} characters long",
                self.min_length
            ));
        }
        if length > MAX_LENGTH {
            return Err(format!("the password should be at most {MAX_LENGTH} characters long"));
        }
        let kinds: [fn(char) -> bool; 4] = [
            char::is_lowercase,
            char::is_uppercase,
            |one| one.is_numeric(),
            |one| !one.is_alphanumeric(),
        ];
        if kinds.into_iter().filter(|matches| password.chars().any(matches)).count()
            < self.min_classes
        {
            return Err(format!(
                "the password should contain at least {} of the following four character classes: \
                 a lowercase letter, an uppercase letter, a digit, and a special character",
                self.min_classes
            ));
        }
        Ok(())
    }
}

/// Working memory of argon2, 64 MiB, reused between passwords.
#[derive(Default)]
pub struct HashingMemory(Vec<Block>);

/// Memory cost, in KiB; also the number of 1 KiB blocks.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Limit of the memory cost of a stored hash: four times our own.
const MAX_STORED_MEMORY: u32 = 4 * MEMORY;
/// Limit of the memory cost of a stored hash times its passes: eight times our own, about half a
/// second.
const MAX_STORED_WORK: u64 = 8 * 2 * (MEMORY as u64);
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// Random salt of one hash.
pub type Salt = [u8; SALT_BYTES];

/// Hashes a password to a PHC string.
///
/// # Errors
/// Memory is short.
pub fn hash(
    password: &str,
    salt: &Salt,
    memory: &mut HashingMemory,
) -> Result<String, OutOfMemoryError> {
    let tag = derive(normalized(password).as_bytes(), salt, memory)?;
    let (salt, tag) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(tag));
    Ok(format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${salt}${tag}"))
}

/// Derives bytes from any secret, at the cost of a password hash.
///
/// # Errors
/// Memory is short.
fn derive(
    secret: &[u8],
    salt: &Salt,
    memory: &mut HashingMemory,
) -> Result<[u8; TAG_BYTES], OutOfMemoryError> {
    let params =
        Params::new(MEMORY, PASSES, LANES, Some(TAG_BYTES)).map_err(|_| OutOfMemoryError)?;
    let mut tag = [0; TAG_BYTES];
    memory.derive(
        &Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
        secret,
        salt,
        &mut tag,
    )?;
    Ok(tag)
}

/// Error of hashing: memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemoryError;

/// Result of verifying a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordMatch {
    /// It does not match, or the stored text is not a supported hash.
    No,
    /// It matches.
    Yes,
    /// It matches, but the hash is of the unnormalized password.
    Unnormalized,
}

/// Verifies a password against a stored hash: argon2id, or argon2i, which libsodium accepts
/// too.
///
/// A wrong password takes as long as a right one, and so does an unsupported hash.
///
/// # Errors
/// Memory is short.
pub fn verify(
    password: &str,
    stored: &str,
    memory: &mut HashingMemory,
) -> Result<PasswordMatch, OutOfMemoryError> {
    let Some(hash) = StoredHash::read(stored).or_else(|| StoredHash::read(DUMMY_HASH)) else {
        return Ok(PasswordMatch::No);
    };
    if password.chars().nth(MAX_VERIFIED_LENGTH).is_some() {
        return Ok(PasswordMatch::No);
    }
    let normalized = normalized(password);
    if hash.matches(normalized.as_bytes(), memory)? {
        return Ok(PasswordMatch::Yes);
    }
    // A second derivation from the same bytes would give the same result.
    if normalized == password || !hash.matches(password.as_bytes(), memory)? {
        return Ok(PasswordMatch::No);
    }
    Ok(PasswordMatch::Unnormalized)
}

/// Whether [`verify`] supports a stored hash.
#[must_use]
pub fn is_supported(stored: &str) -> bool {
    StoredHash::read(stored).is_some()
}

/// A hash that no known password matches.
const DUMMY_HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Takes as long as [`verify`], for unknown users: the time of a login must not reveal whether
/// the user exists.
///
/// # Errors
/// Memory is short.
pub fn verify_dummy(password: &str, memory: &mut HashingMemory) -> Result<(), OutOfMemoryError> {
    verify(password, DUMMY_HASH, memory).map(drop)
}

/// A parsed PHC string.
struct StoredHash {
    argon: Argon2<'static>,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

impl StoredHash {
    fn read(text: &str) -> Option<Self> {
        let hash = PasswordHash::new(text).ok()?;
        let algorithm = match hash.algorithm.as_str() {
            "argon2id" => Algorithm::Argon2id,
            "argon2i" => Algorithm::Argon2i,
            _ => return None,
        };
        let version = Version::try_from(hash.version?).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
        if params.m_cost() > MAX_STORED_MEMORY || work > MAX_STORED_WORK {
            return None;
        }
        let (salt, tag) = (hash.salt?.to_vec(), hash.hash?.as_bytes().to_vec());
        // argon2 rejects a shorter salt.
        if salt.len() < argon2::MIN_SALT_LEN {
            return None;
        }
        Some(Self { argon: Argon2::new(algorithm, version, params), salt, tag })
    }

    fn matches(
        &self,
        password: &[u8],
        memory: &mut HashingMemory,
    ) -> Result<bool, OutOfMemoryError> {
        let mut tag = vec![0; self.tag.len()];
        memory.derive(&self.argon, password, &self.salt, &mut tag)?;
        Ok(verify_slices_are_equal(&tag, &self.tag).is_ok())
    }
}

impl HashingMemory {
    fn derive(
        &mut self,
        argon: &Argon2<'_>,
        password: &[u8],
        salt: &[u8],
        tag: &mut [u8],
    ) -> Result<(), OutOfMemoryError> {
        let blocks = argon.params().block_count();
        if self.0.len() < blocks {
            self.0.try_reserve_exact(blocks - self.0.len()).map_err(|_| OutOfMemoryError)?;
            self.0.resize(blocks, Block::default());
        }
        argon
            .hash_password_into_with_memory(password, salt, tag, &mut self.0[..blocks])
            .map_err(|_| OutOfMemoryError)
    }
}

fn normalized(password: &str) -> Cow<'_, str> {
    match is_nfkc_quick(password.chars()) {
        IsNormalized::Yes => Cow::Borrowed(password),
        _ => Cow::Owned(password.nfkc().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(password: &str, stored: &str) -> PasswordMatch {
        verify(password, stored, &mut HashingMemory::default()).unwrap()
    }

    #[test]
    fn hash_has_libsodium_format_and_verifies() {
        let mut memory = HashingMemory::default();
        let stored = hash("correct horse", &[7; SALT_BYTES], &mut memory).unwrap();
        assert_eq!(stored.len(), 97);
        assert!(stored.starts_with("$argon2id$v=19$m=65536,t=2,p=1$"));
        assert_eq!(verify("correct horse", &stored, &mut memory), Ok(PasswordMatch::Yes));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert_eq!(verify(wrong, &stored, &mut memory), Ok(PasswordMatch::No), "{wrong:?}");
        }
    }

    #[test]
    fn c50_password_is_normalized_to_nfkc() {
        let (composed, decomposed) = ("pass-caf\u{e9}", "pass-cafe\u{301}");
        let stored = hash(decomposed, &[1; SALT_BYTES], &mut HashingMemory::default()).unwrap();
        assert_eq!(
            (verified(composed, &stored), verified(decomposed, &stored)),
            (PasswordMatch::Yes, PasswordMatch::Yes)
        );
        // A hash from before passwords were normalized.
        let tag =
            derive(decomposed.as_bytes(), &[1; SALT_BYTES], &mut HashingMemory::default()).unwrap();
        let (salt, tag) = (STANDARD_NO_PAD.encode([1; SALT_BYTES]), STANDARD_NO_PAD.encode(tag));
        let old = format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${salt}${tag}");
        assert_eq!(
            (verified(composed, &old), verified(decomposed, &old)),
            (PasswordMatch::No, PasswordMatch::Unnormalized)
        );
    }

    #[test]
    fn c48_invalid_or_too_costly_hash_never_matches() {
        let salt_and_tag = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for stored in [
            "",
            "secret",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$argon2id$v=19$m=65536,t=2,p=1$AAAA",
            &format!("$argon2d$v=19$m=65536,t=2,p=1${salt_and_tag}"),
            &format!("$argon2id$v=19$m=4194304,t=2,p=1${salt_and_tag}"),
            &format!("$argon2id$v=19$m=65536,t=4000000,p=1${salt_and_tag}"),
        ] {
            assert_eq!(verified("secret", stored), PasswordMatch::No, "{stored}");
        }
    }

    #[test]
    fn password_over_1024_characters_never_matches() {
        let stored =
            hash(&"x".repeat(1025), &[2; SALT_BYTES], &mut HashingMemory::default()).unwrap();
        assert_eq!(verified(&"x".repeat(1025), &stored), PasswordMatch::No);
    }

    #[test]
    fn c46_c47_policy_bounds_password_length() {
        let policy = PasswordPolicy { min_length: 8, min_classes: 1 };
        assert_eq!(
            policy.check("1234567"),
            Err("the password should be at least 8 characters long".into())
        );
        // Counted after normalization: a letter and its combining accent are one character.
        assert!(policy.check("e\u{301}e\u{301}e\u{301}e\u{301}").is_err());
        assert_eq!((policy.check("12345678"), policy.check(&"x".repeat(128))), (Ok(()), Ok(())));
        assert!(policy.check(&"x".repeat(129)).is_err());
        let strict = PasswordPolicy { min_length: 12, min_classes: 3 };
        assert!(strict.check("lowercaseonly1").is_err());
        assert_eq!(strict.check("Lowercase-only"), Ok(()));
    }
}
