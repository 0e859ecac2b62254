//! Order and delay of signature checks.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::*;

over_every_protocol!(
    checks_over_budget_wait_before_they_are_refused,
    shares_are_not_enforced_while_the_core_has_time,
    sources_without_bad_signatures_come_first,
    unlisted_proxies_share_the_budget_of_an_issuer,
);

/// Returns the number of delayed signature checks.
fn delayed(server: &Server<'_>) -> u64 {
    server.metric("countersign_delayed_verifications_total")
}

fn checks_over_budget_wait_before_they_are_refused(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES256"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "1"], ""));
    let mut client = server.client();
    let mut number = 0;
    while delayed(&server) < 5 {
        for _ in 0..50 {
            let (head, body) = auth_request("", &issuer.forged(number));
            assert_eq!(client.request(&head, body.as_bytes()).status, 401, "{number}");
            number += 1;
        }
        assert!(number < 10_000, "no check was delayed");
    }
    assert_eq!(not_admitted(&server), [0; 3]);
}

fn shares_are_not_enforced_while_the_core_has_time(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["100", "1", "1"], ""));
    // A batch would use up the core's own capacity.
    let mut client = server.client();
    for number in 0..64 {
        let (head, body) = auth_request("", &issuer.forged(number));
        assert_eq!(client.request(&head, body.as_bytes()).status, 401);
    }
    assert_eq!((delayed(&server), not_admitted(&server)), (0, [0; 3]));
}

fn sources_without_bad_signatures_come_first(protocol: Protocol) {
    let (sandbox, signer) = (Sandbox::over(protocol), Signer::new());
    let jwks = sandbox.file("jwks.json", json!({ "keys": [signer.jwk()] }).to_string());
    let idp = fixture::with_idp("EdDSA", &format!("jwks_uri=file://{}", jwks.display()));
    let limits = "[limits]\nbad_signatures_per_core=1\n";
    let listen = "[listen]\nthreads=1\ntrusted_proxies=127.0.0.1\n";
    let server = sandbox.serve(&format!("{idp}{listen}{limits}"));
    let token = |jti: &str| {
        let mut claims = fixture::claims_of(ISSUER);
        claims["jti"] = json!(jti);
        signer.token(&claims)
    };
    let forger =
        Issuer { key: SigningKey::generate("EdDSA", "k"), genuine: token("copied by the forger") };
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    let is_over = AtomicBool::new(false);
    let attack = || {
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            drop(batch_of(&server, |number| {
                let lines = from(&format!("198.51.100.{}", number % 8));
                auth_request(&lines, &forger.forged(sent + number))
            }));
            sent += BATCH;
        }
    };
    thread::scope(|scope| {
        scope.spawn(attack);
        countersign_tests::eventually(|| not_admitted(&server)[0] > 0);
        let mut client = server.client();
        let lines = from("203.0.113.7");
        // A check that the operating system interrupts spends the budget of the core for a second,
        // with every check in the queue. Then another round decides.
        let mut accepts_all = |round: u32| {
            (0..50).all(|number| {
                let token = token(&format!("{round} {number}"));
                client.request(&auth_request(&lines, &token).0, b"").status == 200
            })
        };
        let accepted = (0..8).any(|round| {
            thread::sleep(Duration::from_millis(u64::from(round) * 300));
            accepts_all(round)
        });
        is_over.store(true, Ordering::Relaxed);
        assert!(accepted, "a source without bad signatures has to wait for others");
    });
}

fn unlisted_proxies_share_the_budget_of_an_issuer(protocol: Protocol) {
    let (sandbox, issuer) = (Sandbox::over(protocol), Issuer::new("ES512"));
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "off", "1"], ""));
    let proxied = |number| {
        let lines = format!("X-Forwarded-For: 203.0.113.{}\r\n", number % 256);
        auth_request(&lines, &issuer.forged(number))
    };
    // Issuers have no limit here.
    let answers = batch_of(&server, proxied);
    assert!(answers.iter().all(|answer| answer.status == 401));
    // A client that sends no such header is limited as a source.
    flood(&server, |number| auth_request("", &issuer.forged(BATCH + number)));
    drop(server);
    let server = sandbox.serve(&issuer.configuration(&sandbox, ["off", "1", "off"], ""));
    assert_limited(&flood(&server, proxied).refused[0], 429, "not_admitted source");
}
