//! Authentication of requests: forward auth (`/auth`), checks of Envoy over gRPC and of HAProxy over
//! SPOP, and `/v1/verify`.

mod authenticator;
mod decision;
mod revocation;
pub mod settings;
pub mod api_clients;
pub mod challenge;
pub mod credential;
pub mod claim_headers;
pub mod profile;
mod protected_resource;
pub mod forward_auth;
pub mod header_changes;
pub mod message_headers;
pub mod proxy_check;
pub mod ext_authz;
pub mod grpc;
pub mod spop;
pub mod verify;
pub mod token_report;

pub use self::{
    authenticator::{Authenticator, Caller, PendingVerification, Rejection},
    decision::{AuthDecision, DecisionSettings, ListenerRules, PendingDecision, decide},
    protected_resource::ProtectedResource,
    revocation::RevocationOutcome,
};
