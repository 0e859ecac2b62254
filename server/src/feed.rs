//! The feed of keys and revocations from the server to the tiers in other processes of its machine.
//!
//! The server listens on a Unix socket and writes JSON lines ([`line::FeedLine`]). [`FeedClient`]
//! reads the lines and applies them. It writes only requests to fetch keys again
//! ([`line::FeedRequest`]), when a token has an unknown `kid`.
//!
//! - **Subscribe first, then read.** A client is subscribed to the changes before its snapshot is
//!   read, so that a change is in the snapshot, in a line after it, or in both. All changes can be
//!   applied twice.
//! - **Every change has the next generation.** A client that misses one, or meets another run of
//!   the server, takes a new snapshot.
//! - **A line shows how recent it is**, by a clock that the processes of a machine share. What a
//!   client knows is current for `max_staleness` after that. Afterwards it verifies no token.
//! - **Slow clients are disconnected.** The changes that were not written yet are shared by all
//!   clients and bounded, and so is the time of a write. One user has half of the places.
//! - **A request has no answer of its own.** The server may fetch keys, within the limits of unknown
//!   `kid`s that are sent to itself, and all clients read the progress: also that nothing is new.
//! - **Few requests are read.** Of a client, a fixed number in any time; more of them wait in the
//!   socket. A client that sends anything else is disconnected.
//! - **Only public keys are written**, the ids in revocations, and digests of the configuration
//!   ([`configuration`]), by which a client finds that its own differs.

mod client;
pub mod configuration;
mod connection;
mod difference_log;
mod feed_socket;
pub mod figures;
pub mod line;
mod peer;
mod places;
pub mod probe;
pub mod publisher;
mod server;
pub mod settings;
mod staleness;

pub use self::{client::FeedClient, peer::TrustedOwners, server::FeedServer};
