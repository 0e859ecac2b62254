//! `[log]`: the level and format of log lines, and the access log. `[metrics]`: their names.

use tracing_subscriber::filter::Targets;

use crate::config::reader::SectionReader;

/// Level and format of log lines, and settings of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Filter of lines, as in `info` or `warn,request=info`.
    pub level: String,
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
            level: read_level(reader),
            requests: reader.choice("requests", &LoggedRequests::ALL, LoggedRequests::name),
            format: reader.choice("format", &LogFormat::ALL, LogFormat::name),
        }
    }
}

/// Names and labels of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Whether requests are also counted with the names and labels of Orchestrate.
    pub orchestrate_names: bool,
    /// Number of tenants that have a label of their own there.
    pub orchestrate_tenants: usize,
}

impl MetricsSettings {
    pub(crate) fn read(reader: &mut SectionReader<'_>) -> Self {
        let orchestrate_names = reader.flag("orchestrate_names");
        let orchestrate_tenants = reader.number("orchestrate_tenants");
        if orchestrate_tenants > 0 && !orchestrate_names {
            let text = "orchestrate_tenants in metrics has no effect without orchestrate_names";
            reader.warn("orchestrate_tenants", text, "write orchestrate_names = true");
        }
        Self { orchestrate_names, orchestrate_tenants }
    }
}

fn read_level(reader: &mut SectionReader<'_>) -> String {
    let text = reader.given("level").unwrap_or_else(|| reader.default("level"));
    if let Err(error) = text.parse::<Targets>() {
        let help = "write error, warn, info, debug or trace, or a filter such as warn,request=info";
        reader.error("level", format!("level in log is not a filter: {error}"), help);
    }
    text.into()
}
