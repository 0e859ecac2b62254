//! The servers that share the database.

use countersign_engine::UnixTime;
use serde_json::{Value, json};

use super::{AdminCall, Answer, page::ListPage, time};
use crate::{base::clock, cluster::comparison::ACTIVE_WINDOW_SECONDS, store::servers::ServerRun};

/// Returns a [`ListPage`] of the servers.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let since = UnixTime(clock::now().0.saturating_sub(ACTIVE_WINDOW_SECONDS));
    let servers = call.users.store.servers_active_since(since).await?;
    let key = |server: &ServerRun| format!("{}\0{}", server.name, server.id);
    let mut items: Vec<_> = servers.iter().map(|server| (key(server), shown(server))).collect();
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(page.of_all(call, items))
}

fn shown(server: &ServerRun) -> Value {
    json!({
        "id": server.id,
        "name": server.name,
        "version": server.version,
        "started_at": time(server.started_at),
        "seen_at": time(server.seen_at),
        "sections": server.digests.sections,
        "api_keys": server.digests.api_keys,
        "signing_key": server.digests.signing_key,
    })
}
