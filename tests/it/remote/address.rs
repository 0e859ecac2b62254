use countersign_tests::{
    binary::{Output, Sandbox, Server},
    certificates::{self, Authority},
    providers::JwksServer,
};

use super::{
    TRANSPORT,
    real::{configuration, set_up},
};
use crate::fixture::SIGNING;

const TOKEN: &str = "Bearer a.b.c";

fn server() -> JwksServer {
    JwksServer::start("{\"data\":[]}")
}

fn list(sandbox: &Sandbox, options: &[&str]) -> Output {
    sandbox.run(["user", "list", "--json", "-c", "c.cfg"].iter().chain(options))
}

#[track_caller]
fn refused(output: &Output, texts: &[&str]) {
    assert!(
        output.code() == 1 && texts.iter().all(|text| output.stderr.contains(text)),
        "{texts:?}: {output:?}"
    );
}

/// Returns the tokens that the server got, each with its scheme.
fn tokens(server: &JwksServer) -> Vec<Option<String>> {
    server.header_values("authorization")
}

#[test]
fn server_section_is_the_default_address() {
    let (sandbox, server) = (Sandbox::new(), server());
    for bind in ["127.0.0.1", "0.0.0.0", "localhost", "10.255.255.1, 127.0.0.1"] {
        let port = server.port();
        sandbox
            .file("c.cfg", format!("[server]\nbind_address={bind}\nbind_port={port}\n{TRANSPORT}"));
        assert_eq!(list(&sandbox, &[]).text(), "[]", "{bind}");
    }
    assert_eq!(tokens(&server), vec![Some(TOKEN.to_owned()); 4]);
    sandbox.file("c.cfg", "[server]\nbind_port=1\n");
    refused(
        &list(&sandbox, &[]),
        &["127.0.0.1:1", "check bind_address and bind_port in [server], or set --server"],
    );
    sandbox.file("c.cfg", "[server]\nbind_port=0\n");
    refused(&list(&sandbox, &[]), &["bind_port in [server] is 0", "--port"]);
    let port = server.port().to_string();
    assert_eq!(list(&sandbox, &["--port", &port]).text(), "[]");
    sandbox.file("c.cfg", "[listen]\nprotocols=h2\n");
    refused(&list(&sandbox, &[]), &["does not serve HTTP/1.1", "protocols in [listen]"]);
}

#[test]
fn transport_section_precedes_the_server_section() {
    let (sandbox, server) = (Sandbox::new(), server());
    let port = server.port();
    let text = format!("[server]\nbind_port=1\n{TRANSPORT}host=127.0.0.1\nport={port}\n");
    sandbox.file("c.cfg", text);
    assert_eq!(list(&sandbox, &[]).text(), "[]");
    assert_eq!(tokens(&server), [Some(TOKEN.into())]);
}

#[test]
fn named_server_precedes_the_configuration() {
    let (configured, by_variable, by_option) = (server(), server(), server());
    let sandbox = Sandbox::new().variable("COUNTERSIGN_SERVER", &by_variable.origin());
    let port = configured.port();
    sandbox.file("c.cfg", format!("[server]\nbind_port={port}\n{TRANSPORT}"));
    assert_eq!(list(&sandbox, &[]).text(), "[]");
    assert_eq!(list(&sandbox, &["--server", &by_option.origin()]).text(), "[]");
    // The token of the configuration is for the server in it.
    assert_eq!((tokens(&by_variable), tokens(&by_option)), (vec![None], vec![None]));
    assert_eq!(configured.requests(), 0);
    assert_eq!(list(&sandbox, &["--server", &configured.origin()]).text(), "[]");
    assert_eq!(list(&sandbox, &["--port", &port.to_string()]).text(), "[]");
    assert_eq!(tokens(&configured), vec![Some(TOKEN.to_owned()); 2]);
    refused(
        &list(&sandbox, &["--server", "http://127.0.0.1:1"]),
        &["no server listens at 127.0.0.1:1", "help: check --server"],
    );
    let odd = sandbox.variable("COUNTERSIGN_SERVER", "https://user:secret@host");
    let output = list(&odd, &[]);
    refused(&output, &["COUNTERSIGN_SERVER is not the URL of a server", "write http"]);
    assert!(!output.stderr.contains("secret"), "{output:?}");
    for options in [&["--server", "host:1"][..], &["--server", "http://h", "--port", "1"]] {
        assert_eq!(list(&odd, options).code(), 2, "{options:?}");
    }
}

/// Logs in with the configuration of a server and its port.
fn log_in(sandbox: &Sandbox, server: &Server<'_>, configuration: &str) -> Output {
    sandbox.file("c.cfg", configuration);
    sandbox.file("port.cfg", format!("[server]\nbind_port={}\n", server.address.port()));
    sandbox.run_with_input(["login", "admin", "-c", "c.cfg", "-c", "port.cfg"], "correct horse\n")
}

/// Returns a configuration with these TLS files and users.
fn with_tls(files: &str, options: &str) -> String {
    let files = format!("ssl_cert_file={files}.crt\nssl_key_file={files}.key\n");
    format!("{}{files}{options}{SIGNING}", configuration().replacen(SIGNING, "", 1))
}

#[test]
fn own_certificate_is_trusted_by_the_configuration() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    certificates::ours().1.write(sandbox.path());
    // Neither the name nor the authority of these is known to the client.
    sandbox.run(["cert", "self-signed", "auth.example", "--out", "own"]).text();
    for files in ["tls", "own/tls"] {
        let configuration = with_tls(files, "bind_address=0.0.0.0\n");
        let server = sandbox.serve(&configuration);
        let output = log_in(&sandbox, &server, &configuration);
        let origin = format!("Logged in to https://127.0.0.1:{}", server.address.port());
        assert!(output.code() == 0 && output.stderr.contains(&origin), "{output:?}");
        let listed = sandbox.run(["user", "list", "-c", "c.cfg", "-c", "port.cfg"]);
        assert!(listed.text().contains("admin"), "{listed:?}");
        let checked = sandbox.run(["doctor", "-c", "c.cfg", "-c", "port.cfg"]);
        assert!(
            checked.text().starts_with("[server] https://127.0.0.1:")
                && checked.stdout.contains("its certificate is trusted"),
            "{checked:?}"
        );
    }
}

#[test]
fn foreign_certificate_gets_no_password() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    certificates::ours().1.write(sandbox.path());
    let configuration = with_tls("tls", "");
    let server = sandbox.serve(&configuration);
    // The same names and the same authority, but another key.
    std::fs::create_dir(sandbox.path().join("other")).unwrap();
    certificates::ours().0.server().write(&sandbox.path().join("other"));
    let output = log_in(&sandbox, &server, &with_tls("other/tls", ""));
    refused(&output, &["TLS to 127.0.0.1:", "only the certificate in other/tls.crt is trusted"]);
    let expired = Authority::root("old").server_in(certificates::EXPIRED);
    std::fs::create_dir(sandbox.path().join("old")).unwrap();
    expired.write(&sandbox.path().join("old"));
    drop(server);
    let configuration = with_tls("old/tls", "");
    let server = sandbox.serve(&configuration);
    refused(
        &log_in(&sandbox, &server, &configuration),
        &["renew the server's certificate: ssl_cert_file"],
    );
    drop(server);
    // A server without TLS at the address.
    let server = sandbox.serve(&self::configuration());
    refused(
        &log_in(&sandbox, &server, &with_tls("tls", "")),
        &["if the server does not use TLS, restart it with the present ssl_cert_file in [server]"],
    );
}

#[test]
fn named_server_is_trusted_by_the_system() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    sandbox.run(["cert", "self-signed", "localhost", "--out", "own"]).text();
    let server = sandbox.serve(&with_tls("own/tls", ""));
    let origin = format!("https://localhost:{}", server.address.port());
    let login = ["login", "admin", "--server", &origin];
    let unknown = sandbox.run_with_input(login, "correct horse\n");
    refused(&unknown, &["invalid peer certificate: UnknownIssuer", "or SSL_CERT_FILE,"]);
    // The variable of OpenSSL.
    let certificate = sandbox.path().join("own/tls.crt");
    let trusting = Sandbox::new().variable("SSL_CERT_FILE", certificate.to_str().unwrap());
    assert_eq!(trusting.run_with_input(login, "correct horse\n").code(), 0);
    let section = format!("[cmdline_rest_transport]\nssl_ca_cert_file={}\n", certificate.display());
    sandbox.file("c.cfg", section);
    let login = login.iter().chain(&["-c", "c.cfg"]);
    assert_eq!(sandbox.run_with_input(login, "correct horse\n").code(), 0);
}
