//! Entity tags of representations (RFC 9110 section 8.8.3), and the preconditions of requests.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_front::Fields as _;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::{error::AdminError, operation::AdminOperation};
use crate::base::{
    reply::{Body, empty, json},
    secret_hash::hash,
};

/// A resource as it is now. Not `Debug`: its tag may depend on a password hash.
pub(super) struct TaggedResource {
    /// Its representation.
    pub(super) shown: Value,
    /// What its [`EntityTag`] depends on besides.
    pub(super) hidden: String,
}

impl From<Value> for TaggedResource {
    fn from(shown: Value) -> Self {
        Self { shown, hidden: String::new() }
    }
}

/// The strong tag of a [`TaggedResource`]: a hash of it, in quotation marks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntityTag(String);

impl EntityTag {
    /// Returns the tag of a resource.
    pub(super) fn of(resource: &TaggedResource) -> Self {
        let hash = hash(format!("{}{}", resource.shown, resource.hidden).as_bytes());
        let (half, _) = hash.split_at(16);
        Self(format!("\"{}\"", URL_SAFE_NO_PAD.encode(half)))
    }

    /// Compares the tag with those of a precondition. Weak tags are as good as strong ones only
    /// for `If-None-Match`.
    fn compare(&self, headers: &HeaderMap, name: &HeaderName, takes_weak: bool) -> TagComparison {
        let (mut lines, mut is_any, mut is_found, mut is_valid) = (0, false, false, true);
        headers.each_line(name, &mut |line| {
            lines += 1;
            if line.trim_ascii() == b"*" {
                is_any = true;
                return;
            }
            let mut listed = 0;
            is_valid &= each_tag(line, &mut |is_weak, tag| {
                listed += 1;
                is_found |= (takes_weak || !is_weak) && tag == self.0.as_bytes();
            });
            is_valid &= listed > 0;
        });
        match (lines, is_any) {
            (0, _) => TagComparison::Absent,
            (1, true) => TagComparison::Equal,
            (_, true) => TagComparison::Malformed,
            _ if !is_valid => TagComparison::Malformed,
            _ if is_found => TagComparison::Equal,
            _ => TagComparison::Different,
        }
    }
}

/// Result of comparing an [`EntityTag`] with those of a precondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagComparison {
    /// The request has no such precondition.
    Absent,
    /// The tag is one of them, or the precondition is `*`.
    Equal,
    /// The tag is not one of them.
    Different,
    /// They are not a list of tags.
    Malformed,
}

/// Calls `found` with every tag of a list, in its quotation marks, and whether it is weak. Returns
/// whether all of the list can be read; its elements may be empty (RFC 9110 section 5.6.1.2).
fn each_tag<'l>(mut rest: &'l [u8], found: &mut dyn FnMut(bool, &'l [u8])) -> bool {
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return true;
        }
        let (is_weak, quoted) =
            rest.strip_prefix(b"W/").map_or((false, rest), |quoted| (true, quoted));
        let Some(opaque) = quoted.strip_prefix(b"\"") else { return false };
        let Some(length) = opaque.iter().position(|byte| *byte == b'"') else { return false };
        let (tag, after) = quoted.split_at(length + 2);
        if tag.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return false;
        }
        found(is_weak, tag);
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return false;
        }
    }
}

/// Checks that a request has no precondition that its operation does not take: it would be ignored.
/// `If-None-Match` may be ignored by a request that only reads.
///
/// # Errors
/// It has one.
pub(super) fn refuse_others(
    headers: &HeaderMap,
    operation: &AdminOperation,
) -> Result<(), AdminError> {
    let unexpected = if headers.contains_key(header::IF_MATCH) && !operation.has_precondition() {
        "If-Match"
    } else if headers.contains_key(header::IF_NONE_MATCH) && operation.audited.is_some() {
        "If-None-Match"
    } else {
        return Ok(());
    };
    Err(AdminError::parameter(unexpected, "this call does not take it"))
}

/// Checks `If-Match` of a request against the resource as it is now.
///
/// # Errors
/// It was changed, or the precondition cannot be read.
pub(super) fn check(headers: &HeaderMap, resource: &TaggedResource) -> Result<(), AdminError> {
    match EntityTag::of(resource).compare(headers, &header::IF_MATCH, false) {
        TagComparison::Absent | TagComparison::Equal => Ok(()),
        TagComparison::Different => Err(AdminError::changed()),
        TagComparison::Malformed => {
            Err(AdminError::parameter("If-Match", "expected * or a list of tags"))
        }
    }
}

/// Returns a response with a representation and its [`EntityTag`]; 304 without it if
/// `If-None-Match` of a request that only reads, which has these headers, has the tag.
pub(super) fn respond(
    headers: Option<&HeaderMap>,
    status: StatusCode,
    resource: &TaggedResource,
) -> Response<Body> {
    let tag = EntityTag::of(resource);
    let is_known = headers.is_some_and(|headers| {
        tag.compare(headers, &header::IF_NONE_MATCH, true) == TagComparison::Equal
    });
    let mut response =
        if is_known { empty(StatusCode::NOT_MODIFIED) } else { json(status, &resource.shown) };
    if let Ok(tag) = HeaderValue::try_from(tag.0) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn preconditions_are_lists_of_tags() {
        let value = json!({ "a": 1 }).into();
        let EntityTag(tag) = EntityTag::of(&value);
        let headers = |name: HeaderName, line: &str| {
            HeaderMap::from_iter([(name, HeaderValue::from_str(line).unwrap())])
        };
        let status_of = |line: &str| {
            let checked = check(&headers(header::IF_MATCH, line), &value);
            checked.map_or_else(|error| error.into_response().status().as_u16(), |()| 200)
        };
        for (line, expected) in [
            (tag.clone(), 200),
            ("*".into(), 200),
            (format!("\"x\" , {tag}"), 200),
            (format!(", {tag},,"), 200),
            (format!("\"a,b\",{tag}"), 200),
            ("\"x\"".into(), 412),
            (format!("W/{tag}"), 412),
            (format!("\"x,{tag}"), 400),
            (format!("{tag}x"), 400),
            (format!("*, {tag}"), 400),
            (format!("{tag}, *"), 400),
            (tag.replace('"', ""), 400),
            (format!("w/{tag}"), 400),
            ("\"".into(), 400),
            ("\"a b\"".into(), 400),
            (",".into(), 400),
            (String::new(), 400),
        ] {
            assert_eq!(status_of(&line), expected, "{line}");
        }
        let mut lines = headers(header::IF_MATCH, "*");
        lines.append(header::IF_MATCH, HeaderValue::from_str(&tag).unwrap());
        assert!(check(&lines, &value).is_err());
        assert!(check(&HeaderMap::new(), &value).is_ok());
        let status = |line: &str| {
            respond(Some(&headers(header::IF_NONE_MATCH, line)), StatusCode::OK, &value).status()
        };
        assert_eq!(status(&format!("W/{tag}")), StatusCode::NOT_MODIFIED);
        assert_eq!(status("\"x\""), StatusCode::OK);
        assert_ne!(EntityTag::of(&json!({ "a": 2 }).into()).0, tag);
        let other = TaggedResource { hidden: "x".into(), ..json!({ "a": 1 }).into() };
        assert_ne!(EntityTag::of(&other).0, tag);
    }
}
