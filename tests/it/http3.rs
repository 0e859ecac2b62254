//! HTTP/3 and QUIC under it: what a client of another making cannot be brought to do.
//! What every version of HTTP answers alike is tested elsewhere.

mod endpoint;
mod floods;
mod frames;
mod time;

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::Authority,
    quic::{self, Client},
    tls::{self, Wishes},
};

use crate::given::{self, SIGNING};

/// A server's authority, with its files.
struct Given {
    sandbox: Sandbox,
    authority: Authority,
}

impl Given {
    fn new() -> Self {
        let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
        authority.server().write(sandbox.path());
        Self { sandbox, authority }
    }

    /// A server with these sections and options more, whose main listener is `[listen]`.
    fn serve(&self, listen: &str) -> Server<'_> {
        self.sandbox.serve(&configuration(listen))
    }

    fn tls(&self) -> tls::Client {
        tls::Client::new(&self.authority, &Wishes { protocols: &["h3"], ..Wishes::default() })
    }

    fn connect(&self, server: &Server<'_>) -> Client {
        Client::connect(&self.tls(), server.address).unwrap()
    }
}

fn configuration(listen: &str) -> String {
    format!(
        "{SIGNING}[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\nprotocols=http/1.1, h2, h3\n{listen}"
    )
}

/// A question of a proxy with a good token.
fn question() -> Vec<u8> {
    quic::request("GET", "/auth", &[("authorization", &format!("Bearer {}", given::good_token()))])
}
