//! A proxy that sends what no proxy may send. Each malformed request ends its own stream, and nothing else.

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
    client::TIMEOUT,
    origin::site,
    origin_server::{Mode, OriginServer, tunnel},
    world::identity,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// A proxy of the test: it accepts every origin server, and then sends the bytes of the test.
struct Hostile {
    running: Option<Running>,
    origins: std::net::SocketAddr,
    output: Sender<Vec<u8>>,
    wakers: Receiver<Waker>,
    waker: Option<Waker>,
    input: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Hostile {
    fn new() -> Self {
        let ((output, to_send), (received, input), (waker, wakers)) = (channel::<Vec<u8>>(), channel(), channel());
        let to_send = Arc::new(Mutex::new(to_send));
        let handler = move |_: &mut Request<'_>| -> Action {
            let (to_send, received, waker) = (to_send.clone(), received.clone(), waker.clone());
            let (mut begun, mut rest) = (false, Vec::new());
            let upgraded = move |io: &mut Io<'_>| {
                if !std::mem::replace(&mut begun, true) {
                    let _ = waker.send(io.waker());
                }
                rest.extend(to_send.lock().unwrap_or_else(PoisonError::into_inner).try_iter().flatten());
                let n = io.tx.write(&rest);
                rest.drain(..n);
                let _ = received.send(io.rx.bytes().to_vec());
                io.rx.consume(usize::MAX);
                if io.rx.state() != uncork::ReadState::Open || io.events().is_error() {
                    return EventMask::TERMINATE;
                }
                let mask = EventMask::READ | EventMask::EXTERNAL | EventMask::CORK;
                if rest.is_empty() { mask } else { mask | EventMask::WRITE }
            };
            Switch::to("ptth", upgraded).header("ALPN", "h2").into()
        };
        let listen = Listen::tcp("127.0.0.1:0").expect("bound").tls(identity().server.clone());
        let server = Server::new().listen(listen);
        let origins = server.local_addr().expect("an address");
        let running = Some(server.threads(1, handler).expect("running"));
        Self { running, origins, output, wakers, waker: None, input, bytes: Vec::new() }
    }

    /// Waits for the origin server, and begins HTTP/2.
    fn begin(&mut self) {
        self.waker = Some(self.wakers.recv_timeout(TIMEOUT).expect("an origin server"));
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").frame(SETTINGS, 0, 0, &[]);
        self.expect(|frame| frame.kind == SETTINGS && frame.flags & 1 != 0);
    }

    fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.output.send(bytes.to_vec()).expect("a receiver");
        self.waker.as_ref().expect("begun").wake();
        self
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        let mut frame = Vec::new();
        put_frame(&mut frame, kind, flags, stream, payload);
        self.send(&frame)
    }

    /// Sends a request's head, with these fields behind the pseudo-header fields.
    fn request(&mut self, stream: u32, pseudo: Fields<'_>, fields: Fields<'_>, end: bool) -> &mut Self {
        self.frame(HEADERS, 4 | u8::from(end), stream, &head_block(pseudo, fields))
    }

    /// Receives the next frame for which `is` is true.
    #[track_caller]
    fn expect(&mut self, is: impl Fn(&Frame) -> bool) -> Frame {
        let end = Instant::now() + TIMEOUT;
        loop {
            while let Some(frame) = self.next() {
                if is(&frame) {
                    return frame;
                }
            }
            let more = self.input.recv_timeout(end.saturating_duration_since(Instant::now()));
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
        let frame = self.expect(|frame| {
            assert_ne!(frame.kind, GOAWAY, "the connection must continue");
            frame.stream == stream && [HEADERS, RST_STREAM].contains(&frame.kind)
        });
        (frame.kind == RST_STREAM).then(|| u32::from_be_bytes(frame.payload[..4].try_into().expect("a code")))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop_now().expect("ended normally");
        }
    }
}

fn put_frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    to.extend(&u32::try_from(payload.len()).expect("a short text").to_be_bytes()[1..]);
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
            block.push(u8::try_from(text.len()).expect("a short text"));
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

/// Connects an origin server to it by upgrade. Also returns how many requests its handler gets, by path.
fn counting_origin(hostile: &mut Hostile) -> (OriginServer, Arc<Mutex<HashMap<String, usize>>>) {
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let shared = seen.clone();
    let handler = move |req: &mut Request<'_>| -> Action {
        let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(req.target().to_owned()).or_default() += 1;
        drop(seen);
        site(req)
    };
    let origin = OriginServer::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    (origin, seen)
}

#[test]
fn a_malformed_request_ends_its_stream_and_nothing_else() {
    let mut hostile = Hostile::new();
    let (_origin_server, seen) = counting_origin(&mut hostile);
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
        hostile.request(one, pseudo, fields, end);
        assert_eq!(hostile.outcome(one), PROTOCOL_ERROR, "{pseudo:?} {fields:?}");
        let good = next();
        hostile.request(good, &GET, &[], true);
        assert_eq!(hostile.outcome(good), None, "the next request gets a response");
    }
    // Longer than declared, and shorter.
    for body in ["too long", "four"] {
        let one = next();
        hostile.request(one, &POST, &long, false).frame(DATA, 1, one, body.as_bytes());
        assert_eq!(hostile.outcome(one), PROTOCOL_ERROR, "{body:?}");
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(seen.get("/fine"), Some(&wrong.len()), "{seen:?}");
    assert!(seen.keys().all(|path| ["/fine", "/echo"].contains(&path.as_str())), "{seen:?}");
}

/// Data for another protocol is not a request if there is no such protocol.
#[test]
fn no_request_is_smuggled_behind_an_upgrade() {
    let mut hostile = Hostile::new();
    let (_origin_server, seen) = counting_origin(&mut hostile);
    let connect = [(":method", "CONNECT"), (":protocol", "other"), GET[1], (":path", "/up"), GET[3]];
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n";
    hostile.request(3, &connect, &[], false).frame(DATA, 0, 3, smuggled);
    assert_eq!(hostile.outcome(3), None, "426");
    hostile.request(5, &GET, &[], true);
    assert_eq!(hostile.outcome(5), None);
    // And if there is one, the data belongs to it.
    let connect = [(":method", "CONNECT"), (":protocol", "test"), GET[1], (":path", "/up"), GET[3]];
    hostile.request(7, &connect, &[], false).frame(DATA, 0, 7, smuggled);
    let echo = hostile.expect(|frame| frame.kind == DATA && frame.stream == 7);
    assert_eq!(echo.payload, smuggled);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!((seen.get("/smuggled"), seen.get("/up")), (None, Some(&2)));
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_go_on() {
    let mut hostile = Hostile::new();
    let (waiting, (sender, tickets)) = (Arc::new(AtomicUsize::new(0)), channel::<uncork::Ticket>());
    let count = waiting.clone();
    let handler = move |req: &mut Request<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
        sender.send(req.ticket()).expect("a receiver");
        Action::Suspend
    };
    let _origin_server = OriginServer::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    for n in 0..300 {
        hostile.request(3 + 2 * n, &GET, &[], true);
    }
    for n in 256..300 {
        assert_eq!(hostile.outcome(3 + 2 * n), Some(7), "REFUSED_STREAM");
    }
    let mut held: Vec<_> = (0..256).map(|_| tickets.recv_timeout(TIMEOUT).expect("a request")).collect();
    assert_eq!(waiting.load(Ordering::Relaxed), 256);
    // A slot is free again after a response or a reset.
    held.remove(0).respond(Response::text("done")).expect("a suspended request");
    hostile.expect(|frame| frame.kind == HEADERS);
    hostile.frame(RST_STREAM, 0, 5, &8u32.to_be_bytes());
    for n in 300..302 {
        hostile.request(3 + 2 * n, &GET, &[], true);
        tickets.recv_timeout(TIMEOUT).expect("a request");
    }
}

/// Clients that disconnect, or send malformed requests, must not end the requests of others.
#[test]
fn any_number_of_resets_and_malformed_requests_does_not_end_the_connection() {
    let mut hostile = Hostile::new();
    let (_origin_server, seen) = counting_origin(&mut hostile);
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
        hostile.send(&burst);
        stream += 2;
        hostile.request(stream, &GET, &[], true);
        assert_eq!(hostile.outcome(stream), None, "a response");
    }
    // Each of these is an error of its stream: the body is shorter than declared.
    for _ in 0..1_500 {
        stream += 2;
        hostile.request(stream, &POST, &[("content-length", "5")], true);
        assert_eq!(hostile.outcome(stream), PROTOCOL_ERROR);
    }
    stream += 2;
    hostile.request(stream, &GET, &[], true);
    assert_eq!(hostile.outcome(stream), None, "a response");
    assert!(seen.lock().unwrap_or_else(PoisonError::into_inner).contains_key("/fine"));
}

/// Clients that continue to send after their request was rejected: data in flight is discarded.
#[test]
fn any_number_of_unread_bodies_does_not_end_the_connection() {
    let mut hostile = Hostile::new();
    let handler = |req: &mut Request<'_>| Response::text("no").with_status(if req.has_body() { 403 } else { 200 });
    let _origin_server = OriginServer::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    let rejected: Vec<u32> = (0..200).map(|n| 3 + 2 * n).collect();
    for stream in &rejected {
        hostile.request(*stream, &POST, &[], false);
    }
    for _ in &rejected {
        hostile.expect(|frame| frame.kind == RST_STREAM);
    }
    // One after the other, so that a stream's frames do not all arrive at once.
    for _ in 0..24 {
        for stream in &rejected {
            hostile.frame(DATA, 0, *stream, b"late");
        }
        hostile.frame(PING, 0, 0, &[0; 8]).expect(|frame| frame.kind == PING);
    }
    hostile.request(1_001, &GET, &[], true);
    assert_eq!(hostile.outcome(1_001), None, "a response");
}

/// A client that sends byte by byte to a handler that does not read. The window bounds the buffer, not the number of
/// frames.
#[test]
fn unread_bodies_in_tiny_frames_do_not_end_the_connection() {
    let mut hostile = Hostile::new();
    let (sender, tickets) = channel::<uncork::Ticket>();
    let handler = move |req: &mut Request<'_>| {
        if req.has_body() {
            sender.send(req.ticket()).expect("a receiver");
            return Action::Suspend;
        }
        Response::text("fine").into()
    };
    let _origin_server = OriginServer::new(tunnel(hostile.origins).connections(1), Mode::Threads, handler);
    hostile.begin();
    hostile.request(3, &POST, &[], false);
    let _held = tickets.recv_timeout(TIMEOUT).expect("a request");
    hostile.frame(DATA, 0, 3, &[b'x'; 1100]);
    for _ in 0..60 {
        let mut some = Vec::new();
        (0..1000).for_each(|_| put_frame(&mut some, DATA, 0, 3, b"x"));
        hostile.send(&some).frame(PING, 0, 0, &[0; 8]).expect(|frame| frame.kind == PING);
    }
    hostile.request(5, &GET, &[], true);
    assert_eq!(hostile.outcome(5), None, "a response");
}

#[test]
fn an_established_connection_that_is_lost_is_opened_again_at_once() {
    let mut hostile = Hostile::new();
    let tunnel = tunnel(hostile.origins).connections(1).backoff(std::time::Duration::from_secs(60));
    let origin = OriginServer::new(tunnel, Mode::Threads, site);
    hostile.begin();
    origin.expect_event("connected");
    // ENHANCE_YOUR_CALM.
    hostile.frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]);
    hostile.frame(DATA, 0, 0, b"which breaks a rule");
    let event = origin.expect_event("next attempt in");
    assert!(event.contains("next attempt in 0.0 s"), "{event}");
    origin.expect_event("connected");
}
