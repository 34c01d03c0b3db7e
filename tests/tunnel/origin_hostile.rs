//! A proxy that sends what no proxy may send. Each wrong request costs its own stream, and nothing else.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Instant,
};

use uncork::{Action, EventMask, Io, Listen, Request, Response, Running, Server, Switch, Waker};

use super::{
    client::PATIENCE,
    dug::{Dug, Mode, tunnel},
    origin::site,
    world::identity,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// A proxy by hand: it accepts every origin server, and then sends the bytes of the test.
struct Hostile {
    running: Option<Running>,
    origins: std::net::SocketAddr,
    say: Sender<Vec<u8>>,
    wakers: Receiver<Waker>,
    waker: Option<Waker>,
    heard: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Hostile {
    fn new() -> Self {
        let ((say, said), (hear, heard), (give, wakers)) = (channel::<Vec<u8>>(), channel(), channel());
        let said = Arc::new(Mutex::new(said));
        let handler = move |_: &mut Request<'_>| -> Action {
            let (said, hear, give) = (said.clone(), hear.clone(), give.clone());
            let (mut begun, mut rest) = (false, Vec::new());
            let speak = move |io: &mut Io<'_>| {
                if !std::mem::replace(&mut begun, true) {
                    let _ = give.send(io.waker());
                }
                rest.extend(said.lock().unwrap_or_else(PoisonError::into_inner).try_iter().flatten());
                let n = io.tx.write(&rest);
                rest.drain(..n);
                let _ = hear.send(io.rx.bytes().to_vec());
                io.rx.consume(usize::MAX);
                if io.rx.state() != uncork::ReadState::Open || io.events().is_error() {
                    return EventMask::TERMINATE;
                }
                let mask = EventMask::READ | EventMask::EXTERNAL | EventMask::CORK;
                if rest.is_empty() { mask } else { mask | EventMask::WRITE }
            };
            Switch::to("ptth", speak).header("ALPN", "h2").into()
        };
        let listen = Listen::tcp("127.0.0.1:0").expect("bound").tls(identity().server.clone());
        let server = Server::new().listen(listen);
        let origins = server.local_addr().expect("an address");
        let running = Some(server.threads(1, handler).expect("running"));
        Self { running, origins, say, wakers, waker: None, heard, bytes: Vec::new() }
    }

    /// The origin server is connected: HTTP/2 begins.
    fn begin(&mut self) {
        self.waker = Some(self.wakers.recv_timeout(PATIENCE).expect("an origin"));
        self.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").frame(SETTINGS, 0, 0, &[]);
        self.until(|frame| frame.kind == SETTINGS && frame.flags & 1 != 0);
    }

    fn say(&mut self, bytes: &[u8]) -> &mut Self {
        self.say.send(bytes.to_vec()).expect("heard");
        self.waker.as_ref().expect("begun").wake();
        self
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        let mut frame = Vec::new();
        put_frame(&mut frame, kind, flags, stream, payload);
        self.say(&frame)
    }

    /// Returns a request's head, with these fields behind the pseudo fields.
    fn ask(&mut self, stream: u32, pseudo: Fields<'_>, fields: Fields<'_>, end: bool) -> &mut Self {
        self.frame(HEADERS, 4 | u8::from(end), stream, &head_block(pseudo, fields))
    }

    /// Receives the next frame for which `is` is true.
    #[track_caller]
    fn until(&mut self, is: impl Fn(&Frame) -> bool) -> Frame {
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.next() {
                if is(&frame) {
                    return frame;
                }
            }
            let more = self.heard.recv_timeout(end.saturating_duration_since(Instant::now()));
            self.bytes.extend(more.expect("another frame"));
        }
    }

    fn next(&mut self) -> Option<Frame> {
        let head = self.bytes.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.bytes.get(9..9 + length)?.to_vec();
        self.bytes.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Returns the result of a stream: `None` for a response, else the code of its reset. The connection continues in
    /// any case.
    #[track_caller]
    fn outcome(&mut self, stream: u32) -> Option<u32> {
        let frame = self.until(|frame| {
            assert_ne!(frame.kind, GOAWAY, "the connection is none of its affair");
            frame.stream == stream && [HEADERS, RST_STREAM].contains(&frame.kind)
        });
        (frame.kind == RST_STREAM).then(|| u32::from_be_bytes(frame.payload[..4].try_into().expect("a code")))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().expect("in order");
        }
    }
}

fn put_frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    to.extend(&u32::try_from(payload.len()).expect("a short one").to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend_from_slice(payload);
}

fn head_block(pseudo: Fields<'_>, fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        // Literal, never indexed, not compressed (RFC 7541 §6.2.3).
        block.push(0x10);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short one"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

type Fields<'a> = &'a [(&'a str, &'a str)];

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/fine"), (":authority", "app.example")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":path", "/echo"), (":authority", "app.example")];
const PROTOCOL_ERROR: Option<u32> = Some(1);

/// A tunnel to it, by upgrade, and the number of requests of its handler, by path.
fn dug(hostile: &mut Hostile) -> (Dug, Arc<Mutex<HashMap<String, usize>>>) {
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let shared = seen.clone();
    let handler = move |req: &mut Request<'_>| -> Action {
        let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(req.target().to_owned()).or_default() += 1;
        drop(seen);
        site(req)
    };
    let dug = Dug::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    (dug, seen)
}

#[test]
fn a_wrong_request_costs_its_stream_and_nothing_else() {
    let mut hostile = Hostile::new();
    let (_dug, seen) = dug(&mut hostile);
    let mut stream = 1;
    let mut next = || {
        stream += 2;
        stream
    };
    let long = [("content-length", "5")];
    let wrong: [(Fields<'_>, Fields<'_>, bool); 8] = [
        (&GET[..3], &[], true),
        (&GET, &[("connection", "close")], true),
        (&GET, &[("transfer-encoding", "chunked")], true),
        (&GET, &[("content-length", "+5")], true),
        (&POST, &[("content-length", "5"), ("content-length", "6")], false),
        (&POST, &long, true),
        (&[GET[0], GET[1], (":path", "/a b"), GET[3]], &[], true),
        (&[GET[0], GET[1], GET[2], (":authority", "user@app.example")], &[], true),
    ];
    for (pseudo, fields, end) in wrong {
        let one = next();
        hostile.ask(one, pseudo, fields, end);
        assert_eq!(hostile.outcome(one), PROTOCOL_ERROR, "{pseudo:?} {fields:?}");
        let good = next();
        hostile.ask(good, &GET, &[], true);
        assert_eq!(hostile.outcome(good), None, "the next is answered");
    }
    // Longer than declared, and shorter.
    for body in ["too long", "four"] {
        let one = next();
        hostile.ask(one, &POST, &long, false).frame(DATA, 1, one, body.as_bytes());
        assert_eq!(hostile.outcome(one), PROTOCOL_ERROR, "{body:?}");
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(seen.get("/fine"), Some(&wrong.len()), "{seen:?}");
    assert!(seen.keys().all(|path| ["/fine", "/echo"].contains(&path.as_str())), "{seen:?}");
}

/// Data for another protocol is not a request if there is no such protocol.
#[test]
fn nothing_is_smuggled_behind_an_upgrade() {
    let mut hostile = Hostile::new();
    let (_dug, seen) = dug(&mut hostile);
    let connect = [(":method", "CONNECT"), (":protocol", "other"), GET[1], (":path", "/up"), GET[3]];
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n";
    hostile.ask(3, &connect, &[], false).frame(DATA, 0, 3, smuggled);
    assert_eq!(hostile.outcome(3), None, "426");
    hostile.ask(5, &GET, &[], true);
    assert_eq!(hostile.outcome(5), None);
    // And if there is one, the data belongs to it.
    let connect = [(":method", "CONNECT"), (":protocol", "test"), GET[1], (":path", "/up"), GET[3]];
    hostile.ask(7, &connect, &[], false).frame(DATA, 0, 7, smuggled);
    let echo = hostile.until(|frame| frame.kind == DATA && frame.stream == 7);
    assert_eq!(echo.payload, smuggled);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!((seen.get("/smuggled"), seen.get("/up")), (None, Some(&2)));
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_go_on() {
    let mut hostile = Hostile::new();
    let (waiting, (tell, told)) = (Arc::new(AtomicUsize::new(0)), channel::<uncork::Ticket>());
    let count = waiting.clone();
    let handler = move |req: &mut Request<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
        tell.send(req.ticket()).expect("heard");
        Action::Suspend
    };
    let _dug = Dug::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    for n in 0..300 {
        hostile.ask(3 + 2 * n, &GET, &[], true);
    }
    for n in 256..300 {
        assert_eq!(hostile.outcome(3 + 2 * n), Some(7), "REFUSED_STREAM");
    }
    let mut tickets: Vec<_> = (0..256).map(|_| told.recv_timeout(PATIENCE).expect("asked")).collect();
    assert_eq!(waiting.load(Ordering::Relaxed), 256);
    // A slot is free again after a response or a reset.
    tickets.remove(0).respond(Response::text("done")).expect("a suspended request");
    hostile.until(|frame| frame.kind == HEADERS);
    hostile.frame(RST_STREAM, 0, 5, &8u32.to_be_bytes());
    for n in 300..302 {
        hostile.ask(3 + 2 * n, &GET, &[], true);
        told.recv_timeout(PATIENCE).expect("asked");
    }
}

/// Clients that leave, or send wrong requests, must not end the requests of others.
#[test]
fn resets_and_wrong_requests_do_not_end_the_connection_however_many() {
    let mut hostile = Hostile::new();
    let (_dug, seen) = dug(&mut hostile);
    let mut stream = 1;
    // In one piece: most streams are reset before they are processed.
    for _ in 0..3 {
        let mut burst = Vec::new();
        for _ in 0..1_000 {
            stream += 2;
            let block = head_block(&GET, &[]);
            put_frame(&mut burst, HEADERS, 5, stream, &block);
            put_frame(&mut burst, RST_STREAM, 0, stream, &8u32.to_be_bytes());
        }
        hostile.say(&burst);
        stream += 2;
        hostile.ask(stream, &GET, &[], true);
        assert_eq!(hostile.outcome(stream), None, "answered");
    }
    // Each of these is an error of its stream: the body is shorter than declared.
    for _ in 0..1_500 {
        stream += 2;
        hostile.ask(stream, &POST, &[("content-length", "5")], true);
        assert_eq!(hostile.outcome(stream), PROTOCOL_ERROR);
    }
    stream += 2;
    hostile.ask(stream, &GET, &[], true);
    assert_eq!(hostile.outcome(stream), None, "answered");
    assert!(seen.lock().unwrap_or_else(PoisonError::into_inner).contains_key("/fine"));
}

/// Clients that continue to send after their request was rejected: data in flight is discarded.
#[test]
fn bodies_that_nobody_takes_do_not_end_the_connection_however_many() {
    let mut hostile = Hostile::new();
    let handler = |req: &mut Request<'_>| Response::text("no").with_status(if req.has_body() { 403 } else { 200 });
    let _dug = Dug::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    let refused: Vec<u32> = (0..200).map(|n| 3 + 2 * n).collect();
    for stream in &refused {
        hostile.ask(*stream, &POST, &[], false);
    }
    for _ in &refused {
        hostile.until(|frame| frame.kind == RST_STREAM);
    }
    // One after the other, so that a stream's frames do not all arrive at once.
    for _ in 0..24 {
        for stream in &refused {
            hostile.frame(DATA, 0, *stream, b"late");
        }
        hostile.frame(PING, 0, 0, &[0; 8]).until(|frame| frame.kind == PING);
    }
    hostile.ask(1_001, &GET, &[], true);
    assert_eq!(hostile.outcome(1_001), None, "answered");
}

/// A client that sends byte by byte what its handler does not take. The window bounds the buffer, not the number of
/// frames.
#[test]
fn bodies_in_tiny_frames_that_nobody_takes_do_not_end_the_connection() {
    let mut hostile = Hostile::new();
    let (tell, told) = channel::<uncork::Ticket>();
    let handler = move |req: &mut Request<'_>| {
        if req.has_body() {
            tell.send(req.ticket()).expect("heard");
            return Action::Suspend;
        }
        Response::text("fine").into()
    };
    let _dug = Dug::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    hostile.ask(3, &POST, &[], false);
    let _held = told.recv_timeout(PATIENCE).expect("asked");
    hostile.frame(DATA, 0, 3, &[b'x'; 1100]);
    for _ in 0..60 {
        let mut some = Vec::new();
        (0..1000).for_each(|_| put_frame(&mut some, DATA, 0, 3, b"x"));
        hostile.say(&some).frame(PING, 0, 0, &[0; 8]).until(|frame| frame.kind == PING);
    }
    hostile.ask(5, &GET, &[], true);
    assert_eq!(hostile.outcome(5), None, "answered");
}

#[test]
fn a_connection_that_stood_and_is_lost_is_made_again_at_once() {
    let mut hostile = Hostile::new();
    let patient = tunnel(hostile.origins).connections(1).backoff(std::time::Duration::from_secs(60));
    let dug = Dug::new(patient, Mode::Threads, site);
    hostile.begin();
    dug.hears("connected");
    // ENHANCE_YOUR_CALM.
    hostile.frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]);
    hostile.frame(DATA, 0, 0, b"which breaks a rule");
    let event = dug.hears("next attempt in");
    assert!(event.contains("next attempt in 0.0 s"), "{event}");
    dug.hears("connected");
}
