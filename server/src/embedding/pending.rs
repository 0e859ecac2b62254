//! Checks that wait, for keys or for the turn of a signature check, on a thread of the tier.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use countersign_front::{RequestHead, Step, worker_pool::runtime};
use http::StatusCode;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use super::{
    CheckDecision, ConnectionCertificate, DecisionCallback, DecisionParts, EmbeddedRequest,
    decide_request, head::KeptHead,
};
use crate::{
    admission::Admission,
    app::App,
    base::{clock::since_boot, reply::empty},
    observe::metrics::Metrics,
};

/// A copy of a request whose check waits.
pub(super) struct PendingCheck {
    listener: usize,
    head: KeptHead,
    is_tls: bool,
    peer: IpAddr,
    certificate: ConnectionCertificate<'static>,
    parts: DecisionParts,
}

impl PendingCheck {
    pub(super) fn new(listener: usize, request: &EmbeddedRequest<'_, impl RequestHead>) -> Self {
        let EmbeddedRequest { head, is_tls, peer, certificate, parts } = *request;
        let (head, certificate) = (KeptHead::new(head), certificate.kept());
        Self { listener, head, is_tls, peer, certificate, parts }
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.head.held_bytes()
    }
}

/// Passes checks to the thread on which they wait. Dropping it refuses those that still wait.
pub(super) struct CheckQueue {
    checks: UnboundedSender<(PendingCheck, PendingCallback)>,
    /// Memory that the waiting checks hold, in bytes.
    held: Arc<AtomicUsize>,
    /// The end of [`STARTUP`], a time of [`since_boot`].
    startup_end: Duration,
}

/// Time from the start of a tier in which checks wait for the first keys and revocations.
const STARTUP: Duration = Duration::from_secs(5);

impl CheckQueue {
    /// Starts the thread.
    pub(super) fn start(app: Arc<App>) -> io::Result<Self> {
        let (checks, received) = unbounded_channel();
        let runtime = runtime()?;
        let startup_end = since_boot().saturating_add(STARTUP);
        thread::Builder::new().name("checks".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, run(app, startup_end, received));
        })?;
        Ok(Self { checks, held: Arc::default(), startup_end })
    }

    /// Whether checks wait for the first keys and revocations.
    pub(super) fn is_starting(&self) -> bool {
        since_boot() < self.startup_end
    }

    /// Makes a check wait. `limit` is the memory for all of them, in bytes.
    pub(super) fn submit(&self, check: PendingCheck, limit: usize, callback: DecisionCallback) {
        let bytes = check.held_bytes();
        let held = HeldBytes { all: Arc::clone(&self.held), bytes };
        // Relaxed: a counter.
        let is_too_much =
            self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > limit;
        // If it is dropped, the callback gets a refusal: here, or if the thread has ended.
        let callback = PendingCallback { call: Some(callback), _held: held };
        if !is_too_much {
            let _ignored = self.checks.send((check, callback));
        }
    }
}

/// Memory that a waiting check holds, which is given back when this is dropped.
struct HeldBytes {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The callback of a check, which is called exactly once: with a refusal if the check ends without
/// a decision, because the tier is stopped or has a defect.
struct PendingCallback {
    call: Option<DecisionCallback>,
    _held: HeldBytes,
}

impl PendingCallback {
    fn call(&mut self, decision: &CheckDecision) {
        if let Some(call) = self.call.take() {
            call(decision);
        }
    }
}

impl Drop for PendingCallback {
    fn drop(&mut self) {
        let mut refusal = CheckDecision::default();
        if thread::panicking() {
            refusal.refuse(StatusCode::INTERNAL_SERVER_ERROR);
        } else {
            refusal.refuse_overload();
        }
        self.call(&refusal);
    }
}

async fn run(
    app: Arc<App>,
    startup_end: Duration,
    mut checks: UnboundedReceiver<(PendingCheck, PendingCallback)>,
) {
    Metrics::use_shard(0);
    let admission = Rc::new(Admission::new(app.settings().limits));
    while let Some((check, mut callback)) = checks.recv().await {
        let (app, admission) = (Arc::clone(&app), Rc::clone(&admission));
        spawn_local(async move {
            let mut decision = CheckDecision::default();
            decide_after(&app, &admission, startup_end, &check, &mut decision).await;
            callback.call(&decision);
        });
    }
}

/// Whether a request is refused because keys or revocations are missing. A server is not asked
/// before it is ready, but a proxy that starts or is reloaded has requests at once.
pub(super) fn is_undecided(decision: &CheckDecision) -> bool {
    decision.status() == StatusCode::SERVICE_UNAVAILABLE
}

/// Waits until keys and revocations have been read, or the time for that is over.
async fn wait_until_ready(app: &App, startup_end: Duration) {
    const INTERVAL: Duration = Duration::from_millis(5);
    let ready = async {
        while !app.is_ready() {
            sleep(INTERVAL).await;
        }
    };
    // Afterwards, the decision has the reason.
    let _timed_out = timeout(startup_end.saturating_sub(since_boot()), ready).await;
}

/// Decides about a request after what it has to wait for, and writes the decision.
async fn decide_after(
    app: &App,
    admission: &Admission,
    startup_end: Duration,
    check: &PendingCheck,
    decision: &mut CheckDecision,
) {
    let head = check.head.head();
    let request = EmbeddedRequest {
        head: &head,
        is_tls: check.is_tls,
        peer: check.peer,
        certificate: check.certificate,
        parts: check.parts,
    };
    let was_ready = app.is_ready();
    let mut step = decide_request(app, admission, check.listener, &request, decision);
    if matches!(step, Step::Done(())) && !was_ready && is_undecided(decision) {
        wait_until_ready(app, startup_end).await;
        step = decide_request(app, admission, check.listener, &request, decision);
    }
    let Step::Wait(pending) = step else { return };
    let settings = || app.settings_arc();
    let written = pending.finish(&app.authenticator, settings, |settings, decided| {
        decision.write(settings, &request, &decided);
        empty(StatusCode::OK).into()
    });
    written.await;
}
