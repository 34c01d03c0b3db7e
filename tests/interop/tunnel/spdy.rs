//! An origin program of spdy-proxy at our proxy, made of frames from [`spdy_peer`](super::spdy_peer).

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use uncork::relay::tunnel::{Credential, ProxyConfig};

use super::{
    proxy::leave_or_finish,
    spdy_peer::{
        GOAWAY, OK, Origin, PING, Peer, RST_STREAM, VERSION, WINDOW, WINDOW_UPDATE, get, legacy, world_and_origin,
    },
    world::{World, config},
};

#[test]
fn a_request_and_its_response_are_forwarded() {
    let (world, mut origin) = world_and_origin();
    for (n, (mut client, scheme)) in
        [(world.client(), "http"), (world.secure_client(), "https")].into_iter().enumerate()
    {
        client.send(
            "GET /a?b HTTP/1.1\r\nHost: old.example\r\nAccept: text/html\r\naccept: image/png\r\nX-Forwarded-For: 1.2.3.4\r\n\
             Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: websocket\r\n\r\n",
        );
        let request = origin.request();
        assert_eq!((request.stream, request.fin), (n as u32 * 2 + 1, true));
        let start: Vec<(&str, &str)> =
            request.fields.iter().take(5).map(|(name, value)| (&name[..], &value[..])).collect();
        let want = [(":method", "GET"), (":path", "/a?b"), VERSION, (":host", "old.example"), (":scheme", scheme)];
        assert_eq!(start, want);
        assert_eq!(request.get("accept"), Some("text/html\0image/png"));
        assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"), "{request:?}");
        assert!(request.get("via").is_some_and(|via| via.starts_with("1.1 uncork-")), "{request:?}");
        for hop in ["connection", "x-hop", "keep-alive", "upgrade", "host", "transfer-encoding"] {
            assert_eq!(request.get(hop), None, "{hop}");
        }
        let part = [
            (":status", "206 Partial Content"),
            VERSION,
            ("content-range", "bytes 0-4/9"),
            ("content-length", "5"),
            ("connection", "x-a"),
            ("x-a", "secret"),
            ("via", "1.1 a\x001.1 b"),
        ];
        origin.reply(request.stream, false, &part).data(request.stream, false, "hello").data(request.stream, true, "");
        let response = client.response();
        assert_eq!(
            (response.status, response.text(), response.get("content-range")),
            (206, "hello", Some("bytes 0-4/9"))
        );
        assert_eq!(response.get("x-a"), None, "{response:?}");
        assert!(response.get("via").is_some_and(|via| via.starts_with("1.1 a, 1.1 b, 1.1 uncork-")), "{response:?}");
    }
    // Bytes are counted after the call that forwards them.
    world.wait_until("both are counted", |counts| counts.bytes_down == 10);
}

#[test]
fn a_body_is_sent_as_the_window_allows() {
    let (world, mut origin) = world_and_origin();
    let body: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    for chunked in [false, true] {
        let (mut client, sent) = (world.client(), body.clone());
        let sender = std::thread::spawn(move || {
            let head = "POST / HTTP/1.1\r\nHost: old.example\r\n";
            match chunked {
                true => client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).chunk(&sent).send("0\r\n\r\n"),
                false => client.send(format!("{head}Content-Length: {}\r\n\r\n", sent.len())).send(sent),
            };
            client.response()
        });
        let request = origin.request();
        assert_eq!((request.fin, request.get("content-length")), (false, (!chunked).then_some("200000")));
        let mut got = Vec::new();
        while got.len() < WINDOW {
            got.extend(origin.expect(0).payload);
        }
        assert_eq!(got.len(), WINDOW, "exactly the window");
        assert!(origin.client.is_silent(Duration::from_millis(100)), "the window is used up");
        let mut fin = false;
        while !fin {
            origin.control(WINDOW_UPDATE, &[request.stream, 50_000]).control(WINDOW_UPDATE, &[0, 50_000]);
            let frame = origin.expect(0);
            fin = frame.fin;
            got.extend(frame.payload);
        }
        assert!(got == body);
        origin.reply(request.stream, false, &[(":status", "201 Created"), VERSION]).data(request.stream, true, "");
        sender.join().expect("no panic").assert(201);
    }
}

#[test]
fn a_slow_client_stops_its_own_stream_only() {
    let (world, mut origin) = world_and_origin();
    let mut slow = world.client();
    get(&mut slow, "/big");
    let big = origin.request().stream;
    origin.reply(big, false, &[OK, VERSION]);
    // Two windows pass: into the pipe and the sockets. A client that does not read stops it there.
    let (mut sent, mut window) = (0, WINDOW);
    let stuck = Instant::now() + Duration::from_secs(10);
    loop {
        while window >= 16_384 {
            origin.data(big, false, [7; 16_384]);
            (sent, window) = (sent + 16_384, window - 16_384);
        }
        if origin.client.is_silent(Duration::from_millis(200)) {
            break;
        }
        assert!(Instant::now() < stuck, "{sent} bytes were taken without a reader");
        let frame = origin.expect(WINDOW_UPDATE);
        if frame.number(0) == big {
            window += frame.number(4) as usize;
        }
    }
    let mut client = world.client();
    get(&mut client, "/small");
    let small = origin.request().stream;
    origin.reply(small, false, &[OK, VERSION, ("content-length", "2")]).data(small, true, "ok");
    assert_eq!(client.response().text(), "ok");
    slow.head();
    let mut got = 0;
    while got < sent {
        got += slow.next_chunk().expect("a chunk").expect("not the last").len();
    }
    origin.data(big, true, "");
    assert_eq!(slow.next_chunk().expect("the last"), None);
}

#[test]
fn responses_without_a_body_do_not_disturb_the_next() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    for (method, status, length) in
        [("HEAD", "200 OK", "1234"), ("GET", "304 Not Modified", "1234"), ("DELETE", "204 No Content", "0")]
    {
        client.send(format!("{method} / HTTP/1.1\r\nHost: old.example\r\n\r\n"));
        let stream = origin.request().stream;
        origin.reply(stream, false, &[(":status", status), VERSION, ("content-length", length)]).data(stream, true, "");
        let head = client.head();
        assert_eq!(head.status.to_string(), status[..3]);
        assert_eq!(head.get("content-length"), (method == "HEAD").then_some(length));
    }
    get(&mut client, "/");
    let stream = origin.request().stream;
    origin.reply(stream, false, &[OK, VERSION]).data(stream, false, "ok").data(stream, true, "");
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn clients_get_clear_errors() {
    let config = ProxyConfig { response_timeout: Duration::from_millis(300), ..legacy() };
    let world = World::with(config);
    let mut client = world.client();
    get(&mut client, "/");
    assert_eq!(client.response().status, 404, "no origin server ever registered it");
    let mut origin = Origin::new(&world);
    // It never responds.
    get(&mut client, "/");
    let stream = origin.request().stream;
    assert_eq!(client.response().status, 504);
    let reset = origin.expect(RST_STREAM);
    assert_eq!((reset.number(0), reset.number(4)), (stream, 5), "CANCEL");
    // It is lost in the middle of a response.
    get(&mut client, "/");
    let stream = origin.request().stream;
    origin.reply(stream, false, &[OK, VERSION, ("content-length", "10")]).data(stream, false, "half");
    let head = client.head();
    assert_eq!(client.exactly(4).expect("half"), b"half");
    origin.client.leave();
    let error = client.body(&head).expect_err("truncated");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    world.wait_until("the connection has ended", |counts| counts.connections == 0);
    // It was connected, and may reconnect.
    let mut client = world.client();
    get(&mut client, "/");
    let response = client.response();
    assert_eq!((response.status, response.get("retry-after")), (502, Some("5")));
}

#[test]
fn a_client_that_leaves_resets_its_stream() {
    let (world, mut origin) = world_and_origin();
    for begun in [false, true] {
        let mut client = world.client();
        get(&mut client, "/");
        let stream = origin.request().stream;
        if begun {
            origin.reply(stream, false, &[OK, VERSION]).data(stream, false, "half");
            client.head();
            client.next_chunk().expect("a chunk");
        }
        client.leave();
        let reset = origin.expect(RST_STREAM);
        assert_eq!((reset.number(0), reset.number(4)), (stream, 5));
    }
    // In the middle of a body of known length. A client that half-closes looks like one that leaves.
    for (mut client, leaves) in [(world.client(), true), (world.secure_client(), true), (world.client(), false)] {
        get(&mut client, "/");
        let stream = origin.request().stream;
        origin.reply(stream, false, &[OK, VERSION, ("content-length", "100")]).data(stream, false, "half");
        client.head();
        client.exactly(4).expect("half");
        let kept = leave_or_finish(client, leaves);
        let reset = origin.expect(RST_STREAM);
        assert_eq!((reset.number(0), reset.number(4)), (stream, 5));
        drop(kept);
    }
    world.wait_until("all requests have ended", |counts| counts.active == 0 && counts.disconnected == 5);
}

/// At this rate, sending the buffered data would take minutes. The end of a client must not wait for that.
#[test]
fn a_client_that_leaves_does_not_wait_for_the_rate() {
    let mut config = config();
    let is_local = |peer: &uncork::PeerAddr| peer.ip().is_some_and(|ip| ip.is_loopback());
    let old = Credential::allow_legacy_unauthenticated("old", is_local).host("*").expect("a pattern");
    config.credentials.push(old.rate(100));
    let world = World::with(config);
    let mut origin = Origin::new(&world);
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request().stream;
    origin.reply(stream, false, &[OK, VERSION, ("content-length", "60000")]).data(stream, false, vec![7; 30_000]);
    client.head();
    client.exactly(30_000).expect("half");
    origin.data(stream, false, vec![7; 1000]);
    // The acknowledgement proves that the data was received.
    origin.control(PING, &[2]);
    while origin.expect(PING).number(0) != 2 {}
    client.leave();
    let reset = origin.expect(RST_STREAM);
    assert_eq!((reset.number(0), reset.number(4)), (stream, 5));
    world.wait_until("the connection has ended", |counts| counts.active == 0 && counts.disconnected == 1);
}

#[test]
fn a_new_origin_server_replaces_the_last() {
    let (world, mut first) = world_and_origin();
    let mut client = world.client();
    get(&mut client, "/");
    first.request();
    let mut second = Origin::new(&world);
    assert_eq!(client.response().status, 502, "the first one's request is lost");
    first.expect_end();
    get(&mut client, "/");
    let stream = second.request().stream;
    second.reply(stream, false, &[OK, VERSION, ("content-length", "6")]).data(stream, true, "second");
    assert_eq!(client.response().text(), "second");
    let names: Vec<String> = world.proxy.connections().into_iter().map(|connection| connection.credential).collect();
    assert_eq!(names, ["old"]);
}

#[test]
fn an_origin_server_that_sent_goaway_gets_no_more_requests() {
    let (world, mut origin) = world_and_origin();
    let (mut one, mut two) = (world.client(), world.client());
    get(&mut one, "/");
    let first = origin.request().stream;
    get(&mut two, "/");
    origin.request();
    origin.control(GOAWAY, &[first, 0]);
    // The second request was not begun, and there is no other origin server.
    assert!(matches!(two.response().status, 502 | 503));
    origin.reply(first, false, &[OK, VERSION, ("content-length", "4")]).data(first, true, "done");
    assert_eq!(one.response().text(), "done");
    origin.expect_end();
    world.wait_until("the connection has ended", |counts| counts.connections == 0);
}

#[test]
fn pings_are_acknowledged_and_silence_is_detected() {
    let world = World::with(ProxyConfig { ping_interval: Duration::from_millis(300), ..legacy() });
    let mut origin = Origin::new(&world);
    origin.control(PING, &[2]);
    assert_eq!(origin.expect(PING).number(0), 2, "it is echoed");
    let ours = origin.expect(PING).number(0);
    assert_eq!(ours % 2, 1, "a proxy's are odd");
    origin.control(PING, &[ours]);
    // After its acknowledgement it gets another ping; then it is silent.
    origin.expect(PING);
    origin.expect_end();
    world.wait_until("the connection has ended", |counts| counts.connections == 0 && counts.silent == 1);
}
