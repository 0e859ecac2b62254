//! Tables that are sorted by a column, by links in their headings.
//!
//! The order is part of the address of the page: it needs no script, and can be kept as a bookmark.
//! So is the part of a long table that is shown.

use maud::{Markup, html};

use super::{request::FormFields, text::whole};

/// Parameter of the column to sort by, with a minus sign for the descending order.
const SORT: &str = "sort";
/// Parameter of the result of a change, which other addresses leave out.
const DONE: &str = "done";
/// Parameter of the part of a long table, from 1.
const PART: &str = "page";
/// Rows of a part.
const PART_ROWS: usize = 50;

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
        if let Some(order) = order {
            self.sort(order);
        }
        self.markup(order)
    }

    /// Returns the part of the table that the address selects, with links to those beside it.
    pub(super) fn render_part(mut self, order: TableOrder<'_>) -> Markup {
        self.sort(order);
        let TableOrder { path, query } = order;
        let (rows, parts) = (self.rows.len(), self.rows.len().div_ceil(PART_ROWS).max(1));
        let part = query.get(PART).parse::<usize>().unwrap_or(1).clamp(1, parts);
        let shown = self.rows.into_iter().skip((part - 1) * PART_ROWS).take(PART_ROWS);
        self.rows = shown.collect();
        let at = |part: usize| query.address(path, &[(PART, &part.to_string()), (DONE, "")]);
        html! {
            (self.markup(Some(order)))
            @if parts > 1 {
                p {
                    "Page " (part) " of " (parts) ", " (whole(rows as u64)) " rows "
                    @if part > 1 { a href=(at(part - 1)) rel="prev" { "Previous" } " " }
                    @if part < parts { a href=(at(part + 1)) rel="next" { "Next" } }
                }
            }
        }
    }

    fn sort(&mut self, order: TableOrder<'_>) {
        let (name, is_descending) = order.column();
        let is_chosen = |column: &TableColumn| !name.is_empty() && column.name == name;
        if let Some(index) = self.columns.iter().position(is_chosen) {
            self.rows.sort_by(|one, other| {
                let [first, second] = if is_descending { [other, one] } else { [one, other] };
                first[index].key.cmp(&second[index].key)
            });
        }
    }

    fn markup(&self, order: Option<TableOrder<'_>>) -> Markup {
        let (name, is_descending) = order.as_ref().map_or(("", false), TableOrder::column);
        let is_chosen = |column: &TableColumn| !name.is_empty() && column.name == name;
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
                    @let changes = [(SORT, &*sort), (DONE, ""), (PART, "")];
                    a href=(query.address(path, &changes)) { (column.title) }
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
    fn long_table_is_shown_in_parts() {
        let part = |rows: usize, query: &str| {
            let query = FormFields::parse(query.as_bytes()).unwrap();
            let row = |number| [TableCell::number(number as u64, html! { (number) })];
            let table = ConsoleTable {
                columns: [TableColumn::number("Number", "number")],
                rows: (0..rows).map(row).collect(),
                is_filtered: false,
            };
            let part = table.render_part(TableOrder { path: "/t", query: &query }).into_string();
            let numbers: Vec<usize> = part
                .split("data-label=\"Number\">")
                .skip(1)
                .map(|rest| rest.split('<').next().unwrap().parse().unwrap())
                .collect();
            (part, numbers)
        };
        for (rows, query, first, count) in [
            (50, "", 0, 50),
            (50, "page=2", 0, 50),
            (101, "", 0, 50),
            (101, "page=2", 50, 50),
            (101, "page=3", 100, 1),
            (101, "page=9", 100, 1),
            (101, "page=0", 0, 50),
            (101, "page=x", 0, 50),
            (101, "page=2&sort=-number", 50, 50),
        ] {
            let (_, numbers) = part(rows, query);
            assert_eq!((numbers[0], numbers.len()), (first, count), "{rows} {query}");
        }
        assert!(!part(50, "").0.contains("rel="));
        let (middle, _) = part(101, "page=2&sort=number&done=x");
        for text in [
            "Page 2 of 3, 101 rows",
            "href=\"/t?sort=number&amp;page=1\" rel=\"prev\"",
            "href=\"/t?sort=number&amp;page=3\" rel=\"next\"",
            "href=\"/t?sort=-number\"",
        ] {
            assert!(middle.contains(text), "{text} in {middle}");
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
