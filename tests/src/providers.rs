//! Key providers: servers that publish a key set, of the tests' own making.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A JWKS server over plain HTTP. It lives as long as the process.
pub struct JwksServer {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
}

impl JwksServer {
    /// Serves this key set with status 200.
    pub fn start(jwks: &str) -> Self {
        let server = Self::start_raw("");
        server.publish(jwks);
        server
    }

    /// Serves exactly these bytes as its answer.
    pub fn start_raw(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, answer: Arc::new(Mutex::new(answer.into())), requests: Arc::default() };
        let (answer, requests) = (Arc::clone(&server.answer), Arc::clone(&server.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                requests.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                drop(reader.get_mut().write_all(answer.as_bytes()));
            }
        });
        server
    }

    /// Replaces the key set.
    pub fn publish(&self, jwks: &str) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            jwks.len()
        );
        *self.answer.lock().unwrap() = head + jwks;
    }

    /// Where it is.
    pub fn uri(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// How many requests it has answered.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
