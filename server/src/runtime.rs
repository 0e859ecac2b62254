//! From the start to the end: sockets, the crew that serves what they accept, and
//! signals.

use std::{io, rc::Rc, sync::Arc, thread, time::Duration};

use http::HeaderValue;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    system::uname,
};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{AbortHandle, LocalSet, spawn_local},
};

use crate::{
    app::App,
    config::{ListenAddress, Protocols, Serves},
    crew::{self, WorkerPool, runtime},
    keysource,
    listen::{
        accept::{self, AcceptedConnection, Acceptor},
        quic,
    },
    reload::{self, ConfigWatcher},
    worker::WorkerContext,
};

/// Where the server listens, once it does: of each listener its name, and its places.
#[derive(Clone, Debug)]
pub struct BoundListeners(pub Vec<BoundListener>);

/// A listener that is bound.
#[derive(Clone, Debug)]
pub struct BoundListener {
    /// Its name.
    pub name: String,
    /// What it answers.
    pub serves: Serves,
    /// Its places.
    pub addresses: Vec<ListenAddress>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What is spoken there.
    pub protocols: Protocols,
}

/// How many threads serve requests.
#[must_use]
pub fn threads(configured: Option<usize>) -> usize {
    configured.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Serves until SIGTERM or SIGINT. Calls `listening` once every socket is bound.
///
/// # Errors
/// An address that cannot be bound, or a system out of threads.
pub fn serve(
    app: &Arc<App>,
    threads: usize,
    watched: ConfigWatcher,
    listening: impl FnOnce(&BoundListeners),
) -> io::Result<()> {
    raise_file_limit(app);
    LocalSet::new().block_on(&runtime()?, supervise(app, threads, watched, listening))
}

/// Connections are files to the system, which allows a process few of them unless it
/// asks for more.
fn raise_file_limit(app: &App) {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    // What counts is the limit there is in the end.
    let _not_allowed = setrlimit(Resource::Nofile, raised);
    let wanted = app.server().timeouts.connections;
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if u64::try_from(wanted).is_ok_and(|wanted| allowed < wanted.saturating_add(RESERVED_FILES)) {
        tracing::warn!(
            "the system allows this process {allowed} open files, which is too few for {wanted} connections: raise the limit \
             (LimitNOFILE= of systemd, ulimit -n), or lower connections in [limits]"
        );
    }
}

/// Files that are no connections: logs, keys, sockets that listen.
const RESERVED_FILES: u64 = 64;

/// Listens, hands connections out, and in the end waits for them.
async fn supervise(
    app: &Arc<App>,
    threads: usize,
    watched: ConfigWatcher,
    listening: impl FnOnce(&BoundListeners),
) -> io::Result<()> {
    let acceptors = bind_all(app)?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (reload_sender, reload_receiver) = std::sync::mpsc::channel();
    spawn_local(reload_on_hangup(signal(SignalKind::hangup())?, reload_sender));
    keysource::spawn(app)?;
    reload::spawn(app, watched, reload_receiver)?;
    let worker = Rc::new(WorkerContext::new(Arc::clone(app)));
    let pool = Rc::new(WorkerPool::start(Rc::clone(&worker), threads)?);
    pool.receive_udp(bind_udp(app, &acceptors, threads)?);
    let bound = bound(app, &acceptors);
    listening(&bound);
    app.upkeep.start(app, name(&bound));
    reload::notify(&[NotifyState::Ready]);

    let sweeper = Rc::clone(&pool);
    spawn_local(async move { sweeper.sweep().await });
    // Every connection of theirs holds on to it.
    let operators = Rc::new(());
    let mut accepting = Vec::new();
    for (listener, acceptor) in acceptors {
        if app.server().listeners[listener].serves == Serves::Operations {
            let (worker, operators) = (Rc::clone(&worker), Rc::clone(&operators));
            spawn_local(
                acceptor.accept(move |accepted| {
                    serve_operations(&worker, &operators, listener, accepted)
                }),
            );
        } else {
            let pool = Rc::clone(&pool);
            let hand_over = move |accepted| pool.serve(listener, accepted);
            accepting.push(spawn_local(acceptor.accept(hand_over)).abort_handle());
        }
    }
    stop_signal(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping: connections get {} s to finish", worker.timeouts.drain.as_secs());
    app.stop();
    let left = app.upkeep.withdraw();
    reload::notify(&[NotifyState::Stopping]);
    accepting.iter().for_each(AbortHandle::abort);
    tokio::select! {
        () = pool.drain() => {}
        () = stop_signal(&mut terminate, &mut interrupt) => tracing::warn!("told twice: what is open is cut off"),
    }
    // Mostly it is done by now, and without a database nobody waits for it.
    if let Some(left) = left {
        let _unavailable = left.recv_timeout(WITHDRAW_TIMEOUT);
    }
    Ok(())
}

/// How long the database has to forget this server, when all connections are closed.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(1);

/// Metrics and probes are asked for rarely, and not quickly answered: this is not for
/// the workers, nor do those who ask count among the connections that are limited.
fn serve_operations(
    worker: &Rc<WorkerContext>,
    operators: &Rc<()>,
    listener: usize,
    accepted: AcceptedConnection,
) {
    /// The most of their connections.
    const MAX_CONNECTIONS: usize = 256;
    if Rc::strong_count(operators) <= MAX_CONNECTIONS {
        crew::serve(Rc::clone(worker), listener, accepted, Rc::clone(operators));
    }
}

async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// SIGHUP: to read everything again that can be.
async fn reload_on_hangup(mut hangup: Signal, reload_sender: std::sync::mpsc::Sender<()>) {
    while hangup.recv().await.is_some() && reload_sender.send(()).is_ok() {}
}

/// Every socket, with the listener it belongs to. Those that are open already are
/// taken where they are configured.
fn bind_all(app: &App) -> io::Result<Vec<(usize, Acceptor)>> {
    let mut inherited = accept::inherited()?;
    let mut acceptors = Vec::new();
    for (index, listener) in app
        .server()
        .listeners
        .iter()
        .enumerate()
        .filter(|(_, listener)| listener.protocols.use_tcp())
    {
        for place in &listener.addresses {
            let acceptor = match inherited.iter().position(|acceptor| acceptor.address() == place) {
                Some(open) => inherited.swap_remove(open),
                None => Acceptor::bind(place, &listener.option)?,
            };
            acceptors.push((index, acceptor));
        }
    }
    if let Some(left) = inherited.first() {
        let text = format!(
            "a socket was passed on that listens on {}, and no listener is configured there",
            left.address()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(acceptors)
}

/// Every socket of HTTP/3: at the addresses of its listener, one for each thread. Says in
/// what is answered elsewhere that there is HTTP/3.
fn bind_udp(
    app: &App,
    acceptors: &[(usize, Acceptor)],
    threads: usize,
) -> io::Result<Vec<quic::UdpBinding>> {
    let server = app.server();
    let keys = match &server.quic.keys {
        Some(keys) => keys.clone(),
        None => quic::QuicKeys::random()?,
    };
    let threads = u16::try_from(threads).unwrap_or(u16::MAX);
    let (mut places, mut alternatives) = (Vec::new(), vec![None; server.listeners.len()]);
    for (index, listener) in
        server.listeners.iter().enumerate().filter(|(_, listener)| listener.protocols.http3)
    {
        let own = acceptors.iter().filter(|(of, _)| *of == index);
        // Where port 0 came to be.
        let bound: Vec<_> = own.map(|(_, acceptor)| acceptor.address().clone()).collect();
        let addresses = if bound.is_empty() { &listener.addresses } else { &bound };
        for address in addresses.iter().filter_map(ListenAddress::address) {
            let sockets = quic::bind_all(address, threads).map_err(|error| {
                let option = &listener.option;
                io::Error::new(
                    error.kind(),
                    format!(
                        "cannot receive at {address}, UDP: {error}; choose another with {option}"
                    ),
                )
            })?;
            alternatives[index].get_or_insert_with(|| {
                HeaderValue::try_from(format!("h3=\":{}\"; ma=86400", address.port())).ok()
            });
            let sharing = u16::try_from(sockets.len()).unwrap_or(u16::MAX);
            places.extend((0..).zip(sockets).map(|(thread, socket)| quic::UdpBinding {
                listener: index,
                thread,
                threads: sharing,
                socket,
                keys: keys.clone(),
            }));
        }
    }
    app.set_alt_svc(alternatives.into_iter().map(Option::flatten).collect());
    Ok(places)
}

/// What operators know this server by: the machine, and where it listens first.
fn name(bound: &BoundListeners) -> String {
    let host = uname().nodename().to_string_lossy().into_owned();
    match bound.0.first().and_then(|main| main.addresses.first()) {
        Some(place) => format!("{host} ({place})"),
        None => host,
    }
}

fn bound(app: &App, acceptors: &[(usize, Acceptor)]) -> BoundListeners {
    let server = app.server();
    let bound = server.listeners.iter().enumerate().map(|(index, listener)| {
        let own = acceptors.iter().filter(|(of, _)| *of == index);
        BoundListener {
            name: listener.name.clone(),
            serves: listener.serves,
            addresses: match listener.protocols.use_tcp() {
                true => own.map(|(_, acceptor)| acceptor.address().clone()).collect(),
                false => listener.addresses.clone(),
            },
            scheme: listener.scheme(),
            protocols: listener.protocols,
        }
    });
    BoundListeners(bound.collect())
}
