//! TOML syntax for the sections and options of `.cfg` files.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::{
    problem::{MAX_SYNTAX_ERRORS, Problem, Problems, too_many_errors},
    raw::looks_like_a_name,
    setting::{Section, Setting, is_claim_option, normal_option, normal_section},
};

/// Parses one `.toml` file into its [`Section`]s.
///
/// Reports syntax errors, options outside a section, and values that are neither text, number,
/// boolean nor a list of texts.
pub(super) fn parse(name: &str, text: &str, problems: &mut Problems) -> BTreeMap<String, Section> {
    let line_ends: Vec<_> = text.match_indices('\n').map(|(offset, _)| offset).collect();
    let place =
        |offset: usize| format!("{name}:{}", line_ends.partition_point(|end| *end < offset) + 1);
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.len() > MAX_SYNTAX_ERRORS {
        problems.push(too_many_errors(name));
    }
    for error in errors.into_iter().take(MAX_SYNTAX_ERRORS) {
        let offset = error.span().map_or(0, |span| span.start);
        problems.push(Problem::error(place(offset), error.message()));
    }
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    for (section, value) in document.get_ref() {
        let order = section.span().start;
        let here = place(order);
        let DeValue::Table(options) = value.get_ref() else {
            problems.push(Problem::error(
                here,
                format!("{} is outside any [section]", shown_name(section.get_ref())),
            ));
            continue;
        };
        let section = normal_section(section.get_ref());
        let settings = &mut sections
            .entry(section.clone())
            .or_insert_with(|| Section { place: here, order, ..Section::default() })
            .settings;
        let mut in_order: Vec<_> = options.iter().collect();
        in_order.sort_by_key(|(option, _)| option.span().start);
        let in_order = in_order.into_iter().flat_map(|(option, value)| {
            let name = option.get_ref().as_ref();
            flattened(&section, name.into(), value.get_ref(), option.span().start)
        });
        for (option, value, start) in in_order {
            let here = place(start);
            let option = normal_option(&section, &option);
            let Some(text) = value_text(value) else {
                problems.push(Problem::error(
                    here,
                    format!(
                        "{} in section {section} must be a string, a number, a boolean or a list \
                         of strings",
                        shown_name(&option)
                    ),
                ));
                continue;
            };
            if settings.insert(option.clone(), Setting { text, place: here.clone() }).is_some() {
                problems.push(
                    Problem::error(
                        here,
                        format!("{} is given twice in section {section}", shown_name(&option)),
                    )
                    .help("option names treat `-` and `_` alike: remove one of the two lines"),
                );
            }
        }
    }
    sections
}

/// Returns an option with its value and its offset. Without quotes, the path of a claim is one
/// table in another.
fn flattened<'v, 'i>(
    section: &str,
    name: String,
    value: &'v DeValue<'i>,
    start: usize,
) -> Vec<(String, &'v DeValue<'i>, usize)> {
    match value {
        DeValue::Table(members) if is_claim_option(section, &format!("{name}.")) => {
            let members = members.iter().flat_map(|(member, value)| {
                let name = format!("{name}.{}", member.get_ref());
                flattened(section, name, value.get_ref(), member.span().start)
            });
            members.collect()
        }
        value => vec![(name, value, start)],
    }
}

/// Returns a name for a message, unless it may be a line of a key.
fn shown_name(written: &str) -> &str {
    if looks_like_a_name(&written.to_lowercase().replace('-', "_")) { written } else { "a name" }
}

fn value_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.as_ref().into()),
        DeValue::Integer(number) => integer_text(number.as_str(), number.radix()),
        DeValue::Float(number) => Some(number.as_str().into()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(elements) => {
            // A comma inside an element would silently become two elements.
            let texts: Option<Vec<_>> = elements
                .iter()
                .map(|one| one.get_ref().as_str().filter(|text| !text.contains(',')))
                .collect();
            Some(texts?.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// Returns an integer in decimal digits. TOML also has hexadecimal, octal and binary ones.
fn integer_text(digits: &str, radix: u32) -> Option<String> {
    match radix {
        10 => Some(digits.into()),
        _ => i64::from_str_radix(digits, radix).ok().map(|number| number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_values_of_every_type_become_text() {
        let sections = parse(
            "f",
            "[server]\nauth = true\nbind-port = 8_888\nmax_request_body_size = 0x1_000\n[auth_jwt_A]\nclient_types = [\"api\", \"agent\"]\njwks_request_timeout = 1.5\n",
            &mut Problems::default(),
        );
        let text = |section: &str, option: &str| sections[section].settings[option].text.clone();
        assert_eq!(text("server", "auth"), "true");
        assert_eq!(text("server", "bind_port"), "8888");
        assert_eq!(text("server", "max_request_body_size"), "4096");
        assert_eq!(text("auth_jwt_a", "client_types"), "api,agent");
        assert_eq!(text("auth_jwt_a", "jwks_request_timeout"), "1.5");
        assert_eq!(sections["server"].settings["bind_port"].place, "f:3");
    }

    #[test]
    fn toml_parser_reports_the_line() {
        for (text, expected) in [
            ("[server]\nauth = \n", "f:2"),
            ("auth = true\n", "f:1: auth is outside any [section]"),
            ("[server]\nauth = 1979-05-27\n", "f:2: auth in section server must be"),
            ("[server]\nbind_address = [\"a,b\"]\n", "f:2: bind_address"),
            ("[server]\nbind_port = 1\nbind-port = 2\n", "f:3: bind_port is given twice"),
        ] {
            let mut problems = Problems::default();
            parse("f", text, &mut problems);
            let problems = problems.to_string();
            assert!(problems.contains(expected), "{text:?} gave {problems}");
        }
    }
}
