//! Tables for people, from lists in a server's response.

use std::io;

use serde_json::Value;

use super::{print, printable};

/// Title of a column, and the JSON member that it shows.
pub(super) type Column = (&'static str, &'static str);

/// Prints a list as JSON or as a table.
pub(super) fn print_list(list: &Value, columns: &[Column], as_json: bool) -> io::Result<()> {
    if as_json {
        return print(list);
    }
    let rows = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| columns.iter().map(|(_, member)| display_value(&row[member])).collect());
    let titles = columns.iter().map(|(title, _)| (*title).into()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    let widths: Vec<_> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}", width = width.unwrap_or(0)));
        print(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Formats a JSON value on one line.
pub(super) fn display_value(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => printable(text),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(display_value).collect::<Vec<_>>().join(","),
        Value::Object(members) if members.is_empty() => "-".into(),
        Value::Object(members) => {
            let each = members
                .iter()
                .map(|(name, value)| format!("{}: {}", printable(name), display_value(value)));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_values_fit_on_a_line_and_are_escaped() {
        assert_eq!(display_value(&json!({ "e1": ["a", "b"], "e2": [] })), "e1: a,b; e2: -");
        assert_eq!(display_value(&json!([true, null, 7])), "yes,-,7");
        assert_eq!(display_value(&json!("a\n\u{1b}[2J")), "a\\u{a}\\u{1b}[2J");
    }
}
