//! Requests and responses without failures.

use std::{io::Read, sync::mpsc::channel, time::Duration};

use uncork::{
    Headers,
    client::{Client, Error, FullResponse, Request},
    pipe,
};

use crate::scripted::{ReceivedRequest, Scripted, TIMEOUT, ok};

/// Sends one request. Returns the request as it was received, and the result.
fn exchange(
    make: impl FnOnce(&str) -> Request,
    response: &'static str,
) -> (ReceivedRequest, Result<FullResponse, Error>) {
    let (sender, receiver) = channel();
    let server = Scripted::new(1, move |_, mut peer| {
        sender.send(peer.request().expect("a request")).expect("a receiver");
        peer.send(response);
    });
    let result = Client::builder().user_agent("test/1").build().call_blocking(make(&server.url("/a/b?c=d")));
    (receiver.recv_timeout(TIMEOUT).expect("a request"), result)
}

#[test]
fn the_bytes_of_a_request() {
    let (received, result) =
        exchange(|url| Request::get(url).header("X-A", "b"), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi");
    let host = received.get("host").expect("Host").to_owned();
    assert_eq!(received.head, format!("GET /a/b?c=d HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\nUser-Agent: test/1\r\n\r\n"));
    assert!(host.starts_with("127.0.0.1:"));
    let response = result.expect("a response");
    assert_eq!((response.status, &response.body[..], response.headers.get("x")), (200, &b"hi"[..], Some(&b"y"[..])));
}

#[test]
fn bodies_are_sent() {
    let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
    let (received, _) = exchange(|url| Request::post(url, "hello"), no_content);
    assert_eq!((received.get("content-length"), &received.body[..]), (Some("5"), &b"hello"[..]));
    let (received, _) = exchange(|url| Request::post(url, ""), no_content);
    assert_eq!(received.get("content-length"), Some("0"));
    let (received, _) = exchange(|url| Request::new("POST", url), no_content);
    assert_eq!(received.get("content-length"), Some("0"));
    let (received, _) = exchange(|url| Request::new("DELETE", url), no_content);
    assert_eq!(received.get("content-length"), None);
    let (received, _) = exchange(|url| Request::post(url, "hello").chunked(), no_content);
    assert_eq!((received.get("transfer-encoding"), &received.body[..]), (Some("chunked"), &b"hello"[..]));
    let big: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let (received, result) = exchange(|url| Request::post(url, big.clone()), no_content);
    assert!(received.body == big && result.expect("a response").status == 204);
    let (received, _) = exchange(|url| Request::post(url, big.clone()).chunked(), no_content);
    assert!(received.body == big);
}

#[test]
fn streams_are_sent() {
    for length in [None, Some(300_000), Some(0)] {
        let (mut inlet, outlet) = pipe(10_000);
        let writer = std::thread::spawn(move || {
            let mut left = 300_000;
            while left > 0 && !inlet.is_closed() {
                let n = inlet.write(&vec![7; left.min(1234)]);
                left -= n;
                if n == 0 {
                    std::thread::yield_now();
                }
            }
            inlet.finish(None);
        });
        let (received, result) = exchange(
            |url| Request::new("PUT", url).stream(outlet, length),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(result.expect("a response").status, 200);
        assert_eq!(received.body.len() as u64, length.unwrap_or(300_000));
        assert_eq!(received.get("content-length").is_some(), length.is_some());
        writer.join().expect("written");
    }
}

#[test]
fn trailers_are_sent_and_received() {
    let (sender, receiver) = channel();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.head().expect("a request");
        sender.send(peer.exactly(20)).expect("a receiver");
        peer.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 7\r\nHost: z\r\n\r\n",
        );
    });
    let (mut inlet, outlet) = pipe(100);
    inlet.write(b"hi");
    let mut trailers = Headers::new();
    trailers.append("X-T", "1").expect("good");
    inlet.finish(Some(trailers));
    let response =
        Client::new().call_blocking(Request::new("PUT", &server.url("/")).stream(outlet, None)).expect("a response");
    assert_eq!(
        receiver.recv_timeout(TIMEOUT).expect("a body").escape_ascii().to_string(),
        "2\\r\\nhi\\r\\n0\\r\\nX-T: 1\\r\\n\\r\\n"
    );
    assert_eq!(
        (&response.body[..], response.trailers.get("x-sum"), response.trailers.len()),
        (&b"abc"[..], Some(&b"7"[..]), 1)
    );
}

#[test]
fn every_framing_is_received() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, u16, &str)] = &[
        ("GET",  "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",                              200, "abc"),
        ("GET",  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", 200, "abc"),
        ("GET",  "HTTP/1.1 200 OK\r\n\r\nabc",                                                   200, "abc"),
        ("GET",  "HTTP/1.0 200 OK\r\n\r\nabc",                                                   200, "abc"),
        ("GET",  "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",         200, "abc"),
        ("GET",  "HTTP/1.1 404 Not\r\nContent-Length: 0\r\n\r\n",                                404, ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",                                 200, ""),
        ("GET",  "HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n",                                  304, ""),
        ("GET",  "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", 200, "x"),
    ];
    for (method, sent, status, body) in ROWS {
        let (_, result) = exchange(|url| Request::new(method, url), sent);
        let response = result.unwrap_or_else(|error| panic!("{sent:?}: {error}"));
        assert_eq!((response.status, std::str::from_utf8(&response.body)), (*status, Ok(*body)), "{sent:?}");
    }
    // The same responses, byte by byte.
    let server = Scripted::new(ROWS.len(), |n, mut peer| {
        peer.request().expect("a request");
        for byte in ROWS[n].1.bytes() {
            peer.send([byte]);
        }
    });
    let client = Client::new();
    for (method, sent, status, body) in ROWS {
        let response = client.call_blocking(Request::new(method, &server.url("/")).fresh()).expect("a response");
        assert_eq!((response.status, std::str::from_utf8(&response.body)), (*status, Ok(*body)), "{sent:?}");
    }
    server.join();
}

#[test]
fn informational_responses_are_reported_and_fields_listed_by_connection_are_removed_from_trailers() {
    let (sender, receiver) = channel();
    let (_, result) = exchange(
        |url| {
            Request::get(url).on_informational(move |status, fields| sender.send((status, fields)).expect("a receiver"))
        },
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 199 x\r\n\r\n\
         HTTP/1.1 200 \r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-hop: 1\r\nX-Sum: 7\r\n\r\n",
    );
    let response = result.expect("a response");
    assert_eq!(response.trailers.iter().collect::<Vec<_>>(), [("X-Sum", &b"7"[..])]);
    let informational: Vec<(u16, Option<Vec<u8>>)> =
        receiver.try_iter().map(|(status, fields)| (status, fields.get("link").map(<[u8]>::to_vec))).collect();
    assert_eq!(informational, [(103, Some(b"x".to_vec())), (199, None)], "the client handles 100 itself");
}

#[test]
fn a_connection_serves_many_requests() {
    let server = Scripted::new(1, |_, mut peer| while peer.respond(ok("hello")) {});
    let client = Client::new();
    for _ in 0..100 {
        assert_eq!(client.call_blocking(Request::get(&server.url("/"))).expect("a response").body, b"hello");
    }
    assert_eq!((client.connections(), client.idle_connections()), (1, 1));
    drop(client);
    assert_eq!(server.join(), 1);
}

#[test]
fn a_body_is_held_until_the_server_sends_100() {
    let server = Scripted::new(2, |n, mut peer| {
        let head = peer.head().expect("a head");
        assert_eq!(head.get("expect"), Some("100-continue"));
        if n == 0 {
            peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        // The second server is silent, and gets the body after the timeout.
        assert_eq!(peer.exactly(5), b"hello");
        peer.send(ok(""));
    });
    let client = Client::new();
    for _ in 0..2 {
        let request = Request::post(&server.url("/"), "hello").expect_continue().fresh();
        assert_eq!(client.call_blocking(request).expect("a response").status, 200);
    }
    server.join();
}

#[test]
fn a_417_repeats_the_request_without_expect() {
    let server = Scripted::new(2, |n, mut peer| {
        let head = peer.head().expect("a head");
        assert_eq!(head.get("expect").is_some(), n == 0);
        match n {
            0 => {
                peer.send("HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno");
                assert!(peer.is_closed(), "the body must not follow");
            }
            _ => {
                assert_eq!(peer.exactly(5), b"hello");
                peer.send(ok("yes"));
            }
        }
    });
    let response =
        Client::new().call_blocking(Request::post(&server.url("/"), "hello").expect_continue()).expect("a response");
    assert_eq!(response.body, b"yes");
    server.join();
}

#[test]
fn a_body_is_not_sent_after_a_final_status() {
    let server = Scripted::new(1, |_, mut peer| {
        peer.head().expect("a head");
        peer.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
        assert!(peer.is_closed());
    });
    let response =
        Client::new().call_blocking(Request::post(&server.url("/"), "hello").expect_continue()).expect("a response");
    assert_eq!((response.status, &response.body[..]), (403, &b"no"[..]));
    server.join();
}

#[test]
fn a_response_may_arrive_before_the_body_is_sent() {
    let server = Scripted::new(1, |_, mut peer| {
        peer.head().expect("a head");
        peer.exactly(10);
        peer.send("HTTP/1.1 413 Too much\r\nContent-Length: 4\r\n\r\nstop");
        // Unread input would turn the close into a reset: read it.
        while !peer.exactly(100_000).is_empty() {}
    });
    let client = Client::new();
    let (mut inlet, outlet) = pipe(10_000);
    inlet.write(&[1; 5_000]);
    let response =
        client.call_blocking(Request::new("PUT", &server.url("/")).stream(outlet, None)).expect("a response");
    assert_eq!((response.status, &response.body[..]), (413, &b"stop"[..]));
    server.join();
    assert!(inlet.is_closed());
}

#[test]
fn a_body_is_read_as_it_arrives() {
    let (release, blocked) = channel::<()>();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.request().expect("a request");
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        blocked.recv_timeout(TIMEOUT).expect("a release");
        peer.send("3\r\ndef\r\n0\r\n\r\n");
    });
    let mut reader = Client::new().open_blocking(Request::get(&server.url("/"))).expect("a head");
    let mut some = [0; 3];
    reader.read_exact(&mut some).expect("the beginning");
    assert_eq!((&some, reader.status()), (b"abc", 200));
    release.send(()).expect("a receiver");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "def");
    server.join();
}

#[test]
fn a_slow_reader_slows_the_server() {
    const SIZE: usize = 96 << 20;
    let (sender, receiver) = channel();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.request().expect("a request");
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        peer.stream.set_nonblocking(true).expect("set");
        let (mut sent, mut blocked, block) = (0, 0, [7; 65_536]);
        // Until the client has read nothing for a while.
        while blocked < 50 {
            match std::io::Write::write(&mut peer.stream, &block) {
                Ok(n) => (sent, blocked) = (sent + n, 0),
                Err(_) => {
                    blocked += 1;
                    std::thread::sleep(Duration::from_millis(4));
                }
            }
        }
        sender.send(sent).expect("a receiver");
        peer.stream.set_nonblocking(false).expect("set");
        while sent < SIZE {
            let n = block.len().min(SIZE - sent);
            peer.send(&block[..n]);
            sent += n;
        }
    });
    let mut reader = Client::new().open_blocking(Request::get(&server.url("/"))).expect("a head");
    let sent = receiver.recv_timeout(TIMEOUT).expect("a count");
    assert!(sent < SIZE * 2 / 3, "{sent} bytes were taken without a reader");
    let mut all = Vec::new();
    reader.read_to_end(&mut all).expect("all of it");
    assert!(all.len() == SIZE && all.iter().all(|b| *b == 7));
    server.join();
}

/// RFC 9112 §4 requires a space behind the status code; not every server sends it.
#[test]
fn a_status_line_without_a_phrase_is_accepted() {
    let server = Scripted::new(1, |_, mut peer| {
        for line in ["HTTP/1.1 200", "HTTP/1.1 404 ", "HTTP/1.1 200"] {
            peer.respond(format!("{line}\r\nContent-Length: 2\r\n\r\nok"));
        }
    });
    let client = Client::new();
    for status in [200, 404, 200] {
        let response = client.call_blocking(Request::get(&server.url("/"))).expect("a response");
        assert_eq!((response.status, &*response.body), (status, &b"ok"[..]));
    }
    drop(client);
    assert_eq!(server.join(), 1);
}
