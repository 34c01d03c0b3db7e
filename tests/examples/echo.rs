//! The echoes: bodies, bytes after an upgrade, WebSocket messages.

use super::*;

pub(super) fn echo_gives_back_what_it_gets(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let mut client = echo.client();
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "PURGE", "TRACE"] {
        let response =
            client.request(&format!("{method} /any/path?x=%00"), &["Content-Length: 5"]).send("hello").response();
        assert_eq!((response.assert(200).text(), response.get("content-length")), ("hello", Some("5")), "{method}");
        let response = client.request(&format!("{method} /"), &["Cookie: secret"]).response();
        assert_eq!((response.assert(200).text(), response.get("content-length")), ("", Some("0")), "{method}");
    }
    let response = client.request("OPTIONS *", &[]).response();
    assert_eq!(response.assert(200).text(), "");

    let response = client.post("/", &["Content-Type: text/x-mine"], b"kind").response();
    assert_eq!((response.get("content-type"), response.text()), (Some("text/x-mine"), "kind"));
    assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
    let response = client.post("/", &[], b"kind").response();
    assert_eq!(response.get("content-type"), Some("application/octet-stream"));

    // HEAD returns the head of a GET.
    let head = client.request("HEAD /", &["Content-Length: 5"]).send("hello").head();
    assert_eq!(head.assert(200).get("content-length"), Some("5"));

    // Many on one connection, larger than all buffers on the path.
    let large = noise(3 << 20);
    for _ in 0..3 {
        let mut other = echo.client();
        for _ in 0..2 {
            other.request("PUT /", &[&format!("Content-Length: {}", large.len())]);
            let (first, rest) = large.split_at(1);
            let head = other.send(first).head();
            assert_eq!(head.assert(200).get("content-length"), Some(&*large.len().to_string()));
            assert_eq!(other.exactly(1).expect("the first"), first);
            assert!(send_while_reading(&mut other, rest) == rest);
        }
        assert_eq!(other.post("/", &[], b"still there").response().text(), "still there");
    }

    // On request, not before.
    client.request("POST /", &["Content-Length: 2", "Expect: 100-continue"]);
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send("hi").response().assert(200).text(), "hi");

    // A client that has half-closed still gets its response.
    client.post("/", &[], b"bye").finish();
    assert_eq!(client.response().assert(200).text(), "bye");
    assert!(client.is_closed());
    for _ in 0..20 {
        let mut other = echo.client();
        other.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nbye").finish();
        assert_eq!(other.response().assert(200).text(), "bye");
    }

    // 200 to CONNECT means a tunnel.
    let mut tunnel = echo.client();
    tunnel.send("CONNECT there:80 HTTP/1.1\r\nHost: there:80\r\n\r\nright behind it");
    let head = tunnel.head();
    assert_eq!((head.status, head.get("content-length")), (200, None));
    assert_eq!(tunnel.exactly(15).expect("an echo"), b"right behind it");
    tunnel.finish();
    assert_eq!(tunnel.read_to_end().expect("an end in order"), b"");
    echo.stop();
}

pub(super) fn echo_streams(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let mut client = echo.client();
    client.request("POST /", &["Transfer-Encoding: chunked", "Trailer: X-Sum"]);
    client.chunk(b"first");
    let head = client.head();
    assert!(head.assert(200).is_chunked());
    assert_eq!(client.next_chunk().expect("a chunk").as_deref(), Some(&b"first"[..]));
    // The response arrives while the request is still being sent.
    client.chunk(b"second");
    assert_eq!(client.next_chunk().expect("a chunk").as_deref(), Some(&b"second"[..]));
    client.send("0\r\nX-Sum: 42\r\n\r\n");
    assert_eq!(client.line().expect("a line"), "0");
    assert_eq!(client.line().expect("a line"), "X-Sum: 42");
    assert_eq!(client.line().expect("a line"), "");
    assert_eq!(client.post("/", &[], b"next").response().text(), "next");
    // A truncated body is not returned as if it were complete.
    client.request("POST /", &["Content-Length: 10"]).send("half");
    assert_eq!(client.head().get("content-length"), Some("10"));
    assert_eq!(client.exactly(4).expect("half"), b"half");
    client.finish();
    assert!(client.exactly(1).is_err());
    echo.stop();
}

pub(super) fn echo_pushes_back(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let mut client = echo.client();
    client.request("POST /", &["Content-Length: 1000000000"]);
    let block = noise(64 * 1024);
    let mut sent = 0;
    while let Some(n) = client.push(&block[sent % block.len()..], MOMENT) {
        sent += n;
        assert!(sent < 100 << 20, "everything is taken without a reader");
    }
    let rss = fs::read_to_string(format!("/proc/{}/status", echo.child.id()));
    if let Some(line) = rss.unwrap_or_default().lines().find(|line| line.starts_with("VmHWM:")) {
        let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert!(kib < 64 * 1024, "{kib} KiB");
    }
    // A blocking client of rustls cannot read before it has written its input, so over TLS this would be a deadlock.
    if !setup.tls {
        client.head().assert(200);
        read_back(&mut client, &block, sent);
    }
    client.leave();
    echo.stop();
}

pub(super) fn echo_finishes_what_is_under_way_when_stopped(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let (mut busy, mut idle) = (echo.client(), echo.client());
    idle.post("/", &[], b"x").response().assert(200);
    busy.request("POST /", &["Content-Length: 10"]).send("first");
    busy.head().assert(200);
    assert_eq!(busy.exactly(5).expect("an echo"), b"first");
    echo.terminate();
    assert!(idle.is_closed(), "an idle connection is closed");
    assert_eq!(busy.send("after").exactly(5).expect("an echo"), b"after");
    assert!(busy.is_closed());
    echo.ends();
}

// upgrade_echo

const UPGRADE: [&str; 2] = ["Connection: Upgrade", "Upgrade: echo"];

pub(super) fn websocket_echo_gives_back_every_message(setup: Setup) {
    let deflated = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
    for (flags, extension) in [(&[][..], None), (&["--deflate"], Some("permessage-deflate"))] {
        let echo = Example::start("websocket_echo", setup, flags);
        assert!(echo.ask("GET /", &[]).assert(200).text().contains("WebSocket"));
        echo.ask("GET /", &["Connection: upgrade", "Upgrade: websocket"]).assert(400);
        let mut client = echo.client();
        let handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
        let key = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions: permessage-deflate"];
        let head = client.request("GET /", &[&handshake[..], &key].concat()).head();
        assert_eq!(head.assert(101).get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(head.get("sec-websocket-extensions"), extension);
        // The RFC's own frame; then, if negotiated, its compressed one; masked with zeros.
        client.send(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        let first = client.exactly(2).expect("a head");
        match extension {
            None => assert_eq!((&first[..], client.exactly(5).expect("an echo")), (&b"\x81\x05"[..], b"Hello".into())),
            Some(_) => {
                assert_eq!((&first[..], client.exactly(7).expect("an echo")), (&b"\xc1\x07"[..], deflated[6..].into()));
                client.send(deflated);
                let again = client.exactly(2).expect("a head");
                assert!(again[0] == 0xc1 && again[1] < 7, "the second one refers to the first: {again:x?}");
                client.exactly(again[1].into()).expect("an echo");
            }
        }
        client.send(b"\x88\x80\0\0\0\0");
        assert_eq!(client.exactly(2).expect("a Close"), b"\x88\x00");
        assert!(client.is_closed());
    }
}

pub(super) fn upgrade_echo_gives_back_every_byte(setup: Setup) {
    let echo = Example::start("upgrade_echo", setup, &["--shutdown-timeout", "1000"]);
    for fields in [&[][..], &["Connection: Upgrade", "Upgrade: other"], &["Upgrade: echo"]] {
        let response = echo.ask("GET /", fields);
        assert_eq!(response.assert(426).get("upgrade"), Some("echo"));
        assert_eq!(response.get("connection"), Some("upgrade"));
        assert!(response.text().contains("Upgrade: echo"));
    }
    // The preface of HTTP/2, an empty SETTINGS, and GET / for a.
    let mut client = echo.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    client.send(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a").finish();
    let received = client.read_to_end().expect("an end in order");
    let text = String::from_utf8_lossy(&received);
    assert!(text.contains("RFC 8441") && text.contains(":protocol: echo"), "{text}");
    let mut client = echo.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: ECHO\r\n\r\nright behind it");
    let head = client.head();
    assert_eq!(head.assert(101).get("upgrade"), Some("echo"));
    assert_eq!(client.exactly(15).expect("an echo"), b"right behind it");
    for byte in b"one by one" {
        assert_eq!(client.send([*byte]).exactly(1).expect("an echo"), [*byte]);
    }
    let large = noise(1 << 20);
    assert!(send_while_reading(&mut client, &large) == large);
    // The rest comes back, and then the end.
    client.send(&large[..30_000]).finish();
    assert!(client.read_to_end().expect("an end in order") == large[..30_000]);

    let mut idle = echo.client();
    idle.request("GET /", &UPGRADE).head().assert(101);
    echo.terminate();
    assert_eq!(idle.read_to_end().expect("an end in order"), b"");
    drop(idle); // the server would wait a moment for our end of it
    echo.ends();
}

pub(super) fn upgrade_echo_pushes_back(setup: Setup) {
    let echo = Example::start("upgrade_echo", setup, &["--shutdown-timeout", "0"]);
    let mut client = echo.client();
    client.request("GET /", &UPGRADE).head().assert(101);
    let block = noise(64 * 1024);
    let mut sent = 0;
    while let Some(n) = client.push(&block[sent % block.len()..], MOMENT) {
        sent += n;
        assert!(sent < 100 << 20, "everything is taken without a reader");
    }
    if !setup.tls {
        read_back(&mut client, &block, sent);
    }
    // It is still open when the server stops, and does not delay the stop.
    echo.stop();
    drop(client);
}
