//! The schemas of machine identities and their login methods.

use super::{
    super::schema::{
        MemberSchema, ObjectSchema,
        ValueSchema::{Choice, Flag, Name, Text, TextMap, Texts, Time, Uuid, Whole},
        member,
    },
    MAX_NUMBER, NUMBER, TEXT,
};
use crate::api::infisical::{MAX_CA, MAX_TTL, MAX_USES};

pub(in crate::api::admin) const IDENTITY: ObjectSchema = ObjectSchema {
    name: "Identity",
    members: &[
        member("id", Uuid, "Its id."),
        NAME,
        ROLE,
        PROTECTION,
        METADATA,
        member("methods", Texts, "The kinds of its login methods."),
        member("created_at", Time, "Time of its creation."),
        member("updated_at", Time, "Time of its last change."),
    ],
};

const NAME: MemberSchema = member("name", Name, "Its name, which need not be unique.");
const ROLE: MemberSchema = member("role", Name, "Its role in the organization.");
const PROTECTION: MemberSchema =
    member("has_delete_protection", Flag, "Whether it cannot be deleted.");
const METADATA: MemberSchema =
    member("metadata", TextMap, "Keys and values that an operator gave it.");

pub(in crate::api::admin) const NEW_IDENTITY: ObjectSchema = ObjectSchema {
    name: "NewIdentity",
    members: &[
        NAME,
        member("role", Name, "Its role in the organization; `no-access` without it.").optional(),
        PROTECTION.optional(),
        METADATA.optional(),
    ],
};

pub(in crate::api::admin) const IDENTITY_CHANGE: ObjectSchema = ObjectSchema {
    name: "IdentityChange",
    members: &[NAME.optional(), ROLE.optional(), PROTECTION.optional(), METADATA.optional()],
};

pub(in crate::api::admin) const METHOD: ObjectSchema = ObjectSchema {
    name: "LoginMethod",
    members: &[
        member("id", Uuid, "Its id."),
        member("kind", TEXT, "`tls-cert-auth` or `universal-auth`."),
        member(
            "token_ttl",
            NUMBER,
            "Lifetime of an access token in seconds; 0 for none of its own.",
        ),
        member(
            "token_max_ttl",
            NUMBER,
            "Seconds from a login to the last renewal; 0 for no limit.",
        ),
        member("token_uses_limit", NUMBER, "Number of uses of an access token; 0 for no limit."),
        TRUSTED_IPS,
        member("client_id", TEXT, "The client id of `universal-auth`.").optional(),
        COMMON_NAMES,
        ALT_NAMES,
        CHAIN,
        CA.optional(),
        member("created_at", Time, "Time of its creation."),
        member("updated_at", Time, "Time of its last change."),
    ],
};

const TRUSTED_IPS: MemberSchema =
    member("token_trusted_ips", Texts, "Networks from which an access token may be used.");
const CA: MemberSchema =
    member("ca_certificate", Text(MAX_CA), "The authority of `tls-cert-auth`, in PEM.");
const COMMON_NAMES: MemberSchema = member(
    "allowed_common_names",
    Texts,
    "Accepted common names of `tls-cert-auth`; null for any.",
)
.optional()
.nullable();
const ALT_NAMES: MemberSchema = member(
    "allowed_alt_names",
    Texts,
    "Accepted alternative names of `tls-cert-auth`; null for any.",
)
.optional()
.nullable();
const CHAIN: MemberSchema = member(
    "verifies_chain",
    Flag,
    "Whether clients of `tls-cert-auth` may present intermediate authorities.",
)
.optional();
const TTL: MemberSchema =
    member("token_ttl", Whole(0, MAX_TTL), "Lifetime of an access token in seconds.").optional();
const USES: MemberSchema =
    member("token_uses_limit", Whole(0, MAX_USES), "Number of its uses; 0 for no limit.")
        .optional();

pub(in crate::api::admin) const NEW_METHOD: ObjectSchema = ObjectSchema {
    name: "NewLoginMethod",
    members: &[
        member("kind", Choice(&["tls-cert-auth"]), "The kind."),
        CA,
        COMMON_NAMES,
        ALT_NAMES,
        CHAIN,
        TTL,
        member("token_max_ttl", Whole(1, MAX_TTL), "Seconds from a login to the last renewal.")
            .optional(),
        USES,
        TRUSTED_IPS.optional(),
    ],
};

pub(in crate::api::admin) const METHOD_CHANGE: ObjectSchema = ObjectSchema {
    name: "LoginMethodChange",
    members: &[
        CA.optional(),
        COMMON_NAMES,
        ALT_NAMES,
        CHAIN,
        TTL,
        member(
            "token_max_ttl",
            Whole(0, MAX_TTL),
            "Seconds from a login to the last renewal; 0 for no limit.",
        )
        .optional(),
        USES,
        TRUSTED_IPS.optional(),
    ],
};

// Numbers of uses are numbers that JSON represents in every client.
const _: () = assert!(MAX_USES == MAX_NUMBER);
