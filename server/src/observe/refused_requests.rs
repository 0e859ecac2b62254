//! [`RefusedRequests`]: the last refused requests, for operators. No part of a token is kept.

#[expect(
    clippy::disallowed_types,
    reason = "a request never waits for it: see Synchronization"
)]
use std::sync::Mutex;
use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use countersign_engine::{IssuerConfig, UnixTime};

use super::access_log::path_only;
use crate::base::outcome::Outcome;

/// Most requests that are kept, and most of one second.
const MAX_ENTRIES: usize = 10;
/// Longest method, path and section that are kept, in bytes. Longer ones are cut off.
const MAX_METHOD: usize = 16;
const MAX_PATH: usize = 160;
const MAX_SECTION: usize = 48;

/// A ring with the last refused requests, of bounded number. It never allocates.
///
/// # Synchronization
/// A request that finds the lock taken is not kept, so that it never waits. A reader holds the lock
/// while it copies the entries.
pub struct RefusedRequests {
    #[expect(clippy::disallowed_types, reason = "as above")]
    ring: Mutex<EntryRing>,
}

/// The entries of [`RefusedRequests`].
struct EntryRing {
    entries: [Option<RefusedEntry>; MAX_ENTRIES],
    /// The place of the next entry.
    next: usize,
    /// The second of the last entry.
    second: UnixTime,
    /// Number of entries of this second.
    count: usize,
}

/// A refused request as it is kept.
#[derive(Clone, Copy)]
struct RefusedEntry {
    at: UnixTime,
    reason: Outcome,
    client: IpAddr,
    method: FixedText<MAX_METHOD>,
    path: FixedText<MAX_PATH>,
    section: FixedText<MAX_SECTION>,
}

/// A request that is refused.
pub struct RefusedRequest<'r> {
    /// The reason.
    pub reason: Outcome,
    /// The address of the client.
    pub client: IpAddr,
    /// Its method and target, if they are known.
    pub line: Option<(&'r str, &'r str)>,
    /// The issuer that its token names, if that is configured. The signature may be wrong.
    pub issuer: Option<Arc<IssuerConfig>>,
}

/// A refused request as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRefusal {
    /// Its time.
    pub at: UnixTime,
    /// The reason.
    pub reason: Outcome,
    /// The address of the client.
    pub client: IpAddr,
    /// Its method; empty if it is not known.
    pub method: String,
    /// Its path without the query; empty if it is not known.
    pub path: String,
    /// The section of the issuer that its token names, empty without one. It is what the token
    /// states: its signature may be wrong.
    pub section: String,
}

impl Default for RefusedRequests {
    fn default() -> Self {
        let (entries, second) = ([None; MAX_ENTRIES], UnixTime(0));
        Self { ring: EntryRing { entries, next: 0, second, count: 0 }.into() }
    }
}

impl RefusedRequests {
    /// Keeps a request, unless its second has enough of them or the lock is taken. `describe` is
    /// called only if it is kept.
    pub fn record<'r>(&self, now: UnixTime, describe: impl FnOnce() -> RefusedRequest<'r>) {
        if let Ok(mut ring) = self.ring.try_lock()
            && ring.has_room(now)
        {
            ring.push(RefusedEntry::new(now, describe()));
        }
    }

    /// Returns the requests, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<ListedRefusal> {
        let (entries, next) = {
            let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            (ring.entries, ring.next)
        };
        let (newest, oldest) = entries.split_at(next);
        let newest_first = newest.iter().rev().chain(oldest.iter().rev());
        newest_first.flatten().map(RefusedEntry::listed).collect()
    }
}

impl EntryRing {
    fn has_room(&mut self, now: UnixTime) -> bool {
        if now != self.second {
            (self.second, self.count) = (now, 0);
        }
        self.count < MAX_ENTRIES
    }

    fn push(&mut self, entry: RefusedEntry) {
        if let Some(place) = self.entries.get_mut(self.next) {
            *place = Some(entry);
        }
        self.next = (self.next + 1) % MAX_ENTRIES;
        self.count += 1;
    }
}

impl RefusedEntry {
    fn new(at: UnixTime, request: RefusedRequest<'_>) -> Self {
        let RefusedRequest { reason, client, line, issuer } = request;
        let (method, target) = line.unwrap_or_default();
        Self {
            at,
            reason,
            client,
            method: FixedText::new(method),
            path: FixedText::new(path_only(target)),
            section: FixedText::new(issuer.as_ref().map_or("", |issuer| &*issuer.section)),
        }
    }

    fn listed(&self) -> ListedRefusal {
        let Self { at, reason, client, method, path, section } = self;
        ListedRefusal {
            at: *at,
            reason: *reason,
            client: *client,
            method: method.text(),
            path: path.text(),
            section: section.text(),
        }
    }
}

/// A text of at most `N` bytes, or the start of a longer one.
#[derive(Clone, Copy)]
struct FixedText<const N: usize> {
    bytes: [u8; N],
    length: usize,
    is_cut_off: bool,
}

impl<const N: usize> FixedText<N> {
    fn new(text: &str) -> Self {
        let start = &text[..text.floor_char_boundary(N)];
        let (mut bytes, length) = ([0; N], start.len());
        bytes[..length].copy_from_slice(start.as_bytes());
        Self { bytes, length, is_cut_off: length < text.len() }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes[..self.length]);
        if self.is_cut_off { format!("{text}…") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use countersign_engine::Reject;

    use super::*;

    fn request(line: Option<(&'static str, &'static str)>) -> RefusedRequest<'static> {
        let reason = Outcome::Rejected(Reject::Expired);
        RefusedRequest { reason, client: Ipv4Addr::LOCALHOST.into(), line, issuer: None }
    }

    #[test]
    fn last_requests_are_listed_newest_first() {
        let refused = RefusedRequests::default();
        assert_eq!(refused.list(), []);
        for second in 0..25 {
            refused.record(UnixTime(second), || request(Some(("GET", "/a?token=secret"))));
        }
        let listed = refused.list();
        let times: Vec<_> = listed.iter().map(|one| one.at.0).collect();
        assert_eq!(times, [24, 23, 22, 21, 20, 19, 18, 17, 16, 15]);
        let ListedRefusal { method, path, section, .. } = &listed[0];
        assert_eq!((&**method, &**path, &**section), ("GET", "/a", ""));
    }

    #[test]
    fn flood_is_described_no_more_than_needed() {
        let (refused, mut described) = (RefusedRequests::default(), 0);
        for _ in 0..1000 {
            refused.record(UnixTime(7), || {
                described += 1;
                request(None)
            });
        }
        assert_eq!((described, refused.list().len()), (MAX_ENTRIES, MAX_ENTRIES));
        assert_eq!(refused.list()[0].path, "");
        refused.record(UnixTime(8), || request(None));
        assert_eq!(refused.list()[0].at, UnixTime(8));
    }

    #[test]
    fn long_paths_are_cut_off_between_characters() {
        let text = FixedText::<4>::new("abcé");
        assert_eq!(text.text(), "abc…");
        assert_eq!(FixedText::<5>::new("abcé").text(), "abcé");
        assert_eq!(FixedText::<5>::new("").text(), "");
    }
}
