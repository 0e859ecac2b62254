//! Login of machine identities by TLS client certificates: the rules of an identity, and the
//! certificates that clients present.
//!
//! - **Paths** are built, and signatures are checked, by `rustls-webpki`. This module adds the
//!   checks that it does not make, over every path that it may choose: see [`rules`].
//! - **Possession** of the key is proven before: by the TLS handshake with this server, or with a
//!   trusted proxy that passes the certificate on. See [`presentation`].

mod authority_links;
mod candidate_paths;
mod certificate_fields;
mod name_constraints;
mod refusal;
mod validation;
pub mod issuing_ca;
pub mod names;
pub mod revocation_lists;
pub mod rules;
pub mod settings;
pub mod presentation;

pub use self::{
    issuing_ca::{CaError, IssuingCa},
    names::{AllowedAltName, CommonNames, NameListError},
    presentation::{CertificateSource, PresentationError},
    refusal::CertificateRefusal,
    revocation_lists::RevocationLists,
    rules::CertificateRules,
    settings::TlsCertAuthSettings,
};
pub use crate::client::certificate::{CertificateFormat, PresentedChain};
