//! Turns in rounds: every server has the same load once before any has it again, so
//! that a machine whose speed drifts slows all of them.

use std::{path::PathBuf, rc::Rc, time::Duration};

use super::{
    Result,
    corpus::{Answers, Corpus, Kind, Questions},
    http1::{Bytes, Http1},
    load::{self, Load},
    process::Target,
    protocol::{Lane as _, Protocol as _},
    scenario::{Flood, Measure, Scenario},
    schedule::{Limit, Pace},
    tally::{Quantiles, Tally},
    tls::Tls,
};

/// A server's part in a round.
pub struct Turn<'a> {
    /// What it is called in the report.
    pub name: String,
    /// The server.
    pub target: &'a (dyn Target + Sync),
    /// How it answers.
    pub answers: Answers,
    /// Whether there is a flood, where the scenario has one.
    pub flooded: bool,
}

/// What one turn has shown.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Requests that were answered, as they should be.
    pub requests: u64,
    /// Microseconds of the server's CPU per request.
    pub cpu: f64,
    /// The share of it that the busiest thread has spent.
    pub busiest: f64,
    /// Requests per second.
    pub rate: f64,
    /// Latencies of valid requests.
    pub valid: Option<Quantiles>,
    /// Latencies of the others.
    pub invalid: Option<Quantiles>,
    /// KiB of the server's memory per idle connection.
    pub memory: Option<f64>,
}

impl Measured {
    /// One number of it, unless it was not measured.
    #[must_use]
    pub fn value(&self, measure: Measure) -> Option<f64> {
        let value = match measure {
            Measure::Cpu => self.cpu,
            Measure::PerCpuSecond => 1e6 / self.cpu,
            Measure::Capacity => 1e6 / (self.cpu * self.busiest),
            Measure::P99 => self.valid?.p99,
            Measure::Memory => self.memory?,
        };
        value.is_finite().then_some(value)
    }
}

/// Plays a scenario on the thread it is called on. What is measured, by turn and by round.
///
/// # Errors
/// A wrong answer, or whatever else ends a load.
pub fn play(scenario: &Scenario, corpus: &Corpus, certificate: PathBuf, turns: &[Turn<'_>]) -> Result<Vec<Vec<Measured>>> {
    let stage = Stage { scenario, corpus, certificate };
    let players: Vec<_> = turns.iter().map(|turn| stage.player(turn)).collect::<Result<_>>()?;
    for player in &players {
        player.warm_up().map_err(|error| player.blamed(&*error))?;
    }
    let mut measured = vec![Vec::new(); players.len()];
    for round in 0..scenario.rounds {
        for offset in 0..players.len() {
            // Nobody is always the first.
            let index = (round + offset) % players.len();
            let player = &players[index];
            let seed = u64::try_from(round * players.len() + offset)? + 1;
            measured[index].push(player.play(seed).map_err(|error| player.blamed(&*error))?);
        }
    }
    Ok(measured)
}

struct Stage<'a> {
    scenario: &'a Scenario,
    corpus: &'a Corpus,
    certificate: PathBuf,
}

impl<'a> Stage<'a> {
    fn player(&'a self, turn: &'a Turn<'a>) -> Result<Player<'a>> {
        let Scenario { tls, connections, bad, flood, .. } = self.scenario;
        let tls = tls.map(|kind| Tls::new(kind, &self.certificate, *connections)).transpose()?.map(Rc::new);
        let protocol = Rc::new(Http1::new(turn.target.addresses(), tls.clone()));
        let mixed = |share, kinds: &[Kind]| Rc::new(Questions::new(&*protocol, self.corpus, &turn.answers, share, kinds));
        let questions = bad.as_ref().map_or_else(|| mixed(0.0, &[]), |bad| mixed(bad.share, &bad.kinds));
        let flood = flood.as_ref().filter(|_| turn.flooded).map(|flood| (flood, mixed(1.0, &flood.kinds)));
        let all = mixed(0.0, &Kind::BAD);
        Ok(Player { scenario: self.scenario, turn, tls, protocol, questions, flood, all })
    }
}

type Http1Questions = Rc<Questions<Bytes>>;

/// A turn that is ready.
struct Player<'a> {
    scenario: &'a Scenario,
    turn: &'a Turn<'a>,
    tls: Option<Rc<Tls>>,
    protocol: Rc<Http1>,
    questions: Http1Questions,
    flood: Option<(&'a Flood, Http1Questions)>,
    /// Every kind there is.
    all: Http1Questions,
}

impl Player<'_> {
    /// Asks everything once of each copy: what can be remembered is, and a server that does not
    /// answer each kind of request as it should does not take part.
    fn warm_up(&self) -> Result<()> {
        let limit = Limit { requests: u64::try_from(self.all.len())?, time: Duration::from_secs(60) };
        for address in self.turn.target.addresses() {
            let protocol = Rc::new(Http1::new(vec![address], self.tls.clone()));
            let (questions, pace) = (Rc::clone(&self.all), Pace::AsItGoes);
            let load = Load { protocol, questions, in_turn: true, per_connection: None, pace, ..self.load(limit, 0) };
            load::run(vec![load], false)?;
        }
        Ok(())
    }

    fn play(&self, seed: u64) -> Result<Measured> {
        if let Some(count) = self.scenario.idle {
            return Ok(Measured { memory: Some(self.idle(count)?), ..Measured::default() });
        }
        let limit = self.scenario.limit();
        let mut loads = vec![self.load(limit, seed)];
        if let Some((flood, questions)) = &self.flood {
            let (lanes, pace, questions) = (flood.connections, flood.pace, Rc::clone(questions));
            loads.push(Load { questions, lanes, pace, seed: seed + (1 << 20), per_connection: None, ..self.load(limit, seed) });
        }
        let before = self.turn.target.spent()?;
        let tallies = load::run(loads, self.scenario.pinned)?;
        // A thread that still runs has not been charged for its last moments.
        std::thread::sleep(Duration::from_millis(5));
        let (all, busiest) = self.turn.target.spent()?.since(&before);
        measured(&tallies, all, busiest)
    }

    fn load(&self, limit: Limit, seed: u64) -> Load<Http1> {
        let Scenario { connections, per_connection, pace, .. } = self.scenario;
        Load {
            protocol: Rc::clone(&self.protocol),
            questions: Rc::clone(&self.questions),
            in_turn: false,
            lanes: *connections,
            per_connection: *per_connection,
            pace: *pace,
            limit,
            seed,
        }
    }

    /// KiB that the server grows by for each of so many connections.
    fn idle(&self, count: usize) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let before = self.turn.target.resident_bytes()?;
        let after = runtime.block_on(async {
            let (mut lanes, mut order) = (Vec::with_capacity(count), super::corpus::Choice::InTurn(0));
            for number in 0..count {
                let mut lane = self.protocol.open(number).await?;
                let question = self.questions.choose(&mut order);
                let status = lane.ask(&question.wire, 0).await?;
                if !question.expected.contains(&status) {
                    return Err(format!("{status} instead of {:?}: {}", question.expected, lane.said()).into());
                }
                lanes.push(lane);
            }
            let after = self.turn.target.resident_bytes()?;
            // One that was closed meanwhile would have been counted as small.
            for lane in &mut lanes {
                lane.ask(&self.questions.choose(&mut order).wire, 0).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(after)
        })?;
        Ok(float(after.saturating_sub(before)) / 1024.0 / float(u64::try_from(count)?))
    }

    fn blamed(&self, error: &dyn std::error::Error) -> String {
        format!("{}, {}: {error}", self.scenario.name, self.turn.name)
    }
}

/// The first load is the one whose latencies are looked at; all of them cost.
fn measured(tallies: &[Tally], all: u64, busiest: u64) -> Result<Measured> {
    let requests = tallies.iter().map(Tally::requests).sum();
    let elapsed = tallies.iter().map(|tally| tally.elapsed).max().unwrap_or(0);
    let mut invalid = tallies[0].invalid.clone();
    for other in &tallies[1..] {
        invalid.add(&other.invalid)?;
    }
    Ok(Measured {
        requests,
        cpu: float(all) / 1e3 / float(requests),
        busiest: float(busiest) / float(all),
        rate: float(requests) * 1e9 / float(elapsed),
        valid: Quantiles::of(&tallies[0].valid),
        invalid: Quantiles::of(&invalid),
        memory: None,
    })
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
