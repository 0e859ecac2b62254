//! The configuration as loaded: each option with its value, or its default, and its place.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ConsoleContext, ConsoleRequest,
    administrator_page::AdministratorPage,
    error_page::ConsoleError,
    layout::{as_command, table_filter},
    loaded_config::LoadedConfig,
    request,
    session::ConsoleUser,
};
use crate::{
    base::{printable::printable, reply::Body},
    config::{
        options::{self, DefaultValue, OptionKind, OptionSpec, SECTIONS, SectionSpec},
        problem::{Problem, Severity},
        setting::Section,
    },
};

const PATH: &str = "/console/configuration";
const PAGE: AdministratorPage =
    AdministratorPage { title: "Configuration", path: PATH, right: "read the configuration" };

/// Returns the page.
///
/// # Errors
/// The user may not read it.
pub(super) fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    PAGE.check(context, user)?;
    let shows_defaults = request::query(request).get("defaults") == "1";
    let LoadedConfig { sections, remarks, .. } = &*context.settings.loaded;
    let content = html! {
        div.title {
            h1 { "Configuration" }
            @if shows_defaults { a href=(PATH) { "Without the defaults" } }
            @else { a href={ (PATH) "?defaults=1" } { "With the defaults" } }
        }
        p.empty { "As this server loaded it. Secrets are not shown." }
        (remark_list(remarks))
        (table_filter())
        @for name in names(sections, shows_defaults) {
            (section(name, sections.get(name), shows_defaults))
        }
        (as_command("countersign config check --config FILE\ncountersign config reference"))
    };
    Ok(PAGE.respond(user, StatusCode::OK, &content))
}

/// Returns the id of a section in the page.
fn anchor(section: &str) -> String {
    format!("section-{section}")
}

/// Returns a text in which the name of a section, `[name]` at its start, leads to the page.
pub(super) fn linked(text: &str) -> Markup {
    let named = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    html! {
        @match named {
            None => (text),
            Some((section, rest)) => {
                a href={ (PATH) "#" (anchor(section)) } { "[" (section) "]" } (rest)
            },
        }
    }
}

/// Returns the names of the sections, in the order of the files; those that are not written, last.
fn names(sections: &BTreeMap<String, Section>, shows_defaults: bool) -> Vec<&str> {
    let mut written: Vec<_> = sections.iter().collect();
    written.sort_by_key(|(_, section)| section.order);
    let unwritten = SECTIONS.iter().filter(|spec| {
        shows_defaults && spec.variable.is_empty() && !sections.contains_key(spec.name)
    });
    let written = written.into_iter().map(|(name, _)| name.as_str());
    written.chain(unwritten.map(|spec| spec.name)).collect()
}

fn remark_list(remarks: &[Problem]) -> Markup {
    html! {
        section {
            h2 { "Notes" }
            @if remarks.is_empty() {
                p.state data-state="good" { "✓ The configuration is valid, without notes." }
            }
            @for Problem { severity, place, text, help } in remarks {
                p {
                    @match severity {
                        Severity::Note => span.state { "Note: " },
                        _ => span.state data-state="warning" { "! " },
                    }
                    code { (printable(place)) } ": " (printable(text))
                    @if let Some(help) = help { br; span.empty { (printable(help)) } }
                }
            }
        }
    }
}

fn section(name: &str, written: Option<&Section>, shows_defaults: bool) -> Markup {
    let spec = options::section(name);
    let place = written.map(|section| section.place.as_str()).filter(|place| !place.is_empty());
    let settings = written.map(|section| &section.settings);
    let set = settings.into_iter().flatten();
    let is_set =
        |option: &&OptionSpec| settings.is_some_and(|settings| settings.contains_key(option.name));
    let unset = spec.into_iter().flat_map(SectionSpec::options);
    let unset = unset.filter(|option| shows_defaults && option.kind != OptionKind::Ignored);
    let unset: Vec<_> = unset.filter(|option| !is_set(option)).collect();
    html! {
        section id=(anchor(name)) {
            h2 { code { "[" (printable(name)) "]" } @if let Some(place) = place {
                " " span.exact { (printable(place)) }
            } }
            @if let Some(spec) = spec.filter(|spec| spec.variable.is_empty()) {
                p.empty { (with_code(spec.about)) }
            }
            table.settings data-filtered="" {
                thead { tr { th { "Option" } th { "Value" } th { "From" } } }
                tbody {
                    @for (option, setting) in set {
                        tr {
                            td data-label="Option" title=[about(spec, option)] {
                                strong { (printable(option)) }
                            }
                            td data-label="Value" { code { (value(&setting.text)) } }
                            td data-label="From" { (printable(&setting.place)) }
                        }
                    }
                    @for option in unset {
                        tr.unset {
                            td data-label="Option" title=(option.about) { (option.name) }
                            td data-label="Value" { (with_code(default_of(option))) }
                            td data-label="From" { "default" }
                        }
                    }
                }
            }
        }
    }
}

fn about(spec: Option<&SectionSpec>, option: &str) -> Option<&'static str> {
    spec.and_then(|spec| spec.option(option)).map(|option| option.about)
}

/// Returns a text in which code is between backticks.
fn with_code(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// Returns a value with its lines separated by semicolons.
fn value(text: &str) -> String {
    printable(&text.split('\n').collect::<Vec<_>>().join("; "))
}

fn default_of(option: &OptionSpec) -> &'static str {
    match option.default {
        DefaultValue::Value("") => "none",
        DefaultValue::Value(text) | DefaultValue::Described(text) => text,
        DefaultValue::Required => "required",
    }
}
