//! HTTP/3 and QUIC: behaviour that well-behaved clients cannot trigger. Answers that are the same
//! in every version of HTTP are tested elsewhere.

mod endpoint;
mod floods;
mod frames;
mod hostile;
mod time;

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::Authority,
    quic::{self, QuicClient},
    tls::{self, TlsClientOptions},
};

use crate::fixture::{self, SIGNING};

/// A certificate authority and a directory with the server's certificate.
struct Fixture {
    sandbox: Sandbox,
    authority: Authority,
}

impl Fixture {
    fn new() -> Self {
        let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
        authority.server().write(sandbox.path());
        Self { sandbox, authority }
    }

    /// Starts a [`Server`] with these lines after `[listen]`, which may open further sections.
    fn serve(&self, listen: &str) -> Server<'_> {
        self.sandbox.serve(&configuration(listen))
    }

    fn tls(&self) -> tls::TlsClient {
        tls::TlsClient::new(
            &self.authority,
            &TlsClientOptions { protocols: &["h3"], ..TlsClientOptions::default() },
        )
    }

    fn connect(&self, server: &Server<'_>) -> QuicClient {
        QuicClient::connect(&self.tls(), server.address).unwrap()
    }
}

fn configuration(listen: &str) -> String {
    format!(
        "{SIGNING}[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\nprotocols=http/1.1, h2, h3\n{listen}"
    )
}

/// Returns a request for `/auth` with a good token.
fn auth_request() -> Vec<u8> {
    quic::request(
        "GET",
        "/auth",
        &[("authorization", &format!("Bearer {}", fixture::good_token()))],
    )
}
