//! The load generator: request slots that take requests from a schedule.
//!
//! A free slot takes the next due time from the schedule and waits for it. While no slot is free,
//! due times pass. The next free slot then takes a due time in the past, sends its request at once,
//! and counts the latency from the due time. The latency so includes the wait for a slot, and the
//! time to connect where the connection is new.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io,
    rc::Rc,
    time::Duration,
};

use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::{
    Result,
    clock::Clock,
    corpus::{CredentialKind, PreparedRequest, RequestMix, RequestOrder},
    protocol::{Protocol, RequestSlot, ResetStorm},
    schedule::{Limit, Nanoseconds, Pace, Schedule},
    tally::Tally,
};
use crate::order::SplitMix64;

/// One load: its requests, connections and schedule.
pub struct Load<P: Protocol> {
    /// The protocol client.
    pub protocol: Rc<P>,
    /// The requests.
    pub requests: Rc<RequestMix<P::Wire>>,
    /// Whether requests are sent in order instead of at random.
    pub in_turn: bool,
    /// Concurrent connections.
    pub connections: usize,
    /// Concurrent requests on each connection.
    pub streams: usize,
    /// Number of requests after which a slot connects again, on a connection with one stream;
    /// `None` for never.
    pub per_connection: Option<u32>,
    /// When requests are due.
    pub pace: Pace,
    /// When the load ends.
    pub limit: Limit,
    /// Seed of all random choices. No two seeds forge the same signature.
    pub seed: u64,
    /// Counters of a reset storm on a separate connection, if the load has one.
    pub storm: Option<Rc<ResetStorm>>,
}

impl<P: Protocol> Load<P> {
    /// Creates a load of random requests, on one connection with one stream.
    #[must_use]
    pub fn new(protocol: P, requests: RequestMix<P::Wire>, pace: Pace, limit: Limit) -> Self {
        Self {
            protocol: Rc::new(protocol),
            requests: Rc::new(requests),
            in_turn: false,
            connections: 1,
            streams: 1,
            per_connection: None,
            pace,
            limit,
            seed: 1,
            storm: None,
        }
    }
}

/// Time to wait for late answers before the run fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs loads concurrently on this thread. The thread needs a core of its own: with an open loop,
/// or if `busy` is set, it never sleeps. Persistent connections are opened before the clock starts.
///
/// # Errors
/// The first wrong answer, a failed connection, or answers that are still missing at the end.
pub fn run<P: Protocol>(loads: Vec<Load<P>>, busy: bool) -> Result<Vec<Tally>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let time = loads.iter().map(|load| load.limit.time).max().unwrap_or_default() + ANSWER_TIMEOUT;
    let timed_out = |_| {
        format!(
            "answers were outstanding {} s after the last request was due",
            ANSWER_TIMEOUT.as_secs()
        )
    };
    runtime.block_on(async {
        tokio::time::timeout(time, LocalSet::new().run_until(run_concurrently(loads, busy)))
            .await
            .map_err(timed_out)
    })?
}

async fn run_concurrently<P: Protocol>(loads: Vec<Load<P>>, busy: bool) -> Result<Vec<Tally>> {
    let (clock, failed) = (Rc::new(Clock::default()), Rc::new(Cell::new(false)));
    let busy = busy || loads.iter().any(|load| load.pace != Pace::ClosedLoop);
    let runs: Vec<_> =
        loads.into_iter().map(|load| Rc::new(Run::new(load, &clock, &failed))).collect();
    let mut slots = Vec::new();
    for run in &runs {
        for number in 0..run.load.connections * run.load.streams {
            let open = if run.load.per_connection.is_none() {
                Some(run.connect(number).await?)
            } else {
                None
            };
            slots.push((Rc::clone(run), number, open));
        }
    }
    clock.restart();
    let slots: Vec<_> = slots
        .into_iter()
        .map(|(run, number, open)| spawn_local(run_slot(run, number, open)))
        .collect();
    let storms: Vec<_> = runs.iter().filter_map(|run| storm(&run.load)).collect();
    if busy {
        spawn_local(async move { clock.run().await });
    }
    for slot in slots {
        slot.await?.map_err(|error| error.to_string())?;
    }
    if let Some(storm) = storms.into_iter().find(JoinHandle::is_finished) {
        let Err(error) = storm.await?;
        return Err(format!("the storm: {error}").into());
    }
    Ok(runs.iter().map(|run| run.tally.borrow().clone()).collect())
}

/// Starts the load's reset storm. It ends with the runtime.
fn storm<P: Protocol>(load: &Load<P>) -> Option<JoinHandle<io::Result<Infallible>>> {
    let (protocol, storm) = (Rc::clone(&load.protocol), Rc::clone(load.storm.as_ref()?));
    Some(spawn_local(async move { protocol.storm(&storm).await }))
}

/// A running load.
struct Run<P: Protocol> {
    load: Load<P>,
    clock: Rc<Clock>,
    schedule: RefCell<Schedule>,
    order: RefCell<RequestOrder>,
    serial: Cell<u64>,
    tally: RefCell<Tally>,
    /// Whether this load or another has failed. Then all of them stop.
    failed: Rc<Cell<bool>>,
}

impl<P: Protocol> Run<P> {
    fn new(load: Load<P>, clock: &Rc<Clock>, failed: &Rc<Cell<bool>>) -> Self {
        /// More than the requests of any load.
        const SERIALS: u64 = 1 << 24;
        let order = if load.in_turn {
            RequestOrder::InTurn(0)
        } else {
            RequestOrder::AtRandom(SplitMix64::new(load.seed))
        };
        Self {
            clock: Rc::clone(clock),
            // Another seed than that of the request order: due times must not depend on the choice
            // of requests.
            schedule: RefCell::new(Schedule::new(load.pace, load.limit, !load.seed)),
            order: RefCell::new(order),
            serial: Cell::new(load.seed.wrapping_mul(SERIALS)),
            tally: RefCell::default(),
            failed: Rc::clone(failed),
            load,
        }
    }

    /// Opens the slot of this number. Neighbouring slots use different connections, so that
    /// requests due at the same time spread over all connections.
    async fn connect(&self, number: usize) -> Result<P::RequestSlot> {
        let connections = self.load.connections;
        if number < connections {
            self.tally.borrow_mut().connections += 1;
        }
        Ok(self
            .load
            .protocol
            .open(number % connections)
            .await
            .map_err(|error| format!("connecting: {error}"))?)
    }

    /// Returns when the next request is due; `None` at the end.
    fn next(&self) -> Option<Nanoseconds> {
        if self.failed.get() { None } else { self.schedule.borrow_mut().next(self.clock.now()) }
    }

    /// Sends one request and checks the answer.
    async fn exchange(&self, slot: &mut P::RequestSlot, due: Nanoseconds) -> Result<()> {
        let request = self.load.requests.choose(&mut self.order.borrow_mut());
        let serial = self.serial.replace(self.serial.get().wrapping_add(1));
        let named = |error| format!("{}: {error}", name(request));
        let status = slot.exchange(&request.wire, serial).await.map_err(named)?;
        if !request.expected.contains(&status) {
            let expected = &request.expected;
            return Err(format!(
                "{} was answered {status} instead of {expected:?}:\n{}",
                name(request),
                slot.last_answer()
            )
            .into());
        }
        let mut tally = self.tally.borrow_mut();
        tally.elapsed = self.clock.now();
        let latency = tally.elapsed.saturating_sub(due);
        tally.record(request.kind != CredentialKind::Valid, latency);
        Ok(())
    }
}

fn name<W>(request: &PreparedRequest<W>) -> String {
    format!("request {} ({})", request.index, request.kind)
}

async fn run_slot<P: Protocol>(
    run: Rc<Run<P>>,
    number: usize,
    open: Option<P::RequestSlot>,
) -> Result<()> {
    let ended = serve_schedule(&run, number, open).await;
    if ended.is_err() {
        run.failed.set(true);
    }
    ended
}

async fn serve_schedule<P: Protocol>(
    run: &Run<P>,
    number: usize,
    mut open: Option<P::RequestSlot>,
) -> Result<()> {
    let mut asked = 0;
    while let Some(due) = run.next() {
        run.clock.wait_until(due).await;
        let mut slot = match open.take() {
            Some(slot) => slot,
            None => run.connect(number).await?,
        };
        run.exchange(&mut slot, due).await?;
        asked += 1;
        if run.load.per_connection == Some(asked) {
            slot.close().await?;
            asked = 0;
        } else {
            open = Some(slot);
        }
    }
    match open {
        Some(slot) => Ok(slot.close().await?),
        None => Ok(()),
    }
}
