//! Tests of the table of options.

use std::collections::BTreeSet;

use super::*;
use crate::config::{Config, ConfigFormat, RawConfig, reference};

fn issuer_options() -> impl Iterator<Item = &'static str> {
    issuer::ISSUER.options().map(|option| option.name)
}

#[test]
fn nearest_option_is_suggested_for_a_typo() {
    assert_eq!(nearest("audiance", issuer_options()), Some("audience"));
    assert_eq!(nearest("client_type", issuer_options()), Some("client_types"));
    assert_eq!(nearest("colour", issuer_options()), None);
}

#[test]
fn options_are_listed_once() {
    for section in SECTIONS {
        let names: Vec<_> = section.options().map(|option| option.name).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "[{}]", section.name);
    }
}

#[test]
fn options_are_described_with_an_example() {
    for section in SECTIONS {
        assert!(section.about.ends_with('.'), "[{}]", section.name);
        for option in section.options().filter(|option| option.kind != OptionKind::Ignored) {
            let name = option.name;
            assert!(option.about.ends_with('.') && !option.example.is_empty(), "{name}");
            if let (OptionKind::Choice(choices), DefaultValue::Value(default)) =
                (option.kind, option.default)
            {
                assert!(choices.contains(&default) && choices.contains(&option.example), "{name}");
            }
        }
    }
}

/// Defaults and examples, each written into a configuration as the only option of its section.
#[test]
fn defaults_and_examples_of_numbers_and_choices_are_valid() {
    for section in SECTIONS {
        for option in section.options() {
            let is_checked = matches!(
                option.kind,
                OptionKind::Flag
                    | OptionKind::Number { .. }
                    | OptionKind::NumberOrOff { .. }
                    | OptionKind::Decimal { .. }
                    | OptionKind::Choice(_)
            );
            let default = match option.default {
                DefaultValue::Value(default) => Some(default),
                DefaultValue::Described(_) | DefaultValue::Required => None,
            };
            for value in [Some(option.example), default].into_iter().flatten() {
                if is_checked {
                    let name = option.name;
                    let mut raw = RawConfig::default();
                    let text = format!("[{}x]\n{name}={value}\n", section.name);
                    let text =
                        if section.variable.is_empty() { text.replace("x]", "]") } else { text };
                    raw.add("c.cfg", &text, ConfigFormat::Ini);
                    let problems = Config::from_raw(raw)
                        .map_or_else(|problems| problems, |config| config.remarks);
                    let about_value = problems.to_string();
                    for refusal in ["must be a number", "Not a boolean", "is unknown", "Invalid"] {
                        assert!(!about_value.contains(refusal), "{text}: {about_value}");
                    }
                }
            }
        }
    }
}

#[test]
fn reference_lines_fit_into_100_columns() {
    let reference = reference::reference();
    let long: Vec<_> = reference.lines().filter(|line| line.chars().count() > 100).collect();
    assert_eq!(long, [""; 0]);
}
