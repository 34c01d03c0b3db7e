//! Servers that break rules, hang, or leave: each gets its error, and soon.

use std::{
    io::{ErrorKind, Read},
    sync::mpsc::channel,
    time::Duration,
};

use uncork::{
    Request, Response, Server,
    client::{self, Client, Deadline, Error, TooLargePart},
    h1::Misbehaved,
    pipe,
};

use crate::scripted::{PATIENCE, Peer, Scripted, ok};

#[test]
fn rules_that_are_broken() {
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
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Error::Protocol(UnaskedSwitch)),
        ("", Error::Incomplete { got: 0, of: None }),
        ("HTTP/1.1 200 O", Error::Incomplete { got: 0, of: None }),
        ("HTTP/1.1 100 Continue\r\n\r\n", Error::Incomplete { got: 0, of: None }),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Error::Incomplete { got: 3, of: Some(9) }),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Error::Incomplete { got: 3, of: None }),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Error::Incomplete { got: 2, of: None }),
    ];
    let answers: Vec<String> = rows.iter().map(|(answer, _)| (*answer).to_owned()).collect();
    let server = Scripted::new(rows.len(), move |n, mut peer| {
        peer.answer(&answers[n]);
    });
    let client = Client::new();
    for (answer, want) in rows {
        let got = client.call_blocking(client::Request::get(&server.url("/")));
        assert_eq!(got.as_ref().err(), Some(want), "{answer:?}: {got:?}");
        assert!(!want.to_string().is_empty());
    }
    server.over();
}

#[test]
fn who_speaks_first_is_no_server() {
    let server = Scripted::new(2, |n, mut peer| {
        match n {
            0 => peer.send("220 smtp.example ESMTP\r\n"),
            _ => peer.finish(),
        }
        peer.head();
    });
    let client = Client::new();
    let call =
        || client.call_blocking(client::Request::get(&server.url("/")).timeout(PATIENCE)).expect_err("no answer");
    assert_eq!(call(), Error::Protocol(Misbehaved::BadStatusLine));
    assert_eq!(call(), Error::Incomplete { got: 0, of: None });
    server.over();
}

#[test]
fn too_much() {
    let server = Scripted::new(7, |n, mut peer| {
        peer.asked().expect("a request");
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
    let call = || client.call_blocking(client::Request::get(&server.url("/")).fresh()).expect_err("too much");
    assert_eq!(call(), Error::TooLarge(TooLargePart::Head));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Head));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Body));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Body));
    assert_eq!(call(), Error::Protocol(Misbehaved::TooManyInterim));
    assert_eq!(call(), Error::Protocol(Misbehaved::ChunkExtensionTooLong));
    assert_eq!(call(), Error::TooLarge(TooLargePart::Head));
    server.over();
}

#[test]
fn a_long_head_comes_whole() {
    let server = Scripted::new(1, |_, mut peer| {
        peer.asked().expect("a request");
        let head = format!("HTTP/1.1 200 OK\r\nA: {}\r\nContent-Length: 2\r\n\r\nhi", "x".repeat(200_000));
        for piece in head.as_bytes().chunks(20_000) {
            peer.send(piece);
        }
    });
    // More than the loop's input buffer holds.
    let client = Client::builder().head_limit(300_000).build();
    let whole = client.call_blocking(client::Request::get(&server.url("/"))).expect("a response");
    assert_eq!((whole.headers.get("a").map(<[u8]>::len), &whole.body[..]), (Some(200_000), &b"hi"[..]));
    server.over();
}

/// Waits until the client has closed the connection.
fn hang(mut peer: Peer) {
    while !peer.is_closed() {
        peer.exactly(1000);
    }
}

#[test]
fn deadlines() {
    let short = Duration::from_millis(100);
    let (go, wait) = channel::<()>();
    let server = Scripted::new(5, move |n, mut peer| {
        peer.head().expect("a request");
        match n {
            0 | 1 => {}
            2 => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
            // A slow drip, which an idle timeout would not stop.
            3 => {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                peer.stream.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
                while std::io::Write::write_all(&mut peer.stream, b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                return;
            }
            _ => return wait.recv_timeout(PATIENCE).expect("the end"),
        }
        hang(peer);
    });
    let client = Client::new();
    let call = |with: &dyn Fn(client::Request) -> client::Request| {
        client.call_blocking(with(client::Request::get(&server.url("/")))).expect_err("late")
    };
    assert_eq!(call(&|call| call.head_timeout(short)), Error::TimedOut(Deadline::Head));
    assert_eq!(call(&|call| call.timeout(short)), Error::TimedOut(Deadline::Whole));
    assert_eq!(call(&|call| call.idle_timeout(short)), Error::TimedOut(Deadline::Idle));
    assert_eq!(call(&|call| call.idle_timeout(PATIENCE).timeout(2 * short)), Error::TimedOut(Deadline::Whole));
    // A server that does not take the body.
    let upload = client::Request::post(&server.url("/"), vec![0; 32 << 20]).idle_timeout(short).head_timeout(PATIENCE);
    assert_eq!(client.call_blocking(upload), Err(Error::TimedOut(Deadline::Idle)));
    go.send(()).expect("waited for");
    server.over();
}

/// Sends this repeatedly, a little at a time, until the client has closed the connection.
fn drip(mut peer: Peer, bytes: &[u8]) {
    for piece in bytes.chunks(1).cycle() {
        if std::io::Write::write_all(&mut peer.stream, piece).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A timeout that each byte restarts would not stop a server that sends one now and then.
#[test]
fn who_drips_gains_no_time() {
    let short = Duration::from_millis(100);
    let server = Scripted::new(5, move |n, mut peer| {
        peer.head().expect("a request");
        match n {
            0 => drip(
                peer,
                b"HTTP/1.1 200 OK\r\nA: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ),
            // Interim responses are not the response.
            1 => drip(peer, b"HTTP/1.1 102 x\r\n\r\n"),
            // Bodies that the client does not need: of a redirect, and of a discarded response.
            2 => {
                peer.send("HTTP/1.1 302 x\r\nLocation: /there\r\n\r\n");
                drip(peer, b"x");
            }
            3 => peer.send(ok("there")),
            _ => {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                drip(peer, b"1\r\nx\r\n");
            }
        }
    });
    let client = Client::new();
    let call = |path: &str| client::Request::get(&server.url(path)).head_timeout(short).idle_timeout(short);
    for _ in 0..2 {
        assert_eq!(client.call_blocking(call("/")), Err(Error::TimedOut(Deadline::Head)));
    }
    assert_eq!(
        client
            .call_blocking(call("/").max_redirects(1).head_timeout(PATIENCE).timeout(PATIENCE))
            .map(|whole| whole.body),
        Ok(b"there".to_vec())
    );
    let (tell, told) = channel();
    let loops = Server::unbound().threads(1, |_: &mut Request<'_>| Response::new(404));
    let loops = loops.expect("running");
    client.send(&loops.loops()[0], call("/").fresh().head_timeout(PATIENCE), move |answer| {
        let answer = answer.expect("a head").on_end(move |end| tell.send(end).expect("the expected event"));
        answer.discard();
    });
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Err(Error::TimedOut(Deadline::Idle))));
    loops.stop().expect("ended");
    server.over();
}

/// A truncated response never looks complete, wherever it ends.
#[test]
fn answers_that_are_cut_at_every_byte() {
    #[rustfmt::skip]
    const ANSWERS: [(&str, usize); 3] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0),
        ("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nA: b\r\n\r\n", 0),
        // A body that ends with the connection: complete as soon as the head is.
        ("HTTP/1.0 200 OK\r\n\r\nhello", 5),
    ];
    let cuts = ANSWERS.iter().flat_map(|(answer, open)| (0..answer.len() - open).map(|cut| &answer[..cut]));
    let pieces: Vec<&str> = cuts.collect();
    let cuts = pieces.clone();
    let server = Scripted::new(pieces.len(), move |n, mut peer| {
        peer.answer(pieces[n]);
    });
    let client = Client::new();
    for piece in cuts {
        let got = client.call_blocking(client::Request::get(&server.url("/")));
        assert!(matches!(got, Err(Error::Incomplete { .. })), "{piece:?}: {got:?}");
    }
    server.over();
}

#[test]
fn who_is_not_there() {
    // Bound once, so that no other socket has it, and free again.
    let addr = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound");
    let client = Client::new();
    match client.call_blocking(client::Request::get(&format!("http://{addr}/"))) {
        Err(Error::Connect { to, kind, .. }) => {
            assert_eq!((to, kind), (addr.to_string(), ErrorKind::ConnectionRefused));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.connections(), 0);
    // Documentation addresses lead nowhere: a timeout, or an error of the network.
    let call = client::Request::get("http://192.0.2.1/").connect_timeout(Duration::from_millis(200));
    let nowhere = client.call_blocking(call);
    assert!(matches!(nowhere, Err(Error::TimedOut(Deadline::Connect) | Error::Connect { .. })), "{nowhere:?}");
    assert_eq!(client.connections(), 0);
}

#[test]
fn what_can_not_be_sent_is_not() {
    let client = Client::new();
    let url = "http://127.0.0.1:1/";
    for call in [
        client::Request::new("GE T", url),
        client::Request::new("", url),
        client::Request::new("GET / HTTP/1.1\r\nX: y\r\n\r\nGET", url),
        client::Request::get(url).header("A\r\nB", "c"),
        client::Request::get(url).header("A", "b\r\nC: d"),
        client::Request::get(url).header("A", "b\0"),
        client::Request::get(url).header("A:", "b"),
        client::Request::get(url).host("a b"),
        client::Request::get(url).host("a\r\nB: c"),
        client::Request::get(url).host(""),
        client::Request::get(url).header("Host", "x"),
        client::Request::get(url).header("content-length", "1"),
        client::Request::get(url).header("Transfer-Encoding", "chunked"),
        client::Request::get(url).header("Connection", "close"),
        client::Request::get(url).upgrade("a\r\nb"),
    ] {
        assert!(matches!(client.call_blocking(call), Err(Error::InvalidRequest(_))));
    }
    for url in ["", "ftp://x/", "http://x/\r\nA: b", "http://a@b/", "http://x/ y"] {
        assert!(matches!(client.call_blocking(client::Request::get(url)), Err(Error::Url(_))));
    }
    assert_eq!(client.connections(), 0);
}

#[test]
fn an_upload_that_is_cut_off() {
    let server = Scripted::new(2, |_, mut peer| {
        let _ = peer.head();
        assert!(peer.exactly(1000).len() < 100, "nothing that looks whole");
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
    server.over();
}

#[test]
fn a_kept_connection_that_was_closed() {
    let (tell, told) = channel();
    let server = Scripted::new(4, move |_, mut peer| {
        peer.answer(ok("one"));
        // The next request arrives, and the server closes without a response.
        let asked = peer.asked().map(|asked| asked.line().to_owned());
        tell.send(asked).expect("the expected event");
    });
    let client = Client::new();
    let call = |method: &str| client::Request::new(method, &server.url("/"));
    let again = |call: client::Request| client.call_blocking(call).map(|whole| whole.body);
    assert_eq!(again(call("GET")), Ok(b"one".to_vec()));
    // Repeated on a new connection, since the method is idempotent.
    assert_eq!(again(call("GET")), Ok(b"one".to_vec()));
    // A POST is not repeated, unless its sender allows it.
    assert_eq!(again(call("POST")), Err(Error::Stale));
    assert_eq!(again(call("GET")), Ok(b"one".to_vec()));
    assert_eq!(again(call("POST").body("x").repeatable(true)), Ok(b"one".to_vec()));
    drop(client);
    let seen: Vec<_> = told.iter().take(4).collect();
    let lines = ["GET / HTTP/1.1", "POST / HTTP/1.1", "POST / HTTP/1.1"].map(|line| Some(line.to_owned()));
    assert_eq!((&seen[..3], &seen[3]), (&lines[..], &None));
    server.over();
}

/// After the first byte of a response, the server has processed the request.
#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let server = Scripted::new(1, |_, mut peer| {
        peer.answer(ok("one"));
        peer.answer("HTTP/1.1 2");
    });
    let client = Client::new();
    let call = || client.call_blocking(client::Request::get(&server.url("/"))).map(|whole| whole.body);
    assert_eq!(call(), Ok(b"one".to_vec()));
    assert_eq!(call(), Err(Error::Incomplete { got: 0, of: None }));
    assert_eq!(server.over(), 1);
}

#[test]
fn an_idle_connection_that_is_closed_or_talks_is_dropped() {
    let (go, wait) = channel::<()>();
    let server = Scripted::new(3, move |n, mut peer| {
        peer.answer(ok("one"));
        wait.recv_timeout(PATIENCE).expect("asked to");
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
        go.send(()).expect("the expected event");
        while client.connections() > 0 {
            std::thread::yield_now();
        }
    }
    server.over();
}

#[test]
fn what_follows_an_answer_is_no_answer() {
    let server = Scripted::new(2, |n, mut peer| {
        let more = if n == 0 { ok("evil") } else { String::new() };
        peer.answer(ok("one") + &more);
        assert!(n > 0 || peer.is_closed());
    });
    let client = Client::new();
    for _ in 0..2 {
        assert_eq!(client.call_blocking(client::Request::get(&server.url("/"))).expect("a response").body, b"one");
    }
    assert_eq!(server.over(), 2);
}

/// The server learns of it in any stage of the call; a finished response is not affected.
#[test]
fn a_call_may_be_given_up() {
    let running = Server::unbound().threads(1, |_: &mut Request<'_>| Response::new(500)).expect("running");
    let here = running.loops().remove(0);
    let (tell_seen, seen) = channel();
    let (tell_gone, gone) = channel();
    let server = Scripted::new(2, move |n, mut peer| {
        peer.head();
        tell_seen.send(()).expect("the expected event");
        if n == 1 {
            peer.send(ok("late"));
        }
        peer.stream.set_read_timeout(Some(PATIENCE / 2)).expect("set");
        let end = peer.stream.read(&mut [0]).map_err(|error| error.kind());
        let _ = tell_gone.send(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)));
    });
    let client = Client::builder().max_connections(1).build();
    let send = |mut call: client::Request| {
        let ((tell, told), cancel) = (channel(), call.cancel_handle());
        client.send(&here, call, move |result| {
            let _ = tell.send(result.map(|answer| answer.status()));
        });
        (told, cancel)
    };
    // On a connection, and behind it in the queue.
    let (first, cancel_first) = send(client::Request::get(&server.url("/")));
    seen.recv_timeout(PATIENCE).expect("asked");
    let (second, cancel_second) = send(client::Request::get(&server.url("/")));
    cancel_second.cancel();
    assert_eq!(second.recv_timeout(PATIENCE), Ok(Err(Error::Cancelled)));
    cancel_first.cancel();
    assert_eq!(first.recv_timeout(PATIENCE), Ok(Err(Error::Cancelled)));
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(true), "the connection is closed");
    // Before it is sent.
    let mut call = client::Request::get(&server.url("/"));
    call.cancel_handle().cancel();
    assert_eq!(client.call_blocking(call), Err(Error::Cancelled));
    // Too late: the response is there.
    let mut call = client::Request::get(&server.url("/"));
    let (cancel, (tell, told)) = (call.cancel_handle(), channel());
    client.send(&here, call, move |result| {
        cancel.cancel();
        result.expect("a response").collect(100, move |whole| drop(tell.send(whole)));
    });
    assert_eq!(told.recv_timeout(PATIENCE).expect("told").expect("whole").body, b"late");
    running.stop().expect("in order");
    server.over();
}
