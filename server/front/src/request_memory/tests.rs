use super::{MemoryPurpose::*, *};

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
const LIMITS: MemoryLimits = MemoryLimits { process: 100, source: 50, connection: 20 };

fn connection(memory: &RequestMemory, source: Option<IpAddr>) -> Rc<ConnectionMemory<'_>> {
    Rc::new(ConnectionMemory::of_source(memory, source))
}

#[test]
fn shares_of_connections_and_sources_are_bounded() {
    let memory = RequestMemory::new(LIMITS);
    let connections = [(); 3].map(|()| connection(&memory, Some(ONE)));
    let mut held: Vec<_> =
        connections[..2].iter().map(|one| one.hold(IncompleteBody, 20).unwrap()).collect();
    assert_eq!(connections[0].hold(IncompleteBody, 1).err(), Some(MemoryExceeded::Connection));
    assert_eq!(connections[2].hold(IncompleteBody, 11).err(), Some(MemoryExceeded::Source));
    held.push(connections[2].hold(IncompleteBody, 10).unwrap());
    assert!(connection(&memory, Some(OTHER)).hold(IncompleteBody, 20).is_ok());
    assert_eq!(memory.held(), 50);
    drop(held);
    assert_eq!((memory.held(), memory.sources.len()), (0, 0));
}

#[test]
fn bodies_leave_a_share_to_other_purposes() {
    let memory = RequestMemory::new(LIMITS);
    let client = connection(&memory, Some(ONE));
    let _body = client.hold(IncompleteBody, 20).unwrap();
    let mut input = client.hold_nothing(Other);
    assert_eq!(input.resize(20), Ok(()));
    assert_eq!(input.resize(21), Err(MemoryExceeded::Connection));
}

#[test]
fn one_response_may_exceed_the_share() {
    let memory = RequestMemory::new(MemoryLimits { process: 10_000, ..LIMITS });
    let client = connection(&memory, Some(ONE));
    let _long = client.hold(Response, 1000).unwrap();
    assert_eq!(client.hold(Response, 1).err(), Some(MemoryExceeded::Connection));
    assert!(connection(&memory, Some(OTHER)).hold(Response, 1000).is_ok());
}

#[test]
fn exempt_peers_have_the_bound_of_the_process() {
    let memory = RequestMemory::new(LIMITS);
    let exempt = connection(&memory, None);
    assert_eq!(exempt.hold(IncompleteBody, 89).err(), Some(MemoryExceeded::Process));
    let mut held = exempt.hold(Other, 99).unwrap();
    assert_eq!(held.grow(2), Err(MemoryExceeded::Process));
    let other = connection(&memory, Some(ONE));
    assert_eq!(other.hold(IncompleteBody, 2).err(), Some(MemoryExceeded::Process));
    assert_eq!((memory.held(), memory.sources.len()), (99, 0));
    held.resize(1).unwrap();
    assert!(other.hold(IncompleteBody, 20).is_ok());
    assert_eq!(memory.held(), 1);
}

#[test]
fn repeated_excesses_of_a_client_are_abuse() {
    let memory = RequestMemory::new(LIMITS);
    let client = connection(&memory, Some(ONE));
    for _ in 0..2 * MAX_EXCESSES {
        assert!(client.hold(IncompleteBody, 21).is_err());
        client.record_complete_body();
    }
    assert!(!client.is_abused());
    for _ in 0..MAX_EXCESSES / EXCESSES_PER_SLOW_BODY {
        assert!(!client.is_abused());
        client.record_slow_body();
    }
    assert!(client.is_abused());
    let exempt = connection(&memory, None);
    (0..MAX_EXCESSES).for_each(|_| exempt.record_slow_body());
    assert!(!exempt.is_abused());
}

#[test]
fn body_that_cannot_be_kept_does_not_change() {
    let memory = RequestMemory::new(LIMITS);
    let mut held = connection(&memory, Some(ONE)).hold(IncompleteBody, 5).unwrap();
    let mut body = Vec::new();
    for piece in [&b"abcd"[..], b"efgh"] {
        append(&mut body, piece, 100, &mut held).unwrap();
    }
    assert_eq!((memory.held(), body.capacity()), (13, 8));
    assert_eq!(append(&mut body, b"i", 100, &mut held), Err(MemoryExceeded::Connection));
    assert_eq!((memory.held(), &body[..]), (13, &b"abcdefgh"[..]));
}
