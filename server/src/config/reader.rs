//! Typed access to the options of one section.
//!
//! A [`Problem`] is recorded for each invalid value and the default is used instead, so
//! that one run reports all problems.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr};

use http::HeaderName;

use super::{
    problem::Problem,
    setting::{Section, Setting},
};

/// Reader of one [`Section`].
pub(crate) struct SectionReader<'r> {
    pub(crate) section: &'r str,
    settings: Option<&'r Section>,
    problems: &'r mut Vec<Problem>,
}

impl<'r> SectionReader<'r> {
    pub(crate) fn new(
        sections: &'r BTreeMap<String, Section>,
        section: &'r str,
        problems: &'r mut Vec<Problem>,
    ) -> Self {
        Self { section, settings: sections.get(section), problems }
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

    pub(crate) fn problem(&mut self, option: &str, text: impl Into<String>, help: &str) {
        let problem = Problem::new(self.place(option), text);
        self.problems.push(if help.is_empty() { problem } else { problem.help(help) });
    }

    pub(crate) fn text(&self, option: &str) -> Option<&'r str> {
        self.setting(option).map(|setting| setting.text.as_str())
    }

    /// Reads a boolean in any of Inmanta's spellings.
    pub(crate) fn flag(&mut self, option: &str) -> Option<bool> {
        let text = self.text(option)?;
        match text.to_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Some(true),
            "false" | "off" | "no" | "0" => Some(false),
            _ => {
                self.problem(option, format!("Not a boolean: {text}"), "write true or false");
                None
            }
        }
    }

    pub(crate) fn number<N>(&mut self, option: &str, range: RangeInclusive<N>) -> Option<N>
    where
        N: FromStr + PartialOrd + Display,
    {
        let text = self.text(option)?;
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            let message = format!(
                "{option} in {} must be a number from {low} to {high}, not {text:?}",
                self.section
            );
            self.problem(option, message, "");
        }
        number
    }

    /// Reads one of `choices` by its name.
    pub(crate) fn choice<C: Copy>(
        &mut self,
        option: &str,
        choices: &[C],
        name: impl Fn(C) -> &'static str,
    ) -> Option<C> {
        let text = self.text(option)?;
        let chosen = choices.iter().copied().find(|choice| name(*choice) == text);
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().map(|choice| name(*choice)).collect();
            self.problem(
                option,
                format!("{option} {text:?} is unknown"),
                &format!("choose one of {}", names.join(", ")),
            );
        }
        chosen
    }

    /// Reads a header name. An empty value counts as not set.
    pub(crate) fn header_name(&mut self, option: &str) -> Option<HeaderName> {
        let text = self.text(option).filter(|text| !text.is_empty())?;
        let name = HeaderName::from_bytes(text.as_bytes()).ok();
        if name.is_none() {
            self.problem(
                option,
                format!("{option} in {}: {text:?} is not a valid header name", self.section),
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

    fn setting(&self, option: &str) -> Option<&'r Setting> {
        self.settings?.settings.get(option)
    }
}
