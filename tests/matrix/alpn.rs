//! Protocols that TLS selects by ALPN. Without TLS none is selected, and the handler is not called.

use std::{sync::mpsc::Sender, time::Duration};

use uncork::{
    Action, ConnId, Dial, EndReason, EventMask, Events, Handler, Io, Limits, PeerAddr, ReadState, Request, Response,
    TlsClient, Upgrade,
};

use crate::{
    dialing::Dialing,
    upgrading::echo,
    wire::{Finish, PATIENCE},
    world::{Host, Told, World, identity, telling},
};

matrix! {
    what_was_chosen_is_spoken_from_the_first_byte,
    who_offers_only_http_is_served_http,
    what_nobody_speaks_is_closed,
    it_is_told_that_the_server_stops,
    a_handshake_that_stands_still_is_given_up,
}

/// Speaks `x-test`: an echo that sends a greeting first.
#[derive(Clone)]
struct Rather {
    asked: Sender<(String, PeerAddr)>,
    closed: Sender<EndReason>,
    calls: Sender<Events>,
}

impl Handler for Rather {
    fn request(&mut self, _: &mut Request<'_>) -> Action {
        Response::text("HTTP").into()
    }

    fn alpn(&mut self, protocol: &[u8], peer: &PeerAddr) -> Option<Box<dyn Upgrade>> {
        let protocol = String::from_utf8_lossy(protocol).into_owned();
        let known = protocol == "x-test";
        self.asked.send((protocol, *peer)).expect("heard");
        let (calls, mut echo, mut greeted) = (self.calls.clone(), echo(), false);
        let speak = move |io: &mut Io<'_>| {
            let _ = calls.send(io.events());
            if !std::mem::replace(&mut greeted, true) {
                io.tx.write(b"hello ");
            }
            if io.events().is_stopping() { EventMask::TERMINATE } else { echo.ready(io) }
        };
        known.then(|| Box::new(speak) as Box<dyn Upgrade>)
    }

    fn closed(&mut self, _: ConnId, why: &EndReason) {
        let _ = self.closed.send(*why);
    }
}

struct Served {
    host: Host,
    asked: Told<(String, PeerAddr)>,
    closed: Told<EndReason>,
    calls: Told<Events>,
}

fn serve(world: &World, limits: Limits) -> Served {
    let ((asked, told_asked), (closed, told_closed), (calls, told_calls)) = (telling(), telling(), telling());
    let host = world.serve_rather(limits, Rather { asked, closed, calls });
    Served { host, asked: told_asked, closed: told_closed, calls: told_calls }
}

/// A peer with a loop of its own that sends bytes.
struct Said {
    told: Told<(Option<Vec<u8>>, Vec<u8>, ReadState)>,
    _server: Dialing,
}

/// Offers `protocol` before HTTP, sends `words`, and reports the selected protocol and the received bytes at the end.
fn say(world: &World, host: &Host, protocol: &str, words: &'static [u8]) -> Said {
    let (server, (tell, told)) = (Dialing::on(world), telling());
    let tls = TlsClient::builder().roots_pem(identity().cert.as_bytes()).expect("a root").alpn([protocol]).build();
    let tls = tls.expect("TLS");
    let dial = Dial::tcp(host.addr()).timeout(PATIENCE);
    let dial = if world.tls { dial.tls(&tls, "localhost") } else { dial };
    server.here().dial(dial, move |result| {
        let dialed = result.expect("a connection");
        let (agreed, mut got, mut said) = (dialed.alpn.map(<[u8]>::to_vec), Vec::new(), false);
        Some(Box::new(move |io: &mut Io<'_>| {
            if !std::mem::replace(&mut said, true) {
                io.tx.write(words);
            }
            got.extend_from_slice(io.rx.bytes());
            io.rx.consume(usize::MAX);
            if !words.is_empty() && got.ends_with(words) {
                io.tx.finish();
            }
            if io.rx.state() == ReadState::Open {
                return EventMask::READ;
            }
            tell.send((agreed.clone(), got.split_off(0), io.rx.state())).expect("heard");
            EventMask::TERMINATE
        }))
    });
    Said { told, _server: server }
}

impl Said {
    /// The selected protocol, the received bytes, and how the connection ended.
    fn next(&self) -> (Option<Vec<u8>>, Vec<u8>, ReadState) {
        self.told.next()
    }
}

fn what_was_chosen_is_spoken_from_the_first_byte(world: &World) {
    let served = serve(world, Limits::default());
    if !world.tls {
        served.host.connect().request("GET /", &["Connection: close"]).answer().is(200);
        assert_eq!((served.closed.next(), served.asked.rest().len()), (EndReason::Complete, 0));
        return;
    }
    let told = say(world, &served.host, "x-test", b"are you there?");
    assert_eq!(told.next(), (Some(b"x-test".to_vec()), b"hello are you there?".to_vec(), ReadState::Eof));
    let (protocol, peer) = served.asked.next();
    assert_eq!((protocol.as_str(), peer.is_local()), ("x-test", true));
    assert_eq!(served.closed.next(), EndReason::Complete);
}

fn who_offers_only_http_is_served_http(world: &World) {
    let served = serve(world, Limits::default());
    let mut wire = served.host.connect();
    for _ in 0..2 {
        assert_eq!(wire.request("GET /", &[]).answer().is(200).text(), "HTTP");
    }
    let told = say(world, &served.host, "x-other", b"GET / HTTP/1.0\r\n\r\n");
    let (agreed, got, end) = told.next();
    assert_eq!(agreed.as_deref(), world.tls.then_some(&b"http/1.1"[..]));
    assert!(got.ends_with(b"HTTP") && end == ReadState::Eof);
    assert_eq!(served.asked.rest().len(), 0);
}

fn what_nobody_speaks_is_closed(world: &World) {
    let served = serve(world, Limits::default());
    let told = say(world, &served.host, "x-nobody", b"GET / HTTP/1.0\r\n\r\n");
    let (agreed, got, end) = told.next();
    assert_eq!(end, ReadState::Eof);
    if world.tls {
        assert_eq!((agreed.as_deref(), got.len()), (Some(&b"x-nobody"[..]), 0));
        assert_eq!(served.asked.next().0, "x-nobody");
        let why = served.closed.next();
        assert!(matches!(why, EndReason::Rejected { status: 0, .. }), "{why:?}");
    } else {
        assert!(got.ends_with(b"HTTP"));
    }
}

fn it_is_told_that_the_server_stops(world: &World) {
    let served = serve(world, Limits::default());
    let mut idle = served.host.connect();
    let told = world.tls.then(|| say(world, &served.host, "x-test", b""));
    if world.tls {
        assert!(!served.calls.next().is_stopping());
    }
    served.host.stopper.shutdown(PATIENCE * 2);
    idle.ends(Finish::Clean);
    if let Some(told) = told {
        while !served.calls.next().is_stopping() {}
        assert_eq!(told.next().1, b"hello ");
    }
    served.host.ends();
}

fn a_handshake_that_stands_still_is_given_up(world: &World) {
    let short = Duration::from_millis(100);
    let served = serve(world, Limits { handshake_timeout: short, head_timeout: short, ..Limits::default() });
    let mut wire = served.host.connect_plain();
    // The beginning of a ClientHello, and of a request.
    wire.send(if world.tls { &b"\x16\x03\x01\x02\x00\x01"[..] } else { b"GET" });
    if !world.tls {
        wire.answer().is(408);
        wire.finish();
    }
    let timer = if world.tls { uncork::Timeout::Handshake } else { uncork::Timeout::Head };
    assert_eq!(served.closed.next(), EndReason::TimedOut(timer));
    // And one that is abandoned.
    let mut wire = served.host.connect_plain();
    wire.send(if world.tls { &b"\x16\x03\x01\x02\x00\x01"[..] } else { b"GET" }).cut();
    assert_eq!(served.closed.next(), EndReason::PeerClosed);
}
