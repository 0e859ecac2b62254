//! The tenants, which are known from tokens only.

use serde_json::json;

use super::{AdminCall, Answer, page::ListPage};
use crate::observe::request_series::RequestSeries;

/// Returns a [`ListPage`] of the tenants with requests.
pub(super) fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let series = call.context.authenticator.metrics.series();
    let mut counts = series.map(RequestSeries::tenant_counts).unwrap_or_default();
    counts.sort_by(|(one, _), (other, _)| one.cmp(other));
    let items = counts.into_iter().map(|(name, count)| {
        let tenant = json!({ "name": name, "requests": count.all, "refused": count.refused });
        (name, tenant)
    });
    Ok(page.of_all(call, items))
}
