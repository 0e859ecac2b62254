//! What the connections of one worker thread share.

use std::{cell::RefCell, mem, rc::Rc};

use crate::{deadline::Deadlines, fields::section::SectionBuffer, timeouts::Timeouts};

/// One thread's part of the server.
pub struct WorkerContext<S> {
    /// Answers the requests.
    pub service: S,
    /// The index of the worker among those of its pool.
    pub index: usize,
    /// How long connections may take.
    pub timeouts: Timeouts,
    /// The deadlines of the connections.
    pub deadlines: Rc<Deadlines>,
    /// Memory to read into and write from.
    pub buffers: BufferPool,
}

impl<S> WorkerContext<S> {
    /// A worker without connections.
    #[must_use]
    pub fn new(service: S, index: usize, timeouts: Timeouts) -> Self {
        let (deadlines, buffers) = (Rc::default(), BufferPool::default());
        Self { service, index, timeouts, deadlines, buffers }
    }
}

/// Memory that connections use while they are busy. Idle connections have none, so there are
/// about as many buffers as connections that are busy at the same time.
#[derive(Default)]
pub struct BufferPool {
    /// To decode field sections in.
    pub(crate) sections: RefCell<SectionBuffer>,
    input: RefCell<Vec<Box<[u8]>>>,
    output: RefCell<Vec<Vec<u8>>>,
}

/// Length of an input buffer: twice the longest head, so that a partial head leaves room.
const INPUT_BYTES: usize = 64 * 1024;
/// Initial capacity of an output buffer. A larger response grows it.
const OUTPUT_BYTES: usize = 4 * 1024;
/// The most buffers of each kind that are pooled.
const MAX_POOLED: usize = 16;

impl BufferPool {
    /// Takes a buffer to read into.
    #[must_use]
    pub fn take_input(&self) -> Box<[u8]> {
        self.input.borrow_mut().pop().unwrap_or_else(|| vec![0; INPUT_BYTES].into())
    }

    /// Returns an input buffer to the pool.
    pub fn return_input(&self, buffer: Box<[u8]>) {
        let mut pooled = self.input.borrow_mut();
        if pooled.len() < MAX_POOLED {
            pooled.push(buffer);
        }
    }

    /// Gives `output` memory to write to, if it has none.
    pub fn lend_output(&self, output: &mut Vec<u8>) {
        if output.capacity() == 0 {
            *output =
                self.output.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES));
        }
    }

    /// Takes that memory back, and leaves `output` empty. A buffer that has grown large is
    /// freed.
    pub fn return_output(&self, output: &mut Vec<u8>) {
        let mut taken = mem::take(output);
        taken.clear();
        let mut pooled = self.output.borrow_mut();
        if pooled.len() < MAX_POOLED && (1..=16 * OUTPUT_BYTES).contains(&taken.capacity()) {
            pooled.push(taken);
        }
    }
}
