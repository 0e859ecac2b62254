//! Telling the connections of one thread to finish what they are doing.

use std::{
    cell::Cell,
    pin::pin,
    task::{Context, Poll},
};

use tokio::sync::Notify;

/// Whether the connections of this thread are to end. It lives on one thread, so
/// that asking costs a connection nothing.
#[derive(Debug, Default)]
pub struct Drain {
    started: Cell<bool>,
    waiting: Notify,
}

impl Drain {
    /// Lets every connection of the thread answer its request in progress and close.
    pub fn start(&self) {
        self.started.set(true);
        self.waiting.notify_waiters();
    }

    /// Whether it has started.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started.get()
    }

    /// Runs `poll` as a future that is also polled when draining starts. The task is
    /// registered once, not with every poll.
    pub async fn wake_for<R>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
        let mut waiting = pin!(self.waiting.notified());
        let mut registered = false;
        std::future::poll_fn(move |context| {
            if !std::mem::replace(&mut registered, true) {
                let _not_yet = waiting.as_mut().poll(context);
            }
            poll(context)
        })
        .await
    }
}
