//! The socket of the server's feed. Its file may be removed while the server runs, such as with a
//! directory that another unit of systemd owns. It is then bound again: clients that are connected
//! would not notice, but others could not connect.

use std::{io, path::Path, time::Duration};

use countersign_front::{
    ListenAddress,
    accept::{AcceptedConnection, Acceptor, SocketFile},
};
use tokio::time::sleep;

use super::{peer::check_directory, settings::FeedSettings};

/// Interval between checks of the file, and between attempts to bind the socket again.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Binds the socket, on the runtime of the calling thread.
///
/// # Errors
/// All users may write to its directory, or the system's error.
pub(super) fn bind(settings: &FeedSettings) -> io::Result<Acceptor> {
    check_directory(&settings.socket).map_err(io::Error::other)?;
    let address = ListenAddress::Unix(settings.socket.clone());
    Acceptor::bind(&address, settings.permissions, "socket in [feed]")
}

/// Accepts connections forever and passes each to `hand_over`.
pub(super) async fn accept(
    mut acceptor: Acceptor,
    settings: &FeedSettings,
    mut hand_over: impl FnMut(AcceptedConnection),
) {
    let socket = &*settings.socket;
    loop {
        let file = acceptor.file();
        tokio::select! {
            () = acceptor.accept(&mut hand_over) => {}
            () = lost(socket, file) => {}
        }
        let lost = if SocketFile::at(socket).is_some() { "replaced" } else { "removed" };
        let socket = socket.display();
        tracing::warn!("the file of the feed at {socket} was {lost}: binding the socket again");
        acceptor = bind_again(settings).await;
        tracing::info!("the socket of the feed at {socket} is bound again");
    }
}

/// Waits until the file of the socket is another one, or missing.
async fn lost(socket: &Path, file: Option<SocketFile>) {
    while SocketFile::at(socket) == file {
        sleep(CHECK_INTERVAL).await;
    }
}

/// Binds the socket as soon as that is possible. Each reason why it is not is logged once.
async fn bind_again(settings: &FeedSettings) -> Acceptor {
    let mut logged = Vec::new();
    loop {
        let bound = match SocketFile::at(&settings.socket) {
            // It is not asked whether a server accepts connections there: that could block.
            Some(_) => Err(io::Error::other(
                "another file is in its place: stop the server that has created it, or remove it",
            )),
            None => bind(settings),
        };
        let reason = match bound {
            Ok(acceptor) => return acceptor,
            Err(error) => error.to_string(),
        };
        if !logged.contains(&reason) {
            let socket = settings.socket.display();
            tracing::error!(
                "cannot bind the socket of the feed at {socket} again, so that no proxy can \
                 connect to it: {reason}"
            );
            logged.push(reason);
        }
        sleep(CHECK_INTERVAL).await;
    }
}
