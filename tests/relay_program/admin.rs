//! The admin listener, and what it does not publish.

use crate::{
    client::Client,
    harness::{Relay, stream, until},
};

#[test]
fn operators_see_what_the_public_does_not() {
    let relay = Relay::start(&["--gateway-connect-url", "http://127.0.0.1:1/connect"]);
    let stream = stream(&relay);
    let id = stream.rsplit('/').next().expect("an id");
    let session = relay.request("PUT /cama/session", &["Content-Length: 0"]);
    let session =
        session.assert(201).get("location").and_then(|path| path.rsplit('/').next()).expect("an id").to_owned();

    let streams = relay.request_admin("GET /stream", &[]);
    assert_eq!(streams.assert(200).get("content-type"), Some("application/json"));
    assert!(streams.text().contains(id));
    let sessions = relay.request_admin("GET /sessions", &[]);
    assert!(sessions.assert(200).text().contains(&format!("\"session\":\"{}\"", &session[..8])));
    assert!(!sessions.text().contains(&session), "its id is a secret");
    for path in ["/health", "/ready", "/metrics", "/stats", "/ping", "/log-level", "/"] {
        relay.request_admin(&format!("GET {path}"), &[]).assert(200);
    }
    relay.request_admin("POST /send", &["Content-Length: 0"]).assert(400);
    relay.request_admin("POST /health", &["Content-Length: 0"]).assert(405);
    relay.request_admin("GET /nothing", &[]).assert(404);

    for path in ["/health", "/ready", "/metrics", "/sessions", "/stats", "/log-level", "/stream"] {
        relay.request(&format!("GET {path}"), &[]).assert(404);
    }
    relay.request("POST /send", &["Content-Length: 0"]).assert(404);
    assert_eq!(relay.request("GET /ping", &[]).assert(200).text(), "pong", "the rendezvous'");
    relay.request("GET /connect", &[]).assert(400);
    relay.stop();
}

#[test]
fn the_public_sees_more_if_it_is_said_so() {
    let relay = Relay::start(&[
        "--gateway-connect-url=http://127.0.0.1:1/connect",
        "--gateway-public-api",
        "--rendezvous-public-list",
        "--session-relay=false",
    ]);
    relay.request("GET /stream", &[]).assert(200);
    relay.request("POST /send", &["Content-Length: 0"]).assert(400);
    relay.request("PUT /cama/session", &["Content-Length: 0"]).assert(404);
    relay.request_admin("GET /sessions", &[]).assert(404);
    relay.stop();
}

/// RFC 9110 §9.3.2: status and fields of a response to HEAD are those to GET.
#[test]
fn head_is_answered_wherever_get_is() {
    let relay = Relay::start(&[
        "--gateway-connect-url=http://127.0.0.1:1/connect",
        "--rendezvous-public-list",
        "--gateway-public-api",
    ]);
    let status = format!("{}/status", stream(&relay));
    let public = ["/", "/favicon.svg", "/robots.txt", "/ping", "/stream", "/stats", &status, "/nothing", "/qr"];
    let admin =
        ["/", "/metrics", "/health", "/ready", "/log-level", "/sessions", "/stream", "/tunnels", "/stats", "/ping"];
    let all = public.map(|path| (relay.addr(), path)).into_iter().chain(admin.map(|path| (relay.admin, path)));
    for (addr, path) in all {
        let get = Client::connect(addr, None).request(&format!("GET {path}"), &[]).response();
        let mut client = Client::connect(addr, None);
        let head = client.request(&format!("HEAD {path}"), &["Connection: close"]).head();
        assert_eq!(head.status, get.status, "HEAD {path}");
        assert_eq!(head.get("content-type"), get.get("content-type"), "HEAD {path}");
        assert!(head.get("content-length").is_some() && client.is_closed(), "HEAD {path}: no content");
    }
    // But HEAD must not poll for a message: it would take the message.
    let session = relay.request("PUT /cama/session", &[]);
    let path = session.assert(201).get("location").expect("a path");
    relay.client().request(&format!("HEAD {path}"), &[]).head().assert(405);
    relay.stop();
}

/// RFC 9110 §14.5.
#[test]
fn a_part_is_not_put() {
    let relay = Relay::start(&["--log-level", "error"]);
    let fields = ["Content-Range: bytes 0-4/9", "Content-Length: 5"];
    let put = Client::connect(relay.admin, None).request("PUT /log-level", &fields).send("debug").response();
    put.assert(400);
    assert_eq!(relay.request_admin("GET /log-level", &[]).assert(200).text(), "error\n");
    let stream = stream(&relay);
    relay.client().request(&format!("PUT {stream}"), &fields).send("hello").response().assert(400);
    relay.client().request("PUT /cama/session", &fields).send("hello").response().assert(400);
    relay.stop();
}

/// Many addresses take all they can; a new one still gets its share, and streams in use stay.
#[test]
fn no_crowd_takes_all_sessions_and_streams() {
    let relay = Relay::start(&[
        "--trusted-proxy=127.0.0.1",
        "--sessions=500",
        "--sessions-per-address=50",
        "--rendezvous-streams=500",
        "--rendezvous-streams-per-address=50",
    ]);
    let mut proxy = relay.client();
    let mut request = |line: &str, from: &str| {
        proxy.request(line, &["Content-Length: 0", &format!("X-Forwarded-For: {from}")]).response()
    };
    let session = request("PUT /cama/session?timeout=86400", "198.51.100.1");
    let cookie = format!("Cookie: {}", session.assert(201).get("set-cookie").expect("a cookie"));
    let session = session.get("location").expect("a path").to_owned();
    let stream =
        request("POST /stream?ttl=3600", "198.51.100.1").assert(201).get("location").expect("a path").to_owned();
    // Both are in use: one waits for a sender, the other for a source.
    let (mut receiver, mut destination) = (relay.client(), relay.client());
    receiver.request(&format!("GET {session}"), &[]);
    until("it waits for its peer", || relay.metric("uncork_session_waiting{role=\"receiver\"}") == 1.0);
    destination.request(&format!("GET {stream}"), &[]);
    until("it waits for its peer", || relay.metric("uncork_unused_streams") == 0.0);

    for line in ["PUT /cama/session?timeout=86400", "POST /stream?ttl=3600"] {
        let what = if line.starts_with("PUT") { "sessions" } else { "streams" };
        // One address, then four, and then a hundred; each creates streams until it is rejected.
        for (addresses, at_most) in [(1, 51.0), (4, 202.0), (100, 500.0)] {
            for n in 0..addresses {
                while request(line, &format!("10.0.0.{n}")).status == 201 {}
            }
            let all = if what == "sessions" { "uncork_sessions" } else { "uncork_streams{state=\"waiting\"}" };
            assert!(relay.metric(all) <= at_most, "{addresses} addresses have {}", relay.metric(all));
            request(line, &format!("192.0.2.{addresses}")).assert(201);
        }
        assert!(relay.metric(&format!("uncork_rejected_{what}_total")) >= 100.0);
        // So many that all slots are taken, and each has one.
        for n in 0..600 {
            request(line, &format!("2001:db8:0:{n:x}::1")).assert(201);
        }
        request(line, "192.0.2.200").assert(201);
        // The same network as one of theirs, with its slot.
        request(line, "2001:db8:0:257:ffff::1").assert(503);
        assert!(relay.metric(&format!("uncork_evicted_{what}_total")) > 100.0);
        assert!(relay.metric(&format!("uncork_unused_{what}")) >= 499.0);
    }
    // Streams that were in use all the time continue.
    relay.client().post(&session, &[cookie.split(';').next().expect("a token")], b"hello").response().assert(200);
    assert_eq!(receiver.response().assert(200).text(), "hello");
    relay.client().request(&format!("PUT {stream}"), &["Content-Length: 5"]).send("hello").response().assert(200);
    assert_eq!(destination.response().assert(200).text(), "hello");
    relay.stop();
}

#[test]
fn it_counts() {
    let relay = Relay::start(&[]);
    let (mut one, mut two) = (relay.client(), relay.client());
    one.request("GET /ping", &[]).response().assert(200);
    two.request("GET /nothing", &[]).response().assert(404);
    drop(two);
    let stream = stream(&relay);
    one.request(&format!("GET {stream}/status"), &[]).response().assert(200);
    until("only one connection is open", || relay.metric("uncork_open_connections") == 1.0);
    assert_eq!(relay.metric("uncork_connections_total"), 3.0);
    // A request counts when it has ended, which is a little after its response was received.
    until("every response counts", || relay.metric("uncork_requests_total{status=\"2xx\"}") == 3.0);
    until("rejections count", || relay.metric("uncork_requests_total{status=\"4xx\"}") == 1.0);
    assert_eq!(relay.metric("uncork_requests_by_version_total{version=\"HTTP/1.1\"}"), 4.0);
    assert_eq!(relay.metric("uncork_requests_by_version_total{version=\"HTTP/2\"}"), 0.0);
    assert_eq!(relay.metric("uncork_streams{state=\"waiting\"}"), 1.0);
    assert_eq!(relay.metric("uncork_ready"), 1.0);
    assert!(relay.metric("uncork_sent_bytes_total") > 4.0);
    assert_eq!(relay.metric("uncork_sessions"), 0.0);
    relay.stop();
}

#[test]
fn the_log_level_can_be_asked_for_and_set() {
    let relay = Relay::start(&["--log-level", "error"]);
    assert_eq!(relay.request_admin("GET /log-level", &[]).assert(200).text(), "error\n");
    let put = |level: &str| {
        let length = format!("Content-Length: {}", level.len());
        Client::connect(relay.admin, None).request("PUT /log-level", &[&length]).send(level).response()
    };
    put("warn,uncork::relay=error").assert(200);
    assert_eq!(relay.request_admin("GET /log-level", &[]).text(), "warn,uncork::relay=error\n");
    assert!(put("loud").assert(400).text().contains("loud"));
    assert_eq!(relay.request_admin("GET /log-level", &[]).text(), "warn,uncork::relay=error\n");
    relay.stop();
}

#[test]
fn a_web_page_cannot_have_it_asked_by_a_name_of_its_own() {
    let relay = Relay::start(&[]);
    let status = |host: &str| {
        let mut client = Client::connect(relay.admin, None);
        client.send(format!("GET /sessions HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().status
    };
    assert_eq!(["localhost:9090", "127.0.0.1", "[::1]:9090", "evil.example"].map(status), [200, 200, 200, 403]);
    relay.stop();
}
