//! The generator: lanes that take requests from a schedule.
//!
//! A lane that is free takes the next time from the schedule and waits for it. When no
//! lane is free the schedule waits, and times pass; the lane that is free next takes
//! one that is past, sends at once, and counts from when it was due. So the wait for a
//! lane is part of the latency, as is the connecting, where a connection is new.

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
    corpus::{Choice, Kind, Question, Questions},
    protocol::{Lane, Protocol, Storm},
    schedule::{Limit, Nanoseconds, Pace, Schedule},
    tally::Tally,
};
use crate::order::Order;

/// One stream of requests.
pub struct Load<P: Protocol> {
    /// How they travel.
    pub protocol: Rc<P>,
    /// What is asked.
    pub questions: Rc<Questions<P::Wire>>,
    /// Whether each is asked in its turn, or any at random.
    pub in_turn: bool,
    /// Connections at a time.
    pub connections: usize,
    /// Requests that may be under way at a time on each.
    pub streams: usize,
    /// After how many requests a lane connects anew, whose connection has one stream;
    /// `None` for never.
    pub per_connection: Option<u32>,
    /// When requests are due.
    pub pace: Pace,
    /// When it ends.
    pub limit: Limit,
    /// What is random follows from it, and no two seeds forge the same signature.
    pub seed: u64,
    /// Requests that are taken back, if there are to be any, on a connection beside.
    pub storm: Option<Rc<Storm>>,
}

/// How long answers may be late before a run is given up.
const GRACE: Duration = Duration::from_secs(10);

/// Runs loads beside each other on this thread, which is to have a core of its own: with
/// an open loop it never sleeps, nor where it is to be `busy`. What keeps its connections
/// has them before the clock starts.
///
/// # Errors
/// The first wrong answer, a connection that failed, or a server so slow that the end
/// was not met.
pub fn run<P: Protocol>(loads: Vec<Load<P>>, busy: bool) -> Result<Vec<Tally>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let time = loads.iter().map(|load| load.limit.time).max().unwrap_or_default() + GRACE;
    let late = |_| {
        format!("answers were outstanding {} s after the last request was due", GRACE.as_secs())
    };
    runtime.block_on(async {
        tokio::time::timeout(time, LocalSet::new().run_until(beside_each_other(loads, busy)))
            .await
            .map_err(late)
    })?
}

async fn beside_each_other<P: Protocol>(loads: Vec<Load<P>>, busy: bool) -> Result<Vec<Tally>> {
    let (clock, failed) = (Rc::new(Clock::default()), Rc::new(Cell::new(false)));
    let busy = busy || loads.iter().any(|load| load.pace != Pace::AsItGoes);
    let runs: Vec<_> =
        loads.into_iter().map(|load| Rc::new(Run::new(load, &clock, &failed))).collect();
    let mut lanes = Vec::new();
    for run in &runs {
        for number in 0..run.load.connections * run.load.streams {
            let open = if run.load.per_connection.is_none() {
                Some(run.connect(number).await?)
            } else {
                None
            };
            lanes.push((Rc::clone(run), number, open));
        }
    }
    clock.restart();
    let lanes: Vec<_> =
        lanes.into_iter().map(|(run, number, open)| spawn_local(lane(run, number, open))).collect();
    let storms: Vec<_> = runs.iter().filter_map(|run| storm(&run.load)).collect();
    if busy {
        spawn_local(async move { clock.run().await });
    }
    for lane in lanes {
        lane.await?.map_err(|fault| fault.to_string())?;
    }
    if let Some(storm) = storms.into_iter().find(JoinHandle::is_finished) {
        let Err(error) = storm.await?;
        return Err(format!("the storm: {error}").into());
    }
    Ok(runs.iter().map(|run| run.tally.borrow().clone()).collect())
}

/// Starts a storm, which ends with everything else.
fn storm<P: Protocol>(load: &Load<P>) -> Option<JoinHandle<io::Result<Infallible>>> {
    let (protocol, storm) = (Rc::clone(&load.protocol), Rc::clone(load.storm.as_ref()?));
    Some(spawn_local(async move { protocol.storm(&storm).await }))
}

/// One load under way.
struct Run<P: Protocol> {
    load: Load<P>,
    clock: Rc<Clock>,
    schedule: RefCell<Schedule>,
    choice: RefCell<Choice>,
    serial: Cell<u64>,
    tally: RefCell<Tally>,
    /// Whether anything has failed, here or beside: then everybody stops.
    failed: Rc<Cell<bool>>,
}

impl<P: Protocol> Run<P> {
    fn new(load: Load<P>, clock: &Rc<Clock>, failed: &Rc<Cell<bool>>) -> Self {
        /// More requests than any load has.
        const SERIALS: u64 = 1 << 24;
        let choice =
            if load.in_turn { Choice::InTurn(0) } else { Choice::AtRandom(Order::new(load.seed)) };
        Self {
            clock: Rc::clone(clock),
            // Others than the choice, which would be bound to the times otherwise.
            schedule: RefCell::new(Schedule::new(load.pace, load.limit, !load.seed)),
            choice: RefCell::new(choice),
            serial: Cell::new(load.seed.wrapping_mul(SERIALS)),
            tally: RefCell::default(),
            failed: Rc::clone(failed),
            load,
        }
    }

    /// A lane of this number. Neighbours have different connections, so that who is
    /// due at the same time is spread over all of them.
    async fn connect(&self, number: usize) -> Result<P::Lane> {
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

    /// When the next request is due; `None` at the end.
    fn next(&self) -> Option<Nanoseconds> {
        if self.failed.get() { None } else { self.schedule.borrow_mut().next(self.clock.now()) }
    }

    /// Asks one question and looks at the answer.
    async fn ask(&self, lane: &mut P::Lane, due: Nanoseconds) -> Result<()> {
        let question = self.load.questions.choose(&mut self.choice.borrow_mut());
        let serial = self.serial.replace(self.serial.get().wrapping_add(1));
        let named = |error| format!("{}: {error}", name(question));
        let status = lane.ask(&question.wire, serial).await.map_err(named)?;
        if !question.expected.contains(&status) {
            let expected = &question.expected;
            return Err(format!(
                "{} was answered {status} instead of {expected:?}:\n{}",
                name(question),
                lane.said()
            )
            .into());
        }
        let mut tally = self.tally.borrow_mut();
        tally.elapsed = self.clock.now();
        let latency = tally.elapsed.saturating_sub(due);
        tally.answered(question.kind != Kind::Valid, latency);
        Ok(())
    }
}

fn name<W>(question: &Question<W>) -> String {
    format!("request {} ({})", question.index, question.kind)
}

async fn lane<P: Protocol>(run: Rc<Run<P>>, number: usize, open: Option<P::Lane>) -> Result<()> {
    let ended = serve(&run, number, open).await;
    if ended.is_err() {
        run.failed.set(true);
    }
    ended
}

async fn serve<P: Protocol>(run: &Run<P>, number: usize, mut open: Option<P::Lane>) -> Result<()> {
    let mut asked = 0;
    while let Some(due) = run.next() {
        run.clock.until(due).await;
        let mut lane = match open.take() {
            Some(lane) => lane,
            None => run.connect(number).await?,
        };
        run.ask(&mut lane, due).await?;
        asked += 1;
        if run.load.per_connection == Some(asked) {
            lane.close().await?;
            asked = 0;
        } else {
            open = Some(lane);
        }
    }
    match open {
        Some(lane) => Ok(lane.close().await?),
        None => Ok(()),
    }
}
