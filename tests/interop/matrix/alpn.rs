//! Protocols that TLS selects by ALPN. Without TLS none is selected, and the handler is not called.

use std::{sync::mpsc::Sender, time::Duration};

use uncork::{
    Action, ConnId, Dial, EndReason, EventMask, Events, Handler, Io, Limits, PeerAddr, ReadState, Request, Response,
    TlsClient, Upgrade,
};

use crate::{
    dialing::Dialing,
    upgrading::echo,
    wire::{Finish, TIMEOUT},
    world::{Host, Reports, World, identity, report_channel},
};

matrix! {
    http1 {
        the_selected_protocol_begins_with_the_first_byte,
        a_client_that_offers_only_http_is_served_http,
        an_unsupported_protocol_is_closed,
        it_is_notified_that_the_server_stops,
        a_stalled_handshake_times_out,
    }
}

/// Serves `x-test`: an echo that sends a greeting first.
#[derive(Clone)]
struct TestProtocol {
    selected: Sender<(String, PeerAddr)>,
    closed: Sender<EndReason>,
    calls: Sender<Events>,
}

impl Handler for TestProtocol {
    fn request(&mut self, _: &mut Request<'_>) -> Action {
        Response::text("HTTP").into()
    }

    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        let protocol = String::from_utf8_lossy(protocol).into_owned();
        let known = protocol == "x-test";
        self.selected.send((protocol, *peer)).expect("a receiver");
        let (calls, mut echo, mut greeted) = (self.calls.clone(), echo(), false);
        let upgrade = move |io: &mut Io<'_>| {
            let _ = calls.send(io.events());
            if !std::mem::replace(&mut greeted, true) {
                io.tx.write(b"hello ");
            }
            if io.events().is_stopping() { EventMask::TERMINATE } else { echo.ready(io) }
        };
        known.then(|| Box::new(upgrade) as Box<dyn Upgrade>)
    }

    fn closed(&mut self, _: ConnId, reason: &EndReason) {
        let _ = self.closed.send(*reason);
    }
}

struct Served {
    host: Host,
    selected: Reports<(String, PeerAddr)>,
    closed: Reports<EndReason>,
    calls: Reports<Events>,
}

fn serve(world: &World, limits: Limits) -> Served {
    let ((selected, asked_reports), (closed, closed_reports), (calls, calls_reports)) =
        (report_channel(), report_channel(), report_channel());
    let host = world.serve_test_protocol(limits, TestProtocol { selected, closed, calls });
    Served { host, selected: asked_reports, closed: closed_reports, calls: calls_reports }
}

/// A client with a loop of its own.
struct Offer {
    reports: Reports<(Option<Vec<u8>>, Vec<u8>, ReadState)>,
    _server: Dialing,
}

/// Offers `protocol` before HTTP, sends `bytes`, and reports the selected protocol and the received bytes at the end.
fn offer(world: &World, host: &Host, protocol: &str, bytes: &'static [u8]) -> Offer {
    let (server, (report, reports)) = (Dialing::on(world), report_channel());
    let tls = TlsClient::builder().roots_pem(identity().cert.as_bytes()).expect("a root").alpn([protocol]).build();
    let tls = tls.expect("TLS");
    let dial = Dial::tcp(host.addr()).timeout(TIMEOUT);
    let dial = if world.tls { dial.tls(&tls, "localhost") } else { dial };
    server.here().dial(dial, move |result| {
        let dialed = result.expect("a connection");
        let (agreed, mut got, mut is_sent) = (dialed.alpn.map(<[u8]>::to_vec), Vec::new(), false);
        Some(Box::new(move |io: &mut Io<'_>| {
            if !std::mem::replace(&mut is_sent, true) {
                io.tx.write(bytes);
            }
            got.extend_from_slice(io.rx.bytes());
            io.rx.consume(usize::MAX);
            if !bytes.is_empty() && got.ends_with(bytes) {
                io.tx.finish();
            }
            if io.rx.state() == ReadState::Open {
                return EventMask::READ;
            }
            report.send((agreed.clone(), got.split_off(0), io.rx.state())).expect("a receiver");
            EventMask::TERMINATE
        }))
    });
    Offer { reports, _server: server }
}

impl Offer {
    /// Returns the selected protocol, the received bytes, and how the connection ended.
    fn next(&self) -> (Option<Vec<u8>>, Vec<u8>, ReadState) {
        self.reports.next()
    }
}

fn the_selected_protocol_begins_with_the_first_byte(world: &World) {
    let served = serve(world, Limits::default());
    if !world.tls {
        served.host.connect().request("GET /", &["Connection: close"]).response().is(200);
        assert_eq!((served.closed.next(), served.selected.rest().len()), (EndReason::Complete, 0));
        return;
    }
    let reports = offer(world, &served.host, "x-test", b"are you there?");
    assert_eq!(reports.next(), (Some(b"x-test".to_vec()), b"hello are you there?".to_vec(), ReadState::Eof));
    let (protocol, peer) = served.selected.next();
    assert_eq!((protocol.as_str(), peer.is_local()), ("x-test", true));
    assert_eq!(served.closed.next(), EndReason::Complete);
}

fn a_client_that_offers_only_http_is_served_http(world: &World) {
    let served = serve(world, Limits::default());
    let mut wire = served.host.connect();
    for _ in 0..2 {
        assert_eq!(wire.request("GET /", &[]).response().is(200).text(), "HTTP");
    }
    let reports = offer(world, &served.host, "x-other", b"GET / HTTP/1.0\r\n\r\n");
    let (agreed, got, end) = reports.next();
    assert_eq!(agreed.as_deref(), world.tls.then_some(&b"http/1.1"[..]));
    assert!(got.ends_with(b"HTTP") && end == ReadState::Eof);
    assert_eq!(served.selected.rest().len(), 0);
}

fn an_unsupported_protocol_is_closed(world: &World) {
    let served = serve(world, Limits::default());
    let reports = offer(world, &served.host, "x-unsupported", b"GET / HTTP/1.0\r\n\r\n");
    let (agreed, got, end) = reports.next();
    assert_eq!(end, ReadState::Eof);
    if world.tls {
        assert_eq!((agreed.as_deref(), got.len()), (Some(&b"x-unsupported"[..]), 0));
        assert_eq!(served.selected.next().0, "x-unsupported");
        let reason = served.closed.next();
        assert!(matches!(reason, EndReason::Rejected { status: 0, .. }), "{reason:?}");
    } else {
        assert!(got.ends_with(b"HTTP"));
    }
}

fn it_is_notified_that_the_server_stops(world: &World) {
    let served = serve(world, Limits::default());
    let mut idle = served.host.connect();
    let reports = world.tls.then(|| offer(world, &served.host, "x-test", b""));
    if world.tls {
        assert!(!served.calls.next().is_stopping());
    }
    served.host.stopper.shutdown(TIMEOUT * 2);
    idle.ends(Finish::Clean);
    if let Some(reports) = reports {
        while !served.calls.next().is_stopping() {}
        assert_eq!(reports.next().1, b"hello ");
    }
    served.host.ends();
}

fn a_stalled_handshake_times_out(world: &World) {
    let short = Duration::from_millis(100);
    let served = serve(world, Limits { handshake_timeout: short, head_timeout: short, ..Limits::default() });
    let mut wire = served.host.connect_plain();
    // The beginning of a ClientHello, and of a request.
    wire.send(if world.tls { &b"\x16\x03\x01\x02\x00\x01"[..] } else { b"GET" });
    if !world.tls {
        wire.response().is(408);
        wire.finish();
    }
    let timer = if world.tls { uncork::Timeout::Handshake } else { uncork::Timeout::Head };
    assert_eq!(served.closed.next(), EndReason::TimedOut(timer));
    // A client that ends its side within the handshake.
    let mut wire = served.host.connect_plain();
    wire.send(if world.tls { &b"\x16\x03\x01\x02\x00\x01"[..] } else { b"GET" }).end_tcp();
    assert_eq!(served.closed.next(), EndReason::PeerClosed);
}
