//! URIs of servers that this server connects to.

use std::net::IpAddr;

use http::Uri;

/// Whether an exchange with this URI is protected from the network: the URI is
/// `https://`, or `http://` on this machine.
#[must_use]
pub fn is_protected(uri: &str) -> bool {
    let Ok(uri) = uri.parse::<Uri>() else { return false };
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => uri.host().is_some_and(is_loopback),
        _ => false,
    }
}

/// Whether a host of a URI is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether two URIs differ by a trailing slash alone.
#[must_use]
pub fn differ_by_slash(one: &str, other: &str) -> bool {
    one.strip_suffix('/') == Some(other) || other.strip_suffix('/') == Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_protected() {
        for uri in [
            "https://idp.example/keys",
            "http://localhost/",
            "http://localhost:8080/a?b=c",
            "http://127.0.0.1:1",
            "http://127.9.9.9/",
            "http://[::1]:80/",
        ] {
            assert!(is_protected(uri), "{uri}");
        }
        for uri in [
            "http://idp.example/",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://127.0.0.1@idp.example/",
            "http://10.0.0.1/",
            "http://[::2]/",
            "file:///keys",
            "ftp://localhost/",
            "localhost",
            "/keys",
            "",
        ] {
            assert!(!is_protected(uri), "{uri}");
        }
    }
}
