//! Options of `[server]`, and of the sections about requests and responses.

use countersign_engine::limits::MAX_TIME_TO_EXPIRY;

use super::{
    API_CLIENTS_SECTION, IDENTITY_HEADERS_SECTION, OptionSpec, SectionSpec, choice, flag, ignored,
    list, listeners, number, text,
};

pub(super) const SERVER: SectionSpec = SectionSpec::new(
    "server",
    "The addresses of the main listener, and the API of the Inmanta server.",
    &[
        &[
            list("bind_address", "IP address", "127.0.0.1")
                .restart()
                .about("Addresses of the main listener.", "0.0.0.0, ::"),
            number("bind_port", 0, u16::MAX as u64, "8888")
                .restart()
                .about("Port of the main listener. 0 for a free port.", "8888"),
        ],
        listeners::CERTIFICATE,
        API,
        ADVERTISED,
        IGNORED,
    ],
);

const API: &[OptionSpec] = &[
    flag("auth", "true").about(
        "Whether `/api/v2` requires a token. `/auth` and `/v1` always do. Without, the reading \
         calls are open to all, and no others are possible. `auth = true` requires a section that \
         signs; where no section does and the line is absent, the server only verifies tokens.",
        "true",
    ),
    choice("auth_method", &["oidc", "database", "jwt"], "oidc").about(
        "Login of the web console: with an OpenID provider, with a password of the database, or at \
         a proxy.",
        "database",
    ),
    choice("authorization_provider", &["legacy", "policy-engine"], "legacy").about(
        "Authorization of calls to `/api/v2`: by client types and environments of tokens, or by a \
         policy for users.",
        "policy-engine",
    ),
    list("auth_additional_header", "header name", "").unset("none").about(
        "Headers with a token, bare or after `Bearer`. They take precedence over `Authorization`. \
         A request with different tokens in two of them is refused.",
        "Cf-Access-Jwt-Assertion, X-Forwarded-Access-Token",
    ),
    text("token_cookie", "cookie name", "").unset("none").about(
        "Cookie with a token, for `/auth` and checks over gRPC. It counts for requests that no \
         other site can have caused, and has to equal a token in any other place.",
        "__Host-token",
    ),
    text("realm", "text", "").unset("none").about(
        "The `realm` of challenges (`WWW-Authenticate`), a name for what tokens give access to.",
        "orders",
    ),
    text("resource", "URL", "").unset("none").about(
        "Identifier of the resource that the server protects. \
         `/.well-known/oauth-protected-resource` then has its metadata (RFC 9728), and challenges name them.",
        "https://api.example",
    ),
    text("resource_metadata", "URL", "").unset("derived from `resource`").about(
        "The `resource_metadata` of challenges (RFC 9728), where it is not at the host of \
         `resource`. At the well-known place of a host, it also determines `resource`.",
        "https://api.example/.well-known/oauth-protected-resource",
    ),
    choice("rejected_token_status", &["401", "403"], "403").about(
        "Status for a refused token on the `inmanta` surface, as in the Inmanta server, and for a \
         valid token with insufficient claims (`claims`, `username_required`) on both. 401 for \
         clients that handle no 403.",
        "401",
    ),
    flag("enforce_client_types", "true")
        .about("Default of the option of the same name in `auth_jwt_*` sections.", "true"),
    flag("legacy_require_client_type", "false")
        .about("Default of the option of the same name in `auth_jwt_*` sections.", "true"),
    number("login_session_expire", 0, MAX_TIME_TO_EXPIRY, "3600").about(
        "Lifetime of a token of a login session in seconds. 0 for the `expire` of the section that \
         signs.",
        "28800",
    ),
    number("login_session_max", 0, u32::MAX as u64, "43200").about(
        "Time in seconds from a login after which its session cannot be renewed. 0 for no limit, \
         which is also the default with `login_session_expire = 0`.",
        "86400",
    ),
    number("token_retention", 0, u32::MAX as u64, "2592000")
        .restart()
        .about("Time in seconds that expired tokens stay in the registry.", "604800"),
    number("password_min_length", 1, 128, "8")
        .about("Minimum length of a new password in characters.", "12"),
    number("password_min_classes", 0, 4, "0").about(
        "Number of character classes that a new password needs: lower case, upper case, digits, \
         others.",
        "3",
    ),
    number("max_request_body_size", 0, 1 << 30, "104857600")
        .about(
            "Maximum length of a request body in bytes. Calls with a token or a password read at most \
             65536, and a gRPC Check 65536 more than `max_head`.",
            "16384",
        ),
    text("access_control_allow_origin", "origin", "").unset("no header").about(
        "Value of the header `Access-Control-Allow-Origin` of `/api/v2`.",
        "https://console.example",
    ),
];

const ADVERTISED: &[OptionSpec] = &[
    text("server_address", "host", "localhost")
        .about("Address of the server for clients, as `client-config` prints it.", "auth.example"),
    text("internal_server_address", "host", "localhost").about(
        "Address of the server for agents and compilers, as `client-config` prints it.",
        "10.0.0.5",
    ),
    text("ssl_ca_cert_file", "path", "").unset("the roots of the system").about(
        "Root certificates in PEM by which clients verify the server's certificate.",
        "/etc/countersign/ca.pem",
    ),
];

/// Options of the Inmanta server without a meaning here, so that its files load without warnings.
const IGNORED: &[OptionSpec] = &[
    ignored("agent_hold"),
    ignored("agent_process_purge_interval"),
    ignored("agent_timeout"),
    ignored("auto_recompile_wait"),
    ignored("available_versions_to_keep"),
    ignored("cleanup_compiler_reports_interval"),
    ignored("compatibility_file"),
    ignored("compiler_report_retention"),
    ignored("delete_currupt_files"),
    ignored("enabled_extensions"),
    ignored("fact_expire"),
    ignored("fact_renew"),
    ignored("fact_resource_block"),
    ignored("purge_resource_action_logs_interval"),
    ignored("purge_versions_interval"),
    ignored("resource_action_log_prefix"),
    ignored("wait_after_param"),
];

pub(super) const IDENTITY_HEADERS: SectionSpec = SectionSpec::new(
    IDENTITY_HEADERS_SECTION,
    "Names of the headers in which `/auth` returns the caller's identity. An empty name switches a \
     header off.",
    &[&[
        text("subject", "header name", "X-Auth-Subject").about("The claim `sub`.", "X-Subject"),
        text("user", "header name", "X-Auth-User")
            .about("The user's name, from `jwt_username_claim`.", "Remote-User"),
        text("issuer", "header name", "X-Auth-Issuer").about(
            "The first name in `issuer` of the section, with the tenant of the token.",
            "X-Issuer",
        ),
        text("client_types", "header name", "X-Auth-Client-Types")
            .about("The client types, comma-separated.", "X-Client-Types"),
        text("environment", "header name", "X-Auth-Environment")
            .about("The environment that the token is scoped to.", "X-Environment"),
        text("tenant", "header name", "X-Auth-Tenant")
            .about("The tenant. Empty except on the `orchestrate` surface.", "X-Tenant"),
        text("allowed_tenants", "header name", "X-Auth-Allowed-Tenants").about(
            "The tenants whose resources the caller may read, comma-separated, or `*`. Absent \
             except on the `orchestrate` surface.",
            "X-Allowed-Tenants",
        ),
        text("claim.<path>", "header name", "").unset("no header").about(
            "A claim, by its name or its path (`user.name`, `/user/name`): a string, a number, a \
             boolean, or a list with commas between its elements. With `.json` after the path, any \
             value in JSON. A token whose values are longer than 8 KiB in all is refused.",
            "X-Auth-Email",
        ),
    ]],
);

pub(super) const EXT_AUTHZ: SectionSpec = SectionSpec::new(
    "ext_authz",
    "Responses to Envoy over gRPC.",
    &[&[
        flag("forward_credentials", "false")
            .about("Whether the application receives the header that carried the token.", "true"),
        list("metadata_claims", "claim", "").about(
            "Claims passed to Envoy as dynamic metadata. Whole numbers above 2^53 become strings.",
            "sub, groups",
        ),
    ]],
);

pub(super) const POLICY_ENGINE: SectionSpec = SectionSpec::new(
    "policy_engine",
    "The policy engine: an access policy in Rego decides (`authorization_provider = policy-engine`).",
    &[&[
        text("policy_file", "path", "/etc/inmanta/authorization/policy.rego").about(
            "The access policy, in Rego. A change takes effect without a restart.",
            "/etc/countersign/policy.rego",
        ),
        choice("log_level", &["debug", "info", "error"], "error").about(
            "Entries in the log of the policy engine: failed evaluations (`error`), or all with \
             their input (`info`, `debug`).",
            "info",
        ),
        text("log_file", "path", "")
            .unset("`policy_engine.log` in `log_dir` of `[config]`, or in `/var/log/inmanta`")
            .restart()
            .about(
                "Log of the policy engine. It is emptied when the server starts.",
                "/var/log/countersign/policy_engine.log",
            ),
        number("cached_decisions", 0, 1 << 24, "16384").about(
            "Number of decisions that each thread keeps for requests with a cached token, at 16 \
             bytes each. 0 for none. A policy that depends on the time is always evaluated.",
            "0",
        ),
        number("max_time", 1, 10_000, "50").about(
            "Maximum time of an evaluation in milliseconds. The request is refused after it.",
            "20",
        ),
        text("executable", "path", "").unset("built in").about(
            "The program of the Inmanta server's policy engine. It is not run: remove the line.",
            "/opt/inmanta/bin/opa",
        ),
    ]],
);

pub(super) const API_CLIENTS: SectionSpec = SectionSpec::new(
    API_CLIENTS_SECTION,
    "Clients that may revoke tokens and have keys fetched. Each option is the name of a client, and its value the hash \
     of the client's secret, as `countersign key client <name>` prints them.",
    &[],
);
