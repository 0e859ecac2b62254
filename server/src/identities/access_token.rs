//! Access tokens: their claims, lifetime and signature.

use countersign_engine::UnixTime;
use memchr::{memchr, memmem};
use serde_json::{Map, Value, json};

use super::{
    roles::IdentityRoles,
    settings::{ACCESS_TOKEN_TYPE, IdentitySettings, LIMIT_HEADER, LIMITED_KID, METHOD_CLAIM},
};
use crate::{accounts::signing, audit::AuditCaller};

/// The claim that names the kind of a token, and its value.
const TYPE_CLAIM: [&str; 2] = ["authTokenType", "identityAccessToken"];

/// What an access token and its renewals have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenFacts {
    /// Id of the token, a UUID, which its renewals share.
    pub id: String,
    /// Id of the identity.
    pub identity: String,
    /// Its name at the login.
    pub identity_name: String,
    /// Id of its organization.
    pub organization: String,
    /// Its roles when the token was issued.
    pub roles: IdentityRoles,
    /// Id of the login method.
    pub method: String,
    /// Name of the kind of the login method.
    pub method_kind: String,
    /// Id of the client secret, if one was used.
    pub client_secret: Option<String>,
    /// Time of the login.
    pub created_at: UnixTime,
    /// Lifetime in seconds; 0 for none of its own.
    pub ttl: u64,
    /// Time from the login after which it cannot be renewed, in seconds; 0 for no limit.
    pub max_ttl: u64,
    /// Lifetime in seconds of a token that can be renewed without end; 0 if it cannot.
    pub period: u64,
    /// Number of uses; 0 for no limit.
    pub uses_limit: u64,
    /// Whether its login method restricted the addresses of its clients.
    pub is_ip_restricted: bool,
    /// SHA-256 thumbprint of the certificate that it is bound to, in base64url (RFC 8705).
    pub certificate_thumbprint: Option<String>,
}

/// A signed access token. Not `Debug`: it is a credential.
pub struct AccessToken {
    /// The token.
    pub token: String,
    /// Its real lifetime in seconds.
    pub expires_in: u64,
    /// Time of its expiry.
    pub expires_at: UnixTime,
}

impl AccessTokenFacts {
    /// Returns the lifetime of a token that is issued now, in seconds; `None` if the time from the
    /// login is up.
    #[must_use]
    pub fn lifetime(&self, now: UnixTime, max_age: u64) -> Option<u64> {
        if self.period > 0 {
            return Some(self.period.min(max_age));
        }
        let own = if self.ttl == 0 { u64::MAX } else { self.ttl };
        let left = match self.max_ttl {
            0 => u64::MAX,
            max => self.created_at.plus(max).0.saturating_sub(now.0),
        };
        Some(own.min(left).min(max_age)).filter(|lifetime| *lifetime > 0)
    }

    /// Returns the time by which every token with this id has expired, however often it is renewed
    /// before `now`.
    #[must_use]
    pub fn last_expiry(&self, now: UnixTime, max_age: u64) -> UnixTime {
        now.plus(self.lifetime(now, max_age).unwrap_or(0))
    }

    /// Signs a token as of `now`. `None` if the time from the login is up.
    #[must_use]
    pub fn sign(&self, settings: &IdentitySettings, now: UnixTime) -> Option<AccessToken> {
        let expires_in = self.lifetime(now, settings.max_token_age)?;
        let expires_at = now.plus(expires_in);
        let mut header = json!({ "alg": "HS256", "typ": ACCESS_TOKEN_TYPE });
        let (limit, limited) = LIMIT_HEADER;
        if self.uses_limit > 0 {
            header[limit] = limited.into();
            header["kid"] = LIMITED_KID.into();
        }
        // A client secret is revoked as the key that signed its tokens.
        if let Some(secret) = &self.client_secret {
            header["kid"] = secret.as_str().into();
        }
        let claims = self.claims(&settings.issuer, now, expires_at).to_string();
        let token = signing::sign_with(settings.secrets.signer().expose(), &header, &claims);
        Some(AccessToken { token, expires_in, expires_at })
    }

    fn claims(&self, issuer: &str, now: UnixTime, expires_at: UnixTime) -> Value {
        let [type_claim, type_name] = TYPE_CLAIM;
        let mut claims = json!({
            "iss": issuer,
            "aud": issuer,
            "sub": self.identity,
            "jti": self.id,
            "iat": now.0,
            "exp": expires_at.0,
            "identityId": self.identity,
            "identityAccessTokenId": self.id,
            type_claim: type_name,
            "identityName": self.identity_name,
            "authMethod": self.method_kind,
            METHOD_CLAIM: self.method,
            "clientSecretId": self.client_secret.as_deref().unwrap_or_default(),
            "identityAuth": {},
            "orgId": self.organization,
            "rootOrgId": self.organization,
            "parentOrgId": self.organization,
            "ipRestrictionEnabled": self.is_ip_restricted,
            "accessTokenTTL": self.ttl,
            "accessTokenMaxTTL": self.max_ttl,
            "accessTokenPeriod": self.period,
            "creationEpoch": self.created_at.0,
        });
        self.roles.add_to(&mut claims);
        if self.uses_limit > 0 {
            claims["numUsesLimit"] = self.uses_limit.into();
        }
        if let Some(thumbprint) = &self.certificate_thumbprint {
            claims["cnf"] = json!({ "x5t#S256": thumbprint });
        }
        claims
    }

    /// Returns the bearer of a token of this issuer for the audit log.
    #[must_use]
    pub fn audited(&self, issuer: &str) -> AuditCaller {
        AuditCaller {
            user: Some(self.identity.clone()),
            issuer: Some(issuer.to_owned()),
            jti: Some(self.id.clone()),
            client_types: None,
        }
    }

    /// Reads the claims of a verified token. `None` if one is missing.
    #[must_use]
    pub fn read(claims: &Map<String, Value>) -> Option<Self> {
        let [type_claim, type_name] = TYPE_CLAIM;
        if claims.get(type_claim)? != type_name {
            return None;
        }
        let text = |name: &str| Some(claims.get(name)?.as_str()?.to_owned());
        let number = |name: &str| claims.get(name)?.as_u64();
        let thumbprint = claims.get("cnf").and_then(|proof| proof.get("x5t#S256"));
        Some(Self {
            id: text("jti")?,
            identity: text("sub")?,
            identity_name: text("identityName")?,
            organization: text("orgId")?,
            roles: IdentityRoles::read(claims)?,
            method: text(METHOD_CLAIM)?,
            method_kind: text("authMethod")?,
            client_secret: text("clientSecretId").filter(|id| !id.is_empty()),
            created_at: UnixTime(number("creationEpoch")?),
            ttl: number("accessTokenTTL")?,
            max_ttl: number("accessTokenMaxTTL")?,
            period: number("accessTokenPeriod")?,
            uses_limit: number("numUsesLimit").unwrap_or(0),
            is_ip_restricted: claims.get("ipRestrictionEnabled")?.as_bool()?,
            certificate_thumbprint: thumbprint.and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// Returns the id of an access token in its payload, as this server wrote it, without parsing the
/// rest. Quotation marks in a string are escaped, so the text that is searched for is a name.
#[must_use]
pub fn id_in(payload: &[u8]) -> Option<&str> {
    const NAME: &[u8] = br#""jti":""#;
    let start = memmem::find(payload, NAME)? + NAME.len();
    let length = memchr(b'"', payload.get(start..)?)?;
    str::from_utf8(payload.get(start..start + length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(ttl: u64, max_ttl: u64) -> AccessTokenFacts {
        AccessTokenFacts {
            id: "t".into(),
            identity: "i".into(),
            identity_name: r#""jti":"other""#.into(),
            organization: "o".into(),
            roles: IdentityRoles {
                organization: "member".into(),
                projects: [("p".to_owned(), vec!["viewer".to_owned()])].into(),
            },
            method: "m".into(),
            method_kind: "tls-cert-auth".into(),
            client_secret: None,
            created_at: UnixTime(1000),
            ttl,
            max_ttl,
            period: 0,
            uses_limit: 5,
            is_ip_restricted: true,
            certificate_thumbprint: Some("x".into()),
        }
    }

    #[test]
    fn lifetime_is_the_shortest_of_its_limits() {
        const MAX_AGE: u64 = 500;
        for (ttl, max_ttl, now, expected) in [
            (100, 200, 1000, Some(100)),
            (100, 200, 1150, Some(50)),
            (100, 200, 1199, Some(1)),
            (100, 200, 1200, None),
            (100, 200, 1201, None),
            (0, 0, 9000, Some(MAX_AGE)),
            (0, 200, 1050, Some(150)),
            (900, 900, 1000, Some(MAX_AGE)),
            (900, 50, 1000, Some(50)),
        ] {
            let lifetime = facts(ttl, max_ttl).lifetime(UnixTime(now), MAX_AGE);
            assert_eq!(lifetime, expected, "{ttl} {max_ttl} {now}");
        }
        let periodic = AccessTokenFacts { period: 70, ..facts(10, 20) };
        assert_eq!(periodic.lifetime(UnixTime(9000), MAX_AGE), Some(70));
    }

    #[test]
    fn claims_are_read_as_they_were_written() {
        for facts in [
            facts(1, 2),
            AccessTokenFacts {
                uses_limit: 0,
                client_secret: Some("s".into()),
                certificate_thumbprint: None,
                ..facts(0, 0)
            },
        ] {
            let claims = facts.claims("iss", UnixTime(5), UnixTime(6));
            let payload = claims.to_string().into_bytes();
            assert_eq!(id_in(&payload), Some(facts.id.as_str()));
            let claims = claims.as_object().unwrap().clone();
            assert_eq!(AccessTokenFacts::read(&claims), Some(facts));
            let mut other = claims.clone();
            other["authTokenType"] = "other".into();
            assert_eq!(AccessTokenFacts::read(&other), None);
            let mut without = claims;
            without.remove("creationEpoch");
            assert_eq!(AccessTokenFacts::read(&without), None);
        }
    }
}
