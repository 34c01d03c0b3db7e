//! Guests of a session, and its end: secure sessions, `DELETE`, lifetime.

use super::*;

pub(crate) fn a_secure_session(setup: Setup) {
    let server = start(setup);
    let session = Session::with(&server, "", &["X-Type: secure"]);
    let (mut host, mut guest) = (server.client(), server.client());
    let put = format!("PUT {}", session.path);
    let no_wait = "X-Timeout: 0";
    let refused = |answer: &Answer| {
        assert_eq!(answer.assert(403).get("content-type"), Some("text/plain"));
        assert!(!answer.body.is_empty());
    };
    // Without a permission there is no guest.
    refused(&guest.request(&session.get(), &[no_wait]).answer());
    refused(&guest.request(&format!("POST {}", session.path), &[no_wait]).answer());
    host.request(&session.get(), &[&session.cookie, no_wait]).answer().assert(504);
    // Only the host gives one, and only for an address.
    refused(&guest.request(&put, &["X-Peer-Address: 127.0.0.1"]).answer());
    for bad in ["X-Peer-Address: nobody", "X-Peer-Address: 127.0.0.1:80", "X-Peer-Address: 0.0.0.0", "X-A: b"] {
        host.request(&put, &[&session.cookie, bad]).answer().assert(400);
    }
    refused(&guest.request(&session.get(), &[no_wait]).answer());
    // A second permission replaces the first. A mapped address is the address it maps.
    for (ip, status) in [
        ("127.0.0.1", 504),
        ("192.0.2.1", 403),
        ("::ffff:127.0.0.1", 504),
        ("::1", 403),
        ("[::ffff:7f00:1]", 504),
        ("2001:db8::1", 403),
    ] {
        let answer = host.request(&put, &[&session.cookie, &format!("X-Peer-Address: {ip}")]).answer();
        assert_eq!(answer.assert(200).text(), "");
        guest.request(&session.get(), &[no_wait]).answer().assert(status);
        host.request(&session.get(), &[&session.cookie, no_wait]).answer().assert(504);
    }
}

pub(crate) fn a_basic_session_can_be_closed_to_others(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut waiting = session.guest_waits(&server);
    let mut host = server.client();
    let put = format!("PUT {}", session.path);
    host.request(&put, &[&session.cookie, "X-Peer-Address: 127.0.0.1"]).answer().assert(200);
    assert!(waiting.is_silent(MOMENT), "it was named");
    host.request(&put, &[&session.cookie, "X-Peer-Address: 192.0.2.1"]).answer().assert(200);
    waiting.answer().assert(403);
    waiting.request(&session.get(), &[]).answer().assert(403);
}

pub(crate) fn deletion(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let delete = format!("DELETE {}", session.path);
    let mut client = server.client();
    client.request(&delete, &[]).answer().assert(403);
    let mut receivers = [session.host_waits(&server), session.guest_waits(&server)];
    let answer = client.request(&delete, &[&session.cookie]).answer();
    assert_eq!(answer.assert(200).text(), "");
    let cookie = answer.get("set-cookie").expect("a deletion");
    assert!(
        cookie.starts_with("token=") && cookie.contains(&format!("; Path={}; Max-Age=0", session.path)),
        "{cookie}"
    );
    let expires = cookie.split_once("Expires=").and_then(|(_, rest)| rest.split(';').next());
    assert_eq!(expires, answer.get("date"));
    for receiver in &mut receivers {
        receiver.answer().assert(410);
        // The connection continues, the session does not.
        receiver.request(&session.get(), &[&session.cookie]).answer().assert(404);
    }
    client.request(&delete, &[&session.cookie]).answer().assert(404);
    client.request(&format!("PUT {}", session.path), &[&session.cookie]).answer().assert(404);

    // Waiting senders get the error as well.
    let session = Session::new(&server);
    let (mut host, mut guest) = (server.client(), server.client());
    server.seen(|| host.post(&session.path, &[&session.cookie], b"unheard").is_out());
    server.seen(|| guest.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]).is_out());
    client.request(&format!("DELETE {}", session.path), &[&session.cookie]).answer().assert(200);
    host.answer().assert(410);
    guest.answer().assert(410);
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
        server.client().request(&format!("DELETE {}", session.path), &[&session.cookie]).answer().assert(200);
        sender.answer().assert(410);
        other.answer().assert(410);
        assert!(sender.is_closed());
        // The receiver has only a part: as if the sender had been lost.
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
    client.request("GET /", &[]).answer().assert(404);
    receiver.request("GET /", &[]).answer().assert(404);
    let session = Session::new(&server);
    // While a peer is connected, the lifetime does not run; then it starts again, in full.
    server.seen(|| {
        receiver.request(&session.get(), &[]);
    });
    assert!(receiver.is_silent(ttl + ttl / 2));
    server.left(|| receiver.leave());
    client.request(&session.get(), &["X-Timeout: 0"]).answer().assert(504);
    assert!(client.is_silent(ttl + ttl / 2));
    let answer = client.request(&session.get(), &[&session.cookie]).answer();
    assert_eq!(answer.assert(404).text(), "");
    assert!(answer.get("set-cookie").expect("a deletion").starts_with("token=;"));
}

pub(crate) fn an_end_to_everything(setup: Setup) {
    let server = start_with(setup, |c| c.lifetime = Duration::from_millis(250));
    let session = Session::new(&server);
    let mut waiting = [session.host_waits(&server), session.guest_waits(&server)];
    for client in &mut waiting {
        client.answer().assert(410);
    }
    server.client().request(&session.get(), &[]).answer().assert(404);
    // A message in progress is truncated.
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Content-Length: 1000"]).send("a part");
    let head = receiver.head();
    sender.answer().assert(410);
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
