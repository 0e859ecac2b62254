//! The configuration reference in Markdown, from the table of [`options`](super::options).

use std::fmt::{self, Write as _};

use super::options::{
    API_CLIENTS_SECTION, DefaultValue, OptionKind, OptionSpec, SECTIONS, SectionSpec,
};

const INTRODUCTION: &str = "\
# Configuration reference

`countersign config reference` prints this page. `countersign config check` validates a
configuration and prints every mistake at once.

Files end in `.cfg` (INI, as the Inmanta server reads it) or `.toml`. Both have the same sections
and options; `_` and `-` are the same in option names. Of several files, later ones win. The
environment variable `INMANTA_<SECTION>_<OPTION>`, such as `INMANTA_LISTEN_THREADS`, overrides the
files. An unknown option is an error in a `.toml` file. In a `.cfg` file it is a warning, except in
sections about listeners, endpoints and routes, where it would let more requests through.

The server reloads its files when they change, and on SIGHUP. Options marked *restart* take effect
at the next start.
";

/// Returns the whole reference.
#[must_use]
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in SECTIONS {
        // Writing to a string cannot fail.
        let _infallible = write!(page, "\n{section}");
    }
    page
}

impl fmt::Display for SectionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## `[{}{}]`\n", self.name, self.variable)?;
        writeln!(f, "{}", wrapped(self.about, ""))?;
        if self.name == API_CLIENTS_SECTION {
            writeln!(f, "\n```ini\n[{API_CLIENTS_SECTION}]\n{CLIENT_EXAMPLE}\n```")?;
        }
        let (ignored, options): (Vec<&OptionSpec>, Vec<_>) =
            self.options().partition(|option| option.kind == OptionKind::Ignored);
        for option in options {
            write!(f, "\n{option}")?;
        }
        if !ignored.is_empty() {
            let quoted = |option: &&OptionSpec| format!("`{}`", option.name);
            let names: Vec<_> = ignored.iter().map(quoted).collect();
            let text = format!(
                "Options of the Inmanta server that are accepted and ignored: {}.",
                names.join(", ")
            );
            writeln!(f, "\n{}", wrapped(&text, ""))?;
        }
        Ok(())
    }
}

const CLIENT_EXAMPLE: &str =
    "deployer = sha256:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

impl fmt::Display for OptionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = match self.default {
            DefaultValue::Value("") => "none".into(),
            DefaultValue::Value(value) => format!("`{value}`"),
            DefaultValue::Described(text) => text.to_owned(),
            DefaultValue::Required => "required".into(),
        };
        let restart = if self.needs_restart { "; *restart*" } else { "" };
        let head = format!("- **`{}`**: {}; default: {default}{restart}.", self.name, self.kind);
        let head = head.replace("default: required", "required");
        writeln!(f, "{}", wrapped(&head, "  "))?;
        writeln!(f, "{}", wrapped(&format!("  {}", self.about), "  "))?;
        writeln!(f, "  Example: `{} = {}`", self.name, self.example)
    }
}

impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Number { min, max } => write!(f, "number, {min} to {max}"),
            Self::NumberOrOff { min, max } => write!(f, "number, {min} to {max}, or `off`"),
            Self::Decimal { min, max } => write!(f, "decimal number, {min} to {max}"),
            Self::Choice(choices) => {
                let quoted: Vec<_> = choices.iter().map(|choice| format!("`{choice}`")).collect();
                f.write_str(&quoted.join(", "))
            }
            Self::Text(kind) => f.write_str(kind),
            Self::List(kind) => write!(f, "list of: {kind}"),
            Self::Ignored => f.write_str("ignored"),
        }
    }
}

/// Breaks text into lines of at most 100 characters. Later lines start with `indent`. Code in
/// backticks is not broken.
fn wrapped(text: &str, indent: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines = String::new();
    let mut width = 0;
    for (index, unit) in units(text).iter().enumerate() {
        let length = unit.chars().count();
        if index > 0 && width + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(indent);
            width = indent.len();
        } else if index > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(unit);
        width += length;
    }
    lines
}

/// Splits text into words, and code in backticks into one unit each.
fn units(text: &str) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    let mut is_code = false;
    for word in text.split(' ') {
        match units.last_mut() {
            Some(unit) if is_code => *unit = format!("{unit} {word}"),
            _ => units.push(word.into()),
        }
        is_code ^= word.matches('`').count() % 2 == 1;
    }
    units
}
