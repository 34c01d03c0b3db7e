//! The cost of a wake-up, and its target: one connection among thousands is found without a look at the others.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "the test measures time")]

use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use uncork::{EventMask, ExternalServer, Io, Limits, Request, Server, Switch, Waker};

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: sleepy\r\n\r\n";

/// A server of upgrades that only wait for wake-ups, and count them.
struct Sleepers {
    server: ExternalServer<'static>,
    clients: Vec<TcpStream>,
    wakers: Vec<Waker>,
}

thread_local! {
    /// Upgrades are `Send`; these report to their own thread.
    static FOUND: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    static CALLED: Cell<usize> = const { Cell::new(0) };
}

impl Sleepers {
    fn new() -> Self {
        let limits = Limits { connections: 100_000, connections_per_address: 100_000, ..Limits::default() };
        let server = Server::bind("127.0.0.1:0").expect("bound").limits(limits);
        let server = server.external(|_: &mut Request<'_>| {
            Switch::to("sleepy", |io: &mut Io<'_>| {
                match io.events().is_woken() {
                    true => CALLED.set(CALLED.get() + 1),
                    false => FOUND.with_borrow_mut(|found| found.push(io.waker())),
                }
                EventMask::EXTERNAL
            })
        });
        Self { server: server.expect("started"), clients: Vec::new(), wakers: Vec::new() }
    }

    /// Opens connections. Returns `false` if the machine does not have enough descriptors.
    fn grow_to(&mut self, count: usize) -> bool {
        let addr = self.server.local_addr().expect("an address");
        while self.clients.len() < count {
            let Ok(mut client) = TcpStream::connect(addr) else { return false };
            client.write_all(UPGRADE).expect("sent");
            self.clients.push(client);
            let end = Instant::now() + Duration::from_secs(10);
            while FOUND.with_borrow(Vec::len) == 0 {
                assert!(Instant::now() < end, "connection {} is not upgraded", self.clients.len());
                let _ = self.server.wait(Some(Duration::from_millis(100))).expect("turned");
            }
            self.wakers.append(&mut FOUND.take());
        }
        true
    }

    fn calls(&mut self) -> usize {
        let _ = self.server.turn().expect("turned");
        CALLED.take()
    }

    /// Returns the shortest time for a thousand wake-ups of one connection, each with its turn.
    fn cost(&mut self) -> Duration {
        let waker = self.wakers[0].clone();
        let once = |sleepers: &mut Self| {
            let start = Instant::now();
            for _ in 0..1000 {
                waker.wake();
                assert_eq!(sleepers.calls(), 1, "one is woken, one is called");
            }
            start.elapsed()
        };
        (0..7).map(|_| once(self)).min().unwrap_or_default()
    }
}

/// Pitfall 14. A walk over all connections would cost two hundred times as much, not a fraction more.
#[test]
fn a_wake_costs_the_same_among_thousands() {
    more_descriptors();
    let mut sleepers = Sleepers::new();
    assert!(sleepers.grow_to(20));
    let few = sleepers.cost();
    if !sleepers.grow_to(4000) && sleepers.clients.len() < 400 {
        eprintln!("not tested: only {} connections could be made", sleepers.clients.len());
        return;
    }
    let many = sleepers.cost();
    assert!(many < few * 5 + Duration::from_millis(2), "{few:?} among 20, {many:?} among {}", sleepers.clients.len());
}

/// Upgrades that wait for EXTERNAL are called once each; from then on only the one that was woken.
#[test]
fn wake_all_calls_each_upgrade_once() {
    let mut sleepers = Sleepers::new();
    assert!(sleepers.grow_to(30));
    assert_eq!(sleepers.calls(), 0);
    sleepers.server.wake_all();
    assert_eq!(sleepers.calls(), 30);
    assert_eq!(sleepers.calls(), 0);
    sleepers.wakers[7].wake();
    sleepers.server.wake_all();
    assert_eq!(sleepers.calls(), 30, "woken twice at once is called once");
    let mut head = [0; 12];
    sleepers.clients[3].read_exact(&mut head).expect("a response");
    assert_eq!(&head, b"HTTP/1.1 101");
}

/// Sets the limit to the maximum that the system allows this process.
fn more_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live local, which the call fills.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max.min(20_000);
    // SAFETY: `limit` is a live local, which the call only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}
