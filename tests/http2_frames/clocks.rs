//! Clients that are slow, or stop in the middle: each is ended by a timeout, and the loop does not spin meanwhile.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use uncork::{Action, Limits, Listen, Request, Server, Tls};

use crate::{
    counted::Counting,
    peer::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, NO_ERROR, PING,
        PREFACE, Peer, RST_STREAM, WHOLE, frame, get, head, post, reset, settings, window_update,
    },
};

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(8);

fn limits() -> Limits {
    Limits {
        head_timeout: SHORT,
        idle_timeout: SHORT,
        send_timeout: SHORT,
        handshake_timeout: SHORT,
        linger_timeout: SHORT,
        min_rate: 0,
        ..Limits::default()
    }
}

/// Waits for the end of the connection, which must come by the timeout. The loop must not spin until then.
#[track_caller]
fn ends_in_time(server: &Counting, what: &str, peer: &mut Peer) {
    let (begun, turns) = (Instant::now(), server.counters.turns());
    assert!(peer.ends(), "{what}: the connection does not end");
    let took = begun.elapsed();
    assert!(took > SHORT / 2 && took < 6 * SHORT, "{what}: it ends after {took:?}");
    let turns = server.counters.turns() - turns;
    assert!(turns < 100, "{what}: {turns} turns");
}

#[test]
fn an_incomplete_head_is_ended_by_its_timeout() {
    let server = Counting::start(limits());
    let block = head("GET", "/", &[]);
    let begun = frame(HEADERS, END_STREAM, 3, &block);
    for (what, sent) in [
        ("a block without its end", begun.clone()),
        ("a block without its end, behind CONTINUATION", [begun.clone(), frame(CONTINUATION, 0, 3, [])].concat()),
        ("a part of HEADERS", begun[..12].to_vec()),
        ("a part of a frame's head", begun[..4].to_vec()),
        ("a part of PING", frame(PING, 0, 0, [0; 8])[..12].to_vec()),
    ] {
        // Another request in progress does not help.
        for before in [vec![], get(1, "/ticket")] {
            let mut peer = Peer::connect(server.addr);
            peer.send([before, sent.clone()].concat());
            let goaway = peer.until(|frame| frame.kind == GOAWAY);
            assert_eq!(goaway.code(), ENHANCE_YOUR_CALM, "{what}");
            assert!(peer.ends(), "{what}");
        }
    }
    drop(server.counters.tickets());
    server.counters.free();
}

/// A frame of 16 KiB that takes four times as long as the body's timeout allows between two pieces.
#[test]
fn a_body_arrives_before_its_frame_is_complete() {
    let server = Counting::start(Limits { body_timeout: SHORT, ..limits() });
    let mut peer = Peer::connect(server.addr);
    let body = frame(DATA, END_STREAM, 1, [b'x'; 16 * 1024]);
    peer.send(post(1, "/upload", &[]));
    for piece in body.chunks(body.len() / 16 + 1) {
        std::thread::sleep(SHORT / 4);
        peer.send(piece);
    }
    let head = peer.until(|frame| frame.kind == HEADERS);
    assert_eq!((head.stream, head.status()), (1, 200));
}

#[test]
fn a_slow_preface_is_ended_by_a_timeout() {
    let server = Counting::start(limits());
    for (what, sent) in [
        ("nothing", vec![]),
        ("a part of the preface", PREFACE[..10].to_vec()),
        ("the preface without SETTINGS", PREFACE.to_vec()),
        ("a part of SETTINGS", [PREFACE, &settings(&[(3, 1)])[..10]].concat()),
        ("SETTINGS, without ACK", [PREFACE, &settings(&[])].concat()),
    ] {
        let mut peer = Peer::silent(server.addr);
        peer.send(&sent);
        ends_in_time(&server, what, &mut peer);
    }
}

#[test]
fn a_slow_preface_over_tls_is_ended_by_a_timeout() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = Tls::pem_bytes(cert.as_bytes(), key.as_bytes()).expect("a pair");
    let listen = Listen::tcp("127.0.0.1:0").expect("bound").tls(tls);
    let server = Counting::serve(Server::new().listen(listen).limits(limits()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    for sent in [&b""[..], &PREFACE[..7], PREFACE] {
        let peer = Peer::silent(server.addr);
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(config.clone(), name).expect("a session");
        while tls.is_handshaking() {
            tls.complete_io(&mut peer.tcp()).expect("shaken");
        }
        assert_eq!(tls.alpn_protocol(), Some(&b"h2"[..]));
        tls.writer().write_all(sent).expect("room");
        while tls.wants_write() {
            tls.write_tls(&mut peer.tcp()).expect("sent");
        }
        let (begun, turns) = (Instant::now(), server.counters.turns());
        let mut all = Vec::new();
        let _ = std::io::Read::read_to_end(&mut peer.tcp(), &mut all);
        let (took, turns) = (begun.elapsed(), server.counters.turns() - turns);
        assert!(took < 6 * SHORT && turns < 100, "{} bytes: after {took:?}, {turns} turns", sent.len());
    }
}

#[test]
fn an_idle_connection_gets_a_goaway() {
    let server = Counting::start(limits());
    let mut peer = Peer::connect(server.addr);
    peer.send(get(1, "/"));
    peer.until(|frame| frame.stream == 1 && frame.ends());
    let goaway = peer.until(|frame| frame.kind == GOAWAY);
    assert_eq!(goaway.code(), NO_ERROR);
    assert!(peer.ends());
}

#[test]
fn a_busy_client_may_cut_its_frames_anywhere() {
    let server = Counting::start(limits());
    let mut peer = Peer::connect(server.addr);
    let (end, mut stream, mut cut) = (Instant::now() + 4 * SHORT, 1, Vec::new());
    while Instant::now() < end {
        let next = get(stream, "/");
        let (now, later) = next.split_at(12);
        peer.send([&cut[..], now].concat());
        cut = later.to_vec();
        stream += 2;
        std::thread::sleep(SHORT / 8);
    }
    peer.send(cut);
    peer.until(|frame| frame.stream == stream - 2 && frame.ends());
}

#[test]
fn slow_data_has_the_time_of_a_body() {
    let server = Counting::start(limits());
    let mut peer = Peer::connect(server.addr);
    peer.send(post(1, "/upload", &[]));
    let data = frame(DATA, END_STREAM, 1, [0; 40]);
    for byte in data {
        peer.send([byte]);
        std::thread::sleep(SHORT / 12);
    }
    peer.until(|frame| frame.stream == 1 && frame.ends());
    server.counters.free();
}

#[test]
fn a_client_that_takes_no_output_is_ended_by_the_send_timeout() {
    let server = Counting::start(Limits { idle_timeout: SHORT / 2, ..limits() });
    let mut peer = Peer::connect(server.addr);
    peer.tcp().set_write_timeout(Some(SHORT / 8)).expect("set");
    let pings = frame(PING, 0, 0, [0; 8]).repeat(1000);
    // Until the server's output is full, and it reads no more.
    while peer.try_send(&pings).is_ok() {}
    let turns = server.counters.turns();
    std::thread::sleep(3 * SHORT);
    assert!(server.counters.turns() - turns < 200, "{} turns", server.counters.turns() - turns);
    assert!(peer.ends());
}

#[test]
fn responses_behind_closed_windows_are_ended_by_the_send_timeout() {
    let server = Counting::start(limits());
    let mut peer = Peer::with(server.addr, &[(4, 0)]);
    let count = 50;
    for n in 0..count {
        let path = ["/large", "/produce"][n % 2];
        peer.send(get(2 * n as u32 + 1, path));
    }
    server.counters.begun(count);
    let turns = server.counters.turns();
    server.counters.free();
    assert!(server.counters.turns() - turns < 500, "{} turns", server.counters.turns() - turns);
    // Nothing looks whole.
    let mut resets = 0;
    while resets < count {
        let frame = peer.next().expect("a reset of each stream");
        assert!(!frame.ends(), "a truncated response looks whole");
        resets += usize::from(frame.kind == RST_STREAM);
    }
    // The connection serves others.
    peer.send(frame(HEADERS, WHOLE, 2 * count as u32 + 1, head("HEAD", "/", &[])));
    let last = peer.until(|frame| frame.kind == HEADERS && frame.stream == 2 * count as u32 + 1);
    assert!(last.ends() && END_HEADERS & last.flags != 0);
}

/// What the client takes of one response gives the others, which wait for it, no more time than the least rate does.
#[test]
fn a_window_that_is_opened_byte_by_byte_holds_no_responses() {
    let server = Counting::start(Limits { min_rate: 1000, ..limits() });
    let mut peer = Peer::with(server.addr, &[(4, 1 << 20)]);
    let count = 10;
    for n in 0..count {
        peer.send(get(2 * n + 1, "/large"));
    }
    let begun = Instant::now();
    let mut resets = 0;
    while resets < count {
        peer.send(window_update(0, 1));
        std::thread::sleep(SHORT / 20);
        while let Ok(Some(frame)) = peer.within(Duration::from_millis(1)) {
            resets += u32::from(frame.kind == RST_STREAM);
        }
        assert!(begun.elapsed() < LONG, "{resets} responses were ended");
    }
    server.counters.free();
}

/// It never acknowledges the ping behind the GOAWAY, and goes on with requests.
#[test]
fn a_client_that_ignores_goaway_is_not_served_for_ever() {
    let server = Counting::start(Limits { requests: 3, streams: 2, ..Limits::default() });
    let mut peer = Peer::connect(server.addr);
    for n in 0..100 {
        // Each in a turn of its own.
        if peer.try_send(get(2 * n + 1, "/")).is_err() || !matches!(peer.within(LONG), Ok(Some(_))) {
            break;
        }
    }
    assert!(peer.ends());
    assert!((7..20).contains(&server.counters.requests()), "{}", server.counters.requests());
}

#[test]
fn a_client_that_ignores_goaway_does_not_hinder_a_stop() {
    let limits = Limits { linger_timeout: SHORT / 2, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0").expect("bound").limits(limits);
    let waiting = Arc::new(std::sync::Mutex::new(Vec::new()));
    let handler = move |req: &mut Request<'_>| {
        waiting.lock().expect("no panic").push(req.ticket());
        Action::Suspend
    };
    let running = server.threads(1, handler).expect("running");
    let mut peer = Peer::connect(running.local_addr().expect("an address"));
    peer.send(get(1, "/"));
    peer.ping();
    let stopper = running.stop_handle();
    stopper.shutdown(LONG);
    let begun = Instant::now();
    for n in 0.. {
        // One is always in progress.
        let sent = [get(2 * n + 3, "/"), reset(2 * n + 1, CANCEL)].concat();
        if begun.elapsed() > LONG || peer.try_send(sent).is_err() {
            break;
        }
        std::thread::sleep(SHORT / 10);
    }
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    running.join().expect("stopped");
}
