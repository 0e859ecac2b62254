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
    config::{Place, Protocols, Serves},
    crew::{self, Crew, runtime},
    keysource,
    listen::{
        accept::{self, Accepted, Acceptor},
        quic,
    },
    reload::{self, Watched},
    worker::Local,
};

/// Where the server listens, once it does: of each listener its name, and its places.
#[derive(Clone, Debug)]
pub struct Bound(pub Vec<BoundListener>);

/// A listener that is bound.
#[derive(Clone, Debug)]
pub struct BoundListener {
    /// Its name.
    pub name: String,
    /// What it answers.
    pub serves: Serves,
    /// Its places.
    pub places: Vec<Place>,
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
    watched: Watched,
    listening: impl FnOnce(&Bound),
) -> io::Result<()> {
    allow_many_files(app);
    LocalSet::new().block_on(&runtime()?, supervise(app, threads, watched, listening))
}

/// Connections are files to the system, which allows a process few of them unless it
/// asks for more.
fn allow_many_files(app: &App) {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    // What counts is the limit there is in the end.
    let _not_allowed = setrlimit(Resource::Nofile, raised);
    let wanted = app.server().patience.connections;
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if u64::try_from(wanted).is_ok_and(|wanted| allowed < wanted.saturating_add(OTHER_FILES)) {
        tracing::warn!(
            "the system allows this process {allowed} open files, which is too few for {wanted} connections: raise the limit \
             (LimitNOFILE= of systemd, ulimit -n), or lower connections in [limits]"
        );
    }
}

/// Files that are no connections: logs, keys, sockets that listen.
const OTHER_FILES: u64 = 64;

/// Listens, hands connections out, and in the end waits for them.
async fn supervise(
    app: &Arc<App>,
    threads: usize,
    watched: Watched,
    listening: impl FnOnce(&Bound),
) -> io::Result<()> {
    let acceptors = bind_all(app)?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (tell, told) = std::sync::mpsc::channel();
    spawn_local(reload_when_told(signal(SignalKind::hangup())?, tell));
    keysource::spawn(app)?;
    reload::spawn(app, watched, told)?;
    let local = Rc::new(Local::new(Arc::clone(app)));
    let crew = Rc::new(Crew::start(Rc::clone(&local), threads)?);
    crew.receive(bind_datagrams(app, &acceptors, threads)?);
    let bound = bound(app, &acceptors);
    listening(&bound);
    app.upkeep.begin(app, name(&bound));
    reload::notify(&[NotifyState::Ready]);

    let looking_after = Rc::clone(&crew);
    spawn_local(async move { looking_after.sweep().await });
    // Every connection of theirs holds on to it.
    let operators = Rc::new(());
    let mut accepting = Vec::new();
    for (listener, acceptor) in acceptors {
        if app.server().listeners[listener].serves == Serves::Operations {
            let (local, operators) = (Rc::clone(&local), Rc::clone(&operators));
            spawn_local(
                acceptor
                    .accept(move |accepted| serve_operator(&local, &operators, listener, accepted)),
            );
        } else {
            let crew = Rc::clone(&crew);
            let hand_over = move |accepted| crew.serve(listener, accepted);
            accepting.push(spawn_local(acceptor.accept(hand_over)).abort_handle());
        }
    }
    told_to_stop(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping: connections get {} s to finish", local.patience.drain.as_secs());
    app.stop();
    let left = app.upkeep.leave();
    reload::notify(&[NotifyState::Stopping]);
    accepting.iter().for_each(AbortHandle::abort);
    tokio::select! {
        () = crew.drain() => {}
        () = told_to_stop(&mut terminate, &mut interrupt) => tracing::warn!("told twice: what is open is cut off"),
    }
    // Mostly it is done by now, and without a database nobody waits for it.
    if let Some(left) = left {
        let _unavailable = left.recv_timeout(FAREWELL);
    }
    Ok(())
}

/// How long the database has to forget this server, when all connections are closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Metrics and probes are asked for rarely, and not quickly answered: this is not for
/// the workers, nor do those who ask count among the connections that are limited.
fn serve_operator(local: &Rc<Local>, operators: &Rc<()>, listener: usize, accepted: Accepted) {
    /// The most of their connections.
    const MOST: usize = 256;
    if Rc::strong_count(operators) <= MOST {
        crew::serve(Rc::clone(local), listener, accepted, Rc::clone(operators));
    }
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// SIGHUP: to read everything again that can be.
async fn reload_when_told(mut hangup: Signal, tell: std::sync::mpsc::Sender<()>) {
    while hangup.recv().await.is_some() && tell.send(()).is_ok() {}
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
        for place in &listener.places {
            let acceptor = match inherited.iter().position(|acceptor| acceptor.place() == place) {
                Some(open) => inherited.swap_remove(open),
                None => Acceptor::bind(place, &listener.option)?,
            };
            acceptors.push((index, acceptor));
        }
    }
    if let Some(left) = inherited.first() {
        let text = format!(
            "a socket was passed on that listens on {}, and no listener is configured there",
            left.place()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(acceptors)
}

/// Every socket of HTTP/3: at the addresses of its listener, one for each thread. Says in
/// what is answered elsewhere that there is HTTP/3.
fn bind_datagrams(
    app: &App,
    acceptors: &[(usize, Acceptor)],
    threads: usize,
) -> io::Result<Vec<quic::Place>> {
    let server = app.server();
    let keys = match &server.quic.keys {
        Some(keys) => keys.clone(),
        None => quic::Keys::random()?,
    };
    let threads = u16::try_from(threads).unwrap_or(u16::MAX);
    let (mut places, mut alternatives) = (Vec::new(), vec![None; server.listeners.len()]);
    for (index, listener) in
        server.listeners.iter().enumerate().filter(|(_, listener)| listener.protocols.http3)
    {
        let own = acceptors.iter().filter(|(of, _)| *of == index);
        // Where port 0 came to be.
        let bound: Vec<_> = own.map(|(_, acceptor)| acceptor.place().clone()).collect();
        let addresses = if bound.is_empty() { &listener.places } else { &bound };
        for address in addresses.iter().filter_map(Place::address) {
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
            places.extend((0..).zip(sockets).map(|(thread, socket)| quic::Place {
                listener: index,
                thread,
                threads: sharing,
                socket,
                keys: keys.clone(),
            }));
        }
    }
    app.set_alternatives(alternatives.into_iter().map(Option::flatten).collect());
    Ok(places)
}

/// What operators know this server by: the machine, and where it listens first.
fn name(bound: &Bound) -> String {
    let host = uname().nodename().to_string_lossy().into_owned();
    match bound.0.first().and_then(|main| main.places.first()) {
        Some(place) => format!("{host} ({place})"),
        None => host,
    }
}

fn bound(app: &App, acceptors: &[(usize, Acceptor)]) -> Bound {
    let server = app.server();
    let bound = server.listeners.iter().enumerate().map(|(index, listener)| {
        let own = acceptors.iter().filter(|(of, _)| *of == index);
        BoundListener {
            name: listener.name.clone(),
            serves: listener.serves,
            places: match listener.protocols.use_tcp() {
                true => own.map(|(_, acceptor)| acceptor.place().clone()).collect(),
                false => listener.places.clone(),
            },
            scheme: listener.scheme(),
            protocols: listener.protocols,
        }
    });
    Bound(bound.collect())
}
