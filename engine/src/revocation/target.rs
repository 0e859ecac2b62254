//! The target of a revocation, and its encoding as the name of a table entry.

use core::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use crate::{reject::Reject, time::UnixTime, token::with_scratch};

/// The tokens that a revocation applies to.
#[derive(Clone, PartialEq, Eq)]
pub enum RevocationTarget {
    /// The token with this `jti` (RFC 7519 section 4.1.7).
    TokenId {
        /// The issuer.
        issuer: Box<str>,
        /// The `jti`.
        token_id: Box<str>,
    },
    /// Every token of a subject issued before a given time, and every token without `iat`.
    Subject {
        /// The issuer.
        issuer: Box<str>,
        /// The `sub`.
        subject: Box<str>,
        /// The earliest `iat` that is still accepted.
        issued_before: UnixTime,
    },
    /// Every token signed with the key of this `kid`.
    Key {
        /// The issuer.
        issuer: Box<str>,
        /// The `kid`.
        kid: Box<str>,
    },
    /// Every token scoped to an environment, by the claim of
    /// [`Rules::environment_claim`](crate::Rules::environment_claim).
    Environment {
        /// The issuer.
        issuer: Box<str>,
        /// The environment.
        environment: Box<str>,
    },
    /// Every token of one issuer, or of all issuers, issued before a given time, and every token
    /// without `iat`.
    Everything {
        /// The issuer; `None` for all issuers.
        issuer: Option<Box<str>>,
        /// The earliest `iat` that is still accepted.
        issued_before: UnixTime,
    },
    /// The token with this SHA-256 of its signing input (RFC 7515 section 2), for tokens without a
    /// `jti`.
    ///
    /// The digest does not cover the signature, because anyone can derive a second valid ECDSA
    /// signature from a first.
    SigningInput([u8; 32]),
}

impl fmt::Debug for RevocationTarget {
    /// Shows the kind only. Subjects and token ids do not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revoked({})", self.kind_name())
    }
}

impl RevocationTarget {
    /// The one token with this signing input: everything before the last dot.
    #[must_use]
    pub fn signing_input(signing_input: &[u8]) -> Self {
        Self::SigningInput(sha256(signing_input))
    }

    /// The name of the kind, for logs.
    #[must_use]
    pub const fn kind_name(&self) -> &'static str {
        match self {
            Self::TokenId { .. } => "token id",
            Self::Subject { .. } => "subject",
            Self::Key { .. } => "key",
            Self::Environment { .. } => "environment",
            Self::Everything { issuer: Some(_), .. } => "issuer",
            Self::Everything { issuer: None, .. } => "everything",
            Self::SigningInput(_) => "signing input",
        }
    }

    pub(super) fn kind(&self) -> RevocationKind {
        match self {
            Self::TokenId { .. } => RevocationKind::TokenId,
            Self::Subject { .. } => RevocationKind::Subject,
            Self::Key { .. } => RevocationKind::Key,
            Self::Environment { .. } => RevocationKind::Environment,
            Self::Everything { issuer: Some(_), .. } => RevocationKind::Issuer,
            Self::Everything { issuer: None, .. } => RevocationKind::All,
            Self::SigningInput(_) => RevocationKind::SigningInput,
        }
    }

    pub(super) fn issued_before(&self) -> UnixTime {
        match self {
            Self::Subject { issued_before, .. } | Self::Everything { issued_before, .. } => {
                *issued_before
            }
            Self::TokenId { .. }
            | Self::Key { .. }
            | Self::Environment { .. }
            | Self::SigningInput(_) => FOREVER,
        }
    }

    /// Returns the issuer of the tokens; `None` if the target names none.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::TokenId { issuer, .. }
            | Self::Subject { issuer, .. }
            | Self::Key { issuer, .. }
            | Self::Environment { issuer, .. } => Some(issuer),
            Self::Everything { issuer, .. } => issuer.as_deref(),
            Self::SigningInput(_) => None,
        }
    }

    /// Returns this target for the tokens of an issuer with another name.
    #[must_use]
    pub fn with_issuer(&self, name: &str) -> Self {
        let mut target = self.clone();
        match &mut target {
            Self::TokenId { issuer, .. }
            | Self::Subject { issuer, .. }
            | Self::Key { issuer, .. }
            | Self::Environment { issuer, .. }
            | Self::Everything { issuer: Some(issuer), .. } => *issuer = name.into(),
            Self::Everything { issuer: None, .. } | Self::SigningInput(_) => {}
        }
        target
    }

    pub(super) fn issuer_and_value(&self) -> (&str, &[u8]) {
        match self {
            Self::TokenId { issuer, token_id: value }
            | Self::Subject { issuer, subject: value, .. }
            | Self::Key { issuer, kid: value }
            | Self::Environment { issuer, environment: value } => (issuer, value.as_bytes()),
            Self::Everything { issuer, .. } => (issuer.as_deref().unwrap_or_default(), b""),
            Self::SigningInput(digest) => ("", digest),
        }
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let (issuer, value) = self.issuer_and_value();
        let mut name = Vec::new();
        encode_name(&mut name, self.kind(), [issuer, "", ""], value);
        name
    }
}

/// A set of revoked tokens, and how long the revocation must be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The tokens it applies to.
    pub target: RevocationTarget,
    /// The first time at which all of them have expired, so that the revocation can be dropped;
    /// `None` if they may never expire.
    pub until: Option<UnixTime>,
}

impl Revocation {
    /// Returns the revocation of exactly this token, although its key is unknown and its signature
    /// cannot be checked.
    ///
    /// The revocation names the signing input and none of the claims, because claims that are not
    /// verified could name the token of another user. It has no end; the caller sets one.
    ///
    /// # Errors
    /// The [`Reject`] if the bytes are not a token.
    pub fn of_unverified(token: &[u8]) -> Result<Self, Reject> {
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token)?;
            Ok(Self { target: RevocationTarget::signing_input(jws.signing_input), until: None })
        })
    }
}

/// The kinds of revocation. Each is a bit of [`Revocations::present`](super::Revocations).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RevocationKind {
    TokenId = 1,
    Subject = 2,
    Key = 4,
    Issuer = 8,
    All = 16,
    SigningInput = 32,
    Environment = 64,
}

impl RevocationKind {
    pub(super) const fn bit(self) -> u8 {
        #[expect(clippy::as_conversions, reason = "the discriminants are the bits")]
        {
            self as u8
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct RevocationEntry {
    /// Tokens issued at or after this time are not revoked; [`FOREVER`] revokes all.
    pub(super) issued_before: UnixTime,
    pub(super) until: Option<UnixTime>,
}

const FOREVER: UnixTime = UnixTime(u64::MAX);

impl RevocationEntry {
    pub(super) fn or_stricter(self, other: &Self) -> Self {
        Self {
            issued_before: self.issued_before.max(other.issued_before),
            until: self.until.zip(other.until).map(|(one, other)| one.max(other)),
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Encodes an entry's name, of an issuer in three parts. The length of the issuer keeps two splits
/// of the same bytes apart.
pub(super) fn encode_name(
    name: &mut Vec<u8>,
    kind: RevocationKind,
    issuer: [&str; 3],
    value: &[u8],
) {
    let length = issuer.iter().fold(0usize, |length, part| length.saturating_add(part.len()));
    name.clear();
    name.push(kind.bit());
    name.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    issuer.iter().for_each(|part| name.extend_from_slice(part.as_bytes()));
    name.extend_from_slice(value);
}

/// Decodes a name written by [`encode_name`].
pub(super) fn decode_name(name: &[u8], entry: RevocationEntry) -> Option<Revocation> {
    let (kind, rest) = name.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (issuer, value) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let issuer: Box<str> = str::from_utf8(issuer).ok()?.into();
    let text = || str::from_utf8(value).ok().map(Box::from);
    let target = match *kind {
        kind if kind == RevocationKind::TokenId.bit() => {
            RevocationTarget::TokenId { issuer, token_id: text()? }
        }
        kind if kind == RevocationKind::Subject.bit() => RevocationTarget::Subject {
            issuer,
            subject: text()?,
            issued_before: entry.issued_before,
        },
        kind if kind == RevocationKind::Key.bit() => RevocationTarget::Key { issuer, kid: text()? },
        kind if kind == RevocationKind::Environment.bit() => {
            RevocationTarget::Environment { issuer, environment: text()? }
        }
        kind if kind == RevocationKind::Issuer.bit() => RevocationTarget::Everything {
            issuer: Some(issuer),
            issued_before: entry.issued_before,
        },
        kind if kind == RevocationKind::All.bit() => {
            RevocationTarget::Everything { issuer: None, issued_before: entry.issued_before }
        }
        _ => RevocationTarget::SigningInput(value.try_into().ok()?),
    };
    Some(Revocation { target, until: entry.until })
}
