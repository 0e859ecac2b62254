//! [`RowFilter`]: a text that the rows of a long table contain. It is in the address of the page.

use maud::{Markup, html};
use serde_json::Value;

use super::request::FormFields;

/// Parameter of the text.
const FILTER: &str = "filter";

/// The filter of a table that is shown in parts.
pub(super) struct RowFilter<'q> {
    /// The text as it was typed.
    typed: &'q str,
    /// The text in lower case.
    text: String,
}

impl<'q> RowFilter<'q> {
    /// Reads the filter from a query.
    pub(super) fn of(query: &'q FormFields) -> Self {
        let typed = query.get(FILTER);
        Self { typed, text: typed.to_lowercase() }
    }

    /// Whether a member of an object of the API has the text.
    pub(super) fn accepts(&self, one: &Value) -> bool {
        let members = one.as_object().into_iter().flatten();
        let mut texts = members.map(|(_, member)| member.to_string().to_lowercase());
        texts.any(|member| member.contains(&self.text))
    }

    /// Returns the field that filters the rows as they are typed, and with Enter those of all
    /// parts. `kept` is a further parameter of the address.
    pub(super) fn form(&self, path: &str, kept: Option<(&str, &str)>) -> Markup {
        html! {
            form.filter method="get" action=(path) {
                @if let Some((name, value)) = kept {
                    input type="hidden" name=(name) value=(value);
                }
                label {
                    "Filter "
                    input type="search" name=(FILTER) value=(self.typed) data-filter=""
                        autocomplete="off" spellcheck="false" title="Enter searches all pages";
                }
            }
        }
    }
}
