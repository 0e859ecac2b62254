//! Names of all sections and options. The modules of the sections read their values.

/// Prefix of issuer sections.
pub const ISSUER_PREFIX: &str = "auth_jwt_";

/// Options of an `auth_jwt_*` section.
pub const ISSUER: &[&str] = &[
    "algorithm",
    "algorithms",
    "audience",
    "ca_file",
    "claims",
    "client_types",
    "discovery_uri",
    "enforce_client_types",
    "expire",
    "issuer",
    "jwks_cool_down",
    "jwks_refresh_interval",
    "jwks_request_timeout",
    "jwks_stale",
    "jwks_uri",
    "jwt_username_claim",
    "key",
    "key_file",
    "leeway",
    "legacy_require_client_type",
    "max_lifetime",
    "sign",
    "typ",
    "validate_cert",
];

/// Prefix of the sections of additional listeners.
pub const LISTENER_PREFIX: &str = "listener_";

/// Options of a `listener_*` section.
pub const LISTENER: &[&str] = &[
    "bind",
    "client_address_header",
    "client_ca_file",
    "client_certificate_header",
    "client_certificates",
    "client_crl_file",
    "dialect",
    "protocols",
    "proxy_protocol",
    "serves",
    "ssl_cert_file",
    "ssl_key_file",
    "surface",
    "trusted_proxies",
];

const TRANSPORT: &[&str] =
    &["host", "max_clients", "port", "request_timeout", "ssl", "ssl_ca_cert_file", "token"];

/// The section whose option names are the names of clients.
pub const API_CLIENTS_SECTION: &str = "api_clients";

/// The other sections, with their options.
///
/// Inmanta's options without a meaning for an auth tier are listed too, so that its files
/// load without warnings.
pub const SECTIONS: &[(&str, &[&str])] = &[
    (
        "server",
        &[
            "access_control_allow_origin",
            "auth",
            "auth_additional_header",
            "auth_method",
            "authorization_provider",
            "bind_address",
            "bind_port",
            "enforce_client_types",
            "internal_server_address",
            "legacy_require_client_type",
            "login_session_expire",
            "max_request_body_size",
            "password_min_classes",
            "password_min_length",
            "rejected_token_status",
            "server_address",
            "ssl_ca_cert_file",
            "ssl_cert_file",
            "ssl_key_file",
            "token_retention",
            // Inmanta's options without a meaning here.
            "agent_hold",
            "agent_process_purge_interval",
            "agent_timeout",
            "auto_recompile_wait",
            "available_versions_to_keep",
            "cleanup_compiler_reports_interval",
            "compatibility_file",
            "compiler_report_retention",
            "delete_currupt_files",
            "enabled_extensions",
            "fact_expire",
            "fact_renew",
            "fact_resource_block",
            "purge_resource_action_logs_interval",
            "purge_versions_interval",
            "resource_action_log_prefix",
            "wait_after_param",
        ],
    ),
    (
        "listen",
        &[
            "client_address_header",
            "client_ca_file",
            "client_certificate_header",
            "client_certificates",
            "client_crl_file",
            "dialect",
            "protocols",
            "proxy_protocol",
            "surface",
            "threads",
            "trusted_proxies",
        ],
    ),
    ("cache", &["megabytes"]),
    (
        "limits",
        &[
            "bad_signatures_per_core",
            "bad_signatures_per_issuer",
            "bad_signatures_per_source",
            "body_timeout",
            "connections",
            "drain_timeout",
            "head_timeout",
            "idle_timeout",
            "sources",
        ],
    ),
    ("log", &["format", "requests"]),
    (
        "login",
        &["attempts_per_source", "failures_per_user", "hashing_threads", "lockout", "waiting"],
    ),
    ("identity_headers", &["client_types", "issuer", "subject", "tenant", "user"]),
    ("ext_authz", &["forward_credentials", "metadata_claims"]),
    ("metrics", &["bind_address", "bind_port"]),
    ("quic", &["key_file", "retry_above"]),
    ("revocation", &["capacity", "file"]),
    ("policy_engine", &["executable", "log_level", "policy_file"]),
    (
        "web-ui",
        &[
            "console_enabled",
            "console_path",
            "features",
            "oidc_auth_url",
            "oidc_authority",
            "oidc_client_id",
            "oidc_local_fallback",
            "oidc_realm",
            "oidc_scope",
        ],
    ),
    (
        "database",
        &[
            "connection_pool_max_size",
            "connection_pool_min_size",
            "connection_timeout",
            "host",
            "listen_url",
            "migrate",
            "name",
            "password",
            "port",
            "url",
            "username",
            "wait_time",
        ],
    ),
    ("agent_rest_transport", TRANSPORT),
    ("client_rest_transport", TRANSPORT),
    ("cmdline_rest_transport", TRANSPORT),
    ("compiler_rest_transport", TRANSPORT),
    ("dashboard", &["auth_url", "client_id", "enabled", "path", "realm"]),
];

/// Inmanta's sections without a meaning here. Their options are not checked.
pub const FOREIGN_SECTIONS: &[&str] = &[
    "agent",
    "compiler",
    "config",
    "deploy",
    "influxdb",
    "license",
    "logging",
    "lsm",
    "tracing",
    "unknown_handler",
];

/// Returns the options of a section. `None` for an unknown section.
#[must_use]
pub fn of_section(section: &str) -> Option<&'static [&'static str]> {
    if section.starts_with(ISSUER_PREFIX) {
        return Some(ISSUER);
    }
    if section.starts_with(LISTENER_PREFIX) {
        return Some(LISTENER);
    }
    SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, options)| *options)
}

/// Returns the candidate most similar to `word`, if it is close enough to be a typing error.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    const CLOSE: f64 = 0.75;
    let scored = candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= CLOSE).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_option_is_suggested_for_a_typo() {
        assert_eq!(nearest("audiance", ISSUER.iter().copied()), Some("audience"));
        assert_eq!(nearest("client_type", ISSUER.iter().copied()), Some("client_types"));
        assert_eq!(nearest("colour", ISSUER.iter().copied()), None);
    }

    #[test]
    fn options_are_listed_once() {
        for (section, options) in
            SECTIONS.iter().chain(&[("auth_jwt_", ISSUER), ("listener_", LISTENER)])
        {
            let mut sorted = options.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), options.len(), "[{section}]");
        }
    }
}
