//! Hostile policies and hostile inputs end within the limits of an evaluation.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use countersign_server::authorization::policy::Policy;
use serde_json::{Value, json};

use super::errors::evaluate;

/// Longer than any evaluation, on a loaded machine without optimization.
const BOUND: Duration = Duration::from_secs(2);

/// Evaluates rules that have to end with an error or without permission.
#[track_caller]
fn assert_bounded(rules: &str, input: &Value) -> Option<String> {
    let start = Instant::now();
    let result = evaluate(rules, input);
    let elapsed = start.elapsed();
    assert!(elapsed < BOUND, "{rules}: {elapsed:?}");
    match result {
        Ok(allowed) => {
            assert!(!allowed, "{rules}");
            None
        }
        Err(error) => Some(error.reason),
    }
}

#[test]
fn endless_loops_reach_a_limit() {
    let input = json!({ "l": (0..10_000).collect::<Vec<_>>() });
    for rules in [
        "allow if { some a in input.l; some b in input.l; some c in input.l; a + b + c == -1 }",
        "allow if count([1 | some a in input.l; some b in input.l; a + b == -1]) == -1",
        "s := {x | some x in input.l}\nallow if count([x | some x in s; count(s - {x}) == 3]) == 3",
        "allow if { some x in input.l; [y | some y in input.l] == [x] }",
    ] {
        let reason = assert_bounded(rules, &input).unwrap_or_else(|| panic!("no limit: {rules}"));
        assert!(reason.contains("takes"), "{reason}");
    }
}

#[test]
fn built_in_functions_are_refused_large_results() {
    let long = "9".repeat(30_000);
    let list = vec!["a"; 12_000];
    for (expression, input) in [
        ("numbers.range(1, input)", json!(3_000_000)),
        ("numbers.range_step(1, input, 2)", json!(3_000_000)),
        ("bits.lsh(1, input)", json!(400_000_000)),
        ("sprintf(input, [1])", json!("%400000000d")),
        ("sprintf(input, [1])", json!("%99999999999999999999d")),
        ("sprintf(input, [\"x\"])", json!("%0400000000s")),
        ("replace(input, \"\", input)", json!(long)),
        ("strings.replace_n({\"\": input}, input)", json!(long)),
        (
            "strings.replace_n({\"9\": \"99\", \"99\": \"9999\", \"999\": input}, input)",
            json!(long),
        ),
        ("regex.replace(input, \"\", input)", json!(long)),
        ("regex.replace(input, \"9\", \"$0$0$0$0$0$0$0$0$0$0$0$0\")", json!(long)),
        ("concat(input.s, input.l)", json!({ "s": "9".repeat(10_000), "l": list })),
        ("[concat(\",\", input) | some _ in input]", json!(list)),
        ("[split(\"a,a,a,a,a\", input[_]) | some _ in input]", json!(list)),
        ("regex.find_n(\"a[^c]*c|a\", input, -1)", json!("a".repeat(60_000))),
        (
            "regex.find_all_string_submatch_n(\"((((((((((a))))))))))\", input, -1)",
            json!("a".repeat(60_000)),
        ),
        ("regex.match(input, \"a\")", json!("a?".repeat(5_000))),
        ("glob.match(input, [], \"a\")", json!("*a".repeat(5_000))),
        ("net.cidr_expand(input)", json!("10.0.0.0/9")),
        ("net.cidr_expand(input)", json!("::/0")),
        (
            "strings.any_prefix_match(input, [concat(\"\", [x, \"b\"]) | some x in input])",
            json!((0..9_000).map(|index| index.to_string()).collect::<Vec<_>>()),
        ),
    ] {
        let rules = format!("result := {expression}\nallow if result == \"never\"");
        let reason = assert_bounded(&rules, &input).unwrap_or_else(|| panic!("no limit: {rules}"));
        assert!(reason.contains("too large") || reason.contains("longer"), "{rules}: {reason}");
    }
}

#[test]
fn arguments_that_the_library_cannot_take_are_undefined() {
    for (expression, input) in [
        ("numbers.range_step(1, 5, input)", json!(0)),
        ("numbers.range_step(1, 5, input)", json!(-1)),
        ("strings.count(\"aa\", input)", json!("")),
        ("units.parse(input)", json!("1e99999999")),
        ("units.parse_bytes(input)", json!("9e99999999K")),
        ("units.parse(input)", json!("9".repeat(60_000))),
        ("to_number(input)", json!("1e99999999")),
        ("to_number(input)", json!("9".repeat(60_000))),
        ("json.unmarshal(input)", json!("[1e99999999]")),
        ("json.unmarshal(input)", json!("[".repeat(60_000))),
        ("bits.lsh(1, input)", json!(-1)),
        ("time.add_date(input, 1, 1, 1)", json!(i64::MAX)),
        ("time.add_date(0, input, 1, 1)", json!(i32::MAX)),
        ("time.parse_duration_ns(input)", json!("999999999999999999h")),
        ("time.format([1, \"UTC\", input])", json!("%")),
        ("base64.decode(input)", json!("%")),
        ("net.cidr_expand(input)", json!("x/y")),
    ] {
        let rules = format!("result := {expression}\nallow if result == \"never\"");
        assert_bounded(&rules, &input);
    }
}

#[test]
fn built_in_functions_work_within_their_bounds() {
    for expression in [
        "numbers.range(1, 3) == [1, 2, 3]",
        "numbers.range_step(1, 5, 2) == [1, 3, 5]",
        "sprintf(\"%s-%03d\", [\"a\", 7]) == \"a-007\"",
        "concat(\",\", [\"a\", \"b\"]) == \"a,b\"",
        "split(\"a,b\", \",\") == [\"a\", \"b\"]",
        "replace(\"abc\", \"b\", \"x\") == \"axc\"",
        "strings.replace_n({\"a\": \"b\"}, \"aa\") == \"bb\"",
        "regex.match(`^[a-z]+-\\d{2}$`, \"ab-12\")",
        "regex.replace(\"a1\", `(\\d)`, \"<$1>\") == \"a<1>\"",
        "regex.find_n(`\\d`, \"a1b2\", -1) == [\"1\", \"2\"]",
        "glob.match(\"*.example\", [\".\"], \"a.example\")",
        "net.cidr_contains(\"10.0.0.0/8\", \"10.1.2.3\")",
        "count(net.cidr_expand(\"10.0.0.0/24\")) == 256",
        "units.parse_bytes(\"1KiB\") == 1024",
        "bits.lsh(1, 100) > 0",
        "json.unmarshal(json.marshal({\"a\": [1]})) == {\"a\": [1]}",
        "base64.decode(base64.encode(\"a\")) == \"a\"",
        "urlquery.decode(urlquery.encode(\"a b\")) == \"a b\"",
        "object.union({\"a\": 1}, {\"b\": 2}) == {\"a\": 1, \"b\": 2}",
        "semver.compare(\"1.2.0\", \"1.10.0\") == -1",
        "time.weekday(0) == \"Thursday\"",
        "time.now_ns() > 0",
    ] {
        let rules = format!("allow if {{\n  true\n  {expression}\n}}");
        assert_eq!(evaluate(&rules, &json!({})), Ok(true), "{expression}");
    }
}

#[test]
fn machine_is_usable_after_a_limit() {
    let text = "package policy\nallow if f(input.n) == 1\nf(n) := 1 if {\n  some x in [1, 2, 3]\n  \
                count([y | some y in numbers.range(x, n)]) > 5\n}\n";
    let policy = Policy::compile(Path::new("p.rego"), text, &json!({})).unwrap();
    for _ in 0..3 {
        assert_eq!(policy.allows_document(&json!({ "n": 10 })), Ok(true));
        assert!(policy.allows_document(&json!({ "n": 10_000_000 })).is_err());
        assert!(policy.allows_document(&json!({ "n": "a".repeat(70_000) })).is_err());
        assert_eq!(policy.allows_document(&json!({ "n": 2 })), Ok(false));
    }
}

#[test]
fn threads_evaluate_policies_in_turn() {
    let compile = |value: u32| {
        let text = format!("package policy\nallow if input.n == {value}");
        Policy::compile(Path::new("p.rego"), &text, &json!({})).unwrap()
    };
    let policies = [compile(1), compile(2)];
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..100 {
                    let [one, two] = &policies;
                    let input = json!({ "n": index % 3 });
                    assert_eq!(one.allows_document(&input), Ok(index % 3 == 1));
                    assert_eq!(two.allows_document(&input), Ok(index % 3 == 2));
                }
            });
        }
    });
}

#[test]
fn input_is_bounded() {
    for input in [
        json!({ "x": "a".repeat(70_000) }),
        json!({ "x": vec![0; 30_000] }),
        json!(
            (0..10_000)
                .map(|index| (index.to_string(), json!({})))
                .collect::<serde_json::Map<_, _>>()
        ),
    ] {
        let error = evaluate("allow if true", &input).unwrap_err();
        assert!(error.reason.contains("65536 bytes"), "{error}");
    }
    assert_eq!(evaluate("allow if true", &json!({ "x": "a".repeat(60_000) })), Ok(true));
}
