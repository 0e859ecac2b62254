//! Options of the `auth_jwt_*` sections.

use countersign_engine::limits::MAX_TIME_TO_EXPIRY;

use super::{
    DefaultValue, ISSUER_PREFIX, OptionKind, OptionSpec, SectionSpec, choice, decimal, flag, list,
    number, text,
};

pub(super) const ISSUER: SectionSpec = SectionSpec {
    name: ISSUER_PREFIX,
    variable: "<id>",
    about: "One issuer of tokens: its name, its keys and the rules for its tokens. `issuer` and \
            `audience` are a whole section where an OpenID provider publishes its keys. At most \
            one section signs the tokens that this server issues: without one, it only verifies. \
            A section has one source of keys: `key`, `key_file`, `jwks_uri` or `discovery_uri`.",
    groups: &[ISSUED, KEYS, RULES],
};

const ISSUED: &[OptionSpec] = &[
    OptionSpec::new(
        "algorithm",
        OptionKind::Text("HS256 or RS256"),
        DefaultValue::Described("`algorithms`"),
    )
    .about(
        "Signature algorithm of the tokens, with the two values of the Inmanta server. Required \
         without `algorithms` for a static key.",
        "RS256",
    ),
    list("algorithms", "algorithm", "")
        .unset("`algorithm`, or all but those of shared secrets if the keys are at a URI")
        .about(
            "Signature algorithms of the tokens: any of HS256, HS384, HS512, RS256, RS384, RS512, \
             PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA, also written Ed25519. Shared \
             secrets (HS) and public keys need separate sections.",
            "ES256, EdDSA",
        ),
    list("issuer", "text", "https://localhost:8888/").about(
        "The claim `iss` of the tokens, compared byte by byte. Further names, after commas, are \
         the same issuer in every respect. `{tenantid}` stands for one of `tenants`.",
        "https://accounts.google.com, accounts.google.com",
    ),
    list("tenants", "tenant", "").unset("none").about(
        "Tenants that `{tenantid}` in `issuer` stands for, or `*` for any. The claim `tid` must be \
         the tenant in `iss`. All tenants have the keys of the section.",
        "11111111-2222-3333-4444-555555555555",
    ),
    list("audience", "text", "").unset("the issuer").about(
        "Audiences of the tokens. By `audience_match`, a token must name one of them, or all.",
        "api://orders, api://stock",
    ),
    choice("audience_match", &["any", "all", "none"], "any").about(
        "Whether a token must name one of the audiences or all of them. With `none`, tokens for \
         every application are accepted.",
        "all",
    ),
    flag("require_audience", "true").about(
        "Whether a token without the claim of the audience is refused. If it has the claim, it is \
         always checked.",
        "false",
    ),
    text("audience_claim", "claim", "aud").about(
        "Claim with the audience, by its name or path: `client_id` for Cognito, `azp` where `aud` \
         does not name the application.",
        "client_id",
    ),
    list("client_types", "client type", "").unset("any client type").about(
        "Client types that tokens may have: agent, api and compiler. Required in the section \
             that signs, and in all sections if a listener has the `inmanta` surface.",
        "api",
    ),
    flag("sign", "false")
        .about("Whether the server signs its own tokens with the key of this section.", "true"),
    flag("administers", "")
        .unset("true in the section that signs and in that of the web console's login")
        .about(
            "Whether tokens of the section may change users, roles and environments, and issue \
             tokens. `countersign config check` reports who may, and why.",
            "true",
        ),
    number("expire", 0, MAX_TIME_TO_EXPIRY, "0").about(
        "Lifetime in seconds of tokens signed without an explicit lifetime. 0 for tokens that \
         never expire.",
        "3600",
    ),
];

const KEYS: &[OptionSpec] = &[
    text("key", "key", "").unset("none").secret().about(
        "Static keys: a secret of 32 bytes or more in urlsafe base64, as `countersign key \
             generate` prints it, or in `key_encoding`; or a public key or certificate in PEM, its \
             DER in base64, a JWK or JWK Set, or a JSON object that maps each `kid` to PEM. PEM \
             may be in one line, with spaces or `\\n` between its lines.",
        "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ",
    ),
    text("key_file", "path", "").unset("none").about(
        "File with the keys, in any form of `key` or in DER. It is read again within a second of a \
             change, except in the section that signs.",
        "/etc/countersign/issuer.pem",
    ),
    choice("key_encoding", &["base64url", "base64", "hex", "text"], "base64url").about(
        "Encoding of a shared secret in `key` or `key_file`. `text` stands for the UTF-8 bytes as \
         they are written, without one line end after them.",
        "text",
    ),
    text("next_key", "key", "").unset("none").secret().about(
        "Key that signs after the next `countersign keys rotate`, in the section that signs. It \
         verifies at once. The section has at most four keys, each of which is tried.",
        "rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs",
    ),
    text("next_key_file", "path", "")
        .unset("none")
        .about("File with `next_key`.", "/etc/countersign/next.key"),
    list("previous_keys", "key", "").unset("none").secret().about(
        "Keys that only verify, in the section that signs: those that signed before, until their \
         last token has expired.",
        "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ",
    ),
    list("previous_key_files", "path", "")
        .unset("none")
        .about("Files with further `previous_keys`, one each.", "/etc/countersign/old.key"),
    text("jwks_uri", "URI", "").unset("none").about(
        "Location of the issuer's JWK Set: `https://`, `http://` or `file://`.",
        "https://idp.example/keys",
    ),
    text("discovery_uri", "URI", "")
        .unset(
            "`<issuer>/.well-known/openid-configuration` if an `https://` issuer is written and \
             neither another source of keys nor `algorithm` is",
        )
        .about(
            "Location of the metadata of an OpenID provider, which names its JWK Set. The \
             `issuer` in it must be the one configured.",
        "https://idp.example/.well-known/openid-configuration",
    ),
    flag("validate_cert", "true")
        .about("Whether the certificate of the key provider is verified.", "true"),
    text("ca_file", "path", "").unset("none").about(
        "Trusted root certificates of the key provider in PEM, in addition to those of the \
             system.",
        "/etc/countersign/idp-ca.pem",
    ),
    text("jwks_token_file", "path", "").unset("none").about(
        "File with a bearer token for the key set and the metadata, read at every fetch. It is \
             sent over `https://` or on the same machine, to the origin of the configured URI only, and \
             on no redirect.",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
    ),
    decimal("jwks_request_timeout", 0.001, 3600.0, "30")
        .about("Timeout of a key fetch, in seconds.", "5"),
    number("jwks_refresh_interval", 2, 86_400, "300").about(
        "Longest time between key fetches in seconds, which `Cache-Control: max-age` of a response \
         can shorten. At least twice `jwks_cool_down`.",
        "600",
    ),
    number("jwks_cool_down", 1, 3600, "30").about(
        "Time in seconds in which tokens with an unknown key id may cause one more fetch, after three \
         in a row.",
        "10",
    ),
    number("jwks_stale", 0, 31_536_000, "86400").about(
        "Time in seconds that keys stay in use while the provider cannot be reached, over a restart \
         too. Later, tokens of the issuer get status 503.",
        "3600",
    ),
];

const RULES: &[OptionSpec] = &[
    list("jwt_username_claim", "claim", "sub").about(
        "Claim with the user's name, or several, of which the first that a token has is taken. A \
             claim is written as its name or its path, `user.name` or `/user/name`. A section that \
             signs always uses `sub`.",
        "preferred_username, azp",
    ),
    flag("username_required", "").unset("true if `jwt_username_claim` is set").about(
        "Whether a token is refused if its username claim is absent, empty or of another type. \
             `/api/v2` takes a token without the claim, as one of no user.",
        "false",
    ),
    flag("subject_as_text", "false").about(
        "Whether a whole number in `sub` or `jti` is accepted, as its decimal digits.",
        "true",
    ),
    flag("username_as_text", "false").about(
        "Whether a whole number in the username claim is a username, in decimal digits.",
        "true",
    ),
    text("username_prefix", "text", "").unset("none").about(
        "Text put before every username of the issuer, so that its `admin` is not that of another \
         section. Not for the section that signs.",
        "idp:",
    ),
    flag("require_exp", "")
        .unset("true if the keys are public")
        .about("Whether a token without `exp` is refused.", "false"),
    choice("kid", &["optional", "required"], "optional").about(
        "Whether a token must name its key by `kid`, where the keys are public. Without one, the \
         key is found by `x5t` or `x5t#S256`, or each of at most four keys of the algorithm is \
         tried.",
        "required",
    ),
    choice("cnf", &["verify", "ignore"], "verify").about(
        "Whether a token that is bound to a key by `cnf` is refused unless the request proves \
         possession of it by a client certificate, or is accepted as a bearer token.",
        "ignore",
    ),
    number("leeway", 0, 3600, "").unset("30 if the keys are public, otherwise 0").about(
        "Tolerated clock difference in seconds for `exp`, `nbf` and `iat`. An `iat` up to 30 \
             seconds ahead is always tolerated, except of tokens signed here and on the `inmanta` \
             surface.",
        "60",
    ),
    list("typ", "token type", "")
        .unset("any type")
        .about("Accepted types in the header `typ`, without `application/`.", "at+jwt"),
    number("max_lifetime", 1, u32::MAX as u64, "")
        .unset("no limit")
        .about("Maximum time in seconds from `iat` to `exp`.", "86400"),
    flag("enforce_client_types", "")
        .unset("the value in `[server]`")
        .about("Whether a token's client types must be listed in `client_types`.", "false"),
    flag("legacy_require_client_type", "")
        .unset("the value in `[server]`")
        .about("Whether a token without client types is refused.", "true"),
    list("scopes", "scope", "").unset("none").about(
        "Scopes that a token must grant, all of them: in `scope`, words separated by spaces, or in \
         `scp`, a list or words. A token without one gets status 403.",
        "orders:read, orders:write",
    ),
    text("claims", "lines", "").unset("none").about(
        "Further requirements, one per line: `<value> in <claim>` for a list, and `<claim> is \
             <value>` for a string. A claim is written as its name or its path. A token that does \
             not meet them gets status 403.",
        "admin in realm_access.roles",
    ),
];
