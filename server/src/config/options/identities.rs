//! Options of machine identities.

use super::{IDENTITIES_SECTION, OptionSpec, SectionSpec, choice, flag, number, text};

pub(super) const IDENTITIES: SectionSpec = SectionSpec::new(
    IDENTITIES_SECTION,
    "Machine identities, with the API of Infisical: `/api/v1/identities`, and logins and access \
     tokens below `/api/v1/auth`. They need `auth = true` and a section with `sign = true`, from \
     whose key that of the access tokens is derived. The configuration that a first start without \
     one generates enables them.",
    &[OPTIONS],
);

const OPTIONS: &[OptionSpec] = &[
    flag("enabled", "false").about("Whether these routes exist.", "true"),
    text("issuer", "text", "")
        .unset("the issuer of the section that signs, and `identities`")
        .about(
            "Issuer (`iss`) and audience of the access tokens. No other section has it.",
            "https://auth.example.org/identities",
        ),
    number("max_token_age", 60, 315_360_000, "7776000").about(
        "Longest lifetime of an access token in seconds, whatever its login method allows. A token \
         without a lifetime of its own has this one. Variable: \
         `MAX_MACHINE_IDENTITY_TOKEN_AGE`.",
        "86400",
    ),
    choice("expired_status", &["403", "401"], "403").about(
        "Status for an expired access token in calls of this API. Infisical answers 403; many \
         clients log in again only after 401.",
        "401",
    ),
    flag("bind_certificates", "false").about(
        "Whether the token of a login with a TLS certificate can be used only with that \
         certificate (`cnf`, RFC 8705).",
        "true",
    ),
];
