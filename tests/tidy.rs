//! The rules of the house as tests: what a reviewer would otherwise have to look
//! for by eye. Each failure names file, line and remedy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What the engine may depend on. A longer list is a decision, not an edit: put
/// the reason in `engine/Cargo.toml` and the name here.
const ENGINE_DEPENDENCIES: [&str; 8] =
    ["aws-lc-rs", "arc-swap", "base64-simd", "foldhash", "memchr", "memmap2", "ring", "simd-json"];

/// The only files that may say `unsafe`, each with its own tests.
const UNSAFE_FILES: [&str; 2] = ["engine/src/cache/table.rs", "engine/src/algorithm/rsa/ifma.rs"];

#[test]
fn the_engine_depends_on_its_short_list_only() {
    let manifest = Source::read("engine/Cargo.toml");
    let listed: Vec<_> = dependency_lines(&manifest).into_iter().map(|(_, name)| name).collect();
    let mut faults = Vec::new();
    for (number, name) in dependency_lines(&manifest) {
        if !ENGINE_DEPENDENCIES.contains(&name) {
            faults.push(manifest.fault(
                number,
                format!("{name} is new: do without it, or extend the list in tests/tidy.rs"),
            ));
        }
    }
    for name in ENGINE_DEPENDENCIES.iter().filter(|name| !listed.contains(name)) {
        faults.push(format!(
            "engine/Cargo.toml: {name} is gone: take it off the list in tests/tidy.rs"
        ));
    }
    report(faults);
}

#[test]
fn nothing_below_the_engine_does_io() {
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
fn the_engine_asks_for_no_io_time_or_environment() {
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
    let mut faults = Vec::new();
    for file in rust_files() {
        let most = if file.path.ends_with("main.rs") { 150 } else { 600 };
        let lines = file.code().count();
        if lines > most {
            faults.push(format!(
                "{}:1: {lines} lines of code, at most {most}: split it along its ideas",
                file.path
            ));
        }
    }
    for page in
        ["README.md", "ARCHITECTURE.md"].into_iter().filter(|page| root().join(page).exists())
    {
        let lines = Source::read(page).lines.len();
        if lines > 300 {
            faults.push(format!(
                "{page}:300: {lines} lines, at most 300: move detail to the module it is about"
            ));
        }
    }
    report(faults);
}

#[test]
fn nothing_is_marked_as_unfinished() {
    let words = ["TODO", "FIXME", "HACK", "XXX"];
    let macros = ["todo!", "unimplemented!", "dbg!"];
    let files = rust_files()
        .into_iter()
        .chain(files_with("toml"))
        .filter(|file| file.path != "tests/tidy.rs");
    let mut faults = Vec::new();
    for file in files {
        for (number, line) in file.numbered() {
            let word = words.into_iter().find(|word| has_word(line, word));
            if let Some(mark) = word.or_else(|| macros.into_iter().find(|mark| line.contains(mark)))
            {
                faults.push(file.fault(
                    number,
                    format!("{mark}: finish it, or say in the docs what is not there"),
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn unsafe_stays_in_its_two_files() {
    let mut files = rust_below(&["engine/src", "server/src"]);
    files.retain(|file| !UNSAFE_FILES.contains(&file.path.as_str()));
    report(each_line(&files, |line| {
        has_word(line, "unsafe")
            .then(|| format!("unsafe outside {}: do it safely", UNSAFE_FILES.join(" and ")))
    }));
}

#[test]
fn every_dependency_of_the_product_has_its_reason() {
    /// A comment speaks for at most so many lines below it.
    const GROUP: usize = 4;
    let mut faults = Vec::new();
    for path in ["engine/Cargo.toml", "server/Cargo.toml"] {
        let manifest = Source::read(path);
        for (number, name) in dependency_lines(&manifest) {
            let line = &manifest.lines[number - 1];
            let above = manifest.lines[..number - 1].iter().rev();
            let reason = above
                .take_while(|line| !line.trim().is_empty())
                .take(GROUP)
                .any(|line| line.starts_with('#'));
            if !reason && !line.contains("path =") && !line.contains("workspace = true") {
                faults.push(manifest.fault(
                    number,
                    format!("{name} has no reason: say in a comment above it what it is for"),
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn an_ignored_test_says_why() {
    let mut files = rust_files();
    files.retain(|file| file.path != "tests/tidy.rs");
    report(each_line(&files, |line| {
        let (_, rest) = line.split_once("#[ignore")?;
        (!rest.starts_with(" = \""))
            .then(|| "an ignored test: write #[ignore = \"why, and how to run it\"]".to_owned())
    }));
}

#[test]
fn the_engine_has_no_unwrap_in_it() {
    let mut files = rust_below(&["engine/src"]);
    for file in &mut files {
        let product = file
            .lines
            .iter()
            .take_while(|line| !["#[cfg(test)]", "#![cfg(test)]"].contains(&line.trim()))
            .count();
        file.lines.truncate(product);
    }
    report(each_line(&files, |line| {
        let found = [".unwrap()", ".expect("].into_iter().find(|call| line.contains(call))?;
        Some(format!("{found} can panic: return a Reject, a KeyFault or an Option"))
    }));
}

/// One text file of the tree.
struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn read(path: &str) -> Self {
        let text =
            fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), lines: text.lines().map(str::to_owned).collect() }
    }

    /// Its lines, counted from one.
    fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.lines.iter().map(String::as_str))
    }

    /// Its lines of code: neither blank nor nothing but a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.numbered().filter(|(_, line)| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with("//")
        })
    }

    fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// What `judge` says about the lines of code of these files.
fn each_line(files: &[Source], judge: impl Fn(&str) -> Option<String>) -> Vec<String> {
    assert!(!files.is_empty(), "there is nothing to judge: did a directory move?");
    let faults = files.iter().flat_map(|file| {
        let of_file =
            |(number, line): (usize, &str)| Some(file.fault(number, judge(without_comment(line))?));
        file.code().filter_map(of_file).collect::<Vec<_>>()
    });
    faults.collect()
}

/// What `cargo tree` says, a package a line.
fn cargo_tree(arguments: &[&str]) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--offline"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(tree.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8(tree.stdout).unwrap()
}

#[track_caller]
fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files() -> Vec<Source> {
    files_with("rs")
}

fn rust_below(directories: &[&str]) -> Vec<Source> {
    let mut files = rust_files();
    files.retain(|file| {
        directories.iter().any(|directory| file.path.starts_with(&format!("{directory}/")))
    });
    files
}

/// Every file with this extension that is ours: nothing built, installed or hidden.
fn files_with(extension: &str) -> Vec<Source> {
    let (root, mut pending, mut found) = (root(), vec![root()], Vec::new());
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != "node_modules" && !name.starts_with('.') {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|one| one == extension) {
                found.push(path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found.iter().map(|path| Source::read(path)).collect()
}

/// The lines of `[dependencies]` that name one, with their names.
fn dependency_lines(manifest: &Source) -> Vec<(usize, &str)> {
    let section = manifest.numbered().skip_while(|(_, line)| *line != "[dependencies]").skip(1);
    let lines = section.take_while(|(_, line)| !line.starts_with('['));
    lines
        .filter_map(|(number, line)| Some((number, line.split_once('=')?.0.trim())))
        .filter(|(_, name)| is_name(name))
        .collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// A line up to a comment at its end. A `//` in a string, as in a URL, has no
/// blank before it.
fn without_comment(line: &str) -> &str {
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + word.len()..]);
        !before.ends_with(part_of_word) && !after.starts_with(part_of_word)
    })
}
