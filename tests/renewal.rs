//! New TLS files for a listener that goes on: taken up together or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_server::{
    config::{ClientAuthorities, ClientCertificates, Protocols, TlsFileKind, TlsFiles},
    listen::tls::{ReloadableTls, client_certificate},
};
use countersign_tests::{
    certificates::{Authority, IssuedCertificate, EXPIRED},
    tls::{TlsClient, VERSIONS, TlsClientOptions},
};
use rustls::{ClientConnection, Error, HandshakeKind, ServerConnection, pki_types::CertificateDer};
use tempfile::TempDir;

/// A directory with files in use.
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

    /// The certificate that a new client is shown.
    fn shown(&self, tls: &ReloadableTls) -> CertificateDer<'static> {
        let (client, _) = handshake(&self.client(None), tls).unwrap();
        client.peer_certificates().unwrap()[0].clone()
    }
}

/// A whole handshake, in memory.
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

/// As if the file had been written long ago.
fn backdate(path: &Path) {
    fs::File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
}

#[test]
fn files_that_are_the_same_change_nothing() {
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
    // Written again, as it was.
    let key = fs::read(fixture.file("tls.key")).unwrap();
    fs::remove_file(fixture.file("tls.key")).unwrap();
    fixture.write("tls.key", key);
    assert_eq!(tls.reload(), Ok(false));
    assert!(std::sync::Arc::ptr_eq(&before, &tls.config()));
}

#[test]
fn a_new_certificate_is_for_the_next_connection() {
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
    // The old connection goes on.
    std::io::Write::write_all(&mut client.writer(), b"hello").unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    read(&bytes, |bytes| server.read_tls(bytes));
    assert_eq!(server.process_new_packets().unwrap().plaintext_bytes_to_read(), 5);
}

#[test]
fn a_change_is_seen_even_if_length_and_times_are_the_same() {
    let fixture = TlsDirectory::new();
    for (_, file) in fixture.files().iter() {
        backdate(file);
    }
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    // A file with another inode, moved into place.
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
fn a_certificate_that_waits_for_its_key_waits() {
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
        for look in 0..3 {
            let fault = tls.reload().unwrap_err();
            assert_eq!(
                (fault.part, &*fault.file, fault.is_new()),
                (part, &*fixture.file("tls.key"), look == 0),
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
fn what_was_wrong_is_news_again_when_it_comes_back() {
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
    // What is wrong and settled is not read again, and still wrong.
    fixture.write("tls.key", "");
    backdate(&fixture.file("tls.key"));
    backdate(&fixture.file("tls.crt"));
    assert!(tls.reload().unwrap_err().is_new());
    for _ in 0..3 {
        assert!(!tls.reload().unwrap_err().is_new());
    }
}

#[test]
fn a_link_that_is_swapped_is_noticed() {
    use std::os::unix::fs::symlink;
    // As Kubernetes does it: tls.crt -> ..data/tls.crt, and ..data -> a directory a version.
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
fn tickets_outlive_a_certificate_and_are_of_one_listener() {
    for version in VERSIONS {
        let fixture = TlsDirectory::new();
        let (tls, other) = (
            ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap(),
            ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap(),
        );
        let client =
            TlsClient::new(&fixture.ours, &TlsClientOptions { versions: &[version], ..TlsClientOptions::default() });
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
fn a_new_list_revokes_for_the_next_connection() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files_with_clients(), Protocols::HTTP1).unwrap();
    let issued = fixture.theirs.client("good", 1);
    let client = fixture.client(Some(&issued));
    let (_, server) = handshake(&client, &tls).unwrap();
    assert_eq!(client_certificate(&server), Some(&issued.chain[0]));
    fixture.write("clients.crl", fixture.theirs.crl(&[1]));
    assert_eq!(tls.reload(), Ok(true));
    assert!(handshake(&client, &tls).is_err());
    // No list is no reason to believe that nothing is revoked.
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
fn a_client_without_a_certificate_has_none() {
    let fixture = TlsDirectory::new();
    let (_, server) = handshake(
        &fixture.client(None),
        &ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap(),
    )
    .unwrap();
    assert_eq!(client_certificate(&server), None);
}

#[test]
fn remarks_are_about_the_files_in_use() {
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
fn no_secret_is_shown() {
    let fixture = TlsDirectory::new();
    let tls = ReloadableTls::load(fixture.files(), Protocols::HTTP1).unwrap();
    let key = fs::read_to_string(fixture.file("tls.key")).unwrap();
    let shown = format!("{tls:?}");
    assert!(shown.contains("tls.key") && key.lines().all(|line| !shown.contains(line)), "{shown}");
}
