//! The schemas of the overview.

use super::{
    super::schema::{
        ObjectSchema,
        ValueSchema::{Choice, Flag, Object, Objects, Time},
        member,
    },
    NUMBER, TEXT,
};
use crate::keys::issuer_status::IssuerState;

pub(in crate::api::admin) const OVERVIEW: ObjectSchema = ObjectSchema {
    name: "Overview",
    members: &[
        member("recent", Object(&FIGURES), "The figures of up to five minutes; null at the start.")
            .nullable(),
        member("current", Object(&FIGURES), "The figures of the last seconds; null at the start.")
            .nullable(),
        member("issuers", Objects(&ISSUER_STATUS), "The issuers, in the order of their sections."),
    ],
};

const FIGURES: ObjectSchema = ObjectSchema {
    name: "Figures",
    members: &[
        member("seconds", NUMBER, "Length of the interval."),
        member("requests", NUMBER, "Requests of `/auth`, `/v1/verify` and `Check`."),
        member("refused", NUMBER, "Refused requests."),
        member("refusals", Objects(&REFUSAL), "Refused requests by reason, the most first."),
        member("tokens", NUMBER, "Tokens that were verified, or looked up in the cache."),
        member("cache_hits", NUMBER, "Those of them that were in the cache: the hit ratio."),
        member("p50_micros", NUMBER, "Microseconds within which half of the answers were given.")
            .nullable(),
        member("p99_micros", NUMBER, "Microseconds within which 99 % of them were given.")
            .nullable(),
        member("protocols", Objects(&PROTOCOL_FIGURES), "The answers by version of HTTP."),
        member("delayed_checks", NUMBER, "Signature checks that waited for their budget."),
        member("refused_checks", Objects(&REFUSED_CHECKS), "Checks that were not made."),
    ],
};

const REFUSAL: ObjectSchema = ObjectSchema {
    name: "Refusal",
    members: &[
        member("code", TEXT, "The code of the reason."),
        member("reason", TEXT, "The reason in words."),
        member("requests", NUMBER, "Number of requests."),
    ],
};

pub(in crate::api::admin) const REFUSED_REQUEST: ObjectSchema = ObjectSchema {
    name: "RefusedRequest",
    members: &[
        member("at", Time, "Time of the last of these equal requests."),
        member("count", NUMBER, "Their number since the first of them was listed."),
        member("code", TEXT, "The code of the reason."),
        member("reason", TEXT, "The reason in words."),
        member("client", TEXT, "The address of the client; `unix` for a Unix socket."),
        member("method", TEXT, "The method; null if no trusted proxy describes the requests.")
            .nullable(),
        member(
            "path",
            TEXT,
            "The path, cut off after 160 bytes, without the query and what may be a token.",
        )
        .nullable(),
        member(
            "section",
            TEXT,
            "The section of the issuer that the token of the first one names, if there is one.",
        )
        .nullable(),
    ],
};

const PROTOCOL_FIGURES: ObjectSchema = ObjectSchema {
    name: "ProtocolFigures",
    members: &[
        member("version", TEXT, "`1.1`, `2`, `3`, or `spop` for HAProxy."),
        member("requests", NUMBER, "Number of answers."),
        member("p50_micros", NUMBER, "Microseconds within which half of them were given.")
            .nullable(),
        member("p99_micros", NUMBER, "Microseconds within which 99 % of them were given.")
            .nullable(),
    ],
};

const REFUSED_CHECKS: ObjectSchema = ObjectSchema {
    name: "RefusedChecks",
    members: &[
        member("budget", TEXT, "The budget that was exhausted: `core`, `issuer` or `source`."),
        member("checks", NUMBER, "Number of signature checks."),
    ],
};

const ISSUER_STATUS: ObjectSchema = ObjectSchema {
    name: "IssuerStatus",
    members: &[
        member("section", TEXT, "Its section in the configuration."),
        member("state", Choice(&IssuerState::NAMES), "The state of its keys."),
        member("is_good", Flag, "Whether nothing needs a look."),
        member("keys", NUMBER, "Number of keys in use."),
        member("skipped_keys", NUMBER, "Number of published keys that cannot be used."),
        member("age", NUMBER, "Seconds since the last successful fetch.").nullable(),
        member("next_fetch", NUMBER, "Seconds until the next fetch.").nullable(),
        member("is_fetching", Flag, "Whether a fetch is under way."),
    ],
};
