//! Clock with microsecond precision. A runtime's timers have milliseconds, ten times the length of
//! an answer.

use std::{
    cell::{Cell, RefCell},
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    task::{Poll, Waker},
    time::Instant,
};

use super::schedule::Nanoseconds;

/// Time since a start, and the tasks that wait for a time.
pub struct Clock {
    start: Cell<Instant>,
    sleepers: RefCell<BinaryHeap<Reverse<Sleeper>>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Cell::new(Instant::now()), sleepers: RefCell::default() }
    }
}

impl Clock {
    /// Restarts the clock at zero.
    pub fn restart(&self) {
        self.start.set(Instant::now());
    }

    /// Returns the time since the start.
    pub fn now(&self) -> Nanoseconds {
        u64::try_from(self.start.get().elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until `due`; returns at once if that is past.
    pub async fn wait_until(&self, due: Nanoseconds) {
        let mut waits = false;
        std::future::poll_fn(|context| {
            if self.now() >= due {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut waits, true) {
                self.sleepers
                    .borrow_mut()
                    .push(Reverse(Sleeper { due, waker: context.waker().clone() }));
            }
            Poll::Pending
        })
        .await;
    }

    /// Wakes due tasks, forever. It never sleeps, so this thread needs a core of its own.
    pub async fn run(&self) {
        loop {
            self.wake();
            tokio::task::yield_now().await;
        }
    }

    fn wake(&self) {
        let mut sleepers = self.sleepers.borrow_mut();
        if sleepers.is_empty() {
            return;
        }
        let now = self.now();
        while sleepers.peek().is_some_and(|Reverse(sleeper)| sleeper.due <= now) {
            if let Some(Reverse(sleeper)) = sleepers.pop() {
                sleeper.waker.wake();
            }
        }
    }
}

struct Sleeper {
    due: Nanoseconds,
    waker: Waker,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[test]
    fn clock_wakes_tasks_in_order_and_never_early() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (clock, woken) = (Rc::new(Clock::default()), Rc::new(RefCell::new(Vec::new())));
        LocalSet::new().block_on(&runtime, async {
            let sleepers = [900_000, 0, 300_000, 600_000].map(|due| {
                let (clock, woken) = (Rc::clone(&clock), Rc::clone(&woken));
                spawn_local(async move {
                    clock.wait_until(due).await;
                    assert!(clock.now() >= due);
                    woken.borrow_mut().push(due);
                })
            });
            let runner = Rc::clone(&clock);
            let runner = spawn_local(async move { runner.run().await });
            for sleeper in sleepers {
                sleeper.await.unwrap();
            }
            runner.abort();
        });
        assert_eq!(*woken.borrow(), [0, 300_000, 600_000, 900_000]);
    }
}
