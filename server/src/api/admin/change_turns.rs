//! Turns of changes. A change and the comparison of `If-Match` before it are one step for the other
//! changes by this API: of two with the same tag at the same time, one is made.
//!
//! # Synchronization
//! A change holds one of [`LOCKS`] locks, which the name or id of its resource selects, until it is
//! made. The locks are fair. Each server has its own, so that changes by two servers have no order.

use tokio::sync::{Mutex, MutexGuard};

use super::AdminCall;
use crate::base::secret_hash::hash;

/// Number of locks: a change that takes long, such as of a password, delays few others.
const LOCKS: usize = 64;

static TURNS: [Mutex<()>; LOCKS] = [const { Mutex::const_new(()) }; LOCKS];

/// Waits until no other change of the same resource is being made. `None` for a call that does not
/// compare tags.
pub(super) async fn wait(call: &AdminCall<'_>) -> Option<MutexGuard<'static, ()>> {
    if !call.operation.has_precondition() {
        return None;
    }
    Some(TURNS.get(index(resource(call)))?.lock().await)
}

/// Returns the name or the id of what a call changes. The role and the environment of an assignment
/// belong to its user.
fn resource<'c>(call: &'c AdminCall<'_>) -> &'c str {
    let mut names = ["username", "id", "jti", "role"].into_iter();
    let named = names.find_map(|name| {
        let text = call.path_parameter(name);
        (!text.is_empty()).then_some(text)
    });
    named.unwrap_or_default()
}

fn index(resource: &str) -> usize {
    let [first, ..] = hash(resource.as_bytes());
    usize::from(first) % LOCKS
}
