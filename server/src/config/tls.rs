//! `ssl_cert_file` and `ssl_key_file`: TLS is on when both are set.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::reader::Reader;

/// Inmanta's text for every way in which certificate and key can be unusable.
const FAILED: &str = "Failed to load ssl certificate. Please check if you provided the correct certificate/key path and make sure \
                      that these files are not encrypted.";

pub(super) fn read(server: &mut Reader<'_>) -> Option<Arc<ServerConfig>> {
    let file = |option| server.text(option).filter(|text| !text.is_empty());
    let (certificate, key) = match (file("ssl_cert_file"), file("ssl_key_file")) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        (Some(_), None) => return missing(server, "ssl_cert_file", "ssl_key_file"),
        (None, Some(_)) => return missing(server, "ssl_key_file", "ssl_cert_file"),
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let loaded = chain.map_err(|error| ("ssl_cert_file", certificate, error.to_string())).and_then(|chain| {
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| ("ssl_key_file", key, error.to_string()))?;
        build(chain, key).map_err(|error| ("ssl_cert_file", certificate, error.to_string()))
    });
    match loaded {
        Ok(config) => Some(Arc::new(config)),
        Err((option, path, reason)) => {
            server.problem(option, FAILED, &format!("{path}: {reason}"));
            None
        }
    }
}

/// Half a TLS configuration would silently serve tokens in plain text.
fn missing(server: &mut Reader<'_>, given: &str, absent: &str) -> Option<Arc<ServerConfig>> {
    server.problem(given, format!("{given} is set but {absent} is not"), "TLS needs both; remove the one to serve without TLS");
    None
}

fn build(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
