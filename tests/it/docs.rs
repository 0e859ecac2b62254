/// Runs the blocks of one page.
mod session;

use std::collections::{BTreeMap, BTreeSet};

use countersign_engine::Reject;
use countersign_tests::{
    binary::Sandbox,
    openmetrics,
    pages::{Block, Directive, Page, root},
};

use crate::fixture;
use session::run_page;

/// Blocks that cannot be run here, over all pages. Each has its reason in its directive.
const MAX_SKIPPED: usize = 6;

/// Languages of blocks. Any other language would be a block that no test checks.
const LANGUAGES: [&str; 9] = ["sh", "text", "ini", "toml", "nginx", "lua", "yaml", "json", "rego"];

fn pages() -> Vec<Page> {
    let mut pages = Page::below("docs");
    pages.insert(0, Page::read("README.md"));
    pages
}

fn has_commands(block: &Block) -> bool {
    block.language == "sh"
}

/// Defines a test for each page with commands: all of its blocks in one session, with the output
/// that follows a block.
macro_rules! pages_with_commands {
    ($($test:ident: $path:literal,)*) => {
        const PAGES_WITH_COMMANDS: &[&str] = &[$($path),*];
        $(
            #[test]
            fn $test() {
                if let Err(failure) = run_page(&Page::read($path)) {
                    panic!("\n{failure}");
                }
            }
        )*
    };
}

pages_with_commands! {
    commands_of_the_readme_work: "README.md",
    commands_of_the_quick_start_work: "docs/quick-start.md",
    commands_of_keys_and_rotation_work: "docs/keys-and-rotation.md",
    commands_of_revocation_work: "docs/revocation.md",
    commands_of_users_and_tokens_work: "docs/users-and-tokens.md",
    commands_of_operations_work: "docs/operations.md",
    commands_of_backup_work: "docs/operations/backup.md",
    commands_of_restore_work: "docs/operations/restore.md",
    commands_of_upgrade_work: "docs/operations/upgrade.md",
    commands_of_key_rotation_work: "docs/operations/rotate-signing-key.md",
    commands_of_performance_work: "docs/performance.md",
    commands_of_load_tests_work: "docs/loadtest.md",
    commands_of_authorization_work: "docs/authorization.md",
    commands_of_access_policies_work: "docs/authorization/policy.md",
    commands_of_rules_by_route_work: "docs/authorization/routes.md",
    commands_of_envoy_work: "docs/proxies/envoy.md",
    commands_of_orchestrate_work: "docs/systems/orchestrate.md",
    commands_of_infisical_work: "docs/systems/infisical.md",
}

/// Pages whose only blocks are configurations are checked together.
#[test]
fn configurations_of_all_pages_are_valid() {
    for page in pages() {
        let has_configurations =
            page.blocks().iter().any(|block| ["ini", "toml"].contains(&&*block.language));
        if has_configurations && !PAGES_WITH_COMMANDS.contains(&&*page.path) {
            run_page(&page).unwrap();
        }
    }
}

#[test]
fn every_block_of_the_documentation_is_checked() {
    let (mut violations, mut skipped) = (Vec::new(), Vec::new());
    for page in pages() {
        let is_listed = PAGES_WITH_COMMANDS.contains(&&*page.path);
        if page.blocks().iter().any(has_commands) != is_listed {
            violations.push(format!("{}:1: list it in pages_with_commands", page.path));
        }
        for block in page.blocks() {
            let place = format!("{}:{}", page.path, block.line);
            if !LANGUAGES.contains(&&*block.language) {
                violations.push(format!("{place}: use one of {LANGUAGES:?} after the fence"));
            }
            match &block.directive {
                Directive::Skip(reason) if has_commands(&block) => {
                    skipped.push(format!("{place}: {reason}"));
                }
                Directive::Skip(_) => violations.push(format!("{place}: only commands are run")),
                Directive::None if block.language == "rego" => {
                    violations.push(format!("{place}: make it a file that a command checks"));
                }
                Directive::Server if !has_commands(&block) => {
                    violations.push(format!("{place}: a server is started by a sh block"));
                }
                _ => {}
            }
        }
    }
    if skipped.len() > MAX_SKIPPED {
        violations.push(format!(
            "{} skipped blocks, at most {MAX_SKIPPED}:\n{}",
            skipped.len(),
            skipped.join("\n")
        ));
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

/// A page contains a shipped file as it is, which the tests of the proxies run.
#[test]
fn shipped_files_in_the_documentation_are_current() {
    let mut shown = BTreeMap::new();
    for page in pages() {
        for block in page.blocks() {
            let Directive::SameAs(path) = &block.directive else { continue };
            let shipped = std::fs::read_to_string(root().join(path)).unwrap();
            assert!(
                block.text == shipped,
                "{}:{}: differs from {path}: copy the file",
                page.path,
                block.line
            );
            shown.insert(path.clone(), page.path.clone());
        }
    }
    let files = std::fs::read_dir(root().join("deploy/proxies")).unwrap();
    let missing: Vec<_> = files
        .map(|file| format!("deploy/proxies/{}", file.unwrap().file_name().to_string_lossy()))
        .filter(|path| !shown.contains_key(path))
        .collect();
    assert!(missing.is_empty(), "no page shows {missing:?}");
}

/// Returns the names in the first cells of the rows of a page's tables.
fn documented_names(path: &str) -> BTreeSet<String> {
    let page = Page::read(path);
    let names = page.prose().filter_map(|(_, line)| {
        let (name, _) = line.strip_prefix("| `")?.split_once("` |")?;
        Some(name.to_owned())
    });
    names.collect()
}

#[test]
fn documented_metrics_are_those_of_a_server() {
    let sandbox = Sandbox::new();
    let down = fixture::issuer_section(
        "down",
        "ES256",
        "https://down/",
        "jwks_uri=http://127.0.0.1:9/jwks",
    );
    let server = sandbox.serve(&format!("{}{down}", fixture::SIGNING));
    let families = openmetrics::parse(&server.operations("/metrics").body);
    let mut documented = documented_names("docs/operations.md");
    documented.retain(|name| ["countersign_", "process_"].iter().any(|one| name.starts_with(one)));
    assert_eq!(documented, families.keys().cloned().collect());
}

#[test]
fn documented_reject_codes_are_complete() {
    let documented = documented_names("docs/reference/endpoints.md");
    let missing: Vec<_> = Reject::ALL
        .iter()
        .map(|reject| reject.code())
        .filter(|code| !documented.contains(*code))
        .collect();
    assert!(missing.is_empty(), "docs/reference/endpoints.md lacks {missing:?}");
}
