//! Options of authorization: endpoints, and rules for requests by route.

use super::{SectionSpec, choice, flag, list, text};

/// Prefix of the sections of rules.
pub const ROUTE_PREFIX: &str = "route_";
/// The section with the options of all rules.
pub const ROUTES_SECTION: &str = "routes";

pub(super) const ROUTES: SectionSpec = SectionSpec::new(
    ROUTES_SECTION,
    "Options of all `[route_<name>]` sections.",
    &[&[
        choice("default", &["deny", "allow"], "deny").about(
            "Whether requests that match no route are denied, or allowed with any valid token.",
            "allow",
        ),
        text("roles_claim", "path of a claim", "roles").about(
            "The claim with the roles of a token, by name or path as in `jwt_username_claim`: a \
             list, an object with a member for each role, or one role.",
            "realm_access.roles",
        ),
        flag("allow_encoded_slash", "false").about(
            "Whether a path may contain `%2F`. It then belongs to a segment that only `*` and \
             `{name}` match. Otherwise such a path is ambiguous, and denied.",
            "true",
        ),
    ]],
);

pub(super) const ROUTE: SectionSpec = SectionSpec {
    name: ROUTE_PREFIX,
    variable: "<name>",
    about: "A rule for requests. The first rule that matches a request, in the order in which the \
            sections are written, decides: the request is allowed if all conditions hold. A rule \
            without conditions allows every valid token.",
    groups: &[&[
        list("match", "methods and path", "").required().about(
            "Requests that the rule is about. Methods are `GET` (also HEAD), `GET|POST` or `*`. In \
             a path, `*` and `{name}` stand for one segment, and `/*` at the end for everything \
             below.",
            "GET /api/orders/*, POST /api/orders",
        ),
        list("scopes", "scope", "")
            .unset("any")
            .about("Scopes that a token must grant, all of them.", "orders:read, orders:write"),
        list("roles", "role", "")
            .unset("any")
            .about("Roles of which a token must have one. See `roles_claim`.", "admin, operator"),
        list("claims", "condition", "").unset("any").about(
            "Conditions on claims, all of which must hold: `<claim> is <value>`, or `<claim> has \
             <value>` for a list or an object. Alternatives are separated by `or`. Values with \
             commas or spaces are in quotation marks.",
            "groups has admins or operators, email_verified is true",
        ),
        list("issuers", "name of an auth_jwt section or issuer", "")
            .unset("any")
            .about("Issuers whose tokens are allowed.", "keycloak, https://idp.example/"),
        list("client_types", "agent, compiler or api", "")
            .unset("any")
            .about("Client types of which a token must have one.", "api"),
        list("tenants", "tenant", "").unset("any").about(
            "Tenants of which a request acts for one, on listeners with `surface = orchestrate`: \
             `acme`, `acme:*` for every level below it, `_` for the public tenant, `*` for access \
             to every tenant. Names are encoded as in the identity headers.",
            "acme, acme:*",
        ),
        flag("deny", "false").about("Whether every request is denied, with any token.", "true"),
        flag("public", "false").about(
            "Whether the request is allowed without looking at its token. All identity headers are \
             then empty, except that the tenant is `_` with `surface = orchestrate`.",
            "true",
        ),
        flag("anonymous", "false").about(
            "Whether a request without a token is allowed, with the identity headers of `public`. \
             A token must be valid, and meet the conditions.",
            "true",
        ),
    ]],
};

pub(super) const ENDPOINTS: SectionSpec = SectionSpec::new(
    "endpoints",
    "The endpoints of the APIs behind the server, for `authorization = legacy` and \
     `policy-engine`.",
    &[&[text("file", "path", "").unset("the API of this server only").about(
        "Endpoints in the form of Inmanta's endpoint data, as `countersign endpoints import` \
         makes it from an OpenAPI document.",
        "/etc/countersign/endpoints.json",
    )]],
);
