//! Listening and accepting.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileTypeExt as _,
    },
    path::Path,
    time::Duration,
};

use listenfd::ListenFd;
use rustix::net::{Shutdown, SocketAddrAny, SocketFlags, acceptfrom_with, sockopt};
use tokio::io::{Interest, unix::AsyncFd};

use super::peer::UNIX_PEER;
use crate::config::ListenAddress;

/// A socket that listens.
pub struct Acceptor {
    socket: AsyncFd<OwnedFd>,
    address: ListenAddress,
    /// Whether it was us who made the file of a Unix socket.
    owns_file: bool,
}

/// Sockets that whoever started us has opened already, as systemd does.
///
/// # Errors
/// What was passed on is no socket that listens, or of a kind we know.
pub fn inherited() -> io::Result<Vec<Acceptor>> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).map(|index| take_inherited(&mut passed, index)).collect()
}

fn take_inherited(passed: &mut ListenFd, index: usize) -> io::Result<Acceptor> {
    let tcp = passed.take_tcp_listener(index).ok().flatten().map(OwnedFd::from);
    let socket = match tcp {
        Some(socket) => Ok(Some(socket)),
        None => passed.take_unix_listener(index).map(|socket| socket.map(OwnedFd::from)),
    };
    let fault = |fault: String| {
        let text = format!(
            "what was passed on as socket {} of {} cannot be used: {fault}",
            index + 1,
            passed.len()
        );
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let socket = socket
        .map_err(|error| fault(error.to_string()))?
        .ok_or_else(|| fault("it is gone".into()))?;
    // A connection has its listener's address, but nothing can be accepted from it.
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(fault(
            "it does not listen; in a socket unit, write Accept=no and ListenStream=".into(),
        ));
    }
    Acceptor::new(socket)
}

/// A connection that no runtime has seen yet.
pub struct AcceptedConnection {
    /// Its socket, which does not block.
    pub socket: OwnedFd,
    /// Where it comes from.
    pub address: IpAddr,
}

impl AcceptedConnection {
    /// Says something short, and hangs up.
    pub fn refuse(self, answer: &[u8]) {
        // To a socket that nothing was written to, it fits.
        let _gone_already = rustix::io::write(&self.socket, answer);
        // To close with something unread would break the connection, and with it the answer.
        let _gone_already = rustix::net::shutdown(&self.socket, Shutdown::Write);
        let mut unread = [0; 4096];
        while rustix::io::read(&self.socket, &mut unread).is_ok_and(|read| read == unread.len()) {}
    }
}

impl Acceptor {
    /// Listens at a place.
    ///
    /// # Errors
    /// The system's, with the place and a remedy in its text.
    pub fn bind(address: &ListenAddress, option: &str) -> io::Result<Self> {
        let listen = || match address {
            ListenAddress::Tcp(address) => Self::new(std::net::TcpListener::bind(address)?.into()),
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                let mut bound = Self::new(std::os::unix::net::UnixListener::bind(path)?.into())?;
                bound.owns_file = true;
                Ok(bound)
            }
        };
        listen().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen on {address}: {error}; choose another with {option}"),
            )
        })
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    /// It is no socket of a kind we know.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let address = match rustix::net::getsockname(&socket)? {
            address if let Ok(address) = SocketAddr::try_from(address.clone()) => {
                // Answers are small: waiting to fill a segment only adds latency. What is
                // accepted inherits it.
                sockopt::set_tcp_nodelay(&socket, true)?;
                ListenAddress::Tcp(address)
            }
            address => ListenAddress::Unix(unix_path(&address)?),
        };
        rustix::io::ioctl_fionbio(&socket, true)?;
        #[expect(
            deprecated,
            reason = "deprecated for types that could exchange their descriptor, which an OwnedFd cannot"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket, address, owns_file: false })
    }

    /// Where it really listens.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts connections for ever, handing each to `hand_over`.
    pub async fn accept(self, mut hand_over: impl FnMut(AcceptedConnection)) {
        let mut is_failing = false;
        loop {
            let accepted = self.socket.async_io(Interest::READABLE, |socket| {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                Ok(acceptfrom_with(socket.as_fd(), flags)?)
            });
            match accepted.await {
                Ok((socket, address)) => {
                    is_failing = false;
                    hand_over(AcceptedConnection { socket, address: address_of(address) });
                }
                // It hung up before it was its turn.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Out of file descriptors, most likely: they come back when connections end.
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!("accepting connections fails at {}: {error}", self.address);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let (ListenAddress::Unix(path), true) = (&self.address, self.owns_file) {
            #[expect(
                clippy::disallowed_methods,
                reason = "the socket is ours, and nobody answers there any more"
            )]
            let _gone_already = fs::remove_file(path);
        }
    }
}

fn address_of(address: Option<SocketAddrAny>) -> IpAddr {
    address
        .and_then(|address| SocketAddr::try_from(address).ok())
        .map_or(UNIX_PEER, |address| address.ip())
}

fn unix_path(address: &SocketAddrAny) -> io::Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let unix = rustix::net::SocketAddrUnix::try_from(address.clone()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "the socket is neither TCP nor Unix")
    })?;
    Ok(std::ffi::OsStr::from_bytes(unix.path_bytes().unwrap_or_default()).into())
}

/// Removes a socket that a process left behind which did not end as it should. One
/// that somebody answers at stays, and so does whatever is no socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = || {
        std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && refused() {
        #[expect(clippy::disallowed_methods, reason = "nobody listens at this socket any more")]
        fs::remove_file(path)?;
    }
    Ok(())
}
