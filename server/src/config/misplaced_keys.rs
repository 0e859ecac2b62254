//! Keys in options for something else: the text of a key instead of a path, an address or a name.

use std::collections::BTreeMap;

use super::{
    options::{self, OptionKind, OptionSpec},
    problem::{Problem, Problems},
    setting::Section,
};
use crate::base::redacted::{is_key_text, is_plausible_path};

/// Removes values that are a key in an option that does not take one, with an error each. Messages
/// and the report of `config check` show the values of these options.
pub(super) fn refuse(sections: &mut BTreeMap<String, Section>, problems: &mut Problems) {
    for (name, section) in sections {
        let Some(spec) = options::section(name) else { continue };
        section.settings.retain(|option, setting| {
            let misplaced = spec.option(option).and_then(|spec| error_text(spec, &setting.text));
            if let Some((reason, help)) = misplaced {
                let text = format!("{option} in section {name} {reason}");
                problems.push(Problem::error(&setting.place, text).help(help));
            }
            misplaced.is_none()
        });
    }
}

/// Returns the error and the remedy of a value that is a key in the wrong option. Values of options
/// for secrets are not shown in any message, and those of ignored options neither.
fn error_text(option: &OptionSpec, text: &str) -> Option<(&'static str, &'static str)> {
    if option.is_secret || option.kind == OptionKind::Ignored {
        return None;
    }
    let is_path = match option.kind {
        OptionKind::Text("path") => is_plausible_path(text.trim()),
        OptionKind::List("path") => text.split(',').map(str::trim).all(is_plausible_path),
        _ => true,
    };
    if is_key_text(text) {
        Some(("holds a key, which it does not take", "name a file, or write the key as key"))
    } else if !is_path {
        Some((
            "names neither a file nor a directory that exists; its value may be a key and is not \
             shown",
            "write the path of a file",
        ))
    } else {
        None
    }
}
