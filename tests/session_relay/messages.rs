//! `POST`: messages, also those whose sender or receiver disconnects.

use super::*;

pub(crate) fn nothing_at_all_is_a_message_too(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    for (fields, body, length) in [
        (&["Content-Length: 0", "Content-Type: a/b"][..], "", Some("0")),
        (&["Content-Type: a/b"], "", Some("0")),
        (&["Transfer-Encoding: chunked", "Content-Type: a/b"], "0\r\n\r\n", None),
    ] {
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), fields).send(body);
        let response = receiver.response();
        assert_eq!((response.assert(200).text(), response.get("content-type")), ("", Some("a/b")));
        assert_eq!((response.get("content-length"), response.is_chunked()), (length, length.is_none()));
        assert_eq!(sender.response().assert(200).get("x-bytes-delivered"), Some("0"));
    }
    // A message without a type is passed on without one.
    let mut receiver = session.host_waits(&server);
    server.client().post(&session.path, &[], b"x").response().assert(200);
    assert_eq!(receiver.response().assert(200).get("content-type"), None);
}

pub(crate) fn chunked_is_progressive(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked", "Content-Type: text/x"]);
    let head = receiver.head();
    assert_eq!((head.assert(200).is_chunked(), head.get("content-type")), (true, Some("text/x")));
    assert_eq!(head.get("content-length"), None);
    for word in ["each word", "arrives", "before the next one", "was sent"] {
        sender.chunk(word.as_bytes());
        let mut got = Vec::new();
        while got.len() < word.len() {
            got.extend(receiver.next_chunk().expect("a chunk").expect("not the last"));
        }
        assert_eq!(got, word.as_bytes());
    }
    assert!(sender.is_silent(MOMENT));
    sender.chunk(b"");
    assert_eq!(receiver.next_chunk().expect("the last"), None);
    let report = sender.response();
    assert_eq!(report.assert(200).get("x-bytes-delivered"), Some("43"));
    assert_eq!((report.get("x-bytes-relayed"), report.get("content-length")), (Some("43"), Some("0")));
}

pub(crate) fn trailers_pass_through(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]);
    sender.send("5\r\nhello\r\n0\r\nX-Checksum: 42\r\n\r\n");
    receiver.head().assert(200);
    assert_eq!(receiver.next_chunk().expect("a chunk").expect("data"), b"hello");
    let error = receiver.next_chunk().expect_err("a trailer is not a chunk");
    assert!(error.to_string().contains("X-Checksum: 42"), "{error}");
    sender.response().assert(200);
}

pub(crate) fn the_body_is_asked_for_only_when_somebody_is_there(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut sender = server.client();
    let fields = ["Expect: 100-continue", "Content-Length: 5"];
    server.until_requested(|| {
        sender.request(&format!("POST {}", session.path), &fields);
    });
    assert!(sender.is_silent(MOMENT));
    let mut receiver = session.host_waits(&server);
    sender.head().assert(100);
    sender.send("hello");
    assert_eq!(receiver.response().assert(200).text(), "hello");
    assert_eq!(sender.response().assert(200).get("x-bytes-delivered"), Some("5"));
    // No receiver: no 100, but the final response.
    sender.request(&format!("POST {}", session.path), &["Expect: 100-continue", "Content-Length: 5", "X-Timeout: 0"]);
    sender.head().assert(504);
}

pub(crate) fn nothing_is_read_until_somebody_is_there(setup: Setup) {
    // More than the client's and the server's socket hold.
    const TOTAL: usize = 12 << 20;
    let server = start(setup);
    let session = Session::new(&server);
    let mut sender = server.client();
    server.until_requested(|| {
        sender.request(&format!("POST {}", session.path), &[&format!("Content-Length: {TOTAL}")]);
    });
    let sent = push_until_stuck(&mut sender, TOTAL);
    assert!(sent < TOTAL, "it was read and kept");
    let mut receiver = session.host_waits(&server);
    let head = receiver.head();
    assert_eq!(head.assert(200).get("content-length"), Some(TOTAL.to_string().as_str()));
    exchange(sender, receiver, sent, TOTAL);
}

pub(crate) fn a_stalled_receiver_pushes_back(setup: Setup) {
    // More than all sockets on the path hold. The clients' buffers are small, but the system lets the server's
    // grow: 32 MiB to receive, 4 MiB to send.
    const TOTAL: usize = 40 << 20;
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &[&format!("Content-Length: {TOTAL}")]);
    receiver.head().assert(200);
    let sent = push_until_stuck(&mut sender, TOTAL);
    assert!(sent < TOTAL, "the receiver takes nothing, and yet everything was read");
    exchange(sender, receiver, sent, TOTAL);
}

/// Sends the rest while everything is received.
fn exchange(mut sender: Client, mut receiver: Client, sent: usize, total: usize) {
    let report = std::thread::spawn(move || {
        sender.send(pattern(sent, total - sent));
        sender.response()
    });
    receive(&mut receiver, total);
    let report = report.join().expect("no panic");
    assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(total.to_string().as_str()));
}

pub(crate) fn a_receiver_that_disconnected_loses_nothing(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let early = session.host_waits(&server);
    server.until_disconnected(|| early.leave());
    let mut sender = server.client();
    server.until_requested(|| sender.post(&session.path, &[], b"for the next receiver").sent());
    assert!(sender.is_silent(MOMENT));
    assert_eq!(session.host_waits(&server).response().assert(200).text(), "for the next receiver");
    assert_eq!(sender.response().assert(200).get("x-bytes-delivered"), Some("21"));
    // A receiver does not wait for a sender that has disconnected.
    let mut early = server.client();
    server.until_requested(|| early.post(&session.path, &[], b"too late").sent());
    server.until_disconnected(|| early.leave());
    server.client().request(&session.get(), &[&session.cookie, "X-Timeout: 0"]).response().assert(504);
}

pub(crate) fn a_receiver_disconnects_in_mid_transfer(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let chunked = ["Transfer-Encoding: chunked"];
    let length = ["Content-Length: 100000000"];
    for (fields, half_closes) in [(chunked, false), (length, false), (chunked, true), (length, true)] {
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), &fields);
        receiver.head().assert(200);
        if fields == chunked {
            sender.chunk(b"a part of it");
            assert!(receiver.next_chunk().is_ok());
        } else {
            sender.send("a part of it");
            assert!(receiver.some(1).is_ok());
        }
        // The sender pauses, and gets its response at once.
        let kept = disconnect(receiver, half_closes);
        let report = sender.response();
        drop(kept);
        let delivered: u64 = report.assert(200).get("x-bytes-delivered").expect("a count").parse().expect("a number");
        // A minimum: with chunks and TLS it is rounded down.
        assert!(delivered <= 12, "{delivered}");
        if !setup.tls && fields == length {
            assert_eq!(delivered, 12, "that much was acknowledged");
        }
        assert_eq!(report.get("x-bytes-relayed").is_some(), fields == chunked);
        assert!(sender.is_closed(), "there is no receiver for the rest");
        // The session continues.
        let mut receiver = session.host_waits(&server);
        server.client().post(&session.path, &[], b"again").response().assert(200);
        assert_eq!(receiver.response().text(), "again");
    }
}

/// In a pause of a long message, which plain connections splice past the process, and past the receiver's loop.
pub(crate) fn a_receiver_disconnects_in_a_long_message(setup: Setup) {
    const PIECE: usize = 2 << 20;
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Content-Length: 100000000"]);
    receiver.head().assert(200);
    for _ in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(pattern(0, PIECE)).sent());
            receive(&mut receiver, PIECE);
        });
    }
    receiver.leave();
    let report = sender.response();
    let delivered: usize = report.assert(200).get("x-bytes-delivered").expect("a count").parse().expect("a number");
    // Over TLS it is rounded down to whole records.
    assert!(delivered <= 3 * PIECE && delivered > 3 * PIECE - (64 << 10), "{delivered}");
    if !setup.tls {
        assert_eq!(delivered, 3 * PIECE, "that much was acknowledged");
    }
    assert!(sender.is_closed(), "there is no receiver for the rest");
}

pub(crate) fn a_sender_disconnects_in_mid_transfer(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]).chunk(b"a part");
    let head = receiver.head();
    assert_eq!(receiver.next_chunk().expect("a chunk").expect("data"), b"a part");
    server.until_disconnected(|| sender.leave());
    assert_eq!(receiver.body(&head).expect("the terminating chunk"), b"");
    // The connection can carry another message, and the sender's slot is free.
    server.until_requested(|| {
        receiver.request(&session.get(), &[&session.cookie]);
    });
    server.client().post(&session.path, &[], b"again").response().assert(200);
    assert_eq!(receiver.response().text(), "again");
    // A declared length cannot be revoked: the connection is closed.
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Content-Length: 10"]).send("short");
    let head = receiver.head();
    assert_eq!(head.assert(200).get("content-length"), Some("10"));
    sender.leave();
    assert!(receiver.body(&head).is_err());
}

pub(crate) fn a_sender_disconnects_and_that_shows(setup: Setup) {
    let server = start_with(setup, |c| c.end_cleanly_if_truncated = false);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]).chunk(b"a part");
    let head = receiver.head();
    assert_eq!(receiver.next_chunk().expect("a chunk").expect("data"), b"a part");
    sender.leave();
    let error = receiver.body(&head).expect_err("no terminating chunk");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error:?}");
}

pub(crate) fn many_messages_in_a_row(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let (mut sender, mut receiver) = (server.client(), server.client());
    let path = session.path.clone();
    let sending = std::thread::spawn(move || {
        for i in 0..200usize {
            let body = pattern(i, i * 37 % 5000);
            if i % 2 == 0 {
                sender.post(&path, &[], &body);
            } else {
                sender.request(&format!("POST {path}"), &["Transfer-Encoding: chunked"]);
                body.chunks(700).for_each(|part| {
                    sender.chunk(part);
                });
                sender.chunk(b"");
            }
            let report = sender.response();
            assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(body.len().to_string().as_str()), "{i}");
        }
    });
    for i in 0..200usize {
        let response = receiver.request(&session.get(), &[&session.cookie]).response();
        assert!(response.assert(200).body == pattern(i, i * 37 % 5000), "{i}");
    }
    sending.join().expect("no panic");
}
