//! Threads that hash passwords: few, so that they take no more memory and time than they
//! were given, and behind those that answer requests in the scheduler's eyes.

use std::{io, thread, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::nice;
use tokio::sync::oneshot;

use super::password::HashingMemory;

/// Where passwords are handed in to be hashed.
#[derive(Clone)]
pub struct HashingPool(Sender<Job>);

type Job = Box<dyn FnOnce(&mut HashingMemory) + Send>;

/// More passwords wait than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingBusyError;

/// How long 64 MiB are kept that nobody uses.
const MEMORY_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much less time than others a thread gets, when there is none to spare.
const NICE: i32 = 15;

impl HashingPool {
    /// So many threads, and so many passwords that may wait for them.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(threads: usize, waiting: usize) -> io::Result<Self> {
        let (jobs, queue) = bounded(waiting);
        for number in 0..threads {
            let queue = queue.clone();
            thread::Builder::new().name(format!("hashing-{number}")).spawn(move || work(&queue))?;
        }
        Ok(Self(jobs))
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// Does something with the memory to hash in, when it is its turn.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HashingMemory) -> T + Send + 'static,
    ) -> Result<T, HashingBusyError> {
        let (answer, answered) = oneshot::channel();
        let job = move |memory: &mut HashingMemory| {
            // Who has gone need not be told, nor worked for.
            if !answer.is_closed() {
                let _gone_meanwhile = answer.send(work(memory));
            }
        };
        self.0.try_send(Box::new(job)).map_err(|_| HashingBusyError)?;
        answered.await.map_err(|_| HashingBusyError)
    }
}

fn work(queue: &Receiver<Job>) {
    // Of this thread alone, on Linux. Without it everything works, but logins are felt.
    let _not_allowed = nice(NICE);
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
    async fn more_than_may_wait_are_told_so_at_once() {
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
