//! Workers that replace others. nginx gives them what the master process read at its start.

use countersign_tests::binary::Sandbox;

use super::{super::module_proxy::ModuleProxy, CHECK_ALL, kill_workers, start};
use crate::fixture;

/// Returns the status of each of several requests, so that all workers answer.
fn statuses(nginx: &ModuleProxy, lines: &str) -> [u16; 20] {
    [(); 20].map(|()| nginx.status("/", lines))
}

#[test]
fn replaced_nginx_worker_applies_changed_files_first() {
    let keys = Sandbox::new();
    let file = keys.replace("keys", "removed = first\nkept = second\n");
    let configuration = format!(
        "{}[listen]\nsurface=orchestrate\n[multi_tenancy]\napi_key_file={}\n",
        fixture::SIGNING,
        file.display()
    );
    let nginx = start(&configuration, CHECK_ALL);
    let all = |key: &str| statuses(&nginx, &format!("X-API-Key: {key}\r\n"));
    assert_eq!(["first", "second"].map(all), [[200; 20]; 2], "{}", nginx.running.log());
    keys.replace("keys", "kept = second\n");
    kill_workers(&nginx);
    assert_eq!(["first", "second"].map(all), [[401; 20], [200; 20]], "a file that it refers to");
    nginx.sandbox.replace("auth.cfg", format!("{configuration}api_key=third\n"));
    kill_workers(&nginx);
    assert_eq!(["first", "third"].map(all), [[401; 20], [200; 20]], "the configuration itself");
}
