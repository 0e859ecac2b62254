//! The C library, by programs that gcc compiles.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use countersign_tests::binary::{self, Sandbox};
use serde_json::json;

use crate::fixture;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../embed/c");

/// The header, which is made of the source.
pub(super) const HEADER: &str = include_str!("../../../embed/c/include/countersign.h");

/// Builds the library once and returns its directory, in which programs find it.
fn library() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = binary::built_library("libcountersign.so");
        // As `ldconfig` does. Another test may do it at the same time.
        let link = directory.join(loaded_name());
        if symlink("libcountersign.so", &link).is_err() {
            assert!(link.exists(), "{}", link.display());
        }
        directory
    })
}

/// Returns the version of the interface.
pub(super) fn interface_version() -> u32 {
    let mut lines = HEADER.lines();
    let version = lines.find_map(|line| line.strip_prefix("#define CS_INTERFACE_VERSION "));
    version.unwrap().parse().unwrap()
}

/// Returns the name by which programs load the library.
pub(super) fn loaded_name() -> String {
    format!("libcountersign.so.{}", interface_version())
}

/// Compiles a C file, with all warnings as errors, and returns the program.
fn compile(sandbox: &Sandbox, source: &Path) -> PathBuf {
    let program = sandbox.path().join(source.file_stem().unwrap());
    let library = library().display();
    let output = Command::new("gcc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"])
        .arg(format!("-I{ROOT}/include"))
        .arg(source)
        .arg(format!("-L{library}"))
        .arg(format!("-Wl,-rpath,{library}"))
        .args(["-lcountersign", "-lpthread", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn run(program: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn header_of_the_c_library_is_that_of_its_source() {
    let header = Path::new(ROOT).join("include/countersign.h");
    let config = cbindgen::Config::from_file(Path::new(ROOT).join("cbindgen.toml")).unwrap();
    let sources = ["boundary", "layout"].map(|name| format!("{ROOT}/src/{name}.rs"));
    let builder = sources.iter().fold(cbindgen::Builder::new(), cbindgen::Builder::with_src);
    let mut made = Vec::new();
    builder.with_config(config).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    if std::env::var_os("COUNTERSIGN_NEW_HEADER").is_some() {
        std::fs::write(&header, &made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&header).unwrap_or_default(),
        made,
        "run this test with COUNTERSIGN_NEW_HEADER=1"
    );
}

#[test]
fn library_is_loaded_by_the_version_of_its_interface() {
    let file = library().join("libcountersign.so");
    let (_, dynamic, _) = run(Path::new("readelf"), &["--dynamic", file.to_str().unwrap()]);
    let line = dynamic.lines().find(|line| line.contains("SONAME")).unwrap_or(&dynamic);
    assert!(line.ends_with(&format!("[{}]", loaded_name())), "{line}: see embed/c/build.rs");
}

#[test]
fn closed_library_stays_in_memory() {
    // Otherwise its threads would run unmapped code.
    let close = "import _ctypes, ctypes, sys\n\
                 library = ctypes.CDLL(sys.argv[1])\n\
                 _ctypes.dlclose(library._handle)\n\
                 print('libcountersign' in open('/proc/self/maps').read())";
    let library = library().join("libcountersign.so");
    let output = run(Path::new("python3"), &["-c", close, library.to_str().unwrap()]);
    assert_eq!(output, (Some(0), "True\n".into(), String::new()));
}

#[test]
fn example_in_c_decides() {
    let sandbox = Sandbox::new();
    let example = Path::new(ROOT).join("examples/check.c");
    assert!(std::fs::read_to_string(&example).unwrap().lines().count() <= 60);
    let program = compile(&sandbox, &example);
    let config = sandbox.file("auth.cfg", fixture::SIGNING);
    let config = config.to_str().unwrap();
    let bearer = format!("Bearer {}", fixture::good_token());
    let (code, output, errors) = run(&program, &[config, &bearer]);
    assert_eq!(code, Some(0), "{errors}");
    for line in ["allowed 200", "  set x-auth-user: bob", "  remove Authorization"] {
        assert!(output.lines().any(|one| one == line), "{line}: {output}");
    }
    let expired = fixture::token(&fixture::claims(json!({ "exp": 1 })));
    let (code, output, _) = run(&program, &[config, &format!("Bearer {expired}")]);
    assert_eq!((code, output.lines().next()), (Some(0), Some("refused 401")));
    assert!(output.contains("set www-authenticate: Bearer"), "{output}");
    let bad = sandbox.file("bad.cfg", "[auth_jwt_x]\nalgorithm=none\n");
    let (code, _, errors) = run(&program, &[bad.to_str().unwrap(), &bearer]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("bad.cfg:2"), "{errors}");
}

#[test]
fn misuse_of_the_c_library_is_refused() {
    let sandbox = Sandbox::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/it/embedding/misuse.c");
    let program = compile(&sandbox, Path::new(source));
    let config = sandbox.file("auth.cfg", fixture::SIGNING);
    let (code, output, errors) =
        run(&program, &[config.to_str().unwrap(), &format!("Bearer {}", fixture::good_token())]);
    assert_eq!((code, output.as_str()), (Some(0), "done\n"), "{errors}");
}
