//! How a revocation reaches every node.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::{FleetModel, SECOND, percentile};
use crate::order::SplitMix64;

/// Whether nodes are notified of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// By PostgreSQL.
    Notified,
    /// Never: all notifications are lost.
    Polled,
}

/// How a revocation has reached the nodes. Times are in microseconds from its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanOut {
    /// Time until half of the nodes have it.
    pub p50: u64,
    /// Time until 99 % of the nodes have it.
    pub p99: u64,
    /// Time until all nodes have it.
    pub max: u64,
}

/// Time of the commit: the nodes have polled for some time.
const COMMIT: u64 = 3 * SECOND;
/// Time at which nodes without the revocation are given up.
const END: u64 = COMMIT + 120 * SECOND;

/// Work for a core of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum DatabaseWork {
    Query,
    Notification,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SimEvent {
    /// The pause of a node has ended. Its number counts the pauses of the node: a notification ends
    /// a pause early, so that this event may be too late.
    PauseEnds(usize, u32),
    /// A node sends another query, which is independent of revocations.
    OtherQuery(usize),
    /// Work arrives at the database.
    Arrives(usize, DatabaseWork),
    /// A core has done it. A query has seen the revocation or not.
    Done(usize, DatabaseWork, bool),
    /// The rows of a query reach the node.
    Answered(usize, bool),
    /// A notification reaches the node.
    Notified(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct SimNode {
    is_querying: bool,
    /// Whether it was notified during a query, after which it queries again.
    is_notified: bool,
    pauses: u32,
    known_at: Option<u64>,
}

struct FanOutRun<'m> {
    model: &'m FleetModel,
    nodes: Vec<SimNode>,
    events: BinaryHeap<Reverse<(u64, SimEvent)>>,
    waiting: VecDeque<(usize, DatabaseWork)>,
    free_cores: usize,
    unaware: usize,
}

/// Simulates one revocation in a fleet of so many nodes, which poll at random moments.
#[must_use]
pub fn fan_out(model: &FleetModel, nodes: usize, delivery: Delivery, seed: u64) -> FanOut {
    let mut run = FanOutRun {
        model,
        nodes: vec![SimNode::default(); nodes],
        events: BinaryHeap::new(),
        waiting: VecDeque::new(),
        free_cores: model.cores,
        unaware: nodes,
    };
    let mut order = SplitMix64::new(seed);
    let pause = usize::try_from(model.poll_pause).unwrap_or(usize::MAX);
    for node in 0..nodes {
        let phase = u64::try_from(order.below(pause)).unwrap_or_default();
        run.push(phase, SimEvent::PauseEnds(node, 0));
        if let Some(period) = other_period(model) {
            let phase = order.below(usize::try_from(period).unwrap_or(usize::MAX));
            run.push(u64::try_from(phase).unwrap_or_default(), SimEvent::OtherQuery(node));
        }
        if delivery == Delivery::Notified {
            run.push(COMMIT, SimEvent::Arrives(node, DatabaseWork::Notification));
        }
    }
    run.run();
    let mut times: Vec<_> =
        run.nodes.iter().map(|node| node.known_at.unwrap_or(END) - COMMIT).collect();
    times.sort_unstable();
    FanOut {
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
        max: percentile(&times, 100),
    }
}

/// Returns the time between two other queries of a node; `None` if it has none.
fn other_period(model: &FleetModel) -> Option<u64> {
    (60 * SECOND).checked_div(model.other_queries_a_minute)
}

impl FanOutRun<'_> {
    fn push(&mut self, at: u64, event: SimEvent) {
        self.events.push(Reverse((at, event)));
    }

    fn run(&mut self) {
        while self.unaware > 0
            && let Some(Reverse((now, event))) = self.events.pop()
            && now < END
        {
            self.handle(now, event);
        }
    }

    fn handle(&mut self, now: u64, event: SimEvent) {
        match event {
            SimEvent::PauseEnds(node, pause) => {
                if self.nodes[node].pauses == pause && !self.nodes[node].is_querying {
                    self.query(now, node);
                }
            }
            SimEvent::OtherQuery(node) => {
                self.push(now, SimEvent::Arrives(node, DatabaseWork::Other));
                let period = other_period(self.model).unwrap_or(END);
                self.push(now + period, SimEvent::OtherQuery(node));
            }
            SimEvent::Arrives(node, work) => {
                self.waiting.push_back((node, work));
                self.start_work(now);
            }
            SimEvent::Done(node, work, has_seen) => {
                self.free_cores += 1;
                let arrival = match work {
                    DatabaseWork::Query => Some(SimEvent::Answered(node, has_seen)),
                    DatabaseWork::Notification => Some(SimEvent::Notified(node)),
                    DatabaseWork::Other => None,
                };
                if let Some(arrival) = arrival {
                    self.push(now + self.model.network, arrival);
                }
                self.start_work(now);
            }
            SimEvent::Answered(node, has_seen) => self.answered(now, node, has_seen),
            SimEvent::Notified(node) if self.nodes[node].is_querying => {
                self.nodes[node].is_notified = true;
            }
            SimEvent::Notified(node) => self.query(now, node),
        }
    }

    fn query(&mut self, now: u64, node: usize) {
        self.nodes[node].is_querying = true;
        let arrival = SimEvent::Arrives(node, DatabaseWork::Query);
        self.push(now + self.model.network, arrival);
    }

    /// Gives waiting work to free cores. A query sees everything that was committed before it
    /// starts.
    fn start_work(&mut self, now: u64) {
        while self.free_cores > 0
            && let Some((node, work)) = self.waiting.pop_front()
        {
            self.free_cores -= 1;
            let time = match work {
                DatabaseWork::Query | DatabaseWork::Other => self.model.query,
                DatabaseWork::Notification => self.model.notification,
            };
            self.push(now + time, SimEvent::Done(node, work, now >= COMMIT));
        }
    }

    fn answered(&mut self, now: u64, node: usize, has_seen: bool) {
        let state = &mut self.nodes[node];
        state.is_querying = false;
        if has_seen && state.known_at.is_none() {
            state.known_at = Some(now);
            self.unaware -= 1;
        }
        if std::mem::take(&mut state.is_notified) {
            self.query(now, node);
            return;
        }
        state.pauses += 1;
        let event = SimEvent::PauseEnds(node, state.pauses);
        self.push(now + self.model.poll_pause, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: FleetModel = FleetModel {
        cores: 8,
        query: 250,
        notification: 30,
        network: 250,
        poll_pause: SECOND / 2,
        other_queries_a_minute: 0,
        idle_connections: 1,
        most_connections: 1,
        key_interval: SECOND,
        start_window: SECOND,
    };

    #[test]
    fn notified_node_needs_three_ways_and_a_query() {
        // Notified, and its query there and back.
        let one = fan_out(&MODEL, 1, Delivery::Notified, 1);
        let expected = MODEL.notification + 3 * MODEL.network + MODEL.query;
        assert!(one.max <= expected && one.max * 2 > expected, "{one:?}");
    }

    #[test]
    fn polling_nodes_learn_within_a_pause_and_a_query() {
        let many = fan_out(&MODEL, 1000, Delivery::Polled, 1);
        let bound = MODEL.poll_pause + 4 * MODEL.network + 2 * MODEL.query;
        assert!(many.max < bound + 10_000, "{many:?}");
        assert!(many.p50 > MODEL.poll_pause * 4 / 10 && many.p50 < MODEL.poll_pause * 6 / 10);
    }

    #[test]
    fn overloaded_database_delays_all_nodes() {
        let slow = FleetModel { cores: 1, query: 1000, ..MODEL };
        let [few, many] = [100, 1000].map(|nodes| fan_out(&slow, nodes, Delivery::Polled, 1));
        assert!(many.p99 > few.p99 * 3 / 2, "{few:?} {many:?}");
    }

    #[test]
    fn seed_decides_everything() {
        let run = |seed| fan_out(&MODEL, 50, Delivery::Polled, seed);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
