//! A proxy under load, and the judgement of its answers.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use countersign_tests::http::{Connection, Response};

use super::{
    answers::{AnswerPeriods, AnswerSet},
    tokens::{LoadToken, TokenPool},
};

/// Collects everything that went wrong.
pub(super) struct FaultList {
    start: Instant,
    count: AtomicU64,
    faults: Mutex<Vec<String>>,
    /// The disturbances.
    events: Mutex<Vec<String>>,
}

impl FaultList {
    /// Faults that are described. The others are counted.
    const MAX_DESCRIBED: usize = 40;

    pub(super) fn new(start: Instant) -> Self {
        let (count, faults, events) = Default::default();
        Self { start, count, faults, events }
    }

    pub(super) fn add(&self, text: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < Self::MAX_DESCRIBED {
            let events = self.events.lock().unwrap();
            let before = events.iter().rev().take(3).rev().cloned().collect::<Vec<_>>();
            faults.push(format!("{} {text}; before: {}", self.now(), before.join(", ")));
        }
    }

    /// Notes the next disturbance.
    pub(super) fn event(&self, text: &str) {
        self.events.lock().unwrap().push(format!("{} {text}", self.now()));
    }

    fn now(&self) -> String {
        format!("{:.3} s", self.start.elapsed().as_secs_f64())
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }
}

/// A proxy under load.
pub(super) struct LoadTarget<'s> {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) periods: AnswerPeriods,
    counts: [AtomicU64; AnswerSet::NAMES.len()],
    faults: &'s FaultList,
}

impl<'s> LoadTarget<'s> {
    pub(super) fn new(name: &'static str, address: SocketAddr, faults: &'s FaultList) -> Self {
        let (periods, counts) = Default::default();
        Self { name, address, periods, counts, faults }
    }

    /// Sends requests with chosen tokens at this interval, until the end.
    pub(super) fn load(&self, pool: &TokenPool, seed: u64, interval: Duration, end: &AtomicBool) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut client = ProxyClient::new(self.address);
        let mut next = Instant::now() + interval.mul_f64(random.f64());
        while !end.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // Later requests do not make up for the time of a slow one.
            next = Instant::now().max(next + interval);
            self.request(&mut client, pool.choose(&mut random).as_deref());
        }
    }

    /// Sends a request with this token, and judges its answer.
    pub(super) fn request(&self, client: &mut ProxyClient, token: Option<&LoadToken>) -> AnswerSet {
        const ANONYMOUS: &str = "GET /soak/ HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        let request = token.map_or_else(|| ANONYMOUS.to_owned(), LoadToken::request);
        let exchange = client.send(&request);
        let TimedExchange { sent, received, .. } = exchange;
        let right = token.map_or(AnswerSet::REFUSED, |token| token.answers(sent, received));
        let right = self.periods.right(right, sent, received);
        let answer = AnswerSet::of(exchange.response.as_ref());
        let closed = exchange.was_closed.then_some(AnswerSet::CLOSED);
        for one in [Some(answer), closed].into_iter().flatten() {
            self.count(one);
            if !right.contains(one) {
                let described = token.map_or_else(|| "no token".to_owned(), LoadToken::description);
                let duration = (received - sent).as_millis();
                let (name, response) = (self.name, &exchange.response);
                self.faults.add(&format!(
                    "{name} answered {one} instead of {right} in {duration} ms: {described}: \
                     {response:?}"
                ));
            }
        }
        answer
    }

    fn count(&self, answer: AnswerSet) {
        let index = AnswerSet::NAMES.iter().position(|(one, _)| *one == answer);
        self.counts[index.unwrap()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of each answer, in the order of [`AnswerSet::NAMES`].
    pub(super) fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Client of a proxy, which keeps its connection.
pub(super) struct ProxyClient {
    address: SocketAddr,
    open: Option<Connection>,
}

/// A request and its response.
pub(super) struct TimedExchange {
    sent: Instant,
    received: Instant,
    /// `None` if the connection ended before the end of the response.
    pub(super) response: Option<Response>,
    /// Whether the kept connection was closed, so that the request was sent again.
    was_closed: bool,
}

/// When a connection ended.
#[derive(PartialEq, Eq)]
enum ConnectionLoss {
    BeforeResponse,
    InResponse,
}

impl ProxyClient {
    pub(super) const fn new(address: SocketAddr) -> Self {
        Self { address, open: None }
    }

    /// Sends a request, on the kept connection if there is one. It may be closed at the same time,
    /// and the request is then sent again (RFC 9112 section 9.3.1).
    pub(super) fn send(&mut self, request: &str) -> TimedExchange {
        let sent = Instant::now();
        let kept = self.open.take().map(|connection| self.send_over(connection, request));
        let was_closed = matches!(kept, Some(Err(ConnectionLoss::BeforeResponse)));
        let result = match kept {
            Some(result) if !was_closed => result,
            _ => Connection::try_open(self.address)
                .map_err(|_error| ConnectionLoss::BeforeResponse)
                .and_then(|connection| self.send_over(connection, request)),
        };
        TimedExchange { sent, received: Instant::now(), response: result.ok(), was_closed }
    }

    fn send_over(
        &mut self,
        mut connection: Connection,
        request: &str,
    ) -> Result<Response, ConnectionLoss> {
        let began = connection.try_send_raw(request.as_bytes()).and_then(|()| connection.wait());
        began.map_err(|_error| ConnectionLoss::BeforeResponse)?;
        let response = connection.try_receive(false);
        let response = response.map_err(|_error| ConnectionLoss::InResponse)?;
        if response.header("connection") != Some("close") {
            self.open = Some(connection);
        }
        Ok(response)
    }
}
