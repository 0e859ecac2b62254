//! The question of this tier, "who is this, and may they?", in each of its forms.

mod authenticator;
mod decision;
mod revoking;
pub mod settings;
pub mod api_clients;
pub mod profile;
pub mod forward_auth;
pub mod ext_authz;
pub mod grpc;
pub mod verify;

pub use self::{
    authenticator::{Authenticator, Caller, Rejection},
    decision::{AuthDecision, PendingDecision, decide},
    revoking::RevocationOutcome,
};
