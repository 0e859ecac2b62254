//! One page is one bash session: a fresh home and working directory, the default ports, and the
//! binary as `countersign` in `PATH`.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use countersign_tests::{
    binary,
    default_ports::DefaultPorts,
    pages::{Block, Directive, Page, output_matches, root},
};
use tempfile::TempDir;

/// Runs a block in the session: `$1` is its number, and its file is `$1.sh`.
const PRELUDE: &str = r#"
set -meuo pipefail
SERVER=
stop_server() {
    if [ -n "$SERVER" ]; then
        kill -TERM -- "-$SERVER" 2>/dev/null || true
        # The shell of the block ends before the server.
        while kill -0 -- "-$SERVER" 2>/dev/null; do sleep 0.1; done
        SERVER=
    fi
}
trap 'stop_server; for job in $(jobs -p); do kill -TERM -- "-$job" 2>/dev/null || true; done' EXIT
# Waits until the server has printed where it listens, and is ready.
await_server() {
    local url
    for _ in {1..300}; do
        kill -0 "$SERVER" || { cat "$1.err" >&2; return 1; }
        url=$(sed -n 's|^  metrics  *\(.*\)/metrics$|\1|p' "$1.out" 2>/dev/null) || true
        if [ -n "$url" ] && command curl --silent --fail --output /dev/null "$url/ready"; then
            return
        fi
        sleep 0.1
    done
    echo 'the server is not ready after 30 s' >&2
    return 1
}
"#;

/// `cargo run --release` stands for a binary that is already built.
const CARGO: &str = r#"#!/bin/sh
[ "$1 $2" = 'run --release' ] || { echo "cargo $*: not part of the documentation" >&2; exit 1; }
shift 2
program=countersign
if [ "${1:-} ${2:-} ${3:-}" = '-p countersign-bench --bin' ]; then program=$4; shift 4; fi
[ "${1:-}" != -- ] || shift
exec "$program" "$@"
"#;

/// Option of `cargo run` for the binary that is not `countersign`.
const CORPUS: &str = "--bin corpus";

/// Scripts of the repository, which are below the working directory of a reader.
const SCRIPTS: &str = "deploy/loadtest/";

/// Longest time of a page.
const TIME_LIMIT: &str = "120";

/// Runs the command blocks of a page in order, and checks the configurations between them.
///
/// # Errors
/// The place of the first block that fails, or whose output is not the one that the page shows.
pub(super) fn run_page(page: &Page) -> Result<(), String> {
    let _ports = DefaultPorts::reserve();
    let (directory, blocks) = (tempfile::tempdir().unwrap(), page.blocks());
    let script = prepare(&directory, &blocks);
    let at = |index: usize, what: &str| {
        format!("{}:{}: {what}", page.path, blocks.get(index).map_or(0, |block| block.line))
    };
    let output = run(&directory, &script);
    let steps = directory.path().join("steps");
    let read = |name: String| fs::read_to_string(steps.join(name)).unwrap_or_default();
    if !output.status.success() {
        let index = read("current".into()).trim().parse().unwrap_or(0);
        let (out, err) = (read(format!("{index}.out")), read(format!("{index}.err")));
        let rest = String::from_utf8_lossy(&output.stderr);
        return Err(at(index, &format!("{}\n{out}{err}{rest}", output.status)));
    }
    for (index, pair) in blocks.windows(2).enumerate() {
        let printed = read(format!("{index}.out"));
        let is_shown = pair[0].language == "sh" && pair[1].language == "text";
        if is_shown && is_run(&pair[0]) && !output_matches(&pair[1].text, &printed) {
            let shown = &pair[1].text;
            return Err(at(index + 1, &format!("the page shows\n{shown}\nbut it is\n{printed}")));
        }
    }
    Ok(())
}

fn is_run(block: &Block) -> bool {
    block.language == "sh" && !matches!(block.directive, Directive::Skip(_))
}

/// Writes the programs and the steps of a session, and returns its script.
fn prepare(directory: &TempDir, blocks: &[Block]) -> String {
    for name in ["home", "work", "bin", "steps"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let bin = directory.path().join("bin");
    symlink(binary::path(), bin.join("countersign")).unwrap();
    if blocks.iter().any(|block| block.text.contains(CORPUS)) {
        symlink(binary::built("corpus"), bin.join("corpus")).unwrap();
    }
    if blocks.iter().any(|block| block.text.contains(SCRIPTS)) {
        symlink(root().join("deploy"), directory.path().join("work/deploy")).unwrap();
    }
    fs::write(bin.join("cargo"), CARGO).unwrap();
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    // Otherwise curl reports its progress, which it does not on a terminal.
    fs::write(directory.path().join("home/.curlrc"), "no-progress-meter\n").unwrap();
    let steps = directory.path().join("steps");
    let mut script = String::from(PRELUDE);
    for (index, block) in blocks.iter().enumerate() {
        let step = steps.join(index.to_string());
        let step = step.display();
        let command = match (&*block.language, &block.directive) {
            ("sh", Directive::Skip(_)) => continue,
            ("sh", Directive::Server) => format!(
                "stop_server; (source {step}.sh) >{step}.out 2>{step}.err & \
                 SERVER=$!; await_server {step}"
            ),
            ("sh", _) => format!("source {step}.sh >{step}.out 2>&1"),
            ("ini" | "toml", directive) => configuration_step(&step.to_string(), block, directive),
            (_, Directive::File(name)) => format!("cp {step}.sh {name}"),
            _ => continue,
        };
        fs::write(steps.join(format!("{index}.sh")), &block.text).unwrap();
        writeln!(script, "echo {index} >{}/current\n{command}", steps.display()).unwrap();
    }
    script.push_str("stop_server\n");
    script
}

/// Saves a configuration under its name, if it has one, and checks it.
fn configuration_step(step: &str, block: &Block, directive: &Directive) -> String {
    let extension = if block.language == "toml" { "toml" } else { "cfg" };
    let file = match directive {
        Directive::File(name) => name.clone(),
        _ => format!("{step}.{extension}"),
    };
    format!(
        "mkdir -p \"$(dirname {file})\"; install -m 600 {step}.sh {file}; \
         countersign config check --config {file} >{step}.out 2>{step}.err; [ ! -s {step}.err ]"
    )
}

fn run(directory: &TempDir, script: &str) -> std::process::Output {
    let path = |name: &str| directory.path().join(name);
    fs::write(path("script.sh"), script).unwrap();
    let search = format!(
        "{}:{}:/usr/sbin",
        path("bin").display(),
        std::env::var_os("PATH").unwrap_or_default().to_string_lossy()
    );
    let mut bash = Command::new("timeout");
    bash.args(["--kill-after=10", TIME_LIMIT, "bash"]).arg(path("script.sh"));
    bash.current_dir(path("work")).env_clear().env("HOME", path("home")).env("PATH", search);
    // No block reaches the network: the providers of the examples do not answer.
    bash.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "localhost,127.0.0.1");
    bash.stdin(std::process::Stdio::null());
    bash.output().unwrap_or_else(|error| panic!("{}: {error}", Path::new("timeout").display()))
}
