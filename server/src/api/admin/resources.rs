//! The schemas of the resources.

pub(super) mod decision;
pub(super) mod identity;
pub(super) mod inspection;
pub(super) mod overview;

use super::schema::{
    MAX_TEXT, ObjectSchema,
    ValueSchema::{
        self, Choices, Flag, Name, Object, Objects, Password, Text, TextLists, TextMap, Texts,
        Time, Username, Uuid, Whole,
    },
    member,
};

/// Largest number that JSON represents in every client.
const MAX_NUMBER: u64 = (1 << 53) - 1;
/// Longest lifetime of a token in seconds: a hundred years.
const MAX_LIFETIME: u64 = 3_155_760_000;
/// Names of the client types.
const CLIENT_TYPES: &[&str] = &["agent", "compiler", "api"];
/// Number of any size that JSON represents in every client.
const NUMBER: ValueSchema = Whole(0, MAX_NUMBER);
/// Text without a limit of its own.
const TEXT: ValueSchema = Text(MAX_TEXT);

pub(super) const ISSUER: ObjectSchema = ObjectSchema {
    name: "Issuer",
    members: &[
        member("section", TEXT, "Its section in the configuration."),
        member("issuer", TEXT, "Its name, `iss`."),
        member("keys", Objects(&KEY), "The keys in use."),
        member("skipped", Objects(&SKIPPED_KEY), "Published keys that cannot be used."),
        member("source", TEXT, "The option and location of fetched keys; null for static keys.")
            .nullable(),
        member("last_success", Time, "Time of the last successful fetch.").nullable(),
        member("last_failure", Object(&FETCH_FAILURE), "The last failed fetch.").nullable(),
        member("is_failing", Flag, "Whether the last fetch failed."),
    ],
};

const KEY: ObjectSchema = ObjectSchema {
    name: "Key",
    members: &[
        member("kid", TEXT, "Its id; null for a key without one.").nullable(),
        member("alg", TEXT, "Its algorithm."),
    ],
};

const SKIPPED_KEY: ObjectSchema = ObjectSchema {
    name: "SkippedKey",
    members: &[
        member("kid", TEXT, "Its id; null for a key without one.").nullable(),
        member("reason", TEXT, "Why it cannot be used."),
    ],
};

const FETCH_FAILURE: ObjectSchema = ObjectSchema {
    name: "FetchFailure",
    members: &[
        member("at", Time, "Time of the failure."),
        member("reason", TEXT, "A code of the reason."),
        member("text", TEXT, "The reason in words."),
    ],
};

pub(super) const FETCH_RESULT: ObjectSchema = ObjectSchema {
    name: "FetchResult",
    members: &[
        member("section", TEXT, "The section of the issuer."),
        member("result", TEXT, "`confirmed`, `failed`, or `running` after 10 seconds."),
        member("reason", TEXT, "A code of the reason of a failure.").optional(),
        member("text", TEXT, "The reason in words.").optional(),
    ],
};

pub(super) const TOKEN: ObjectSchema = ObjectSchema {
    name: "Token",
    members: &[
        member("jti", Uuid, "Its id."),
        member("environment", Uuid, "The environment that it is scoped to."),
        member("client_types", Texts, "Client types of its bearer."),
        member("created_by", TEXT, "The user that created it.").nullable(),
        member("issued_at", Time, "Time of its issue."),
        member("expires_at", Time, "Time of its expiry; null if it never expires.").nullable(),
        member("revoked_at", Time, "Time of its revocation.").nullable(),
        member("last_used", Time, "Approximate time of its last use.").nullable(),
    ],
};

pub(super) const NEW_TOKEN: ObjectSchema = ObjectSchema {
    name: "NewToken",
    members: &[
        member("client_types", Choices(CLIENT_TYPES), "Client types of its bearer."),
        member(
            "expire",
            Whole(1, MAX_LIFETIME),
            "Lifetime in seconds; that of the section without it.",
        )
        .optional()
        .nullable(),
        member(
            "idempotent",
            Flag,
            "Whether the same request gives the same token, without an expiry.",
        )
        .optional(),
    ],
};

pub(super) const TOKEN_CREATED: ObjectSchema = ObjectSchema {
    name: "CreatedToken",
    members: &[member("jti", Uuid, "Its id."), member("token", TEXT, "The token itself, a JWT.")],
};

pub(super) const REVOCATION_ENTRY: ObjectSchema = ObjectSchema {
    name: "NewRevocation",
    members: &[
        member("issuer", TEXT, "The issuer of the tokens.").optional(),
        member("jti", TEXT, "The id of one token.").optional(),
        member("subject", TEXT, "The subject of tokens.").optional(),
        member("kid", TEXT, "The id of the key that signed the tokens.").optional(),
        member("environment", Uuid, "The environment of the tokens.").optional(),
        member(
            "issued_before",
            NUMBER,
            "Seconds since 1970: tokens issued from then on are valid.",
        )
        .optional(),
        member(
            "signing_input_sha256",
            Text(64),
            "SHA-256 of the signing input of one token, in hexadecimal.",
        )
        .optional(),
        member("until", NUMBER, "Seconds since 1970: the end of the revocation.").optional(),
    ],
};

pub(super) const REVOCATION: ObjectSchema = ObjectSchema {
    name: "Revocation",
    members: &[
        member("number", NUMBER, "Its number, in the order of revocations."),
        member("kind", TEXT, "What selects the tokens, such as `token id` or `subject`."),
        member("record", Object(&REVOCATION_ENTRY), "The revocation."),
    ],
};

pub(super) const REVOCATION_DONE: ObjectSchema = ObjectSchema {
    name: "AddedRevocation",
    members: &[
        member("kind", TEXT, "What selects the tokens, such as `token id` or `subject`."),
        member("record", Object(&REVOCATION_ENTRY), "The revocation as it is stored."),
        member("tokens_valid_from", NUMBER, "The first second whose tokens are not revoked.")
            .nullable(),
    ],
};

pub(super) const USER: ObjectSchema = ObjectSchema {
    name: "User",
    members: &[
        member("username", TEXT, "The name."),
        member("auth_method", TEXT, "`database` for a local password, or `oidc`."),
        member("is_admin", Flag, "Whether the user is an administrator."),
        member("roles", TextLists, "The names of the roles, by environment."),
    ],
};

pub(super) const NEW_USER: ObjectSchema = ObjectSchema {
    name: "NewUser",
    members: &[
        member("username", Username, "The name, which no other user has."),
        member("password", Password, "The password, of at most 128 characters."),
    ],
};

pub(super) const USER_CHANGE: ObjectSchema = ObjectSchema {
    name: "UserChange",
    members: &[member("is_admin", Flag, "Whether the user is an administrator.")],
};

pub(super) const NEW_PASSWORD: ObjectSchema = ObjectSchema {
    name: "NewPassword",
    members: &[
        member("password", Password, "The new password, of at most 128 characters."),
        member("current_password", Password, "The current password, to change one's own.")
            .optional(),
    ],
};

pub(super) const ROLE: ObjectSchema =
    ObjectSchema { name: "Role", members: &[member("name", TEXT, "The name.")] };

pub(super) const NEW_ROLE: ObjectSchema = ObjectSchema {
    name: "NewRole",
    members: &[member("name", Name, "The name, which no other role has.")],
};

pub(super) const ENVIRONMENT: ObjectSchema = ObjectSchema {
    name: "Environment",
    members: &[
        member("id", Uuid, "Its id, as paths have it."),
        member("name", TEXT, "Its name, which no other one of its project has."),
        member("project", Uuid, "The id of its project."),
    ],
};

pub(super) const ASSIGNMENT: ObjectSchema = ObjectSchema {
    name: "Assignment",
    members: &[member("username", TEXT, "The user."), member("role", TEXT, "The role.")],
};

pub(super) const API_KEY: ObjectSchema = ObjectSchema {
    name: "ApiKey",
    members: &[
        member("name", TEXT, "Its name in the configuration."),
        member(
            "id",
            TEXT,
            "An id that is the same on every server with this key; null without one.",
        )
        .nullable(),
        member("sources", Texts, "Networks of the clients that may use it; empty for any."),
    ],
};

pub(super) const TENANT: ObjectSchema = ObjectSchema {
    name: "Tenant",
    members: &[
        member("name", TEXT, "Its name in the claim of tokens; `_` for checks without one."),
        member(
            "requests",
            NUMBER,
            "Number of its checked requests since the start of this server.",
        ),
        member("refused", NUMBER, "Those of them with a status of 400 or more."),
    ],
};

pub(super) const AUDIT_EVENT: ObjectSchema = ObjectSchema {
    name: "AuditEvent",
    members: &[
        member("id", NUMBER, "Its number."),
        member("time", Time, "Its time."),
        member("operation", TEXT, "What was done, or refused, such as `user.add`."),
        member("outcome", TEXT, "`begun`, `done`, `refused` or `failed`."),
        member("reason", TEXT, "Why it was refused or failed.").nullable(),
        member("detail", TEXT, "Further facts.").nullable(),
        member("by", TextMap, "The caller: `user`, `issuer`, `jti`, `client_types`."),
        member("from", TextMap, "Its origin: `client`, `peer`."),
        member(
            "target",
            TextMap,
            "What it was applied to: `user`, `identity`, `role`, `environment` and so on.",
        ),
        member("count", NUMBER, "Number of equal events."),
    ],
};

pub(super) const LOADED_OPTION: ObjectSchema = ObjectSchema {
    name: "Option",
    members: &[
        member("section", TEXT, "The section."),
        member("option", TEXT, "The name."),
        member("value", TEXT, "The value; null for one that is, or may be, a secret.").nullable(),
        member("is_hidden", Flag, "Whether the value is not shown."),
        member("place", TEXT, "The file and line, or the environment variable."),
    ],
};

pub(super) const NODE: ObjectSchema = ObjectSchema {
    name: "Server",
    members: &[
        member("id", Uuid, "The id of this run of the server."),
        member("name", TEXT, "Its host and first address."),
        member("version", TEXT, "The version of the program."),
        member("started_at", Time, "Time of its start."),
        member("seen_at", Time, "Time of its last heartbeat."),
        member("sections", TextMap, "A digest of each section of an issuer."),
        member("api_keys", TextMap, "The ids of its API keys, by name."),
        member("signing_key", TEXT, "The id of its signing key.").nullable(),
    ],
};
