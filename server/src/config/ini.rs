//! Inmanta's `.cfg` files: Python's `configparser` without interpolation.

use std::collections::BTreeMap;

use configparser::ini::Ini;

use super::{
    clients,
    problem::{Problem, Problems},
    setting::{Section, Setting, normal_option, normal_section},
};

/// In place of an option's name: the header of the section.
const HEADER: &str = "[]";
/// A section name that no file can spell: what stands before the first header.
const BEFORE_ANY_SECTION: &str = "\0";

/// Parses one file.
///
/// # Errors
/// LineIndex that are neither header, option, continuation nor comment, and options
/// given twice: which of the two is meant would be a guess.
pub(super) fn parse(name: &str, text: &str) -> Result<BTreeMap<String, Section>, Problems> {
    let mut ini = Ini::new_cs();
    ini.set_default_section(BEFORE_ANY_SECTION);
    ini.set_multiline(true);
    // As in Python: `#` and `;` start a comment at the start of a line only.
    ini.set_inline_comment_symbols(Some(&[]));
    let parsed = ini.read(text.into()).map_err(|error| Problem::new(name, error))?;
    let lines = LineIndex::index(text);
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut problems: Vec<_> = lines.repeated(name).collect();
    // Ordered, so that the same file always gives the same messages.
    for (section, options) in parsed.into_iter().collect::<BTreeMap<_, _>>() {
        if section == BEFORE_ANY_SECTION {
            let problem = Problem::new(lines.first(name), "this line stands before any [section]");
            problems.push(problem.help("put it below a header such as [server]"));
            continue;
        }
        let section = normal_section(&section);
        let place = lines.place(name, &section, HEADER);
        let settings = &mut sections
            .entry(section.clone())
            .or_insert_with(|| Section { place, ..Section::default() })
            .settings;
        for (option, value) in options.into_iter().collect::<BTreeMap<_, _>>() {
            let option = normal_option(&section, &option);
            let place = lines.place(name, &section, &option);
            match check_value(&section, &option, value) {
                Ok(text) => drop(settings.insert(option, Setting { text, place })),
                Err((text, help)) => problems.push(Problem::new(place, text).help(help)),
            }
        }
    }
    if problems.is_empty() { Ok(sections) } else { Err(Problems(problems)) }
}

/// A value that can be meant. What cannot is never shown: it may be a key whose
/// `=` was forgotten, or one that was indented and so continues the line above.
/// Constraints, and keys in PEM or JSON, are meant to have several lines.
fn check_value(
    section: &str,
    option: &str,
    value: Option<String>,
) -> Result<String, (String, &'static str)> {
    let text = value.ok_or_else(|| {
        (format!("a line in section {section} has no value"), "write it as option = value")
    })?;
    let known =
        super::options::of_section(section).is_some_and(|options| options.contains(&option));
    let takes_several = option == "claims" || (option == "key" && starts_a_key(&text));
    if known && !takes_several && text.contains('\n') {
        let text = format!("{option} in section {section} goes on over several lines");
        return Err((
            text,
            "an indented line continues the one above: remove the white space in front of it",
        ));
    }
    Ok(text)
}

/// Keys in PEM or JSON. A secret in base64 could start with one dash, not with five.
fn starts_a_key(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("-----BEGIN") || text.starts_with('{')
}

/// Where the options of a file stand. The parser does not tell, and an error
/// message without a line costs its reader more than this costs us.
struct LineIndex(BTreeMap<(String, String), Vec<usize>>);

impl LineIndex {
    fn index(text: &str) -> Self {
        let mut lines: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut section = String::new();
        // An option goes on as long as lines are indented deeper than it.
        let mut current = None;
        for (number, whole) in (1..).zip(text.lines()) {
            let line = whole.trim();
            let indent = whole.len() - whole.trim_start().len();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(header) = line.strip_prefix('[') {
                section = normal_section(header.split(']').next().unwrap_or_default().trim());
                lines.entry((section.clone(), HEADER.into())).or_default().push(number);
                current = None;
            } else if current.is_none_or(|current| indent <= current) {
                let option = line.split(['=', ':']).next().unwrap_or_default().trim();
                lines
                    .entry((section.clone(), normal_option(&section, option)))
                    .or_default()
                    .push(number);
                current = Some(indent);
            }
        }
        Self(lines)
    }

    /// The first line that is an option, whichever it is.
    fn first(&self, name: &str) -> String {
        let options = self.0.iter().filter(|((_, option), _)| option != HEADER);
        let line = options.flat_map(|(_, lines)| lines).min();
        line.map_or_else(|| name.into(), |line| format!("{name}:{line}"))
    }

    fn place(&self, name: &str, section: &str, option: &str) -> String {
        match self.0.get(&(section.into(), option.into())).and_then(|lines| lines.last()) {
            Some(line) => format!("{name}:{line}"),
            None => name.into(),
        }
    }

    /// Options that stand in one section twice.
    fn repeated<'l>(&'l self, name: &'l str) -> impl Iterator<Item = Problem> + 'l {
        self.0.iter().filter_map(move |((section, option), lines)| {
            let known = section == clients::SECTION
                || super::options::of_section(section)?.contains(&option.as_str());
            let [first, second, ..] = lines[..] else { return None };
            known.then(|| {
                Problem::new(
                    format!("{name}:{second}"),
                    format!("{option} is given twice in section {section}, first in line {first}"),
                )
                .help("keep one of the two")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str, section: &str, option: &str) -> Option<(String, String)> {
        let sections = parse("f", text).unwrap();
        let setting = sections.get(section)?.settings.get(option)?;
        Some((setting.text.clone(), setting.place.clone()))
    }

    #[test]
    fn python_rules_hold() {
        let text = "# top\n [auth_jwt_cloudflare]\nissuer=https://<team>.example:8/a=b;c#d\n; note\nclaims = a in bb\n   c is dd\nempty =\n";
        assert_eq!(
            setting(text, "auth_jwt_cloudflare", "issuer"),
            Some(("https://<team>.example:8/a=b;c#d".into(), "f:3".into())),
            "no inline comments, and only the first delimiter splits"
        );
        assert_eq!(setting(text, "auth_jwt_cloudflare", "claims").unwrap().0.lines().count(), 2);
        assert_eq!(setting(text, "auth_jwt_cloudflare", "empty").unwrap().0, "");
        assert_eq!(setting("[a]\nk: v\n", "a", "k").unwrap().0, "v");
        let continued = "[auth_jwt_a]\nissuer=i\nclaims=\n  a in bb\n  issuer: is x\n";
        assert_eq!(
            setting(continued, "auth_jwt_a", "issuer").unwrap().0,
            "i",
            "a line that continues is no option"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, expected) in [
            ("\nz=1\na=2\n[server]\n", "f:2: this line stands before any [section]"),
            (
                "[server]\nauth=true\n  auth=false\n",
                "f:2: auth in section server goes on over several lines",
            ),
            ("[server\n", "line 1"),
            ("[server]\n\nauth\n", "f:3: a line in section server has no value"),
            (
                "[server]\nauth=true\nauth=false\n",
                "f:3: auth is given twice in section server, first in line 2",
            ),
            (
                "[auth_jwt_a]\nkey=1\n[auth_jwt_A]\nkey=2\n",
                "f:4: key is given twice in section auth_jwt_a",
            ),
        ] {
            let problems = parse("f", text).unwrap_err().to_string();
            assert!(problems.contains(expected), "{text:?} gave {problems}");
        }
    }
}
