//! §8: requests. Those that break a rule are malformed (§8.1.1).

use uncork::Limits;

use crate::{
    cases::{Case, Want, case, run},
    counted::Counting,
    peer::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PROTOCOL_ERROR, Peer, WHOLE,
        fields, frame, get, head, literal, post,
    },
};

/// A request with these fields behind those that are needed.
fn with(section: &'static str, what: &'static str, name: &str, value: impl AsRef<[u8]>) -> Case {
    let block = [head("GET", "/", &[]), literal(name, value)].concat();
    case(section, what, frame(HEADERS, WHOLE, 1, block), Want::Malformed(1))
}

/// A request of exactly these fields.
fn of(section: &'static str, what: &'static str, all: &[(&str, &str)]) -> Case {
    case(section, what, frame(HEADERS, WHOLE, 1, fields(all)), Want::Malformed(1))
}

#[test]
fn fields_are_checked() {
    run(vec![
        with("8.2", "an uppercase name", "X-Upper", "y"),
        with("8.2.1", "an uppercase letter in a name", "x-uPper", "y"),
        with("8.2.1", "a space in a name", "x y", "z"),
        with("8.2.1", "a control character in a name", "x\ty", "z"),
        with("8.2.1", "a byte above 127 in a name", "x\u{e9}", "z"),
        with("8.2.1", "a colon in a name", "x:y", "z"),
        with("8.2.1", "an empty name", "", "z"),
        with("8.2.1", "NUL in a value", "x", b"a\0b"),
        with("8.2.1", "CR in a value", "x", b"a\rb"),
        with("8.2.1", "LF in a value", "x", b"a\nb"),
        with("8.2.1", "CR LF and a field in a value", "x", b"a\r\ny: z"),
        with("8.2.1", "a space before a value", "x", b" a"),
        with("8.2.1", "a tab behind a value", "x", b"a\t"),
        with("8.2.2", "connection", "connection", "keep-alive"),
        with("8.2.2", "keep-alive", "keep-alive", "timeout=5"),
        with("8.2.2", "proxy-connection", "proxy-connection", "keep-alive"),
        with("8.2.2", "transfer-encoding", "transfer-encoding", "chunked"),
        with("8.2.2", "upgrade", "upgrade", "websocket"),
        with("8.2.2", "te other than trailers", "te", "trailers, deflate"),
        with("8.2.2", "te: gzip", "te", "gzip"),
    ]);
}

#[test]
fn pseudo_fields_are_checked() {
    let (method, scheme, path, host) = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"));
    run(vec![
        with("8.3", "an unknown pseudo-field", ":test", "y"),
        with("8.3", "a pseudo-field of responses", ":status", "200"),
        with("8.3", "a pseudo-field behind a field", ":path", "/"),
        of("8.3", "an unknown pseudo-field among the others", &[method, (":test", "y"), scheme, path, host]),
        of("8.3", "a pseudo-field of responses among the others", &[method, (":status", "200"), scheme, path, host]),
        of("8.3", "a pseudo-field behind a field that is valid", &[method, scheme, host, ("x", "y"), path]),
        of("8.3.1", "no :method", &[scheme, path, host]),
        of("8.3.1", "no :scheme", &[method, path, host]),
        of("8.3.1", "no :path", &[method, scheme, host]),
        of("8.3.1", "no authority", &[method, scheme, path]),
        of("8.3.1", "an empty :path", &[method, scheme, (":path", ""), host]),
        of("8.3.1", "an empty :method", &[(":method", ""), scheme, path, host]),
        of("8.3.1", "an empty :scheme", &[method, (":scheme", ""), path, host]),
        of("8.3.1", "a :path without /", &[method, scheme, (":path", "a"), host]),
        of("8.3.1", "a :path with a space", &[method, scheme, (":path", "/a b"), host]),
        of("8.3.1", "a :path with a fragment", &[method, scheme, (":path", "/a#b"), host]),
        of("8.3.1", "* with a method other than OPTIONS", &[method, scheme, (":path", "*"), host]),
        of("8.3.1", "a :method with a space", &[(":method", "GET /"), scheme, path, host]),
        of("8.3.1", ":authority with a user", &[method, scheme, path, (":authority", "user@a")]),
        of("8.3.1", ":authority with a space", &[method, scheme, path, (":authority", "a b")]),
        of("8.3.1", ":authority with a path", &[method, scheme, path, (":authority", "a/b")]),
        of("8.3.1", "two :method", &[method, method, scheme, path, host]),
        of("8.3.1", "two :scheme", &[method, scheme, scheme, path, host]),
        of("8.3.1", "two :path", &[method, scheme, path, path, host]),
        of("8.3.1", "two :authority", &[method, scheme, path, host, host]),
        of("8.3.1", "Host other than :authority", &[method, scheme, path, host, ("host", "b")]),
        of("8.3.1", "two Host", &[method, scheme, path, ("host", "a"), ("host", "a")]),
        of("8.5", "CONNECT with :scheme", &[(":method", "CONNECT"), scheme, (":authority", "a:1")]),
        of("8.5", "CONNECT with :path", &[(":method", "CONNECT"), path, (":authority", "a:1")]),
        of("8.5", "CONNECT without :authority", &[(":method", "CONNECT")]),
        of("8441-4", ":protocol without CONNECT", &[method, (":protocol", "websocket"), scheme, path, host]),
        of("8441-4", "extended CONNECT without :scheme", &[(":method", "CONNECT"), (":protocol", "x"), path, host]),
        of("8441-4", "extended CONNECT without :path", &[(":method", "CONNECT"), (":protocol", "x"), scheme, host]),
        of(
            "8441-4",
            "two :protocol",
            &[(":method", "CONNECT"), (":protocol", "x"), (":protocol", "x"), scheme, path, host],
        ),
    ]);
}

#[test]
fn bodies_and_trailers_are_checked() {
    let open = |more| post(1, "/wait", more);
    let malformed = |section, what, sent: Vec<u8>| case(section, what, sent, Want::Malformed(1));
    let length = |value: &'static str| [("content-length", value)];
    run(vec![
        malformed(
            "8.1",
            "HEADERS again, without END_STREAM",
            [open(&[]), frame(HEADERS, END_HEADERS, 1, fields(&[("x", "y")]))].concat(),
        ),
        malformed(
            "8.1",
            "a pseudo-field in trailers",
            [open(&[]), frame(DATA, 0, 1, b"x"), frame(HEADERS, WHOLE, 1, fields(&[(":method", "GET")]))].concat(),
        ),
        malformed(
            "8.1",
            "an unknown pseudo-field in trailers",
            [open(&[]), frame(HEADERS, WHOLE, 1, fields(&[(":x", "GET")]))].concat(),
        ),
        malformed(
            "8.1",
            "a request in place of trailers",
            [open(&[]), frame(HEADERS, WHOLE, 1, head("GET", "/", &[]))].concat(),
        ),
        malformed(
            "8.2.1",
            "an uppercase name in trailers",
            [open(&[]), frame(HEADERS, WHOLE, 1, fields(&[("X-Y", "z")]))].concat(),
        ),
        malformed(
            "8.2.2",
            "connection in trailers",
            [open(&[]), frame(HEADERS, WHOLE, 1, fields(&[("connection", "z")]))].concat(),
        ),
        malformed(
            "8.1.1",
            "Content-Length above the DATA",
            [open(&length("9")), frame(DATA, END_STREAM, 1, b"test")].concat(),
        ),
        malformed(
            "8.1.1",
            "Content-Length below the DATA",
            [open(&length("1")), frame(DATA, END_STREAM, 1, b"test")].concat(),
        ),
        malformed(
            "8.1.1",
            "Content-Length below the first of two DATA",
            [open(&length("1")), frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"x")].concat(),
        ),
        malformed(
            "8.1.1",
            "Content-Length above two DATA",
            [open(&length("9")), frame(DATA, 0, 1, b"te"), frame(DATA, END_STREAM, 1, b"st")].concat(),
        ),
        malformed(
            "8.1.1",
            "Content-Length above DATA, and trailers",
            [open(&length("9")), frame(DATA, 0, 1, b"te"), frame(HEADERS, WHOLE, 1, fields(&[("x", "y")]))].concat(),
        ),
        malformed(
            "8.1.1",
            "Content-Length without DATA",
            frame(HEADERS, WHOLE, 1, head("POST", "/wait", &length("5"))),
        ),
        malformed("8.1.1", "an invalid Content-Length", open(&length("+5"))),
        malformed("8.1.1", "a Content-Length without digits", open(&length(""))),
        malformed("8.1.1", "a Content-Length beyond 64 bits", open(&length("99999999999999999999"))),
        malformed("8.1.1", "two Content-Length", open(&[("content-length", "5"), ("content-length", "6")])),
        malformed("8.1.1", "a list of Content-Length", open(&length("5, 6"))),
        case(
            "8.4",
            "PUSH_PROMISE",
            [open(&[]), frame(5, END_HEADERS, 1, [&[0, 0, 0, 2][..], &head("GET", "/", &[])].concat())].concat(),
            Want::Goaway(&[PROTOCOL_ERROR]),
        ),
    ]);
}

/// Without a response, or with a GOAWAY that does not name its stream, a client would send it again.
#[test]
fn a_head_of_any_size_gets_its_response() {
    let server = Counting::start(Limits::default());
    for size in [20_000, 64_000, 66_000, 70_000, 1_000_000] {
        let block = [head("GET", "/", &[]), literal("x", vec![b'a'; size])].concat();
        let mut parts = block.chunks(16 * 1024);
        let mut sent = [get(1, "/"), frame(HEADERS, END_STREAM, 3, parts.next().expect("a part"))].concat();
        for part in parts {
            sent.extend(frame(CONTINUATION, 0, 3, part));
        }
        sent.extend(frame(CONTINUATION, END_HEADERS, 3, []));
        let mut peer = Peer::connect(server.addr);
        peer.send(sent);
        peer.until(|frame| frame.kind == HEADERS && frame.stream == 1);
        let response = peer.until(|frame| frame.kind == HEADERS && frame.stream == 3);
        // 431, beside what the first response has put into the table.
        assert!(response.payload.len() > 3 && !response.ends(), "{size}: {response:?}");
        let text = peer.until(|frame| frame.kind == DATA && frame.stream == 3);
        assert_eq!((text.payload.as_slice(), text.ends()), (&b"the request head is too large\n"[..], true), "{size}");
        if size > 64 * 1024 {
            let goaway = peer.until(|frame| frame.kind == GOAWAY);
            assert_eq!((goaway.code(), &goaway.payload[..4]), (ENHANCE_YOUR_CALM, &[0, 0, 0, 3][..]), "{size}");
            assert!(peer.ends(), "{size}");
        } else {
            peer.ping();
        }
    }
    server.counters.free();
}
