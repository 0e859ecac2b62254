//! Test fixtures: the real binary ([`binary`]), HTTP clients ([`client`]), the engine as tests
//! configure it ([`engine`]), keys and tokens made by the `openssl` command line ([`openssl`]),
//! certificates ([`certificates`], [`pki`]), a browser ([`webdriver`]), and the pages of
//! documentation ([`pages`]).

pub mod allocations;
pub mod answers;
pub mod binary;
pub mod certificates;
pub mod client;
pub mod database;
pub mod default_ports;
pub mod engine;
pub mod frames;
pub mod front;
pub mod fuzz;
pub mod grpc;
pub mod http;
pub mod interposer;
pub mod network_link;
pub mod oidc;
pub mod openmetrics;
pub mod openssl;
pub mod pages;
pub mod pgbouncer;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod providers;
pub mod proxies;
pub mod quic;
pub mod shared;
pub mod spop;
pub mod tls;
pub mod webdriver;

/// Polls a condition until it holds. Panics if it does not within 20 s.
#[track_caller]
pub fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..400 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the condition did not become true within 20 s");
}
