//! Connections that are two pipes of this process. The server treats them like connections by sockets, in every mode,
//! independent of the listener's TLS.

use std::time::Duration;

use uncork::{EndReason, Limits, PeerAddr, Response, Timeout, pipe};

use crate::{
    bridged::{FILE, ROOM, Within, peer},
    http::check_pipelining,
    wire::{Finish, UPGRADE, Wire, request},
    world::{
        World,
        site::{Collect, bytes},
    },
};

matrix! {
    http1 {
        it_is_served_as_others_are,
        pipelined_requests_get_responses_in_order,
        bodies_of_every_kind,
        an_upload_pushes_back,
        a_body_goes_from_one_to_the_other,
        an_upgrade_works_over_pipes,
        a_half_closed_client_gets_its_response,
        a_peer_may_leave_at_any_point,
        abort_truncates_the_output,
        it_does_not_count_toward_the_limit_and_is_reported,
        a_peer_may_be_rejected,
        an_idle_one_is_closed_and_a_slow_head_is_a_408,
        a_peer_that_does_not_read_times_out,
        at_once_everything_ends,
        gracefully_open_requests_are_finished,
        a_loop_that_has_ended_gives_the_pipes_back,
    }
}

fn it_is_served_as_others_are(world: &World) {
    let server = Within::on(world);
    let (mut wire, mut other) = (server.connect(), server.connect());
    let ids: Vec<String> = (0..3).map(|_| wire.request("GET /id", &[]).response().is(200).text().to_owned()).collect();
    let conn = ids[0].strip_suffix("/1").expect("the first request");
    assert_eq!(ids[1..], [format!("{conn}/2"), format!("{conn}/3")]);
    let response = other.request("GET /id", &["Connection: close"]).response();
    assert!(!response.text().starts_with(conn) && response.get("connection") == Some("close"));
    other.ends(Finish::Clean);
    assert_eq!(server.reports.closed.next(), EndReason::Complete);
    wire.send("GET / HTTP/1.1\r\n\r\n").response().is(400);
    wire.ends(Finish::Clean);
    wire.finish();
    assert!(matches!(server.reports.closed.next(), EndReason::Rejected { status: 400, .. }));
}

fn pipelined_requests_get_responses_in_order(world: &World) {
    let server = Within::on(world);
    for (room, count) in [(100, 2), (ROOM, 20)] {
        let mut wire = server.connect_by(room);
        check_pipelining(&mut wire);
        // Requests that are held back because the peer does not read are not lost when it has half-closed.
        let mut wire = server.connect_by(room);
        wire.send(request("GET /shared", &[]).repeat(count)).finish();
        for _ in 0..count {
            assert_eq!(wire.response().body.len(), 500_000);
        }
        wire.ends(Finish::Clean);
    }
}

fn bodies_of_every_kind(world: &World) {
    let server = Within::on(world);
    for room in [1000, 256 * 1024] {
        let mut wire = server.connect_by(room);
        assert!(wire.request("GET /file", &[]).response().body == std::fs::read(FILE).expect("a file of the tests"));
        assert!(wire.request("GET /shared", &[]).response().body == bytes(500_000));
        assert_eq!(wire.request("HEAD /shared", &[]).head().get("content-length"), Some("500000"));
        assert_eq!(wire.request("GET /trailers", &[]).head().get("transfer-encoding"), Some("chunked"));
        let mut got = Vec::new();
        while got.len() < 300_000 {
            got.extend(wire.next_chunk());
        }
        assert!(got == bytes(300_000));
        wire.expect("0\r\nX-Sum: 7\r\n\r\n");
        let sent = bytes(700_000);
        assert!(wire.post("/count", &[], &sent).response().body == sent);
        wire.request("POST /count", &["Transfer-Encoding: chunked", "Expect: 100-continue"]).head().is(100);
        for chunk in sent.chunks(33_333) {
            wire.chunk(chunk);
        }
        let response = wire.send("0\r\nX-Sum: 9\r\n\r\n").response();
        assert!(response.body == sent && response.get("x-sum") == Some("9"));
    }
}

/// The handler does not receive the body: the pipe and the engine accept only what they hold.
fn an_upload_pushes_back(world: &World) {
    let server = Within::on(world);
    let (mut to, mut from) = server.ends(ROOM);
    let body = bytes(1_000_000);
    let head = request("POST /wait", &[&format!("Content-Length: {}", body.len())]);
    assert_eq!(to.write(head.as_bytes()), head.len());
    let ticket = server.reports.tickets.next();
    // The other loop empties the pipe as far as it can. The engine is full when it reads no more for a while.
    let (mut sent, mut silent) = (0, 0);
    while silent < 20 {
        let n = to.write(&body[sent..]);
        sent += n;
        silent = if n > 0 { 0 } else { silent + 1 };
        assert!(server.reports.ends.is_silent(Duration::from_millis(5)), "it waits");
    }
    assert!(sent < 6 * ROOM, "{sent} bytes were sent without a reader");
    ticket.receive(Collect::default()).map_err(drop).expect("a suspended request");
    let (mut got, all) = (Vec::new(), body.len() + 100);
    while got.len() < all && !from.is_truncated() {
        sent += to.write(&body[sent..]);
        let n = {
            let bytes = from.bytes();
            got.extend_from_slice(bytes);
            bytes.len()
        };
        from.consume(n);
        if got.windows(4).position(|end| end == b"\r\n\r\n").is_some_and(|at| got.len() == at + 4 + body.len()) {
            break;
        }
        std::thread::yield_now();
    }
    assert!(got.ends_with(&body) && got.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(server.reports.ends.next().received, body.len() as u64);
}

/// Through the engine's own pipe: here bytes are copied, which are spliced between sockets.
fn a_body_goes_from_one_to_the_other(world: &World) {
    let server = Within::on(world);
    let body = bytes(2_000_000);
    let (mut to, mut from) = (server.connect_by(1 << 18), server.connect_by(1 << 18));
    to.request("GET /wait", &[]);
    let receiver = server.reports.tickets.next();
    from.request("POST /wait", &[&format!("Content-Length: {}", body.len())]);
    let sender = server.reports.tickets.next();
    let (inlet, outlet) = pipe(256 * 1024);
    receiver.respond(Response::stream(outlet).length(body.len() as u64)).expect("a suspended request");
    sender.receive(inlet).map_err(drop).expect("a suspended request");
    let sent = body.clone();
    let writer = std::thread::spawn(move || {
        from.send(sent);
        from
    });
    assert!(to.response().body == body);
    let mut from = writer.join().expect("sent");
    sender.respond(Response::text("done")).expect("a suspended request");
    assert_eq!(from.response().text(), "done");
}

fn an_upgrade_works_over_pipes(world: &World) {
    let server = Within::on(world);
    for room in [1, 1000, 64 * 1024] {
        let mut wire = server.connect_by(room);
        let input = bytes(if room == 1 { 2000 } else { 400_000 });
        wire.send(UPGRADE).head().is(101);
        for piece in input.chunks(30_000) {
            wire.send(piece);
            assert!(wire.exactly(piece.len()) == piece);
        }
        wire.finish().ends(Finish::Clean);
        assert_eq!(server.reports.ends.next().reason, EndReason::Complete);
        assert_eq!(server.reports.closed.next(), EndReason::Complete);
    }
    // The upgrade learns that its peer has disconnected.
    let mut wire = server.connect();
    wire.send(UPGRADE).head().is(101);
    wire.reset();
    assert_eq!(server.reports.ends.next().reason, EndReason::PeerClosed);
    assert_eq!(server.reports.closed.next(), EndReason::PeerClosed);
}

fn a_half_closed_client_gets_its_response(world: &World) {
    let server = Within::on(world);
    let mut wire = server.connect_by(1000);
    let sent = bytes(100_000);
    wire.post("/count", &[], &sent).finish();
    assert!(wire.response().body == sent);
    wire.ends(Finish::Clean);
    // A client of a suspended request has left, as on a socket; also if its later input is not read.
    for more in [0, 20_000] {
        let (mut to, from) = server.ends(64 * 1024);
        server.reports.ends.rest();
        let input = [request("GET /wait", &[]).as_bytes(), &bytes(more)].concat();
        assert_eq!(to.write(&input), input.len());
        let ticket = server.reports.tickets.next();
        to.finish(None);
        assert_eq!(server.reports.ends.next().reason, EndReason::PeerClosed);
        assert!(ticket.respond(Response::new(200)).is_err());
        drop(from);
    }
    // The same holds while a response pauses, unless it allows half-close.
    for (path, left) in [("/pause", true), ("/pause-allowed", false)] {
        let (mut to, from) = server.ends(64 * 1024);
        let input = request(&format!("GET {path}"), &[]);
        assert_eq!(to.write(input.as_bytes()), input.len());
        to.finish(None);
        match left {
            true => assert_eq!(server.reports.ends.next().reason, EndReason::PeerClosed),
            false => assert!(server.reports.ends.is_silent(Duration::from_millis(50))),
        }
        drop(from);
        if !left {
            assert_eq!(server.reports.ends.next().reason, EndReason::PeerClosed);
        }
    }
}

/// Either end is dropped: before any input, within and after a head, in a body, while a request is suspended, in a
/// response, between two requests.
fn a_peer_may_leave_at_any_point(world: &World) {
    let server = Within::on(world);
    let whole = |line: &str| request(line, &[]);
    let inputs = [
        String::new(),
        "GET /he".to_owned(),
        request("POST /count", &["Content-Length: 9"]),
        request("POST /count", &["Content-Length: 9"]) + "some",
        request("POST /count", &["Transfer-Encoding: chunked"]) + "5\r\nso",
        whole("GET /wait"),
        whole("GET /endless"),
        whole("GET /shared"),
        whole("GET /up") + "x",
        whole("GET /") + "GET",
        whole("GET /"),
    ];
    for input in &inputs {
        for way in 0..3 {
            let (mut to, from) = server.ends(ROOM);
            assert_eq!(to.write(input.as_bytes()), input.len());
            if input.contains("/wait") {
                server.reports.tickets.next();
            }
            match way {
                0 => drop(to),
                1 => drop(from),
                _ => drop((to, from)),
            }
            let reason = server.reports.closed.next();
            assert_eq!(reason, EndReason::PeerClosed, "{input:?}, {way}");
        }
    }
    // No other connection is affected.
    server.connect().request("GET /id", &[]).response().is(200);
}

fn abort_truncates_the_output(world: &World) {
    let server = Within::on(world);
    let mut wire = server.connect();
    wire.request("GET /abort", &[]);
    assert_eq!(wire.until_end().1, Finish::Reset);
    assert_eq!(server.reports.closed.next(), EndReason::Aborted);
}

fn it_does_not_count_toward_the_limit_and_is_reported(world: &World) {
    let server = Within::limited(world, Limits { connections: 1, connections_per_address: 1, ..Limits::default() });
    let mut wires: Vec<Wire> = (0..4).map(|_| server.connect()).collect();
    for wire in &mut wires {
        wire.request("GET /id", &[]).response().is(200);
    }
    // One connection is still allowed, and after those have ended still only one.
    let mut inbound = server.host.connect();
    inbound.request("GET /here", &[]).response().is(200);
    for mut wire in wires {
        wire.finish().ends(Finish::Clean);
        assert_eq!(server.reports.closed.next(), EndReason::Complete);
    }
    inbound.request("GET /here", &[]).response().is(200);
}

fn a_peer_may_be_rejected(world: &World) {
    let server = Within::on(world);
    let ((to, input), (output, mut from)) = (pipe(ROOM), pipe(ROOM));
    let peer = PeerAddr::tcp("[::ffff:198.51.100.1]:1".parse().expect("an address"));
    server.here.adopt_pipes(peer, input, output, 0).expect("a loop");
    // When a later connection is served, the loop has handled the earlier one.
    let mut wire = server.connect();
    wire.request("GET /id", &[]).response().is(200);
    assert!(to.is_closed() && from.is_truncated() && from.bytes().is_empty());
    assert!(server.reports.closed.is_silent(Duration::from_millis(20)), "a rejected peer is not reported");
}

fn an_idle_one_is_closed_and_a_slow_head_is_a_408(world: &World) {
    let short = Duration::from_millis(150);
    let server = Within::limited(world, Limits { idle_timeout: short, head_timeout: short, ..Limits::default() });
    let mut wire = server.connect();
    wire.request("GET /id", &[]).response().is(200);
    wire.ends(Finish::Clean);
    assert_eq!(server.reports.closed.next(), EndReason::TimedOut(Timeout::Idle));
    let mut wire = server.connect();
    wire.send("GET / HT").response().is(408);
    wire.ends(Finish::Clean);
    wire.finish();
    assert_eq!(server.reports.closed.next(), EndReason::TimedOut(Timeout::Head));
}

fn a_peer_that_does_not_read_times_out(world: &World) {
    let server = Within::limited(world, Limits { send_timeout: Duration::from_millis(150), ..Limits::default() });
    let (mut to, mut from) = server.ends(ROOM);
    to.write(request("GET /endless", &[]).as_bytes());
    assert_eq!(server.reports.closed.next(), EndReason::TimedOut(Timeout::Send));
    assert!(!from.bytes().is_empty());
    assert!(from.is_truncated(), "a part is not the whole");
}

fn at_once_everything_ends(world: &World) {
    let server = Within::on(world);
    let (mut idle, mut waiting, mut streaming) = (server.connect(), server.connect(), server.connect());
    idle.request("GET /id", &[]).response();
    assert_eq!(server.reports.ends.next().reason, EndReason::Complete);
    waiting.request("GET /wait", &[]);
    let ticket = server.reports.tickets.next();
    streaming.request("GET /endless", &[]).head().is(200);
    server.host.stopper.stop_now();
    assert_eq!(
        [server.reports.ends.next().reason, server.reports.ends.next().reason],
        [EndReason::Stopped, EndReason::Stopped]
    );
    waiting.response().is(503);
    assert_eq!(streaming.until_end().1, Finish::Reset);
    idle.ends(Finish::Clean);
    assert_eq!([(); 3].map(|()| server.reports.closed.next()), [EndReason::Stopped; 3]);
    assert!(ticket.is_closed());
}

fn gracefully_open_requests_are_finished(world: &World) {
    let server = Within::on(world);
    let (mut idle, mut waiting) = (server.connect(), server.connect());
    idle.request("GET /id", &[]).response();
    waiting.request("GET /wait", &[]);
    let ticket = server.reports.tickets.next();
    server.host.stopper.shutdown(Duration::from_secs(60));
    server.reports.stopping.next();
    idle.ends(Finish::Clean);
    ticket.respond(Response::text("done")).expect("a suspended request");
    assert_eq!(waiting.response().get("connection"), Some("close"));
    waiting.ends(Finish::Clean);
}

fn a_loop_that_has_ended_gives_the_pipes_back(world: &World) {
    let server = Within::on(world);
    server.host.stopper.stop_now();
    let ((mut to, input), (output, mut from)) = (pipe(ROOM), pipe(ROOM));
    let mut pipes = (input, output);
    // A stop was requested, but may not have happened yet.
    let given_back = loop {
        let before = pipes;
        match server.here.adopt_pipes(peer(), before.0, before.1, 0) {
            Err(back) => break Some(back),
            Ok(()) => {
                let ((ours, input), (output, theirs)) = (pipe(ROOM), pipe(ROOM));
                (to, from, pipes) = (ours, theirs, (input, output));
                std::thread::yield_now();
            }
        }
    };
    let (mut input, mut output) = given_back.expect("they are given back");
    to.write(b"as they were");
    assert_eq!(input.bytes(), b"as they were");
    output.write(b"both");
    assert_eq!(from.bytes(), b"both");
}
