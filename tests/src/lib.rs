//! What the tests share: running the real binary, talking to it, and making
//! tokens and keys with the `openssl` command line.

pub mod binary;
pub mod fuzz;
pub mod http;
pub mod oidc;
pub mod openssl;
pub mod providers;
pub mod shared;
