//! Clients that leave while a response has nothing to send. End-of-file is enough to notice it, unless the response
//! allows half-close. Spliced and bypassed bodies are in `pipe_ends`; peers within the process are in `within`.

use std::{os::unix::net::UnixStream, sync::mpsc::Sender, time::Duration};

use uncork::{
    Action, Consumed, EndReason, LoopHandle, PipeIn, PipeOut, Produce, Produced, Request, RequestEnd, Response, Tx,
    Upload, h1::Headers, pipe,
};

use crate::{
    wire::{Finish, Wire, request},
    world::{Host, Reports, World, bytes, report_channel, report_end},
};

matrix! {
    everywhere {
        a_client_that_leaves_a_pausing_response_is_noticed_at_once,
        one_that_is_still_sending_is_noticed_too,
        a_response_may_serve_half_closed_clients,
        what_is_there_reaches_a_half_closed_client,
    }
    http1 {
        one_on_a_unix_socket_is_noticed_too,
        what_is_not_taken_yet_is_no_pause,
    }
}

/// Long enough to show that nothing happens.
const MOMENT: Duration = Duration::from_millis(50);

/// A producer that the engine cannot recognize as a pipe.
struct ByHand(PipeOut);

impl Produce for ByHand {
    fn produce(&mut self, out: &mut Tx<'_>) -> Produced {
        self.0.produce(out)
    }
}

/// Receives a body; a ticket responds.
struct Discard;

impl Upload for Discard {
    fn data(&mut self, _: &[u8]) -> Consumed {
        Consumed::All
    }
    fn end(self: Box<Self>, _: &Headers) -> Action {
        Action::Suspend
    }
}

struct Served {
    host: Host,
    /// The source of the response's body.
    inlets: Reports<PipeIn>,
    ended: Reports<RequestEnd>,
    loops: Reports<LoopHandle>,
}

/// A response whose body the test provides, by a producer or through a pipe.
fn serve(world: &World) -> Served {
    let ((report, inlets), (report_end, ended), (tell_loop, loops)) =
        (report_channel(), report_channel(), report_channel());
    let host = world.serve_narrow(move |req: &mut Request<'_>| respond(req, &report, &report_end, &tell_loop));
    Served { host, inlets, ended, loops }
}

fn respond(
    req: &mut Request<'_>,
    report: &Sender<PipeIn>,
    ended: &Sender<RequestEnd>,
    loops: &Sender<LoopHandle>,
) -> Action {
    if req.path() == "/here" {
        loops.send(req.loop_handle()).expect("a receiver");
        return Response::new(204).into();
    }
    report_end(req, ended);
    let (inlet, mut outlet) = pipe(1 << 20);
    let response = match req.path() {
        "/producer" => {
            outlet.on_data(req.waker());
            Response::stream(ByHand(outlet))
        }
        _ => Response::stream(outlet),
    };
    let query = req.query().unwrap_or_default();
    let response = if query.contains("length") { response.length(100) } else { response };
    let response = if query.contains("allow") { response.allow_half_close() } else { response };
    if query.contains("ticket") {
        let ticket = req.ticket();
        ticket.allow_half_close();
        ticket.respond(response).expect("the request is open");
        report.send(inlet).expect("a receiver");
        return Action::Suspend;
    }
    report.send(inlet).expect("a receiver");
    if req.has_body() {
        req.ticket().respond(response).expect("the request is open");
        return Action::Receive(Box::new(Discard));
    }
    response.into()
}

/// Sends the request, and receives the head and the first bytes of the body.
fn begun(served: &Served, wire: &mut Wire, path: &str) -> PipeIn {
    wire.request(&format!("GET {path}"), &[]);
    let mut inlet = served.inlets.next();
    wire.head().is(200);
    transfer(&mut inlet, wire, path, b"part");
    inlet
}

/// Writes everything into the pipe. While the loop reads the pipe's block, there is no space for a moment.
fn put(inlet: &mut PipeIn, data: &[u8]) {
    let has_room = (0..10_000_000).any(|_| {
        std::thread::yield_now();
        inlet.write(data) > 0
    });
    assert!(has_room, "{} bytes", data.len());
}

/// Checks that bytes of the pipe arrive.
fn transfer(inlet: &mut PipeIn, wire: &mut Wire, path: &str, data: &[u8]) {
    put(inlet, data);
    let got = if path.contains("length") { wire.exactly(data.len()) } else { wire.next_chunk() };
    assert_eq!(got, data);
}

/// The ways in which a client can leave, or half-close.
const WAYS: [&str; 7] =
    ["close", "truncate", "reset", "half-close", "close_notify", "request and close", "send and close"];

/// Disconnects. Returns the client if it has only half-closed: the test must keep it until the server has noticed.
fn leave(mut wire: Wire, way: &str) -> Option<Wire> {
    match way {
        "close" => wire.finish(),
        "truncate" => wire.end_tcp(),
        "reset" => {
            wire.reset();
            return None;
        }
        "half-close" => {
            wire.finish();
            return Some(wire);
        }
        // Only close_notify. A plain connection has no equivalent.
        "close_notify" => {
            if !wire.send_close_notify() {
                wire.finish();
            }
            return Some(wire);
        }
        "request and close" => wire.send(request("GET /producer", &[])).finish(),
        // More than the engine reads while a response is in progress.
        _ => wire.send([b'x'; 40_000]).finish(),
    };
    None
}

fn a_client_that_leaves_a_pausing_response_is_noticed_at_once(world: &World) {
    let served = serve(world);
    for path in ["/producer", "/producer?length", "/pipe", "/pipe?length"] {
        // Over HTTP/2 its second request is served, too.
        for way in WAYS.into_iter().filter(|way| !(world.is_http2() && *way == "request and close")) {
            let mut wire = served.host.connect();
            let inlet = begun(&served, &mut wire, path);
            let kept = leave(wire, way);
            let end = served.ended.next();
            assert_eq!((end.reason, end.written), (EndReason::PeerClosed, 4), "{path}, {way}");
            assert!(inlet.is_closed(), "{path}, {way}");
            // The body is truncated: four bytes are not the whole.
            if let Some(mut wire) = kept {
                assert_ne!(wire.until_end().1, Finish::Clean, "{path}, {way}");
            }
            // Before the first byte of the body.
            let mut wire = served.host.connect();
            wire.request(&format!("GET {path}"), &[]);
            let inlet = served.inlets.next();
            let kept = leave(wire, way);
            assert_eq!(served.ended.next().reason, EndReason::PeerClosed, "{path}, {way}, without a byte");
            assert!(inlet.is_closed(), "{path}, {way}");
            drop(kept);
        }
    }
    assert!(served.ended.rest().is_empty());
}

fn one_on_a_unix_socket_is_noticed_too(world: &World) {
    if world.tls {
        return; // This client does not support TLS.
    }
    let served = serve(world);
    served.host.connect().request("GET /here", &["Connection: close"]).response().is(204);
    let here = served.loops.next();
    for path in ["/producer", "/pipe?length"] {
        for half in [true, false] {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            here.adopt(theirs).expect("a loop");
            std::io::Write::write_all(&mut &ours, request(&format!("GET {path}"), &[]).as_bytes()).expect("sent");
            let inlet = served.inlets.next();
            let kept = match half {
                true => {
                    ours.shutdown(std::net::Shutdown::Write).expect("shut down");
                    Some(ours)
                }
                false => {
                    drop(ours);
                    None
                }
            };
            assert_eq!(served.ended.next().reason, EndReason::PeerClosed, "{path}, {half}");
            assert!(inlet.is_closed());
            drop(kept);
        }
    }
}

/// The response has begun before the request's body is complete.
fn one_that_is_still_sending_is_noticed_too(world: &World) {
    let served = serve(world);
    for whole in [true, false] {
        for framing in ["Content-Length: 8", "Transfer-Encoding: chunked"] {
            let mut wire = served.host.connect();
            wire.request("POST /pipe", &[framing]).head().is(200);
            let inlet = served.inlets.next();
            match (framing.starts_with('C'), whole) {
                (true, true) => wire.send("the body"),
                (true, false) => wire.send("part"),
                (false, true) => wire.chunk(b"all").chunk(b""),
                (false, false) => wire.chunk(b"part"),
            };
            wire.finish();
            assert_eq!(served.ended.next().reason, EndReason::PeerClosed, "{framing}, {whole}");
            assert!(inlet.is_closed());
        }
    }
}

fn a_response_may_serve_half_closed_clients(world: &World) {
    let served = serve(world);
    for path in ["/producer?allow", "/pipe?allow", "/pipe?allow,length", "/producer?ticket", "/pipe?ticket"] {
        for way in ["half-close", "close_notify"] {
            let mut wire = served.host.connect();
            let mut inlet = begun(&served, &mut wire, path);
            let Some(mut wire) = leave(wire, way) else { panic!("it is there") };
            let turns = served.host.turns();
            assert!(served.ended.is_silent(MOMENT), "{path}, {way}: it is still there");
            assert!(served.host.turns() - turns < 20, "the loop spins");
            for data in [&b"more"[..], b"and more"] {
                transfer(&mut inlet, &mut wire, path, data);
            }
            if path.contains("length") {
                transfer(&mut inlet, &mut wire, path, &bytes(100 - 16));
            } else {
                inlet.finish(None);
                assert_eq!(wire.next_chunk(), b"");
            }
            let end = served.ended.next();
            assert_eq!(
                (end.reason, end.written),
                (EndReason::Complete, if path.contains("length") { 100 } else { 16 })
            );
            wire.ends(Finish::Clean);
        }
        // A reset is another matter. (Of a stream, it would have to come before the half-close.)
        if world.is_http2() {
            continue;
        }
        let mut wire = served.host.connect();
        let inlet = begun(&served, &mut wire, path);
        wire.finish();
        wire.reset();
        assert_eq!(served.ended.next().reason, EndReason::PeerClosed, "{path}");
        assert!(inlet.is_closed());
    }
}

/// A response that never pauses reaches a half-closed client completely; so does one whose pause has ended without a
/// call so far.
fn what_is_there_reaches_a_half_closed_client(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| -> Action {
        let waker = req.waker();
        match req.path() {
            "/echo" => {
                let (inlet, outlet) = pipe(4096);
                let response = Response::stream(outlet).length(req.content_length());
                req.ticket().respond(response).expect("the request is open");
                Action::Receive(Box::new(inlet))
            }
            _ => {
                let (mut left, mut pauses) = (bytes(200_000), false);
                Response::stream(move |out: &mut Tx<'_>| {
                    pauses = !pauses;
                    if pauses {
                        waker.wake();
                        return Produced::Pending;
                    }
                    let n = out.write(&left[..left.len().min(50_000)]);
                    left.drain(..n);
                    if left.is_empty() { Produced::End } else { Produced::More }
                })
                .into()
            }
        }
    });
    let body = bytes(50_000);
    for _ in 0..10 {
        let mut wire = host.connect();
        assert!(wire.request("GET /", &[]).finish().response().body == bytes(200_000));
        wire.ends(Finish::Clean);
        assert!(host.connect().post("/echo", &[], &body).finish().response().body == body);
        let mut wire = host.connect();
        wire.request("POST /echo", &["Transfer-Encoding: chunked"]).chunk(&body).chunk(b"").finish();
        assert!(wire.response().body == body);
    }
}

/// A client that half-closes and reads slowly counts as connected while there is output for it.
fn what_is_not_taken_yet_is_no_pause(world: &World) {
    let served = serve(world);
    let body = bytes(1 << 20);
    for path in ["/producer", "/pipe"] {
        let mut wire = served.host.connect_narrow();
        wire.request(&format!("GET {path}"), &[]);
        let mut inlet = served.inlets.next();
        wire.head().is(200);
        put(&mut inlet, &body);
        wire.finish();
        assert!(served.ended.is_silent(MOMENT), "{path}: it has not got everything yet");
        assert!(!inlet.is_closed());
        let (got, finish) = wire.until_end();
        assert!(got.len() > body.len() / 2 && finish != Finish::Clean, "{path}: {} bytes, {finish:?}", got.len());
        let end = served.ended.next();
        assert_eq!((end.reason, end.written), (EndReason::PeerClosed, body.len() as u64), "{path}");
    }
}
