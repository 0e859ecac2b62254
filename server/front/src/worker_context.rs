//! State of one worker thread, shared by its connections.

use std::{cell::RefCell, mem, rc::Rc, sync::Arc};

use crate::{
    deadline::Deadlines, fields::section::SectionBuffer, request_limits::RequestLimits,
    request_memory::RequestMemory, timeouts::Timeouts,
};

/// One worker thread: its [`Service`](crate::Service), and the state shared by its connections.
pub struct WorkerContext<S> {
    /// Answers the requests.
    pub service: S,
    /// The index of the worker among those of its pool.
    pub index: usize,
    /// Timeouts and limit of connections.
    pub timeouts: Timeouts,
    /// Limits of request heads.
    pub limits: RequestLimits,
    /// The deadlines of its connections.
    pub deadlines: Rc<Deadlines>,
    /// Memory held by the requests in progress of all workers.
    pub memory: Arc<RequestMemory>,
    /// Pool of input and output buffers.
    pub buffers: BufferPool,
}

impl<S> WorkerContext<S> {
    /// Creates a worker without connections, and with a [`RequestMemory`] of its own. The caller is
    /// on the worker's thread.
    #[must_use]
    pub fn new(service: S, index: usize, timeouts: Timeouts, limits: RequestLimits) -> Self {
        Self {
            service,
            index,
            timeouts,
            limits,
            deadlines: Rc::default(),
            memory: Arc::default(),
            buffers: BufferPool::default(),
        }
    }
}

/// Pool of the buffers that connections use while they are busy. Idle connections own no buffer, so
/// the number of buffers is about that of connections busy at the same time.
#[derive(Default)]
pub struct BufferPool {
    /// Buffer for decoding field sections.
    pub(crate) sections: RefCell<SectionBuffer>,
    input: RefCell<Vec<Box<[u8]>>>,
    output: RefCell<Vec<Vec<u8>>>,
}

/// Length of an input buffer. A head that arrives in pieces is collected by its connection, so it
/// may be longer.
const INPUT_BYTES: usize = 64 * 1024;
/// Initial capacity of an output buffer. A larger response grows it.
const OUTPUT_BYTES: usize = 4 * 1024;
/// Maximum number of pooled buffers of each kind.
const MAX_POOLED: usize = 16;

impl BufferPool {
    /// Creates a pool that keeps this many bytes of long strings with their Huffman code (RFC 7541
    /// section 5.2), so that they are not decoded for each request. The default is 4 MiB.
    #[must_use]
    pub fn with_known_strings(bytes: usize) -> Self {
        let sections = RefCell::new(SectionBuffer::with_known_strings(bytes));
        Self { sections, ..Self::default() }
    }

    /// Takes an input buffer of 64 KiB, with unspecified contents.
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

    /// Gives `output` a pooled buffer, if it has no capacity.
    pub fn lend_output(&self, output: &mut Vec<u8>) {
        if output.capacity() == 0 {
            *output =
                self.output.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES));
        }
    }

    /// Returns the buffer of `output` to the pool and leaves `output` without capacity. A buffer
    /// above 64 KiB is freed.
    pub fn return_output(&self, output: &mut Vec<u8>) {
        let mut taken = mem::take(output);
        taken.clear();
        let mut pooled = self.output.borrow_mut();
        if pooled.len() < MAX_POOLED && (1..=16 * OUTPUT_BYTES).contains(&taken.capacity()) {
            pooled.push(taken);
        }
    }
}
