use std::sync::LazyLock;

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    http::Response,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
};
use serde_json::{Value, json};

use crate::fixture;

pub(crate) const API_KEY: &str = "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ";
pub(super) const NAMESPACE: &str = "http://tenant.info/";
pub(super) const AUDIENCE: &str = "https://orchestrate.example";

/// A provider as Auth0 is: an issuer with a slash, RS256, and a list of audiences.
pub(crate) struct TenantProvider {
    pub(crate) server: JwksServer,
    /// The same for all providers, because generating it takes long.
    pub(super) key: &'static SigningKey,
}

impl TenantProvider {
    pub(crate) fn start() -> Self {
        static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate("RS256", "k1"));
        let key = &*KEY;
        let server = JwksServer::start(&fixture::key_set(&[key]));
        let metadata = json!({
            "issuer": format!("{}/", server.origin()),
            "jwks_uri": server.uri(),
        });
        let metadata = CannedResponse::json(&metadata.to_string());
        server.respond_at("/.well-known/openid-configuration", metadata);
        Self { server, key }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("{}/", self.server.origin())
    }

    /// Returns claims with this value of the namespaced claim.
    pub(super) fn claims(&self, tenancy: Value) -> Value {
        json!({
            "iss": self.issuer(),
            "aud": [AUDIENCE, format!("{}userinfo", self.issuer())],
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "azp": "my1tc3bV8tZxWjwT1wk5Q2dJ7aPq0cRu",
            "scope": "openid profile email",
            "iat": fixture::now() - 60,
            "exp": fixture::now() + 3600,
            NAMESPACE: tenancy,
        })
    }

    /// Returns a token of this tenant, with the user `alice`.
    pub(crate) fn token(&self, tenant: &str) -> String {
        self.token_with(json!({ "tenant_id": tenant, "username": "alice" }), &[])
    }

    /// Returns a token with this namespaced claim, and some claims replaced or, by null, removed.
    pub(super) fn token_with(&self, tenancy: Value, changes: &[(&str, Value)]) -> String {
        let mut claims = self.claims(tenancy);
        for (name, value) in changes {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
                value => claims[*name] = value.clone(),
            }
        }
        self.key.token(&claims)
    }
}

/// A running tier, and its provider.
pub(super) struct OrchestrateTier<'s> {
    pub(super) server: Server<'s>,
    pub(super) provider: &'s TenantProvider,
}

/// Runs a test against a tier with an API key and an issuer, and refusals with a body. `changes`
/// are further variables, or empty ones.
pub(super) fn with_tier(
    protocol: impl Into<Option<Protocol>>,
    changes: &[(&str, &str)],
    test: impl FnOnce(&OrchestrateTier<'_>),
) {
    let provider = TenantProvider::start();
    let sandbox = variables(protocol.into(), &provider.issuer(), changes);
    let server = sandbox.start::<&str>([]);
    server.wait_until_ready();
    test(&OrchestrateTier { server, provider: &provider });
}

/// Returns a sandbox with the variables of a tier with an API key and this issuer. `changes` are
/// further variables, or empty ones.
pub(crate) fn variables(
    protocol: Option<Protocol>,
    issuer: &str,
    changes: &[(&str, &str)],
) -> Sandbox {
    let usual = [
        ("MULTI_TENANCY_ENABLED", "true"),
        ("AUTH_API_KEY", API_KEY),
        ("AUTH_JWT_ISSUER_URL", issuer),
        ("AUTH_JWT_AUDIENCE", AUDIENCE),
        ("AUTH_JWT_CLAIMS_NAMESPACE", NAMESPACE),
        ("INMANTA_MULTI_TENANCY_ERROR_BODY", "true"),
    ];
    let unchanged = usual.iter().filter(|(name, _)| changes.iter().all(|(other, _)| name != other));
    sandbox(protocol, unchanged.chain(changes))
}

/// Returns a sandbox whose servers have these variables, and free ports. Without a protocol they
/// serve HTTP/1 and HTTP/2 in cleartext.
pub(crate) fn sandbox<'v>(
    protocol: Option<Protocol>,
    variables: impl Iterator<Item = &'v (&'v str, &'v str)>,
) -> Sandbox {
    let free_ports = [("METRICS_PORT", "0"), ("INMANTA_SERVER_BIND_PORT", "0")];
    let tls = [
        ("INMANTA_SERVER_SSL_CERT_FILE", "tls.crt"),
        ("INMANTA_SERVER_SSL_KEY_FILE", "tls.key"),
        ("INMANTA_LISTEN_PROTOCOLS", "http/1.1, h2, h3"),
    ];
    let cleartext = [("INMANTA_LISTEN_PROTOCOLS", "http/1.1, h2")];
    let set = |sandbox: Sandbox, (name, value): &(&str, &str)| sandbox.variable(name, value);
    let sandbox = match protocol {
        Some(protocol) => tls.iter().fold(Sandbox::over(protocol), set),
        None => cleartext.iter().fold(Sandbox::new(), set),
    };
    variables.fold(free_ports.iter().fold(sandbox, set), set)
}

/// Returns a configuration file of a tier with an API key and an issuer, whose listener has these
/// further options, and trusts the proxies of this machine to describe requests.
pub(crate) fn configuration(provider: &TenantProvider, listen: &str, rest: &str) -> String {
    let issuer = provider.issuer();
    format!(
        "[auth_jwt_idp]\nissuer={issuer}\naudience_match=none\n\
         discovery_uri={issuer}.well-known/openid-configuration\n\
         [multi_tenancy]\nclaims_namespace={NAMESPACE}\napi_key={API_KEY}\nerror_body=true\n\
         [listen]\nsurface=orchestrate\ntrusted_proxies=127.0.0.1\ndialect=x-forwarded\n\
         {listen}\n{rest}\n"
    )
}

impl OrchestrateTier<'_> {
    /// Sends a check with these header lines, twice: the second answer about a token is from the
    /// cache.
    #[track_caller]
    pub(super) fn ask(&self, lines: &[(&str, &str)]) -> Response {
        let lines: String =
            lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET /auth HTTP/1.1\r\n{lines}");
        let [first, second] = [0; 2].map(|_| self.server.request(&head));
        assert_eq!((first.status, outcome(&first)), (second.status, outcome(&second)));
        second
    }

    /// Like [`ask`](Self::ask), for a token with this tenant.
    #[track_caller]
    pub(super) fn ask_as(&self, tenant: &str, lines: &[(&str, &str)]) -> String {
        let bearer = format!("Bearer {}", self.provider.token(tenant));
        outcome(&self.ask(&[&[("Authorization", &*bearer)], lines].concat()))
    }

    /// Like [`ask`](Self::ask), for this token.
    #[track_caller]
    pub(super) fn ask_with(&self, token: &str) -> String {
        outcome(&self.ask(&[("Authorization", &format!("Bearer {token}"))]))
    }

    /// Like [`ask`](Self::ask), for the API key.
    #[track_caller]
    pub(super) fn ask_with_key(&self, lines: &[(&str, &str)]) -> String {
        outcome(&self.ask(&[&[("X-API-Key", API_KEY)], lines].concat()))
    }
}

/// Returns `tenant; allowed tenants; user` of a response that allows a request, and otherwise its
/// body, without `401 09001@: ` and the line end.
#[track_caller]
pub(super) fn outcome(response: &Response) -> String {
    if response.status == 200 {
        let names = ["x-auth-tenant", "x-auth-allowed-tenants", "x-auth-user"];
        return names.map(|name| response.header(name).unwrap_or("absent")).join("; ");
    }
    assert_eq!(response.status, 401, "{response:?}");
    assert_eq!(response.header("content-type"), Some("text/plain"));
    for name in ["x-auth-tenant", "x-auth-allowed-tenants", "x-auth-user"] {
        assert_eq!(response.header(name), None, "{response:?}");
    }
    let text = response.body.strip_suffix('\n').unwrap_or_default();
    let (code, message) = text.split_once("@: ").unwrap_or_default();
    match code {
        "401 09001" => message.into(),
        _ => format!("{code}: {message}"),
    }
}
