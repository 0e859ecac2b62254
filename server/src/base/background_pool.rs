//! Pools of threads for work that takes a core for milliseconds: hashes of passwords, and checks of
//! certificates.
//!
//! A pool is small and its queue bounded, which bounds the memory and CPU time of logins. Its
//! threads run at a lower scheduling priority (`nice`) than those that answer requests.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::nice;
use tokio::sync::oneshot;

/// Handle of the threads: a bounded queue of jobs. Each thread has a working memory `M`.
pub struct BackgroundPool<M>(Sender<Job<M>>);

type Job<M> = Box<dyn FnOnce(&mut M) + Send>;

/// Error of [`BackgroundPool::run`]: the queue is full, or the work has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundBusyError;

/// Time after which an idle thread frees its working memory.
const MEMORY_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Niceness of the threads, on a scale up to 19.
const NICE: i32 = 15;

impl<M> Clone for BackgroundPool<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Default + 'static> BackgroundPool<M> {
    /// Starts `threads` threads with a queue of `waiting` jobs. They end with the last handle.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn start(name: &str, threads: usize, waiting: usize) -> io::Result<Self> {
        let (jobs, queue) = bounded(waiting);
        for number in 0..threads {
            let queue = queue.clone();
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || work(&queue))?;
        }
        Ok(Self(jobs))
    }

    /// Returns the number of queued jobs.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// Runs `work` on one of the threads, with that thread's memory.
    ///
    /// # Errors
    /// The queue is full, or `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut M) -> T + Send + 'static,
    ) -> Result<T, BackgroundBusyError> {
        let (result, received) = oneshot::channel();
        let job = move |memory: &mut M| {
            // Skipped if the request has been cancelled meanwhile.
            if !result.is_closed() {
                let _ignored = result.send(work(memory));
            }
        };
        self.0.try_send(Box::new(job)).map_err(|_| BackgroundBusyError)?;
        received.await.map_err(|_| BackgroundBusyError)
    }
}

fn work<M: Default>(queue: &Receiver<Job<M>>) {
    // On Linux, `nice` applies to the calling thread only. A failure is harmless: logins then
    // compete with requests for CPU time.
    let _ignored = nice(NICE);
    let mut memory = M::default();
    loop {
        match queue.recv_timeout(MEMORY_IDLE_TIMEOUT) {
            // A job that panics fails alone, and its thread goes on with new memory.
            Ok(job) => {
                if catch_unwind(AssertUnwindSafe(|| job(&mut memory))).is_err() {
                    memory = M::default();
                }
            }
            Err(RecvTimeoutError::Timeout) => memory = M::default(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn full_queue_refuses_at_once() {
        let pool = BackgroundPool::<()>::start("test", 1, 1).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move |_| begun.send(()).is_ok() && held.recv().is_ok()).await }
        });
        has_begun.await.unwrap();
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|_| 2).await }
        });
        while pool.0.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|_| 3).await, Err(BackgroundBusyError));
        release.send(()).unwrap();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(true), Ok(2)));
    }
    #[tokio::test]
    async fn panic_of_a_job_does_not_end_its_thread() {
        let pool = BackgroundPool::<u32>::start("test", 1, 1).unwrap();
        let failed = pool.run(|memory| {
            *memory = 5;
            panic!("expected by the test")
        });
        assert_eq!(failed.await, Err::<(), _>(BackgroundBusyError));
        assert_eq!(pool.run(|memory| *memory).await, Ok(0));
    }
}
