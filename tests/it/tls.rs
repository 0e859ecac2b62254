use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use base64::Engine as _;
use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::{Authority, CURRENT, Issued, OVER},
    eventually,
    http::{Connection, Response},
    openssl::openssl,
    tls::{Asked, Client, GROUPS, VERSIONS, Wishes},
};
use rustls::{
    HandshakeKind::{Full, FullWithHelloRetryRequest, Resumed},
    NamedGroup, ProtocolVersion, SupportedProtocolVersion,
    crypto::{SupportedKxGroup, aws_lc_rs::kx_group},
    version::{TLS12, TLS13},
};

use crate::given::{self, SIGNING};

/// A server's authority with its files, and that of the server's clients.
struct Given {
    sandbox: Sandbox,
    ours: Authority,
    theirs: Authority,
}

impl Given {
    fn new() -> Self {
        let given = Self {
            sandbox: Sandbox::new(),
            ours: Authority::root("ours"),
            theirs: Authority::root("theirs"),
        };
        given.ours.server().write(given.sandbox.path());
        given.file("ours.crt", given.ours.pem());
        given.file("clients.crt", given.theirs.pem());
        given
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        self.sandbox.file(name, text);
    }

    fn serve(&self, listen: &str) -> Server<'_> {
        self.sandbox.serve(&configuration(listen))
    }

    /// The warnings or errors of `config check`, with its exit code.
    fn check(&self, listen: &str) -> (i32, String) {
        let config = self.sandbox.file("c.cfg", configuration(listen));
        let output = self.sandbox.run(["config", "check", "--config", config.to_str().unwrap()]);
        (output.code(), output.stderr)
    }

    fn client(&self, wishes: &Wishes<'_>) -> Client {
        Client::new(&self.ours, wishes)
    }

    /// A client with a certificate or without.
    fn showing(
        &self,
        certificate: Option<&Issued>,
        version: &'static SupportedProtocolVersion,
    ) -> Client {
        self.client(&Wishes { versions: &[version], certificate, ..Wishes::default() })
    }
}

fn configuration(listen: &str) -> String {
    format!("{SIGNING}[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\n{listen}\n")
}

/// `GET /auth` with a good token.
fn auth(client: &Client, server: &Server<'_>) -> io::Result<(Response, Asked)> {
    client.ask(
        server.address,
        &format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", given::good_token()),
    )
}

#[track_caller]
fn served(client: &Client, server: &Server<'_>) -> Asked {
    let (response, asked) = auth(client, server).unwrap();
    assert_eq!(
        (response.status, response.header("x-auth-subject")),
        (200, Some("bob")),
        "{response:?}"
    );
    asked
}

/// Turned away, with this alert or for this reason.
#[track_caller]
fn turned_away(client: &Client, server: &Server<'_>, why: &str) {
    let error = auth(client, server).map(|(response, _)| response).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert_eq!(server.operations("/live").status, 200);
}

/// What `openssl s_client` says when it sends a request and reads to the end.
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
    // It may have been turned away by now.
    drop(child.stdin.take().unwrap().write_all(request));
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn versions_1_3_and_1_2_are_spoken_and_older_ones_are_not() {
    let given = Given::new();
    let server = given.serve("");
    for (version, name) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)]
    {
        let asked = served(&given.showing(None, version), &server);
        assert_eq!(asked.tls().protocol_version(), Some(name));
    }
    for (option, accepted) in
        [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false), ("-tls1", false)]
    {
        let said = s_client(&server, &[option, "-cipher", "ALL:@SECLEVEL=0"]);
        assert_eq!(said.contains("HTTP/1.1 200"), accepted, "{option}: {said}");
        assert_eq!(said.contains("SSL alert number"), !accepted, "{option}: {said}");
    }
}

#[test]
fn keys_are_agreed_on_by_the_hybrid_group_or_by_curves() {
    let given = Given::new();
    let server = given.serve("");
    let agreed = |groups: &[&'static dyn SupportedKxGroup], version| {
        let client = given.client(&Wishes { versions: &[version], groups, ..Wishes::default() });
        let asked = served(&client, &server);
        (
            asked.tls().negotiated_key_exchange_group().unwrap().name(),
            asked.tls().handshake_kind().unwrap(),
        )
    };
    assert_eq!(agreed(&GROUPS, &TLS13), (NamedGroup::X25519MLKEM768, Full));
    // The order is the client's.
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
        // One that nobody has, and the share that goes with it, in front.
        assert_eq!(
            agreed(&[kx_group::MLKEM1024, group], &TLS13),
            (name, FullWithHelloRetryRequest)
        );
    }
    let said =
        s_client(&server, &["-CAfile", given.sandbox.path().join("ours.crt").to_str().unwrap()]);
    assert!(
        said.contains("Server Temp Key: X25519") && said.contains("Verify return code: 0 (ok)"),
        "{said}"
    );
}

#[test]
fn a_ticket_is_good_on_every_worker() {
    let given = Given::new();
    let server = given.serve("threads=2");
    for version in VERSIONS {
        let client = given.showing(None, version);
        // Each on the worker that has less to do: on both of them.
        let first = served(&client, &server);
        let others: Vec<_> = (0..4).map(|_| served(&client, &server)).collect();
        assert_eq!(first.tls().handshake_kind(), Some(Full));
        for one in others {
            assert_eq!(one.tls().handshake_kind(), Some(Resumed), "{version:?}");
        }
    }
    let file = given.sandbox.path().join("session");
    let file = file.to_str().unwrap();
    for version in ["-tls1_3", "-tls1_2"] {
        assert!(s_client(&server, &[version, "-sess_out", file]).contains("New, TLSv1"));
        let said = s_client(&server, &[version, "-sess_in", file]);
        assert!(
            said.contains("Reused, TLSv1") && said.contains("HTTP/1.1 200"),
            "{version}: {said}"
        );
    }
}

#[test]
fn no_ticket_allows_early_data() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.showing(None, &TLS13);
    let (first, second) = (served(&client, &server), served(&client, &server));
    assert!(first.tls().tls13_tickets_received() > 0, "the first one came back with tickets");
    assert_eq!((second.tls().handshake_kind(), second.offered_early_data), (Some(Resumed), false));
    let said = s_client(&server, &["-tls1_3"]);
    assert!(said.contains("Max Early Data: 0"), "{said}");
    let session = given.sandbox.path().join("session");
    s_client(&server, &["-tls1_3", "-sess_out", session.to_str().unwrap()]);
    let early = given.sandbox.file("early", "GET /early HTTP/1.1\r\nHost: t\r\n\r\n");
    let early =
        ["-tls1_3", "-sess_in", session.to_str().unwrap(), "-early_data", early.to_str().unwrap()];
    let said = s_client(&server, &early);
    assert!(said.contains("Early data was not sent") && said.contains("HTTP/1.1 200"), "{said}");
}

#[test]
fn the_protocol_inside_is_one_that_both_speak() {
    let given = Given::new();
    let server = given.serve("");
    for (offered, agreed) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
    ] {
        let asked =
            served(&given.client(&Wishes { protocols: offered, ..Wishes::default() }), &server);
        assert_eq!(asked.tls().alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
    }
    let offering = |protocols| given.client(&Wishes { protocols, ..Wishes::default() });
    turned_away(&offering(&["h3", "spdy/3"]), &server, "NoApplicationProtocol");
    drop(server);
    let server = given.serve("protocols=http/1.1\n");
    let asked = served(&offering(&["h2", "http/1.1"]), &server);
    assert_eq!(asked.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    turned_away(&offering(&["h2"]), &server, "NoApplicationProtocol");
}

#[test]
fn where_a_certificate_is_required_only_a_good_one_is_served() {
    let given = Given::new();
    given.file("clients.crl", given.theirs.revoked(&[66]));
    let server = given.serve(
        "client_certificates=required\nclient_ca_file=clients.crt\nclient_crl_file=clients.crl",
    );
    let (good, revoked) = (given.theirs.client("good", 1), given.theirs.client("revoked", 66));
    let (over, early) =
        (given.theirs.client_in(OVER, "over", 2), given.theirs.client_in(2090..2100, "early", 3));
    let impostor = Authority::root("theirs").client("good", 1);
    let (stranger, server_s) = (given.ours.client("good", 1), given.theirs.server());
    for version in VERSIONS {
        served(&given.showing(Some(&good), version), &server);
        turned_away(&given.showing(None, version), &server, "CertificateRequired");
        for (bad, why) in [
            (&revoked, "CertificateRevoked"),
            (&over, "CertificateExpired"),
            (&early, "CertificateExpired"),
            (&impostor, "DecryptError"),
            (&stranger, "UnknownCA"),
            (&server_s, "UnsupportedCertificate"),
        ] {
            turned_away(&given.showing(Some(bad), version), &server, why);
        }
        served(&given.showing(Some(&good), version), &server);
    }
}

#[test]
fn where_a_certificate_is_optional_a_bad_one_is_worse_than_none() {
    let given = Given::new();
    given.file("clients.crl", given.theirs.revoked_der(&[66]));
    let server = given.serve(
        "client_certificates=optional\nclient_ca_file=clients.crt\nclient_crl_file=clients.crl",
    );
    for version in VERSIONS {
        served(&given.showing(None, version), &server);
        served(&given.showing(Some(&given.theirs.client("good", 1)), version), &server);
        turned_away(
            &given.showing(Some(&given.theirs.client("revoked", 66)), version),
            &server,
            "CertificateRevoked",
        );
        turned_away(
            &given.showing(Some(&given.ours.client("good", 1)), version),
            &server,
            "UnknownCA",
        );
    }
}

#[test]
fn nothing_is_resumed_where_certificates_are_asked_for() {
    let given = Given::new();
    let good = given.theirs.client("good", 1);
    for demand in ["optional", "required"] {
        let server = given
            .serve(&format!("threads=1\nclient_certificates={demand}\nclient_ca_file=clients.crt"));
        for version in VERSIONS {
            for certificate in
                [Some(&good), None].into_iter().filter(|one| one.is_some() || demand == "optional")
            {
                let client = given.showing(certificate, version);
                for _ in 0..3 {
                    let asked = served(&client, &server);
                    assert_eq!(asked.tls().handshake_kind(), Some(Full), "{demand}");
                    assert_eq!(asked.tls().tls13_tickets_received(), 0, "{demand}");
                }
            }
        }
    }
}

#[test]
fn with_one_list_there_must_be_a_current_one_of_every_authority_in_the_chain() {
    let given = Given::new();
    let between = given.theirs.authority("between", 7);
    let client = between.client("good", 1);
    let configuration = "client_certificates=required\nclient_ca_file=clients.crt\nclient_crl_file=root.crl,between.crl";
    let (root, below) = (given.theirs.revoked(&[]), between.revoked(&[]));
    for (root, below, refused) in [
        (root.clone(), below.clone(), None),
        (given.theirs.revoked(&[7]), below.clone(), Some("CertificateRevoked")),
        (root.clone(), between.revoked(&[1]), Some("CertificateRevoked")),
        // Nobody says anything about clients, or about who vouches for them.
        (root.clone(), root.clone(), Some("UnknownCA")),
        (below.clone(), below.clone(), Some("UnknownCA")),
        // Or not lately.
        (root.clone(), between.revoked_in(OVER, &[]), Some("alert")),
        (given.theirs.revoked_in(OVER, &[]), below, Some("alert")),
        // Or it was somebody else who said it.
        (root, Authority::root("between").revoked(&[]), Some("alert")),
    ] {
        given.file("root.crl", root);
        given.file("between.crl", below);
        let server = given.serve(configuration);
        for version in VERSIONS {
            match refused {
                None => drop(served(&given.showing(Some(&client), version), &server)),
                Some(why) => turned_away(&given.showing(Some(&client), version), &server, why),
            }
        }
    }
}

#[test]
fn what_is_no_handshake_ends_its_own_connection_only() {
    let given = Given::new();
    let server = given.serve("threads=1");
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
    // Half a handshake keeps nobody waiting.
    good.send_raw(b"\x16\x03\x01");
    assert!(s_client(&server, &[]).contains("HTTP/1.1 200"));
}

#[test]
fn the_key_is_in_no_log() {
    let mut given = Given::new();
    given.sandbox = given.sandbox.variable("COUNTERSIGN_LOG", "trace");
    let server = given.serve("client_certificates=optional\nclient_ca_file=clients.crt");
    served(&given.showing(Some(&given.theirs.client("good", 1)), &TLS13), &server);
    turned_away(&given.showing(Some(&given.ours.client("good", 1)), &TLS13), &server, "UnknownCA");
    eventually(|| server.log().contains("a connection did not come about"));
    let log = server.log();
    let key = std::fs::read_to_string(given.sandbox.path().join("tls.key")).unwrap();
    assert!(key.lines().all(|line| !log.contains(line)), "{log}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    const TEXT: &str = "Failed to load ssl certificate. Please check if you provided the correct certificate/key path and make sure that \
                        these files are not encrypted.";
    let given = Given::new();
    let refused = |listen: &str, words: &[&str]| {
        let (code, said) = given.check(listen);
        assert_eq!(code, 2, "{said}");
        for words in words {
            assert!(said.contains(words), "{words:?} is not in\n{said}");
        }
        said
    };
    let (good, other) = (given.ours.server(), given.ours.server());
    let in_one_line = other.key.replacen('\n', "", 1);
    let key = given.sandbox.file("plain.key", &other.key);
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
            given.ours.pem() + &good.pem(),
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
        given.file("tls.crt", certificate);
        given.file("tls.key", key);
        let said = refused("", &[TEXT, why, "c.cfg:"]);
        // As text, or as the numbers of its bytes.
        let digits = &other.key.lines().nth(1).unwrap()[..20];
        let numbers = format!("{:?}", digits.as_bytes());
        assert!(
            !said.contains(digits) && !said.contains(numbers.trim_matches(['[', ']'])),
            "the key is shown: {said}"
        );
    }
    good.write(given.sandbox.path());
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
        (given.theirs.pem().as_bytes(), "list.crl: it holds no CRL"),
        (b"0\x03\x02\x01\x01", "list.crl: a CRL in it is damaged"),
    ] {
        given.file("list.crl", list);
        given.file("good.crl", given.theirs.revoked(&[]));
        refused(&format!("{clients}good.crl,list.crl"), &[why, "current CRLs in PEM or DER"]);
    }
}

#[test]
fn what_is_out_of_date_is_warned_about() {
    let given = Given::new();
    assert_eq!(given.check(""), (0, String::new()));
    given.ours.server_in(OVER).write(given.sandbox.path());
    let (code, said) = given.check("");
    assert!(
        code == 0 && said.contains("c.cfg:10: tls.crt: a certificate in it has expired, "),
        "{said}"
    );
    given.ours.server_in(2090..2100).write(given.sandbox.path());
    let (code, said) = given.check("");
    assert!(
        code == 0 && said.contains("tls.crt: a certificate in it is not valid before "),
        "{said}"
    );
    given.ours.server_in(CURRENT).write(given.sandbox.path());
    given.file("list.crl", given.theirs.revoked_in(OVER, &[]));
    let clients =
        "client_certificates=optional\nclient_ca_file=clients.crt\nclient_crl_file=list.crl";
    let (code, said) = given.check(clients);
    assert!(code == 0 && said.contains("list.crl: a CRL in it has expired, "), "{said}");
    given.file("list.crl", given.ours.revoked(&[]));
    let (code, said) = given.check(clients);
    assert!(
        code == 0
            && said.contains("clients.crt: the CRL of CN=theirs is missing: all of its clients"),
        "{said}"
    );
}

#[test]
fn the_certificate_of_a_client_is_written_down_by_its_fingerprint() {
    let given = Given::new();
    let direct = "client_certificates=optional\nclient_ca_file=clients.crt\nclient_certificate_header=X-Client-Cert\n";
    let proxied = "[listener_proxy]\nbind=unix:PATH\ntrusted_proxies=unix\nclient_certificate_header=X-Client-Cert\n";
    let socket = given.sandbox.path().join("proxy.sock");
    let proxied = proxied.replace("PATH", socket.to_str().unwrap());
    let server = given.serve(&format!("{direct}{proxied}[log]\nrequests=all\n"));
    let (shown, said) = (given.theirs.client("shown", 1), given.theirs.client("said", 2));
    let fingerprint = |issued: &Issued| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &issued.chain[0]);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let line = format!(
        "X-Client-Cert: {}\r\n",
        base64::engine::general_purpose::STANDARD.encode(&said.chain[0])
    );

    // Shown to us: what the client says in a header is nothing.
    let client = given.showing(Some(&shown), &TLS13);
    client.ask(server.address, &format!("GET /auth/direct HTTP/1.1\r\n{line}")).unwrap();
    // Shown to a proxy that we trust.
    let mut proxy = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    proxy.write_all(format!("GET /auth/proxied HTTP/1.0\r\n{line}\r\n").as_bytes()).unwrap();
    io::Read::read_to_string(&mut proxy, &mut String::new()).unwrap();
    eventually(|| {
        let log = server.log();
        let written = |path: &str| log.lines().find(|line| line.contains(path)).map(str::to_owned);
        written("/auth/direct").is_some_and(|line| line.contains(&fingerprint(&shown)))
            && written("/auth/proxied").is_some_and(|line| line.contains(&fingerprint(&said)))
    });
}
