//! The ports of the embedded default configuration, which only one test at a time may use.

use std::{fs::File, net::TcpListener, thread, time::Duration};

/// Ports of the embedded default and of the examples in the documentation.
const PORTS: [u16; 3] = [8888, 8082, 8443];
/// Time that a program which does not take the lock has to release a port.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Exclusive use of the default ports, across threads and processes, until it is dropped.
#[must_use]
pub struct DefaultPorts {
    _lock: File,
}

impl DefaultPorts {
    /// Waits until no other test uses the ports.
    ///
    /// # Panics
    /// Another program listens on one of the ports.
    pub fn reserve() -> Self {
        let path = std::env::temp_dir().join("countersign-default-ports.lock");
        let lock = File::options().create(true).append(true).open(&path).unwrap();
        lock.lock().unwrap();
        for port in PORTS {
            let mut waited = Duration::ZERO;
            while let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                assert!(
                    waited < RELEASE_TIMEOUT,
                    "127.0.0.1:{port}: {error}. Stop the program that uses it: this test runs \
                     what the documentation shows, on the ports that it shows"
                );
                thread::sleep(POLL_INTERVAL);
                waited += POLL_INTERVAL;
            }
        }
        Self { _lock: lock }
    }
}
