//! `[log]`: the access log, and the format of log lines.

use crate::config::reader::SectionReader;

/// Settings of the access log, and the format of all log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Requests in the access log.
    pub requests: LoggedRequests,
    /// Format of every line.
    pub format: LogFormat,
}

/// Requests in the access log, one line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedRequests {
    /// None. Proxies usually keep an access log.
    Off,
    /// Refused and failed requests.
    Refused,
    /// All requests.
    All,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Human`](Self::Human) on a terminal, [`Json`](Self::Json) otherwise.
    Auto,
    /// One JSON object per line.
    Json,
    /// Plain text for people.
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
    pub(crate) fn read(reader: &mut SectionReader<'_>) -> Self {
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
