//! Connection deadlines and draining: one sweep per thread instead of a timer per request.
//!
//! A runtime timer for every request would cost more than the request. Here a connection stores
//! the tick at which its current phase expires, which is one store into its [`Deadline`].
//! [`Deadlines::sweep`] runs every [`TICK`], twice a second, and wakes the connections whose
//! deadline has passed. A deadline is therefore up to one tick late, and never early.
//!
//! [`Deadlines::drain`] wakes every connection of the thread for shutdown.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::task::yield_now;

/// The interval between two sweeps.
pub const TICK: Duration = Duration::from_millis(500);

/// The deadlines of all connections of one thread.
#[derive(Default)]
pub struct Deadlines {
    tick: Cell<u32>,
    draining: Cell<bool>,
    all: RefCell<Vec<Weak<Deadline>>>,
}

impl Deadlines {
    /// Creates the [`Deadline`] of a connection. It wakes the calling task.
    pub async fn register(self: &Rc<Self>) -> Rc<Deadline> {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let deadline = Rc::new(Deadline {
            group: Rc::clone(self),
            due: Cell::new(u32::MAX),
            is_idle: Cell::new(false),
            waker,
        });
        self.all.borrow_mut().push(Rc::downgrade(&deadline));
        deadline
    }

    /// Advances the tick, wakes the connections whose deadline has passed, and drops closed
    /// ones. The caller runs it every [`TICK`].
    pub fn sweep(&self) {
        self.tick.set(self.tick.get() + 1);
        self.all.borrow_mut().retain(|deadline| {
            let Some(deadline) = deadline.upgrade() else { return false };
            if deadline.has_elapsed() {
                deadline.waker.wake_by_ref();
            }
            true
        });
    }

    /// Starts draining: every connection answers the requests it has received and closes.
    ///
    /// An idle connection stays open for one more [`TICK`], because a request may be on its
    /// way. All connections are woken, because HTTP/2 and HTTP/3 announce the shutdown (GOAWAY)
    /// before their requests are answered.
    pub fn drain(&self) {
        self.draining.set(true);
        for deadline in self.all.borrow().iter().filter_map(Weak::upgrade) {
            if deadline.is_idle.get() {
                deadline.due_within(TICK);
            }
            deadline.waker.wake_by_ref();
        }
    }

    /// Whether [`drain`](Self::drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

/// The deadline of one connection's current phase.
pub struct Deadline {
    /// The group whose tick this deadline is measured in.
    group: Rc<Deadlines>,
    /// The tick at which the current phase expires.
    due: Cell<u32>,
    is_idle: Cell<bool>,
    waker: Waker,
}

impl Deadline {
    /// Starts a phase that may take `limit`, rounded up to the next tick plus at most one more.
    pub fn due_within(&self, limit: Duration) {
        let ticks = limit.as_millis().div_ceil(TICK.as_millis());
        self.is_idle.set(false);
        self.due.set(
            self.group
                .tick
                .get()
                .saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX))
                .saturating_add(1),
        );
    }

    /// Starts the idle phase, in which the connection waits for a request. While the server
    /// drains, it lasts at most one [`TICK`].
    pub fn idle_for(&self, limit: Duration) {
        self.due_within(if self.group.is_draining() { TICK.min(limit) } else { limit });
        self.is_idle.set(true);
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn has_elapsed(&self) -> bool {
        self.group.tick.get() >= self.due.get()
    }

    /// Whether connections are draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.group.is_draining()
    }

    /// Runs a poll function until it is ready or the deadline passes.
    ///
    /// # Errors
    /// [`DeadlineElapsed`].
    pub async fn poll_fn<R>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Result<R, DeadlineElapsed> {
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending if self.has_elapsed() => Poll::Ready(Err(DeadlineElapsed)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Runs a future until it is ready or the deadline passes.
    ///
    /// # Errors
    /// [`DeadlineElapsed`].
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, DeadlineElapsed> {
        let mut future = pin!(future);
        self.poll_fn(|cx| future.as_mut().poll(cx)).await
    }
}

/// Reschedules the calling task behind every other ready task of its thread, including those
/// whose sockets have become ready by now.
///
/// Waking the task itself is not enough: tokio would run it again, many times, before it polls
/// the sockets for events. [`yield_now`] defers the wake-up until after that poll.
pub fn yield_to_ready(cx: &mut Context<'_>) {
    // The first poll of `yield_now` registers the deferred wake-up and returns `Pending`. The
    // caller returns `Pending` too, so the future is not needed any more.
    let _pending = pin!(yield_now()).as_mut().poll(cx);
}

/// The deadline of a connection has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineElapsed;

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline() -> (Rc<Deadlines>, Rc<Deadline>) {
        let all = Rc::new(Deadlines::default());
        let mut registering = pin!(all.register());
        let Poll::Ready(deadline) =
            registering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!()
        };
        (Rc::clone(&all), deadline)
    }

    /// Counts the sweeps until the deadline has passed.
    fn ticks(all: &Deadlines, deadline: &Deadline) -> u32 {
        (0..).inspect(|_| all.sweep()).find(|_| deadline.has_elapsed()).unwrap() + 1
    }

    #[test]
    fn deadline_never_elapses_early() {
        let (all, deadline) = deadline();
        for (limit, least) in [(0, 1), (1, 2), (500, 2), (501, 3), (10_000, 21)] {
            deadline.due_within(Duration::from_millis(limit));
            assert!(!deadline.has_elapsed());
            assert_eq!(ticks(&all, &deadline), least, "{limit} ms");
        }
        deadline.due_within(Duration::from_secs(u64::MAX));
        all.sweep();
        assert!(!deadline.has_elapsed());
    }

    #[test]
    fn drain_shortens_only_idle_deadlines() {
        let (all, idle) = deadline();
        let mut registering = pin!(all.register());
        let Poll::Ready(busy) = registering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!()
        };
        idle.idle_for(Duration::from_secs(60));
        busy.due_within(Duration::from_secs(60));
        all.drain();
        assert_eq!(ticks(&all, &idle), 2);
        assert!(!busy.has_elapsed());
        busy.idle_for(Duration::from_secs(60));
        assert_eq!(ticks(&all, &busy), 2);
    }

    #[test]
    fn sweep_drops_closed_connections() {
        let (all, deadline) = deadline();
        drop(deadline);
        all.sweep();
        assert!(all.all.borrow().is_empty());
    }
}
