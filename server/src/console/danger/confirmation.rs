//! [`ShownChange`]: what the page of a change has shown, as the form of the page sends it back.
//!
//! A change is made only if it still is the one that its page has shown, in the same session. A
//! confirmation is used once: it has the number of those before it in the session, and each use
//! raises that number in the database.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ChangePreview;
use crate::console::session_id::SessionId;

/// Purpose of the tag of a confirmation.
const CONFIRMATION: &str = "console confirmation";
/// Purpose of the digest of a page.
const PREVIEW: &str = "console preview";
/// Longest text of the consequences that a form has, in bytes.
const MAX_LINES: usize = 8 * 1024;

/// What the page of a change has shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct ShownChange {
    /// The address of the page: the change, and its targets.
    address: String,
    /// Number of confirmations in the session before this one.
    earlier: u64,
    /// Digest of the page, and of the state of the object.
    digest: String,
    /// The consequences on the page. Empty if they are too long.
    lines: Vec<String>,
}

/// A line of the consequences that is on only one of two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LineChange {
    /// It holds now.
    Added(String),
    /// It does not hold any more.
    Removed(String),
}

/// The reason why a confirmation does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConfirmationError {
    /// It is missing, or is that of another session or change.
    Foreign,
    /// It was used, or another one was meanwhile.
    Used,
    /// The object of the change is not as its page has shown it.
    Changed(Vec<LineChange>),
}

impl ConfirmationError {
    /// Returns the status of the page that shows the change again.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Foreign => StatusCode::BAD_REQUEST,
            Self::Used | Self::Changed(_) => StatusCode::CONFLICT,
        }
    }

    /// Returns the message on that page.
    pub(super) const fn message(&self) -> &'static str {
        match self {
            Self::Foreign => {
                "The form is not that of this page: nothing was changed. Check the change, and \
                 confirm it again."
            }
            Self::Used => {
                "This page was confirmed before, or another change was since: nothing was changed. \
                 Check the change, and confirm it again."
            }
            Self::Changed(_) => {
                "It has changed since this page was opened: nothing was changed. Check the change, \
                 and confirm it again."
            }
        }
    }
}

impl ShownChange {
    /// Returns what a page shows.
    pub(super) fn new(
        id: &SessionId,
        address: String,
        earlier: u64,
        preview: &ChangePreview,
    ) -> Self {
        let ChangePreview { title, consequences, name, state, .. } = preview;
        let shown = json!([title, consequences, name, state]).to_string();
        let is_short = consequences.iter().map(String::len).sum::<usize>() <= MAX_LINES;
        let lines = if is_short { consequences.clone() } else { Vec::new() };
        Self { address, earlier, digest: id.tag(PREVIEW, &shown), lines }
    }

    /// Returns the value of the form's field: the text, and a tag that only this session can have.
    pub(super) fn seal(&self, id: &SessionId) -> String {
        let text = URL_SAFE_NO_PAD.encode(json!(self).to_string());
        format!("{text}.{}", id.tag(CONFIRMATION, &text))
    }

    /// Checks the value of the form's field against what the page shows now.
    ///
    /// # Errors
    /// The [`ConfirmationError`].
    pub(super) fn check(&self, id: &SessionId, sealed: &str) -> Result<(), ConfirmationError> {
        let shown = Self::open(id, sealed).filter(|shown| shown.address == self.address);
        let shown = shown.ok_or(ConfirmationError::Foreign)?;
        if shown.earlier != self.earlier {
            return Err(ConfirmationError::Used);
        }
        if shown.digest != self.digest {
            return Err(ConfirmationError::Changed(self.changes_since(&shown)));
        }
        Ok(())
    }

    fn open(id: &SessionId, sealed: &str) -> Option<Self> {
        let (text, tag) = sealed.split_once('.')?;
        let json = id.is_tag(CONFIRMATION, text, tag).then(|| URL_SAFE_NO_PAD.decode(text))?;
        serde_json::from_slice(&json.ok()?).ok()
    }

    fn changes_since(&self, earlier: &Self) -> Vec<LineChange> {
        if earlier.lines.is_empty() || self.lines.is_empty() {
            return Vec::new();
        }
        let added = self.lines.iter().filter(|line| !earlier.lines.contains(line));
        let removed = earlier.lines.iter().filter(|line| !self.lines.contains(line));
        let added = added.cloned().map(LineChange::Added);
        added.chain(removed.cloned().map(LineChange::Removed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use maud::html;

    use super::*;

    fn shown(
        id: &SessionId,
        address: &str,
        earlier: u64,
        lines: &[&str],
        state: &str,
    ) -> ShownChange {
        let preview = ChangePreview {
            title: "Delete the user bob".into(),
            consequences: lines.iter().map(|line| (*line).to_owned()).collect(),
            name: "bob".into(),
            state: state.into(),
            inputs: html! {},
            button: "Delete",
            back: String::new(),
            done: String::new(),
            command: String::new(),
        };
        ShownChange::new(id, address.into(), earlier, &preview)
    }

    #[test]
    fn confirmation_holds_for_the_same_page_only() {
        let [id, other] = [(); 2].map(|()| SessionId::random().unwrap());
        let page = shown(&id, "a", 1, &["x", "y"], "s");
        let sealed = page.seal(&id);
        assert_eq!(page.check(&id, &sealed), Ok(()));
        let refused = |now: &ShownChange| now.check(&id, &sealed).unwrap_err();
        assert_eq!(refused(&shown(&id, "b", 1, &["x", "y"], "s")), ConfirmationError::Foreign);
        assert_eq!(refused(&shown(&id, "a", 2, &["x"], "s")), ConfirmationError::Used);
        let state = refused(&shown(&id, "a", 1, &["x", "y"], "t"));
        assert_eq!(state, ConfirmationError::Changed(Vec::new()));
        let lines = vec![LineChange::Added("z".into()), LineChange::Removed("y".into())];
        let changed = refused(&shown(&id, "a", 1, &["x", "z"], "s"));
        assert_eq!(changed, ConfirmationError::Changed(lines));
        for forged in ["", ".", &sealed[1..], &sealed.replace('.', ""), &page.seal(&other)] {
            assert_eq!(page.check(&id, forged), Err(ConfirmationError::Foreign), "{forged}");
        }
    }

    #[test]
    fn long_pages_are_compared_without_their_lines() {
        let id = SessionId::random().unwrap();
        let long = "x".repeat(MAX_LINES);
        let page = shown(&id, "a", 0, &[&long, "y"], "");
        assert!(page.seal(&id).len() < 300);
        assert_eq!(page.check(&id, &page.seal(&id)), Ok(()));
        let changed = shown(&id, "a", 0, &[&long, "z"], "").check(&id, &page.seal(&id));
        assert_eq!(changed, Err(ConfirmationError::Changed(Vec::new())));
    }
}
