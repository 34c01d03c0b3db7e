//! Extended CONNECT (RFC 8441): what the matrix does not say, and WebSocket.

use std::{sync::mpsc, time::Duration};

use h2::{Reason, ext::Protocol};
use http::Request;
use uncork::{
    Action, EventMask, Io, ReadState, Response, Switch,
    ws::{self, Closed, Done, Message, Sender},
};

use crate::{
    connect,
    http2::{Client, Exchange, TIMEOUT},
    over_both,
    world::{Host, Reports, World, bytes, report_channel, report_end, site},
};

over_both! {
    the_offer_is_seen_as_over_http_1_1,
    a_request_that_cannot_switch_gets_a_426,
    an_upgrade_without_a_response_is_not_possible,
    many_upgrades_share_a_connection,
    an_upgrade_that_waits_stalls_no_other,
    abort_resets_the_stream_only,
    websocket_works,
    websocket_has_its_version,
    websocket_closes_when_the_server_stops,
}

fn offer(protocol: &'static str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::connect(format!("http://localhost{path}")).extension(Protocol::from_static(protocol));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

fn upgraded(client: &mut Client, path: &str) -> Exchange {
    assert!(client.can_upgrade());
    let mut exchange = client.request(offer("test", path, &[]), false);
    assert_eq!(exchange.head(client).status(), 200);
    exchange
}

/// Reads exactly so many bytes.
#[track_caller]
fn exactly(exchange: &mut Exchange, client: &mut Client, rest: &mut Vec<u8>, n: usize) -> Vec<u8> {
    while rest.len() < n {
        rest.extend_from_slice(&exchange.data(client).expect("more").expect("data"));
    }
    rest.drain(..n).collect()
}

fn the_offer_is_seen_as_over_http_1_1(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| {
        assert!(req.wants_upgrade("test") && !req.wants_upgrade("other"));
        assert_eq!((req.method(), req.path(), req.has_body()), ("GET", "/up", false));
        Switch::to("test", site::echo).header("X-Own", "1")
    });
    let mut client = connect(&host);
    assert!(client.can_upgrade());
    let mut exchange = client.request(offer("test", "/up?x", &[]), false);
    let head = exchange.head(&mut client);
    assert_eq!((head.status().as_u16(), &head.headers()["x-own"]), (200, &"1".parse().expect("a value")));
    for name in ["connection", "upgrade", "content-length"] {
        assert!(!head.headers().contains_key(name), "{name}");
    }
}

fn a_request_that_cannot_switch_gets_a_426(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| match req.path() {
        "/own" => Action::from(Switch::with_response(Response::new(200), site::echo)),
        "/no" => Response::new(403).body("no").into(),
        _ => Switch::to("test", site::echo).into(),
    });
    let mut client = connect(&host);
    let (head, text) = client.fetch("/");
    assert_eq!(
        (head.status().as_u16(), text.as_slice()),
        (426, &b"this needs an upgrade: send an extended CONNECT (RFC 8441) with :protocol test\n"[..])
    );
    assert!(client.can_upgrade());
    for (path, status) in [("/own", 426), ("/no", 403)] {
        let mut exchange = client.request(offer("test", path, &[]), false);
        assert_eq!(exchange.head(&mut client).status(), status, "{path}");
        assert!(exchange.body(&mut client).is_ok(), "{path}");
    }
    upgraded(&mut client, "/");
}

/// Only HTTP/1.1 has a stream of bytes in front of a response.
fn an_upgrade_without_a_response_is_not_possible(world: &World) {
    let host = world.serve(|_: &mut uncork::Request<'_>| {
        Switch::without_response(|io: &mut Io<'_>| {
            io.tx.write(b"HELO");
            EventMask::TERMINATE
        })
    });
    let mut client = connect(&host);
    assert_eq!(client.fetch("/").0.status(), 426);
}

fn many_upgrades_share_a_connection(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut uncork::Request<'_>| {
        report_end(req, &report);
        Switch::to("test", site::echo)
    });
    let mut client = connect(&host);
    let mut all: Vec<_> = (0..50).map(|_| (upgraded(&mut client, "/"), Vec::new())).collect();
    for round in 0..3 {
        for (n, (exchange, _)) in all.iter_mut().enumerate() {
            exchange.write(&mut client, format!("{round}/{n:02}").as_bytes());
        }
        for (n, (exchange, rest)) in all.iter_mut().enumerate() {
            assert_eq!(exactly(exchange, &mut client, rest, 4), format!("{round}/{n:02}").as_bytes());
        }
    }
    for (mut exchange, _) in all {
        exchange.finish(&mut client);
        assert!(exchange.body(&mut client).expect("a clean end").0.is_empty());
        assert_eq!(ended.next().reason, uncork::EndReason::Complete);
    }
    assert!(client.over.is_none());
}

/// One does not read, one is not read.
fn an_upgrade_that_waits_stalls_no_other(world: &World) {
    let host = world.serve(|req: &mut uncork::Request<'_>| match req.path() {
        "/deaf" => Switch::to("test", |_: &mut Io<'_>| EventMask::EXTERNAL),
        "/loud" => Switch::to("test", |io: &mut Io<'_>| {
            io.tx.write(&[b'x'; 10_000]);
            if io.rx.state() == ReadState::Open { EventMask::WRITE } else { EventMask::TERMINATE }
        }),
        _ => Switch::to("test", site::echo),
    });
    let mut client = connect(&host);
    let (mut deaf, _loud) = (upgraded(&mut client, "/deaf"), upgraded(&mut client, "/loud"));
    let sent = deaf.push(&mut client, &bytes(8 << 20), Duration::from_millis(200)).expect("sent");
    assert!(sent < 2 << 20, "{sent} bytes that nothing reads");
    let (mut echo, mut rest) = (upgraded(&mut client, "/"), Vec::new());
    for _ in 0..20 {
        echo.write(&mut client, &bytes(10_000));
        assert!(exactly(&mut echo, &mut client, &mut rest, 10_000) == bytes(10_000));
    }
}

fn abort_resets_the_stream_only(world: &World) {
    let (report, ended) = report_channel();
    let host = world.serve(move |req: &mut uncork::Request<'_>| {
        report_end(req, &report);
        Switch::to("test", |io: &mut Io<'_>| {
            io.tx.write(b"x");
            if io.events().is_readable() {
                io.abort();
            }
            EventMask::READ
        })
    });
    let mut client = connect(&host);
    let (mut first, mut second) = (upgraded(&mut client, "/"), upgraded(&mut client, "/"));
    for exchange in [&mut first, &mut second] {
        assert_eq!(exchange.data(&mut client).expect("data").expect("data"), &b"x"[..]);
    }
    first.write(&mut client, b"go");
    assert_eq!(first.is_reset(&mut client), Reason::CANCEL);
    assert_eq!(ended.next().reason, uncork::EndReason::Aborted);
    assert!(client.until(Duration::from_millis(30), |_, cx| second.poll_data(cx)).is_none());
    assert!(client.over.is_none());
}

/// Echoes, and reports the end.
struct Echo {
    sender: Option<Sender>,
    report: mpsc::Sender<Closed>,
}

impl ws::Handler for Echo {
    fn open(&mut self, sender: &Sender) {
        self.sender = Some(sender.clone());
    }

    fn message(&mut self, message: Message<'_>, done: Done) {
        let sender = self.sender.as_ref().expect("opened first");
        let _ = sender.message(message);
        sender.on_room(move || done.next());
    }

    fn closed(&mut self, closed: &Closed) {
        let _ = self.report.send(closed.clone());
    }
}

fn echo(world: &World) -> (Host, Reports<Closed>) {
    let (report, closed) = report_channel();
    let host = world.serve(move |req: &mut uncork::Request<'_>| -> Action {
        match ws::check(req) {
            Ok(accept) => accept.switch(Echo { sender: None, report: report.clone() }).0.into(),
            Err(rejection) => rejection.into(),
        }
    });
    (host, closed)
}

/// A WebSocket over a stream.
struct Peer {
    exchange: Exchange,
    rest: Vec<u8>,
}

impl Peer {
    fn open(client: &mut Client, fields: &[(&str, &str)]) -> (Self, http::Response<()>) {
        assert!(client.can_upgrade());
        let mut exchange = client.request(offer("websocket", "/chat", fields), false);
        let head = exchange.head(client);
        (Self { exchange, rest: Vec::new() }, head)
    }

    fn send(&mut self, client: &mut Client, first: u8, payload: &[u8]) {
        let frame = crate::frames::frame(first, payload);
        self.exchange.write(client, &frame);
    }

    fn next(&mut self, client: &mut Client) -> (u8, Vec<u8>) {
        let Self { exchange, rest } = self;
        let head = exactly(exchange, client, rest, 2);
        let length = match head[1] {
            126 => exactly(exchange, client, rest, 2),
            127 => exactly(exchange, client, rest, 8),
            n => vec![n],
        };
        let length = length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        (head[0], exactly(exchange, client, rest, length))
    }
}

fn websocket_works(world: &World) {
    let (host, told) = echo(world);
    let mut client = connect(&host);
    let (mut peer, head) = Peer::open(&mut client, &[("sec-websocket-version", "13")]);
    assert_eq!(head.status(), 200);
    assert!(!head.headers().contains_key("sec-websocket-accept"), "RFC 8441 §5");
    for size in [0, 5, 126, 70_000, 1_000_000] {
        peer.send(&mut client, 0x82, &bytes(size));
        assert!(peer.next(&mut client) == (0x82, bytes(size)), "{size}");
    }
    peer.send(&mut client, 0x81, b"text");
    assert_eq!(peer.next(&mut client), (0x81, b"text".to_vec()));
    peer.send(&mut client, 0x89, b"ping");
    assert_eq!(peer.next(&mut client), (0x8a, b"ping".to_vec()));
    peer.send(&mut client, 0x88, &1000u16.to_be_bytes());
    assert_eq!(peer.next(&mut client).0, 0x88);
    peer.exchange.finish(&mut client);
    assert!(peer.exchange.body(&mut client).expect("END_STREAM").0.is_empty());
    let closed = told.next();
    assert!(closed.code == 1000 && closed.is_clean(), "{closed:?}");
    // A reset is the end without a Close.
    let (mut peer, _) = Peer::open(&mut client, &[]);
    peer.send(&mut client, 0x81, b"text");
    peer.next(&mut client);
    peer.exchange.reset(&mut client);
    told.next();
    assert!(client.over.is_none());
}

fn websocket_has_its_version(world: &World) {
    let (host, _) = echo(world);
    let mut client = connect(&host);
    let (_, head) = Peer::open(&mut client, &[("sec-websocket-version", "12")]);
    assert_eq!(
        (head.status().as_u16(), &head.headers()["sec-websocket-version"]),
        (426, &"13".parse().expect("a value"))
    );
    let (head, text) = client.fetch("/chat");
    assert!(head.status() == 400 && String::from_utf8_lossy(&text).contains("extended CONNECT"), "{text:?}");
    // The same handler over HTTP/1.1, on the same port.
    let old = if world.tls { World::tls(world.mode) } else { World::plain(world.mode) };
    let mut wire = host.connect_over(&old);
    wire.request("GET /chat", &crate::frames::HANDSHAKE).head().is(101);
    wire.send(crate::frames::frame(0x81, "old")).expect(b"\x81\x03old");
}

fn websocket_closes_when_the_server_stops(world: &World) {
    let (host, told) = echo(world);
    let mut client = connect(&host);
    let (mut peer, _) = Peer::open(&mut client, &[]);
    host.stopper.shutdown(Duration::from_secs(60));
    let (first, payload) = peer.next(&mut client);
    assert_eq!((first, &payload[..2]), (0x88, &1001u16.to_be_bytes()[..]));
    peer.send(&mut client, 0x88, &1001u16.to_be_bytes());
    peer.exchange.finish(&mut client);
    assert!(peer.exchange.body(&mut client).is_ok());
    told.next();
    client.until(TIMEOUT, |client, _| client.link.end().map_or(std::task::Poll::Pending, std::task::Poll::Ready));
    host.ends();
}
