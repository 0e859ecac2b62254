//! Configuration blocks of Inmanta's two guides, verbatim except for the placeholders.

/// The current guide: TLS. The test replaces the file names.
pub(super) const TLS: &str = "\
[server]
# The ssl certificate used by the server
ssl_cert_file=/etc/inmanta/server.crt
# The private key used by the server, associated with the certificate
ssl_key_file=/etc/inmanta/server.key.open

# The certificate chain that the compiler and agents should use to validate the server certificate
ssl_ca_cert_file=/etc/inmanta/server.chain
# The address at which the compiler and agent should connect.
# Must correspond to the hostname in the ssl certificate
internal_server_address=localhost
";

/// The current guide: the server's own users.
pub(super) const DATABASE: &str = "\
[server]
auth=true
auth-method=database
";

/// The current guide: the output of the first user's set-up.
pub(super) const GENERATED: &str = "\
[auth_jwt_default]
algorithm=HS256
sign=true
client_types=agent,compiler,api
key=NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ
expire=0
issuer=https://localhost:8888/
audience=https://localhost:8888/
";

/// The current guide: the deprecated Keycloak options.
pub(super) const LEGACY_KEYCLOAK: &str = "\
# Legacy Keycloak-specific configuration (deprecated)
[web-ui]
oidc_realm=inmanta
oidc_auth_url=http://keycloak.example.com:8080
oidc_client_id=inmantaso
";

/// The current guide: the replacement of the Keycloak options.
pub(super) const KEYCLOAK: &str = "\
[web-ui]
oidc_authority=http://keycloak.example.com:8080/realms/inmanta
oidc_client_id=inmantaso
";

/// The current guide: any OpenID provider.
pub(super) const GENERIC: &str = "\
[server]
auth=true

[auth_jwt_oidc]
algorithm=RS256
sign=false
client_types=api
issuer=http://keycloak.example.com:8080/realms/inmanta
audience=inmantaso
jwks_uri=http://keycloak.example.com:8080/realms/inmanta/protocol/openid-connect/certs
jwt_username_claim=preferred_username

[web-ui]
oidc_authority=http://keycloak.example.com:8080/realms/inmanta
oidc_client_id=inmantaso
# Optional: override the scopes requested by the web-console.
# Default: \"openid profile email\"
# oidc_scope=openid profile email <resource-scope>
";

/// The current guide: Microsoft Entra ID with tokens of version 2.
pub(super) const ENTRA: &str = "\
[server]
auth=true

[auth_jwt_oidc]
algorithm=RS256
sign=false
client_types=api
issuer=https://login.microsoftonline.com/9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11/v2.0
audience=api://3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77
jwks_uri=https://login.microsoftonline.com/9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11/discovery/v2.0/keys
jwt_username_claim=preferred_username

[web-ui]
oidc_authority=https://login.microsoftonline.com/9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11/v2.0
oidc_client_id=3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77
oidc_scope=openid profile email api://3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77/access
";

/// The issuer of version 2 tokens, and the issuer of version 1 tokens, which replaces it.
pub(super) const ENTRA_ISSUERS: [&str; 2] = [
    "https://login.microsoftonline.com/9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11/v2.0",
    "https://sts.windows.net/9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11/",
];

/// The current guide: Authentik.
pub(super) const AUTHENTIK: &str = "\
[server]
auth=true

[auth_jwt_oidc]
algorithm=RS256
sign=false
client_types=api
issuer=https://auth.example.com/application/o/inmanta/
audience=x4kqZ1mVbY7cT0nPwLr8sDfGhJ2
jwks_uri=https://auth.example.com/application/o/inmanta/jwks/
jwt_username_claim=preferred_username

[web-ui]
oidc_authority=https://auth.example.com/application/o/inmanta/
oidc_client_id=x4kqZ1mVbY7cT0nPwLr8sDfGhJ2
";

/// The current guide: a reverse proxy that issues tokens. The blank before the first section is the
/// guide's.
pub(super) const CLOUDFLARE: &str = " [auth_jwt_cloudflare]
algorithm=RS256
sign=false
client_types=api
issuer=https://acme.cloudflareaccess.com
audience=4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2
jwks_uri=https://acme.cloudflareaccess.com/cdn-cgi/access/certs
validate_cert=true
jwt_username_claim=email
";

/// The current guide: the header of the proxy's tokens.
pub(super) const CLOUDFLARE_HEADER: &str = "\
[server]
auth_additional_header=Cf-Access-Jwt-Assertion
";

/// The older guide: the server's own tokens.
pub(super) const OLDER_DEFAULT: &str = "\
[auth_jwt_default]
algorithm=HS256
sign=true
client_types=agent,compiler
key=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs
expire=0
issuer=https://localhost:8888/
audience=https://localhost:8888/
";

/// The older guide: its web console.
pub(super) const DASHBOARD: &str = "\
[dashboard]
enabled=true
path=/opt/inmanta/dashboard

# keycloack specific configuration
realm=master
auth_url=http://localhost:8080/auth
client_id=inmanta
";

/// The older guide: Keycloak.
pub(super) const OLDER_KEYCLOAK: &str = "\
[auth_jwt_keycloak]
algorithm=RS256
sign=false
client_types=api
issuer=http://localhost:8080/auth/realms/master
audience=inmanta
jwks_uri=http://localhost:8080/auth/realms/master/protocol/openid-connect/certs
";
