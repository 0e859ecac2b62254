//! A sign-in that has begun: what the callback is compared with, sealed in a cookie of the browser.
//!
//! Sealed with AES-256-GCM, it needs no memory here, however many sign-ins begin, and ends in any
//! process with the same key. Only the browser that began it can finish it.

use std::{fmt, iter};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    constant_time::verify_slices_are_equal,
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::UnixTime;
use serde::{Deserialize, Serialize};

use super::{error::SignInError, settings::SignInSettings};
use crate::keys::IssuerSection;

/// Seconds within which a sign-in has to end.
pub const MAX_SIGN_IN_SECONDS: u64 = 600;
/// Seconds by which the clocks of two servers may differ.
const MAX_CLOCK_DIFFERENCE: u64 = 60;

/// Name of the cookie over TLS. The prefix binds it to this host, and to TLS.
const COOKIE: &str = "__Host-countersign-sign-in";
/// Name of the cookie over plain HTTP, for which the prefix is not allowed.
const PLAIN_COOKIE: &str = "countersign-sign-in";

/// Returns the name of the cookie with a sealed [`PendingSignIn`].
#[must_use]
pub const fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { COOKIE } else { PLAIN_COOKIE }
}

/// Returns a value of `Set-Cookie` that stores a sealed [`PendingSignIn`]; without one, that
/// removes it. The browser sends it with the redirect from the provider, but not with requests that
/// other sites make in the background (`SameSite=Lax`).
#[must_use]
pub fn set_cookie(sealed: Option<&str>, is_tls: bool) -> String {
    let (value, seconds) = sealed.map_or(("", 0), |sealed| (sealed, MAX_SIGN_IN_SECONDS));
    let (name, secure) = (cookie_name(is_tls), if is_tls { "; Secure" } else { "" });
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// A request to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignInRequest<'r> {
    /// Scheme, host and port of the console as the browser sees it, without a slash at the end: the
    /// redirect URI that is registered at the provider.
    pub origin: &'r str,
    /// The page to show afterwards.
    pub return_to: &'r str,
    /// Whether the provider has to sign the user in anew, although it may know the browser.
    pub is_fresh: bool,
}

/// A sign-in that has begun.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingSignIn {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    pub(super) origin: String,
    return_to: String,
    pub(super) is_fresh: bool,
    /// Seconds since 1970.
    begun_at: u64,
}

impl fmt::Debug for PendingSignIn {
    /// Hides its secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSignIn").field("begun_at", &self.begun_at).finish_non_exhaustive()
    }
}

impl PendingSignIn {
    /// Begins the sign-in of a [`SignInRequest`] with new random values.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn begin(request: &SignInRequest<'_>, now: UnixTime) -> Result<Self, SignInError> {
        Ok(Self {
            state: random_text()?,
            nonce: random_text()?,
            verifier: random_text()?,
            origin: request.origin.trim_end_matches('/').into(),
            return_to: local_path(request.return_to).into(),
            is_fresh: request.is_fresh,
            begun_at: now.0,
        })
    }

    /// The page to show after the sign-in: a path of the console.
    #[must_use]
    pub fn return_to(&self) -> &str {
        &self.return_to
    }

    /// The time at which it began.
    pub(super) const fn begun_at(&self) -> UnixTime {
        UnixTime(self.begun_at)
    }

    /// Whether `state` is its own. Takes the same time for every text of its length.
    pub(super) fn has_state(&self, state: &str) -> bool {
        verify_slices_are_equal(self.state.as_bytes(), state.as_bytes()).is_ok()
    }

    /// Seals it into the value of a cookie.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn seal(&self, key: &PendingKey, settings: &SignInSettings) -> Result<String, SignInError> {
        let mut sealed = serde_json::to_vec(self).map_err(|_| SignInError::NotBegun)?;
        let aad = Aad::from(PendingKey::context(settings));
        let nonce = key.first.seal_in_place_append_tag(aad, &mut sealed);
        let nonce = nonce.map_err(|_| SignInError::Randomness)?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &sealed[..]].concat()))
    }

    /// Opens the value of a cookie.
    ///
    /// # Errors
    /// It was not sealed by this key and for this provider and client, or began too long ago.
    pub fn open(
        cookie: &str,
        key: &PendingKey,
        settings: &SignInSettings,
        now: UnixTime,
    ) -> Result<Self, SignInError> {
        let pending = Self::try_open(cookie, key, settings).ok_or(SignInError::NotBegun)?;
        let begun_at = pending.begun_at();
        let is_early = now.plus(MAX_CLOCK_DIFFERENCE) < begun_at;
        if is_early || now >= begun_at.plus(MAX_SIGN_IN_SECONDS) {
            return Err(SignInError::Late);
        }
        Ok(pending)
    }

    fn try_open(cookie: &str, key: &PendingKey, settings: &SignInSettings) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let open = |key: &RandomizedNonceKey| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let aad = Aad::from(PendingKey::context(settings));
            // A failure overwrites the buffer, so each key gets its own.
            let mut sealed = sealed.to_vec();
            let opened = key.open_in_place(nonce, aad, &mut sealed).ok()?;
            serde_json::from_slice(opened).ok()
        };
        iter::once(&key.first).chain(&key.others).find_map(open)
    }
}

/// The key that seals each [`PendingSignIn`], and those with which other servers may have sealed
/// one while the signing keys rotate.
pub struct PendingKey {
    first: RandomizedNonceKey,
    others: Vec<RandomizedNonceKey>,
}

impl PendingKey {
    /// Derives the keys from those of the section that signs, the same on every server of a
    /// cluster. `key` seals, and each of them opens. Without a secret the key is random: a sign-in then ends on the server, and in the
    /// run, in which it began.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(signing: Option<&IssuerSection>) -> Result<Self, SignInError> {
        let key = |secret: &[u8]| {
            RandomizedNonceKey::new(&AES_256_GCM, secret).map_err(|_| SignInError::Randomness)
        };
        let derived = signing.and_then(|section| section.secrets_for("console sign-in"));
        let Some(derived) = derived else {
            return Ok(Self { first: key(&random_bytes()?)?, others: Vec::new() });
        };
        let others = derived.all().iter().skip(1).map(|secret| key(secret.expose()));
        Ok(Self { first: key(derived.key().expose())?, others: others.collect::<Result<_, _>>()? })
    }

    /// What a sealed sign-in is bound to: a code of one provider is never sent to another.
    fn context(settings: &SignInSettings) -> Vec<u8> {
        format!("countersign sign-in\0{}", settings.provider_and_client()).into_bytes()
    }
}

impl fmt::Debug for PendingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingKey(..)")
    }
}

/// Returns the page to show after a sign-in: the given one if it is a path of the console, and
/// otherwise its first page. Another site must not be among them.
fn local_path(path: &str) -> &str {
    const FIRST: &str = "/console";
    const MAX_BYTES: usize = 1024;
    let rest = path.strip_prefix(FIRST).filter(|_| path.len() <= MAX_BYTES);
    let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_below && is_plain { path } else { FIRST }
}

/// Returns 256 random bits as 43 characters, which RFC 7636 section 4.1 wants at least.
fn random_text() -> Result<String, SignInError> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes()?))
}

fn random_bytes() -> Result<[u8; 32], SignInError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| SignInError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use countersign_engine::{Algorithm, IssuerConfig};

    use super::{super::provider::tests::settings, *};
    use crate::keys::{secret_keys::SecretKeys, settings::SigningSecret};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn begin(return_to: &str) -> PendingSignIn {
        let origin = "https://console.example/";
        PendingSignIn::begin(&SignInRequest { origin, return_to, is_fresh: false }, NOW).unwrap()
    }

    #[test]
    fn pending_sign_in_opens_with_its_key_alone() {
        let (key, settings) = (PendingKey::new(None).unwrap(), settings());
        let pending = begin("/console/tokens");
        let cookie = pending.seal(&key, &settings).unwrap();
        assert!(!cookie.contains(&pending.state) && cookie.len() < 1024, "{cookie}");
        let open = |key: &PendingKey, settings: &SignInSettings, cookie: &str| {
            PendingSignIn::open(cookie, key, settings, NOW).map(|pending| pending.state)
        };
        assert_eq!(open(&key, &settings, &cookie), Ok(pending.state));
        let other = PendingKey::new(None).unwrap();
        assert_eq!(open(&other, &settings, &cookie), Err(SignInError::NotBegun));
        let elsewhere = SignInSettings { authority: "https://other".into(), ..settings.clone() };
        assert_eq!(open(&key, &elsewhere, &cookie), Err(SignInError::NotBegun));
        for damaged in ["", "AAAA", &cookie[1..], &format!("{cookie}A")] {
            assert_eq!(open(&key, &settings, damaged), Err(SignInError::NotBegun), "{damaged}");
        }
    }

    #[test]
    fn pending_sign_in_opens_while_keys_rotate() {
        let secret = |byte| SigningSecret::new([byte; 32], None);
        let key = |first, others: &[u8]| {
            let issuer = IssuerConfig::new("i", "i", [Algorithm::Hs256]);
            let others = others.iter().map(|byte| secret(*byte)).collect();
            let section =
                IssuerSection::internal(issuer, SecretKeys::new(secret(first), None, others));
            PendingKey::new(Some(&section)).unwrap()
        };
        let cookie = begin("/console").seal(&key(1, &[]), &settings()).unwrap();
        let opens = |key| PendingSignIn::open(&cookie, &key, &settings(), NOW).is_ok();
        assert!(opens(key(1, &[])) && opens(key(2, &[3, 1])));
        assert!(!opens(key(2, &[3])));
    }

    #[test]
    fn pending_sign_in_ends_after_ten_minutes() {
        let (key, settings) = (PendingKey::new(None).unwrap(), settings());
        let cookie = begin("/console").seal(&key, &settings).unwrap();
        let open = |at: u64| PendingSignIn::open(&cookie, &key, &settings, UnixTime(at)).err();
        assert_eq!(open(NOW.0 + 599), None);
        assert_eq!(open(NOW.0 + 600), Some(SignInError::Late));
        assert_eq!(open(NOW.0 - 61), Some(SignInError::Late), "the clock was set back");
    }

    #[test]
    fn sign_in_cookie_is_bound_to_its_host() {
        let over_tls = "__Host-countersign-sign-in=x; Path=/; Max-Age=600; HttpOnly; \
                        SameSite=Lax; Secure";
        assert_eq!(set_cookie(Some("x"), true), over_tls);
        let removed = "countersign-sign-in=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax";
        assert_eq!(set_cookie(None, false), removed);
    }

    #[test]
    fn return_path_stays_in_the_console() {
        for path in ["/console", "/console/tokens?page=2", "/console?x"] {
            assert_eq!(begin(path).return_to(), path);
        }
        for path in [
            "",
            "/",
            "//evil.example",
            "/consolex",
            "https://evil.example/console",
            "/console/\\evil.example",
            "/console/\r\nSet-Cookie: a=b",
            "/console/é",
        ] {
            assert_eq!(begin(path).return_to(), "/console", "{path}");
        }
        assert_eq!(begin(&format!("/console/{}", "x".repeat(2000))).return_to(), "/console");
        assert_eq!(begin("/console").origin, "https://console.example");
    }
}
