//! The options of a filter, and of a route.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Deserialize;

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
            serde_json::from_str(text).map_err(|error| format!("filter_config: {error}"))?
        } else {
            let (listener, config_file) = (main_listener(), text.into());
            Self { config_file, listener, clear_route_cache: false, metadata_claims: Vec::new() }
        };
        if options.config_file.as_os_str().is_empty() {
            return Err("config_file in filter_config is empty: write the file of the tier".into());
        }
        Ok(options)
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
            ("countersign", r#"{"config_file":"a","clear_route_cache":1}"#, "expected a boolean"),
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
