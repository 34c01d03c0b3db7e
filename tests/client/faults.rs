//! Servers that break rules, do not respond, or close: each leads to its error.

use std::{
    io::{ErrorKind, Read},
    sync::mpsc::channel,
    time::Duration,
};

use uncork::{
    Request, Response, Server, Timeout,
    client::{self, Client, Error, TooLargePart},
    h1::Misbehaved,
    pipe,
};

use crate::scripted::{Scripted, TIMEOUT, ok};

#[test]
fn responses_that_break_rules() {
    use Misbehaved::*;
    #[rustfmt::skip]
    let rows: &[(&str, Error)] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Error::Protocol(BadContentLength)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Error::Protocol(BothLengths)),
        ("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", Error::Protocol(BadContentLength)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", Error::Protocol(UnknownTransferCoding)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\nabc", Error::Protocol(ChunkedNotFinal)),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Error::Protocol(TransferEncodingOn10)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Error::Protocol(BadChunk)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n", Error::Protocol(BadChunk)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", Error::Protocol(BadChunk)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", Error::Protocol(BadChunk)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\r\nx\r\n0\r\n\r\n", Error::Protocol(BadChunk)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n", Error::Protocol(BadTrailer)),
        ("HTTP/1.1 204 No\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Error::Protocol(BothLengths)),
        ("HTTP/1.1 200 OK\n\n", Error::Protocol(BareLf)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Error::Protocol(ObsFold)),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Error::Protocol(SpaceBeforeColon)),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", Error::Protocol(ControlByte)),
        ("HTTP/2 200 OK\r\n\r\n", Error::Protocol(BadStatusLine)),
        ("220 smtp.example ESMTP\r\n", Error::Protocol(BadStatusLine)),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Error::Protocol(BadStatusLine)),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Error::Protocol(UnrequestedSwitch)),
        ("", Error::Incomplete { received: 0, expected: None }),
        ("HTTP/1.1 200 O", Error::Incomplete { received: 0, expected: None }),
        ("HTTP/1.1 100 Continue\r\n\r\n", Error::Incomplete { received: 0, expected: None }),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Error::Incomplete { received: 3, expected: Some(9) }),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Error::Incomplete { received: 3, expected: None }),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Error::Incomplete { received: 2, expected: None }),
    ];
    let responses: Vec<String> = rows.iter().map(|(response, _)| (*response).to_owned()).collect();
    let server = Scripted::new(rows.len(), move |n, mut peer| {
        peer.respond(&responses[n]);
    });
    let client = Client::new();
    for (response, expected) in rows {
        let result = client.call_blocking(client::Request::get(&server.url("/")));
        assert_eq!(result.as_ref().err(), Some(expected), "{response:?}: {result:?}");
        assert!(!expected.to_string().is_empty());
    }
    server.join();
}

#[test]
fn a_peer_that_sends_first_is_not_a_server() {
    let server = Scripted::new(2, |n, mut peer| {
        match n {
            0 => peer.send("220 smtp.example ESMTP\r\n"),
            _ => peer.finish(),
        }
        peer.head();
    });
    let client = Client::new();
    let call =
        || client.call_blocking(client::Request::get(&server.url("/")).timeout(TIMEOUT)).expect_err("no response");
    assert_eq!(call(), Error::Protocol(Misbehaved::BadStatusLine));
    assert_eq!(call(), Error::Incomplete { received: 0, expected: None });
    server.join();
}

#[test]
fn responses_beyond_the_limits() {
    let server = Scripted::new(7, |n, mut peer| {
        peer.request().expect("a request");
        match n {
            0 => peer.send(format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(5_000))),
            1 => peer.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(300))),
            2 => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"),
            3 => peer.send(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1001))),
            4 => peer.send("HTTP/1.1 103 x\r\n\r\n".repeat(100)),
            5 => peer.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(100)
            )),
            _ => peer.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}",
                "A: b\r\n".repeat(9_000)
            )),
        }
        assert!(peer.is_closed());
    });
    let client = Client::builder().head_limit(4096).body_limit(1000).build();
    let call = || client.call_blocking(client::Request::get(&server.url("/")).fresh()).expect_err("too large");
    assert_eq!(call(), Error::TooLarge(TooLargePart::Head));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Head));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Body));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Body));
    assert_eq!(call(), Error::Protocol(Misbehaved::TooManyInformational));
    assert_eq!(call(), Error::Protocol(Misbehaved::ChunkExtensionTooLong));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Head));
    server.join();
}

#[test]
fn a_head_longer_than_the_input_buffer() {
    let server = Scripted::new(1, |_, mut peer| {
        peer.request().expect("a request");
        let head = format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 2\r\n\r\nhi", "x".repeat(200_000));
        for piece in head.as_bytes().chunks(20_000) {
            peer.send(piece);
        }
    });
    let client = Client::builder().head_limit(300_000).build();
    let response = client.call_blocking(client::Request::get(&server.url("/"))).expect("a response");
    assert_eq!((response.headers.get("a").map(<[u8]>::len), &response.body[..]), (Some(200_000), &b"hi"[..]));
    server.join();
}

/// A truncated response never looks complete, wherever it ends.
#[test]
fn responses_truncated_at_every_byte() {
    #[rustfmt::skip]
    const RESPONSES: [(&str, usize); 3] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0),
        ("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nA: b\r\n\r\n", 0),
        // A body that ends with the connection: complete as soon as the head is.
        ("HTTP/1.0 200 OK\r\n\r\nhello", 5),
    ];
    let truncated =
        RESPONSES.iter().flat_map(|(response, open)| (0..response.len() - open).map(|len| &response[..len]));
    let pieces: Vec<&str> = truncated.collect();
    let sent = pieces.clone();
    let server = Scripted::new(pieces.len(), move |n, mut peer| {
        peer.respond(sent[n]);
    });
    let client = Client::new();
    for piece in pieces {
        let result = client.call_blocking(client::Request::get(&server.url("/")));
        assert!(matches!(result, Err(Error::Incomplete { .. })), "{piece:?}: {result:?}");
    }
    server.join();
}

#[test]
fn no_server() {
    // A port that was bound before, and is free again.
    let addr = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound");
    let client = Client::new();
    match client.call_blocking(client::Request::get(&format!("http://{addr}/"))) {
        Err(Error::Connect { to, kind, .. }) => {
            assert_eq!((to, kind), (addr.to_string(), ErrorKind::ConnectionRefused));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.connections(), 0);
    // An address for documentation: a timeout, or an error of the network.
    let request = client::Request::get("http://192.0.2.1/").connect_timeout(Duration::from_millis(200));
    let result = client.call_blocking(request);
    assert!(matches!(result, Err(Error::TimedOut(Timeout::Connect) | Error::Connect { .. })), "{result:?}");
    assert_eq!(client.connections(), 0);
}

#[test]
fn malformed_requests_are_not_sent() {
    let client = Client::new();
    let url = "http://127.0.0.1:1/";
    for request in [
        client::Request::new("GE T", url),
        client::Request::new("", url),
        client::Request::new("GET / HTTP/1.1\r\nX: y\r\n\r\nGET", url),
        client::Request::get(url).header("A\r\nB", "c"),
        client::Request::get(url).header("A", "b\r\nC: d"),
        client::Request::get(url).header("A", "b\0"),
        client::Request::get(url).header("A:", "b"),
        client::Request::get(url).authority("a b"),
        client::Request::get(url).authority("a\r\nB: c"),
        client::Request::get(url).authority(""),
        client::Request::get(url).header("Host", "x"),
        client::Request::get(url).header("content-length", "1"),
        client::Request::get(url).header("Transfer-Encoding", "chunked"),
        client::Request::get(url).header("Connection", "close"),
        client::Request::get(url).upgrade("a\r\nb"),
    ] {
        assert!(matches!(client.call_blocking(request), Err(Error::InvalidRequest(_))));
    }
    for url in ["", "ftp://x/", "http://x/\r\nA: b", "http://a@b/", "http://x/ y"] {
        assert!(matches!(client.call_blocking(client::Request::get(url)), Err(Error::InvalidUrl(_))));
    }
    assert_eq!(client.connections(), 0);
}

#[test]
fn a_truncated_upload() {
    let server = Scripted::new(2, |_, mut peer| {
        let _ = peer.head();
        assert!(peer.exactly(1000).len() < 100, "nothing that looks complete");
    });
    let client = Client::new();
    let (mut inlet, outlet) = pipe(100);
    inlet.write(b"part");
    drop(inlet);
    assert_eq!(
        client.call_blocking(client::Request::new("PUT", &server.url("/")).stream(outlet, None)),
        Err(Error::UploadFailed)
    );
    let (mut inlet, outlet) = pipe(100);
    inlet.write(b"part");
    inlet.finish(None);
    assert_eq!(
        client.call_blocking(client::Request::new("PUT", &server.url("/")).stream(outlet, Some(5))),
        Err(Error::UploadFailed)
    );
    server.join();
}

#[test]
fn an_idle_connection_that_was_closed() {
    let (sender, received) = channel();
    let server = Scripted::new(4, move |_, mut peer| {
        peer.respond(ok("one"));
        // The next request arrives, and the server closes without a response.
        let line = peer.request().map(|request| request.line().to_owned());
        sender.send(line).expect("a receiver");
    });
    let client = Client::new();
    let request = |method: &str| client::Request::new(method, &server.url("/"));
    let body = |request: client::Request| client.call_blocking(request).map(|response| response.body);
    assert_eq!(body(request("GET")), Ok(b"one".to_vec()));
    // Repeated on a new connection, since the method is idempotent.
    assert_eq!(body(request("GET")), Ok(b"one".to_vec()));
    // A POST is not repeated, unless its sender allows it.
    assert_eq!(body(request("POST")), Err(Error::Stale));
    assert_eq!(body(request("GET")), Ok(b"one".to_vec()));
    assert_eq!(body(request("POST").body("x").repeatable(true)), Ok(b"one".to_vec()));
    drop(client);
    let lines: Vec<_> = received.iter().take(4).collect();
    let expected = ["GET / HTTP/1.1", "POST / HTTP/1.1", "POST / HTTP/1.1"].map(|line| Some(line.to_owned()));
    assert_eq!((&lines[..3], &lines[3]), (&expected[..], &None));
    server.join();
}

/// The server has processed the request then.
#[test]
fn a_request_is_not_repeated_after_the_first_byte_of_its_response() {
    let server = Scripted::new(1, |_, mut peer| {
        peer.respond(ok("one"));
        peer.respond("HTTP/1.1 2");
    });
    let client = Client::new();
    let call = || client.call_blocking(client::Request::get(&server.url("/"))).map(|response| response.body);
    assert_eq!(call(), Ok(b"one".to_vec()));
    assert_eq!(call(), Err(Error::Incomplete { received: 0, expected: None }));
    assert_eq!(server.join(), 1);
}

#[test]
fn an_idle_connection_on_which_the_server_closes_or_sends_is_dropped() {
    let (permit, permitted) = channel::<()>();
    let server = Scripted::new(3, move |n, mut peer| {
        peer.respond(ok("one"));
        permitted.recv_timeout(TIMEOUT).expect("a permit");
        match n {
            0 => peer.finish(),
            1 => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            _ => return peer.reset(),
        }
        assert!(peer.is_closed());
    });
    let client = Client::new();
    for _ in 0..3 {
        // A POST, which could not be repeated.
        assert_eq!(
            client.call_blocking(client::Request::post(&server.url("/"), "x")).expect("a response").body,
            b"one"
        );
        assert_eq!(client.idle_connections(), 1);
        permit.send(()).expect("a receiver");
        while client.connections() > 0 {
            std::thread::yield_now();
        }
    }
    server.join();
}

#[test]
fn bytes_after_a_response_are_not_a_response() {
    let server = Scripted::new(2, |n, mut peer| {
        let more = if n == 0 { ok("evil") } else { String::new() };
        peer.respond(ok("one") + &more);
        assert!(n > 0 || peer.is_closed());
    });
    let client = Client::new();
    for _ in 0..2 {
        assert_eq!(client.call_blocking(client::Request::get(&server.url("/"))).expect("a response").body, b"one");
    }
    assert_eq!(server.join(), 2);
}

/// In any stage before the response; the server sees that the connection is closed.
#[test]
fn a_request_can_be_cancelled() {
    let running = Server::new().threads(1, |_: &mut Request<'_>| Response::new(500)).expect("running");
    let loop_handle = running.loops().remove(0);
    let (seen_sender, seen) = channel();
    let (closed_sender, closed) = channel();
    let server = Scripted::new(2, move |n, mut peer| {
        peer.head();
        seen_sender.send(()).expect("a receiver");
        if n == 1 {
            peer.send(ok("late"));
        }
        peer.stream.set_read_timeout(Some(TIMEOUT / 2)).expect("set");
        let end = peer.stream.read(&mut [0]).map_err(|error| error.kind());
        let _ = closed_sender.send(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)));
    });
    let client = Client::builder().max_connections(1).build();
    let send = |mut request: client::Request| {
        let ((sender, result), cancel) = (channel(), request.cancel_handle());
        client.send(&loop_handle, request, move |result| {
            let _ = sender.send(result.map(|response| response.status()));
        });
        (result, cancel)
    };
    // On a connection, and behind it in the queue.
    let (first, cancel_first) = send(client::Request::get(&server.url("/")));
    seen.recv_timeout(TIMEOUT).expect("a request");
    let (second, cancel_second) = send(client::Request::get(&server.url("/")));
    cancel_second.cancel();
    assert_eq!(second.recv_timeout(TIMEOUT), Ok(Err(Error::Cancelled)));
    cancel_first.cancel();
    assert_eq!(first.recv_timeout(TIMEOUT), Ok(Err(Error::Cancelled)));
    assert_eq!(closed.recv_timeout(TIMEOUT), Ok(true), "the connection is closed");
    // Before it is sent.
    let mut request = client::Request::get(&server.url("/"));
    request.cancel_handle().cancel();
    assert_eq!(client.call_blocking(request), Err(Error::Cancelled));
    // Too late: the response has been received.
    let mut request = client::Request::get(&server.url("/"));
    let (cancel, (sender, result)) = (request.cancel_handle(), channel());
    client.send(&loop_handle, request, move |result| {
        cancel.cancel();
        result.expect("a response").collect(100, move |response| drop(sender.send(response)));
    });
    assert_eq!(result.recv_timeout(TIMEOUT).expect("a result").expect("a response").body, b"late");
    running.stop_now().expect("ended normally");
    server.join();
}
