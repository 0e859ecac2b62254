//! Turns in rounds: every server has the same load once before any has it again, so
//! that a machine whose speed drifts slows all of them.

use std::{cell::OnceCell, net::SocketAddr, path::PathBuf, rc::Rc, time::Duration};

use tokio::task::LocalSet;

use super::{
    Result,
    corpus::{Answers, Choice, Corpus, Kind, Questions},
    grpc::Grpc,
    http1::Http1,
    http2::Http2,
    http3::Http3,
    load::{self, Load},
    process::Target,
    protocol::{Lane as _, Protocol, Storm, Way},
    scenario::{Beside, Flood, Measure, Plan, Scenario},
    schedule::{Limit, Pace},
    tally::{Quantiles, Tally},
    tls::Tls,
};

/// A server's part in a round.
pub struct Turn<'a> {
    /// What it does.
    pub plan: Plan,
    /// The server.
    pub target: &'a (dyn Target + Sync),
    /// How it answers.
    pub answers: Answers,
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
    /// KiB that the server occupies more than after its first turn of this kind.
    pub growth: f64,
    /// Requests per second that were taken back, and the connections it took.
    pub storm: Option<(f64, f64)>,
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
            Measure::Growth => self.growth,
            Measure::Resets => self.storm?.0,
            Measure::StormConnections => self.storm?.1,
        };
        value.is_finite().then_some(value)
    }
}

/// Plays a scenario on the thread it is called on. What is measured, by turn and by round.
///
/// # Errors
/// A wrong answer, or whatever else ends a load.
pub fn play(
    scenario: &Scenario,
    corpus: &Corpus,
    certificate: PathBuf,
    turns: &[Turn<'_>],
) -> Result<Vec<Vec<Measured>>> {
    let stage = Stage { scenario, corpus, certificate };
    let players: Vec<_> = turns.iter().map(|turn| stage.player(turn)).collect::<Result<_>>()?;
    let blamed = |index: usize, error: &dyn std::error::Error| {
        format!("{}, {}: {error}", scenario.name, turns[index].plan.name)
    };
    for (index, player) in players.iter().enumerate() {
        player.warm_up().map_err(|error| blamed(index, &*error))?;
    }
    let mut measured = vec![Vec::new(); players.len()];
    for round in 0..scenario.rounds {
        for offset in 0..players.len() {
            // Nobody is always the first.
            let index = (round + offset) % players.len();
            let seed = u64::try_from(round * players.len() + offset)? + 1;
            measured[index]
                .push(players[index].play(seed).map_err(|error| blamed(index, &*error))?);
        }
    }
    Ok(measured)
}

/// Asks for what everybody allows, once.
///
/// # Errors
/// It was not answered, or it was refused.
pub fn ask_once(
    scenario: &Scenario,
    corpus: &Corpus,
    certificate: PathBuf,
    turn: &Turn<'_>,
) -> Result<()> {
    Stage { scenario, corpus: &corpus.first(), certificate }.player(turn)?.ask_once()
}

struct Stage<'a> {
    scenario: &'a Scenario,
    corpus: &'a Corpus,
    certificate: PathBuf,
}

impl<'a> Stage<'a> {
    fn player(&'a self, turn: &'a Turn<'a>) -> Result<Box<dyn Play + 'a>> {
        let Plan { protocol, connections, .. } = turn.plan;
        let tls =
            self.scenario.tls.map(|kind| Tls::new(kind, protocol, &self.certificate, connections));
        let tls = tls.transpose()?.map(Rc::new);
        Ok(match protocol {
            Way::Http1 => self.ready(turn, move |addresses| Http1::new(addresses, tls.clone())),
            Way::H2 => self.ready(turn, move |addresses| Http2::new(addresses, tls.clone())),
            Way::Grpc => self.ready(turn, move |addresses| Grpc::new(addresses, tls.clone())),
            Way::H3 => {
                let tls = tls.ok_or("HTTP/3 without TLS")?;
                self.ready(turn, move |addresses| Http3::new(addresses, Rc::clone(&tls)))
            }
        })
    }

    fn ready<P: Protocol>(
        &'a self,
        turn: &'a Turn<'a>,
        make: impl Fn(Vec<SocketAddr>) -> P + 'a,
    ) -> Box<dyn Play + 'a> {
        let Scenario { bad, flood, .. } = self.scenario;
        let protocol = make(turn.target.addresses());
        let mixed = |share, kinds: &[Kind]| {
            Rc::new(Questions::new(&protocol, self.corpus, &turn.answers, share, kinds))
        };
        let questions =
            bad.as_ref().map_or_else(|| mixed(0.0, &[]), |bad| mixed(bad.share, &bad.kinds));
        let flood = flood.as_ref().filter(|_| turn.plan.beside == Beside::Flood);
        let flood = flood.map(|flood| (flood, mixed(1.0, &flood.kinds)));
        let all = mixed(0.0, &Kind::BAD);
        Box::new(Player {
            scenario: self.scenario,
            turn,
            make,
            questions,
            flood,
            all,
            first: OnceCell::new(),
        })
    }
}

/// A turn that is ready, whatever its protocol.
trait Play {
    /// Asks for what everybody allows, once.
    fn ask_once(&self) -> Result<()>;
    /// Asks everything once of each copy: what can be remembered is, and a server that does not
    /// answer each kind of request as it should does not take part.
    fn warm_up(&self) -> Result<()>;
    /// One round of it.
    fn play(&self, seed: u64) -> Result<Measured>;
}

struct Player<'a, P: Protocol, M> {
    scenario: &'a Scenario,
    turn: &'a Turn<'a>,
    /// What a run needs towards these addresses.
    make: M,
    questions: Rc<Questions<P::Wire>>,
    flood: Option<(&'a Flood, Rc<Questions<P::Wire>>)>,
    /// Every kind there is.
    all: Rc<Questions<P::Wire>>,
    /// KiB that the server occupied after the first turn.
    first: OnceCell<f64>,
}

impl<P: Protocol, M: Fn(Vec<SocketAddr>) -> P> Play for Player<'_, P, M> {
    fn ask_once(&self) -> Result<()> {
        let limit = Limit { requests: 1, time: Duration::from_secs(5) };
        let load = Load {
            in_turn: true,
            connections: 1,
            streams: 1,
            pace: Pace::AsItGoes,
            ..self.load(limit, 0)
        };
        load::run(vec![load], false).map(drop)
    }

    fn warm_up(&self) -> Result<()> {
        let limit =
            Limit { requests: u64::try_from(self.all.len())?, time: Duration::from_secs(60) };
        for address in self.turn.target.addresses() {
            let (protocol, questions, pace) =
                (Rc::new((self.make)(vec![address])), Rc::clone(&self.all), Pace::AsItGoes);
            let load = Load {
                protocol,
                questions,
                in_turn: true,
                per_connection: None,
                pace,
                ..self.load(limit, 0)
            };
            load::run(vec![load], false)?;
        }
        Ok(())
    }

    fn play(&self, seed: u64) -> Result<Measured> {
        if let Some(count) = self.scenario.idle {
            return Ok(Measured { memory: Some(self.idle(count)?), ..Measured::default() });
        }
        let limit = self.scenario.limit();
        let storm = (self.turn.plan.beside == Beside::Storm).then(Rc::<Storm>::default);
        let mut loads = vec![Load { storm: storm.clone(), ..self.load(limit, seed) }];
        if let Some((flood, questions)) = &self.flood {
            let (connections, streams, pace, questions) =
                (flood.connections, 1, flood.pace, Rc::clone(questions));
            let seed = seed + (1 << 20);
            loads.push(Load {
                questions,
                connections,
                streams,
                pace,
                per_connection: None,
                ..self.load(limit, seed)
            });
        }
        let before = self.turn.target.spent()?;
        let tallies = load::run(loads, self.scenario.pinned)?;
        // A thread that still runs has not been charged for its last moments.
        std::thread::sleep(Duration::from_millis(5));
        let (all, busiest) = self.turn.target.spent()?.since(&before);
        let occupied = kibibytes(self.turn.target.resident_bytes()?);
        let growth = occupied - self.first.get_or_init(|| occupied);
        let measured = measured(&tallies, all, busiest)?;
        let storm = storm.map(|storm| raged(&storm, &tallies[0])).transpose()?;
        Ok(Measured { growth, storm, ..measured })
    }
}

impl<P: Protocol, M: Fn(Vec<SocketAddr>) -> P> Player<'_, P, M> {
    fn load(&self, limit: Limit, seed: u64) -> Load<P> {
        let Scenario { per_connection, pace, .. } = self.scenario;
        let Plan { connections, streams, .. } = self.turn.plan;
        Load {
            protocol: Rc::new((self.make)(self.turn.target.addresses())),
            questions: Rc::clone(&self.questions),
            in_turn: false,
            connections,
            streams,
            per_connection: *per_connection,
            pace: *pace,
            limit,
            seed,
            storm: None,
        }
    }

    /// KiB that the server grows by for each of so many connections.
    fn idle(&self, count: usize) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let before = self.turn.target.resident_bytes()?;
        let after = LocalSet::new().block_on(&runtime, async {
            let protocol = (self.make)(self.turn.target.addresses());
            let (mut lanes, mut order) = (Vec::with_capacity(count), Choice::InTurn(0));
            for number in 0..count {
                let mut lane = protocol.open(number).await?;
                let question = self.questions.choose(&mut order);
                let status = lane.ask(&question.wire, 0).await?;
                if !question.expected.contains(&status) {
                    return Err(format!(
                        "{status} instead of {:?}: {}",
                        question.expected,
                        lane.said()
                    )
                    .into());
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
        Ok((kibibytes(after) - kibibytes(before)) / float(u64::try_from(count)?))
    }
}

fn kibibytes(bytes: u64) -> f64 {
    float(bytes) / 1024.0
}

/// What a storm comes to: resets per second, and connections.
fn raged(storm: &Storm, tally: &Tally) -> Result<(f64, f64)> {
    match storm.resets.get() {
        0 => Err("a storm in which nothing was taken back".into()),
        resets => Ok((float(resets) * 1e9 / float(tally.elapsed), float(storm.connections.get()))),
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
        ..Measured::default()
    })
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
