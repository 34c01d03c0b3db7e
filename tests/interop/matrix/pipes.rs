//! The engine's pipe between two connections: on one loop (external), on two (thread per connection), and on either
//! (threads). Over plain sockets the bodies of known length are long enough to be spliced: 64 KiB and more. Events in
//! the middle of a body are in `pipe_ends`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use uncork::{Action, EndReason, Limits, PipeCounters, Request, Response, Ticket, pipe};

use crate::{
    wire::{Finish, Wire},
    world::{Host, Reports, World, bytes, report_channel, report_end},
};

matrix! {
    everywhere {
        a_body_of_known_length_goes_through,
        a_chunked_body_goes_through_with_its_trailers,
        an_empty_body_goes_through,
        a_small_piece_goes_through_at_once,
        a_receiver_that_waits_pushes_the_sender_back,
        a_receiver_may_want_a_clean_end,
        many_pairs_at_once,
    }
    http1 {
        what_follows_a_body_is_another_request,
        the_sender_learns_that_the_receiver_left,
        a_sender_that_leaves_truncates_the_response,
    }
}

/// A GET is suspended until a PUT arrives, and receives its body. The response to the PUT names the end of the GET.
#[derive(Clone, Default)]
struct Relay {
    waiting: Arc<Mutex<VecDeque<(Ticket, SenderTicket)>>>,
    moved: Arc<Mutex<Vec<PipeCounters>>>,
    room: usize,
}

type SenderTicket = Arc<Mutex<Option<Ticket>>>;

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    fn request(&self, req: &mut Request<'_>) -> Action {
        if req.method() == "GET" {
            let sender_ticket = SenderTicket::default();
            let sender = sender_ticket.clone();
            req.on_end(move |end| {
                if let Some(ticket) = locked(&sender).take() {
                    let _ = ticket.respond(Response::text(format!("{:?} {}", end.reason, end.written)));
                }
            });
            locked(&self.waiting).push_back((req.ticket(), sender_ticket));
            return Action::Suspend;
        }
        let Some((receiver, sender_ticket)) = locked(&self.waiting).pop_front() else {
            return Response::new(409).into();
        };
        *locked(&sender_ticket) = Some(req.ticket());
        let (inlet, outlet) = pipe(self.room);
        locked(&self.moved).push(inlet.counters());
        let outlet = if req.path() == "/clean" { outlet.end_cleanly_if_truncated() } else { outlet };
        let response = Response::stream(outlet).length(req.content_length());
        let response = if req.path() == "/confirmed" { response.wait_for_ack() } else { response };
        match receiver.respond(response) {
            Ok(()) => Action::Receive(Box::new(inlet)),
            Err(_) => Response::new(410).into(),
        }
    }
}

pub(crate) struct Served {
    pub(crate) host: Host,
    requests: Reports<()>,
    pub(crate) ended: Reports<uncork::RequestEnd>,
    moved: Arc<Mutex<Vec<PipeCounters>>>,
}

fn serve(world: &World, room: usize) -> Served {
    serve_within(world, room, Limits::default())
}

pub(crate) fn serve_within(world: &World, room: usize, limits: Limits) -> Served {
    let ((report, requests), (report_ends, ended)) = (report_channel(), report_channel());
    let relay = Relay { room, ..Relay::default() };
    let moved = relay.moved.clone();
    let host = world.serve_measured(limits, move |req: &mut Request<'_>| {
        report_end(req, &report_ends);
        let action = relay.request(req);
        if req.method() == "GET" {
            report.send(()).expect("a receiver");
        }
        action
    });
    Served { host, requests, ended, moved }
}

impl Served {
    /// Returns a receiver whose request is suspended.
    pub(crate) fn receiver(&self) -> Wire {
        let mut wire = self.host.connect();
        wire.request("GET /", &[]);
        self.requests.next();
        wire
    }

    /// Like [`receiver`](Self::receiver), but with HTTP/1.0.
    pub(crate) fn older_receiver(&self) -> Wire {
        let mut wire = self.host.connect();
        wire.send("GET / HTTP/1.0\r\n\r\n");
        self.requests.next();
        wire
    }

    /// Returns the counters of all pipes so far: bytes written and read.
    pub(crate) fn moved(&self) -> Vec<(u64, u64)> {
        // The writer's counter is read last, so that it is never lower.
        let both = |moved: &PipeCounters| (moved.read(), moved.written());
        locked(&self.moved).iter().map(both).map(|(out, into)| (into, out)).collect()
    }
}

fn a_body_of_known_length_goes_through(world: &World) {
    let served = serve(world, 64 * 1024);
    for size in [1, 5, 64 * 1024, 3_000_000] {
        let (body, mut to) = (bytes(size), served.receiver());
        let mut from = served.host.connect();
        let sent = body.clone();
        let sender = std::thread::spawn(move || from.post("/", &[], &sent).response());
        let response = to.response();
        assert!(response.body == body && response.get("content-length") == Some(&size.to_string()));
        assert_eq!(sender.join().expect("sent").text(), format!("Complete {size}"));
    }
}

fn a_chunked_body_goes_through_with_its_trailers(world: &World) {
    let served = serve(world, 64 * 1024);
    let (body, mut to) = (bytes(1_000_000), served.receiver());
    let mut from = served.host.connect();
    let sent = body.clone();
    let sender = std::thread::spawn(move || {
        from.request("POST /", &["Transfer-Encoding: chunked"]);
        for chunk in sent.chunks(33_333) {
            from.chunk(chunk);
        }
        from.send("0\r\nX-Sum: 7\r\n\r\n").response()
    });
    assert_eq!(to.head().is(200).get("transfer-encoding"), Some("chunked"));
    let mut got = Vec::new();
    while got.len() < body.len() {
        got.extend(to.next_chunk());
    }
    assert!(got == body);
    let end = "0\r\nX-Sum: 7\r\n\r\n";
    assert!(to.exactly(end.len()).eq_ignore_ascii_case(end.as_bytes()));
    assert!(sender.join().expect("sent").text().starts_with("Complete"));
}

fn an_empty_body_goes_through(world: &World) {
    let served = serve(world, 4096);
    for fields in [&["Content-Length: 0"][..], &["Transfer-Encoding: chunked"]] {
        let (mut to, mut from) = (served.receiver(), served.host.connect());
        from.request("POST /", fields);
        if fields[0].starts_with('T') {
            from.chunk(b"");
        }
        assert_eq!(to.response().is(200).body.len(), 0);
        assert_eq!(from.response().text(), "Complete 0");
    }
}

/// Sends them in one call, so that the request is read together with the end of the body.
fn what_follows_a_body_is_another_request(world: &World) {
    let served = serve(world, 256 * 1024);
    let body = bytes(400_000);
    for chunked in [false, true] {
        let (mut first, mut second) = (served.receiver(), served.receiver());
        let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 400000" };
        let mut all = format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n").into_bytes();
        let (mut rest, mut sizes) = (&body[..], [1, 4095, 100, 4096, 5000, 16_384, 70_000].into_iter().cycle());
        while chunked && !rest.is_empty() {
            let (chunk, next) = rest.split_at(sizes.next().map_or(1, |size| rest.len().min(size)));
            all.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
            all.extend_from_slice(chunk);
            all.extend_from_slice(b"\r\n");
            rest = next;
        }
        all.extend_from_slice(if chunked { b"0\r\n\r\n" } else { rest });
        all.extend_from_slice(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        let mut from = served.host.connect();
        let sender = std::thread::spawn(move || {
            from.send(all);
            [from.response(), from.response()].map(|response| response.text().to_owned())
        });
        assert!(first.response().is(200).body == body, "{framing}");
        assert_eq!(second.response().is(200).body, b"hello");
        let reports = sender.join().expect("sent");
        assert!(reports[0].starts_with("Complete 400") && reports[1] == "Complete 5", "{reports:?}");
    }
}

fn a_small_piece_goes_through_at_once(world: &World) {
    let served = serve(world, 4096);
    let (mut to, mut from) = (served.receiver(), served.host.connect());
    from.request("POST /", &["Transfer-Encoding: chunked"]);
    to.head().is(200);
    for n in 0..20 {
        let word = n.to_string();
        from.chunk(word.as_bytes());
        assert_eq!(to.next_chunk(), word.as_bytes());
    }
    from.chunk(b"");
    assert_eq!(to.next_chunk(), b"");
    assert!(from.response().text().starts_with("Complete"));
}

fn a_receiver_that_waits_pushes_the_sender_back(world: &World) {
    const ALL: usize = 12 << 20;
    let served = serve(world, 256 * 1024);
    let mut to = served.receiver();
    let mut from = served.host.connect();
    from.request("POST /", &[&format!("Content-Length: {ALL}")]);
    let body = bytes(ALL);
    let sent = from.push(&body, Duration::from_millis(300));
    assert!(sent < ALL, "sent without a reader");
    let rest = body[sent..].to_vec();
    let sender = std::thread::spawn(move || from.send(rest).response());
    assert!(to.response().body == body);
    assert_eq!(sender.join().expect("sent").text(), format!("Complete {ALL}"));
}

fn the_sender_learns_that_the_receiver_left(world: &World) {
    let served = serve(world, 64 * 1024);
    for fields in [&["Content-Length: 1000000"][..], &["Transfer-Encoding: chunked"]] {
        let (mut to, mut from) = (served.receiver(), served.host.connect());
        served.ended.rest();
        from.request("POST /", fields).send("4\r\nmore\r\n");
        to.head().is(200);
        to.exactly(4);
        to.reset();
        let response = from.response();
        assert!(response.is(200).text().starts_with("PeerClosed"), "{response:?}");
        assert_eq!(served.ended.next().reason, EndReason::PeerClosed);
        from.finish().until_end();
        served.ended.next();
    }
}

fn a_sender_that_leaves_truncates_the_response(world: &World) {
    let served = serve(world, 64 * 1024);
    for fields in [&["Content-Length: 1000000"][..], &["Transfer-Encoding: chunked"]] {
        for way in 0..2 {
            let (mut to, mut from) = (served.receiver(), served.host.connect());
            served.ended.rest();
            from.request("POST /", fields).send("4\r\nmore\r\n");
            to.head().is(200);
            to.exactly(4);
            if way == 0 {
                from.finish();
            } else {
                from.reset();
            }
            let (_, finish) = to.until_end();
            assert_eq!(finish, Finish::Reset, "a part was accepted as the whole");
            let mut reasons =
                [served.ended.next().reason, served.ended.next().reason].map(|reason| format!("{reason:?}"));
            reasons.sort();
            assert_eq!(reasons, ["Aborted", "PeerClosed"]);
        }
    }
}

fn a_receiver_may_want_a_clean_end(world: &World) {
    let served = serve(world, 64 * 1024);
    let (mut to, mut from) = (served.receiver(), served.host.connect());
    from.request("POST /clean", &["Transfer-Encoding: chunked"]).chunk(b"more");
    to.head().is(200);
    assert_eq!(to.next_chunk(), b"more");
    from.reset();
    assert_eq!(to.next_chunk(), b"");
    // The declared length cannot be kept: no end is clean then.
    let (mut to, mut from) = (served.receiver(), served.host.connect());
    from.request("POST /clean", &["Content-Length: 1000000"]).send("more");
    to.head().is(200);
    to.expect("more");
    from.reset();
    to.ends(Finish::Reset);
}

fn many_pairs_at_once(world: &World) {
    let served = serve(world, 64 * 1024);
    let receivers: Vec<Wire> = (0..24).map(|_| served.receiver()).collect();
    std::thread::scope(|scope| {
        for mut to in receivers {
            let mut from = served.host.connect();
            scope.spawn(move || assert!(to.response().body == bytes(200_000)));
            scope.spawn(move || {
                assert!(from.post("/", &[], &bytes(200_000)).response().text().starts_with("Complete"));
            });
        }
    });
}
