//! The behaviour of every server, in every mode and on every transport.

use uncork::ws::{CloseCause, Config};

use crate::{
    peer::{BEGIN_TEXT, BINARY, CLOSE, END, MORE, PING, PONG, Peer, TEXT, echo, frame, serve_handlers},
    wire::Finish,
    world::{World, bytes},
};

matrix! {
    everywhere {
        messages_come_back,
        bytes_come_one_by_one,
        fragments_come_back_as_one,
        many_at_once_keep_their_order,
        a_message_larger_than_every_buffer,
        the_peer_closes,
        the_peer_leaves,
        a_rule_is_broken,
        the_server_stops,
        senders_are_elsewhere,
        a_close_of_ours,
        a_panic_ends_only_its_own_connection,
    }
}

fn messages_come_back(world: &World) {
    let (host, closed) = echo(world);
    let mut peer = Peer::open(&host);
    peer.send(TEXT, "hello, κόσμε").expect(TEXT, "hello, κόσμε");
    for n in [0, 1, 125, 126, 127, 4000, 65_535, 65_536, 200_000] {
        peer.send(BINARY, bytes(n)).expect(BINARY, bytes(n));
    }
    peer.send(PING, "are you there?").expect(PONG, "are you there?");
    peer.send(PONG, "unsolicited").send(TEXT, "").expect(TEXT, "");
    peer.close();
    let end = closed.next();
    assert_eq!((end.code, end.cause, end.is_clean()), (1000, CloseCause::PeerClosed, true));
}

fn bytes_come_one_by_one(world: &World) {
    let (host, _closed) = echo(world);
    let mut peer = Peer::open(&host);
    for frame in [frame(TEXT, "κόσμε"), frame(PING, "p"), frame(BINARY, bytes(130))] {
        frame.iter().for_each(|byte| _ = peer.wire.send([*byte]));
    }
    peer.expect(TEXT, "κόσμε").expect(PONG, "p").expect(BINARY, bytes(130));
    peer.close();
}

fn fragments_come_back_as_one(world: &World) {
    let (host, _closed) = echo(world);
    let mut peer = Peer::open(&host);
    peer.send(BEGIN_TEXT, "to").send(PING, "1").expect(PONG, "1");
    peer.send(MORE, "geth").send(PING, "2").expect(PONG, "2");
    peer.send(MORE, "").send(END, "er").expect(TEXT, "together");
    peer.close();
}

fn many_at_once_keep_their_order(world: &World) {
    let (host, _closed) = echo(world);
    let mut peer = Peer::open(&host);
    let texts: Vec<String> = (0..2000).map(|i| format!("message {i} {}", "x".repeat(i % 200))).collect();
    let all: Vec<u8> = texts.iter().flat_map(|text| frame(TEXT, text)).collect();
    peer.wire.send(all);
    texts.iter().for_each(|text| _ = peer.expect(TEXT, text));
    peer.close();
}

fn a_message_larger_than_every_buffer(world: &World) {
    let (host, _closed) = echo(world);
    let mut peer = Peer::open(&host);
    let large = bytes(5 << 20);
    peer.send(BINARY, &large).expect(BINARY, &large);
    peer.close();
}

fn the_peer_closes(world: &World) {
    let (host, closed) = echo(world);
    let mut peer = Peer::open(&host);
    // Earlier messages get their response first.
    let wire = [frame(TEXT, "last message"), frame(CLOSE, b"\x0f\xa0the reason"), frame(TEXT, "ignored")].concat();
    peer.wire.send(wire);
    peer.expect(TEXT, "last message").closed(4000, "");
    let end = closed.next();
    assert_eq!((end.code, end.reason.as_str(), end.cause), (4000, "the reason", CloseCause::PeerClosed));
    let mut peer = Peer::open(&host);
    peer.send(CLOSE, "").expect(CLOSE, "").wire.ends(Finish::Clean);
    assert_eq!(closed.next().code, 1005);
}

fn the_peer_leaves(world: &World) {
    let (host, closed) = echo(world);
    let mut peer = Peer::open(&host);
    peer.wire.send([frame(TEXT, "x"), frame(TEXT, "half")[..7].to_vec()].concat());
    peer.expect(TEXT, "x");
    peer.wire.finish().ends(Finish::Clean);
    let end = closed.next();
    assert_eq!((end.code, end.cause, end.is_clean()), (1006, CloseCause::NoCloseFrame, false));
    let peer = Peer::open(&host);
    peer.wire.reset();
    assert_eq!(closed.next().code, 1006);
}

fn a_rule_is_broken(world: &World) {
    let (host, closed) = echo(world);
    #[rustfmt::skip]
    let rows: &[(&[u8], u16, &str)] = &[
        (b"\x81\x05Hello",              1002, "incorrect mask flag"),
        (&frame(0xc1, "x"),             1002, "reserved bits must be 0"),
        (&frame(0x83, "x"),             1002, "reserved opcode"),
        (&frame(TEXT, b"\xff"),         1007, "text that is not UTF-8"),
        (&frame(CLOSE, b"\x03\xee"),    1002, "a Close with a code that must not be sent"),
    ];
    for (wrong, code, rule) in rows {
        let mut peer = Peer::open(&host);
        peer.wire.send([&frame(TEXT, "before")[..], wrong, &frame(TEXT, "after")].concat());
        peer.expect(TEXT, "before").closed(*code, rule);
        assert_eq!(closed.next().cause, CloseCause::Rejected { code: *code, rule });
    }
    // Within a frame: no further byte is needed.
    let mut peer = Peer::open(&host);
    peer.wire.send(&frame(TEXT, b"ab\xff and more")[..9]);
    peer.closed(1007, "text that is not UTF-8");
}

fn the_server_stops(world: &World) {
    let (host, closed) = echo(world);
    let mut peer = Peer::open(&host);
    peer.send(TEXT, "x").expect(TEXT, "x");
    host.stopper.shutdown(std::time::Duration::from_secs(20));
    peer.expect(CLOSE, 1001u16.to_be_bytes());
    // The peer can still receive until it sends its own Close.
    peer.send(CLOSE, 1001u16.to_be_bytes()).wire.ends(Finish::Clean);
    let end = closed.next();
    assert_eq!((end.code, end.cause), (1001, CloseCause::LocalClosed));
    host.ends();
}

fn senders_are_elsewhere(world: &World) {
    let (host, senders) = serve_handlers(world, Config::new(), || |_: uncork::ws::Message<'_>, _| {});
    let mut peer = Peer::open(&host);
    let sender = senders.next();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let sender = sender.clone();
            std::thread::spawn(move || (0..50).for_each(|i| sender.text(&format!("{thread} {i}")).expect("room")))
        })
        .collect();
    let mut next = [0; 4];
    for _ in 0..200 {
        let (first, payload) = peer.next();
        let text = String::from_utf8(payload).expect("text");
        let (thread, i) = text.split_once(' ').expect("two numbers");
        let (thread, i): (usize, usize) = (thread.parse().expect("a number"), i.parse().expect("a number"));
        assert_eq!((first, i), (TEXT, next[thread]), "each thread's messages keep their order");
        next[thread] += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    // One at a time, so that the session sleeps in between.
    for i in 0..20 {
        sender.text(&i.to_string()).expect("room");
        peer.expect(TEXT, i.to_string());
    }
    peer.close();
}

fn a_close_of_ours(world: &World) {
    let (host, senders) = serve_handlers(world, Config::new(), || |_: uncork::ws::Message<'_>, _| {});
    let mut peer = Peer::open(&host);
    let sender = senders.next();
    sender.text("first").expect("room");
    sender.close(4321, "enough");
    assert!(sender.is_closed() && sender.text("late").is_err());
    peer.expect(TEXT, "first").expect(CLOSE, [&4321u16.to_be_bytes()[..], b"enough"].concat());
    peer.send(TEXT, "received nevertheless").send(CLOSE, 4321u16.to_be_bytes()).wire.ends(Finish::Clean);
}

fn a_panic_ends_only_its_own_connection(world: &World) {
    let (host, _senders) = serve_handlers(world, Config::new(), || {
        |message: uncork::ws::Message<'_>, _| assert!(message.bytes() != b"panic", "a test's own panic")
    });
    let mut other = Peer::open(&host);
    let mut peer = Peer::open(&host);
    peer.send(TEXT, "panic");
    let (rest, _) = peer.wire.until_end();
    assert_eq!(rest, b"");
    other.send(PING, "").expect(PONG, "");
    other.close();
}
