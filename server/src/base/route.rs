//! Routing by path. Paths are compared as sent, without decoding or normalization, so that every
//! route has exactly one spelling.

use countersign_engine::limits;
use countersign_front::http1::head::split_absolute;

/// Routes of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// All routes except those for operators.
    Everything,
    /// `/auth` and the probes.
    Auth,
    /// Metrics, the key status, and probes.
    Operations,
}

impl Serves {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Everything, Self::Auth, Self::Operations];

    /// Returns the value's name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Auth => "auth",
            Self::Operations => "operations",
        }
    }
}

/// Path of Envoy's external authorization method over gRPC.
pub const CHECK_PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Path of the gRPC health check method.
pub const HEALTH_PATH: &str = "/grpc.health.v1.Health/Check";
/// The header with which a call of the Inmanta API names an environment.
pub const ENVIRONMENT_HEADER: &str = "X-Inmanta-tid";
/// Path of the metadata of the protected resource, to which the path of the resource is appended.
pub const RESOURCE_METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
/// Path of the console, and of the pages below it.
pub const CONSOLE_PATH: &str = "/console";
/// Path of the figures of a load test.
pub const STATS_PATH: &str = "/stats";
/// Path of the tokens of a load test.
pub const CORPUS_PATH: &str = "/corpus";
/// The headers that the console reads.
const CONSOLE_HEADERS: [&str; 7] = [
    "content-type",
    "cookie",
    "host",
    "origin",
    "sec-fetch-site",
    "x-forwarded-host",
    "x-forwarded-proto",
];
/// The headers that the Admin API reads, other than the credential.
const ADMIN_HEADERS: [&str; 4] =
    ["content-encoding", "if-match", "if-none-match", "x-forwarded-proto"];

/// Maximum length of a body in bytes: the longest token, escaped and wrapped in JSON or a form.
pub const MAX_BODY: usize = 4 * limits::MAX_TOKEN_BYTES;
/// Maximum length of a gRPC message in bytes beyond the head it describes: a certificate, and the
/// other attributes of a request.
const MAX_GRPC_ATTRIBUTES: usize = 64 * 1024;

/// The handler of a request, found by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/auth`, `/auth/*`: forward authentication.
    Auth,
    /// `/envoy.service.auth.v3.Authorization/Check`: external authorization over gRPC.
    Check,
    /// `/grpc.health.v1.Health/Check`.
    GrpcHealth,
    /// `/v1/verify`.
    Verify,
    /// `/v1/verify/batch`.
    VerifyBatch,
    /// `/v1/revoke`.
    Revoke,
    /// `/api/v1/*`, `/api/v2/*`: users, roles and tokens.
    Inmanta,
    /// `/api/v1/identities` and other paths of Infisical: machine identities.
    Infisical,
    /// `/.well-known/jwks.json`.
    Jwks,
    /// `/.well-known/oauth-protected-resource`, `/.well-known/oauth-protected-resource/*`.
    ResourceMetadata,
    /// `/healthz`, `/live`.
    Live,
    /// `/readyz`, `/ready`.
    Ready,
    /// `/metrics`.
    Metrics,
    /// `/keys`.
    Keys,
    /// `/keys/refresh`.
    RefreshKeys,
    /// `/console`, `/console/*` and `/`, on the listener that serves the console.
    Console,
    /// `/v1/admin/*`: administration, on the listeners that serve it.
    Admin,
    /// `/stats` and `/corpus`, in a load test.
    LoadTest,
    /// No handler: 404.
    None,
}

impl Route {
    /// Every route.
    pub const ALL: [Self; 19] = [
        Self::Auth,
        Self::Check,
        Self::GrpcHealth,
        Self::Verify,
        Self::VerifyBatch,
        Self::Revoke,
        Self::Inmanta,
        Self::Infisical,
        Self::Jwks,
        Self::ResourceMetadata,
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::Keys,
        Self::RefreshKeys,
        Self::Console,
        Self::Admin,
        Self::LoadTest,
        Self::None,
    ];

    /// Finds the handler of a request target, on a listener with these routes.
    #[must_use]
    pub fn of(target: &str, serves: Serves) -> Self {
        let path = path_of(target);
        match (serves, path) {
            (Serves::Everything | Serves::Auth, "/auth") => Self::Auth,
            (Serves::Everything | Serves::Auth, path) if path.starts_with("/auth/") => Self::Auth,
            (Serves::Everything | Serves::Auth, CHECK_PATH) => Self::Check,
            (Serves::Everything | Serves::Auth, HEALTH_PATH) => Self::GrpcHealth,
            (Serves::Everything | Serves::Auth, "/healthz") | (Serves::Operations, "/live") => {
                Self::Live
            }
            (Serves::Everything | Serves::Auth, "/readyz") | (Serves::Operations, "/ready") => {
                Self::Ready
            }
            (Serves::Everything, "/v1/verify") => Self::Verify,
            (Serves::Everything, "/v1/verify/batch") => Self::VerifyBatch,
            (Serves::Everything, "/v1/revoke") => Self::Revoke,
            (Serves::Everything, path) if is_of_infisical(path) => Self::Infisical,
            (Serves::Everything, path)
                if path.starts_with("/api/v1/") || path.starts_with("/api/v2/") =>
            {
                Self::Inmanta
            }
            (Serves::Everything, "/.well-known/jwks.json") => Self::Jwks,
            (Serves::Everything | Serves::Auth, path) if is_resource_metadata(path) => {
                Self::ResourceMetadata
            }
            (Serves::Operations, "/metrics") => Self::Metrics,
            (Serves::Operations, "/keys") => Self::Keys,
            (Serves::Everything | Serves::Operations, "/keys/refresh") => Self::RefreshKeys,
            _ => Self::None,
        }
    }

    /// Finds the handler of a request target that is not one of [`Route::of`], on the listener of
    /// the console. `/` is the redirect URI that OpenID providers have for the console.
    #[must_use]
    pub fn of_console(target: &str) -> Self {
        match path_of(target) {
            "/" | CONSOLE_PATH => Self::Console,
            path if path.strip_prefix(CONSOLE_PATH).is_some_and(|rest| rest.starts_with('/')) => {
                Self::Console
            }
            _ => Self::None,
        }
    }

    /// Finds the handler of a request target that is not one of [`Route::of`], on a listener of the
    /// Admin API.
    #[must_use]
    pub fn of_admin_api(target: &str) -> Self {
        if path_of(target).starts_with("/v1/admin/") { Self::Admin } else { Self::None }
    }

    /// Finds the handler of a request target that is not one of [`Route::of`], in a load test.
    #[must_use]
    pub fn of_load_test(target: &str) -> Self {
        match path_of(target) {
            STATS_PATH | CORPUS_PATH => Self::LoadTest,
            _ => Self::None,
        }
    }

    /// Returns the index in [`Route::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|route| *route == self).unwrap_or_default()
    }

    /// Returns the name, for metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Check => "check",
            Self::GrpcHealth => "grpc_health",
            Self::Verify => "verify",
            Self::VerifyBatch => "verify_batch",
            Self::Revoke => "revoke",
            Self::Inmanta => "inmanta",
            Self::Infisical => "infisical",
            Self::Jwks => "jwks",
            Self::ResourceMetadata => "resource_metadata",
            Self::Live => "live",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
            Self::Keys => "keys",
            Self::RefreshKeys => "refresh_keys",
            Self::Console => "console",
            Self::Admin => "admin",
            Self::LoadTest => "load_test",
            Self::None => "none",
        }
    }

    /// Whether the handler reads the body of a request with this method.
    #[must_use]
    pub fn reads_body(self, method: &str) -> bool {
        match self {
            // A DELETE with a body is refused.
            Self::Inmanta | Self::Infisical | Self::Admin => {
                matches!(method, "POST" | "PUT" | "PATCH" | "DELETE")
            }
            _ => {
                let has_parameters = matches!(
                    self,
                    Self::Verify
                        | Self::VerifyBatch
                        | Self::Revoke
                        | Self::RefreshKeys
                        | Self::Console
                );
                (self.is_grpc() || has_parameters) && method == "POST"
            }
        }
    }

    /// Whether the handler reads the header line with this name, other than the credential.
    #[must_use]
    pub fn reads_header(self, name: &[u8]) -> bool {
        let reads = |read: &str| name.eq_ignore_ascii_case(read.as_bytes());
        match self {
            Self::Inmanta => reads(ENVIRONMENT_HEADER) || reads("content-encoding"),
            Self::Infisical => reads("x-api-key") || reads("x-infisical-org"),
            Self::Console => CONSOLE_HEADERS.into_iter().any(reads),
            Self::Admin => ADMIN_HEADERS.into_iter().any(reads),
            // gRPC calls of an unknown method are recognized by their media type.
            Self::Check | Self::GrpcHealth | Self::None => reads("content-type"),
            _ => false,
        }
    }

    /// Whether the handler reads the query.
    #[must_use]
    pub const fn reads_query(self) -> bool {
        matches!(self, Self::Inmanta | Self::Infisical | Self::Ready | Self::Console | Self::Admin)
    }

    /// Whether the handler serves gRPC calls.
    #[must_use]
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::Check | Self::GrpcHealth)
    }

    /// Returns the maximum length of a body in bytes. `configured` is the configured limit, and
    /// `max_head` that of the head of a request, which a gRPC check contains.
    #[must_use]
    pub fn max_body(self, configured: usize, max_head: usize) -> usize {
        configured.min(if self.is_grpc() { max_head + MAX_GRPC_ATTRIBUTES } else { MAX_BODY })
    }
}

/// Whether a path is one of Infisical's, none of which Inmanta has.
fn is_of_infisical(path: &str) -> bool {
    const PREFIXES: [&str; 5] = [
        "/api/v1/identities",
        "/api/v1/auth",
        "/api/v1/organization",
        "/api/v1/projects",
        "/api/v2/workspace",
    ];
    let mut rests = PREFIXES.iter().filter_map(|prefix| path.strip_prefix(prefix));
    rests.any(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_resource_metadata(path: &str) -> bool {
    let rest = path.strip_prefix(RESOURCE_METADATA_PATH);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the path of a request target, which may be in absolute form.
pub fn path_of(target: &str) -> &str {
    let target = if target.starts_with('/') {
        target
    } else {
        match split_absolute(target) {
            None => target,
            Some((_, "")) => "/",
            Some((_, path)) => path,
        }
    };
    target.split_once('?').map_or(target, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_request_paths_are_not_normalized() {
        for (target, expected) in [
            ("/auth", Route::Auth),
            ("/auth?x=/v1/verify", Route::Auth),
            ("/auth/", Route::Auth),
            ("/auth/../v1/verify", Route::Auth),
            ("/auth//%2e%2e/v1", Route::Auth),
            ("/authx", Route::None),
            ("//auth", Route::None),
            ("/AUTH", Route::None),
            ("/v1/../auth", Route::None),
            ("/%61uth", Route::None),
            ("/v1/verify?x", Route::Verify),
            ("/v1/verify/batch", Route::VerifyBatch),
            ("/v1/verify/batch/", Route::None),
            ("/envoy.service.auth.v3.Authorization/Check", Route::Check),
            ("/envoy.service.auth.v3.Authorization/check", Route::None),
            ("/envoy.service.auth.v3.Authorization/Check/", Route::None),
            ("/auth/envoy.service.auth.v3.Authorization/Check", Route::Auth),
            ("/grpc.health.v1.Health/Check", Route::GrpcHealth),
            ("/grpc.health.v1.Health/Watch", Route::None),
            ("/v1/verify/", Route::None),
            ("/.well-known/oauth-protected-resource", Route::ResourceMetadata),
            ("/.well-known/oauth-protected-resource/mcp?x", Route::ResourceMetadata),
            ("/.well-known/oauth-protected-resourcex", Route::None),
            ("/api/v1/identities", Route::Infisical),
            ("/api/v1/identities/x?y", Route::Infisical),
            ("/api/v1/identitiesx", Route::Inmanta),
            ("/api/v1/auth/token/renew", Route::Infisical),
            ("/api/v2/workspace/p/identity-memberships", Route::Infisical),
            ("/api/v1/projectx", Route::Inmanta),
            ("/metrics", Route::None),
            ("*", Route::None),
            ("http://other.example:80/auth/x?y", Route::Auth),
            ("HTTPS://other.example/auth?y", Route::Auth),
            ("hTTp://other.example/AUTH", Route::None),
            ("https://other.example", Route::None),
            ("http://other.example?/auth", Route::None),
            ("ftp://other.example/auth", Route::None),
        ] {
            assert_eq!(Route::of(target, Serves::Everything), expected, "{target}");
        }
    }

    #[test]
    fn console_is_at_its_path_and_the_root() {
        for (target, expected) in [
            ("/", Route::Console),
            ("/?code=x&state=y", Route::Console),
            ("/console", Route::Console),
            ("/console/", Route::Console),
            ("/console/users?x", Route::Console),
            ("/consoles", Route::None),
            ("/Console", Route::None),
            ("//console", Route::None),
            ("", Route::None),
            ("*", Route::None),
        ] {
            assert_eq!(Route::of_console(target), expected, "{target}");
            assert_eq!(Route::of(target, Serves::Everything), Route::None, "{target}");
        }
    }

    #[test]
    fn admin_api_is_below_its_path() {
        for (target, expected) in [
            ("/v1/admin/users?x", Route::Admin),
            ("/v1/admin/", Route::Admin),
            ("http://host/v1/admin/users", Route::Admin),
            ("/v1/admin", Route::None),
            ("/v1/administer", Route::None),
            ("/V1/admin/users", Route::None),
            ("//v1/admin/users", Route::None),
        ] {
            assert_eq!(Route::of_admin_api(target), expected, "{target}");
            assert_eq!(Route::of(target, Serves::Everything), Route::None, "{target}");
        }
    }

    #[test]
    fn listeners_have_only_their_own_routes() {
        let targets = [
            "/auth",
            CHECK_PATH,
            HEALTH_PATH,
            "/v1/verify",
            "/v1/revoke",
            "/api/v2/health",
            "/.well-known/jwks.json",
            RESOURCE_METADATA_PATH,
            "/metrics",
            "/keys",
            "/keys/refresh",
        ];
        let had = |serves| targets.map(|target| Route::of(target, serves) != Route::None);
        assert_eq!(
            had(Serves::Everything),
            [true, true, true, true, true, true, true, true, false, false, true]
        );
        assert_eq!(
            had(Serves::Auth),
            [true, true, true, false, false, false, false, true, false, false, false]
        );
        assert_eq!(
            had(Serves::Operations),
            [false, false, false, false, false, false, false, false, true, true, true]
        );
    }
}
