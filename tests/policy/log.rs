//! The log of the policy engine.

use std::{fs, os::unix::fs::MetadataExt as _, thread, time::Duration};

use countersign_server::authorization::policy::{
    EvaluationError, PolicyInput,
    log::{PolicyLog, PolicyLogLevel, record_failed_start},
};
use serde_json::Map;

#[test]
fn log_has_the_evaluations_of_its_level() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy_engine.log");
    record_failed_start(&path, "p.rego:1:2: no").unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("err = \"p.rego:1:2: no\""));
    let log = PolicyLog::open(&path).unwrap();
    let (parameters, token) = (Map::new(), Map::new());
    let input = PolicyInput {
        endpoint_id: "GET /api/v2/role",
        parameters: &parameters,
        token: &token,
        issuer: None,
        tenant: None,
    };
    let error = Err(EvaluationError { reason: "it failed".into(), location: None });
    log.record(PolicyLogLevel::Error, input, &Ok(true), Duration::ZERO);
    log.record(PolicyLogLevel::Error, input, &error, Duration::ZERO);
    log.record(PolicyLogLevel::Info, input, &Ok(false), Duration::from_micros(5));
    drop(log);
    let text = (0..1000).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        fs::read_to_string(&path).ok().filter(|text| text.contains("resp_status"))
    });
    let text = text.unwrap();
    assert!(text.starts_with("[ERROR] Evaluation failed.\n"), "{text}");
    assert_eq!(text.matches("Received request").count(), 1, "{text}");
    assert!(text.contains("\"result\": false"), "{text}");
    let mode = fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
}

#[test]
fn log_without_access_to_its_file_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let log = PolicyLog::open(&directory.path().join("missing/policy_engine.log")).unwrap();
    log.record_error("it failed");
    assert!(record_failed_start(&directory.path().join("missing/x.log"), "no").is_err());
}
