//! What happens to the processes during the load, on a random schedule.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use countersign_tests::{binary::Server, process::send_signal};
use serde_json::json;

use super::{
    super::{envoy::dynamic::DRAIN_SECONDS, nginx},
    answers::{AnswerPeriod, AnswerSet},
    memory::MemoryRecord,
    site::{SoakIssuer, SoakProxies, SoakSite, is_crash},
    target::{FaultList, LoadTarget, ProxyClient},
    tokens::{LoadToken, ProviderKey, TokenDefect, TokenPool},
};
use crate::revocation;

/// An event that the load has to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SoakDisturbance {
    Revocation,
    NewKey,
    WithdrawnKey,
    ServerReload,
    NginxReload,
    EnvoyUpdate,
    WorkerKill,
    ProviderOutage,
    ProviderReturn,
    /// Kills the server, and starts the next one at once.
    ServerKill,
    /// Kills it right after its answer to a revocation.
    RevocationAndKill,
    /// Kills it for longer than `max_staleness`.
    ServerOutage,
}

impl SoakDisturbance {
    /// All of them once, and how often each is chosen afterwards.
    const ALL: [(Self, u32); 12] = [
        (Self::Revocation, 30),
        (Self::NewKey, 8),
        (Self::ServerReload, 6),
        (Self::EnvoyUpdate, 6),
        (Self::WithdrawnKey, 8),
        (Self::NginxReload, 6),
        (Self::WorkerKill, 5),
        (Self::ServerKill, 3),
        (Self::ProviderOutage, 4),
        (Self::RevocationAndKill, 2),
        (Self::ServerOutage, 2),
        (Self::ProviderReturn, 8),
    ];

    fn choose(random: &mut fastrand::Rng) -> Self {
        let all: u32 = Self::ALL.iter().map(|(_, weight)| weight).sum();
        let mut number = random.u32(..all);
        let chosen = Self::ALL.iter().find(|(_, weight)| {
            let is_chosen = number < *weight;
            number = number.saturating_sub(*weight);
            is_chosen
        });
        chosen.unwrap().0
    }
}

/// Interval of the server's heartbeats, after the last of which the time of `max_staleness` begins,
/// and the delay of one on a busy machine.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Time in which a revocation has to be in force in every worker, after the server's answer.
const MAX_REVOCATION_DELAY: Duration = Duration::from_millis(500);
/// Time in which all workers follow a change that some of them follow already.
const SETTLING: Duration = Duration::from_secs(1);
/// Time in which a change has to reach the proxies. A provider that returns is asked within a
/// minute.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Number of faults that end the test early.
const MAX_FAULTS: u64 = 1000;
/// Connections by which a change is observed.
const OBSERVERS: usize = 4;

/// Times of a revocation at a proxy, after the server's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct RevocationDelay {
    pub(super) first_refusal: Duration,
    /// Zero if there was none after the server's answer.
    pub(super) last_acceptance: Duration,
}

/// Everything that the disturbances act on.
pub(super) struct DisturbanceDriver<'s> {
    pub(super) site: &'s SoakSite,
    pub(super) issuers: Vec<SoakIssuer>,
    pub(super) server: Option<Server<'s>>,
    pub(super) proxies: &'s SoakProxies,
    pub(super) targets: &'s [LoadTarget<'s>; 2],
    pub(super) pool: &'s TokenPool,
    pub(super) memory: &'s MemoryRecord,
    pub(super) faults: &'s FaultList,
    pub(super) random: fastrand::Rng,
    /// Start of the youngest worker of nginx.
    pub(super) youngest_worker: Instant,
}

/// Numbers of the disturbances, and delays of the revocations.
#[derive(Default)]
pub(super) struct DisturbanceCounts {
    /// In the order of [`SoakDisturbance::ALL`].
    counts: [u32; SoakDisturbance::ALL.len()],
    pub(super) killed_workers: usize,
    /// By proxy.
    pub(super) delays: [Vec<RevocationDelay>; 2],
}

impl DisturbanceCounts {
    /// Returns the names and numbers of the disturbances.
    pub(super) fn named(&self) -> impl Iterator<Item = (SoakDisturbance, u32)> {
        SoakDisturbance::ALL.iter().zip(self.counts).map(|((kind, _), count)| (*kind, count))
    }
}

impl DisturbanceDriver<'_> {
    /// Disturbs the load until this time, with pauses of up to this length.
    pub(super) fn run(mut self, until: Instant, pause: Duration) -> DisturbanceCounts {
        let mut counts = DisturbanceCounts::default();
        for (kind, _) in SoakDisturbance::ALL {
            self.disturb(kind, &mut counts);
        }
        while Instant::now() < until && self.faults.count() < MAX_FAULTS {
            thread::sleep(pause.mul_f64(self.random.f64()));
            let kind = SoakDisturbance::choose(&mut self.random);
            self.disturb(kind, &mut counts);
        }
        self.check_server_log();
        counts
    }

    fn disturb(&mut self, kind: SoakDisturbance, counts: &mut DisturbanceCounts) {
        self.faults.event(&format!("{kind:?}"));
        let index = SoakDisturbance::ALL.iter().position(|(one, _)| *one == kind).unwrap();
        counts.counts[index] += 1;
        match kind {
            SoakDisturbance::Revocation => self.revoke(counts),
            SoakDisturbance::NewKey => self.add_key(),
            SoakDisturbance::WithdrawnKey => self.withdraw_key(),
            SoakDisturbance::ServerReload => self.reload_server(),
            SoakDisturbance::NginxReload => self.reload_nginx(),
            SoakDisturbance::EnvoyUpdate => self.update_envoy(),
            SoakDisturbance::WorkerKill => self.kill_worker(counts),
            SoakDisturbance::ProviderOutage => {
                let issuer = self.random.usize(..self.issuers.len());
                self.issuers[issuer].stop(&mut self.random);
            }
            SoakDisturbance::ProviderReturn => self.restore_providers(),
            SoakDisturbance::ServerKill => self.kill_server(|_| {}),
            SoakDisturbance::RevocationAndKill => self.revoke_and_kill(),
            SoakDisturbance::ServerOutage => {
                self.kill_server(|disturber| disturber.outlast(counts))
            }
        }
    }

    fn server(&self) -> &Server<'_> {
        self.server.as_ref().expect("a server runs between two disturbances")
    }

    fn nginx(&self) -> &LoadTarget<'_> {
        &self.targets[0]
    }

    fn envoy(&self) -> &LoadTarget<'_> {
        &self.targets[1]
    }

    /// Begins a period that ends after a time.
    fn tolerate(target: &LoadTarget<'_>, answers: AnswerSet, time: Duration) {
        let now = Instant::now();
        let period = target.periods.begin(AnswerPeriod::Tolerated(answers), now);
        target.periods.end(period, now + time);
    }

    fn add_key(&mut self) {
        let Some(issuer) = self.choose_issuer(|issuer| issuer.keys.len() < 3) else { return };
        let key = self.issuers[issuer].add_key();
        self.pool.sign_with(issuer, &key);
        let token = LoadToken::sign(&key, TokenDefect::None);
        self.wait_for(&token, 200, AnswerSet::ALLOWED);
        key.usable.set(Instant::now() + SETTLING);
    }

    fn withdraw_key(&mut self) {
        let is_withdrawable = |issuer: &SoakIssuer| {
            issuer.keys.len() > 1 && issuer.keys[0].usable.is_by(Instant::now())
        };
        let Some(issuer) = self.choose_issuer(is_withdrawable) else { return };
        let key = self.issuers[issuer].withdraw_key();
        self.pool.withdraw(&key);
        self.wait_until_withdrawn(&key);
    }

    fn wait_until_withdrawn(&self, key: &Arc<ProviderKey>) {
        let token = LoadToken::sign(key, TokenDefect::None);
        self.wait_for(&token, 401, AnswerSet::REFUSED.or(AnswerSet::UNAVAILABLE));
        key.withdrawn.set(Instant::now() + SETTLING);
    }

    /// Lets all providers answer, and waits until their keys have been fetched.
    fn restore_providers(&mut self) {
        self.issuers.iter_mut().for_each(SoakIssuer::restore);
        for index in 0..self.issuers.len() {
            let Some(outage) = self.issuers[index].outage.take() else { continue };
            self.wait_until_decided(&self.issuers[index]);
            self.issuers[index].end_undecided(outage, Instant::now() + SETTLING);
        }
    }

    /// Waits until server and proxies know that an issuer has no key with an unknown `kid`.
    fn wait_until_decided(&self, issuer: &SoakIssuer) {
        self.wait_for(&issuer.unknown(), 401, AnswerSet::REFUSED);
    }

    /// Chooses an issuer whose provider answers.
    fn choose_issuer(&mut self, is_right: impl Fn(&SoakIssuer) -> bool) -> Option<usize> {
        let issuers = self.issuers.iter().enumerate();
        let issuers = issuers.filter(|(_, issuer)| !issuer.is_down && is_right(issuer));
        let issuers: Vec<_> = issuers.map(|(index, _)| index).collect();
        self.random.choice(issuers)
    }

    /// Waits until the server gives this status to a token, and both proxies one of these answers.
    fn wait_for(&self, token: &LoadToken, status: u16, answers: AnswerSet) {
        self.poll("the server", token, || self.server().auth(&token.text).status == status);
        self.wait_for_proxies(token, answers);
    }

    fn wait_for_proxies(&self, token: &LoadToken, answers: AnswerSet) {
        for target in self.targets {
            let answered = || {
                let answer = target.request(&mut ProxyClient::new(target.address), Some(token));
                answers.contains(answer)
            };
            self.poll(target.name, token, || (0..OBSERVERS).all(|_| answered()));
        }
    }

    fn poll(&self, name: &str, token: &LoadToken, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            if start.elapsed() > TIMEOUT {
                let described = token.description();
                self.faults
                    .add(&format!("{name} does not follow a change within 90 s: {described}"));
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn revoke(&mut self, counts: &mut DisturbanceCounts) {
        let token = self.pool.take(&mut self.random);
        let clients = self.targets.each_ref().map(|target| {
            let mut clients = [(); OBSERVERS].map(|()| ProxyClient::new(target.address));
            for client in &mut clients {
                target.request(client, Some(&token));
            }
            clients
        });
        let answered = self.send_revocation(&token);
        token.revoked.set(answered + MAX_REVOCATION_DELAY);
        let (targets, token) = (self.targets, &*token);
        thread::scope(|scope| {
            let observers = targets.iter().zip(clients);
            let observers = observers.map(|(target, clients)| {
                scope.spawn(move || observe(target, clients, token, answered))
            });
            let observers: Vec<_> = observers.collect();
            for (observer, delays) in observers.into_iter().zip(&mut counts.delays) {
                delays.extend(observer.join().unwrap());
            }
        });
    }

    /// Revokes a token. Returns the time of the server's answer.
    fn send_revocation(&self, token: &Arc<LoadToken>) -> Instant {
        token.revoking.set(Instant::now());
        self.pool.add_revoked(token);
        let response = revocation::revoke(self.server(), &format!("token={}", token.text));
        let answered = Instant::now();
        if response.status != 200 {
            self.faults.add(&format!("the server answered a revocation with {response:?}"));
        }
        answered
    }

    fn revoke_and_kill(&mut self) {
        let token = self.pool.take(&mut self.random);
        self.send_revocation(&token);
        self.kill_server(|_| {});
        // The server may have been killed before it passed the revocation on.
        token.revoked.set(Instant::now() + SETTLING);
    }

    fn reload_server(&self) {
        self.site.change_configuration();
        for (_, proxy) in self.proxies.both() {
            proxy.sandbox.replace("auth.cfg", self.site.of_proxies());
        }
        self.site.sandbox.replace("server.cfg", self.site.of_server());
        let line = self.server().reload();
        if line.contains("not reloaded") {
            self.faults.add(&line);
        }
    }

    fn reload_nginx(&mut self) {
        self.youngest_worker = Instant::now();
        // Workers that are replaced close the connections that are not in use.
        Self::tolerate(self.nginx(), AnswerSet::CLOSED, 2 * SETTLING);
        nginx::reload(&self.proxies.nginx);
    }

    fn update_envoy(&mut self) {
        let time = Duration::from_secs(DRAIN_SECONDS) + 2 * SETTLING;
        Self::tolerate(self.envoy(), AnswerSet::CLOSED, time);
        let claims = if self.random.bool() { json!(["sub"]) } else { json!([]) };
        let version = self.proxies.envoy.replace(json!({ "metadata_claims": claims }));
        let (start, address) = (Instant::now(), self.envoy().address);
        let request = "GET /off HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        let is_used = || {
            let response = ProxyClient::new(address).send(request).response;
            response.is_some_and(|response| response.header("x-version") == Some(&version))
        };
        while !is_used() {
            if start.elapsed() > TIMEOUT {
                self.faults.add("Envoy does not use a new listener");
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill_worker(&mut self, counts: &mut DisturbanceCounts) {
        let Some(worker) = self.random.choice(self.proxies.workers()) else { return };
        let ended = AnswerSet::LOST.or(AnswerSet::CLOSED);
        Self::tolerate(self.nginx(), ended, 2 * SETTLING);
        send_signal(worker, "KILL");
        self.youngest_worker = Instant::now();
        counts.killed_workers += 1;
    }

    /// Kills the server, does something else, and starts the next server.
    fn kill_server(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        self.check_server_log();
        let unavailable = AnswerPeriod::Tolerated(AnswerSet::UNAVAILABLE);
        let from = Instant::now() + SoakSite::MAX_STALENESS - HEARTBEAT;
        // A worker that has just begun may not have read the feed.
        let of_nginx =
            if self.youngest_worker.elapsed() > 2 * SETTLING { from } else { Instant::now() };
        let periods = self.targets.iter().zip([of_nginx, from]);
        let periods = periods.map(|(target, from)| target.periods.begin(unavailable, from));
        let periods: Vec<_> = periods.collect();
        // No fetch can be requested until the next server has made one.
        let undecided: Vec<_> = self.issuers.iter().map(SoakIssuer::begin_undecided).collect();
        self.memory.server.store(0, Ordering::Relaxed);
        self.server().signal("KILL");
        // Waits for its end.
        self.server = None;
        meanwhile(self);
        let server = self.site.serve();
        self.memory.server.store(server.process(), Ordering::Relaxed);
        self.server = Some(server);
        let token = self.pool.issue(&mut self.random);
        self.wait_for_proxies(&token, AnswerSet::ALLOWED);
        for (issuer, period) in self.issuers.iter().zip(undecided) {
            if !issuer.is_down {
                self.wait_until_decided(issuer);
            }
            issuer.end_undecided(period, Instant::now() + SETTLING);
        }
        for (target, period) in self.targets.iter().zip(periods) {
            target.periods.end(period, Instant::now() + SETTLING);
        }
    }

    /// Lets `max_staleness` pass, and disturbs the proxies meanwhile.
    fn outlast(&mut self, counts: &mut DisturbanceCounts) {
        let from = Instant::now() + SoakSite::MAX_STALENESS;
        let periods =
            self.targets.each_ref().map(|target| target.periods.begin(AnswerPeriod::Stale, from));
        // New workers know nothing yet.
        let unavailable = AnswerPeriod::Tolerated(AnswerSet::UNAVAILABLE);
        let workers = self.nginx().periods.begin(unavailable, Instant::now());
        thread::sleep(SoakSite::MAX_STALENESS.mul_f64(self.random.f64()));
        match self.random.u8(..4) {
            0 => self.reload_nginx(),
            1 => self.update_envoy(),
            2 => self.kill_worker(counts),
            _ => {}
        }
        let rest = from.saturating_duration_since(Instant::now());
        thread::sleep(rest + SETTLING.mul_f64(2.0 * self.random.f64()));
        let end = Instant::now();
        for (target, period) in self.targets.iter().zip(periods) {
            target.periods.end(period, end);
        }
        // The end of the server's own period is later.
        self.nginx().periods.end(workers, end);
    }

    fn check_server_log(&self) {
        for line in self.server().log().lines().filter(|line| is_crash(line)) {
            self.faults.add(&format!("the server logged: {line}"));
        }
    }
}

/// Sends a revoked token on all connections until all are refused.
fn observe(
    target: &LoadTarget<'_>,
    mut clients: [ProxyClient; OBSERVERS],
    token: &LoadToken,
    answered: Instant,
) -> Option<RevocationDelay> {
    let (mut first_refusal, mut last_acceptance) = (None, Duration::ZERO);
    let mut is_refused = false;
    while !is_refused && answered.elapsed() < 2 * MAX_REVOCATION_DELAY {
        is_refused = true;
        for client in &mut clients {
            let answer = target.request(client, Some(token));
            let elapsed = answered.elapsed();
            if answer == AnswerSet::ALLOWED {
                (last_acceptance, is_refused) = (elapsed, false);
            } else {
                first_refusal.get_or_insert(elapsed);
            }
        }
    }
    Some(RevocationDelay { first_refusal: first_refusal?, last_acceptance })
}
