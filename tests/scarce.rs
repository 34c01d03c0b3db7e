//! Out of descriptors: open connections are served, no loop spins, and waiting clients are accepted when descriptors
//! are free again. This is a program of its own, since the limit applies to the process.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "the test measures time")]

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use uncork::{ExternalServer, Limits, Request, Response, Server, Wait};

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends a request, and turns until the whole response is received.
fn is_served(server: &mut ExternalServer<'_>, client: &mut TcpStream) -> bool {
    client.set_nonblocking(true).expect("set");
    client.write_all(HELLO).expect("sent");
    let (end, mut got) = (Instant::now() + Duration::from_secs(2), Vec::new());
    while Instant::now() < end && !got.ends_with(b"served") {
        let _ = server.wait(Some(Duration::from_millis(20))).expect("turned");
        let mut block = [0; 1024];
        if let Ok(n) = client.read(&mut block) {
            got.extend_from_slice(&block[..n]);
        }
    }
    got.ends_with(b"served")
}

/// Returns how often the loop asks for a turn in `time`, if it is turned as it asks.
fn turns_in(server: &mut ExternalServer<'_>, time: Duration) -> usize {
    let (end, mut turns) = (Instant::now() + time, 0);
    while Instant::now() < end {
        turns += 1;
        let wait = server.wait(Some(time)).expect("turned");
        assert!(turns < 10_000, "it spins: {wait:?}");
    }
    turns
}

/// Sets the number of descriptors that the process may have. The system's own limit may be a million.
fn limit_descriptors(to: u64) {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: `limit` is a live local, which the call only reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn without_descriptors_the_loop_continues_and_does_not_spin() {
    limit_descriptors(200);
    let handler = |_: &mut Request<'_>| Response::text("served");
    let mut server = Server::bind("127.0.0.1:0").expect("bound").external(handler).expect("started");
    let addr = server.local_addr().expect("an address");
    let mut early = TcpStream::connect(addr).expect("connected");
    assert!(is_served(&mut server, &mut early));
    // A second server has a reserve.
    let limits = Limits { reserved_descriptors: 2, ..Limits::default() };
    let mut second = Server::bind("127.0.0.1:0").expect("bound").limits(limits).external(handler).expect("started");
    let of_second = second.local_addr().expect("an address");
    let mut important: Vec<_> = (0..3).map(|_| TcpStream::connect(of_second).expect("queued")).collect();
    // They wait in the system's queue.
    let mut late: Vec<_> = (0..20).map(|_| TcpStream::connect(addr).expect("queued")).collect();
    // All possible descriptors except three. Those of the test harness do not count.
    let mut hoard: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    hoard.truncate(hoard.len() - 3);
    let turns = turns_in(&mut server, Duration::from_millis(500));
    assert!(turns < 100, "{turns} turns in half a second");
    assert!(File::open("/dev/null").is_err(), "three are taken in, and then there is none");
    assert!(is_served(&mut server, &mut early), "an open connection is served");
    let served = late.iter_mut().filter_map(|client| is_served_now(&mut server, client).then_some(())).count();
    assert_eq!(served, 3, "as many as descriptors");
    let served = important.iter_mut().filter_map(|client| is_served_now(&mut second, client).then_some(())).count();
    assert_eq!(served, 2, "those in reserve");
    let turns = turns_in(&mut second, Duration::from_millis(200));
    assert!(turns < 50, "{turns} turns in a fifth of a second");
    // One client disconnects: the next one gets its descriptor. The first server waits, too, but gets none.
    let left = important.remove(0);
    left.shutdown(std::net::Shutdown::Both).expect("closed");
    assert!(is_served(&mut second, &mut important[1]), "its descriptor is free");
    drop(hoard);
    for client in &mut late {
        assert!(is_served(&mut server, client), "a waiting client is accepted");
    }
    assert!(!matches!(server.turn(), Ok(Wait::Now)));
}

/// Returns `true` if a client is served soon: it was accepted already, or not.
fn is_served_now(server: &mut ExternalServer<'_>, client: &mut TcpStream) -> bool {
    client.set_nonblocking(true).expect("set");
    client.write_all(HELLO).expect("sent");
    let mut got = Vec::new();
    for _ in 0..20 {
        let _ = server.wait(Some(Duration::from_millis(2))).expect("turned");
        let mut block = [0; 1024];
        if let Ok(n) = client.read(&mut block) {
            got.extend_from_slice(&block[..n]);
        }
    }
    got.ends_with(b"served")
}
