//! External mode in an application's own `select` loop: one descriptor, however many connections. (26)
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, AsRawFd, RawFd},
    rc::Rc,
    time::{Duration, Instant},
};

use uncork::{Request, Response, Server, Wait};

/// Sleeps until the descriptor is readable, or until `wait` ends. Returns `true` if it is readable.
fn select(fd: RawFd, wait: Wait, now: Instant) -> bool {
    let fd_in_set = usize::try_from(fd).is_ok_and(|fd| fd < libc::FD_SETSIZE);
    assert!(fd_in_set, "descriptor {fd} is beyond what select can watch");
    let most = wait.timeout(now).unwrap_or(Duration::from_secs(5)).min(Duration::from_secs(5));
    let mut time = libc::timeval { tv_sec: most.as_secs() as _, tv_usec: most.subsec_micros() as _ };
    // SAFETY: an fd_set is plain bits, for which zero is valid.
    let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
    // SAFETY: `fd` is below FD_SETSIZE, and `set` is a live local.
    unsafe { libc::FD_SET(fd, &raw mut set) };
    let none = std::ptr::null_mut();
    // SAFETY: `fd` is open; `set` and `time` are live locals, and the call allows null for the other two sets.
    let count = unsafe { libc::select(fd + 1, &raw mut set, none, none, &raw mut time) };
    assert!(count >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: as above.
    unsafe { libc::FD_ISSET(fd, &raw const set) }
}

/// The handler is neither Send nor 'static, and borrows.
#[test]
fn more_connections_than_select_can_watch() {
    const COUNT: usize = 1100;
    let (served, name) = (Rc::new(Cell::new(0)), String::from("borrowed"));
    let (counted, name) = (served.clone(), name.as_str());
    let mut server = Server::bind("127.0.0.1:0")
        .expect("bound")
        .external(move |_: &mut Request<'_>| {
            counted.set(counted.get() + 1);
            Response::text(name.to_owned())
        })
        .expect("a server");
    assert_eq!(server.as_fd().as_raw_fd(), server.as_raw_fd());
    let addr = server.local_addr().expect("an address");
    let mut clients = Vec::new();
    let mut serve = |until: usize| {
        let mut wait = server.turn().expect("turned");
        for _ in 0..10_000 {
            if served.get() >= until {
                return;
            }
            select(server.as_raw_fd(), wait, now());
            wait = server.turn().expect("turned");
        }
        panic!("only {} of {until}", served.get());
    };
    for n in 0..COUNT {
        let client = match TcpStream::connect(addr) {
            Ok(client) => client,
            // Not enough descriptors for two ends of each: this machine cannot run the test.
            Err(error) if error.kind() != ErrorKind::ConnectionRefused && n < COUNT => return,
            Err(error) => panic!("{error}"),
        };
        clients.push(client);
        clients[n].write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        serve(n + 1);
    }
    // Each of them still works.
    for (n, client) in clients.iter_mut().enumerate().rev().step_by(100) {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        serve(COUNT + 1 + (COUNT - 1 - n) / 100);
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        let mut responses = Vec::new();
        while responses.windows(8).filter(|eight| eight == b"borrowed").count() < 2 {
            let mut block = [0; 4096];
            let n = loop {
                match client.read(&mut block) {
                    // A machine that is paused interrupts a read with a timeout.
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    result => break result.expect("two responses"),
                }
            };
            assert!(n > 0, "{}", responses.escape_ascii());
            responses.extend_from_slice(&block[..n]);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an application's own loop reads the clock")]
fn now() -> Instant {
    Instant::now()
}
