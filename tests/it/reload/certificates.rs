use std::{fs, thread::sleep, time::Duration};

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::{Authority, Issued},
    eventually,
    http::Connection,
    tls::{Asked, Client, Wishes},
};

use super::{ask, take_over};
use crate::given::{self, SIGNING};

const TLS: &str = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
const LIVE: &str = "GET /healthz HTTP/1.1\r\n";

/// What a client is shown that was never here, on a connection that stays open.
fn shown(authority: &Authority, server: &Server<'_>) -> Asked {
    answered(&Client::new(authority, &Wishes::default()), server)
}

fn answered(client: &Client, server: &Server<'_>) -> Asked {
    let (response, asked) = client.ask(server.address, LIVE).unwrap();
    assert_eq!(response.status, 200);
    asked
}

fn is_of(asked: &Asked, issued: &Issued) -> bool {
    asked.tls().peer_certificates().unwrap()[0] == issued.chain[0]
}

/// How often the log says this.
fn said(server: &Server<'_>, words: &str) -> usize {
    server.log().matches(words).count()
}

#[test]
fn a_renewed_certificate_is_shown_on_new_connections_and_old_ones_go_on() {
    let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
    let (first, second) = (authority.server(), authority.server());
    first.write(sandbox.path());
    let server = sandbox.serve(&format!("{SIGNING}{TLS}"));
    let mut old = shown(&authority, &server);
    assert!(is_of(&old, &first));
    // A certificate without its key, which may be still to come, and then never does.
    fs::write(sandbox.path().join("tls.crt"), second.pem()).unwrap();
    eventually(|| said(&server, "those in use stay") == 1);
    sleep(Duration::from_millis(2500));
    assert_eq!(
        said(&server, "those in use stay"),
        1,
        "said once, not with every look: {}",
        server.log()
    );
    assert!(is_of(&shown(&authority, &server), &first));
    fs::write(sandbox.path().join("tls.key"), &second.key).unwrap();
    eventually(|| is_of(&shown(&authority, &server), &second));
    assert_eq!(said(&server, "the certificates were read again and are in use"), 1);
    assert_eq!(old.again(LIVE).status, 200);
    assert!(server.log().lines().all(|line| !line.contains("PRIVATE KEY")));
}

#[test]
fn a_client_that_is_revoked_is_turned_away_from_its_next_connection_on() {
    let (sandbox, ours, theirs) =
        (Sandbox::new(), Authority::root("ours"), Authority::root("theirs"));
    ours.server().write(sandbox.path());
    sandbox.file("clients.crt", theirs.pem());
    sandbox.file("clients.crl", theirs.revoked(&[]));
    let clients = "[listen]\nclient_certificates=required\nclient_ca_file=clients.crt\nclient_crl_file=clients.crl\n";
    let server = sandbox.serve(&format!("{SIGNING}{TLS}{clients}"));
    let issued = [1, 2].map(|serial| theirs.client("client", serial));
    let [bad, good] = issued.each_ref().map(|issued| {
        let wishes = Wishes { certificate: Some(issued), ..Wishes::default() };
        Client::new(&ours, &wishes)
    });
    let mut open = answered(&bad, &server);
    sandbox.file("clients.crl", theirs.revoked(&[1]));
    eventually(|| bad.ask(server.address, LIVE).is_err());
    answered(&good, &server);
    assert_eq!(
        open.again(LIVE).status,
        200,
        "a certificate is looked at when its connection begins"
    );
    sandbox.file("clients.crl", theirs.revoked(&[]));
    eventually(|| bad.ask(server.address, LIVE).is_ok());
}

#[test]
fn tls_is_switched_on_from_the_next_connection() {
    let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
    let issued = authority.server();
    issued.write(sandbox.path());
    let (server, token) = (sandbox.serve(SIGNING), given::good_token());
    let mut plain = Connection::open(server.address);
    assert_eq!(ask(&mut plain, &token), 200);
    take_over(&sandbox, &server, &format!("{SIGNING}{TLS}"));
    let client = Client::new(&authority, &Wishes::default());
    answered(&client, &server);
    assert!(is_of(&shown(&authority, &server), &issued));
    assert_eq!(ask(&mut plain, &token), 200, "what is open goes on");
    let mut late = Connection::open(server.address);
    late.send_raw(b"GET /auth HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(
        !late.receive_all().starts_with(b"HTTP/"),
        "no plain answer on a connection that is to be secret"
    );
    // Renewed like one that was there from the start.
    let next = authority.server();
    next.write(sandbox.path());
    eventually(|| is_of(&shown(&authority, &server), &next));
    // Clients are asked for certificates from now on, and nobody comes in by a ticket
    // from before.
    sandbox.file("clients.crt", authority.pem());
    let clients = "[listen]\nclient_certificates=required\nclient_ca_file=clients.crt\n";
    take_over(&sandbox, &server, &format!("{SIGNING}{TLS}{clients}"));
    assert!(client.ask(server.address, LIVE).is_err());
}
