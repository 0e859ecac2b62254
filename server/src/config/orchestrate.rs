//! The environment variables of Orchestrate, by their own names.
//!
//! Without a configuration file, they are a whole configuration: an authentication tier with the
//! `orchestrate` surface, which serves `/auth` only.

use std::collections::BTreeMap;

use http::Uri;

use super::{
    options::{ISSUER_PREFIX, MULTI_TENANCY_SECTION, ORCHESTRATE_SURFACE},
    problem::{Problem, Severity},
    raw::RawConfig,
};
use crate::{
    base::{route::Serves, uri::is_protected},
    keys::published::discovery_uri_of,
    tenancy::settings::has_surface,
};

/// Variables that make a configuration if no file is named.
const VARIABLES: [&str; 7] = [
    "MULTI_TENANCY_ENABLED",
    "AUTH_API_KEY",
    ISSUER,
    "AUTH_JWT_AUDIENCE",
    CERTIFICATE,
    NAMESPACE,
    LATER_NAMESPACE,
];
const ISSUER: &str = "AUTH_JWT_ISSUER_URL";
const CERTIFICATE: &str = "AUTH_JWT_CERTIFICATE";
const NAMESPACE: &str = "AUTH_JWT_CLAIMS_NAMESPACE";
const LATER_NAMESPACE: &str = "AUTH_JWT_ORCHESTRATE_CLAIMS";

/// Whether a variable is one of Orchestrate and makes a configuration without a file.
pub(crate) fn is_orchestrate_variable(name: &str, text: &str) -> bool {
    VARIABLES.contains(&name) && !text.is_empty()
}

/// Merges the variables of Orchestrate: without a file if any of them is set, and otherwise if the
/// files mention multi-tenancy.
pub(super) fn add(
    raw: &mut RawConfig,
    has_files: bool,
    environment: impl Iterator<Item = (String, String)>,
) {
    // An empty variable counts as unset.
    let given: BTreeMap<_, _> = environment.filter(|(_, text)| !text.is_empty()).collect();
    if has_files {
        if !mentions_tenancy(raw) {
            note_ignored(raw, &given);
            return;
        }
    } else if given.iter().any(|(name, text)| is_orchestrate_variable(name, text)) {
        raw.set("listen", "surface", ORCHESTRATE_SURFACE, "the environment");
        raw.set("listen", "serves", Serves::Auth.name(), "the environment");
    } else {
        return;
    }
    let mut variables = OrchestrateVariables { given: &given, raw };
    variables.add_tenancy();
    variables.add_issuer();
    variables.copy("METRICS_HOSTNAME", "metrics", "bind_address");
    variables.copy("METRICS_PORT", "metrics", "bind_port");
}

/// Notes that the variables are ignored beside files that do not mention multi-tenancy.
fn note_ignored(raw: &mut RawConfig, given: &BTreeMap<String, String>) {
    let ignored: Vec<_> = VARIABLES.into_iter().filter(|name| given.contains_key(*name)).collect();
    if let Some(first) = ignored.first() {
        let text = format!("ignored beside this configuration file: {}", ignored.join(", "));
        let help = "write surface = orchestrate in [listen], or unset them";
        raw.problems.push(Problem::note(*first, text).help(help));
    }
}

/// Whether files have the section of multi-tenancy, or a listener with its surface.
fn mentions_tenancy(raw: &RawConfig) -> bool {
    raw.sections.contains_key(MULTI_TENANCY_SECTION) || has_surface(&raw.sections)
}

/// The variables that are set, and the configuration that they are merged into.
struct OrchestrateVariables<'r> {
    given: &'r BTreeMap<String, String>,
    raw: &'r mut RawConfig,
}

impl OrchestrateVariables<'_> {
    fn get(&self, variable: &str) -> Option<String> {
        self.given.get(variable).cloned()
    }

    fn copy(&mut self, variable: &str, section: &str, option: &str) {
        if let Some(text) = self.get(variable) {
            self.raw.set(section, option, text, variable);
        }
    }

    /// Sets an option to a boolean in the spellings of Go's `strconv.ParseBool`.
    fn copy_flag(&mut self, variable: &str, section: &str, option: &str) {
        let Some(text) = self.get(variable) else { return };
        match parse_go_flag(&text) {
            Some(flag) => self.raw.set(section, option, flag.to_string(), variable),
            None => {
                let problem = Problem::error(variable, format!("{variable} is not a boolean"));
                self.raw.problems.push(problem.help("write true or false"));
            }
        }
    }

    fn add_tenancy(&mut self) {
        self.copy_flag("MULTI_TENANCY_ENABLED", MULTI_TENANCY_SECTION, "enabled");
        self.copy("AUTH_API_KEY", MULTI_TENANCY_SECTION, "api_key");
        self.copy(NAMESPACE, MULTI_TENANCY_SECTION, "claims_namespace");
        self.copy(LATER_NAMESPACE, MULTI_TENANCY_SECTION, "claims_namespace");
        let (earlier, later) = (self.get(NAMESPACE), self.get(LATER_NAMESPACE));
        if earlier.is_some() && later.is_some() && earlier != later {
            let text = format!("{LATER_NAMESPACE} and {NAMESPACE} have different values");
            let problem = Problem::error(LATER_NAMESPACE, text);
            self.raw.problems.push(problem.help("remove one of them"));
        }
    }

    /// Adds the section of the issuer, with the rules that Orchestrate has.
    fn add_issuer(&mut self) {
        let (issuer, certificate) = (self.get(ISSUER), self.get(CERTIFICATE));
        let Some(issuer) = issuer else {
            if certificate.is_some() {
                let text = format!("{CERTIFICATE} is set, but not {ISSUER}");
                let help = "set it to the claim iss of the tokens: the key of one issuer is not \
                            trusted for others";
                self.raw.problems.push(Problem::error(CERTIFICATE, text).help(help));
            }
            return;
        };
        if let Some(problem) = issuer_problem(&issuer, certificate.is_some()) {
            let refuses = problem.severity == Severity::Error;
            self.raw.problems.push(problem);
            if refuses {
                return;
            }
        }
        let section = format!("{ISSUER_PREFIX}orchestrate");
        let mut set = |option: &str, text: &str, variable: &str| {
            self.raw.set(&section, option, text, variable);
        };
        set("issuer", &issuer, ISSUER);
        set("leeway", "0", ISSUER);
        set("require_exp", "true", ISSUER);
        if let Some(certificate) = certificate {
            set("algorithms", "RS256, RS384, RS512, ES256, ES384, ES512", CERTIFICATE);
            set("key", &certificate, CERTIFICATE);
        } else {
            set("algorithms", "RS256", ISSUER);
            set("kid", "required", ISSUER);
            set("discovery_uri", &discovery_uri_of(&issuer), ISSUER);
        }
        const AUDIENCE: &str = "AUTH_JWT_AUDIENCE";
        let audiences = self.get(AUDIENCE).unwrap_or_default();
        let is_separator = |character: char| character == ',' || character.is_whitespace();
        let audiences: Vec<_> =
            audiences.split(is_separator).filter(|one| !one.is_empty()).collect();
        if audiences.is_empty() {
            self.raw.set(&section, "audience_match", "none", ISSUER);
        } else {
            self.raw.set(&section, "audience_match", "all", AUDIENCE);
            self.raw.set(&section, "audience", audiences.join(","), AUDIENCE);
        }
        self.copy_flag("AUTH_JWT_REQUIRE_EXP", &section, "require_exp");
    }
}

/// Returns the mistake in an issuer, or the risk that it takes. Keys are fetched from it unless
/// there is a certificate.
fn issuer_problem(issuer: &str, has_certificate: bool) -> Option<Problem> {
    const HELP: &str = "write the claim iss of the tokens, such as https://idp.example/";
    let error = |text: &str| Some(Problem::error(ISSUER, format!("{ISSUER} {text}")).help(HELP));
    if issuer.contains(|one: char| one == ',' || one.is_whitespace()) {
        return error("names more than one issuer, or has white space");
    }
    if has_certificate {
        return None;
    }
    let uri = issuer.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("https" | "http") if issuer.contains("/.well-known/") => {
            error("is the address of a document of the issuer")
        }
        Some("https") => None,
        Some("http") if is_protected(issuer) => None,
        Some("http") => {
            let text = "is plain http: anyone on the network path can replace the keys";
            let problem = Problem::warning(ISSUER, format!("{ISSUER} {text}"));
            Some(problem.help("use an issuer with https"))
        }
        _ => error("is not an https:// or http:// URL"),
    }
}

fn parse_go_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::profile::Profile,
        config::{Config, ConfigFormat},
    };

    const ISSUER_VARIABLES: &[(&str, &str)] = &[("AUTH_JWT_ISSUER_URL", "https://idp.example/")];

    fn raw(file: Option<&str>, variables: &[(&str, &str)]) -> RawConfig {
        let mut raw = RawConfig::default();
        if let Some(text) = file {
            raw.add("c.cfg", text, ConfigFormat::Ini);
        }
        let variables = variables.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        add(&mut raw, file.is_some(), variables);
        raw
    }

    fn option(raw: &RawConfig, section: &str, option: &str) -> Option<String> {
        Some(raw.sections.get(section)?.settings.get(option)?.text.clone())
    }

    fn problems(variables: &[(&str, &str)]) -> String {
        match Config::from_raw(raw(None, variables)) {
            Ok(config) => config.remarks.to_string(),
            Err(problems) => problems.to_string(),
        }
    }

    #[test]
    fn variables_alone_are_a_configuration() {
        let config = Config::from_raw(raw(None, ISSUER_VARIABLES)).unwrap();
        let rules = &config.issuers[0].issuer.rules;
        assert_eq!((rules.leeway, rules.require_expiry, rules.audience.all), (0, true, true));
        assert!(config.settings.auth.tenancy.as_ref().is_some_and(|tenancy| tenancy.verifies));
        let main = &config.settings.listeners[0];
        assert_eq!((main.profile, main.serves), (Profile::Orchestrate, Serves::Auth));
        assert!(config.signing().is_none());
    }

    #[test]
    fn variables_need_a_file_that_mentions_tenancy() {
        let key = [("AUTH_API_KEY", "x"), ("METRICS_PORT", "9000")];
        assert!(raw(Some("[server]\n"), &key).sections.keys().eq(["server"]));
        assert!(raw(None, &[("METRICS_PORT", "9000"), ("AUTH_API_KEY", "")]).sections.is_empty());
        for file in ["[multi_tenancy]\n", "[listener_a]\nsurface=orchestrate\n"] {
            let raw = raw(Some(file), &key);
            assert_eq!(option(&raw, "multi_tenancy", "api_key").as_deref(), Some("x"));
            assert_eq!(option(&raw, "metrics", "bind_port").as_deref(), Some("9000"));
            assert_eq!(option(&raw, "listen", "surface"), None);
        }
    }

    #[test]
    fn audiences_are_split_on_commas_and_white_space() {
        for (text, expected) in [
            ("a", Some("a")),
            ("a,b", Some("a,b")),
            ("a b\tc", Some("a,b,c")),
            (" a, b ,", Some("a,b")),
            ("", None),
            (" ", None),
        ] {
            let raw = raw(None, &[ISSUER_VARIABLES, &[("AUTH_JWT_AUDIENCE", text)]].concat());
            assert_eq!(option(&raw, "auth_jwt_orchestrate", "audience").as_deref(), expected);
            let matches = option(&raw, "auth_jwt_orchestrate", "audience_match");
            assert_eq!(matches.as_deref(), Some(if expected.is_some() { "all" } else { "none" }));
        }
    }

    #[test]
    fn booleans_are_those_of_go() {
        for (text, is_on) in [("1", true), ("t", true), ("TRUE", true), ("0", false), ("F", false)]
        {
            let variables = [ISSUER_VARIABLES, &[("MULTI_TENANCY_ENABLED", text)]].concat();
            let config = Config::from_raw(raw(None, &variables)).unwrap();
            assert_eq!(config.settings.auth.tenancy.unwrap().verifies, is_on, "{text}");
        }
        for text in ["yes", "on", "tRUE", "2", " true"] {
            let variables = [ISSUER_VARIABLES, &[("MULTI_TENANCY_ENABLED", text)]].concat();
            assert!(
                problems(&variables).contains("MULTI_TENANCY_ENABLED is not a boolean"),
                "{text}"
            );
        }
    }

    #[test]
    fn claim_variables_have_to_agree() {
        let namespace = |variables: &[(&str, &str)]| {
            option(&raw(None, variables), "multi_tenancy", "claims_namespace")
        };
        assert_eq!(namespace(&[(NAMESPACE, "a")]).as_deref(), Some("a"));
        assert_eq!(namespace(&[(LATER_NAMESPACE, "a")]).as_deref(), Some("a"));
        assert_eq!(namespace(&[(NAMESPACE, "a"), (LATER_NAMESPACE, "")]).as_deref(), Some("a"));
        let both =
            |later| [ISSUER_VARIABLES, &[(NAMESPACE, "a"), (LATER_NAMESPACE, later)]].concat();
        assert!(problems(&both("b")).contains("have different values"));
        assert!(!problems(&both("a")).contains("have different values"));
    }

    #[test]
    fn issuer_variable_is_one_url() {
        for (issuer, expected) in [
            ("tenant.example", "is not an https:// or http:// URL"),
            ("ftp://tenant.example/", "is not an https:// or http:// URL"),
            ("https://a.example/,https://b.example/", "names more than one issuer"),
            ("https://a.example/ ", "has white space"),
            ("https://a.example/.well-known/openid-configuration", "address of a document"),
            ("http://a.example/", "anyone on the network path"),
        ] {
            let problems = problems(&[(ISSUER, issuer)]);
            assert!(problems.contains(&format!("{ISSUER} ")), "{issuer}: {problems}");
            assert!(problems.contains(expected), "{issuer}: {problems}");
        }
        for issuer in ["https://a.example", "https://a.example/t/", "http://127.0.0.1:9/"] {
            assert!(!problems(&[(ISSUER, issuer)]).contains(&format!("{ISSUER} is")), "{issuer}");
        }
        assert!(issuer_problem("Orchestrate", true).is_none());
        assert!(issuer_problem("a, b", true).is_some());
    }

    #[test]
    fn ignored_variables_are_noted() {
        let key = [("AUTH_API_KEY", "x"), ("METRICS_PORT", "9000")];
        let noted = raw(Some("[metrics]\n"), &key).problems.to_string();
        assert!(noted.contains("AUTH_API_KEY") && !noted.contains("METRICS_PORT"), "{noted}");
        assert_eq!(raw(Some("[multi_tenancy]\n"), &key).problems.to_string(), "");
    }

    #[test]
    fn variables_that_verify_nothing_are_refused() {
        let on = ("MULTI_TENANCY_ENABLED", "true");
        assert!(problems(&[on]).contains("nothing can verify a request"));
        assert!(problems(&[on, ("AUTH_API_KEY", "false")]).contains("is a common word"));
        assert!(problems(&[on, ("AUTH_API_KEY", "x")]).contains("only API keys are accepted"));
        assert!(
            problems(&[on, ("AUTH_JWT_CERTIFICATE", "x")]).contains("but not AUTH_JWT_ISSUER_URL")
        );
        assert!(problems(&[("MULTI_TENANCY_ENABLED", "false")]).contains("multi-tenancy is off"));
    }
}
