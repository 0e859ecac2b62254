//! Requests to the provider, bounded in time, bytes and redirects.
//!
//! They trust what the section of the provider trusts: `validate_cert`, `ca_file`, and the trust
//! store of the system.

use std::{fmt, time::Duration};

use http::{Request, Response, StatusCode, Uri, header};
use ureq::Agent;

use super::settings::SignInSettings;
use crate::{
    base::clock::Stopwatch,
    keys::fetch::{
        ACCEPTED_CODINGS, FetchError, MAX_REDIRECTS, ProviderTrust, read_body, redirected,
        transport_error,
    },
};

/// Limit of a token response in bytes: three tokens.
const MAX_TOKEN_RESPONSE: u64 = 128 * 1024;

/// Sends requests to one provider, with its [`ProviderTrust`]. Each of them blocks the calling
/// thread.
pub(super) struct ProviderClient {
    agent: Agent,
    timeout: Duration,
}

impl ProviderClient {
    pub(super) fn new(settings: &SignInSettings) -> Result<Self, FetchError> {
        let is_plain = settings.authority.starts_with("http://");
        let trust = ProviderTrust {
            validate_cert: settings.validate_cert,
            authorities: &settings.authorities,
            uses_tls: true,
            // A proxy of the environment would read codes and tokens.
            uses_proxy: !is_plain,
        };
        Ok(Self { agent: trust.agent()?, timeout: settings.timeout })
    }

    /// Requests a JSON document. Redirects are followed on the same origin only.
    pub(super) fn get(&self, uri: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        let started = Stopwatch::start();
        let mut uri: Uri =
            uri.parse().map_err(|_| FetchError::new("unreachable", "the location is not a URI"))?;
        for _ in 0..=MAX_REDIRECTS {
            let left = self.timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(FetchError::new("timeout", "the provider did not answer in time"));
            }
            let request = self.agent.get(&uri).config().timeout_global(Some(left)).build();
            let request = request
                .header(header::ACCEPT, "application/json")
                .header(header::ACCEPT_ENCODING, ACCEPTED_CODINGS);
            let response = request.call().map_err(|error| transport_error(&error))?;
            match response.status() {
                StatusCode::OK => return read_body(response, limit),
                status if status.is_redirection() => uri = redirected(&uri, response.headers())?,
                status => {
                    let text = format!("the provider answered {status}, expected 200");
                    return Err(FetchError::new("status", text));
                }
            }
        }
        let text = format!("the provider redirected more than {MAX_REDIRECTS} times");
        Err(FetchError::new("redirect", text))
    }

    /// Sends a request to the token or revocation endpoint, on behalf of a page of this origin.
    /// Some providers let a client without a secret redeem its codes only with an `Origin`, as
    /// browsers send it. No redirect is followed, since the request has a code or a token.
    pub(super) fn post(
        &self,
        request: Request<Vec<u8>>,
        origin: &str,
    ) -> Result<Response<Vec<u8>>, RequestError> {
        self.try_post(request, origin).map_err(RequestError)
    }

    fn try_post(
        &self,
        request: Request<Vec<u8>>,
        origin: &str,
    ) -> Result<Response<Vec<u8>>, FetchError> {
        let unusable = |_| FetchError::new("unreachable", "the origin is not a header value");
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(header::ORIGIN, origin.parse().map_err(unusable)?);
        parts
            .headers
            .insert(header::ACCEPT_ENCODING, http::HeaderValue::from_static(ACCEPTED_CODINGS));
        let request = Request::from_parts(parts, &body[..]);
        let request = self.agent.configure_request(request);
        let request = request.timeout_global(Some(self.timeout)).build();
        let response = self.agent.run(request).map_err(|error| transport_error(&error))?;
        let status = response.status();
        if status.is_redirection() || status.is_server_error() {
            let text = format!("the endpoint answered {status}");
            return Err(FetchError::new("status", text));
        }
        let headers = response.headers().clone();
        let body = read_body(response, MAX_TOKEN_RESPONSE)?;
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}

/// A [`FetchError`] of a request to the token endpoint, in the form that the OAuth client expects.
#[derive(Debug)]
pub(super) struct RequestError(pub(super) FetchError);

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl std::error::Error for RequestError {}
