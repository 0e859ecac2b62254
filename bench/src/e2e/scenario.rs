//! What is measured: `bench/e2e/scenarios.toml`.

use std::{fmt, path::Path, time::Duration};

use serde::Deserialize;

use super::{
    Result,
    corpus::Kind,
    protocol::Way,
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
    /// Whose turn it is.
    pub servers: Vec<Part>,
    /// How many different good tokens there are.
    pub tokens: usize,
    /// How requests travel; by HTTP/1.1, if nothing is said.
    #[serde(default)]
    pub protocol: Way,
    /// Connections at a time.
    pub connections: usize,
    /// Requests at a time on each.
    #[serde(default = "one")]
    pub streams: usize,
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
    /// Requests that are taken back, as fast as they can be sent, on a connection of their
    /// own. Each server has two turns then, too.
    #[serde(default)]
    pub storm: bool,
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

fn one() -> usize {
    1
}

/// A server's part, if it is more than to be there.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WrittenPart")]
pub struct Part {
    /// Its name in `peers.toml`.
    pub server: String,
    /// Its name in this scenario, where it has several parts.
    name: Option<String>,
    /// Otherwise than the others.
    protocol: Option<Way>,
    /// Likewise.
    connections: Option<usize>,
    /// Likewise.
    streams: Option<usize>,
}

/// A part as it is written: most are a name and nothing else.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenPart {
    Name(String),
    #[serde(rename_all = "snake_case")]
    Other {
        server: String,
        r#as: Option<String>,
        protocol: Option<Way>,
        connections: Option<usize>,
        streams: Option<usize>,
    },
}

impl From<WrittenPart> for Part {
    fn from(written: WrittenPart) -> Self {
        match written {
            WrittenPart::Name(server) => {
                Self { server, name: None, protocol: None, connections: None, streams: None }
            }
            WrittenPart::Other { server, r#as: name, protocol, connections, streams } => {
                Self { server, name, protocol, connections, streams }
            }
        }
    }
}

/// What every server of a scenario does in its turn, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the turn is called.
    pub name: String,
    /// Whose it is, by the names of `peers.toml`.
    pub server: String,
    /// How requests travel.
    pub protocol: Way,
    /// Connections at a time.
    pub connections: usize,
    /// Requests at a time on each.
    pub streams: usize,
    /// What comes beside the load.
    pub beside: Beside,
}

/// What comes beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// Bad requests.
    Flood,
    /// Requests that are taken back.
    Storm,
}

/// As the name of a turn ends.
impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "",
            Self::Flood => ", flooded",
            Self::Storm => ", in a storm",
        })
    }
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
    /// KiB of memory that the server has gained since its first turn of this kind.
    Growth,
    /// Requests per second that were taken back.
    Resets,
    /// Connections that it took to take them back.
    StormConnections,
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
        let file: File =
            toml::from_str(&std::fs::read_to_string(directory.join("scenarios.toml"))?)?;
        Ok(file.scenario)
    }

    /// When a turn ends.
    #[must_use]
    pub fn limit(&self) -> Limit {
        Limit { requests: u64::MAX, time: Duration::from_secs_f64(self.seconds) }
    }

    /// The turns of a round.
    #[must_use]
    pub fn turns(&self) -> Vec<Plan> {
        let beside = [
            (true, Beside::Nothing),
            (self.flood.is_some(), Beside::Flood),
            (self.storm, Beside::Storm),
        ];
        let beside = beside.into_iter().filter(|(there_is, _)| *there_is).map(|(_, beside)| beside);
        self.servers
            .iter()
            .flat_map(|part| beside.clone().map(|beside| self.plan(part, beside)))
            .collect()
    }

    fn plan(&self, part: &Part, beside: Beside) -> Plan {
        Plan {
            name: format!("{}{beside}", part.name.as_ref().unwrap_or(&part.server)),
            server: part.server.clone(),
            protocol: part.protocol.unwrap_or(self.protocol),
            connections: part.connections.unwrap_or(self.connections),
            streams: part.streams.unwrap_or(self.streams),
            beside,
        }
    }

    /// The load in words.
    #[must_use]
    pub fn load(&self) -> String {
        let Self { connections, tokens, seconds, rounds, .. } = self;
        let protocol = match self.protocol {
            Way::Http1 => String::new(),
            protocol => format!(", {protocol} with {} requests at a time on each", self.streams),
        };
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
        format!(
            "{connections} connections {kept}{tls}{protocol}; {tokens} tokens; {pace}; {rounds} rounds of {seconds} s each"
        )
    }
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
            for part in &scenario.servers {
                for file in &peers.get(&part.server).unwrap().files {
                    assert!(data().join("peers").join(file).exists(), "{file}");
                }
            }
        }
    }

    #[test]
    fn every_figure_is_of_turns_that_there_are() {
        for scenario in Scenario::read(&data()).unwrap() {
            let turns: Vec<_> = scenario.turns().into_iter().map(|plan| plan.name).collect();
            assert!(
                turns.iter().enumerate().all(|(index, name)| !turns[..index].contains(name)),
                "twice in {turns:?}"
            );
            for figure in &scenario.figures {
                assert!(turns.contains(&figure.of), "{figure:?}");
                assert!(figure.over.iter().all(|over| turns.contains(over)), "{figure:?}");
                assert!(figure.name.len() <= 56, "{figure:?} would not stand in its column");
            }
        }
    }

    #[test]
    fn a_connection_that_is_not_kept_has_one_stream() {
        for scenario in Scenario::read(&data())
            .unwrap()
            .into_iter()
            .filter(|scenario| scenario.per_connection.is_some())
        {
            assert!(scenario.turns().iter().all(|plan| plan.streams == 1), "{}", scenario.name);
        }
    }

    #[test]
    fn a_part_is_like_the_scenario_unless_it_says_otherwise() {
        let text = r#"
            name = "x"
            decides = "x"
            servers = ["a", { server = "a", as = "a, by HTTP/1.1", protocol = "http1", connections = 64, streams = 1 }]
            tokens = 1
            protocol = "h2"
            connections = 4
            streams = 25
            seconds = 1.0
            rounds = 1
            storm = true
        "#;
        let turns = toml::from_str::<Scenario>(text).unwrap().turns();
        let turns: Vec<_> = turns
            .iter()
            .map(|plan| (&*plan.name, plan.protocol, plan.connections, plan.streams))
            .collect();
        let other =
            ["a, by HTTP/1.1", "a, by HTTP/1.1, in a storm"].map(|name| (name, Way::Http1, 64, 1));
        assert_eq!(
            turns,
            [("a", Way::H2, 4, 25), ("a, in a storm", Way::H2, 4, 25), other[0], other[1]]
        );
    }
}
