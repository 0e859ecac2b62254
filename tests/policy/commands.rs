//! The commands `countersign policy`.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use countersign_server::authorization::policy::DEFAULT_POLICY;
use countersign_tests::binary;

/// Runs a command with text on standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(binary::path())
        .arg("policy")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn default_policy_passes_its_own_tests() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/policies");
    let output = run(&["test", policies.to_str().unwrap()], "");
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert!(text.contains("PASS: ") && !text.contains("FAIL"), "{text}");
    let coverage = text.lines().find(|line| line.contains("inmanta.rego:")).unwrap();
    assert!(coverage.contains("100.0 %"), "{coverage}");
}

#[test]
fn failing_tests_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    file(
        "policy.rego",
        "package policy\nallow if input.x == data.x\nunused if {\n  input.y == 1\n  input.z\n}\n",
    );
    file("data.json", "{\"x\": 7}");
    file(
        "policy_test.rego",
        "package policy_test\nimport data.policy\ntest_a if policy.allow with input.x as 7\n\
         test_b if { print(\"b runs\"); policy.allow with input.x as 8 }\n\
         todo_test_c if false\ntest_d if not policy.allow with input.x as data.y with data.y as 1\n",
    );
    let directory = directory.path().to_str().unwrap();
    let output = run(&["test", directory], "");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
    for part in [
        "data.policy_test.test_b: FAIL",
        "b runs",
        "data.policy_test.todo_test_c: SKIPPED",
        "PASS: 2/4\nFAIL: 1/4\nSKIPPED: 1/4\n",
        "/policy.rego: 66.7 % of 3 lines covered; not covered: 5",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(run(&["test", empty.path().to_str().unwrap()], "").status.code(), Some(1));
}

#[test]
fn check_prints_roles_or_the_mistake() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.rego");
    let file = path.to_str().unwrap();
    fs::write(&path, "package policy\nroles := [\"ops\"]\nallow if time.now_ns() > 0\n").unwrap();
    let output = run(&["check", file], "");
    let text = stdout(&output);
    for part in ["valid", "roles: ops", "time.now_ns", "not cached"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    fs::write(&path, "package policy\nallow if {\n  http.send({}) == 1\n}\n").unwrap();
    let output = run(&["check", file], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("policy.rego:3:3: the function http.send"), "{output:?}");
}

#[test]
fn eval_prints_a_decision_per_line() {
    let inputs = "{\"request\":{\"endpoint_id\":\"GET /api/v2/role\",\"parameters\":{}},\"token\":{}}\n\n\
        {\"input\":{\"request\":{\"endpoint_id\":\"POST /api/v2/role\",\"parameters\":{}},\"token\":{}}}\n";
    let output = run(&["eval"], inputs);
    assert_eq!(stdout(&output), "{\"allow\":true}\n{\"allow\":false}\n");
    assert!(output.status.success());
    let output = run(&["eval"], "{\"request\"\n{}\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).matches("{\"error\":").count(), 2, "{output:?}");
}

#[test]
fn explain_names_the_rule_or_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.rego");
    fs::write(
        &path,
        "package policy\n\n# Operators deploy.\nallow if {\n\tprint(\"role:\", input.token.role)\n\t\
         input.token.role == \"operator\"\n\tinput.request.endpoint_id == \"POST /deploy\"\n}\n\n\
         allow if f(input.token.is_admin, (1))\n\nf(a, b) if a == b\n",
    )
    .unwrap();
    let file = path.to_str().unwrap();
    let input = |role: &str, id: &str| {
        format!("{{\"request\":{{\"endpoint_id\":{id:?}}},\"token\":{{\"role\":{role:?}}}}}\n")
    };
    let output = run(&["explain", "--policy", file], &input("operator", "POST /deploy"));
    let text = stdout(&output);
    assert!(text.contains("allowed: \"POST /deploy\""), "{text}");
    assert!(text.contains("policy.rego:4: holds: Operators deploy."), "{text}");
    assert!(text.contains("print: ") && text.contains("operator"), "{text}");
    let output = run(&["explain", "--policy", file], &input("operator", "GET /x"));
    let text = stdout(&output);
    for part in [
        "denied: \"GET /x\"",
        "policy.rego:4: does not hold: Operators deploy.",
        "line 7: input.request.endpoint_id == \"POST /deploy\"",
        "line 10: f(input.token.is_admin, (1))",
        "not in data.endpoints",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn debug_files_are_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("debug");
    let arguments = ["export-debug", target.to_str().unwrap()];
    let output = run(&arguments, "");
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| fs::read_to_string(target.join(name)).unwrap();
    assert_eq!(read("policy/policy.rego"), DEFAULT_POLICY);
    assert_eq!(read("data.json"), stdout(&run(&["print-endpoint-data"], "")));
    let input = read("input.json").replace('\n', " ");
    assert_eq!(stdout(&run(&["eval"], &input)), "{\"allow\":true}\n");
    assert_eq!(run(&arguments, "").status.code(), Some(1));
    assert_eq!(stdout(&run(&["print-default"], "")), DEFAULT_POLICY);
}

#[test]
fn endpoint_data_has_the_format_of_python() {
    let text = run(&["print-endpoint-data"], "");
    let format =
        "import json, sys; print(json.dumps(json.load(sys.stdin), indent=4, sort_keys=True))";
    let mut python = Command::new("python3")
        .args(["-c", format])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(&text.stdout).unwrap();
    let expected = python.wait_with_output().unwrap();
    assert_eq!(stdout(&text), stdout(&expected));
}
