use std::{os::unix::fs::PermissionsExt as _, process::Command};

use countersign_tests::{
    binary::Sandbox,
    client::{Client, Protocol},
    openssl::{openssl, self_signed},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::fixture::{self, SIGNING};

fn generate(sandbox: &Sandbox, arguments: &[&str]) -> countersign_tests::binary::Output {
    sandbox.run(["cert", "self-signed"].iter().chain(arguments))
}

#[test]
fn self_signed_pair_serves_every_client() {
    let sandbox = Sandbox::new();
    let made = generate(&sandbox, &["localhost", "127.0.0.1", "::1", "--days", "30"]);
    // The printed section is used as configuration.
    let section: Vec<_> = made
        .text()
        .lines()
        .skip_while(|line| *line != "[server]")
        .take_while(|line| !line.is_empty())
        .collect();
    let configuration =
        format!("{}\n[listen]\nprotocols=http/1.1, h2, h3\n{SIGNING}", section.join("\n"));
    let server = sandbox.serve(&configuration);
    let certificate = sandbox.path().join("tls.crt");
    let token = fixture::good_token();
    let root = CertificateDer::from_pem_file(&certificate).unwrap();
    for protocol in Protocol::ALL {
        let mut client = Client::trusting(protocol, server.address, &root);
        let request = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        assert_eq!(client.request(&request, b"").status, 200, "{protocol:?}");
    }
    let port = server.address.port();
    for (host, version) in [("localhost", "--http1.1"), ("127.0.0.1", "--http2")] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", version, "--write-out", "%{http_code}", "--cacert"])
            .arg(&certificate)
            .args(["-H", &format!("Authorization: Bearer {token}")])
            .arg(format!("https://{host}:{port}/auth"))
            .output()
            .expect("curl is missing: apt-get install curl");
        assert_eq!(output.stdout, b"200", "{host} {version}: {output:?}");
    }
    let shown = made.text().lines().last().unwrap();
    assert!(
        shown.starts_with("curl --cacert /") && shown.contains("https://localhost:"),
        "{shown}"
    );
}

#[test]
fn self_signed_certificate_is_for_one_server() {
    let sandbox = Sandbox::new();
    generate(&sandbox, &["auth.example", "10.0.0.1"]).text();
    let path = sandbox.path().join("tls.crt").to_str().unwrap().to_owned();
    let text = String::from_utf8(openssl(&["x509", "-in", &path, "-noout", "-text"], b"")).unwrap();
    for expected in [
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Server Authentication",
        "DNS:auth.example, IP Address:10.0.0.1",
        "CN = auth.example",
        "NIST CURVE: P-256",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", &path, &path];
    assert!(openssl(&verify, b"").ends_with(b": OK\n"));
    let soon = ["x509", "-in", &path, "-noout", "-checkend", "31449600"];
    assert!(openssl(&soon, b"").starts_with(b"Certificate will not expire"));
    let key = sandbox.path().join("tls.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn existing_certificate_is_replaced_only_by_force() {
    let sandbox = Sandbox::new();
    let read = || {
        ["tls.crt", "tls.key"]
            .map(|name| std::fs::read_to_string(sandbox.path().join("etc").join(name)).unwrap())
    };
    generate(&sandbox, &["a.example", "--out", "etc"]).text();
    let before = read();
    let refused = generate(&sandbox, &["a.example", "--out", "etc"]);
    assert!(
        refused.code() == 1
            && refused.stderr.contains("etc/tls.crt already exists")
            && refused.stderr.contains("--force"),
        "{refused:?}"
    );
    assert_eq!(read(), before);
    generate(&sandbox, &["a.example", "--out", "etc", "--force"]).text();
    assert!(read().iter().zip(&before).all(|(now, before)| now != before));
    let names = sandbox.path().join("etc").read_dir().unwrap().count();
    assert_eq!(names, 2, "no draft remains");
    // A key alone is not overwritten either.
    std::fs::remove_file(sandbox.path().join("etc/tls.crt")).unwrap();
    let refused = generate(&sandbox, &["a.example", "--out", "etc"]);
    assert!(refused.stderr.contains("etc/tls.key already exists"), "{refused:?}");
    for odd in [&["https://a.example"][..], &["a b"], &["a.example", "--days", "0"], &[]] {
        assert_eq!(generate(&sandbox, odd).code(), 2, "{odd:?}");
    }
    let failed = generate(&sandbox, &["a.example", "--out", "/proc/nowhere"]);
    assert!(failed.code() == 1 && failed.stderr.contains("/proc/nowhere"), "{failed:?}");
}

/// The usual `openssl req -x509` makes a certificate that is its own authority (CA:TRUE).
#[test]
fn certificate_that_is_its_own_authority_is_pinned() {
    let sandbox = Sandbox::new();
    let make = |file: &str| {
        let (certificate, _) = self_signed(sandbox.path(), file, "DNS:localhost");
        certificate.to_str().unwrap().to_owned()
    };
    let certificate = make("tls");
    let text = openssl(&["x509", "-in", &certificate, "-noout", "-text"], b"");
    assert!(String::from_utf8(text).unwrap().contains("CA:TRUE"));
    let server =
        sandbox.serve(&format!("[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n{SIGNING}"));
    let doctor = |host: &str, trusted: &str| {
        let port = server.address.port();
        sandbox.file(
            "client.cfg",
            format!(
                "[agent_rest_transport]\nhost={host}\nport={port}\nssl=true\n{trusted}\n\
                 token={}\n",
                fixture::good_token()
            ),
        );
        sandbox.run(["doctor", "-c", "client.cfg"]).stdout
    };
    let trusting = |file: &str| format!("ssl_ca_cert_file={file}");
    let works = "OK     the server answers, and its certificate is trusted";
    let trusted = doctor("localhost", &trusting(&certificate));
    assert!(trusted.contains(works), "{trusted}");
    // One of several in the file.
    let both = [make("first"), certificate.clone()]
        .map(|file| std::fs::read_to_string(file).unwrap())
        .concat();
    let both = sandbox.file("both.pem", both);
    assert!(doctor("localhost", &trusting(both.to_str().unwrap())).contains(works));
    let other_name = doctor("127.0.0.1", &trusting(&certificate));
    assert!(other_name.contains("must be a name in the certificate"), "{other_name}");
    // Another certificate of the same names, with another key.
    let other = doctor("localhost", &trusting(&make("other")));
    assert!(!other.contains(works) && other.contains("WRONG"), "{other}");
    let untrusted = doctor("localhost", "");
    assert!(untrusted.contains("its own authority (CA:TRUE): set ssl_ca_cert_file"), "{untrusted}");
}

#[test]
fn pinned_certificate_that_has_expired_is_refused() {
    let sandbox = Sandbox::new();
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (parameters.not_before, parameters.not_after) =
        (date_time_ymd(2000, 1, 1), date_time_ymd(2010, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let file = sandbox.file("tls.crt", certificate.pem());
    sandbox.file("tls.key", key.serialize_pem());
    let server =
        sandbox.serve(&format!("[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n{SIGNING}"));
    sandbox.file(
        "client.cfg",
        format!(
            "[agent_rest_transport]\nhost=localhost\nport={}\nssl=true\nssl_ca_cert_file={}\n",
            server.address.port(),
            file.display()
        ),
    );
    let refused = sandbox.run(["doctor", "-c", "client.cfg"]).stdout;
    assert!(
        refused.contains("WRONG") && refused.contains("renew the server's certificate"),
        "{refused}"
    );
}
