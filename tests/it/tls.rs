use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use base64::Engine as _;
use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::{Authority, CURRENT, EXPIRED, IssuedCertificate},
    eventually,
    http::{Connection, Response},
    openssl::openssl,
    tls::{GROUPS, TlsClient, TlsClientOptions, TlsExchange, VERSIONS},
};
use rustls::{
    HandshakeKind::{Full, FullWithHelloRetryRequest, Resumed},
    NamedGroup, ProtocolVersion, SupportedProtocolVersion,
    crypto::{SupportedKxGroup, aws_lc_rs::kx_group},
    version::{TLS12, TLS13},
};

use crate::fixture::{self, SIGNING};

/// A server's authority and certificate, and the authority of its clients.
struct Fixture {
    sandbox: Sandbox,
    ours: Authority,
    theirs: Authority,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            sandbox: Sandbox::new(),
            ours: Authority::root("ours"),
            theirs: Authority::root("theirs"),
        };
        fixture.ours.server().write(fixture.sandbox.path());
        fixture.file("ours.crt", fixture.ours.pem());
        fixture.file("clients.crt", fixture.theirs.pem());
        fixture
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        self.sandbox.file(name, text);
    }

    fn serve(&self, listen: &str) -> Server<'_> {
        self.sandbox.serve(&configuration(listen))
    }

    /// Returns the exit code of `config check`, and its warnings or errors.
    fn check(&self, listen: &str) -> (i32, String) {
        let config = self.sandbox.file("c.cfg", configuration(listen));
        let output = self.sandbox.run(["config", "check", "--config", config.to_str().unwrap()]);
        (output.code(), output.stderr)
    }

    fn client(&self, options: &TlsClientOptions<'_>) -> TlsClient {
        TlsClient::new(&self.ours, options)
    }

    /// Returns a [`TlsClient`] with or without a certificate.
    fn client_with(
        &self,
        certificate: Option<&IssuedCertificate>,
        version: &'static SupportedProtocolVersion,
    ) -> TlsClient {
        self.client(&TlsClientOptions {
            versions: &[version],
            certificate,
            ..TlsClientOptions::default()
        })
    }
}

fn configuration(listen: &str) -> String {
    format!("{SIGNING}[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\n{listen}\n")
}

/// Sends `GET /auth` with a good token.
fn auth(client: &TlsClient, server: &Server<'_>) -> io::Result<(Response, TlsExchange)> {
    client.request(
        server.address,
        &format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", fixture::good_token()),
    )
}

#[track_caller]
fn assert_served(client: &TlsClient, server: &Server<'_>) -> TlsExchange {
    let (response, exchange) = auth(client, server).unwrap();
    assert_eq!(
        (response.status, response.header("x-auth-subject")),
        (200, Some("bob")),
        "{response:?}"
    );
    exchange
}

/// Checks that the connection is rejected with this alert or for this reason.
#[track_caller]
fn assert_rejected(client: &TlsClient, server: &Server<'_>, reason: &str) {
    let error = auth(client, server).map(|(response, _)| response).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    assert_eq!(server.operations("/live").status, 200);
}

/// Sends a request with `openssl s_client` and returns everything it prints.
fn s_client(server: &Server<'_>, arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &server.address.to_string(), "-ign_eof"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is missing: apt-get install openssl");
    let request = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    // The connection may already be rejected.
    drop(child.stdin.take().unwrap().write_all(request));
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn only_tls_1_2_and_1_3_are_accepted() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    for (version, name) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)]
    {
        let exchange = assert_served(&fixture.client_with(None, version), &server);
        assert_eq!(exchange.tls().protocol_version(), Some(name));
    }
    for (option, accepted) in
        [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false), ("-tls1", false)]
    {
        let output = s_client(&server, &[option, "-cipher", "ALL:@SECLEVEL=0"]);
        assert_eq!(output.contains("HTTP/1.1 200"), accepted, "{option}: {output}");
        assert_eq!(output.contains("SSL alert number"), !accepted, "{option}: {output}");
    }
}

#[test]
fn key_exchange_groups_are_negotiated() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let agreed = |groups: &[&'static dyn SupportedKxGroup], version| {
        let client = fixture.client(&TlsClientOptions {
            versions: &[version],
            groups,
            ..TlsClientOptions::default()
        });
        let exchange = assert_served(&client, &server);
        (
            exchange.tls().negotiated_key_exchange_group().unwrap().name(),
            exchange.tls().handshake_kind().unwrap(),
        )
    };
    assert_eq!(agreed(&GROUPS, &TLS13), (NamedGroup::X25519MLKEM768, Full));
    // The client's order decides.
    assert_eq!(
        agreed(&[kx_group::X25519, kx_group::X25519MLKEM768], &TLS13),
        (NamedGroup::X25519, Full)
    );
    for (group, name) in [
        (kx_group::X25519, NamedGroup::X25519),
        (kx_group::SECP256R1, NamedGroup::secp256r1),
        (kx_group::SECP384R1, NamedGroup::secp384r1),
    ] {
        assert_eq!(agreed(&[group], &TLS13), (name, Full));
        assert_eq!(agreed(&[group], &TLS12), (name, Full));
        // A group that the server does not support comes first, with its key share.
        assert_eq!(
            agreed(&[kx_group::MLKEM1024, group], &TLS13),
            (name, FullWithHelloRetryRequest)
        );
    }
    let output =
        s_client(&server, &["-CAfile", fixture.sandbox.path().join("ours.crt").to_str().unwrap()]);
    assert!(
        output.contains("Server Temp Key: X25519") && output.contains("Verify return code: 0 (ok)"),
        "{output}"
    );
}

#[test]
fn tickets_resume_on_every_worker() {
    let fixture = Fixture::new();
    let server = fixture.serve("threads=2");
    for version in VERSIONS {
        let client = fixture.client_with(None, version);
        // Each connection goes to the worker with fewer connections, so both are used.
        let first = assert_served(&client, &server);
        let others: Vec<_> = (0..4).map(|_| assert_served(&client, &server)).collect();
        assert_eq!(first.tls().handshake_kind(), Some(Full));
        for one in others {
            assert_eq!(one.tls().handshake_kind(), Some(Resumed), "{version:?}");
        }
    }
    let file = fixture.sandbox.path().join("session");
    let file = file.to_str().unwrap();
    for version in ["-tls1_3", "-tls1_2"] {
        assert!(s_client(&server, &[version, "-sess_out", file]).contains("New, TLSv1"));
        let output = s_client(&server, &[version, "-sess_in", file]);
        assert!(
            output.contains("Reused, TLSv1") && output.contains("HTTP/1.1 200"),
            "{version}: {output}"
        );
    }
}

#[test]
fn tickets_do_not_allow_early_data() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.client_with(None, &TLS13);
    let (first, second) = (assert_served(&client, &server), assert_served(&client, &server));
    assert!(first.tls().tls13_tickets_received() > 0, "the first handshake returned tickets");
    assert_eq!((second.tls().handshake_kind(), second.offered_early_data), (Some(Resumed), false));
    let output = s_client(&server, &["-tls1_3"]);
    assert!(output.contains("Max Early Data: 0"), "{output}");
    let session = fixture.sandbox.path().join("session");
    s_client(&server, &["-tls1_3", "-sess_out", session.to_str().unwrap()]);
    let early = fixture.sandbox.file("early", "GET /early HTTP/1.1\r\nHost: t\r\n\r\n");
    let early =
        ["-tls1_3", "-sess_in", session.to_str().unwrap(), "-early_data", early.to_str().unwrap()];
    let output = s_client(&server, &early);
    assert!(
        output.contains("Early data was not sent") && output.contains("HTTP/1.1 200"),
        "{output}"
    );
}

#[test]
fn alpn_selects_a_common_protocol() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    for (offered, agreed) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
    ] {
        let exchange = assert_served(
            &fixture
                .client(&TlsClientOptions { protocols: offered, ..TlsClientOptions::default() }),
            &server,
        );
        assert_eq!(exchange.tls().alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
    }
    let offering =
        |protocols| fixture.client(&TlsClientOptions { protocols, ..TlsClientOptions::default() });
    assert_rejected(&offering(&["h3", "spdy/3"]), &server, "NoApplicationProtocol");
    drop(server);
    let server = fixture.serve("protocols=http/1.1\n");
    let exchange = assert_served(&offering(&["h2", "http/1.1"]), &server);
    assert_eq!(exchange.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_rejected(&offering(&["h2"]), &server, "NoApplicationProtocol");
}

#[test]
fn required_client_certificate_is_verified() {
    let fixture = Fixture::new();
    fixture.file("clients.crl", fixture.theirs.crl(&[66]));
    let server = fixture.serve(
        "client_certificates=required\nclient_ca_file=clients.crt\nclient_crl_file=clients.crl",
    );
    let (good, revoked) = (fixture.theirs.client("good", 1), fixture.theirs.client("revoked", 66));
    let (over, early) = (
        fixture.theirs.client_in(EXPIRED, "over", 2),
        fixture.theirs.client_in(2090..2100, "early", 3),
    );
    let impostor = Authority::root("theirs").client("good", 1);
    let (stranger, server_s) = (fixture.ours.client("good", 1), fixture.theirs.server());
    for version in VERSIONS {
        assert_served(&fixture.client_with(Some(&good), version), &server);
        assert_rejected(&fixture.client_with(None, version), &server, "CertificateRequired");
        for (bad, reason) in [
            (&revoked, "CertificateRevoked"),
            (&over, "CertificateExpired"),
            (&early, "CertificateExpired"),
            (&impostor, "DecryptError"),
            (&stranger, "UnknownCA"),
            (&server_s, "UnsupportedCertificate"),
        ] {
            assert_rejected(&fixture.client_with(Some(bad), version), &server, reason);
        }
        assert_served(&fixture.client_with(Some(&good), version), &server);
    }
}

#[test]
fn optional_client_certificate_must_be_valid() {
    let fixture = Fixture::new();
    fixture.file("clients.crl", fixture.theirs.crl_der(&[66]));
    let server = fixture.serve(
        "client_certificates=optional\nclient_ca_file=clients.crt\nclient_crl_file=clients.crl",
    );
    for version in VERSIONS {
        assert_served(&fixture.client_with(None, version), &server);
        assert_served(
            &fixture.client_with(Some(&fixture.theirs.client("good", 1)), version),
            &server,
        );
        assert_rejected(
            &fixture.client_with(Some(&fixture.theirs.client("revoked", 66)), version),
            &server,
            "CertificateRevoked",
        );
        assert_rejected(
            &fixture.client_with(Some(&fixture.ours.client("good", 1)), version),
            &server,
            "UnknownCA",
        );
    }
}

#[test]
fn client_certificates_disable_resumption() {
    let fixture = Fixture::new();
    let good = fixture.theirs.client("good", 1);
    for (demand, authorities) in [
        ("possession", ""),
        ("optional", "client_ca_file=clients.crt"),
        ("required", "client_ca_file=clients.crt"),
    ] {
        let server =
            fixture.serve(&format!("threads=1\nclient_certificates={demand}\n{authorities}"));
        for version in VERSIONS {
            for certificate in
                [Some(&good), None].into_iter().filter(|one| one.is_some() || demand != "required")
            {
                let client = fixture.client_with(certificate, version);
                for _ in 0..3 {
                    let exchange = assert_served(&client, &server);
                    assert_eq!(exchange.tls().handshake_kind(), Some(Full), "{demand}");
                    assert_eq!(exchange.tls().tls13_tickets_received(), 0, "{demand}");
                }
            }
        }
    }
}

/// A list that was added to the older one, or before it.
#[test]
fn newest_crl_of_an_authority_counts() {
    let fixture = Fixture::new();
    let client = fixture.theirs.client("revoked", 66);
    fixture.file("old.crl", fixture.theirs.numbered_crl(8, &[]));
    fixture.file("new.crl", fixture.theirs.numbered_crl(9, &[66]));
    fixture.file("expired.crl", fixture.theirs.crl_in(EXPIRED, &[]));
    for files in ["old.crl,new.crl", "new.crl,old.crl", "expired.crl,new.crl,old.crl"] {
        let server = fixture.serve(&format!(
            "client_certificates=required\nclient_ca_file=clients.crt\nclient_crl_file={files}"
        ));
        assert!(!server.log().contains("has expired"), "{}", server.log());
        for version in VERSIONS {
            let with_client = fixture.client_with(Some(&client), version);
            assert_rejected(&with_client, &server, "CertificateRevoked");
        }
    }
}

#[test]
fn crls_are_required_for_the_whole_chain() {
    let fixture = Fixture::new();
    let between = fixture.theirs.authority("between", 7);
    let client = between.client("good", 1);
    let configuration = "client_certificates=required\nclient_ca_file=clients.crt\nclient_crl_file=root.crl,between.crl";
    let (root, below) = (fixture.theirs.crl(&[]), between.crl(&[]));
    for (root, below, refused) in [
        (root.clone(), below.clone(), None),
        (fixture.theirs.crl(&[7]), below.clone(), Some("CertificateRevoked")),
        (root.clone(), between.crl(&[1]), Some("CertificateRevoked")),
        // A list is missing, for the clients or for their issuing authority.
        (root.clone(), root.clone(), Some("UnknownCA")),
        (below.clone(), below.clone(), Some("UnknownCA")),
        // A list has expired.
        (root.clone(), between.crl_in(EXPIRED, &[]), Some("alert")),
        (fixture.theirs.crl_in(EXPIRED, &[]), below, Some("alert")),
        // A list is signed by another authority of the same name.
        (root, Authority::root("between").crl(&[]), Some("alert")),
    ] {
        fixture.file("root.crl", root);
        fixture.file("between.crl", below);
        let server = fixture.serve(configuration);
        for version in VERSIONS {
            match refused {
                None => drop(assert_served(&fixture.client_with(Some(&client), version), &server)),
                Some(reason) => {
                    assert_rejected(&fixture.client_with(Some(&client), version), &server, reason)
                }
            }
        }
    }
}

#[test]
fn invalid_handshake_ends_only_its_connection() {
    let fixture = Fixture::new();
    let server = fixture.serve("threads=1");
    let mut good = Connection::open(server.address);
    for bytes in [
        &b"GET /auth HTTP/1.1\r\nHost: t\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x17\x03\x03\x00\x05hello",
        &[0; 4096],
        &[0xff; 70_000],
        b"SSH-2.0-x\r\n",
    ] {
        let mut stray = Connection::open(server.address);
        stray.send_raw(bytes);
        let answer = stray.receive_all();
        assert!(
            answer.is_empty() || (answer[0] == 0x15 && answer.len() == 7),
            "more than an alert: {answer:?}"
        );
        assert!(s_client(&server, &[]).contains("HTTP/1.1 200"));
    }
    // Half a handshake delays no other connection.
    good.send_raw(b"\x16\x03\x01");
    assert!(s_client(&server, &[]).contains("HTTP/1.1 200"));
}

#[test]
fn trace_log_does_not_contain_the_private_key() {
    let mut fixture = Fixture::new();
    fixture.sandbox = fixture.sandbox.variable("COUNTERSIGN_LOG", "trace");
    let server = fixture.serve("client_certificates=optional\nclient_ca_file=clients.crt");
    assert_served(&fixture.client_with(Some(&fixture.theirs.client("good", 1)), &TLS13), &server);
    assert_rejected(
        &fixture.client_with(Some(&fixture.ours.client("good", 1)), &TLS13),
        &server,
        "UnknownCA",
    );
    eventually(|| server.log().contains("connection not established"));
    let log = server.log();
    let key = std::fs::read_to_string(fixture.sandbox.path().join("tls.key")).unwrap();
    assert!(key.lines().all(|line| !log.contains(line)), "{log}");
}

#[test]
fn unusable_tls_files_are_named_with_the_reason() {
    const TEXT: &str = "Failed to load ssl certificate. Please check if you provided the correct certificate/key path and make sure that \
                        these files are not encrypted.";
    let fixture = Fixture::new();
    let refused = |listen: &str, words: &[&str]| {
        let (code, message) = fixture.check(listen);
        assert_eq!(code, 2, "{message}");
        for words in words {
            assert!(message.contains(words), "{words:?} is not in\n{message}");
        }
        message
    };
    let (good, other) = (fixture.ours.server(), fixture.ours.server());
    let in_one_line = other.key.replacen('\n', "", 1);
    let key = fixture.sandbox.file("plain.key", &other.key);
    let key = key.to_str().unwrap();
    let encrypted = |option: &[&str]| {
        String::from_utf8(openssl(
            &[option, &["-in", key, "-passout", "pass:secret"]].concat(),
            b"",
        ))
        .unwrap()
    };
    for (certificate, key, why) in [
        (good.pem(), &*other.key, "tls.key: the key does not belong to the certificate in tls.crt"),
        (
            fixture.ours.pem() + &good.pem(),
            &good.key,
            "tls.key: the key does not belong to the certificate in tls.crt, or",
        ),
        (
            good.pem(),
            &encrypted(&["pkcs8", "-topk8", "-v2", "aes256"]),
            "tls.key: the private key is encrypted",
        ),
        (good.pem(), &encrypted(&["ec", "-aes256"]), "tls.key: the private key is encrypted"),
        (good.pem(), "", "tls.key: it holds no private key in PEM"),
        (good.pem(), &good.pem(), "tls.key: it holds no private key in PEM"),
        (
            good.pem(),
            &in_one_line,
            "tls.key: it is damaged: a line that begins a section does not end as it should",
        ),
        (good.pem(), &other.key[..100], "tls.key: it is damaged: a section has no end"),
        (
            good.pem(),
            &other.key.replace("MI", "!!"),
            "tls.key: it is damaged: a section is not base64",
        ),
        (good.pem(), &other.key.replace("MI", "MA"), "tls.key: it cannot be used"),
        (String::new(), &good.key, "tls.crt: it holds no certificate in PEM"),
        (good.key.clone(), &good.key, "tls.crt: it holds no certificate in PEM"),
        (good.pem().replace("MI", "MA"), &good.key, "tls.crt: a certificate in it is damaged"),
    ] {
        fixture.file("tls.crt", certificate);
        fixture.file("tls.key", key);
        let message = refused("", &[TEXT, why, "c.cfg:"]);
        // As text, or as the decimal values of its bytes.
        let digits = &other.key.lines().nth(1).unwrap()[..20];
        let numbers = format!("{:?}", digits.as_bytes());
        assert!(
            !message.contains(digits) && !message.contains(numbers.trim_matches(['[', ']'])),
            "the key is shown: {message}"
        );
    }
    good.write(fixture.sandbox.path());
    let clients = "client_certificates=required\nclient_ca_file=";
    refused(
        &format!("{clients}nowhere.crt"),
        &["client_ca_file in listen cannot be used: nowhere.crt: No such file"],
    );
    refused(
        &format!("{clients}."),
        &["client_ca_file in listen cannot be used: .: not a regular file"],
    );
    refused(
        &format!("{clients}tls.key"),
        &["tls.key: it holds no certificate in PEM", "the clients' authorities in PEM"],
    );
    let clients = format!("{clients}clients.crt\nclient_crl_file=");
    refused(
        &format!("{clients}nowhere.crl"),
        &["client_crl_file in listen cannot be used: nowhere.crl: No such file"],
    );
    for (list, why) in [
        (&b""[..], "list.crl: it holds no CRL"),
        (fixture.theirs.pem().as_bytes(), "list.crl: it holds no CRL"),
        (b"0\x03\x02\x01\x01", "list.crl: a CRL in it is damaged"),
    ] {
        fixture.file("list.crl", list);
        fixture.file("good.crl", fixture.theirs.crl(&[]));
        refused(&format!("{clients}good.crl,list.crl"), &[why, "current CRLs in PEM or DER"]);
    }
}

#[test]
fn expired_certificates_and_crls_are_warned_about() {
    let fixture = Fixture::new();
    assert_eq!(fixture.check(""), (0, String::new()));
    fixture.ours.server_in(EXPIRED).write(fixture.sandbox.path());
    let (code, said) = fixture.check("");
    assert!(
        code == 0 && said.contains("c.cfg:10: tls.crt: a certificate in it has expired, "),
        "{said}"
    );
    fixture.ours.server_in(2090..2100).write(fixture.sandbox.path());
    let (code, said) = fixture.check("");
    assert!(
        code == 0 && said.contains("tls.crt: a certificate in it is not valid before "),
        "{said}"
    );
    fixture.ours.server_in(CURRENT).write(fixture.sandbox.path());
    fixture.file("list.crl", fixture.theirs.crl_in(EXPIRED, &[]));
    let clients =
        "client_certificates=optional\nclient_ca_file=clients.crt\nclient_crl_file=list.crl";
    let (code, said) = fixture.check(clients);
    assert!(code == 0 && said.contains("list.crl: a CRL in it has expired, "), "{said}");
    fixture.file("list.crl", fixture.ours.crl(&[]));
    let (code, said) = fixture.check(clients);
    assert!(
        code == 0
            && said.contains("clients.crt: the CRL of CN=theirs is missing: all of its clients"),
        "{said}"
    );
}

#[test]
fn client_certificate_fingerprint_is_logged() {
    let fixture = Fixture::new();
    let direct = "client_certificates=optional\nclient_ca_file=clients.crt\nclient_certificate_header=X-Client-Cert\n";
    let proxied = "[listener_proxy]\nbind=unix:PATH\ntrusted_proxies=unix\nclient_certificate_header=X-Client-Cert\n";
    let socket = fixture.sandbox.path().join("proxy.sock");
    let proxied = proxied.replace("PATH", socket.to_str().unwrap());
    let server = fixture.serve(&format!("{direct}{proxied}[log]\nrequests=all\n"));
    let (shown, forwarded) = (fixture.theirs.client("shown", 1), fixture.theirs.client("said", 2));
    let fingerprint = |issued: &IssuedCertificate| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &issued.chain[0]);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let line = format!(
        "X-Client-Cert: {}\r\n",
        base64::engine::general_purpose::STANDARD.encode(&forwarded.chain[0])
    );

    // The client presents the certificate itself: its header is ignored.
    let client = fixture.client_with(Some(&shown), &TLS13);
    client.request(server.address, &format!("GET /auth/direct HTTP/1.1\r\n{line}")).unwrap();
    // A trusted proxy forwards the certificate in the header.
    let mut proxy = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    proxy.write_all(format!("GET /auth/proxied HTTP/1.0\r\n{line}\r\n").as_bytes()).unwrap();
    io::Read::read_to_string(&mut proxy, &mut String::new()).unwrap();
    eventually(|| {
        let log = server.log();
        let written = |path: &str| log.lines().find(|line| line.contains(path)).map(str::to_owned);
        written("/auth/direct").is_some_and(|line| line.contains(&fingerprint(&shown)))
            && written("/auth/proxied").is_some_and(|line| line.contains(&fingerprint(&forwarded)))
    });
}
