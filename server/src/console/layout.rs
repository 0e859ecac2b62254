//! The frame of every page: navigation, the signed-in user, and the content.

use http::{Response, StatusCode};
use maud::{DOCTYPE, Markup, html};

use super::{FORM_TOKEN, assets, page_right::PageRight, session::ConsoleUser};
use crate::base::{
    printable::printable,
    reply::{Body, typed},
};

/// Properties of a page, for [`respond`].
pub(super) struct ConsolePage<'p> {
    /// Its title.
    pub(super) title: &'p str,
    /// The path of its entry in [`NAVIGATION`]; empty for none.
    pub(super) active: &'p str,
    /// The signed-in user.
    pub(super) user: Option<&'p ConsoleUser>,
}

/// An entry of the navigation: path, name, the key that opens it after `g`, and the right that it needs.
const NAVIGATION: [(&str, &str, &str, PageRight); 11] = [
    ("/console", "Overview", "o", PageRight::Status),
    ("/console/issuers", "Issuers", "i", PageRight::Status),
    ("/console/inspect", "Inspector", "x", PageRight::Administration),
    ("/console/tokens", "Tokens", "t", PageRight::Tokens),
    ("/console/users", "Users", "u", PageRight::Users),
    ("/console/identities", "Identities", "m", PageRight::Administration),
    ("/console/tenants", "Tenants", "n", PageRight::Administration),
    ("/console/policy", "Policy", "p", PageRight::Administration),
    ("/console/audit", "Audit log", "a", PageRight::Administration),
    ("/console/configuration", "Configuration", "c", PageRight::Administration),
    ("/console/cluster", "Cluster", "s", PageRight::Administration),
];

/// Returns the path, name and key of each page that a user may open.
fn navigation(
    user: &ConsoleUser,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let rights = user.rights;
    let visible = NAVIGATION.into_iter().filter(move |(.., right)| rights.has(*right));
    visible.map(|(path, name, key, _)| (path, name, key))
}

/// Returns a page with this content.
pub(super) fn respond(
    status: StatusCode,
    page: &ConsolePage<'_>,
    content: &Markup,
) -> Response<Body> {
    let assets = assets::paths();
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) " · Countersign" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(assets.style);
                script src=(assets.script) defer {}
            }
            body {
                a.skip href="#content" { "To the content" }
                @if let Some(user) = page.user { (header(page.active, user)) }
                main #content { (content) }
                @if let Some(user) = page.user { (keys(user)) }
            }
        }
    };
    typed(status, "text/html; charset=utf-8", document.into_string())
}

fn header(active: &str, user: &ConsoleUser) -> Markup {
    html! {
        header {
            a.brand href="/console" { "Countersign" }
            nav aria-label="Pages" {
                @for (path, name, key) in navigation(user) {
                    a href=(path) data-key=(key) aria-current=[(path == active).then_some("page")] {
                        (name)
                    }
                }
            }
            form.user method="post" action="/console/sign-out" {
                (form_token(user))
                span { (printable(&user.stored.username)) }
                button type="submit" { "Sign out" }
            }
        }
    }
}

/// The help about keys, which `?` opens.
fn keys(user: &ConsoleUser) -> Markup {
    html! {
        footer {
            details #keys {
                summary { "Keys" }
                dl {
                    @for (_, name, key) in navigation(user) {
                        dt { kbd { "g" } " " kbd { (key) } } dd { (name) }
                    }
                    dt { kbd { "/" } } dd { "Filter the table" }
                    dt { kbd { "↑" } " " kbd { "↓" } } dd { "Move between rows of a table" }
                    dt { kbd { "Enter" } } dd { "Open the row" }
                    dt { kbd { "?" } } dd { "This list" }
                    dt { "Paste" } dd { "A token opens the inspector" }
                }
            }
            p {
                "Countersign " (env!("CARGO_PKG_VERSION"))
                ". Times are in UTC; a script adds those of the browser. "
                a href="/console/reference" { "Figures and reasons" }
            }
        }
    }
}

/// Returns the field that every form of a session has, [`FORM_TOKEN`].
pub(super) fn form_token(user: &ConsoleUser) -> Markup {
    html! { input type="hidden" name=(FORM_TOKEN) value=(user.form_token()); }
}

/// Returns a message above a form: the refusal of a change.
pub(super) fn refusal(message: &str) -> Markup {
    html! {
        @if !message.is_empty() { p.refusal role="alert" { "✗ " (printable(message)) } }
    }
}

/// Returns what is wrong with a field, as the element that its `aria-describedby` names.
pub(super) fn field_error(id: &str, message: &str) -> Markup {
    html! {
        p.refusal id=(id) { @if !message.is_empty() { "✗ " (message) } }
    }
}

/// Returns the field that filters tables, which the script shows.
pub(super) fn table_filter() -> Markup {
    html! {
        label.filter hidden {
            "Filter " input type="search" data-filter="" autocomplete="off" spellcheck="false";
        }
    }
}

/// Returns the command line that does the same as a form.
pub(super) fn as_command(command: &str) -> Markup {
    html! {
        details.command {
            summary { "As a command" }
            pre { code data-copy="" { (command) } }
        }
    }
}

/// As [`as_command`], for a form with this id: the script has the `flags` at the end of the command
/// follow the fields with a `data-flag`.
pub(super) fn as_form_command(form: &str, command: &str, flags: &str) -> Markup {
    html! {
        details.command {
            summary { "As a command" }
            pre {
                code data-copy="" data-command-of=(form) data-command=(command) {
                    (command) (flags)
                }
            }
        }
    }
}
