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
fn forwarded_head(origin: &mut RawOrigin, client: &mut Client, request: &str) -> http::Request<()> {
    client.send(request);
    let stream = origin.request();
    origin.head(stream, 200, &[], true);
    client.response().assert(200);
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
fn a_head_is_forwarded_with_its_end_to_end_fields() {
    let via = Some(Via::named("us").expect("a name"));
    let world = World::with(ProxyConfig { via, ..config() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    let head = forwarded_head(
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
    let head = forwarded_head(&mut origin, &mut client, "OPTIONS * HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!((head.method().as_str(), head.uri().path()), ("OPTIONS", "*"));
    assert_eq!((head.uri().scheme_str(), all(&head, "x-forwarded-proto")), (Some("https"), vec!["https"]));
    for (target, want) in
        [("http://app.example/x/y?z", "/x/y?z"), ("http://app.example", "/"), ("http://app.example?q", "/?q")]
    {
        let head =
            forwarded_head(&mut origin, &mut client, &format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n"));
        assert_eq!(head.uri().path_and_query().map(http::uri::PathAndQuery::as_str), Some(want), "{target}");
    }
}

const SPOOFED: &str = "GET / HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-For: 203.0.113.1\r\nx-forwarded-FOR: 203.0.113.2\r\n\
    X_Forwarded_For: 203.0.113.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nX-Real-IP: 203.0.113.4\r\n\
    X-Forwarded-Port: 1\r\nForwarded: for=203.0.113.5\r\nx_forwarded-FOR: 203.0.113.6\r\nX-Forwarded_For: 203.0.113.7\r\n\
    x_real_ip: 203.0.113.8\r\nX_Forwarded_Host: evil.example\r\nSec_WebSocket_Key: evil\r\nTransfer_Encoding: evil\r\n\
    Content_Length: 203.0.113\r\nConnection: x-forwarded-for, forwarded\r\n\r\n";

#[test]
fn a_client_cannot_set_its_own_address() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let head = forwarded_head(&mut origin, &mut world.client(), SPOOFED);
    assert!(fields(&head).iter().all(|(_, value)| !value.contains("203.0.113") && !value.contains("evil")), "{head:?}");
    assert_eq!(all(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!((all(&head, "forwarded").len(), head.headers().len()), (1, 5));
}

#[test]
fn the_list_of_a_trusted_proxy_is_continued() {
    let trusted = Trusted::peers(|peer: &PeerAddr| peer.ip() == Some(IpAddr::from([127, 0, 0, 1])));
    let world = World::with(ProxyConfig { trusted, ..config() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let head = forwarded_head(&mut origin, &mut world.client(), SPOOFED);
    assert_eq!(all(&head, "x-forwarded-for"), ["203.0.113.1, 203.0.113.2, 127.0.0.1"]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["evil.example"]);
    assert_eq!(all(&head, "forwarded"), ["for=203.0.113.5, for=127.0.0.1;host=\"app.example\";proto=http"]);
}

#[test]
fn connect_is_rejected_and_other_methods_are_forwarded() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    client.send("CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n\r\n");
    client.response().assert(501);
    let head = forwarded_head(&mut origin, &mut world.client(), "PROPFIND /x HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(head.method().as_str(), "PROPFIND");
}

const WEBSOCKET: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n\
    Origin: https://app.example\r\n\r\n";

#[test]
fn a_websocket_is_forwarded() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    for mut client in [world.client(), world.secure_client()] {
        client.send(WEBSOCKET);
        // Sent before the response: it must not be lost.
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
        for removed in ["sec-websocket-key", "upgrade", "connection"] {
            assert!(!head.headers().contains_key(removed), "{removed}");
        }
        origin.head(stream, 200, &[("sec-websocket-protocol", "b")], false).data(stream, "hello", false);
        let response = client.head();
        assert_eq!((response.status, response.get("upgrade")), (101, Some("websocket")));
        assert_eq!(response.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(response.get("sec-websocket-protocol"), Some("b"));
        assert_eq!(client.exactly(5).expect("data"), b"hello");
        client.send("and more");
        let mut got = Vec::new();
        while got.len() < 14 {
            got.extend(origin.expect(|frame| frame.kind == DATA).payload);
        }
        assert_eq!(got, b"early and more");
        // Half-closes are forwarded, one after the other.
        client.finish();
        assert!(origin.expect(|frame| frame.kind == DATA).ends());
        origin.data(stream, "bye", true);
        assert_eq!(client.read_to_end().expect("all"), b"bye");
    }
    // A client that disconnects, and an origin server that resets.
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
    let error = client.read_to_end().expect_err("a reset, not a normal end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn an_invalid_websocket_handshake_is_not_forwarded() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    for (from, to, status) in [
        ("Version: 13", "Version: 8", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
        ("GET /chat", "POST /chat", 400),
    ] {
        let mut client = world.client();
        client.send(WEBSOCKET.replace(from, to));
        client.response().assert(status);
    }
    // An upgrade that the origin server does not accept: an ordinary response, and HTTP continues.
    let mut client = world.client();
    client.send(WEBSOCKET);
    let stream = origin.request();
    origin.head(stream, 403, &[("content-length", "2")], false).data(stream, "no", true);
    let response = client.response();
    assert_eq!((response.status, response.text()), (403, "no"));
    let head = forwarded_head(&mut origin, &mut client, "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(head.method(), "GET");
}

#[test]
fn an_upgrade_needs_an_origin_server_that_supports_it() {
    let world = World::new();
    let mut origin = RawOrigin::silent(&world, "app", HOST);
    // Without ENABLE_CONNECT_PROTOCOL.
    origin.frame(SETTINGS, 0, 0, []);
    origin.expect(|frame| frame.kind == SETTINGS && frame.flags != 0);
    let mut client = world.client();
    client.send(WEBSOCKET);
    client.response().assert(501);
    let head = forwarded_head(&mut origin, &mut client, "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(head.method(), "GET");
}

#[test]
fn upgrades_to_other_protocols_are_forwarded_and_to_http_are_not() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let request =
        |name: &str| format!("GET / HTTP/1.1\r\nHost: app.example\r\nConnection: upgrade\r\nUpgrade: {name}\r\n\r\n");
    let mut client = world.client();
    client.send(request("echo/1"));
    let stream = origin.request();
    let head = origin.heads().pop().expect("a head");
    assert_eq!(head.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str), Some("echo/1"));
    origin.head(stream, 200, &[], false);
    let response = client.head();
    assert_eq!((response.status, response.get("upgrade")), (101, Some("echo/1")));
    for name in ["h2c", "HTTP/2.0"] {
        let mut client = world.client();
        let head = forwarded_head(&mut origin, &mut client, &request(name));
        assert_eq!(head.method(), "GET", "{name}: the offer is ignored");
    }
}
