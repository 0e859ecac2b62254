use std::{fs, thread::sleep, time::Duration};

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::{Authority, IssuedCertificate},
    eventually,
    http::Connection,
    tls::{TlsClient, TlsClientOptions, TlsExchange},
};

use super::{auth_status, reload_completely};
use crate::fixture::{self, SIGNING};

const TLS: &str = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
const LIVE: &str = "GET /healthz HTTP/1.1\r\n";

/// Opens a connection with a new client that has no session to resume.
fn connect_anew(authority: &Authority, server: &Server<'_>) -> TlsExchange {
    connect(&TlsClient::new(authority, &TlsClientOptions::default()), server)
}

fn connect(client: &TlsClient, server: &Server<'_>) -> TlsExchange {
    let (response, asked) = client.request(server.address, LIVE).unwrap();
    assert_eq!(response.status, 200);
    asked
}

fn has_certificate(asked: &TlsExchange, issued: &IssuedCertificate) -> bool {
    asked.tls().peer_certificates().unwrap()[0] == issued.chain[0]
}

/// Counts the occurrences of these words in the log.
fn message(server: &Server<'_>, words: &str) -> usize {
    server.log().matches(words).count()
}

#[test]
fn renewed_certificate_serves_new_connections() {
    let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
    let (first, second) = (authority.server(), authority.server());
    first.write(sandbox.path());
    let server = sandbox.serve(&format!("{SIGNING}{TLS}"));
    let mut old = connect_anew(&authority, &server);
    assert!(has_certificate(&old, &first));
    // A certificate without its key, which could still follow but does not.
    fs::write(sandbox.path().join("tls.crt"), second.pem()).unwrap();
    eventually(|| message(&server, "continuing with the present ones") == 1);
    sleep(Duration::from_millis(2500));
    assert_eq!(
        message(&server, "continuing with the present ones"),
        1,
        "logged once, not at every check: {}",
        server.log()
    );
    assert!(has_certificate(&connect_anew(&authority, &server), &first));
    fs::write(sandbox.path().join("tls.key"), &second.key).unwrap();
    eventually(|| has_certificate(&connect_anew(&authority, &server), &second));
    assert_eq!(message(&server, "certificates reloaded"), 1);
    assert_eq!(old.request_again(LIVE).status, 200);
    assert!(server.log().lines().all(|line| !line.contains("PRIVATE KEY")));
}

#[test]
fn revoked_client_is_refused_on_its_next_connection() {
    let (sandbox, ours, theirs) =
        (Sandbox::new(), Authority::root("ours"), Authority::root("theirs"));
    ours.server().write(sandbox.path());
    sandbox.file("clients.crt", theirs.pem());
    sandbox.file("clients.crl", theirs.crl(&[]));
    let clients = "[listen]\nclient_certificates=required\nclient_ca_file=clients.crt\nclient_crl_file=clients.crl\n";
    let server = sandbox.serve(&format!("{SIGNING}{TLS}{clients}"));
    let issued = [1, 2].map(|serial| theirs.client("client", serial));
    let [bad, good] = issued.each_ref().map(|issued| {
        let options = TlsClientOptions { certificate: Some(issued), ..TlsClientOptions::default() };
        TlsClient::new(&ours, &options)
    });
    let mut open = connect(&bad, &server);
    sandbox.file("clients.crl", theirs.crl(&[1]));
    eventually(|| bad.request(server.address, LIVE).is_err());
    connect(&good, &server);
    assert_eq!(
        open.request_again(LIVE).status,
        200,
        "a certificate is verified only in the handshake"
    );
    sandbox.file("clients.crl", theirs.crl(&[]));
    eventually(|| bad.request(server.address, LIVE).is_ok());
}

#[test]
fn reload_enables_tls_for_new_connections() {
    let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
    let issued = authority.server();
    issued.write(sandbox.path());
    let (server, token) = (sandbox.serve(SIGNING), fixture::good_token());
    let mut plain = Connection::open(server.address);
    assert_eq!(auth_status(&mut plain, &token), 200);
    reload_completely(&sandbox, &server, &format!("{SIGNING}{TLS}"));
    let client = TlsClient::new(&authority, &TlsClientOptions::default());
    connect(&client, &server);
    assert!(has_certificate(&connect_anew(&authority, &server), &issued));
    assert_eq!(auth_status(&mut plain, &token), 200, "open connections are not affected");
    let mut late = Connection::open(server.address);
    late.send_raw(b"GET /auth HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(!late.receive_all().starts_with(b"HTTP/"), "no plain-text answer on a TLS listener");
    // Renewed like certificates that were configured from the start.
    let next = authority.server();
    next.write(sandbox.path());
    eventually(|| has_certificate(&connect_anew(&authority, &server), &next));
    // TlsClient certificates are required from now on, and earlier session tickets are not accepted.
    sandbox.file("clients.crt", authority.pem());
    let clients = "[listen]\nclient_certificates=required\nclient_ca_file=clients.crt\n";
    reload_completely(&sandbox, &server, &format!("{SIGNING}{TLS}{clients}"));
    assert!(client.request(server.address, LIVE).is_err());
}
