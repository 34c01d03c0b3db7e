//! Limits and clocks: which connections are accepted, how much is buffered, how long the server waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

use uncork::{
    Action, ConnId, Consumed, EndReason, Handler, Limits, Produced, Request, Response, Timeout, Tx, Upload, h1::Headers,
};

use crate::{
    wire::{Finish, request},
    world::{Host, Reports, World, report_channel, report_end},
};

matrix! {
    everywhere {
        one_connection_too_many_from_an_address_is_closed,
        one_connection_too_many_waits_for_an_end,
        a_peer_may_be_rejected,
        a_target_too_long_is_a_414,
        an_idle_connection_is_closed,
        a_body_that_stops_coming_is_a_408,
        a_body_that_drips_is_a_408,
        an_upload_may_have_another_timeout,
        back_pressure_is_not_a_timeout,
        a_peer_that_does_not_read_times_out,
        a_slow_reader_is_waited_for,
        a_reader_below_the_least_rate_is_given_up,
    }
    http1 {
        four_addresses_do_not_take_all_connections,
        stalled_downloads_of_one_address_do_not_take_all_buffers,
        a_head_too_large_is_a_431,
        a_slow_head_is_a_408,
        a_connection_may_have_another_timeout,
        the_last_request_closes,
    }
}

const SHORT: Duration = Duration::from_millis(150);

/// Responds with its own name, and reports when a connection has ended.
#[derive(Clone)]
struct Plain(Sender<EndReason>);

impl Handler for Plain {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        Response::text(req.conn().to_string()).into()
    }

    fn closed(&mut self, _: ConnId, reason: &EndReason) {
        let _ = self.0.send(*reason);
    }
}

fn plain(world: &World, limits: Limits) -> (Host, Reports<EndReason>) {
    let (report, closed) = report_channel();
    (world.serve_within(limits, Plain(report)), closed)
}

fn is_served(host: &Host) -> bool {
    let response = host.try_connect().and_then(|mut wire| {
        wire.try_send(request("GET /", &[]))?;
        wire.try_response()
    });
    response.is_ok()
}

fn one_connection_too_many_from_an_address_is_closed(world: &World) {
    let (host, closed) = plain(world, Limits { connections_per_address: 2, ..Limits::default() });
    let mut wires = [host.connect(), host.connect()];
    for wire in &mut wires {
        wire.request("GET /", &[]).response().is(200);
    }
    assert!(!is_served(&host));
    let [first, _second] = wires;
    drop(first);
    closed.next();
    assert!(is_served(&host), "its slot is free again");
}

/// Four addresses use their full share, and another address is still served.
fn four_addresses_do_not_take_all_connections(world: &World) {
    let (host, _closed) = plain(world, Limits { connections: 24, connections_per_address: 6, ..Limits::default() });
    let mut wires = Vec::new();
    for address in 2..=5 {
        // One more than the machine allows: the limit must be what stops them.
        for _ in 0..7 {
            let served = host.try_connect_from([127, 0, 0, address]).and_then(|mut wire| {
                wire.try_send(request("GET /", &[]))?;
                wire.try_response().map(|_| wire)
            });
            wires.extend(served);
        }
    }
    assert!((12..24).contains(&wires.len()), "{}", wires.len());
    let mut other = host.try_connect_from([127, 0, 0, 6]).expect("a connection");
    other.request("GET /", &[]).response().is(200);
}

fn one_connection_too_many_waits_for_an_end(world: &World) {
    let limits = Limits { connections: 2, connections_per_address: usize::MAX, ..Limits::default() };
    let (host, closed) = plain(world, limits);
    for _ in 0..3 {
        let mut wires = [host.connect(), host.connect()];
        for wire in &mut wires {
            wire.request("GET /", &[]).response().is(200);
        }
        std::thread::scope(|scope| {
            let (host, (report, served)) = (host.address(), report_channel());
            scope.spawn(move || {
                report.send(host.connect().request("GET /", &[]).response().status).expect("a receiver");
            });
            assert!(served.is_silent(Duration::from_millis(50)), "there is no slot");
            drop(wires);
            assert_eq!(served.next(), 200);
        });
        for _ in 0..3 {
            closed.next();
        }
    }
}

/// Sends a long response.
#[derive(Clone)]
struct Large(Arc<[u8]>);

impl Handler for Large {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        match req.path() {
            "/large" => Response::new(200).body(self.0.clone()).into(),
            _ => Response::text("small").into(),
        }
    }
}

fn stalled_downloads_of_one_address_do_not_take_all_buffers(world: &World) {
    let limits = Limits { buffers: 1 << 20, send_timeout: Duration::from_secs(3600), ..Limits::default() };
    let host = world.serve_within(limits, Large(vec![b'x'; 16 << 20].into()));
    let connect_from = |address: u8| host.try_connect_from([127, 0, 0, address]).expect("a connection");
    // A client that does not read for a while, like a paused download.
    let mut paused = connect_from(3);
    // More than there are buffers, with two loops as well. Later, their handshakes would wait for each other.
    let mut stalled: Vec<_> = (0..48).map(|_| connect_from(2)).collect();
    for wire in std::iter::once(&mut paused).chain(&mut stalled) {
        wire.request("GET /large", &[]);
    }
    for _ in 0..2 {
        connect_from(4).request("GET /small", &[]).response().is(200);
    }
    let response = paused.response();
    assert_eq!((response.status, response.body.len()), (200, 16 << 20));
    drop(stalled);
}

/// Accepts every second peer, and counts the others.
#[derive(Clone, Default)]
struct Choosy {
    asked: Arc<AtomicUsize>,
    rejected: Arc<AtomicUsize>,
}

impl Handler for Choosy {
    fn request(&mut self, _: &mut Request<'_>) -> Action {
        Response::text("welcome").into()
    }

    fn accept(&mut self, peer: &uncork::PeerAddr) -> bool {
        assert!(peer.ip().is_some_and(|ip| ip.is_loopback()));
        self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
    }

    fn rejected(&mut self, peer: &uncork::PeerAddr, reason: &EndReason) {
        assert!(peer.ip().is_some_and(|ip| ip.is_loopback()));
        assert_eq!(*reason, EndReason::Rejected { status: 0, rule: "rejected by the handler" });
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }
}

fn a_peer_may_be_rejected(world: &World) {
    let choosy = Choosy::default();
    let host = world.serve(choosy.clone());
    assert!(is_served(&host) && !is_served(&host) && is_served(&host));
    assert_eq!(choosy.rejected.load(Ordering::Relaxed), 1);
}

fn a_head_too_large_is_a_431(world: &World) {
    let (host, _) = plain(world, Limits { head: 4096, fields: 10, ..Limits::default() });
    let mut wire = host.connect();
    wire.send("GET / HTTP/1.1\r\nHost: x\r\n").send("X: 0123456789\r\n".repeat(400));
    wire.response().is(431);
    wire.finish().ends(Finish::Clean);
    let mut wire = host.connect();
    wire.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(10))).response().is(431);
    let mut wire = host.connect();
    wire.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(9))).response().is(200);
}

fn a_target_too_long_is_a_414(world: &World) {
    let (host, _) = plain(world, Limits { target: 100, ..Limits::default() });
    let mut wire = host.connect();
    wire.request(&format!("GET /{}", "x".repeat(99)), &[]).response().is(200);
    wire.request(&format!("GET /{}", "x".repeat(100)), &[]).response().is(414);
    wire.finish().ends(Finish::Clean);
}

fn a_slow_head_is_a_408(world: &World) {
    let (host, closed) = plain(world, Limits { head_timeout: SHORT, ..Limits::default() });
    let mut wire = host.connect();
    wire.request("GET /", &[]).response().is(200);
    wire.send("GET / HT").response().is(408);
    wire.finish().ends(Finish::Clean);
    assert_eq!(closed.next(), EndReason::TimedOut(Timeout::Head));
}

fn an_idle_connection_is_closed(world: &World) {
    let (host, closed) = plain(world, Limits { idle_timeout: SHORT, ..Limits::default() });
    host.connect().ends(Finish::Clean);
    assert_eq!(closed.next(), EndReason::TimedOut(Timeout::Idle));
    let mut wire = host.connect();
    wire.request("GET /", &[]).response().is(200);
    wire.ends(Finish::Clean);
    drop(wire);
    assert_eq!(closed.next(), EndReason::TimedOut(Timeout::Idle));
}

fn a_connection_may_have_another_timeout(world: &World) {
    let serve = |limits: Limits| {
        let (report, ended) = report_channel();
        let host = world.serve_within(limits, move |req: &mut Request<'_>| {
            report_end(req, &report);
            match req.path() {
                "/patient" => req.set_timeout(Duration::MAX),
                // Whole seconds.
                "/hasty" => req.set_timeout(SHORT),
                _ => {}
            }
            Action::Receive(Box::new(Sink { late: false, patience: None }))
        });
        (host, ended)
    };
    let limits = Limits { idle_timeout: SHORT, body_timeout: SHORT, min_rate: 1_000_000, ..Limits::default() };
    let (host, _) = serve(limits);
    let mut wire = host.connect();
    wire.request("POST /patient", &["Content-Length: 3"]);
    for _ in 0..3 {
        assert!(wire.is_silent(SHORT * 2), "it waits for the body");
        wire.send("x");
    }
    wire.response().is(200);
    assert!(wire.is_silent(SHORT * 3), "and for the next request");
    wire.request("GET /", &[]).response().is(200);
    let (host, ended) = serve(Limits::default());
    let mut wire = host.connect();
    wire.request("POST /hasty", &["Content-Length: 9"]).send("four").response().is(408);
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Body));
    let mut wire = host.connect();
    wire.post("/hasty", &[], b"all").response().is(200);
    wire.ends(Finish::Clean);
}

/// Discards the body, or consumes nothing until it is woken late.
struct Sink {
    late: bool,
    patience: Option<Duration>,
}

impl Upload for Sink {
    fn data(&mut self, _: &[u8]) -> Consumed {
        if std::mem::take(&mut self.late) { Consumed::Partial(0) } else { Consumed::All }
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text("all of it").into()
    }

    fn body_timeout(&self) -> Option<Duration> {
        self.patience
    }
}

fn sink(world: &World, limits: Limits) -> (Host, Reports<uncork::RequestEnd>) {
    let (report, ended) = report_channel();
    let host = world.serve_within(limits, move |req: &mut Request<'_>| {
        report_end(req, &report);
        let late = req.path() == "/late";
        if late {
            let waker = req.waker();
            req.loop_handle().after(SHORT * 3, move |_| waker.wake());
        }
        let patience = match req.path() {
            "/patient" => Some(SHORT * 100),
            "/hasty" => Some(SHORT),
            _ => None,
        };
        Action::Receive(Box::new(Sink { late, patience }))
    });
    (host, ended)
}

fn a_body_that_stops_coming_is_a_408(world: &World) {
    let (host, ended) = sink(world, Limits { body_timeout: SHORT, ..Limits::default() });
    let mut wire = host.connect();
    wire.request("POST /", &["Content-Length: 9"]).send("four").response().is(408);
    wire.finish().ends(Finish::Clean);
    let end = ended.next();
    assert_eq!((end.reason, end.received), (EndReason::TimedOut(Timeout::Body), 4));
}

fn a_body_that_drips_is_a_408(world: &World) {
    let (host, _) = sink(world, Limits { body_timeout: SHORT, min_rate: 1000, ..Limits::default() });
    let mut wire = host.connect();
    wire.request("POST /", &["Content-Length: 1000"]);
    let mut drops = 0;
    while wire.is_silent(Duration::from_millis(20)) {
        drops += 1;
        assert!(drops < 200, "a drop every 20 ms is not 1000 bytes a second");
        if wire.try_send("x").is_err() {
            break;
        }
    }
    wire.response().is(408);
}

fn an_upload_may_have_another_timeout(world: &World) {
    let (host, ended) = sink(world, Limits { body_timeout: SHORT, min_rate: 1_000_000, ..Limits::default() });
    let mut wire = host.connect();
    wire.request("POST /patient", &["Content-Length: 3"]);
    for _ in 0..3 {
        assert!(wire.is_silent(SHORT * 2), "one byte grants the whole time again");
        wire.send("x");
    }
    assert_eq!(wire.response().is(200).text(), "all of it");
    ended.next();
    let (host, ended) = sink(world, Limits::default());
    let mut wire = host.connect();
    wire.request("POST /hasty", &["Content-Length: 9"]).send("four").response().is(408);
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Body));
}

fn back_pressure_is_not_a_timeout(world: &World) {
    let (host, _) = sink(world, Limits { body_timeout: SHORT, ..Limits::default() });
    let mut wire = host.connect();
    assert_eq!(wire.post("/late", &[], b"it waits").response().is(200).text(), "all of it");
}

/// Makes a body without an end.
fn endless(world: &World, limits: Limits) -> (Host, Reports<uncork::RequestEnd>) {
    let (report, ended) = report_channel();
    let host = world.serve_within(limits, move |req: &mut Request<'_>| {
        report_end(req, &report);
        Response::stream(|out: &mut Tx<'_>| {
            out.write(&[b'x'; 16 * 1024]);
            Produced::More
        })
    });
    (host, ended)
}

fn a_peer_that_does_not_read_times_out(world: &World) {
    let (host, ended) = endless(world, Limits { send_timeout: SHORT, ..Limits::default() });
    let mut wire = host.connect_narrow();
    wire.request("GET /", &[]);
    assert_eq!(ended.next().reason, EndReason::TimedOut(Timeout::Send));
    assert_eq!(wire.until_end().1, Finish::Reset);
}

fn a_slow_reader_is_waited_for(world: &World) {
    let (host, ended) = endless(world, Limits { send_timeout: SHORT * 2, ..Limits::default() });
    let mut wire = host.connect_narrow();
    wire.request("GET /", &[]).head().is(200);
    for _ in 0..30 {
        wire.next_chunk();
        assert!(ended.is_silent(Duration::from_millis(20)), "it reads, slowly");
    }
}

fn a_reader_below_the_least_rate_is_given_up(world: &World) {
    let limits = Limits { send_timeout: SHORT, min_rate: 1 << 30, ..Limits::default() };
    let (host, ended) = endless(world, limits);
    let mut wire = host.connect_narrow();
    wire.request("GET /", &[]).head().is(200);
    let mut reads = 0;
    while ended.is_silent(Duration::from_millis(20)) {
        reads += 1;
        assert!(reads < 500, "it reads all the time, but not a GiB a second");
        wire.next_chunk();
    }
}

fn the_last_request_closes(world: &World) {
    let (host, _) = plain(world, Limits { requests: 2, ..Limits::default() });
    let mut wire = host.connect();
    assert_eq!(wire.request("GET /", &[]).response().get("connection"), None);
    assert_eq!(wire.request("GET /", &[]).response().get("connection"), Some("close"));
    wire.ends(Finish::Clean);
}
