//! The client of a request: its address behind trusted proxies, its certificate, and the original
//! request that a proxy describes in a check.

mod address;
mod forwarded;
pub mod certificate;
pub mod original_request;
pub mod request_description;
pub mod settings;
pub mod transport_security;
pub mod trusted_proxies;

pub use address::ClientAddress;
pub use certificate::ClientCertificate;
pub use request_description::RequestDescription;
pub use settings::ClientSettings;
