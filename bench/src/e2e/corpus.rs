//! What is asked, and what each must be answered.

use std::{fmt, io, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::protocol::Protocol;
use crate::order::Order;

/// What is wrong with a request, if anything.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing.
    Valid,
    /// A good token with another signature, a new one with every sending: nothing that
    /// remembers can know it.
    Forged,
    /// A good signature over an `exp` of the past.
    Expired,
    /// No token at all, in the place of one.
    Garbage,
    /// No `Authorization`.
    Missing,
    /// A good token under a `kid` that nobody has.
    UnknownKid,
}

impl Kind {
    /// All that are bad.
    pub const BAD: [Self; 5] =
        [Self::Forged, Self::Expired, Self::Garbage, Self::Missing, Self::UnknownKid];
}

impl fmt::Display for Kind {
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

/// What stands behind `Bearer`.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The text.
    pub text: String,
    /// Where [`FRESH`] characters of it are others with every sending.
    pub fresh: Option<usize>,
}

/// How many characters are replaced where a credential is to be new with every sending.
pub const FRESH: usize = 6;

/// Writes a number as [`FRESH`] characters of base64url: 36 bits of it.
pub fn write_fresh(place: &mut [u8], mut serial: u64) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for digit in place {
        *digit = DIGITS[usize::try_from(serial % 64).unwrap_or(0)];
        serial /= 64;
    }
}

/// Tokens, and what can be made of them.
pub struct Corpus {
    valid: Vec<String>,
    expired: Vec<String>,
}

impl Corpus {
    /// Of these tokens. The kinds that are bad in other ways are made of the valid ones.
    ///
    /// # Panics
    /// There is no valid token.
    #[must_use]
    pub fn new(valid: Vec<String>, expired: Vec<String>) -> Self {
        assert!(!valid.is_empty(), "a corpus without tokens");
        Self { valid, expired }
    }

    /// Reads two directories that `countersign corpus` has written: one with nothing
    /// but good tokens, and one with none, of which those are taken that are expired.
    ///
    /// # Errors
    /// A file cannot be read, or has nothing in it.
    pub fn read(good: &Path, bad: &Path) -> io::Result<Self> {
        let tokens = |directory: &Path| {
            let path = directory.join("tokens.txt");
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            let text = std::fs::read_to_string(&path).map_err(named)?;
            let tokens: Vec<_> = text.lines().map(str::to_owned).collect();
            if tokens.is_empty() {
                Err(named(io::Error::other("no token in it")))
            } else {
                Ok(tokens)
            }
        };
        let expired = tokens(bad)?.into_iter().filter(|token| is_expired(token));
        Ok(Self::new(tokens(good)?, expired.collect()))
    }

    /// Its first good token alone.
    #[must_use]
    pub fn first(&self) -> Self {
        Self::new(vec![self.valid[0].clone()], Vec::new())
    }

    /// The credentials of one kind; one `None` for requests that have none.
    #[must_use]
    pub fn credentials(&self, kind: Kind) -> Vec<Option<Credential>> {
        /// Of each kind. Forgeries are new with every sending all the same.
        const MADE: usize = 500;
        let plain = |text: String| Some(Credential { text, fresh: None });
        let made = self.valid.iter().cycle().take(MADE);
        match kind {
            Kind::Valid => self.valid.iter().cloned().map(plain).collect(),
            Kind::Expired => self.expired.iter().cloned().map(plain).collect(),
            Kind::Forged => made.map(|token| Some(forged(token))).collect(),
            Kind::Garbage => (0..MADE).map(|index| plain(format!("garbage-{index}"))).collect(),
            Kind::UnknownKid => made
                .enumerate()
                .map(|(index, token)| plain(under_another_kid(token, index)))
                .collect(),
            Kind::Missing => vec![None],
        }
    }
}

/// By 2020 at the latest, to which the corpus' own tokens are dated.
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

/// Its signature differs from the true one, and from itself when it is sent again.
fn forged(token: &str) -> Credential {
    let signature = token.rfind('.').map_or(0, |dot| dot + 1);
    let fresh = signature + (token.len() - signature).saturating_sub(FRESH) / 2;
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

/// How a server is expected to answer.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The kinds that it refuses; the others it does not look at.
    pub refuses: Vec<Kind>,
    /// The statuses that are a refusal.
    pub refusals: Vec<u16>,
}

impl Answers {
    fn to(&self, kind: Kind) -> Vec<u16> {
        if self.refuses.contains(&kind) { self.refusals.clone() } else { vec![200] }
    }
}

/// One request as it is sent, and what it must be answered.
pub struct Question<W> {
    /// As the protocol has it.
    pub wire: W,
    /// What is wrong with it.
    pub kind: Kind,
    /// Its place among those of its kind.
    pub index: usize,
    /// The statuses that are right.
    pub expected: Vec<u16>,
}

/// The requests of one load: valid ones and, as a share of them all, bad ones.
pub struct Questions<W> {
    valid: Vec<Question<W>>,
    /// By kind.
    bad: Vec<Vec<Question<W>>>,
    /// How many of a million are bad.
    bad_in_a_million: usize,
}

const MILLION: usize = 1_000_000;

impl<W> Questions<W> {
    /// Mixes `share` bad requests of these kinds, in equal parts, under the valid ones.
    #[must_use]
    pub fn new<P: Protocol<Wire = W>>(
        protocol: &P,
        corpus: &Corpus,
        answers: &Answers,
        share: f64,
        kinds: &[Kind],
    ) -> Self {
        let of = |kind| {
            let question = |(index, credential): (usize, Option<Credential>)| {
                let wire = protocol.encode(credential.as_ref());
                Question { wire, kind, index, expected: answers.to(kind) }
            };
            corpus.credentials(kind).into_iter().enumerate().map(question).collect::<Vec<_>>()
        };
        let bad =
            kinds.iter().map(|kind| of(*kind)).filter(|questions| !questions.is_empty()).collect();
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "of a million"
        )]
        let bad_in_a_million = (share * 1e6) as usize;
        Self { valid: of(Kind::Valid), bad, bad_in_a_million }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.valid.len() + self.bad.iter().map(Vec::len).sum::<usize>()
    }

    /// Never: there is a valid one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next one.
    pub fn choose(&self, choice: &mut Choice) -> &Question<W> {
        match choice {
            Choice::InTurn(next) => {
                let index = *next % self.len();
                *next += 1;
                self.valid
                    .iter()
                    .chain(self.bad.iter().flatten())
                    .nth(index)
                    .unwrap_or(&self.valid[0])
            }
            Choice::AtRandom(order) => {
                let is_bad = !self.bad.is_empty() && order.below(MILLION) < self.bad_in_a_million;
                let questions =
                    if is_bad { &self.bad[order.below(self.bad.len())] } else { &self.valid };
                &questions[order.below(questions.len())]
            }
        }
    }
}

/// In which order requests are taken.
pub enum Choice {
    /// Each valid one once, then each bad one, and so on: to make a cache warm, and to
    /// see what a server says to each.
    InTurn(usize),
    /// Any, independent of the last.
    AtRandom(Order),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::http1::Http1;

    /// Tokens by their looks.
    pub(crate) fn corpus() -> Corpus {
        let token = |header: &str, index| {
            format!("{}.e30.{}{index}", URL_SAFE_NO_PAD.encode(header), "s".repeat(40))
        };
        let valid = (0..3).map(|index| token(r#"{"alg":"RS256","kid":"one"}"#, index)).collect();
        Corpus::new(valid, vec![token(r#"{"alg":"RS256","kid":"one"}"#, 9)])
    }

    fn refusing() -> Answers {
        Answers { refuses: Kind::BAD.to_vec(), refusals: vec![401] }
    }

    #[test]
    fn a_mix_has_its_share_of_every_kind_with_the_answer_that_is_right() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let questions = Questions::new(&protocol, &corpus(), &refusing(), 0.9, &Kind::BAD);
        let mut choice = Choice::AtRandom(Order::new(1));
        let drawn: Vec<_> = (0..50_000).map(|_| questions.choose(&mut choice)).collect();
        for kind in Kind::BAD {
            let count = drawn.iter().filter(|question| question.kind == kind).count();
            assert!((8_500..9_500).contains(&count), "{kind}: {count}");
        }
        for question in drawn {
            assert_eq!(question.expected, [if question.kind == Kind::Valid { 200 } else { 401 }]);
        }
    }

    #[test]
    fn who_looks_at_nothing_is_expected_to_allow_everything() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let answers = Answers { refuses: vec![Kind::Forged], refusals: vec![401, 429] };
        let questions =
            Questions::new(&protocol, &corpus(), &answers, 0.5, &[Kind::Forged, Kind::Expired]);
        let mut choice = Choice::InTurn(0);
        for _ in 0..questions.len() {
            let question = questions.choose(&mut choice);
            assert_eq!(
                question.expected,
                if question.kind == Kind::Forged { vec![401, 429] } else { vec![200] }
            );
        }
    }

    #[test]
    fn in_turn_means_each_once() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let questions =
            Questions::new(&protocol, &corpus(), &refusing(), 0.5, &[Kind::Expired, Kind::Missing]);
        let mut choice = Choice::InTurn(0);
        let turn: Vec<_> = (0..6)
            .map(|_| questions.choose(&mut choice))
            .map(|question| (question.kind, question.index))
            .collect();
        let valid = (0..3).map(|index| (Kind::Valid, index));
        assert_eq!(
            turn,
            valid
                .chain([(Kind::Expired, 0), (Kind::Missing, 0), (Kind::Valid, 0)])
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_forgery_is_a_new_one_every_time_and_changes_the_signature_only() {
        let token = &corpus().valid[0];
        let credential = forged(token);
        let at = credential.fresh.unwrap();
        assert!(at > token.rfind('.').unwrap() && at + FRESH < token.len());
        let sent = |serial| {
            let mut bytes = credential.text.clone().into_bytes();
            write_fresh(&mut bytes[at..at + FRESH], serial);
            bytes
        };
        assert_ne!(sent(1), sent(2));
        assert_ne!(sent(1), sent(1 << 30));
        assert_eq!(sent(7), sent(7));
    }

    #[test]
    fn an_unknown_kid_changes_nothing_else() {
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
    fn an_expired_token_is_told_by_its_claims() {
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
