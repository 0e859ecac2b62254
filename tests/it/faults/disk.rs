use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::Response,
    interposer,
};
use serde_json::json;

use crate::{
    fixture::{self, ISSUER},
    revocation::{self, revoke, token},
    users::{Api, PASSWORD, data, session_of},
};

/// Fails every write to a regular file while the switch exists, as a full file system does.
const FULL_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int is_full(int file) {
    struct stat status;
    return access(SWITCH, F_OK) == 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode);
}

#define FAILING(result, name, parameters, arguments)                                            \
    result name parameters {                                                                    \
        static result(*next) parameters;                                                        \
        if (next == NULL) next = dlsym(RTLD_NEXT, #name);                                       \
        if (!is_full(file)) return next arguments;                                              \
        errno = ENOSPC;                                                                         \
        return -1;                                                                              \
    }

FAILING(ssize_t, write, (int file, const void *bytes, size_t count), (file, bytes, count))
FAILING(ssize_t, pwrite, (int file, const void *bytes, size_t count, off_t at),
        (file, bytes, count, at))
FAILING(ssize_t, pwrite64, (int file, const void *bytes, size_t count, off64_t at),
        (file, bytes, count, at))
"#;

fn fill(sandbox: &Sandbox) {
    sandbox.file("switch", "");
}

fn free_space(sandbox: &Sandbox) {
    std::fs::remove_file(sandbox.path().join("switch")).unwrap();
}

fn configuration() -> String {
    format!("{}[server]\nauth=true\n", revocation::configuration())
}

/// Returns a file of the state directory.
fn state(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.path().join(".local/state/countersign").join(name)
}

/// Revokes the token with this id.
#[track_caller]
fn revoke_id(server: &Server<'_>, id: &str) -> Response {
    revoke(server, &format!("issuer={ISSUER}&jti={id}"))
}

/// Returns the statuses of `/auth` for the tokens with these ids.
#[track_caller]
fn statuses<const N: usize>(server: &Server<'_>, ids: [&str; N]) -> [u16; N] {
    ids.map(|id| server.auth(&token(json!({ "jti": id }))).status)
}

fn usernames(server: &Server<'_>) -> Vec<String> {
    let users = data(&Api::root(server).ask("GET /user"));
    let names = users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

#[test]
fn full_disk_refuses_changes_and_loses_nothing() {
    let sandbox = interposer::sandbox_with(FULL_DISK);
    let add = |server: &Server<'_>, name: &str| {
        let user = json!({ "username": name, "password": PASSWORD });
        Api::root(server).send("POST /user", user).status
    };
    {
        let server = sandbox.serve(&configuration());
        assert_eq!((revoke_id(&server, "first").status, add(&server, "bob")), (200, 200));
        fill(&sandbox);
        let refused = revoke_id(&server, "refused");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
        assert!(refused.body.contains("free space on this file system"), "{refused:?}");
        assert_eq!(add(&server, "carol"), 503);
        assert_eq!(Api::anonymous(&server).log_in("bob", PASSWORD).status, 503);
        assert_eq!(statuses(&server, ["first", "refused", "other"]), [401, 200, 200]);
        assert_eq!(server.auth(&session_of("bob", false)).status, 200);
        assert_eq!(usernames(&server), ["bob"]);
        assert_eq!(server.operations("/ready").status, 200);
        free_space(&sandbox);
        eventually(|| revoke_id(&server, "second").status == 200);
        assert_eq!(add(&server, "dave"), 200);
        assert_eq!(statuses(&server, ["first", "refused", "second"]), [401, 200, 401]);
        server.stop("KILL");
    }
    let server = sandbox.serve(&configuration());
    assert_eq!(statuses(&server, ["first", "refused", "second"]), [401, 200, 401]);
    assert_eq!(usernames(&server), ["bob", "dave"]);
}

#[test]
fn start_on_a_full_disk_fails_closed() {
    let sandbox = interposer::sandbox_with(FULL_DISK);
    {
        let server = sandbox.serve(&configuration());
        assert_eq!(revoke_id(&server, "first").status, 200);
        server.stop("TERM");
    }
    fill(&sandbox);
    let server = sandbox.listen(&configuration());
    let refused = server.auth(&fixture::good_token());
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-auth-error"), Some("revocations_unavailable"));
    assert_eq!((server.operations("/live").status, server.operations("/ready").status), (200, 503));
    free_space(&sandbox);
    server.wait_until_ready();
    assert_eq!(statuses(&server, ["first", "other"]), [401, 200]);
}

/// Another process that keeps an SQLite file locked for writing.
struct DatabaseLock(Child);

impl DatabaseLock {
    fn take(file: &Path) -> Self {
        const SCRIPT: &str = "import sqlite3, sys\n\
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
            connection.execute('BEGIN IMMEDIATE')\n\
            print('locked', flush=True)\n\
            sys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut lock = Self(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(lock.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        lock
    }
}

impl Drop for DatabaseLock {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn locked_database_blocks_changes_only() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    assert_eq!(revoke_id(&server, "first").status, 200);
    Api::root(&server).add_user("bob");
    {
        let _locks = ["revocations", "countersign.db"]
            .map(|name| DatabaseLock::take(&state(&sandbox, name)));
        std::thread::scope(|scope| {
            let revoked = scope.spawn(|| revoke_id(&server, "refused"));
            let added = scope.spawn(|| {
                let user = json!({ "username": "carol", "password": PASSWORD });
                Api::root(&server).send("POST /user", user)
            });
            while !revoked.is_finished() || !added.is_finished() {
                assert_eq!(statuses(&server, ["first", "other"]), [401, 200]);
            }
            for refused in [revoked, added].map(|call| call.join().unwrap()) {
                assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
            }
        });
    }
    eventually(|| revoke_id(&server, "second").status == 200);
    Api::root(&server).add_user("dave");
    assert_eq!(statuses(&server, ["first", "refused", "second"]), [401, 200, 401]);
    assert_eq!(usernames(&server), ["bob", "dave"]);
    server.wait_until_ready();
}
