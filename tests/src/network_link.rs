//! A network between two programs that a test can cut.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{sleep, spawn},
    time::Duration,
};

/// Network that relays the connections of clients to one server at a time.
///
/// While it is cut, connections stay open and nothing is delivered, as in a partition. Bytes that
/// are sent meanwhile are delivered after it is restored, as TCP sends them again.
pub struct NetworkLink {
    /// Address for the clients.
    pub address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    is_cut: Arc<AtomicBool>,
}

impl NetworkLink {
    /// Creates a network to this server.
    ///
    /// # Panics
    /// The operating system refuses a listening socket.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let link = Self { address, server: Arc::new(Mutex::new(server)), is_cut: Arc::default() };
        let (server, is_cut) = (Arc::clone(&link.server), Arc::clone(&link.is_cut));
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (server, is_cut) = (*server.lock().unwrap(), Arc::clone(&is_cut));
                spawn(move || drop(connect(&client, server, &is_cut)));
            }
        });
        link
    }

    /// Relays new connections to another server.
    ///
    /// # Panics
    /// A thread of this network has panicked.
    pub fn switch_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
    }

    /// Stops the delivery.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// Resumes the delivery.
    pub fn restore(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// Relays both directions of a connection until one end closes it.
fn connect(client: &TcpStream, server: SocketAddr, is_cut: &Arc<AtomicBool>) -> io::Result<()> {
    wait_while(is_cut);
    let server = TcpStream::connect(server)?;
    let (from, to, cut) = (server.try_clone()?, client.try_clone()?, Arc::clone(is_cut));
    let back = spawn(move || deliver(&from, &to, &cut));
    deliver(client, &server, is_cut);
    drop(back.join());
    Ok(())
}

fn deliver(mut from: &TcpStream, mut to: &TcpStream, is_cut: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        wait_while(is_cut);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    wait_while(is_cut);
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}

fn wait_while(is_cut: &AtomicBool) {
    while is_cut.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(10));
    }
}
