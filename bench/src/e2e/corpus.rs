//! Requests of a load, and the expected answer to each.

use std::{fmt, io, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::{
    credential::{Credential, FRESH_LENGTH},
    protocol::Protocol,
};
use crate::order::SplitMix64;

/// The defect of a request's credential, if any.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// No defect.
    Valid,
    /// A good token with a wrong signature that is different in every request, so that no cache can
    /// know it.
    Forged,
    /// A good signature over an `exp` in the past.
    Expired,
    /// A string that is not a token.
    Garbage,
    /// No `Authorization` header.
    Missing,
    /// A good token with a `kid` that no key has.
    UnknownKid,
}

impl CredentialKind {
    /// Every kind but [`CredentialKind::Valid`].
    pub const BAD: [Self; 5] =
        [Self::Forged, Self::Expired, Self::Garbage, Self::Missing, Self::UnknownKid];
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::Garbage => "garbage",
            Self::Missing => "without a token",
            Self::UnknownKid => "with an unknown kid",
        })
    }
}

/// Good and expired tokens, from which the credentials of every kind are derived.
pub struct Corpus {
    valid: Vec<String>,
    expired: Vec<String>,
}

impl Corpus {
    /// Creates a corpus of these tokens. The other bad kinds are derived from the valid tokens.
    ///
    /// # Panics
    /// `valid` is empty.
    #[must_use]
    pub fn new(valid: Vec<String>, expired: Vec<String>) -> Self {
        assert!(!valid.is_empty(), "a corpus needs valid tokens");
        Self { valid, expired }
    }

    /// Reads two directories written by the program `corpus`: one with good tokens only, and one
    /// with bad tokens only, of which the expired ones are used.
    ///
    /// # Errors
    /// A file cannot be read, or is empty.
    pub fn read(good: &Path, bad: &Path) -> io::Result<Self> {
        let tokens = |directory: &Path| {
            let path = directory.join("tokens.txt");
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            let text = std::fs::read_to_string(&path).map_err(named)?;
            let tokens: Vec<_> = text.lines().map(str::to_owned).collect();
            if tokens.is_empty() {
                Err(named(io::Error::other("no tokens in this file")))
            } else {
                Ok(tokens)
            }
        };
        let expired = tokens(bad)?.into_iter().filter(|token| is_expired(token));
        Ok(Self::new(tokens(good)?, expired.collect()))
    }

    /// Returns a corpus with this many of the good tokens, and all expired ones.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let valid = self.valid.iter().take(count).cloned().collect();
        Self::new(valid, self.expired.clone())
    }

    /// Returns the credentials of one kind. [`CredentialKind::Missing`] has one, which is `None`.
    #[must_use]
    pub fn credentials(&self, kind: CredentialKind) -> Vec<Option<Credential>> {
        /// Number of credentials of each derived kind. Forgeries differ in every request anyway.
        const DERIVED: usize = 500;
        let plain = |text: String| Some(Credential { text, fresh: None });
        let derived = self.valid.iter().cycle().take(DERIVED);
        match kind {
            CredentialKind::Valid => self.valid.iter().cloned().map(plain).collect(),
            CredentialKind::Expired => self.expired.iter().cloned().map(plain).collect(),
            CredentialKind::Forged => derived.map(|token| Some(forged(token))).collect(),
            CredentialKind::Garbage => {
                (0..DERIVED).map(|index| plain(format!("garbage-{index}"))).collect()
            }
            CredentialKind::UnknownKid => derived
                .enumerate()
                .map(|(index, token)| plain(under_another_kid(token, index)))
                .collect(),
            CredentialKind::Missing => vec![None],
        }
    }
}

/// Whether a token of the corpus expired before September 2020; the corpus dates its expired tokens
/// to 2020.
fn is_expired(token: &str) -> bool {
    const LONG_AGO: u64 = 1_600_000_000;
    let foreign =
        |claims: &Value| claims["iss"].as_str().is_none_or(|issuer| !issuer.contains("corpus"));
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims: Option<Value> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    claims.is_some_and(|claims| {
        !foreign(&claims) && claims["exp"].as_u64().is_some_and(|exp| exp < LONG_AGO)
    })
}

/// Makes a forgery: its signature differs from the true one, and changes in every request.
fn forged(token: &str) -> Credential {
    let signature = token.rfind('.').map_or(0, |dot| dot + 1);
    let fresh = signature + (token.len() - signature).saturating_sub(FRESH_LENGTH) / 2;
    Credential { text: token.to_owned(), fresh: Some(fresh) }
}

fn under_another_kid(token: &str, index: usize) -> String {
    let (header, rest) = token.split_once('.').unwrap_or((token, ""));
    let header =
        URL_SAFE_NO_PAD.decode(header).ok().and_then(|header| serde_json::from_slice(&header).ok());
    let mut header: Value = header.unwrap_or(Value::Null);
    header["kid"] = format!("nobody-{index}").into();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// The answers expected from a server.
#[derive(Clone, Debug)]
pub struct ExpectedAnswers {
    /// The kinds that it rejects. It does not check the others.
    pub refuses: Vec<CredentialKind>,
    /// The statuses that count as a rejection.
    pub refusals: Vec<u16>,
}

impl ExpectedAnswers {
    fn to(&self, kind: CredentialKind) -> Vec<u16> {
        if self.refuses.contains(&kind) { self.refusals.clone() } else { vec![200] }
    }
}

/// One encoded request, and its expected answer.
pub struct PreparedRequest<W> {
    /// The request as the protocol encodes it.
    pub wire: W,
    /// The defect of its credential.
    pub kind: CredentialKind,
    /// Its index among the requests of its kind.
    pub index: usize,
    /// The statuses that are right answers.
    pub expected: Vec<u16>,
}

/// The requests of one load: valid ones, and a share of bad ones.
pub struct RequestMix<W> {
    valid: Vec<PreparedRequest<W>>,
    /// Bad requests, by kind.
    bad: Vec<Vec<PreparedRequest<W>>>,
    /// Number of bad requests per million.
    bad_per_million: usize,
}

const MILLION: usize = 1_000_000;

impl<W> RequestMix<W> {
    /// Mixes a `share` of bad requests, in equal parts of these kinds, with the valid ones.
    #[must_use]
    pub fn new<P: Protocol<Wire = W>>(
        protocol: &P,
        corpus: &Corpus,
        answers: &ExpectedAnswers,
        share: f64,
        kinds: &[CredentialKind],
    ) -> Self {
        let of = |kind| {
            let request = |(index, credential): (usize, Option<Credential>)| {
                let wire = protocol.encode(credential.as_ref());
                PreparedRequest { wire, kind, index, expected: answers.to(kind) }
            };
            corpus.credentials(kind).into_iter().enumerate().map(request).collect::<Vec<_>>()
        };
        let bad =
            kinds.iter().map(|kind| of(*kind)).filter(|requests| !requests.is_empty()).collect();
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share below one million"
        )]
        let bad_per_million = (share * 1e6) as usize;
        Self { valid: of(CredentialKind::Valid), bad, bad_per_million }
    }

    /// Number of different requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.valid.len() + self.bad.iter().map(Vec::len).sum::<usize>()
    }

    /// Always `false`: a corpus has a valid token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the next request.
    pub fn choose(&self, order: &mut RequestOrder) -> &PreparedRequest<W> {
        match order {
            RequestOrder::InTurn(next) => {
                let index = *next % self.len();
                *next += 1;
                self.valid
                    .iter()
                    .chain(self.bad.iter().flatten())
                    .nth(index)
                    .unwrap_or(&self.valid[0])
            }
            RequestOrder::AtRandom(random) => {
                let is_bad = !self.bad.is_empty() && random.below(MILLION) < self.bad_per_million;
                let requests =
                    if is_bad { &self.bad[random.below(self.bad.len())] } else { &self.valid };
                &requests[random.below(requests.len())]
            }
        }
    }
}

/// Order in which [`RequestMix::choose`] returns requests.
pub enum RequestOrder {
    /// Each valid request once, then each bad one, and so on. This warms a cache, and shows how a
    /// server answers each request.
    InTurn(usize),
    /// Random, independent of the previous request.
    AtRandom(SplitMix64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::{credential::RequestBytes, http1::Http1};

    /// Strings that look like tokens.
    pub(crate) fn corpus() -> Corpus {
        let token = |header: &str, index| {
            format!("{}.e30.{}{index}", URL_SAFE_NO_PAD.encode(header), "s".repeat(40))
        };
        let valid = (0..3).map(|index| token(r#"{"alg":"RS256","kid":"one"}"#, index)).collect();
        Corpus::new(valid, vec![token(r#"{"alg":"RS256","kid":"one"}"#, 9)])
    }

    fn rejecting() -> ExpectedAnswers {
        ExpectedAnswers { refuses: CredentialKind::BAD.to_vec(), refusals: vec![401] }
    }

    #[test]
    fn request_mix_has_its_share_of_every_kind() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let requests =
            RequestMix::new(&protocol, &corpus(), &rejecting(), 0.9, &CredentialKind::BAD);
        let mut order = RequestOrder::AtRandom(SplitMix64::new(1));
        let drawn: Vec<_> = (0..50_000).map(|_| requests.choose(&mut order)).collect();
        for kind in CredentialKind::BAD {
            let count = drawn.iter().filter(|request| request.kind == kind).count();
            assert!((8_500..9_500).contains(&count), "{kind}: {count}");
        }
        for request in drawn {
            assert_eq!(
                request.expected,
                [if request.kind == CredentialKind::Valid { 200 } else { 401 }]
            );
        }
    }

    #[test]
    fn first_tokens_are_a_corpus() {
        let count = |kind| corpus().first(2).credentials(kind).len();
        assert_eq!([CredentialKind::Valid, CredentialKind::Expired].map(count), [2, 1]);
        assert_eq!(corpus().first(9).credentials(CredentialKind::Valid).len(), 3);
    }

    #[test]
    fn unchecked_kinds_are_expected_to_be_allowed() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let answers =
            ExpectedAnswers { refuses: vec![CredentialKind::Forged], refusals: vec![401, 429] };
        let requests = RequestMix::new(
            &protocol,
            &corpus(),
            &answers,
            0.5,
            &[CredentialKind::Forged, CredentialKind::Expired],
        );
        let mut order = RequestOrder::InTurn(0);
        for _ in 0..requests.len() {
            let request = requests.choose(&mut order);
            assert_eq!(
                request.expected,
                if request.kind == CredentialKind::Forged { vec![401, 429] } else { vec![200] }
            );
        }
    }

    #[test]
    fn in_turn_order_returns_each_request_once() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let requests = RequestMix::new(
            &protocol,
            &corpus(),
            &rejecting(),
            0.5,
            &[CredentialKind::Expired, CredentialKind::Missing],
        );
        let mut order = RequestOrder::InTurn(0);
        let turn: Vec<_> = (0..6)
            .map(|_| requests.choose(&mut order))
            .map(|request| (request.kind, request.index))
            .collect();
        let valid = (0..3).map(|index| (CredentialKind::Valid, index));
        assert_eq!(
            turn,
            valid
                .chain([
                    (CredentialKind::Expired, 0),
                    (CredentialKind::Missing, 0),
                    (CredentialKind::Valid, 0)
                ])
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn forgery_changes_only_the_signature_each_time() {
        let token = &corpus().valid[0];
        let credential = forged(token);
        let at = credential.fresh.unwrap();
        assert!(at > token.rfind('.').unwrap() && at + FRESH_LENGTH < token.len());
        let bytes = RequestBytes::new(credential.text, credential.fresh);
        let sent = |serial| bytes.with_serial(serial);
        assert_ne!(sent(1), sent(2));
        assert_ne!(sent(1), sent(1 << 30));
        assert_eq!(sent(7), sent(7));
    }

    #[test]
    fn unknown_kid_changes_only_the_header() {
        let token = &corpus().valid[0];
        let other = under_another_kid(token, 4);
        let (header, rest) = other.split_once('.').unwrap();
        assert_eq!(rest, token.split_once('.').unwrap().1);
        let header: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(
            (header["alg"].as_str(), header["kid"].as_str()),
            (Some("RS256"), Some("nobody-4"))
        );
    }

    #[test]
    fn expired_token_is_detected_by_its_claims() {
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        assert!(is_expired(&token(
            r#"{"iss":"https://corpus.countersign.example/","exp":1577840400}"#
        )));
        assert!(!is_expired(&token(
            r#"{"iss":"https://corpus.countersign.example/","exp":4102444800}"#
        )));
        assert!(!is_expired(&token(r#"{"iss":"https://unknown.example/","exp":1577840400}"#)));
        assert!(!is_expired("garbage-7"));
    }
}
