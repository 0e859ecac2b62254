//! Workers that replace others. nginx gives them what the master process read at its start.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use countersign_tests::{binary::Sandbox, eventually};

use super::{
    super::module_proxy::{ModuleProxy, bearer},
    CHECK_ALL, command, kill_workers, start,
};
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

/// It cannot know which version the other workers had in force.
#[test]
fn replaced_nginx_worker_refuses_all_with_mistakes() {
    let nginx = start(fixture::SIGNING, CHECK_ALL);
    let good = bearer(&fixture::good_token());
    assert_eq!(statuses(&nginx, &good), [200; 20], "{}", nginx.running.log());
    let stricter = fixture::SIGNING.replace("agent,compiler,api", "agent");
    nginx.sandbox.replace("auth.cfg", &stricter);
    eventually(|| statuses(&nginx, &good) == [401; 20]);
    nginx.sandbox.replace("auth.cfg", format!("{stricter}nonsense\n"));
    kill_workers(&nginx);
    for lines in [&*good, ""] {
        assert_eq!(statuses(&nginx, lines), [503; 20], "{}", nginx.running.log());
    }
    let (response, seen) = nginx.get("/", &good);
    assert_eq!((response.header("retry-after"), seen.is_none()), (Some("1"), true));
    let log = nginx.running.log();
    assert!(log.contains("answering every request with 503, because it has changed"), "{log}");
    // Another mistake is not a correction, and neither is a missing file.
    nginx.sandbox.replace("auth.cfg", "[auth_jwt_default]\nalgorithm=none\n");
    eventually(|| nginx.running.log().contains("auth.cfg:2"));
    assert_eq!(statuses(&nginx, &good), [503; 20]);
    nginx.sandbox.replace("auth.cfg", &stricter);
    eventually(|| statuses(&nginx, &good) == [401; 20]);
    nginx.sandbox.replace("auth.cfg", fixture::SIGNING);
    eventually(|| statuses(&nginx, &good) == [200; 20]);
}

/// The master reads files with its rights, and workers cannot apply changes of them.
#[test]
fn replaced_nginx_worker_needs_no_right_to_read_files() {
    let nginx = ModuleProxy::start(fixture::SIGNING, |directory, addresses| {
        let locations = CHECK_ALL.replace("APPLICATION", &addresses.application.to_string());
        let server = format!("server {{ listen {}; {locations} }}", addresses.proxy);
        let command = command(directory, &format!("countersign auth.cfg;\n{server}"));
        let file = directory.join("nginx.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replace("user root;", "user nobody nogroup;")).unwrap();
        std::fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
        command
    });
    let good = bearer(&fixture::good_token());
    assert_eq!(statuses(&nginx, &good), [200; 20], "{}", nginx.running.log());
    kill_workers(&nginx);
    assert_eq!(statuses(&nginx, &good), [200; 20], "{}", nginx.running.log());
    nginx.sandbox.replace("auth.cfg", "[auth_jwt_default]\nalgorithm=none\n");
    kill_workers(&nginx);
    assert_eq!(statuses(&nginx, &good), [200; 20], "{}", nginx.running.log());
    assert!(!nginx.running.log().contains("not reloaded"), "{}", nginx.running.log());
}
