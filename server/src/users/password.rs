//! Passwords: what one has to be, and what it is verified by.
//!
//! Hashes are those of libsodium's `crypto_pwhash_str` at interactive cost, as the
//! Inmanta server makes them: argon2id, 64 MiB, two passes, one lane, 97 characters.
//! Passwords are hashed in NFKC, so that it does not matter how a keyboard composes its
//! letters; older hashes, of passwords as they were typed, are recognized and renewed.

use std::borrow::Cow;

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::phc::PasswordHash};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfkc_quick};

/// What a new password has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// How many characters it has at least.
    pub min_length: usize,
    /// Of how many kinds they are at least: lower case, upper case, digits, others.
    pub min_classes: usize,
}

/// How many characters a new password has at most.
pub const MAX_LENGTH: usize = 128;
/// A password with more characters than this matches nothing.
const MAX_VERIFIED_LENGTH: usize = 1024;

impl PasswordPolicy {
    /// Judges a new password.
    ///
    /// # Errors
    /// What it lacks, in words.
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
            let classes = self.min_classes;
            return Err(format!(
                "the password should have characters of at least {classes} of these kinds: lower case, upper case, digits, others"
            ));
        }
        Ok(())
    }
}

/// 64 MiB to hash in, kept from one password to the next.
#[derive(Default)]
pub struct HashingMemory(Vec<Block>);

/// In KiB, and in blocks of that size.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a hash that somebody stored may ask for: four times what ours do.
const MAX_STORED_MEMORY: u32 = 4 * MEMORY;
const MAX_STORED_PASSES: u32 = 16;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// Random bytes for one hash.
pub type Salt = [u8; SALT_BYTES];

/// What a password will be verified by.
///
/// # Errors
/// There is not enough memory.
pub fn hash(
    password: &str,
    salt: &Salt,
    memory: &mut HashingMemory,
) -> Result<String, OutOfMemoryError> {
    let tag = derive(normalized(password).as_bytes(), salt, memory)?;
    let (salt, tag) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(tag));
    Ok(format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${salt}${tag}"))
}

/// The bytes that follow from a secret of any kind, at the cost of a password.
///
/// # Errors
/// There is not enough memory.
pub fn derive(
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

/// There is not enough memory to hash in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemoryError;

/// Whether a password is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordMatch {
    /// It is not, or the hash is none.
    No,
    /// It is.
    Yes,
    /// It is, and its hash is one of a password that was not normalized.
    Unnormalized,
}

/// Verifies a password by what was stored: argon2id, or argon2i as libsodium takes it
/// too. Takes as long for a wrong one as for a right one, and where the hash is none.
///
/// # Errors
/// There is not enough memory.
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
    // The same bytes would give the same answer.
    if normalized == password || !hash.matches(password.as_bytes(), memory)? {
        return Ok(PasswordMatch::No);
    }
    Ok(PasswordMatch::Unnormalized)
}

/// The hash of no password that is known.
const DUMMY_HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Takes as long as verifying a password of somebody there is.
///
/// # Errors
/// There is not enough memory.
pub fn verify_dummy(password: &str, memory: &mut HashingMemory) -> Result<(), OutOfMemoryError> {
    verify(password, DUMMY_HASH, memory).map(drop)
}

/// A hash that was stored.
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
        if params.m_cost() > MAX_STORED_MEMORY || params.t_cost() > MAX_STORED_PASSES {
            return None;
        }
        let (salt, tag) = (hash.salt?.to_vec(), hash.hash?.as_bytes().to_vec());
        // Less is no salt to argon2.
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
    fn a_hash_is_libsodiums_and_verifies_its_password_only() {
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
    fn c50_composed_and_decomposed_letters_are_one_password_and_old_hashes_are_recognized() {
        let (composed, decomposed) = ("pass-caf\u{e9}", "pass-cafe\u{301}");
        let stored = hash(decomposed, &[1; SALT_BYTES], &mut HashingMemory::default()).unwrap();
        assert_eq!(
            (verified(composed, &stored), verified(decomposed, &stored)),
            (PasswordMatch::Yes, PasswordMatch::Yes)
        );
        // As it was made before passwords were normalized.
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
    fn c48_what_is_no_hash_or_asks_for_too_much_matches_nothing() {
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
    fn a_password_of_1025_characters_matches_nothing() {
        let stored =
            hash(&"x".repeat(1025), &[2; SALT_BYTES], &mut HashingMemory::default()).unwrap();
        assert_eq!(verified(&"x".repeat(1025), &stored), PasswordMatch::No);
    }

    #[test]
    fn c46_c47_a_new_password_has_8_to_128_characters_unless_said_otherwise() {
        let policy = PasswordPolicy { min_length: 8, min_classes: 1 };
        assert_eq!(
            policy.check("1234567"),
            Err("the password should be at least 8 characters long".into())
        );
        // Counted as they are hashed: a letter and its accent are one.
        assert!(policy.check("e\u{301}e\u{301}e\u{301}e\u{301}").is_err());
        assert_eq!((policy.check("12345678"), policy.check(&"x".repeat(128))), (Ok(()), Ok(())));
        assert!(policy.check(&"x".repeat(129)).is_err());
        let strict = PasswordPolicy { min_length: 12, min_classes: 3 };
        assert!(strict.check("lowercaseonly1").is_err());
        assert_eq!(strict.check("Lowercase-only"), Ok(()));
    }
}
