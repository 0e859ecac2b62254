//! The answers that are right at a time.
//!
//! An answer is judged by the time from sending the request to receiving its response: a proxy may
//! have decided at any moment between.

use std::{
    fmt,
    sync::{Mutex, OnceLock},
    time::Instant,
};

use countersign_tests::http::Response;

/// Set of answers of a proxy to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerSet(u8);

impl AnswerSet {
    /// 200, from the application.
    pub(super) const ALLOWED: Self = Self(1);
    /// 401, with a challenge.
    pub(super) const REFUSED: Self = Self(2);
    /// 503, with `Retry-After`.
    pub(super) const UNAVAILABLE: Self = Self(4);
    /// The connection ended without a whole response.
    pub(super) const LOST: Self = Self(8);
    /// A connection that was kept was closed, and the request was sent again.
    pub(super) const CLOSED: Self = Self(16);
    /// Anything else, which is never right.
    pub(super) const OTHER: Self = Self(32);

    /// Single answers, and their names.
    pub(super) const NAMES: [(Self, &str); 6] = [
        (Self::ALLOWED, "200"),
        (Self::REFUSED, "401"),
        (Self::UNAVAILABLE, "503"),
        (Self::LOST, "lost"),
        (Self::CLOSED, "sent again"),
        (Self::OTHER, "other"),
    ];

    /// Returns the answer of a response.
    pub(super) fn of(response: Option<&Response>) -> Self {
        let Some(response) = response else { return Self::LOST };
        match response.status {
            200 if response.body == "hello" => Self::ALLOWED,
            401 if response.header("www-authenticate").is_some() => Self::REFUSED,
            503 if response.header("retry-after").is_some() => Self::UNAVAILABLE,
            _ => Self::OTHER,
        }
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for AnswerSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(one, _)| self.contains(*one));
        formatter.write_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join(" or "))
    }
}

/// Time of an event that happens once, and may not have happened yet.
#[derive(Debug, Default)]
pub(super) struct EventTime(OnceLock<Instant>);

impl EventTime {
    pub(super) fn set(&self, time: Instant) {
        self.0.set(time).expect("an event happens once");
    }

    /// Whether the event is at this time or earlier.
    pub(super) fn is_by(&self, time: Instant) -> bool {
        self.0.get().is_some_and(|event| *event <= time)
    }
}

/// Period in which other answers are right than otherwise.
#[derive(Clone, Copy)]
pub(super) enum AnswerPeriod {
    /// These are right, too.
    Tolerated(AnswerSet),
    /// 200 is wrong, since the proxy cannot know the revocations.
    Stale,
}

/// Number of a period in its [`AnswerPeriods`].
#[derive(Clone, Copy)]
pub(super) struct PeriodNumber(usize);

/// Periods of one proxy.
#[derive(Default)]
pub(super) struct AnswerPeriods(Mutex<Vec<(AnswerPeriod, Instant, Option<Instant>)>>);

impl AnswerPeriods {
    /// Begins a period at a time, which may be in the future.
    pub(super) fn begin(&self, period: AnswerPeriod, from: Instant) -> PeriodNumber {
        let mut periods = self.0.lock().unwrap();
        periods.push((period, from, None));
        PeriodNumber(periods.len() - 1)
    }

    /// Ends a period. Its requests may have been sent at the same time.
    pub(super) fn end(&self, number: PeriodNumber, until: Instant) {
        self.0.lock().unwrap()[number.0].2 = Some(until);
    }

    /// Returns the right answers of a request, of which these are right otherwise.
    pub(super) fn right(
        &self,
        otherwise: AnswerSet,
        sent: Instant,
        received: Instant,
    ) -> AnswerSet {
        let periods = self.0.lock().unwrap();
        let mut right = otherwise;
        for (period, from, until) in periods.iter() {
            match period {
                AnswerPeriod::Tolerated(more)
                    if *from <= received && until.is_none_or(|until| sent <= until) =>
                {
                    right = right.or(*more);
                }
                AnswerPeriod::Stale
                    if *from <= sent && until.is_none_or(|until| received <= until) =>
                {
                    let still = AnswerSet::REFUSED.or(AnswerSet::LOST).or(AnswerSet::CLOSED);
                    right = right.and(still).or(AnswerSet::UNAVAILABLE);
                }
                _ => {}
            }
        }
        right
    }
}

#[test]
fn answer_is_judged_by_its_period() {
    use std::time::Duration;
    let (periods, start) = (AnswerPeriods::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let right = |from, until| periods.right(AnswerSet::ALLOWED, at(from), at(until));
    let either = AnswerSet::ALLOWED.or(AnswerSet::UNAVAILABLE);
    let tolerated = periods.begin(AnswerPeriod::Tolerated(AnswerSet::UNAVAILABLE), at(2));
    let stale = periods.begin(AnswerPeriod::Stale, at(4));
    assert_eq!([right(0, 1), right(1, 2), right(3, 5)], [AnswerSet::ALLOWED, either, either]);
    assert_eq!(right(4, 5), AnswerSet::UNAVAILABLE);
    periods.end(stale, at(6));
    periods.end(tolerated, at(7));
    assert_eq!([right(5, 6), right(6, 7)], [AnswerSet::UNAVAILABLE, either]);
    assert_eq!([right(7, 9), right(8, 9)], [either, AnswerSet::ALLOWED]);
}
