//! The proxy's treatment of requests and responses; the origin server is written by hand.

use std::{io::ErrorKind, time::Duration};

use super::{
    client::Client,
    raw::{CANCEL, DATA, HEADERS, REFUSED_STREAM, RST_STREAM, RawOrigin},
    world::{World, config},
};

pub(crate) const HOST: &str = "app.example";

pub(crate) fn get(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
}

/// A world with one origin server of [`HOST`].
fn one() -> (World, RawOrigin) {
    let world = World::new();
    let origin = RawOrigin::new(&world, "app", HOST);
    (world, origin)
}

#[test]
fn a_request_goes_to_the_origin_and_its_answer_back() {
    let (world, mut origin) = one();
    for mut client in [world.client(), world.secure_client()] {
        for i in 0..3 {
            get(&mut client, "/");
            let stream = origin.request();
            origin.head(stream, 200, &[("x-i", &i.to_string()), ("content-length", "5")], false);
            origin.data(stream, "hello", true);
            let answer = client.answer();
            assert_eq!((answer.status, answer.text(), answer.get("x-i")), (200, "hello", Some(&*i.to_string())));
            assert_eq!(answer.get("content-length"), Some("5"));
        }
    }
    assert_eq!(world.proxy.counts().requests, 6);
}

#[test]
fn a_body_goes_to_the_origin_as_fast_as_it_takes_it() {
    let (world, mut origin) = one();
    let body: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    for mut client in [world.client(), world.secure_client()] {
        let (sent, head) =
            (body.clone(), format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len()));
        let sender = std::thread::spawn(move || {
            client.send(head).send(sent);
            client.answer()
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
fn a_chunked_body_keeps_its_trailers_and_so_does_the_answer() {
    let (world, mut origin) = one();
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
fn what_an_origin_says_goes_out_at_once() {
    let (world, mut origin) = one();
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
fn answers_without_a_body_say_what_its_length_would_have_been() {
    let (world, mut origin) = one();
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
    assert_eq!(client.answer().text(), "ok", "and the connection is in step");
}

#[test]
fn interim_answers_are_passed_on() {
    let (world, mut origin) = one();
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request();
    origin.head(stream, 103, &[("link", "</a.css>; rel=preload")], false);
    let interim = client.head();
    assert_eq!((interim.status, interim.get("link")), (103, Some("</a.css>; rel=preload")));
    origin.head(stream, 200, &[], true);
    client.answer().assert(200);
    // An origin server that sends nothing else is truncated.
    get(&mut client, "/");
    let stream = origin.request();
    for _ in 0..100 {
        if origin.try_head(stream, 103, &[("x", "y")]).is_err() {
            break;
        }
    }
    let last = loop {
        match client.head() {
            interim if interim.status == 103 => {}
            last => break last,
        }
    };
    assert_eq!(last.status, 502);
}

#[test]
fn who_expects_100_gets_it_from_the_proxy() {
    let (world, mut origin) = one();
    let mut client = world.client();
    client.send(format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    let stream = origin.request();
    assert_eq!(client.head().status, 100);
    client.send("abc");
    assert_eq!(origin.expect(|frame| frame.kind == DATA).payload, b"abc");
    origin.head(stream, 200, &[], true);
    client.answer().assert(200);
    // When no handler takes the body, the proxy does not request it.
    client.send("PUT / HTTP/1.1\r\nHost: nobody.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head().status, 404);
}

#[test]
fn an_answer_may_come_before_the_body_is_there() {
    let (world, mut origin) = one();
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nabc"));
    let stream = origin.request();
    origin.head(stream, 403, &[("content-length", "3")], false).data(stream, "no\n", true).reset(stream, 0);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (403, "no\n"));
    world.until("the stream is over", |counts| counts.active == 0);
}

#[test]
fn errors_say_where_the_fault_is() {
    let config = uncork::relay::tunnel::ProxyConfig { response_timeout: Duration::from_millis(300), ..config() };
    let world = World::with(config);
    let mut client = world.client();
    let mut ask = |host: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.answer()
    };
    assert_eq!(ask("nobody.example").status, 404);
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
    world.until("the origin server has left", |counts| counts.connections == 0);
    assert_eq!(ask("x.dev.example").status, 502, "it was connected, and may reconnect");
    let counts = world.proxy.counts();
    assert_eq!((counts.unknown_host, counts.no_origin, counts.timed_out), (2, 2, 1));
}

#[test]
fn an_origin_that_is_lost_is_no_end_of_an_answer() {
    for (known, broken) in [(true, true), (false, true), (true, false), (false, false)] {
        let (world, mut origin) = one();
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
    let (world, mut origin) = one();
    let mut client = world.client();
    get(&mut client, "/");
    origin.request();
    origin.leave();
    assert_eq!(client.answer().status, 502);
}

#[test]
fn a_client_that_leaves_takes_its_stream_with_it() {
    let (world, mut origin) = one();
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
                let kept = if leaves {
                    client.leave();
                    None
                } else {
                    client.finish();
                    Some(client)
                };
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
    world.until("all are gone", |counts| counts.active == 0 && counts.disconnected == 12);
}

#[test]
fn what_an_origin_refuses_another_gets() {
    let (world, mut first) = one();
    let mut client = world.client();
    // By RST_STREAM. There is no other origin server: the client gets the error.
    get(&mut client, "/");
    let stream = first.request();
    first.reset(stream, REFUSED_STREAM);
    let refused = client.answer();
    assert_eq!((refused.status, refused.get("retry-after")), (503, Some("1")));
    let mut second = RawOrigin::new(&world, "app", HOST);
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        // Whichever is asked first.
        get_one(&mut first, &mut second, &mut client);
    }
    assert!(world.proxy.counts().retried >= 1);
}

/// The first of the two refuses, if it is asked; the second responds.
fn get_one(first: &mut RawOrigin, second: &mut RawOrigin, client: &mut Client) {
    let patience = Duration::from_millis(300);
    if !first.is_silent(patience) {
        let stream = first.request();
        first.reset(stream, REFUSED_STREAM);
    }
    let stream = second.request();
    client.chunk(b"body").send("0\r\n\r\n");
    assert_eq!(second.expect(|frame| frame.kind == DATA).payload, b"body");
    second.head(stream, 200, &[], true);
    client.answer().assert(200);
}

#[test]
fn a_body_that_was_begun_is_not_sent_twice() {
    let (world, mut first) = one();
    let mut second = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 8\r\n\r\nhalf"));
    let (mut asked, mut other) = match first.is_silent(Duration::from_millis(300)) {
        true => (second, first),
        false => {
            std::mem::swap(&mut first, &mut second);
            (second, first)
        }
    };
    let stream = asked.request();
    asked.expect(|frame| frame.kind == DATA);
    asked.reset(stream, REFUSED_STREAM);
    assert_eq!(client.head().status, 503);
    assert!(other.is_silent(Duration::from_millis(100)));
}

#[test]
fn what_lies_behind_a_goaway_goes_elsewhere() {
    let (world, mut first) = one();
    let mut clients: Vec<Client> = (0..3).map(|_| world.client()).collect();
    let mut streams = Vec::new();
    for client in &mut clients {
        get(client, "/");
        streams.push(first.request());
    }
    let mut second = RawOrigin::new(&world, "app", HOST);
    // The first stream is finished, the others were not begun.
    first.go_away(streams[0], 0);
    for _ in 0..2 {
        let stream = second.request();
        second.head(stream, 200, &[("x-by", "second")], true);
    }
    first.head(streams[0], 200, &[("x-by", "first")], true);
    let by: Vec<String> = clients.iter_mut().map(|client| client.answer().get("x-by").expect("said").into()).collect();
    assert_eq!(by, ["first", "second", "second"]);
    // It gets no more requests, and its connection ends in order.
    first.ended();
    for _ in 0..3 {
        get(&mut clients[0], "/");
        let stream = second.request();
        second.head(stream, 200, &[], true);
        clients[0].answer().assert(200);
    }
    world.until("the first has left", |counts| counts.connections == 1);
}

#[test]
fn slow_readers_do_not_slow_the_rest() {
    let (world, mut origin) = one();
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
    assert_eq!(client.answer().text(), "ok");
    for client in &mut slow {
        client.head();
        assert_eq!(client.next_chunk().expect("a chunk").expect("not the last")[0], 7);
    }
}

#[test]
fn a_stopping_proxy_finishes_what_is_under_way() {
    let (world, mut origin) = one();
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request();
    world.stopper.shutdown(Duration::from_secs(10));
    let mut late = world.client_if_any();
    if let Some(late) = &mut late {
        get(late, "/");
        if let Ok(head) = late.try_head() {
            assert_eq!(head.status, 503);
        }
    }
    origin.head(stream, 200, &[("content-length", "4")], false).data(stream, "done", true);
    assert_eq!(client.answer().text(), "done");
    origin.ended();
}
