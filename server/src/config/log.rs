//! `[log]`: what is written down, and how.

use super::reader::SectionReader;

/// What is written down of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Which requests.
    pub requests: LoggedRequests,
    /// How every line looks.
    pub format: LogFormat,
}

/// Which requests are written down, one line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedRequests {
    /// None: proxies have logs of their own.
    Off,
    /// Those that were not answered as they were meant.
    Refused,
    /// All of them.
    All,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// Words for people.
    Human,
}

impl LoggedRequests {
    const ALL: [Self; 3] = [Self::Off, Self::Refused, Self::All];

    const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Refused => "refused",
            Self::All => "all",
        }
    }
}

impl LogFormat {
    const ALL: [Self; 3] = [Self::Auto, Self::Json, Self::Human];

    const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Human => "human",
        }
    }
}

impl LogSettings {
    pub(super) fn read(reader: &mut SectionReader<'_>) -> Self {
        Self {
            requests: reader
                .choice("requests", &LoggedRequests::ALL, LoggedRequests::name)
                .unwrap_or(LoggedRequests::Off),
            format: reader
                .choice("format", &LogFormat::ALL, LogFormat::name)
                .unwrap_or(LogFormat::Auto),
        }
    }
}
