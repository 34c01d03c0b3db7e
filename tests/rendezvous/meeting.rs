//! Streams that succeed.

use super::*;

pub(crate) fn creation(setup: Setup) {
    let server = start(setup);
    let mut client = server.client();
    for (path, body) in [
        ("/stream", ""),
        ("/stream/", "null"),
        ("/stream?a=b", "[1]"),
        ("/stream?n=1", "{\"x\":1}"),
        ("/stream", "{\"download_headers\":{},\"upload_headers\":{}}"),
    ] {
        let response = client.post(path, &["Content-Type: application/json"], body.as_bytes()).response();
        assert_eq!(response.assert(201).get("content-type"), Some("application/json"));
        assert_eq!(response.text().len(), "{\"stream\":\"00000000-0000-4000-8000-000000000000\"}".len());
        let location = response.get("location").and_then(|path| path.strip_prefix("/stream/")).expect("its path");
        assert_eq!(response.text(), format!("{{\"stream\":\"{location}\"}}"));
    }
    // Without a body, and with a chunked one.
    client.request("POST /stream", &[]).response().assert(201);
    client.request("POST /stream", &["Transfer-Encoding: chunked"]).chunk(b"{}").chunk(b"").response().assert(201);
    let response = client.post("/stream", &[], b"{\"upload_headers\":{\"@{}[].<>\":\"x\"}}").response();
    is_error(&response, 400, "InvalidBodyError", "Not a valid HTTP header name: @{}[].<>");
    let response = client.post("/stream", &[], b"{\"download_headers\":{\"A\":\"\\b\"}}").response();
    is_error(&response, 400, "InvalidBodyError", "Not a valid HTTP header value: \\\"\\b\\\"");
    let response = client.post("/stream", &[], b"{\"download_headers\":{\"Transfer-Encoding\":\"gzip\"}}").response();
    is_error(&response, 400, "InvalidBodyError", "Not a valid HTTP header name: Transfer-Encoding");
    let response = client.post("/stream", &[], b"{").response();
    assert!(response.assert(400).text().starts_with("{\"name\":\"InvalidBodyError\",\"message\":\"Invalid JSON: EOF"));
    for n in ["0", "17", "x", "", "-1"] {
        client.post(&format!("/stream?n={n}"), &[], b"").response().assert(400);
    }
}

pub(crate) fn routes(setup: Setup) {
    let server = start(setup);
    let mut client = server.client();
    for path in ["/ping", "/ping/", "/ping?x=y"] {
        let response = client.request(&format!("GET {path}"), &[]).response();
        assert_eq!((response.assert(200).text(), response.get("content-type")), ("pong", None));
    }
    let stream = Stream::new(&server);
    let path = &stream.path;
    for line in [
        "GET /",
        "GET /x",
        "PUT /stream",
        "DELETE /stream",
        "POST /ping",
        "GET /stream",
        "GET /stream?x",
        "GET /streams",
        "GET /stream/a.b",
        "GET /stream/a/b",
        "GET /stream//status",
        "POST /stream/a",
        "DELETE /stream/a",
        "PATCH /stream/a",
        "GET /stream/a/error",
        "PUT /stream/a/status",
        "OPTIONS /stream",
        "get /ping",
    ] {
        let response = client.request(line, &[]).response();
        is_error(&response, 404, "BadRouteError", "No endpoint exists for the specified method and/or route");
    }
    // HEAD is supported where GET is, except for the stream itself: it would take the stream from a receiver.
    for (path, status) in
        [("/ping", 200), ("/ping/?x", 200), (&*format!("{path}/status"), 200), ("/stream/x/status", 404), (path, 404)]
    {
        let mut client = server.client();
        let head = client.request(&format!("HEAD {path}"), &["Connection: close"]).head();
        head.assert(status);
        assert!(client.is_closed(), "no content");
        let get = if path == stream.path { "GET /nothing" } else { &format!("GET {path}") };
        let get = server.client().request(get, &[]).response();
        for name in ["content-type", "content-length"] {
            assert_eq!(get.assert(status).get(name), head.get(name), "{path}");
        }
    }
    stream.is("CREATED");
    for id in ["x", "00000000-0000-4000-8000-000000000000", &path.to_uppercase()["/STREAM/".len()..], "a_b-C"] {
        for line in ["GET /stream/@", "PUT /stream/@", "POST /stream/@/error", "GET /stream/@/status", "GET /stream/@/"]
        {
            not_found(&client.request(&line.replace('@', id), &["Content-Length: 0"]).response());
        }
    }
    // An additional slash is an error.
    stream.server.client().request(&format!("GET {path}/status/"), &[]).response().assert(200);
    stream.server.client().request(&format!("POST {path}/error/?x"), &[]).response().assert(200);

    let server = start_with(setup, |c| c.list = true);
    let streams = [Stream::new(&server), Stream::new(&server)];
    for path in ["/stream", "/stream/", "/stream?x"] {
        let list = server.client().request(&format!("GET {path}"), &[]).response();
        assert!(list.assert(200).text().starts_with("[{\"id\":") && list.text().ends_with("}]"), "{list:?}");
        assert_eq!(list.get("content-type"), Some("application/json"));
        assert!(streams.iter().all(|stream| list.text().contains(&stream.status())));
        let head = server.client().request(&format!("HEAD {path}"), &[]).head();
        assert_eq!(head.assert(200).get("content-length"), list.get("content-length"));
    }
}

pub(crate) fn put_meets_get(setup: Setup) {
    let server = start(setup);
    for receiver_first in [false, true] {
        let stream = Stream::new(&server);
        stream.is("CREATED");
        let body = pattern(3, 3 << 20);
        let early = receiver_first.then(|| stream.get());
        if receiver_first {
            stream.is("DST_CONNECTED");
        }
        let mut source = stream.put("Content-Length: 3145728");
        if !receiver_first {
            stream.is("SRC_CONNECTED");
        }
        let sent = body.clone();
        let sending = std::thread::spawn(move || {
            source.send(sent);
            let response = source.response();
            (response, source.is_closed())
        });
        let mut receiver = early.unwrap_or_else(|| stream.get());
        let response = receiver.response();
        assert_eq!(response.assert(200).get("content-length"), Some("3145728"), "passed on");
        assert_eq!(response.get("connection"), Some("close"));
        assert!(response.body == body);
        assert!(receiver.is_closed());
        let (response, closed) = sending.join().expect("no panic");
        assert_eq!(
            (response.assert(200).get("content-length"), response.get("connection")),
            (Some("0"), Some("close"))
        );
        assert!(closed);
        let status = stream.is("FINISHED");
        assert!(status.ends_with("\"bytes_transferred\":3145728}") && !status.contains("error"), "{status}");
        // The stream is over.
        not_found(&stream.get().response());
        not_found(&stream.put("Content-Length: 0").response());
    }
}

pub(crate) fn fields_are_passed_on(setup: Setup) {
    let server = start(setup);
    let stream = Stream::with(
        &server,
        "",
        "{\"download_headers\":{\"Content-Type\":\"text/x\",\"Z\":[\"1\",2],\"A\":3},\"upload_headers\":{\"Y\":\"z\"}}",
    );
    let mut receiver = stream.get();
    let mut source = server.client();
    source.request(&format!("PUT {}", stream.path), &["Content-Type: image/x", "Content-Length: 5", "X-Own: no"]);
    source.send("hello");
    let response = receiver.response();
    assert_eq!((response.assert(200).text(), response.get("content-type")), ("hello", Some("text/x")));
    let passed: Vec<_> = response.fields.iter().filter(|(n, _)| ["Z", "A", "X-Own"].contains(&&**n)).collect();
    assert_eq!(format!("{passed:?}"), "[(\"Z\", \"1\"), (\"Z\", \"2\"), (\"A\", \"3\")]");
    assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
    assert_eq!(source.response().assert(200).get("y"), Some("z"));
    let status = stream.is("FINISHED");
    let fields =
        "\"download_headers\":{\"Content-Type\":\"text/x\",\"Z\":[\"1\",2],\"A\":3},\"upload_headers\":{\"Y\":\"z\"},";
    assert!(status.contains(fields), "{status}");

    // A client that asks for it keeps the connection.
    let stream = Stream::with(&server, "", "{\"upload_headers\":{\"Connection\":\"keep-alive\"}}");
    let mut receiver = stream.get();
    let mut source = stream.put_all(b"hello");
    assert_eq!(receiver.response().text(), "hello");
    source.response().assert(200);
    source.request("GET /ping", &[]).response().assert(200);
    assert!(!stream.is("FINISHED").contains("download_headers"), "a body was given without them");
}

/// RFC 9110 §14.5: a part would look complete.
pub(crate) fn a_part_is_rejected(setup: Setup) {
    let server = start(setup);
    let stream = Stream::new(&server);
    let mut receiver = stream.get();
    for range in ["Content-Range: bytes 0-4/10", "content-range: bytes */10", "Content-Range: x"] {
        let mut source = server.client();
        source.request(&format!("PUT {}", stream.path), &["Content-Length: 5", range]).send("hello");
        let message = "A stream needs the complete body: Content-Range is not supported";
        is_error(&source.response(), 400, "BadRequestError", message);
    }
    // The slot is still free, and the receiver waits.
    stream.is("DST_CONNECTED");
    stream.put_all(b"whole").response().assert(200);
    assert_eq!(receiver.response().text(), "whole");
    // With POST the field has no meaning.
    server.client().post("/stream", &["Content-Range: bytes 0-1/2"], b"{}").response().assert(201);
}

pub(crate) fn an_empty_upload(setup: Setup) {
    let server = start(setup);
    for (framing, body) in [("Content-Length: 0", ""), ("X: y", ""), ("Transfer-Encoding: chunked", "0\r\n\r\n")] {
        let stream = Stream::new(&server);
        let mut receiver = stream.get();
        let mut source = stream.put(framing);
        source.send(body);
        let response = receiver.response();
        assert_eq!(
            (response.assert(200).get("content-length"), response.is_chunked()),
            (Some("0"), false),
            "{framing}"
        );
        source.response().assert(200);
        stream.is("FINISHED");
    }
}

pub(crate) fn chunked_is_progressive(setup: Setup) {
    let server = start(setup);
    let stream = Stream::new(&server);
    let mut source = stream.put("Transfer-Encoding: chunked");
    let mut receiver = stream.get();
    stream.is("STREAMING");
    assert!(receiver.is_silent(MOMENT), "there is nothing to respond with yet");
    let mut head = None;
    for word in ["each word", "arrives", "before the next one", "was sent"] {
        source.chunk(word.as_bytes());
        assert!(head.get_or_insert_with(|| receiver.head()).is_chunked());
        let mut got = Vec::new();
        while got.len() < word.len() {
            got.extend(receiver.next_chunk().expect("a chunk").expect("not the last"));
        }
        assert_eq!(got, word.as_bytes());
    }
    // Counted when they are sent, on another loop.
    let counted = |_| stream.is("STREAMING").ends_with("\"bytes_transferred\":43}");
    assert!((0..2000).any(counted), "{}", stream.status());
    source.chunk(b"");
    assert_eq!(receiver.next_chunk().expect("the last"), None);
    source.response().assert(200);
    stream.is("FINISHED");
}

pub(crate) fn a_receiver_of_http_1_0(setup: Setup) {
    let server = start(setup);
    for (framing, body) in [
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        ("Content-Length: 11", "hello world"),
    ] {
        let stream = Stream::new(&server);
        let mut receiver = server.client();
        server.until_requested(|| receiver.send(format!("GET {} HTTP/1.0\r\n\r\n", stream.path)).sent());
        let mut source = stream.put(framing);
        source.send(body);
        let head = receiver.head();
        assert!(!head.assert(200).is_chunked());
        assert_eq!(receiver.read_to_end().expect("ended normally"), b"hello world");
        source.response().assert(200);
    }
}

pub(crate) fn the_body_is_asked_for_at_once_and_not_read(setup: Setup) {
    // More than the client's and the server's sockets hold.
    const TOTAL: usize = 12 << 20;
    let server = start(setup);
    let stream = Stream::new(&server);
    let mut source = server.client();
    let length = format!("Content-Length: {TOTAL}");
    source.request(&format!("PUT {}", stream.path), &[&length, "Expect: 100-continue"]).head().assert(100);
    let sent = push_until_stuck(&mut source, TOTAL);
    assert!(sent < TOTAL, "it was read and kept");
    assert!(stream.is("SRC_CONNECTED").ends_with("\"bytes_transferred\":0}"));
    let mut receiver = stream.get();
    receiver.head().assert(200);
    let rest = std::thread::spawn(move || source.send(pattern(sent, TOTAL - sent)).response());
    receive(&mut receiver, TOTAL);
    rest.join().expect("no panic").assert(200);
}

pub(crate) fn a_stalled_receiver_stops_its_source(setup: Setup) {
    // More than all sockets on the path hold.
    const TOTAL: usize = 40 << 20;
    let server = start(setup);
    let stream = Stream::new(&server);
    let mut receiver = stream.get();
    let mut source = stream.put(&format!("Content-Length: {TOTAL}"));
    let sent = push_until_stuck(&mut source, TOTAL);
    assert!(sent < TOTAL, "the receiver takes nothing, and yet everything was read");
    receiver.head().assert(200);
    let rest = std::thread::spawn(move || source.send(pattern(sent, TOTAL - sent)).response());
    receive(&mut receiver, TOTAL);
    rest.join().expect("no panic").assert(200);
}

pub(crate) fn a_declared_length_is_kept_or_broken(setup: Setup) {
    let server = start(setup);
    let chunked = |parts: &[&str]| -> String {
        parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect::<String>() + "0\r\n\r\n"
    };
    let length = |n: usize| format!("Content-Length: {n}");
    let chunks = || "Transfer-Encoding: chunked".to_owned();
    for (declared, framing, body, fits) in [
        (5, length(5), "hello".to_owned(), true),
        (5, chunks(), chunked(&["he", "llo"]), true),
        (1, chunks(), chunked(&["x"]), true),
        (0, chunks(), chunked(&[]), true),
        (0, length(0), String::new(), true),
        (5, length(3), "hel".to_owned(), false),
        (5, length(0), String::new(), false),
        (5, chunks(), chunked(&[]), false),
        (5, chunks(), chunked(&["hel"]), false),
        (5, length(11), "hello world".to_owned(), false),
        (5, chunks(), chunked(&["hello world"]), false),
        (5, chunks(), chunked(&["hello", " world"]), false),
        (0, length(2), "ab".to_owned(), false),
        (0, chunks(), chunked(&["ab"]), false),
    ] {
        let what = format!("{declared} declared, {framing} {body:?}");
        let stream = Stream::with(&server, "", &format!("{{\"download_headers\":{{\"content-length\":{declared}}}}}"));
        let mut receiver = stream.get();
        let mut source = stream.put(&framing);
        let _ = source.try_send(body);
        let response = receiver.try_head().and_then(|head| Ok((receiver.body(&head)?, head)));
        if fits {
            let (body, head) = response.expect(&what);
            assert_eq!(
                (head.status, body.len(), head.get("content-length")),
                (200, declared, Some(&*declared.to_string()))
            );
            source.response().assert(200);
            stream.is("FINISHED");
        } else {
            // Not a byte too many, and never all of them.
            assert!(response.is_err(), "{what}: {response:?}");
            let message = "Stream source raised an error";
            is_error(&source.response(), 502, "StreamSourceError", message);
            let status = stream.is("SRC_ERROR");
            let error = format!("\"error\":{{\"name\":\"StreamSourceError\",\"message\":\"{message}\"}}");
            assert!(status.contains(&error), "{status}");
        }
    }
}

pub(crate) fn status_tells(setup: Setup) {
    let server = start(setup);
    let stream = Stream::new(&server);
    let status = stream.status();
    let (id, rest) = status.strip_prefix("{\"id\":\"").and_then(|rest| rest.split_once('"')).expect("an id");
    assert_eq!(stream.path, format!("/stream/{id}"));
    let (at, rest) = rest.strip_prefix(",\"created_at\":\"").and_then(|rest| rest.split_once('"')).expect("a time");
    assert!(at.len() == 24 && at.ends_with('Z') && &at[10..11] == "T" && &at[19..20] == ".", "{at}");
    let want =
        ",\"state\":\"CREATED\",\"active\":true,\"download_headers\":[],\"upload_headers\":[],\"bytes_transferred\":0}";
    assert_eq!(rest, want);
}

impl Client {
    /// Ends a chain: the request is sent, its response is for later.
    fn sent(&mut self) {}
}
