use std::net::SocketAddr;

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    http::Connection,
    over_every_protocol,
    proxies::{DaemonProcess, free_address},
};
use serde_json::Value;

use super::{assert_healthy, assert_refused, assert_served, auth_request, lines::request_lines};
use crate::fixture::{self, SIGNING};

over_every_protocol!(
    e1_duplicate_proxy_headers_are_ignored,
    e1_forwarded_is_read_through_trusted_proxies,
    e1_only_the_configured_dialect_is_trusted,
);

const LOG: &str = "[log]\nrequests=all\nformat=json\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Returns a PROXY protocol header.
fn proxy_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &u16::try_from(rest.len()).unwrap().to_be_bytes(), rest]
        .concat()
}

/// Returns the header of a connection from this IPv4 address.
pub(crate) fn proxied([a, b, c, d]: [u8; 4]) -> Vec<u8> {
    proxy_header(0x21, 0x11, &[a, b, c, d, 10, 0, 0, 1, 0, 80, 1, 187])
}

fn from_client() -> Vec<u8> {
    proxied([198, 51, 100, 7])
}

fn serve<'s>(sandbox: &'s Sandbox, listen: &str) -> Server<'s> {
    sandbox.serve(&format!("{SIGNING}{LOG}[listen]\n{listen}\n"))
}

/// Sends one authorized request with these bytes before it and these header lines, and returns its
/// status.
fn send_once(address: SocketAddr, before: &[u8], lines: &str) -> u16 {
    let mut connection = Connection::open(address);
    connection.send_raw(&[before, auth_request(lines).as_bytes()].concat());
    connection.receive(false).status
}

#[test]
fn e1_proxy_protocol_sets_the_client_address() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "proxy_protocol=true\ntrusted_proxies=127.0.0.1");
    let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]].concat();
    let cases = [
        (from_client(), "", "198.51.100.7"),
        (proxy_header(0x21, 0x21, &[&v6[..], &[0; 4]].concat()), "", "2001:db8::7"),
        // LOCAL: the proxy's own health check.
        (proxy_header(0x20, 0, &[]), "", "127.0.0.1"),
        // PROXY with an unspecified family: the client is unknown. It is not the proxy and not
        // trusted.
        (proxy_header(0x21, 0, &[]), "", "unknown"),
        (proxy_header(0x21, 0, &[]), "X-Forwarded-For: 203.0.113.1\r\n", "unknown"),
        // The client's address is known, so the header lines come from that client.
        (from_client(), "X-Forwarded-For: 203.0.113.1\r\n", "198.51.100.7"),
        // Version 1.
        (b"PROXY TCP4 198.51.100.7 10.0.0.1 1 2\r\n".to_vec(), "", "198.51.100.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), "", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "X-Forwarded-For: 203.0.113.1\r\n", "unknown"),
    ];
    for (before, lines, _) in &cases {
        assert_eq!(send_once(server.address, before, lines), 200);
    }
    let clients: Vec<_> =
        request_lines(&server, cases.len()).iter().map(|line| line["client"].clone()).collect();
    assert_eq!(clients, cases.map(|(_, _, client)| client));
    // A proxy that does not speak the protocol is disconnected, whatever else it sends.
    for bytes in [
        auth_request("").into_bytes(),
        b"PROXY TCP4 198.51.100.7 10.0.0.1 1 02\r\n".to_vec(),
        proxy_header(0x31, 0x11, &[0; 12]),
    ] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(&[bytes, auth_request("").into_bytes()].concat());
        assert_eq!(connection.receive_all(), b"");
    }
    request_lines(&server, clients.len());
}

#[test]
fn e1_untrusted_proxy_protocol_is_refused() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "proxy_protocol=true\ntrusted_proxies=10.0.0.0/8, unix");
    let version_1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec();
    for (header, status, reason) in [(from_client(), 400, "head"), (version_1, 505, "version")] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(&[&header[..], auth_request("").as_bytes()].concat());
        assert_refused(&mut connection, status, reason);
    }
    assert_served(&mut Connection::open(server.address));
    assert_eq!(request_lines(&server, 1)[0]["client"], "127.0.0.1");
}

#[test]
fn e1_proxy_protocol_cannot_claim_a_unix_peer() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "proxy_protocol=true\ntrusted_proxies=127.0.0.1, unix");
    let mapped = [&[0; 10][..], &[0xff; 2], &[0; 24]].concat();
    for before in [
        b"PROXY TCP4 0.0.0.0 10.0.0.1 1 2\r\n".to_vec(),
        b"PROXY TCP6 ::ffff:0.0.0.0 ::1 1 2\r\n".to_vec(),
        proxy_header(0x21, 0x11, &[0; 12]),
        proxy_header(0x21, 0x21, &[0; 36]),
        proxy_header(0x21, 0x21, &mapped),
    ] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(
            &[&before, auth_request("X-Forwarded-For: 203.0.113.1\r\n").as_bytes()].concat(),
        );
        assert_eq!(connection.receive_all(), b"", "{before:?}");
    }
    assert_eq!(send_once(server.address, &from_client(), ""), 200);
    request_lines(&server, 1);
}

#[test]
fn haproxy_sends_the_client_address() {
    for version in ["send-proxy", "send-proxy-v2"] {
        check_client_address(version);
    }
}

/// Checks the client's address behind an HAProxy whose server has this option.
fn check_client_address(option: &str) {
    let sandbox = Sandbox::new();
    let (front, back) = (free_address(), free_address());
    let listener = format!(
        "[listener_proxied]\nbind={back}\nproxy_protocol=true\ntrusted_proxies=127.0.0.0/8\n"
    );
    let server = sandbox.serve(&format!("{SIGNING}{LOG}{listener}"));
    let configuration = sandbox.file(
        "haproxy.cfg",
        format!(
            "defaults\n mode tcp\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n\
             listen all\n bind {front}\n server one {back} {option}\n"
        ),
    );
    let mut command = std::process::Command::new("haproxy");
    command.arg("-f").arg(configuration);
    let _haproxy = DaemonProcess::start(command, sandbox.path(), front);
    let before = request_lines_of(&server, "proxied").len();
    let mut connection = Connection::open(front);
    let from = connection.stream().local_addr().unwrap().ip().to_string();
    assert_served(&mut connection);
    assert_served(&mut connection);
    countersign_tests::eventually(|| request_lines_of(&server, "proxied").len() >= before + 2);
    for line in &request_lines_of(&server, "proxied")[before..] {
        assert_eq!(line["client"].as_str(), Some(&*from), "{line}");
    }
    assert_healthy(&server);
}

fn request_lines_of(server: &Server<'_>, listener: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "request" && line["listener"] == listener).collect()
}

/// Returns the head of `GET /auth` with a good token and these header lines.
fn auth_head(lines: &str) -> String {
    format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n{lines}", fixture::good_token())
}

/// The headers of every proxy dialect at once, and spellings of them that no proxy removes.
const PROXY_HEADERS: &str = "X-Forwarded-For: 198.51.100.7\r\nX-Real-IP: 203.0.113.66\r\nForwarded: for=203.0.113.67\r\n\
                    X-Original-Method: PUT\r\nX-Original-URI: /nginx?secret\r\n\
                    X-Forwarded-Method: DELETE\r\nX-Forwarded-Uri: /forwarded?secret\r\nX-Request-ID: said\r\n\
                    X_Forwarded_For: 192.0.2.1\r\nX_Real_IP: 192.0.2.2\r\n\
                    X_Original_Method: PATCH\r\nX_Original_URI: /underscore\r\n\
                    X_Forwarded_Method: PATCH\r\nX_Forwarded_Uri: /underscore\r\n";

fn e1_only_the_configured_dialect_is_trusted(protocol: Protocol) {
    for (options, expected) in [
        ("", ["127.0.0.1", "GET", "/auth"]),
        ("dialect=nginx", ["127.0.0.1", "GET", "/auth"]),
        ("trusted_proxies=10.0.0.0/8\ndialect=nginx", ["127.0.0.1", "GET", "/auth"]),
        (
            "trusted_proxies=10.0.0.0/8\ndialect=x-forwarded\nclient_address_header=X-Real-IP",
            ["127.0.0.1", "GET", "/auth"],
        ),
        ("trusted_proxies=127.0.0.1", ["198.51.100.7", "GET", "/auth"]),
        (
            "trusted_proxies=127.0.0.1\nclient_address_header=X-Real-IP",
            ["203.0.113.66", "GET", "/auth"],
        ),
        (
            "trusted_proxies=127.0.0.1\nclient_address_header=Forwarded",
            ["203.0.113.67", "GET", "/auth"],
        ),
        ("trusted_proxies=127.0.0.1\ndialect=nginx", ["198.51.100.7", "PUT", "/nginx"]),
        (
            "trusted_proxies=127.0.0.1\ndialect=x-forwarded",
            ["198.51.100.7", "DELETE", "/forwarded"],
        ),
        ("trusted_proxies=127.0.0.1\ndialect=envoy-path", ["198.51.100.7", "GET", "/auth"]),
    ] {
        let sandbox = Sandbox::over(protocol);
        let server = serve(&sandbox, options);
        assert_eq!(server.request(&auth_head(PROXY_HEADERS)).status, 200);
        let line = &request_lines(&server, 1)[0];
        assert_eq!(
            ["client", "method", "uri"].map(|name| line[name].as_str().unwrap()),
            expected,
            "{options}"
        );
        assert_eq!(line["request_id"] == "said", options.contains("127.0.0.1"), "{options}");
    }
}

fn e1_forwarded_is_read_through_trusted_proxies(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = "trusted_proxies=127.0.0.1, 10.0.0.0/8\nclient_address_header=Forwarded";
    let server = serve(&sandbox, options);
    let cases = [
        ("Forwarded: for=203.0.113.9, for=198.51.100.7;proto=https\r\n", "198.51.100.7"),
        ("Forwarded: for=198.51.100.7\r\nForwarded: For=\"10.0.0.2:80\"\r\n", "198.51.100.7"),
        ("Forwarded: for=\"[2001:db8::7]:4711\"\r\n", "2001:db8::7"),
        ("Forwarded: for=198.51.100.7, for=unknown\r\n", "127.0.0.1"),
        ("Forwarded: for=198.51.100.7:80\r\n", "127.0.0.1"),
    ];
    for (lines, _) in cases {
        assert_eq!(server.request(&auth_head(lines)).status, 200);
    }
    let clients: Vec<_> =
        request_lines(&server, cases.len()).iter().map(|line| line["client"].clone()).collect();
    assert_eq!(clients, cases.map(|(_, client)| client));
}

fn e1_duplicate_proxy_headers_are_ignored(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, "trusted_proxies=127.0.0.1\ndialect=nginx");
    let twice = "X-Original-Method: PUT\r\nX-Original-URI: /one\r\nX-Original-URI: /two\r\n";
    assert_eq!(server.request(&auth_head(twice)).status, 200);
    assert_eq!(request_lines(&server, 1)[0]["uri"], "/auth");
}
