//! The threads that serve connections. Each has a runtime of its own, and a connection never
//! leaves its thread.
//!
//! With one thread, the acceptor serves connections itself, so that nothing is handed over.
//! With more, accepting has a thread to itself: otherwise it would wait behind the work of its
//! own connections when it is needed most.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    accept::AcceptedConnection,
    connection_counts::{ConnectionCounts, OpenConnection},
    deadline::TICK,
    quic,
    serve::serve,
    service::Service,
    timeouts::Timeouts,
    worker_context::WorkerContext,
};

/// All threads that serve connections.
pub struct WorkerPool<S> {
    /// The thread that accepts.
    acceptor: Rc<WorkerContext<S>>,
    connections: Arc<ConnectionCounts>,
    /// The other threads; none once they are to end.
    workers: RefCell<Vec<Worker>>,
}

/// A command to a worker.
enum WorkerCommand {
    /// Serve a connection.
    Serve { listener: usize, accepted: AcceptedConnection, open: OpenConnection },
    /// Serve what arrives at a QUIC socket.
    Receive(quic::UdpBinding),
    /// Wake the connections that are late. Workers have no timer of their own, as it would
    /// cost a system call for every wait.
    Sweep,
}

impl<S: Service> WorkerPool<S> {
    /// Starts the threads beside the one that accepts: none if `threads` is 1. `make` is
    /// called once on each thread, with the index of the worker.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(
        acceptor: Rc<WorkerContext<S>>,
        threads: usize,
        connections: Arc<ConnectionCounts>,
        make: impl Fn(usize) -> S + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let others = if threads > 1 { threads } else { 0 };
        let start = |index| {
            let (make, connections) = (make.clone(), Arc::clone(&connections));
            Worker::start(index, acceptor.timeouts, connections, make)
        };
        let workers = (0..others).map(start).collect::<io::Result<_>>()?;
        Ok(Self { acceptor, connections, workers: RefCell::new(workers) })
    }

    /// Hands a connection to the worker with the fewest, unless too many are open.
    pub fn serve(&self, listener: usize, accepted: AcceptedConnection) {
        let counts = &self.connections;
        let open = counts.per_worker();
        if open.iter().sum::<usize>() >= self.acceptor.timeouts.connections {
            counts.refuse();
            let service = &self.acceptor.service;
            return match service.tls(listener) {
                None => accepted.refuse(service.overloaded()),
                Some(_) => drop(accepted),
            };
        }
        let workers = self.workers.borrow();
        match workers.iter().zip(0..).min_by_key(|(_, index)| open.get(*index)) {
            Some((worker, index)) => {
                let open = counts.open(index);
                // A worker that has ended drops the command, which closes the connection.
                let _ignored =
                    worker.commands.send(WorkerCommand::Serve { listener, accepted, open });
            }
            None => serve(Rc::clone(&self.acceptor), listener, accepted, counts.open(0)),
        }
    }

    /// Starts receiving at QUIC sockets, each on the worker that it is bound for.
    pub fn receive(&self, bindings: Vec<quic::UdpBinding>) {
        let workers = self.workers.borrow();
        for binding in bindings {
            match workers.get(usize::from(binding.thread)) {
                Some(worker) => drop(worker.commands.send(WorkerCommand::Receive(binding))),
                None => receive(&self.acceptor, &self.connections, binding),
            }
        }
    }

    /// Sweeps the deadlines of all connections with every tick, forever.
    pub async fn sweep(&self) {
        every_tick(|| {
            self.acceptor.deadlines.sweep();
            for worker in &*self.workers.borrow() {
                let _ignored = worker.commands.send(WorkerCommand::Sweep);
            }
        })
        .await;
    }

    /// Lets connections finish their requests; returns when all are closed or
    /// [`Timeouts::drain`] is over.
    pub async fn drain(&self) {
        let workers = self.workers.take();
        if workers.is_empty() {
            return drain(&self.acceptor, &self.connections).await;
        }
        // All are told to end, by closing their queues, before any is waited for.
        let ending: Vec<_> = workers.into_iter().map(|one| (one.ended, one.thread)).collect();
        for (mut ended, thread) in ending {
            let _closed = ended.recv().await;
            let _panicked = thread.join();
        }
    }
}

/// One thread that serves connections, until its queue is closed.
struct Worker {
    commands: mpsc::UnboundedSender<WorkerCommand>,
    thread: JoinHandle<()>,
    /// Closes when the thread has served its last connection.
    ended: mpsc::Receiver<()>,
}

impl Worker {
    fn start<S: Service>(
        index: usize,
        timeouts: Timeouts,
        connections: Arc<ConnectionCounts>,
        make: impl FnOnce(usize) -> S + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, queue) = mpsc::unbounded_channel();
        let (running, ended) = mpsc::channel(1);
        let runtime = runtime()?;
        let thread = thread::Builder::new().name(format!("worker:{index}")).spawn(move || {
            let context = Rc::new(WorkerContext::new(make(index), index, timeouts));
            LocalSet::new().block_on(&runtime, work(context, &connections, queue));
            drop(running);
        })?;
        Ok(Self { commands, thread, ended })
    }
}

async fn work<S: Service>(
    context: Rc<WorkerContext<S>>,
    connections: &Arc<ConnectionCounts>,
    mut queue: mpsc::UnboundedReceiver<WorkerCommand>,
) {
    while let Some(command) = queue.recv().await {
        match command {
            WorkerCommand::Serve { listener, accepted, open } => {
                serve(Rc::clone(&context), listener, accepted, open);
            }
            WorkerCommand::Receive(binding) => receive(&context, connections, binding),
            WorkerCommand::Sweep => context.deadlines.sweep(),
        }
    }
    tokio::select! {
        () = every_tick(|| context.deadlines.sweep()) => {}
        () = drain(&context, connections) => {}
    }
}

/// Drains the connections of one worker. Those that are open after the deadline are closed.
async fn drain<S>(context: &WorkerContext<S>, connections: &ConnectionCounts) {
    context.deadlines.drain();
    let drained = async {
        let mut checks = interval(Duration::from_millis(10));
        while connections.of_worker(context.index) > 0 {
            checks.tick().await;
        }
    };
    let _elapsed = timeout(context.timeouts.drain, drained).await;
}

/// Calls `call` with every tick, forever.
async fn every_tick(mut call: impl FnMut()) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        call();
    }
}

/// Starts receiving QUIC datagrams on this thread.
fn receive<S: Service>(
    context: &Rc<WorkerContext<S>>,
    connections: &Arc<ConnectionCounts>,
    binding: quic::UdpBinding,
) {
    match quic::QuicEndpoint::new(Rc::clone(context), Arc::clone(connections), binding) {
        Ok(endpoint) => drop(spawn_local(endpoint.serve())),
        Err(error) => tracing::error!("cannot serve HTTP/3 on this thread: {error}"),
    }
}

/// A runtime for one thread.
///
/// # Errors
/// The operating system's, when it is out of file descriptors.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
