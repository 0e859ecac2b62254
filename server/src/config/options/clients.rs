//! Options of clients of the server, and of the web console.

use super::{OptionSpec, SectionSpec, flag, ignored, number, text};

pub(super) const CLIENT_TRANSPORT: SectionSpec = SectionSpec::new(
    "client_rest_transport",
    "How programs that call the API connect to the server. `client-config` prints this section \
     with a new token.",
    &[TRANSPORT],
);

pub(super) const COMMAND_LINE_TRANSPORT: SectionSpec = SectionSpec::new(
    "cmdline_rest_transport",
    "How the command line connects to the server, if not as `[server]` describes.",
    &[TRANSPORT],
);

pub(super) const AGENT_TRANSPORT: SectionSpec =
    SectionSpec::new("agent_rest_transport", "How agents connect to the server.", &[TRANSPORT]);

pub(super) const COMPILER_TRANSPORT: SectionSpec = SectionSpec::new(
    "compiler_rest_transport",
    "How compilers connect to the server.",
    &[TRANSPORT],
);

const TRANSPORT: &[OptionSpec] = &[
    text("host", "host", "localhost").about("Host of the server.", "auth.example"),
    number("port", 1, u16::MAX as u64, "8888").about("Port of the server.", "443"),
    flag("ssl", "false").about("Whether to use TLS.", "true"),
    text("ssl_ca_cert_file", "path", "").unset("the roots of the system").about(
        "Trusted root certificates in PEM, in addition to those of the system. The certificate of \
         the server itself is accepted, too, if its name and dates hold.",
        "/etc/countersign/ca.pem",
    ),
    text("token", "token", "")
        .unset("none")
        .secret()
        .about("Token of the client.", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9..."),
    number("request_timeout", 0, u32::MAX as u64, "120")
        .about("Timeout of a request in seconds. 0 for none.", "10"),
    number("max_clients", 1, u32::MAX as u64, "")
        .unset("the client's default")
        .about("Concurrent requests of an Inmanta client.", "10"),
];

pub(super) const WEB_UI: SectionSpec = SectionSpec::new(
    "web-ui",
    "Login of the web console with an OpenID provider.",
    &[&[
        flag("console_enabled", "true").about("Whether the web console is served.", "true"),
        text("oidc_authority", "URL", "")
            .unset("none")
            .about("Base of the provider's metadata.", "https://idp.example/realms/inmanta"),
        text("oidc_client_id", "text", "")
            .unset("none")
            .about("Client id of the web console at the provider.", "countersign"),
        text("oidc_scope", "scopes", "openid profile email")
            .about("Scopes that the web console requests.", "openid profile"),
        flag("oidc_local_fallback", "false").about("Whether local users may log in too.", "true"),
        text("oidc_auth_url", "URL", "").unset("none").about(
            "Deprecated: URL of a Keycloak server. Use `oidc_authority`.",
            "https://keycloak.example",
        ),
        text("oidc_realm", "text", "inmanta")
            .about("Deprecated: realm of a Keycloak server. Use `oidc_authority`.", "inmanta"),
        ignored("console_path"),
        ignored("features"),
    ]],
);

pub(super) const DASHBOARD: SectionSpec = SectionSpec::new(
    "dashboard",
    "Deprecated predecessor of `[web-ui]`. `config check` prints its replacement.",
    &[&[
        flag("enabled", "true").about("Whether the section applies.", "false"),
        text("auth_url", "URL", "")
            .unset("none")
            .about("URL of a Keycloak server.", "https://keycloak.example"),
        text("realm", "text", "inmanta").about("Realm of a Keycloak server.", "inmanta"),
        text("client_id", "text", "").about("Client id of the web console.", "inmantaso"),
        ignored("path"),
    ]],
);
