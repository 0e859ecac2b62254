//! Latency of `/auth` on one connection, at a fixed rate.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::own_server::{Address, Connection};

/// Sends requests with this token for some time. Returns the latency of each answer in seconds,
/// from the due time of its request. Keeps the core of the calling thread busy.
///
/// # Errors
/// The connection ends.
///
/// # Panics
/// The token is not accepted.
pub fn of_auth(
    address: Address,
    token: &str,
    per_second: u32,
    time: Duration,
) -> io::Result<Vec<f64>> {
    let mut connection = Connection::open(address)?;
    let (start, every) = (Instant::now(), Duration::from_secs(1) / per_second);
    let mut latencies = Vec::new();
    for number in 0.. {
        let due = start + every * number;
        if due >= start + time {
            break;
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        assert_eq!(connection.exchange("GET /auth", "", token, "")?, 200, "an /auth request");
        latencies.push(due.elapsed().as_secs_f64());
    }
    Ok(latencies)
}

/// Returns the 99th percentile of latencies.
///
/// # Panics
/// The list is empty.
#[must_use]
pub fn p99(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * 99 / 100]
}
