//! `envoy.service.auth.v3.CheckResponse`: the response to an authorization request.

use std::borrow::Borrow;

use countersign_engine::Claims;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;

use super::{
    GrpcStatus,
    protobuf::{put_bytes, put_double, put_message, put_number},
};
use crate::base::exact_json::{RawMembers, exact, exact_double};

/// `HeaderValueOption.append_action`: replaces an existing header.
const OVERWRITE_IF_EXISTS_OR_ADD: u64 = 2;

/// Allows the request, with these headers added and those removed.
pub fn put_allowed<'l>(
    out: &mut Vec<u8>,
    lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    removed: impl Iterator<Item = &'l [u8]>,
) {
    put_message(out, 1, |_| {});
    put_message(out, 3, |out| {
        lines.for_each(|(name, value)| put_header(out, name, value));
        removed.for_each(|name| put_bytes(out, 5, name));
    });
}

/// Denies the request, with this status, these headers and this body for the client.
pub fn put_denied(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    let code = if status == StatusCode::UNAUTHORIZED {
        GrpcStatus::Unauthenticated
    } else {
        GrpcStatus::PermissionDenied
    };
    put_message(out, 1, |out| put_number(out, 1, code as u64));
    put_message(out, 2, |out| {
        put_message(out, 1, |out| put_number(out, 1, status.as_u16().into()));
        headers.iter().for_each(|(name, value)| put_header(out, name, value.as_bytes()));
        if !body.is_empty() {
            put_bytes(out, 3, body);
        }
    });
}

fn put_header(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    put_message(out, 2, |out| {
        put_message(out, 1, |out| {
            put_bytes(out, 1, name.as_str().as_bytes());
            put_bytes(out, 2, value);
        });
        put_number(out, 3, OVERWRITE_IF_EXISTS_OR_ADD);
    });
}

/// Adds dynamic metadata for Envoy's later filters: those of the named claims that the token has.
pub fn put_metadata(out: &mut Vec<u8>, names: &[String], claims: Claims<'_>) {
    let json = claims.json();
    let claims: RawMembers<'_> = serde_json::from_slice(&json).unwrap_or_default();
    let named = names.iter().filter_map(|name| Some((name, exact(claims.get(name)?))));
    put_message(out, 4, |out| put_struct(out, named));
}

/// `google.protobuf.Struct`.
fn put_struct<'v>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (&'v String, impl Borrow<Value>)>,
) {
    for (name, value) in members {
        put_message(out, 1, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_message(out, 2, |out| put_value(out, value.borrow()));
        });
    }
}

/// `google.protobuf.Value`, whose numbers are doubles. An integer that a double cannot represent is
/// written as a string of digits.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => put_number(out, 1, 0),
        Value::Number(number) => match exact_double(number) {
            Some(double) => put_double(out, 2, double),
            None => put_bytes(out, 3, number.to_string().as_bytes()),
        },
        Value::String(text) => put_bytes(out, 3, text.as_bytes()),
        Value::Bool(is_so) => put_number(out, 4, u64::from(*is_so)),
        Value::Object(members) => put_message(out, 5, |out| put_struct(out, members.iter())),
        Value::Array(elements) => put_message(out, 6, |out| {
            elements.iter().for_each(|element| put_message(out, 1, |out| put_value(out, element)));
        }),
    }
}
