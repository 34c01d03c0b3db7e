//! Streams that fail.

use super::*;

pub(crate) fn a_waiting_side_drops(setup: Setup) {
    let server = start(setup);
    for (framing, body) in [("Content-Length: 5", "hello"), ("Content-Length: 100", "a part"), ("X: y", "")] {
        let stream = Stream::new(&server);
        let mut source = stream.put(framing);
        source.send(body);
        server.until_disconnected(|| source.leave());
        not_found(&stream.get().response());
        let status = stream.is("SRC_DISCONNECTED");
        let error = "\"error\":{\"name\":\"StreamSourceError\",\"message\":\"Stream source closed unexpectedly\"},";
        assert!(status.contains(error), "{status}");
    }
    let stream = Stream::new(&server);
    let receiver = stream.get();
    server.until_disconnected(|| receiver.leave());
    not_found(&stream.put("Content-Length: 5").response());
    assert!(stream.is("DST_DISCONNECTED").contains("Stream destination closed unexpectedly"));
}

pub(crate) fn a_source_disconnects(setup: Setup) {
    for strict in [true, false] {
        let server = start_with(setup, |config| config.strict = strict);
        // The receiver's setting overrides the creator's, which overrides the configuration.
        for (creation, get, breaks) in [
            ("", "", strict),
            ("?strict=1", "", true),
            ("?n=1&strict=0", "?x", false),
            ("", "?strict=1", true),
            ("", "?x=y&strict=0", false),
            ("?strict=0", "?strict=1", true),
            ("?strict=1", "?strict=0", false),
            ("?strict=", "?strict=yes", strict),
        ] {
            let stream = Stream::with(&server, creation, "");
            let mut receiver = stream.get_with(get);
            let mut source = stream.put("Transfer-Encoding: chunked");
            source.chunk(b"a part");
            let head = receiver.head();
            assert_eq!(receiver.next_chunk().expect("a chunk").expect("data"), b"a part");
            source.leave();
            let rest = receiver.body(&head);
            // Without the last chunk; or as if the part were the whole.
            assert_eq!(rest.ok().as_deref(), (!breaks).then_some(&b""[..]), "{strict} {creation} {get}");
            assert!(receiver.is_closed());
            stream.becomes("SRC_DISCONNECTED");
            // A declared length cannot be revoked.
            let stream = Stream::with(&server, creation, "");
            let mut receiver = stream.get_with(get);
            let mut source = stream.put("Content-Length: 10");
            source.send("short");
            let head = receiver.head();
            source.leave();
            assert!(receiver.body(&head).is_err());
            stream.becomes("SRC_DISCONNECTED");
        }
    }
}

/// Only the end of the connection distinguishes a truncated body from a complete one.
pub(crate) fn a_source_disconnects_and_the_receiver_speaks_http_1_0(setup: Setup) {
    let server = start(setup);
    for strict in [true, false] {
        let stream = Stream::new(&server);
        let mut receiver = server.client();
        server.until_requested(|| {
            receiver.send(format!("GET {}?strict={} HTTP/1.0\r\n\r\n", stream.path, u8::from(strict)));
        });
        let mut source = stream.put("Transfer-Encoding: chunked");
        source.chunk(b"a part");
        assert!(!receiver.head().assert(200).is_chunked());
        assert_eq!(receiver.exactly(6).expect("a part"), b"a part");
        source.leave();
        assert_eq!(receiver.is_closed_normally(), !strict);
        stream.becomes("SRC_DISCONNECTED");
    }
}

pub(crate) fn a_source_disconnects_before_its_first_byte(setup: Setup) {
    let server = start(setup);
    let stream = Stream::new(&server);
    let source = stream.put("Content-Length: 10");
    let mut receiver = stream.get();
    source.leave();
    let response = receiver.response();
    is_fault(&response, SOURCE_CLOSED);
    assert_eq!(response.get("connection"), Some("close"));
    stream.is("SRC_DISCONNECTED");
}

/// The source pauses, and sends nothing more: it gets its response at once.
pub(crate) fn a_destination_disconnects(setup: Setup) {
    let server = start(setup);
    // The third is another length than the creator has declared.
    let framings = [
        ("Content-Length: 100", ""),
        ("Transfer-Encoding: chunked", ""),
        ("Content-Length: 100", "{\"download_headers\":{\"Content-Length\":50}}"),
    ];
    for (framing, creation) in framings {
        for half_closes in [false, true] {
            let stream = Stream::with(&server, "", creation);
            let mut receiver = stream.get();
            let mut source = stream.put(framing);
            if framing.starts_with('T') {
                source.chunk(b"abc")
            } else {
                source.send("abc")
            };
            receiver.head().assert(200);
            let kept = disconnect(receiver, half_closes);
            let response = source.response();
            is_fault(&response, DESTINATION_CLOSED);
            assert_eq!(response.get("connection"), Some("close"));
            assert!(source.is_closed());
            stream.is("DST_DISCONNECTED");
            drop(kept);
        }
    }
    // A client that disconnects before the first byte is noticed at once.
    let stream = Stream::new(&server);
    let mut source = stream.put("Content-Length: 100");
    stream.get().leave();
    is_fault(&source.response(), DESTINATION_CLOSED);
}

/// In a pause of a long body, which plain connections splice past the process, and past the receiver's loop.
pub(crate) fn a_destination_disconnects_in_a_long_stream(setup: Setup) {
    const PIECE: usize = 2 << 20;
    let server = start(setup);
    for framing in ["Content-Length: 100000000", "Transfer-Encoding: chunked"] {
        let stream = Stream::new(&server);
        let mut receiver = stream.get();
        let mut source = stream.put(framing);
        let mut first = true;
        for _ in 0..3 {
            let sent = std::thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    let piece = pattern(0, PIECE);
                    if framing.starts_with('T') {
                        source.chunk(&piece)
                    } else {
                        source.send(&piece)
                    };
                });
                if std::mem::take(&mut first) {
                    receiver.head().assert(200);
                }
                if framing.starts_with('T') {
                    let mut got = 0;
                    while got < PIECE {
                        got += receiver.next_chunk().expect("a chunk").expect("not the last").len();
                    }
                } else {
                    receive(&mut receiver, PIECE);
                }
                sender.join()
            });
            sent.expect("sent");
        }
        receiver.leave();
        is_fault(&source.response(), DESTINATION_CLOSED);
        let bytes = format!("\"bytes_transferred\":{}}}", 3 * PIECE);
        assert!(stream.is("DST_DISCONNECTED").ends_with(&bytes));
    }
}

pub(crate) fn time_is_over(setup: Setup) {
    const MESSAGE: &str = "The specified session expired before both sides connected";
    let server = start_with(setup, |c| c.ttl = Duration::from_millis(400));
    // The handshakes come first: they take their time on a busy machine.
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut clients {
        client.request("GET /ping", &[]).response().assert(200);
    }
    let streams = [Stream::new(&server), Stream::new(&server), Stream::with(&server, "?n=2", ""), Stream::new(&server)];
    let [a, b, c, d] = &mut clients[..] else { panic!("four") };
    a.request(&format!("PUT {}", streams[0].path), &["Content-Length: 0"]);
    b.request(&format!("GET {}", streams[1].path), &[]);
    c.request(&format!("GET {}", streams[2].path), &[]);
    for client in [a, b, c] {
        let response = client.response();
        is_error(&response, 504, "SessionTimeoutError", MESSAGE);
        // The connection continues.
        client.request("GET /ping", &[]).response().assert(200);
    }
    let states = ["TIMEOUT_NO_DST", "TIMEOUT_NO_SRC", "TIMEOUT_NO_SRC_NO_DST", "TIMEOUT_NO_SRC_NO_DST"];
    for (stream, state) in streams.iter().zip(states) {
        let status = stream.becomes(state);
        assert!(!status.contains("\"error\""), "{status}");
    }
    not_found(&d.request(&format!("GET {}", streams[3].path), &[]).response());
    is_error(&streams[3].error(""), 409, "StreamStartedError", "The specified session has already started streaming");
}

pub(crate) fn stopping(setup: Setup) {
    let server = start(setup);
    let stream = Stream::new(&server);
    let mut receiver = stream.get();
    let mut source = stream.put("Content-Length: 10");
    source.send("hello");
    let head = receiver.head();
    let (one, other) = (Stream::new(&server), Stream::new(&server));
    let mut waiting = [one.get(), other.put("Content-Length: 5")];
    server.stopper.shutdown(Duration::from_secs(10));
    for client in &mut waiting {
        let response = client.response();
        is_error(&response, 503, "ServerStoppingError", "The server is stopping");
        assert!(response.get("retry-after").is_some());
    }
    // Data in flight arrives.
    source.send("world");
    assert_eq!(receiver.body(&head).expect("whole"), b"helloworld");
    source.response().assert(200);
}
