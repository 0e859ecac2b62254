//! The bearer token of a provider that does not publish its keys to everyone: `jwks_token_file`.
//!
//! The token is sent to the origin of the configured URI alone (RFC 6454 section 4), and on no
//! redirect. So neither a discovery document nor a response can direct it to another server.

use std::{io::Read as _, path::Path};

use http::{HeaderValue, StatusCode, Uri};

use super::FetchError;
use crate::{base::watched_file::open_regular, keys::settings::RefreshedKeys};

/// Whether a request carries the token of `jwks_token_file`.
#[derive(Debug)]
pub(super) enum BearerUse {
    /// No file is configured.
    Unconfigured,
    /// The request goes to another origin, or follows a redirect.
    Withheld,
    /// The value of `Authorization`.
    Sent(HeaderValue),
}

impl BearerUse {
    /// Reads the token for a request to `uri`. The file is read for every request, because its
    /// token may be replaced at any time.
    pub(super) fn of(source: &RefreshedKeys, uri: &Uri) -> Result<Self, FetchError> {
        let Some(file) = &source.token_file else { return Ok(Self::Unconfigured) };
        let configured = source.location.uri().and_then(|uri| uri.parse().ok());
        if configured.is_some_and(|configured| has_same_origin(&configured, uri)) {
            return read(file).map(Self::Sent);
        }
        Ok(Self::Withheld)
    }

    /// Returns the use of the token after a redirect.
    pub(super) fn after_redirect(self) -> Self {
        match self {
            Self::Unconfigured => Self::Unconfigured,
            Self::Withheld | Self::Sent(_) => Self::Withheld,
        }
    }

    /// Returns what an operator can do about a status, for an error message.
    pub(super) fn remedy(&self, status: StatusCode) -> &'static str {
        match self {
            _ if ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) => "",
            Self::Unconfigured => "; if it requires a bearer token, set jwks_token_file",
            Self::Withheld => {
                "; the token of jwks_token_file is sent neither on a redirect nor to another \
                 origin than the configured one: set jwks_uri to the location of the key set"
            }
            Self::Sent(_) => {
                "; check that the token in jwks_token_file is current and may read the keys"
            }
        }
    }
}

fn has_same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| {
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        uri.port_u16().unwrap_or(default)
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// Reads the token and returns the value of `Authorization` (RFC 6750 section 2.1).
fn read(file: &Path) -> Result<HeaderValue, FetchError> {
    const MAX_TOKEN_BYTES: u64 = 16 * 1024;
    let invalid = |reason: &str| {
        let text = format!("jwks_token_file {}: {reason}", file.display());
        FetchError::new("token", text)
    };
    let mut text = Vec::new();
    open_regular(file)
        .and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_end(&mut text))
        .map_err(|error| invalid(&format!("{error}: check the path and its permissions")))?;
    let token = text.trim_ascii();
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    if token.is_empty() {
        return Err(invalid("the file is empty: write the token into it"));
    }
    if !token.iter().all(is_token_byte) {
        return Err(invalid(
            "the file holds more than a token: write the token alone, on one line",
        ));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| invalid("the token cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_scheme_host_and_port() {
        let same = |one: &str, other: &str| {
            has_same_origin(&one.parse().unwrap(), &other.parse().unwrap())
        };
        let configured = "https://idp.example/keys";
        for uri in ["https://idp.example/", "https://IDP.example:443/other?a=b"] {
            assert!(same(configured, uri), "{uri}");
        }
        for uri in [
            "http://idp.example/keys",
            "http://idp.example:443/keys",
            "https://idp.example:8443/keys",
            "https://other.example/keys",
            "https://idp.example.other.example/keys",
            "https://other.example/https://idp.example/keys",
        ] {
            assert!(!same(configured, uri), "{uri}");
        }
    }
}
