//! Listening sockets and the accept loop.
//!
//! An [`Acceptor`] owns one TCP or Unix socket, bound by this process or [`inherited`] from the
//! service manager. [`Acceptor::accept`] yields every [`AcceptedConnection`] to the worker pool.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
    },
    path::Path,
    time::Duration,
};

use listenfd::ListenFd;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    acceptfrom_with, sockopt,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::address::{ListenAddress, UNIX_PEER};

/// A listening socket, TCP or Unix.
pub struct Acceptor {
    socket: AsyncFd<OwnedFd>,
    address: ListenAddress,
    /// The socket file, if this process created it. Dropping the acceptor then removes it.
    file: Option<SocketFile>,
}

/// Permissions of the file of a Unix socket. A client needs write permission to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketPermissions {
    /// The mode, as of `chmod`.
    pub mode: u32,
    /// The id of its group; that of the process by default.
    pub group: Option<u32>,
}

impl Default for SocketPermissions {
    /// Owner and group may connect.
    fn default() -> Self {
        Self { mode: 0o660, group: None }
    }
}

/// Returns the sockets that the service manager opened before it started this process (systemd
/// socket activation, `LISTEN_FDS`).
///
/// # Errors
/// A passed descriptor is not a listening TCP or Unix socket.
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
    let unusable = |reason: String| {
        let text =
            format!("inherited socket {} of {} cannot be used: {reason}", index + 1, passed.len());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let socket = socket
        .map_err(|error| unusable(error.to_string()))?
        .ok_or_else(|| unusable("the descriptor was already taken".into()))?;
    // With Accept=yes systemd passes a connected socket. It has the listener's address, but
    // nothing can be accepted from it.
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(unusable(
            "it is not listening; in a socket unit, write Accept=no and ListenStream=".into(),
        ));
    }
    Acceptor::new(socket)
}

/// An accepted connection that is not registered with a worker's runtime yet.
pub struct AcceptedConnection {
    /// The connected, non-blocking socket.
    pub socket: OwnedFd,
    /// The peer's address; [`UNIX_PEER`] for a Unix socket.
    pub address: IpAddr,
}

impl AcceptedConnection {
    /// Writes a short response and closes the connection, without blocking.
    pub fn refuse(self, response: &[u8]) {
        // The send buffer of a fresh socket is empty, so a short response fits.
        let _ignored = rustix::io::write(&self.socket, response);
        // Closing a socket with unread input sends a reset, which can destroy the response. So
        // the write side is shut down first and the arrived bytes are read.
        let _ignored = rustix::net::shutdown(&self.socket, Shutdown::Write);
        let mut unread = [0; 4096];
        while rustix::io::read(&self.socket, &mut unread).is_ok_and(|read| read == unread.len()) {}
    }
}

impl Acceptor {
    /// Binds an address and listens on it. `permissions` apply to Unix sockets, and `option` names
    /// the configuration option for the error.
    ///
    /// # Errors
    /// The system's error, with the address and a remedy in its text.
    pub fn bind(
        address: &ListenAddress,
        permissions: SocketPermissions,
        option: &str,
    ) -> io::Result<Self> {
        let bind = || match address {
            ListenAddress::Tcp(address) => Self::new(std::net::TcpListener::bind(address)?.into()),
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                let mut bound = Self::new(bind_unix(path)?)?;
                bound.file = SocketFile::at(path);
                Ok(bound)
            }
        };
        let fail = |error: io::Error, remedy: String| {
            let text = format!("cannot listen on {address}: {error}; {remedy}");
            io::Error::new(error.kind(), text)
        };
        let bound = bind().map_err(|error| fail(error, format!("choose another with {option}")))?;
        if let ListenAddress::Unix(path) = address {
            // Before it listens, so that no client connects under other permissions.
            permissions.apply(path).map_err(|error| fail(error, GROUP_HELP.into()))?;
            rustix::net::listen(&bound.socket, BACKLOG)?;
        }
        Ok(bound)
    }

    /// Wraps a socket that is already listening.
    ///
    /// # Errors
    /// The socket is neither TCP nor Unix, or the system refuses to configure it.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let address = match rustix::net::getsockname(&socket)? {
            address if let Ok(address) = SocketAddr::try_from(address.clone()) => {
                // Responses are small, so waiting to fill a segment only adds latency. Accepted
                // sockets inherit the option.
                sockopt::set_tcp_nodelay(&socket, true)?;
                ListenAddress::Tcp(address)
            }
            address => ListenAddress::Unix(unix_path(&address)?),
        };
        rustix::io::ioctl_fionbio(&socket, true)?;
        #[expect(
            deprecated,
            reason = "deprecated for types that can replace their descriptor; OwnedFd cannot"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket, address, file: None })
    }

    /// Returns the bound address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Returns the socket file, if this process has created it.
    #[must_use]
    pub fn file(&self) -> Option<SocketFile> {
        self.file
    }

    /// Accepts connections forever and passes each to `hand_over`.
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
                // The client disconnected while it was in the accept queue.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Most likely out of file descriptors. They are released when connections close,
                // so accepting pauses and tries again. Only the first failure is logged.
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            "cannot accept connections on {}, retrying: {error}",
                            self.address
                        );
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Maximum number of connections to a Unix socket that are not accepted yet. The system has a limit
/// of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Remedy if the group of a Unix socket cannot be set.
const GROUP_HELP: &str = "run the server as a member of that group, under systemd with \
                          SupplementaryGroups=";

fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

impl SocketPermissions {
    fn apply(self, path: &Path) -> io::Result<()> {
        if let Some(group) = self.group {
            chown(path, None, Some(group)).map_err(|error| {
                let text = format!("its group cannot be {group}: {error}");
                io::Error::new(error.kind(), text)
            })?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))
    }
}

/// The identity of a socket file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFile {
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Returns that of the file at this path; `None` without a file.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let about = fs::symlink_metadata(path).ok()?;
        Some(Self { device: about.dev(), inode: about.ino() })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // Another process may have put its own there meanwhile.
        if let ListenAddress::Unix(path) = &self.address
            && self.file.is_some()
            && SocketFile::at(path) == self.file
        {
            #[expect(
                clippy::disallowed_methods,
                reason = "this process created the socket file and stops listening on it"
            )]
            let _ignored = fs::remove_file(path);
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
    let unix = SocketAddrUnix::try_from(address.clone()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "the socket is neither TCP nor Unix")
    })?;
    Ok(std::ffi::OsStr::from_bytes(unix.path_bytes().unwrap_or_default()).into())
}

/// Removes the socket file of a process that ended without cleaning up. A socket that accepts
/// connections is kept, and so is any other kind of file.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = || {
        std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && refused() {
        #[expect(clippy::disallowed_methods, reason = "no process listens on this socket")]
        fs::remove_file(path)?;
    }
    Ok(())
}
