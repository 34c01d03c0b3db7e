//! Guests of a session, and its end: secure sessions, `DELETE`, lifetime.

use super::*;

pub(crate) fn a_secure_session(setup: Setup) {
    let server = start(setup);
    let session = Session::with(&server, "", &["X-Type: secure"]);
    let (mut host, mut guest) = (server.client(), server.client());
    let put = format!("PUT {}", session.path);
    let no_wait = "X-Timeout: 0";
    let assert_forbidden = |response: &TestResponse| {
        assert_eq!(response.assert(403).get("content-type"), Some("text/plain"));
        assert!(!response.body.is_empty());
    };
    // Without a permission there is no guest.
    assert_forbidden(&guest.request(&session.get(), &[no_wait]).response());
    assert_forbidden(&guest.request(&format!("POST {}", session.path), &[no_wait]).response());
    host.request(&session.get(), &[&session.cookie, no_wait]).response().assert(504);
    // Only the host gives a permission, and only for an address.
    assert_forbidden(&guest.request(&put, &["X-Peer-Address: 127.0.0.1"]).response());
    for bad in ["X-Peer-Address: nobody", "X-Peer-Address: 127.0.0.1:80", "X-Peer-Address: 0.0.0.0", "X-A: b"] {
        host.request(&put, &[&session.cookie, bad]).response().assert(400);
    }
    assert_forbidden(&guest.request(&session.get(), &[no_wait]).response());
    // A second permission replaces the first. A mapped address is the address it maps.
    for (ip, status) in [
        ("127.0.0.1", 504),
        ("192.0.2.1", 403),
        ("::ffff:127.0.0.1", 504),
        ("::1", 403),
        ("[::ffff:7f00:1]", 504),
        ("2001:db8::1", 403),
    ] {
        let response = host.request(&put, &[&session.cookie, &format!("X-Peer-Address: {ip}")]).response();
        assert_eq!(response.assert(200).text(), "");
        guest.request(&session.get(), &[no_wait]).response().assert(status);
        host.request(&session.get(), &[&session.cookie, no_wait]).response().assert(504);
    }
}

pub(crate) fn a_basic_session_can_be_closed_to_others(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut waiting = session.guest_waits(&server);
    let mut host = server.client();
    let put = format!("PUT {}", session.path);
    host.request(&put, &[&session.cookie, "X-Peer-Address: 127.0.0.1"]).response().assert(200);
    assert!(waiting.is_silent(MOMENT), "its address was named");
    host.request(&put, &[&session.cookie, "X-Peer-Address: 192.0.2.1"]).response().assert(200);
    waiting.response().assert(403);
    waiting.request(&session.get(), &[]).response().assert(403);
}

pub(crate) fn deletion(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let delete = format!("DELETE {}", session.path);
    let mut client = server.client();
    client.request(&delete, &[]).response().assert(403);
    let mut receivers = [session.host_waits(&server), session.guest_waits(&server)];
    let response = client.request(&delete, &[&session.cookie]).response();
    assert_eq!(response.assert(200).text(), "");
    let cookie = response.get("set-cookie").expect("a deletion");
    assert!(
        cookie.starts_with("token=") && cookie.contains(&format!("; Path={}; Max-Age=0", session.path)),
        "{cookie}"
    );
    let expires = cookie.split_once("Expires=").and_then(|(_, rest)| rest.split(';').next());
    assert_eq!(expires, response.get("date"));
    for receiver in &mut receivers {
        receiver.response().assert(410);
        // The connection continues, the session does not.
        receiver.request(&session.get(), &[&session.cookie]).response().assert(404);
    }
    client.request(&delete, &[&session.cookie]).response().assert(404);
    client.request(&format!("PUT {}", session.path), &[&session.cookie]).response().assert(404);

    // Waiting senders get the error as well.
    let session = Session::new(&server);
    let (mut host, mut guest) = (server.client(), server.client());
    server.until_requested(|| host.post(&session.path, &[&session.cookie], b"not received").sent());
    server.until_requested(|| guest.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]).sent());
    client.request(&format!("DELETE {}", session.path), &[&session.cookie]).response().assert(200);
    host.response().assert(410);
    guest.response().assert(410);
}

pub(crate) fn deletion_in_mid_transfer(setup: Setup) {
    let server = start(setup);
    for fields in [["Transfer-Encoding: chunked"], ["Content-Length: 1000"]] {
        let session = Session::new(&server);
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), &fields).chunk(b"a part");
        let head = receiver.head();
        match head.is_chunked() {
            true => assert!(receiver.next_chunk().is_ok()),
            false => assert!(receiver.some(1).is_ok()),
        }
        let mut other = session.host_waits(&server);
        server.client().request(&format!("DELETE {}", session.path), &[&session.cookie]).response().assert(200);
        sender.response().assert(410);
        other.response().assert(410);
        assert!(sender.is_closed());
        // The receiver has only a part: as if the sender had disconnected.
        match receiver.body(&head) {
            Ok(_) => assert!(head.is_chunked()),
            Err(error) => assert!(!head.is_chunked(), "{error}"),
        }
    }
}

pub(crate) fn expiry(setup: Setup) {
    // Long enough for a busy machine to respond within it. (A virtual clock in `state` tests the exact times.)
    let ttl = Duration::from_millis(700);
    let server = start_with(setup, |c| c.ttl = ttl);
    let (mut client, mut receiver) = (server.client(), server.client());
    client.request("GET /", &[]).response().assert(404);
    receiver.request("GET /", &[]).response().assert(404);
    let session = Session::new(&server);
    // While a peer is connected, the lifetime does not run; then it starts again, in full.
    server.until_requested(|| {
        receiver.request(&session.get(), &[]);
    });
    assert!(receiver.is_silent(ttl + ttl / 2));
    server.until_disconnected(|| receiver.leave());
    client.request(&session.get(), &["X-Timeout: 0"]).response().assert(504);
    assert!(client.is_silent(ttl + ttl / 2));
    let response = client.request(&session.get(), &[&session.cookie]).response();
    assert_eq!(response.assert(404).text(), "");
    assert!(response.get("set-cookie").expect("a deletion").starts_with("token=;"));
}

pub(crate) fn an_end_to_everything(setup: Setup) {
    let server = start_with(setup, |c| c.lifetime = Duration::from_millis(250));
    let session = Session::new(&server);
    let mut waiting = [session.host_waits(&server), session.guest_waits(&server)];
    for client in &mut waiting {
        client.response().assert(410);
    }
    server.client().request(&session.get(), &[]).response().assert(404);
    // A message in progress is truncated.
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Content-Length: 1000"]).send("a part");
    let head = receiver.head();
    sender.response().assert(410);
    assert!(receiver.body(&head).is_err());
}

#[test]
fn expiry_plain() {
    expiry(PLAIN_1);
}

#[test]
fn expiry_tls() {
    expiry(Setup { tls: true, threads: 2 });
}
