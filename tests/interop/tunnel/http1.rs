//! HTTP/1.1 on the tunnel: one request at a time on each connection, and no response for another request.

use std::time::Duration;

use uncork::{
    Listen,
    relay::tunnel::{Proxy, ProxyConfig},
};

use super::{
    client::{Client, TestResponse},
    origin::site,
    origin_server::{Mode, OriginServer, tunnel},
    proxy::HOST,
    raw::tunnel_request,
    world::{World, config, identity},
};

fn get(client: &mut Client, path: &str) -> TestResponse {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).response()
}

/// Connects an origin server made by hand.
fn by_hand(world: &World) -> Client {
    let before = world.proxy.counts().connections_total;
    let mut origin = world.origin();
    origin.send(tunnel_request("app", HOST).replace("ALPN: h2", "ALPN: http%2F1.1"));
    let head = origin.head();
    assert_eq!((head.status, head.get("alpn")), (101, Some("http%2F1.1")), "{head:?}");
    world.wait_until("the origin server is connected", |counts| counts.connections_total > before);
    origin
}

/// Receives the head of a request.
fn request(origin: &mut Client) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match origin.line().expect("a line") {
            line if line.is_empty() => return lines,
            line => lines.push(line),
        }
    }
}

#[test]
fn a_request_has_the_fields_of_http_1_1() {
    let world = World::new();
    let mut origin = by_hand(&world);
    let mut client = world.client();
    client.send(format!(
        "POST /a?b HTTP/1.1\r\nHost: {HOST}\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nContent-Length: 5\r\n\r\nhello"
    ));
    let lines = request(&mut origin);
    assert_eq!(lines[0], "POST /a?b HTTP/1.1");
    for line in ["Host: app.example", "Content-Length: 5", "x-forwarded-for: 127.0.0.1"] {
        assert!(lines.iter().any(|other| other == line), "{line} in {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.contains("hop") || line.to_lowercase().starts_with("te:")), "{lines:?}");
    assert_eq!(origin.exactly(5).expect("the body"), b"hello");
    origin.send("HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nhi");
    let response = client.response();
    assert_eq!((response.text(), response.get("x-hop")), ("hi", None));
}

/// By ALPN: the proxy asks for the credential, and sends the reason of a rejection.
#[test]
fn an_origin_server_identifies_itself_after_alpn() {
    let world = World::new();
    for (token, accepted) in [("app", true), ("guess", false)] {
        let mut origin = world.alpn_from(1, "\u{196}\u{265}".as_bytes());
        origin.send([]);
        assert_eq!(request(&mut origin), ["GET /.well-known/uncork/hello HTTP/1.1", "Host: origin.invalid"]);
        let hello = format!("{{\"token\":\"{token}\",\"hosts\":[\"{HOST}\"]}}");
        origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{hello}", hello.len()));
        if !accepted {
            let lines = request(&mut origin);
            assert_eq!(lines[0], "GET /.well-known/uncork/refused HTTP/1.1");
            assert_eq!(lines[2..], ["uncork-status: 401", "uncork-reason: unknown token"]);
            assert!(origin.line().is_err(), "the connection is closed");
            continue;
        }
        world.wait_until("the origin server is connected", |counts| counts.connections == 1);
        let mut client = world.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(request(&mut origin)[0], "GET / HTTP/1.1");
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn a_rejected_origin_server_knows_the_reason() {
    let world = World::new();
    let guess = tunnel(world.origins).token("guess").http1_only();
    OriginServer::new(guess, Mode::Threads, site).expect_event("unknown token");
}

#[test]
fn a_response_that_nothing_asked_for_reaches_no_client() {
    let world = World::new();
    let mut origin = by_hand(&world);
    let mut client = world.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    request(&mut origin);
    let one = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    origin.send(format!("{one}one{one}two"));
    assert_eq!(client.response().text(), "one");
    world.wait_until("the connection has ended", |counts| counts.connections == 0);
    assert_eq!(get(&mut client, "/").status, 502);
}

#[test]
fn malformed_and_truncated_responses_are_not_complete() {
    let world = World::new();
    for (response, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", 0),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 502),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502),
        ("220 mail.example ESMTP\r\n", 502),
        ("", 502),
    ] {
        let mut origin = by_hand(&world);
        let mut client = world.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        request(&mut origin);
        origin.send(response);
        origin.leave();
        if status == 0 {
            let head = client.head();
            client.body(head.assert(200)).expect_err("truncated");
        } else {
            client.response().assert(status);
        }
        world.wait_until("the connection has ended", |counts| counts.connections == 0);
    }
}

#[test]
fn without_alpn_the_tunnel_begins_with_an_upgrade() {
    let origins = Listen::tcp("127.0.0.1:0").expect("bound").tls(identity().server.clone());
    let world = World::of(Proxy::new(config()).expect("valid"), 2, origins);
    let _origin_server =
        OriginServer::new(tunnel(world.origins).http1_only(), Mode::Threads, site).wait_connected(&world);
    assert_eq!(get(&mut world.client(), "/who").assert(200).text(), "Some(127.0.0.1) Some(\"app.example\")");
}

#[test]
fn requests_wait_for_a_connection() {
    let world = World::new();
    let _origin_server =
        OriginServer::new(tunnel(world.origins).http1_only(), Mode::Threads, site).wait_connected(&world);
    // Both connections are in use.
    let mut endless: Vec<Client> = (0..2).map(|_| world.client()).collect();
    for client in &mut endless {
        client.send(format!("GET /endless HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).head().assert(200);
    }
    let mut waiting: Vec<Client> = (0..6).map(|_| world.client()).collect();
    for client in &mut waiting {
        client.send(format!("GET /later HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    }
    assert!(waiting[0].is_silent(Duration::from_millis(100)), "there is no connection");
    // The client that leaves uses up its connection, and the next one serves all that wait.
    endless.pop().expect("a client").leave();
    for client in &mut waiting {
        assert_eq!(client.response().assert(200).text(), "GET /later");
    }
}

#[test]
fn an_upgrade_is_replaced_by_another_connection() {
    let world = World::new();
    let origin_server = OriginServer::new(tunnel(world.origins).http1_only().connections(1), Mode::Threads, site);
    let origin_server = origin_server.wait_served(&world);
    let mut upgraded: Vec<Client> = Vec::new();
    for _ in 0..3 {
        let mut client = world.client();
        let head = loop {
            let upgrade = format!("GET /up HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n");
            // Until the next connection is there, there is none.
            match client.send(upgrade).head() {
                head if head.status == 502 => drop(client.body(&head)),
                head => break head,
            }
        };
        head.assert(101);
        upgraded.push(client);
    }
    for client in &mut upgraded {
        assert_eq!(client.send("hello").exactly(5).expect("an echo"), b"hello");
    }
    drop(origin_server);
}

#[test]
fn an_idle_connection_is_checked() {
    let config = ProxyConfig { ping_interval: Duration::from_millis(100), ..config() };
    let world = World::with(config);
    let mut origin = by_hand(&world);
    for _ in 0..2 {
        assert_eq!(request(&mut origin), ["OPTIONS * HTTP/1.1", "Host: origin.invalid"]);
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    request(&mut origin);
    world.wait_until("the silent connection has ended", |counts| counts.silent == 1 && counts.connections == 0);
    // One that closes in its response gets no request behind it, also if the response comes in pieces.
    let mut origin = by_hand(&world);
    request(&mut origin);
    origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\no");
    std::thread::sleep(Duration::from_millis(20));
    origin.send("k");
    assert_eq!(origin.read_to_end().expect("the end"), b"");
    // Ours responds.
    let _origin_server =
        OriginServer::new(tunnel(world.origins).http1_only(), Mode::Threads, site).wait_connected(&world);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((world.proxy.counts().connections, world.proxy.counts().silent), (2, 1));
    assert!(world.proxy.connections()[0].round_trip.is_some());
}
