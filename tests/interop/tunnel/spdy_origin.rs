//! Our origin server at a [proxy program of spdy-proxy](super::legacy_proxy); then both ends of ours, over SPDY.

use std::{
    io::Read,
    sync::{Arc, Mutex, mpsc::channel},
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};
use uncork::{
    Action, EndReason, Produced, Request, Response, Tx,
    relay::tunnel::{ProxyConfig, Tunnel},
};

use super::{
    client::TIMEOUT,
    legacy_proxy::{LegacyListener, identity},
    origin::site,
    origin_server::{MODES, Mode, OriginServer},
    site::bytes,
    spdy_peer::{GOAWAY, PING, Peer, RST_STREAM, WINDOW_UPDATE, control, data, legacy, numbers},
    world::World,
};

fn field(fields: &[(String, String)], name: &str) -> Option<String> {
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
}

#[test]
fn a_spdy_proxy_is_served_in_each_mode() {
    for mode in MODES {
        let listener = LegacyListener::new();
        let _origin_server = OriginServer::new(listener.tunnel(), mode, site);
        let mut proxy = listener.accept();
        let (fields, body) = proxy.get("/who");
        assert_eq!(field(&fields, ":status").as_deref(), Some("200 OK"));
        assert_eq!(field(&fields, ":version").as_deref(), Some("HTTP/1.1"));
        assert_eq!(String::from_utf8_lossy(&body), "Some(127.0.0.1) Some(\"localhost:1443\")");
        assert!(["connection", "transfer-encoding", "keep-alive"].iter().all(|name| field(&fields, name).is_none()));
        let (_, body) = proxy.get("/big");
        assert!(body == bytes(3_000_000));
        // HEAD ends with an empty frame, too.
        let stream = proxy.request("HEAD", "/who", &[], true);
        let fields = proxy.reply(stream);
        assert!(field(&fields, "content-length").is_some());
        assert_eq!(proxy.body(stream), b"");
        proxy.send(&control(PING, 0, &numbers(&[7])));
        assert_eq!(proxy.expect(PING).number(0), 7);
    }
}

/// spdy-proxy forwards a client's own fields unchanged; a handler that trusts them must not be deceived.
#[test]
fn fields_about_the_client_are_dropped() {
    let listener = LegacyListener::new();
    let _origin_server = OriginServer::new(listener.tunnel(), Mode::Threads, site);
    let mut proxy = listener.accept();
    let spoofed =
        [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), ("x_real_ip", "192.0.2.1"), ("x-a", "b")];
    let stream = proxy.request("GET", "/fields", &spoofed, true);
    proxy.reply(stream);
    let fields = String::from_utf8(proxy.body(stream)).expect("text");
    assert!(fields.contains("x-a: b\n") && !fields.contains("192.0.2.1"), "{fields}");
    let stream = proxy.request("GET", "/who", &spoofed, true);
    proxy.reply(stream);
    assert!(String::from_utf8(proxy.body(stream)).expect("text").starts_with("Some(127.0.0.1)"));
}

#[test]
fn bodies_are_received_as_the_window_allows() {
    let listener = LegacyListener::new();
    let _origin_server = OriginServer::new(listener.tunnel(), Mode::Threads, site);
    let mut proxy = listener.accept();
    let sent = bytes(200_000);
    for length in [Some("200000"), None] {
        let fields: Vec<(&str, &str)> = length.map(|n| ("content-length", n)).into_iter().collect();
        let stream = proxy.request("POST", "/echo", &fields, false);
        let (mut at, mut window) = (0, 65_536);
        while at < sent.len() {
            let n = 10_000.min(sent.len() - at);
            while window < n {
                let frame = proxy.expect(WINDOW_UPDATE);
                if frame.number(0) == stream {
                    window += frame.number(4) as usize;
                }
            }
            proxy.send(&data(stream, at + n == sent.len(), &sent[at..at + n]));
            (at, window) = (at + n, window - n);
        }
        proxy.reply(stream);
        assert!(proxy.body(stream) == sent);
    }
}

/// spdy-proxy drops a response if a sixth frame arrives before it has forwarded any.
#[test]
fn at_most_five_frames_are_in_flight() {
    let listener = LegacyListener::new();
    let _origin_server = OriginServer::new(listener.tunnel(), Mode::Threads, site);
    let mut proxy = listener.accept();
    let stream = proxy.request("GET", "/stream", &[], true);
    proxy.reply(stream);
    let (mut in_flight, mut got) = (std::collections::VecDeque::new(), Vec::new());
    let mut largest = 0;
    loop {
        // Everything that it sends without a window update; then one frame is released.
        while !proxy.is_silent(Duration::from_millis(20)) {
            let frame = proxy.expect(0);
            if frame.fin {
                assert!(got == bytes(700_000));
                assert!(largest > 1, "the window allows more than one frame");
                return;
            }
            in_flight.push_back(frame.payload.len());
            got.extend(frame.payload);
            largest = largest.max(in_flight.len());
            assert!(largest <= 5 && in_flight.iter().sum::<usize>() <= 65_536, "{in_flight:?}");
        }
        let first = in_flight.pop_front().expect("a frame in flight");
        proxy.release(stream, first);
    }
}

#[test]
fn the_handler_is_notified_of_a_disconnected_client() {
    let (sender, ended) = channel();
    // It never responds.
    let tickets = Arc::new(Mutex::new(Vec::new()));
    let kept = tickets.clone();
    let listener = LegacyListener::new();
    let _origin_server = OriginServer::new(listener.tunnel(), Mode::Threads, move |req: &mut Request<'_>| {
        let sender = sender.clone();
        req.on_end(move |end| {
            let _ = sender.send(end.reason);
        });
        if req.path() == "/pause" {
            return Response::stream(|_: &mut Tx<'_>| Produced::Pending).into();
        }
        kept.lock().expect("no panic").push(req.ticket());
        Action::Suspend
    });
    let mut proxy = listener.accept();
    // While the response pauses.
    let stream = proxy.request("GET", "/pause", &[], true);
    proxy.reply(stream);
    proxy.send(&control(RST_STREAM, 0, &numbers(&[stream, 5])));
    assert!(matches!(ended.recv_timeout(TIMEOUT), Ok(EndReason::PeerClosed)));
    let stream = proxy.request("GET", "/", &[], true);
    let other = proxy.request("GET", "/", &[], true);
    proxy.send(&control(RST_STREAM, 0, &numbers(&[stream, 5])));
    assert!(matches!(ended.recv_timeout(TIMEOUT), Ok(EndReason::PeerClosed)));
    assert!(ended.try_recv().is_err(), "the other one waits");
    assert_eq!((other, tickets.lock().expect("no panic").len()), (5, 2));
}

#[test]
fn a_proxy_that_is_lost_is_dialled_again() {
    let listener = LegacyListener::new();
    let origin = OriginServer::new(listener.tunnel(), Mode::Threads, site);
    drop(listener.accept());
    origin.expect_event("next attempt in");
    // After GOAWAY, the connection ends when all responses are complete.
    let mut proxy = listener.accept();
    proxy.get("/who");
    proxy.send(&control(GOAWAY, 0, &numbers(&[0, 0])));
    assert!(proxy.next().is_err(), "the connection has ended");
    // A proxy that breaks a rule is disconnected at once, with an error code.
    let mut proxy = listener.accept();
    proxy.send(&data(99, false, b"x"));
    assert_eq!(proxy.expect(GOAWAY).number(4), 1);
    origin.expect_event("a stream that never existed");
    let mut proxy = listener.accept();
    proxy.get("/who");
}

#[test]
fn malformed_requests_end_their_streams() {
    let listener = LegacyListener::new();
    let _origin_server = OriginServer::new(listener.tunnel(), Mode::Threads, site);
    let mut proxy = listener.accept();
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let wrong: [(&str, &str, Fields<'_>); 6] = [
        ("GET", "/a HTTP/1.1\r\nx: y", &[]),
        ("GET /", "/", &[]),
        ("CONNECT", "/", &[]),
        ("GET", "/", &[("x", "a\r\nTransfer-Encoding: chunked")]),
        ("POST", "/", &[("content-length", "1\x002")]),
        ("POST", "/", &[("content-length", "7")]),
    ];
    for (method, path, fields) in wrong {
        let stream = proxy.request(method, path, fields, true);
        assert_eq!(proxy.expect(RST_STREAM).number(0), stream, "{method} {path} {fields:?}");
    }
    // More body than declared, which would be another request.
    let stream = proxy.request("POST", "/echo", &[("content-length", "4")], false);
    proxy.send(&data(stream, true, b"bodyGET /who HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(proxy.expect(RST_STREAM).number(0), stream);
    let hop = [("transfer-encoding", "chunked"), ("connection", "x-a"), ("upgrade", "websocket")];
    let stream = proxy.request("GET", "/who", &hop, true);
    proxy.reply(stream);
    proxy.body(stream);
}

#[test]
fn the_proxys_certificate_is_verified() {
    let listener = LegacyListener::new();
    // Its certificate is not the trusted one.
    let wrong = Tunnel::dial(&format!("localhost:{}", listener.port()))
        .tls(super::origin_server::trust())
        .backoff(Duration::from_millis(20))
        .allow_legacy_unauthenticated();
    let origin = OriginServer::new(wrong, Mode::Threads, site);
    let (socket, _) = listener.0.accept().expect("a connection");
    let mut stream = StreamOwned::new(ServerConnection::new(identity().config.clone()).expect("TLS"), socket);
    stream.read_exact(&mut [0; 1]).expect_err("no handshake");
    origin.expect_event("next attempt in");
    // Neither a token nor names may be set.
    let site = |req: &mut Request<'_>| site(req);
    assert!(listener.tunnel().token("secret").threads(1, site).is_err());
    assert!(listener.tunnel().host("app.example").threads(1, site).is_err());
}

/// Our code at both ends, over SPDY.
#[test]
fn both_ends_of_ours_work_together() {
    let world = World::with(ProxyConfig { name_timeout: Duration::from_millis(1), ..legacy() });
    let tunnel = Tunnel::dial(&format!("localhost:{}", world.origins.port()))
        .tls(super::origin_server::trust())
        .backoff(Duration::from_millis(20))
        .allow_legacy_unauthenticated();
    let origin = OriginServer::new(tunnel, Mode::Threads, site);
    origin.expect_event("connected");
    world.wait_until("the origin server is connected", |counts| counts.connections == 1);
    let handles: Vec<_> = (0..8)
        .map(|n| {
            let mut client = if n % 2 == 0 { world.client() } else { world.secure_client() };
            std::thread::spawn(move || {
                for _ in 0..10 {
                    let sent = bytes(300_000);
                    client
                        .send("POST /echo HTTP/1.1\r\nHost: old.example\r\nContent-Length: 300000\r\n\r\n")
                        .send(&sent);
                    assert!(client.response().assert(200).body == sent);
                    client.send("GET /who HTTP/1.1\r\nHost: old.example\r\n\r\n");
                    assert!(client.response().text().contains("old.example"));
                }
            })
        })
        .collect();
    handles.into_iter().for_each(|thread| thread.join().expect("no panic"));
    world.wait_until("all requests have ended", |counts| counts.active == 0);
    // A tunnel by token has its own names beside it.
    let other = OriginServer::new(super::origin_server::tunnel(world.origins), Mode::Threads, |_: &mut Request<'_>| {
        Response::text("by token")
    });
    let other = other.wait_connected(&world);
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.response().text(), "by token");
    drop(other);
}
