//! Tiers whose configuration differs from that of their server.

use countersign_tests::{binary::Sandbox, eventually};
use serde_json::json;

use super::{bearer, configuration, outage::start_nginx, token, with_feed};
use crate::fixture;

#[test]
fn other_configuration_of_the_server_is_logged() {
    let sandbox = Sandbox::new();
    let of_proxy = with_feed(&sandbox, &configuration());
    let second = fixture::issuer_section("second", "HS256", "https://second/", SECOND);
    let of_server = format!("{of_proxy}[identity_headers]\nuser=Remote-User\n{second}");
    let server = sandbox.serve(&of_server);
    let nginx = start_nginx(&of_proxy);
    let good = bearer(&token(json!({ "jti": "1" })));
    assert_eq!(nginx.status("/", &good), 200, "it decides by its own");
    let is_logged = |text: &str| nginx.running.log().contains(text);
    let different = "has another configuration: different: [identity_headers]; only of the server: \
                     [auth_jwt_second]; this process decides by its own";
    eventually(|| nginx.running.log().matches(different).count() == 2);
    // A change of the server is in the feed, too.
    let of_server = of_server.replace("Remote-User", "X-Auth-User");
    sandbox.replace("server.cfg", &of_server);
    assert!(server.reload().contains("in force"));
    eventually(|| is_logged("has another configuration: only of the server: [auth_jwt_second];"));
    nginx.sandbox.replace("auth.cfg", of_server);
    eventually(|| is_logged("has the same configuration"));
    assert_eq!(nginx.status("/", &good), 200);
    let log = nginx.running.log();
    assert_eq!(log.matches(different).count(), 2, "once by each worker: {log}");
}

const SECOND: &str = "key=eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM";
