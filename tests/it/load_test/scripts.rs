use std::process::{Command, Output};

use countersign_tests::{
    binary::{Sandbox, Server},
    pages::root,
};

use super::{start, stats};

/// Runs a script of `deploy/loadtest` for a second, with these further variables.
fn run(server: &Server<'_>, script: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", "bash"]).arg(root().join("deploy/loadtest").join(script));
    command.env("URL", format!("http://{}", server.address));
    command.envs([("DURATION", "1"), ("CONNECTIONS", "2"), ("STREAMS", "2"), ("MIN_RATE", "1")]);
    // The machine of the tests is busy.
    command.env("MAX_P99_MS", "10000").envs(variables.iter().copied());
    command.output().unwrap()
}

/// Returns the rows of the table of thresholds.
#[track_caller]
fn rows(output: &Output, code: i32) -> Vec<String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let is_row = |line: &&str| line.starts_with(['✓', '✗']);
    stdout.lines().filter(is_row).map(str::to_owned).collect()
}

/// Returns the names of the thresholds that are missed.
fn missed(rows: &[String]) -> Vec<&str> {
    let missed = rows.iter().filter_map(|row| row.strip_prefix("✗ "));
    missed.map(|row| row.split("  ").next().unwrap()).collect()
}

const WRONG: &str = "wrong answers";

#[test]
fn wrk_script_checks_every_answer() {
    let sandbox = Sandbox::new();
    let server = start(&sandbox, &["--tokens", "100", "--valid", "0.5"]);
    let output = run(&server, "wrk.sh", &[]);
    let rows = rows(&output, 0);
    assert!(rows.len() == 6 && missed(&rows).is_empty(), "{rows:?}");
    let stats = stats(&server);
    assert_eq!(stats["wrong"], 0);
    let valid = stats["kinds"]["valid"]["right"].as_u64().unwrap();
    let expired = stats["kinds"]["expired"]["right"].as_u64().unwrap();
    assert!(valid > 0 && expired > 0, "{stats}");
}

#[test]
fn h2load_script_checks_every_kind() {
    let sandbox = Sandbox::new();
    let server = start(&sandbox, &["--tokens", "10", "--valid", "0.5"]);
    let rows = rows(&run(&server, "h2load.sh", &[]), 0);
    let wrong = rows.iter().filter(|row| row.contains("wrong answers: ")).count();
    assert!(wrong == 7 && missed(&rows).is_empty(), "{rows:?}");
    let stats = stats(&server);
    for kind in ["valid", "expired", "audience", "issuer", "signature", "garbage", "missing"] {
        assert!(stats["kinds"][kind]["right"].as_u64().unwrap() > 0, "{kind}: {stats}");
    }
    assert!(stats["latency_us"]["h2"]["count"].as_u64().unwrap() > 0, "{stats}");
}

#[test]
fn missed_threshold_fails_the_script() {
    let sandbox = Sandbox::new();
    let server = start(&sandbox, &["--tokens", "10"]);
    for (script, name) in
        [("wrk.sh", "requests per second"), ("h2load.sh", "valid requests per second")]
    {
        let rows = rows(&run(&server, script, &[("MIN_RATE", "1000000000")]), 1);
        assert_eq!(missed(&rows), [name], "{script}");
        let rows = self::rows(&run(&server, script, &[("MAX_P99_MS", "0.000")]), 1);
        assert_eq!(missed(&rows), ["latency p99 (ms)"], "{script}");
    }
}

/// The target has the keys of another algorithm than the corpus.
#[test]
fn wrong_answers_fail_the_script() {
    let sandbox = Sandbox::new();
    sandbox.run(["loadtest", "corpus", "--out", "c", "--algorithm", "EdDSA"]).text();
    let server = start(&sandbox, &["--tokens", "10"]);
    let corpus = sandbox.path().join("c/corpus.tsv");
    let variables = [("CORPUS", corpus.to_str().unwrap())];
    let output = run(&server, "wrk.sh", &variables);
    assert!(missed(&rows(&output, 1)).contains(&WRONG));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("wrong answer to valid: expected 200 , got 401 Bearer"), "{stdout}");
    let rows = rows(&run(&server, "h2load.sh", &variables), 1);
    assert!(missed(&rows).contains(&"wrong answers: valid"), "{rows:?}");
}

#[test]
fn script_names_a_target_that_is_no_load_test() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(crate::fixture::SIGNING);
    for script in ["wrk.sh", "h2load.sh"] {
        let output = run(&server, script, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr.contains("countersign serve --profile loadtest"), "{stderr}");
    }
}

/// k6 is in no package registry of the tests: its script runs with stand-ins for k6's modules.
fn run_k6(server: &Server<'_>, variables: &[(&str, &str)]) -> Output {
    let mut node = Command::new("node");
    node.arg(root().join("tests/k6/stand_in.mjs")).arg(root().join("deploy/loadtest/k6.js"));
    node.env("URL", format!("http://{}", server.address)).env("MIN_RATE", "1");
    node.env("MAX_P99_MS", "10000").envs(variables.iter().copied());
    node.output().unwrap()
}

#[test]
fn k6_script_checks_answers_and_thresholds() {
    let sandbox = Sandbox::new();
    let server = start(&sandbox, &["--tokens", "10", "--valid", "0.5"]);
    let rows = rows(&run_k6(&server, &[]), 0);
    assert!(rows.len() == 4 && missed(&rows).is_empty(), "{rows:?}");
    assert_eq!(stats(&server)["right"], 40);
    let rows = self::rows(&run_k6(&server, &[("MIN_RATE", "1000000000")]), 99);
    assert_eq!(missed(&rows), ["http_reqs"]);
    let output = run_k6(&server, &[("OTHER_CORPUS", "1")]);
    assert_eq!(missed(&self::rows(&output, 99)), ["right_answers"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("valid: expected 200 , got 401 Bearer"), "{stderr}");
}
