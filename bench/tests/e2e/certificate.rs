//! A certificate for `localhost`, and TLS configurations of servers that use it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use countersign_bench::e2e::protocol::ProtocolKind;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Returns a directory with a certificate and its key, made on first use.
pub(crate) fn certificate() -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap();
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{}", std::process::id()));
    if !directory.exists() {
        std::fs::create_dir_all(&directory).unwrap();
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost \
                         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
                         -keyout key.pem -out certificate.pem";
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&directory)
            .output();
        assert!(output.expect("openssl is missing: apt-get install openssl").status.success());
    }
    directory
}

/// Returns a server's TLS configuration for this ALPN protocol, with session tickets if `tickets`
/// is set.
pub(crate) fn tls_config(
    certificate: &Path,
    tickets: bool,
    alpn: Option<&str>,
) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate.join("certificate.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificate.join("key.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let versions = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_no_client_auth().with_single_cert(chain, key).unwrap();
    // Stateless tickets: a session store could evict the sessions of a slow client.
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config.alpn_protocols = alpn.into_iter().map(Into::into).collect();
    if !tickets {
        config.send_tls13_tickets = 0;
    }
    Arc::new(config)
}

/// Returns the TLS configuration that HTTP/3 needs; the other protocols run without TLS.
pub(crate) fn tls_for(protocol: ProtocolKind) -> Option<Arc<ServerConfig>> {
    (protocol == ProtocolKind::H3).then(|| tls_config(&certificate(), true, Some("h3")))
}
