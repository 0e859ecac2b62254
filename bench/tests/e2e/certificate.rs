//! A certificate for `localhost`, and servers that have it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use countersign_bench::e2e::protocol::Way;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// A directory with a certificate and its key.
pub(crate) fn certificate() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap();
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{}", std::process::id()));
    if !directory.exists() {
        std::fs::create_dir_all(&directory).unwrap();
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost \
                         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
                         -keyout key.pem -out certificate.pem";
        let made = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&directory)
            .output();
        assert!(made.expect("openssl is missing: apt-get install openssl").status.success());
    }
    directory
}

/// What a server goes by that speaks this, if it is named, and takes up sessions again.
pub(crate) fn tls_config(
    certificate: &Path,
    remembers: bool,
    alpn: Option<&str>,
) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate.join("certificate.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificate.join("key.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let versions = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_no_client_auth().with_single_cert(chain, key).unwrap();
    // Tickets that hold the session: a store of sessions forgets those of a slow client.
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config.alpn_protocols = alpn.into_iter().map(Into::into).collect();
    if !remembers {
        config.send_tls13_tickets = 0;
    }
    Arc::new(config)
}

/// HTTP/3 has it, the others do without.
pub(crate) fn tls_for(way: Way) -> Option<Arc<ServerConfig>> {
    (way == Way::H3).then(|| tls_config(&certificate(), true, Some("h3")))
}
