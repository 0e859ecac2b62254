//! The pages that people read: short, narrow, and without broken links.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use countersign_tests::pages::{Page, root};

use super::{has_word, report};

/// Pages of one screen's patience, and the number of words that they may have.
const MAX_WORDS: [(&str, usize); 2] = [("README.md", 900), ("ARCHITECTURE.md", 900)];
/// Characters of a line of prose.
const MAX_COLUMNS: usize = 100;
/// Words of a cell of a table: more belong into a paragraph.
const MAX_CELL_WORDS: usize = 25;

fn pages() -> Vec<Page> {
    let names = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
    let mut pages: Vec<_> = names.into_iter().map(Page::read).collect();
    pages.extend(Page::below("docs"));
    // Records are output, kept as it was.
    pages.extend(
        Page::below("bench").into_iter().filter(|page| !page.path.starts_with("bench/record")),
    );
    pages
}

#[test]
fn root_pages_are_short_enough_to_read() {
    let violations = MAX_WORDS.into_iter().filter_map(|(path, max)| {
        let words = Page::read(path).text.split_whitespace().count();
        (words > max)
            .then(|| format!("{path}:1: {words} words, at most {max}: move detail to docs/"))
    });
    report(violations.collect());
}

#[test]
fn prose_of_pages_is_narrow() {
    let mut violations = Vec::new();
    for page in pages() {
        for (line, text) in page.prose() {
            let columns = text.chars().count();
            if columns > MAX_COLUMNS {
                violations.push(format!(
                    "{}:{line}: {columns} columns, at most {MAX_COLUMNS}",
                    page.path
                ));
            }
        }
    }
    report(violations);
}

#[test]
fn table_cells_are_for_look_up() {
    let mut violations = Vec::new();
    for page in pages() {
        for (line, text) in page.prose().filter(|(_, text)| text.starts_with('|')) {
            let words = text.split('|').map(|cell| cell.split_whitespace().count());
            if let Some(words) = words.max().filter(|words| *words > MAX_CELL_WORDS) {
                violations.push(format!(
                    "{}:{line}: a cell of {words} words, at most {MAX_CELL_WORDS}: use prose",
                    page.path
                ));
            }
        }
    }
    report(violations);
}

#[test]
fn relative_links_lead_to_files_and_headings() {
    let pages = pages();
    let anchors: BTreeMap<_, _> =
        pages.iter().map(|page| (page.path.clone(), page.anchors())).collect();
    let mut violations = Vec::new();
    for page in &pages {
        for link in page.links().iter().filter(|link| !link.target.contains("://")) {
            let (path, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let target = resolve(&page.path, path);
            let is_found = root().join(&target).exists()
                && (anchor.is_empty()
                    || anchors
                        .get(&target)
                        .is_some_and(|anchors| anchors.iter().any(|one| one == anchor)));
            if !is_found {
                violations
                    .push(format!("{}:{}: {} leads nowhere", page.path, link.line, link.target));
            }
        }
    }
    report(violations);
}

#[test]
fn maps_of_the_source_name_files_that_exist() {
    const TOP: [&str; 7] = ["bench/", "deploy/", "docs/", "engine/", "fuzz/", "server/", "tests/"];
    let mut violations = Vec::new();
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md"].map(Page::read) {
        for (line, text) in page.prose() {
            let quoted = text.split('`').skip(1).step_by(2);
            let paths = quoted.filter(|path| TOP.iter().any(|top| path.starts_with(top)));
            // Placeholders of the lists.
            let paths = paths.filter(|path| !path.contains(['<', ' ']) && !path.contains("NNNN"));
            for path in paths.filter(|path| !root().join(path).exists()) {
                violations.push(format!("{}:{line}: {path} does not exist", page.path));
            }
        }
    }
    report(violations);
}

#[test]
fn summary_lists_every_page_of_the_book() {
    let summary = Page::read("docs/SUMMARY.md");
    let listed: Vec<_> =
        summary.links().iter().map(|link| resolve(&summary.path, &link.target)).collect();
    let missing = Page::below("docs").into_iter().filter(|page| page.path != summary.path);
    let missing = missing.filter(|page| !listed.contains(&page.path));
    report(missing.map(|page| format!("docs/SUMMARY.md:1: {} is missing", page.path)).collect());
}

/// Returns the path of a link from the root of the repository.
fn resolve(page: &str, target: &str) -> String {
    if target.is_empty() {
        return page.into();
    }
    let mut path = PathBuf::new();
    for part in Path::new(page).parent().unwrap().join(target).components() {
        if part == Component::ParentDir {
            path.pop();
        } else {
            path.push(part);
        }
    }
    path.to_string_lossy().into_owned()
}

/// Tests that a page names: the file, and the names in parentheses after it.
fn named_tests(text: &str) -> Vec<(&str, Vec<String>)> {
    let parts: Vec<_> = text.split('`').collect();
    let pairs = parts.windows(2).filter(|pair| pair[0].ends_with(".rs"));
    let names = |list: &str| list.split(',').map(|name| name.trim().to_owned()).collect();
    pairs
        .filter_map(|pair| {
            let (list, _) = pair[1].trim_start().strip_prefix('(')?.split_once(')')?;
            Some((pair[0], names(list)))
        })
        .collect()
}

/// Pages that name tests, and the least number of files that each names.
const PAGES_WITH_TESTS: [(&str, usize); 4] = [
    ("docs/security-tests.md", 100),
    ("docs/security/cves.md", 90),
    ("docs/faults.md", 40),
    ("docs/security/tested.md", 50),
];

#[test]
fn tests_named_by_pages_exist() {
    let mut violations = Vec::new();
    for (path, min) in PAGES_WITH_TESTS {
        let page = Page::read(path);
        for (file, names) in named_tests(&page.text) {
            let source = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            for name in names {
                // Some are generated by a macro from their names.
                if !has_word(&source, &name) {
                    violations.push(format!("{path}:1: {file} has no test {name}"));
                }
            }
        }
        assert!(named_tests(&page.text).len() > min, "{path} has the form that this test reads");
    }
    report(violations);
}

/// Entries of a page: the words in bold, and the text after them, each on one line.
fn entries(page: &Page) -> Vec<(String, String)> {
    let on_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let entries = page.text.split("\n- **").skip(1);
    let entries = entries.map(|entry| entry.split("\n\n").next().unwrap_or_default());
    let entries = entries.filter_map(|entry| entry.split_once("**"));
    entries.map(|(bold, text)| (on_one_line(bold), on_one_line(text))).collect()
}

/// Whether a text has a date, such as 2026-11-30.
fn has_date(text: &str) -> bool {
    let is_date = |word: &str| {
        let parts: Vec<_> = word.split('-').map(str::len).collect();
        parts == [4, 2, 2] && word.chars().all(|c| c == '-' || c.is_ascii_digit())
    };
    text.split([' ', ',', ';', '(', ')']).any(is_date)
}

#[test]
fn every_fault_has_its_effects_and_tests() {
    let page = Page::read("docs/faults.md");
    let mut violations = Vec::new();
    for (fault, text) in entries(&page) {
        for label in ["*Keeps working:*", "*Answers:*", "*Lost:*", "*Tests:*"] {
            if text.matches(label).count() != 1 {
                violations.push(format!("{}:1: {fault} needs {label} once", page.path));
            }
        }
        let tests = text.split("*Tests:*").nth(1).unwrap_or_default();
        if named_tests(tests).is_empty() && !tests.contains("not tested") {
            violations.push(format!("{}:1: {fault} names no test", page.path));
        }
    }
    report(violations);
}

#[test]
fn every_promise_has_its_tests_and_attacks() {
    let (page, readme) = (Page::read("docs/security/tested.md"), Page::read("README.md"));
    let mut violations = Vec::new();
    for (promise, text) in entries(&page) {
        // The terms of the introduction have neither.
        let Some((tests, attacks)) = text.split_once("*Attacked by:*") else { continue };
        let is_explained =
            ["nothing of its own", "the same"].iter().any(|one| attacks.contains(one));
        if named_tests(tests).is_empty() || !has_date(attacks) && !is_explained {
            violations.push(format!("{}:1: {promise} lacks a test or an attack", page.path));
        }
    }
    for (promise, _) in entries(&readme) {
        let heading = format!("\n## {}\n", promise.trim_end_matches('.'));
        if promise.ends_with('.') && !page.text.contains(&heading) {
            violations.push(format!("{}:1: the promise {promise} is missing", page.path));
        }
    }
    let targets = std::fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap();
    for target in targets.map(|file| file.unwrap().file_name()) {
        let path = format!("fuzz/fuzz_targets/{}", target.to_string_lossy());
        if !page.text.contains(&path) {
            violations.push(format!("{}:1: {path} is missing", page.path));
        }
    }
    report(violations);
}

#[test]
fn files_named_by_pages_exist() {
    const TOP: [&str; 5] = ["bench/", "engine/", "fuzz/", "server/", "tests/"];
    let mut violations = Vec::new();
    for (path, _) in PAGES_WITH_TESTS {
        let page = Page::read(path);
        let quoted = page.text.split('`').skip(1).step_by(2);
        for file in quoted.filter(|file| TOP.iter().any(|top| file.starts_with(top))) {
            if !root().join(file).exists() {
                violations.push(format!("{path}:1: {file} does not exist"));
            }
        }
    }
    report(violations);
}

#[test]
fn every_known_attack_has_its_record_and_a_test() {
    let page = Page::read("docs/security/cves.md");
    let (entries, records) = page.text.split_once("\n[CVE-").expect("records are last");
    let records = format!("[CVE-{records}");
    let mut violations = Vec::new();
    for record in records.lines() {
        let (name, address) = record.split_once(": ").unwrap_or((record, ""));
        let id = name.trim_matches(['[', ']']);
        let database = if id.starts_with("CVE-") {
            "https://nvd.nist.gov/vuln/detail/"
        } else {
            "https://github.com/advisories/"
        };
        if address != format!("{database}{id}") || !entries.contains(name) {
            violations.push(format!("{}:1: the record of {id} is wrong or unused", page.path));
        }
    }
    for id in entries
        .split(['[', ']'])
        .filter(|id| ["CVE-", "GHSA-"].iter().any(|prefix| id.starts_with(prefix)))
    {
        if !records.contains(&format!("[{id}]: ")) {
            violations.push(format!("{}:1: {id} has no record at the end", page.path));
        }
    }
    let (attacks, _) = entries.split_once("\n## Not covered").expect("the last section");
    for attack in attacks.split("\n- **").skip(1).filter(|attack| named_tests(attack).is_empty()) {
        let name = attack.split("**").next().unwrap_or_default();
        violations.push(format!("{}:1: {name} names no test", page.path));
    }
    report(violations);
}
