//! Functions in C that stand between the binary and the operating system (`LD_PRELOAD`).

use std::process::Command;

use crate::binary::Sandbox;

/// Returns a sandbox whose processes call the functions of `source` instead of those of the system
/// with the same names. In it, `SWITCH` is the path of the file `switch` of the sandbox, by which a
/// test turns a fault on and off.
///
/// # Panics
/// The source cannot be compiled.
pub fn sandbox_with(source: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let (source, library) = (sandbox.file("shim.c", source), sandbox.path().join("shim.so"));
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(format!("-DSWITCH=\"{}\"", sandbox.path().join("switch").display()))
        .arg(source)
        .arg("-ldl")
        .status();
    assert!(built.unwrap().success());
    let library = library.to_str().unwrap().to_owned();
    sandbox.variable("LD_PRELOAD", &library)
}
