//! A check of the feed, for a command.

use std::{fmt, io, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use countersign_front::worker_pool::runtime;
use tokio::{net::UnixStream, time::timeout};

use super::{
    client::{LineReader, connect_error},
    configuration::SectionDigests,
    connection::{FeedError, check_hello},
    line::FeedLine,
    peer::TrustedOwners,
    settings::FeedSettings,
};

/// The server of a feed, as a client finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedReport {
    /// The user that it runs as.
    pub user: u32,
    /// Its configuration.
    pub configuration: SectionDigests,
}

/// Time in which the first lines arrive.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Connects to the server's feed as a tier does, and reads its first lines.
///
/// # Errors
/// The reason why a tier could not follow it, with the remedy.
pub fn probe(settings: &FeedSettings, owners: TrustedOwners) -> Result<FeedReport, String> {
    let runtime = runtime().map_err(|error| error.to_string())?;
    let probed = runtime.block_on(async { timeout(TIMEOUT, read(settings, owners)).await });
    let silent = |_elapsed| {
        let seconds = TIMEOUT.as_secs();
        FeedError(format!(
            "the server has written nothing to the feed for {seconds} s: it is stopped or too busy"
        ))
    };
    probed.map_err(silent).flatten().map_err(|error| error.to_string())
}

async fn read(settings: &FeedSettings, owners: TrustedOwners) -> Result<FeedReport, FeedError> {
    let socket = &*settings.socket;
    let stream = UnixStream::connect(socket).await.map_err(|error| connect_error(&error))?;
    let user = owners.check(&stream, socket)?;
    let mut reader = LineReader::new(stream);
    check_hello(&FeedLine::parse(reader.next_line().await?)?)?;
    reader.end_line();
    match FeedLine::parse(reader.next_line().await?)? {
        FeedLine::Configuration { sections, .. } => {
            Ok(FeedReport { user, configuration: sections })
        }
        _ => Err(FeedError("a line is out of place".into())),
    }
}

/// Owner, group and mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// The id of its owner.
    pub user: u32,
    /// The id of its group.
    pub group: u32,
    /// Its mode, as of `chmod`.
    pub mode: u32,
}

impl FileAccess {
    /// Reads that of a file.
    ///
    /// # Errors
    /// The file is missing, or a directory on the way to it cannot be read.
    pub fn of(file: &Path) -> io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self { user: about.uid(), group: about.gid(), mode: about.mode() & 0o7777 })
    }

    /// Whether all users may write to it.
    #[must_use]
    pub const fn is_writable_by_all(self) -> bool {
        self.mode & 0o002 != 0
    }
}

impl fmt::Display for FileAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, group, mode } = self;
        write!(f, "user {user}, group {group}, mode {mode:04o}")
    }
}
