//! The proxy's treatment of requests and responses; the origin server is written by hand.

use std::{io::ErrorKind, time::Duration};

use super::{
    client::Client,
    raw::{CANCEL, DATA, HEADERS, RST_STREAM, RawOrigin},
    world::{World, config},
};

pub(crate) const HOST: &str = "app.example";

pub(crate) fn get(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
}

/// Closes a client's connection, or half-closes it.
pub(crate) fn leave_or_finish(mut client: Client, leaves: bool) -> Option<Client> {
    if leaves {
        client.leave();
        return None;
    }
    client.finish();
    Some(client)
}

/// Returns a proxy with one origin server of [`HOST`].
pub(crate) fn world_and_origin() -> (World, RawOrigin) {
    let world = World::new();
    let origin = RawOrigin::new(&world, "app", HOST);
    (world, origin)
}

#[test]
fn a_request_and_its_response_are_forwarded() {
    let (world, mut origin) = world_and_origin();
    for mut client in [world.client(), world.secure_client()] {
        for i in 0..3 {
            get(&mut client, "/");
            let stream = origin.request();
            origin.head(stream, 200, &[("x-i", &i.to_string()), ("content-length", "5")], false);
            origin.data(stream, "hello", true);
            let response = client.response();
            assert_eq!((response.status, response.text(), response.get("x-i")), (200, "hello", Some(&*i.to_string())));
            assert_eq!(response.get("content-length"), Some("5"));
        }
    }
    assert_eq!(world.proxy.counts().requests, 6);
}

#[test]
fn a_body_is_sent_as_the_window_allows() {
    let (world, mut origin) = world_and_origin();
    let body: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    for mut client in [world.client(), world.secure_client()] {
        let (sent, head) =
            (body.clone(), format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len()));
        let sender = std::thread::spawn(move || {
            client.send(head).send(sent);
            client.response()
        });
        let stream = origin.request();
        let mut got = Vec::new();
        // The initial window of a stream: exactly that much.
        while got.len() < 65_535 {
            got.extend(origin.expect(|frame| frame.kind == DATA).payload);
        }
        assert_eq!(got.len(), 65_535);
        assert!(origin.is_silent(Duration::from_millis(100)), "the window is used up");
        loop {
            origin.open_window(0, 100_000).open_window(stream, 100_000);
            let want = (got.len() + 100_000).min(body.len());
            while got.len() < want {
                got.extend(origin.expect(|frame| frame.kind == DATA).payload);
            }
            if got.len() == body.len() {
                break;
            }
        }
        assert!(origin.expect(|frame| frame.kind == DATA).ends());
        assert!(got == body);
        origin.head(stream, 201, &[], true);
        sender.join().expect("no panic").assert(201);
    }
    assert_eq!(world.proxy.counts().bytes_up, 2_000_000);
}

#[test]
fn trailers_are_forwarded_in_both_directions() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"));
    client.chunk(b"abc").send("0\r\nX-Sum: 6\r\n\r\n");
    let stream = origin.request();
    assert_eq!(origin.expect(|frame| frame.kind == DATA).payload, b"abc");
    assert!(origin.expect(|frame| frame.kind == HEADERS).ends(), "trailers end the body");
    origin.head(stream, 200, &[], false).data(stream, "def", false);
    origin.fields(stream, &super::raw::literals([("x-sum", "7"), ("content-length", "9")]), true);
    let head = client.head();
    assert!(head.is_chunked());
    assert_eq!(client.exactly(8).expect("a chunk"), b"3\r\ndef\r\n");
    assert_eq!([client.line(), client.line(), client.line()].map(Result::unwrap), ["0", "x-sum: 7", ""]);
}

#[test]
fn data_of_a_response_is_sent_at_once() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    get(&mut client, "/events");
    let stream = origin.request();
    origin.head(stream, 200, &[("content-type", "text/event-stream")], false);
    assert_eq!(client.head().get("content-type"), Some("text/event-stream"));
    for i in 0..5 {
        let event = format!("data: {i}\n\n");
        origin.data(stream, &event, false);
        assert_eq!(client.next_chunk().expect("a chunk"), Some(event.into_bytes()));
    }
    origin.data(stream, "", true);
    assert_eq!(client.next_chunk().expect("the last"), None);
}

#[test]
fn responses_without_a_body_keep_their_length() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    type Row = (&'static str, u16, &'static [(&'static str, &'static str)], Option<&'static str>);
    let rows: &[Row] = &[
        ("HEAD", 200, &[("content-length", "1234")], Some("1234")),
        ("HEAD", 200, &[], None),
        // It may send the field, and need not (RFC 9110 §8.6); the engine does not.
        ("GET", 304, &[("etag", "\"a\""), ("content-length", "1234")], None),
        ("GET", 304, &[("etag", "\"a\"")], None),
        ("DELETE", 204, &[], None),
        ("GET", 200, &[], Some("0")),
        ("GET", 200, &[("content-length", "0")], Some("0")),
    ];
    for (method, status, fields, want) in rows {
        client.send(format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let stream = origin.request();
        origin.head(stream, *status, fields, true);
        let head = client.head();
        assert_eq!((head.status, head.get("content-length")), (*status, *want), "{method}: {head:?}");
    }
    get(&mut client, "/");
    let stream = origin.request();
    origin.head(stream, 200, &[("content-length", "2")], false).data(stream, "ok", true);
    assert_eq!(client.response().text(), "ok", "the connection is still usable");
}

#[test]
fn informational_responses_are_forwarded() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request();
    origin.head(stream, 103, &[("link", "</a.css>; rel=preload")], false);
    let hints = client.head();
    assert_eq!((hints.status, hints.get("link")), (103, Some("</a.css>; rel=preload")));
    origin.head(stream, 200, &[], true);
    client.response().assert(200);
    // After too many of them the client gets an error.
    get(&mut client, "/");
    let stream = origin.request();
    for _ in 0..100 {
        if origin.try_head(stream, 103, &[("x", "y")]).is_err() {
            break;
        }
    }
    let last = loop {
        match client.head() {
            head if head.status == 103 => {}
            last => break last,
        }
    };
    assert_eq!(last.status, 502);
}

#[test]
fn the_proxy_itself_sends_100_continue() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    client.send(format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    let stream = origin.request();
    assert_eq!(client.head().status, 100);
    client.send("abc");
    assert_eq!(origin.expect(|frame| frame.kind == DATA).payload, b"abc");
    origin.head(stream, 200, &[], true);
    client.response().assert(200);
    // When no handler takes the body, the proxy does not request it.
    client.send("PUT / HTTP/1.1\r\nHost: unknown.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head().status, 404);
}

#[test]
fn a_response_may_come_before_the_request_is_complete() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nabc"));
    let stream = origin.request();
    origin.head(stream, 403, &[("content-length", "3")], false).data(stream, "no\n", true).reset(stream, 0);
    let response = client.response();
    assert_eq!((response.status, response.text()), (403, "no\n"));
    world.wait_until("the stream is over", |counts| counts.active == 0);
}

#[test]
fn errors_tell_the_faults_apart() {
    let config = uncork::relay::tunnel::ProxyConfig { response_timeout: Duration::from_millis(300), ..config() };
    let world = World::with(config);
    let mut client = world.client();
    let mut ask = |host: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response()
    };
    assert_eq!(ask("unknown.example").status, 404);
    assert_eq!(ask("x.dev.example").status, 404, "it could be registered, but is not");
    let known = ask(HOST);
    assert_eq!((known.status, known.get("retry-after")), (502, Some("5")));
    let mut origin = RawOrigin::new(&world, "app", "app.example, x.dev.example");
    let late = ask(HOST);
    assert_eq!(late.status, 504, "{late:?}");
    let stream = origin.request();
    let reset = origin.expect(|frame| frame.kind == RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (stream, CANCEL), "it may end");
    origin.leave();
    world.wait_until("the origin server has left", |counts| counts.connections == 0);
    assert_eq!(ask("x.dev.example").status, 502, "it was connected, and may reconnect");
    let counts = world.proxy.counts();
    assert_eq!((counts.unknown_host, counts.no_origin_server, counts.timed_out), (2, 2, 1));
}

#[test]
fn a_lost_origin_server_truncates_the_response() {
    for (known, broken) in [(true, true), (false, true), (true, false), (false, false)] {
        let (world, mut origin) = world_and_origin();
        let mut client = world.client();
        get(&mut client, "/");
        let stream = origin.request();
        let fields: &[(&str, &str)] = if known { &[("content-length", "10")] } else { &[] };
        origin.head(stream, 200, fields, false).data(stream, "half", false);
        let head = client.head();
        let got = if known { client.exactly(4) } else { client.next_chunk().map(Option::unwrap) };
        assert_eq!(got.expect("half"), b"half");
        match broken {
            true => drop(origin.reset(stream, 2)),
            false => origin.leave(),
        }
        let error = client.body(&head).expect_err("truncated");
        assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
        assert_eq!(world.proxy.counts().truncated, 1);
    }
    // Before any output: a readable error.
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    get(&mut client, "/");
    origin.request();
    origin.leave();
    assert_eq!(client.response().status, 502);
}

#[test]
fn a_client_that_disconnects_resets_its_stream() {
    let (world, mut origin) = world_and_origin();
    let reset = |origin: &mut RawOrigin, stream: u32| {
        let reset = origin.expect(|frame| frame.kind == RST_STREAM);
        assert_eq!((reset.stream, reset.code()), (stream, CANCEL));
    };
    // While it waits.
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request();
    client.leave();
    reset(&mut origin, stream);
    // While it sends.
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhalf"));
    let stream = origin.request();
    origin.expect(|frame| frame.kind == DATA);
    client.leave();
    reset(&mut origin, stream);
    // While it receives, and has received all available bytes: this is enough to notice it. A client that half-closes
    // looks like one that leaves.
    for leaves in [true, false] {
        for fields in [&[][..], &[("content-length", "100")]] {
            for mut client in [world.client(), world.secure_client()] {
                get(&mut client, "/");
                let stream = origin.request();
                origin.head(stream, 200, fields, false).data(stream, "half", false);
                let head = client.head();
                if head.is_chunked() {
                    client.next_chunk().expect("a chunk");
                } else {
                    client.exactly(4).expect("half");
                }
                let kept = leave_or_finish(client, leaves);
                reset(&mut origin, stream);
                drop(kept);
            }
        }
    }
    // While it sends and receives, and both pause.
    for mut client in [world.client(), world.secure_client()] {
        client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhalf"));
        let stream = origin.request();
        origin.expect(|frame| frame.kind == DATA);
        origin.head(stream, 200, &[], false).data(stream, "half", false);
        client.head();
        client.next_chunk().expect("a chunk");
        client.leave();
        reset(&mut origin, stream);
    }
    world.wait_until("all clients have disconnected", |counts| counts.active == 0 && counts.disconnected == 12);
}

#[test]
fn slow_readers_do_not_slow_the_rest() {
    let (world, mut origin) = world_and_origin();
    // As many as would exhaust a connection's window of sixteen times that of a stream.
    let mut slow: Vec<Client> = (0..20).map(|_| world.client()).collect();
    let block = vec![7; 16_384];
    for client in &mut slow {
        get(client, "/big");
        let stream = origin.request();
        origin.head(stream, 200, &[], false);
        for _ in 0..256 * 1024 / block.len() {
            origin.data(stream, &block, false);
        }
    }
    let mut client = world.client();
    get(&mut client, "/small");
    let stream = origin.request();
    origin.head(stream, 200, &[("content-length", "2")], false).data(stream, "ok", true);
    assert_eq!(client.response().text(), "ok");
    for client in &mut slow {
        client.head();
        assert_eq!(client.next_chunk().expect("a chunk").expect("not the last")[0], 7);
    }
}

#[test]
fn a_stopping_proxy_finishes_what_is_in_progress() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request();
    world.stopper.shutdown(Duration::from_secs(10));
    let mut late = world.client_if_any();
    if let Some(late) = &mut late {
        // The server may close a connection that it has not accepted.
        let sent = late.try_send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        if let Ok(head) = sent.and_then(|()| late.try_head()) {
            assert_eq!(head.status, 503);
        }
    }
    origin.head(stream, 200, &[("content-length", "4")], false).data(stream, "done", true);
    assert_eq!(client.response().text(), "done");
    origin.ended();
}
