//! One connection that speaks HTTP/3: what comes over its streams is read, answered on
//! the spot where that is possible, and written, all in one go.
//!
//! A question of a proxy that has come in one piece, as they do, leaves nothing behind:
//! no task, no future, no entry in a table.

use std::{
    collections::HashMap,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use quinn_proto::{Dir, Event, ReadError, Side, StreamEvent, StreamId, VarInt, WriteError};

use super::{
    answer::Writer,
    control,
    fault::{Code, Fault},
    frame,
    stream::{MOST_SECTION, Step, Stream},
    unidirectional::{Interest, Opened, Unidirectional},
};
use crate::{
    clock::{self, Stopwatch},
    http::BODY_TOO_SLOW,
    listen::{
        exchange::Link,
        quic::{Driver, STREAMS},
        watch::{TICK, TooLate, Watch},
    },
    routes::Reply,
};

/// A connection that speaks HTTP/3.
pub(super) struct Connection<'c> {
    link: Link<'c>,
    watch: Rc<Watch>,
    driver: Driver,
    /// The requests that are not done with.
    streams: HashMap<StreamId, Stream<'c>>,
    /// Answers that take a while.
    waiting: FuturesUnordered<Answering<'c>>,
    /// The client's streams that go one way.
    one_way: HashMap<StreamId, Unidirectional>,
    opened: Opened,
    /// Our control stream.
    control: Option<StreamId>,
    /// The number of the first request that has not come yet.
    next: u64,
    /// How many more requests may be taken back.
    patience: u32,
    state: State,
    phase: Phase,
    /// Since the last request.
    idle: Stopwatch,
    /// What has just come over a stream.
    pieces: Vec<Bytes>,
}

/// The answer to the request of a stream.
type Answering<'c> = Pin<Box<dyn Future<Output = (StreamId, Reply)> + 'c>>;

/// How many requests a client may take back beyond the answers that it has received.
const PATIENCE: u32 = 256;

/// How far a connection has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The client was told to ask for nothing more.
    Leaving,
    /// It is over, but for what is still on its way.
    Closed,
}

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing, or us.
    Busy,
    /// A request.
    Idle,
    /// The client, to send the rest of a request, or to take an answer.
    Streams,
    /// The client, to go as it was told.
    Leaving,
}

/// The connection is over.
struct Over;

/// How it stands with what comes over a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// More is to come.
    NotYet,
    /// It is all there.
    Finished,
    /// The client has taken it back.
    Reset,
}

impl<'c> Connection<'c> {
    /// A connection whose handshake is done.
    pub(super) fn new(link: Link<'c>, watch: Rc<Watch>, driver: Driver) -> Self {
        Self {
            link,
            watch,
            driver,
            streams: HashMap::new(),
            waiting: FuturesUnordered::new(),
            one_way: HashMap::new(),
            opened: Opened::default(),
            control: None,
            next: 0,
            patience: PATIENCE,
            state: State::Open,
            phase: Phase::Busy,
            idle: Stopwatch::start(),
            pieces: Vec::new(),
        }
    }

    /// Serves it to its end.
    pub(super) async fn serve(mut self) {
        let watch = Rc::clone(&self.watch);
        watch.due_within(Duration::MAX);
        self.open_control();
        loop {
            match watch.in_time(|context| self.poll(context)).await {
                Ok(Over) => return,
                Err(TooLate) => self.be_late(),
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        self.driver.poll_in(context);
        if self.watch.is_draining() {
            self.leave();
        }
        loop {
            let mut has_happened = false;
            while let Some(event) = self.driver.connection.poll() {
                self.take(event);
                has_happened = true;
            }
            while let Poll::Ready(Some((id, reply))) = self.waiting.poll_next_unpin(context) {
                self.reply(id, &reply);
                has_happened = true;
            }
            if !has_happened {
                break;
            }
        }
        if self.driver.poll_out(context).is_ready() {
            return Poll::Ready(Over);
        }
        self.enter(match self.state {
            State::Closed => Phase::Busy,
            _ if !self.streams.is_empty() => Phase::Streams,
            State::Leaving => Phase::Leaving,
            State::Open => Phase::Idle,
        });
        Poll::Pending
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::ConnectionLost { reason } => {
                tracing::debug!(client = %self.link.peer.address, "QUIC: {reason}");
                self.end();
            }
            _ if self.state == State::Closed => {}
            Event::Stream(StreamEvent::Opened { dir }) => {
                while let Some(id) = self.driver.connection.streams().accept(dir) {
                    match dir {
                        Dir::Bi => self.accept(id),
                        Dir::Uni => self.receive_one_way(id),
                    }
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => match id.dir() {
                Dir::Bi => self.receive(id),
                Dir::Uni => self.receive_one_way(id),
            },
            Event::Stream(StreamEvent::Writable { id }) => self.write(id),
            Event::Stream(StreamEvent::Stopped { id, .. }) => self.cancel(id),
            Event::Stream(StreamEvent::Finished { .. }) => {
                self.patience = PATIENCE.min(self.patience + 1)
            }
            _ => {}
        }
    }

    /// A new request.
    fn accept(&mut self, id: StreamId) {
        // Answers that nobody waits for any more are still on their way.
        let are_too_many = self.waiting.len() >= STREAMS as usize;
        if self.state == State::Leaving || are_too_many {
            return self.refuse(id, Code::RequestRejected);
        }
        self.next = self.next.max(id.index() + 1);
        (self.phase, self.idle) = (Phase::Busy, Stopwatch::start());
        self.receive_of(id, Stream::new());
    }

    /// More of a request that is not all there.
    fn receive(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.receive_of(id, stream);
        }
    }

    fn receive_of(&mut self, id: StreamId, mut stream: Stream<'c>) {
        let end = self.read(id);
        if end == End::Reset {
            return self.cancel(id);
        }
        let mut answer = Vec::new();
        self.link.local.buffers.lend_output(&mut answer);
        match stream.take(self.link, &self.pieces, end == End::Finished, &mut answer) {
            Ok(Step::More) => drop(self.streams.insert(id, stream)),
            Ok(Step::Answered) => self.send(id, &answer, end),
            Ok(Step::Waits(reply)) => {
                self.streams.insert(id, stream);
                self.waiting.push(Box::pin(async move { (id, reply.await) }));
            }
            Err(fault) => self.fail(id, fault),
        }
        self.pieces.clear();
        self.link.local.buffers.return_output(&mut answer);
    }

    /// Reads what has come over a stream.
    fn read(&mut self, id: StreamId) -> End {
        self.pieces.clear();
        let mut stream = self.driver.connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return End::NotYet };
        let end = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => self.pieces.push(chunk.bytes),
                Ok(None) => break End::Finished,
                Err(ReadError::Blocked) => break End::NotYet,
                Err(ReadError::Reset(_)) => break End::Reset,
            }
        };
        // What there is to say about windows is said with everything else.
        let _is_to_be_sent = chunks.finalize();
        end
    }

    /// An answer that took a while.
    fn reply(&mut self, id: StreamId, reply: &Reply) {
        // Unless the request was taken back.
        let Some(stream) = self.streams.remove(&id) else { return };
        let mut answer = Vec::new();
        self.link.local.buffers.lend_output(&mut answer);
        Writer::new(&mut answer, stream.is_head()).write(reply);
        self.send(id, &answer, End::NotYet);
        self.link.local.buffers.return_output(&mut answer);
    }

    /// Sends an answer. What the client does not take now is kept for later.
    fn send(&mut self, id: StreamId, answer: &[u8], end: End) {
        let mut stream = self.driver.connection.send_stream(id);
        let mut sent = 0;
        while sent < answer.len() {
            match stream.write(&answer[sent..]) {
                Ok(length) => sent += length,
                Err(WriteError::Blocked) => break,
                // It was stopped, which is an event of its own.
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return,
            }
        }
        if sent == answer.len() {
            let _stopped = stream.finish();
        } else {
            self.streams.insert(id, Stream::sending(answer[sent..].into()));
        }
        if end == End::NotYet {
            // Whatever else it wants to say, it is answered (RFC 9114 section 4.1).
            let _all_there = self.driver.connection.recv_stream(id).stop(number(Code::NoError));
        }
    }

    /// The client takes more of an answer.
    fn write(&mut self, id: StreamId) {
        if let Some(unsent) = self.streams.get_mut(&id).and_then(Stream::take_unsent) {
            self.streams.remove(&id);
            self.send(id, &unsent, End::Finished);
        }
    }

    /// The client has taken a request back.
    fn cancel(&mut self, id: StreamId) {
        if id.dir() == Dir::Uni {
            return self
                .fail(id, Fault::new(Code::ClosedCriticalStream, "the control stream is needed"));
        }
        self.streams.remove(&id);
        self.refuse(id, Code::RequestCancelled);
        self.patience = self.patience.saturating_sub(1);
        if self.patience == 0 {
            self.close(Fault::new(Code::ExcessiveLoad, "too many requests are taken back"));
        }
    }

    fn fail(&mut self, id: StreamId, fault: Fault) {
        tracing::debug!(client = %self.link.peer.address, code = ?fault.code, "HTTP/3: {}", fault.reason);
        if fault.ends_connection() { self.close(fault) } else { self.refuse(id, fault.code) }
    }

    /// Ends a request's stream both ways.
    fn refuse(&mut self, id: StreamId, reason: Code) {
        // Whichever way has ended already.
        let _is_over = self.driver.connection.recv_stream(id).stop(number(reason));
        let _is_over = self.driver.connection.send_stream(id).reset(number(reason));
    }

    /// Something of a stream that goes one way.
    fn receive_one_way(&mut self, id: StreamId) {
        let end = self.read(id);
        let stream = self.one_way.entry(id).or_default();
        let mut interest = Ok(Interest::Kept);
        for piece in &self.pieces {
            interest = interest.and_then(|_| stream.read(piece, &mut self.opened));
        }
        self.pieces.clear();
        let is_over = end != End::NotYet;
        if is_over {
            interest = interest.and_then(|_| stream.end()).map(|()| Interest::Kept);
        }
        if is_over || interest == Ok(Interest::None) {
            self.one_way.remove(&id);
        }
        match interest {
            Err(fault) => self.fail(id, fault),
            Ok(Interest::None) => {
                let _is_over =
                    self.driver.connection.recv_stream(id).stop(number(Code::StreamCreationError));
            }
            Ok(Interest::Kept) => {}
        }
    }

    fn open_control(&mut self) {
        self.control = self.driver.connection.streams().open(Dir::Uni);
        let mut bytes = Vec::new();
        control::open(&mut bytes, MOST_SECTION as u64);
        self.write_control(&bytes);
    }

    fn write_control(&mut self, bytes: &[u8]) {
        if let Some(id) = self.control {
            // They are few in the life of a connection, and there is a window for them.
            let _stopped = self.driver.connection.send_stream(id).write(bytes);
        }
    }

    /// Something has taken too long.
    fn be_late(&mut self) {
        match self.phase {
            Phase::Streams => self.expire(),
            Phase::Idle => self.leave(),
            Phase::Leaving | Phase::Busy => self.close(Fault::new(Code::NoError, "")),
        }
        // To be waited for anew.
        self.phase = Phase::Busy;
        self.watch.due_within(Duration::MAX);
    }

    /// Gives up the requests that have not got on for too long.
    fn expire(&mut self) {
        let limit = self.link.local.patience.body;
        let late =
            self.streams.iter().filter(|(_, stream)| stream.is_late(limit)).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            match self.streams.get_mut(&id).and_then(Stream::take_waiting) {
                Some(waiting) => self.reply(id, &waiting.refuse(&BODY_TOO_SLOW)),
                None => {
                    self.streams.remove(&id);
                    self.refuse(id, Code::RequestCancelled);
                }
            }
        }
    }

    /// Begins to wait for something, unless it waits for it already.
    fn enter(&mut self, phase: Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let patience = &self.link.local.patience;
        match phase {
            Phase::Idle => self.watch.idle_for(patience.idle.saturating_sub(self.idle.elapsed())),
            Phase::Streams => self.watch.due_within(patience.body),
            Phase::Leaving => self.watch.due_within(TICK),
            Phase::Busy => self.watch.due_within(Duration::MAX),
        }
    }

    /// Tells the client to ask for nothing more; what it has asked is answered.
    fn leave(&mut self) {
        if self.state == State::Open {
            self.state = State::Leaving;
            let mut bytes = Vec::new();
            frame::goaway(&mut bytes, StreamId::new(Side::Client, Dir::Bi, self.next).into());
            self.write_control(&bytes);
        }
    }

    fn close(&mut self, fault: Fault) {
        // Of what came together, more than one thing may be too much.
        if self.state == State::Closed {
            return;
        }
        if fault.code == Code::ExcessiveLoad {
            self.link.cut_off();
        }
        let reason = Bytes::from_static(fault.reason.as_bytes());
        self.driver.connection.close(clock::instant(), number(fault.code), reason);
        self.end();
    }

    /// Nothing is answered any more.
    fn end(&mut self) {
        self.state = State::Closed;
        self.streams.clear();
        self.waiting.clear();
        self.one_way.clear();
    }
}

/// A code as quinn has it.
fn number(code: Code) -> VarInt {
    VarInt::from_u64(code.number()).unwrap_or(VarInt::MAX)
}
