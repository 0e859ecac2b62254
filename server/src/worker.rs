//! What the connections of one thread share, and nobody else.

use std::{cell::RefCell, mem, rc::Rc, sync::Arc};

use crate::{
    admission::Gate,
    app::App,
    config::{Patience, Server},
    listen::{fields::section::Room, watch::Watches},
    requests::{Answered, Line},
};

/// One thread's share of the server.
pub struct Local {
    /// What all threads share.
    pub app: Arc<App>,
    /// The thread's budgets.
    pub gate: Gate,
    /// How long connections may take.
    pub patience: Patience,
    /// Its connections.
    pub watches: Rc<Watches>,
    /// Memory to read into and write from.
    pub buffers: Buffers,
}

impl Local {
    /// A thread without connections yet.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let server = app.server();
        let (gate, patience) = (Gate::new(server.limits), server.patience);
        drop(server);
        Self { app, gate, patience, watches: Rc::default(), buffers: Buffers::default() }
    }

    /// Counts an answer, and writes it down if it is to be, and there is a line of it.
    pub fn note(&self, server: &Server, answered: Answered, line: impl FnOnce() -> Option<Line>) {
        self.app.metrics.answered(
            answered.route,
            answered.status,
            Some(answered.started.elapsed()),
        );
        if server.log.writes(answered.outcome, answered.status)
            && let Some(line) = line()
        {
            line.write(&answered);
        }
    }
}

/// Memory that connections use while they are busy. Those that wait have none, so
/// there are about as many buffers as connections that are busy at the same time.
#[derive(Default)]
pub struct Buffers {
    /// To read field sections in.
    pub(crate) sections: RefCell<Room>,
    input: RefCell<Vec<Box<[u8]>>>,
    output: RefCell<Vec<Vec<u8>>>,
}

/// Room for what is left over of a head, and as much again.
const INPUT: usize = 64 * 1024;
/// An answer is put together in this much, and a larger one grows.
const OUTPUT: usize = 4 * 1024;
/// How many are kept for the next connection.
const KEPT: usize = 16;

impl Buffers {
    /// Takes a buffer to read into.
    #[must_use]
    pub fn take_input(&self) -> Box<[u8]> {
        self.input.borrow_mut().pop().unwrap_or_else(|| vec![0; INPUT].into())
    }

    /// Gives it back.
    pub fn return_input(&self, buffer: Box<[u8]>) {
        let mut input = self.input.borrow_mut();
        if input.len() < KEPT {
            input.push(buffer);
        }
    }

    /// Makes sure that there is memory to write to.
    pub fn lend_output(&self, output: &mut Vec<u8>) {
        if output.capacity() == 0 {
            *output = self.output.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(OUTPUT));
        }
    }

    /// Takes it back, emptied.
    pub fn return_output(&self, output: &mut Vec<u8>) {
        let mut taken = mem::take(output);
        taken.clear();
        let mut kept = self.output.borrow_mut();
        if kept.len() < KEPT && (1..=16 * OUTPUT).contains(&taken.capacity()) {
            kept.push(taken);
        }
    }
}
