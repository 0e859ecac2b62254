//! Modules and crates import in one direction.

use super::{
    report,
    source::{Source, dependency_lines, rust_below},
};

/// The modules of the server, from the bottom up: each imports only from those before it.
/// `syntax` is the part of `config` that reads files; the rest of `config` assembles the
/// settings that the features own.
const SERVER_MODULES: [&str; 28] = [
    "base",
    "syntax",
    "client",
    "observe",
    "admission",
    "tls",
    "store",
    "keys",
    "revocation",
    "feed",
    "accounts",
    "audit",
    "cluster",
    "backup",
    "import",
    "load_test",
    "identities",
    "tenancy",
    "authorization",
    "auth",
    "api",
    "console",
    "config",
    "app",
    "reload",
    "serve",
    "embedding",
    "cli",
];

/// The modules of `config` that count as `syntax`.
const SYNTAX: [&str; 10] = [
    "ini",
    "options",
    "problem",
    "protocols",
    "raw",
    "reader",
    "setting",
    "socket_file",
    "toml",
    "without_secrets",
];

/// The crates of the workspace, and those of them that each may depend on.
const CRATES: [(&str, &[&str]); 7] = [
    ("engine", &[]),
    ("server/front", &[]),
    ("server", &["countersign-engine", "countersign-front"]),
    ("embed/c", &["countersign-engine", "countersign-server"]),
    ("embed/envoy", &["countersign-engine", "countersign-server"]),
    ("tests", &["countersign-engine", "countersign-front", "countersign-server"]),
    (
        "bench",
        &["countersign-engine", "countersign-front", "countersign-server", "countersign-tests"],
    ),
];

#[test]
fn server_modules_import_only_downwards() {
    let mut violations = Vec::new();
    for file in rust_below(&["server/src"]) {
        let module = file.path["server/src/".len()..].trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&&*module) {
            continue;
        }
        let path: Vec<_> = module.split('/').collect();
        let own = rank(&path);
        for (line, import) in imports(&file, &path) {
            let target: Vec<_> = import.split("::").collect();
            let imported = rank(&target);
            if top_module(&target) != top_module(&path) && imported >= own {
                let (from, to) = (top_module(&path), top_module(&target));
                let text = format!(
                    "{from} imports from {to}, which is above it: move the type down, or pass \
                     what is needed as an argument"
                );
                violations.push(file.violation(line, text));
            }
        }
    }
    report(violations);
}

#[test]
fn every_server_module_has_its_place_in_the_order() {
    let lib = Source::read("server/src/lib.rs");
    let declared: Vec<_> =
        lib.numbered().filter_map(|(_, line)| line.strip_prefix("pub mod ")).collect();
    let declared: Vec<_> = declared.iter().map(|line| line.trim_end_matches(';')).collect();
    let listed: Vec<_> = SERVER_MODULES.into_iter().filter(|name| *name != "syntax").collect();
    assert_eq!(declared, listed, "server/src/lib.rs declares its modules in the order of the list");
}

#[test]
fn crates_depend_only_downwards() {
    let mut violations = Vec::new();
    for (directory, allowed) in CRATES {
        let manifest = Source::read(&format!("{directory}/Cargo.toml"));
        for (line, name) in dependency_lines(&manifest) {
            if name.starts_with("countersign-") && !allowed.contains(&name) {
                violations.push(
                    manifest.violation(line, format!("{directory} must not depend on {name}")),
                );
            }
        }
    }
    report(violations);
}

#[test]
fn front_does_not_know_what_it_serves() {
    let words = ["jwt", "jwk", "issuer", "inmanta", "oauth", "claim", "bearer", "tenant"];
    let mut violations = Vec::new();
    for file in rust_below(&["server/front/src"]) {
        for (line, text) in file.product_code() {
            let lower = text.to_lowercase();
            if let Some(word) = words.into_iter().find(|word| lower.contains(word)) {
                let text = format!("{word} in the front: it belongs behind the Service trait");
                violations.push(file.violation(line, text));
            }
        }
    }
    report(violations);
}

/// The module of the list that a path belongs to.
fn top_module<'p>(path: &[&'p str]) -> &'p str {
    match path {
        ["config", inner, ..] if SYNTAX.contains(inner) => "syntax",
        [first, ..] => first,
        [] => "",
    }
}

fn rank(path: &[&str]) -> usize {
    let module = top_module(path);
    let found = SERVER_MODULES.iter().position(|name| *name == module);
    found.unwrap_or_else(|| {
        panic!("{module} is not in the list of modules in tests/tidy/modules.rs")
    })
}

/// The paths below the crate that a file imports or names, without `crate::`, with their lines.
fn imports(file: &Source, module: &[&str]) -> Vec<(usize, String)> {
    let (mut found, mut statement) = (Vec::new(), None::<(usize, String)>);
    for (number, line) in file.product_code() {
        let line = line.trim();
        let start = line.strip_prefix("pub use ").or_else(|| line.strip_prefix("pub(crate) use "));
        if let Some(start) = start.or_else(|| line.strip_prefix("use ")) {
            statement = Some((number, start.to_owned()));
        } else if let Some((_, text)) = &mut statement {
            text.push_str(line);
        } else {
            found.extend(named_paths(line).map(|path| (number, path)));
        }
        if let Some((number, text)) = statement.take_if(|(_, text)| text.ends_with(';')) {
            let mut paths = Vec::new();
            expand("", text.trim_end_matches(';'), &mut paths);
            found.extend(paths.into_iter().map(|path| (number, path)));
        }
    }
    found.into_iter().filter_map(|(line, path)| Some((line, absolute(&path, module)?))).collect()
}

/// Paths such as `crate::a::B` within a line of code.
fn named_paths(line: &str) -> impl Iterator<Item = String> {
    line.match_indices("crate::").map(|(start, _)| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        line[start..].chars().take_while(|c| is_part(*c)).collect()
    })
}

/// Writes out the paths of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        if !tree.is_empty() {
            paths.push(format!("{prefix}{tree}"));
        }
        return;
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&format!("{prefix}{head}"), &group[start..index], paths);
                start = index + 1;
            }
            _ => {}
        }
    }
    expand(&format!("{prefix}{head}"), &group[start..], paths);
}

/// A path from the root of the crate; `None` if it leads out of the crate.
fn absolute(path: &str, module: &[&str]) -> Option<String> {
    if let Some(path) = path.strip_prefix("crate::") {
        return Some(path.to_owned());
    }
    let (mut rest, mut parent) = (path, module.to_vec());
    while let Some(outer) = rest.strip_prefix("super::") {
        parent.pop();
        rest = outer;
    }
    (rest.len() < path.len()).then(|| [parent, vec![rest]].concat().join("::"))
}

#[test]
fn use_trees_are_read_with_all_their_branches() {
    let mut paths = Vec::new();
    expand("", "crate::{a, b::{self, c::D}, e as f}", &mut paths);
    assert_eq!(paths, ["crate::a", "crate::b::self", "crate::b::c::D", "crate::e as f"]);
    assert_eq!(absolute("super::super::x", &["a", "b", "c"]).as_deref(), Some("a::x"));
    assert_eq!(absolute("std::fmt", &["a"]), None);
}
