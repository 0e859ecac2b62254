use std::{
    fs,
    os::unix::fs::symlink,
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use countersign_tests::{
    binary::{Sandbox, settle},
    eventually,
};
use serde_json::json;

use super::{SECOND, second_token};
use crate::given::{self, SIGNING};

const PORTS: &str = "[server]\nbind_port=0\n[metrics]\nbind_port=0\n";

#[test]
fn a_change_of_the_file_alone_is_taken_over() {
    let ways: [fn(&Sandbox, &str); 3] = [
        |sandbox, text| drop(sandbox.replace("server.cfg", text)),
        // Written in place, which takes a while to be believed.
        |sandbox, text| drop(sandbox.file("server.cfg", text)),
        // From the future: a copy that kept the time of another machine.
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
                let said = server.reloaded_by(|| write(&sandbox, &format!("{SIGNING}{SECOND}")));
                assert!(said.contains("is in force"), "{said}");
                assert_eq!(server.auth(&second_token()).status, 200);
            });
        }
    });
}

#[test]
fn what_is_the_same_or_gone_for_a_while_is_no_news() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    sandbox.replace("server.cfg", SIGNING);
    thread::sleep(Duration::from_millis(1500));
    fs::remove_file(sandbox.path().join("server.cfg")).unwrap();
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        (server.reloads(), server.auth(&given::good_token()).status),
        (0, 200),
        "{}",
        server.log()
    );
}

#[test]
fn files_of_a_directory_come_go_and_are_replaced() {
    let sandbox = Sandbox::new();
    sandbox.file("conf/10-main.cfg", SIGNING);
    sandbox.file("conf/20-ports.cfg", PORTS);
    let second = sandbox.file("new.cfg", SECOND);
    for file in ["conf/10-main.cfg", "conf/20-ports.cfg", "new.cfg"] {
        settle(&sandbox.path().join(file));
    }
    let server = sandbox.start(["--config", "conf"]);
    let (token, place) = (second_token(), sandbox.path().join("conf/30-second.cfg"));
    // What an editor keeps beside a file is no part of it, and keeps nobody waiting.
    symlink("nowhere", sandbox.path().join("conf/.#30-second.cfg")).unwrap();
    let said = server.reloaded_by(|| fs::rename(&second, &place).unwrap());
    assert!(said.contains("is in force"), "{said}");
    assert_eq!(server.auth(&token).status, 200);
    let other = sandbox.replace("other.cfg", SECOND.replace("audience=inm", "audience=other"));
    let said = server.reloaded_by(|| fs::rename(other, &place).unwrap());
    assert!(said.contains("is in force"), "{said}");
    assert_eq!(server.auth(&token).status, 401);
    let said = server.reloaded_by(|| fs::remove_file(place).unwrap());
    assert!(said.contains("is in force"), "{said}");
    assert_eq!(server.auth(&given::good_token()).status, 200);
    // The last one that describes anybody: a directory without files is a mistake.
    fs::remove_file(sandbox.path().join("conf/10-main.cfg")).unwrap();
    let said =
        server.reloaded_by(|| fs::remove_file(sandbox.path().join("conf/20-ports.cfg")).unwrap());
    eventually(|| server.log().contains("contains no .cfg or .toml file"));
    assert!(!said.is_empty());
}

#[test]
fn a_link_that_is_swapped_is_noticed() {
    // As Kubernetes does it: a.cfg -> ..data/a.cfg, and ..data -> a directory a version.
    let sandbox = Sandbox::new();
    for (version, text) in [("..1", SIGNING.into()), ("..2", format!("{SIGNING}{SECOND}"))] {
        settle(&sandbox.file(&format!("conf/{version}/a.cfg"), text));
    }
    settle(&sandbox.file("ports.cfg", PORTS));
    let conf = sandbox.path().join("conf");
    symlink("..1", conf.join("..data")).unwrap();
    symlink("..data/a.cfg", conf.join("a.cfg")).unwrap();
    let server = sandbox.start(["--config", "conf", "--config", "ports.cfg"]);
    assert_eq!(server.auth(&second_token()).status, 401);
    let said = server.reloaded_by(|| {
        symlink("..2", conf.join("..tmp")).unwrap();
        fs::rename(conf.join("..tmp"), conf.join("..data")).unwrap();
        fs::remove_dir_all(conf.join("..1")).unwrap();
    });
    assert!(said.contains("is in force"), "{said}");
    assert_eq!(server.auth(&second_token()).status, 200);
}

#[test]
fn a_pipe_is_not_read_again() {
    let sandbox = Sandbox::new();
    let pipe = sandbox.path().join("pipe.cfg");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    thread::scope(|scope| {
        scope.spawn(|| fs::write(&pipe, format!("{SIGNING}{PORTS}")).unwrap());
        let server = sandbox.start(["--config", "pipe.cfg"]);
        let said = server.reload();
        assert!(
            said.contains("pipe.cfg: not a regular file") && said.contains("restart"),
            "{said}"
        );
        assert_eq!(server.auth(&given::good_token()).status, 200);
    });
}

#[test]
fn the_environment_stays_above_the_file() {
    let sandbox = Sandbox::new().variable("INMANTA_AUTH_JWT_DEFAULT_AUDIENCE", "ours");
    let server = sandbox.serve(SIGNING);
    let token = given::token(&given::claims(json!({ "aud": "ours" })));
    assert_eq!(server.auth(&token).status, 200);
    let text = format!(
        "{}{SECOND}",
        SIGNING.replace("audience=https://localhost:8888/", "audience=theirs")
    );
    sandbox.replace("server.cfg", text);
    assert!(server.reload().contains("is in force"));
    let theirs = given::token(&given::claims(json!({ "aud": "theirs" })));
    assert_eq!(
        [&token, &theirs, &second_token()].map(|token| server.auth(token).status),
        [200, 401, 200]
    );
}

#[test]
fn the_embedded_default_is_an_ordinary_file() {
    let sandbox = Sandbox::new()
        .variable("INMANTA_SERVER_BIND_PORT", "0")
        .variable("INMANTA_METRICS_BIND_PORT", "0");
    let server = sandbox.start::<&str>([]);
    let token = sandbox.run(["token", "bootstrap"]).text().to_owned();
    assert_eq!(server.auth(&token).status, 200);
    assert!(server.reload().contains("is in force"));
    assert_eq!(server.auth(&token).status, 200);
    let file = ".local/state/countersign/countersign.cfg";
    let text = fs::read_to_string(sandbox.path().join(file)).unwrap();
    let said = server.reloaded_by(|| drop(sandbox.replace(file, format!("{text}{SECOND}"))));
    assert!(said.contains("is in force"), "{said}");
    assert_eq!((server.auth(&token).status, server.auth(&second_token()).status), (200, 200));
}
