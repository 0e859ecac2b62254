//! The style sheet and the script of the console, embedded in the program.
//!
//! Their names have a digest of their content, so that browsers keep them until they change.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderValue, Response, StatusCode, header};

use crate::base::{
    hex::to_hex,
    reply::{Body, typed},
};

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
/// Digits of the digest in a name.
const DIGITS: usize = 16;

/// Paths of the files.
pub(super) struct AssetPaths {
    /// The style sheet.
    pub(super) style: String,
    /// The script.
    pub(super) script: String,
}

/// Returns the paths of the files.
pub(super) fn paths() -> &'static AssetPaths {
    static PATHS: OnceLock<AssetPaths> = OnceLock::new();
    PATHS.get_or_init(|| AssetPaths { style: path(STYLE, "css"), script: path(SCRIPT, "js") })
}

fn path(text: &str, extension: &str) -> String {
    let mut name = to_hex(digest(&SHA256, text.as_bytes()).as_ref());
    name.truncate(DIGITS);
    format!("/console/assets/{name}.{extension}")
}

/// Answers a request for a file by its name; `None` for an unknown one.
pub(super) fn respond(name: &str) -> Option<Response<Body>> {
    let paths = paths();
    let is = |path: &str| path.rsplit('/').next() == Some(name);
    let (media_type, text) = if is(&paths.style) {
        ("text/css; charset=utf-8", STYLE)
    } else if is(&paths.script) {
        ("text/javascript; charset=utf-8", SCRIPT)
    } else {
        return None;
    };
    let mut response = typed(StatusCode::OK, media_type, text);
    let caching = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, caching);
    Some(response)
}
