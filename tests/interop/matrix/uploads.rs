//! Request bodies: back-pressure, `100 Continue`, early responses, rejections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

use uncork::{
    Action, Consumed, EndReason, Limits, PipeIn, Request, Response, Ticket, Upload, Waker, h1::Headers, pipe,
};

use crate::{
    wire::{Finish, Wire},
    world::{World, bytes, report_channel, report_end},
};

matrix! {
    everywhere {
        an_upload_comes_in_however_it_is_sent,
        an_upload_pushes_back,
        what_was_not_taken_is_offered_again,
        a_response_begins_before_the_body_has_ended,
        a_body_beyond_the_limit_is_rejected,
        a_short_unwanted_body_is_thrown_away,
        an_upload_whose_peer_leaves_is_dropped,
    }
    http1 {
        continue_is_sent_when_the_body_is_wanted,
        an_upload_continues_after_an_early_response,
        a_rejected_upload_gets_its_response,
        an_upload_may_stop_in_the_middle,
        a_panic_of_an_upload_costs_a_500,
        a_truncated_upload_may_get_a_response,
    }
}

/// Collects the body, and responds with it and the trailer field.
#[derive(Default)]
struct Gather(Vec<u8>);

impl Upload for Gather {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        Response::new(200).header("X-Sum", trailers.get("x-sum").unwrap_or(b"none")).body(self.0).into()
    }
}

fn gather() -> Action {
    Action::Receive(Box::<Gather>::default())
}

fn an_upload_comes_in_however_it_is_sent(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| gather());
    let mut wire = host.connect();
    let body = bytes(300_000);
    assert!(wire.post("/", &[], &body).response().body == body);
    assert_eq!(wire.post("/", &[], b"").response().text(), "");
    wire.request("POST /", &["Content-Length: 5"]);
    for byte in b"bytes" {
        wire.send([*byte]);
    }
    assert_eq!(wire.response().text(), "bytes");
    wire.request("POST /", &["Transfer-Encoding: chunked"]);
    wire.chunk(b"one").chunk(&body).send("3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n");
    let response = wire.response();
    assert_eq!((response.body.len(), response.get("x-sum")), (300_006, Some("6")));
}

/// Consumes nothing while the gate is closed, and records the largest piece it was offered.
struct Gated {
    open: Arc<AtomicBool>,
    largest: usize,
    got: usize,
}

impl Upload for Gated {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.largest = self.largest.max(chunk.len());
        if !self.open.load(Ordering::Acquire) {
            return Consumed::Partial(0);
        }
        self.got += chunk.len();
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text(format!("{} {}", self.got, self.largest)).into()
    }
}

fn an_upload_pushes_back(world: &World) {
    const ALL: usize = 12 << 20;
    let (report, wakers) = report_channel::<Waker>();
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let host = world.serve(move |req: &mut Request<'_>| {
        report.send(req.waker()).expect("a receiver");
        Action::Receive(Box::new(Gated { open: gate.clone(), largest: 0, got: 0 }))
    });
    let mut wire = host.connect();
    wire.request("POST /", &[&format!("Content-Length: {ALL}")]);
    let body = vec![b'x'; ALL];
    let sent = wire.push(&body, Duration::from_millis(300));
    assert!(sent < ALL, "sent without a reader");
    open.store(true, Ordering::Release);
    wakers.next().wake();
    wire.send(&body[sent..]);
    let response = wire.response();
    let (got, largest) = response.text().split_once(' ').expect("two numbers");
    assert_eq!(got, ALL.to_string());
    assert!(largest.parse::<usize>().expect("a number") <= 128 * 1024, "held at once: {largest}");
}

/// Takes one byte per call, and wakes itself from inside the call.
struct Nibble(Vec<u8>, Waker);

impl Upload for Nibble {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.push(chunk[0]);
        self.1.wake();
        Consumed::Partial(1)
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text(self.0).into()
    }
}

fn what_was_not_taken_is_offered_again(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| Action::Receive(Box::new(Nibble(Vec::new(), req.waker()))));
    let mut wire = host.connect();
    let body = bytes(1000);
    assert!(wire.post("/", &[], &body).response().body == body);
    wire.request("POST /", &["Transfer-Encoding: chunked"]).chunk(&body[..500]).chunk(&body[500..]).chunk(b"");
    assert!(wire.response().body == body);
}

fn continue_is_sent_when_the_body_is_wanted(world: &World) {
    let (report, tickets) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| match req.path() {
        "/now" => gather(),
        "/later" => {
            report.send(req.ticket()).expect("a receiver");
            Action::Suspend
        }
        _ => Response::new(403).into(),
    });
    let expects = ["Expect: 100-continue", "Content-Length: 4"];
    let mut wire = host.connect();
    wire.request("POST /now", &expects).head().is(100);
    assert_eq!(wire.send("body").response().is(200).text(), "body");
    wire.request("POST /later", &expects);
    let ticket = tickets.next();
    assert!(wire.is_silent(Duration::from_millis(50)), "the body was requested early");
    assert!(ticket.receive(Gather::default()).is_ok(), "the request is suspended");
    wire.head().is(100);
    assert_eq!(wire.send("body").response().is(200).text(), "body");
    // The body has arrived already: no informational response (1xx) is sent.
    wire.post("/now", &["Expect: 100-continue"], b"body");
    let mut head = wire.head();
    if head.status == 100 {
        // Head and body did not arrive in one piece.
        head = wire.head();
    }
    assert_eq!((head.status, wire.exactly(4)), (200, b"body".to_vec()));
    let response = wire.request("POST /rejected", &expects).response();
    assert_eq!(response.is(403).get("connection"), Some("close"));
    wire.finish().ends(Finish::Clean);
}

fn a_response_begins_before_the_body_has_ended(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| {
        let (inlet, outlet) = pipe(4096);
        req.ticket().respond(Response::stream(outlet)).expect("the request is open");
        Action::Receive(Box::new(inlet))
    });
    let mut wire = host.connect();
    wire.request("POST /", &["Transfer-Encoding: chunked"]).head().is(200);
    for word in ["one", "two", "three"] {
        assert_eq!(wire.chunk(word.as_bytes()).next_chunk(), word.as_bytes());
    }
    assert_eq!(wire.chunk(b"").next_chunk(), b"");
    let body = vec![b'x'; 50_000];
    assert!(wire.post("/", &[], &body).response().body == body);
}

struct Count(usize, Sender<usize>);

impl Upload for Count {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0 += chunk.len();
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        self.1.send(self.0).expect("a receiver");
        Action::Suspend
    }
}

fn an_upload_continues_after_an_early_response(world: &World) {
    let ((report, counted), (report_ends, ended)) = (report_channel(), report_channel());
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report_ends);
        req.ticket().respond(Response::text("early")).expect("the request is open");
        Action::Receive(Box::new(Count(0, report.clone())))
    });
    let mut wire = host.connect();
    for fields in [&["Content-Length: 8"][..], &["Content-Length: 8", "Connection: close"]] {
        assert_eq!(wire.request("POST /", fields).response().is(200).text(), "early");
        wire.send("four").send("more");
        assert_eq!(counted.next(), 8, "{fields:?}");
        let end = ended.next();
        assert_eq!((end.reason, end.received, end.written), (EndReason::Complete, 8, 5));
    }
    wire.ends(Finish::Clean);
}

fn a_rejected_upload_gets_its_response(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::new(413).body("too much"));
    let mut wire = host.connect();
    wire.request("PUT /", &["Content-Length: 99999999"]);
    for _ in 0..64 {
        wire.send([b'x'; 64 * 1024]);
    }
    let response = wire.response();
    assert_eq!((response.is(413).text(), response.get("connection")), ("too much", Some("close")));
    wire.finish().ends(Finish::Clean);
}

fn a_body_beyond_the_limit_is_rejected(world: &World) {
    let host = world.serve_within(Limits { body: 100, ..Limits::default() }, |_: &mut Request<'_>| gather());
    let mut wire = host.connect();
    assert_eq!(wire.post("/", &[], &[b'x'; 100]).response().is(200).body.len(), 100);
    wire.request("POST /", &["Content-Length: 101", "Expect: 100-continue"]).response().is(413);
    wire.finish().ends(Finish::Clean);
    let mut wire = host.connect();
    wire.request("POST /", &["Transfer-Encoding: chunked"]).chunk(&[b'x'; 60]).chunk(&[b'x'; 60]);
    wire.response().is(413);
    wire.finish().ends(Finish::Clean);
}

/// Stops after four bytes.
struct Impatient;

impl Upload for Impatient {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        if chunk.len() < 4 { Consumed::Partial(0) } else { Consumed::Stop(Response::new(422).into()) }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::new(200).into()
    }
}

fn an_upload_may_stop_in_the_middle(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        Action::Receive(Box::new(Impatient))
    });
    let mut wire = host.connect();
    wire.request("POST /", &["Content-Length: 1000"]).send("enough").response().is(422);
    // The body is short: the rest is discarded, and the connection continues.
    wire.send([b'x'; 994]);
    assert_eq!(ended.next().reason, EndReason::Complete);
    wire.request("POST /", &["Transfer-Encoding: chunked"]).chunk(b"enough").response().is(422);
    wire.chunk(b"more").chunk(b"");
    wire.request("POST /", &["Content-Length: 1000000"]).send("enough");
    assert_eq!(wire.response().is(422).get("connection"), Some("close"));
    wire.finish().ends(Finish::Clean);
}

fn a_short_unwanted_body_is_thrown_away(world: &World) {
    let host = world.serve(|_: &mut Request<'_>| Response::text("no need"));
    let mut wire = host.connect();
    wire.post("/", &[], &[b'x'; 1000]).response().is(200);
    wire.request("POST /", &["Content-Length: 1000"]).response().is(200);
    wire.send([b'x'; 1000]);
    wire.request("POST /", &["Transfer-Encoding: chunked"]).chunk(b"some").chunk(b"").response().is(200);
    assert_eq!(wire.request("GET /", &[]).response().is(200).get("connection"), None);
}

struct Panics {
    in_pipe: bool,
}

impl Upload for Panics {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        assert!(chunk.is_empty(), "on purpose");
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        panic!("on purpose")
    }

    fn pipe(&mut self) -> Option<&mut PipeIn> {
        assert!(!self.in_pipe, "on purpose");
        None
    }
}

fn a_panic_of_an_upload_costs_a_500(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        Action::Receive(Box::new(Panics { in_pipe: req.path() == "/pipe" }))
    });
    for (path, body) in [("/", ""), ("/", "body"), ("/pipe", "body")] {
        let mut wire = host.connect();
        assert_eq!(wire.post(path, &[], body.as_bytes()).response().is(500).get("connection"), Some("close"));
        wire.finish().ends(Finish::Clean);
        ended.next();
    }
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

fn an_upload_whose_peer_leaves_is_dropped(world: &World) {
    let ((report, ended), (report_request, requested)) = (report_channel(), report_channel());
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        report_request.send(()).expect("a receiver");
        gather()
    });
    for leave in [Wire::finish, Wire::end_tcp] {
        let mut wire = host.connect();
        wire.request("POST /", &["Content-Length: 10"]).send("four");
        requested.next();
        leave(&mut wire);
        let end = ended.next();
        assert_eq!((end.reason, end.received, end.written), (EndReason::PeerClosed, 4, 0));
    }
    let mut wire = host.connect();
    wire.request("POST /", &["Content-Length: 10", "Expect: 100-continue"]).head().is(100);
    wire.reset();
    assert_eq!(ended.next().reason, EndReason::PeerClosed);
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

/// Responds to a truncated body itself.
struct Insists(Option<Ticket>);

impl Upload for Insists {
    fn data(&mut self, _: &[u8]) -> Consumed {
        Consumed::All
    }

    fn end(mut self: Box<Self>, _: &Headers) -> Action {
        self.0 = None;
        Response::text("whole").into()
    }
}

impl Drop for Insists {
    fn drop(&mut self) {
        if let Some(ticket) = self.0.take() {
            // The request has ended with its peer.
            let _ = ticket.respond(Response::text("an unexpected event").with_status(422));
        }
    }
}

fn a_truncated_upload_may_get_a_response(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        Action::Receive(Box::new(Insists(Some(req.ticket()))))
    });
    for broken in ["x\r\n", "5\r\nhello world", "ffffffffffffffffffff\r\n"] {
        let mut wire = host.connect();
        wire.request("POST /", &["Transfer-Encoding: chunked"]).chunk(b"some").send(broken);
        let response = wire.response();
        assert_eq!(
            (response.is(422).text(), response.get("connection")),
            ("an unexpected event", Some("close")),
            "{broken:?}"
        );
        wire.ends(Finish::Clean);
        assert!(matches!(ended.next().reason, EndReason::Rejected { status: 400, .. }));
    }
    // A disconnected client gets no response. Only its end is reported.
    let mut wire = host.connect();
    wire.request("POST /", &["Content-Length: 10"]).send("some").finish();
    assert_eq!(ended.next().reason, EndReason::PeerClosed);
    assert_eq!(host.connect().post("/", &[], b"some").response().text(), "whole");
}
