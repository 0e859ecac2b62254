use std::{
    fs,
    os::unix::fs::symlink,
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use countersign_tests::{
    binary::{Sandbox, backdate},
    eventually,
};
use serde_json::json;

use super::{SECOND, second_token};
use crate::fixture::{self, SIGNING};

const PORTS: &str = "[server]\nbind_port=0\n[metrics]\nbind_port=0\n";

#[test]
fn file_change_is_reloaded_without_a_signal() {
    let ways: [fn(&Sandbox, &str); 3] = [
        |sandbox, text| drop(sandbox.replace("server.cfg", text)),
        // Written in place: the server waits until the file has not changed for a while.
        |sandbox, text| drop(sandbox.file("server.cfg", text)),
        // A modification time in the future, as kept by a copy from another machine.
        |sandbox, text| {
            let (path, ahead) =
                (sandbox.file("server.cfg", text), SystemTime::now() + Duration::from_secs(86_400));
            fs::File::options().append(true).open(path).unwrap().set_modified(ahead).unwrap();
        },
    ];
    thread::scope(|scope| {
        for write in ways {
            scope.spawn(move || {
                let sandbox = Sandbox::new();
                let server = sandbox.serve(SIGNING);
                let message =
                    server.reload_after(|| write(&sandbox, &format!("{SIGNING}{SECOND}")));
                assert!(message.contains("in force"), "{message}");
                assert_eq!(server.auth(&second_token()).status, 200);
            });
        }
    });
}

#[test]
fn unchanged_or_missing_file_causes_no_reload() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    sandbox.replace("server.cfg", SIGNING);
    thread::sleep(Duration::from_millis(1500));
    fs::remove_file(sandbox.path().join("server.cfg")).unwrap();
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        (server.reloads(), server.auth(&fixture::good_token()).status),
        (0, 200),
        "{}",
        server.log()
    );
}

#[test]
fn directory_changes_are_reloaded() {
    let sandbox = Sandbox::new();
    sandbox.file("conf/10-main.cfg", SIGNING);
    sandbox.file("conf/20-ports.cfg", PORTS);
    let second = sandbox.file("new.cfg", SECOND);
    for file in ["conf/10-main.cfg", "conf/20-ports.cfg", "new.cfg"] {
        backdate(&sandbox.path().join(file));
    }
    let server = sandbox.start(["--config", "conf"]);
    let (token, place) = (second_token(), sandbox.path().join("conf/30-second.cfg"));
    // An editor's lock file next to the configuration is not read and delays nothing.
    symlink("nowhere", sandbox.path().join("conf/.#30-second.cfg")).unwrap();
    let message = server.reload_after(|| fs::rename(&second, &place).unwrap());
    assert!(message.contains("in force"), "{message}");
    assert_eq!(server.auth(&token).status, 200);
    let other = sandbox.replace("other.cfg", SECOND.replace("audience=inm", "audience=other"));
    let message = server.reload_after(|| fs::rename(other, &place).unwrap());
    assert!(message.contains("in force"), "{message}");
    assert_eq!(server.auth(&token).status, 401);
    let message = server.reload_after(|| fs::remove_file(place).unwrap());
    assert!(message.contains("in force"), "{message}");
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    // The remaining file is removed: a directory without configuration files is a mistake.
    fs::remove_file(sandbox.path().join("conf/10-main.cfg")).unwrap();
    let message =
        server.reload_after(|| fs::remove_file(sandbox.path().join("conf/20-ports.cfg")).unwrap());
    eventually(|| server.log().contains("contains no .cfg or .toml file"));
    assert!(!message.is_empty());
}

#[test]
fn swapped_symlink_is_reloaded() {
    // As in Kubernetes: a.cfg -> ..data/a.cfg, and ..data -> one directory per version.
    let sandbox = Sandbox::new();
    for (version, text) in [("..1", SIGNING.into()), ("..2", format!("{SIGNING}{SECOND}"))] {
        backdate(&sandbox.file(&format!("conf/{version}/a.cfg"), text));
    }
    backdate(&sandbox.file("ports.cfg", PORTS));
    let conf = sandbox.path().join("conf");
    symlink("..1", conf.join("..data")).unwrap();
    symlink("..data/a.cfg", conf.join("a.cfg")).unwrap();
    let server = sandbox.start(["--config", "conf", "--config", "ports.cfg"]);
    assert_eq!(server.auth(&second_token()).status, 401);
    let message = server.reload_after(|| {
        symlink("..2", conf.join("..tmp")).unwrap();
        fs::rename(conf.join("..tmp"), conf.join("..data")).unwrap();
        fs::remove_dir_all(conf.join("..1")).unwrap();
    });
    assert!(message.contains("in force"), "{message}");
    assert_eq!(server.auth(&second_token()).status, 200);
}

#[test]
fn pipe_cannot_be_reloaded() {
    let sandbox = Sandbox::new();
    let pipe = sandbox.path().join("pipe.cfg");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Not joined: a writer waits forever for a server that does not start.
    thread::spawn(move || fs::write(&pipe, format!("{SIGNING}{PORTS}")).unwrap());
    let server = sandbox.start(["--config", "pipe.cfg"]);
    let message = server.reload();
    assert!(
        message.contains("pipe.cfg: not a regular file") && message.contains("restart"),
        "{message}"
    );
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
}

#[test]
fn environment_overrides_a_reloaded_file() {
    let sandbox = Sandbox::new().variable("INMANTA_AUTH_JWT_DEFAULT_AUDIENCE", "ours");
    let server = sandbox.serve(SIGNING);
    let token = fixture::token(&fixture::claims(json!({ "aud": "ours" })));
    assert_eq!(server.auth(&token).status, 200);
    let text = format!(
        "{}{SECOND}",
        SIGNING.replace("audience=https://localhost:8888/", "audience=theirs")
    );
    sandbox.replace("server.cfg", text);
    assert!(server.reload().contains("in force"));
    let theirs = fixture::token(&fixture::claims(json!({ "aud": "theirs" })));
    assert_eq!(
        [&token, &theirs, &second_token()].map(|token| server.auth(token).status),
        [200, 401, 200]
    );
}

#[test]
fn embedded_default_file_is_reloaded() {
    let sandbox = Sandbox::new()
        .variable("INMANTA_SERVER_BIND_PORT", "0")
        .variable("INMANTA_METRICS_BIND_PORT", "0");
    let server = sandbox.start::<&str>([]);
    let token = sandbox.run(["token", "bootstrap"]).text().to_owned();
    assert_eq!(server.auth(&token).status, 200);
    assert!(server.reload().contains("in force"));
    assert_eq!(server.auth(&token).status, 200);
    let file = ".local/state/countersign/countersign.cfg";
    let text = fs::read_to_string(sandbox.path().join(file)).unwrap();
    let message = server.reload_after(|| drop(sandbox.replace(file, format!("{text}{SECOND}"))));
    assert!(message.contains("in force"), "{message}");
    assert_eq!((server.auth(&token).status, server.auth(&second_token()).status), (200, 200));
}

#[test]
fn removed_key_file_of_tenants_is_let_go() {
    let sandbox = Sandbox::new();
    let keys = sandbox.replace("keys", "a = first\n");
    let configuration = |option: &str| {
        format!("{SIGNING}[listen]\nsurface=orchestrate\n[multi_tenancy]\n{option}\n")
    };
    let server = sandbox.serve(&configuration("api_key_file=keys"));
    let ask = |key: &str| server.request(&format!("GET /auth HTTP/1.1\r\nX-API-Key: {key}\r\n"));
    assert_eq!(ask("first").status, 200);
    fs::remove_file(keys).unwrap();
    sandbox.replace("server.cfg", configuration("api_key=second"));
    eventually(|| ask("second").status == 200);
    assert_eq!(ask("first").status, 401);
}
