//! Reasons to refuse a token: one-byte `Copy` values, each with a stable code. Creating one never
//! allocates, whatever the token contains.

use core::fmt;

/// The party that must act before a refused token can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The bytes are not a strict compact JWS with JSON claims.
    Malformed,
    /// No configured key authenticates the token: issuer, algorithm, key or signature is wrong.
    Untrusted,
    /// The token is authentic, but its claims do not allow its use here and now.
    Claims,
    /// The verifier cannot decide: keys or revocations are unavailable, or the signature check was
    /// not admitted. This makes no statement about the token.
    Unavailable,
}

macro_rules! rejects {
    ($( $(#[$doc:meta])* $variant:ident, $code:literal, $blame:ident, $text:literal; )*) => {
        /// The reason why a token was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reject {
            $( $(#[$doc])* $variant, )*
        }

        impl Reject {
            /// Every reason, in declaration order. [`index`](Self::index) is the position of a
            /// reason here.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The position in [`ALL`](Self::ALL).
            #[must_use]
            pub const fn index(self) -> usize {
                #[expect(clippy::as_conversions, reason = "the discriminants count from zero in declaration order")]
                { self as usize }
            }

            /// The stable code of the reason, for logs, metrics and clients.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $( Self::$variant => $code, )* }
            }

            /// The party that must act.
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
    /// A segment is not canonical, unpadded base64url (RFC 7515 section 2).
    Base64, "base64", Malformed, "a segment is not canonical base64url without padding";
    /// The header is not a JSON object.
    HeaderJson, "header_json", Malformed, "the header is not a JSON object";
    /// The payload is not a JSON object (RFC 7519 section 7.2).
    ClaimsJson, "claims_json", Malformed, "the payload is not a JSON object";
    /// The same member twice in one object (RFC 7515 section 4, RFC 7519 section 4).
    DuplicateMember, "duplicate_member", Malformed, "a member name appears twice in one object";
    /// Nested deeper than [`limits::MAX_DEPTH`](crate::limits::MAX_DEPTH).
    TooDeep, "too_deep", Malformed, "the JSON is nested more than 16 levels deep";
    /// A `crit` header. No extension is supported (RFC 7515 section 4.1.11).
    Critical, "crit", Malformed, "the header demands an extension that is not supported (crit)";
    /// A `b64` header other than `true` (RFC 7797 section 7 bans it for JWTs).
    Unencoded, "b64", Malformed, "an unencoded payload (b64) is not supported";
    /// The `kid` is not a string.
    KidType, "kid_type", Malformed, "the key id (kid) is not a string";
    /// The `typ` is not a string.
    TypeFormat, "typ_format", Malformed, "the token type (typ) is not a string";
    /// No `iss` claim, so no key can be selected.
    IssuerMissing, "issuer_missing", Untrusted, "the token names no issuer (iss)";
    /// The `iss` is not exactly one of the configured issuers.
    IssuerUnknown, "issuer_unknown", Untrusted, "the issuer (iss) is not configured";
    /// No `alg` header, or one that is not a string.
    AlgorithmMissing, "alg_missing", Untrusted, "the header names no algorithm (alg)";
    /// An unsupported `alg`, including `none`.
    AlgorithmUnsupported, "alg_unsupported", Untrusted, "the algorithm (alg) is not supported";
    /// An `alg` that the key or the issuer is not configured for (RFC 8725 section 3.1).
    AlgorithmNotAllowed, "alg_not_allowed", Untrusted, "the algorithm (alg) is not allowed for this issuer";
    /// No `kid`, although the issuer requires one, or has more keys for this algorithm than
    /// [are tried](crate::limits::MAX_TRIED_KEYS).
    KidMissing, "kid_missing", Untrusted, "the header names no key (kid)";
    /// A `kid` that no key of the issuer has.
    KidUnknown, "kid_unknown", Untrusted, "no key of the issuer has this key id (kid)";
    /// The `kid` is that of a published key that cannot be used
    /// ([`KeySet::skipped`](crate::KeySet::skipped)).
    KeySkipped, "key_skipped", Untrusted, "the key named by the token (kid) is published, but cannot be used";
    /// The signature does not verify.
    Signature, "signature", Untrusted, "the signature does not verify";
    /// A `typ` of another kind of token (RFC 8725 section 3.11).
    Type, "typ", Claims, "the token is of another type (typ)";
    /// `iat` is not a number of seconds in range.
    IssuedAtFormat, "iat_format", Claims, "the issue time (iat) is not a number of seconds";
    /// `iat` lies in the future.
    IssuedInFuture, "iat_future", Claims, "the token was issued in the future (iat)";
    /// `nbf` is not a number of seconds in range.
    NotBeforeFormat, "nbf_format", Claims, "the start time (nbf) is not a number of seconds";
    /// `nbf` lies in the future.
    NotYetValid, "not_yet_valid", Claims, "the token is not valid yet (nbf)";
    /// No `exp`, although the issuer's tokens must have one.
    ExpiryMissing, "exp_missing", Claims, "the token has no expiry time (exp)";
    /// `exp` is not a number of seconds in range, or lies further ahead than
    /// [`limits::MAX_TIME_TO_EXPIRY`](crate::limits::MAX_TIME_TO_EXPIRY).
    ExpiryFormat, "exp_format", Claims, "the expiry time (exp) is not a number of seconds, or looks like milliseconds";
    /// `exp` has come. A token is already expired in the second that `exp` names.
    Expired, "expired", Claims, "the token has expired (exp)";
    /// `iat` or `exp` is missing, or the lifetime is longer than the issuer allows.
    Lifetime, "lifetime", Claims, "the token does not expire within the lifetime allowed (iat, exp)";
    /// `tid` is not the tenant in `iss`.
    Tenant, "tenant", Claims, "the tenant (tid) is not that of the issuer (iss)";
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
    /// A top-level list contains something other than strings. Set by callers that forbid that
    /// ([`Claims::has_mixed_list`](crate::Claims::has_mixed_list)).
    ListFormat, "list_format", Claims, "a claim is a list with something other than strings in it";
    /// The client types are neither a non-empty comma string nor a list of strings.
    ClientTypesFormat, "client_types_format", Claims, "the client types are neither a comma string nor a list of strings";
    /// No client types, although the issuer requires them.
    ClientTypesMissing, "client_types_missing", Claims, "the token states no client type";
    /// A client type outside those configured for the issuer.
    ClientTypes, "client_types", Claims, "a client type of the token is not allowed for its issuer";
    /// The environment is not a string. An unreadable scope is refused, never ignored.
    EnvironmentFormat, "environment_format", Claims, "the environment is not a string, or empty";
    /// A scope configured for the issuer is neither in `scope` nor in `scp` (RFC 6750 section 3.1).
    Scope, "insufficient_scope", Claims, "the token does not grant a scope that is required";
    /// A constraint configured for the issuer does not hold.
    Constraints, "constraints", Claims, "the claims do not meet the constraints configured for the issuer";
    /// No username in the claim that the issuer's tokens must have it in.
    Username, "username_claim", Claims, "the claim configured for the username is absent, empty or of another type";
    /// The claims that applications receive are longer than
    /// [`limits::MAX_EXPORTED_BYTES`](crate::limits::MAX_EXPORTED_BYTES) in all.
    ClaimsTooLarge, "claims_too_large", Claims, "the claims for applications are longer than 8 KiB";
    /// The confirmation (`cnf`, RFC 7800) is not proven by the request, or of a kind that is not
    /// supported.
    Bound, "bound", Claims, "the token is bound to a key (cnf) whose possession the request does not prove";
    /// The token was revoked.
    Revoked, "revoked", Claims, "the token was revoked";
    /// The issuer is configured, but its keys are not available.
    KeysUnavailable, "keys_unavailable", Unavailable, "the keys of the issuer are unavailable";
    /// A `kid` that no known key of the issuer has, while its keys cannot be fetched. Set by
    /// callers of [`Verifier::verify_with`](crate::Verifier::verify_with), which know about
    /// fetches.
    KidUndecided, "kid_undecided", Unavailable, "the key id (kid) is unknown, and the keys of the issuer cannot be fetched";
    /// The revocations are not available.
    RevocationsUnavailable, "revocations_unavailable", Unavailable, "the revocations are unavailable";
    /// The signature was not checked, because the `admit` callback of
    /// [`Verifier::verify_if`](crate::Verifier::verify_if) returned `false`.
    NotAdmitted, "not_admitted", Unavailable, "the signature check was not admitted: try again later";
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
    fn reject_codes_are_distinct_and_well_formed() {
        let mut codes: Vec<_> = Reject::ALL.iter().map(|reject| reject.code()).collect();
        assert!(codes.iter().all(|code| {
            code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        }));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reject::ALL.len());
    }

    #[test]
    fn reject_index_matches_its_position() {
        for (place, reject) in Reject::ALL.iter().enumerate() {
            assert_eq!(reject.index(), place);
        }
    }

    #[test]
    fn reject_is_one_byte() {
        assert_eq!(size_of::<Reject>(), 1);
    }
}
