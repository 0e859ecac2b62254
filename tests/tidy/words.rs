//! Names and prose are plain technical English. Counted per 1,000 lines of comments, as the
//! projects that this one wants to read like were counted.

use super::{
    report,
    source::{Source, has_word, rust_below, rust_files},
};

/// A pattern of prose that makes a reader stop, and how often it may occur.
struct Pattern {
    name: &'static str,
    /// Occurrences per 1,000 lines of comments.
    max: f64,
    matches: fn(&[&str]) -> bool,
}

const PATTERNS: [Pattern; 4] = [
    Pattern {
        name: "whoever, whom, nobody, somebody",
        max: 2.0,
        matches: |words| matches!(words, ["whoever" | "whom" | "nobody" | "somebody", ..]),
    },
    Pattern {
        name: "tell, tells, told, said, says",
        max: 3.0,
        matches: |words| matches!(words, ["tell" | "tells" | "told" | "said" | "says", ..]),
    },
    Pattern {
        name: "headless clauses, such as \"what is over\"",
        max: 2.0,
        matches: |words| match words {
            ["what" | "who", "there", "is", ..] => true,
            ["what" | "who", verb, ..] => HEADLESS_VERBS.contains(verb),
            _ => false,
        },
    },
    Pattern {
        name: "\"is no X\" for \"is not a X\"",
        max: 4.0,
        matches: |words| matches!(words, ["is", "no", _, ..] | ["is", "none", ..]),
    },
];

const HEADLESS_VERBS: [&str; 11] =
    ["is", "are", "was", "has", "had", "comes", "came", "sends", "asks", "knows", "wants"];

/// Intra-doc links per 1,000 lines of comments, at least. Tests and benchmarks document few
/// items, so it holds for the product.
const MIN_LINKS: f64 = 40.0;

/// The crates, and whether they are the product.
const CRATES: [(&str, bool); 6] = [
    ("engine", true),
    ("server/front", true),
    ("server/src", true),
    ("bench", false),
    ("tests", false),
    ("fuzz", false),
];

#[test]
fn comments_are_plain_english() {
    let mut violations = Vec::new();
    for (directory, is_product) in CRATES {
        let mut files = rust_below(&[directory]);
        // Its patterns are written out here.
        files.retain(|file| file.path != "tests/tidy/words.rs");
        let lines: Vec<_> = files.iter().flat_map(Source::comments).collect();
        let per_thousand = |count: usize| count as f64 * 1000.0 / lines.len().max(1) as f64;
        for pattern in &PATTERNS {
            let hits: Vec<_> = lines.iter().filter(|(_, _, text)| occurs(pattern, text)).collect();
            let rate = per_thousand(hits.len());
            if rate > pattern.max {
                let places: Vec<_> = hits
                    .iter()
                    .map(|(path, line, text)| format!("  {path}:{line}: {}", text.trim()))
                    .collect();
                let (name, max) = (pattern.name, pattern.max);
                violations.push(format!(
                    "{directory}: {rate:.1} of {name} in 1,000 lines of comments, at most {max}: \
                     name the thing, and say it plainly\n{}",
                    places.join("\n")
                ));
            }
        }
        let links = lines.iter().map(|(_, _, text)| text.matches("[`").count()).sum();
        if is_product && per_thousand(links) < MIN_LINKS {
            let rate = per_thousand(links);
            violations.push(format!(
                "{directory}: {rate:.0} links in 1,000 lines of comments, at least {MIN_LINKS}: \
                 link the items that are named"
            ));
        }
    }
    report(violations);
}

#[test]
fn public_types_have_one_meaning_per_crate() {
    let mut violations = Vec::new();
    for (directory, _) in CRATES.into_iter().filter(|(_, is_product)| *is_product) {
        let mut known: Vec<(String, String)> = Vec::new();
        for file in rust_below(&[directory]) {
            for (line, text) in file.product_code() {
                let Some(name) = public_type(text) else { continue };
                if let Some((_, place)) = known.iter().find(|(one, _)| one == name) {
                    let text = format!("{name} is also at {place}: give one of them another name");
                    violations.push(file.violation(line, text));
                }
                known.push((name.to_owned(), format!("{}:{line}", file.path)));
            }
        }
    }
    report(violations);
}

#[test]
fn names_follow_the_field() {
    let mut violations = Vec::new();
    for file in rust_files().into_iter().filter(|file| !file.path.starts_with("tests/tidy")) {
        for (line, text) in file.code() {
            for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let is_error = word.len() > "Fault".len() && word.ends_with("Fault");
                if word.starts_with("MOST_") {
                    violations.push(file.violation(line, format!("{word}: call a limit MAX_...")));
                } else if word == "Fault" || is_error {
                    violations.push(file.violation(line, format!("{word}: errors end in Error")));
                }
            }
        }
    }
    report(violations);
}

#[test]
fn test_names_are_short_enough_to_read() {
    const MAX: usize = 60;
    let mut violations = Vec::new();
    for file in rust_files() {
        let mut is_test = false;
        for (line, text) in file.code() {
            let text = text.trim_start();
            if let Some(name) = text.strip_prefix("fn ").filter(|_| is_test) {
                let name = name.split('(').next().unwrap_or_default();
                if name.len() > MAX {
                    violations.push(
                        file.violation(line, format!("{name} has more than {MAX} characters")),
                    );
                }
            }
            is_test = text.starts_with("#[test]") || is_test && text.starts_with("#[");
        }
    }
    report(violations);
}

/// The name of the public type that a line declares.
fn public_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
    let name = kinds.into_iter().find_map(|kind| rest.strip_prefix(kind))?;
    // Associated types of a trait or its implementations are not declared with `pub`.
    name.split(|c: char| !c.is_ascii_alphanumeric()).next()
}

/// Whether a comment contains a pattern outside quotation marks.
fn occurs(pattern: &Pattern, comment: &str) -> bool {
    let unquoted: String = comment.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let lower = unquoted.to_lowercase();
    let words: Vec<_> = lower
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    (0..words.len()).any(|start| (pattern.matches)(&words[start..]))
}

#[test]
fn patterns_are_found_outside_quotation_marks() {
    let found = |text: &str| PATTERNS.each_ref().map(|pattern| occurs(pattern, text));
    assert_eq!(found("Nobody is told what is over, and it is no token"), [true; 4]);
    assert_eq!(found("\"nobody is told what is over, and it is no token\""), [false; 4]);
    assert_eq!(found("what there is, is none"), [false, false, true, true]);
    assert!(has_word("a whole word", "whole"));
}
