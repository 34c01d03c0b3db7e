//! A request's head at the origin server, and connections that switch to another protocol.

use std::net::IpAddr;

use uncork::{
    PeerAddr,
    relay::Via,
    relay::tunnel::{ProxyConfig, Trusted},
};

use super::{
    client::Client,
    proxy::HOST,
    raw::{CANCEL, DATA, RST_STREAM, RawOrigin, SETTINGS},
    world::{World, config},
};

/// Sends a request, responds to it, and returns the head that the origin server received.
fn seen(origin: &mut RawOrigin, client: &mut Client, request: &str) -> http::Request<()> {
    client.send(request);
    let stream = origin.request();
    origin.head(stream, 200, &[], true);
    client.answer().assert(200);
    origin.heads().pop().expect("a head")
}

fn fields(head: &http::Request<()>) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    head.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn all<'a>(head: &'a http::Request<()>, name: &str) -> Vec<&'a str> {
    head.headers().get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
}

#[test]
fn a_head_arrives_as_it_was_meant() {
    let via = Some(Via::named("us").expect("a name"));
    let world = World::with(ProxyConfig { via, ..config() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    let head = seen(
        &mut origin,
        &mut client,
        "GET /a%2Fb/../c?d=%20e&f HTTP/1.1\r\nHost: App.Example:8080\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip, trailers\r\nAccept: */*\r\nCookie: a=1\r\nCookie: b=2\r\n\
         If-None-Match: \"x\"\r\nRange: bytes=0-5\r\n\r\n",
    );
    assert_eq!(head.uri().to_string(), "http://App.Example:8080/a%2Fb/../c?d=%20e&f");
    let want = [
        ("accept", "*/*"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("if-none-match", "\"x\""),
        ("range", "bytes=0-5"),
        ("te", "trailers"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "App.Example:8080"),
        ("forwarded", "for=127.0.0.1;host=\"App.Example:8080\";proto=http"),
        ("via", "1.1 us"),
    ];
    let want: Vec<(String, String)> = want.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    assert_eq!(fields(&head), want);
    // Over TLS; a target in absolute form; without a path.
    let mut client = world.secure_client();
    let head = seen(&mut origin, &mut client, "OPTIONS * HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!((head.method().as_str(), head.uri().path()), ("OPTIONS", "*"));
    assert_eq!((head.uri().scheme_str(), all(&head, "x-forwarded-proto")), (Some("https"), vec!["https"]));
    for (target, want) in
        [("http://app.example/x/y?z", "/x/y?z"), ("http://app.example", "/"), ("http://app.example?q", "/?q")]
    {
        let head = seen(&mut origin, &mut client, &format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n"));
        assert_eq!(head.uri().path_and_query().map(http::uri::PathAndQuery::as_str), Some(want), "{target}");
    }
}

const LIES: &str = "GET / HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-For: 203.0.113.1\r\nx-forwarded-FOR: 203.0.113.2\r\n\
    X_Forwarded_For: 203.0.113.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nX-Real-IP: 203.0.113.4\r\n\
    X-Forwarded-Port: 1\r\nForwarded: for=203.0.113.5\r\nx_forwarded-FOR: 203.0.113.6\r\nX-Forwarded_For: 203.0.113.7\r\n\
    x_real_ip: 203.0.113.8\r\nX_Forwarded_Host: evil.example\r\nSec_WebSocket_Key: evil\r\nTransfer_Encoding: evil\r\n\
    Content_Length: 203.0.113\r\nConnection: x-forwarded-for, forwarded\r\n\r\n";

#[test]
fn nobody_says_of_himself_who_he_is() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let head = seen(&mut origin, &mut world.client(), LIES);
    assert!(fields(&head).iter().all(|(_, value)| !value.contains("203.0.113") && !value.contains("evil")), "{head:?}");
    assert_eq!(all(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!((all(&head, "forwarded").len(), head.headers().len()), (1, 5));
}

#[test]
fn a_trusted_proxy_is_believed_and_its_list_goes_on() {
    let trusted = Trusted::peers(|peer: &PeerAddr| peer.ip() == Some(IpAddr::from([127, 0, 0, 1])));
    let world = World::with(ProxyConfig { trusted, ..config() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let head = seen(&mut origin, &mut world.client(), LIES);
    assert_eq!(all(&head, "x-forwarded-for"), ["203.0.113.1, 203.0.113.2, 127.0.0.1"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["evil.example"]);
    assert_eq!(all(&head, "forwarded"), ["for=203.0.113.5, for=127.0.0.1;host=\"app.example\";proto=http"]);
}

#[test]
fn what_http_2_cannot_say_is_refused() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    client.send("CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n\r\n");
    client.answer().assert(501);
    let head = seen(&mut origin, &mut world.client(), "PROPFIND /x HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(head.method().as_str(), "PROPFIND");
}

const WEBSOCKET: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n\
    Origin: https://app.example\r\n\r\n";

#[test]
fn a_websocket_goes_through() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    for mut client in [world.client(), world.secure_client()] {
        client.send(WEBSOCKET);
        // Sent before the response is there: it must not be lost.
        client.send("early ");
        let stream = origin.request();
        let head = origin.heads().pop().expect("a head");
        assert_eq!(head.method(), "CONNECT");
        assert_eq!(head.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str), Some("websocket"));
        assert_eq!(head.uri().path_and_query().map(http::uri::PathAndQuery::as_str), Some("/chat?room=1"));
        assert_eq!(
            (all(&head, "sec-websocket-version"), all(&head, "sec-websocket-protocol")),
            (vec!["13"], vec!["a, b"])
        );
        assert_eq!(all(&head, "origin"), ["https://app.example"]);
        for gone in ["sec-websocket-key", "upgrade", "connection"] {
            assert!(!head.headers().contains_key(gone), "{gone}");
        }
        origin.head(stream, 200, &[("sec-websocket-protocol", "b")], false).data(stream, "hello", false);
        let answer = client.head();
        assert_eq!((answer.status, answer.get("upgrade")), (101, Some("websocket")));
        assert_eq!(answer.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.get("sec-websocket-protocol"), Some("b"));
        assert_eq!(client.exactly(5).expect("said"), b"hello");
        client.send("and more");
        let mut got = Vec::new();
        while got.len() < 14 {
            got.extend(origin.expect(|frame| frame.kind == DATA).payload);
        }
        assert_eq!(got, b"early and more");
        // Half-closes are passed on, one after the other.
        client.finish();
        assert!(origin.expect(|frame| frame.kind == DATA).ends());
        origin.data(stream, "bye", true);
        assert_eq!(client.read_to_end().expect("all"), b"bye");
    }
    // A client that has left, and an origin server that resets.
    let mut client = world.client();
    client.send(WEBSOCKET);
    let stream = origin.request();
    origin.head(stream, 200, &[], false).data(stream, "unread", false);
    client.head();
    client.leave();
    loop {
        let frame = origin.expect(|frame| matches!(frame.kind, RST_STREAM | DATA));
        match frame.kind {
            // A FIN is a half-close; only sending shows that the client does not read.
            DATA => drop(origin.data(stream, "more", false)),
            _ => break assert_eq!((frame.stream, frame.code()), (stream, CANCEL)),
        }
    }
    let mut client = world.client();
    client.send(WEBSOCKET);
    let stream = origin.request();
    origin.head(stream, 200, &[], false);
    client.head().assert(101);
    origin.reset(stream, 2);
    let error = client.read_to_end().expect_err("a reset, not an end in order");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_websocket_that_is_none_is_not_passed_on() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    for (from, to, status) in [
        ("Version: 13", "Version: 8", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
        ("GET /chat", "POST /chat", 400),
    ] {
        let mut client = world.client();
        client.send(WEBSOCKET.replace(from, to));
        client.answer().assert(status);
    }
    // An upgrade that the origin server does not accept: an ordinary response, and HTTP continues.
    let mut client = world.client();
    client.send(WEBSOCKET);
    let stream = origin.request();
    origin.head(stream, 403, &[("content-length", "2")], false).data(stream, "no", true);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (403, "no"));
    let head = seen(&mut origin, &mut client, "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(head.method(), "GET");
}

#[test]
fn an_upgrade_needs_an_origin_that_takes_one() {
    let world = World::new();
    let mut origin = RawOrigin::silent(&world, "app", HOST);
    // Without ENABLE_CONNECT_PROTOCOL.
    origin.frame(SETTINGS, 0, 0, []);
    origin.expect(|frame| frame.kind == SETTINGS && frame.flags != 0);
    let mut client = world.client();
    client.send(WEBSOCKET);
    client.answer().assert(501);
    let head = seen(&mut origin, &mut client, "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(head.method(), "GET");
}

#[test]
fn other_protocols_go_the_same_way_and_those_of_http_do_not() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let ask =
        |name: &str| format!("GET / HTTP/1.1\r\nHost: app.example\r\nConnection: upgrade\r\nUpgrade: {name}\r\n\r\n");
    let mut client = world.client();
    client.send(ask("echo/1"));
    let stream = origin.request();
    let head = origin.heads().pop().expect("a head");
    assert_eq!(head.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str), Some("echo/1"));
    origin.head(stream, 200, &[], false);
    let answer = client.head();
    assert_eq!((answer.status, answer.get("upgrade")), (101, Some("echo/1")));
    for name in ["h2c", "HTTP/2.0"] {
        let mut client = world.client();
        let head = seen(&mut origin, &mut client, &ask(name));
        assert_eq!(head.method(), "GET", "{name}: an offer that is not taken");
    }
}
