use countersign_tests::{
    binary::{Output, Sandbox, Server},
    certificates,
};
use serde_json::{Value, json};

use crate::fixture::SIGNING;

pub(super) const PASSWORD: &str = "correct horse";

/// Returns the configuration of a server with its own users, whose sessions are signed with the key
/// of [`SIGNING`].
pub(super) fn configuration() -> String {
    format!("[server]\nauth=true\nauth-method=database\n{SIGNING}")
}

/// Creates the first user, before or while a server runs.
pub(super) fn set_up(sandbox: &Sandbox) {
    sandbox.file("setup.cfg", configuration());
    let made = sandbox
        .run_with_input(["setup", "-c", "setup.cfg", "--yes", "--username", "admin"], PASSWORD);
    assert_eq!(made.code(), 0, "{made:?}");
}

/// A logged-in user of the command line.
pub(super) struct CliUser<'s> {
    sandbox: &'s Sandbox,
    name: &'static str,
}

impl<'s> CliUser<'s> {
    /// Logs in and stores the session's token in the user's configuration.
    pub(super) fn log_in(
        sandbox: &'s Sandbox,
        server: &Server<'_>,
        name: &'static str,
        password: &str,
    ) -> Self {
        let transport =
            format!("[cmdline_rest_transport]\nhost=127.0.0.1\nport={}\n", server.address.port());
        let user = Self { sandbox, name };
        sandbox.file(&user.file(), &transport);
        let token = user.run_with_input(&format!("login {name}"), password);
        sandbox.file(&user.file(), format!("{transport}token={}\n", token.text()));
        user
    }

    fn file(&self) -> String {
        format!("{}.cfg", self.name)
    }

    pub(super) fn run(&self, command: &str) -> Output {
        self.run_with_input(command, "")
    }

    fn run_with_input(&self, command: &str, input: &str) -> Output {
        self.sandbox.run_with_input(command.split(' ').chain(["-c", &self.file()]), input)
    }

    /// Returns the JSON that a command prints.
    pub(super) fn json(&self, command: &str) -> Value {
        let output = self.run(&format!("{command} --json"));
        serde_json::from_str(output.text()).unwrap()
    }
}

#[track_caller]
pub(super) fn refused(output: &Output, text: &str) {
    assert!(output.code() == 1 && output.stderr.contains(text), "{text}: {output:?}");
}

#[test]
fn cli_manages_users_roles_and_environments() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let admin = CliUser::log_in(&sandbox, &server, "admin", PASSWORD);
    let environment = admin.run("environment add prod").text().to_owned();
    assert_eq!(admin.json("environment list")[0]["id"], *environment);
    assert_eq!(admin.run_with_input("user add bob", "the first one").text(), "User bob is added.");
    refused(
        &admin.run_with_input("user add bob", "the first one"),
        "A user with name bob already exists.",
    );
    refused(&admin.run_with_input("user add eve", "short"), "at least 8 characters");
    let project = admin.run("project add lab").text().to_owned();
    let tested = admin.run("environment add test --project lab").text().to_owned();
    let held = admin.json("project list")[1].take();
    assert_eq!((&held["id"], &held["environments"][0]["id"]), (&json!(project), &json!(tested)));
    refused(&admin.run("project delete lab"), "still contains some environments");
    assert_eq!(admin.run("environment delete test").code(), 0);
    assert_eq!(admin.run("project delete lab").code(), 0);
    refused(&admin.run("project delete lab"), "no project is named \"lab\"");
    assert_eq!(admin.run("role add keeper").code(), 0);
    assert!(admin.run("role list").text().lines().any(|role| role == "keeper"));
    admin.run("role assign bob keeper -e prod").text();
    let users = admin.run("user list").text().to_owned();
    assert!(users.contains(&format!("bob    no     database  {environment}: keeper")), "{users}");
    refused(&admin.run("role delete keeper"), "still assigned to a user");
    let unassign = format!("role unassign bob keeper --environment {environment}");
    assert_eq!(admin.run(&unassign).code(), 0);
    refused(&admin.run(&unassign), "is not assigned to user bob");
    assert_eq!(admin.run("role delete keeper").code(), 0);
    admin.run("user admin bob").text();
    assert_eq!(admin.json("user list")[1]["is_admin"], true);
    admin.run("user admin bob --revoke").text();
    assert_eq!(admin.json("user list")[1]["is_admin"], false);
    assert_eq!(admin.run("environment delete prod").code(), 0);
    assert_eq!(admin.json("environment list"), json!([]));
}

#[test]
fn cli_changes_passwords_and_deletes_users() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let admin = CliUser::log_in(&sandbox, &server, "admin", PASSWORD);
    admin.run_with_input("user add bob", "the first one").text();
    let bob = CliUser::log_in(&sandbox, &server, "bob", "the first one");
    refused(
        &bob.run_with_input("user password bob", "a wrong one\nthe second one\n"),
        "The current password is incorrect",
    );
    assert_eq!(
        bob.run_with_input("user password bob", "the first one\nthe second one\n").code(),
        0
    );
    refused(&bob.run_with_input("login bob", "the first one"), "Invalid username or password");
    assert_eq!(bob.run_with_input("login bob", "the second one").code(), 0);
    assert_eq!(admin.run_with_input("user password bob", "the third one").code(), 0);
    assert_eq!(admin.run("user delete bob").text(), "User bob is deleted.");
    refused(&admin.run("user delete bob"), "User with name bob does not exist.");
    let late = bob.run("user list");
    refused(&late, "check the token in [cmdline_rest_transport]");
}

#[test]
fn cli_manages_environment_tokens() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let admin = CliUser::log_in(&sandbox, &server, "admin", PASSWORD);
    admin.run("environment add prod").text();
    let printed = admin.run("token create -e prod --agent --expire 3600");
    let token = printed.text();
    let accepted = server.auth(token);
    assert_eq!((accepted.status, accepted.header("x-auth-client-types")), (200, Some("agent")));
    let all = admin.json("token list -e prod");
    assert_eq!(
        (&all[0]["client_types"], &all[0]["created_by"]),
        (&json!(["agent"]), &json!("admin"))
    );
    let id = all[0]["jti"].as_str().unwrap();
    assert!(admin.run("token list -e prod").text().lines().nth(1).unwrap().starts_with(id));
    assert_eq!(
        admin.run(&format!("token delete -e prod {id}")).text(),
        format!("Token {id} is revoked.")
    );
    assert_eq!(server.auth(token).status, 401);
    let same = || admin.run("token create -e prod --idempotent").text().to_owned();
    assert_eq!(same(), same());
    refused(&admin.run("token create -e dev"), "no environment is named \"dev\"");
    refused(
        &admin.run("token create -e 11111111-1111-1111-1111-111111111111"),
        "The given environment id does not exist!",
    );
}

#[test]
fn cli_connects_over_tls_with_the_ca_file() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    certificates::ours().1.write(sandbox.path());
    let authority = sandbox.file("ca.crt", certificates::ours().0.pem());
    let tls = format!(
        "{}ssl_cert_file=tls.crt\nssl_key_file=tls.key\n",
        configuration().replacen(SIGNING, "", 1)
    );
    let server = sandbox.serve(&format!("{tls}{SIGNING}"));
    let login = |host: &str, server: &Server<'_>, options: &str| {
        let port = server.address.port();
        sandbox.file(
            "c.cfg",
            format!("[cmdline_rest_transport]\nhost={host}\nport={port}\nssl=true\n{options}\n"),
        );
        sandbox.run_with_input(["login", "admin", "-c", "c.cfg"], PASSWORD)
    };
    let trusting = format!("ssl_ca_cert_file={}", authority.display());
    let unknown = login("localhost", &server, "");
    refused(&unknown, "set ssl_ca_cert_file in [cmdline_rest_transport] to its CA certificate");
    assert_eq!(login("localhost", &server, &trusting).code(), 0);
    drop(server);
    let elsewhere = sandbox.serve(&format!("{tls}bind_address=127.0.0.2\n{SIGNING}"));
    let misnamed = login("127.0.0.2", &elsewhere, &trusting);
    refused(&misnamed, "host in [cmdline_rest_transport] must be a name in the certificate");
}
