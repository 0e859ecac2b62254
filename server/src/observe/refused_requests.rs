//! [`RefusedRequests`]: the last refused requests, for operators. No part of a token is kept.

#[expect(
    clippy::disallowed_types,
    reason = "a request never waits for it: see Synchronization"
)]
use std::sync::Mutex;
use std::{
    cmp::Reverse,
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use countersign_engine::{IssuerConfig, UnixTime};

use super::shown_path::{FixedText, shown_path};
use crate::base::outcome::Outcome;

/// Most rows, and most new ones of one second.
const MAX_ROWS: usize = 10;
/// Most rows of a client while others need the place, and most new ones of one second.
const MAX_CLIENT_ROWS: usize = 4;
/// Longest method, path and section that are kept, in bytes. Longer ones are cut off.
const MAX_METHOD: usize = 16;
const MAX_PATH: usize = 160;
const MAX_SECTION: usize = 48;

/// The last refused requests, in a table of bounded size. Equal ones are one row with their number.
/// A client that has four rows replaces only its own. It never allocates.
///
/// # Synchronization
/// A request that finds the lock taken is not kept, so that it never waits. A reader holds the lock
/// while it copies the rows.
#[derive(Default)]
pub struct RefusedRequests {
    #[expect(clippy::disallowed_types, reason = "as above")]
    table: Mutex<RefusalTable>,
}

/// The rows of [`RefusedRequests`], in no order.
#[derive(Clone, Copy)]
struct RefusalTable {
    rows: [Option<RefusalRow>; MAX_ROWS],
    /// Number of requests that were kept.
    kept: u64,
    /// The second of the last new row.
    second: UnixTime,
    /// Number of new rows of this second.
    added: usize,
}

/// Equal refused requests.
#[derive(Clone, Copy)]
struct RefusalRow {
    added_at: UnixTime,
    last_at: UnixTime,
    count: u64,
    /// The number of the last of them, among all requests.
    number: u64,
    reason: Outcome,
    client: IpAddr,
    method: FixedText<MAX_METHOD>,
    path: FixedText<MAX_PATH>,
    section: FixedText<MAX_SECTION>,
}

/// Equal refused requests as they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRefusal {
    /// The time of the last of them.
    pub at: UnixTime,
    /// Their number since the first one was kept.
    pub count: u64,
    /// The reason.
    pub reason: Outcome,
    /// The address of the client.
    pub client: IpAddr,
    /// The method; empty if it is not known.
    pub method: String,
    /// The path without the query and without tokens; empty if it is not known.
    pub path: String,
    /// The section of the issuer that the token of the first one names, empty without one. It is
    /// what the token states: its signature may be wrong.
    pub section: String,
}

impl Default for RefusalTable {
    fn default() -> Self {
        Self { rows: [None; MAX_ROWS], kept: 0, second: UnixTime(0), added: 0 }
    }
}

impl RefusedRequests {
    /// Keeps a request that a client makes, unless it would be one row too many of its second, or
    /// the lock is taken. Its `line` is the method and the target if they are known, and its
    /// `issuer` the configured one that its token names. Both are called only as far as they are
    /// needed.
    pub fn record<'r>(
        &self,
        now: UnixTime,
        (reason, client): (Outcome, IpAddr),
        line: impl FnOnce() -> Option<(&'r str, &'r str)>,
        issuer: impl FnOnce() -> Option<Arc<IssuerConfig>>,
    ) {
        let Ok(mut locked) = self.table.try_lock() else { return };
        let table = &mut *locked;
        let has_room = table.has_room(now, client);
        let is_similar = |row: &RefusalRow| row.reason == reason && row.client == client;
        if !has_room && !table.rows.iter().flatten().any(is_similar) {
            return;
        }
        let (method, path) = match line() {
            None => (FixedText::EMPTY, FixedText::EMPTY),
            Some((method, target)) => (FixedText::new(method), shown_path(target)),
        };
        let number = table.kept + 1;
        let mut rows = table.rows.iter_mut().flatten();
        let is_equal =
            |row: &&mut RefusalRow| is_similar(row) && row.method == method && row.path == path;
        if let Some(row) = rows.find(is_equal) {
            (row.last_at, row.number, row.count) = (now, number, row.count.saturating_add(1));
            table.kept = number;
        } else if has_room {
            let issuer = issuer();
            let section = FixedText::new(issuer.as_ref().map_or("", |issuer| &*issuer.section));
            let (added_at, last_at, count) = (now, now, 1);
            table.add(RefusalRow {
                added_at,
                last_at,
                count,
                number,
                reason,
                client,
                method,
                path,
                section,
            });
        }
    }

    /// Returns the requests, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<ListedRefusal> {
        let table = *self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<_> = table.rows.iter().flatten().collect();
        rows.sort_by_key(|row| Reverse(row.number));
        rows.into_iter().map(RefusalRow::listed).collect()
    }
}

impl RefusalTable {
    /// Whether a client may have a new row now.
    fn has_room(&mut self, now: UnixTime, client: IpAddr) -> bool {
        if now != self.second {
            (self.second, self.added) = (now, 0);
        }
        let is_new = |row: &&RefusalRow| row.added_at == now && is_same_client(row.client, client);
        self.added < MAX_ROWS && self.rows.iter().flatten().filter(is_new).count() < MAX_CLIENT_ROWS
    }

    fn add(&mut self, row: RefusalRow) {
        let place = self.place_for(row.client);
        self.kept = row.number;
        self.added += 1;
        if let Some(place) = self.rows.get_mut(place) {
            *place = Some(row);
        }
    }

    /// Returns the place of a new row of a client: a free one; or else that of the oldest row of
    /// the client if it has enough of them, of the clients with too many, or of all.
    fn place_for(&self, client: IpAddr) -> usize {
        let rows = || self.rows.iter().flatten();
        let count = |client| rows().filter(|row| is_same_client(row.client, client)).count();
        let is_full = count(client) >= MAX_CLIENT_ROWS;
        let has_too_many = rows().any(|row| count(row.client) > MAX_CLIENT_ROWS);
        let order = |row: &RefusalRow| {
            let may_go = if is_full {
                is_same_client(row.client, client)
            } else {
                !has_too_many || count(row.client) > MAX_CLIENT_ROWS
            };
            (!may_go, row.number)
        };
        let places = self.rows.iter().enumerate();
        // A free place comes before all rows.
        let place = places.min_by_key(|(_, row)| row.as_ref().map(order));
        place.map_or(0, |(index, _)| index)
    }
}

/// Whether addresses are of one client: it may have all IPv6 addresses of a network of 64 bits.
fn is_same_client(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 64 == other.to_bits() >> 64,
        _ => one == other,
    }
}

impl RefusalRow {
    fn listed(&self) -> ListedRefusal {
        ListedRefusal {
            at: self.last_at,
            count: self.count,
            reason: self.reason,
            client: self.client,
            method: self.method.text(),
            path: self.path.text(),
            section: self.section.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use countersign_engine::Reject;

    use super::*;

    const REASON: Outcome = Outcome::Rejected(Reject::Expired);

    fn record(refused: &RefusedRequests, second: u64, client: &str, path: &str) {
        let client = client.parse().unwrap();
        refused.record(UnixTime(second), (REASON, client), || Some(("GET", path)), || None);
    }

    fn clients(refused: &RefusedRequests, client: &str) -> usize {
        refused.list().iter().filter(|one| one.client.to_string() == client).count()
    }

    #[test]
    fn last_requests_are_listed_newest_first() {
        let refused = RefusedRequests::default();
        assert_eq!(refused.list(), []);
        for second in 0..25 {
            record(&refused, second, "192.0.2.1", &format!("/{second}?token=secret"));
        }
        let listed = refused.list();
        let times: Vec<_> = listed.iter().map(|one| one.at.0).collect();
        assert_eq!(times, [24, 23, 22, 21, 20, 19, 18, 17, 16, 15]);
        let ListedRefusal { method, path, section, count, .. } = &listed[0];
        assert_eq!((&**method, &**path, &**section, *count), ("GET", "/24", "", 1));
    }

    #[test]
    fn equal_requests_are_one_row_with_the_last_time() {
        let refused = RefusedRequests::default();
        for second in [1, 1, 2, 2, 2] {
            record(&refused, second, "192.0.2.1", "/a");
            record(&refused, second, "192.0.2.2", "/a");
        }
        record(&refused, 3, "192.0.2.1", "/b");
        let client = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        let denied = (Outcome::NoToken, client);
        refused.record(UnixTime(4), denied, || Some(("GET", "/a")), || None);
        refused.record(UnixTime(5), (REASON, client), || Some(("PUT", "/a")), || None);
        record(&refused, 6, "192.0.2.1", "/a?x");
        let listed = refused.list();
        let shown: Vec<_> = listed.iter().map(|one| (one.at.0, one.count, &*one.path)).collect();
        assert_eq!(shown, [(6, 6, "/a"), (5, 1, "/a"), (4, 1, "/a"), (3, 1, "/b"), (2, 5, "/a")]);
    }

    #[test]
    fn tokens_in_paths_are_of_one_row() {
        let refused = RefusedRequests::default();
        for payload in ["YQ", "Yg", "Yw"] {
            record(&refused, 1, "192.0.2.1", &format!("/reset/eyJhbGciOiJub25lIn0.{payload}."));
        }
        let listed = refused.list();
        assert_eq!((listed.len(), &*listed[0].path, listed[0].count), (1, "/reset/…", 3));
    }

    #[test]
    fn client_replaces_only_its_own_rows() {
        // The addresses of an IPv6 network of 64 bits are those of one client.
        let of_network = |second: u64| format!("2001:db8:ffff::{second}");
        let of_one: [&dyn Fn(u64) -> String; 2] = [&|_| "192.0.2.1".into(), &of_network];
        for client in of_one {
            let refused = RefusedRequests::default();
            for second in 0..20 {
                record(&refused, second, &client(second), &format!("/{second}"));
            }
            assert_eq!(refused.list().len(), MAX_ROWS);
            for second in 20..26 {
                record(&refused, second, &format!("2001:db8:0:{second}::1"), "/");
            }
            for second in 30..60 {
                record(&refused, second, &client(second), &format!("/{second}"));
            }
            for second in 20..26 {
                assert_eq!(clients(&refused, &format!("2001:db8:0:{second}::1")), 1, "{second}");
            }
        }
    }

    #[test]
    fn flood_is_described_no_more_than_needed() {
        let (refused, mut described, mut issuers) = (RefusedRequests::default(), 0, 0);
        for number in 0..1000_u32 {
            let client = IpAddr::from(Ipv4Addr::from_bits(number));
            let line = || {
                described += 1;
                None
            };
            let issuer = || {
                issuers += 1;
                None
            };
            refused.record(UnixTime(7), (REASON, client), line, issuer);
        }
        assert_eq!((described, issuers, refused.list().len()), (MAX_ROWS, MAX_ROWS, MAX_ROWS));
        assert_eq!(refused.list()[0].path, "");
        record(&refused, 8, "192.0.2.1", "/");
        assert_eq!(refused.list()[0].at, UnixTime(8));
    }

    #[test]
    fn client_has_a_share_of_the_new_rows_of_a_second() {
        let refused = RefusedRequests::default();
        for number in 0..100 {
            record(&refused, 7, "192.0.2.1", &format!("/{number}"));
        }
        record(&refused, 7, "192.0.2.2", "/");
        let of_both = (clients(&refused, "192.0.2.1"), clients(&refused, "192.0.2.2"));
        assert_eq!(of_both, (MAX_CLIENT_ROWS, 1));
    }
}
