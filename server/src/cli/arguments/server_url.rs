//! The URL of a server.

use http::Uri;

use crate::config::host;

/// Scheme, host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether it uses TLS.
    pub ssl: bool,
    /// Name or address, in lower case.
    pub host: String,
    /// Port; that of the scheme, if the URL has none.
    pub port: u16,
}

/// Parses the URL of a server.
///
/// # Errors
/// A hint for the correct form.
pub fn server_url(text: &str) -> Result<ServerUrl, String> {
    parse_url(text).ok_or_else(|| {
        "write http:// or https:// with host and port, such as https://auth.example:8888".into()
    })
}

fn parse_url(text: &str) -> Option<ServerUrl> {
    let uri: Uri = text.parse().ok()?;
    let ssl = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority()?;
    let port = authority.port_u16();
    // Also excludes credentials, and a port that is not a number.
    let is_complete = match port {
        Some(port) => authority.as_str() == format!("{}:{port}", authority.host()),
        None => authority.as_str() == authority.host(),
    };
    let is_root = matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/"));
    (is_complete && is_root && port != Some(0)).then_some(ServerUrl {
        ssl,
        host: host(authority.host()).ok()?.to_ascii_lowercase(),
        port: port.unwrap_or(if ssl { 443 } else { 80 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_url_has_scheme_host_and_port() {
        let url = |ssl, host: &str, port| Ok(ServerUrl { ssl, host: host.into(), port });
        for (text, expected) in [
            ("https://auth.example", url(true, "auth.example", 443)),
            ("https://Auth.example:8443/", url(true, "auth.example", 8443)),
            ("HTTP://127.0.0.1:8888", url(false, "127.0.0.1", 8888)),
            ("http://[::1]:1", url(false, "::1", 1)),
            ("http://[::1]", url(false, "::1", 80)),
        ] {
            assert_eq!(server_url(text), expected, "{text}");
        }
        for odd in [
            "",
            "auth.example",
            "auth.example:8443",
            "ftp://auth.example",
            "https://",
            "https://user:password@auth.example",
            "https://auth.example:99999",
            "https://auth.example:0",
            "https://auth.example:",
            "https://auth.example/path",
            "https://auth.example/?a=b",
            "https://a b",
        ] {
            assert!(server_url(odd).is_err(), "{odd}");
        }
    }
}
