//! The connect callback: clients that the application accepts, and clients that it does not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{pipe, relay::OriginPolicy};

use crate::{
    app::{Reaction, agrees, nowhere, raw},
    gateway::{MOMENT, TestGateway, is, start, start_with},
    socket::{BINARY, Socket, TEXT, send_handshake},
    world::World,
};

worlds! {
    the_application_is_asked_with_the_clients_request, fields_are_set_and_left_out, a_greeting_comes_first,
    a_rejection_is_passed_on, who_cannot_be_asked_lets_nobody_in, redirects_are_followed,
    no_handshake_is_not_asked_about, a_body_is_passed_on, pages_of_other_origins_stay_out,
    a_client_that_leaves_while_it_waits, there_is_not_a_place_for_everybody,
    sub_protocols_are_the_applications_choice;
    slow: an_answer_has_a_time_limit_as_a_whole,
}

fn the_application_is_asked_with_the_clients_request(world: &World) {
    let gateway = start_with(
        world,
        |config, app| {
            config.callback.connect = app.url("/connect?of=the+application");
            config.origin_policy = OriginPolicy::None;
        },
        |call| match call.path.as_str() {
            "/connect" => Reaction::accept("me", ""),
            _ => Reaction::status(200),
        },
    );
    let fields = [
        "Cookie: a=b",
        "X-Twice: 1",
        "X-Twice: 2",
        "Authorization: Bearer x",
        "Origin: http://somewhere",
        "X-Kuiperbelt-Endpoint: evil",
        "X_Kuiperbelt_Endpoint: evil",
        "x-kuiperbelt_ENDPOINT: evil",
        "X_Kuiperbelt_Session: evil",
        "Sec_WebSocket_Protocol: evil",
        "Transfer_Encoding: evil",
        "Connection: X-Mine",
        "X-Mine: evil",
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "User-Agent: test/1",
    ];
    let _client = Socket::connect(&gateway.host, "/connect?a=1&b=%20;|", &fields);
    let call = &gateway.app.wait_for_calls("/connect", 1)[0];
    assert_eq!((call.method.as_str(), call.query.as_deref(), call.text().as_str()), ("GET", Some("a=1&b=%20;|"), ""));
    for (name, want) in [
        ("cookie", Some("a=b")),
        ("x-twice", Some("1|2")),
        ("authorization", Some("Bearer x")),
        ("origin", Some("http://somewhere")),
        ("user-agent", Some("test/1")),
        ("x-kuiperbelt-endpoint", Some("gateway.test:9180")),
        ("host", Some(gateway.app.url("").trim_start_matches("http://"))),
        ("upgrade", None),
        ("sec-websocket-key", None),
        ("sec-websocket-version", None),
        ("sec-websocket-protocol", Some("chat")),
        ("sec-websocket-extensions", None),
        ("x-forwarded-for", None),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(call.get(name).as_deref(), want, "{name}");
    }
    assert!(call.fields.iter().all(|(name, value)| value != "evil" && !name.contains('_')), "{call:?}");
    let _second = Socket::connect(&gateway.host, "/connect", &[]);
    assert_eq!(gateway.app.wait_for_calls("/connect", 2)[1].query, None, "the client's query, not the URL's own");
}

fn fields_are_set_and_left_out(world: &World) {
    let gateway = start_with(
        world,
        |config, _| {
            config.proxy_set_header =
                vec![("X-Set".into(), "yes".into()), ("cookie".into(), String::new()), ("X-Twice".into(), "1".into())];
        },
        agrees,
    );
    let fields = ["Cookie: a=b", "Cookie: c=d", "X-Twice: 2", "X-Twice: 3", "X_Set: no", "x_twice: no", "COOKIE: e=f"];
    let mut client = Socket::connect(&gateway.host, "/connect?key=k", &fields);
    gateway.app.wait_for_calls("/establish", 1);
    client.text("hi");
    gateway.app.wait_for_calls("/receive", 1);
    client.close();
    for (path, set) in [("/connect", true), ("/establish", true), ("/receive", false), ("/close", true)] {
        let call = &gateway.app.wait_for_calls(path, 1)[0];
        assert_eq!(call.get("x-set").as_deref(), set.then_some("yes"), "{path}");
        assert_eq!(call.get("x-twice").as_deref(), set.then_some("1"), "{path}");
        assert_eq!(call.get("cookie"), None, "{path}");
        assert!(call.fields.iter().all(|(name, _)| !name.contains('_')), "{call:?}");
    }
}

fn a_greeting_comes_first(world: &World) {
    let greeting = Arc::new(Mutex::new((None, Vec::new())));
    let current = greeting.clone();
    let gateway = start_with(
        world,
        |_, _| {},
        move |call| {
            let (kind, body): (Option<&'static str>, Vec<u8>) = current.lock().expect("no panic").clone();
            let mut fields = vec![("X-Kuiperbelt-Session", "k".to_owned())];
            fields.extend(kind.map(|kind| ("Content-Type", kind.to_owned())));
            if call.path == "/connect" { Reaction::Respond(200, fields, body) } else { Reaction::status(200) }
        },
    );
    for (kind, body, op) in [
        (None, &b"hello"[..], TEXT),
        (Some("text/plain; charset=utf-8"), "gr\u{fc}n".as_bytes(), TEXT),
        (Some("application/json"), b"{}", TEXT),
        (Some("application/octet-stream"), b"\xff\x00", BINARY),
        (Some("Application/Octet-Stream ; x=y"), b"\xff", BINARY),
        (None, &[b'x'; 70_000], TEXT),
    ] {
        *greeting.lock().expect("no panic") = (kind, body.to_vec());
        let mut client = Socket::connect(&gateway.host, "/connect", &[]);
        assert_eq!(client.next(), (op, body.to_vec()), "{kind:?}");
        client.close();
    }
    gateway.stats("a greeting is a message", |stats| stats.total_messages == 6 && stats.connections == 0);

    // Without a greeting there is no message.
    *greeting.lock().expect("no panic") = (None, Vec::new());
    let mut client = Socket::connect(&gateway.host, "/connect", &[]);
    assert!(client.is_silent(MOMENT));
    assert_eq!(gateway.service.stats().total_messages, 6);

    // A greeting that a client cannot accept is the application's fault.
    *greeting.lock().expect("no panic") = (Some("text/plain"), b"\xff".to_vec());
    is(&Socket::rejected(&gateway.host, "/connect", &[]), 502, "Bad Gateway\n");
}

fn a_rejection_is_passed_on(world: &World) {
    let gateway = start_with(
        world,
        |_, _| {},
        |call| {
            let status = call.query.as_deref().and_then(|query| query.parse().ok()).unwrap_or(200);
            let fields = vec![("Content-Type", "x/y; z".into()), ("X-More", "1".into()), ("Set-Cookie", "a=b".into())];
            Reaction::Respond(status, fields, b"because".to_vec())
        },
    );
    for (n, status) in [201, 204, 302, 401, 404, 418, 500, 503].into_iter().enumerate() {
        let response = Socket::rejected(&gateway.host, &format!("/connect?{status}"), &[]);
        is(&response, status, if status == 204 { "" } else { "because" });
        assert_eq!(response.get("content-type"), Some("x/y; z"));
        assert_eq!((response.get("x-more"), response.get("set-cookie")), (None, None));
        gateway.stats("rejections", |stats| (stats.connect_errors, stats.connections) == (n as u64 + 1, 0));
    }
    // A failed authorization is not an error.
    is(&Socket::rejected(&gateway.host, "/connect?403", &[]), 403, "because");
    let stats = gateway.stats("403", |stats| (stats.connect_errors, stats.connections) == (8, 0));
    assert_eq!((stats.total_connections, stats.total_messages), (9, 0));

    // 200 without a key.
    let response = Socket::rejected(&gateway.host, "/connect?200", &[]);
    is(&response, 400, "Bad Request\n");
    assert_eq!(response.get("content-type"), Some("text/plain; charset=utf-8"));
    gateway.stats("no key", |stats| (stats.connect_errors, stats.connections) == (9, 0));
    assert!(gateway.app.calls("/establish").is_empty() && gateway.app.calls("/close").is_empty());
}

fn who_cannot_be_asked_lets_nobody_in(world: &World) {
    for (url, status, body) in [
        (nowhere(), 502, "Bad Gateway\n"),
        (raw(b"hello, this is not HTTP\r\n\r\n"), 502, "Bad Gateway\n"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), 502, "Bad Gateway\n"),
        (raw(b""), 502, "Bad Gateway\n"),
        (raw(b"HTTP/1.1 200 OK\r\nX-Kuiperbelt-Session: k\r\n"), 502, "Bad Gateway\n"),
        (raw(b"HTTP/1.1 200 OK\r\nX-Kuiperbelt-Session: k\r\nContent-Length: 10\r\n\r\nhello"), 502, "Bad Gateway\n"),
        (raw(b"HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nhello"), 502, "Bad Gateway\n"),
        ("/connect".into(), 500, "Internal Server Error\n"),
        ("http://user@host/".into(), 500, "Internal Server Error\n"),
        (String::new(), 500, "Internal Server Error\n"),
    ] {
        let gateway = start_with(world, |config, _| config.callback.connect = url.clone(), agrees);
        let response = Socket::rejected(&gateway.host, "/connect?key=k", &[]);
        is(&response, status, body);
        assert_eq!(response.get("content-type"), Some("text/plain; charset=utf-8"));
        let stats = gateway.stats(&url, |stats| stats.connections == 0);
        assert_eq!((stats.total_connections, stats.connect_errors), (1, 1), "{url}");
        is(&gateway.get("/ping"), 200, r#"{"result":"OK"}"#);
    }
}

fn redirects_are_followed(world: &World) {
    let gateway = start_with(
        world,
        |_, _| {},
        |call| match call.path.as_str() {
            "/connect" => Reaction::Respond(302, vec![("Location", "/elsewhere?key=k".into())], vec![]),
            "/elsewhere" => Reaction::accept("k", "hello"),
            _ => Reaction::status(200),
        },
    );
    Socket::connect(&gateway.host, "/connect", &["X-Field: f"]).receives("hello");
    assert_eq!(gateway.app.calls("/elsewhere")[0].get("x-field").as_deref(), Some("f"));
}

fn no_handshake_is_not_asked_about(world: &World) {
    let gateway = start(world);
    let handshake =
        "Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let rows = [
        ("GET", String::new()),
        ("POST", handshake.to_owned()),
        ("GET", handshake.replace("13", "8")),
        ("GET", handshake.replace("|Sec-WebSocket-Version: 13", "")),
        ("GET", handshake.replace("websocket", "h2c")),
        ("GET", handshake.replace("Connection: Upgrade", "Connection: close")),
        ("GET", handshake.replace("dGhlIHNhbXBsZSBub25jZQ==", "short")),
    ];
    for (n, (method, fields)) in rows.iter().enumerate() {
        let mut wire = gateway.host.connect();
        let fields: Vec<&str> = fields.split('|').filter(|field| !field.is_empty()).collect();
        wire.request(&format!("{method} /connect?key=k"), &fields);
        let response = wire.response();
        is(&response, 400, "Bad Request\n");
        assert_eq!(response.get("sec-websocket-version"), Some("13"));
        gateway.stats("no handshake", |stats| (stats.connect_errors, stats.connections) == (n as u64 + 1, 0));
    }
    assert!(gateway.app.calls("/connect").is_empty());
    is(&gateway.get("/connectx"), 404, "404 page not found\n");
    is(&gateway.get("/"), 404, "404 page not found\n");
}

fn a_body_is_passed_on(world: &World) {
    let gateway = start(world);
    for (body, sent) in [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        let mut wire = gateway.host.connect();
        send_handshake(&mut wire, "/connect?key=k", &[body]);
        wire.send(sent).head().is(101);
        Socket { wire }.close();
    }
    for call in gateway.app.calls("/connect") {
        assert_eq!((call.method.as_str(), call.text().as_str()), ("GET", "hello"));
    }
    let mut wire = gateway.host.connect();
    send_handshake(&mut wire, "/connect?key=k", &["Transfer-Encoding: chunked"]);
    wire.chunk(&[b'x'; 60_000]).chunk(&[b'x'; 60_000]);
    wire.response().is(413);
    assert_eq!(gateway.app.calls("/connect").len(), 2);
    gateway.stats("too large", |stats| (stats.connect_errors, stats.connections) == (1, 0));
}

fn pages_of_other_origins_stay_out(world: &World) {
    // Over HTTP there may be a proxy in front that uses HTTPS. Over HTTPS, an attacker on the network may have
    // written a page that was loaded over HTTP.
    let (by_http, port) = (!world.tls, "https://localhost:1");
    for (policy, origins) in [
        (OriginPolicy::default(), [("https://localhost", true), ("http://localhost", by_http), ("http://evil", false)]),
        (OriginPolicy::SameOrigin, [(port, false), ("https://LOCALHOST:443", true), ("http://localhost", by_http)]),
        (
            OriginPolicy::SameHostname,
            [("http://LOCALHOST:1", true), ("https://localhost", true), ("http://evil", false)],
        ),
        (OriginPolicy::None, [("http://localhost", true), ("null", true), ("http://evil", true)]),
    ] {
        let gateway = start_with(world, |config, _| config.origin_policy = policy, agrees);
        for (origin, is_allowed) in origins {
            let field = format!("Origin: {origin}");
            let before = gateway.app.calls("/connect").len();
            if is_allowed {
                Socket::connect(&gateway.host, "/connect?key=k", &[&field]).close();
            } else {
                is(&Socket::rejected(&gateway.host, "/connect?key=k", &[&field]), 403, "Forbidden\n");
                assert_eq!(gateway.app.calls("/connect").len(), before, "the application was not asked");
            }
        }
        gateway.stats("403 is not an error", |stats| (stats.connect_errors, stats.connections) == (0, 0));
        let may_lack_origin = policy != OriginPolicy::SameHostname;
        if may_lack_origin {
            Socket::connect(&gateway.host, "/connect?key=k", &[]).close();
        } else {
            is(&Socket::rejected(&gateway.host, "/connect?key=k", &[]), 403, "Forbidden\n");
        }
    }
}

fn an_answer_has_a_time_limit_as_a_whole(world: &World) {
    // Two bodies whose rest does not arrive, or arrives late.
    let (mut inlet, outlet) = pipe(64);
    let (mut late, its_outlet) = pipe(64);
    assert_eq!((inlet.write(b"hel"), late.write(b"hel")), (3, 3));
    let mut bodies = vec![its_outlet, outlet];
    let gateway = start_with(
        world,
        |config, _| config.callback.timeout = Some(Duration::from_millis(1500)),
        move |call| match (call.path.as_str(), call.query.as_deref()) {
            ("/connect", Some("hang")) => Reaction::Hang,
            ("/connect", _) => {
                Reaction::Stream(vec![("X-Kuiperbelt-Session", "k".into())], bodies.pop().expect("at most two calls"))
            }
            _ => Reaction::status(200),
        },
    );
    is(&Socket::rejected(&gateway.host, "/connect?hang", &[]), 502, "Bad Gateway\n");
    is(&Socket::rejected(&gateway.host, "/connect", &[]), 502, "Bad Gateway\n");
    gateway.stats("timed out", |stats| (stats.connect_errors, stats.connections) == (2, 0));
    drop(inlet);

    // A greeting that arrives a little later than its head is a greeting.
    let mut wire = gateway.host.connect();
    send_handshake(&mut wire, "/connect", &[]);
    gateway.app.wait_for_calls("/connect", 3);
    assert!(wire.is_silent(MOMENT));
    assert_eq!(late.write(b"lo"), 2);
    late.finish(None);
    wire.head().is(101);
    Socket { wire }.receives("hello");
}

fn a_client_that_leaves_while_it_waits(world: &World) {
    let gateway = start_with(
        world,
        |_, _| {},
        |call| match call.path.as_str() {
            "/connect" => Reaction::Hang,
            _ => Reaction::status(200),
        },
    );
    let mut wire = gateway.host.connect();
    send_handshake(&mut wire, "/connect?key=k", &[]);
    gateway.app.wait_for_calls("/connect", 1);
    assert_eq!(gateway.service.stats().connections, 1, "counted from the first byte");
    drop(wire);
    gateway.stats("the client has disconnected", |stats| stats.connections == 0);
    // The application accepts too late: it learns that the client has disconnected.
    gateway.app.release_with(1, || Reaction::accept("k", "hello"));
    assert_eq!(gateway.app.wait_for_calls("/close", 1)[0].key(), "k");
    let stats = gateway.stats("the connection is over", |stats| stats.closing_connections == 0);
    assert_eq!((stats.connect_errors, stats.total_messages), (1, 0));
    assert!(gateway.app.calls("/establish").is_empty());
    assert!(gateway.send(&["k"], "x").text().contains("kuiperbelt: session is not found"));
}

/// Offers these sub-protocols to an application that selects that one. Returns the response, and the sub-protocols that
/// the application got.
fn offering(
    world: &World,
    offered: &[&str],
    chosen: &'static [&'static str],
) -> (crate::wire::TestResponse, Option<String>) {
    let gateway = start_with(
        world,
        |_, _| {},
        move |call| match call.path.as_str() {
            "/connect" => {
                let names = chosen.iter().map(|name| ("Sec-WebSocket-Protocol", (*name).to_owned()));
                let key = [("X-Kuiperbelt-Session", "k".to_owned())];
                Reaction::Respond(200, key.into_iter().chain(names).collect(), vec![])
            }
            _ => Reaction::status(200),
        },
    );
    let offered: Vec<String> = offered.iter().map(|names| format!("Sec-WebSocket-Protocol: {names}")).collect();
    let mut wire = gateway.host.connect();
    send_handshake(&mut wire, "/connect", &offered.iter().map(String::as_str).collect::<Vec<_>>());
    let response = wire.head();
    let errors = u64::from(response.status != 101);
    gateway.stats("an error of the application's", |stats| stats.connect_errors == errors);
    (response, gateway.app.wait_for_calls("/connect", 1)[0].get("sec-websocket-protocol"))
}

fn sub_protocols_are_the_applications_choice(world: &World) {
    type Row = (&'static [&'static str], &'static [&'static str], Option<&'static str>);
    let rows: &[Row] = &[
        (&["chat, superchat"], &["superchat"], Some("superchat")),
        (&["chat", "v2.chat"], &["chat"], Some("chat")),
        (&["chat"], &[], None),
        (&["chat"], &[""], None),
        (&[], &[], None),
    ];
    for (offered, chosen, answered) in rows {
        let (response, passed) = offering(world, offered, chosen);
        assert_eq!((response.status, response.get("sec-websocket-protocol")), (101, *answered), "{offered:?}");
        assert_eq!(passed, (!offered.is_empty()).then(|| offered.join("|")));
    }
    // A selection that the client would have to reject is the application's error.
    let invalid: &[Row] = &[
        (&["chat"], &["other"], None),
        (&["chat"], &["Chat"], None),
        (&["chat, other"], &["chat, other"], None),
        (&["chat, other"], &["chat", "other"], None),
        (&[], &["chat"], None),
    ];
    for (offered, chosen, _) in invalid {
        assert_eq!(offering(world, offered, chosen).0.status, 502, "{offered:?}: {chosen:?}");
    }
}

fn there_is_not_a_place_for_everybody(world: &World) {
    let limited = |change: fn(&mut uncork::relay::GatewayLimits)| -> TestGateway {
        start_with(world, |config, _| change(&mut config.limits), agrees)
    };
    for (gateway, status, text) in [
        (limited(|limits| limits.sessions = 2), 503, "Service Unavailable\n"),
        (limited(|limits| limits.sessions_per_address = 2), 429, "Too Many Requests\n"),
    ] {
        let (mut a, mut b) = (gateway.client("a"), gateway.client("b"));
        is(&Socket::rejected(&gateway.host, "/connect?key=c", &[]), status, text);
        assert_eq!(gateway.app.calls("/connect").len(), 2, "the application was not asked");
        // Established clients do not notice, and the application can still send.
        is(&gateway.send(&["b"], "still there"), 200, r#"{"result":"OK"}"#);
        b.receives("still there");
        a.close();
        gateway.stats("one client has disconnected", |stats| stats.connections == 1);
        gateway.client("c").close();
    }
}
