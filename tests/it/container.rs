use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
};

use countersign_tests::{
    binary::{self, Sandbox},
    pages::root,
};

use crate::fixture::{self, KEY};

/// User and group of the processes in the image, as the manifests for Kubernetes have them.
const USER: u32 = 65532;

/// The instructions of the last stage of the file, each with its arguments.
fn last_stage() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("deploy/container/Containerfile")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let instructions: Vec<_> = lines.map(|line| line.split_once(' ').unwrap()).collect();
    let last = instructions.iter().rposition(|(name, _)| *name == "FROM").unwrap();
    instructions[last..].iter().map(|(name, rest)| ((*name).into(), (*rest).into())).collect()
}

/// Returns the arguments of the only instruction of this name.
#[track_caller]
fn argument(stage: &[(String, String)], name: &str) -> String {
    let mut found = stage.iter().filter(|(one, _)| one == name);
    let (Some((_, argument)), None) = (found.next(), found.next()) else {
        panic!("not one {name} in {stage:?}")
    };
    argument.clone()
}

/// Assembles the file system of the image with the program that the build runs.
fn assemble(image: &Path) {
    let program = root().join("deploy/container/root");
    let assembled = Command::new(program).arg(binary::path()).arg(image).output().unwrap();
    assert!(assembled.status.success(), "{}", String::from_utf8_lossy(&assembled.stderr));
}

#[test]
fn image_serves_as_a_user_without_privileges() {
    let stage = last_stage();
    assert_eq!(argument(&stage, "FROM"), "scratch");
    assert_eq!(argument(&stage, "COPY"), "--from=build /image/ /");
    assert_eq!(argument(&stage, "USER"), format!("{USER}:{USER}"));
    if !is_root() {
        let reason = "only root may change the root directory of a process";
        writeln!(io::stderr(), "skipped: {reason}").unwrap();
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.path().join("image");
    assemble(&image);
    fs::set_permissions(sandbox.path(), Permissions::from_mode(0o755)).unwrap();
    let key = sandbox.file("image/var/run/secrets/countersign/signing.key", KEY);
    fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
    chown(&key, Some(USER), Some(USER)).unwrap();

    let words = ["ENTRYPOINT", "CMD"].map(|name| argument(&stage, name));
    let words = words.iter().flat_map(|list| serde_json::from_str::<Vec<String>>(list).unwrap());
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={}", argument(&stage, "USER"))).arg(&image).args(words);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    for variable in ["INMANTA_SERVER_BIND_PORT", "INMANTA_METRICS_BIND_PORT"] {
        command.env(variable, "0");
    }
    let server = sandbox.start_command(command);
    server.wait_until_ready();
    assert!(server.address.ip().is_unspecified(), "{}", server.address);
    assert_eq!(server.request("GET /readyz HTTP/1.1\r\n").status, 200);
    assert_eq!(server.auth(&fixture::good_token()).status, 200, "{}", server.log());
    assert_eq!(server.auth("forged").status, 401);

    let status = fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let ids = format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n");
    assert!(status.contains(&ids), "{status}");
    let state: Vec<_> = fs::read_dir(image.join("var/lib/countersign")).unwrap().collect();
    assert!(!state.is_empty(), "the state directory is used");
    assert!(!image.join("bin/sh").exists());
    assert!(server.stop("TERM").0.success());
}

/// Ports of the file, of the configuration in the image, and of the manifests are the same.
#[test]
fn ports_of_the_image_are_the_defaults() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    assert_eq!(argument(&last_stage(), "EXPOSE"), "8888 8082");
    let manifest = read("deploy/kubernetes/deployment.yaml");
    for port in ["8888", "8082"] {
        assert!(manifest.contains(&format!("containerPort: {port}\n")), "{port}");
    }
    assert!(!read("deploy/container/countersign.cfg").contains("bind_port"));
    let arguments: Vec<String> = serde_json::from_str(&argument(&last_stage(), "CMD")).unwrap();
    for argument in arguments {
        assert!(manifest.contains(&format!("- {argument}\n")), "{argument}");
    }
}

/// Whether this process is that of root.
fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}
