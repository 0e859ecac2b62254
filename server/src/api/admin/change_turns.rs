//! Turns of changes. A change and the comparison of `If-Match` before it are one step for the other
//! changes by this API: of two with the same tag at the same time, one is made.
//!
//! # Synchronization
//! A change holds one of [`LOCKS`] locks, which the name or id of its resource selects, until it is
//! made. The locks are fair. Each server has its own, so that changes by two servers have no order.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::{AdminCall, error::AdminError};
use crate::base::secret_hash::hash;

/// Number of locks: a change that takes long, such as of a password, delays few others.
const LOCKS: usize = 64;
/// Longest wait for changes in front of this one, twice the longest call of the database.
const MAX_WAIT: Duration = Duration::from_secs(10);

static TURNS: [Mutex<()>; LOCKS] = [const { Mutex::const_new(()) }; LOCKS];

/// Waits until no other change of the same resource is being made. `None` for a call that needs no
/// turn.
///
/// # Errors
/// The changes in front of this one take too long.
pub(super) async fn wait(
    call: &AdminCall<'_>,
) -> Result<Option<MutexGuard<'static, ()>>, AdminError> {
    const BUSY: &str = "other changes are being made: try again";
    if !needs_turn(call) {
        return Ok(None);
    }
    let Some(lock) = TURNS.get(index(resource(call))) else { return Ok(None) };
    match timeout(MAX_WAIT, lock.lock()).await {
        Ok(turn) => Ok(Some(turn)),
        Err(_) => Err(AdminError::unavailable(BUSY)),
    }
}

/// Whether a call compares tags. A user who proves the current password needs no turn: each attempt
/// takes seconds if it fails, in which others could not change the user, and of two changes the
/// second one has the wrong password.
fn needs_turn(call: &AdminCall<'_>) -> bool {
    call.operation.has_precondition() && call.body.get("current_password").is_none()
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
