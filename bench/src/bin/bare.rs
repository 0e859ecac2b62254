//! Minimal hyper server: an empty 200, on one thread. Countersign's HTTP/1.1 front is compared with
//! it.
//!
//! Usage: `bare [PORT]`. Without a port it takes a free one. It prints its address.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::LocalSet};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await?;
        #[expect(clippy::print_stdout, reason = "the driver reads the address")]
        {
            println!("{}", listener.local_addr()?);
        }
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let service = service_fn(|_| async {
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                });
                Builder::new()
                    .max_buf_size(32 * 1024)
                    .writev(false)
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    })
}
