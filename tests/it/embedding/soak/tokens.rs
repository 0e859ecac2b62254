//! Keys and tokens of the load, and the right answers to them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::openssl::{SigningKey, signing_input};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::answers::{AnswerPeriods, AnswerSet, EventTime};
use crate::fixture;

/// Key of a provider, and its times.
pub(super) struct ProviderKey {
    /// Public key, as published.
    pub(super) jwk: Value,
    /// From here on every proxy has it.
    pub(super) usable: EventTime,
    /// From here on proxies may lose it.
    pub(super) withdrawing: EventTime,
    /// From here on no proxy has it.
    pub(super) withdrawn: EventTime,
    /// When an unknown `kid` of its issuer may be undecided.
    undecided: Arc<AnswerPeriods>,
    algorithm: &'static str,
    kid: String,
    issuer: String,
    signer: KeySigner,
}

enum KeySigner {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl ProviderKey {
    /// Generates a key. It signs in this process, because the load needs many tokens.
    pub(super) fn generate(
        algorithm: &'static str,
        kid: String,
        issuer: &str,
        undecided: &Arc<AnswerPeriods>,
    ) -> Self {
        let generated = SigningKey::generate(algorithm, &kid);
        let der = PrivatePkcs8KeyDer::from_pem_file(generated.path()).unwrap();
        let der = der.secret_pkcs8_der();
        let signer = match algorithm {
            "RS256" => KeySigner::Rsa(RsaKeyPair::from_pkcs8(der).unwrap()),
            "ES256" => KeySigner::Ecdsa(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).unwrap(),
            ),
            _ => KeySigner::Ed25519(Ed25519KeyPair::from_pkcs8(der).unwrap()),
        };
        Self {
            jwk: generated.jwk(),
            usable: EventTime::default(),
            withdrawing: EventTime::default(),
            withdrawn: EventTime::default(),
            undecided: Arc::clone(undecided),
            algorithm,
            kid,
            issuer: issuer.to_owned(),
            signer,
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signer {
            KeySigner::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            KeySigner::Ecdsa(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            KeySigner::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// Right answers to its tokens that have no defect.
    fn answers(&self, sent: Instant, received: Instant) -> AnswerSet {
        let refused = AnswerSet::REFUSED.or(AnswerSet::UNAVAILABLE);
        if self.withdrawn.is_by(sent) {
            refused
        } else if self.withdrawing.is_by(received) {
            refused.or(AnswerSet::ALLOWED)
        } else if self.usable.is_by(sent) {
            AnswerSet::ALLOWED
        } else {
            AnswerSet::ALLOWED.or(AnswerSet::UNAVAILABLE)
        }
    }
}

/// Defect that a token has from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenDefect {
    None,
    Signature,
    Expired,
    Audience,
    UnknownKey,
}

impl TokenDefect {
    const ALL: [Self; 4] = [Self::Signature, Self::Expired, Self::Audience, Self::UnknownKey];
}

/// Token of the load.
pub(super) struct LoadToken {
    pub(super) text: String,
    /// Its claim `sub`, which no other token has.
    pub(super) subject: String,
    pub(super) defect: TokenDefect,
    /// From here on proxies may refuse it.
    pub(super) revoking: EventTime,
    /// From here on every proxy refuses it.
    pub(super) revoked: EventTime,
    key: Arc<ProviderKey>,
}

impl LoadToken {
    pub(super) fn sign(key: &Arc<ProviderKey>, defect: TokenDefect) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let subject = format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut claims = fixture::claims_of(&key.issuer);
        claims["sub"] = json!(subject);
        claims["jti"] = json!(subject);
        let mut kid = &*key.kid;
        match defect {
            TokenDefect::Expired => claims["exp"] = json!(fixture::now() - 3600),
            TokenDefect::Audience => claims["aud"] = json!("other"),
            TokenDefect::UnknownKey => {
                kid = "unknown";
                // Before each fetch: the key of a younger token may have been published since.
                claims["iat"] = json!(fixture::now() - 3600);
            }
            TokenDefect::None | TokenDefect::Signature => {}
        }
        let header = json!({ "alg": key.algorithm, "kid": kid });
        let input = signing_input(&header, &claims);
        let mut signature = key.sign(input.as_bytes());
        if defect == TokenDefect::Signature {
            let middle = signature.len() / 2;
            signature[middle] ^= 1;
        }
        let text = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
        let (revoking, revoked) = Default::default();
        Self { text, subject, defect, revoking, revoked, key: Arc::clone(key) }
    }

    /// Right answers to a request with it, if no process was stopped.
    pub(super) fn answers(&self, sent: Instant, received: Instant) -> AnswerSet {
        let valid = self.key.answers(sent, received);
        let refused = AnswerSet::REFUSED.or(valid.and(AnswerSet::UNAVAILABLE));
        match self.defect {
            TokenDefect::UnknownKey => self.key.undecided.right(AnswerSet::REFUSED, sent, received),
            TokenDefect::Signature | TokenDefect::Expired | TokenDefect::Audience => refused,
            TokenDefect::None if self.revoked.is_by(sent) => refused,
            TokenDefect::None if self.revoking.is_by(received) => valid.or(AnswerSet::REFUSED),
            TokenDefect::None => valid,
        }
    }

    /// Returns a request of its own path, by which the application checks its subject.
    pub(super) fn request(&self) -> String {
        let (subject, text) = (&self.subject, &self.text);
        format!(
            "GET /soak/{subject} HTTP/1.1\r\nHost: shop.example\r\n\
             Authorization: Bearer {text}\r\n\r\n"
        )
    }

    /// Describes it in a report.
    pub(super) fn description(&self) -> String {
        let now = Instant::now();
        let state = if self.revoking.is_by(now) {
            ", revoked"
        } else if self.key.withdrawing.is_by(now) {
            ", key withdrawn"
        } else {
            ""
        };
        let Self { defect, subject, .. } = self;
        let (algorithm, kid) = (self.key.algorithm, &self.key.kid);
        format!("{algorithm} of {kid}, defect {defect:?}{state}, {subject}")
    }
}

/// Tokens that the load chooses from.
pub(super) struct TokenPool(Mutex<PoolState>);

struct PoolState {
    /// Key that signs, by issuer.
    keys: Vec<Arc<ProviderKey>>,
    valid: VecDeque<Arc<LoadToken>>,
    defective: VecDeque<Arc<LoadToken>>,
    withdrawn: VecDeque<Arc<LoadToken>>,
    revoked: Vec<Arc<LoadToken>>,
}

/// More than a cache of a megabyte holds.
const MAX_VALID: usize = 1500;
const MAX_OTHERS: usize = 300;

impl TokenPool {
    pub(super) fn new(keys: Vec<Arc<ProviderKey>>) -> Self {
        let tokens = keys.iter().map(|key| Arc::new(LoadToken::sign(key, TokenDefect::None)));
        let valid = tokens.collect();
        let (defective, withdrawn, revoked) = Default::default();
        Self(Mutex::new(PoolState { keys, valid, defective, withdrawn, revoked }))
    }

    /// Chooses a token, or `None` for a request without one.
    pub(super) fn choose(&self, random: &mut fastrand::Rng) -> Option<Arc<LoadToken>> {
        let state = self.0.lock().unwrap();
        let of = |tokens: &VecDeque<_>, random: &mut fastrand::Rng| {
            tokens.get(random.usize(..tokens.len().max(1))).cloned()
        };
        let chosen = match random.u8(..100) {
            0..2 => return None,
            2..7 => None,
            7..12 => return Some(self.defective(state, random)),
            12..18 => of(&state.defective, random),
            18..26 => of(&state.withdrawn, random),
            26..36 => random.choice(&state.revoked).cloned(),
            _ => of(&state.valid, random),
        };
        Some(chosen.unwrap_or_else(|| {
            drop(state);
            self.issue(random)
        }))
    }

    /// Signs a valid token.
    pub(super) fn issue(&self, random: &mut fastrand::Rng) -> Arc<LoadToken> {
        let key = random.choice(&self.0.lock().unwrap().keys).cloned().unwrap();
        let token = Arc::new(LoadToken::sign(&key, TokenDefect::None));
        push(&mut self.0.lock().unwrap().valid, &token, MAX_VALID);
        token
    }

    fn defective(
        &self,
        state: MutexGuard<'_, PoolState>,
        random: &mut fastrand::Rng,
    ) -> Arc<LoadToken> {
        let key = random.choice(&state.keys).cloned().unwrap();
        // Signing takes a millisecond.
        drop(state);
        let defect = random.choice(TokenDefect::ALL).unwrap();
        let token = Arc::new(LoadToken::sign(&key, defect));
        push(&mut self.0.lock().unwrap().defective, &token, MAX_OTHERS);
        token
    }

    /// Lets an issuer sign with another key.
    pub(super) fn sign_with(&self, issuer: usize, key: &Arc<ProviderKey>) {
        self.0.lock().unwrap().keys[issuer] = Arc::clone(key);
    }

    /// Moves the tokens of a key to those of withdrawn ones.
    pub(super) fn withdraw(&self, key: &Arc<ProviderKey>) {
        let mut state = self.0.lock().unwrap();
        let is_of_key = |token: &Arc<LoadToken>| Arc::ptr_eq(&token.key, key);
        let (of_key, others): (VecDeque<_>, _) = state.valid.drain(..).partition(is_of_key);
        state.valid = others;
        for token in &of_key {
            push(&mut state.withdrawn, token, MAX_OTHERS);
        }
    }

    /// Takes a valid token, to revoke it.
    pub(super) fn take(&self, random: &mut fastrand::Rng) -> Arc<LoadToken> {
        let mut state = self.0.lock().unwrap();
        let index = random.usize(..state.valid.len().max(1));
        let token = state.valid.remove(index);
        drop(state);
        token.unwrap_or_else(|| self.issue(random))
    }

    /// Adds a token that is being revoked. It is sent until the end.
    pub(super) fn add_revoked(&self, token: &Arc<LoadToken>) {
        let mut state = self.0.lock().unwrap();
        state.valid.retain(|one| !Arc::ptr_eq(one, token));
        state.revoked.push(Arc::clone(token));
    }
}

fn push(tokens: &mut VecDeque<Arc<LoadToken>>, token: &Arc<LoadToken>, max: usize) {
    if tokens.len() >= max {
        tokens.pop_front();
    }
    tokens.push_back(Arc::clone(token));
}
