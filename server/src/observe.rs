//! Observability: metrics, the access log, and the log.

pub mod access_log;
pub mod logging;
pub mod metrics;
pub mod figures;
pub mod process;
mod shown_path;
pub mod refused_requests;
pub mod request_series;
pub mod answer_judge;
pub mod reloads;
pub mod settings;
