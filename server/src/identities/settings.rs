//! `[identities]`.

use std::collections::BTreeMap;

use countersign_engine::{Algorithm, IssuerConfig, Verified};
use http::StatusCode;
use memchr::memmem;

use crate::{
    config::{
        options::IDENTITIES_SECTION, problem::Problems, reader::SectionReader, setting::Section,
    },
    keys::{IssuerSection, secret_keys::SecretKeys},
};

/// `typ` header of access tokens. No other kind of token has it, and no other issuer accepts it.
pub const ACCESS_TOKEN_TYPE: &str = "identity+jwt";
/// The claim with the id of the login method, by which its tokens are revoked.
pub const METHOD_CLAIM: &str = "authMethodId";
/// Another name of the issuer of access tokens, which it has on every server. Revocations by this
/// name concern the tokens of all servers of a database, whatever their issuers are. Tokens have
/// the other name in `iss`.
pub const SHARED_ISSUER: &str = "urn:countersign:identities";
/// `kid` header of access tokens that have a limit of uses and were not obtained with a client
/// secret: most tokens have no `kid`, and are known not to be [limited](is_limited) by that.
pub const LIMITED_KID: &str = "limited";
/// Header parameter of access tokens that have a limit of uses, with its value.
pub const LIMIT_HEADER: (&str, &str) = ("uses", "limited");

/// Settings of machine identities.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Issuer and audience of the access tokens.
    pub issuer: Box<str>,
    /// Longest lifetime of an access token in seconds.
    pub max_token_age: u64,
    /// Status for an expired access token.
    pub expired_status: StatusCode,
    /// Whether tokens of a login with a certificate are bound to it.
    pub binds_certificates: bool,
    /// The keys of the access tokens.
    pub(super) secrets: SecretKeys,
}

impl IdentitySettings {
    /// Reads the options. `None` if machine identities are not enabled.
    pub(crate) fn read(
        sections: &BTreeMap<String, Section>,
        issuers: &[IssuerSection],
        requires_token: bool,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut reader = SectionReader::new(sections, IDENTITIES_SECTION, problems);
        const STATUSES: [(&str, StatusCode); 2] =
            [("403", StatusCode::FORBIDDEN), ("401", StatusCode::UNAUTHORIZED)];
        let (_, expired_status) = reader.choice("expired_status", &STATUSES, |(name, _)| name);
        let (max_token_age, binds_certificates) =
            (reader.number("max_token_age"), reader.flag("bind_certificates"));
        if !reader.flag("enabled") {
            return None;
        }
        if !requires_token {
            let text = "[identities] needs auth = true: otherwise anybody could make identities";
            reader.error("enabled", text, "remove auth = false from [server]");
            return None;
        }
        let signing = issuers.iter().find(|section| section.sign);
        let Some((signing, secrets)) =
            signing.and_then(|signing| Some((signing, signing.secrets_for(PURPOSE)?)))
        else {
            let text = "[identities] needs a section that signs: its key signs access tokens";
            let help = "set sign = true in a section whose algorithm is HS256";
            reader.error("enabled", text, help);
            return None;
        };
        let issuer: Box<str> = match reader.given("issuer") {
            Some(issuer) => issuer.into(),
            None => format!("{}/identities", signing.issuer.name.trim_end_matches('/')).into(),
        };
        if issuers.iter().any(|section| section.issuer.is_named(&issuer)) {
            let text = "issuer in [identities] is that of another section";
            reader.error("issuer", text, "write another one, which no section has");
            return None;
        }
        if issuers.iter().any(|section| section.issuer.is_named(SHARED_ISSUER)) {
            let text = format!("a section has the issuer {SHARED_ISSUER}, a name of [identities]");
            reader.error("enabled", text, "write another issuer in that section");
            return None;
        }
        Some(Self { issuer, max_token_age, expired_status, binds_certificates, secrets })
    }

    /// Returns the section by which access tokens are verified.
    pub(crate) fn section(&self) -> IssuerSection {
        let mut issuer = IssuerConfig::new(&self.issuer, &self.issuer, [Algorithm::Hs256]);
        issuer.section = IDENTITIES_SECTION.into();
        if *self.issuer != *SHARED_ISSUER {
            issuer.aliases = [SHARED_ISSUER.into()].into();
        }
        let rules = &mut issuer.rules;
        rules.token_types = Some([ACCESS_TOKEN_TYPE.into()].into());
        rules.require_expiry = true;
        // A lower limit than before applies to the tokens that exist, too.
        rules.max_lifetime = u32::try_from(self.max_token_age).ok();
        // An identity is not a user.
        rules.username.claims = Box::default();
        rules.environment_claim = METHOD_CLAIM.into();
        IssuerSection::internal(issuer, self.secrets.clone())
    }
}

/// Purpose of the derived key.
const PURPOSE: &str = "access tokens of machine identities";

/// Whether a token is an access token with a limit of uses.
#[must_use]
pub fn is_limited(verified: &Verified<'_>) -> bool {
    // Other values of `kid` are ids of client secrets, which do not contain the word.
    is_access_token(verified)
        && verified.names_key()
        && memmem::find(&verified.header_json(), LIMITED_KID.as_bytes()).is_some()
}

/// Whether a token is an access token of a machine identity.
#[inline]
#[must_use]
pub fn is_access_token(verified: &Verified<'_>) -> bool {
    // The names of other sections begin with `auth_jwt_`.
    *verified.issuer().section == *IDENTITIES_SECTION
}
