//! Limits, and many clients at once.

use uncork::Limits;

use super::*;

#[test]
fn streams_have_a_rate() {
    let server = start_with(PLAIN_1, |c| (c.creations_per_minute, c.creation_burst) = (1, 3));
    let mut client = server.client();
    for _ in 0..3 {
        client.post("/stream", &[], b"").response().assert(201);
    }
    let response = client.post("/stream", &[], b"").response();
    is_error(&response, 429, "RateLimitError", "Streams are created too fast: at most 1 a minute");
    let after: u64 = response.get("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=60).contains(&after));
}

#[test]
fn streams_have_a_limit_for_each_address_and_in_all() {
    let server = start_with(PLAIN_1, |c| c.streams_per_address = 2);
    let (_one, _two) = (Stream::new(&server), Stream::new(&server));
    let response = server.client().post("/stream", &[], b"").response();
    is_error(&response, 429, "TooManyStreamsError", "There are too many streams for this address: at most 2");
    assert!(response.get("retry-after").is_some());

    let server = start_with(PLAIN_1, |c| c.streams = 1);
    let stream = Stream::new(&server);
    let response = server.client().post("/stream", &[], b"").response();
    is_error(&response, 503, "TooManyStreamsError", "There are too many streams: at most 1");
    assert!(response.get("retry-after").is_some());
    // A record needs space.
    stream.error("").assert(200);
    Stream::new(&server);
    not_found(&server.client().request(&format!("GET {}/status", stream.path), &[]).response());
}

#[test]
fn json_has_a_limit() {
    let server = start_with(PLAIN_1, |c| c.json = 100);
    let stream = Stream::new(&server);
    for path in ["/stream".to_owned(), format!("{}/error", stream.path)] {
        for (framing, body) in [
            ("Content-Length: 101", String::new()),
            ("Transfer-Encoding: chunked", format!("33\r\n{}\r\n32\r\n{}\r\n", " ".repeat(51), " ".repeat(50))),
        ] {
            let mut client = server.client();
            let response = client.request(&format!("POST {path}"), &[framing]).send(body).response();
            is_error(&response, 413, "BodyTooLargeError", "The JSON is too large: at most 100 bytes");
        }
    }
    server.client().post("/stream", &[], &[b" ".repeat(98), b"{}".to_vec()].concat()).response().assert(201);
}

#[test]
fn a_stream_has_a_limit() {
    for tls in [false, true] {
        let server = start_with(Setup { tls, threads: 2 }, |c| c.body = 1000);
        let stream = Stream::new(&server);
        let response = stream.put("Content-Length: 1001").response();
        is_error(&response, 413, "BodyTooLargeError", "The stream is too large: at most 1000 bytes");
        // The slot is still free; a chunked body shows its size only while it is sent.
        let mut receiver = stream.get();
        let mut source = stream.put("Transfer-Encoding: chunked");
        source.chunk(&[b'x'; 999]);
        let head = receiver.head();
        let mut got = 0;
        while got < 999 {
            got += receiver.next_chunk().expect("a chunk").expect("data").len();
        }
        source.chunk(b"yz");
        is_error(&source.response(), 413, "BodyTooLargeError", "The stream is too large: at most 1000 bytes");
        assert!(receiver.next_chunk().is_ok_and(|rest| rest.as_deref() == Some(b"y")), "what is allowed");
        assert!(receiver.body(&head).is_err(), "and a truncated body does not look complete");
        stream.becomes("SRC_ERROR");
        // Exactly the limit.
        let stream = Stream::new(&server);
        let mut receiver = stream.get();
        let mut source = stream.put("Transfer-Encoding: chunked");
        source.chunk(&[b'x'; 1000]).chunk(b"");
        assert_eq!(receiver.response().assert(200).body.len(), 1000);
        source.response().assert(200);
    }
}

#[test]
fn a_source_may_pause_for_longer_than_bodies_do_elsewhere() {
    let short = Duration::from_millis(200);
    let limits = Limits { body: 1 << 40, body_timeout: short, min_rate: 1_000_000, ..Limits::default() };
    for receivers in [1, 2] {
        let server = TestServer::start_with(PLAIN_1, RendezvousConfig::default(), limits.clone());
        let stream = Stream::with(&server, &format!("?n={receivers}"), "");
        let mut to: Vec<_> = (0..receivers).map(|_| stream.get()).collect();
        let mut source = stream.put("Transfer-Encoding: chunked");
        for word in ["one", "two", "three"] {
            assert!(source.is_silent(short * 3));
            source.chunk(word.as_bytes());
        }
        source.chunk(b"");
        for receiver in &mut to {
            assert_eq!(receiver.response().assert(200).body, b"onetwothree");
        }
        source.response().assert(200);
    }
    let server = TestServer::start_with(
        PLAIN_1,
        RendezvousConfig { body_timeout: short, ..RendezvousConfig::default() },
        limits,
    );
    let stream = Stream::new(&server);
    let mut receiver = stream.get();
    let mut source = stream.put("Content-Length: 10");
    source.send("some");
    source.response().assert(408);
    let head = receiver.head();
    assert!(receiver.body(&head).is_err(), "a part is not the whole");
    stream.becomes("SRC_ERROR");
}

#[test]
fn cors_is_off_until_it_is_asked_for() {
    let server = start_with(PLAIN_1, |c| c.allowed_origins = vec!["https://example.org".into()]);
    let preflight = ["Origin: https://example.org", "Access-Control-Request-Method: PUT"];
    let response = server.client().request("OPTIONS /stream/x", &preflight).response();
    assert_eq!(response.assert(204).get("access-control-allow-methods"), Some("GET, PUT"));
    let response = server.client().request("GET /stream/x", &["Origin: https://example.org"]).response();
    assert_eq!(response.assert(404).get("access-control-allow-origin"), Some("https://example.org"));
    let response = server.client().request("GET /stream/x", &["Origin: https://example.com"]).response();
    assert_eq!(response.assert(404).get("access-control-allow-origin"), None);
}

#[test]
fn a_browser_does_not_run_what_it_receives() {
    let server = start(PLAIN_1);
    let stream = Stream::with(&server, "", "{\"download_headers\":{\"Content-Type\":\"text/html\"}}");
    let mut client = server.client();
    client.request(&format!("GET {}", stream.path), &["Service-Worker: script"]).response().assert(400);
    let mut receiver = stream.get();
    stream.put_all(b"<script>").response().assert(200);
    let response = receiver.response();
    assert_eq!(response.get("content-security-policy"), Some("sandbox"));
    assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
}

#[test]
fn another_base_path() {
    let server = start_with(PLAIN_1, |c| c.base_path = "/a/b/".into());
    let response = server.client().post("/a/b/stream", &[], b"").response();
    assert!(response.assert(201).get("location").is_some_and(|path| path.starts_with("/a/b/stream/")));
    server.client().post("/stream", &[], b"").response().assert(404);
    server.client().request("GET /a/b/ping", &[]).response().assert(200);
}

#[test]
fn a_thread_for_each_connection() {
    for tls in [false, true] {
        let server = start(Setup { tls, threads: 0 });
        let stream = Stream::with(&server, "?n=2", "");
        let body = pattern(0, 3 << 20);
        let receivers =
            [stream.get(), stream.get()].map(|mut receiver| std::thread::spawn(move || receiver.response()));
        stream.put_all(&body).response().assert(200);
        for receiver in receivers {
            assert!(receiver.join().expect("no panic").assert(200).body == body);
        }
    }
}

#[test]
fn both_ends_leave_whenever_they_like() {
    // In any case every stream ends, and no client hangs.
    let server = start(Setup { tls: false, threads: 2 });
    for i in 0..60usize {
        let stream = Stream::with(&server, if i % 4 == 0 { "?n=2" } else { "" }, "");
        let sides: Vec<bool> = if i % 4 == 0 { vec![true, false, false] } else { vec![true, false] };
        std::thread::scope(|scope| {
            for source in sides {
                let (server, stream) = (&server, &stream);
                scope.spawn(move || {
                    let mut client = server.client();
                    if source {
                        let framing = if i % 2 == 0 { "Content-Length: 70000" } else { "Transfer-Encoding: chunked" };
                        client.request(&format!("PUT {}", stream.path), &[framing]);
                        let part = pattern(0, if i % 3 == 0 { 70_000 } else { 30_000 });
                        let _ = if i % 2 == 0 { client.try_send(part) } else { client.try_chunk(&part) };
                    } else {
                        client.request(&format!("GET {}", stream.path), &[]);
                    }
                    if i % 5 > 2 {
                        let _ = client.is_silent(Duration::from_millis(2));
                    }
                    client.leave();
                });
            }
        });
        let _ = stream.error("");
        for _ in 0..20_000 {
            if stream.status().contains("\"active\":false") {
                break;
            }
            let _ = stream.error("");
        }
        assert!(stream.status().contains("\"active\":false"), "{}", stream.status());
    }
}
