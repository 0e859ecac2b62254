//! A UDP socket: many datagrams with one system call, both ways.

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

/// A socket on the runtime of its thread.
pub(super) struct QuicSocket {
    io: UdpSocket,
    state: UdpSocketState,
}

/// What the kernel may keep for us while we are busy, if it is allowed to.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The most datagrams that are sent with one call.
const MAX_SEGMENTS: usize = 16;

impl QuicSocket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // It is a wish: the system has a limit of its own.
        let _less = state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER);
        Ok(Self { io: UdpSocket::from_std(socket)?, state })
    }

    /// Whether datagrams may be split on their way, so that their largest size cannot be
    /// found by trying.
    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// The most datagrams that one call sends.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments().min(MAX_SEGMENTS)
    }

    /// Sends, if the kernel has room.
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

    /// Until it has.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }
}

/// A datagram that has come.
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    /// The address of ours that it was sent to.
    pub(super) to: Option<IpAddr>,
    pub(super) congestion: Option<EcnCodepoint>,
    pub(super) bytes: BytesMut,
}

/// Memory to receive into.
pub(super) struct DatagramReceiver {
    memory: Box<[u8]>,
}

/// How many pieces are received with one call, each of as many datagrams as the kernel
/// has put together.
const BATCH_SIZE: usize = 16;
/// The longest piece: no UDP payload is longer.
const BUFFER_SIZE: usize = 64 * 1024;

impl DatagramReceiver {
    pub(super) fn new() -> Self {
        Self { memory: vec![0; BATCH_SIZE * BUFFER_SIZE].into() }
    }

    /// Receives what there is, as far as one call goes.
    pub(super) fn poll(
        &mut self,
        socket: &QuicSocket,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Datagram),
    ) -> Poll<io::Result<()>> {
        let mut about = [RecvMeta::default(); BATCH_SIZE];
        let received = loop {
            ready!(socket.io.poll_recv_ready(cx))?;
            let mut pieces = self.memory.chunks_exact_mut(BUFFER_SIZE);
            let mut pieces: [_; BATCH_SIZE] =
                array::from_fn(|_| IoSliceMut::new(pieces.next().unwrap_or_default()));
            let receive = || socket.state.recv((&socket.io).into(), &mut pieces, &mut about);
            match socket.io.try_io(Interest::READABLE, receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => break received?,
            }
        };
        for (piece, about) in self.memory.chunks_exact(BUFFER_SIZE).zip(&about[..received]) {
            let congestion = about.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
            let mut rest = BytesMut::from(&piece[..about.len]);
            while !rest.is_empty() {
                let bytes = rest.split_to(about.stride.clamp(1, rest.len()));
                take(Datagram { from: about.addr, to: about.dst_ip, congestion, bytes });
            }
        }
        Poll::Ready(Ok(()))
    }
}
