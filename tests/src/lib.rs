//! What the tests share: running the real binary, talking to it, the engine as
//! tests configure it, tokens and keys by the `openssl` command line, and certificates.

pub mod answers;
pub mod binary;
pub mod certificates;
pub mod client;
pub mod engine;
pub mod frames;
pub mod front;
pub mod fuzz;
pub mod grpc;
pub mod http;
pub mod oidc;
pub mod openmetrics;
pub mod openssl;
pub mod postgres;
pub mod providers;
pub mod proxies;
pub mod quic;
pub mod shared;
pub mod tls;

/// Waits until something has become true, and fails if it does not within 20 s.
#[track_caller]
pub fn eventually(mut is_so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it has not come to pass in 20 s");
}
