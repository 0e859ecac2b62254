//! The id of a session, which only the browser has, and the secrets that are derived from it.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};

use crate::{base::hex::to_hex, keys::secret_id::derived_secret};

/// Length of an id in bytes.
const ID_BYTES: usize = 32;

/// The random id of a session. Not `Debug`: it is a credential.
///
/// The database has its SHA-256 only. The tokens of the session are encrypted with a key that is
/// derived from it, so they are of use to the browser and to no reader of the database. Forms carry
/// another value that is derived from it.
pub(super) struct SessionId([u8; ID_BYTES]);

/// The tokens of a session, which [`SessionId::seal`] encrypts. Not `Debug`: it contains
/// credentials.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct SessionTokens {
    /// The token with which the console makes calls.
    pub(super) access: String,
    /// Those of the OpenID provider, if the session began there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<ProviderPart>,
}

/// What a session has from the OpenID provider, beside its access token. Not `Debug`: it contains
/// credentials.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct ProviderPart {
    /// The provider and client that issued them. They are sent to no other.
    pub(super) issued_by: String,
    /// The refresh token, if the provider issues one.
    pub(super) refresh: Option<String>,
    /// The last ID token, to sign out at the provider.
    pub(super) id_token: Option<String>,
    /// Time from which the access token is renewed, in seconds since 1970.
    pub(super) renew_at: Option<u64>,
    /// Time at which the access token has expired, in seconds since 1970.
    pub(super) expires_at: Option<u64>,
}

impl SessionId {
    /// Creates a random id; `None` if the operating system has no randomness.
    pub(super) fn random() -> Option<Self> {
        let mut id = [0; ID_BYTES];
        rand::fill(&mut id).ok()?;
        Some(Self(id))
    }

    /// Reads the value of a cookie.
    pub(super) fn parse(cookie: &[u8]) -> Option<Self> {
        let id = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        id.try_into().ok().map(Self)
    }

    /// Returns the value of the cookie.
    pub(super) fn cookie_value(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Returns the id in the database.
    pub(super) fn digest(&self) -> String {
        to_hex(digest(&SHA256, &self.0).as_ref())
    }

    /// Returns the value that every form has, so that no other site can send one.
    pub(super) fn form_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(derived_secret(&self.0, "console form"))
    }

    /// Whether a form has the right value, that of [`form_token`](Self::form_token).
    pub(super) fn is_form_token(&self, given: &str) -> bool {
        verify_slices_are_equal(self.form_token().as_bytes(), given.as_bytes()).is_ok()
    }

    /// Returns a value that only this session can have for a text: HMAC-SHA256 under a secret of
    /// this purpose.
    pub(super) fn tag(&self, purpose: &str, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(derived_secret(&derived_secret(&self.0, purpose), text))
    }

    /// Whether a text has the right value, that of [`tag`](Self::tag).
    pub(super) fn is_tag(&self, purpose: &str, text: &str, given: &str) -> bool {
        verify_slices_are_equal(self.tag(purpose, text).as_bytes(), given.as_bytes()).is_ok()
    }

    /// Encrypts tokens: the nonce, the text and its tag, in base64. `None` without randomness.
    pub(super) fn seal(&self, tokens: &SessionTokens) -> Option<String> {
        let mut text = serde_json::to_vec(tokens).ok()?;
        let nonce = self.key()?.seal_in_place_append_tag(self.aad(), &mut text).ok()?;
        Some(STANDARD_NO_PAD.encode([&nonce.as_ref()[..], &text].concat()))
    }

    /// Decrypts what [`seal`](Self::seal) returned; `None` if it was changed, or is that of another
    /// session.
    pub(super) fn open(&self, sealed: &str) -> Option<SessionTokens> {
        let mut bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.key()?.open_in_place(nonce, self.aad(), text).ok()?;
        serde_json::from_slice(text).ok()
    }

    fn key(&self) -> Option<RandomizedNonceKey> {
        let key = derived_secret(&self.0, "console session");
        RandomizedNonceKey::new(&AES_256_GCM, &key).ok()
    }

    fn aad(&self) -> Aad<String> {
        Aad::from(self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> SessionTokens {
        SessionTokens { access: "a.b.c".into(), provider: None }
    }

    #[test]
    fn sealed_tokens_open_with_their_session_only() {
        let [one, other] = [(); 2].map(|()| SessionId::random().unwrap());
        let sealed = one.seal(&tokens()).unwrap();
        assert_eq!(one.open(&sealed).unwrap().access, tokens().access);
        assert!(other.open(&sealed).is_none());
        assert_ne!(sealed, one.seal(&tokens()).unwrap(), "the nonce is random");
        let mut changed = STANDARD_NO_PAD.decode(&sealed).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        assert!(one.open(&STANDARD_NO_PAD.encode(changed)).is_none());
        assert!(one.open("").is_none() && one.open("AAAA").is_none());
    }

    #[test]
    fn session_id_is_read_from_its_cookie() {
        let id = SessionId::random().unwrap();
        let read = SessionId::parse(id.cookie_value().as_bytes()).unwrap();
        assert_eq!(read.digest(), id.digest());
        assert!(read.is_form_token(&id.form_token()));
        assert!(!read.is_form_token("") && !read.is_form_token(&id.cookie_value()));
        for wrong in ["", "AAAA", "=", &"A".repeat(44), &"A".repeat(86)] {
            assert!(SessionId::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
