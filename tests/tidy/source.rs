//! The files of the repository, read line by line.

use std::{fs, process::Command};

use countersign_tests::pages::root;

/// A text file of the repository.
pub(super) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(super) path: String,
    pub(super) lines: Vec<String>,
}

impl Source {
    pub(super) fn read(path: &str) -> Self {
        let text =
            fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), lines: text.lines().map(str::to_owned).collect() }
    }

    /// Returns the lines, counted from one.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.lines.iter().map(String::as_str))
    }

    /// Returns the lines of code: neither blank nor only a comment.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.numbered().filter(|(_, line)| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with("//")
        })
    }

    /// Returns the lines of code that are not part of a test.
    pub(super) fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = ["/tests.rs", "/test_service.rs", "/suite.rs", "tests/loom.rs"]
            .into_iter()
            .any(|name| self.path.ends_with(name));
        let is_product = |line: &str| !["#[cfg(test)]", "#![cfg(test)]"].contains(&line.trim());
        self.code().take_while(move |(_, line)| !is_test && is_product(line))
    }

    /// Returns the lines that are comments, each with the path and its number.
    pub(super) fn comments(&self) -> Vec<(&str, usize, &str)> {
        let is_comment = |(_, line): &(usize, &str)| line.trim_start().starts_with("//");
        let comments = self.numbered().filter(is_comment);
        comments.map(|(number, line)| (&*self.path, number, line)).collect()
    }

    /// Formats a violation at a line.
    pub(super) fn violation(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Returns the violations that `judge` finds in the lines of code of these files.
pub(super) fn each_line(files: &[Source], judge: impl Fn(&str) -> Option<String>) -> Vec<String> {
    assert!(!files.is_empty(), "no files to judge: did a directory move?");
    let violations = files.iter().flat_map(|file| {
        let of_file = |(number, line): (usize, &str)| {
            Some(file.violation(number, judge(without_comment(line))?))
        };
        file.code().filter_map(of_file).collect::<Vec<_>>()
    });
    violations.collect()
}

/// Returns the output of `cargo tree`, one package per line.
pub(super) fn cargo_tree(arguments: &[&str]) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--offline"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(tree.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8(tree.stdout).unwrap()
}

/// Returns every Rust file.
pub(super) fn rust_files() -> Vec<Source> {
    files_with("rs")
}

/// Returns every Rust file below these directories.
pub(super) fn rust_below(directories: &[&str]) -> Vec<Source> {
    let mut files = rust_files();
    files.retain(|file| {
        directories.iter().any(|directory| file.path.starts_with(&format!("{directory}/")))
    });
    files
}

/// Returns every file with this extension, except built, installed and hidden ones.
pub(super) fn files_with(extension: &str) -> Vec<Source> {
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

/// Returns the lines of `[dependencies]` that name one, with their names.
pub(super) fn dependency_lines(manifest: &Source) -> Vec<(usize, &str)> {
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

/// Returns a line up to a comment at its end. A `//` in a string, as in a URL, has no space
/// before it.
fn without_comment(line: &str) -> &str {
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

/// Whether a line contains a word that is not part of a longer one.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + word.len()..]);
        !before.ends_with(part_of_word) && !after.starts_with(part_of_word)
    })
}
