//! [`IssuerStatus`]: the state of the keys of an issuer, for operators.

use std::time::Duration;

use countersign_engine::{KeySet, UnixTime};

use super::{IssuerKeys, fetch::FetchError};

/// State of the keys of an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerState {
    /// The keys are in the configuration.
    Static,
    /// The last fetch succeeded.
    Answers,
    /// The first fetch has not ended.
    Waiting,
    /// The last fetch failed; the keys of an earlier one are in use.
    Failing,
    /// There are no keys: its tokens are answered with 503.
    NoKeys,
}

impl IssuerState {
    /// Names of all states.
    pub const NAMES: [&'static str; 5] = ["static", "answers", "waiting", "failing", "no_keys"];

    /// Returns its name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        let [fixed, answers, waiting, failing, no_keys] = Self::NAMES;
        match self {
            Self::Static => fixed,
            Self::Answers => answers,
            Self::Waiting => waiting,
            Self::Failing => failing,
            Self::NoKeys => no_keys,
        }
    }

    /// Whether nothing needs a look.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Static | Self::Answers)
    }

    /// Returns the state in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Static => "keys in the configuration",
            Self::Answers => "answers",
            Self::Waiting => "first fetch under way",
            Self::Failing => "does not answer, earlier keys are in use",
            Self::NoKeys => "no keys, its tokens are answered with 503",
        }
    }
}

/// The state of the keys of an issuer, and of their fetches.
#[derive(Debug)]
pub struct IssuerStatus {
    /// The state.
    pub state: IssuerState,
    /// Time of the last successful fetch.
    pub last_success: Option<UnixTime>,
    /// The last failed fetch, while fetches fail.
    pub failure: Option<(UnixTime, FetchError)>,
    /// Time until the next fetch that is due.
    pub next_fetch: Option<Duration>,
    /// Whether a fetch is under way.
    pub is_fetching: bool,
}

impl IssuerStatus {
    /// Returns the status of an issuer with these keys in use.
    #[must_use]
    pub fn of(source: &IssuerKeys, keys: Option<&KeySet>) -> Self {
        let progress = source.progress();
        let state = match (source.renewed(), keys) {
            (None, _) => IssuerState::Static,
            (Some(_), None) if progress.state.rounds == 0 => IssuerState::Waiting,
            (Some(_), None) => IssuerState::NoKeys,
            (Some(_), Some(_)) if progress.state.is_failing => IssuerState::Failing,
            (Some(_), Some(_)) => IssuerState::Answers,
        };
        Self {
            state,
            last_success: progress.last_success,
            failure: progress.last_failure.filter(|_| progress.state.is_failing),
            next_fetch: source.time_to_fetch(),
            is_fetching: progress.state.fetching,
        }
    }
}
