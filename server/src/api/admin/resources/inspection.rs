//! The schemas of the token inspector.

use super::{
    super::schema::{
        ObjectSchema,
        ValueSchema::{self, Flag, Objects, Text, Texts, Time},
        member,
    },
    TEXT,
};

/// A text that is longer than any token, and leaves room for the rest of a body.
pub(in crate::api::admin) const TOKEN_TEXT: ValueSchema = Text(32 << 10);

pub(in crate::api::admin) const TOKEN_TO_INSPECT: ObjectSchema = ObjectSchema {
    name: "TokenToInspect",
    members: &[member("token", TOKEN_TEXT, "The token, with or without `Bearer`.")],
};

pub(in crate::api::admin) const INSPECTED_TOKEN: ObjectSchema = ObjectSchema {
    name: "InspectedToken",
    members: &[
        member("is_accepted", Flag, "Whether the rules of its issuer accept the token."),
        member("code", TEXT, "The reject code of the first check that fails.").nullable(),
        member("reason", TEXT, "The reason in words.").nullable(),
        member(
            "is_authentic",
            Flag,
            "Whether a key of the issuer made the signature. Otherwise the claims are unproven.",
        ),
        member("damages", Texts, "Where the text is damaged, of a token that cannot be read."),
        member("header", Objects(&TOKEN_MEMBER), "The members of the header, if it is readable."),
        member("payload", Objects(&TOKEN_MEMBER), "The claims, if the payload is readable."),
        member("checks", Objects(&TOKEN_CHECK), "The checks, in the order of the engine."),
    ],
};

const TOKEN_MEMBER: ObjectSchema = ObjectSchema {
    name: "TokenMember",
    members: &[
        member("name", TOKEN_TEXT, "Its name."),
        member("value", TOKEN_TEXT, "Its value in JSON."),
        member("meaning", TEXT, "Its meaning, such as `expires`.").nullable(),
        member("time", Time, "The time that the value stands for.").nullable(),
    ],
};

const TOKEN_CHECK: ObjectSchema = ObjectSchema {
    name: "TokenCheck",
    members: &[
        member("name", TEXT, "The name of the check."),
        member("is_passed", Flag, "Whether the token passes it."),
        member("code", TEXT, "The reject code, if it fails.").nullable(),
        member("reason", TEXT, "The reason in words, if it fails.").nullable(),
        member("expected", TOKEN_TEXT, "What the configuration expects."),
        member("found", TOKEN_TEXT, "What the token has."),
        member("decided_by", Texts, "The lines of the configuration that decide, or the default."),
    ],
};
