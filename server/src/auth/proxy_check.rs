//! A check in which a proxy describes a request by the fields of a message: over gRPC or SPOP.
//!
//! The decision is that of `/auth` for the same header lines. The description of the request is
//! trusted only if the peer of the connection is a trusted proxy. For other peers, only the token
//! is used.

use std::net::IpAddr;

use countersign_front::{Fields, Peer, Step};

use super::{AuthDecision, Authenticator, Caller, DecisionSettings, PendingDecision, decide};
use crate::{
    admission::Admission,
    client::{
        ClientAddress, ClientCertificate, ClientSettings, RequestDescription,
        original_request::OriginalRequest, request_description::CheckAttributes,
    },
    observe::access_log::CheckedRequest,
};

/// Context of a check: its connection, and the current settings.
pub struct CheckContext<'a, 's, S> {
    /// Verifies the token.
    pub authenticator: &'s Authenticator,
    /// The admission budgets of the worker.
    pub admission: &'a Admission,
    /// The settings in force.
    pub settings: &'s S,
    /// The trusted proxies of the listener.
    pub client: &'s ClientSettings,
    /// The peer of the connection.
    pub peer: Peer<'s>,
}

/// A request, as the message of a check describes it.
pub struct ProxyCheck<'m, F> {
    /// The request id that the proxy assigned; empty without one.
    pub id: &'m [u8],
    /// The address of the client, if it connected to the proxy over IP.
    pub source: Option<IpAddr>,
    /// The certificate of the client.
    pub certificate: ClientCertificate<'m>,
    /// The method.
    pub method: &'m [u8],
    /// The path, with the query.
    pub path: &'m [u8],
    /// The host.
    pub host: &'m [u8],
    /// `http` or `https`.
    pub scheme: &'m [u8],
    /// The header lines.
    pub fields: &'m F,
}

impl<'a, S: DecisionSettings> CheckContext<'a, '_, S> {
    /// Decides about a request, as the same function does for `/auth`.
    pub fn decide<'m, F: Fields>(
        &self,
        check: &ProxyCheck<'m, F>,
    ) -> Step<AuthDecision<'m>, PendingDecision<'a>> {
        let Self { authenticator, admission, settings, client, peer } = *self;
        let ProxyCheck { method, path, host, scheme, fields, .. } = *check;
        let caller = Caller {
            admission,
            client: self.client_address(check),
            certificate: check.certificate,
            username_optional: false,
            is_call: false,
        };
        let describe = || {
            let attributes = CheckAttributes { method, host, scheme, fields };
            RequestDescription::of_message(client, peer.address, attributes)
        };
        let is_trusted = self.is_trusted();
        let original = || is_trusted.then(|| OriginalRequest::new(method, path)).flatten();
        let described = (describe, original);
        decide(authenticator, settings, peer.listener, &caller, fields, described)
    }

    /// Returns the request for the access log, if a trusted proxy describes it.
    #[must_use]
    pub fn checked<'m, F: Fields>(&self, check: &ProxyCheck<'m, F>) -> Option<CheckedRequest<'m>> {
        self.is_trusted().then(|| CheckedRequest {
            id: check.id,
            client: self.client_address(check).get(),
            certificate: check.certificate.fingerprint(),
            method: check.method,
            path: check.path,
        })
    }

    /// Whether the description of the request is trusted.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.client.proxies.trusts(self.peer.address)
    }

    fn client_address<'r, F: Fields>(&'r self, check: &'r ProxyCheck<'_, F>) -> ClientAddress<'r> {
        let (proxies, peer) = (&self.client.proxies, self.peer.address);
        if proxies.trusts(peer) {
            ClientAddress::Known(proxies.original_client(peer, check.source, check.fields))
        } else {
            ClientAddress::Deferred { peer, proxies, fields: check.fields }
        }
    }
}
