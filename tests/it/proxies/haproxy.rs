use std::{path::Path, process::Command};

use countersign_tests::{
    http::request,
    proxies::{Application, DaemonProcess, free_address},
};

use super::{
    Addresses, ConfigurationForm, Dialect, Proxy, configuration, contract, tenant_configuration,
    tenants, unix_socket,
};

#[test]
fn haproxy_keeps_the_contract() {
    contract::check(&Proxy {
        command,
        dialect: Dialect::Nginx,
        address_header: "X-Forwarded-For",
        keeps_connections: true,
        status_when_down: 503,
        times_out: true,
        passes_trailers: true,
    });
}

#[test]
fn haproxy_passes_on_the_tenant_alone() {
    tenants::check(Dialect::Nginx, "X-Forwarded-For", |directory, addresses| {
        run(tenant_configuration, directory, addresses)
    });
}

/// HAProxy ignores a failed script and continues with the request.
#[test]
fn haproxy_refuses_when_its_script_fails() {
    let (directory, application) = (tempfile::tempdir().unwrap(), Application::start());
    let addresses = Addresses::new(free_address(), &application);
    let command = command(directory.path(), &addresses);
    let script = directory.path().join("haproxy-auth.lua");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text.replace("core.httpclient()", "nothing()")).unwrap();
    let haproxy = DaemonProcess::start(command, directory.path(), addresses.proxy);
    assert_asks_to_retry(&addresses, &application);
    assert!(haproxy.log().contains("attempt to call"), "{}", haproxy.log());
}

/// HAProxy's own 503 has no `Retry-After`, and the script passes it on.
#[test]
fn haproxy_asks_to_retry_while_countersign_is_down() {
    let (directory, application) = (tempfile::tempdir().unwrap(), Application::start());
    let addresses = Addresses::new(free_address(), &application);
    let command = command(directory.path(), &addresses);
    let _running = DaemonProcess::start(command, directory.path(), addresses.proxy);
    assert_asks_to_retry(&addresses, &application);
}

/// Checks that a request is refused with the advice to retry, and does not reach the application.
#[track_caller]
pub(super) fn assert_asks_to_retry(addresses: &Addresses, application: &Application) {
    let answer = request(addresses.proxy, "GET / HTTP/1.1\r\n", b"");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
    assert!(application.take().is_empty());
}

#[test]
fn haproxy_reaches_a_unix_socket() {
    unix_socket::check(Dialect::Nginx, "X-Forwarded-For", |directory, addresses, socket| {
        let command = command(directory, addresses);
        use_unix_socket(directory, addresses, [unix_socket::SHIPPED_PATH, socket]);
        command
    });
}

/// Changes the configuration in a directory to its alternative with a Unix socket. `paths` are the
/// shipped one and that of the test.
pub(super) fn use_unix_socket(directory: &Path, addresses: &Addresses, paths: [&str; 2]) {
    let file = directory.join("haproxy.cfg");
    let text = std::fs::read_to_string(&file).unwrap();
    let tcp = format!("server countersign {}\n", addresses.countersign);
    assert!(text.contains(&tcp) && text.contains("# server countersign /run"), "{text}");
    let text = text.replace(&tcp, "\n").replace("# server countersign", "server countersign");
    std::fs::write(&file, text.replace(paths[0], paths[1])).unwrap();
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    run(configuration, directory, addresses)
}

fn run(form: ConfigurationForm, directory: &Path, addresses: &Addresses) -> Command {
    let (file, script) = (directory.join("haproxy.cfg"), directory.join("haproxy-auth.lua"));
    // Abstract socket names are shared by the whole machine.
    let socket = ("abns@countersign", format!("abns@countersign-{}", addresses.proxy));
    std::fs::write(&script, form("haproxy-auth.lua", std::slice::from_ref(&socket))).unwrap();
    let path = ("/etc/haproxy/haproxy-auth.lua", script.to_str().unwrap().to_owned());
    let replaced = [addresses.all().as_slice(), &[socket, path]].concat();
    std::fs::write(&file, form("haproxy.cfg", &replaced)).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    command
}
