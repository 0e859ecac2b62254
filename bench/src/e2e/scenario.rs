//! Scenarios of `bench/e2e/scenarios.toml`.

use std::{fmt, path::Path, time::Duration};

use serde::Deserialize;

use super::{
    Result,
    corpus::CredentialKind,
    protocol::ProtocolKind,
    schedule::{Limit, Pace},
    tls::Handshake,
};

/// One load on several servers in turn, and its figures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name on the command line.
    pub name: String,
    /// Purpose, in one sentence.
    pub decides: String,
    /// The servers, in the order of their turns.
    pub servers: Vec<Participant>,
    /// Number of different good tokens.
    pub tokens: usize,
    /// Protocol of the requests; HTTP/1.1 by default.
    #[serde(default)]
    pub protocol: ProtocolKind,
    /// Header lines of all requests. HTTP/1.1 only.
    #[serde(default)]
    pub header_lines: Vec<String>,
    /// Concurrent connections.
    pub connections: usize,
    /// Concurrent requests on each connection.
    #[serde(default = "one")]
    pub streams: usize,
    /// Requests on each connection before it is closed; unlimited by default.
    pub per_connection: Option<u32>,
    /// Kind of TLS handshake; no TLS by default.
    pub tls: Option<Handshake>,
    /// When requests are due; a closed loop by default.
    #[serde(default)]
    pub pace: Pace,
    /// Bad requests mixed with the good ones on the same connections.
    pub bad: Option<BadRequests>,
    /// Bad requests on separate connections. Each server then has two turns, with and without them.
    pub flood: Option<Flood>,
    /// Reset requests, as fast as they can be sent, on a separate connection. Here too each server
    /// has two turns.
    #[serde(default)]
    pub storm: bool,
    /// Replaces the load by this many idle connections, each after one request.
    pub idle: Option<usize>,
    /// Whether the server is pinned to one core and the generator to the other. Otherwise both use
    /// all cores.
    #[serde(default = "yes")]
    pub pinned: bool,
    /// Length of a turn.
    pub seconds: f64,
    /// Number of turns of each server.
    pub rounds: usize,
    /// The turn without the work that the others add. The report then has the CPU time added to it.
    pub baseline: Option<String>,
    /// Figures to print. They may have a limit in `budget.toml`.
    #[serde(default)]
    pub figures: Vec<Figure>,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

/// A server in a scenario, with the settings that differ from the scenario's.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "ParticipantConfig")]
pub struct Participant {
    /// Name in `peers.toml`.
    pub server: String,
    /// Name of its turn, if the server has several.
    name: Option<String>,
    /// Overrides [`Scenario::protocol`].
    protocol: Option<ProtocolKind>,
    /// Overrides [`Scenario::connections`].
    connections: Option<usize>,
    /// Overrides [`Scenario::streams`].
    streams: Option<usize>,
    /// Number of the scenario's tokens that it gets.
    tokens: Option<usize>,
}

/// A participant in TOML. Most are just a name.
#[derive(Deserialize)]
#[serde(untagged)]
enum ParticipantConfig {
    Name(String),
    #[serde(rename_all = "snake_case")]
    Other {
        server: String,
        r#as: Option<String>,
        protocol: Option<ProtocolKind>,
        connections: Option<usize>,
        streams: Option<usize>,
        tokens: Option<usize>,
    },
}

impl From<ParticipantConfig> for Participant {
    fn from(config: ParticipantConfig) -> Self {
        match config {
            ParticipantConfig::Name(server) => Self {
                server,
                name: None,
                protocol: None,
                connections: None,
                streams: None,
                tokens: None,
            },
            ParticipantConfig::Other {
                server,
                r#as: name,
                protocol,
                connections,
                streams,
                tokens,
            } => Self { server, name, protocol, connections, streams, tokens },
        }
    }
}

/// Settings of one turn: the scenario's, with the participant's overrides.
#[derive(Clone, Debug)]
pub struct TurnPlan {
    /// Name of the turn.
    pub name: String,
    /// Name of the server in `peers.toml`.
    pub server: String,
    /// Protocol of the requests.
    pub protocol: ProtocolKind,
    /// Concurrent connections.
    pub connections: usize,
    /// Concurrent requests on each connection.
    pub streams: usize,
    /// Number of different good tokens.
    pub tokens: usize,
    /// Additional load.
    pub beside: BackgroundLoad,
}

/// Load in addition to the measured one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackgroundLoad {
    /// No additional load.
    Nothing,
    /// Bad requests, as [`Flood`] describes.
    Flood,
    /// Reset requests.
    Resets,
}

/// Suffix of a turn's name.
impl fmt::Display for BackgroundLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "",
            Self::Flood => ", flooded",
            Self::Resets => ", in a storm",
        })
    }
}

/// Bad requests among the good ones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadRequests {
    /// Share of bad requests, from 0 to 1.
    pub share: f64,
    /// Kinds of bad requests, in equal parts.
    pub kinds: Vec<CredentialKind>,
}

/// Bad requests on separate connections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// When they are due.
    pub pace: Pace,
    /// Number of connections.
    pub connections: usize,
    /// Kinds of bad requests, in equal parts.
    pub kinds: Vec<CredentialKind>,
}

/// A figure of a scenario: a number of one turn, or the ratio of two turns.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Name, as in `budget.toml`.
    pub name: String,
    /// The quantity.
    pub measure: Measure,
    /// The turn it is measured in.
    pub of: String,
    /// The turn it is divided by.
    pub over: Option<String>,
}

/// Quantities that a figure can be made of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Microseconds of the server's CPU time per request.
    Cpu,
    /// Microseconds of the server's CPU time per request, less those of the baseline. The ratio of
    /// two turns is that of their medians: a single round may have added nothing.
    Added,
    /// Requests per second of the server's CPU time.
    PerCpuSecond,
    /// Requests per CPU second of the busiest thread: the requests that the server would answer in
    /// a second if each thread had a core.
    Capacity,
    /// The 99th percentile of valid requests, in microseconds.
    P99,
    /// KiB of memory of an idle connection.
    Memory,
    /// Growth of the server's memory since its first turn of this kind, in KiB.
    Growth,
    /// Resets per second.
    Resets,
    /// Connections that the resets were sent on.
    StormConnections,
}

impl Scenario {
    /// Reads `scenarios.toml` in this directory.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
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

    /// Returns the end of a turn.
    #[must_use]
    pub fn limit(&self) -> Limit {
        Limit { requests: u64::MAX, time: Duration::from_secs_f64(self.seconds) }
    }

    /// Returns the turns of a round.
    #[must_use]
    pub fn turns(&self) -> Vec<TurnPlan> {
        let beside = [
            (true, BackgroundLoad::Nothing),
            (self.flood.is_some(), BackgroundLoad::Flood),
            (self.storm, BackgroundLoad::Resets),
        ];
        let beside = beside.into_iter().filter(|(enabled, _)| *enabled).map(|(_, beside)| beside);
        self.servers
            .iter()
            .flat_map(|participant| beside.clone().map(|beside| self.plan(participant, beside)))
            .collect()
    }

    fn plan(&self, participant: &Participant, beside: BackgroundLoad) -> TurnPlan {
        TurnPlan {
            name: format!("{}{beside}", participant.name.as_ref().unwrap_or(&participant.server)),
            server: participant.server.clone(),
            protocol: participant.protocol.unwrap_or(self.protocol),
            connections: participant.connections.unwrap_or(self.connections),
            streams: participant.streams.unwrap_or(self.streams),
            tokens: participant.tokens.unwrap_or(self.tokens),
            beside,
        }
    }

    /// Describes the load in words.
    #[must_use]
    pub fn load(&self) -> String {
        let Self { connections, tokens, seconds, rounds, .. } = self;
        let protocol = match self.protocol {
            ProtocolKind::Http1 => String::new(),
            protocol => format!(", {protocol} with {} concurrent requests on each", self.streams),
        };
        if let Some(idle) = self.idle {
            return format!("{idle} idle connections, each after one request");
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
            Pace::ClosedLoop => "closed loop".to_owned(),
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
    use crate::e2e::peer::PeerServers;

    fn data() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e")
    }

    #[test]
    fn every_scenario_server_has_its_configuration() {
        let peers = PeerServers::read(&data()).unwrap();
        for scenario in Scenario::read(&data()).unwrap() {
            for participant in &scenario.servers {
                for file in &peers.get(&participant.server).unwrap().files {
                    assert!(data().join("peers").join(file).exists(), "{file}");
                }
            }
        }
    }

    #[test]
    fn every_figure_names_turns_of_its_scenario() {
        for scenario in Scenario::read(&data()).unwrap() {
            let turns: Vec<_> = scenario.turns().into_iter().map(|plan| plan.name).collect();
            assert!(
                turns.iter().enumerate().all(|(index, name)| !turns[..index].contains(name)),
                "twice in {turns:?}"
            );
            assert!(scenario.baseline.iter().all(|name| turns.contains(name)), "{turns:?}");
            for figure in &scenario.figures {
                assert!(turns.contains(&figure.of), "{figure:?}");
                assert!(figure.over.iter().all(|over| turns.contains(over)), "{figure:?}");
                let is_added = figure.measure == Measure::Added;
                assert!(!is_added || scenario.baseline.is_some(), "{figure:?}");
                assert!(figure.name.len() <= 56, "{figure:?} is too long for its column");
            }
        }
    }

    #[test]
    fn short_lived_connections_have_one_stream() {
        for scenario in Scenario::read(&data())
            .unwrap()
            .into_iter()
            .filter(|scenario| scenario.per_connection.is_some())
        {
            assert!(scenario.turns().iter().all(|plan| plan.streams == 1), "{}", scenario.name);
        }
    }

    #[test]
    fn participant_inherits_the_scenario_settings() {
        let text = r#"
            name = "x"
            decides = "x"
            servers = ["a", { server = "a", as = "a, by HTTP/1.1", protocol = "http1", connections = 64, streams = 1, tokens = 2 }]
            tokens = 5
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
            .map(|plan| (&*plan.name, plan.protocol, [plan.connections, plan.streams, plan.tokens]))
            .collect();
        let own = ["a", "a, in a storm"].map(|name| (name, ProtocolKind::H2, [4, 25, 5]));
        let other = ["a, by HTTP/1.1", "a, by HTTP/1.1, in a storm"]
            .map(|name| (name, ProtocolKind::Http1, [64, 1, 2]));
        assert_eq!(turns, [own, other].concat());
    }
}
