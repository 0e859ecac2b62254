//! Why a token was refused: small `Copy` values, one per reason, each with a
//! stable code. Making one never allocates, whatever the token looked like.

use core::fmt;

/// Who has to act for a refused token to become acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The bytes are no strict compact JWS with JSON claims.
    Malformed,
    /// No key of ours vouches for it: issuer, algorithm, key or signature.
    Untrusted,
    /// It is genuine, but its claims do not allow it here and now.
    Claims,
    /// We cannot tell: keys or revocations could not be had, or there was no time to
    /// look. Nothing is said about the token.
    Unavailable,
}

macro_rules! rejects {
    ($( $(#[$doc:meta])* $variant:ident, $code:literal, $blame:ident, $text:literal; )*) => {
        /// Why a token was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reject {
            $( $(#[$doc])* $variant, )*
        }

        impl Reject {
            /// Every reason, in declaration order; a reason's place is its index.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// Its place in [`ALL`](Self::ALL).
            #[must_use]
            pub const fn index(self) -> usize {
                #[expect(clippy::as_conversions, reason = "the discriminants count from zero in declaration order")]
                { self as usize }
            }

            /// The stable name of the reason, for logs, metrics and machines.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $( Self::$variant => $code, )* }
            }

            /// Who has to act.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $( Self::$variant => Blame::$blame, )* }
            }

            const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }
    };
}

rejects! {
    /// Longer than [`limits::MAX_TOKEN_BYTES`](crate::limits::MAX_TOKEN_BYTES).
    TooLong, "too_long", Malformed, "the token is longer than 16 KiB";
    /// Not exactly three segments (RFC 7515 section 7.1).
    Segments, "segments", Malformed, "a token has three segments separated by dots";
    /// A segment that is no canonical, unpadded base64url (RFC 7515 section 2).
    Base64, "base64", Malformed, "a segment is not canonical base64url without padding";
    /// A header that is no JSON object.
    HeaderJson, "header_json", Malformed, "the header is not a JSON object";
    /// A payload that is no JSON object (RFC 7519 section 7.2).
    ClaimsJson, "claims_json", Malformed, "the payload is not a JSON object";
    /// The same member twice in one object (RFC 7515 section 4, RFC 7519 section 4).
    DuplicateMember, "duplicate_member", Malformed, "a member name appears twice in one object";
    /// More than [`limits::MAX_MEMBERS`](crate::limits::MAX_MEMBERS) members in one object.
    TooManyMembers, "too_many_members", Malformed, "an object has more than 256 members";
    /// Nested deeper than [`limits::MAX_DEPTH`](crate::limits::MAX_DEPTH).
    TooDeep, "too_deep", Malformed, "the JSON is nested more than 16 levels deep";
    /// A `crit` header: we understand no extension (RFC 7515 section 4.1.11).
    Critical, "crit", Malformed, "the header demands an extension that is not supported (crit)";
    /// A `b64` header other than `true` (RFC 7797 section 7 bans it for JWTs).
    Unencoded, "b64", Malformed, "an unencoded payload (b64) is not supported";
    /// A `kid` that is no string.
    KidType, "kid_type", Malformed, "the key id (kid) is not a string";
    /// A `typ` that is no string.
    TypeFormat, "typ_format", Malformed, "the token type (typ) is not a string";
    /// No `iss` claim, and so no way to choose a key.
    IssuerMissing, "issuer_missing", Untrusted, "the token names no issuer (iss)";
    /// An `iss` that is not exactly one of the configured issuers.
    IssuerUnknown, "issuer_unknown", Untrusted, "the issuer (iss) is not configured";
    /// No `alg` header, or one that is no string.
    AlgorithmMissing, "alg_missing", Untrusted, "the header names no algorithm (alg)";
    /// An `alg` that we do not implement, `none` included.
    AlgorithmUnsupported, "alg_unsupported", Untrusted, "the algorithm (alg) is not supported";
    /// An `alg` that the key or the issuer is not configured for (RFC 8725 section 3.1).
    AlgorithmNotAllowed, "alg_not_allowed", Untrusted, "the algorithm (alg) is not allowed for this issuer";
    /// No `kid` where the issuer's keys can only be told apart by it.
    KidMissing, "kid_missing", Untrusted, "the header names no key (kid)";
    /// A `kid` that no key of the issuer has.
    KidUnknown, "kid_unknown", Untrusted, "no key of the issuer has this key id (kid)";
    /// The signature does not verify.
    Signature, "signature", Untrusted, "the signature does not verify";
    /// A `typ` that says the token is meant for something else (RFC 8725 section 3.11).
    Type, "typ", Claims, "the token is of another type (typ)";
    /// `iat` is not a number of seconds in range.
    IssuedAtFormat, "iat_format", Claims, "the issue time (iat) is not a number of seconds";
    /// `iat` lies in the future.
    IssuedInFuture, "iat_future", Claims, "the token was issued in the future (iat)";
    /// `nbf` is not a number of seconds in range.
    NotBeforeFormat, "nbf_format", Claims, "the start time (nbf) is not a number of seconds";
    /// `nbf` lies in the future.
    NotYetValid, "not_yet_valid", Claims, "the token is not valid yet (nbf)";
    /// `exp` is not a number of seconds in range.
    ExpiryFormat, "exp_format", Claims, "the expiry time (exp) is not a number of seconds";
    /// `exp` has come: a token is dead in the very second it names.
    Expired, "expired", Claims, "the token has expired (exp)";
    /// It does not say when it was issued and when it expires, or lives longer than
    /// the issuer's tokens may.
    Lifetime, "lifetime", Claims, "the token does not expire within the lifetime allowed (iat, exp)";
    /// No `aud`, or an empty one.
    AudienceMissing, "aud_missing", Claims, "the token names no audience (aud)";
    /// `aud` is neither a string nor a list of strings.
    AudienceFormat, "aud_format", Claims, "the audience (aud) is neither a string nor a list of strings";
    /// `aud` does not contain the audience configured.
    Audience, "aud", Claims, "the token is meant for another audience (aud)";
    /// `sub` is not a string.
    SubjectFormat, "sub_format", Claims, "the subject (sub) is not a string";
    /// `jti` is not a string.
    TokenIdFormat, "jti_format", Claims, "the token id (jti) is not a string";
    /// A top-level list holds something other than strings, where that is refused.
    ListFormat, "list_format", Claims, "a claim is a list with something other than strings in it";
    /// The client types are neither a non-empty comma string nor a list of strings.
    ClientTypesFormat, "client_types_format", Claims, "the client types are neither a comma string nor a list of strings";
    /// No client types, where the issuer must state them.
    ClientTypesMissing, "client_types_missing", Claims, "the token states no client type";
    /// A client type outside those configured for the issuer.
    ClientTypes, "client_types", Claims, "a client type of the token is not allowed for its issuer";
    /// The environment is not a string: a scope that cannot be read is never dropped.
    EnvironmentFormat, "environment_format", Claims, "the environment is not a string";
    /// A constraint configured for the issuer does not hold.
    Constraints, "constraints", Claims, "the claims do not meet the constraints configured for the issuer";
    /// It was revoked.
    Revoked, "revoked", Claims, "the token was revoked";
    /// The issuer is configured, but its keys could not be had yet.
    KeysUnavailable, "keys_unavailable", Unavailable, "the keys of the issuer are unavailable";
    /// What was revoked in the past could not be read back yet.
    RevocationsUnavailable, "revocations_unavailable", Unavailable, "the revocations are unavailable";
    /// Its signature was not looked at: whoever embeds the engine said no to the
    /// work, see [`Verifier::verify_if`](crate::Verifier::verify_if).
    NotAdmitted, "not_admitted", Unavailable, "there was no time to check the signature";
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_stable_in_form() {
        let mut codes: Vec<_> = Reject::ALL.iter().map(|reject| reject.code()).collect();
        assert!(codes.iter().all(|code| {
            code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        }));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reject::ALL.len());
    }

    #[test]
    fn every_reason_stands_at_its_index() {
        for (place, reject) in Reject::ALL.iter().enumerate() {
            assert_eq!(reject.index(), place);
        }
    }

    #[test]
    fn a_reject_is_one_byte() {
        assert_eq!(size_of::<Reject>(), 1);
    }
}
