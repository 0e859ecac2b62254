//! The client of a request: its address behind trusted proxies, its certificate, and the request
//! that a proxy asks about.

mod address;
pub mod certificate;
pub mod original_request;
pub mod settings;
pub mod trusted_proxies;

pub use address::ClientAddress;
pub use settings::ClientSettings;
