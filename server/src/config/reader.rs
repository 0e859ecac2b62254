//! Typed access to the options of one section, whose types and defaults are in the table of
//! [`options`].
//!
//! An error is recorded for each invalid value and the default is used instead, so that one run
//! reports all problems.

use std::{collections::BTreeMap, path::Path, str::FromStr, time::Duration};

use http::HeaderName;

use super::{
    options::{self, DefaultValue, OptionKind, OptionSpec, SectionSpec},
    problem::{Problem, Problems},
    setting::{Section, Setting},
};
use crate::base::{
    permissions::mode_for_all,
    redacted::{quoted, shown},
};

/// Reader of one [`Section`].
///
/// Its methods panic for an option that is not in the table, or has another type there.
pub(crate) struct SectionReader<'r> {
    pub(crate) section: &'r str,
    spec: &'static SectionSpec,
    settings: Option<&'r Section>,
    problems: &'r mut Problems,
}

/// Headers that cannot have a certificate.
const OTHER_HEADERS: [&str; 19] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "origin",
    "transfer-encoding",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-original-method",
    "x-original-uri",
    "x-real-ip",
    "x-request-id",
];

impl<'r> SectionReader<'r> {
    pub(crate) fn new(
        sections: &'r BTreeMap<String, Section>,
        section: &'r str,
        problems: &'r mut Problems,
    ) -> Self {
        let Some(spec) = options::section(section) else {
            panic!("[{section}] is not in the table of options")
        };
        Self { section, spec, settings: sections.get(section), problems }
    }

    /// Place of an option, or of the section if the option is not set.
    pub(crate) fn place(&self, option: &str) -> String {
        match self.setting(option) {
            Some(setting) => setting.place.clone(),
            None => self
                .settings
                .map(|section| section.place.clone())
                .filter(|place| !place.is_empty())
                .unwrap_or_else(|| format!("[{}]", self.section)),
        }
    }

    /// Records an error about an option.
    pub(crate) fn error(&mut self, option: &str, text: impl Into<String>, help: &str) {
        self.problems.push(Problem::error(self.place(option), text).help(help));
    }

    /// Records a warning about an option.
    pub(crate) fn warn(&mut self, option: &str, text: impl Into<String>, help: &str) {
        self.problems.push(Problem::warning(self.place(option), text).help(help));
    }

    /// Records a warning about a risk that an option takes.
    pub(crate) fn risk(&mut self, option: &str, text: impl Into<String>, help: &str) {
        self.problems.push(Problem::risk(self.place(option), text).help(help));
    }

    /// Records a note about an option.
    pub(crate) fn note(&mut self, option: &str, text: impl Into<String>, help: &str) {
        self.problems.push(Problem::note(self.place(option), text).help(help));
    }

    /// Warns about a file with a secret that every user of the machine can read.
    pub(crate) fn warn_if_readable_by_all(&mut self, option: &str, file: &Path) {
        if let Some(mode) = mode_for_all(file) {
            let file = file.display();
            let text = format!("mode {mode:o} lets other users read the secret in {file}");
            self.risk(option, text, &format!("chmod o-r {file}"));
        }
    }

    /// Whether the configuration has the section.
    pub(crate) fn is_present(&self) -> bool {
        self.settings.is_some()
    }

    /// Returns the text of an option that is set.
    pub(crate) fn text(&self, option: &str) -> Option<&'r str> {
        let _known = self.spec_of(option);
        self.setting(option).map(|setting| setting.text.as_str())
    }

    /// Returns the text of an option that is set and not empty, without white space around it.
    pub(crate) fn given(&self, option: &str) -> Option<&'r str> {
        self.text(option).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Returns the text of an option, or its default.
    pub(crate) fn text_or_default(&self, option: &str) -> &'r str {
        self.text(option).unwrap_or_else(|| self.default(option))
    }

    /// Reads a boolean in any of Inmanta's spellings.
    pub(crate) fn flag(&mut self, option: &str) -> bool {
        self.optional_flag(option).unwrap_or_else(|| self.default(option) == "true")
    }

    /// Reads a boolean without a default.
    pub(crate) fn optional_flag(&mut self, option: &str) -> Option<bool> {
        let text = self.text(option)?;
        let flag = parse_flag(text);
        if flag.is_none() {
            let help = format!("write {option} = true or {option} = false");
            self.error(option, format!("Not a boolean: {}", shown(text)), &help);
        }
        flag
    }

    /// Reads a number within the range of the table.
    pub(crate) fn number<N: FromStr + TryFrom<u64>>(&mut self, option: &str) -> N {
        self.optional_number(option).unwrap_or_else(|| self.default_number(option))
    }

    /// Reads a number without a default.
    pub(crate) fn optional_number<N: TryFrom<u64>>(&mut self, option: &str) -> Option<N> {
        let text = self.text(option)?;
        let (OptionKind::Number { min, max } | OptionKind::NumberOrOff { min, max }) =
            self.spec_of(option).kind
        else {
            panic!("{option} is not a number")
        };
        let number = text.trim().parse().ok().filter(|number| (min..=max).contains(number));
        let number = number.and_then(|number: u64| N::try_from(number).ok());
        if number.is_none() {
            self.report_range(option, min, max, text);
        }
        number
    }

    /// Reads a number or `off`, which is `None`.
    pub(crate) fn number_or_off<N: FromStr + TryFrom<u64>>(&mut self, option: &str) -> Option<N> {
        match self.text_or_default(option) {
            "off" => None,
            // After a mistake, which is reported, the default applies.
            _ if self.default(option) == "off" => self.optional_number(option),
            _ => Some(self.number(option)),
        }
    }

    /// Reads a number of seconds, which may have decimals if the table says so.
    pub(crate) fn seconds(&mut self, option: &str) -> Duration {
        let OptionKind::Decimal { min, max } = self.spec_of(option).kind else {
            return Duration::from_secs(self.number(option));
        };
        let text = self.text_or_default(option);
        let number = text.trim().parse().ok().filter(|number: &f64| (min..=max).contains(number));
        if number.is_none() {
            self.report_range(option, min, max, text);
        }
        Duration::from_secs_f64(number.unwrap_or_else(|| self.default_number(option)))
    }

    fn report_range(&mut self, option: &str, min: impl ToString, max: impl ToString, text: &str) {
        let (min, max) = (min.to_string(), max.to_string());
        let or_off = match self.spec_of(option).kind {
            OptionKind::NumberOrOff { .. } => " or off",
            _ => "",
        };
        let message = format!(
            "{option} in {} must be a number from {min} to {max}{or_off}, not {}",
            self.section,
            quoted(text)
        );
        self.error(option, message, self.spec_of(option).about);
    }

    /// Reads one of `choices` by its name. The table has the same names.
    pub(crate) fn choice<C: Copy>(
        &mut self,
        option: &str,
        choices: &[C],
        name: impl Fn(C) -> &'static str,
    ) -> C {
        let names = self.choices(option);
        let named = |text: &str| choices.iter().copied().find(|choice| name(*choice) == text);
        if let Some(choice) = named(self.text_or_default(option)) {
            return choice;
        }
        let text = self.text_or_default(option);
        self.error(
            option,
            format!("{option} {} is unknown", quoted(text)),
            &format!("choose one of {}", names.join(", ")),
        );
        let default = named(self.default(option));
        default.unwrap_or_else(|| panic!("the default of {option} is not a choice"))
    }

    /// Returns the choices of an option.
    pub(crate) fn choices(&self, option: &str) -> &'static [&'static str] {
        match self.spec_of(option).kind {
            OptionKind::Choice(choices) => choices,
            _ => panic!("{option} is not a choice"),
        }
    }

    /// Reads a header name. An empty value counts as not set.
    pub(crate) fn header_name(&mut self, option: &str) -> Option<HeaderName> {
        let text = Some(self.text_or_default(option)).filter(|text| !text.is_empty())?;
        self.parse_header_name(option, text)
    }

    /// Reads the name of a header with certificates. It cannot be one with another meaning: a
    /// certificate in it would be read as that, or a client's own line as a certificate.
    pub(crate) fn certificate_header(&mut self, option: &str) -> Option<HeaderName> {
        let name = self.header_name(option)?;
        if !OTHER_HEADERS.contains(&name.as_str()) {
            return Some(name);
        }
        let text = format!("{option} in {} is {name}, which has another meaning", self.section);
        self.error(option, text, "name the header in which the proxies pass on certificates");
        None
    }

    /// Reads a comma-separated list of header names.
    pub(crate) fn header_names(&mut self, option: &str) -> Vec<HeaderName> {
        let texts = self.list(option).unwrap_or_default();
        texts.into_iter().filter_map(|text| self.parse_header_name(option, text)).collect()
    }

    /// Parses a header name in the text of an option.
    pub(crate) fn parse_header_name(&mut self, option: &str, text: &str) -> Option<HeaderName> {
        let name = HeaderName::from_bytes(text.as_bytes()).ok();
        if name.is_none() {
            self.error(
                option,
                format!(
                    "{option} in {}: {} is not a valid header name",
                    self.section,
                    quoted(text)
                ),
                "write one such as Cf-Access-Jwt-Assertion",
            );
        }
        name
    }

    /// Reads a comma-separated list. An empty value is an empty list.
    pub(crate) fn list(&self, option: &str) -> Option<Vec<&'r str>> {
        let text = self.text(option)?;
        Some(if text.trim().is_empty() {
            Vec::new()
        } else {
            text.split(',').map(str::trim).collect()
        })
    }

    /// Reads a comma-separated list of texts that are not empty.
    pub(crate) fn given_list(&self, option: &str) -> Vec<&'r str> {
        let mut texts = self.list(option).unwrap_or_default();
        texts.retain(|text| !text.is_empty());
        texts
    }

    /// Returns the options whose names have this prefix: the rest of each name, and its text.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Vec<(&'r str, &'r str)> {
        let settings = self.settings.iter().flat_map(|section| &section.settings);
        let texts = settings.map(|(option, setting)| (option.as_str(), setting.text.as_str()));
        texts.filter_map(|(option, text)| Some((option.strip_prefix(prefix)?, text))).collect()
    }

    fn setting(&self, option: &str) -> Option<&'r Setting> {
        self.settings?.settings.get(option)
    }

    fn spec_of(&self, option: &str) -> &'static OptionSpec {
        let Some(spec) = self.spec.option(option) else {
            panic!("{option} in [{}] is not in the table of options", self.section)
        };
        spec
    }

    /// Returns the default of an option.
    pub(crate) fn default(&self, option: &str) -> &'static str {
        match self.spec_of(option).default {
            DefaultValue::Value(default) => default,
            DefaultValue::Described(_) | DefaultValue::Required => "",
        }
    }

    fn default_number<N: FromStr>(&self, option: &str) -> N {
        let number = self.default(option).parse().ok();
        number.unwrap_or_else(|| panic!("{option} has no default in the table of options"))
    }
}

/// Parses a boolean in any of Inmanta's spellings.
pub(crate) fn parse_flag(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}
