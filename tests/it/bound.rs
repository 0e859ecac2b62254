//! Tokens bound to a client certificate (`cnf`, RFC 8705): refused unless the request proves
//! possession, on every way to verify a token.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_engine::Reject;
use countersign_tests::{
    answers::{assert_refused, invalid_token},
    binary::{Sandbox, Server},
    certificates::{Authority, IssuedCertificate, ours},
    client::{Client, Protocol},
    grpc::{CheckOutcome, Envoy, check_request, with_source},
    http::Response,
    openssl::SigningKey,
    over_every_protocol,
    tls::{TlsClient, TlsClientOptions},
};
use serde_json::{Value, json};

use crate::fixture::{self, SIGNING};

over_every_protocol!(
    bound_token_needs_the_certificate_of_its_client,
    trusted_proxy_passes_the_certificate_on,
    untrusted_header_proves_no_certificate,
    verify_takes_the_thumbprint_as_an_argument,
    bound_token_is_no_session_of_the_api,
);

/// Two clients of one authority.
struct Clients {
    authority: Authority,
    right: IssuedCertificate,
    other: IssuedCertificate,
}

impl Clients {
    fn new() -> Self {
        let authority = Authority::root("theirs");
        let [right, other] =
            [("right", 1), ("other", 2)].map(|(name, serial)| authority.client(name, serial));
        Self { authority, right, other }
    }

    /// Makes a token that is bound to the right certificate.
    fn token(&self) -> String {
        confirmed(&json!({ "x5t#S256": thumbprint(&self.right) }))
    }

    /// Starts a server that asks its clients for a certificate.
    fn serve<'s>(&self, sandbox: &'s Sandbox, options: &str) -> Server<'s> {
        sandbox.file("clients.crt", self.authority.pem());
        sandbox.serve(&format!(
            "{SIGNING}[listen]\nclient_certificates=optional\nclient_ca_file=clients.crt\n{options}\n"
        ))
    }
}

/// Makes a token with this `cnf`.
fn confirmed(cnf: &Value) -> String {
    fixture::token(&fixture::claims(json!({ "cnf": cnf })))
}

fn thumbprint(issued: &IssuedCertificate) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &issued.chain[0]);
    URL_SAFE_NO_PAD.encode(digest)
}

fn tls_client(protocol: Protocol, certificate: Option<&IssuedCertificate>) -> TlsClient {
    let protocols = &[protocol.alpn()];
    let options = TlsClientOptions { protocols, certificate, ..TlsClientOptions::default() };
    TlsClient::new(&ours().0, &options)
}

fn client(
    protocol: Protocol,
    server: &Server<'_>,
    certificate: Option<&IssuedCertificate>,
) -> Client {
    Client::under_tls(protocol, server.address, &tls_client(protocol, certificate))
}

fn auth(client: &mut Client, token: &str) -> Response {
    client.request(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"")
}

#[track_caller]
fn assert_bound(response: &Response) {
    assert_refused(response, &invalid_token(Reject::Bound));
}

fn bound_token_needs_the_certificate_of_its_client(protocol: Protocol) {
    let (sandbox, clients) = (Sandbox::over(protocol), Clients::new());
    let server = clients.serve(&sandbox, "");
    let mut right = client(protocol, &server, Some(&clients.right));
    let mut other = client(protocol, &server, Some(&clients.other));
    let mut none = client(protocol, &server, None);
    let (bound, free) = (clients.token(), fixture::good_token());
    for _ in 0..3 {
        let accepted = auth(&mut right, &bound);
        assert_eq!((accepted.status, accepted.header("x-auth-user")), (200, Some("bob")));
        assert_bound(&auth(&mut other, &bound));
        assert_bound(&auth(&mut none, &bound));
        for client in [&mut right, &mut other, &mut none] {
            assert_eq!(auth(client, &free).status, 200, "a bearer token is good in any hands");
        }
    }
    let thumbprint = thumbprint(&clients.right);
    for cnf in [
        json!({ "x5t#S256": thumbprint, "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        json!({}),
        json!(thumbprint),
    ] {
        assert_bound(&auth(&mut right, &confirmed(&cnf)));
    }
    let reject = "countersign_verifications_total{outcome=\"rejected\",code=\"bound\"}";
    assert_eq!(server.metric(reject), 10);
}

/// Sends a request as a proxy that passes certificates on in a header.
fn proxied(server: &Server<'_>, token: &str, certificates: &[&str]) -> Response {
    let lines: String =
        certificates.iter().map(|value| format!("X-Client-Cert: {value}\r\n")).collect();
    server.request(&format!("GET /auth HTTP/1.1\r\n{lines}Authorization: Bearer {token}\r\n"))
}

fn encoded(issued: &IssuedCertificate) -> String {
    STANDARD.encode(&issued.chain[0])
}

fn trusted_proxy_passes_the_certificate_on(protocol: Protocol) {
    let (sandbox, clients) = (Sandbox::over(protocol), Clients::new());
    let trusting = "trusted_proxies=127.0.0.1\nclient_certificate_header=X-Client-Cert";
    let server = clients.serve(&sandbox, trusting);
    let [right, other] = [&clients.right, &clients.other].map(encoded);
    let bound = clients.token();
    for _ in 0..2 {
        assert_eq!(proxied(&server, &bound, &[&right]).status, 200);
        for certificates in [&[][..], &[&*other], &[""], &["AAAA"], &[&*right, &*right]] {
            assert_bound(&proxied(&server, &bound, certificates));
        }
    }
    // The certificate of the proxy itself is not that of its clients.
    let mut proxy = client(protocol, &server, Some(&clients.right));
    assert_bound(&auth(&mut proxy, &bound));
}

fn untrusted_header_proves_no_certificate(protocol: Protocol) {
    let (sandbox, clients) = (Sandbox::over(protocol), Clients::new());
    let server = clients.serve(&sandbox, "client_certificate_header=X-Client-Cert");
    let (bound, right) = (clients.token(), encoded(&clients.right));
    assert_bound(&proxied(&server, &bound, &[&right]));
    let head = format!(
        "GET /auth HTTP/1.1\r\nX-Client-Cert: {}\r\nAuthorization: Bearer {bound}\r\n",
        encoded(&clients.other)
    );
    let mut direct = client(protocol, &server, Some(&clients.right));
    assert_eq!(direct.request(&head, b"").status, 200, "the client presents the right one itself");
}

fn verify_takes_the_thumbprint_as_an_argument(protocol: Protocol) {
    let (sandbox, clients) = (Sandbox::over(protocol), Clients::new());
    let server = clients.serve(&sandbox, "");
    let [right, other] = [&clients.right, &clients.other].map(thumbprint);
    let bound = clients.token();
    let mut application = client(protocol, &server, Some(&clients.right));
    let mut verify = |lines: &str, body: &str| {
        application.request(&format!("POST /v1/verify HTTP/1.1\r\n{lines}"), body.as_bytes())
    };
    for body in [
        json!({ "token": bound, "certificate_thumbprint": right }).to_string(),
        format!("certificate_thumbprint={right}&token={bound}"),
    ] {
        assert_eq!(verify("", &body).json()["ok"], true, "{body}");
    }
    for body in [
        json!({ "token": bound }).to_string(),
        json!({ "token": bound, "certificate_thumbprint": null }).to_string(),
        json!({ "token": bound, "certificate_thumbprint": other }).to_string(),
        format!("token={bound}"),
        format!("certificate_thumbprint={other}&token={bound}"),
        // The certificate of the application proves nothing about a token in the body.
        bound.clone(),
    ] {
        let answer = verify("", &body);
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("bound")), "{body}");
    }
    // The token of the request itself is proven by the connection.
    assert_eq!(verify(&format!("Authorization: Bearer {bound}\r\n"), "").status, 200);
    for body in [
        json!({ "token": bound, "certificate_thumbprint": "AAAA" }).to_string(),
        json!({ "token": bound, "certificate_thumbprint": "" }).to_string(),
        format!("token={bound}&certificate_thumbprint={right}%3D"),
    ] {
        let answer = verify("", &body);
        let code = &answer.json()["code"];
        assert_eq!((answer.status, code), (400, &json!("certificate_thumbprint")), "{body}");
    }
    let twice =
        format!("certificate_thumbprint={right}&token={bound}&certificate_thumbprint={right}");
    assert_eq!(verify("", &twice).json()["code"], "credential_conflict");
}

fn bound_token_is_no_session_of_the_api(protocol: Protocol) {
    let (sandbox, clients) = (Sandbox::over(protocol), Clients::new());
    let server = clients.serve(&sandbox, "[server]\nauth=true");
    let head = format!(
        "GET /api/v2/current_user HTTP/1.1\r\nAuthorization: Bearer {}\r\n",
        clients.token()
    );
    let refused = client(protocol, &server, None).request(&head, b"");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["message"], format!("Access denied: {}", Reject::Bound));
    let accepted = client(protocol, &server, Some(&clients.right)).request(&head, b"");
    assert_eq!(accepted.json(), json!({ "data": { "username": "bob" } }));
}

#[test]
fn envoy_passes_the_certificate_on() {
    let (sandbox, clients) = (Sandbox::new(), Clients::new());
    let server = sandbox
        .serve(&format!("{SIGNING}[listen]\nprotocols=http/1.1, h2\ntrusted_proxies=127.0.0.1\n"));
    let envoy = Envoy::plain(server.address);
    let check = |certificate: &str| {
        let authorization = format!("Bearer {}", clients.token());
        let header = ("x-client-cert", &*encoded(&clients.right));
        let request = check_request(&[("authorization", &authorization), header]);
        let request = with_source(request, "198.51.100.7", certificate);
        CheckOutcome::of(envoy.check(request).unwrap()).status
    };
    for _ in 0..2 {
        assert_eq!(check(&encoded(&clients.right)), 200);
        assert_eq!([check(""), check(&encoded(&clients.other))], [401, 401]);
    }
}

#[test]
fn untrusted_check_is_proven_by_its_connection() {
    let (sandbox, clients) = (Sandbox::over(Protocol::Http2), Clients::new());
    let server = clients.serve(&sandbox, "");
    let check = |certificate: Option<&IssuedCertificate>| {
        let envoy = Envoy::under_tls(server.address, &tls_client(Protocol::Http2, certificate));
        let authorization = format!("Bearer {}", clients.token());
        let request = check_request(&[("authorization", &authorization)]);
        let request = with_source(request, "198.51.100.7", &encoded(&clients.right));
        CheckOutcome::of(envoy.check(request).unwrap()).status
    };
    assert_eq!(check(Some(&clients.right)), 200);
    assert_eq!([check(Some(&clients.other)), check(None)], [401, 401]);
}

#[test]
fn reload_changes_how_confirmations_are_treated() {
    let (sandbox, bound) = (Sandbox::new(), Clients::new().token());
    let ignoring = format!("{SIGNING}cnf=ignore\n");
    let server = sandbox.serve(SIGNING);
    for _ in 0..2 {
        assert_bound(&server.auth(&bound));
        server.reload_after(|| drop(sandbox.replace("server.cfg", &ignoring)));
        assert_eq!([server.auth(&bound).status, server.auth(&bound).status], [200, 200]);
        server.reload_after(|| drop(sandbox.replace("server.cfg", SIGNING)));
    }
    assert_bound(&server.auth(&bound));
}

#[test]
fn refetched_key_does_not_lose_the_certificate() {
    let (sandbox, clients) = (Sandbox::over(Protocol::Http1), Clients::new());
    let (old, new) = (SigningKey::generate("ES256", "old"), SigningKey::generate("ES256", "new"));
    let jwks = sandbox.file("keys.json", fixture::key_set(&[&old]));
    let section = fixture::issuer_section(
        "oidc",
        "ES256",
        "https://idp/",
        &format!("jwks_uri=file://{}", jwks.display()),
    );
    let server = clients.serve(&sandbox, &section);
    let mut claims = fixture::claims_of("https://idp/");
    claims["cnf"] = json!({ "x5t#S256": thumbprint(&clients.right) });
    let token = new.token(&claims);
    sandbox.file("keys.json", fixture::key_set(&[&old, &new]));
    let mut right = client(Protocol::Http1, &server, Some(&clients.right));
    assert_eq!(auth(&mut right, &token).status, 200);
    assert_bound(&auth(&mut client(Protocol::Http1, &server, None), &token));
}

/// The case V28: a token bound by `jkt`, of an issuer with published keys.
#[test]
fn command_line_refuses_bound_tokens() {
    let (sandbox, clients) = (Sandbox::new(), Clients::new());
    let key = SigningKey::generate("RS256", "k");
    sandbox.file("keys.json", fixture::key_set(&[&key]));
    let jwks = format!("jwks_uri=file://{}", sandbox.path().join("keys.json").display());
    let config = |options: &str| {
        sandbox.file("c.cfg", fixture::with_idp("RS256", &format!("{jwks}\n{options}")))
    };
    let token = |cnf: Value| {
        let mut claims = fixture::claims_of("https://idp/");
        claims["cnf"] = cnf;
        key.token(&claims)
    };
    let verify = |file: &std::path::Path, arguments: &[&str], token: &str| {
        let base = ["token", "verify", "--config", file.to_str().unwrap()];
        let arguments: Vec<_> = base.iter().chain(arguments).collect();
        sandbox.run_with_input(arguments, token)
    };
    let by_key = token(json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }));
    let [right, other] = [&clients.right, &clients.other].map(thumbprint);
    const WITH_HYPHEN: &str = "-ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let by_certificate = token(json!({ "x5t#S256": right }));
    let verifying = config("");
    for (arguments, token, ok) in [
        (&[][..], &by_key, false),
        (&["--certificate-thumbprint", &right], &by_key, false),
        (&[], &by_certificate, false),
        (&["--certificate-thumbprint", &other], &by_certificate, false),
        (&["--certificate-thumbprint", &right], &by_certificate, true),
        // One in 64 begins like an option.
        (&["--certificate-thumbprint", WITH_HYPHEN], &by_certificate, false),
    ] {
        let line = verify(&verifying, arguments, token).json_lines().remove(0);
        assert_eq!(line["ok"], ok, "{line}");
        assert!(ok || line["code"] == "bound" && line["status"] == 401, "{line}");
    }
    let wrong = verify(&verifying, &["--certificate-thumbprint", "AAAA"], &by_key);
    assert!(wrong.code() == 2 && wrong.stderr.contains("43 characters"), "{wrong:?}");
    let ignored = verify(&config("cnf=ignore"), &[], &by_key);
    assert_eq!(ignored.json_lines()[0]["ok"], true, "{ignored:?}");
    let checked = sandbox.run(["config", "check", "--config", "c.cfg"]);
    assert!(checked.stderr.contains("warning: ") && checked.stderr.contains("cnf is ignored in"));
}
