//! Errors of policies and of their evaluation: place, text, remedy, and no values of the input.

use std::path::Path;

use countersign_server::authorization::policy::{EvaluationError, Policy, PolicyError};
use serde_json::{Value, json};

const HEAD: &str = "package policy\ndefault allow := false\n";

fn compile(text: &str) -> Result<Policy, PolicyError> {
    Policy::compile(Path::new("/etc/policy.rego"), text, &json!({}))
}

/// Evaluates a policy with an input.
pub(crate) fn evaluate(rules: &str, input: &Value) -> Result<bool, EvaluationError> {
    compile(&format!("{HEAD}{rules}\n")).unwrap().allows_document(input)
}

#[test]
fn policy_error_has_place_and_remedy() {
    for (rules, place, text) in [
        ("allow if { input.x == ", ":4:1", "expecting expression"),
        ("allow { input.x == 1 }", ":3:7", "`if` keyword is required"),
        ("allow if unknown == 1", ":3:10", "use of undefined variable `unknown` is unsafe"),
        ("allow if unknown(1)", ":3:10", "Unknown function: 'unknown'"),
        ("allow if http.send({}).x == 1", ":3:10", "http.send is not available"),
        ("allow if true\nother if {\n  rand.intn(\"x\", 2) == 1\n}", ":5:3", "rand.intn is not"),
        ("allow if other with input.x as 1\nother if input.x", ":3:10", "`with` keyword"),
        ("x[\"a\"] := 1\nx[\"b\"] := 2\nallow if x.a == 1", ":3:4", "constant keys"),
        ("allow if f(1)\nf(x) if f(x + 1)", ":4:15", "data.policy.f depends on itself"),
        ("allow if a\na if b\nb if a", ":4:6", "data.policy.a depends on itself"),
        ("allow if data[input.x].a\na if data[input.x].a", ":3:20", "depends on itself"),
        ("allow if input.x == -input.y", ":3:21", "unary - can"),
    ] {
        let error = compile(&format!("{HEAD}{rules}\n")).unwrap_err();
        assert_eq!(error.place, format!("/etc/policy.rego{place}"), "{error}");
        assert!(error.text.contains(text), "{error}");
        let needs_help = !text.starts_with("expecting");
        assert!(!needs_help || !error.help.is_empty(), "no remedy: {error}");
        assert!(!error.to_string().contains("-->"), "{error}");
    }
}

#[test]
fn policy_needs_its_package_and_allow() {
    let error = compile("# A comment.\npackage other\nallow if true").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/policy.rego:2: the package is other\n  help: write: package policy"
    );
    let error = compile("package policy\nallowed if true").unwrap_err();
    assert!(error.text.contains("no rule named allow"), "{error}");
    let error = compile(&format!("{HEAD}# {}", "x".repeat(1 << 20))).unwrap_err();
    assert!(error.text.contains("1048576 bytes"), "{error}");
}

#[test]
fn deep_calls_are_refused_before_they_exhaust_the_stack() {
    let chain = |length: usize| {
        let rules = (0..length).map(|index| format!("r{index} if r{}\n", index + 1));
        compile(&format!("{HEAD}allow if r0\n{}r{length} if input.x", rules.collect::<String>()))
    };
    assert!(chain(50).unwrap().allows_document(&json!({ "x": true })).unwrap());
    for length in [70, 700, 3000] {
        let error = chain(length).unwrap_err();
        assert!(error.text.contains("nested calls"), "{error}");
    }
    let parentheses = format!("{HEAD}allow if {}1{}", "(\n".repeat(9000), ")\n".repeat(9000));
    assert!(compile(&parentheses).unwrap_err().text.contains("nesting too deep"));
}

#[test]
fn only_true_allows() {
    for (value, expected) in
        [("true", true), ("\"true\"", false), ("1", false), ("{true}", false), ("null", false)]
    {
        let policy = compile(&format!("package policy\nallow := {value}")).unwrap();
        assert_eq!(policy.allows_document(&json!({})), Ok(expected), "{value}");
    }
    let undefined = compile("package policy\nallow if input.x == 1").unwrap();
    assert_eq!(undefined.allows_document(&json!({})), Ok(false));
    let set = compile("package policy\nallow contains \"x\" if true").unwrap();
    assert_eq!(set.allows_document(&json!({})), Ok(false));
}

#[test]
fn evaluation_error_has_rule_and_place_but_no_values() {
    let rules = "allow if count(big) == 3\nbig := [x |\n  x := numbers.range(1, input.secret)\n]";
    let error = evaluate(rules, &json!({ "secret": 987_654_321 })).unwrap_err();
    let location = error.location.clone().unwrap();
    assert_eq!(location.rule, "data.policy.big");
    assert!(location.place.starts_with("/etc/policy.rego:5:"), "{}", location.place);
    let text = format!("{error} {error:?}");
    assert!(!text.contains("987654321"), "{text}");
    assert!(text.contains("too large arguments"), "{text}");
}

#[test]
fn roles_are_a_list_or_a_set_of_names() {
    let roles = |text: &str| {
        let policy = compile(&format!("{HEAD}allow if true\n{text}"));
        policy.map(|policy| policy.roles().to_vec())
    };
    assert_eq!(roles("roles := [\"b\", \"a\", \"b\"]").unwrap(), ["a", "b"]);
    assert_eq!(roles("roles := {\"a\", \"b\"}").unwrap(), ["a", "b"]);
    assert_eq!(roles("roles contains \"a\" if true").unwrap(), ["a"]);
    assert!(roles("").unwrap().is_empty());
    for text in ["roles := \"a\"", "roles := [1]", "roles := {\"a\": 1}", "roles := [[\"a\"]]"] {
        let error = roles(text).unwrap_err();
        assert!(error.text.contains("not a list or a set"), "{error}");
    }
}

#[test]
fn deterministic_policy_calls_pure_functions_only() {
    for (rules, expected) in [
        ("allow if startswith(input.x, \"a\")", true),
        ("allow if time.now_ns() > 0", false),
        ("allow if other\nother if time.now_ns() > 0", false),
        ("allow if true\nunused if time.now_ns() > 0", false),
        ("allow if { print(input.x); input.x == 1 }", false),
        ("allow if trace(\"x\") == \"x\"", false),
        ("allow if time.parse_rfc3339_ns(input.x) > 0", true),
    ] {
        let policy = compile(&format!("{HEAD}{rules}")).unwrap();
        assert_eq!(policy.is_deterministic(), expected, "{rules}");
    }
}

#[test]
fn print_does_not_change_the_decision() {
    let rules =
        "allow if {\n  print(\"x is\", input.x)\n  input.x == 1\n  print(input.undefined)\n}";
    assert_eq!(evaluate(rules, &json!({ "x": 1 })), Ok(true));
    assert_eq!(evaluate(rules, &json!({ "x": 2 })), Ok(false));
}

/// Constructs that an engine may take for something else. All of these deny the user eve.
#[test]
fn rego_is_evaluated_as_it_is_defined() {
    let input = json!({ "request": { "env": "e" }, "sub": "eve", "groups": ["evil"] });
    for rules in [
        "allow if { r := input.admin_role }",
        "allow if count([r | r := input.admin_role]) > 0",
        "allow if { x := input.nope; not x in [\"banned\"] }",
        "may[r] if { r := input.reader_of }\nallow if may[input.request.env]",
        "blocked.eve := true\nallow if not blocked[input.sub]",
        "d[p] contains who if { p := \"e\"; who := \"eve\" }\nallow if not input.sub in d[\"e\"]",
        "default out(_) := true\nout(u) := false if u in {\"al\"}\nallow if not out(input.sub)",
        "c := \"in\" if { some g in input.groups; g == \"staff\" } else := \"out\" if input.sub == \"eve\"\n\
         allow if not c == \"out\"",
        "allow if count([1 | input.admin_role]) > 0",
        "bad := [g | some g in input.groups; count([1 | g == \"ok\"]) == 0]\nallow if count(bad) == 0",
        "allow if startswith(input.nope, \"x\")",
        "allow if { every g in input.groups { g == \"staff\" } }",
    ] {
        assert_eq!(evaluate(rules, &input), Ok(false), "{rules}");
    }
    for (rules, text) in [
        ("b := [\"eve\"]\nallow if not b[_] == input.sub", "`not` before [_]"),
        ("allow if { {\"role\": r} := input; r == \"a\" }", "an object pattern"),
        ("allow if [[[[[[[[[[[[[1]]]]]]]]]]]]] == input.x", "brackets are nested"),
    ] {
        let error = compile(&format!("{HEAD}{rules}\n")).unwrap_err();
        assert!(error.text.contains(text) && !error.help.is_empty(), "{error}");
    }
}
