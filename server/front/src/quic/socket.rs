//! A UDP socket that receives and sends many datagrams per system call.

use std::{
    array,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// A UDP socket registered with the worker's runtime.
pub(super) struct QuicSocket {
    io: UdpSocket,
    state: UdpSocketState,
}

/// Requested size of the kernel's receive buffer, which holds datagrams while the worker is busy.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Maximum datagrams per send call.
const MAX_SEGMENTS: usize = 16;

impl QuicSocket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // The system's own limit may be lower.
        let _ignored = state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER);
        Ok(Self { io: UdpSocket::from_std(socket)?, state })
    }

    /// Returns whether datagrams may be fragmented on the path, which rules out path MTU discovery.
    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Returns the number of datagrams that one call may send.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments().min(MAX_SEGMENTS)
    }

    /// Sends a datagram batch, or fails with `WouldBlock`.
    pub(super) fn send(&self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit))
    }

    /// Waits until the socket is writable.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }
}

/// A received datagram.
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    /// The local address it was sent to.
    pub(super) to: Option<IpAddr>,
    pub(super) congestion: Option<EcnCodepoint>,
    pub(super) bytes: BytesMut,
}

/// Buffers for receiving.
pub(super) struct DatagramReceiver {
    memory: Box<[u8]>,
}

/// Buffers per receive call. The kernel may coalesce several datagrams into one buffer (GRO).
const BATCH_SIZE: usize = 16;
/// Size of a buffer: the maximum UDP payload.
const BUFFER_SIZE: usize = 64 * 1024;

impl DatagramReceiver {
    pub(super) fn new() -> Self {
        Self { memory: vec![0; BATCH_SIZE * BUFFER_SIZE].into() }
    }

    /// Receives what one call returns, and passes each datagram to `take`.
    pub(super) fn poll(
        &mut self,
        socket: &QuicSocket,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Datagram),
    ) -> Poll<io::Result<()>> {
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let received = loop {
            ready!(socket.io.poll_recv_ready(cx))?;
            let mut buffers = self.memory.chunks_exact_mut(BUFFER_SIZE);
            let mut buffers: [_; BATCH_SIZE] =
                array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            let receive = || socket.state.recv((&socket.io).into(), &mut buffers, &mut meta);
            match socket.io.try_io(Interest::READABLE, receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => break received?,
            }
        };
        for (buffer, meta) in self.memory.chunks_exact(BUFFER_SIZE).zip(&meta[..received]) {
            let congestion = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
            let mut rest = BytesMut::from(&buffer[..meta.len]);
            while !rest.is_empty() {
                let bytes = rest.split_to(meta.stride.clamp(1, rest.len()));
                take(Datagram { from: meta.addr, to: meta.dst_ip, congestion, bytes });
            }
        }
        Poll::Ready(Ok(()))
    }
}
