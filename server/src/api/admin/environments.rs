//! The environments, whose ids other calls have in their paths.

use serde_json::json;

use super::{AdminCall, Answer, page::ListPage};

/// Returns a [`ListPage`] of the environments.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let mut environments = call.users.store.environments(false).await?;
    environments.sort_by(|one, other| one.id.cmp(&other.id));
    let items = environments.into_iter().map(|one| {
        let shown = json!({ "id": one.id, "name": one.name, "project": one.project_id });
        (one.id, shown)
    });
    Ok(page.of_all(call, items))
}
