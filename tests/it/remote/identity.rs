use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::{Authority, IssuedCertificate},
    database::query_sqlite,
    eventually,
    http::Response,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::real::{CliUser, PASSWORD, configuration, refused, set_up};
use crate::audit::audit;

/// Runs a test with a server that has machine identities, and an administrator.
fn with_server(test: impl FnOnce(&Sandbox, &Server<'_>, &CliUser<'_>)) {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let enabled = "[listen]\ntrusted_proxies=127.0.0.1\n[identities]\nenabled=true\n";
    let server = sandbox.serve(&format!("{}{enabled}", configuration()));
    test(&sandbox, &server, &CliUser::log_in(&sandbox, &server, "admin", PASSWORD));
}

fn post(server: &Server<'_>, path: &str, lines: &str, body: &Value) -> Response {
    let head = format!("POST /api/v1/auth/{path} HTTP/1.1\r\n{lines}");
    server.send(&head, body.to_string().as_bytes())
}

fn log_in_with_certificate(server: &Server<'_>, id: &str, client: &IssuedCertificate) -> Response {
    let pem = utf8_percent_encode(&client.pem(), NON_ALPHANUMERIC).to_string();
    let line = format!("X-Identity-Tls-Cert-Auth-Client-Cert: {pem}\r\n");
    post(server, "tls-cert-auth/login", &line, &json!({ "identityId": id }))
}

fn log_in_with_secret(server: &Server<'_>, client_id: &str, secret: &str) -> Response {
    let body = json!({ "clientId": client_id, "clientSecret": secret });
    post(server, "universal-auth/login", "", &body)
}

#[track_caller]
fn token_of(login: &Response) -> String {
    assert_eq!(login.status, 200, "{login:?}");
    login.json()["accessToken"].as_str().unwrap().to_owned()
}

#[test]
fn cli_creates_changes_and_deletes_identities() {
    with_server(|_, _, admin| {
        let organization = admin.json("identity organisation")[0].take();
        let shown = admin.run("identity organization").text().to_owned();
        assert!(shown.contains(organization["id"].as_str().unwrap()), "{shown}");
        assert_eq!(organization["slug"], "default");
        let id = admin.run("identity create worker").text().to_owned();
        let all = admin.run("identity list").text().to_owned();
        assert!(all.ends_with(&format!("{id}  worker  no-access  -")), "{all}");
        admin.run("identity update worker --name robot --role admin").text();
        let shown = admin.run("identity show robot").text().to_owned();
        let lines = format!("id: {id}\nname: robot\nrole: admin\ndelete protection: no\n");
        assert!(shown.starts_with(&lines), "{shown}");
        refused(&admin.run("identity update robot --role boss"), "Role with slug boss not found");
        refused(&admin.run("identity show worker"), "no identity is named \"worker\"");
        let other = admin.run("identity create robot --delete-protection").text().to_owned();
        refused(&admin.run("identity delete robot"), "more than one identity is named \"robot\"");
        refused(&admin.run(&format!("identity delete {other}")), "delete protection");
        admin.run(&format!("identity update {other} --delete-protection false")).text();
        for id in [&id, &other] {
            admin.run(&format!("identity delete {id}")).text();
        }
        assert_eq!(admin.json("identity list"), json!([]));
        let gone = format!("identity detach {id} universal");
        refused(&admin.run(&gone), "Failed to find identity with ID");
    });
}

/// A list of the server has 10,000 identities at most.
#[test]
fn cli_finds_identities_beyond_one_list() {
    const COUNT: usize = 10_150;
    with_server(|sandbox, _, admin| {
        assert_eq!(admin.json("identity list"), json!([]));
        let add = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {COUNT})
             INSERT INTO countersign_identity (id, organization, name, role, has_delete_protection,
                 metadata, created_at, updated_at)
             SELECT printf('00000000-0000-4000-8000-%012d', n),
                 (SELECT id FROM countersign_organization), printf('x%05d', n), 'member', 0, '[]', 1, 1
             FROM numbers"
        );
        let file = sandbox.path().join(".local/state/countersign/countersign.db");
        query_sqlite(&file, &add);
        assert_eq!(admin.json("identity list").as_array().unwrap().len(), COUNT);
        let shown = admin.run(&format!("identity show x{COUNT}")).text().to_owned();
        assert!(shown.contains(&format!("name: x{COUNT}\n")), "{shown}");
        refused(&admin.run("identity show x"), "no identity is named \"x\"");
    });
}

#[test]
fn cli_attaches_changes_and_detaches_certificates() {
    with_server(|sandbox, server, admin| {
        let ca = Authority::root("ca");
        let [bob, eve] = [("bob", 1), ("eve", 2)].map(|(name, serial)| ca.client(name, serial));
        sandbox.file("ca.crt", ca.pem());
        sandbox.file("both.pem", format!("{}{}", ca.pem(), bob.key));
        sandbox.file("chain.pem", format!("{}{}", bob.pem(), ca.pem()));
        let id = admin.run("identity create worker").text().to_owned();
        let attach = "identity attach-certificate worker --ca";
        for (options, text) in [
            ("both.pem", "it contains a private key"),
            ("chain.pem", "it contains more than one certificate"),
            ("missing.crt", "cannot use missing.crt: "),
            ("admin.cfg", "caCertificate: Invalid CA Certificate."),
            ("ca.crt --ttl 100 --max-ttl 50", "accessTokenTTL: Access Token TTL cannot be greater"),
            ("ca.crt --trusted-ip 300.1.1.1", "The IP is not a valid IPv4, IPv6, or CIDR block"),
            ("ca.crt --alt-name spiffe://x/y", "allowedSubjectAltNames: "),
        ] {
            refused(&admin.run(&format!("{attach} {options}")), text);
        }
        let options = "ca.crt --common-name bob --common-name a,b --chain --uses 5 \
                       --trusted-ip 127.0.0.0/8 --trusted-ip ::1";
        admin.run(&format!("{attach} {options}")).text();
        refused(&admin.run(&format!("{attach} ca.crt")), "already configured identity");
        let shown = admin.run("identity show worker").text().to_owned();
        for line in ["common names: ", "intermediates: yes", "ttl: 2592000", "uses: 5"] {
            assert!(shown.contains(&format!("\n  {line}")), "{line}: {shown}");
        }
        assert!(shown.contains("\n  trusted ips: 127.0.0.0/8, ::1"), "{shown}");
        let token = token_of(&log_in_with_certificate(server, &id, &bob));
        assert_eq!(server.auth(&token).status, 200);
        assert_eq!(log_in_with_certificate(server, &id, &eve).status, 401);
        let change = "identity attach-certificate worker --change";
        admin.run(&format!("{change} --common-name eve --chain=false --ttl 60")).text();
        assert_eq!(log_in_with_certificate(server, &id, &bob).status, 401);
        assert_eq!(log_in_with_certificate(server, &id, &eve).json()["expiresIn"], 60);
        assert_eq!(server.auth(&token).status, 200);
        admin.run(&format!("{change} --common-name=")).text();
        assert_eq!(log_in_with_certificate(server, &id, &bob).status, 200);
        admin.run("identity detach worker certificate").text();
        assert_eq!(server.auth(&token).status, 401);
        assert_eq!(log_in_with_certificate(server, &id, &eve).status, 404);
    });
}

#[test]
fn cli_manages_client_secrets() {
    with_server(|sandbox, server, admin| {
        let id = admin.run("identity create worker").text().to_owned();
        let client = admin.run("identity attach-universal worker --ttl 600").text().to_owned();
        let options = "--ttl 3600 --uses 2 --description deploy";
        let secret =
            admin.run(&format!("identity client-secret worker {options}")).text().to_owned();
        let login = |secret: &str| log_in_with_secret(server, &client, secret);
        let token = token_of(&login(&secret));
        for _ in 0..3 {
            assert_eq!(login("wrong").status, 401);
        }
        assert_eq!(login(&secret).status, 401, "it is locked out");
        let cleared = admin.run("identity unlock worker").text().to_owned();
        assert_eq!(
            cleared,
            "Lockouts of worker that were cleared on this server: 1. Each server has its own."
        );
        token_of(&login(&secret));
        assert_eq!(login(&secret).status, 401, "it has no use left");
        let listed = admin.json("identity client-secrets worker")[0].take();
        assert_eq!(
            (&listed["description"], &listed["clientSecretTTL"]),
            (&json!("deploy"), &json!(3600))
        );
        let table = admin.run("identity client-secrets worker").text().to_owned();
        assert!(table.contains("deploy") && !table.contains(&secret), "{table}");
        let other = admin.run("identity client-secret worker").text().to_owned();
        token_of(&login(&other));
        let ids = admin.json("identity client-secrets worker");
        for one in ids.as_array().unwrap() {
            let command = format!("identity revoke-secret worker {}", one["id"].as_str().unwrap());
            admin.run(&command).text();
        }
        assert_eq!(login(&other).status, 401);
        assert_eq!(server.auth(&token).status, 401);
        let new = admin.run("identity client-secret worker").text().to_owned();
        let token = token_of(&login(&new));
        assert_eq!(server.auth(&token).status, 200);
        revoke_locally(sandbox, &id);
        eventually(|| server.auth(&token).status == 401);
        eventually(|| server.auth(&token_of(&login(&new))).status == 200);
        let token = token_of(&login(&new));
        admin.run("identity delete worker").text();
        assert_eq!(server.auth(&token).status, 401);
    });
}

fn revoke_locally(sandbox: &Sandbox, id: &str) {
    let revoke = ["token", "revoke", "-c", "server.cfg", "--identity", id];
    let revoked = sandbox.run(revoke);
    assert!(revoked.code() == 0 && revoked.stdout.contains("are not revoked"), "{revoked:?}");
    for unknown in ["unknown", "00000000-0000-0000-0000-000000000000"] {
        let revoke = ["token", "revoke", "-c", "server.cfg", "--identity", unknown];
        refused(&sandbox.run(revoke), "no machine identity has the id or the name");
    }
    let both = sandbox.run([&revoke[..], &["--issuer", "x"]].concat());
    assert_eq!(both.code(), 2, "{both:?}");
}

#[test]
fn cli_assigns_roles_to_identities() {
    with_server(|_, _, admin| {
        let project = admin.run("project add lab").text().to_owned();
        admin.run("identity add-role keeper").text();
        admin.run("identity create worker --role keeper").text();
        refused(&admin.run("identity assign worker ops -p lab"), "Role with slug ops not found");
        refused(&admin.run("identity add-role Ops -p lab"), "slug: ");
        admin.run("identity add-role ops -p lab").text();
        let shown =
            |options: &str| admin.run(&format!("identity roles{options}")).text().to_owned();
        assert!(shown("").contains("keeper") && !shown("").contains("ops"), "{}", shown(""));
        assert!(shown(" -p lab").contains("ops"), "{}", shown(" -p lab"));
        for (roles, printed) in [("ops", "ops"), ("ops viewer", "ops, viewer")] {
            let assigned = admin.run(&format!("identity assign worker {roles} -p {project}"));
            assert_eq!(assigned.text(), format!("worker is {printed} in project {project}."));
            let shown = admin.run("identity show worker").text().to_owned();
            let line = format!("\nroles in project lab: {printed}\n");
            assert!(format!("{shown}\n").contains(&line), "{shown}");
        }
        let projects = admin.json("identity show worker")["projects"].take();
        let expected = json!([{ "id": project, "name": "lab", "roles": ["ops", "viewer"] }]);
        assert_eq!(projects, expected);
        admin.run("identity unassign worker -p lab").text();
        assert_eq!(admin.run("identity unassign worker -p lab").code(), 1);
    });
}

#[test]
fn cli_changes_of_identities_are_audited() {
    with_server(|sandbox, _, admin| {
        let id = admin.run("identity create worker").text().to_owned();
        admin.run("identity attach-universal worker").text();
        let secret = admin.run("identity client-secret worker").text().to_owned();
        admin.run("identity update worker --role member").text();
        admin.run("identity detach worker universal").text();
        admin.run("identity delete worker").text();
        let events = audit(sandbox, &["--user", "admin"]);
        for expected in [
            "identity.add",
            "identity.method.add",
            "identity.secret.add",
            "identity.modify",
            "identity.method.delete",
            "identity.delete",
        ] {
            let found = events.iter().find(|event| event["operation"] == expected);
            assert_eq!(found.map(|event| &event["outcome"]), Some(&json!("done")), "{expected}");
        }
        let log = json!(events).to_string();
        assert!(log.contains(&id) && !log.contains(&secret), "{log}");
    });
}

#[test]
fn cli_names_the_option_that_enables_identities() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let admin = CliUser::log_in(&sandbox, &server, "admin", PASSWORD);
    refused(&admin.run("identity list"), "write enabled = true in [identities]");
    let revoke = ["token", "revoke", "--identity", "x", "-c", "server.cfg"];
    refused(&sandbox.run(revoke), "--identity needs enabled = true in [identities]");
}
