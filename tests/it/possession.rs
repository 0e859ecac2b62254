//! Client certificates that prove possession of a key, and are trusted for nothing else
//! (`client_certificates = possession`).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::Reject;
use countersign_tests::{
    answers::{assert_refused, invalid_token},
    binary::{Sandbox, Server},
    certificates::{Authority, EXPIRED, IssuedCertificate, ours},
    client::{Client, Protocol},
    http::Response,
    over_every_protocol,
    tls::{TlsClient, TlsClientOptions},
};
use rustls::{
    ClientConfig, SignatureScheme, client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

over_every_protocol!(
    untrusted_certificate_proves_possession,
    certificate_without_its_key_is_refused,
    oversized_chain_is_refused,
);

fn serve(sandbox: &Sandbox) -> Server<'_> {
    sandbox.serve(&format!("{SIGNING}[listen]\nclient_certificates=possession\n"))
}

fn client(
    protocol: Protocol,
    server: &Server<'_>,
    certificate: Option<&IssuedCertificate>,
) -> Client {
    let protocols = &[protocol.alpn()];
    let options = TlsClientOptions { protocols, certificate, ..TlsClientOptions::default() };
    Client::under_tls(protocol, server.address, &TlsClient::new(&ours().0, &options))
}

fn auth(client: &mut Client, token: &str) -> Response {
    client.request(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"")
}

/// Makes a token that is bound to a certificate.
pub(crate) fn bound_to(issued: &IssuedCertificate) -> String {
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &issued.chain[0]));
    fixture::token(&fixture::claims(json!({ "cnf": { "x5t#S256": thumbprint } })))
}

fn untrusted_certificate_proves_possession(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox);
    let unknown = Authority::root("unknown").authority("between", 2);
    let right = unknown.client("bob", 1);
    // The dates are left to the login, too.
    let other = unknown.client_in(EXPIRED, "bob", 3);
    let [mut with_right, mut with_other, mut without] =
        [Some(&right), Some(&other), None].map(|one| client(protocol, &server, one));
    for _ in 0..2 {
        for client in [&mut with_right, &mut with_other, &mut without] {
            assert_eq!(auth(client, &fixture::good_token()).status, 200);
            // The certificate is not an identity: a request needs a token.
            let refused = client.request("GET /auth HTTP/1.1\r\n", b"");
            assert_eq!((refused.status, refused.header("x-auth-subject")), (401, None));
        }
        assert_eq!(auth(&mut with_right, &bound_to(&right)).status, 200);
        assert_eq!(auth(&mut with_other, &bound_to(&other)).status, 200);
        for client in [&mut with_other, &mut without] {
            assert_refused(&auth(client, &bound_to(&right)), &invalid_token(Reject::Bound));
        }
    }
}

/// Presents a certificate, and signs with a key that does not belong to it.
#[derive(Debug)]
struct StolenCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for StolenCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certificate_without_its_key_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox);
    let authority = Authority::root("unknown");
    let [victim, thief] = [1, 2].map(|serial| authority.client("client", serial));
    let key = any_supported_type(&thief.private_key()).unwrap();
    let stolen = StolenCertificate(Arc::new(CertifiedKey::new(victim.chain.clone(), key)));
    let protocols = &[protocol.alpn()];
    let options = TlsClientOptions { protocols, ..TlsClientOptions::default() };
    let mut config = ClientConfig::clone(&TlsClient::new(&ours().0, &options).config());
    config.client_auth_cert_resolver = Arc::new(stolen);
    let mut client = Client::under_tls(protocol, server.address, &TlsClient::from_config(config));
    let token = bound_to(&victim);
    let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    assert_not_answered(&mut client, &head);
}

fn oversized_chain_is_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox);
    let issued = Authority::root("unknown").client("client", 1);
    let repeated = |count: usize| IssuedCertificate {
        chain: vec![issued.chain[0].clone(); count],
        key: issued.key.clone(),
    };
    let token = fixture::good_token();
    assert_eq!(auth(&mut client(protocol, &server, Some(&repeated(16))), &token).status, 200);
    let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    assert_not_answered(&mut client(protocol, &server, Some(&repeated(17))), &head);
}

/// Asserts that the handshake fails, so that the request is not answered.
#[track_caller]
fn assert_not_answered(client: &mut Client, head: &str) {
    // Over HTTP/1, the client of the tests panics at the alert.
    let answered =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.try_request(head, b"")));
    assert!(!matches!(answered, Ok(Ok(_))), "the request was answered");
}
