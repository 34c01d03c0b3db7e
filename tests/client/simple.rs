//! Requests and responses without failures.

use std::{
    io::Read,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use uncork::{
    Headers,
    client::{Client, Error, Request},
    pipe,
};

use crate::scripted::{PATIENCE, Scripted, ok};

/// Makes one call. Returns the request and the result.
fn one(
    make: impl FnOnce(&str) -> Request,
    answer: &'static str,
) -> (crate::scripted::Asked, Result<uncork::client::FullResponse, Error>) {
    let (tell, told) = channel();
    let server = Scripted::new(1, move |_, mut peer| {
        tell.send(peer.asked().expect("a request")).expect("the expected event");
        peer.send(answer);
    });
    let result = Client::builder().user_agent("test/1").build().call_blocking(make(&server.url("/a/b?c=d")));
    (told.recv_timeout(PATIENCE).expect("a request"), result)
}

#[test]
fn a_request_is_written_as_it_should() {
    let (asked, result) =
        one(|url| Request::get(url).header("X-A", "b"), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi");
    let host = asked.get("host").expect("Host").to_owned();
    assert_eq!(asked.head, format!("GET /a/b?c=d HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\nUser-Agent: test/1\r\n\r\n"));
    assert!(host.starts_with("127.0.0.1:"));
    let whole = result.expect("a response");
    assert_eq!((whole.status, &whole.body[..], whole.headers.get("x")), (200, &b"hi"[..], Some(&b"y"[..])));
}

#[test]
fn bodies_go_out() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let (asked, _) = one(|url| Request::post(url, "hello"), answer);
    assert_eq!((asked.get("content-length"), &asked.body[..]), (Some("5"), &b"hello"[..]));
    let (asked, _) = one(|url| Request::post(url, ""), answer);
    assert_eq!(asked.get("content-length"), Some("0"));
    let (asked, _) = one(|url| Request::new("POST", url), answer);
    assert_eq!(asked.get("content-length"), Some("0"));
    let (asked, _) = one(|url| Request::new("DELETE", url), answer);
    assert_eq!(asked.get("content-length"), None);
    let (asked, _) = one(|url| Request::post(url, "hello").chunked(), answer);
    assert_eq!((asked.get("transfer-encoding"), &asked.body[..]), (Some("chunked"), &b"hello"[..]));
    let big: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let (asked, result) = one(|url| Request::post(url, big.clone()), answer);
    assert!(asked.body == big && result.expect("a response").status == 204);
    let (asked, _) = one(|url| Request::post(url, big.clone()).chunked(), answer);
    assert!(asked.body == big);
}

#[test]
fn streams_go_out() {
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
        let (asked, result) =
            one(|url| Request::new("PUT", url).stream(outlet, length), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(result.expect("a response").status, 200);
        assert_eq!(asked.body.len() as u64, length.unwrap_or(300_000));
        assert_eq!(asked.get("content-length").is_some(), length.is_some());
        writer.join().expect("written");
    }
}

#[test]
fn trailers_go_out_and_come_in() {
    let (tell, told) = channel();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.head().expect("a request");
        tell.send(peer.exactly(20)).expect("the expected event");
        peer.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 7\r\nHost: z\r\n\r\n",
        );
    });
    let (mut inlet, outlet) = pipe(100);
    inlet.write(b"hi");
    let mut trailers = Headers::new();
    trailers.append("X-T", "1").expect("good");
    inlet.finish(Some(trailers));
    let whole =
        Client::new().call_blocking(Request::new("PUT", &server.url("/")).stream(outlet, None)).expect("a response");
    assert_eq!(
        told.recv_timeout(PATIENCE).expect("sent").escape_ascii().to_string(),
        "2\\r\\nhi\\r\\n0\\r\\nX-T: 1\\r\\n\\r\\n"
    );
    assert_eq!((&whole.body[..], whole.trailers.get("x-sum"), whole.trailers.len()), (&b"abc"[..], Some(&b"7"[..]), 1));
}

#[test]
fn every_framing_comes_in() {
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
    for (method, answer, status, body) in ROWS {
        let (_, result) = one(|url| Request::new(method, url), answer);
        let whole = result.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        assert_eq!((whole.status, std::str::from_utf8(&whole.body)), (*status, Ok(*body)), "{answer:?}");
    }
    // Like this, but byte by byte.
    let server = Scripted::new(ROWS.len(), |n, mut peer| {
        peer.asked().expect("a request");
        for byte in ROWS[n].1.bytes() {
            peer.send([byte]);
        }
    });
    let client = Client::new();
    for (method, answer, status, body) in ROWS {
        let whole = client.call_blocking(Request::new(method, &server.url("/")).fresh()).expect("a response");
        assert_eq!((whole.status, std::str::from_utf8(&whole.body)), (*status, Ok(*body)), "{answer:?}");
    }
    server.over();
}

#[test]
fn interim_responses_are_told_and_what_connection_lists_is_in_no_trailer() {
    let (tell, told) = channel();
    let (_, result) = one(
        |url| {
            Request::get(url).on_interim(move |status, fields| tell.send((status, fields)).expect("the expected event"))
        },
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 199 x\r\n\r\n\
         HTTP/1.1 200 \r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-hop: 1\r\nX-Sum: 7\r\n\r\n",
    );
    let whole = result.expect("a response");
    assert_eq!(whole.trailers.iter().collect::<Vec<_>>(), [("X-Sum", &b"7"[..])]);
    let told: Vec<(u16, Option<Vec<u8>>)> =
        told.try_iter().map(|(status, fields)| (status, fields.get("link").map(<[u8]>::to_vec))).collect();
    assert_eq!(told, [(103, Some(b"x".to_vec())), (199, None)], "100 is the client's own");
}

#[test]
fn a_connection_serves_many() {
    let server = Scripted::new(1, |_, mut peer| while peer.answer(ok("hello")) {});
    let client = Client::new();
    for _ in 0..100 {
        assert_eq!(client.call_blocking(Request::get(&server.url("/"))).expect("a response").body, b"hello");
    }
    assert_eq!((client.connections(), client.idle_connections()), (1, 1));
    drop(client);
    assert_eq!(server.over(), 1);
}

#[test]
fn a_body_is_held_back_until_it_is_asked_for() {
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
        let call = Request::post(&server.url("/"), "hello").expect_continue().fresh();
        assert_eq!(client.call_blocking(call).expect("a response").status, 200);
    }
    server.over();
}

#[test]
fn a_417_is_asked_again_without() {
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
    let whole =
        Client::new().call_blocking(Request::post(&server.url("/"), "hello").expect_continue()).expect("a response");
    assert_eq!(whole.body, b"yes");
    server.over();
}

#[test]
fn a_refused_body_is_not_sent() {
    let server = Scripted::new(1, |_, mut peer| {
        peer.head().expect("a head");
        peer.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
        assert!(peer.is_closed());
    });
    let whole =
        Client::new().call_blocking(Request::post(&server.url("/"), "hello").expect_continue()).expect("a response");
    assert_eq!((whole.status, &whole.body[..]), (403, &b"no"[..]));
    server.over();
}

#[test]
fn an_answer_may_come_before_the_body_is_out() {
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
    let whole = client.call_blocking(Request::new("PUT", &server.url("/")).stream(outlet, None)).expect("a response");
    assert_eq!((whole.status, &whole.body[..]), (413, &b"stop"[..]));
    server.over();
    assert!(inlet.is_closed());
}

#[test]
fn a_body_is_read_as_it_comes() {
    let (go, wait) = channel::<()>();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.asked().expect("a request");
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        wait.recv_timeout(PATIENCE).expect("read");
        peer.send("3\r\ndef\r\n0\r\n\r\n");
    });
    let mut reading = Client::new().open_blocking(Request::get(&server.url("/"))).expect("a head");
    let mut some = [0; 3];
    reading.read_exact(&mut some).expect("the beginning");
    assert_eq!((&some, reading.status()), (b"abc", 200));
    go.send(()).expect("the expected event");
    let mut rest = String::new();
    reading.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "def");
    server.over();
}

#[test]
fn who_does_not_read_is_not_flooded() {
    const SIZE: usize = 96 << 20;
    let (tell, told) = channel();
    let server = Scripted::new(1, move |_, mut peer| {
        peer.asked().expect("a request");
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        peer.stream.set_nonblocking(true).expect("set");
        let (mut sent, mut stuck, block) = (0, 0, [7; 65_536]);
        // Until nothing more is taken for a while.
        while stuck < 50 {
            match std::io::Write::write(&mut peer.stream, &block) {
                Ok(n) => (sent, stuck) = (sent + n, 0),
                Err(_) => {
                    stuck += 1;
                    std::thread::sleep(Duration::from_millis(4));
                }
            }
        }
        tell.send(sent).expect("the expected event");
        peer.stream.set_nonblocking(false).expect("set");
        while sent < SIZE {
            let n = block.len().min(SIZE - sent);
            peer.send(&block[..n]);
            sent += n;
        }
    });
    let mut reading = Client::new().open_blocking(Request::get(&server.url("/"))).expect("a head");
    let sent = told.recv_timeout(PATIENCE).expect("stuck");
    assert!(sent < SIZE * 2 / 3, "{sent} bytes were taken without a reader");
    let mut all = Vec::new();
    reading.read_to_end(&mut all).expect("all of it");
    assert!(all.len() == SIZE && all.iter().all(|b| *b == 7));
    server.over();
}

#[test]
fn redirects_are_followed_when_asked_to() {
    let script = |_, mut peer: crate::scripted::Peer| {
        while let Some(asked) = peer.asked() {
            let (path, body) = (asked.line().to_owned(), String::from_utf8(asked.body.clone()).expect("text"));
            let to = |status: u16, to: &str| {
                format!("HTTP/1.1 {status} x\r\nLocation: {to}\r\nContent-Length: 3\r\n\r\nabc")
            };
            let answer = match path.split(' ').nth(1).expect("a target") {
                "/a" => to(302, "b/../c?x"),
                "/c?x" => to(307, "/d#frag"),
                "/loop" => to(301, "/loop"),
                "/bad" => to(301, "ftp://x/"),
                "/raw" => to(302, "/caf\u{e9} noir?q=\u{e9}"),
                "/control" => to(302, "/a\tb"),
                "/two" => "HTTP/1.1 302 x\r\nLocation: /d\r\nLocation: /d\r\nContent-Length: 0\r\n\r\n".to_owned(),
                "/none" => "HTTP/1.1 302 x\r\nContent-Length: 0\r\n\r\n".to_owned(),
                _ => ok(&format!("{path} {body} {:?} {:?}", asked.get("authorization"), asked.get("content-type"))),
            };
            peer.send(answer);
        }
    };
    // One connection, and another after each error.
    let server = Scripted::new(6, script);
    let client = Client::new();
    let call = |method: &str, path: &str, n| {
        let call = Request::new(method, &server.url(path))
            .header("Authorization", "x")
            .header("Content-Type", "t")
            .body("body");
        client
            .call_blocking(call.max_redirects(n))
            .map(|whole| (whole.status, String::from_utf8(whole.body).expect("text")))
    };
    assert_eq!(call("GET", "/a", 0).map(|a| a.0), Ok(302));
    assert_eq!(call("PUT", "/a", 2), Ok((200, "PUT /d HTTP/1.1 body Some(\"x\") Some(\"t\")".into())));
    assert_eq!(call("POST", "/a", 2), Ok((200, "GET /d HTTP/1.1  Some(\"x\") None".into())));
    assert!(matches!(call("GET", "/a", 1), Err(Error::Redirect(_))));
    assert!(matches!(call("GET", "/loop", 20), Err(Error::Redirect(_))));
    assert!(matches!(call("GET", "/bad", 1), Err(Error::Redirect(_))));
    assert!(matches!(call("GET", "/control", 1), Err(Error::Redirect(_))));
    // What a server has not encoded is encoded.
    let raw = "GET /caf%C3%A9%20noir?q=%C3%A9 HTTP/1.1 body Some(\"x\") Some(\"t\")";
    assert_eq!(call("GET", "/raw", 1), Ok((200, raw.into())));
    assert_eq!(call("GET", "/two", 1).err(), Some(Error::Redirect("several Location fields")));
    assert_eq!(call("GET", "/two", 0).map(|a| a.0), Ok(302));
    assert_eq!(call("GET", "/none", 1).map(|a| a.0), Ok(302));
    // To another origin, without private fields.
    let other = Scripted::new(1, script);
    let there = other.url("/there");
    let leads = Scripted::new(1, move |_, mut peer| {
        peer.answer(format!("HTTP/1.1 308 x\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n"));
    });
    let moved =
        Request::get(&leads.url("/")).header("Authorization", "x").header("Cookie", "y").header("Content-Type", "t");
    let whole = client.call_blocking(moved.max_redirects(1)).expect("a response");
    assert_eq!(String::from_utf8(whole.body).expect("text"), "GET /there HTTP/1.1  None Some(\"t\")");
    drop(client);
    assert_eq!((server.over(), other.over(), leads.over()), (6, 1, 1));
}

#[test]
fn names_are_resolved() {
    let server = Scripted::new(1, |_, mut peer| {
        let asked = peer.asked().expect("a request");
        peer.send(ok(asked.get("host").expect("Host")));
    });
    let url = format!("http://LocalHost:{}/", server.addr.port());
    let whole = Client::new().call_blocking(Request::get(&url)).expect("a response");
    assert_eq!(String::from_utf8(whole.body).expect("text"), format!("localhost:{}", server.addr.port()));
    server.over();
    let begun = Instant::now();
    let nowhere = Client::new()
        .call_blocking(Request::get("http://no-such-host.invalid/").connect_timeout(Duration::from_secs(15)));
    assert!(matches!(nowhere, Err(Error::Resolve { .. } | Error::TimedOut(_))), "{nowhere:?}");
    assert!(begun.elapsed() < PATIENCE);
}

/// The zone selects the interface; it is not sent to the server.
#[test]
fn an_address_has_a_zone() {
    use std::{io::Write, net::TcpListener};
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("no IPv6 here: not tested");
        return;
    };
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let mut told = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = String::new();
            let mut lines = std::io::BufReader::new(&stream);
            while !head.ends_with("\r\n\r\n") {
                assert!(std::io::BufRead::read_line(&mut lines, &mut head).expect("a line") > 0);
            }
            stream.write_all(ok("x").as_bytes()).expect("written");
            told.push(head);
        }
        told
    });
    let loopback = if cfg!(target_os = "linux") { "lo" } else { "lo0" };
    for zone in [format!("%{loopback}"), format!("%25{loopback}")] {
        let call = Request::get(&format!("http://[::1{zone}]:{port}/")).fresh();
        assert_eq!(Client::new().call_blocking(call).expect("a response").status, 200, "{zone}");
    }
    for head in server.join().expect("heads") {
        assert!(head.contains(&format!("Host: [::1]:{port}\r\n")), "{head}");
    }
    let nowhere = Client::new().call_blocking(Request::get(&format!("http://[::1%no-such]:{port}/")));
    assert!(matches!(nowhere, Err(Error::Resolve { .. })), "{nowhere:?}");
}

/// RFC 9112 §4 requires a space behind the status code; not every server sends it.
#[test]
fn a_status_line_without_a_phrase_is_understood() {
    let server = Scripted::new(1, |_, mut peer| {
        for line in ["HTTP/1.1 200", "HTTP/1.1 404 ", "HTTP/1.1 200"] {
            peer.answer(format!("{line}\r\nContent-Length: 2\r\n\r\nok"));
        }
    });
    let client = Client::new();
    for status in [200, 404, 200] {
        let whole = client.call_blocking(Request::get(&server.url("/"))).expect("a response");
        assert_eq!((whole.status, &*whole.body), (status, &b"ok"[..]));
    }
    drop(client);
    assert_eq!(server.over(), 1);
}

#[test]
fn unix_sockets_are_called() {
    use std::{io::Write, os::unix::net::UnixListener};
    let dir = std::env::temp_dir().join(format!("uncork-client-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("socket");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("bound");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = [0; 64];
        let n = stream.read(&mut head).expect("a head");
        stream.write_all(ok("unix").as_bytes()).expect("sent");
        String::from_utf8(head[..n].to_vec()).expect("text")
    });
    let client = Client::new();
    let whole =
        client.call_blocking(Request::get("http://some.host/x").unix(&path).host("other:1")).expect("a response");
    assert_eq!(whole.body, b"unix");
    assert_eq!(server.join().expect("served"), "GET /x HTTP/1.1\r\nHost: other:1\r\n\r\n");
    let gone = client.call_blocking(Request::get("http://x/").unix(dir.join("nobody")));
    assert!(matches!(gone, Err(Error::Connect { .. })), "{gone:?}");
    std::fs::remove_dir_all(&dir).expect("removed");
}
