//! The configuration as it was loaded, without secrets.

use serde_json::{Value, json};

use super::{AdminCall, Answer, page::ListPage};
use crate::config::{setting::Setting, without_secrets::HIDDEN};

/// Returns a [`ListPage`] of the options that are set.
pub(super) fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let sections = call.context.settings.loaded.iter();
    let options = sections.flat_map(|(section, read)| {
        let options = read.settings.iter();
        options.map(move |(option, setting)| {
            (format!("{section}\0{option}"), shown(section, option, setting))
        })
    });
    let mut items: Vec<_> = options.collect();
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(page.of_all(call, items))
}

fn shown(section: &str, option: &str, Setting { text, place }: &Setting) -> Value {
    let is_hidden = text == HIDDEN;
    let value = (!is_hidden).then_some(text);
    json!({
        "section": section, "option": option, "value": value, "is_hidden": is_hidden,
        "place": place,
    })
}
