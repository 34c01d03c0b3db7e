//! Violations of a peer, and timeouts of a silent one.

#![expect(clippy::disallowed_methods, reason = "a peer that is silent for a while")]

use std::time::Duration;

use uncork::{
    Limits,
    ws::{CloseCause, Config},
};

use crate::{
    peer::{
        BEGIN_TEXT, BINARY, CLOSE, END, MORE, PING, PLAIN, PONG, Peer, TEXT, echo, echo_within, frame, serve_handlers,
    },
    wire::{Finish, Wire},
    world::{Mode, World, bytes},
};

/// Long enough to notice an event that must not happen.
const MOMENT: Duration = Duration::from_millis(100);
/// Short, for expected timeouts.
const SOON: Duration = Duration::from_millis(30);

fn small() -> Config {
    Config::new().message(1000).frame(600).fragments(3)
}

#[test]
fn what_is_too_big_is_rejected() {
    let (host, closed) = echo_within(&PLAIN, Limits::default(), small());
    #[rustfmt::skip]
    let rows: &[(Vec<u8>, &str)] = &[
        (frame(BINARY, bytes(601)),                                                           "frame too big"),
        // Before its payload has arrived.
        (frame(BINARY, bytes(100_000))[..14].to_vec(),                                        "frame too big"),
        ([frame(BEGIN_TEXT, "x".repeat(600)), frame(MORE, "x".repeat(401))].concat(),         "message too big"),
        ([frame(BEGIN_TEXT, ""), frame(MORE, ""), frame(MORE, ""), frame(MORE, "")].concat(), "too many fragments"),
    ];
    for (wrong, rule) in rows {
        let mut peer = Peer::open(&host);
        peer.wire.send(wrong);
        peer.closed(1009, rule);
        assert_eq!(closed.next().cause, CloseCause::Rejected { code: 1009, rule });
    }
    let mut peer = Peer::open(&host);
    peer.send(BEGIN_TEXT, "x".repeat(600)).send(0x80, "x".repeat(400)).expect(TEXT, "x".repeat(1000));
    peer.close();
}

/// The engine may hold less of the input than a frame has, and less of the output.
#[test]
fn frames_may_be_larger_than_the_engines_buffers() {
    let limits = Limits { upgrade_input: 16, output: 16, ..Limits::default() };
    let (host, _closed) = echo_within(&PLAIN, limits, Config::new());
    let mut peer = Peer::open(&host);
    for n in [0, 10, 125, 126, 5000, 100_000] {
        peer.send(BINARY, bytes(n)).expect(BINARY, bytes(n));
        peer.send(PING, bytes(n.min(125))).expect(PONG, bytes(n.min(125)));
    }
    peer.close();
}

#[test]
fn a_silent_peer_gets_a_ping_and_times_out_without_a_pong() {
    let config = Config::new().ping_interval(SOON).pong_timeout(Duration::from_secs(20));
    let (host, closed) = echo_within(&PLAIN, Limits::default(), config);
    let mut peer = Peer::open(&host);
    for _ in 0..3 {
        peer.expect(PING, "").send(PONG, "");
    }
    // Anything that the peer sends counts as a pong.
    peer.expect(PING, "").send(TEXT, "here").expect(TEXT, "here");
    peer.expect(PING, "").send(CLOSE, "").expect(CLOSE, "");
    assert_eq!(closed.next().cause, CloseCause::PeerClosed);

    let config = Config::new().ping_interval(SOON).pong_timeout(SOON);
    let (host, closed) = echo_within(&PLAIN, Limits::default(), config);
    let mut peer = Peer::open(&host);
    peer.expect(PING, "").wire.ends(Finish::Clean);
    let end = closed.next();
    assert_eq!((end.code, end.cause), (1006, CloseCause::PongTimeout));
}

#[test]
fn a_ping_can_be_switched_off_and_idle_ends() {
    let (host, closed) = echo_within(&PLAIN, Limits::default(), Config::new().ping_interval(None).idle_timeout(MOMENT));
    let mut peer = Peer::open(&host);
    for _ in 0..4 {
        std::thread::sleep(MOMENT / 3);
        peer.send(PING, "").expect(PONG, "");
    }
    peer.wire.ends(Finish::Clean);
    assert_eq!(closed.next().cause, CloseCause::IdleTimeout);
}

#[test]
fn a_close_without_a_response_times_out() {
    let config = Config::new().close_timeout(SOON);
    let (host, senders) = serve_handlers(&PLAIN, config.clone(), || |_: uncork::ws::Message<'_>, _| {});
    let mut peer = Peer::open(&host);
    senders.next().close(1000, "");
    peer.closed(1000, "");
    // A Close that cannot be sent times out, too.
    let (host, closed) = echo_within(&PLAIN, Limits::default(), config);
    let mut peer = Peer::over(host.connect_narrow());
    let message = bytes(1 << 20);
    (0..10).for_each(|_| _ = peer.wire.push(&frame(BINARY, &message), MOMENT));
    host.stopper.shutdown(Duration::from_secs(20));
    assert_eq!(closed.next().cause, CloseCause::CloseTimeout);
}

/// Returns the peer's next frame that is not a ping. Responds to pings, as a browser does.
fn next_after_pings(peer: &mut Peer) -> (u8, Vec<u8>) {
    loop {
        match peer.next() {
            (PING, payload) => _ = peer.send(PONG, payload),
            other => return other,
        }
    }
}

#[test]
fn a_stalled_message_is_rejected_even_if_pings_get_pongs() {
    let config = Config::new().ping_interval(SOON).message_timeout(MOMENT * 2);
    let (host, closed) = echo_within(&PLAIN, Limits::default(), config.clone());
    let rule = "message too slow";
    let mut peer = Peer::open(&host);
    peer.send(BEGIN_TEXT, "never ended");
    assert_eq!(next_after_pings(&mut peer), (CLOSE, [&1008_u16.to_be_bytes()[..], rule.as_bytes()].concat()));
    peer.wire.ends(Finish::Clean);
    assert_eq!(closed.next().cause, CloseCause::Rejected { code: 1008, rule });

    // A message that progresses is accepted, however long it takes.
    let config = config.message_timeout(MOMENT * 6).message_min_rate(0).ping_interval(None);
    let (host, _closed) = echo_within(&PLAIN, Limits::default(), config);
    let mut peer = Peer::open(&host);
    peer.send(BEGIN_TEXT, "x");
    for _ in 0..8 {
        std::thread::sleep(MOMENT);
        peer.send(MORE, "x");
    }
    peer.send(0x80, "x").expect(TEXT, "x".repeat(10));
    peer.close();
}

/// Handles each part more slowly than a message may arrive.
struct Slow(usize);

impl uncork::ws::Handler for Slow {
    fn message(&mut self, _: uncork::ws::Message<'_>, _: uncork::ws::Done) {}

    fn streams(&self) -> bool {
        true
    }

    fn part(&mut self, part: uncork::ws::MessagePart<'_>, done: uncork::ws::Done) {
        self.0 += part.piece.bytes().len();
        std::thread::spawn(move || {
            std::thread::sleep(MOMENT * 8);
            done.next();
        });
    }
}

#[test]
fn a_message_that_waits_for_the_handler_is_not_slow() {
    let config = Config::new().message_timeout(MOMENT * 5);
    let (host, senders) = serve_handlers(&PLAIN, config, || Slow(0));
    let mut peer = Peer::open(&host);
    let sender = senders.next();
    // The clock starts with the head.
    let first = frame(0x02, b"one");
    peer.wire.send(&first[..6]);
    std::thread::sleep(MOMENT * 2);
    // The rest is received before the first part was processed.
    peer.wire.send([&first[6..], &frame(MORE, b"two")[..]].concat());
    std::thread::sleep(MOMENT * 10);
    peer.wire.send([frame(END, b"three"), frame(PING, b"!")].concat());
    peer.expect(PONG, "!");
    assert!(!sender.is_closed());
    peer.close();
}

/// The loop's budget: the connection that holds most is closed, and a small message beside it is not affected.
#[test]
fn messages_that_are_arriving_have_a_budget_together() {
    let limits = Limits { buffers: 4 << 20, ..Limits::default() };
    for world in [PLAIN, World::tls(Mode::External)] {
        let (host, closed) = echo_within(&world, limits.clone(), Config::new());
        let (mut small, rule) = (Peer::open(&host), "too many messages are arriving");
        small.send(BEGIN_TEXT, "small ");
        // A thread has its own loop, and a loop may have either of the large ones, or both.
        let mut large: Vec<Peer> = (0..8).map(|_| Peer::open(&host)).collect();
        for peer in &mut large {
            // It may be closed before everything is sent.
            let _ = peer.wire.try_send(frame(0x02, bytes(700_000)));
        }
        let end = closed.next();
        assert_eq!(end.cause, CloseCause::Rejected { code: 1013, rule });
        // The memory of the closed connections is free again.
        drop(large);
        (1..8).for_each(|_| drop(closed.next()));
        small.send(END, "and whole").expect(TEXT, "small and whole");
        small.send(BINARY, bytes(900_000)).expect(BINARY, bytes(900_000));
        small.close();
    }
}

/// Messages of one address displace only its own, not a larger one of another address.
#[test]
fn one_address_does_not_push_out_the_messages_of_another() {
    let limits = Limits { buffers: 4 << 20, ..Limits::default() };
    let (host, closed) = echo_within(&World::plain(Mode::External), limits, Config::new());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("all of 127/8 is this machine");
    socket.connect(&host.addr().into()).expect("connected");
    let mut other = Peer::over(Wire::over(socket.into(), None).expect("plain"));
    other.send(0x02, bytes(500_000)).send(PING, "all of it").expect(PONG, "all of it");
    let mut crowd: Vec<Peer> = (0..20).map(|_| Peer::open(&host)).collect();
    for peer in &mut crowd {
        let _ = peer.wire.try_send(frame(0x02, bytes(300_000)));
    }
    let rule = "too many messages are arriving";
    (0..5).for_each(|_| assert_eq!(closed.next().cause, CloseCause::Rejected { code: 1013, rule }));
    other.send(END, "").expect(BINARY, bytes(500_000));
    other.close();
}

/// The server does not read from a peer that sends and does not read, and its cost is bounded by the limits.
#[test]
fn a_peer_that_does_not_read_is_pushed_back() {
    let (host, _closed) = echo_within(&PLAIN, Limits::default(), Config::new().queue(100_000));
    let mut peer = Peer::over(host.connect_narrow());
    let message = frame(BINARY, bytes(10_000));
    let all = message.repeat(5000);
    let sent = peer.wire.push(&all, MOMENT * 3);
    assert!(sent < all.len(), "50 MB were taken and nothing was read");
    let mut other = Peer::open(&host);
    other.send(TEXT, "unaffected").expect(TEXT, "unaffected");
    // When it reads again, everything that the server accepted comes back.
    let whole = sent / message.len();
    (0..whole).for_each(|_| _ = peer.expect(BINARY, bytes(10_000)));
    peer.wire.send(&all[sent..(whole + 1) * message.len()]);
    peer.expect(BINARY, bytes(10_000));
    peer.close();
}

/// A flood of pings from a peer that does not read: at most one pong waits.
#[test]
fn pongs_are_sent_only_as_fast_as_they_are_read() {
    let (host, _closed) = echo(&PLAIN);
    let mut peer = Peer::over(host.connect_narrow());
    let ping = frame(PING, bytes(125));
    let flood = ping.repeat(200_000);
    // All pings are accepted, even if no pong can be sent.
    let mut sent = 0;
    while sent < flood.len() {
        let n = peer.wire.push(&flood[sent..], MOMENT * 50);
        assert!(n > 0, "pings are read continuously");
        sent += n;
    }
    peer.send(PING, "last");
    let mut pongs = 0;
    while peer.next() != (PONG, b"last".to_vec()) {
        pongs += 1;
    }
    assert!(pongs < 200_000, "some were skipped");
    peer.close();
}
