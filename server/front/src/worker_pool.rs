//! Pool of worker threads, thread-per-core: each worker has its own runtime, and a connection never
//! leaves its worker.
//!
//! With one thread, the acceptor serves connections itself. With more, the acceptor has a thread of
//! its own. Otherwise, under load, accepting would wait behind the work of its own connections.

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
    worker_context::WorkerContext,
};

/// The worker threads, owned by the acceptor's thread.
pub struct WorkerPool<S> {
    /// The worker on the acceptor's thread. It serves connections if there are no other workers.
    acceptor: Rc<WorkerContext<S>>,
    connections: Arc<ConnectionCounts>,
    /// The other workers; empty once draining has started.
    workers: RefCell<Vec<Worker>>,
}

/// A command to a worker.
enum WorkerCommand {
    /// Serve a connection.
    Serve { listener: usize, accepted: AcceptedConnection, open: OpenConnection },
    /// Serve the connections of a QUIC socket.
    Receive(quic::UdpBinding),
    /// Sweep the deadlines. Workers have no timer of their own, which would cost a system call for
    /// every wait.
    Sweep,
}

impl<S: Service> WorkerPool<S> {
    /// Starts `threads` workers beside the acceptor, or none if `threads` is 1. Each new thread
    /// calls `make` once, with the index of its worker.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn start(
        acceptor: Rc<WorkerContext<S>>,
        threads: usize,
        connections: Arc<ConnectionCounts>,
        make: impl Fn(usize) -> S + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let others = if threads > 1 { threads } else { 0 };
        let start = |index| {
            let (make, connections) = (make.clone(), Arc::clone(&connections));
            Worker::start(index, &acceptor, connections, make)
        };
        let workers = (0..others).map(start).collect::<io::Result<_>>()?;
        Ok(Self { acceptor, connections, workers: RefCell::new(workers) })
    }

    /// Passes a connection to the worker with the fewest connections. Above
    /// [`Timeouts::connections`](crate::Timeouts::connections), it is refused with
    /// [`Service::overloaded`] or, under TLS and over SPOP, closed.
    pub fn serve(&self, listener: usize, accepted: AcceptedConnection) {
        let counts = &self.connections;
        let open = counts.per_worker();
        if open.iter().sum::<usize>() >= self.acceptor.timeouts.connections {
            counts.refuse();
            let service = &self.acceptor.service;
            // The response is one of HTTP/1.
            let is_plain = service.tls(listener).is_none() && !service.protocols(listener).spop;
            return if is_plain { accepted.refuse(service.overloaded()) } else { drop(accepted) };
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

    /// Starts receiving at QUIC sockets, each on the worker named by its
    /// [`UdpBinding`](quic::UdpBinding).
    pub fn receive(&self, bindings: Vec<quic::UdpBinding>) {
        let workers = self.workers.borrow();
        for binding in bindings {
            match workers.get(usize::from(binding.thread)) {
                Some(worker) => drop(worker.commands.send(WorkerCommand::Receive(binding))),
                None => receive(&self.acceptor, &self.connections, binding),
            }
        }
    }

    /// Sweeps the deadlines of all connections every [`TICK`]. Never returns.
    pub async fn sweep(&self) {
        every_tick(|| {
            self.acceptor.deadlines.sweep();
            for worker in &*self.workers.borrow() {
                let _ignored = worker.commands.send(WorkerCommand::Sweep);
            }
        })
        .await;
    }

    /// Drains the connections: they finish their requests and close. Returns when all are closed, or
    /// after [`Timeouts::drain`](crate::Timeouts::drain).
    pub async fn drain(&self) {
        let workers = self.workers.take();
        if workers.is_empty() {
            return drain(&self.acceptor, &self.connections).await;
        }
        // Dropping the senders closes all queues, which ends the workers, before the first join.
        let ending: Vec<_> =
            workers.into_iter().map(|worker| (worker.ended, worker.thread)).collect();
        for (mut ended, thread) in ending {
            let _closed = ended.recv().await;
            let _panicked = thread.join();
        }
    }
}

/// Handle of a worker thread, which serves connections until its queue is closed.
struct Worker {
    commands: mpsc::UnboundedSender<WorkerCommand>,
    thread: JoinHandle<()>,
    /// Closed when the thread ends.
    ended: mpsc::Receiver<()>,
}

impl Worker {
    fn start<S: Service>(
        index: usize,
        acceptor: &WorkerContext<S>,
        connections: Arc<ConnectionCounts>,
        make: impl FnOnce(usize) -> S + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, queue) = mpsc::unbounded_channel();
        let (running, ended) = mpsc::channel(1);
        let runtime = runtime()?;
        let WorkerContext { timeouts, limits, .. } = *acceptor;
        let memory = Arc::clone(&acceptor.memory);
        let thread = thread::Builder::new().name(format!("worker:{index}")).spawn(move || {
            let worker = WorkerContext::new(make(index), index, timeouts, limits);
            let worker = Rc::new(WorkerContext { memory, ..worker });
            LocalSet::new().block_on(&runtime, work(worker, &connections, queue));
            drop(running);
        })?;
        Ok(Self { commands, thread, ended })
    }
}

async fn work<S: Service>(
    worker: Rc<WorkerContext<S>>,
    connections: &Arc<ConnectionCounts>,
    mut queue: mpsc::UnboundedReceiver<WorkerCommand>,
) {
    while let Some(command) = queue.recv().await {
        match command {
            WorkerCommand::Serve { listener, accepted, open } => {
                serve(Rc::clone(&worker), listener, accepted, open);
            }
            WorkerCommand::Receive(binding) => receive(&worker, connections, binding),
            WorkerCommand::Sweep => worker.deadlines.sweep(),
        }
    }
    tokio::select! {
        () = every_tick(|| worker.deadlines.sweep()) => {}
        () = drain(&worker, connections) => {}
    }
}

/// Drains the connections of one worker. Those that are open after the deadline are closed.
async fn drain<S>(worker: &WorkerContext<S>, connections: &ConnectionCounts) {
    worker.deadlines.drain();
    let drained = async {
        let mut checks = interval(Duration::from_millis(10));
        while connections.of_worker(worker.index) > 0 {
            checks.tick().await;
        }
    };
    let _elapsed = timeout(worker.timeouts.drain, drained).await;
}

/// Calls `call` every [`TICK`]. Never returns.
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
    worker: &Rc<WorkerContext<S>>,
    connections: &Arc<ConnectionCounts>,
    binding: quic::UdpBinding,
) {
    match quic::QuicEndpoint::new(Rc::clone(worker), Arc::clone(connections), binding) {
        Ok(endpoint) => drop(spawn_local(endpoint.serve())),
        Err(error) => tracing::error!("cannot serve HTTP/3 on this thread: {error}"),
    }
}

/// Creates a single-threaded runtime for the calling thread.
///
/// # Errors
/// The operating system's error, such as too many open files.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
