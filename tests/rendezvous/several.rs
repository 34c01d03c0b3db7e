//! Several receivers.

use super::*;

pub(crate) fn three_and_one_is_slow(setup: Setup) {
    // More than all sockets on the path hold.
    const TOTAL: usize = 24 << 20;
    let server = start(setup);
    let stream = Stream::with(&server, "?n=3", "");
    let mut receivers: Vec<Client> = (0..2).map(|_| stream.get()).collect();
    let mut source = stream.put(&format!("Content-Length: {TOTAL}"));
    assert!(receivers[0].is_silent(MOMENT), "not all receivers are there");
    stream.is("SRC_CONNECTED");
    receivers.push(stream.get());
    stream.is("STREAMING");
    let taken = "A client has already connected to the destination side of this stream";
    is_error(&stream.get().response(), 429, "AlreadyConnectedError", taken);
    let slow = receivers.pop();
    // The others read at once; yet the one that does not read stops the source.
    let others: Vec<_> = receivers
        .into_iter()
        .map(|mut receiver| {
            std::thread::spawn(move || {
                assert_eq!(receiver.head().assert(200).get("content-length"), Some(&*TOTAL.to_string()));
                receive(&mut receiver, TOTAL);
            })
        })
        .collect();
    let sent = push_until_stuck(&mut source, TOTAL);
    assert!(sent < TOTAL, "it did not wait for the slowest");
    let rest = std::thread::spawn(move || source.send(pattern(sent, TOTAL - sent)).response());
    let mut slow = slow.expect("the third");
    slow.head().assert(200);
    receive(&mut slow, TOTAL);
    others.into_iter().for_each(|other| other.join().expect("no panic"));
    rest.join().expect("no panic").assert(200);
    assert!(stream.is("FINISHED").ends_with(&format!("\"bytes_transferred\":{TOTAL}}}")));
}

pub(crate) fn one_of_three_disconnects(setup: Setup) {
    let server = start(setup);
    let stream = Stream::with(&server, "?n=3", "");
    let mut receivers: Vec<Client> = (0..3).map(|_| stream.get()).collect();
    let mut source = stream.put("Transfer-Encoding: chunked");
    source.chunk(b"part");
    let heads: Vec<TestResponse> = receivers.iter_mut().map(Client::head).collect();
    let early = receivers.pop().expect("three");
    // Its end is noticed although the source pauses; the others get everything.
    server.until_disconnected(|| early.leave());
    assert!(source.is_silent(MOMENT));
    for _ in 0..20 {
        source.chunk(b"more");
    }
    source.chunk(b"");
    for (receiver, head) in receivers.iter_mut().zip(&heads) {
        assert_eq!(receiver.body(head).expect("whole"), [&b"part"[..], &b"more".repeat(20)].concat());
    }
    is_fault(&source.response(), DESTINATION_CLOSED);
    stream.is("DST_DISCONNECTED");
}

/// The source gets its response when the last of them has disconnected, also while it pauses.
pub(crate) fn all_of_three_disconnect(setup: Setup) {
    let server = start(setup);
    let stream = Stream::with(&server, "?n=3", "");
    let mut receivers: Vec<Client> = (0..3).map(|_| stream.get()).collect();
    let mut source = stream.put("Content-Length: 100");
    source.send("abc");
    for receiver in &mut receivers {
        receiver.head().assert(200);
    }
    let last = receivers.pop().expect("three");
    for receiver in receivers {
        server.until_disconnected(|| receiver.leave());
    }
    assert!(source.is_silent(MOMENT));
    last.leave();
    is_fault(&source.response(), DESTINATION_CLOSED);
    stream.is("DST_DISCONNECTED");
}

pub(crate) fn one_that_disconnected_frees_its_place(setup: Setup) {
    let server = start(setup);
    let stream = Stream::with(&server, "?n=2", "");
    let early = stream.get();
    let mut first = stream.get();
    server.until_disconnected(|| early.leave());
    stream.is("DST_CONNECTED");
    let mut source = stream.put_all(b"hello");
    assert!(first.is_silent(MOMENT));
    let mut second = stream.get();
    assert_eq!(first.response().text(), "hello");
    assert_eq!(second.response().text(), "hello");
    source.response().assert(200);
}

pub(crate) fn a_source_that_disconnected_is_reported(setup: Setup) {
    let server = start(setup);
    let stream = Stream::with(&server, "?n=2", "");
    let mut first = stream.get();
    let source = stream.put("Content-Length: 5");
    server.until_disconnected(|| source.leave());
    is_fault(&first.response(), SOURCE_CLOSED);
    not_found(&stream.get().response());
    stream.is("SRC_DISCONNECTED");
    // All waiting clients get the error.
    let stream = Stream::with(&server, "?n=2", "");
    let mut waiting = [stream.get(), stream.put("Content-Length: 5")];
    stream.error("{\"http_status\":410}").assert(200);
    waiting.iter_mut().for_each(|client| {
        client.response().assert(410);
    });
}
