//! What is measured: `bench/e2e/scenarios.toml`.

use std::{path::Path, time::Duration};

use serde::Deserialize;

use super::{
    Result,
    corpus::Kind,
    schedule::{Limit, Pace},
    tls::Handshake,
};

/// One load on several servers in turn, and the figures that come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: String,
    /// What it is for, in a sentence.
    pub decides: String,
    /// Whose turn it is, by the names of `peers.toml`.
    pub servers: Vec<String>,
    /// How many different good tokens there are.
    pub tokens: usize,
    /// Connections at a time.
    pub connections: usize,
    /// Requests on each, if it is not kept.
    pub per_connection: Option<u32>,
    /// TLS, and how.
    pub tls: Option<Handshake>,
    /// When requests are due; as it goes, if nothing is said.
    #[serde(default)]
    pub pace: Pace,
    /// Bad requests beside the good ones, on the same connections.
    pub bad: Option<Bad>,
    /// Bad requests on connections of their own. Each server has two turns then, with
    /// and without.
    pub flood: Option<Flood>,
    /// Instead of a load: so many connections that have had one request and are kept.
    pub idle: Option<usize>,
    /// Whether the server has one core and the generator the other; both have both, if not.
    #[serde(default = "yes")]
    pub pinned: bool,
    /// How long a turn takes.
    pub seconds: f64,
    /// How many turns each server has.
    pub rounds: usize,
    /// What is printed, and may have a limit in `budget.toml`.
    #[serde(default)]
    pub figures: Vec<Figure>,
}

fn yes() -> bool {
    true
}

/// A share of requests that are bad, in equal parts of these kinds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bad {
    /// From 0 to 1.
    pub share: f64,
    /// In which ways.
    pub kinds: Vec<Kind>,
}

/// Bad requests beside the load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// When they are due.
    pub pace: Pace,
    /// On so many connections.
    pub connections: usize,
    /// In equal parts of these kinds.
    pub kinds: Vec<Kind>,
}

/// A number that comes of a scenario: of one turn, or in relation to another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// As `budget.toml` has it.
    pub name: String,
    /// Of what.
    pub measure: Measure,
    /// Whose.
    pub of: String,
    /// Divided by whose.
    pub over: Option<String>,
}

/// What can be a figure.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Microseconds of the server's CPU per request.
    Cpu,
    /// Requests per second of the server's CPU.
    PerCpuSecond,
    /// Requests per second of that one of its threads that works most: what would be
    /// answered in a second if each thread had a core.
    Capacity,
    /// The 99th percentile of valid requests, in microseconds.
    P99,
    /// KiB of memory of an idle connection.
    Memory,
}

impl Scenario {
    /// Reads `scenarios.toml` in this directory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(directory: &Path) -> Result<Vec<Self>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            scenario: Vec<Scenario>,
        }
        let file: File = toml::from_str(&std::fs::read_to_string(directory.join("scenarios.toml"))?)?;
        Ok(file.scenario)
    }

    /// When a turn ends.
    #[must_use]
    pub fn limit(&self) -> Limit {
        Limit { requests: u64::MAX, time: Duration::from_secs_f64(self.seconds) }
    }

    /// The turns of a round: server and whether it is flooded.
    #[must_use]
    pub fn turns(&self) -> Vec<(&str, bool)> {
        let both: &[bool] = if self.flood.is_some() { &[false, true] } else { &[false] };
        self.servers.iter().flat_map(|server| both.iter().map(move |flooded| (server.as_str(), *flooded))).collect()
    }

    /// The load in words.
    #[must_use]
    pub fn load(&self) -> String {
        let Self { connections, tokens, seconds, rounds, .. } = self;
        if let Some(idle) = self.idle {
            return format!("{idle} connections that are kept, of which each has had one request");
        }
        let kept = match self.per_connection {
            None => "kept".to_owned(),
            Some(1) => "for one request each".to_owned(),
            Some(count) => format!("for {count} requests each"),
        };
        let tls = match self.tls {
            None => "",
            Some(Handshake::Full) => ", TLS 1.3 with full handshakes",
            Some(Handshake::Resumed) => ", TLS 1.3 resumed",
        };
        let pace = match self.pace {
            Pace::AsItGoes => "closed loop".to_owned(),
            Pace::Constant(rate) => format!("{rate} a second at equal distances"),
            Pace::Poisson(rate) => format!("{rate} a second by Poisson"),
        };
        format!("{connections} connections {kept}{tls}; {tokens} tokens; {pace}; {rounds} rounds of {seconds} s each")
    }
}

/// What a turn is called.
#[must_use]
pub fn turn_name(server: &str, flooded: bool) -> String {
    if flooded { format!("{server}, flooded") } else { server.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::peer::Peers;

    fn data() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e")
    }

    #[test]
    fn every_server_of_a_scenario_is_known_and_its_configuration_is_there() {
        let peers = Peers::read(&data()).unwrap();
        for scenario in Scenario::read(&data()).unwrap() {
            for server in &scenario.servers {
                for file in &peers.get(server).unwrap().files {
                    assert!(data().join("peers").join(file).exists(), "{file}");
                }
            }
        }
    }

    #[test]
    fn every_figure_is_of_turns_that_there_are() {
        for scenario in Scenario::read(&data()).unwrap() {
            let turns: Vec<_> = scenario.turns().into_iter().map(|(server, flooded)| turn_name(server, flooded)).collect();
            for figure in &scenario.figures {
                assert!(turns.contains(&figure.of), "{figure:?}");
                assert!(figure.over.iter().all(|over| turns.contains(over)), "{figure:?}");
                assert!(figure.name.len() <= 56, "{figure:?} would not stand in its column");
            }
        }
    }
}
