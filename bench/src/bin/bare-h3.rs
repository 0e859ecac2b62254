//! Minimal server over quinn and h3, as in their examples: an empty 200 from one task per request,
//! on one thread. Countersign's HTTP/3 is compared with it.
//!
//! Usage: `bare-h3 PORT CERTIFICATE KEY`, both files in PEM.

use std::{error::Error, net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use h3::server::{RequestResolver, builder};
use h3_quinn::Connection;
use http::Response;
use quinn::{Endpoint, Incoming, ServerConfig, crypto::rustls::QuicServerConfig};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [port, certificate, key] = &words[..] else {
        return Err("usage: bare-h3 PORT CERTIFICATE KEY".into());
    };
    let config = config(certificate, key)?;
    let port = port.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, port).into())?;
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(connection(incoming));
        }
        Ok(())
    })
}

fn config(certificate: &str, key: &str) -> Result<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut tls = versions.with_no_client_auth().with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h3".to_vec()];
    Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

async fn connection(incoming: Incoming) -> Result<()> {
    /// The limit of Countersign's own server.
    const MAX_FIELD_SECTION_BYTES: u64 = 32 * 1024;
    let connection = Connection::new(incoming.await?);
    let mut requests =
        builder().max_field_section_size(MAX_FIELD_SECTION_BYTES).build(connection).await?;
    while let Some(request) = requests.accept().await? {
        tokio::spawn(answer(request));
    }
    Ok(())
}

async fn answer(request: RequestResolver<Connection, Bytes>) -> Result<()> {
    let (_, mut stream) = request.resolve_request().await?;
    stream.send_response(Response::new(())).await?;
    Ok(stream.finish().await?)
}
