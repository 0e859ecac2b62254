//! Turns of login attempts: for each username, one attempt at a time.

#[expect(clippy::disallowed_types, reason = "see `LoginTurns`")]
use std::sync::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use tokio::sync::oneshot;

/// The turns by username, given by a keyed hash.
///
/// Waiting attempts are served in the order of the failed logins of their source, fewest first, and
/// then of their arrival: a source that has not failed yet passes those of an attacker.
#[derive(Clone, Default)]
pub(super) struct LoginTurns {
    #[expect(clippy::disallowed_types, reason = "held for a look-up; a password takes far longer")]
    queues: Arc<Mutex<HashMap<u64, Vec<WaitingLogin>>>>,
}

/// A waiting attempt.
struct WaitingLogin {
    /// Failed logins of its source for this username.
    failures: u32,
    /// Passes the turn. Closed if the attempt was cancelled.
    turn: oneshot::Sender<LoginTurn>,
}

/// The turn of one attempt. Dropping it passes it on.
pub(super) struct LoginTurn {
    turns: LoginTurns,
    username: u64,
    /// Whether the receiver of this turn was gone, so that the turn has been passed on already.
    is_void: bool,
}

/// The queue of a username is full, or too many usernames have one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

/// Attempts that wait for one username.
pub(super) const MAX_WAITERS: usize = 8;
/// Usernames with an attempt at the same time.
const MAX_USERNAMES: usize = 1024;

impl LoginTurns {
    /// Waits for the turn of an attempt.
    ///
    /// # Errors
    /// Too many attempts wait. An attempt that waits already is refused for one whose source has
    /// failed less often.
    pub(super) async fn acquire(
        &self,
        username: u64,
        failures: u32,
    ) -> Result<LoginTurn, QueueFull> {
        match self.enter(username, failures)? {
            None => Ok(self.turn(username)),
            Some(received) => received.await.map_err(|_| QueueFull),
        }
    }

    /// Takes a free turn, or enters the queue.
    fn enter(
        &self,
        username: u64,
        failures: u32,
    ) -> Result<Option<oneshot::Receiver<LoginTurn>>, QueueFull> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let usernames = queues.len();
        let Some(waiters) = queues.get_mut(&username) else {
            if usernames >= MAX_USERNAMES {
                return Err(QueueFull);
            }
            queues.insert(username, Vec::new());
            return Ok(None);
        };
        waiters.retain(|waiter| !waiter.turn.is_closed());
        if waiters.len() >= MAX_WAITERS {
            let last = (0..waiters.len()).max_by_key(|index| waiters[*index].failures);
            let last = last.filter(|last| waiters[*last].failures > failures).ok_or(QueueFull)?;
            waiters.remove(last);
        }
        let (turn, received) = oneshot::channel();
        waiters.push(WaitingLogin { failures, turn });
        Ok(Some(received))
    }

    /// Removes the next waiting attempt, or the empty queue.
    fn next(&self, username: u64) -> Option<WaitingLogin> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let waiters = queues.get_mut(&username)?;
        // The first of those with the fewest.
        match (0..waiters.len()).min_by_key(|index| waiters[*index].failures) {
            Some(first) => Some(waiters.remove(first)),
            None => {
                queues.remove(&username);
                None
            }
        }
    }

    fn turn(&self, username: u64) -> LoginTurn {
        LoginTurn { turns: self.clone(), username, is_void: false }
    }
}

impl Drop for LoginTurn {
    fn drop(&mut self) {
        if self.is_void {
            return;
        }
        while let Some(waiter) = self.turns.next(self.username) {
            match waiter.turn.send(self.turns.turn(self.username)) {
                Ok(()) => return,
                // Cancelled: the next one gets the turn.
                Err(mut unsent) => unsent.is_void = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enters the queue of a username that has a turn.
    fn wait(turns: &LoginTurns, failures: u32) -> oneshot::Receiver<LoginTurn> {
        turns.enter(1, failures).unwrap().expect("the turn is taken")
    }

    #[tokio::test]
    async fn turn_goes_to_the_fewest_failures_first() {
        let turns = LoginTurns::default();
        let first = turns.acquire(1, 0).await.unwrap();
        let _other = turns.acquire(2, 0).await.unwrap();
        let (mut failed, mut early, mut late) = (wait(&turns, 3), wait(&turns, 0), wait(&turns, 0));
        assert!(early.try_recv().is_err());
        drop(first);
        let turn = early.try_recv().unwrap();
        assert!(failed.try_recv().is_err() && late.try_recv().is_err());
        drop(turn);
        drop(late.try_recv().unwrap());
        drop(failed.try_recv().unwrap());
        assert!(turns.enter(1, 0).unwrap().is_none(), "the turn is free again");
    }

    #[tokio::test]
    async fn cancelled_attempt_passes_its_turn_on() {
        let turns = LoginTurns::default();
        let first = turns.acquire(1, 0).await.unwrap();
        let (cancelled, received, mut last) = (wait(&turns, 0), wait(&turns, 0), wait(&turns, 0));
        drop(cancelled);
        drop(first);
        // Cancelled after the turn was passed, before it was received.
        drop(received);
        assert!(last.try_recv().is_ok());
    }

    #[tokio::test]
    async fn full_queue_prefers_sources_without_failures() {
        let turns = LoginTurns::default();
        let _first = turns.acquire(1, 0).await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITERS).map(|_| wait(&turns, 2)).collect();
        assert_eq!(turns.enter(1, 2).err(), Some(QueueFull));
        let _received = wait(&turns, 1);
        assert!(waiting.pop().unwrap().await.is_err(), "the last of those with the most failures");
        // A cancelled attempt leaves its place.
        waiting.pop();
        let _late = wait(&turns, 2);
        assert_eq!(turns.enter(1, 2).err(), Some(QueueFull));
    }

    #[tokio::test]
    async fn number_of_usernames_is_bounded() {
        let turns = LoginTurns::default();
        let held: Vec<_> = (0..MAX_USERNAMES as u64).map(|name| turns.enter(name, 0)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(turns.enter(u64::MAX, 0).err(), Some(QueueFull));
        drop(turns.turn(0));
        assert!(turns.enter(u64::MAX, 0).is_ok());
    }
}
