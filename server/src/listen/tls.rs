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

use self::material::{Contents, Fingerprint, Material};
use crate::{
    clock,
    config::{Clients, Part, Protocols, TlsFiles},
    file::Version,
};

/// TLS of one listener, renewed when its files are.
///
/// # Synchronization
/// One pointer to one immutable state. Handshakes load it; only renewing stores. Two
/// renewals at once may leave the older of two sets behind, with what it was made of:
/// the next look finds that the files are others.
pub struct Tls {
    files: TlsFiles,
    /// What is spoken under it.
    protocols: Protocols,
    /// The keys of tickets. They live as long as the listener: a new certificate is no
    /// reason to make all clients start again.
    tickets: Option<Arc<dyn ProducesTickets>>,
    state: ArcSwap<State>,
}

/// What is in use, and what came of the last look at the files.
struct State {
    config: Arc<ServerConfig>,
    /// The same for HTTP/3.
    quic: Arc<ServerConfig>,
    material: Arc<Material>,
    seen: Seen,
    /// What was wrong with them, if what is in use is older than they are.
    fault: Option<Fault>,
}

/// The files as they were when they were last tried.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    /// `None` if one of them may still change unseen.
    versions: Option<Vec<Version>>,
    /// `None` if they could not be read.
    fingerprint: Option<Fingerprint>,
}

impl Tls {
    /// TLS by these files, for these versions of HTTP.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn load(files: TlsFiles, protocols: Protocols) -> Result<Self, Fault> {
        let tickets = match files.clients {
            Clients::Off => Some(
                Ticketer::new()
                    .map_err(|error| Fault::new(Part::Key, &files.key, error.to_string()))?,
            ),
            Clients::Optional(_) | Clients::Required(_) => None,
        };
        let versions = versions(&files);
        let contents = Contents::read(&files)?;
        let seen = Seen { versions, fingerprint: Some(contents.fingerprint()) };
        let (config, material) = material::build(&contents, tickets.as_ref())?;
        let state = ArcSwap::from_pointee(State::new(config, protocols, material, seen));
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
    pub fn remarks(&self) -> Vec<Fault> {
        self.state.load().material.remarks(clock::now())
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
    /// [as news](Fault::is_news) with the first. What was in use stays in use.
    pub fn renew(&self) -> Result<bool, Fault> {
        let state = self.state.load_full();
        // Asked before the files are read: what is written in between is seen next time.
        let versions = versions(&self.files);
        if versions.is_some() && versions == state.seen.versions {
            return state.as_before();
        }
        let contents = match Contents::read(&self.files) {
            Ok(contents) => contents,
            Err(fault) => {
                return Err(self.refuse(&state, Seen { versions: None, fingerprint: None }, fault));
            }
        };
        let seen = Seen { versions, fingerprint: Some(contents.fingerprint()) };
        if seen.fingerprint == state.seen.fingerprint {
            if seen != state.seen {
                self.state.store(Arc::new(State { seen, ..state.again() }));
            }
            return state.as_before();
        }
        match material::build(&contents, self.tickets.as_ref()) {
            Ok((config, material)) => {
                self.state.store(Arc::new(State::new(config, self.protocols, material, seen)));
                Ok(true)
            }
            Err(fault) => Err(self.refuse(&state, seen, fault)),
        }
    }

    /// Goes on with what is in use, and notes why.
    fn refuse(&self, state: &State, seen: Seen, fault: Fault) -> Fault {
        let known = Some(&fault) == state.fault.as_ref();
        self.state.store(Arc::new(State { seen, fault: Some(fault.clone()), ..state.again() }));
        Fault { is_news: !known, ..fault }
    }
}

impl State {
    fn new(mut config: ServerConfig, protocols: Protocols, material: Material, seen: Seen) -> Self {
        config.alpn_protocols = vec![b"h3".to_vec()];
        let quic = Arc::new(config.clone());
        config.alpn_protocols = protocols.alpn();
        Self { config: Arc::new(config), quic, material: Arc::new(material), seen, fault: None }
    }

    fn again(&self) -> Self {
        let (config, quic) = (Arc::clone(&self.config), Arc::clone(&self.quic));
        Self {
            config,
            quic,
            material: Arc::clone(&self.material),
            seen: self.seen.clone(),
            fault: self.fault.clone(),
        }
    }

    fn as_before(&self) -> Result<bool, Fault> {
        self.fault.clone().map_or(Ok(false), |fault| Err(Fault { is_news: false, ..fault }))
    }
}

impl fmt::Debug for Tls {
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
pub struct Fault {
    /// What the file is for.
    pub part: Part,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, showing nothing of a key.
    pub reason: String,
    is_news: bool,
}

impl Fault {
    fn new(part: Part, file: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { part, file: file.into(), reason: reason.into(), is_news: true }
    }

    /// Whether it was not so the last time.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        self.is_news
    }
}

impl PartialEq for Fault {
    /// The same fault, whether or not it is news.
    fn eq(&self, other: &Self) -> bool {
        (self.part, &self.file, &self.reason) == (other.part, &other.file, &other.reason)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for Fault {}

/// The versions of all files, through symbolic links; `None` if one of them is not to
/// be known.
fn versions(files: &TlsFiles) -> Option<Vec<Version>> {
    let version = |path: &Path| Version::of(&path.metadata().ok()?);
    files.each().map(|(_, path)| version(path)).collect()
}
