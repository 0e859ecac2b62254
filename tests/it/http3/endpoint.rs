//! QUIC: addresses, certificates, and the keys that threads and nodes share.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_tests::{
    binary::NO_BUDGETS,
    certificates::Authority,
    eventually, http,
    proxies::free_address,
    quic::{Client, Relay, request},
    tls::{self, Wishes},
};
use quinn::ConnectionError;

use super::{Given, configuration, question};

fn ask(client: &Client) -> u16 {
    client.ask(&question()).unwrap().status
}

#[test]
fn a_client_whose_address_changes_stays_with_its_thread() {
    let given = Given::new();
    let server = given.serve("threads=2\n");
    let clients: Vec<_> = (0..16).map(|_| given.connect(&server)).collect();
    let workers = ["0", "1"]
        .map(|worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}")));
    assert_eq!(workers.iter().sum::<u64>(), 16);
    assert!(workers.iter().all(|count| *count > 0), "each has some: {workers:?}");
    for _ in 0..3 {
        for client in &clients {
            assert_eq!(ask(client), 200);
            client.move_to_another_port();
            assert_eq!(ask(client), 200);
        }
    }
    let after = ["0", "1"]
        .map(|worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}")));
    assert_eq!(after, workers, "they are the same connections");
}

#[test]
fn lost_datagrams_are_made_up_for() {
    let given = Given::new();
    let server = given.serve("");
    let relay = Relay::start(server.address, Some(7));
    let client = Client::connect(&given.tls(), relay.address).unwrap();
    for _ in 0..100 {
        assert_eq!(ask(&client), 200);
    }
    let body = [
        request("POST", "/v1/verify", &[]),
        countersign_tests::quic::frame(0, &vec![b'a'; 60_000]),
    ]
    .concat();
    assert_eq!(client.ask(&body).unwrap().status, 401);
}

#[test]
fn clients_prove_their_addresses_where_too_many_have_not() {
    let given = Given::new();
    let server = given.serve("[quic]\nretry_above=0\n");
    let relay = Relay::start(server.address, None);
    for _ in 0..3 {
        let before = relay.retries.load(Ordering::Relaxed);
        assert_eq!(ask(&Client::connect(&given.tls(), relay.address).unwrap()), 200);
        // One for each datagram that a client begins with.
        assert!(relay.retries.load(Ordering::Relaxed) > before);
    }
    let server = given.serve("");
    let relay = Relay::start(server.address, None);
    assert_eq!(ask(&Client::connect(&given.tls(), relay.address).unwrap()), 200);
    assert_eq!(relay.retries.load(Ordering::Relaxed), 0, "a single one need not");
}

#[test]
fn a_node_that_takes_over_ends_connections_that_it_does_not_know() {
    let given = Given::new();
    let address = free_address();
    given.sandbox.file("quic.key", [b'k'; 32]);
    let configuration = || {
        let listener = "protocols=h3\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
        format!(
            "{}[quic]\nkey_file=quic.key\n[listener_h3]\nbind={address}\n{listener}",
            crate::given::SIGNING
        )
    };
    let first = given.sandbox.serve(&configuration());
    let client = Client::connect(&given.tls(), address).unwrap();
    assert_eq!(ask(&client), 200);
    first.signal("KILL");
    drop(first);
    let _second = given.sandbox.serve(&configuration());
    let (mut send, _receive) = client.open(&question());
    send.finish().unwrap();
    assert!(
        matches!(client.wait(client.connection.closed()), ConnectionError::Reset),
        "{:?}",
        client.connection.close_reason()
    );
    assert_eq!(ask(&Client::connect(&given.tls(), address).unwrap()), 200);
}

#[test]
fn a_listener_without_tcp_is_told_of_with_what_is_spoken_there() {
    let given = Given::new();
    let address = free_address();
    let listener = format!(
        "[listener_h3]\nbind={address}\nprotocols=h3\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n"
    );
    let server = given.sandbox.serve(&format!("{}{listener}", crate::given::SIGNING));
    let line = format!("  requests  https://{address} (h3)");
    assert!(server.announced.contains(&line), "{:?}", server.announced);
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let given = Given::new();
    let server = given.serve("");
    let before = given.connect(&server);
    assert_eq!(ask(&before), 200);
    let other = Authority::root("another");
    other.server().write(given.sandbox.path());
    eventually(|| server.log().contains("the certificates were read again"));
    let wishes = Wishes { protocols: &["h3"], ..Wishes::default() };
    let after = Client::connect(&tls::Client::new(&other, &wishes), server.address).unwrap();
    assert_eq!((ask(&before), ask(&after)), (200, 200));
    assert!(
        Client::connect(&given.tls(), server.address).is_err(),
        "the former authority does not vouch for it"
    );
}

#[test]
fn a_client_shows_its_certificate_where_it_has_to() {
    let given = Given::new();
    let theirs = Authority::root("theirs");
    given.sandbox.file("clients.crt", theirs.pem());
    let server = given
        .serve("client_certificates=required\nclient_ca_file=clients.crt\n[log]\nrequests=all\n");
    let shown = theirs.client("somebody", 1);
    let wishes = |certificate| Wishes { protocols: &["h3"], certificate, ..Wishes::default() };
    let client =
        Client::connect(&tls::Client::new(&given.authority, &wishes(Some(&shown))), server.address)
            .unwrap();
    assert_eq!(ask(&client), 200);
    let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &shown.chain[0]);
    let fingerprint: String =
        fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    eventually(|| {
        server.log().lines().any(|line| line.contains(&fingerprint) && line.contains("HTTP/3"))
    });
    // The client is done before its certificate is judged.
    let without = Client::connect(&given.tls(), server.address);
    let why = without.map_or_else(|error| error, |client| client.wait(client.connection.closed()));
    assert!(why.to_string().contains("certificate"), "{why}");
}

#[test]
fn early_data_is_not_accepted() {
    let given = Given::new();
    let server = given.serve("");
    let tls = given.tls();
    let client = Client::connect(&tls, server.address).unwrap();
    assert_eq!(ask(&client), 200);
    // By now its ticket has come.
    assert!(!Client::may_send_early_data(&tls, server.address));
}

#[test]
fn answers_over_tcp_say_that_there_is_http_3() {
    let given = Given::new();
    let server = given.serve("");
    let port = server.address.port();
    let expected = format!("h3=\":{port}\"; ma=86400");
    let client = tls::Client::new(&given.authority, &Wishes::default());
    for path in ["/auth", "/healthz", "/nothing"] {
        let (answer, _) = client.ask(server.address, &format!("GET {path} HTTP/1.1\r\n")).unwrap();
        assert_eq!(answer.header("alt-svc"), Some(expected.as_str()), "{path}");
        let over_http3 = given.connect(&server).ask(&request("GET", path, &[])).unwrap();
        assert_eq!(
            (over_http3.status, over_http3.line("alt-svc")),
            (answer.status, None),
            "it is there already"
        );
    }
    let plain = given.sandbox.serve(crate::given::SIGNING);
    let answer = http::request(plain.address, "GET /auth HTTP/1.1\r\n", b"");
    assert_eq!(answer.header("alt-svc"), None, "there is none");
}

#[test]
fn connections_are_limited_with_all_others() {
    let given = Given::new();
    let server = given.serve(&format!("{NO_BUDGETS}connections=2\n"));
    let clients = [given.connect(&server), given.connect(&server)];
    let refused = Client::connect(&given.tls(), server.address);
    assert!(refused.is_err_and(|error| error.to_string().contains("refused")));
    assert!(server.metric("countersign_connections_refused_total") > 0);
    assert_eq!(clients.map(|client| ask(&client)), [200, 200]);
    eventually(|| Client::connect(&given.tls(), server.address).is_ok());
}

#[test]
fn the_keys_of_nodes_wait_for_a_restart() {
    let given = Given::new();
    let server = given.serve("");
    given.sandbox.file("quic.key", [b'k'; 32]);
    given.sandbox.replace("server.cfg", configuration("[quic]\nkey_file=quic.key\n"));
    let said = server.reload();
    assert!(said.contains("[quic]"), "{said}");
}

#[test]
fn what_is_no_quic_is_dropped() {
    let given = Given::new();
    let server = given.serve("");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for length in [0, 1, 6, 7, 20, 1199, 1200, 9000] {
        for first in [0x00, 0x40, 0x80, 0xc0, 0xff] {
            let mut bytes = vec![first; length];
            if let Some(version) = bytes.get_mut(1..5) {
                // Of those that there are.
                version.copy_from_slice(&[0, 0, 0, 1]);
            }
            socket.send_to(&bytes, server.address).unwrap();
        }
    }
    assert_eq!(ask(&given.connect(&server)), 200);
}
