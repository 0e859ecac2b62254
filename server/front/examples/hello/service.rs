//! A service that greets every client, over HTTP/1.1 and HTTP/2 by prior knowledge.

use std::{convert::Infallible, io, rc::Rc, sync::Arc};

use countersign_front::{
    BadRequest, ConnectionCounts, IncomingRequest, ListenAddress, Peer, Protocols, Reply,
    RequestHead, RequestLimits, ResponseWriter, Service, Step, Timeouts, WorkerContext, WorkerPool,
    accept::{Acceptor, SocketPermissions},
    worker_pool::runtime,
};
use http::{Response, Version};
use tokio::task::{LocalSet, spawn_local};

/// Greets every client.
pub(crate) struct Hello;

impl Service for Hello {
    type Settings = ();
    type Route = ();
    type Pending<'c> = Infallible;

    fn settings(&self) {}

    fn route(&self, (): &(), _listener: usize, _target: &str) {}

    fn reads_body<H: RequestHead>(_request: &IncomingRequest<'_, '_, Self, H>) -> bool {
        false
    }

    fn respond<'c, H: RequestHead>(
        request: &IncomingRequest<'_, 'c, Self, H>,
        writer: &mut impl ResponseWriter,
    ) -> Result<Step<(), Infallible>, BadRequest> {
        let greeting = format!("hello, {}\n", request.connection.peer.address);
        writer.reply(&Response::new(greeting.into()).into());
        Ok(Step::Done(()))
    }

    fn reject(&self, _peer: Peer<'_>, _version: Version, reason: &BadRequest) -> Reply {
        let mut response = Response::new(reason.detail.clone().into_owned().into());
        *response.status_mut() = reason.status;
        response.into()
    }

    fn protocols(&self, _listener: usize) -> Protocols {
        Protocols { http2: true, ..Protocols::HTTP1 }
    }
}

/// Serves at an address until the process ends. Calls `listening` with the bound address.
pub(crate) fn serve(
    address: &ListenAddress,
    listening: impl FnOnce(&ListenAddress),
) -> io::Result<()> {
    LocalSet::new().block_on(&runtime()?, async {
        let acceptor = Acceptor::bind(address, SocketPermissions::default(), "the address")?;
        listening(acceptor.address());
        let worker =
            Rc::new(WorkerContext::new(Hello, 0, Timeouts::default(), RequestLimits::default()));
        let counts = Arc::new(ConnectionCounts::new(2));
        let pool = Rc::new(WorkerPool::start(worker, 2, counts, |_index| Hello)?);
        let sweeper = Rc::clone(&pool);
        spawn_local(async move { sweeper.sweep().await });
        acceptor.accept(move |accepted| pool.serve(0, accepted)).await;
        Ok(())
    })
}
