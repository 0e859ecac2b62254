//! `deploy/examples/orchestrate`: two tenants and a machine, whose requests reach an API through a
//! proxy.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use countersign_tests::{
    binary::Sandbox,
    http::{Response, request},
    pages::root,
    proxies::{DaemonProcess, free_address, installed_program},
};
use serde_json::{Value, json};

use super::{Addresses, envoy, nginx, tenant_configuration, world::bearer};
use crate::orchestrate::tier::{API_KEY, TenantProvider, sandbox};

fn example(name: &str) -> PathBuf {
    root().join("deploy/examples/orchestrate").join(name)
}

/// Returns the variables of an env file.
fn variables_of(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns a sandbox with the variables of `countersign.env`, changed for the test: the provider,
/// free ports, and the API key, which the file leaves out.
fn example_sandbox(issuer: &str, changes: &[(&str, &str)]) -> Sandbox {
    let text = fs::read_to_string(example("countersign.env")).unwrap();
    let shipped = variables_of(&text);
    let own = [("AUTH_JWT_ISSUER_URL", issuer), ("AUTH_API_KEY", API_KEY)];
    let changes: Vec<_> = own.iter().chain(changes).collect();
    let is_changed = |name: &str| changes.iter().any(|(other, _)| *other == name);
    let kept = shipped.iter().map(|(name, value)| (&**name, &**value));
    let kept: Vec<_> = kept.filter(|(name, _)| !is_changed(name)).collect();
    sandbox(None, kept.iter().chain(changes))
}

/// The example behind one proxy.
struct ExampleWorld {
    proxy: SocketAddr,
    api: SocketAddr,
    provider: TenantProvider,
}

impl ExampleWorld {
    #[track_caller]
    fn ask(&self, caller: &str, request_line: &str, lines: &str, body: Option<&Value>) -> Response {
        let credential = match caller {
            "" => String::new(),
            "machine" => format!("X-API-Key: {API_KEY}\r\n"),
            tenant => bearer(&self.provider.token(tenant)),
        };
        let head = format!("{request_line} HTTP/1.1\r\n{credential}{lines}");
        let body = body.map(Value::to_string).unwrap_or_default();
        request(self.proxy, &head, body.as_bytes())
    }

    /// Creates a chain and returns the answer with its status.
    #[track_caller]
    fn create(&self, caller: &str, lines: &str, name: &str) -> (u16, Value) {
        let answer = self.ask(caller, "POST /chains", lines, Some(&json!({ "name": name })));
        (answer.status, answer.json())
    }

    /// Returns the names of the chains that a caller sees.
    #[track_caller]
    fn names(&self, caller: &str, lines: &str) -> Vec<String> {
        let answer = self.ask(caller, "GET /chains", lines, None);
        assert_eq!(answer.status, 200, "{answer:?}");
        let all = answer.json();
        let name = |chain: &Value| chain["name"].as_str().unwrap().to_owned();
        all.as_array().unwrap().iter().map(name).collect()
    }
}

fn run_example(changes: &[(&str, &str)], command: impl Fn(&Path, &Addresses) -> Command) {
    let provider = TenantProvider::start();
    let sandbox = example_sandbox(&provider.issuer(), changes);
    let server = sandbox.start::<&str>([]);
    server.wait_until_ready();
    let (api, proxy) = (free_address(), free_address());
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut python = Command::new("python3");
    python.arg(example("api.py")).arg(api.to_string());
    let _api = DaemonProcess::start(python, directories[0].path(), api);
    let addresses = Addresses { proxy, countersign: server.address, application: api };
    let command = command(directories[1].path(), &addresses);
    let _proxy = DaemonProcess::start(command, directories[1].path(), proxy);
    let world = ExampleWorld { proxy, api, provider };
    c39_tenants_see_their_own_resources(&world);
    c40_idempotency_keys_belong_to_a_tenant(&world);
    identity_comes_from_the_credential(&world);
    operations_are_not_exposed(&world, server.metrics);
}

#[test]
fn example_separates_tenants_behind_nginx() {
    run_example(&[], |directory, addresses| {
        nginx::command(directory, &tenant_configuration("nginx.conf", &addresses.all()))
    });
}

#[test]
fn example_separates_tenants_behind_envoy() {
    for (file, dialect) in [("envoy.yaml", "envoy-path"), ("envoy-grpc.yaml", "none")] {
        let changes = [
            ("INMANTA_LISTEN_DIALECT", dialect),
            ("INMANTA_LISTEN_CLIENT_ADDRESS_HEADER", "X-Real-IP"),
        ];
        run_example(&changes, |directory, addresses| {
            let replaced = envoy::replacements(addresses);
            envoy::run(directory, tenant_configuration(file, &replaced))
        });
    }
}

fn c39_tenants_see_their_own_resources(world: &ExampleWorld) {
    let (_, of_foo) = world.create("foo", "", "foo's");
    let (_, of_bar) = world.create("bar", "", "bar's");
    let (_, of_acme) = world.create("machine", "X-Tenant-ID: acme\r\nX-Username: ci\r\n", "acme's");
    let (status, of_all) = world.create("machine", "", "public");
    assert_eq!(status, 201);
    let owner = |chain: &Value| (chain["tenant"].clone(), chain["created_by"].clone());
    assert_eq!(owner(&of_foo), (json!("foo"), json!("alice")));
    assert_eq!(owner(&of_bar), (json!("bar"), json!("alice")));
    assert_eq!(owner(&of_acme), (json!("acme"), json!("ci")));
    assert_eq!(owner(&of_all), (json!("_"), json!("")));
    assert_eq!(world.names("foo", ""), ["foo's", "public"]);
    assert_eq!(world.names("foo", "X-Tenant-ID: _\r\n"), ["public"]);
    assert_eq!(world.names("bar", ""), ["bar's", "public"]);
    assert_eq!(world.names("machine", ""), ["foo's", "bar's", "acme's", "public"]);
    assert_eq!(world.names("machine", "X-Tenant-ID: acme\r\n"), ["acme's", "public"]);
    // Another tenant's resource is as one that does not exist.
    let get = |caller: &str, lines: &str, chain: &Value| {
        let line = format!("GET /chains/{}", chain["uuid"].as_str().unwrap());
        let answer = world.ask(caller, &line, lines, None);
        (answer.status, answer.body)
    };
    let missing = get("foo", "", &json!({ "uuid": "missing" }));
    assert_eq!(missing, (404, r#"{"message": "chain not found", "code": 404}"#.into()));
    for other in [&of_bar, &of_acme] {
        assert_eq!(get("foo", "", other), missing);
        assert_eq!(get("machine", "X-Tenant-ID: foo\r\n", other), missing);
        assert_eq!(get("machine", "", other).0, 200);
    }
    for own in [&of_foo, &of_all] {
        assert_eq!(get("foo", "", own).0, 200);
    }
}

fn c40_idempotency_keys_belong_to_a_tenant(world: &ExampleWorld) {
    let key = "Idempotency-Key: order-1\r\n";
    let (first, again) = (world.create("foo", key, "paid"), world.create("foo", key, "paid"));
    assert_eq!((first.0, again.0), (201, 200));
    assert_eq!(first.1, again.1);
    let other = world.create("bar", key, "paid");
    assert_eq!((other.0, &other.1["tenant"]), (201, &json!("bar")));
    assert_ne!(other.1["uuid"], first.1["uuid"]);
    // The machine that acts for a tenant shares the keys of the tenant.
    let machine = world.create("machine", &format!("{key}X-Tenant-ID: foo\r\n"), "paid");
    assert_eq!(machine, again);
    assert_eq!(world.create("foo", key, "other").0, 409);
}

fn identity_comes_from_the_credential(world: &ExampleWorld) {
    let forged = "X-Auth-Tenant: bar\r\nX-Auth-Allowed-Tenants: *\r\nX_Auth_Tenant: bar\r\n";
    assert_eq!(world.names("foo", forged), world.names("foo", ""));
    for (caller, lines) in [
        ("", forged),
        ("", "X-Tenant-ID: foo\r\n"),
        ("foo", "X-Tenant-ID: bar\r\n"),
        ("foo", "X-Username: alice\r\n"),
        ("foo", "X-API-Key: wrong\r\n"),
    ] {
        assert_eq!(world.ask(caller, "GET /chains", lines, None).status, 401, "{caller} {lines}");
    }
    // Without a proxy, the API refuses: it has no identity, or one with two values.
    let twice = format!("{forged}X-Auth-Tenant: foo\r\n");
    for lines in ["", "X-Auth-Tenant: foo\r\n", "X-Auth-Allowed-Tenants: *\r\n", &twice] {
        let head = format!("GET /chains HTTP/1.1\r\n{lines}");
        assert_eq!(request(world.api, &head, b"").status, 503, "{lines}");
    }
}

/// The proxy knows nothing of the port with the metrics.
fn operations_are_not_exposed(world: &ExampleWorld, metrics: SocketAddr) {
    for path in ["/metrics", "/live", "/ready", "/ready?full=1"] {
        let line = format!("GET {path}");
        assert_eq!(request(metrics, &format!("{line} HTTP/1.1\r\n"), b"").status, 200, "{path}");
        assert_eq!(world.ask("", &line, "", None).status, 401, "{path}");
        let answer = world.ask("machine", &line, "", None);
        assert_eq!((answer.status, &answer.json()["message"]), (404, &json!("no such path")));
    }
    for file in ["nginx.conf", "envoy.yaml", "envoy-grpc.yaml"] {
        assert!(!tenant_configuration(file, &[]).contains("8082"), "{file}");
    }
}

/// Returns the keys of the values below a key of the first level.
fn members_of<'v>(values: &'v str, key: &str) -> Vec<(&'v str, &'v str)> {
    let lines = values.lines().skip_while(|line| *line != format!("{key}:")).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with("  "));
    let members = lines.filter(|line| !line.starts_with("   ") && !line.trim().starts_with('#'));
    members.filter_map(|line| line.trim().split_once(':')).collect()
}

/// Envoy's parser reads the file as the metadata of a node, which may be any YAML.
#[test]
fn values_of_the_chart_are_yaml() {
    let values = fs::read_to_string(example("values.yaml")).unwrap();
    let check = |values: &str| {
        let indented: String = values.lines().map(|line| format!("    {line}\n")).collect();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("values.yaml");
        fs::write(&file, format!("node:\n  id: a\n  cluster: a\n  metadata:\n{indented}")).unwrap();
        let mut envoy = Command::new(installed_program("envoy"));
        envoy.args(["--mode", "validate", "--disable-hot-restart", "--config-path"]).arg(&file);
        envoy.output().unwrap().status.success()
    };
    assert!(check(&values));
    assert!(!check(&format!("{values}a: b: c\n")));
    let ports = ["      port: 8081\n", "      port: 8082\n", "          servicePortName: http\n"];
    assert!(ports.iter().all(|line| values.matches(line).count() == 1), "{values}");
    assert_eq!(members_of(&values, "environmentSecrets"), [("AUTH_API_KEY", "")]);
    let environment = members_of(&values, "environment");
    assert!(environment.iter().all(|(name, _)| *name != "AUTH_API_KEY"), "{environment:?}");
}

/// A variable that the server reads changes the result of `config check`.
#[test]
fn variables_of_the_examples_are_read() {
    let values = fs::read_to_string(example("values.yaml")).unwrap();
    let of_chart = members_of(&values, "environment").into_iter();
    let of_chart: Vec<_> = of_chart
        .map(|(name, value)| (name.to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect();
    let of_file = variables_of(&fs::read_to_string(example("countersign.env")).unwrap());
    for mut variables in [of_chart, of_file] {
        assert!(variables.len() > 5, "{variables:?}");
        variables.push(("AUTH_API_KEY".into(), API_KEY.into()));
        let checked = |changed: &str| {
            let set =
                |sandbox: Sandbox, (name, value): &(String, String)| sandbox.variable(name, value);
            // The last value of a variable counts.
            let sandbox = variables.iter().fold(Sandbox::new(), set).variable(changed, "0");
            let output = sandbox.run(["config", "check"]);
            let home = sandbox.path().display().to_string();
            let text = format!("{}{}", output.stdout, output.stderr).replace(&home, "");
            (output.code(), text)
        };
        let unchanged = checked("REST_PORT");
        assert_eq!(unchanged.0, 0, "{unchanged:?}");
        for (name, _) in &variables {
            assert_ne!(checked(name), unchanged, "{name}");
        }
    }
}
