//! Behind a proxy that speaks the PROXY protocol: the address of the peer, and rejected connections.

use std::{sync::mpsc::Sender, time::Duration};

use uncork::{Action, ConnId, EndReason, Handler, Limits, PeerAddr, Request, Response};

use crate::{
    wire::{Finish, PATIENCE, request},
    world::{Host, Told, World, telling},
};

matrix! {
    the_client_a_proxy_names_is_the_peer,
    a_proxy_that_speaks_for_itself_is_the_peer,
    who_says_nothing_of_the_kind_is_turned_away,
    a_header_that_does_not_come_is_given_up,
    a_header_that_is_cut_off_is_given_up,
    places_are_those_of_clients,
    a_stranger_is_turned_away,
    it_stops_while_a_header_is_on_its_way,
}

const SHORT: Duration = Duration::from_millis(150);
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 50000 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xc3\x50\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Responds with the peer's address; reports accepted peers and ended connections.
#[derive(Clone)]
struct Porter(Sender<Word>);

#[derive(Debug, PartialEq, Eq)]
enum Word {
    In(PeerAddr),
    Out,
}

impl Handler for Porter {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        Response::text(req.peer().to_string()).into()
    }

    fn accept(&mut self, peer: &PeerAddr) -> bool {
        let _ = self.0.send(Word::In(*peer));
        peer.ip().is_none_or(|ip| ip.to_string() != "192.0.2.66")
    }

    fn closed(&mut self, _: ConnId, _: &EndReason) {
        let _ = self.0.send(Word::Out);
    }
}

fn porter(world: &World, limits: Limits) -> (Host, Told<Word>) {
    let (tell, told) = telling();
    (world.serve_proxies(limits, Porter(tell)), told)
}

/// Its connection ends before the response.
fn is_turned_away(host: &Host, first: &[u8]) -> bool {
    let Ok(mut wire) = host.connect_saying(first, usize::MAX) else { return true };
    wire.try_send(request("GET /", &[])).and_then(|()| wire.try_answer()).is_err()
}

fn the_client_a_proxy_names_is_the_peer(world: &World) {
    let (host, told) = porter(world, Limits::default());
    for (header, size) in [(V1, 1), (V1, 1000), (V2, 1), (V2, 1000)] {
        let mut wire = host.connect_saying(header, size).expect("accepted");
        for _ in 0..2 {
            assert_eq!(wire.send(request("GET /", &[])).answer().is(200).text(), "192.0.2.1:50000");
        }
        assert_eq!(told.next(), Word::In(PeerAddr::tcp("192.0.2.1:50000".parse().expect("an address"))));
        wire.finish();
        assert_eq!(told.next(), Word::Out);
    }
}

fn a_proxy_that_speaks_for_itself_is_the_peer(world: &World) {
    let (host, _told) = porter(world, Limits::default());
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut wire = host.connect_saying(header, usize::MAX).expect("accepted");
        assert!(wire.send(request("GET /", &[])).answer().is(200).text().starts_with("127.0.0.1:"));
    }
}

fn who_says_nothing_of_the_kind_is_turned_away(world: &World) {
    let (host, told) = porter(world, Limits::default());
    for first in [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY TCP4 x\r\n", b"\x16\x03\x01\x02\x00"] {
        assert!(is_turned_away(&host, first), "{}", first.escape_ascii());
    }
    assert_eq!(told.rest(), [], "they were not reported");
}

fn a_header_that_does_not_come_is_given_up(world: &World) {
    let (host, told) = porter(world, Limits { handshake_timeout: SHORT, ..Limits::default() });
    for first in [&V1[..10], &V2[..20], b""] {
        let mut wire = host.connect_plain();
        wire.send(first);
        assert!(matches!(wire.until_end(), (_, Finish::Clean | Finish::Reset)));
    }
    assert_eq!(told.rest(), []);
}

fn a_header_that_is_cut_off_is_given_up(world: &World) {
    let (host, told) = porter(world, Limits { handshake_timeout: PATIENCE * 10, ..Limits::default() });
    for first in [&V1[..10], b""] {
        let mut wire = host.connect_plain();
        wire.send(first);
        wire.finish();
        assert!(matches!(wire.until_end(), (_, Finish::Clean | Finish::Reset)));
    }
    assert_eq!(told.rest(), []);
}

fn places_are_those_of_clients(world: &World) {
    let (host, told) = porter(world, Limits { connections_per_address: 1, ..Limits::default() });
    let mut first = host.connect_saying(V1, usize::MAX).expect("accepted");
    first.send(request("GET /", &[])).answer().is(200);
    assert!(is_turned_away(&host, V2), "the second of the same client");
    let other = b"PROXY TCP4 192.0.2.2 198.51.100.7 50000 443\r\n";
    let mut second = host.connect_saying(other, usize::MAX).expect("accepted");
    second.send(request("GET /", &[])).answer().is(200);
    first.finish();
    assert!(matches!((told.next(), told.next(), told.next()), (Word::In(_), Word::In(_), Word::Out)));
    let mut again = host.connect_saying(V1, usize::MAX).expect("accepted");
    again.send(request("GET /", &[])).answer().is(200);
}

fn a_stranger_is_turned_away(world: &World) {
    let (host, told) = porter(world, Limits::default());
    assert!(is_turned_away(&host, b"PROXY TCP4 192.0.2.66 198.51.100.7 50000 443\r\n"), "by the handler");
    assert!(matches!(told.next(), Word::In(_)));
    assert_eq!(told.rest(), [], "a rejected peer has not left");

    let (tell, told) = telling();
    let host = world.serve_trusting(|_| false, Porter(tell));
    assert!(is_turned_away(&host, V1), "no proxy");
    assert_eq!(told.rest(), []);
}

fn it_stops_while_a_header_is_on_its_way(world: &World) {
    let (host, _told) = porter(world, Limits { handshake_timeout: PATIENCE * 10, ..Limits::default() });
    let mut wire = host.connect_plain();
    wire.send(&V1[..10]);
    host.stopper.shutdown(PATIENCE * 10);
    host.ends();
}
