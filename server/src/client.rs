//! The client of a request: its address behind trusted proxies, its certificate, and the original
//! request that a proxy describes in a check.

mod address;
pub mod certificate;
pub mod original_request;
pub mod settings;
pub mod trusted_proxies;

pub use address::ClientAddress;
pub use certificate::ClientCertificate;
pub use settings::ClientSettings;
