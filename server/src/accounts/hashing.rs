//! Pool of password hashing threads.
//!
//! The pool is small, which bounds the memory and CPU time of logins. Its threads run at a lower
//! scheduling priority (`nice`) than those that answer requests.

use std::{io, thread, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::nice;
use tokio::sync::oneshot;

use super::password::HashingMemory;

/// Handle of the hashing threads: a bounded queue of jobs.
#[derive(Clone)]
pub struct HashingPool(Sender<Job>);

type Job = Box<dyn FnOnce(&mut HashingMemory) + Send>;

/// Error of [`HashingPool::run`]: the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingBusyError;

/// Time after which an idle thread frees its 64 MiB of [`HashingMemory`].
const MEMORY_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Niceness of the threads, on a scale up to 19.
const NICE: i32 = 15;

impl HashingPool {
    /// Starts `threads` threads with a queue of `waiting` jobs.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn start(threads: usize, waiting: usize) -> io::Result<Self> {
        let (jobs, queue) = bounded(waiting);
        for number in 0..threads {
            let queue = queue.clone();
            thread::Builder::new().name(format!("hashing-{number}")).spawn(move || work(&queue))?;
        }
        Ok(Self(jobs))
    }

    /// Returns the number of queued jobs.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// Runs `work` on a hashing thread, with that thread's memory.
    ///
    /// # Errors
    /// The queue is full.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HashingMemory) -> T + Send + 'static,
    ) -> Result<T, HashingBusyError> {
        let (result, received) = oneshot::channel();
        let job = move |memory: &mut HashingMemory| {
            // Skipped if the request has been cancelled meanwhile.
            if !result.is_closed() {
                let _ignored = result.send(work(memory));
            }
        };
        self.0.try_send(Box::new(job)).map_err(|_| HashingBusyError)?;
        received.await.map_err(|_| HashingBusyError)
    }
}

fn work(queue: &Receiver<Job>) {
    // On Linux, `nice` applies to the calling thread only. A failure is harmless: logins then
    // compete with requests for CPU time.
    let _ignored = nice(NICE);
    let mut memory = HashingMemory::default();
    loop {
        match queue.recv_timeout(MEMORY_IDLE_TIMEOUT) {
            Ok(job) => job(&mut memory),
            Err(RecvTimeoutError::Timeout) => memory = HashingMemory::default(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn full_hashing_queue_refuses_at_once() {
        let hashing = HashingPool::start(1, 1).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let first = tokio::spawn({
            let hashing = hashing.clone();
            async move { hashing.run(move |_| begun.send(()).is_ok() && held.recv().is_ok()).await }
        });
        has_begun.await.unwrap();
        let second = tokio::spawn({
            let hashing = hashing.clone();
            async move { hashing.run(|_| 2).await }
        });
        while hashing.0.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(hashing.run(|_| 3).await, Err(HashingBusyError));
        release.send(()).unwrap();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(true), Ok(2)));
    }
}
