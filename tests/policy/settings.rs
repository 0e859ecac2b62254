//! Settings of the policy engine, with the messages of the Inmanta server.

use std::{fs, path::Path};

use countersign_server::{
    authorization::policy::{DEFAULT_POLICY, log::PolicyLogLevel, settings::PolicySettings},
    config::{Problems, RawConfig, raw::ConfigFormat},
};
use serde_json::json;

/// Reads the settings of a configuration that uses the policy engine.
fn read(text: &str) -> (PolicySettings, Problems) {
    let mut raw = RawConfig::default();
    raw.add("server.cfg", text, ConfigFormat::Ini);
    let mut problems = Problems::default();
    let settings = PolicySettings::read(&raw.sections, &json!({}), true, &mut problems);
    (settings, problems)
}

#[test]
fn policy_file_is_compiled() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.rego");
    fs::write(&file, DEFAULT_POLICY).unwrap();
    let (settings, problems) = read(&format!(
        "[config]\nlog-dir=/var/log/other\n[policy_engine]\npolicy-file={}\nlog-level=info\n",
        file.display()
    ));
    assert_eq!(problems, Problems::default());
    assert_eq!(settings.policy.unwrap().roles().len(), 5);
    assert_eq!(settings.log_level, PolicyLogLevel::Info);
    assert_eq!(settings.log_file, Path::new("/var/log/other/policy_engine.log"));
}

#[test]
fn unused_policy_is_not_read() {
    let mut problems = Problems::default();
    let settings =
        PolicySettings::read(&RawConfig::default().sections, &json!({}), false, &mut problems);
    assert!(settings.policy.is_none() && problems.0.is_empty(), "{problems}");
    assert_eq!(settings.log_file, Path::new("/var/log/inmanta/policy_engine.log"));
    assert_eq!(settings.log_level, PolicyLogLevel::Error);
}

#[test]
fn mistakes_have_the_texts_of_the_inmanta_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.rego");
    fs::write(&file, DEFAULT_POLICY).unwrap();
    let valid = format!("[policy_engine]\npolicy_file={}\n", file.display());
    for (text, error, help) in [
        (
            "[policy_engine]\npolicy-file=/missing/p.rego\n".into(),
            "Access policy file /missing/p.rego not found.",
            "print-default",
        ),
        (
            "[server]\n".into(),
            "Access policy file /etc/inmanta/authorization/policy.rego not found.",
            "print-default",
        ),
        (
            format!("{valid}executable=\n"),
            "Config option policy_engine.executable was not set.",
            "remove the line",
        ),
        (
            format!("{valid}executable=/missing/opa\n"),
            "Config option policy_engine.executable doesn't point to a file: /missing/opa.",
            "remove the line",
        ),
        (
            format!("{valid}log-level=warn\n"),
            "Invalid value warn. Valid values: ['debug', 'info', 'error']",
            "",
        ),
    ] {
        let (_, problems) = read(&text);
        let [problem] = &problems.0[..] else { panic!("{text}: {problems}") };
        assert_eq!(problem.text, error);
        assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{problem}");
    }
}

#[test]
fn invalid_policy_names_place_and_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.rego");
    fs::write(&file, "package policy\nallow if {\n  input.x ==\n}\n").unwrap();
    let log = "/var/log/other/policy.log";
    let (settings, problems) =
        read(&format!("[policy_engine]\npolicy_file={}\nlog_file={log}\n", file.display()));
    assert!(settings.policy.is_none());
    let text = problems.to_string();
    let place = format!("{}:4:1: ", file.display());
    assert!(text.contains(&place) && text.contains(log), "{text}");
}
