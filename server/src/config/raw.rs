//! Unvalidated configuration: sections of text values, each with its origin.
//!
//! Files are merged in order and later files win. Environment variables override files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    slice,
};

use super::{
    ini,
    options::{self, API_CLIENTS_SECTION, ISSUER_PREFIX, OptionKind, SECTIONS, SectionSpec},
    problem::{Problem, Problems, Severity},
    setting::{Section, Setting, is_claim_option},
    toml,
};
use crate::base::{permissions::mode_for_all, redacted::may_be_secret};

/// Merged sections of all files and the environment, before validation.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// The sections by name.
    pub sections: BTreeMap<String, Section>,
    /// Findings about the files.
    pub problems: Problems,
}

/// Syntax of a configuration file, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigFormat {
    /// `.cfg`, Inmanta's format. Unknown options are warnings, except in rules by route.
    Ini,
    /// `.toml`. Unknown options are errors.
    Toml,
}

impl ConfigFormat {
    fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|extension| extension == "toml") {
            Self::Toml
        } else {
            Self::Ini
        }
    }
}

impl RawConfig {
    /// Reads files, and the `.cfg` and `.toml` files of directories in order of name.
    pub(super) fn load_files(paths: &[PathBuf]) -> Self {
        let mut raw = Self::default();
        for path in paths {
            match expand(slice::from_ref(path)) {
                Ok(files) => files.iter().for_each(|file| raw.load_file(file)),
                Err(problem) => raw.problems.push(problem),
            }
        }
        raw
    }

    fn load_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => {
                let sections = self.parse(&name, &text, ConfigFormat::of(path));
                if let Some(secret) = first_secret(&sections)
                    && let Some(mode) = mode_for_all(path)
                {
                    let text = format!("mode {mode:o} lets other users read {secret}");
                    let problem = Problem::risk(&name, text);
                    self.problems.push(problem.help(format!("chmod o-r {name}")));
                }
                self.merge(sections);
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    /// Merges the text of one file, called `name` in messages. Its options override
    /// earlier ones.
    pub fn add(&mut self, name: &str, text: &str, format: ConfigFormat) {
        let sections = self.parse(name, text, format);
        self.merge(sections);
    }

    fn parse(&mut self, name: &str, text: &str, format: ConfigFormat) -> BTreeMap<String, Section> {
        let sections = match format {
            ConfigFormat::Ini => ini::parse(name, text, &mut self.problems),
            ConfigFormat::Toml => toml::parse(name, text, &mut self.problems),
        };
        let severity = match format {
            ConfigFormat::Ini => Severity::Warning,
            ConfigFormat::Toml => Severity::Error,
        };
        self.problems.0.extend(unknown_names(&sections, severity));
        sections
    }

    fn merge(&mut self, sections: BTreeMap<String, Section>) {
        let mut in_order: Vec<_> = sections.into_iter().collect();
        in_order.sort_by_key(|(_, section)| section.order);
        for (section, settings) in in_order {
            let known = self.section(section);
            known.place = settings.place;
            known.settings.extend(settings.settings);
        }
    }

    /// Merges environment variables: `INMANTA_<SECTION>_<OPTION>` for every known option, and
    /// `INMANTA_AUTH_JWT_<ID>_<OPTION>`, which may also add a section.
    pub(crate) fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) {
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix("INMANTA_") else { continue };
            if let Some(of_issuer) = name.strip_prefix("AUTH_JWT_") {
                self.add_issuer_variable(&variable, of_issuer, text);
            } else if let Some((section, option)) = option_of_variable(name) {
                self.set(section, option, text, &variable);
            }
        }
    }

    fn add_issuer_variable(&mut self, variable: &str, name: &str, text: String) {
        let options = SECTIONS.iter().filter(|section| section.name == ISSUER_PREFIX);
        let matching = options.flat_map(SectionSpec::options).filter_map(|option| {
            let id = name.strip_suffix(&option.name.to_uppercase())?.strip_suffix('_')?;
            Some((id.to_lowercase(), option.name))
        });
        // The longest name: `ENFORCE_CLIENT_TYPES` also ends in `CLIENT_TYPES`.
        match matching.max_by_key(|(_, option)| option.len()) {
            Some((id, option)) => self.set(&format!("{ISSUER_PREFIX}{id}"), option, text, variable),
            None => self.problems.push(Problem::warning(
                variable,
                "this environment variable does not match any option of an auth_jwt section",
            )),
        }
    }

    /// Sets an option. It overrides all earlier ones. `place` is its origin, for messages.
    pub fn set(&mut self, section: &str, option: &str, text: impl Into<String>, place: &str) {
        let setting = Setting { text: text.into(), place: place.into() };
        self.section(section.into()).settings.insert(option.into(), setting);
    }

    /// Returns a section. A new one is after all others.
    fn section(&mut self, name: String) -> &mut Section {
        let order = self.sections.len();
        self.sections.entry(name).or_insert_with(|| Section { order, ..Section::default() })
    }
}

/// Replaces each directory with the `.cfg` and `.toml` files in it.
///
/// Hidden files are skipped: editors and copying programs keep incomplete files there.
///
/// # Errors
/// [`Problem`] for a directory that cannot be read or has no such file.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Problem> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = path
            .read_dir()
            .map_err(|error| Problem::error(path.display().to_string(), error.to_string()))?;
        let mut inside: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        inside.retain(|file| {
            file.extension().is_some_and(|extension| extension == "cfg" || extension == "toml")
        });
        inside.retain(|file| {
            file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
        });
        inside.sort();
        if inside.is_empty() {
            return Err(Problem::error(
                path.display().to_string(),
                "the directory contains no .cfg or .toml file",
            ));
        }
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, Problem> {
    let place = path.display().to_string();
    #[expect(clippy::disallowed_methods, reason = "configuration is where files are read")]
    let bytes = std::fs::read(path).map_err(|error| {
        Problem::error(&place, format!("cannot read the file: {error}"))
            .help("check the path and its permissions")
    })?;
    // Some editors start files with a byte order mark.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    String::from_utf8(text.to_vec()).map_err(|_| Problem::error(place, "the file is not UTF-8"))
}

/// Returns a description of the first secret in the sections of a file.
fn first_secret(sections: &BTreeMap<String, Section>) -> Option<String> {
    sections.iter().find_map(|(name, section)| {
        let spec = options::section(name)?;
        let is_secret = |option: &str, text: &str| {
            let is_secret = spec.option(option).is_some_and(|option| option.is_secret);
            is_secret && !text.trim().is_empty() && !is_public(text)
        };
        let mut settings = section.settings.iter();
        let (option, _) = settings.find(|(option, setting)| is_secret(option, &setting.text))?;
        Some(format!("{option} in section {name}"))
    })
}

/// Whether the value of an option for secrets is none: a public key, or a URL without a password.
fn is_public(text: &str) -> bool {
    let authority = text.split_once("://").map(|(_, rest)| rest.split('/').next());
    let without_password = authority.flatten().is_some_and(|authority| {
        authority.rsplit_once('@').is_none_or(|(user, _)| !user.contains(':'))
    });
    text.contains("-----BEGIN PUBLIC KEY")
        || text.contains("-----BEGIN CERTIFICATE")
        || without_password
        || text.starts_with("sqlite:")
        || (text.trim_start().starts_with('{') && !text.contains("\"oct\""))
}

fn option_of_variable(name: &str) -> Option<(&'static str, &'static str)> {
    SECTIONS.iter().filter(|section| section.variable.is_empty()).find_map(|section| {
        let prefix = format!("{}_", section.name.to_uppercase().replace(['-', '.'], "_"));
        let rest = name.strip_prefix(&prefix)?;
        let option = section.options().find(|option| option.name.to_uppercase() == rest)?;
        Some((section.name, option.name))
    })
}

fn unknown_names(sections: &BTreeMap<String, Section>, severity: Severity) -> Vec<Problem> {
    let mut unknown = Vec::new();
    for (name, section) in sections {
        let Some(spec) = options::section(name) else {
            // A rule that is not read does not protect its route.
            let severity = if seems_route(name) { Severity::Error } else { severity };
            if !options::FOREIGN_SECTIONS.contains(&name.as_str()) {
                unknown.push(Problem { severity, ..unknown_section(&section.place, name) });
            }
            continue;
        };
        let is_strict = options::STRICT_SECTIONS.contains(&spec.name);
        let severity = if is_strict { Severity::Error } else { severity };
        if name == API_CLIENTS_SECTION {
            continue;
        }
        let is_unknown =
            |option: &str| spec.option(option).is_none() && !is_claim_option(name, option);
        let names = section.settings.iter().filter(|(option, _)| is_unknown(option));
        for (option, setting) in names {
            let (is_known_elsewhere, help) = suggestion(spec, option);
            let text = if is_known_elsewhere || looks_like_a_name(option) {
                format!("unknown option {option} in section {name}")
            } else {
                format!("unknown option in section {name}: a line that is not an option")
            };
            let problem = Problem::warning(&setting.place, text).help(help);
            unknown.push(Problem { severity, ..problem });
        }
    }
    unknown
}

/// Whether the name of an unknown section seems to be meant for a rule by route.
fn seems_route(section: &str) -> bool {
    section.trim().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("route"))
}

/// Whether a name consists of words. A line of a key in PEM that ends in `=` looks like an option
/// too, and must not be shown.
pub(crate) fn looks_like_a_name(option: &str) -> bool {
    const MAX_NAME_CHARS: usize = 48;
    const MAX_WORD_CHARS: usize = 12;
    let is_word = |word: &str| {
        let letters = word.trim_end_matches(|last: char| last.is_ascii_digit());
        word.len() <= MAX_WORD_CHARS && letters.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    option.len() <= MAX_NAME_CHARS && option.split(['_', '.']).all(is_word)
}

/// Returns the remedy for an unknown option: a similar option, a section that has it, or the
/// options of its section. Also returns whether it is one of the first two.
fn suggestion(spec: &SectionSpec, option: &str) -> (bool, String) {
    let known = spec.options().filter(|option| option.kind != OptionKind::Ignored);
    let known: Vec<_> = known.map(|option| option.name).collect();
    if let Some(meant) = options::nearest(option, known.iter().copied()) {
        return (true, format!("did you mean {meant}?"));
    }
    let elsewhere: Vec<_> = options::sections_with(option)
        .map(|section| format!("[{}{}]", section.name, section.variable))
        .collect();
    if elsewhere.is_empty() {
        (false, format!("the options of this section are: {}", known.join(", ")))
    } else {
        (true, format!("{option} belongs into {}", elsewhere.join(" or ")))
    }
}

fn unknown_section(place: &str, section: &str) -> Problem {
    let names = || SECTIONS.iter().map(|section| section.name);
    if may_be_secret(section) && options::nearest(section, names()).is_none() {
        return Problem::warning(place, "unknown section, whose name is not shown");
    }
    let problem = Problem::warning(place, format!("unknown section [{section}]"));
    let lower = section.to_lowercase().replace('-', "_");
    if lower.starts_with(ISSUER_PREFIX) {
        return problem
            .help(format!("did you mean [{lower}]? the prefix auth_jwt_ is case-sensitive"));
    }
    if seems_route(section) {
        return problem
            .help("a rule by route is a section [route_<name>], and their defaults [routes]");
    }
    match options::nearest(section, names()) {
        Some(meant) => problem.help(format!("did you mean [{meant}]?")),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: ConfigFormat) -> RawConfig {
        let mut raw = RawConfig::default();
        raw.add("test", text, format);
        raw
    }

    fn value<'r>(raw: &'r RawConfig, section: &str, option: &str) -> Option<&'r str> {
        Some(raw.sections.get(section)?.settings.get(option)?.text.as_str())
    }

    #[test]
    fn raw_names_are_normalized_and_later_files_win() {
        let mut raw = read(
            "[server]\nbind-address=a\nBind_Port = 1\n[auth_jwt_Foo]\nkey=x\n",
            ConfigFormat::Ini,
        );
        raw.add("later", "[server]\nbind_port: 2\n", ConfigFormat::Ini);
        assert_eq!(raw.problems.0, []);
        assert_eq!(value(&raw, "server", "bind_address"), Some("a"));
        assert_eq!(value(&raw, "server", "bind_port"), Some("2"));
        assert_eq!(value(&raw, "auth_jwt_foo", "key"), Some("x"));
    }

    #[test]
    fn unknown_options_warn_in_cfg_and_fail_in_toml() {
        let raw = read("[server]\nauht=true\n[config]\nx=1\n[Auth_jwt_x]\n", ConfigFormat::Ini);
        assert!(!raw.problems.has_errors());
        let shown: Vec<_> = raw.problems.0.iter().map(Problem::to_string).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(
            shown[0].contains("unknown section [Auth_jwt_x]") && shown[0].contains("[auth_jwt_x]"),
            "{shown:?}"
        );
        assert!(
            shown[1].contains("test:2: unknown option auht in section server")
                && shown[1].contains("did you mean auth?")
        );
        let problems = read("[server]\nauht = true\n[sever]\n", ConfigFormat::Toml).problems;
        assert_eq!((problems.0.len(), problems.of(Severity::Error).count()), (2, 2));
        assert!(problems.to_string().contains("did you mean [server]?"));
    }

    #[test]
    fn e7_unknown_names_in_rules_by_route_fail_in_cfg() {
        for text in [
            "[route_a]\nmatch=GET /a\nrole=admin\n",
            "[route_a]\nmatch=GET /a\nclaim.groups=admin\n",
            "[routes]\ndefaults=allow\n",
            "[route-a]\nmatch=GET /a\n",
            "[Route_A]\nmatch=GET /a\n",
            "[routes_x]\nmatch=GET /a\n",
            "[route]\nmatch=GET /a\n",
            "[route.a]\nmatch=GET /a\n",
        ] {
            let problems = read(text, ConfigFormat::Ini).problems;
            assert_eq!(problems.of(Severity::Error).count(), 1, "{text}: {problems}");
        }
        let good = "[routes]\ndefault=allow\n[route_a]\nmatch=GET /a\nroles=admin\n";
        assert_eq!(read(good, ConfigFormat::Ini).problems.0, []);
    }

    #[test]
    fn environment_overrides_files_and_adds_sections() {
        let mut raw = read("[server]\nbind_port=1\n[auth_jwt_a]\nkey=file\n", ConfigFormat::Ini);
        let variables = [
            ("INMANTA_SERVER_BIND_PORT", "2"),
            ("INMANTA_WEB_UI_OIDC_REALM", "r"),
            ("INMANTA_AUTH_JWT_A_KEY", "env"),
            ("INMANTA_AUTH_JWT_MY_CONFIG_JWT_USERNAME_CLAIM", "email"),
            ("INMANTA_AUTH_JWT_MY_CONFIG_COLOUR", "red"),
            ("PATH", "/bin"),
        ];
        raw.add_environment(variables.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(value(&raw, "server", "bind_port"), Some("2"));
        assert_eq!(value(&raw, "web-ui", "oidc_realm"), Some("r"));
        assert_eq!(value(&raw, "auth_jwt_a", "key"), Some("env"));
        assert_eq!(value(&raw, "auth_jwt_my_config", "jwt_username_claim"), Some("email"));
        assert_eq!(raw.problems.0.len(), 1);
        assert_eq!(raw.problems.0[0].place, "INMANTA_AUTH_JWT_MY_CONFIG_COLOUR");
    }
}
