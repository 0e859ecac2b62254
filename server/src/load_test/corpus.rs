//! [`Corpus`]: deterministic tokens with the answers that they must get.

use std::fmt::Write as _;

use countersign_engine::Algorithm;

use super::{
    keys::{TestKey, TokenSigner as _},
    tokens::{make_tokens, plan},
};
use crate::{base::outcome::Outcome, observe::answer_judge::TokenKind};

/// The tokens of a load test.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Algorithm of their signatures.
    pub algorithm: Algorithm,
    /// The tokens, in the order of their numbers.
    pub tokens: Vec<CorpusToken>,
}

/// A token with its kind, which determines the answer.
#[derive(Clone, Debug)]
pub struct CorpusToken {
    /// Its kind.
    pub kind: TokenKind,
    /// The token as it is sent.
    pub text: String,
}

impl Corpus {
    /// Makes `count` tokens, of which a `share` is valid.
    ///
    /// # Errors
    /// A signature cannot be made.
    pub fn new(key: &TestKey, count: usize, share: f64) -> Result<Self, String> {
        let kinds = plan(count, share);
        let texts = make_tokens(key, &kinds)?;
        let tokens = kinds.into_iter().zip(texts).map(|(kind, text)| CorpusToken { kind, text });
        Ok(Self { algorithm: key.algorithm(), tokens: tokens.collect() })
    }

    /// Returns one line for each token, with tabs between its fields: kind, status and code of the
    /// answer, the token, and the reason in the challenge of a refusal.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        for CorpusToken { kind, text } in &self.tokens {
            // Every kind of a corpus has an expected answer.
            let Some((status, outcome)) = kind.expected() else { continue };
            let reason = match outcome {
                Outcome::Rejected(reject) => reject.to_string(),
                _ => String::new(),
            };
            let (kind, status, code) = (kind.name(), status.as_u16(), outcome.name());
            // Writing to a String does not fail.
            let _ignored = writeln!(lines, "{kind}\t{status}\t{code}\t{text}\t{reason}");
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_lines_have_the_expected_answers() {
        let key = TestKey::new(Algorithm::EdDsa).unwrap();
        let corpus = Corpus::new(&key, 10, 0.5).unwrap();
        let lines = corpus.lines();
        assert_eq!(lines.lines().count(), 10);
        let valid = lines.lines().filter(|line| line.starts_with("valid\t200\tverified\tey"));
        assert_eq!(valid.count(), 5);
        assert!(lines.contains("expired\t401\texpired\tey"), "{lines}");
        assert!(lines.contains("garbage\t401\tsegments\tgarbage-"), "{lines}");
        assert_eq!(Corpus::new(&key, 10, 0.5).unwrap().lines(), lines);
    }
}
