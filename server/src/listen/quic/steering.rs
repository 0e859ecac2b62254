//! Which thread a datagram goes to: that of its connection.
//!
//! The threads' sockets share one address, and by default the kernel chooses among them
//! by the addresses of a datagram. A client whose address changes, as it does behind a
//! NAT, would then reach a thread that does not know it. So the kernel is given a program
//! that chooses by the first two bytes of the destination connection id: those of our own
//! ids name the thread, and those that a client makes up for its first datagrams are the
//! same in all of them.

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

/// The sockets of so many threads at one address, or one socket, if the kernel does not
/// let us choose among more.
///
/// # Errors
/// The address cannot be bound.
pub fn bind_all(address: SocketAddr, threads: u16) -> io::Result<Vec<UdpSocket>> {
    if threads <= 1 {
        return Ok(vec![bind_one(address, false)?]);
    }
    let first = bind_one(address, true)?;
    // Where port 0 came to be.
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(bind_one(address, true)?);
    }
    if let Err(error) = attach_steering(&sockets) {
        tracing::warn!(
            "one thread has all of HTTP/3 at {address}, as the system does not let us choose: {error}"
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

/// Has the kernel choose among sockets that share an address, numbered as they were bound.
fn attach_steering(sockets: &[UdpSocket]) -> io::Result<()> {
    let mut steps = program(u32::try_from(sockets.len()).unwrap_or(u32::MAX));
    let len = u16::try_from(steps.len()).unwrap_or(u16::MAX);
    let program = sock_fprog { len, filter: steps.as_mut_ptr() };
    sockets.first().map_or(Ok(()), |socket| Ok(setsockopt(socket, AttachReusePortCbpf, &program)?))
}

/// Reads the two bytes, and answers with them modulo the number of sockets. A datagram
/// too short for them goes to the first one.
fn program(sockets: u32) -> [sock_filter; 7] {
    /// Of the first byte, in a header of the long form (RFC 9000 section 17.2).
    const IS_LONG: u32 = 0x80;
    /// Where the id begins; in the long form it stands behind the version and its length.
    const SHORT_ID: u32 = 1;
    const LONG_ID: u32 = 6;
    /// What was computed.
    const BPF_A: u32 = 0x10;
    let step = |code: u32, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k,
    };
    [
        step(BPF_LD | BPF_B | BPF_ABS, 0),
        // Two steps on, unless it is long.
        sock_filter { jf: 2, ..step(BPF_JMP | BPF_JSET | BPF_K, IS_LONG) },
        step(BPF_LD | BPF_H | BPF_ABS, LONG_ID),
        // One step on.
        step(BPF_JMP, 1),
        step(BPF_LD | BPF_H | BPF_ABS, SHORT_ID),
        step(BPF_ALU | BPF_MOD | BPF_K, sockets),
        step(BPF_RET | BPF_A, 0),
    ]
}

/// Makes the connection ids of one thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadConnectionIds {
    /// Which of the threads.
    pub(super) thread: u16,
    /// How many there are.
    pub(super) threads: u16,
}

/// Enough for nobody to guess one, and for more connections than there are ports.
const ID_LENGTH: usize = 12;

impl ConnectionIdGenerator for ThreadConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LENGTH];
        // A generator that fails leaves an id that is taken already, and the connection
        // is refused for that.
        let _unlikely = rand::fill(&mut id);
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
    /// The number nearest below `random` that leaves the thread's as its rest.
    fn for_thread(self, random: u16) -> u16 {
        let threads = self.threads.max(1);
        let for_thread = random - random % threads;
        // What is left of the numbers above the last whole round is one round less.
        for_thread.checked_add(self.thread).unwrap_or_else(|| for_thread - threads + self.thread)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_id_names_its_thread_whatever_is_random() {
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
    fn the_kernel_hands_datagrams_to_the_thread_that_their_id_names() {
        let sockets = bind_all("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(sockets.len(), 3, "this system lets us choose");
        for socket in &sockets {
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        let address = sockets[0].local_addr().unwrap();
        let short = |id: [u8; 2]| [&[0x40], &id[..], &[0; 20]].concat();
        let long = |id: [u8; 2]| [&[0xc0, 0, 0, 0, 1, 8], &id[..], &[0; 20]].concat();
        for number in 0..300_u16 {
            // From another port each time.
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
            "what is too short goes to the first"
        );
    }
}
