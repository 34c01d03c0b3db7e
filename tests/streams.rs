//! Many streams at once, through pipes: each gets its share, a receiver that does not read stops its sender, and
//! memory stays flat. The test measures the memory of the process, so it is a program of its own.
//!
//! There are a few dozen by default. Manually, as many as the system has descriptors for:
//! `UNCORK_STREAMS=500 cargo test --release --test streams -- --nocapture --test-threads 1`.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests wait for the server's threads")]

use std::{
    collections::HashMap,
    env, fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use socket2::SockRef;
use uncork::{
    Action, Limits, Listen, Request, Response, Running, Server, Ticket, Tls, pipe, pipe_memory, set_pipe_memory_limit,
};

/// The size of a relay's pipe by default.
const ROOM: usize = 256 * 1024;
/// The memory that one stream may take in any state.
const PER_STREAM: usize = 512 * 1024;
/// The default limit of all pipes together.
const MUCH: usize = 256 << 20;
/// Fewer than the pipes of all streams can hold, and the minimum of each beyond that.
const LITTLE: usize = 1 << 20;
const SMALL_BLOCK: usize = 32 * 1024;
/// At most this much is taken from one sender, or given to one receiver, before the others have their turn.
const PIECE: usize = 64 * 1024;
/// The average of each receiver while the shares are measured. It takes a few hundred milliseconds: in a shorter time the
/// scheduler of the system decides which of the server's threads gets more done.
const SHARE: usize = 12 << 20;
const LENGTH: u64 = 1 << 40;
const TIMEOUT: Duration = Duration::from_secs(120);

/// Allows one test at a time, because they measure.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn streams() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    env::var("UNCORK_STREAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(32)
}

/// Returns the anonymous memory of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux 4.5");
    1024 * line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok()).expect("a number")
}

/// Returns the body of stream `n`, from `at` on. Each stream has a different one.
fn body(n: usize, at: u64) -> &'static [u8] {
    static PATTERN: [u8; 2 * PIECE] = {
        let (mut pattern, mut i) = ([0; 2 * PIECE], 0);
        while i < pattern.len() {
            pattern[i] = (i % 251) as u8;
            i += 1;
        }
        pattern
    };
    let from = ((at + n as u64) % 251) as usize;
    &PATTERN[from..from + PIECE]
}

/// One end of a stream, which never blocks.
struct Peer {
    tcp: TcpStream,
    tls: Option<ClientConnection>,
    moved: u64,
}

impl Peer {
    fn connect(server: &Running, client: Option<&Arc<ClientConfig>>, head: &str) -> Self {
        let mut tcp = TcpStream::connect(server.local_addr().expect("an address")).expect("connected");
        let mut tls = client.map(|config| {
            let name = "localhost".try_into().expect("a name");
            let mut conn = ClientConnection::new(config.clone(), name).expect("a client");
            // Its memory is in this process, too.
            conn.set_buffer_limit(Some(16 * 1024));
            conn
        });
        match &mut tls {
            Some(conn) => Stream::new(conn, &mut tcp).write_all(head.as_bytes()),
            None => tcp.write_all(head.as_bytes()),
        }
        .expect("sent");
        tcp.set_nonblocking(true).expect("set");
        Self { tcp, tls, moved: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        would_block(match &mut self.tls {
            // The connection has a limit, and writes nothing while its own buffer is full.
            Some(conn) => match Stream::new(conn, &mut self.tcp).write(bytes) {
                Ok(0) => return 0,
                result => result,
            },
            None => self.tcp.write(bytes),
        })
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        would_block(match &mut self.tls {
            Some(conn) => Stream::new(conn, &mut self.tcp).read(into),
            None => self.tcp.read(into),
        })
    }
}

fn would_block(result: std::io::Result<usize>) -> usize {
    match result {
        Ok(0) => panic!("the server closed"),
        Ok(n) => n,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

struct Pair {
    number: usize,
    from: Peer,
    to: Peer,
}

impl Pair {
    /// Sends as much as possible, but not more than the others.
    fn send(&mut self) -> usize {
        let mut sent = 0;
        while sent < PIECE {
            let n = self.from.write(&body(self.number, self.from.moved)[..PIECE - sent]);
            self.from.moved += n as u64;
            sent += n;
            if n == 0 {
                break;
            }
        }
        sent
    }

    /// Receives as much as has arrived, but not more than the others.
    fn receive(&mut self, block: &mut [u8]) -> usize {
        let mut got = 0;
        while got < PIECE {
            let n = self.to.read(&mut block[..PIECE - got]);
            assert!(block[..n] == body(self.number, self.to.moved)[..n], "stream {}", self.number);
            self.to.moved += n as u64;
            got += n;
            if n == 0 {
                break;
            }
        }
        got
    }

    /// Reads everything up to the body, which has no framing.
    fn skip_head(&mut self) {
        let (end, mut head) = (Instant::now() + TIMEOUT, Vec::new());
        while !head.ends_with(b"\r\n\r\n") {
            assert!(Instant::now() < end, "{}", head.escape_ascii());
            let mut byte = [0];
            if self.to.read(&mut byte) > 0 {
                head.push(byte[0]);
            }
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", head.escape_ascii());
    }
}

type Waiting = Arc<Mutex<HashMap<String, Ticket>>>;

/// A GET waits for the POST to the same path. On small sockets.
fn serve(tls: Option<&Tls>, kernel_pipes: usize, threads: usize) -> (Running, Waiting) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    SockRef::from(&listener).set_send_buffer_size(128 * 1024).expect("set");
    SockRef::from(&listener).set_recv_buffer_size(128 * 1024).expect("set");
    let waiting = Waiting::default();
    let receivers = waiting.clone();
    let handler = move |req: &mut Request<'_>| {
        let mut waiting = receivers.lock().unwrap_or_else(PoisonError::into_inner);
        if req.method() == "GET" {
            waiting.insert(req.path().to_owned(), req.ticket());
            return Action::Suspend;
        }
        let Some(receiver) = waiting.remove(req.path()) else { return Response::new(409).into() };
        let (inlet, outlet) = pipe(ROOM);
        let _ = receiver.respond(Response::stream(outlet).length(req.content_length()));
        Action::Receive(Box::new(inlet))
    };
    let limits = Limits { kernel_pipes, body: LENGTH, ..Limits::default() };
    let mut listen = Listen::inherited(listener).expect("a listener");
    if let Some(tls) = tls {
        listen = listen.tls(tls.clone());
    }
    let server = Server::new().listen(listen).limits(limits);
    (server.threads(threads, handler).expect("running"), waiting)
}

fn run(what: &str, tls: bool, kernel_pipes: usize, memory: usize) {
    let (_alone, count) = (alone(), streams());
    set_pipe_memory_limit(memory);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let client = tls.then(|| Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
    let own = tls.then(|| Tls::pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a valid pair"));
    // Small blocks between two loops wait for both threads, and these for the test's: one loop, to see the shares of memory.
    let threads = if memory > LITTLE { 2 } else { 1 };
    let (server, waiting) = serve(own.as_ref(), kernel_pipes, threads);
    let end = Instant::now() + TIMEOUT;

    let peer = |head: String| Peer::connect(&server, client.as_ref(), &head);
    let to: Vec<Peer> = (0..count).map(|n| peer(format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n"))).collect();
    while waiting.lock().unwrap_or_else(PoisonError::into_inner).len() < count {
        assert!(Instant::now() < end, "{what}: not all are there");
        thread::yield_now();
    }
    let mut pairs: Vec<Pair> = to
        .into_iter()
        .enumerate()
        .map(|(number, to)| {
            let head = format!("POST /{number} HTTP/1.1\r\nHost: x\r\nContent-Length: {LENGTH}\r\n\r\n");
            Pair { number, from: peer(head), to }
        })
        .collect();
    pairs.iter_mut().for_each(Pair::skip_head);
    let before = resident();

    // All send and receive.
    let (mut block, mut total) = (vec![0; PIECE], 0);
    while total < count * SHARE {
        assert!(Instant::now() < end, "{what}: {total} bytes in all");
        let moved: usize = pairs.iter_mut().map(|pair| (pair.send(), pair.receive(&mut block)).1).sum();
        total += moved;
        if moved == 0 {
            thread::yield_now();
        }
    }
    let mut shares: Vec<u64> = pairs.iter().map(|pair| pair.to.moved).collect();
    shares.sort_unstable();
    let (slowest, median, fastest) = (shares[0], shares[count / 2], shares[count - 1]);
    let busy = resident().saturating_sub(before) / count;
    assert!(slowest * 2 >= median, "{what}: {slowest} bytes, where the median is {median}");
    assert!(memory > LITTLE || fastest <= median * 5, "{what}: {fastest} bytes, where the median is {median}");
    let held = pipe_memory();
    assert!(held <= memory + count * SMALL_BLOCK, "{what}: {held} bytes in pipes");

    // No receiver reads any more: the senders are stopped soon.
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < end, "{what}: the senders go on");
        if pairs.iter_mut().map(Pair::send).sum::<usize>() > 0 {
            quiet = Instant::now();
        } else {
            thread::yield_now();
        }
    }
    let stalled = resident().saturating_sub(before) / count;
    let held = pipe_memory();
    assert!(held <= memory + count * SMALL_BLOCK, "{what}: {held} bytes in pipes");
    assert!(memory > LITTLE || held > memory / 2, "{what}: {held} bytes in pipes are not up to the limit");
    println!(
        "{what}: {count} streams; slowest {:.2}, fastest {:.2} of the median; bytes of memory each: {busy} at work, {stalled} stalled",
        slowest as f64 / median as f64,
        fastest as f64 / median as f64
    );
    assert!(busy.max(stalled) <= PER_STREAM, "{what}: {busy} and {stalled} bytes each");

    // And it continues, without the loss of a byte.
    let goal: Vec<u64> = pairs.iter().map(|pair| pair.from.moved + PIECE as u64).collect();
    while pairs.iter().zip(&goal).any(|(pair, goal)| pair.to.moved < *goal) {
        assert!(Instant::now() < end, "{what}: some did not go on");
        for pair in &mut pairs {
            pair.send();
            pair.receive(&mut block);
        }
    }
    drop(pairs);
    server.stop_now().expect("stopped");
    assert_eq!(pipe_memory(), 0, "{what}: bytes of pipes that are gone");
}

#[test]
fn spliced() {
    run("spliced", false, 512, MUCH);
}

#[test]
fn copied() {
    run("copied", false, 0, MUCH);
}

#[test]
fn over_tls() {
    run("over TLS", true, 0, MUCH);
}

#[test]
fn copied_in_little_memory() {
    run("copied in little memory", false, 0, LITTLE);
}

#[test]
fn over_tls_in_little_memory() {
    run("over TLS in little memory", true, 0, LITTLE);
}
