//! Findings about a configuration: errors, warnings and notes, each with place and remedy.

use std::fmt;

use crate::base::printable::printable;

/// One finding about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its effect.
    pub severity: Severity,
    /// File and line, environment variable, or section name.
    pub place: String,
    /// Description. Inmanta's exact text, where it has one.
    pub text: String,
    /// Remedy.
    pub help: Option<String>,
}

/// Effect of a [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// A likely mistake. The server runs.
    Warning,
    /// A risk outside of the configuration's text, such as the permissions of a file. `config
    /// check` prints it as a warning in its report.
    Risk,
    /// A property that an operator should know. `config check` prints it in its report.
    Note,
}

impl Problem {
    /// Creates an error at `place`.
    pub fn error(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place: place.into(), text: text.into(), help: None }
    }

    /// Creates a warning about `place`.
    pub fn warning(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, text) }
    }

    /// Creates a warning about a risk at `place`.
    pub fn risk(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Risk, ..Self::error(place, text) }
    }

    /// Creates a note about `place`.
    pub fn note(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(place, text) }
    }

    /// Returns the problem with a remedy. An empty remedy is none.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()).filter(|help| !help.is_empty()), ..self }
    }
}

impl fmt::Display for Problem {
    /// Writes place, text and remedy, without the severity. Control characters are escaped, because
    /// a configuration may quote an attacker.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let help = self.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
        let text = format!("{}: {}{help}", self.place, self.text);
        let lines: Vec<_> = text.split('\n').map(printable).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning | Self::Risk => "warning",
            Self::Note => "note",
        })
    }
}

/// All findings about a configuration, in the order of discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a finding.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether any finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.of(Severity::Error).next().is_some()
    }

    /// Returns the findings of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(move |problem| problem.severity == severity)
    }
}

/// Maximum number of syntax errors that are reported for one file.
pub(super) const MAX_SYNTAX_ERRORS: usize = 50;

/// The error after the last one of [`MAX_SYNTAX_ERRORS`].
pub(super) fn too_many_errors(file: &str) -> Problem {
    let text = format!("more than {MAX_SYNTAX_ERRORS} syntax errors");
    Problem::error(file, text).help("check that this is a configuration file")
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    /// Writes errors, then warnings, then notes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severities = [Severity::Error, Severity::Warning, Severity::Risk, Severity::Note];
        let sorted = severities.into_iter().flat_map(|severity| self.of(severity));
        for (index, problem) in sorted.enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {problem}", problem.severity)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_escapes_terminal_control_characters() {
        let problem = Problem::error("f:1", "unknown \u{1b}[31m\u{202e}\u{7}x").help("a\nb");
        let expected = "f:1: unknown \\u{1b}[31m\\u{202e}\\u{7}x\n  help: a\nb";
        assert_eq!(problem.to_string(), expected);
    }
}
