//! Requests that are suspended for a response from elsewhere, and clients that disconnect meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{Action, EndReason, Request, Response, Ticket, h1::Headers};

use crate::{
    http::names_the_cause_in_debug_builds,
    wire::Finish,
    world::{Host, Reports, World, report_channel, report_end},
};

matrix! {
    everywhere {
        another_thread_responds,
        many_threads_respond_to_many_clients,
        a_fallback_responds_if_nothing_else_does,
        the_last_dropped_ticket_responds_with_503,
        waiting_without_a_ticket_is_a_500,
        a_late_ticket_gets_its_response_back,
        a_late_ticket_cannot_touch_the_next_request,
        a_client_that_leaves_is_noticed_at_once,
        a_request_that_allows_half_close_gets_its_response,
        a_ticket_informs,
        a_ticket_requests_the_body_before_it_is_received,
    }
}

/// A server that reports the ticket of every request, and its end.
fn waiting(world: &World) -> (Host, Reports<Ticket>, Reports<uncork::RequestEnd>) {
    let ((report, tickets), (report_ends, ended)) = (report_channel(), report_channel());
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report_ends);
        report.send(req.ticket()).expect("a receiver");
        Action::Suspend
    });
    (host, tickets, ended)
}

fn another_thread_responds(world: &World) {
    let (host, tickets, ended) = waiting(world);
    let mut wire = host.connect();
    for _ in 0..3 {
        wire.request("GET /", &[]);
        tickets.next().respond(Response::text("the ticket's response")).expect("a suspended request");
        assert_eq!(wire.response().is(200).text(), "the ticket's response");
        assert_eq!(ended.next().reason, EndReason::Complete);
    }
}

fn many_threads_respond_to_many_clients(world: &World) {
    let (host, tickets, ended) = waiting(world);
    let mut wires: Vec<_> = (0..20).map(|_| host.connect()).collect();
    for wire in &mut wires {
        wire.request("GET /", &[]);
    }
    let waiting: Vec<Ticket> = wires.iter().map(|_| tickets.next()).collect();
    std::thread::scope(|scope| {
        for ticket in waiting {
            let text = ticket.id().to_string();
            scope.spawn(move || ticket.respond(Response::text(text)).expect("a suspended request"));
        }
    });
    let mut texts: Vec<String> = wires.iter_mut().map(|wire| wire.response().is(200).text().to_owned()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), ended.next().reason), (20, EndReason::Complete));
}

fn a_fallback_responds_if_nothing_else_does(world: &World) {
    let (host, tickets, ended) = waiting(world);
    let mut wire = host.connect();
    wire.request("GET /", &[]);
    let ticket = tickets.next();
    ticket.fallback(Duration::from_millis(20), |_| Response::new(504));
    wire.response().is(504);
    assert_eq!(ended.next().reason, EndReason::Complete);
    assert!(ticket.respond(Response::new(200)).is_err(), "too late");
    // A request that gets its response in time never falls back.
    wire.request("GET /", &[]);
    let ticket = tickets.next();
    ticket.fallback(Duration::from_millis(20), |_| unreachable!("the request has its response"));
    ticket.respond(Response::new(204)).expect("a suspended request");
    wire.response().is(204);
    assert!(wire.is_silent(Duration::from_millis(60)));
    // A fallback that panics is a panic of the handler.
    wire.request("GET /", &[]);
    let ticket = tickets.next();
    ticket.fallback(Duration::ZERO, |_| panic!("on purpose"));
    wire.response().is(500);
}

fn the_last_dropped_ticket_responds_with_503(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| {
        let tickets = (req.ticket(), req.ticket());
        std::thread::spawn(move || drop(tickets));
        Action::Suspend
    });
    let mut wire = host.connect();
    wire.request("GET /", &[]).response().is(503);
    wire.request("GET /", &[]).response().is(503);
}

fn waiting_without_a_ticket_is_a_500(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| {
        if req.path() == "/dropped" {
            drop(req.ticket());
        }
        Action::Suspend
    });
    let mut wire = host.connect();
    let response = wire.request("GET /", &[]).response();
    names_the_cause_in_debug_builds(response.is(500), "without a ticket");
    let status = wire.request("GET /dropped", &[]).response().status;
    assert!(status == 500 || status == 503, "{status}");
}

fn a_late_ticket_gets_its_response_back(world: &World) {
    let both: Arc<Mutex<Vec<Ticket>>> = Arc::default();
    let (tickets, (report, ended)) = (both.clone(), report_channel());
    let host = world.serve(move |req: &mut Request<'_>| {
        report_end(req, &report);
        tickets.lock().expect("whole").extend([req.ticket(), req.ticket()]);
        if req.path() == "/both" {
            let first = tickets.lock().expect("whole").remove(0);
            first.respond(Response::text("first")).expect("the request is open");
        }
        Action::Suspend
    });
    let mut wire = host.connect();
    assert_eq!(wire.request("GET /both", &[]).response().text(), "first");
    let late = both.lock().expect("whole").remove(0);
    assert!(late.is_closed());
    let error = late.respond(Response::new(418)).expect_err("too late");
    assert!(matches!(error.0, Action::Respond(response) if response.status() == 418));
    ended.next();
    wire.request("GET /", &[]).finish();
    assert_eq!(ended.next().reason, EndReason::PeerClosed);
    for late in both.lock().expect("whole").drain(..) {
        let error = late.respond(Response::new(418)).expect_err("no receiver");
        assert!(matches!(error.0, Action::Respond(response) if response.status() == 418));
    }
}

fn a_late_ticket_cannot_touch_the_next_request(world: &World) {
    let (host, tickets, ended) = waiting(world);
    let mut wire = host.connect();
    wire.request("GET /1", &[]);
    let first = tickets.next();
    first.fallback(Duration::ZERO, |_| Response::text("first"));
    assert_eq!(wire.response().text(), "first");
    assert_eq!(ended.next().reason, EndReason::Complete);
    wire.request("GET /2", &[]);
    let second = tickets.next();
    let waker = first.waker();
    first.fallback(Duration::ZERO, |_| Response::text("wrong"));
    first.send_informational(103, Headers::new());
    waker.wake();
    drop(first);
    assert!(wire.is_silent(Duration::from_millis(50)));
    second.respond(Response::text("second")).expect("a suspended request");
    assert_eq!(wire.response().text(), "second");
}

fn a_client_that_leaves_is_noticed_at_once(world: &World) {
    let (host, tickets, ended) = waiting(world);
    for way in 0..4 {
        let mut wire = host.connect();
        wire.request("GET /", &[]);
        let ticket = tickets.next();
        match way {
            0 => drop(wire.finish()),
            1 => drop(wire.end_tcp()),
            2 => wire.reset(),
            // It sends many bytes that are not a request before it disconnects.
            _ => drop(wire.send([b'x'; 40_000]).finish()),
        }
        assert_eq!(ended.next().reason, EndReason::PeerClosed, "way {way}");
        assert!(ticket.is_closed());
    }
    drop(host);
    assert_eq!(ended.rest().len(), 0);
}

fn a_request_that_allows_half_close_gets_its_response(world: &World) {
    let (host, tickets, ended) = waiting(world);
    let mut wire = host.connect();
    wire.request("GET /", &[]);
    let ticket = tickets.next();
    ticket.allow_half_close();
    wire.finish();
    assert!(ended.is_silent(Duration::from_millis(50)), "it is still connected");
    ticket.respond(Response::text("for you")).expect("a suspended request");
    assert_eq!(wire.response().text(), "for you");
    wire.ends(Finish::Clean);
    assert_eq!(ended.next().reason, EndReason::Complete);
    // It does not survive a reset.
    let mut wire = host.connect();
    wire.request("GET /", &[]);
    let ticket = tickets.next();
    ticket.allow_half_close();
    wire.reset();
    assert_ne!(ended.next().reason, EndReason::Complete);
}

fn a_ticket_informs(world: &World) {
    let (host, tickets, _) = waiting(world);
    let mut wire = host.connect();
    wire.request("GET /", &[]);
    let ticket = tickets.next();
    let mut hints = Headers::new();
    hints.append("Link", "</style.css>; rel=preload").expect("valid");
    ticket.send_informational(103, hints);
    assert_eq!(wire.head().is(103).get("link"), Some("</style.css>; rel=preload"));
    ticket.respond(Response::text("all")).expect("a suspended request");
    assert_eq!(wire.response().is(200).text(), "all");
}

fn a_ticket_requests_the_body_before_it_is_received(world: &World) {
    let (host, tickets, ended) = waiting(world);
    let mut wire = host.connect();
    wire.request("PUT /", &["Content-Length: 5", "Expect: 100-continue"]);
    let ticket = tickets.next();
    ticket.send_informational(100, Headers::new());
    ticket.send_informational(100, Headers::new());
    wire.head().is(100);
    wire.send("hello");
    let (inlet, mut outlet) = uncork::pipe(100);
    let moved = inlet.counters();
    assert_eq!(moved.written(), 0, "the response was only requested");
    assert!(ticket.receive(inlet).is_ok());
    ticket.fallback(Duration::from_secs(20), |_| Response::new(504));
    let mut got = Vec::new();
    while got.len() < 5 {
        let bytes = outlet.bytes();
        got.extend_from_slice(bytes);
        let n = bytes.len();
        outlet.consume(n);
        std::thread::yield_now();
    }
    assert_eq!(got, b"hello");
    ticket.respond(Response::text("thanks")).expect("a suspended request");
    // Once. The next is the response.
    assert_eq!(wire.response().is(200).text(), "thanks");
    assert_eq!(ended.next().reason, EndReason::Complete);
    // A client without `Expect` gets no `100 Continue`.
    wire.request("PUT /", &["Content-Length: 0"]);
    let ticket = tickets.next();
    ticket.send_informational(100, Headers::new());
    ticket.respond(Response::text("nothing")).expect("a suspended request");
    assert_eq!(wire.response().is(200).text(), "nothing");
}
