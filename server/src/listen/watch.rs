//! The connections of one thread, watched from the side: for taking too long, and
//! for telling them that the server stops.
//!
//! A timer for every request would cost more than the request. Here a connection
//! notes by which tick it wants to have got on, which is one store, and a sweep over
//! all of them, twice a second, wakes those that have not.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::task::yield_now;

/// The time between two sweeps.
pub const TICK: Duration = Duration::from_millis(500);

/// All connections of a thread.
#[derive(Default)]
pub struct Deadlines {
    tick: Cell<u32>,
    draining: Cell<bool>,
    all: RefCell<Vec<Weak<Deadline>>>,
}

impl Deadlines {
    /// Deadlines one more connection, by the task that calls.
    pub async fn register(self: &Rc<Self>) -> Rc<Deadline> {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let deadline = Rc::new(Deadline {
            all: Rc::clone(self),
            due: Cell::new(u32::MAX),
            is_idle: Cell::new(false),
            waker,
        });
        self.all.borrow_mut().push(Rc::downgrade(&deadline));
        deadline
    }

    /// Wakes the connections that are late. To be called with every [`TICK`].
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

    /// Lets every connection answer what it has been asked and close. One that is
    /// idle is given a moment: a question may be on its way. All are woken, as some can
    /// say goodbye before they are done.
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

/// One connection, as seen from the side.
pub struct Deadline {
    all: Rc<Deadlines>,
    /// The tick by which it wants to have got on.
    due: Cell<u32>,
    is_idle: Cell<bool>,
    waker: Waker,
}

impl Deadline {
    /// Gives the connection so much time for what it does now, and up to a tick more.
    pub fn due_within(&self, limit: Duration) {
        let ticks = limit.as_millis().div_ceil(TICK.as_millis());
        self.is_idle.set(false);
        self.due.set(
            self.all
                .tick
                .get()
                .saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX))
                .saturating_add(1),
        );
    }

    /// The same for a connection that waits for a request; when draining has begun,
    /// there is not much to wait for.
    pub fn idle_for(&self, limit: Duration) {
        self.due_within(if self.all.is_draining() { TICK.min(limit) } else { limit });
        self.is_idle.set(true);
    }

    /// Whether its time is over.
    #[must_use]
    pub fn has_elapsed(&self) -> bool {
        self.all.tick.get() >= self.due.get()
    }

    /// Whether connections are to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.all.is_draining()
    }

    /// Runs `poll` until it is done or the time is over.
    ///
    /// # Errors
    /// The time is over.
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

    /// Runs a future until it is done or the time is over.
    ///
    /// # Errors
    /// The time is over.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, DeadlineElapsed> {
        let mut future = pin!(future);
        self.poll_fn(|cx| future.as_mut().poll(cx)).await
    }
}

/// Has the task that calls go on when the others of its thread have had their turn, those
/// among them that something has come for by now: a task that only wakes itself goes on,
/// many times, before the sockets are looked at again.
pub fn yield_to_ready(cx: &mut Context<'_>) {
    // It is done for whoever asks a second time.
    let _to_be_woken = pin!(yield_now()).as_mut().poll(cx);
}

/// A connection did not get on in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineElapsed;

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline() -> (Rc<Deadlines>, Rc<Deadline>) {
        let all = Rc::new(Deadlines::default());
        let mut watching = pin!(all.register());
        let Poll::Ready(deadline) = watching.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!()
        };
        (Rc::clone(&all), deadline)
    }

    /// How many sweeps it takes until the connection is late.
    fn ticks(all: &Deadlines, deadline: &Deadline) -> u32 {
        (0..).inspect(|_| all.sweep()).find(|_| deadline.has_elapsed()).unwrap() + 1
    }

    #[test]
    fn a_connection_has_at_least_the_time_it_was_given() {
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
    fn draining_hurries_the_idle_only() {
        let (all, idle) = deadline();
        let mut watching = pin!(all.register());
        let Poll::Ready(busy) = watching.as_mut().poll(&mut Context::from_waker(Waker::noop()))
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
    fn the_dead_are_forgotten() {
        let (all, deadline) = deadline();
        drop(deadline);
        all.sweep();
        assert!(all.all.borrow().is_empty());
    }
}
