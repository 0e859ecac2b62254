//! Rules by route against a matcher that compares segment by segment, and canonical paths.

use countersign_server::{
    authorization::{
        request_path::{EncodedSlash, canonical},
        routes::{DenialReason, RouteMatch},
    },
    config::{Config, ConfigFormat, RawConfig},
};
use proptest::prelude::*;

/// The decision about a request: the number of the rule.
#[derive(Debug, PartialEq)]
enum Decided {
    By(usize),
    Ambiguous(usize),
    NoRule,
}

fn pattern() -> impl Strategy<Value = (String, String)> {
    let methods = prop::sample::select(vec!["GET", "POST", "HEAD", "GET|PUT", "PURGE", "*"]);
    let segment = prop::sample::select(vec!["a", "A", "b", "ab", "*", "{x}"]);
    let ending = prop::sample::select(vec!["", "/", "/*"]);
    (methods, prop::collection::vec(segment, 0..4), ending).prop_map(
        |(methods, segments, ending)| {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let path =
                if path.is_empty() && ending.is_empty() { "/".into() } else { path + ending };
            // A star at the end would stand for everything below.
            let path = if path.ends_with("/*") && ending.is_empty() {
                path.replace('*', "{y}")
            } else {
                path
            };
            (methods.into(), path)
        },
    )
}

fn request() -> impl Strategy<Value = (String, String)> {
    let methods =
        prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "PATCH", "get", "Purge", "PURGE"]);
    let segment = prop::sample::select(vec!["a", "A", "b", "B", "ab", "%61", "%41B", "c", "*"]);
    (methods, prop::collection::vec(segment, 0..5), any::<bool>()).prop_map(
        |(method, segments, has_slash)| {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let path = if has_slash || path.is_empty() { path + "/" } else { path };
            (method.into(), path)
        },
    )
}

/// Whether a pattern matches a decoded path.
fn matches_path(pattern: &str, path: &str) -> bool {
    let pattern: Vec<_> = pattern.split('/').skip(1).collect();
    let path: Vec<_> = path.split('/').skip(1).collect();
    let is_one = |(pattern, segment): (&&str, &&str)| match *pattern {
        "*" | "{x}" | "{y}" => !segment.is_empty(),
        literal => literal == *segment,
    };
    match pattern.split_last() {
        Some((&"*", start)) => path.len() > start.len() && start.iter().zip(&path).all(is_one),
        _ => path.len() == pattern.len() && pattern.iter().zip(&path).all(is_one),
    }
}

fn has_method(methods: &str, method: &str) -> bool {
    methods.split('|').any(|one| match one {
        "*" => true,
        "GET" => method == "GET" || method == "HEAD",
        one => one == method,
    })
}

/// Decides by comparing with every pattern of every rule.
fn decide(rules: &[Vec<(String, String)>], method: &str, target: &str) -> Decided {
    let path = target.replace("%61", "a").replace("%41", "A");
    let other_slash = match path.strip_suffix('/') {
        Some("") => path.clone(),
        Some(path) => path.to_owned(),
        None => format!("{path}/"),
    };
    let first = |fits: &dyn Fn(&(String, String)) -> bool| {
        rules.iter().position(|patterns| patterns.iter().any(fits))
    };
    let exact =
        first(&|(methods, pattern)| has_method(methods, method) && matches_path(pattern, &path));
    let similar = first(&|(methods, pattern)| {
        let lower = pattern.to_lowercase();
        let fits = |path: &String| matches_path(&lower, &path.to_lowercase());
        (has_method(methods, method) || has_method(methods, &method.to_uppercase()))
            && (fits(&path) || fits(&other_slash))
    });
    match (exact, similar) {
        (Some(exact), Some(similar)) if exact == similar => Decided::By(exact),
        (_, Some(similar)) => Decided::Ambiguous(similar),
        _ => Decided::NoRule,
    }
}

fn compiled(rules: &[Vec<(String, String)>]) -> Config {
    let section = |(number, patterns): (usize, &Vec<(String, String)>)| {
        let patterns: Vec<_> =
            patterns.iter().map(|(methods, path)| format!("{methods} {path}")).collect();
        format!("[route_{number}]\nmatch = {}\n", patterns.join(", "))
    };
    let text: String = rules.iter().enumerate().map(section).collect();
    let mut raw = RawConfig::default();
    raw.add("c.cfg", &text, ConfigFormat::Ini);
    Config::from_raw(raw).unwrap()
}

fn found(config: &Config, method: &str, target: &str) -> Decided {
    let number = |name: &str| name.trim_start_matches("route_").parse().unwrap();
    match config.settings.auth.authorization.routes.find(method, target) {
        RouteMatch::Token(route) => Decided::By(number(&route.rule().unwrap().name)),
        RouteMatch::Denied(denial) => match (denial.reason, denial.rule) {
            (DenialReason::SimilarPath, Some(rule)) => Decided::Ambiguous(number(&rule.name)),
            (DenialReason::NoRule, None) => Decided::NoRule,
            other => panic!("{other:?}"),
        },
        RouteMatch::Public(rule) => panic!("{rule:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn routes_decide_as_a_naive_matcher(
        rules in prop::collection::vec(prop::collection::vec(pattern(), 1..4), 0..12),
        requests in prop::collection::vec(request(), 1..20),
    ) {
        let config = compiled(&rules);
        for (method, target) in requests {
            let expected = decide(&rules, &method, &target);
            prop_assert_eq!(found(&config, &method, &target), expected, "{} {}", method, target);
        }
    }

    #[test]
    fn every_spelling_has_the_same_canonical_path(
        target in "/[a-zA-Z.%/0-9;é~ -]{0,12}",
        encode in prop::collection::vec(any::<bool>(), 64),
    ) {
        let Ok(path) = canonical(&target, EncodedSlash::Ambiguous) else { return Ok(()) };
        prop_assert!(path.starts_with('/') && !path.contains("//"));
        prop_assert!(!path.split('/').any(|segment| segment == "." || segment == ".."));
        let spelled = path.bytes().zip(encode).map(|(byte, encode)| match byte {
            b'/' => "/".to_owned(),
            byte if encode || !byte.is_ascii() || byte == b'%' => format!("%{byte:02X}"),
            byte => char::from(byte).to_string(),
        });
        let spelled: String = spelled.collect();
        prop_assert_eq!(canonical(&spelled, EncodedSlash::Ambiguous), Ok(path), "{}", spelled);
    }
}
