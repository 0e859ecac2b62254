//! A simulation of a fleet: how soon a revocation reaches every node, what the database does for it,
//! and how often a provider is asked for its keys. `docs/scaling.md` shows its tables.
//!
//! Discrete events in whole microseconds, with a fixed seed: every run prints the same. Its
//! assumptions are in [`FleetModel`], which `bench/tests/sim.rs` compares with measured figures.

mod fan_out;
mod key_fetches;
mod report;

pub use self::{
    fan_out::{Delivery, FanOut, fan_out},
    key_fetches::{KeyFetches, key_fetches},
    report::report,
};

/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// Assumptions about nodes, database and network. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct FleetModel {
    /// Cores of the database.
    pub cores: usize,
    /// Time of a core for one query of a node for new revocations.
    pub query: u64,
    /// Time of a core to notify one node.
    pub notification: u64,
    /// Time from a node to the database, or back.
    pub network: u64,
    /// Pause of a node between two such queries.
    pub poll_pause: u64,
    /// Queries of an idle node each minute beside those: it records what it knows of its databases,
    /// sends heartbeats, and deletes expired rows.
    pub other_queries_a_minute: u64,
    /// Connections of a node that has worked before, with the one that is notified.
    pub idle_connections: usize,
    /// Connections of a busy node, with the one that is notified. The revocations, the rest of the
    /// database, and the check for restored ones have a pool each, of `connection_pool_max_size`.
    pub most_connections: usize,
    /// Longest time between two fetches of a key set (`jwks_refresh_interval`).
    pub key_interval: u64,
    /// Time within which the nodes of a fleet start.
    pub start_window: u64,
}

impl Default for FleetModel {
    /// A database with 16 cores, and the defaults of a server.
    fn default() -> Self {
        Self {
            cores: 16,
            query: 250,
            notification: 30,
            network: 250,
            poll_pause: SECOND / 2,
            other_queries_a_minute: 340,
            idle_connections: 11,
            most_connections: 31,
            key_interval: 300 * SECOND,
            start_window: 10 * SECOND,
        }
    }
}

impl FleetModel {
    /// Returns the queries a second of so many idle nodes.
    #[must_use]
    pub fn queries(&self, nodes: usize) -> u64 {
        // A pause, a query and its way are one round.
        let round = self.poll_pause + self.query + 2 * self.network;
        let each_minute = 60 * SECOND / round + self.other_queries_a_minute;
        u64::try_from(nodes).unwrap_or(u64::MAX) * each_minute / 60
    }

    /// Returns the CPU time of the database for them, in microseconds a second.
    #[must_use]
    pub fn demand(&self, nodes: usize) -> u64 {
        self.queries(nodes) * self.query
    }

    /// Whether the database cannot answer the queries of so many nodes.
    #[must_use]
    pub fn is_overloaded_by(&self, nodes: usize) -> bool {
        self.demand(nodes) >= u64::try_from(self.cores).unwrap_or(u64::MAX) * SECOND
    }
}

/// Returns a percentile of sorted values; 0 of none.
#[must_use]
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
