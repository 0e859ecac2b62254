//! Inmanta's `.cfg` files: Python's `configparser` without interpolation.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use configparser::ini::Ini;

use super::{
    options::{self, API_CLIENTS_SECTION, CLAIM_PREFIX, IDENTITY_HEADERS_SECTION},
    problem::{MAX_SYNTAX_ERRORS, Problem, Problems, too_many_errors},
    setting::{Section, Setting, normal_option, normal_section},
};

/// Key of a section's header in a [`LineIndex`], in place of an option name.
const HEADER: &str = "[]";
/// Section name for lines before the first header. No file can spell it.
const BEFORE_ANY_SECTION: &str = "\0";

/// Parses one `.cfg` file into its [`Section`]s.
///
/// Reports lines that are neither header, option, continuation nor comment, and skips them.
/// Also reports options given twice, because choosing one of the two would be a guess.
pub(crate) fn parse(name: &str, text: &str, problems: &mut Problems) -> BTreeMap<String, Section> {
    let text = &with_encoded_claims(text);
    let parsed = parse_lines(name, text, problems);
    let lines = LineIndex::index(text);
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    problems.0.extend(lines.repeated(name));
    // Ordered, so that the same file always gives the same messages.
    for (section, options) in parsed.into_iter().collect::<BTreeMap<_, _>>() {
        if section == BEFORE_ANY_SECTION {
            let problem = Problem::error(lines.first(name), "this line is outside any [section]");
            problems.push(problem.help("move it below a header such as [server]"));
            continue;
        }
        let section = normal_section(&section);
        let place = lines.place(name, &section, HEADER);
        let order = lines.first_header(&section);
        let settings = &mut sections
            .entry(section.clone())
            .or_insert_with(|| Section { place, order, ..Section::default() })
            .settings;
        for (option, value) in options.into_iter().collect::<BTreeMap<_, _>>() {
            let option = normal_option(&section, &option);
            let place = lines.place(name, &section, &option);
            match check_value(&section, &option, value) {
                Ok(text) => drop(settings.insert(option, Setting { text, place })),
                Err((text, help)) => problems.push(Problem::error(place, text).help(help)),
            }
        }
    }
    sections
}

/// Percent-encodes the colons in the names of claims, such as `claim.https://idp.example/roles`,
/// which would end the name of the option.
fn with_encoded_claims(text: &str) -> Cow<'_, str> {
    if !text.contains(CLAIM_PREFIX) {
        return text.into();
    }
    let mut is_in_section = false;
    let encoded = text.split_inclusive('\n').map(|line| {
        if let Some(header) = line.trim_start().strip_prefix('[') {
            is_in_section = header.split(']').next() == Some(IDENTITY_HEADERS_SECTION);
        }
        match line.split_once('=') {
            Some((name, value)) if is_in_section && name.starts_with(CLAIM_PREFIX) => {
                format!("{}={value}", name.replace(':', "%3A")).into()
            }
            _ => Cow::Borrowed(line),
        }
    });
    encoded.map(Cow::into_owned).collect::<String>().into()
}

/// Parses the lines of a file without those that the parser rejects, which it reports.
fn parse_lines(name: &str, text: &str, problems: &mut Problems) -> ParsedLines {
    let mut lines: Vec<&str> = text.lines().collect();
    // Each mistake parses the file again: a file of something else must not take minutes.
    for _ in 0..MAX_SYNTAX_ERRORS {
        let mut ini = Ini::new_cs();
        ini.set_default_section(BEFORE_ANY_SECTION);
        ini.set_multiline(true);
        // As in Python: `#` and `;` start a comment at the start of a line only.
        ini.set_inline_comment_symbols(Some(&[]));
        let error = match ini.read(lines.join("\n")) {
            Ok(parsed) => return parsed,
            Err(error) => error,
        };
        let rejected = rejected_line(&error).filter(|line| lines.get(*line).is_some());
        let place = rejected.map_or_else(|| name.into(), |line| format!("{name}:{}", line + 1));
        problems.push(Problem::error(place, error));
        match rejected {
            Some(line) => skip(&mut lines, line),
            None => return ParsedLines::new(),
        }
    }
    problems.push(too_many_errors(name));
    ParsedLines::new()
}

/// Sections, options and values as the parser returns them.
type ParsedLines = HashMap<String, HashMap<String, Option<String>>>;

/// Returns the index of the line that a message of the parser names.
fn rejected_line(error: &str) -> Option<usize> {
    let (_, rest) = error.split_once("line ")?;
    let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse::<usize>().ok()?.checked_sub(1)
}

/// Empties a rejected line. After a rejected header, the options of its section are skipped too,
/// because they would be taken for options of the section before.
fn skip(lines: &mut [&str], rejected: usize) {
    let is_header = |line: &str| line.trim_start().starts_with('[');
    let rest = lines.get_mut(rejected..).unwrap_or_default();
    let until_header = rest.iter().skip(1).position(|line| is_header(line));
    let count = match rest.first() {
        Some(line) if is_header(line) => until_header.map_or(rest.len(), |next| next + 1),
        _ => 1,
    };
    rest.iter_mut().take(count).for_each(|line| *line = "");
}

/// Rejects missing values and unintended continuation lines.
///
/// Messages never contain the value. It may be a key whose `=` is missing, or a key on
/// an indented line, which continues the line above. Constraints, and keys in PEM or
/// JSON, may span several lines.
fn check_value(
    section: &str,
    option: &str,
    value: Option<String>,
) -> Result<String, (String, &'static str)> {
    let text = value.ok_or_else(|| {
        (format!("a line in section {section} has no value"), "write option = value")
    })?;
    let known = options::section(section).is_some_and(|section| section.option(option).is_some());
    let takes_several = option == "claims" || (option == "key" && starts_a_key(&text));
    if known && !takes_several && text.contains('\n') {
        let text = format!("{option} in section {section} spans several lines");
        return Err((
            text,
            "an indented line continues the line above: remove its leading white space",
        ));
    }
    Ok(text)
}

/// Detects a key in PEM or JSON. A base64url secret may start with one dash, but not
/// with five.
fn starts_a_key(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("-----BEGIN") || text.starts_with('{')
}

/// Line numbers of the options in a file.
///
/// The parser does not report line numbers, and error messages need them.
struct LineIndex(BTreeMap<(String, String), Vec<usize>>);

impl LineIndex {
    fn index(text: &str) -> Self {
        let mut lines: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut section = String::new();
        // Lines indented deeper than an option continue it.
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

    /// Place of the first option in the file.
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

    /// The line of the first header of a section.
    fn first_header(&self, section: &str) -> usize {
        let lines = self.0.get(&(section.into(), HEADER.into()));
        lines.and_then(|lines| lines.first()).copied().unwrap_or_default()
    }

    /// One [`Problem`] for each option given twice in one section.
    fn repeated<'l>(&'l self, name: &'l str) -> impl Iterator<Item = Problem> + 'l {
        self.0.iter().filter_map(move |((section, option), lines)| {
            let known = section == API_CLIENTS_SECTION
                || options::section(section)?.option(option).is_some();
            let [first, second, ..] = lines[..] else { return None };
            known.then(|| {
                Problem::error(
                    format!("{name}:{second}"),
                    format!("{option} is given twice in section {section}, first on line {first}"),
                )
                .help("remove one of the two lines")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str, section: &str, option: &str) -> Option<(String, String)> {
        let sections = parse("f", text, &mut Problems::default());
        let setting = sections.get(section)?.settings.get(option)?;
        Some((setting.text.clone(), setting.place.clone()))
    }

    #[test]
    fn ini_parser_follows_python_rules() {
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
            "a continuation line is not an option"
        );
    }

    #[test]
    fn ini_parser_reports_the_line() {
        for (text, expected) in [
            ("\nz=1\na=2\n[server]\n", "f:2: this line is outside any [section]"),
            (
                "[server]\nauth=true\n  auth=false\n",
                "f:2: auth in section server spans several lines",
            ),
            ("[server\n", "line 1"),
            ("[server]\n\nauth\n", "f:3: a line in section server has no value"),
            (
                "[server]\nauth=true\nauth=false\n",
                "f:3: auth is given twice in section server, first on line 2",
            ),
            (
                "[auth_jwt_a]\nkey=1\n[auth_jwt_A]\nkey=2\n",
                "f:4: key is given twice in section auth_jwt_a",
            ),
        ] {
            let mut problems = Problems::default();
            parse("f", text, &mut problems);
            let problems = problems.to_string();
            assert!(problems.contains(expected), "{text:?} gave {problems}");
        }
    }

    #[test]
    fn ini_parser_continues_after_a_mistake() {
        let text =
            "[server]\nauth=true\n[listen\nthreads=2\nrubbish\n[cache]\nmegabytes=1\n[x\ny=1\n";
        let mut problems = Problems::default();
        let sections = parse("f", text, &mut problems);
        let places: Vec<_> = problems.0.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["f:3", "f:8"], "the options of an unknown section are not reported");
        assert_eq!(sections["cache"].settings["megabytes"].place, "f:7");
        assert_eq!(sections["server"].settings.len(), 1);
    }

    #[test]
    fn ini_parser_gives_up_on_a_file_of_something_else() {
        let mut problems = Problems::default();
        parse("f", &"[\nx\n".repeat(20_000), &mut problems);
        assert!(problems.to_string().contains("f: more than 50 syntax errors"), "{problems}");
    }
}
