//! Constants that the tokens and their verifiers share.

use countersign_engine::UnixTime;
pub use countersign_server::load_test::tokens::{AUDIENCE, ISSUER};

/// The time at which every benchmark verifies.
pub const NOW: UnixTime = UnixTime(1_700_000_000);
/// The secret of the HS256 tokens.
pub const SECRET: [u8; 32] = [7; 32];
/// Length of an RS256 token, and of each of [`Tokens`](crate::Tokens).
pub const TOKEN_BYTES: usize = 822;
