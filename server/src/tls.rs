//! TLS of a listener: rustls with aws-lc-rs, reloaded from its files without closing connections.
//!
//! - **Versions:** 1.3 and 1.2. Key exchange is X25519MLKEM768, X25519, P-256 or P-384. The
//!   client's order of preference decides; clients that support the hybrid group commonly put it
//!   first.
//! - **Resumption:** session tickets, which every worker of the listener can decrypt and no other
//!   listener can. The server stores no session. There is no resumption where client certificates
//!   are requested: a ticket restores the identity that a certificate once proved, without a check
//!   whether it has expired or been revoked since. So each connection verifies it again.
//! - **Possession:** a listener may also accept any certificate whose key the client has. It does
//!   not identify the client, except to a login that checks it against the authority of an
//!   identity. Tokens may be bound to it, too.
//! - **Early data** (0-RTT) is never accepted, because an attacker could replay it.
//! - **Revocation** is checked along the whole chain, because a revoked intermediate authority
//!   could issue certificates for any client. It is strict: if one CRL is configured, every
//!   authority in the chain needs a current CRL. A missing or stale list would let in clients that
//!   have been revoked.
//! - **The crypto provider** is passed explicitly everywhere; the process has no default provider.

mod material;
mod possession;
pub mod settings;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use countersign_front::Protocols;
use rustls::{ServerConfig, crypto::aws_lc_rs::Ticketer, server::ProducesTickets};

use self::{
    material::{Fingerprint, Material, TlsFileContents},
    settings::{ClientCertificates, TlsFileKind, TlsFiles},
};
use crate::base::{clock, watched_file::FileVersion};

/// The TLS configuration of one listener, reloaded when its files change.
///
/// # Synchronization
/// One [`ArcSwap`] pointer to one immutable state. Handshakes load it; only
/// [`reload`](Self::reload) stores it. Two concurrent reloads may leave the older of two states
/// behind, together with the versions of the files it was built from. The next reload sees that
/// the files differ and repairs this.
pub struct ReloadableTls {
    files: TlsFiles,
    /// The HTTP versions offered by ALPN.
    protocols: Protocols,
    /// The keys of session tickets. They live as long as the listener, so that a new certificate
    /// does not force every client into a full handshake.
    tickets: Option<Arc<dyn ProducesTickets>>,
    state: ArcSwap<TlsState>,
}

/// The configuration in use and the result of the last reload.
struct TlsState {
    config: Arc<ServerConfig>,
    /// The same for HTTP/3.
    quic: Arc<ServerConfig>,
    material: Arc<Material>,
    file_state: FileState,
    /// Error of the last reload, if it failed. The configuration in use is then older than the
    /// files.
    error: Option<TlsError>,
}

/// The files as they were at the last reload.
#[derive(Clone, PartialEq, Eq)]
struct FileState {
    /// `None` if a file could change again without a change of its version.
    versions: Option<Vec<FileVersion>>,
    /// `None` if they could not be read.
    fingerprint: Option<Fingerprint>,
}

impl ReloadableTls {
    /// Loads TLS from these files, for these versions of HTTP.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason.
    pub fn load(files: TlsFiles, protocols: Protocols) -> Result<Self, TlsError> {
        let tickets =
            match files.clients {
                ClientCertificates::Off => Some(Ticketer::new().map_err(|error| {
                    TlsError::new(TlsFileKind::Key, &files.key, error.to_string())
                })?),
                ClientCertificates::Possession
                | ClientCertificates::Optional(_)
                | ClientCertificates::Required(_) => None,
            };
        let versions = versions(&files);
        let contents = TlsFileContents::read(&files)?;
        let file_state = FileState { versions, fingerprint: Some(contents.fingerprint()) };
        let (config, material) = material::build(&contents, tickets.as_ref())?;
        let state = ArcSwap::from_pointee(TlsState::new(config, protocols, material, file_state));
        Ok(Self { files, protocols, tickets, state })
    }

    /// Returns the paths of the files.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Returns the HTTP versions offered by ALPN.
    #[must_use]
    pub fn protocols(&self) -> Protocols {
        self.protocols
    }

    /// Returns the configuration for a new handshake over TCP.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.load().config)
    }

    /// Returns the configuration for a new QUIC handshake (HTTP/3). A reload replaces the pointer,
    /// so callers can detect it by comparing pointers.
    #[must_use]
    pub fn quic_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.load().quic)
    }

    /// Returns warnings about the files in use as of now: certificates and CRLs that have expired
    /// or are not valid yet, and authorities whose clients are rejected because their CRL is
    /// missing.
    #[must_use]
    pub fn warnings(&self) -> Vec<TlsError> {
        self.state.load().material.warnings(clock::now())
    }

    /// Returns when the first certificate or CRL of this kind of file in use expires, in seconds
    /// since 1970; `None` without such a file.
    #[must_use]
    pub fn expires_at(&self, part: TlsFileKind) -> Option<i64> {
        self.state.load().material.expires_at(part)
    }

    /// Reloads the files if they have changed and returns whether it did. Open connections keep
    /// their configuration.
    ///
    /// Calling this every second is cheap: files whose metadata is unchanged are not opened. While
    /// files are replaced one after the other, they may not match each other. That reload fails,
    /// and the next one finds the rest.
    ///
    /// # Errors
    /// The file that cannot be used, and the reason: with every call while the error lasts, and
    /// [new](TlsError::is_new) with the first. The previous configuration stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let state = self.state.load_full();
        // The versions are taken before the files are read, so that a write in between is seen by
        // the next reload.
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

    /// Keeps the configuration in use and stores the error.
    fn refuse(&self, state: &TlsState, file_state: FileState, error: TlsError) -> TlsError {
        let is_known = Some(&error) == state.error.as_ref();
        self.state.store(Arc::new(TlsState {
            file_state,
            error: Some(error.clone()),
            ..state.duplicate()
        }));
        TlsError { is_new: !is_known, ..error }
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
    /// Shows the paths only, because the configuration contains a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

/// A TLS file that cannot be used, or a warning about one.
#[derive(Clone, Debug)]
pub struct TlsError {
    /// The kind of the file.
    pub part: TlsFileKind,
    /// The file.
    pub file: PathBuf,
    /// The reason. It never contains key material.
    pub reason: String,
    is_new: bool,
}

impl TlsError {
    fn new(part: TlsFileKind, file: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { part, file: file.into(), reason: reason.into(), is_new: true }
    }

    /// Whether the previous reload did not report the same error.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }
}

impl PartialEq for TlsError {
    /// Compares everything but [`is_new`](Self::is_new).
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

/// Returns the versions of all files, following symbolic links; `None` if one of them cannot be
/// determined.
fn versions(files: &TlsFiles) -> Option<Vec<FileVersion>> {
    let version = |path: &Path| FileVersion::of(&path.metadata().ok()?);
    files.iter().map(|(_, path)| version(path)).collect()
}
