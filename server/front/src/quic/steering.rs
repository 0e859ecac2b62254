//! Steers each datagram to the worker of its connection.
//!
//! The sockets of all workers share one address. By default the kernel chooses among them by the
//! datagram's addresses, so a client whose address changes, as behind a NAT, would reach a worker
//! without state for its connection. A BPF program attached to the sockets chooses by the first two
//! bytes of the destination connection ID instead. The IDs that the server issues encode the
//! worker. The ID that a client chooses for its first datagrams is the same in all of them, so they
//! reach the same worker.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use aws_lc_rs::rand;
use nix::{
    libc::{
        BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET,
        sock_filter, sock_fprog,
    },
    sys::socket::{setsockopt, sockopt::AttachReusePortCbpf},
};
use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// Binds one socket per worker to the address. Returns a single socket if the kernel does not
/// support steering.
///
/// # Errors
/// The address cannot be bound.
pub fn bind_all(address: SocketAddr, threads: u16) -> io::Result<Vec<UdpSocket>> {
    if threads <= 1 {
        return Ok(vec![bind_one(address, false)?]);
    }
    let first = bind_one(address, true)?;
    // The actual port, if port 0 was requested.
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(bind_one(address, true)?);
    }
    if let Err(error) = attach_steering(&sockets) {
        tracing::warn!(
            "cannot steer datagrams at {address}, one worker serves all HTTP/3 there: {error}"
        );
        sockets.truncate(1);
    }
    Ok(sockets)
}

fn bind_one(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket =
        socket_with(family, SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if is_shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket.into())
}

/// Attaches the steering program to the sockets. The kernel numbers them in the order in which they
/// were bound.
fn attach_steering(sockets: &[UdpSocket]) -> io::Result<()> {
    let mut instructions = program(u32::try_from(sockets.len()).unwrap_or(u32::MAX));
    let len = u16::try_from(instructions.len()).unwrap_or(u16::MAX);
    let program = sock_fprog { len, filter: instructions.as_mut_ptr() };
    sockets.first().map_or(Ok(()), |socket| Ok(setsockopt(socket, AttachReusePortCbpf, &program)?))
}

/// Returns the BPF program. It loads two bytes of the connection ID and returns them modulo the
/// number of sockets. A datagram that is too short goes to the first socket.
fn program(sockets: u32) -> [sock_filter; 7] {
    /// Header form bit of the first byte (RFC 9000 section 17.2).
    const IS_LONG: u32 = 0x80;
    /// Offset of the connection ID. In long headers, it follows the version and its own length.
    const SHORT_ID: u32 = 1;
    const LONG_ID: u32 = 6;
    /// Returns the accumulator.
    const BPF_A: u32 = 0x10;
    let instruction = |code: u32, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k,
    };
    [
        instruction(BPF_LD | BPF_B | BPF_ABS, 0),
        // Skips two instructions for a short header.
        sock_filter { jf: 2, ..instruction(BPF_JMP | BPF_JSET | BPF_K, IS_LONG) },
        instruction(BPF_LD | BPF_H | BPF_ABS, LONG_ID),
        // Skips one instruction.
        instruction(BPF_JMP, 1),
        instruction(BPF_LD | BPF_H | BPF_ABS, SHORT_ID),
        instruction(BPF_ALU | BPF_MOD | BPF_K, sockets),
        instruction(BPF_RET | BPF_A, 0),
    ]
}

/// Generates connection IDs that encode a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadConnectionIds {
    /// Index of the worker.
    pub(super) thread: u16,
    /// Number of workers that share the address.
    pub(super) threads: u16,
}

/// Length of connection IDs: too long to guess, and with more values than there are ports.
const ID_LENGTH: usize = 12;

impl ConnectionIdGenerator for ThreadConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LENGTH];
        // A failed generator leaves a constant ID. quinn refuses the connection when that is in
        // use.
        let _ignored = rand::fill(&mut id);
        let [first, second, ..] = id;
        [id[0], id[1]] = self.for_thread(u16::from_be_bytes([first, second])).to_be_bytes();
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl ThreadConnectionIds {
    /// Returns the largest number up to `random` with the residue of this worker.
    fn for_thread(self, random: u16) -> u16 {
        let threads = self.threads.max(1);
        let id = random - random % threads;
        // In the last, incomplete round, the number may overflow; one round less does not.
        id.checked_add(self.thread).unwrap_or_else(|| id - threads + self.thread)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn connection_id_encodes_its_worker() {
        for threads in [1, 2, 3, 7, 1024] {
            for thread in [0, threads / 2, threads - 1] {
                for random in (0..=u16::MAX).step_by(13).chain([u16::MAX]) {
                    assert_eq!(
                        ThreadConnectionIds { thread, threads }.for_thread(random) % threads,
                        thread
                    );
                }
            }
        }
        let mut ids = ThreadConnectionIds { thread: 2, threads: 3 };
        let [one, other] = [ids.generate_cid(), ids.generate_cid()];
        assert_ne!(one, other);
        assert_eq!(u16::from_be_bytes([one[0], one[1]]) % 3, 2);
    }

    #[test]
    fn kernel_steers_datagrams_by_connection_id() {
        let sockets = bind_all("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(sockets.len(), 3, "this system supports steering");
        for socket in &sockets {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        let address = sockets[0].local_addr().unwrap();
        let short = |id: [u8; 2]| [&[0x40], &id[..], &[0; 20]].concat();
        let long = |id: [u8; 2]| [&[0xc0, 0, 0, 0, 1, 8], &id[..], &[0; 20]].concat();
        for number in 0..300_u16 {
            // A different client port each time.
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            let id = (number * 211).to_be_bytes();
            for datagram in [short(id), long(id)] {
                client.send_to(&datagram, address).unwrap();
                let mut read = [0; 64];
                let socket = &sockets[usize::from(u16::from_be_bytes(id) % 3)];
                let (length, from) = socket.recv_from(&mut read).unwrap();
                assert_eq!((&read[..length], from), (&datagram[..], client.local_addr().unwrap()));
            }
        }
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[0x40], address).unwrap();
        assert_eq!(
            sockets[0].recv(&mut [0; 64]).unwrap(),
            1,
            "a datagram that is too short goes to the first socket"
        );
    }
}
