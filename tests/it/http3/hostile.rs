//! Attacks on QUIC by packets that the client library of the other tests cannot send. They are sent
//! by aioquic, in `tests/clients/hostile_quic.py`.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use countersign_tests::binary::Server;
use serde_json::{Value, json};

use super::{Fixture, auth_request};
use crate::hardening::kilobytes;

/// Error codes of RFC 9000 section 20.1.
mod code {
    pub(super) const INTERNAL_ERROR: u64 = 0x1;
    pub(super) const FRAME_ENCODING_ERROR: u64 = 0x7;
    pub(super) const TRANSPORT_PARAMETER_ERROR: u64 = 0x8;
    pub(super) const PROTOCOL_VIOLATION: u64 = 0xa;
    pub(super) const INVALID_TOKEN: u64 = 0xb;
    pub(super) const CRYPTO_BUFFER_EXCEEDED: u64 = 0xd;
}

/// The limit for the server's growth of memory during an attack, in KiB.
const MAX_GROWTH_KIB: u64 = 16 * 1024;

/// The end of an attack.
#[derive(Debug)]
struct AttackResult {
    /// The code with which the server closed the connection, if it did.
    code: Option<u64>,
    /// Bytes that the attack sent.
    sent: u64,
    /// Bytes that the server sent, for attacks without a handshake.
    received: u64,
}

/// Attacks the server, and checks that it keeps to its memory and serves others.
#[track_caller]
fn attack(fixture: &Fixture, server: &Server<'_>, name: &str) -> AttackResult {
    let other = fixture.connect(server);
    assert_eq!(other.request(&auth_request()).unwrap().status, 200);
    let before = kilobytes(server, "VmHWM");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let authority = fixture.sandbox.file("ca.crt", fixture.authority.pem());
    let mut client = Command::new(directory.join(".venv/bin/python"))
        .arg(directory.join("hostile_quic.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}: tests/run installs what it needs"));
    let scenario = json!({ "port": server.address.port(), "authority": authority, "attack": name });
    client.stdin.take().unwrap().write_all(scenario.to_string().as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = |direction: &str| result[direction].as_u64().unwrap();
    let after = kilobytes(server, "VmHWM");
    assert!(after < before + MAX_GROWTH_KIB, "{name}: {before} KiB grew to {after} KiB");
    assert_eq!(other.request(&auth_request()).unwrap().status, 200, "{name}");
    assert_eq!(fixture.connect(server).request(&auth_request()).unwrap().status, 200, "{name}");
    assert!(!server.log().contains("panicked"), "{name}: {}", server.log());
    AttackResult { code: result["code"].as_u64(), sent: bytes("sent"), received: bytes("received") }
}

/// CVE-2023-42805: quinn-proto panicked.
#[test]
fn unknown_quic_frame_closes_the_connection() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let result = attack(&fixture, &server, "unknown_frame");
    assert_eq!(result.code, Some(code::FRAME_ENCODING_ERROR));
}

/// CVE-2026-31812: quinn-proto panicked.
#[test]
fn invalid_transport_parameters_are_refused() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    for name in [
        "max_ack_delay",
        "ack_delay_exponent",
        "max_udp_payload_size",
        "active_connection_id_limit",
        "initial_max_streams_bidi",
        "initial_max_data",
        "stateless_reset_token",
        "preferred_address",
    ] {
        let result = attack(&fixture, &server, name);
        assert_eq!(result.code, Some(code::TRANSPORT_PARAMETER_ERROR), "{name}");
    }
}

/// CVE-2023-49295, CVE-2023-6193: the responses were queued without a limit.
#[test]
fn path_challenge_flood_is_bounded() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let result = attack(&fixture, &server, "path_challenges");
    assert!(result.code.is_some() || result.sent > 4_000_000, "{result:?}");
}

/// CVE-2024-22189, CVE-2024-1410: the confirmations were queued without a limit.
#[test]
fn connection_id_floods_are_bounded() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let result = attack(&fixture, &server, "new_connection_ids");
    assert!(result.code.is_some() || result.sent > 4_000_000, "{result:?}");
    let result = attack(&fixture, &server, "retired_connection_ids");
    assert_eq!(result.code, Some(code::PROTOCOL_VIOLATION));
}

/// CVE-2024-1765: the frames were kept without a limit.
#[test]
fn crypto_frame_flood_is_bounded() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let result = attack(&fixture, &server, "crypto_frames");
    assert_eq!(result.code, Some(code::CRYPTO_BUFFER_EXCEEDED));
}

/// CVE-2025-4820, CVE-2025-4821: the congestion window grew without data being received.
#[test]
fn optimistic_acknowledgements_are_refused() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    for name in ["unsent_packets_acknowledged", "all_packets_acknowledged"] {
        let result = attack(&fixture, &server, name);
        assert_eq!(result.code, Some(code::PROTOCOL_VIOLATION), "{name}");
    }
}

/// CVE-2026-25800: each fragment of a stream took far more memory than its bytes.
#[test]
fn stream_gaps_are_bounded() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let result = attack(&fixture, &server, "stream_gaps");
    assert_eq!(result.code, Some(code::INTERNAL_ERROR));
}

/// QUIC-LEAK, CVE-2025-54939: packets after the first of a datagram were never freed.
#[test]
fn coalesced_packets_are_not_kept() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let result = attack(&fixture, &server, "coalesced_packets");
    assert!(result.sent > 10_000_000, "{result:?}");
}

#[test]
fn unvalidated_address_is_not_amplified() {
    /// quinn-proto completes a datagram for which it had room when it began
    /// (<https://github.com/quinn-rs/quinn/issues/1082>).
    const DATAGRAM: u64 = 1200;
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let result = attack(&fixture, &server, "unanswered_handshake");
    assert!(result.received > 0, "{result:?}");
    assert!(result.received < 3 * result.sent + DATAGRAM, "{result:?}");
    // With a Retry, it receives less than it sent.
    let server = fixture.serve("[quic]\nretry_above=0\n");
    let result = attack(&fixture, &server, "unanswered_handshake");
    assert!((1..result.sent).contains(&result.received), "{result:?}");
}

#[test]
fn retry_token_of_another_address_is_refused() {
    let fixture = Fixture::new();
    let server = fixture.serve("[quic]\nretry_above=0\n");
    let result = attack(&fixture, &server, "foreign_retry_token");
    assert_eq!(result.code, Some(code::INVALID_TOKEN));
}
