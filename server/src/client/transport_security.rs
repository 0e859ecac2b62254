//! Whether a browser reaches the server over TLS, and the header that has it use nothing else
//! (HSTS, RFC 6797).

use std::net::IpAddr;

use countersign_front::{Fields, only_line};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::ClientSettings;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// A year.
const TRANSPORT_SECURITY: &str = "max-age=31536000";

/// Whether the client's own connection is protected by TLS: here, if the listener `is_tls`, or as a
/// trusted proxy states it.
#[must_use]
pub fn is_secure(
    settings: &ClientSettings,
    peer: IpAddr,
    is_tls: bool,
    fields: &dyn Fields,
) -> bool {
    is_tls
        || settings.proxies.trusts(peer)
            && only_line(fields, &FORWARDED_PROTO) == Ok(Some(b"https"))
}

/// Adds the header to a response over TLS.
pub fn add_transport_security(headers: &mut HeaderMap) {
    let value = HeaderValue::from_static(TRANSPORT_SECURITY);
    headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
}
