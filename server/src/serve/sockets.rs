//! The sockets of the listeners.

use std::{io, net::UdpSocket};

use countersign_front::{
    ListenAddress, Protocols,
    accept::{self, Acceptor},
    quic,
};
use http::HeaderValue;
use rustix::system::uname;

use crate::{app::App, base::route::Serves, config::Listener};

/// The listeners of the server, once their sockets are bound.
#[derive(Clone, Debug)]
pub struct BoundListeners(pub Vec<BoundListener>);

/// A listener that is bound.
#[derive(Clone, Debug)]
pub struct BoundListener {
    /// Its name in the configuration.
    pub name: String,
    /// Its routes.
    pub serves: Serves,
    /// Whether it serves the console.
    pub serves_console: bool,
    /// Its addresses, with the actual ports where port 0 was configured.
    pub addresses: Vec<ListenAddress>,
    /// `http`, `https` or `spop`.
    pub scheme: &'static str,
    /// Its protocols.
    pub protocols: Protocols,
}

impl BoundListeners {
    pub(super) fn new(app: &App, acceptors: &[(usize, Acceptor)]) -> Self {
        let settings = app.settings();
        let bound = settings.listeners.iter().enumerate().map(|(index, listener)| {
            let own = acceptors.iter().filter(|(of, _)| *of == index);
            BoundListener {
                name: listener.name.clone(),
                serves: listener.serves,
                serves_console: settings.serves_console(index),
                addresses: if listener.protocols.use_tcp() {
                    own.map(|(_, acceptor)| acceptor.address().clone()).collect()
                } else {
                    listener.addresses.clone()
                },
                scheme: listener.scheme(),
                protocols: listener.protocols,
            }
        });
        Self(bound.collect())
    }

    /// The name of this server for operators: the host, and its first address.
    pub(super) fn server_name(&self) -> String {
        let host = uname().nodename().to_string_lossy().into_owned();
        match self.0.first().and_then(|main| main.addresses.first()) {
            Some(address) => format!("{host} ({address})"),
            None => host,
        }
    }
}

/// Binds every TCP and Unix socket, with the index of its listener. A socket inherited from the
/// service manager is used for the address that it listens on.
pub(super) fn bind_all(app: &App) -> io::Result<Vec<(usize, Acceptor)>> {
    let mut inherited = accept::inherited()?;
    let mut acceptors = Vec::new();
    let settings = app.settings();
    let listeners = settings.listeners.iter().enumerate();
    for (index, listener) in listeners.filter(|(_, listener)| listener.protocols.use_tcp()) {
        for address in &listener.addresses {
            let acceptor = match inherited.iter().position(|open| open.address() == address) {
                Some(open) => inherited.swap_remove(open),
                None => bind(address, listener)?,
            };
            acceptors.push((index, acceptor));
        }
    }
    if let Some(left) = inherited.first() {
        let text = format!(
            "a socket was passed on that listens on {}, and no listener is configured there",
            left.address()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(acceptors)
}

/// Binds an address of a listener. HTTP/3 has the port of TCP: one that the system chooses is free
/// for TCP, but a program may use it for UDP.
fn bind(address: &ListenAddress, listener: &Listener) -> io::Result<Acceptor> {
    let bind = || Acceptor::bind(address, listener.socket_file, &listener.option);
    let is_chosen = address.address().is_some_and(|address| address.port() == 0);
    if listener.protocols.http3 && is_chosen { bind_usable(bind, is_free_for_udp) } else { bind() }
}

fn is_free_for_udp(acceptor: &Acceptor) -> bool {
    acceptor.address().address().is_some_and(|address| UdpSocket::bind(address).is_ok())
}

/// Calls `bind` until its result is usable, but not forever: the last result is returned anyway.
/// The others are held meanwhile, so that the system chooses another port.
fn bind_usable<T>(
    bind: impl Fn() -> io::Result<T>,
    is_usable: impl Fn(&T) -> bool,
) -> io::Result<T> {
    const MAX_ATTEMPTS: usize = 16;
    let mut held = Vec::new();
    loop {
        let bound = bind()?;
        if is_usable(&bound) || held.len() == MAX_ATTEMPTS - 1 {
            return Ok(bound);
        }
        held.push(bound);
    }
}

/// Binds every UDP socket of HTTP/3: one for each thread at each address of its listener. Sets
/// `Alt-Svc` of the listeners.
pub(super) fn bind_udp(
    app: &App,
    acceptors: &[(usize, Acceptor)],
    threads: usize,
) -> io::Result<Vec<quic::UdpBinding>> {
    let settings = app.settings();
    let keys = match &settings.quic.keys {
        Some(keys) => keys.clone(),
        None => quic::QuicKeys::random()?,
    };
    let retry_above = settings.quic.retry_above;
    let threads = u16::try_from(threads).unwrap_or(u16::MAX);
    let (mut bindings, mut alt_svc) = (Vec::new(), vec![None; settings.listeners.len()]);
    let listeners = settings.listeners.iter().enumerate();
    for (index, listener) in listeners.filter(|(_, listener)| listener.protocols.http3) {
        let own = acceptors.iter().filter(|(of, _)| *of == index);
        // The actual TCP port, if port 0 was configured.
        let bound: Vec<_> = own.map(|(_, acceptor)| acceptor.address().clone()).collect();
        let addresses = if bound.is_empty() { &listener.addresses } else { &bound };
        for address in addresses.iter().filter_map(ListenAddress::address) {
            let sockets = quic::bind_all(address, threads).map_err(|error| {
                let option = &listener.option;
                let text = format!(
                    "cannot receive at {address}, UDP: {error}; choose another with {option}"
                );
                io::Error::new(error.kind(), text)
            })?;
            alt_svc[index].get_or_insert_with(|| {
                HeaderValue::try_from(format!("h3=\":{}\"; ma=86400", address.port())).ok()
            });
            let threads = u16::try_from(sockets.len()).unwrap_or(u16::MAX);
            bindings.extend((0..).zip(sockets).map(|(thread, socket)| quic::UdpBinding {
                listener: index,
                thread,
                threads,
                socket,
                keys: keys.clone(),
                retry_above,
            }));
        }
    }
    app.set_alt_svc(alt_svc.into_iter().map(Option::flatten).collect());
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[test]
    fn unusable_ports_are_held_until_a_usable_one_is_bound() {
        let (next, held) = (Cell::new(0), Rc::new(()));
        let bind = || Ok((next.replace(next.get() + 1), Rc::clone(&held)));
        let (port, _) = bind_usable(bind, |&(port, _)| {
            // Each of the earlier ones is still bound.
            assert_eq!(Rc::strong_count(&held), port + 2);
            port == 3
        })
        .unwrap();
        assert_eq!(port, 3);
        assert_eq!(bind_usable(bind, |_| false).unwrap().0, 3 + 16, "the last is returned");
        assert!(bind_usable(|| Err::<u8, _>(io::Error::other("refused")), |_| false).is_err());
    }
}
