//! Life cycle of the server process: bind the sockets, start the workers, serve until a signal,
//! drain.

mod sockets;

use std::{io, rc::Rc, sync::Arc, thread, time::Duration};

use countersign_front::{
    WorkerContext, WorkerPool, accept::AcceptedConnection, serve::serve as serve_connection,
    worker_pool::runtime,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{AbortHandle, LocalSet, spawn_local},
    time::sleep,
};

pub use self::sockets::{BoundListener, BoundListeners};
use crate::{
    app::{App, AppService},
    base::route::Serves,
    feed::{FeedServer, publisher::FeedPublisher},
    keys,
    observe::figures::SAMPLE_INTERVAL,
    reload::{self, ConfigWatcher},
};

/// Returns the number of threads that serve requests: one per core by default.
#[must_use]
pub fn threads(configured: Option<usize>) -> usize {
    configured.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Serves until SIGTERM or SIGINT. Calls `listening` once every socket is bound.
///
/// # Errors
/// An address cannot be bound, or the operating system cannot create a thread.
pub fn serve(
    app: &Arc<App>,
    threads: usize,
    watched: ConfigWatcher,
    listening: impl FnOnce(&BoundListeners),
) -> io::Result<()> {
    raise_file_limit(app);
    LocalSet::new().block_on(&runtime()?, supervise(app, threads, watched, listening))
}

/// Raises the limit of open files to its maximum, because every connection uses one.
fn raise_file_limit(app: &App) {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    // Only the resulting limit matters.
    let _ignored = setrlimit(Resource::Nofile, raised);
    let wanted = app.settings().timeouts.connections;
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if u64::try_from(wanted).is_ok_and(|wanted| allowed < wanted.saturating_add(RESERVED_FILES)) {
        tracing::warn!(
            "the system allows this process {allowed} open files, which is too few for {wanted} \
             connections: raise the limit (LimitNOFILE= of systemd, ulimit -n), or lower \
             connections in [limits]"
        );
    }
}

/// Open files other than connections: logs, keys, listening sockets.
const RESERVED_FILES: u64 = 64;

async fn supervise(
    app: &Arc<App>,
    threads: usize,
    watcher: ConfigWatcher,
    listening: impl FnOnce(&BoundListeners),
) -> io::Result<()> {
    let acceptors = sockets::bind_all(app)?;
    // Until the last connection is closed: the tiers that follow it decide as this server does.
    let _feed = start_feed(app)?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (reload_sender, reload_receiver) = std::sync::mpsc::channel();
    spawn_local(reload_on_hangup(signal(SignalKind::hangup())?, reload_sender));
    let store = app.users.as_ref().map(|users| users.store.clone());
    keys::refresh::spawn(&app.authenticator.verifier, &app.authenticator.keys, store)?;
    reload::spawn(app, watcher, reload_receiver)?;

    let acceptor = Rc::new(AppService::worker(Arc::clone(app), 0));
    let timeouts = acceptor.timeouts;
    let shared = Arc::clone(app);
    let service = move |index| AppService::new(Arc::clone(&shared), index);
    let connections = Arc::clone(&app.connections);
    let pool = Rc::new(WorkerPool::start(Rc::clone(&acceptor), threads, connections, service)?);
    pool.receive(sockets::bind_udp(app, &acceptors, threads)?);
    let bound = BoundListeners::new(app, &acceptors);
    listening(&bound);
    app.maintenance.start(app.maintained(), bound.server_name());
    reload::notify(&[NotifyState::Ready]);

    let sweeper = Rc::clone(&pool);
    spawn_local(async move { sweeper.sweep().await });
    spawn_local(take_samples(Arc::clone(app)));
    // Each connection to an operations listener holds a reference.
    let operations = Rc::new(());
    let mut accepting = Vec::new();
    for (listener, socket) in acceptors {
        if app.settings().listeners[listener].serves == Serves::Operations {
            let (worker, open) = (Rc::clone(&acceptor), Rc::clone(&operations));
            let serve = move |accepted| serve_operations(&worker, &open, listener, accepted);
            spawn_local(socket.accept(serve));
        } else {
            let pool = Rc::clone(&pool);
            let serve = move |accepted| pool.serve(listener, accepted);
            accepting.push(spawn_local(socket.accept(serve)).abort_handle());
        }
    }
    stop_signal(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping: connections get {} s to finish", timeouts.drain.as_secs());
    app.stop();
    let withdrawn = app.maintenance.withdraw();
    reload::notify(&[NotifyState::Stopping]);
    accepting.iter().for_each(AbortHandle::abort);
    tokio::select! {
        () = pool.drain() => {}
        () = stop_signal(&mut terminate, &mut interrupt) => {
            tracing::warn!("second signal: closing remaining connections");
        }
    }
    if let Some(identities) = &app.authenticator.identities {
        identities.uses.return_leases().await;
    }
    app.audit.flush();
    // Usually complete by now.
    if let Some(withdrawn) = withdrawn {
        let _ignored = withdrawn.recv_timeout(WITHDRAW_TIMEOUT);
    }
    Ok(())
}

/// Starts the feed for tiers in other processes, if the configuration has its socket.
fn start_feed(app: &App) -> io::Result<Option<FeedServer>> {
    let Some(settings) = &app.feed else { return Ok(None) };
    let digests = app.digests.subscribe();
    let publisher = FeedPublisher::new(&app.authenticator.keys, &app.revocations, digests)
        .map_err(|_| io::Error::other("the system has no randomness"))?;
    let publisher = app.feed_publisher.get_or_init(|| publisher);
    FeedServer::start(settings, Arc::clone(publisher)).map(Some)
}

/// Timeout for deleting this server's heartbeat from the database, after all connections are
/// closed.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a connection to an operations listener on the acceptor's thread. Scrapes and probes
/// are rare and slow, so they stay off the workers and out of their connection limit.
fn serve_operations(
    worker: &Rc<WorkerContext<AppService>>,
    open: &Rc<()>,
    listener: usize,
    accepted: AcceptedConnection,
) {
    const MAX_CONNECTIONS: usize = 256;
    if Rc::strong_count(open) <= MAX_CONNECTIONS {
        serve_connection(Rc::clone(worker), listener, accepted, Rc::clone(open));
    }
}

/// Takes samples of the recent figures, while a listener serves the console or the Admin API.
async fn take_samples(app: Arc<App>) {
    loop {
        let is_shown = {
            let settings = app.settings();
            settings.console.listener.is_some() || settings.api.issues_tokens()
        };
        if is_shown {
            app.figures.add_sample(&app.authenticator.metrics);
        }
        sleep(SAMPLE_INTERVAL).await;
    }
}

async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Requests a reload with every SIGHUP.
async fn reload_on_hangup(mut hangup: Signal, reload_sender: std::sync::mpsc::Sender<()>) {
    while hangup.recv().await.is_some() && reload_sender.send(()).is_ok() {}
}
