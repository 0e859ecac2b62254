//! JSON form of a revocation, for the store, requests and the command line.

use std::fmt;

use countersign_engine::{Revocation, RevocationTarget, UnixTime, limits};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::hex::{from_hex, to_hex};

/// The members of a revocation in JSON. Their combination selects the
/// [`RevocationTarget`]. Unknown members are rejected, because a misspelled one would widen
/// the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationRecord {
    /// The issuer of the tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `jti` of one token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// `sub` of the tokens, which are revoked if they were issued before `issued_before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `kid` of the tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Environment that the tokens are scoped to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Seconds since 1970. Tokens issued from then on are not revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_before: Option<u64>,
    /// SHA-256 of one token's signing input, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_input_sha256: Option<String>,
    /// Seconds since 1970. All the tokens have expired by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// A mistake in a [`RevocationRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMistake {
    /// The member that is wrong; `None` if no member selects tokens.
    pub member: Option<&'static str>,
    /// The mistake, and the remedy.
    pub text: String,
}

impl RecordMistake {
    /// Creates a mistake of a member.
    #[must_use]
    pub fn new(member: &'static str, text: impl Into<String>) -> Self {
        Self { member: Some(member), text: text.into() }
    }
}

impl fmt::Display for RecordMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl RevocationRecord {
    /// Converts a new request to a [`Revocation`], with stricter checks than
    /// [`into_revocation`](Self::into_revocation): a revocation cannot be undone, so obvious
    /// mistakes are rejected.
    ///
    /// A missing `issued_before` of a subject defaults to the end of the current second: `iat` has
    /// whole seconds. `leeway` is the difference by which the issuer's clock may be ahead. A later
    /// `issued_before` is a mistake.
    ///
    /// # Errors
    /// A member is missing, superfluous or implausible.
    pub fn into_validated(self, now: UnixTime, leeway: u64) -> Result<Revocation, RecordMistake> {
        self.check_texts()?;
        self.check_times(now, leeway)?;
        let id = self.environment.as_ref().map(|id| Uuid::parse_str(id.trim())).transpose();
        let environment = id.map_err(|_| {
            let text = "environment is the id of an environment, a UUID, and not its name";
            RecordMistake::new("environment", text)
        })?;
        let environment = environment.map(|id| id.to_string());
        let issued_before =
            self.issued_before.or_else(|| self.subject.is_some().then_some(now.plus(1).0));
        Self { issued_before, environment, ..self }.convert()
    }

    /// Returns the members that select tokens of an issuer, and the digest of one token.
    fn names(&self) -> [(&'static str, &Option<String>); 5] {
        [
            ("jti", &self.jti),
            ("subject", &self.subject),
            ("kid", &self.kid),
            ("environment", &self.environment),
            ("signing_input_sha256", &self.signing_input_sha256),
        ]
    }

    fn check_texts(&self) -> Result<(), RecordMistake> {
        let is_implausible =
            |text: &String| text.is_empty() || text.len() > limits::MAX_TOKEN_BYTES;
        let of_issuer = self.names().into_iter().take(4);
        let mut texts = of_issuer.chain([("issuer", &self.issuer)]);
        match texts.find(|(_, text)| text.as_ref().is_some_and(is_implausible)) {
            None => Ok(()),
            Some((member, _)) => {
                let text = "a value is empty, or longer than any token";
                Err(RecordMistake::new(member, text))
            }
        }
    }

    fn check_times(&self, now: UnixTime, leeway: u64) -> Result<(), RecordMistake> {
        let end_of_second = now.plus(1);
        // Tolerated difference between the client's clock and this one.
        const MAX_CLOCK_SKEW: u64 = 60;
        let latest = end_of_second.plus(leeway).plus(MAX_CLOCK_SKEW);
        if self.issued_before.is_some_and(|at| UnixTime(at) > latest) {
            let text = "issued_before is more than a minute in the future: it is in seconds since \
                        1970, not milliseconds";
            return Err(RecordMistake::new("issued_before", text));
        }
        if self.until.is_some_and(|until| UnixTime(until) <= now) {
            let text = "until has passed: the revocation would expire at once";
            return Err(RecordMistake::new("until", text));
        }
        Ok(())
    }

    /// Returns the first second whose tokens are not revoked, for a revocation by time.
    #[must_use]
    pub fn tokens_valid_from(revocation: &Revocation) -> Option<UnixTime> {
        match &revocation.target {
            RevocationTarget::Subject { issued_before, .. }
            | RevocationTarget::Everything { issued_before, .. } => Some(*issued_before),
            _ => None,
        }
    }

    /// Converts a stored record to a [`Revocation`].
    ///
    /// # Errors
    /// A member is missing or superfluous.
    pub fn into_revocation(self) -> Result<Revocation, String> {
        self.convert().map_err(|mistake| mistake.text)
    }

    fn convert(self) -> Result<Revocation, RecordMistake> {
        self.check_combination()?;
        let Self {
            issuer,
            jti,
            subject,
            kid,
            environment,
            issued_before,
            signing_input_sha256,
            until,
        } = self;
        let moment = issued_before
            .map(UnixTime)
            .ok_or_else(|| RecordMistake::new("issued_before", "issued_before is missing"));
        let one_issuer = || {
            issuer.clone().map(String::into_boxed_str).ok_or_else(|| {
                let text =
                    "issuer is missing: jti, subject, kid and environment belong to one issuer";
                RecordMistake::new("issuer", text)
            })
        };
        let target = if let Some(jti) = jti {
            RevocationTarget::TokenId { issuer: one_issuer()?, token_id: jti.into() }
        } else if let Some(subject) = subject {
            let (issuer, subject) = (one_issuer()?, subject.into());
            RevocationTarget::Subject { issuer, subject, issued_before: moment? }
        } else if let Some(kid) = kid {
            RevocationTarget::Key { issuer: one_issuer()?, kid: kid.into() }
        } else if let Some(environment) = environment {
            let environment = environment.into();
            RevocationTarget::Environment { issuer: one_issuer()?, environment }
        } else if let Some(digest) = signing_input_sha256 {
            let digest = from_hex(&digest);
            let digest = digest.map_err(|text| RecordMistake::new("signing_input_sha256", text))?;
            RevocationTarget::SigningInput(digest)
        } else if let Ok(issued_before) = moment {
            let issuer = issuer.map(String::into_boxed_str);
            RevocationTarget::Everything { issuer, issued_before }
        } else {
            let text = "say what to revoke: a jti, subject, kid or environment with its issuer, a \
                        signing_input_sha256, or everything issued_before a moment";
            return Err(RecordMistake { member: None, text: text.into() });
        };
        Ok(Revocation { target, until: until.map(UnixTime) })
    }

    /// Checks that the members do not exclude each other.
    fn check_combination(&self) -> Result<(), RecordMistake> {
        let mut given = self.names().into_iter().filter(|(_, text)| text.is_some());
        if let (Some(_), Some((second, _))) = (given.next(), given.next()) {
            let text = "jti, subject, kid, environment and signing_input_sha256 exclude each other";
            return Err(RecordMistake::new(second, text));
        }
        let is_timeless = [&self.jti, &self.kid, &self.environment, &self.signing_input_sha256];
        if self.issued_before.is_some() && is_timeless.into_iter().any(Option::is_some) {
            let text = "issued_before goes with a subject, an issuer, or alone";
            return Err(RecordMistake::new("issued_before", text));
        }
        if self.issuer.is_some() && self.signing_input_sha256.is_some() {
            let text = "signing_input_sha256 goes without an issuer";
            return Err(RecordMistake::new("issuer", text));
        }
        Ok(())
    }
}

impl fmt::Display for RevocationRecord {
    /// Writes the members in JSON. None of them is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl From<&Revocation> for RevocationRecord {
    fn from(revocation: &Revocation) -> Self {
        let text = |text: &str| Some(text.to_owned());
        let record = Self { until: revocation.until.map(|until| until.0), ..Self::default() };
        match &revocation.target {
            RevocationTarget::TokenId { issuer, token_id } => {
                Self { issuer: text(issuer), jti: text(token_id), ..record }
            }
            RevocationTarget::Subject { issuer, subject, issued_before } => Self {
                issuer: text(issuer),
                subject: text(subject),
                issued_before: Some(issued_before.0),
                ..record
            },
            RevocationTarget::Key { issuer, kid } => {
                Self { issuer: text(issuer), kid: text(kid), ..record }
            }
            RevocationTarget::Environment { issuer, environment } => {
                Self { issuer: text(issuer), environment: text(environment), ..record }
            }
            RevocationTarget::Everything { issuer, issued_before } => Self {
                issuer: issuer.as_deref().and_then(text),
                issued_before: Some(issued_before.0),
                ..record
            },
            RevocationTarget::SigningInput(digest) => {
                Self { signing_input_sha256: Some(to_hex(digest)), ..record }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1000);

    fn parse(json: &str) -> Result<Revocation, String> {
        serde_json::from_str::<RevocationRecord>(json)
            .map_err(|error| error.to_string())?
            .into_validated(NOW, 0)
            .map_err(|mistake| mistake.text)
    }

    #[test]
    fn record_of_every_target_round_trips() {
        let digest = "ab".repeat(32);
        for json in [
            r#"{"issuer":"i","jti":"1","until":5000}"#,
            r#"{"issuer":"i","subject":"s","issued_before":7}"#,
            r#"{"issuer":"i","kid":"k"}"#,
            r#"{"issuer":"i","environment":"11111111-1111-1111-1111-111111111111"}"#,
            r#"{"issuer":"i","issued_before":7}"#,
            r#"{"issued_before":7,"until":9000}"#,
            &format!(r#"{{"signing_input_sha256":"{digest}"}}"#),
        ] {
            let revocation = parse(json).unwrap();
            assert_eq!(
                serde_json::from_str::<RevocationRecord>(json).unwrap().into_revocation().as_ref(),
                Ok(&revocation),
                "read back"
            );
            assert_eq!(serde_json::to_string(&RevocationRecord::from(&revocation)).unwrap(), json);
        }
    }

    /// Checks of requests may become stricter, but every stored record must stay readable.
    #[test]
    fn stored_record_is_not_validated_as_a_request() {
        let long = "x".repeat(100_000);
        for json in [
            r#"{"issuer":"","jti":""}"#,
            r#"{"issuer":"i","subject":"","issued_before":18446744073709551615,"until":0}"#,
            &format!(r#"{{"issuer":"i","kid":"{long}"}}"#),
        ] {
            let record: RevocationRecord = serde_json::from_str(json).unwrap();
            assert!(record.clone().into_validated(NOW, 0).is_err());
            let revocation = record.clone().into_revocation().unwrap();
            assert_eq!(RevocationRecord::from(&revocation), record);
        }
    }

    #[test]
    fn implied_moment_is_the_end_of_the_current_second() {
        let RevocationTarget::Subject { issued_before, .. } =
            parse(r#"{"issuer":"i","subject":"s"}"#).unwrap().target
        else {
            panic!()
        };
        assert_eq!(issued_before, UnixTime(1001));
        let explicit = parse(r#"{"issuer":"i","subject":"s","issued_before":990}"#).unwrap();
        assert_eq!(RevocationRecord::tokens_valid_from(&explicit), Some(UnixTime(990)));
        let record = RevocationRecord {
            issuer: Some("i".into()),
            subject: Some("s".into()),
            ..RevocationRecord::default()
        };
        let RevocationTarget::Subject { issued_before, .. } =
            record.into_validated(NOW, 30).unwrap().target
        else {
            panic!()
        };
        assert_eq!(issued_before, UnixTime(1001), "whatever the leeway");
    }

    #[test]
    fn implausible_times_are_rejected() {
        let request = |json: &str| {
            let record: RevocationRecord = serde_json::from_str(json).unwrap();
            record.into_validated(NOW, 0).map(drop).map_err(|mistake| mistake.text)
        };
        assert!(request(r#"{"issued_before":1061,"until":1001}"#).is_ok());
        assert!(
            request(r#"{"issued_before":1700000000000}"#).unwrap_err().contains("not milliseconds")
        );
        assert!(request(r#"{"issued_before":1062}"#).unwrap_err().contains("future"));
        assert!(
            request(r#"{"issuer":"i","jti":"1","until":1000}"#)
                .unwrap_err()
                .contains("until has passed")
        );
    }

    #[test]
    fn ambiguous_record_is_rejected() {
        for (json, expected) in [
            ("{}", "say what to revoke"),
            (r#"{"issuer":"i"}"#, "say what to revoke"),
            (r#"{"until":5000}"#, "say what to revoke"),
            (r#"{"jti":"1"}"#, "issuer is missing"),
            (r#"{"kid":"1"}"#, "issuer is missing"),
            (r#"{"issuer":"i","environment":"prod"}"#, "a UUID, and not its name"),
            (r#"{"subject":"1","issued_before":1}"#, "issuer is missing"),
            (r#"{"issuer":"i","jti":"1","kid":"k"}"#, "exclude each other"),
            (r#"{"issuer":"i","jti":"1","issued_before":1}"#, "issued_before goes with"),
            (r#"{"issuer":"i","jti":""}"#, "empty"),
            (r#"{"issuer":"i","subjct":"s","issued_before":1}"#, "unknown field"),
            (r#"{"signing_input_sha256":"abc"}"#, "64 hexadecimal digits"),
            (r#"{"signing_input_sha256":"ab","issuer":"i"}"#, "without an issuer"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
