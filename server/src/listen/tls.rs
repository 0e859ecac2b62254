//! TLS of a listener, by rustls over aws-lc-rs: what its files mean, and new files
//! taken up while connections go on.
//!
//! - **Versions** 1.3 and 1.2. Keys are agreed on by X25519MLKEM768, X25519, P-256 or
//!   P-384. The order that counts is the client's; those that know the first one
//!   commonly put it first.
//! - **Resumption** is by tickets, which any worker of the listener can open and no
//!   other listener; nothing is kept for a session. There is none where clients are
//!   asked for certificates: a ticket brings back what the certificate once proved,
//!   without asking whether it has expired or been revoked since, so each connection
//!   has to prove it anew.
//! - **Early data** (0-RTT) is never accepted: whoever records a request could send it
//!   again.
//! - **Revocation** is checked along the whole chain, since an authority between could
//!   vouch for anybody, and strictly: with one list there must be a current one of
//!   every authority in it. Where nobody has said who is revoked, or lately, a
//!   revoked client would be let in.
//! - **The provider** of cryptography is named everywhere; the process has no default.

mod material;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, ServerConnection, crypto::aws_lc_rs::Ticketer, pki_types::CertificateDer,
    server::ProducesTickets,
};

use self::material::{Fingerprint, Material, TlsFileContents};
use crate::{
    clock,
    config::{ClientCertificates, Protocols, TlsFileKind, TlsFiles},
    file::FileVersion,
};

/// TLS of one listener, renewed when its files are.
///
/// # Synchronization
/// One pointer to one immutable state. Handshakes load it; only renewing stores. Two
/// renewals at once may leave the older of two sets behind, with what it was made of:
/// the next look finds that the files are others.
pub struct ReloadableTls {
    files: TlsFiles,
    /// What is spoken under it.
    protocols: Protocols,
    /// The keys of tickets. They live as long as the listener: a new certificate is no
    /// reason to make all clients start again.
    tickets: Option<Arc<dyn ProducesTickets>>,
    state: ArcSwap<TlsState>,
}

/// What is in use, and what came of the last look at the files.
struct TlsState {
    config: Arc<ServerConfig>,
    /// The same for HTTP/3.
    quic: Arc<ServerConfig>,
    material: Arc<Material>,
    file_state: FileState,
    /// What was wrong with them, if what is in use is older than they are.
    error: Option<TlsError>,
}

/// The files as they were when they were last tried.
#[derive(Clone, PartialEq, Eq)]
struct FileState {
    /// `None` if one of them may still change unseen.
    versions: Option<Vec<FileVersion>>,
    /// `None` if they could not be read.
    fingerprint: Option<Fingerprint>,
}

impl ReloadableTls {
    /// TLS by these files, for these versions of HTTP.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn load(files: TlsFiles, protocols: Protocols) -> Result<Self, TlsError> {
        let tickets =
            match files.clients {
                ClientCertificates::Off => Some(Ticketer::new().map_err(|error| {
                    TlsError::new(TlsFileKind::Key, &files.key, error.to_string())
                })?),
                ClientCertificates::Optional(_) | ClientCertificates::Required(_) => None,
            };
        let versions = versions(&files);
        let contents = TlsFileContents::read(&files)?;
        let file_state = FileState { versions, fingerprint: Some(contents.fingerprint()) };
        let (config, material) = material::build(&contents, tickets.as_ref())?;
        let state = ArcSwap::from_pointee(TlsState::new(config, protocols, material, file_state));
        Ok(Self { files, protocols, tickets, state })
    }

    /// The files it is made of.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// What is spoken under it.
    #[must_use]
    pub fn protocols(&self) -> Protocols {
        self.protocols
    }

    /// The configuration for a new handshake over TCP.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.load().config)
    }

    /// The configuration for a new handshake over QUIC, for HTTP/3: another one when the
    /// files have been taken up again.
    #[must_use]
    pub fn quic_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.load().quic)
    }

    /// What an operator should know about the files in use as of now: what has
    /// expired, or is not valid yet, and whose clients are refused for want of a list.
    #[must_use]
    pub fn warnings(&self) -> Vec<TlsError> {
        self.state.load().material.warnings(clock::now())
    }

    /// Looks at the files again and takes them up if they are others; says whether it
    /// did. Connections go on with what they began with.
    ///
    /// This can be asked every second: files that the file system says are the same
    /// are not opened. Files written one after the other do not fit in between; the
    /// next look finds the rest.
    ///
    /// # Errors
    /// The file that cannot be used, and why: with every look while it lasts,
    /// [as news](TlsError::is_news) with the first. What was in use stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let state = self.state.load_full();
        // Asked before the files are read: what is written in between is seen next time.
        let versions = versions(&self.files);
        if versions.is_some() && versions == state.file_state.versions {
            return state.previous_result();
        }
        let contents = match TlsFileContents::read(&self.files) {
            Ok(contents) => contents,
            Err(error) => {
                return Err(self.refuse(
                    &state,
                    FileState { versions: None, fingerprint: None },
                    error,
                ));
            }
        };
        let file_state = FileState { versions, fingerprint: Some(contents.fingerprint()) };
        if file_state.fingerprint == state.file_state.fingerprint {
            if file_state != state.file_state {
                self.state.store(Arc::new(TlsState { file_state, ..state.duplicate() }));
            }
            return state.previous_result();
        }
        match material::build(&contents, self.tickets.as_ref()) {
            Ok((config, material)) => {
                self.state.store(Arc::new(TlsState::new(
                    config,
                    self.protocols,
                    material,
                    file_state,
                )));
                Ok(true)
            }
            Err(error) => Err(self.refuse(&state, file_state, error)),
        }
    }

    /// Goes on with what is in use, and notes why.
    fn refuse(&self, state: &TlsState, file_state: FileState, error: TlsError) -> TlsError {
        let known = Some(&error) == state.error.as_ref();
        self.state.store(Arc::new(TlsState {
            file_state,
            error: Some(error.clone()),
            ..state.duplicate()
        }));
        TlsError { is_new: !known, ..error }
    }
}

impl TlsState {
    fn new(
        mut config: ServerConfig,
        protocols: Protocols,
        material: Material,
        file_state: FileState,
    ) -> Self {
        config.alpn_protocols = vec![b"h3".to_vec()];
        let quic = Arc::new(config.clone());
        config.alpn_protocols = protocols.alpn();
        Self {
            config: Arc::new(config),
            quic,
            material: Arc::new(material),
            file_state,
            error: None,
        }
    }

    fn duplicate(&self) -> Self {
        let (config, quic) = (Arc::clone(&self.config), Arc::clone(&self.quic));
        Self {
            config,
            quic,
            material: Arc::clone(&self.material),
            file_state: self.file_state.clone(),
            error: self.error.clone(),
        }
    }

    fn previous_result(&self) -> Result<bool, TlsError> {
        self.error.clone().map_or(Ok(false), |error| Err(TlsError { is_new: false, ..error }))
    }
}

impl fmt::Debug for ReloadableTls {
    /// Shows where it is from: what is in the files includes a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

/// The certificate that the client of a connection has shown, and that was verified.
#[must_use]
pub fn client_certificate(connection: &ServerConnection) -> Option<&CertificateDer<'static>> {
    connection.peer_certificates()?.first()
}

/// What is wrong with one of the files.
#[derive(Clone, Debug)]
pub struct TlsError {
    /// What the file is for.
    pub part: TlsFileKind,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, showing nothing of a key.
    pub reason: String,
    is_new: bool,
}

impl TlsError {
    fn new(part: TlsFileKind, file: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { part, file: file.into(), reason: reason.into(), is_new: true }
    }

    /// Whether it was not so the last time.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }
}

impl PartialEq for TlsError {
    /// The same fault, whether or not it is news.
    fn eq(&self, other: &Self) -> bool {
        (self.part, &self.file, &self.reason) == (other.part, &other.file, &other.reason)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for TlsError {}

/// The versions of all files, through symbolic links; `None` if one of them is not to
/// be known.
fn versions(files: &TlsFiles) -> Option<Vec<FileVersion>> {
    let version = |path: &Path| FileVersion::of(&path.metadata().ok()?);
    files.iter().map(|(_, path)| version(path)).collect()
}
