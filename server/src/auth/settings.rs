//! `[identity_headers]`, `[ext_authz]`, and the options of `[server]` about credentials.

use std::{collections::BTreeMap, sync::Arc};

use countersign_engine::ExportedClaim;
use http::{HeaderName, StatusCode, header};

use super::{
    ProtectedResource, api_clients::ApiClients, challenge::Challenges, claim_headers::ClaimHeaders,
    credential::CredentialPlaces, header_changes::changed_names, profile::generic,
};
use crate::{
    authorization::Authorization,
    base::{header_names::NameLengths, redacted::quoted},
    config::{
        options::IDENTITY_HEADERS_SECTION, problem::Problems, reader::SectionReader,
        setting::Section,
    },
    tenancy::settings::TenancySettings,
};

/// Settings for finding credentials, and for the responses about them.
#[derive(Debug)]
pub struct AuthSettings {
    /// The places where tokens are looked for.
    pub credentials: CredentialPlaces,
    /// The challenges of refusals.
    pub challenges: Challenges,
    /// The resource whose metadata is published.
    pub resource: Option<ProtectedResource>,
    /// Status for refused tokens under [`Profile::Inmanta`](super::profile::Profile::Inmanta), and
    /// under every profile for valid tokens with insufficient claims: 403, or 401.
    pub rejected_token_status: StatusCode,
    /// Headers with the caller's identity in responses of `/auth`.
    pub identity_headers: IdentityHeaders,
    /// Names that [changes of a request](super::header_changes) may concern.
    pub(super) changed_names: NameLengths,
    /// Contents of gRPC responses to Envoy.
    pub ext_authz: ExtAuthz,
    /// Clients that may revoke tokens and have keys fetched.
    pub api_clients: ApiClients,
    /// Decides what verified tokens allow. The assembly sets it.
    pub authorization: Authorization,
    /// Multi-tenancy, if a listener has the `orchestrate` surface.
    pub tenancy: Option<TenancySettings>,
}

impl AuthSettings {
    /// Reads the options from their sections.
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let api_clients = ApiClients::read(sections, problems);
        let ext_authz = ExtAuthz::read(&mut SectionReader::new(sections, "ext_authz", problems));
        let mut server = SectionReader::new(sections, "server", problems);
        let (resource, metadata) = ProtectedResource::read(&mut server);
        let realm = read_realm(&mut server);
        let credentials = read_credentials(&mut server);
        let rejected_token_status = read_rejected_status(&mut server);
        let challenges = Challenges::new(realm, metadata.as_deref());
        let mut names = SectionReader::new(sections, IDENTITY_HEADERS_SECTION, problems);
        let mut identity_headers = IdentityHeaders::read(&mut names, credentials.headers());
        let tenancy = TenancySettings::read(sections, identity_headers.exported_claims(), problems);
        if let Some(tenancy) = &tenancy {
            identity_headers.claims.exported = Arc::clone(tenancy.claim.exported());
        }
        Self {
            changed_names: changed_names(&identity_headers, &credentials),
            credentials,
            challenges,
            resource,
            rejected_token_status,
            identity_headers,
            ext_authz,
            api_clients,
            authorization: Authorization::default(),
            tenancy,
        }
    }
}

impl AuthSettings {
    /// Returns the ids of the API keys by name, by which servers are compared; empty for a key
    /// without an id.
    pub(crate) fn api_key_ids(&self) -> BTreeMap<String, String> {
        let keys = self.tenancy.iter().flat_map(|tenancy| tenancy.keys.names());
        keys.map(|(name, id)| (name.to_owned(), id.unwrap_or_default().to_owned())).collect()
    }
}

/// Names of the identity headers. `None` for a header that is switched off.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    /// The claim `sub`.
    pub subject: Option<HeaderName>,
    /// The user's name, from the claim configured for the issuer.
    pub user: Option<HeaderName>,
    /// The claim `iss`.
    pub issuer: Option<HeaderName>,
    /// The client types, comma-separated.
    pub client_types: Option<HeaderName>,
    /// The environment that the token is scoped to.
    pub environment: Option<HeaderName>,
    /// The tenant. Empty except on the `orchestrate` surface.
    pub tenant: Option<HeaderName>,
    /// The tenants whose resources the caller may read. Absent except on the `orchestrate` surface.
    pub allowed_tenants: Option<HeaderName>,
    /// Further claims.
    pub claims: ClaimHeaders,
}

impl IdentityHeaders {
    /// Reads the names. Those of further claims must differ from those of `credentials`, too.
    fn read(reader: &mut SectionReader<'_>, credentials: &[HeaderName]) -> Self {
        let mut name = |option| reader.header_name(option);
        let mut names = Self {
            subject: name("subject"),
            user: name("user"),
            issuer: name("issuer"),
            client_types: name("client_types"),
            environment: name("environment"),
            tenant: name("tenant"),
            allowed_tenants: name("allowed_tenants"),
            claims: ClaimHeaders::default(),
        };
        names.check(reader);
        let taken: Vec<_> = names.names().chain(credentials).cloned().collect();
        names.claims = ClaimHeaders::read(reader, taken);
        names
    }

    /// Returns the claims of the headers, in their order.
    #[must_use]
    pub fn exported_claims(&self) -> &Arc<[ExportedClaim]> {
        &self.claims.exported
    }

    /// Returns the names of all headers that are not switched off.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> + Clone {
        self.all().into_iter().flatten().chain(&self.claims.names)
    }

    fn all(&self) -> [Option<&HeaderName>; 7] {
        let Self {
            subject,
            user,
            issuer,
            client_types,
            environment,
            tenant,
            allowed_tenants,
            claims: _,
        } = self;
        [subject, user, issuer, client_types, environment, tenant, allowed_tenants]
            .map(Option::as_ref)
    }

    /// Rejects names with another meaning in a response, and names given twice, because
    /// one header would silently replace the other.
    fn check(&self, reader: &mut SectionReader<'_>) {
        let taken = [
            header::CACHE_CONTROL,
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::DATE,
            header::RETRY_AFTER,
            header::SET_COOKIE,
            header::TRANSFER_ENCODING,
            header::WWW_AUTHENTICATE,
            generic::ERROR_HEADER,
        ];
        let mut seen: Vec<&HeaderName> = taken.iter().collect();
        let options = [
            "subject",
            "user",
            "issuer",
            "client_types",
            "environment",
            "tenant",
            "allowed_tenants",
        ];
        for (option, name) in options.into_iter().zip(self.all()) {
            let Some(name) = name else { continue };
            if seen.contains(&name) {
                let text = format!("the identity header {name} is already in use");
                reader.error(option, text, "use a different header name for each identity");
            }
            seen.push(name);
        }
    }
}

fn read_rejected_status(server: &mut SectionReader<'_>) -> StatusCode {
    const OPTION: &str = "rejected_token_status";
    match server.text_or_default(OPTION) {
        "403" => StatusCode::FORBIDDEN,
        "401" => StatusCode::UNAUTHORIZED,
        other => {
            let text = format!("{OPTION} {} is neither 401 nor 403", quoted(other));
            server.error(OPTION, text, "");
            StatusCode::FORBIDDEN
        }
    }
}

fn read_credentials(server: &mut SectionReader<'_>) -> CredentialPlaces {
    const HEADERS: &str = "auth_additional_header";
    let mut headers: Vec<HeaderName> = Vec::new();
    for name in server.header_names(HEADERS) {
        let problem = if name == header::AUTHORIZATION {
            Some(("remove it", "cannot be Authorization, which is always read".to_owned()))
        } else if name == header::COOKIE {
            Some((
                "write token_cookie = NAME instead",
                "cannot be Cookie, a list of cookies".into(),
            ))
        } else if headers.contains(&name) {
            Some(("list each header once", format!("contains {name} twice")))
        } else {
            None
        };
        if let Some((help, what)) = problem {
            server.error(HEADERS, format!("{HEADERS} {what}"), help);
        }
        headers.push(name);
    }
    CredentialPlaces::new(headers, read_cookie(server))
}

fn read_cookie<'r>(server: &mut SectionReader<'r>) -> Option<&'r str> {
    const OPTION: &str = "token_cookie";
    let name = server.given(OPTION)?;
    // The name of a cookie is a token, as that of a header is (RFC 6265 section 4.1.1).
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        let text = format!("{OPTION} {} is not the name of a cookie", quoted(name));
        server.error(OPTION, text, "write its name alone, such as __Host-token");
    }
    Some(name)
}

fn read_realm<'r>(server: &mut SectionReader<'r>) -> Option<&'r str> {
    const OPTION: &str = "realm";
    let realm = server.given(OPTION)?;
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !realm.bytes().all(is_plain) {
        let text =
            format!("{OPTION} in server has a character other than visible ASCII, or a quote");
        server.error(OPTION, text, "write a name such as realm = orders");
    }
    Some(realm)
}

/// Contents of gRPC responses to Envoy.
///
/// # Defaults
/// Nothing beyond the identity. An application that receives the caller's identity does
/// not need the token, and claims are opt-in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtAuthz {
    /// Whether the application receives the header that carried the token.
    pub forward_credentials: bool,
    /// Claims sent to Envoy as dynamic metadata.
    pub metadata_claims: Vec<String>,
}

impl ExtAuthz {
    fn read(reader: &mut SectionReader<'_>) -> Self {
        const CLAIMS: &str = "metadata_claims";
        let names = reader.list(CLAIMS).unwrap_or_default();
        let mut metadata_claims: Vec<String> = Vec::new();
        for name in names {
            if name.is_empty() || metadata_claims.iter().any(|one| one == name) {
                let what = if name.is_empty() {
                    "contains an empty name".into()
                } else {
                    format!("contains {} twice", quoted(name))
                };
                reader.error(
                    CLAIMS,
                    format!("{CLAIMS} in {} {what}", reader.section),
                    "list each claim once, such as sub,groups",
                );
            }
            metadata_claims.push(name.into());
        }
        Self { forward_credentials: reader.flag("forward_credentials"), metadata_claims }
    }
}
