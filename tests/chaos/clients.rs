//! The WebSocket clients, and the application that is told of them.
//!
//! A client's key is its number and how many keys it had before: `17.3`. A client of a node that was killed connects
//! again at once with the same key, or waits until the application was told, and takes a new one.

use std::{
    collections::{HashMap, HashSet},
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use uncork::{Action, Handler, Limits, Request, Response, Running, Server};

use crate::{
    fault::Fault,
    run::{LEASE, Random, Run, lock},
    sends,
};

/// What the test adds to a bound, since its machine may be busy.
const MARGIN: Duration = Duration::from_secs(3);

/// The text that shows that a session is established.
const GREETING: &str = "hello";

/// A client, if it is connected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) key: String,
    pub(crate) node: usize,
    /// When the session was seen to be established; `None` while there is none.
    pub(crate) since: Option<Instant>,
}

impl Client {
    /// Returns `true` if it is the same session.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.since.is_some() && self.since == other.since
    }
}

/// Returns the client that has this key, if it is connected.
pub(crate) fn of_key(run: &Run, key: &str) -> Option<Client> {
    let index: usize = key.split_once('.')?.0.parse().ok()?;
    let client = lock(run.clients.get(index)?).clone();
    (client.key == key && client.since.is_some()).then_some(client)
}

/// What the application was told of clients that are gone.
#[derive(Default)]
pub(crate) struct Keys {
    reported: HashSet<String>,
    /// Sessions that are over, and of which it was not told yet: when, and on which node.
    due: HashMap<String, (Instant, usize)>,
    /// Sessions that their clients ended.
    left: HashMap<String, (Instant, usize)>,
}

impl Keys {
    pub(crate) fn are_reports_due(&self) -> bool {
        !self.due.is_empty()
    }

    fn over(&mut self, key: &str, node: usize) {
        if !self.reported.contains(key) {
            self.due.insert(key.to_owned(), (Instant::now(), node));
        }
    }
}

/// The application.
pub(crate) struct App {
    running: Running,
}

#[derive(Clone)]
struct Callbacks(Arc<Run>);

impl App {
    pub(crate) fn start(run: Arc<Run>) -> Self {
        let limits = Limits { connections_per_address: usize::MAX, ..Limits::default() };
        let server = Server::bind("127.0.0.1:0").expect("bound").limits(limits);
        Self { running: server.threads(1, Callbacks(run)).expect("running") }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.running.local_addr().expect("an address"))
    }
}

impl Handler for Callbacks {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        match req.path() {
            "/connect" => {
                let key = req.query().and_then(|query| query.strip_prefix("key=")).expect("a key");
                Response::text(GREETING).header("X-Kuiperbelt-Session", key).into()
            }
            "/close" => {
                let key = req.header("X-Kuiperbelt-Session").unwrap_or_default();
                reported(&self.0, std::str::from_utf8(key).expect("a key"));
                Response::new(200).into()
            }
            _ => Response::new(200).into(),
        }
    }
}

/// The application is told that a client is gone.
fn reported(run: &Run, key: &str) {
    run.count("close callbacks");
    if let Some(client) = of_key(run, key) {
        // Its last frame may be on its way.
        let stops = |fault: &Fault| fault.loses_clients() == Some(client.node);
        let since = client.since.expect("it is connected");
        if !run.had(since.max(Instant::now() - MARGIN), stops) {
            run.breaks(format!("a close callback of {key}, which is connected to node {}", client.node));
        }
    }
    let mut keys = lock(&run.keys);
    if let Some((at, node)) = keys.due.remove(key) {
        let name =
            if keys.left.contains_key(key) { "a client that left is reported" } else { "a lost client is reported" };
        run.measured(name, at.elapsed(), &format!("the end of {key} on node {node}"));
    }
    if !keys.reported.insert(key.to_owned()) {
        // The engine may not have been told of its end when its node was killed.
        let known = keys.left.get(key).copied();
        let killed = |node| move |fault: &Fault| *fault == Fault::Kill(node);
        if known.is_none_or(|(at, node)| !run.had(at, killed(node))) {
            run.breaks(format!(
                "a second close callback of {key}; its client left: {:?}",
                known.map(|at| at.0.elapsed())
            ));
        }
    }
}

/// Checks that no report is late.
pub(crate) fn check(run: &Run) {
    let keys = lock(&run.keys);
    let late: Vec<_> = keys.due.iter().filter(|(_, (at, _))| at.elapsed() > LEASE + MARGIN).collect();
    for (key, (at, node)) in &late {
        // Its node may have been lost while it reported.
        let lost = |fault: &Fault| fault.loses_clients() == Some(*node);
        if !run.had(*at, lost) || at.elapsed() > (LEASE + MARGIN) * 2 {
            let (number, ago) = (late.len(), at.elapsed());
            return run.breaks(format!(
                "{number} close callbacks are missing, one of {key}, on node {node} until {ago:?} ago"
            ));
        }
    }
}

/// The life of a client: its connections, one after the other.
pub(crate) fn live(run: &Arc<Run>, index: u64, mut random: Random) {
    let mut number = 0;
    let mut key = format!("{index}.0");
    // When the node of this key was killed.
    let mut lost: Option<Instant> = None;
    sleep(Duration::from_millis(random.below(1500)));
    while !run.is_over() {
        let (node, began) = (run.live_node(&mut random), Instant::now());
        let mut socket = match Socket::open(run.ports()[node].plain, &key) {
            // Detection takes longer: what comes later may cross the report.
            Ok(socket) if lost.is_none_or(|lost| lost.elapsed() < Duration::from_secs(6)) => socket,
            result => {
                if let Err(error) = result {
                    run.count("handshakes that failed");
                    if !run.had_any(began) {
                        run.breaks(format!("client {key} cannot connect to node {node}: {error}"));
                    }
                }
                (number, lost) = (number + 1, None);
                key = format!("{index}.{number}");
                sleep(Duration::from_millis(50 + random.below(200)));
                continue;
            }
        };
        run.count(if lost.is_some() { "sessions, continued under the same key" } else { "sessions" });
        let since = Instant::now();
        *lock(&run.clients[index as usize]) = Client { key: key.clone(), node, since: Some(since) };
        let leaves = since + Duration::from_millis(5_000 + random.below(90_000));
        let reason = receive(run, &mut socket, &key, leaves);
        let left = reason.is_none();
        lock(&run.clients[index as usize]).since = None;
        let is = |fault: &Fault| fault.loses_clients() == Some(node);
        match reason {
            None => socket.close(),
            Some(reason) if !run.had(Instant::now() - MARGIN, is) => {
                run.breaks(format!("client {key} was disconnected from node {node}, which had no fault: {reason}"));
            }
            Some(_) => {}
        }
        lost = None;
        let killed = |fault: &Fault| *fault == Fault::Kill(node);
        if !left && run.had(Instant::now() - MARGIN, killed) && random.below(2) == 0 {
            lost = Some(Instant::now());
            continue;
        }
        {
            let mut keys = lock(&run.keys);
            if left {
                keys.left.insert(key.clone(), (Instant::now(), node));
            }
            keys.over(&key, node);
        }
        number += 1;
        key = format!("{index}.{number}");
    }
}

/// Receives until the client leaves; then `None`. Otherwise returns why the connection has ended.
fn receive(run: &Run, socket: &mut Socket, key: &str, leaves: Instant) -> Option<String> {
    loop {
        match socket.next(Duration::from_secs(1)) {
            Ok(Some((1, text))) => sends::received(run, key, &String::from_utf8_lossy(&text)),
            Ok(Some((9, payload))) => {
                if let Err(error) = socket.send(10, &payload) {
                    return Some(error.to_string());
                }
            }
            Ok(Some((op, payload))) => return Some(format!("frame {op}: {}", payload.escape_ascii())),
            Ok(None) if Instant::now() > leaves || run.is_over() => return None,
            Ok(None) => {}
            Err(error) => return Some(error.to_string()),
        }
    }
}

struct Socket {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Socket {
    /// Connects, and waits until the session is established.
    fn open(port: u16, key: &str) -> io::Result<Self> {
        let mut socket = Self { stream: TcpStream::connect(("127.0.0.1", port))?, rest: Vec::new() };
        socket.stream.set_nodelay(true)?;
        socket.stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let request = format!(
            "GET /connect?key={key} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        socket.stream.write_all(request.as_bytes())?;
        let end = loop {
            if let Some(end) = socket.rest.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
            socket.more()?;
        };
        let head: Vec<u8> = socket.rest.drain(..end).collect();
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(head.escape_ascii().to_string()));
        }
        match socket.next(Duration::from_secs(20))? {
            Some((1, text)) if text == GREETING.as_bytes() => Ok(socket),
            other => Err(io::Error::other(format!("not the greeting: {other:?}"))),
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut block = [0; 4096];
        match self.stream.read(&mut block)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the end of the stream")),
            n => {
                self.rest.extend_from_slice(&block[..n]);
                Ok(())
            }
        }
    }

    /// Receives a frame: its type and its payload; `None` if there is none within this time.
    fn next(&mut self, time: Duration) -> io::Result<Option<(u8, Vec<u8>)>> {
        self.stream.set_read_timeout(Some(time))?;
        loop {
            if let Some((payload, end)) = frame(&self.rest) {
                let op = self.rest[0] & 0x0f;
                let payload = self.rest[payload..end].to_vec();
                self.rest.drain(..end);
                return Ok(Some((op, payload)));
            }
            match self.more() {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => result?,
            }
        }
    }

    /// Sends a short frame, masked with zeros.
    fn send(&mut self, op: u8, payload: &[u8]) -> io::Result<()> {
        let length = u8::try_from(payload.len()).unwrap_or(125).min(125);
        let head = [0x80 | op, 0x80 | length, 0, 0, 0, 0];
        self.stream.write_all(&[&head[..], &payload[..usize::from(length)]].concat())
    }

    /// Leaves, and waits for the end.
    fn close(&mut self) {
        let _ = self.send(8, &1000_u16.to_be_bytes());
        while let Ok(Some(_)) = self.next(Duration::from_secs(10)) {}
    }
}

/// Returns where the payload of a complete frame begins and ends.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (begin, length) = match bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        n => (2, usize::from(n)),
    };
    (bytes.len() >= begin + length).then_some((begin, begin + length))
}
