//! Tables that are sorted by a column, by links in their headings.
//!
//! The order is part of the address of the page: it needs no script, and can be kept as a bookmark.

use maud::{Markup, html};

use super::request::FormFields;

/// Parameter of the column to sort by, with a minus sign for the descending order.
const SORT: &str = "sort";
/// Parameter of the result of a change, which other addresses leave out.
const DONE: &str = "done";

/// A column of a [`ConsoleTable`].
#[derive(Clone, Copy)]
pub(super) struct TableColumn {
    title: &'static str,
    /// Its name in addresses, which is unique on its page; empty if no row is sorted by it.
    name: &'static str,
    is_number: bool,
}

impl TableColumn {
    /// A column by which rows are sorted.
    pub(super) const fn sorted(title: &'static str, name: &'static str) -> Self {
        Self { title, name, is_number: false }
    }

    /// A column of numbers, by which rows are sorted.
    pub(super) const fn number(title: &'static str, name: &'static str) -> Self {
        Self { title, name, is_number: true }
    }

    /// A column by which rows cannot be sorted.
    pub(super) const fn plain(title: &'static str) -> Self {
        Self { title, name: "", is_number: false }
    }
}

/// The value by which a row is sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(u64),
    Text(String),
}

/// A cell of a [`ConsoleTable`].
pub(super) struct TableCell {
    key: SortKey,
    content: Markup,
}

impl TableCell {
    /// A cell that is sorted by a text, without regard to case.
    pub(super) fn text(key: &str, content: Markup) -> Self {
        Self { key: SortKey::Text(key.to_lowercase()), content }
    }

    /// A cell that is sorted by a number.
    pub(super) const fn number(key: u64, content: Markup) -> Self {
        Self { key: SortKey::Number(key), content }
    }

    /// A cell of a column by which rows cannot be sorted.
    pub(super) const fn plain(content: Markup) -> Self {
        Self::number(0, content)
    }
}

/// The address of a page, whose query has the order of its tables.
#[derive(Clone, Copy)]
pub(super) struct TableOrder<'q> {
    /// The path of the page.
    pub(super) path: &'q str,
    /// Its query.
    pub(super) query: &'q FormFields,
}

impl TableOrder<'_> {
    /// Returns the name of the column to sort by, and whether the order is descending.
    fn column(&self) -> (&str, bool) {
        let given = self.query.get(SORT);
        given.strip_prefix('-').map_or((given, false), |name| (name, true))
    }
}

/// A table with `N` columns.
pub(super) struct ConsoleTable<const N: usize> {
    /// The columns.
    pub(super) columns: [TableColumn; N],
    /// The rows, in their usual order.
    pub(super) rows: Vec<[TableCell; N]>,
    /// Whether the filter of the page applies.
    pub(super) is_filtered: bool,
}

impl<const N: usize> ConsoleTable<N> {
    /// Returns the table, in its usual order without a [`TableOrder`].
    pub(super) fn render(mut self, order: Option<TableOrder<'_>>) -> Markup {
        let (name, is_descending) = order.as_ref().map_or(("", false), TableOrder::column);
        let is_chosen = |column: &TableColumn| !name.is_empty() && column.name == name;
        if let Some(index) = self.columns.iter().position(is_chosen) {
            self.rows.sort_by(|one, other| {
                let [first, second] = if is_descending { [other, one] } else { [one, other] };
                first[index].key.cmp(&second[index].key)
            });
        }
        html! {
            table class=[order.map(|_| "sortable")] data-filtered=[self.is_filtered.then_some("")] {
                thead {
                    tr {
                        @for column in &self.columns {
                            (heading(column, order, is_chosen(column).then_some(is_descending)))
                        }
                    }
                }
                tbody { @for row in &self.rows { tr { (cells(&self.columns, row)) } } }
            }
        }
    }
}

/// Returns the heading of a column. `is_descending` has a value if rows are sorted by it.
fn heading(
    column: &TableColumn,
    order: Option<TableOrder<'_>>,
    is_descending: Option<bool>,
) -> Markup {
    let order = order.filter(|_| !column.name.is_empty());
    let (state, sign) = match is_descending {
        None => (None, ""),
        Some(false) => (Some("ascending"), " ↑"),
        Some(true) => (Some("descending"), " ↓"),
    };
    html! {
        th class=[class(column)] scope="col" aria-sort=[state] {
            @match order {
                None => (column.title),
                Some(TableOrder { path, query }) => {
                    @let minus = if is_descending == Some(false) { "-" } else { "" };
                    @let sort = format!("{minus}{}", column.name);
                    a href=(query.address(path, &[(SORT, &sort), (DONE, "")])) { (column.title) }
                    span aria-hidden="true" { (sign) }
                },
            }
        }
    }
}

fn class(column: &TableColumn) -> Option<&'static str> {
    column.is_number.then_some("number")
}

fn cells(columns: &[TableColumn], row: &[TableCell]) -> Markup {
    html! {
        @for (column, cell) in columns.iter().zip(row) {
            td class=[class(column)] data-label=(column.title) { (cell.content) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(query: &str) -> String {
        let query = FormFields::parse(query.as_bytes()).unwrap();
        let rows = [("b", 2), ("A", 10), ("c", 1)];
        let row = |(name, count): (&str, u64)| {
            let count = TableCell::number(count, html! { (count) });
            [TableCell::text(name, html! { (name) }), count]
        };
        let table = ConsoleTable {
            columns: [TableColumn::sorted("Name", "name"), TableColumn::number("Uses", "uses")],
            rows: rows.map(row).into(),
            is_filtered: false,
        };
        table.render(Some(TableOrder { path: "/t", query: &query })).into_string()
    }

    fn names(table: &str) -> Vec<&str> {
        table.split("data-label=\"Name\">").skip(1).map(|rest| &rest[..1]).collect()
    }

    #[test]
    fn rows_are_sorted_by_text_or_number() {
        for (query, expected) in [
            ("", ["b", "A", "c"]),
            ("sort=other", ["b", "A", "c"]),
            ("sort=", ["b", "A", "c"]),
            ("sort=name", ["A", "b", "c"]),
            ("sort=-name", ["c", "b", "A"]),
            ("sort=uses", ["c", "b", "A"]),
            ("sort=-uses", ["A", "b", "c"]),
        ] {
            assert_eq!(names(&render(query)), expected, "{query}");
        }
    }

    #[test]
    fn headings_lead_to_the_other_order() {
        let table = render("sort=name&user=%22%3Cb%3E&done=add");
        assert!(table.contains("<th scope=\"col\" aria-sort=\"ascending\">"), "{table}");
        assert!(table.contains("href=\"/t?user=%22%3Cb%3E&amp;sort=-name\""), "{table}");
        assert!(table.contains("href=\"/t?user=%22%3Cb%3E&amp;sort=uses\""), "{table}");
        assert_eq!(table.matches("aria-sort").count(), 1);
        let table = render("sort=-name");
        assert!(table.contains("aria-sort=\"descending\"") && table.contains("/t?sort=name\""));
    }
}
