//! A library or module that is replaced by another version.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use countersign_tests::{binary::Sandbox, eventually};

use super::{
    super::{
        c_library::{HEADER, interface_version, loaded_name},
        module_proxy::{ModuleProxy, bearer},
    },
    CHECK_ALL, command, module, reload,
};
use crate::fixture;

/// Writes a library without functions but the version of its interface.
fn library_of_another_version(directory: &Path) {
    let name = |line: &'static str| line.split('(').next()?.rsplit(['*', ' ']).next();
    let functions = HEADER.lines().filter(|line| line.contains("cs_") && line.contains('('));
    let functions = functions.filter(|line| !line.starts_with("//") && !line.contains("typedef"));
    let stubs: String = functions
        .filter_map(name)
        .filter(|name| name.starts_with("cs_") && *name != "cs_interface_version")
        .map(|name| format!("void {name}(void) {{}}\n"))
        .collect();
    let source = directory.join("other.c");
    let version =
        format!("unsigned cs_interface_version(void) {{ return {}; }}\n", interface_version() + 1);
    std::fs::write(&source, format!("{stubs}{version}")).unwrap();
    let output = directory.join(loaded_name());
    let mut build = Command::new("gcc");
    build.args(["-shared", "-fPIC", "-o"]).arg(output).arg(source);
    assert!(build.status().unwrap().success());
}

/// Returns a command that takes the library from this directory.
fn with_library(directory: &Path, command: &Command) -> Command {
    let mut wrapped = Command::new("env");
    wrapped.arg(format!("LD_LIBRARY_PATH={}", directory.display()));
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Puts a copy of the library into a directory, as an installation does.
fn install(directory: &Path) -> PathBuf {
    let (draft, file) = (directory.join("draft"), directory.join(loaded_name()));
    std::fs::copy(module().ancestors().nth(2).unwrap().join("libcountersign.so"), &draft).unwrap();
    std::fs::rename(draft, &file).unwrap();
    file
}

#[test]
fn nginx_module_refuses_another_version_of_the_library() {
    let sandbox = Sandbox::new();
    sandbox.file("auth.cfg", fixture::SIGNING);
    library_of_another_version(sandbox.path());
    let nginx = command(sandbox.path(), "countersign auth.cfg; countersign_check on; server {}");
    let mut nginx = with_library(sandbox.path(), &nginx);
    let output = nginx.arg("-t").current_dir(sandbox.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let expected = format!("the module is for version {}", interface_version());
    assert!(!output.status.success() && errors.contains(&expected), "{errors}");
    assert!(errors.contains("restart nginx"), "{errors}");
}

#[test]
fn nginx_reload_warns_of_a_replaced_library() {
    let library = Sandbox::new();
    let file = install(library.path());
    let nginx = ModuleProxy::start(fixture::SIGNING, |directory, addresses| {
        let locations = CHECK_ALL.replace("APPLICATION", &addresses.application.to_string());
        let server = format!("server {{ listen {}; {locations} }}", addresses.proxy);
        let command = command(directory, &format!("countersign auth.cfg;\n{server}"));
        with_library(library.path(), &command)
    });
    let good = bearer(&fixture::good_token());
    assert_eq!(nginx.status("/", &good), 200, "{}", nginx.running.log());
    let warning = format!("{} was replaced or removed", file.display());
    assert!(!nginx.running.log().contains(&warning), "{}", nginx.running.log());
    install(library.path());
    reload(&nginx);
    eventually(|| nginx.running.log().contains(&warning));
    assert_eq!(nginx.status("/", &good), 200);
}
