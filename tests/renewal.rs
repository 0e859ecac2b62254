//! Reload of the TLS files of a running listener: all files are replaced together, or none.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_front::Protocols;
use countersign_server::tls::{
    ReloadableTls,
    settings::{ClientAuthorities, ClientCertificates, TlsFileKind, TlsFiles},
};
use countersign_tests::{
    certificates::{Authority, EXPIRED, IssuedCertificate},
    tls::{TlsClient, TlsClientOptions, VERSIONS},
};
use rustls::{ClientConnection, Error, HandshakeKind, ServerConnection, pki_types::CertificateDer};
use tempfile::TempDir;

/// Directory of TLS files in use, with their authorities.
struct TlsDirectory {
    directory: TempDir,
    ours: Authority,
    theirs: Authority,
}

impl TlsDirectory {
    fn new() -> Self {
        let fixture = Self {
            directory: tempfile::tempdir().unwrap(),
            ours: Authority::root("ours"),
            theirs: Authority::root("theirs"),
        };
        fixture.ours.server().write(fixture.directory.path());
        fixture
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.file(name), text).unwrap();
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.file("tls.crt"),
            key: self.file("tls.key"),
            clients: ClientCertificates::Off,
        }
    }

    fn files_with_clients(&self) -> TlsFiles {
        self.write("clients.crt", self.theirs.pem());
        self.write("clients.crl", self.theirs.crl(&[]));
        let authorities = ClientAuthorities {
            file: self.file("clients.crt"),
            revoked: vec![self.file("clients.crl")],
        };
        TlsFiles { clients: ClientCertificates::Required(authorities), ..self.files() }
    }

    fn client(&self, certificate: Option<&IssuedCertificate>) -> TlsClient {
        TlsClient::new(&self.ours, &TlsClientOptions { certificate, ..TlsClientOptions::default() })
    }

    /// Returns the server certificate of a new connection.
    fn shown(&self, tls: &ReloadableTls) -> CertificateDer<'static> {
        let (client, _) = handshake(&self.client(None), tls).unwrap();
        client.peer_certificates().unwrap()[0].clone()
    }
}

/// Performs a handshake in memory.
fn handshake(
    client: &TlsClient,
    tls: &ReloadableTls,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let (mut client, mut server) =
        (client.connection(), ServerConnection::new(tls.config()).unwrap());
    let mut bytes = Vec::new();
    while client.wants_write() || server.wants_write() {
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        read(&bytes, |bytes| server.read_tls(bytes));
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        read(&bytes, |bytes| client.read_tls(bytes));
        client.process_new_packets()?;
    }
    Ok((client, server))
}

fn read(
    mut bytes: &[u8],
    mut reader: impl FnMut(&mut dyn std::io::Read) -> std::io::Result<usize>,
) {
    while !bytes.is_empty() {
        reader(&mut bytes).unwrap();
    }
}

/// Sets the modification time of a file to the past.
fn backdate(path: &Path) {
    fs::File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
}

#[test]
fn tls_reload_of_unchanged_files_does_nothing() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files_with_clients(), Protocols::HTTP1).unwrap();
    let before = tls.config();
    for _ in 0..3 {
        assert_eq!(tls.reload(), Ok(false));
    }
    for (_, file) in tls.files().iter() {
        backdate(file);
    }
    for _ in 0..3 {
        assert_eq!(tls.reload(), Ok(false));
    }
    // Written again with the same content.
    let key = fs::read(fixture.file("tls.key")).unwrap();
    fs::remove_file(fixture.file("tls.key")).unwrap();
    fixture.write("tls.key", key);
    assert_eq!(tls.reload(), Ok(false));
    assert!(std::sync::Arc::ptr_eq(&before, &tls.config()));
}

#[test]
fn tls_reload_applies_to_new_connections_only() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    let first = fixture.shown(&tls);
    let (mut client, mut server) = handshake(&fixture.client(None), &tls).unwrap();
    let issued = fixture.ours.server();
    issued.write(fixture.directory.path());
    assert_eq!(fixture.shown(&tls), first, "nobody has looked");
    assert_eq!(tls.reload(), Ok(true));
    assert_eq!(fixture.shown(&tls), issued.chain[0]);
    assert_eq!(tls.reload(), Ok(false));
    // The old connection continues.
    std::io::Write::write_all(&mut client.writer(), b"hello").unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    read(&bytes, |bytes| server.read_tls(bytes));
    assert_eq!(server.process_new_packets().unwrap().plaintext_bytes_to_read(), 5);
}

#[test]
fn tls_reload_detects_replacement_by_inode() {
    let fixture = TlsDirectory::new();
    for (_, file) in fixture.files().iter() {
        backdate(file);
    }
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    // A file of the same time with another inode, moved into place.
    let issued = fixture.ours.server();
    issued.write(&{
        fs::create_dir(fixture.file("new")).unwrap();
        fixture.file("new")
    });
    for name in ["tls.crt", "tls.key"] {
        backdate(&fixture.file("new").join(name));
        fs::rename(fixture.file("new").join(name), fixture.file(name)).unwrap();
    }
    assert_eq!(tls.reload(), Ok(true));
    assert_eq!(fixture.shown(&tls), issued.chain[0]);
}

#[test]
fn tls_reload_waits_for_the_matching_key() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    let first = fixture.shown(&tls);
    let issued = fixture.ours.server();
    for (name, text, part) in [
        ("tls.crt", issued.pem(), TlsFileKind::Key),
        ("tls.key", String::new(), TlsFileKind::Key),
        ("tls.key", issued.key[..50].into(), TlsFileKind::Key),
    ] {
        fixture.write(name, text);
        for attempt in 0..3 {
            let fault = tls.reload().unwrap_err();
            assert_eq!(
                (fault.part, &*fault.file, fault.is_new()),
                (part, &*fixture.file("tls.key"), attempt == 0),
                "{fault}"
            );
            assert_eq!(fixture.shown(&tls), first);
        }
    }
    fixture.write("tls.key", &issued.key);
    assert_eq!(tls.reload(), Ok(true));
    assert_eq!(fixture.shown(&tls), issued.chain[0]);
    assert_eq!(tls.reload(), Ok(false));
}

#[test]
fn tls_reload_reports_each_fault_once() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    let certificate = fs::read(fixture.file("tls.crt")).unwrap();
    for _ in 0..2 {
        fs::remove_file(fixture.file("tls.crt")).unwrap();
        let fault = tls.reload().unwrap_err();
        assert!(
            fault.is_new()
                && fault.part == TlsFileKind::Certificate
                && fault.reason.contains("No such file"),
            "{fault}"
        );
        assert!(!tls.reload().unwrap_err().is_new());
        fixture.write("tls.crt", &certificate);
        assert_eq!(tls.reload(), Ok(true));
        assert_eq!(tls.reload(), Ok(false));
    }
    // An invalid file that no longer changes is not read again, and stays invalid.
    fixture.write("tls.key", "");
    backdate(&fixture.file("tls.key"));
    backdate(&fixture.file("tls.crt"));
    assert!(tls.reload().unwrap_err().is_new());
    for _ in 0..3 {
        assert!(!tls.reload().unwrap_err().is_new());
    }
}

#[test]
fn tls_reload_follows_kubernetes_symlinks() {
    use std::os::unix::fs::symlink;
    // As in Kubernetes: tls.crt -> ..data/tls.crt, and ..data -> one directory per version.
    let fixture = TlsDirectory::new();
    let issued: Vec<_> = (0..2).map(|_| fixture.ours.server()).collect();
    for (version, issued) in ["..1", "..2"].into_iter().zip(&issued) {
        fs::create_dir(fixture.file(version)).unwrap();
        let (certificate, key) = issued.write(&fixture.file(version));
        backdate(&certificate);
        backdate(&key);
    }
    symlink("..1", fixture.file("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        fs::remove_file(fixture.file(name)).unwrap();
        symlink(Path::new("..data").join(name), fixture.file(name)).unwrap();
    }
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    assert_eq!((tls.reload(), fixture.shown(&tls)), (Ok(false), issued[0].chain[0].clone()));
    symlink("..2", fixture.file("..tmp")).unwrap();
    fs::rename(fixture.file("..tmp"), fixture.file("..data")).unwrap();
    assert_eq!((tls.reload(), fixture.shown(&tls)), (Ok(true), issued[1].chain[0].clone()));
    assert_eq!(tls.reload(), Ok(false));
}

#[test]
fn tls_tickets_survive_reload_within_a_listener() {
    for version in VERSIONS {
        let fixture = TlsDirectory::new();
        let (tls, other) = (
            ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap(),
            ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap(),
        );
        let client = TlsClient::new(
            &fixture.ours,
            &TlsClientOptions { versions: &[version], ..TlsClientOptions::default() },
        );
        let kind =
            |tls: &ReloadableTls| handshake(&client, tls).unwrap().1.handshake_kind().unwrap();
        assert_eq!((kind(&tls), kind(&tls)), (HandshakeKind::Full, HandshakeKind::Resumed));
        fixture.ours.server().write(fixture.directory.path());
        assert_eq!(tls.reload(), Ok(true));
        assert_eq!(kind(&tls), HandshakeKind::Resumed);
        assert_eq!(kind(&other), HandshakeKind::Full, "another listener has other keys");
    }
}

#[test]
fn tls_reload_of_crl_applies_to_new_connections() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files_with_clients(), Protocols::HTTP1).unwrap();
    let issued = fixture.theirs.client("good", 1);
    let client = fixture.client(Some(&issued));
    let (_, server) = handshake(&client, &tls).unwrap();
    assert_eq!(server.peer_certificates().unwrap().first(), Some(&issued.chain[0]));
    fixture.write("clients.crl", fixture.theirs.crl(&[1]));
    assert_eq!(tls.reload(), Ok(true));
    assert!(handshake(&client, &tls).is_err());
    // An empty CRL file must not mean that nothing is revoked.
    fixture.write("clients.crl", "");
    let fault = tls.reload().unwrap_err();
    assert_eq!((fault.part, &*fault.reason), (TlsFileKind::Revoked, "it holds no CRL"));
    assert!(handshake(&client, &tls).is_err());
    fixture.write("clients.crl", fixture.theirs.crl(&[]));
    assert_eq!((tls.reload(), handshake(&client, &tls).is_ok()), (Ok(true), true));
    fixture.write("clients.crt", fixture.ours.pem());
    assert_eq!((tls.reload(), handshake(&client, &tls).is_ok()), (Ok(true), false));
}

#[test]
fn client_without_certificate_has_none() {
    let fixture = TlsDirectory::new();
    let (_, server) = handshake(
        &fixture.client(None),
        &ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap(),
    )
    .unwrap();
    assert_eq!(server.peer_certificates(), None);
}

#[test]
fn tls_warnings_follow_the_files_in_use() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    assert!(tls.warnings().is_empty());
    fixture.ours.server_in(EXPIRED).write(fixture.directory.path());
    assert_eq!(tls.reload(), Ok(true));
    let remarks = tls.warnings();
    assert!(
        remarks.len() == 1 && remarks[0].reason.starts_with("a certificate in it has expired"),
        "{remarks:?}"
    );
}

#[test]
fn tls_debug_output_hides_the_private_key() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    let key = fs::read_to_string(fixture.file("tls.key")).unwrap();
    let shown = format!("{tls:?}");
    assert!(shown.contains("tls.key") && key.lines().all(|line| !shown.contains(line)), "{shown}");
}
