//! Rounds of turns. Every server has the same load once per round, so that a machine whose speed
//! drifts slows all of them alike.

use std::{cell::OnceCell, net::SocketAddr, path::PathBuf, rc::Rc, time::Duration};

use tokio::task::LocalSet;

use super::{
    Result,
    corpus::{Corpus, CredentialKind, ExpectedAnswers, RequestMix, RequestOrder},
    grpc::Grpc,
    http1::Http1,
    http2::Http2,
    http3::Http3,
    load::{self, Load},
    process::MeasuredServer,
    protocol::{Protocol, ProtocolKind, RequestSlot as _, ResetStorm},
    scenario::{BackgroundLoad, Flood, Measure, Scenario, TurnPlan},
    schedule::{Limit, Pace},
    tally::{Quantiles, Tally},
    tls::Tls,
};

/// A server's turn in each round.
pub struct Turn<'a> {
    /// The load of this turn.
    pub plan: TurnPlan,
    /// The server under load.
    pub target: &'a (dyn MeasuredServer + Sync),
    /// The answers it must give.
    pub answers: ExpectedAnswers,
}

/// Measurement of one turn.
#[derive(Clone, Debug, Default)]
pub struct Measurement {
    /// Number of requests, all of them answered as expected.
    pub requests: u64,
    /// Microseconds of the server's CPU time per request.
    pub cpu: f64,
    /// Share of that CPU time that the busiest thread used.
    pub busiest: f64,
    /// Requests per second.
    pub rate: f64,
    /// Latencies of valid requests.
    pub valid: Option<Quantiles>,
    /// Latencies of bad requests.
    pub invalid: Option<Quantiles>,
    /// KiB of the server's memory per idle connection.
    pub memory: Option<f64>,
    /// Growth of the server's memory since its first turn of this kind, in KiB.
    pub growth: f64,
    /// Resets per second, and the number of connections they were sent on.
    pub storm: Option<(f64, f64)>,
}

impl Measurement {
    /// Returns one number of the measurement; `None` if it was not measured.
    #[must_use]
    pub fn value(&self, measure: Measure) -> Option<f64> {
        let value = match measure {
            // The report subtracts the baseline.
            Measure::Cpu | Measure::Added => self.cpu,
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

/// Runs a scenario on the calling thread. Returns measurements by turn, then by round.
///
/// # Errors
/// A wrong answer, or any other error that ends a load.
pub fn run_scenario(
    scenario: &Scenario,
    corpus: &Corpus,
    certificate: PathBuf,
    turns: &[Turn<'_>],
) -> Result<Vec<Vec<Measurement>>> {
    let context = ScenarioContext { scenario, corpus, certificate };
    let runners: Vec<_> = turns.iter().map(|turn| context.runner(turn)).collect::<Result<_>>()?;
    let named = |index: usize, error: &dyn std::error::Error| {
        format!("{}, {}: {error}", scenario.name, turns[index].plan.name)
    };
    for (index, runner) in runners.iter().enumerate() {
        runner.warm_up().map_err(|error| named(index, &*error))?;
    }
    let mut measured = vec![Vec::new(); runners.len()];
    for round in 0..scenario.rounds {
        for offset in 0..runners.len() {
            // Another turn is the first in each round.
            let index = (round + offset) % runners.len();
            let seed = u64::try_from(round * runners.len() + offset)? + 1;
            measured[index].push(runners[index].run(seed).map_err(|error| named(index, &*error))?);
        }
    }
    Ok(measured)
}

/// Sends one request that every server allows.
///
/// # Errors
/// The request was not answered, or was rejected.
pub fn probe(
    scenario: &Scenario,
    corpus: &Corpus,
    certificate: PathBuf,
    turn: &Turn<'_>,
) -> Result<()> {
    ScenarioContext { scenario, corpus: &corpus.first(1), certificate }.runner(turn)?.probe()
}

struct ScenarioContext<'a> {
    scenario: &'a Scenario,
    corpus: &'a Corpus,
    certificate: PathBuf,
}

impl<'a> ScenarioContext<'a> {
    fn runner(&'a self, turn: &'a Turn<'a>) -> Result<Box<dyn TurnRunner + 'a>> {
        let TurnPlan { protocol, connections, .. } = turn.plan;
        let tls =
            self.scenario.tls.map(|kind| Tls::new(kind, protocol, &self.certificate, connections));
        let tls = tls.transpose()?.map(Rc::new);
        Ok(match protocol {
            ProtocolKind::Http1 => self.runner_for(turn, move |addresses| {
                let lines = self.scenario.header_lines.clone();
                Http1::new(addresses, tls.clone()).with_header_lines(lines)
            }),
            ProtocolKind::H2 => {
                self.runner_for(turn, move |addresses| Http2::new(addresses, tls.clone()))
            }
            ProtocolKind::Grpc => {
                self.runner_for(turn, move |addresses| Grpc::new(addresses, tls.clone()))
            }
            ProtocolKind::H3 => {
                let tls = tls.ok_or("HTTP/3 without TLS")?;
                self.runner_for(turn, move |addresses| Http3::new(addresses, Rc::clone(&tls)))
            }
        })
    }

    fn runner_for<P: Protocol>(
        &'a self,
        turn: &'a Turn<'a>,
        make: impl Fn(Vec<SocketAddr>) -> P + 'a,
    ) -> Box<dyn TurnRunner + 'a> {
        let Scenario { bad, flood, .. } = self.scenario;
        let protocol = make(turn.target.addresses());
        let corpus = self.corpus.first(turn.plan.tokens);
        let mixed = |share, kinds: &[CredentialKind]| {
            Rc::new(RequestMix::new(&protocol, &corpus, &turn.answers, share, kinds))
        };
        let requests =
            bad.as_ref().map_or_else(|| mixed(0.0, &[]), |bad| mixed(bad.share, &bad.kinds));
        let flood = flood.as_ref().filter(|_| turn.plan.beside == BackgroundLoad::Flood);
        let flood = flood.map(|flood| (flood, mixed(1.0, &flood.kinds)));
        let all = mixed(0.0, &CredentialKind::BAD);
        Box::new(ProtocolRunner {
            scenario: self.scenario,
            turn,
            make,
            requests,
            flood,
            all,
            first: OnceCell::new(),
        })
    }
}

/// A prepared turn, independent of its protocol.
trait TurnRunner {
    /// Sends one request that every server allows.
    fn probe(&self) -> Result<()>;
    /// Sends every request once to each copy of the server. This fills caches, and stops a server
    /// that answers a kind of request other than expected.
    fn warm_up(&self) -> Result<()>;
    /// Runs one round of the turn.
    fn run(&self, seed: u64) -> Result<Measurement>;
}

struct ProtocolRunner<'a, P: Protocol, M> {
    scenario: &'a Scenario,
    turn: &'a Turn<'a>,
    /// Creates the protocol client for these addresses.
    make: M,
    requests: Rc<RequestMix<P::Wire>>,
    flood: Option<(&'a Flood, Rc<RequestMix<P::Wire>>)>,
    /// Requests of every kind.
    all: Rc<RequestMix<P::Wire>>,
    /// KiB of the server's memory after its first turn.
    first: OnceCell<f64>,
}

impl<P: Protocol, M: Fn(Vec<SocketAddr>) -> P> TurnRunner for ProtocolRunner<'_, P, M> {
    fn probe(&self) -> Result<()> {
        let limit = Limit { requests: 1, time: Duration::from_secs(5) };
        let load = Load {
            in_turn: true,
            connections: 1,
            streams: 1,
            pace: Pace::ClosedLoop,
            ..self.load(limit, 0)
        };
        load::run(vec![load], false).map(drop)
    }

    fn warm_up(&self) -> Result<()> {
        let limit =
            Limit { requests: u64::try_from(self.all.len())?, time: Duration::from_secs(60) };
        for address in self.turn.target.addresses() {
            let (protocol, requests, pace) =
                (Rc::new((self.make)(vec![address])), Rc::clone(&self.all), Pace::ClosedLoop);
            let load = Load {
                protocol,
                requests,
                in_turn: true,
                per_connection: None,
                pace,
                ..self.load(limit, 0)
            };
            load::run(vec![load], false)?;
        }
        Ok(())
    }

    fn run(&self, seed: u64) -> Result<Measurement> {
        if let Some(count) = self.scenario.idle {
            return Ok(Measurement { memory: Some(self.idle(count)?), ..Measurement::default() });
        }
        let limit = self.scenario.limit();
        let storm =
            (self.turn.plan.beside == BackgroundLoad::Resets).then(Rc::<ResetStorm>::default);
        let mut loads = vec![Load { storm: storm.clone(), ..self.load(limit, seed) }];
        if let Some((flood, requests)) = &self.flood {
            let (connections, streams, pace, requests) =
                (flood.connections, 1, flood.pace, Rc::clone(requests));
            let seed = seed + (1 << 20);
            loads.push(Load {
                requests,
                connections,
                streams,
                pace,
                per_connection: None,
                ..self.load(limit, seed)
            });
        }
        let before = self.turn.target.cpu_time()?;
        let tallies = load::run(loads, self.scenario.pinned)?;
        // The kernel has not charged a running thread for its last moments yet.
        std::thread::sleep(Duration::from_millis(5));
        let (all, busiest) = self.turn.target.cpu_time()?.since(&before);
        let occupied = kibibytes(self.turn.target.resident_bytes()?);
        let growth = occupied - self.first.get_or_init(|| occupied);
        let measurement = measurement(&tallies, all, busiest)?;
        let storm = storm.map(|storm| storm_rates(&storm, &tallies[0])).transpose()?;
        Ok(Measurement { growth, storm, ..measurement })
    }
}

impl<P: Protocol, M: Fn(Vec<SocketAddr>) -> P> ProtocolRunner<'_, P, M> {
    fn load(&self, limit: Limit, seed: u64) -> Load<P> {
        let Scenario { per_connection, pace, .. } = self.scenario;
        let TurnPlan { connections, streams, .. } = self.turn.plan;
        Load {
            protocol: Rc::new((self.make)(self.turn.target.addresses())),
            requests: Rc::clone(&self.requests),
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

    /// Returns the KiB of server memory per connection, over `count` idle connections.
    fn idle(&self, count: usize) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let before = self.turn.target.resident_bytes()?;
        let after = LocalSet::new().block_on(&runtime, async {
            let protocol = (self.make)(self.turn.target.addresses());
            let (mut slots, mut order) = (Vec::with_capacity(count), RequestOrder::InTurn(0));
            for number in 0..count {
                let mut slot = protocol.open(number).await?;
                let request = self.requests.choose(&mut order);
                let status = slot.exchange(&request.wire, 0).await?;
                if !request.expected.contains(&status) {
                    return Err(format!(
                        "{status} instead of {:?}: {}",
                        request.expected,
                        slot.last_answer()
                    )
                    .into());
                }
                slots.push(slot);
            }
            let after = self.turn.target.resident_bytes()?;
            // A connection that the server has closed would count as small. Check that all are
            // open.
            for slot in &mut slots {
                slot.exchange(&self.requests.choose(&mut order).wire, 0).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(after)
        })?;
        Ok((kibibytes(after) - kibibytes(before)) / float(u64::try_from(count)?))
    }
}

fn kibibytes(bytes: u64) -> f64 {
    float(bytes) / 1024.0
}

/// Returns resets per second, and the number of connections.
fn storm_rates(storm: &ResetStorm, tally: &Tally) -> Result<(f64, f64)> {
    match storm.resets.get() {
        0 => Err("the storm did not reset any request".into()),
        resets => Ok((float(resets) * 1e9 / float(tally.elapsed), float(storm.connections.get()))),
    }
}

/// Combines the tallies of the loads. Latencies are those of the first load; CPU time is that of
/// all.
fn measurement(tallies: &[Tally], all: u64, busiest: u64) -> Result<Measurement> {
    let requests = tallies.iter().map(Tally::requests).sum();
    let elapsed = tallies.iter().map(|tally| tally.elapsed).max().unwrap_or(0);
    let mut invalid = tallies[0].invalid.clone();
    for other in &tallies[1..] {
        invalid.add(&other.invalid)?;
    }
    Ok(Measurement {
        requests,
        cpu: float(all) / 1e3 / float(requests),
        busiest: float(busiest) / float(all),
        rate: float(requests) * 1e9 / float(elapsed),
        valid: Quantiles::of(&tallies[0].valid),
        invalid: Quantiles::of(&invalid),
        ..Measurement::default()
    })
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
