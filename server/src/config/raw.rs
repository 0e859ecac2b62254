//! Unvalidated configuration: sections of text values, each with its origin.
//!
//! Files are merged in order and later files win. Environment variables override files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    ini,
    options::{self, API_CLIENTS_SECTION, ISSUER, ISSUER_PREFIX, SECTIONS},
    problem::{Problem, Problems},
    setting::{Section, Setting},
    toml,
};

/// Merged sections of all files and the environment, before validation.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// The sections by name.
    pub sections: BTreeMap<String, Section>,
    /// Likely mistakes that do not prevent a start.
    pub warnings: Vec<Problem>,
}

/// Syntax of a configuration file, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigFormat {
    /// `.cfg`, Inmanta's format. Unknown options are warnings.
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
    /// Then `environment` overrides them.
    ///
    /// # Errors
    /// [`Problems`] for files that cannot be read or parsed, and for unknown options in TOML.
    pub fn load(
        paths: &[PathBuf],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        let mut raw = Self::default();
        let mut problems = Vec::new();
        for path in expand(paths)? {
            match read(&path) {
                Ok(text) => raw.add(
                    &path.display().to_string(),
                    &text,
                    ConfigFormat::of(&path),
                    &mut problems,
                ),
                Err(problem) => problems.push(problem),
            }
        }
        raw.add_environment(environment);
        if problems.is_empty() { Ok(raw) } else { Err(Problems(problems)) }
    }

    /// Merges the text of one file, called `name` in messages. Its options override
    /// earlier ones.
    pub fn add(
        &mut self,
        name: &str,
        text: &str,
        format: ConfigFormat,
        problems: &mut Vec<Problem>,
    ) {
        let parsed = match format {
            ConfigFormat::Ini => ini::parse(name, text),
            ConfigFormat::Toml => toml::parse(name, text),
        };
        let sections = match parsed {
            Ok(sections) => sections,
            Err(found) => return problems.extend(found.0),
        };
        let unknown = match format {
            ConfigFormat::Ini => &mut self.warnings,
            ConfigFormat::Toml => problems,
        };
        unknown.extend(unknown_names(&sections));
        for (section, settings) in sections {
            let known = self.sections.entry(section).or_default();
            known.place = settings.place;
            known.settings.extend(settings.settings);
        }
    }

    /// Merges environment variables: `INMANTA_<SECTION>_<OPTION>` for every known option, and
    /// `INMANTA_AUTH_JWT_<ID>_<OPTION>`, which may also add a section.
    fn add_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix("INMANTA_") else { continue };
            if let Some(of_issuer) = name.strip_prefix("AUTH_JWT_") {
                self.add_issuer_variable(&variable, of_issuer, text);
            } else if let Some((section, option)) = option_of_variable(name) {
                self.set(section, option, text, variable);
            }
        }
    }

    fn add_issuer_variable(&mut self, variable: &str, name: &str, text: String) {
        let longest_first = {
            let mut settings = ISSUER.to_vec();
            settings.sort_by_key(|setting| std::cmp::Reverse(setting.len()));
            settings
        };
        let found = longest_first.into_iter().find_map(|setting| {
            let id = name.strip_suffix(&setting.to_uppercase())?.strip_suffix('_')?;
            Some((id.to_lowercase(), setting))
        });
        match found {
            Some((id, setting)) => {
                self.set(&format!("{ISSUER_PREFIX}{id}"), setting, text, variable.into())
            }
            None => self.warnings.push(Problem::new(
                variable,
                "this environment variable does not match any option of an auth_jwt section",
            )),
        }
    }

    fn set(&mut self, section: &str, option: &str, text: String, place: String) {
        self.sections
            .entry(section.into())
            .or_default()
            .settings
            .insert(option.into(), Setting { text, place });
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
            .map_err(|error| Problem::new(path.display().to_string(), error.to_string()))?;
        let mut inside: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        inside.retain(|file| {
            file.extension().is_some_and(|extension| extension == "cfg" || extension == "toml")
        });
        inside.retain(|file| {
            file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
        });
        inside.sort();
        if inside.is_empty() {
            return Err(Problem::new(
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
        Problem::new(&place, format!("cannot read the file: {error}"))
            .help("check the path after --config and its permissions")
    })?;
    // Some editors start files with a byte order mark.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    String::from_utf8(text.to_vec()).map_err(|_| Problem::new(place, "the file is not UTF-8"))
}

fn option_of_variable(name: &str) -> Option<(&'static str, &'static str)> {
    SECTIONS.iter().find_map(|(section, options)| {
        let prefix = format!("{}_", section.to_uppercase().replace(['-', '.'], "_"));
        let rest = name.strip_prefix(&prefix)?;
        let option = options.iter().find(|option| option.to_uppercase() == rest)?;
        Some((*section, *option))
    })
}

fn unknown_names(sections: &BTreeMap<String, Section>) -> Vec<Problem> {
    let mut unknown = Vec::new();
    for (section, settings) in sections {
        let Some(known) = options::of_section(section) else {
            if section != API_CLIENTS_SECTION
                && !options::FOREIGN_SECTIONS.contains(&section.as_str())
            {
                unknown.push(unknown_section(&settings.place, section));
            }
            continue;
        };
        for (option, setting) in
            settings.settings.iter().filter(|(option, _)| !known.contains(&option.as_str()))
        {
            let problem = Problem::new(
                &setting.place,
                format!("unknown option {option} in section {section}"),
            );
            unknown.push(match options::nearest(option, known.iter().copied()) {
                Some(meant) => problem.help(format!("did you mean {meant}?")),
                None => {
                    problem.help(format!("the options of this section are: {}", known.join(", ")))
                }
            });
        }
    }
    unknown
}

fn unknown_section(place: &str, section: &str) -> Problem {
    let problem = Problem::new(place, format!("unknown section [{section}]"));
    let lower = section.to_lowercase().replace('-', "_");
    if lower.starts_with(ISSUER_PREFIX) {
        return problem
            .help(format!("did you mean [{lower}]? the prefix auth_jwt_ is case-sensitive"));
    }
    match options::nearest(section, SECTIONS.iter().map(|(name, _)| *name)) {
        Some(meant) => problem.help(format!("did you mean [{meant}]?")),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: ConfigFormat) -> (RawConfig, Vec<Problem>) {
        let (mut raw, mut problems) = (RawConfig::default(), Vec::new());
        raw.add("test", text, format, &mut problems);
        (raw, problems)
    }

    fn value<'r>(raw: &'r RawConfig, section: &str, option: &str) -> Option<&'r str> {
        Some(raw.sections.get(section)?.settings.get(option)?.text.as_str())
    }

    #[test]
    fn raw_names_are_normalized_and_later_files_win() {
        let (mut raw, mut problems) = read(
            "[server]\nbind-address=a\nBind_Port = 1\n[auth_jwt_Foo]\nkey=x\n",
            ConfigFormat::Ini,
        );
        raw.add("later", "[server]\nbind_port: 2\n", ConfigFormat::Ini, &mut problems);
        assert_eq!(problems, []);
        assert_eq!(value(&raw, "server", "bind_address"), Some("a"));
        assert_eq!(value(&raw, "server", "bind_port"), Some("2"));
        assert_eq!(value(&raw, "auth_jwt_foo", "key"), Some("x"));
    }

    #[test]
    fn unknown_options_warn_in_cfg_and_fail_in_toml() {
        let (raw, problems) =
            read("[server]\nauht=true\n[config]\nx=1\n[Auth_jwt_x]\n", ConfigFormat::Ini);
        assert_eq!(problems, []);
        let shown: Vec<_> = raw.warnings.iter().map(Problem::to_string).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(
            shown[0].contains("unknown section [Auth_jwt_x]") && shown[0].contains("[auth_jwt_x]"),
            "{shown:?}"
        );
        assert!(
            shown[1].contains("test:2: unknown option auht in section server")
                && shown[1].contains("did you mean auth?")
        );
        let (raw, problems) = read("[server]\nauht = true\n[sever]\n", ConfigFormat::Toml);
        assert_eq!((raw.warnings.len(), problems.len()), (0, 2));
        assert!(problems[1].to_string().contains("did you mean [server]?"));
    }

    #[test]
    fn environment_overrides_files_and_adds_sections() {
        let (mut raw, _) =
            read("[server]\nbind_port=1\n[auth_jwt_a]\nkey=file\n", ConfigFormat::Ini);
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
        assert_eq!(raw.warnings.len(), 1);
        assert_eq!(raw.warnings[0].place, "INMANTA_AUTH_JWT_MY_CONFIG_COLOUR");
    }
}
