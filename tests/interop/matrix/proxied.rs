//! Behind a proxy with the PROXY protocol: the address of the peer, and rejected connections.

use std::{sync::mpsc::Sender, time::Duration};

use uncork::{Action, ConnId, EndReason, Handler, Limits, PeerAddr, Request, Response, Timeout};

use crate::{
    wire::{Finish, TIMEOUT, request},
    world::{Host, Reports, World, report_channel},
};

matrix! {
    http1 {
        the_client_a_proxy_names_is_the_peer,
        a_proxy_without_a_client_is_the_peer,
        a_client_without_a_header_is_rejected,
        a_missing_header_times_out,
        a_truncated_header_is_rejected,
        limits_count_clients_behind_the_proxy,
        a_rejected_peer_is_closed,
        it_stops_while_a_header_is_incomplete,
    }
}

const SHORT: Duration = Duration::from_millis(150);
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 50000 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xc3\x50\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Responds with the peer's address; reports accepted peers and ended connections.
#[derive(Clone)]
struct Site(Sender<Report>, Sender<EndReason>);

#[derive(Debug, PartialEq, Eq)]
enum Report {
    Accepted(PeerAddr),
    Closed,
}

impl Handler for Site {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        Response::text(req.peer().to_string()).into()
    }

    fn accept(&mut self, peer: &PeerAddr) -> bool {
        let _ = self.0.send(Report::Accepted(*peer));
        peer.ip().is_none_or(|ip| ip.to_string() != "192.0.2.66")
    }

    fn closed(&mut self, _: ConnId, _: &EndReason) {
        let _ = self.0.send(Report::Closed);
    }

    fn rejected(&mut self, _: &PeerAddr, reason: &EndReason) {
        let _ = self.1.send(*reason);
    }
}

fn serve(world: &World, limits: Limits) -> (Host, Reports<Report>) {
    let (host, reports, _rejected) = serve_and_reject(world, limits);
    (host, reports)
}

fn serve_and_reject(world: &World, limits: Limits) -> (Host, Reports<Report>, Reports<EndReason>) {
    let ((report, reports), (reject, rejected)) = (report_channel(), report_channel());
    (world.serve_proxies(limits, Site(report, reject)), reports, rejected)
}

/// Returns `true` if the connection ends before a response.
fn is_rejected(host: &Host, first: &[u8]) -> bool {
    let Ok(mut wire) = host.connect_with_prefix(first, usize::MAX) else { return true };
    wire.try_send(request("GET /", &[])).and_then(|()| wire.try_response()).is_err()
}

fn the_client_a_proxy_names_is_the_peer(world: &World) {
    let (host, reports) = serve(world, Limits::default());
    for (header, size) in [(V1, 1), (V1, 1000), (V2, 1), (V2, 1000)] {
        let mut wire = host.connect_with_prefix(header, size).expect("accepted");
        for _ in 0..2 {
            assert_eq!(wire.send(request("GET /", &[])).response().is(200).text(), "192.0.2.1:50000");
        }
        assert_eq!(reports.next(), Report::Accepted(PeerAddr::tcp("192.0.2.1:50000".parse().expect("an address"))));
        wire.finish();
        assert_eq!(reports.next(), Report::Closed);
    }
}

fn a_proxy_without_a_client_is_the_peer(world: &World) {
    let (host, _told) = serve(world, Limits::default());
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut wire = host.connect_with_prefix(header, usize::MAX).expect("accepted");
        assert!(wire.send(request("GET /", &[])).response().is(200).text().starts_with("127.0.0.1:"));
    }
}

fn a_client_without_a_header_is_rejected(world: &World) {
    let (host, reports) = serve(world, Limits::default());
    for first in [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY TCP4 x\r\n", b"\x16\x03\x01\x02\x00"] {
        assert!(is_rejected(&host, first), "{}", first.escape_ascii());
    }
    assert_eq!(reports.rest(), [], "they were not reported");
}

fn a_missing_header_times_out(world: &World) {
    let limits = Limits { handshake_timeout: SHORT, ..Limits::default() };
    let (host, reports, rejected) = serve_and_reject(world, limits);
    for first in [&V1[..10], &V2[..20], b""] {
        let mut wire = host.connect_plain();
        wire.send(first);
        assert!(matches!(wire.until_end(), (_, Finish::Clean | Finish::Reset)));
        assert_eq!(rejected.next(), EndReason::TimedOut(Timeout::Handshake));
    }
    assert_eq!(reports.rest(), []);
}

fn a_truncated_header_is_rejected(world: &World) {
    let (host, reports) = serve(world, Limits { handshake_timeout: TIMEOUT * 10, ..Limits::default() });
    for first in [&V1[..10], b""] {
        let mut wire = host.connect_plain();
        wire.send(first);
        wire.finish();
        assert!(matches!(wire.until_end(), (_, Finish::Clean | Finish::Reset)));
    }
    assert_eq!(reports.rest(), []);
}

fn limits_count_clients_behind_the_proxy(world: &World) {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let (host, reports, rejected) = serve_and_reject(world, limits);
    let mut first = host.connect_with_prefix(V1, usize::MAX).expect("accepted");
    first.send(request("GET /", &[])).response().is(200);
    assert!(is_rejected(&host, V2), "the second of the same client");
    let rule = "too many connections from this address";
    assert_eq!(rejected.next(), EndReason::Rejected { status: 0, rule });
    let other = b"PROXY TCP4 192.0.2.2 198.51.100.7 50000 443\r\n";
    let mut second = host.connect_with_prefix(other, usize::MAX).expect("accepted");
    second.send(request("GET /", &[])).response().is(200);
    first.finish();
    assert!(matches!(
        (reports.next(), reports.next(), reports.next()),
        (Report::Accepted(_), Report::Accepted(_), Report::Closed)
    ));
    let mut again = host.connect_with_prefix(V1, usize::MAX).expect("accepted");
    again.send(request("GET /", &[])).response().is(200);
}

fn a_rejected_peer_is_closed(world: &World) {
    let (host, reports) = serve(world, Limits::default());
    assert!(is_rejected(&host, b"PROXY TCP4 192.0.2.66 198.51.100.7 50000 443\r\n"), "by the handler");
    assert!(matches!(reports.next(), Report::Accepted(_)));
    assert_eq!(reports.rest(), [], "the end of a rejected peer is not reported");

    let ((report, reports), (reject, rejected)) = (report_channel(), report_channel());
    let host = world.serve_trusting(|_| false, Site(report, reject));
    assert!(is_rejected(&host, V1), "no proxy");
    assert_eq!(reports.rest(), []);
    assert_eq!(rejected.next(), EndReason::Rejected { status: 0, rule: "not a trusted proxy" });
}

fn it_stops_while_a_header_is_incomplete(world: &World) {
    let (host, _told) = serve(world, Limits { handshake_timeout: TIMEOUT * 10, ..Limits::default() });
    let mut wire = host.connect_plain();
    wire.send(&V1[..10]);
    host.stopper.shutdown(TIMEOUT * 10);
    host.ends();
}
