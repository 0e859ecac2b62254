//! The options of a filter, and of a route.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::envoy::{LogLevel, log};

/// The options of a filter: `filter_config`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterOptions {
    /// The configuration file of the tier.
    pub(crate) config_file: PathBuf,
    /// The listener of that file by whose rules requests are checked.
    #[serde(default = "main_listener")]
    pub(crate) listener: String,
    /// Whether Envoy chooses the route again once headers have changed.
    #[serde(default)]
    pub(crate) clear_route_cache: bool,
    /// The names of claims that become dynamic metadata.
    #[serde(default)]
    pub(crate) metadata_claims: Vec<String>,
}

fn main_listener() -> String {
    "main".to_owned()
}

/// The name of the filter in this module: `filter_name`.
const FILTER_NAME: &[u8] = b"countersign";

impl FilterOptions {
    /// Reads the name and the options of a filter. Envoy passes a `Struct` as JSON. A text that is
    /// not JSON, of a `StringValue`, is the configuration file.
    ///
    /// # Errors
    /// A description of the first mistake, with its remedy.
    pub(crate) fn read(name: &[u8], config: &[u8]) -> Result<Self, String> {
        if name != FILTER_NAME {
            let name = String::from_utf8_lossy(name);
            return Err(format!(
                "filter_name is {name:?}: this module has one filter, countersign"
            ));
        }
        let text = str::from_utf8(config).map_err(|_| "filter_config is not UTF-8".to_owned())?;
        let text = text.trim();
        if text.is_empty() {
            return Err("filter_config is missing: write config_file, the file of the tier".into());
        }
        let options = if text.starts_with('{') {
            serde_json::from_str(text).map_err(|error| described(&error, text))?
        } else if is_path(text) {
            let (listener, config_file) = (main_listener(), text.into());
            Self { config_file, listener, clear_route_cache: false, metadata_claims: Vec::new() }
        } else {
            return Err(OTHER_TYPE.into());
        };
        if options.config_file.as_os_str().is_empty() {
            return Err("config_file in filter_config is empty: write the file of the tier".into());
        }
        check_claims(&options.metadata_claims)?;
        Ok(options)
    }
}

const OTHER_TYPE: &str = "filter_config is neither a Struct nor a StringValue with a path: write a \
                          Struct with config_file, the file of the tier";

/// Whether a text may be a path: messages of other types have control characters, or are another
/// value in JSON.
fn is_path(text: &str) -> bool {
    let is_json = || serde_json::from_str::<Value>(text).is_ok();
    !text.contains(char::is_control) && !text.starts_with(['[', '"']) && !is_json()
}

/// Refuses claims that are named twice, of which one would have no effect.
fn check_claims(claims: &[String]) -> Result<(), String> {
    for (index, claim) in claims.iter().enumerate() {
        let mistake = match &**claim {
            "" => "has an empty name".to_owned(),
            name if claims[..index].iter().any(|before| before == name) => {
                format!("has {name:?} twice")
            }
            _ => continue,
        };
        return Err(format!(
            "metadata_claims in filter_config {mistake}: list the name of each claim once"
        ));
    }
    Ok(())
}

/// Returns the description of an error in the options, with its remedy if a value has a wrong type.
fn described(error: &serde_json::Error, text: &str) -> String {
    let options = serde_json::from_str(text).ok();
    let wrong = options.as_ref().and_then(wrong_type);
    wrong.unwrap_or_else(|| {
        format!(
            "filter_config: {error}; its members are config_file, listener, metadata_claims and \
             clear_route_cache"
        )
    })
}

fn wrong_type(options: &Map<String, Value>) -> Option<String> {
    let member = |name: &str, is_right: fn(&Value) -> bool, remedy: &str| {
        let value = options.get(name).filter(|value| !is_right(value))?;
        Some(format!("{name} in filter_config is {}: {remedy}", type_name(value)))
    };
    member("config_file", Value::is_string, "write the path of the file of the tier")
        .or_else(|| {
            let remedy = "write main, or the name of a [listener_*] section";
            member("listener", Value::is_string, remedy)
        })
        .or_else(|| member("clear_route_cache", Value::is_boolean, "write true or false"))
        .or_else(|| {
            let is_list = |value: &Value| {
                value.as_array().is_some_and(|claims| claims.iter().all(Value::is_string))
            };
            let remedy = "write a list of names of claims, such as [\"sub\", \"groups\"]";
            member("metadata_claims", is_list, remedy)
        })
}

const fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list with other values than texts",
        Value::Object(_) => "a struct",
    }
}

/// The rules of a route: `filter_name` of `DynamicModuleFilterPerRoute`.
#[derive(Debug)]
pub(crate) enum RouteRules {
    /// Requests are not checked. Identity headers of the client are removed all the same.
    Off,
    /// Requests are checked by the rules of another listener.
    Listener(ListenerName),
}

/// The name of a listener, which its tier may not have: a route is read before its filter.
#[derive(Debug)]
pub(crate) struct ListenerName {
    text: String,
    is_reported: AtomicBool,
}

impl ListenerName {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Logs, once, that the tier has no such listener.
    pub(crate) fn report_unknown(&self) {
        // Relaxed: a flag that only saves lines of the log.
        if !self.is_reported.swap(true, Ordering::Relaxed) {
            let name = &self.text;
            let text = format!(
                "countersign: filter_name of a route is {name:?}, and the configuration file has \
                 no section [listener_{name}]: its requests are refused with 500"
            );
            log(LogLevel::Error, &text);
        }
    }
}

impl RouteRules {
    /// Reads the name and the options of a route.
    ///
    /// # Errors
    /// A description of the mistake, with its remedy.
    pub(crate) fn read(name: &[u8], config: &[u8]) -> Result<Self, String> {
        let name = str::from_utf8(name).map_err(|_| "filter_name is not UTF-8".to_owned())?;
        if !config.is_empty() {
            return Err("a route has no filter_config: its filter_name selects its rules".into());
        }
        match name {
            "" => Err("filter_name of a route is missing: write off, or a listener's name".into()),
            "off" => Ok(Self::Off),
            text => {
                let (text, is_reported) = (text.to_owned(), AtomicBool::new(false));
                Ok(Self::Listener(ListenerName { text, is_reported }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_json_or_a_file() {
        let file = FilterOptions::read(b"countersign", b"/etc/auth.cfg").unwrap();
        let written = br#"{"config_file":"/etc/auth.cfg","listener":"main"}"#;
        assert_eq!(FilterOptions::read(b"countersign", written), Ok(file));
        let all = br#"{"config_file":"a","listener":"b","clear_route_cache":true,
                       "metadata_claims":["c"]}"#;
        let all = FilterOptions::read(b"countersign", all).unwrap();
        assert!(all.clear_route_cache && all.metadata_claims == ["c"] && all.listener == "b");
    }

    #[test]
    fn mistakes_in_options_have_their_remedy() {
        let filter = |name: &str, text: &str| FilterOptions::read(name.as_bytes(), text.as_bytes());
        for (name, text, expected) in [
            ("other", "a", "one filter, countersign"),
            ("countersign", " ", "write config_file"),
            ("countersign", "{}", "missing field `config_file`"),
            ("countersign", r#"{"config_file":""}"#, "is empty"),
            ("countersign", r#"{"config_file":"a","file":"b"}"#, "unknown field `file`"),
            ("countersign", r#"{"config_file":"a","config_file":"b"}"#, "duplicate field"),
            (
                "countersign",
                r#"{"config_file":"a","clear_route_cache":1}"#,
                "clear_route_cache in filter_config is a number: write true or false",
            ),
            ("countersign", r#"{"config_file":1}"#, "config_file in filter_config is a number"),
            ("countersign", r#"{"config_file":"a","listener":null}"#, "is null: write main"),
            (
                "countersign",
                r#"{"config_file":"a","metadata_claims":"sub"}"#,
                "metadata_claims in filter_config is a text: write a list",
            ),
            (
                "countersign",
                r#"{"config_file":"a","metadata_claims":["a",1]}"#,
                "a list with other",
            ),
            (
                "countersign",
                r#"{"config_file":"a","metadata_claims":["sub","groups","sub"]}"#,
                "metadata_claims in filter_config has \"sub\" twice: list the name of each claim once",
            ),
            ("countersign", r#"{"config_file":"a","metadata_claims":[""]}"#, "has an empty name"),
            // Messages of other types: a list, a number, and `google.protobuf.Value`.
            ("countersign", r#"["/etc/auth.cfg"]"#, "neither a Struct nor a StringValue"),
            ("countersign", "1", "neither a Struct nor a StringValue"),
            ("countersign", "\u{1a}\u{d}/etc/auth.cfg", "neither a Struct nor a StringValue"),
        ] {
            let error = filter(name, text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(matches!(RouteRules::read(b"off", b""), Ok(RouteRules::Off)));
        let other = RouteRules::read(b"x", b"");
        assert!(matches!(other, Ok(RouteRules::Listener(name)) if name.text() == "x"));
        assert!(RouteRules::read(b"", b"").unwrap_err().contains("write off"));
        assert!(RouteRules::read(b"off", b"x").unwrap_err().contains("no filter_config"));
    }
}
