//! Nodes with a wrong clock, and databases that are restored while servers run.

use std::{path::PathBuf, time::Duration};

use countersign_server::revocation::store::RevocationStore;
use countersign_tests::{
    binary::{Sandbox, Server},
    eventually, interposer,
    postgres::Postgres,
};
use serde_json::json;

use crate::{
    fixture::{self, ISSUER},
    revocation::{configuration, revoke, token},
};

const DAY: u64 = 86_400;

/// Adds the seconds in a file to the wall clock.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME) {
        FILE *file = fopen(SWITCH, "r");
        long seconds = 0;
        if (file != NULL) {
            if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
            fclose(file);
        }
        time->tv_sec += seconds;
    }
    return result;
}
"#;

/// Returns a sandbox whose processes read a clock that [`set_clock`] sets.
fn with_clock() -> Sandbox {
    interposer::sandbox_with(SHIM)
}

fn set_clock(sandbox: &Sandbox, offset: i64) {
    sandbox.replace("switch", offset.to_string());
}

fn revocations_file(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join(".local/state/countersign/revocations")
}

fn leaked(jti: &str) -> String {
    token(json!({ "jti": jti, "exp": fixture::now() + 30 * DAY }))
}

fn revoke_all(server: &Server<'_>, count: usize) {
    for jti in 0..count {
        let until = fixture::now() + 31 * DAY;
        let body = format!("issuer={ISSUER}&jti={jti}&until={until}");
        assert_eq!(revoke(server, &body).status, 200);
    }
}

#[test]
fn node_that_starts_with_a_wrong_clock_revives_no_token() {
    let sandbox = with_clock();
    {
        let server = sandbox.serve(&configuration());
        revoke_all(&server, 5);
    }
    set_clock(&sandbox, 60 * 86_400);
    let server = sandbox.serve(&configuration());
    assert_eq!(server.auth(&leaked("0")).status, 401, "expired, by this clock");
    set_clock(&sandbox, 0);
    for _ in 0..20 {
        for jti in 0..5 {
            assert_eq!(server.auth(&leaked(&jti.to_string())).status, 401);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.auth(&leaked("other")).status, 200);
    assert!(server.log().contains("the system clock has jumped"), "{}", server.log());
    let stored = RevocationStore::in_file(revocations_file(&sandbox)).unwrap().read_new().unwrap();
    assert_eq!(stored.unwrap().len(), 5);
}

#[test]
fn capacity_pressure_by_a_wrong_clock_is_undone() {
    let sandbox = with_clock();
    let config = format!("{}[revocation]\ncapacity=6\n", configuration());
    {
        let server = sandbox.serve(&config);
        revoke_all(&server, 6);
    }
    set_clock(&sandbox, 60 * 86_400);
    let server = sandbox.serve(&config);
    // There is room for it only because the others are over, by this clock.
    std::thread::sleep(Duration::from_millis(1100));
    let more = format!("issuer={ISSUER}&jti=more&until={}", fixture::now() + 100 * DAY);
    assert_eq!(revoke(&server, &more).status, 200);
    set_clock(&sandbox, 0);
    eventually(|| {
        server.auth(&leaked("0")).status == 401 && server.auth(&leaked("5")).status == 401
    });
}

#[test]
fn acknowledged_revocations_survive_a_restored_database() {
    let postgres = Postgres::start();
    let config = format!("{}[database]\nurl={}\n", configuration(), postgres.url());
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [one, other] = &sandboxes.each_ref().map(|sandbox| sandbox.serve(&config));
    revoke_all(one, 8);
    eventually(|| other.auth(&leaked("7")).status == 401);
    postgres.query(
        "DELETE FROM countersign_revocation WHERE number > 3;
         SELECT setval('countersign_revocation_number_seq', 3)",
    );
    assert_eq!(revoke(one, &format!("issuer={ISSUER}&jti=later")).status, 200);
    eventually(|| other.auth(&leaked("later")).status == 401);
    // The nodes write back what they knew.
    eventually(|| {
        postgres.query("SELECT count(DISTINCT record) FROM countersign_revocation") == "9"
    });
    assert_eq!(one.auth(&leaked("7")).status, 401);
    assert!(one.metric("countersign_revocations_store_replaced") >= 1);
    let fresh = Sandbox::new();
    let third = fresh.serve(&config);
    assert_eq!((third.auth(&leaked("7")).status, third.auth(&leaked("0")).status), (401, 401));
}
