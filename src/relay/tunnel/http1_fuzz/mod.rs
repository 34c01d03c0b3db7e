//! What must hold for any input in HTTP/1.1 on a tunnel's connection, at the proxy (P) and at the origin server (C).
//!
//! ```text
//!   f s acts, each a byte and what it needs (`acts`)
//!   │ └ size of the pieces, and the seed of their lengths
//!   └ mode   0  clients ══▶ P ◀══ anything that an origin server may send
//!            1              C ◀══ anything that a proxy may send              C ══▶ application
//!            2  clients ══▶ P ◀══ wire, may be cut ══▶ C ══▶ application
//!            3  the same, and everything goes well: then all must arrive
//! ```
//! P and C are those of the product, on one loop, with pipes in place of sockets. The time is an argument: the target
//! moves the clock. What was sent and received is read again in one piece when all of it is there (`reference`), and
//! compared (`checks`):
//!
//! - A message that was cut, or is malformed, never looks complete to its receiver; a complete one has the same bytes.
//! - Nothing is sent behind a fault, and no request is sent twice.
//! - Each client gets a response or an end, each request of the application ends once, and nothing is left.
//! - A receiver that does not read stops its sender: memory is bounded.
//! - The loop does not spin.

mod acts;
mod application;
mod checks;
mod client;
mod end;
mod reference;
mod script;
mod templates;

use std::{net::Ipv4Addr, time::Duration};

use uncork::{Action, Handler, LoopHandle, Moment, PeerAddr, Request, Switch};

use self::{application::Application, client::Client, end::OtherEnd, reference::End, script::Script};
use super::{Credential, Proxy, ProxyConfig, Trusted, origin::Http1Served};

/// The indices of the listeners.
const PUBLIC: usize = 0;
const ORIGIN_SERVERS: usize = 1;
const SERVED: usize = 2;
const APPLICATION: usize = 3;

/// The SHA-256 of `test`.
const TOKEN: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const HANDSHAKE: &[u8] =
    b"GET /tunnel HTTP/1.1\r\nHost: p\r\nConnection: upgrade\r\nUpgrade: ptth\r\nALPN: http%2F1.1\r\n\
    Authorization: Bearer test\r\n\r\n";
const BEGIN: &[u8] = b"GET / HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: ptth\r\n\r\n";

/// Acts of one run.
const ACTS: usize = 200;

/// A loop whose time is an argument. A call does what can be done at that time. It returns whether more is left for
/// that time, and whether there is no connection.
pub(crate) type Turn = Box<dyn FnMut(Moment) -> (bool, bool)>;

/// Does what `data` says, and checks what must hold. `now`: any time. `start`: starts a loop with this handler.
///
/// # Panics
/// If something does not hold.
pub(crate) fn fuzz(data: &[u8], now: Moment, start: impl FnOnce(Box<dyn Handler>) -> (LoopHandle, Turn)) {
    let [mode, seed, acts @ ..] = data else { return };
    let Some(proxy) = proxy() else { return };
    let application = Application::default();
    let (on, turn) = start(Box::new(Sides { proxy: proxy.clone(), application: application.clone() }));
    let mode = match mode & 3 {
        0 => Mode::Proxy,
        1 => Mode::Origin,
        2 => Mode::Pair,
        _ => Mode::Fair,
    };
    let mut world = World {
        on,
        turn,
        vacant: true,
        now,
        passed: Duration::ZERO,
        mode,
        random: Random(u32::from(*seed)),
        pieces: 1 << (seed & 15),
        proxy,
        application,
        clients: Vec::new(),
        origins: Vec::new(),
        served: Vec::new(),
        relayed: Vec::new(),
        paused: [false; 2],
        cut: false,
        floods: 0,
    };
    world.run(Script::new(acts));
}

fn proxy() -> Option<Proxy> {
    let credential = Credential::token("app", TOKEN).ok()?.host("app.example").ok()?;
    let config =
        ProxyConfig { credentials: vec![credential], trusted: Trusted::peers(|_| true), ..ProxyConfig::default() };
    Proxy::new(config).ok()
}

/// A pseudo-random generator.
struct Random(u32);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % n.max(1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Proxy,
    Origin,
    Pair,
    Fair,
}

/// All listeners of the loop.
struct Sides {
    proxy: Proxy,
    application: Application,
}

impl Handler for Sides {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        match req.listener_index() {
            PUBLIC => self.proxy.handle_behind(req, false),
            ORIGIN_SERVERS => self.proxy.accept_origin_server(req),
            SERVED => {
                let served = Http1Served::new(req.loop_handle(), APPLICATION, *req.peer(), req.now().mono);
                Switch::to("ptth", served).into()
            }
            _ => self.application.request(req),
        }
    }
}

/// The loop, all its connections, and the time.
struct World {
    on: LoopHandle,
    turn: Turn,
    /// The loop has no connection.
    vacant: bool,
    now: Moment,
    passed: Duration,
    mode: Mode,
    random: Random,
    /// Largest size of a piece.
    pieces: usize,
    proxy: Proxy,
    application: Application,
    clients: Vec<Client>,
    /// The other ends of P's connections, and of C's: with a wire, those with the same index are connected.
    origins: Vec<OtherEnd>,
    served: Vec<OtherEnd>,
    /// Bytes that each wire has moved, to C and to P.
    relayed: Vec<[usize; 2]>,
    /// The wires do not move bytes to C, or to P.
    paused: [bool; 2],
    /// A wire was cut.
    cut: bool,
    /// How often much was sent.
    floods: usize,
}

impl World {
    fn run(&mut self, mut script: Script<'_>) {
        self.connect();
        for _ in 0..ACTS {
            let Some(act) = script.next() else { break };
            self.act(act, &mut script);
            self.turn();
        }
        self.end();
    }

    fn peer(n: usize) -> PeerAddr {
        PeerAddr::tcp((Ipv4Addr::new(192, 0, 2, n as u8), 1).into())
    }

    /// Opens a connection of an origin server, of a proxy, or of both to each other.
    fn connect(&mut self) {
        if self.mode != Mode::Origin {
            let end = self.begun(ORIGIN_SERVERS, HANDSHAKE);
            self.origins.push(end);
        }
        if self.mode != Mode::Proxy {
            let end = self.begun(SERVED, BEGIN);
            self.served.push(end);
        }
        self.relayed.push([0; 2]);
    }

    /// Opens a connection whose protocol begins behind a head in each direction.
    fn begun(&mut self, listener: usize, request: &[u8]) -> OtherEnd {
        let mut end = OtherEnd::connect(&self.on, Self::peer(200), listener);
        end.send(request);
        for _ in 0..1000 {
            let again;
            (again, self.vacant) = (self.turn)(self.now);
            if !end.step(&mut self.random, 1000) && !again {
                break;
            }
        }
        let head = end.received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let Some(head) = head.filter(|_| end.received.starts_with(b"HTTP/1.1 101 ")) else { panic!("no connection") };
        // A request that waits is sent at once.
        end.received.drain(..head + 4);
        end.sent.clear();
        end
    }

    fn pass(&mut self, time: Duration) {
        self.passed += time;
        self.now.mono += time;
        self.now.wall += time;
        self.turn();
    }

    /// Lets everything move until it waits.
    fn turn(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 50_000, "the loop spins");
            let again;
            (again, self.vacant) = (self.turn)(self.now);
            let ends =
                self.clients.iter_mut().map(|client| &mut client.end).chain(&mut self.origins).chain(&mut self.served);
            let mut moved = false;
            for end in ends {
                moved |= end.step(&mut self.random, self.pieces);
            }
            if !self.origins.is_empty() && !self.served.is_empty() {
                moved |= self.relay();
            }
            if !moved && !again {
                break;
            }
        }
    }

    /// Moves what one end of a wire has received to the other. Returns `true` if anything was moved.
    fn relay(&mut self) -> bool {
        let mut moved = false;
        for (at, (origin, served)) in self.relayed.iter_mut().zip(self.origins.iter_mut().zip(&mut self.served)) {
            if !self.paused[0] {
                moved |= relay(&mut at[0], origin, served);
            }
            if !self.paused[1] {
                moved |= relay(&mut at[1], served, origin);
            }
        }
        moved
    }

    /// Ends all clients, then all connections; nothing may be left.
    fn end(&mut self) {
        self.paused = [false; 2];
        let clients = self.clients.iter_mut().map(|client| &mut client.end);
        clients.chain(&mut self.origins).chain(&mut self.served).for_each(|end| end.reads = true);
        if self.mode == Mode::Fair {
            self.clients.iter_mut().for_each(|client| client.complete(true));
        }
        self.turn();
        self.check_arrived();
        self.check();
        for _ in 0..6 {
            self.pass(Duration::from_secs(40));
        }
        self.application.drop_tickets();
        self.turn();
        self.check();
        for client in &mut self.clients {
            client.end.cut();
            // What was upgraded goes on after a half-close. Such a client can only close the rest.
            if client.end.sent_end == End::Finished {
                client.end.disconnect();
            }
        }
        self.turn();
        assert_eq!(self.proxy.counts().active, 0, "a request of a client does not end");
        for end in self.origins.iter_mut().chain(&mut self.served) {
            end.finish();
        }
        for _ in 0..6 {
            self.pass(Duration::from_secs(40));
        }
        self.check();
        // Nothing more arrives, so nothing goes on; unless the end cannot arrive, since what is before it is not read.
        if self.floods == 0 && !self.origins.iter().chain(&self.served).any(OtherEnd::has_unread) {
            assert_eq!(self.application.open(), 0, "a request without its proxy does not end");
        }
        for end in self.origins.iter_mut().chain(&mut self.served) {
            end.cut();
            end.disconnect();
        }
        self.clients.iter_mut().for_each(|client| client.end.disconnect());
        for _ in 0..6 {
            self.pass(Duration::from_secs(40));
        }
        assert!(self.vacant, "a connection does not end");
        assert_eq!(self.proxy.connections().len(), 0, "an origin server is left");
        assert_eq!(self.application.open(), 0, "a request of the application does not end");
    }
}

/// Moves bytes, and the end.
fn relay(at: &mut usize, from: &OtherEnd, to: &mut OtherEnd) -> bool {
    // The wire holds little.
    if to.has_unsent() || to.sent_end != End::Open {
        return false;
    }
    let bytes = &from.received[*at..];
    let n = bytes.len().min(8000);
    to.send(&bytes[..n]);
    *at += n;
    match from.received_end() {
        End::Finished if n == 0 => to.finish(),
        End::Truncated => to.cut(),
        _ => {}
    }
    n > 0 || to.sent_end != End::Open
}
