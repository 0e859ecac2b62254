//! Options of multi-tenancy.

use super::{MULTI_TENANCY_SECTION, OptionSpec, SectionSpec, flag, text};

pub(super) const MULTI_TENANCY: SectionSpec = SectionSpec::new(
    MULTI_TENANCY_SECTION,
    "Tenants and API keys on listeners with `surface = orchestrate`. The environment variables of \
     Orchestrate, such as `AUTH_API_KEY`, set these options if no configuration file is named, or \
     if one has this section or that surface.",
    &[OPTIONS],
);

const OPTIONS: &[OptionSpec] = &[
    flag("enabled", "true").about(
        "Whether requests need an API key or a token. Otherwise every request is allowed, as one \
         of the tenant `_`. Variable: `MULTI_TENANCY_ENABLED`.",
        "false",
    ),
    text("api_key", "key", "").unset("none").secret().about(
        "Key that machines present in `X-API-Key`, or its hash as `countersign key client` prints \
         it. It gives access to the resources of every tenant. Variable: `AUTH_API_KEY`.",
        "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ",
    ),
    text("api_key_file", "path", "").unset("none").about(
        "File with further keys, all valid at the same time: lines of `name = key`, or `name = key \
         from 10.0.0.0/8, 192.0.2.1` for the addresses of its clients. It is read again within a \
         few seconds of a change.",
        "/etc/countersign/api_keys",
    ),
    text("claims_namespace", "claim", "orchestrate.info").about(
        "Name of the claim with `tenant_id` and `username`, compared byte by byte. Variables: \
         `AUTH_JWT_CLAIMS_NAMESPACE`, `AUTH_JWT_ORCHESTRATE_CLAIMS`.",
        "http://tenant.info/",
    ),
    flag("error_body", "false").about(
        "Whether refusals have the text of Orchestrate as their body. Most proxies discard it.",
        "true",
    ),
];
