//! Requests that are not the gateway's own, with an application behind it that the test plays byte by byte.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use uncork::relay::GatewayConfig;

use crate::{
    app::agrees,
    frames::HANDSHAKE,
    gateway::{MOMENT, TestGateway, is, now, start_with},
    wire::{Finish, TIMEOUT, Wire},
    world::World,
};

worlds! {
    a_request_and_its_response, what_ends_at_this_hop, bodies_in_both_directions, trailers, an_informational_response,
    the_body_is_asked_for_when_the_application_asks, the_application_rejects_unread, truncated_responses,
    truncated_requests, a_client_that_leaves, errors_of_the_application, loops, too_much, another_protocol,
    a_protocol_that_is_declined, requests_that_could_be_smuggled, neither_side_is_read_ahead, the_gateways_own_paths;
    slow: an_application_that_knows_no_expectation, an_application_that_is_silent,
}

/// The application, as a socket.
struct Application(TcpListener);

impl Application {
    fn start(world: &World, change: impl FnOnce(&mut GatewayConfig)) -> (TestGateway, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let configure = |config: &mut GatewayConfig, _: &crate::app::App| {
            config.upstream.url = url;
            change(config);
        };
        (start_with(world, configure, agrees), Self(listener))
    }

    /// Accepts a connection, and reads the head of its first request.
    #[track_caller]
    fn request(&self) -> Served {
        let (stream, _) = self.0.accept().expect("a connection");
        stream.set_read_timeout(Some(TIMEOUT)).expect("set");
        stream.set_write_timeout(Some(TIMEOUT)).expect("set");
        let mut served = Served { stream, head: String::new() };
        served.next_head();
        served
    }

    /// Asserts that nothing has connected.
    #[track_caller]
    fn is_idle(&self) {
        self.0.set_nonblocking(true).expect("set");
        assert_eq!(self.0.accept().map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        self.0.set_nonblocking(false).expect("set");
    }
}

/// A connection of the gateway, and the head of its request.
struct Served {
    stream: TcpStream,
    head: String,
}

impl Served {
    #[track_caller]
    fn next_head(&mut self) -> &str {
        self.head.clear();
        while !self.head.ends_with("\r\n\r\n") {
            let byte = self.exactly(1)[0];
            self.head.push(char::from(byte));
        }
        &self.head
    }

    #[track_caller]
    fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).expect("so many bytes");
        bytes
    }

    #[track_caller]
    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("sent");
        self
    }

    #[track_caller]
    fn receives(&mut self, bytes: &str) {
        assert_eq!(String::from_utf8_lossy(&self.exactly(bytes.len())), bytes);
    }

    /// Reads to the end; `true` if it is a normal one.
    fn ends(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let result = self.stream.read_to_end(&mut bytes);
        (bytes, result.is_ok())
    }

    /// Returns the values of a field, joined by bars.
    fn get(&self, name: &str) -> Option<String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let values: Vec<&str> =
            fields.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
        (!values.is_empty()).then(|| values.join("|"))
    }
}

const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn a_request_and_its_response(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    let fields = ["Cookie: a=b", "Accept: text/html", "Accept: */*", "X-Own: 1"];
    client.request("DELETE /some/%20page?a=b%26c", &fields);
    let mut served = application.request();
    assert!(served.head.starts_with("DELETE /some/%20page?a=b%26c HTTP/1.1\r\n"), "{}", served.head);
    let scheme = if world.tls { "https" } else { "http" };
    assert_eq!(served.get("host").as_deref(), Some("localhost"));
    assert_eq!(served.get("accept").as_deref(), Some("text/html|*/*"));
    assert_eq!((served.get("cookie").as_deref(), served.get("x-own").as_deref()), (Some("a=b"), Some("1")));
    assert_eq!(served.get("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(served.get("x-forwarded-host").as_deref(), Some("localhost"));
    assert_eq!(served.get("x-forwarded-proto").as_deref(), Some(scheme));
    let forwarded = format!("for=127.0.0.1;host=\"localhost\";proto={scheme}");
    assert_eq!(served.get("forwarded"), Some(forwarded));
    let via = served.get("via").expect("an intermediary");
    assert!(via.starts_with("1.1 uncork-"), "{via}");
    served.send("HTTP/1.1 203 Other\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nVia: 1.0 inner\r\n");
    served.send("Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nETag: \"x\"\r\n\r\nhello");
    let response = client.response();
    is(&response, 203, "hello");
    let of = |name: &str| -> Vec<&str> {
        let fields = response.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!((of("set-cookie"), of("etag")), (vec!["a=1", "b=2"], vec!["\"x\""]));
    assert_eq!(of("via"), [format!("1.0 inner, {via}")]);
    assert!(of("x-hop").is_empty() && of("keep-alive").is_empty());
    // The same connections, in absolute form, and a response without a body.
    client.send("GET http://other.example?q HTTP/1.1\r\nHost: ignored\r\n\r\n");
    assert!(served.next_head().starts_with("GET /?q HTTP/1.1\r\n"));
    assert_eq!(served.get("host").as_deref(), Some("other.example"));
    served.send(EMPTY);
    client.response().is(204);
    client.request("HEAD /x", &[]);
    served.next_head();
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    assert_eq!(client.head().is(200).get("content-length"), Some("1234"));
    assert!(client.is_silent(MOMENT));
}

fn what_ends_at_this_hop(world: &World) {
    let change = |config: &mut GatewayConfig| config.proxy_set_header = vec![("X-Secret".into(), "s".into())];
    let (gateway, application) = Application::start(world, change);
    let mut client = gateway.host.connect();
    let dropped = [
        "X-Forwarded-For: 192.0.2.1",
        "X_Forwarded_For: 192.0.2.2",
        "X-Forwarded-Anything: 1",
        "Forwarded: for=192.0.2.3",
        "X-Real-IP: 192.0.2.4",
        "Connection: keep-alive, X-Listed",
        "X-Listed: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Content_Length: 100",
        "Transfer_Encoding: chunked",
        // What the gateway says to the application.
        "X-Kuiperbelt-Session: ann",
        "X_Kuiperbelt_Session: ann",
        "X-Kuiperbelt-Endpoint: evil.example",
        "x-kuiperbelt_endpoint: evil.example",
        "X-Secret: guessed",
        "X_Secret: guessed",
    ];
    client.request("GET /establish", &dropped);
    let mut served = application.request();
    for field in dropped {
        let (name, value) = field.split_once(": ").expect("a field");
        let got = served.get(name);
        assert!(
            got.as_deref() != Some(value) && got.is_none_or(|got| !got.contains("192.0.2")),
            "{field}: {}",
            served.head
        );
    }
    assert!(!served.head.contains('_'), "{}", served.head);
    served.send(EMPTY);
    client.response().is(204);
}

fn bodies_in_both_directions(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    for chunked in [false, true] {
        let (sent, mut client) = (body.clone(), gateway.host.connect());
        let sender = std::thread::spawn(move || {
            if chunked {
                client.request("PUT /x", &["Transfer-Encoding: chunked"]);
                for chunk in sent.chunks(100_000) {
                    client.chunk(chunk);
                }
                client.chunk(b"");
            } else {
                client.post("/x", &[], &sent);
            }
            client.response()
        });
        let mut served = application.request();
        let mut received = Vec::new();
        if chunked {
            loop {
                let mut line = String::new();
                while !line.ends_with("\r\n") {
                    line.push(char::from(served.exactly(1)[0]));
                }
                let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
                received.extend(served.exactly(size));
                served.receives("\r\n");
                if size == 0 {
                    break;
                }
            }
            served.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(70_000) {
                served.send(format!("{:x}\r\n", chunk.len())).send(chunk).send("\r\n");
            }
            served.send("0\r\n\r\n");
        } else {
            assert_eq!(served.get("content-length").as_deref(), Some("3000000"));
            received = served.exactly(body.len());
            served.send("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n").send(&body);
        }
        assert!(received == body);
        let response = sender.join().expect("a response");
        assert!(response.is(200).body == body && response.is_chunked() == chunked);
    }
    // Up to the end of the connection.
    let mut client = gateway.host.connect();
    client.request("GET /x", &[]);
    application.request().send("HTTP/1.0 200 OK\r\n\r\nall of it");
    is(&client.response(), 200, "all of it");
}

fn trailers(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("POST /x", &["Transfer-Encoding: chunked", "Connection: X-Hop", "Trailer: X-Sum"]).chunk(b"hello");
    client.send("0\r\nX-Sum: 5\r\nX-Hop: 1\r\nX-Forwarded-For: 192.0.2.1\r\nX-Kuiperbelt-Session: ann\r\n\r\n");
    let mut served = application.request();
    served.receives("5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n");
    served.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n");
    client.head().is(200);
    client.expect("2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n");
}

fn an_informational_response(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("GET /x", &[]);
    let mut served = application.request();
    served.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n");
    assert_eq!(client.head().is(103).get("link"), Some("</style.css>"));
    served.send(EMPTY);
    client.response().is(204);
}

fn the_body_is_asked_for_when_the_application_asks(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Content-Length: 5", "Expect: 100-continue"]);
    let mut served = application.request();
    assert_eq!(served.get("expect").as_deref(), Some("100-continue"));
    assert!(client.is_silent(MOMENT));
    served.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.head().is(100);
    client.send("hello");
    served.receives("hello");
    served.send(EMPTY);
    client.response().is(204);
}

fn the_application_rejects_unread(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Content-Length: 5", "Expect: 100-continue"]);
    let mut served = application.request();
    served.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    is(&client.response(), 401, "no");
    // Without the expectation, a part may have been sent.
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Content-Length: 500"]).send("hello");
    let mut served = application.request();
    served.receives("hello");
    served.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    is(&client.response(), 413, "no");
}

fn an_application_that_knows_no_expectation(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Content-Length: 5", "Expect: 100-continue"]);
    let mut served = application.request();
    client.head().is(100);
    client.send("hello");
    served.receives("hello");
    served.send(EMPTY);
    client.response().is(204);
    // One that rejects the expectation itself gets the request without it.
    client.request("PUT /x", &["Content-Length: 5", "Expect: 100-continue"]);
    served.next_head();
    served.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
    let mut served = application.request();
    assert_eq!(served.get("expect"), None);
    client.head().is(100);
    client.send("hello");
    served.receives("hello");
    served.send(EMPTY);
    client.response().is(204);
}

/// A response that was cut never looks whole.
fn truncated_responses(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut client = gateway.host.connect();
        client.request("GET /x", &[]);
        let mut served = application.request();
        let body = if head.starts_with('T') { "5\r\nhello\r\n" } else { "hello" };
        served.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
        client.head().is(200);
        client.expect(body);
        served.stream.shutdown(Shutdown::Both).expect("closed");
        // Neither the last chunk nor the rest of the length.
        assert_eq!(client.until_end().0.escape_ascii().to_string(), "", "{head}");
    }
}

/// The application never sees the whole of a request that was cut.
fn truncated_requests(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    for fields in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut client = gateway.host.connect();
        client.request("PUT /x", &[fields]);
        let body = if fields.starts_with('T') { "5\r\nhello\r\n" } else { "hello" };
        client.send(body);
        let mut served = application.request();
        served.receives(body);
        drop(client);
        assert_eq!(served.ends().0, b"", "{fields}");
    }
}

fn a_client_that_leaves(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("GET /x", &[]);
    let mut served = application.request();
    drop(client);
    assert_eq!(served.ends().0, b"");
    // In the response.
    let mut client = gateway.host.connect();
    client.request("GET /x", &[]);
    let mut served = application.request();
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello");
    client.head().is(200);
    client.reset();
    let block = vec![7; 65_536];
    let start = now();
    while served.stream.write_all(&block).is_ok() {
        assert!(start.elapsed() < TIMEOUT);
    }
}

fn errors_of_the_application(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let get = |reaction: &str| {
        let mut client = gateway.host.connect();
        client.request("GET /x", &[]);
        let mut served = application.request();
        served.send(reaction);
        drop(served);
        client.response()
    };
    is(&get("HTTP/1.1 2"), 502, "the application disconnected before its response\n");
    is(&get("nonsense\r\n\r\n"), 502, "malformed response of the application\n");
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    is(&get(both), 502, "malformed response of the application\n");
    is(
        &get("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"),
        502,
        "malformed response of the application\n",
    );
    drop(application);
    let response = gateway.get("/x");
    is(&response, 502, "the application cannot be reached\n");
    assert_eq!(response.get("retry-after"), Some("1"));
    // With a body that has no receiver.
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Content-Length: 5", "Expect: 100-continue"]);
    client.response().is(502);
}

fn an_application_that_is_silent(world: &World) {
    let change = |config: &mut GatewayConfig| config.upstream.timeout = Duration::from_millis(700);
    let (gateway, application) = Application::start(world, change);
    let mut client = gateway.host.connect();
    client.request("GET /x", &[]);
    let mut served = application.request();
    is(&client.response(), 504, "the application does not respond\n");
    assert_eq!(served.ends().0, b"", "the call has ended");
    // In the body.
    client.request("GET /x", &[]);
    let mut served = application.request();
    served.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.head().is(200);
    client.expect("5\r\nhello\r\n");
    assert_eq!(client.until_end().0, b"");
}

fn loops(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("GET /x", &["Via: 1.1 outer"]);
    let mut served = application.request();
    let via = served.get("via").expect("a chain");
    assert!(via.starts_with("1.1 outer, 1.1 uncork-"), "{via}");
    served.send(EMPTY);
    client.response().is(204);
    client.request("GET /x", &[&format!("Via: {via}")]);
    client.response().is(508);
    client.request("OPTIONS /x", &["Max-Forwards: 0"]);
    client.response().is(204);
    client.request("TRACE /x", &["Max-Forwards: 0"]);
    client.response().is(405);
    client.request("OPTIONS /x", &["Max-Forwards: 3"]);
    served.next_head();
    assert_eq!(served.get("max-forwards").as_deref(), Some("2"));
    served.send(EMPTY);
    client.response().is(204);
    client.request("OPTIONS *", &[]);
    client.response().is(501);
}

fn too_much(world: &World) {
    let change = |config: &mut GatewayConfig| {
        (config.limits.upstream_body, config.limits.upstream_requests) = (10, 4);
    };
    let (gateway, application) = Application::start(world, change);
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Content-Length: 11"]);
    is(&client.response(), 413, "the body is too large\n");
    application.is_idle();
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Transfer-Encoding: chunked"]).chunk(b"hello");
    let mut served = application.request();
    client.chunk(b"too much");
    is(&client.response(), 413, "the body is too large\n");
    let (received, _) = served.ends();
    assert!(!received.ends_with(b"0\r\n\r\n"), "{}", received.escape_ascii());
    // One address has a share of the requests.
    let mut first = gateway.host.connect();
    first.request("GET /x", &[]);
    let mut served = application.request();
    let response = gateway.get("/x");
    is(&response, 429, "too many requests\n");
    assert_eq!(response.get("retry-after"), Some("1"));
    served.send(EMPTY);
    first.response().is(204);
}

const OFFER: [&str; 2] = ["Connection: Upgrade", "Upgrade: echo"];

fn another_protocol(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("GET /x", &OFFER);
    let mut served = application.request();
    assert_eq!(served.get("upgrade").as_deref(), Some("echo"));
    served.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-A: b\r\n\r\nwelcome");
    let head = client.head();
    assert_eq!((head.is(101).get("upgrade"), head.get("x-a")), (Some("echo"), Some("b")));
    client.expect("welcome").send("question");
    served.receives("question");
    served.send("answer");
    client.expect("answer").finish();
    assert_eq!(served.ends(), (vec![], true), "a half-close is one");
    served.send("still");
    client.expect("still");
    served.stream.shutdown(Shutdown::Write).expect("closed");
    client.ends(Finish::Clean);
    // A WebSocket of the application's own, at another path than the gateway's.
    let mut client = gateway.host.connect();
    client.request("GET /own", &HANDSHAKE);
    let mut served = application.request();
    let key = HANDSHAKE[2].split_once(": ").map(|(_, key)| key);
    assert_eq!(
        (served.get("upgrade").as_deref(), served.get("sec-websocket-key").as_deref()),
        (Some("websocket"), key)
    );
    assert_eq!(served.get("sec-websocket-version").as_deref(), Some("13"));
    served.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    served.send("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x01\x02");
    assert_eq!(client.head().is(101).get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.expect("\x01\x02");
    drop(client);
    assert_eq!(served.ends().0, b"");
    // Versions of HTTP concern one hop.
    let mut client = gateway.host.connect();
    client.request("GET /x", &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]);
    let mut served = application.request();
    assert_eq!((served.get("upgrade"), served.get("http2-settings")), (None, None));
    served.send(EMPTY);
    client.response().is(204);
}

fn a_protocol_that_is_declined(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("GET /x", &OFFER);
    application.request().send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno");
    is(&client.response(), 426, "no");
    // A 101 that was not asked for is malformed.
    let mut client = gateway.host.connect();
    client.request("GET /x", &[]);
    application.request().send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    client.response().is(502);
}

/// What two servers could read in two ways reaches no application.
fn requests_that_could_be_smuggled(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    for head in [
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nX: b\nEvil: 1\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
        "GET http://a/\tx HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = gateway.host.connect();
        client.send(head);
        let status = client.response().status;
        assert!((400..=501).contains(&status), "{head:?}: {status}");
    }
    application.is_idle();
    // A body that looks like a request stays a body.
    let mut client = gateway.host.connect();
    let smuggled = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    client.post("/x", &["Content_Length: 0", "Transfer_Encoding: chunked"], smuggled.as_bytes());
    let mut served = application.request();
    assert_eq!(served.get("content-length"), Some(smuggled.len().to_string()));
    served.receives(smuggled);
    served.send(EMPTY);
    client.response().is(204);
    // So does a response behind a response.
    client.request("GET /y", &[]);
    served.next_head();
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    is(&client.response(), 200, "ok");
    client.request("GET /z", &[]);
    application.request().send(EMPTY);
    client.response().is(204);
}

/// Bytes that are held between two sockets, at most: the pipes, the engine's buffers and the system's.
const HELD: usize = 24 << 20;

fn neither_side_is_read_ahead(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut client = gateway.host.connect();
    client.request("GET /x", &[]);
    let mut served = application.request();
    served.stream.set_write_timeout(Some(Duration::from_millis(400))).expect("set");
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    let block = vec![7; 65_536];
    let mut sent = 0;
    while let Ok(n) = served.stream.write(&block) {
        sent += n;
        assert!(sent < HELD, "the client does not read");
    }
    drop(client);
    let mut client = gateway.host.connect();
    client.request("PUT /x", &["Content-Length: 1000000000"]);
    let _served = application.request();
    let mut sent = 0;
    loop {
        match client.push(&block, Duration::from_millis(400)) {
            n if n == block.len() => sent += n,
            _ => break,
        }
        assert!(sent < HELD, "the application does not read");
    }
}

fn the_gateways_own_paths(world: &World) {
    let (gateway, application) = Application::start(world, |_| {});
    let mut ann = gateway.client("ann");
    is(&gateway.send(&["ann"], "hello"), 200, r#"{"result":"OK"}"#);
    ann.receives("hello");
    gateway.get("/stats").is(200);
    gateway.get("/ping").is(200);
    gateway.get("/presence").is(200);
    gateway.get("/connect").is(400);
    application.is_idle();
    let mut client: Wire = gateway.host.connect();
    client.request("GET /connect/", &[]);
    application.request().send(EMPTY);
    client.response().is(204);
}
