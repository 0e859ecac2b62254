//! `[feed]`: the Unix socket by which tiers in other processes get keys and revocations.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use countersign_front::accept::SocketPermissions;

use crate::{
    base::redacted::quoted,
    config::{problem::Problems, reader::SectionReader, setting::Section, socket_file},
};

/// The socket of the feed, for the server and for the tiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSettings {
    /// Its path.
    pub socket: PathBuf,
    /// The permissions of its file.
    pub permissions: SocketPermissions,
    /// How long a tier verifies tokens by what it knows, without another line.
    pub max_staleness: Duration,
}

/// Longest path of a Unix socket: `sun_path` of `sockaddr_un`, without its terminating zero.
const MAX_PATH_BYTES: usize = 107;

impl FeedSettings {
    /// Reads the section. `None` without a socket.
    pub(crate) fn read(
        sections: &BTreeMap<String, Section>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut reader = SectionReader::new(sections, "feed", problems);
        let permissions = socket_file::read_permissions(&mut reader);
        let max_staleness = reader.seconds("max_staleness");
        let Some(socket) = reader.given("socket") else {
            if reader.is_present() {
                let text = "[feed] has no effect without a socket";
                reader.warn("socket", text, "set socket, or remove the section");
            }
            return None;
        };
        let reason = match socket {
            _ if !socket.starts_with('/') => "is not an absolute path",
            _ if socket.len() > MAX_PATH_BYTES => "is longer than 107 bytes",
            _ if socket.contains('\0') => "has a zero byte",
            _ => return Some(Self { socket: socket.into(), permissions, max_staleness }),
        };
        let text = format!("socket {} in feed {reason}", quoted(socket));
        reader.error("socket", text, "write one such as /run/countersign/feed.sock");
        None
    }
}
