//! The form of each configuration for the `orchestrate` surface. Credentials reach only
//! Countersign, and only Countersign names the tenant of a request.

use std::{net::SocketAddr, path::Path, process::Command};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::{Connection, Request, Response},
    proxies::{Application, DaemonProcess, WEBSOCKET},
};

use super::{Addresses, Dialect, world::bearer};
use crate::orchestrate::tier::{API_KEY, TenantProvider, configuration, variables};

/// The identity headers of the surface.
const IDENTITY: [&str; 3] = ["X-Auth-Tenant", "X-Auth-Allowed-Tenants", "X-Auth-User"];
/// Bytes between the words of a header's name that some applications take for a hyphen.
const SEPARATORS: &str = "_.!#$%&'*+^`|~";

/// A proxy between a client, Countersign started by variables alone, and an application.
struct TenantWorld<'w> {
    address: SocketAddr,
    provider: TenantProvider,
    application: Application,
    _server: Server<'w>,
    _running: DaemonProcess,
}

/// Checks a proxy that runs with `command`.
pub(super) fn check(
    dialect: Dialect,
    address_header: &str,
    command: impl Fn(&Path, &Addresses) -> Command,
) {
    let (provider, application) = (TenantProvider::start(), Application::start());
    let issuer = provider.issuer();
    let option = dialect.option().split_once('=').filter(|(name, _)| *name == "dialect");
    let ours = [
        ("INMANTA_LISTEN_TRUSTED_PROXIES", "127.0.0.1"),
        ("INMANTA_LISTEN_CLIENT_ADDRESS_HEADER", address_header),
        ("INMANTA_LISTEN_DIALECT", option.map_or("none", |(_, name)| name)),
    ];
    // Variables cannot add a listener.
    let is_spop = dialect == Dialect::Spop;
    let sandbox = if is_spop { Sandbox::new() } else { variables(None, &issuer, &ours) };
    let directory = tempfile::tempdir().unwrap();
    let (server, countersign) = if is_spop {
        let listener = format!(
            "[listener_spop]\nbind=127.0.0.1:0\nprotocols=spop\nsurface=orchestrate\n\
             trusted_proxies=127.0.0.1\nclient_address_header={address_header}\n"
        );
        let server = sandbox.serve(&configuration(&provider, "", &listener));
        let address = server.spop_address();
        (server, address)
    } else {
        let server = sandbox.start::<&str>([]);
        server.wait_until_ready();
        let address = server.address;
        (server, address)
    };
    let addresses = Addresses::new(countersign, &application);
    let running = command(directory.path(), &addresses);
    let world = TenantWorld {
        address: addresses.proxy,
        provider,
        application,
        _server: server,
        _running: DaemonProcess::start(running, directory.path(), addresses.proxy),
    };
    // Traefik loads its routes after it listens.
    eventually(|| world.send("/page", &world.token()).0.status == 200);
    credentials_act_for_their_tenant(&world);
    credentials_do_not_reach_the_application(&world);
    other_tenants_are_refused(&world);
    e3_client_does_not_name_its_tenant(&world);
    e2_lookalikes_do_not_name_a_tenant(&world);
    e4_repeated_headers_name_no_tenant(&world);
    e2_connection_does_not_remove_the_tenant(&world);
}

impl TenantWorld<'_> {
    fn send(&self, path: &str, lines: &str) -> (Response, Vec<Request>) {
        drop(self.application.take());
        let mut connection = Connection::open(self.address);
        let head = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n");
        connection.send_raw(head.as_bytes());
        (connection.receive(false), self.application.take())
    }

    /// Returns the only request that the application received.
    #[track_caller]
    fn forwarded(&self, path: &str, lines: &str) -> Request {
        let (answer, mut seen) = self.send(path, lines);
        assert!([101, 200].contains(&answer.status), "{lines}: {answer:?}");
        assert_eq!(seen.len(), 1, "{lines}: {seen:?}");
        seen.remove(0)
    }

    #[track_caller]
    fn assert_refused(&self, lines: &str) {
        let (answer, seen) = self.send("/page", lines);
        assert!([400, 401].contains(&answer.status), "{lines}: {answer:?}");
        assert!(seen.is_empty(), "{lines}: {seen:?}");
    }

    fn token(&self) -> String {
        bearer(&self.provider.token("foo"))
    }
}

/// Returns `tenant; allowed tenants; user`.
fn identity(request: &Request) -> String {
    IDENTITY.map(|name| request.lines(&name.to_lowercase()).join(" and ")).join("; ")
}

fn key() -> String {
    format!("X-API-Key: {API_KEY}\r\n")
}

fn credentials_act_for_their_tenant(world: &TenantWorld<'_>) {
    let (token, key) = (world.token(), key());
    for (credential, lines, expected) in [
        (&token, "", "foo; _,foo; alice"),
        (&token, "X-Tenant-ID: foo\r\n", "foo; _,foo; "),
        (&token, "x-tenant-id: _\r\n", "_; _; "),
        (&key, "", "_; *; "),
        (&key, "X-TENANT-ID: acme:eu\r\n", "acme:eu; _,acme,acme:eu; "),
        (&key, "X-Tenant-ID: acme\r\nX-Username: bob\r\n", "acme; _,acme; bob"),
    ] {
        let given = world.forwarded("/page", &format!("{credential}{lines}"));
        assert_eq!(identity(&given), expected, "{lines}");
    }
}

fn credentials_do_not_reach_the_application(world: &TenantWorld<'_>) {
    let (token, key) = (world.token(), key());
    for credential in [&token, &key, &format!("{key}{token}")] {
        for lines in [credential.clone(), with_capitals(credential)] {
            for path in ["/page", "/public/page"] {
                for upgrade in ["", WEBSOCKET] {
                    let given = world.forwarded(path, &format!("{lines}{upgrade}"));
                    for name in ["authorization", "x-api-key"] {
                        assert!(given.lines(name).is_empty(), "{path}: {given:?}");
                    }
                    assert!(!format!("{given:?}").contains(API_KEY), "{path}: {given:?}");
                    let expects_identity = path == "/page";
                    assert_eq!(identity(&given) != "; ; ", expects_identity, "{path}: {given:?}");
                }
            }
        }
    }
}

/// Returns header lines with their names in capital letters.
fn with_capitals(lines: &str) -> String {
    let lines = lines.split_inclusive("\r\n").filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| format!("{}:{value}", name.to_uppercase())).collect()
}

fn other_tenants_are_refused(world: &TenantWorld<'_>) {
    let (token, key) = (world.token(), key());
    for lines in [
        "",
        "X-Tenant-ID: foo\r\n",
        "X-API-Key: wrong\r\n",
        &format!("X-API-Key: wrong\r\n{token}"),
        &format!("X-Tenant-ID: bar\r\n{token}"),
        &format!("X-Tenant-ID: *\r\n{token}"),
        &format!("X-Username: alice\r\n{token}"),
        &format!("X-Tenant-ID: a::b\r\n{key}"),
        &format!("{WEBSOCKET}X-Tenant-ID: bar\r\n{token}"),
    ] {
        world.assert_refused(lines);
    }
}

fn e3_client_does_not_name_its_tenant(world: &TenantWorld<'_>) {
    let claimed = |name: &str| {
        let (lower, upper) = (name.to_lowercase(), name.to_uppercase());
        format!("{name}: root\r\n{lower}: root, root\r\n{upper}: root\r\n{upper}:\r\n")
    };
    let forged: String = IDENTITY.map(claimed).concat();
    for (credential, expected) in [(world.token(), "foo; _,foo; alice"), (key(), "_; *; ")] {
        for lines in [format!("{forged}{credential}"), format!("{credential}{forged}")] {
            for upgrade in ["", WEBSOCKET] {
                let given = world.forwarded("/page", &format!("{lines}{upgrade}"));
                assert_eq!(identity(&given), expected, "{given:?}");
                assert!(!format!("{given:?}").contains("root"), "{given:?}");
            }
        }
    }
    world.assert_refused(&forged);
    let public = world.forwarded("/public/page", &forged);
    assert!(!format!("{public:?}").contains("root"), "{public:?}");
}

fn e2_lookalikes_do_not_name_a_tenant(world: &TenantWorld<'_>) {
    for between in SEPARATORS.chars() {
        let twin = |name: &str| name.replace('-', &between.to_string());
        let forged: String = IDENTITY
            .iter()
            .map(|name| {
                format!("{0}: root\r\n{1}: root\r\n", twin(name), twin(name).to_lowercase())
            })
            .collect();
        for (path, credential) in
            [("/page", world.token()), ("/page", key()), ("/public/page", String::new())]
        {
            let (answer, seen) = world.send(path, &format!("{forged}{credential}"));
            assert!([200, 400].contains(&answer.status), "{between}: {answer:?}");
            assert!(!format!("{seen:?}").contains("root"), "{between}: {seen:?}");
        }
        // Not a credential, and not something that the application could take for one.
        let key = format!("{}: {API_KEY}\r\n", twin("X-API-Key"));
        world.assert_refused(&key);
        let (_, seen) = world.send("/page", &format!("{key}{}", world.token()));
        assert!(!format!("{seen:?}").contains(API_KEY), "{between}: {seen:?}");
        // Nor a tenant that Countersign has not checked.
        let (_, seen) =
            world.send("/page", &format!("{}: root\r\n{}", twin("X-Tenant-ID"), world.token()));
        assert!(!format!("{seen:?}").contains("root"), "{between}: {seen:?}");
    }
}

/// A proxy that joins lines by a comma makes a name of them which no credential of a tenant has.
fn e4_repeated_headers_name_no_tenant(world: &TenantWorld<'_>) {
    let (token, key) = (world.token(), key());
    let tenant = |name: &str| format!("X-Tenant-ID: {name}\r\n");
    for lines in [
        format!("{key}{key}"),
        format!("{key}X-API-Key: wrong\r\n"),
        format!("{token}{token}"),
        format!("{token}{}{}", tenant("foo"), tenant("foo")),
        format!("{token}{}{}", tenant("foo"), tenant("bar")),
        format!("{token}{}{}", tenant("_"), tenant("bar")),
    ] {
        world.assert_refused(&lines);
    }
    let (answer, seen) = world.send("/page", &format!("{key}{}{}", tenant("foo"), tenant("bar")));
    let acts_for = seen.first().map(identity);
    assert!(
        answer.status == 401 || acts_for.as_deref() == Some("foo%2Cbar; _,foo%2Cbar; "),
        "{answer:?}: {seen:?}"
    );
}

fn e2_connection_does_not_remove_the_tenant(world: &TenantWorld<'_>) {
    let named = IDENTITY.join(", ");
    for lines in [
        format!("Connection: {named}\r\n"),
        format!("Connection: close, {named}, X-API-Key, Authorization\r\n"),
        format!("{WEBSOCKET}Connection: {named}\r\n"),
    ] {
        for (credential, expected) in [(world.token(), "foo; _,foo; alice"), (key(), "_; *; ")] {
            let (answer, seen) = world.send("/page", &format!("{lines}{credential}"));
            match seen.first() {
                Some(given) => {
                    assert_eq!(identity(given), expected, "{lines}: {given:?}");
                    let options = given.lines("connection").concat().to_lowercase();
                    assert!(!options.contains("x-"), "the next hop would drop {options}");
                    assert!(!format!("{given:?}").contains(API_KEY), "{given:?}");
                }
                None => assert!([400, 401, 403].contains(&answer.status), "{lines}: {answer:?}"),
            }
        }
    }
}
