//! `GET`: the receiver, the host, and timeouts.

use super::*;

pub(crate) fn an_unknown_session(setup: Setup) {
    let server = start(setup);
    let mut client = server.client();
    for (method, id) in [("GET", "nosuch"), ("POST", "AAAAAAAAAAAAAAAAAAAAAA"), ("DELETE", "x"), ("PUT", "x=")] {
        let response = client.request(&format!("{method} /cama/session/{id}"), &[]).response();
        assert_eq!(response.assert(404).text(), "");
        let cookie = response.get("set-cookie").expect("a deletion");
        assert!(cookie.starts_with("token=; Expires="), "{cookie}");
        assert!(cookie.contains(&format!("; Path=/cama/session/{id}; Max-Age=0")), "{cookie}");
    }
    // A value that would become an attribute of the cookie is left out.
    let response = client.request("GET /cama/session/x;Domain=example.org", &[]).response();
    assert_eq!(response.assert(404).get("set-cookie"), None);
}

pub(crate) fn a_message_each_way(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    for from_host in [false, true] {
        let (mine, theirs) = if from_host { (session.cookie.as_str(), "X-A: b") } else { ("X-A: b", &*session.cookie) };
        for receiver_first in [false, true] {
            let (mut sender, mut receiver) = (server.client(), server.client());
            if receiver_first {
                server.until_requested(|| {
                    receiver.request(&session.get(), &[theirs]);
                });
            }
            let body = pattern(0, 100_000);
            server.until_requested(|| sender.post(&session.path, &["Content-Type: image/x-test", mine], &body).sent());
            if !receiver_first {
                receiver.request(&session.get(), &[theirs]);
            }
            let response = receiver.response();
            response.assert(200);
            assert_eq!(response.get("content-type"), Some("image/x-test"));
            assert_eq!(response.get("content-length"), Some("100000"));
            assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
            assert!(response.body == body);
            // Responses to the host renew the cookie.
            assert_eq!(response.get("set-cookie").is_some(), !from_host);
            let report = sender.response();
            assert_eq!(report.assert(200).get("x-bytes-delivered"), Some("100000"));
            assert_eq!((report.get("content-length"), report.get("x-bytes-relayed")), (Some("0"), None));
            assert_eq!(report.get("set-cookie").is_some(), from_host);
        }
    }
}

pub(crate) fn the_token_makes_the_host(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let token = &session.token;
    let swapped: String = token.chars().rev().collect();
    // The guest's message reaches the host only.
    for host in [
        format!("Cookie: token={token}"),
        format!("Cookie: token=\"{token}\""),
        format!("Cookie: a=b; token={token}; c=d"),
        format!("Cookie: token=old; token={token}"),
        format!("COOKIE:token={token}"),
    ] {
        let mut receiver = session.waits(&server, &[&host]);
        let mut sender = server.client();
        sender.post(&session.path, &[], b"to the host");
        assert_eq!(receiver.response().assert(200).text(), "to the host", "{host}");
        sender.response().assert(200);
    }
    for guest in [
        "X-A: b".to_owned(),
        format!("Cookie: token={swapped}"),
        "Cookie: token=".to_owned(),
        format!("Cookie: token={token}x"),
        format!("Cookie: token={}", &token[1..]),
        format!("Cookie: Token={token}"),
        format!("Cookie: xtoken={token}"),
        format!("X-Token: {token}"),
    ] {
        let mut receiver = session.waits(&server, &[&guest]);
        let mut sender = server.client();
        sender.post(&session.path, &[&session.cookie], b"to the guest");
        assert_eq!(receiver.response().assert(200).text(), "to the guest", "{guest}");
        sender.response().assert(200);
    }
}

pub(crate) fn one_receiver_a_side(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut host = session.host_waits(&server);
    let guest = session.guest_waits(&server); // both may wait at once
    for fields in [&[session.cookie.as_str()][..], &[]] {
        let response = server.client().request(&session.get(), fields).response();
        assert_eq!(response.assert(409).text(), "there can be only one receiver at a time");
        assert_eq!(response.get("content-type"), Some("text/plain"));
    }
    // A receiver that disconnects frees its slot.
    server.until_disconnected(|| guest.leave());
    let _guest = session.guest_waits(&server);
    // So does one that was served, at once.
    let mut sender = server.client();
    sender.post(&session.path, &[], b"one");
    assert_eq!(host.response().assert(200).text(), "one");
    host.request(&session.get(), &[&session.cookie, "X-Timeout: 0"]).response().assert(504);
}

pub(crate) fn one_sender_a_side(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let (mut host, mut guest) = (server.client(), server.client());
    server.until_requested(|| host.post(&session.path, &[&session.cookie], b"from the host").sent());
    server.until_requested(|| guest.post(&session.path, &[], b"from the guest").sent());
    for fields in [&[session.cookie.as_str()][..], &[]] {
        let response = server.client().post(&session.path, fields, b"me too").response();
        assert_eq!(response.assert(409).text(), "there can be only one sender at a time");
        assert_eq!(response.get("content-type"), Some("text/plain"));
    }
    assert_eq!(server.client().request(&session.get(), &[]).response().text(), "from the host");
    assert_eq!(host.response().assert(200).get("x-bytes-delivered"), Some("13"));
    // The slot is free as soon as the sender has its response.
    server.client().post(&session.path, &[&session.cookie, "X-Timeout: 0"], b"more").response().assert(504);
    assert_eq!(server.client().request(&session.get(), &[&session.cookie]).response().text(), "from the guest");
    assert_eq!(guest.response().assert(200).get("x-bytes-delivered"), Some("14"));
}

pub(crate) fn timeouts(setup: Setup) {
    let server = start_with(setup, |c| c.request_timeout_max = Duration::from_millis(100));
    let session = Session::new(&server);
    let mut client = server.client();
    let host = session.cookie.as_str();
    for (query, fields) in [
        ("", &["X-Timeout: 0"][..]),
        ("", &["X-Timeout: 0x"]),
        ("?timeout=0", &[]),
        ("?timeout=0s", &[]),
        ("?timeout=3000", &["X-Timeout: 0"]), // the field takes precedence
        ("?timeout=0", &["X-Timeout: soon"]), // an invalid one is ignored
        ("?a=b&timeout=0", &[]),
        ("?timeout=3000", &[]), // clamped
    ] {
        for side in ["X-A: b", host] {
            for method in ["GET", "POST"] {
                let fields: Vec<&str> = fields.iter().copied().chain([side]).collect();
                let response = client.request(&format!("{method} {}{query}", session.path), &fields).response();
                assert_eq!(response.assert(504).text(), "request timed out");
                assert_eq!(response.get("content-type"), Some("text/plain"));
                match response.get("set-cookie") {
                    Some(cookie) => {
                        assert!(side == host && cookie.starts_with(&format!("token={}; ", session.token)), "{cookie}");
                        assert!(cookie.contains(&format!("; Path={}; Max-Age=3600", session.path)), "{cookie}");
                    }
                    None => assert_ne!(side, host, "{method} {query}"),
                }
            }
        }
    }
}

pub(crate) fn a_connection_goes_on(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut client = server.client();
    client.request(&session.get(), &["X-Timeout: 0"]).response().assert(504);
    client.request(&session.get(), &["X-Timeout: 0"]).response().assert(504);
    let mut sender = server.client();
    for text in ["one", "two", "three"] {
        server.until_requested(|| {
            client.request(&session.get(), &[]);
        });
        sender.post(&session.path, &[&session.cookie], text.as_bytes());
        assert_eq!(client.response().assert(200).text(), text);
        let report = sender.response();
        assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(text.len().to_string().as_str()));
    }
    client.request("PUT /cama/session", &[]).response().assert(201);
}
