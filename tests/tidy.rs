//! The rules of the repository as tests: what a reviewer would otherwise look for by eye. Each
//! failure names file, line and remedy.

#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use source::{
    Source, cargo_tree, dependency_lines, each_line, files_with, has_word, rust_below, rust_files,
};

/// The dependencies of the engine. A longer list is a decision: put the reason into
/// `engine/Cargo.toml` and the name here.
const ENGINE_DEPENDENCIES: [&str; 8] =
    ["aws-lc-rs", "arc-swap", "base64-simd", "foldhash", "memchr", "memmap2", "ring", "simd-json"];

/// The only files with `unsafe` code, each with its own tests.
const UNSAFE_FILES: [&str; 9] = [
    "engine/src/algorithm/rsa/ifma.rs",
    "engine/src/cache/table.rs",
    "embed/c/src/boundary.rs",
    "embed/c/src/fork.rs",
    "embed/c/src/memory.rs",
    "embed/envoy/src/abi.rs",
    "embed/envoy/src/envoy.rs",
    "embed/envoy/src/fake_envoy.rs",
    "embed/envoy/src/hooks.rs",
];

#[test]
fn engine_depends_only_on_its_short_list() {
    let manifest = Source::read("engine/Cargo.toml");
    let listed: Vec<_> = dependency_lines(&manifest).into_iter().map(|(_, name)| name).collect();
    let mut violations = Vec::new();
    for (number, name) in dependency_lines(&manifest) {
        if !ENGINE_DEPENDENCIES.contains(&name) {
            violations.push(manifest.violation(
                number,
                format!("{name} is new: do without it, or extend the list in tests/tidy.rs"),
            ));
        }
    }
    for name in ENGINE_DEPENDENCIES.iter().filter(|name| !listed.contains(name)) {
        violations.push(format!(
            "engine/Cargo.toml: {name} is gone: take it off the list in tests/tidy.rs"
        ));
    }
    report(violations);
}

#[test]
fn engine_dependencies_do_no_io() {
    let tree = cargo_tree(&["-p", "countersign-engine", "-e", "normal"]);
    let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"aws-lc-rs"), "cargo tree shows no dependencies at all:\n{tree}");
    for banned in ["tokio", "hyper", "mio", "socket2"] {
        assert!(
            !names.contains(&banned),
            "{banned} is below the engine: find it with `cargo tree -p countersign-engine -i {banned}`"
        );
    }
}

#[test]
fn tls_has_one_provider_of_cryptography() {
    let tree = cargo_tree(&["--workspace", "-e", "normal,build,dev", "--format", "{p}|{f}"]);
    let rustls: Vec<_> = tree.lines().filter(|line| line.contains("rustls")).collect();
    assert!(
        rustls.iter().any(|line| line.starts_with("rustls v") && line.contains("aws_lc_rs")),
        "{rustls:#?}"
    );
    let features = |line: &&str| {
        line.split_once('|')
            .map(|(_, features)| features.split([',', ' ']).any(|one| one == "ring"))
    };
    let second: Vec<_> = rustls.iter().filter(|line| features(line) == Some(true)).collect();
    assert!(
        second.is_empty(),
        "rustls has ring as a second provider: find who asks for it with `cargo tree -e features`\n{second:#?}"
    );
}

#[test]
fn engine_uses_no_io_time_or_environment() {
    let banned = ["std::net", "std::fs", "std::env", "SystemTime", "Instant::now"];
    let remedy = "take it as an argument; the server does the asking";
    report(each_line(&rust_below(&["engine/src"]), |line| {
        banned
            .iter()
            .find(|word| line.contains(**word))
            .map(|word| format!("{word} in the engine: {remedy}"))
    }));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut violations = Vec::new();
    for file in rust_files() {
        let max = if file.path.ends_with("main.rs") { 150 } else { 600 };
        let lines = file.code().count();
        if lines > max {
            violations.push(format!(
                "{}:1: {lines} lines of code, at most {max}: split it along its ideas",
                file.path
            ));
        }
    }
    report(violations);
}

#[test]
fn nothing_is_marked_as_unfinished() {
    let words = ["TODO", "FIXME", "HACK", "XXX"];
    let macros = ["todo!", "unimplemented!", "dbg!"];
    let files = rust_files()
        .into_iter()
        .chain(files_with("toml"))
        .filter(|file| !file.path.starts_with("tests/tidy"));
    let mut violations = Vec::new();
    for file in files {
        for (number, line) in file.numbered() {
            let word = words.into_iter().find(|word| has_word(line, word));
            if let Some(mark) = word.or_else(|| macros.into_iter().find(|mark| line.contains(mark)))
            {
                violations.push(file.violation(
                    number,
                    format!("{mark}: finish it, or say in the docs what is not there"),
                ));
            }
        }
    }
    report(violations);
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let mut files = rust_below(&["engine/src", "server", "embed"]);
    let listed = |path: &&str| files.iter().any(|file| file.path == **path);
    let gone: Vec<_> = UNSAFE_FILES.iter().filter(|path| !listed(path)).collect();
    assert!(gone.is_empty(), "{gone:?} is gone: take it off the list in tests/tidy.rs");
    files.retain(|file| !UNSAFE_FILES.contains(&file.path.as_str()));
    report(each_line(&files, |line| {
        has_word(line, "unsafe")
            .then(|| format!("unsafe outside {}: do it safely", UNSAFE_FILES.join(", ")))
    }));
}

#[test]
fn every_dependency_of_the_product_has_its_reason() {
    /// The most lines that one comment is the reason for.
    const GROUP: usize = 4;
    let mut violations = Vec::new();
    for directory in ["engine", "server/front", "server", "embed/c", "embed/envoy"] {
        let manifest = Source::read(&format!("{directory}/Cargo.toml"));
        for (number, name) in dependency_lines(&manifest) {
            let line = &manifest.lines[number - 1];
            let above = manifest.lines[..number - 1].iter().rev();
            let reason = above
                .take_while(|line| !line.trim().is_empty())
                .take(GROUP)
                .any(|line| line.starts_with('#'));
            if !reason && !line.contains("path =") && !line.contains("workspace = true") {
                violations.push(manifest.violation(
                    number,
                    format!("{name} has no reason: say in a comment above it what it is for"),
                ));
            }
        }
    }
    report(violations);
}

#[test]
fn ignored_tests_state_their_reason() {
    let mut files = rust_files();
    files.retain(|file| !file.path.starts_with("tests/tidy"));
    report(each_line(&files, |line| {
        let (_, rest) = line.split_once("#[ignore")?;
        (!rest.starts_with(" = \""))
            .then(|| "an ignored test: write #[ignore = \"why, and how to run it\"]".to_owned())
    }));
}

#[test]
fn engine_never_unwraps() {
    let mut files = rust_below(&["engine/src"]);
    for file in &mut files {
        let product = file.product_code().last().map_or(0, |(line, _)| line);
        file.lines.truncate(product);
    }
    report(each_line(&files, |line| {
        let found = [".unwrap()", ".expect("].into_iter().find(|call| line.contains(call))?;
        Some(format!("{found} can panic: return a Reject, a KeyError or an Option"))
    }));
}

#[track_caller]
fn report(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
