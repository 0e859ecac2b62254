//! What the connections of one thread share, and nobody else.

use std::{cell::RefCell, mem, rc::Rc, sync::Arc};

use crate::{
    admission::Admission,
    app::App,
    config::{Server, Timeouts},
    listen::{fields::section::SectionBuffer, watch::Deadlines},
    requests::{AccessLogEntry, CompletedRequest},
};

/// One thread's share of the server.
pub struct WorkerContext {
    /// What all threads share.
    pub app: Arc<App>,
    /// The thread's budgets.
    pub admission: Admission,
    /// How long connections may take.
    pub timeouts: Timeouts,
    /// Its connections.
    pub deadlines: Rc<Deadlines>,
    /// Memory to read into and write from.
    pub buffers: BufferPool,
}

impl WorkerContext {
    /// A thread without connections yet.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let server = app.server();
        let (admission, timeouts) = (Admission::new(server.limits), server.timeouts);
        drop(server);
        Self { app, admission, timeouts, deadlines: Rc::default(), buffers: BufferPool::default() }
    }

    /// Counts an answer, and writes it down if it is to be, and there is a line of it.
    pub fn record_answer(
        &self,
        server: &Server,
        answered: CompletedRequest,
        entry: impl FnOnce() -> Option<AccessLogEntry>,
    ) {
        self.app.metrics.count_answer(
            answered.route,
            answered.status,
            Some(answered.started.elapsed()),
        );
        if server.log.should_log(answered.outcome, answered.status)
            && let Some(entry) = entry()
        {
            entry.write(&answered);
        }
    }
}

/// Memory that connections use while they are busy. Those that wait have none, so
/// there are about as many buffers as connections that are busy at the same time.
#[derive(Default)]
pub struct BufferPool {
    /// To read field sections in.
    pub(crate) sections: RefCell<SectionBuffer>,
    input: RefCell<Vec<Box<[u8]>>>,
    output: RefCell<Vec<Vec<u8>>>,
}

/// SectionBuffer for what is left over of a head, and as much again.
const INPUT_BYTES: usize = 64 * 1024;
/// An answer is put together in this much, and a larger one grows.
const OUTPUT_BYTES: usize = 4 * 1024;
/// How many are kept for the next connection.
const MAX_POOLED: usize = 16;

impl BufferPool {
    /// Takes a buffer to read into.
    #[must_use]
    pub fn take_input(&self) -> Box<[u8]> {
        self.input.borrow_mut().pop().unwrap_or_else(|| vec![0; INPUT_BYTES].into())
    }

    /// Gives it back.
    pub fn return_input(&self, buffer: Box<[u8]>) {
        let mut input = self.input.borrow_mut();
        if input.len() < MAX_POOLED {
            input.push(buffer);
        }
    }

    /// Makes sure that there is memory to write to.
    pub fn lend_output(&self, output: &mut Vec<u8>) {
        if output.capacity() == 0 {
            *output =
                self.output.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES));
        }
    }

    /// Takes it back, emptied.
    pub fn return_output(&self, output: &mut Vec<u8>) {
        let mut taken = mem::take(output);
        taken.clear();
        let mut kept = self.output.borrow_mut();
        if kept.len() < MAX_POOLED && (1..=16 * OUTPUT_BYTES).contains(&taken.capacity()) {
            kept.push(taken);
        }
    }
}
