//! The client's side of a connection, without input and output: what each line of the feed changes.

use std::{cell::Cell, collections::HashMap, fmt, mem, rc::Rc, sync::Arc, time::Duration};

use countersign_engine::{Revocation, UnixTime};
use tokio::sync::watch;

use super::{
    configuration::SectionDigests,
    line::{FEED_VERSION, FeedLine, FeedLineError, FeedRequest, FeedState},
    staleness::FeedReception,
};
use crate::{
    keys::{
        follower::{KeyFollower, SectionLimitError},
        shared::SharedKeys,
        unknown_kid::REFETCH_TIMEOUT,
    },
    revocation::{
        follower::{FollowedCapacityError, RevocationFollower},
        record::RevocationRecord,
    },
};

/// Error of a connection, which ends it. The client connects again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FeedError(pub(super) String);

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<FeedLineError> for FeedError {
    fn from(error: FeedLineError) -> Self {
        Self(format!("a line cannot be read: {error}; update the server and the proxy together"))
    }
}

impl From<SectionLimitError> for FeedError {
    fn from(_: SectionLimitError) -> Self {
        Self("the server has too many sections with keys".into())
    }
}

impl From<FollowedCapacityError> for FeedError {
    fn from(_: FollowedCapacityError) -> Self {
        Self("the server has too many revocations: raise capacity in [revocation]".into())
    }
}

/// Applies the lines of one connection after another.
pub(super) struct FeedFollower {
    keys: KeyFollower,
    revocations: RevocationFollower,
    max_staleness: Duration,
    /// The configuration of the server; `None` until it is known.
    configuration: watch::Sender<Option<Arc<SectionDigests>>>,
    position: FeedPosition,
    reception: Rc<Cell<FeedReception>>,
    /// Whether the server could not read all revocations when it sent the snapshot.
    is_partial: bool,
    /// The sections of this connection.
    sections: HashMap<String, FeedSection>,
    /// Revocations that were read and are not applied yet, so that many are applied at once.
    unapplied: Vec<Revocation>,
}

/// A section whose keys the server has.
struct FeedSection {
    number: u32,
    /// Number of ended fetches; `None` while another one is under way.
    fetches: Option<u64>,
    /// When its keys were requested, since the last line about them.
    requested: Option<Duration>,
}

/// The position in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FeedPosition {
    /// Before the first line.
    Start,
    /// In the snapshot of a generation.
    Snapshot(u64),
    /// After the change of a generation.
    Changes(u64),
}

/// Number of revocations that are applied at once in the snapshot. Each time copies most of the
/// table.
const SNAPSHOT_BATCH: usize = 65_536;
/// Limit of those that arrived together and are applied at once.
const CHANGES_BATCH: usize = 1024;
/// Limit of the difference by which a line may be from the future.
const MAX_AHEAD: Duration = Duration::from_millis(100);

impl FeedFollower {
    pub(super) fn new(
        keys: KeyFollower,
        revocations: RevocationFollower,
        max_staleness: Duration,
    ) -> Self {
        let (position, sections) = (FeedPosition::Start, HashMap::new());
        Self {
            keys,
            revocations,
            max_staleness,
            configuration: watch::Sender::new(None),
            position,
            reception: Rc::default(),
            is_partial: false,
            sections,
            unapplied: Vec::new(),
        }
    }

    /// Begins another connection. Keys and revocations of earlier ones stay in force.
    pub(super) fn begin(&mut self) {
        (self.position, self.unapplied) = (FeedPosition::Start, Vec::new());
        self.sections = HashMap::new();
        self.reception.set(FeedReception::default());
        self.keys.begin_set();
        self.revocations.begin_set();
    }

    /// Whether the snapshot of this connection is complete.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.position, FeedPosition::Changes(_))
    }

    /// Returns the keys.
    pub(super) fn keys(&self) -> &KeyFollower {
        &self.keys
    }

    /// Returns the configuration of the server, `None` until it is known, and its changes.
    pub(super) fn configuration(&self) -> watch::Receiver<Option<Arc<SectionDigests>>> {
        self.configuration.subscribe()
    }

    /// Returns the state of the connection, which is updated by each line.
    pub(super) fn reception(&self) -> Rc<Cell<FeedReception>> {
        Rc::clone(&self.reception)
    }

    /// Applies the keys after a reload.
    pub(super) fn apply_keys(&mut self) {
        self.keys.apply();
    }

    /// Returns the requests for tokens with an unknown `kid`, at `now`. A section whose keys are being
    /// fetched is left out: its tokens ask again after that. So is one that was requested before,
    /// until a line is about it, or all of its tokens have stopped waiting: a flood of tokens does
    /// not become one of requests.
    pub(super) fn requests(&mut self, now: Duration) -> Vec<FeedRequest> {
        let mut requests = Vec::new();
        for name in self.keys.take_refetch_requests() {
            let Some(section) = self.sections.get_mut(&name) else { continue };
            let Some(fetches) = section.fetches else { continue };
            let is_over = |at: Duration| now.saturating_sub(at) >= REFETCH_TIMEOUT;
            if section.requested.is_none_or(is_over) {
                section.requested = Some(now);
                requests.push(FeedRequest { number: section.number, fetches });
            }
        }
        requests
    }

    /// Applies a line that was read at `now`, a time of
    /// [`since_boot`](crate::base::clock::since_boot). Revocations may be left for
    /// [`apply`](Self::apply).
    pub(super) fn receive(&mut self, line: FeedLine, now: Duration) -> Result<(), FeedError> {
        self.reception.update(|before| FeedReception { last_line: Some(now), ..before });
        match (self.position, line) {
            (FeedPosition::Start, line) => {
                self.position = FeedPosition::Snapshot(check_hello(&line)?);
                Ok(())
            }
            (FeedPosition::Snapshot(_), FeedLine::Configuration { generation: None, sections }) => {
                self.configuration.send_replace(Some(Arc::new(sections)));
                Ok(())
            }
            (FeedPosition::Snapshot(_), FeedLine::Keys { generation: None, number, keys }) => {
                let (name, section) = FeedSection::of(number, &keys);
                self.keys.add_to_set(*keys)?;
                self.sections.insert(name, section);
                Ok(())
            }
            (FeedPosition::Snapshot(_), FeedLine::Revocation { generation: None, revocation }) => {
                self.unapplied.push(parsed(revocation)?);
                if self.unapplied.len() >= SNAPSHOT_BATCH { self.apply() } else { Ok(()) }
            }
            (FeedPosition::Snapshot(of), FeedLine::Complete(state)) if state.generation == of => {
                self.complete(state, now)
            }
            (FeedPosition::Changes(after), line) => self.change(after, line, now),
            _ => Err(FeedError("a line is out of place".into())),
        }
    }

    /// Applies the revocations that were read.
    pub(super) fn apply(&mut self) -> Result<(), FeedError> {
        let unapplied = mem::take(&mut self.unapplied);
        if unapplied.is_empty() {
            return Ok(());
        }
        let applied = match self.position {
            FeedPosition::Changes(_) => self.revocations.add(&unapplied),
            FeedPosition::Start | FeedPosition::Snapshot(_) => {
                self.revocations.add_to_set(&unapplied)
            }
        };
        Ok(applied?)
    }

    fn complete(&mut self, state: FeedState, now: Duration) -> Result<(), FeedError> {
        self.apply()?;
        self.keys.complete_set();
        self.is_partial = !state.is_available;
        if self.is_partial {
            self.revocations.end_partial_set();
        } else {
            let removed = self.revocations.complete_set();
            if removed > 0 {
                tracing::info!(
                    removed,
                    "removed revocations that the server does not have any more"
                );
            }
        }
        self.position = FeedPosition::Changes(state.generation);
        self.refresh(state, now)
    }

    /// Applies a line after the snapshot.
    fn change(&mut self, after: u64, line: FeedLine, now: Duration) -> Result<(), FeedError> {
        let generation = match &line {
            FeedLine::Configuration { generation: Some(generation), .. }
            | FeedLine::Keys { generation: Some(generation), .. }
            | FeedLine::Revocation { generation: Some(generation), .. }
            | FeedLine::Removed { generation, .. }
            | FeedLine::Expired { generation, .. } => *generation,
            // It does not change anything itself.
            FeedLine::Alive(state) => state.generation.saturating_add(1),
            _ => return Err(FeedError("a line is out of place".into())),
        };
        if Some(generation) != after.checked_add(1) {
            return Err(FeedError(format!("changes after the generation {after} are missing")));
        }
        match line {
            FeedLine::Configuration { sections, .. } => {
                self.configuration.send_replace(Some(Arc::new(sections)));
                self.position = FeedPosition::Changes(generation);
                Ok(())
            }
            FeedLine::Keys { number, keys, .. } => self.replace_keys(number, *keys, generation),
            FeedLine::Removed { section, .. } => {
                self.keys.remove(&section);
                self.sections.remove(&section);
                self.position = FeedPosition::Changes(generation);
                Ok(())
            }
            FeedLine::Expired { at, .. } => {
                // Those before this line may have expired, too.
                self.apply()?;
                self.revocations.drop_expired(UnixTime(at));
                self.position = FeedPosition::Changes(generation);
                Ok(())
            }
            FeedLine::Revocation { revocation, .. } => {
                self.unapplied.push(parsed(revocation)?);
                self.position = FeedPosition::Changes(generation);
                if self.unapplied.len() >= CHANGES_BATCH { self.apply() } else { Ok(()) }
            }
            FeedLine::Alive(state) => {
                self.apply()?;
                if self.is_partial && state.is_available {
                    return Err(FeedError("the server has its revocations: reading them".into()));
                }
                if state.is_available && self.revocations.has_more_than(state.revocations) {
                    let text = "the server has dropped expired revocations: reading them again";
                    return Err(FeedError(text.into()));
                }
                self.refresh(state, now)
            }
            FeedLine::Hello { .. } | FeedLine::Complete(_) => Ok(()),
        }
    }

    fn replace_keys(
        &mut self,
        number: u32,
        keys: SharedKeys,
        generation: u64,
    ) -> Result<(), FeedError> {
        let (name, section) = FeedSection::of(number, &keys);
        self.keys.replace(keys)?;
        self.sections.insert(name, section);
        self.position = FeedPosition::Changes(generation);
        Ok(())
    }

    /// Extends the time for which keys and revocations may be relied on, after all are in force.
    fn refresh(&mut self, state: FeedState, now: Duration) -> Result<(), FeedError> {
        let at = Duration::from_millis(state.at);
        if at > now.saturating_add(MAX_AHEAD) {
            return Err(FeedError(
                "a line is from the future, by the clock of this process: run the server and the \
                 proxy on one machine, in one time namespace"
                    .into(),
            ));
        }
        let age = now.saturating_sub(at);
        self.reception.update(|before| FeedReception { is_complete: true, age, ..before });
        let error = "the server cannot read all revocations";
        let until = at.min(now).saturating_add(self.max_staleness);
        self.revocations.report((!state.is_available).then(|| error.to_owned()), until);
        Ok(())
    }
}

impl FeedSection {
    /// Returns the section of a line, with its name.
    fn of(number: u32, keys: &SharedKeys) -> (String, Self) {
        let section = Self { number, fetches: keys.known_fetches(), requested: None };
        (keys.section.clone(), section)
    }
}

/// Checks the first line. Returns the generation of the snapshot that follows.
pub(super) fn check_hello(line: &FeedLine) -> Result<u64, FeedError> {
    match line {
        FeedLine::Hello { version: FEED_VERSION, generation, run } => {
            tracing::debug!(run, generation, "reading a snapshot of the feed");
            Ok(*generation)
        }
        FeedLine::Hello { version, .. } => Err(FeedError(format!(
            "the server has version {version} of the feed, not {FEED_VERSION}: update the server \
             and the proxy together"
        ))),
        _ => Err(FeedError("a line is out of place".into())),
    }
}

fn parsed(record: RevocationRecord) -> Result<Revocation, FeedError> {
    record.into_revocation().map_err(|reason| FeedError(format!("a revocation is wrong: {reason}")))
}

#[cfg(test)]
mod tests;
