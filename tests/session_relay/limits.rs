//! Limits, browsers, the end of the server, and many clients at once.

use uncork::Limits;

use super::*;

pub(crate) fn messages_have_a_limit(setup: Setup) {
    let server = start_with(setup, |c| c.body = 1000);
    let session = Session::new(&server);
    let mut sender = server.client();
    let expect = ["Expect: 100-continue", "Content-Length: 1001"];
    sender.request(&format!("POST {}", session.path), &expect).response().assert(413);
    // A chunked message shows its size only while it is sent.
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]);
    let head = receiver.head();
    sender.chunk(&[b'x'; 999]);
    let mut got = 0;
    while got < 999 {
        got += receiver.next_chunk().expect("a chunk").expect("data").len();
    }
    sender.chunk(b"yz");
    sender.response().assert(413);
    assert!(receiver.body(&head).is_ok_and(|rest| rest.len() <= 1));
    // Exactly the limit.
    for fields in [["Transfer-Encoding: chunked"], ["Content-Length: 1000"]] {
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), &fields);
        match fields[0] {
            "Content-Length: 1000" => sender.send([b'x'; 1000]),
            _ => sender.chunk(&[b'x'; 1000]).chunk(b""),
        };
        assert_eq!(receiver.response().assert(200).body.len(), 1000);
        assert_eq!(sender.response().assert(200).get("x-bytes-delivered"), Some("1000"));
    }
}

pub(crate) fn stopping(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut waiting = [session.host_waits(&server), session.guest_waits(&server)];
    let other = Session::new(&server);
    let mut receiver = other.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", other.path), &["Content-Length: 10"]).send("hello");
    let head = receiver.head();
    server.stopper.shutdown(Duration::from_secs(10));
    for client in &mut waiting {
        let response = client.response();
        assert!(response.assert(503).get("retry-after").is_some());
    }
    // Data in flight arrives.
    sender.send("world");
    assert_eq!(receiver.body(&head).expect("whole"), b"helloworld");
    assert_eq!(sender.response().assert(200).get("x-bytes-delivered"), Some("10"));
}

#[test]
fn allocations_have_a_rate() {
    let server = start_with(PLAIN_1, |c| (c.allocations_per_minute, c.allocation_burst) = (1, 3));
    let mut client = server.client();
    for _ in 0..3 {
        client.request("PUT /cama/session", &[]).response().assert(201);
    }
    let response = client.request("PUT /cama/session", &[]).response();
    let after: u64 = response.assert(429).get("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=60).contains(&after) && !response.text().is_empty());
}

#[test]
fn sessions_have_a_limit_for_each_address_and_in_all() {
    let server = start_with(PLAIN_1, |c| c.sessions_per_address = 2);
    let first = Session::new(&server);
    Session::new(&server);
    let mut client = server.client();
    assert!(client.request("PUT /cama/session", &[]).response().assert(429).get("retry-after").is_some());
    client.request(&format!("DELETE {}", first.path), &[&first.cookie]).response().assert(200);
    client.request("PUT /cama/session", &[]).response().assert(201);

    let server = start_with(PLAIN_1, |c| c.sessions = 1);
    let first = Session::new(&server);
    let mut client = server.client();
    assert!(client.request("PUT /cama/session", &[]).response().assert(503).get("retry-after").is_some());
    client.request(&format!("DELETE {}", first.path), &[&first.cookie]).response().assert(200);
    client.request("PUT /cama/session", &[]).response().assert(201);
}

/// One address opens many waiting requests, and sends as much as is taken with and behind each: other clients are
/// served all the same.
#[test]
fn those_who_wait_do_not_keep_the_buffers() {
    for tls in [false, true] {
        let limits = Limits { buffers: 8 * 64 * 1024, ..Limits::default() };
        let server = TestServer::start_with(Setup { tls, threads: 1 }, SessionConfig::default(), limits);
        let mut waiting = Vec::new();
        for _ in 0..12 {
            let session = Session::new(&server);
            let mut receiver = server.client();
            server.until_requested(|| {
                // The first gets its response at once, and more is read before the second is processed.
                let head = |more: &str| format!("{} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n", session.get());
                let both = format!("{}{}", head("X-Timeout: 0\r\n"), head(""));
                let _ = receiver.try_send([both.as_bytes(), &[b'x'; 48 * 1024]].concat());
            });
            let mut sent = 0;
            while sent < 16 << 20
                && let Some(n) = receiver.push(&[b'x'; 64 * 1024], Duration::from_millis(50))
            {
                sent += n;
            }
            waiting.push(receiver);
        }
        server.client().request("PUT /cama/session", &[]).response().assert(201);
    }
}

#[test]
fn cors_is_off_until_it_is_asked_for() {
    let server = start(PLAIN_1);
    let response = server.client().request("PUT /cama/session", &["Origin: https://example.org"]).response();
    assert!(response.assert(201).fields.iter().all(|(name, _)| !name.to_lowercase().starts_with("access-control")));

    let server = start_with(PLAIN_1, |c| c.allowed_origins = vec!["https://example.org".into()]);
    let mut client = server.client();
    let preflight = ["Origin: https://example.org", "Access-Control-Request-Method: PUT"];
    let response = client.request("OPTIONS /cama/session", &preflight).response();
    assert_eq!(response.assert(204).get("access-control-allow-origin"), Some("https://example.org"));
    assert_eq!(response.get("access-control-allow-methods"), Some("PUT"));
    assert_eq!(response.get("access-control-allow-credentials"), Some("true"));
    let session = Session::new(&server);
    // Later responses have it too.
    let response = client.request(&session.get(), &["Origin: https://example.org", "X-Timeout: 0"]).response();
    assert_eq!(response.assert(504).get("access-control-allow-origin"), Some("https://example.org"));
    assert_eq!(response.get("vary"), Some("Origin"));
    // Another origin gets nothing, and caches must not keep a response for it.
    for other in ["Origin: https://example.com", "Origin: null", "X-A: b"] {
        let response = client.request(&session.get(), &[other, "X-Timeout: 0"]).response();
        assert_eq!((response.get("access-control-allow-origin"), response.get("vary")), (None, Some("Origin")));
        let preflight = [other, "Access-Control-Request-Method: PUT"];
        client.request("OPTIONS /cama/session", &preflight).response().assert(405);
    }

    let server = start_with(PLAIN_1, |c| c.allowed_origins = vec!["*".into()]);
    let response = server.client().request("PUT /cama/session", &["Origin: https://example.com"]).response();
    assert_eq!(response.assert(201).get("access-control-allow-origin"), Some("*"));
    assert_eq!(response.get("access-control-allow-credentials"), None);
}

#[test]
fn a_browser_does_not_run_what_it_receives() {
    let server = start(PLAIN_1);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    server.client().post(&session.path, &["Content-Type: text/html"], b"<script>").response().assert(200);
    let response = receiver.response();
    assert_eq!(response.get("content-type"), Some("text/html"), "the contract");
    assert_eq!(response.get("content-security-policy"), Some("sandbox"));
    assert_eq!(response.get("cache-control"), Some("no-store"));
    receiver.request(&session.get(), &["Service-Worker: script"]).response().assert(400);
}

#[test]
fn another_base_path_and_another_name() {
    let server = start_with(PLAIN_1, |c| (c.base_path, c.server) = ("/a/b/".into(), String::new()));
    let mut client = server.client();
    let response = client.request("PUT /a/b/session", &[]).response();
    assert!(response.assert(201).get("location").is_some_and(|path| path.starts_with("/a/b/session/")));
    assert_eq!(response.get("server"), None);
    client.request("PUT /cama/session", &[]).response().assert(404);
}

#[test]
fn a_thread_for_each_connection() {
    for tls in [false, true] {
        let server = start(Setup { tls, threads: 0 });
        let session = Session::new(&server);
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        let body = pattern(0, 3 << 20);
        let sending = std::thread::spawn({
            let (path, body) = (session.path.clone(), body.clone());
            move || sender.post(&path, &[], &body).response()
        });
        assert!(receiver.response().assert(200).body == body);
        let report = sending.join().expect("no panic");
        assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(body.len().to_string().as_str()));
        receiver.request(&session.get(), &["X-Timeout: 0"]).response().assert(504);
    }
}

#[test]
fn both_ends_leave_and_come_back_without_end() {
    // Two loops, four clients that disconnect at random: the session must stay usable.
    let server = start(Setup { tls: false, threads: 2 });
    let session = Session::new(&server);
    std::thread::scope(|scope| {
        for peer in 0..4usize {
            let (server, session) = (&server, &session);
            scope.spawn(move || {
                for i in 0..60usize {
                    let mut client = server.client();
                    let cookie = if peer % 2 == 0 { session.cookie.as_str() } else { "X-A: b" };
                    if peer < 2 {
                        client.request(&session.get(), &[cookie]);
                    } else {
                        let _ = client.request(&format!("POST {}", session.path), &[cookie, "Content-Length: 70000"]);
                        let _ = client.try_send(pattern(0, if i % 3 == 0 { 70_000 } else { 30_000 }));
                    }
                    if i % 5 == 4 {
                        let _ = client.is_silent(Duration::from_millis(2));
                    }
                    client.leave();
                }
            });
        }
    });
    for side in [session.cookie.as_str(), "X-A: b"] {
        let other = if side == "X-A: b" { session.cookie.as_str() } else { "X-A: b" };
        // The slots of disconnected clients become free when their ends are noticed: at once, but without a report.
        let report = loop {
            let response = server.client().post(&session.path, &[side, "X-Timeout: 0"], b"").response();
            if response.status == 504 {
                break response;
            }
            assert!([409, 200].contains(&response.status), "{response:?}");
        };
        assert_eq!(report.text(), "request timed out");
        let (mut sender, mut receiver) = (server.client(), session.waits(&server, &[other]));
        sender.post(&session.path, &[side], b"still here");
        assert_eq!(receiver.response().assert(200).text(), "still here");
        assert_eq!(sender.response().assert(200).get("x-bytes-delivered"), Some("10"));
    }
}
