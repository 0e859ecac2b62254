//! The schemas of authorization: routes, the access policy, and tests of requests.

use super::{
    super::schema::{
        ObjectSchema,
        ValueSchema::{AnyObject, Choice, Flag, Name, Object, Objects, Text, Texts},
        member,
    },
    NUMBER, TEXT,
    inspection::TOKEN_TEXT,
};

/// Longest target of a request that is tested, in characters.
const MAX_TARGET: usize = 8192;
/// Longest access policy, in characters. A file is not longer.
const MAX_POLICY: usize = 16 << 20;

pub(in crate::api::admin) const REQUEST_TO_TEST: ObjectSchema = ObjectSchema {
    name: "RequestToTest",
    members: &[
        member("method", TEXT, "The method, such as `GET`."),
        member("target", Text(MAX_TARGET), "The path and the query."),
        member("listener", Name, "The listener that checks it; null for the API of this server.")
            .optional()
            .nullable(),
        member("environment", TEXT, "The environment in its header.").optional().nullable(),
        member("tenant", TEXT, "The value of `X-Tenant-ID`.").optional().nullable(),
        member("token", TOKEN_TEXT, "Its token. It is neither stored nor logged.")
            .optional()
            .nullable(),
        member("claims", AnyObject, "In place of a token: claims that this server signed.")
            .optional()
            .nullable(),
    ],
};

pub(in crate::api::admin) const TESTED_REQUEST: ObjectSchema = ObjectSchema {
    name: "TestedRequest",
    members: &[
        member(
            "decision",
            Choice(&["allowed", "denied", "undecided"]),
            "What would be decided. `undecided` depends on something that is not given.",
        ),
        member("reason", TOKEN_TEXT, "Why, in words."),
        member("facts", Objects(&FACT), "The facts that the decision depends on."),
        member("policy_input", AnyObject, "The input of the access policy, if that decides.")
            .nullable(),
        member("policy", Object(&POLICY_EXPLANATION), "Its rules, if it decides.").nullable(),
        member("policy_failure", TEXT, "Why its rules cannot be explained.").nullable(),
    ],
};

const FACT: ObjectSchema = ObjectSchema {
    name: "DecidingFact",
    members: &[
        member("label", TEXT, "What it is about, such as `route`, `met` and `not met`."),
        member("text", TOKEN_TEXT, "The fact."),
    ],
};

const POLICY_EXPLANATION: ObjectSchema = ObjectSchema {
    name: "PolicyExplanation",
    members: &[
        member("is_known_endpoint", Flag, "Whether `data.endpoints` has the endpoint."),
        member(
            "rules",
            Objects(&EXPLAINED_RULE),
            "The rules for `allow` that hold or, if none does, all of them.",
        ),
        member("is_cut_off", Flag, "Whether further rules were not examined."),
        member("prints", Texts, "What the policy prints."),
    ],
};

const EXPLAINED_RULE: ObjectSchema = ObjectSchema {
    name: "ExplainedRule",
    members: &[
        member("line", NUMBER, "Its line in the policy."),
        member("comment", TOKEN_TEXT, "The comment before it."),
        member("holds", Flag, "Whether it holds."),
        member("failed_line", NUMBER, "The line of the first expression that does not hold.")
            .nullable(),
        member("failed_expression", TOKEN_TEXT, "This expression.").nullable(),
    ],
};

pub(in crate::api::admin) const AUTHORIZATION: ObjectSchema = ObjectSchema {
    name: "Authorization",
    members: &[
        member("api", TEXT, "By what calls of the API are authorized, such as `policy-engine`."),
        member("listeners", Objects(&LISTENER), "The listeners that check requests."),
        member("routes", Objects(&ROUTE), "The rules by route. The first that matches decides."),
        member("allows_others", Flag, "Whether any valid token may make all other requests."),
        member("policy", Object(&POLICY), "The access policy, if one is loaded.").nullable(),
    ],
};

const LISTENER: ObjectSchema = ObjectSchema {
    name: "Listener",
    members: &[
        member("name", TEXT, "Its name."),
        member("surface", TEXT, "The system that it imitates."),
        member("authorization", TEXT, "By what it authorizes requests, such as `routes`."),
        member("open_paths", Texts, "Paths that GET and HEAD may read without a token."),
    ],
};

const ROUTE: ObjectSchema = ObjectSchema {
    name: "Route",
    members: &[
        member("section", TEXT, "Its section in the configuration."),
        member("requests", TEXT, "The methods and paths that it matches."),
        member("allows", TEXT, "The requests that it allows, in words."),
    ],
};

const POLICY: ObjectSchema = ObjectSchema {
    name: "Policy",
    members: &[
        member("path", TEXT, "Its file."),
        member("is_deterministic", Flag, "Whether its decisions can be cached."),
        member("roles", Texts, "The roles that it defines."),
        member("text", Text(MAX_POLICY), "Its text."),
    ],
};

pub(in crate::api::admin) const ENDPOINT: ObjectSchema = ObjectSchema {
    name: "Endpoint",
    members: &[
        member("id", TEXT, "Its id: its method and path."),
        member("client_types", Texts, "The client types of tokens that may call it."),
        member("label", TEXT, "Its label for policies.").nullable(),
        member("environment", TEXT, "Its parameter with an environment.").nullable(),
    ],
};
