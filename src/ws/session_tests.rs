#![expect(clippy::disallowed_methods, reason = "the time does not matter")]

use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::{
    base::Moment,
    ws::server_harness::{Harness, Setup},
};

const S: Duration = Duration::from_secs(1);

fn now() -> Moment {
    Moment { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH }
}

fn setup() -> Setup {
    let config = Config::new().ping_interval(10 * S).pong_timeout(5 * S).close_timeout(3 * S);
    Setup { config, ..Setup::default() }
}

/// Encodes a frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[test]
fn it_waits_for_input_and_senders_and_a_deadline() {
    let at = now();
    let mut harness = Harness::new(&setup(), at);
    assert_eq!(harness.mask, EventMask::READ | EventMask::EXTERNAL);
    assert_eq!(harness.deadline, Some(at.mono + 10 * S));
    harness.feed(&frame(0x81, b"hi"));
    assert_eq!((harness.sent.as_slice(), harness.mask), (&b"\x81\x02hi"[..], EventMask::READ | EventMask::EXTERNAL));
    harness.sender.text("more").expect("room");
    harness.wake();
    assert_eq!(harness.sent, b"\x81\x02hi\x81\x04more");
}

#[test]
fn a_silent_peer_gets_a_ping_and_then_the_session_ends() {
    let at = now();
    let mut harness = Harness::new(&setup(), at);
    harness.late();
    assert_eq!((harness.sent.as_slice(), harness.deadline), (&b"\x89\x00"[..], Some(at.mono + 15 * S)));
    harness.late();
    assert!(harness.is_over() && !harness.aborted);
    assert_eq!(
        harness.closed().first().map(|closed| (closed.code, closed.cause)),
        Some((1006, CloseCause::PongTimeout))
    );
    assert!(harness.sender.is_closed());
}

#[test]
fn a_pong_ends_the_wait() {
    let at = now();
    let mut harness = Harness::new(&setup(), at);
    harness.late();
    harness.feed(&frame(0x8a, b""));
    assert_eq!(harness.deadline, Some(at.mono + 20 * S), "ten seconds after the pong");
    harness.late();
    assert_eq!(harness.sent, b"\x89\x00\x89\x00");
}

#[test]
fn stopping_begins_the_close_handshake_which_has_a_timeout() {
    let at = now();
    let mut harness = Harness::new(&setup(), at);
    harness.stop(false);
    assert_eq!((harness.sent.as_slice(), harness.deadline), (&b"\x88\x02\x03\xe9"[..], Some(at.mono + 3 * S)));
    assert!(!harness.is_over() && harness.sender.is_closed());
    harness.late();
    assert_eq!(
        harness.closed().first().map(|closed| (closed.code, closed.cause)),
        Some((1006, CloseCause::CloseTimeout))
    );
    // Completed, it is clean; pings get no pong any more.
    let mut harness = Harness::new(&setup(), at);
    harness.stop(false);
    harness.feed(&frame(0x89, b"p"));
    harness.feed(&frame(0x88, b"\x03\xe9"));
    assert_eq!(harness.sent, b"\x88\x02\x03\xe9");
    assert_eq!(
        harness.closed().first().map(|closed| (closed.code, closed.cause)),
        Some((1001, CloseCause::LocalClosed))
    );
}

#[test]
fn a_spread_close_comes_later_and_until_then_nothing_changes() {
    let at = now();
    let config = setup().config.drain_spread(8 * S);
    let mut harness = Harness::new(&Setup { config, ..Setup::default() }, at);
    harness.stop(false);
    let close = harness.deadline.expect("the time of its close");
    assert!(close <= at.mono + 8 * S && harness.sent.is_empty());
    harness.feed(&frame(0x81, b"hi"));
    harness.sender.text("more").expect("room");
    harness.wake();
    assert_eq!(harness.sent, b"\x81\x02hi\x81\x04more");
    harness.pass(close - at.mono);
    assert_eq!(harness.sent, b"\x81\x02hi\x81\x04more\x88\x02\x03\xe9");
    assert_eq!(harness.deadline, Some(close + 3 * S), "the close handshake has its timeout");
    harness.feed(&frame(0x88, b"\x03\xe9"));
    let closed = harness.closed().first().map(|closed| (closed.code, closed.cause));
    assert_eq!(closed, Some((1001, CloseCause::LocalClosed)));
    // A client that leaves before is not closed again.
    let mut harness = Harness::new(&Setup { config: setup().config.drain_spread(8 * S), ..Setup::default() }, at);
    harness.stop(false);
    harness.feed(&frame(0x88, b"\x03\xe8"));
    assert!(harness.is_over() && harness.sent == b"\x88\x02\x03\xe8");
}

#[test]
fn a_reset_is_reported_as_one() {
    let mut harness = Harness::new(&setup(), now());
    harness.stop(true);
    assert_eq!(harness.closed().first().map(|closed| closed.cause), Some(CloseCause::Reset));
}

/// RFC 6455 §7.1.4: after both Close frames it does not matter how the stream ends.
#[test]
fn after_both_close_frames_a_reset_changes_nothing() {
    let begun = |by_us: bool| {
        let mut harness = Harness::new(&Setup { client: true, ..setup() }, now());
        if by_us {
            harness.sender.close(4000, "");
            harness.wake();
        }
        harness.feed(b"\x88\x02\x0f\xa0");
        assert!(!harness.is_over(), "the server ends the stream");
        harness
    };
    for (by_us, cause) in [(true, CloseCause::LocalClosed), (false, CloseCause::PeerClosed)] {
        let ends: [fn(&mut Harness); 3] = [|harness| harness.stop(true), Harness::late, Harness::end];
        for end in ends {
            let mut harness = begun(by_us);
            end(&mut harness);
            assert_eq!(
                harness.closed().first().map(|closed| (closed.code, closed.cause, closed.is_clean())),
                Some((4000, cause, true))
            );
            assert!(!harness.aborted);
        }
    }
    // Only one side has closed.
    let mut harness = Harness::new(&Setup { client: true, ..setup() }, now());
    harness.sender.close(4000, "");
    harness.wake();
    harness.stop(true);
    assert_eq!(harness.closed().first().map(|closed| (closed.code, closed.cause)), Some((1006, CloseCause::Reset)));
}

#[test]
fn a_dropped_session_reports_its_end_even_if_it_never_began() {
    let reports = Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Reports(Arc<std::sync::Mutex<Vec<Closed>>>);
    impl Handler for Reports {
        fn message(&mut self, _: crate::ws::Message<'_>, _: Done) {}
        fn closed(&mut self, closed: &Closed) {
            self.0.lock().unwrap().push(closed.clone());
        }
    }
    let (session, sender) = Session::new(Role::Server, Config::new(), None, Reports(reports.clone()));
    sender.text("never sent").expect("room");
    drop(session);
    let reports = reports.lock().unwrap();
    assert_eq!(reports.iter().map(|closed| closed.cause).collect::<Vec<_>>(), [CloseCause::Dropped]);
    assert_eq!((sender.is_closed(), sender.queued()), (true, 0));
}

#[test]
fn a_client_masks_and_waits_for_the_server_to_end_the_stream() {
    let mut harness = Harness::new(&Setup { client: true, ..setup() }, now());
    harness.feed(b"\x81\x05Hello");
    let &[0x81, 0x85, a, b, c, d, ref payload @ ..] = &harness.sent[..] else { panic!("{:?}", harness.sent) };
    let mut payload = payload.to_vec();
    crate::ws::frame::mask(&mut payload, [a, b, c, d], 0);
    assert_eq!(payload, b"Hello");
    harness.feed(b"\x81\x01x");
    assert_ne!(harness.sent[13..17], [a, b, c, d], "each frame has its own key");
    harness.feed(b"\x88\x02\x03\xe8");
    assert!(!harness.is_over() && harness.mask.contains(EventMask::READ));
    harness.feed(b"ignored after a Close");
    harness.end();
    assert_eq!(
        harness.closed().first().map(|closed| (closed.code, closed.cause)),
        Some((1000, CloseCause::PeerClosed))
    );
}

#[test]
fn an_idle_session_is_small_and_holds_nothing() {
    let mut harness = Harness::new(&setup(), now());
    for size in [10, 100] {
        harness.feed(&frame(0x82, &vec![7; size]));
        harness.feed(&frame(0x02, &vec![7; size]));
        harness.feed(&frame(0x80, b"x"));
    }
    assert_eq!(harness.held(), 0, "nothing is allocated for messages while there are none");
    let all = size_of::<Session>() + size_of::<Core>();
    assert!(all <= 500, "{} + {}", size_of::<Session>(), size_of::<Core>());
}

/// Feeds a new session one piece after the other, a second apart.
fn feed_slowly(config: Config, frames: &[&[u8]]) -> Harness {
    let mut harness = Harness::new(&Setup { config, ..Setup::default() }, now());
    for bytes in frames {
        harness.feed(bytes);
        harness.pass(S);
    }
    harness
}

fn cause(harness: &Harness) -> Option<CloseCause> {
    harness.closed().first().map(|closed| closed.cause)
}

const SLOW: CloseCause = CloseCause::Rejected { code: 1008, rule: "message too slow" };

#[test]
fn a_stalled_message_is_rejected_whatever_comes_between() {
    let config = Config::new().ping_interval(None).message_timeout(5 * S).message_min_rate(10);
    let (begin, ping, pong, more) = (frame(0x01, b"x"), frame(0x89, b""), frame(0x8a, b""), frame(0x00, b""));
    // Nothing, pings, pongs, and frames of no bytes: none of them is more of the message.
    for (between, sent) in [(&b""[..], 0), (&ping, 4), (&pong, 0), (&more, 0)] {
        let harness = feed_slowly(config.clone(), &[&begin, between, between, between, between]);
        assert_eq!(cause(&harness), Some(SLOW));
        let close = [&b"\x8a\x00".repeat(sent)[..], b"\x88\x12\x03\xf0message too slow"].concat();
        assert_eq!(harness.sent.escape_ascii().to_string(), close.escape_ascii().to_string());
    }
    // Ten bytes a second are enough, however long it takes; nine are not.
    for (bytes, enough) in [(10, true), (9, false)] {
        let more = frame(0x00, &vec![b'x'; bytes]);
        let mut all: Vec<&[u8]> = vec![&begin];
        all.resize(100, &more);
        let mut harness = feed_slowly(config.clone(), &all);
        assert_eq!(cause(&harness), (!enough).then_some(SLOW), "{bytes}");
        if enough {
            harness.feed(&frame(0x80, b"."));
            assert_eq!(harness.sent.len(), 4 + 1 + 990 + 1);
            harness.pass(1000 * S);
            assert_eq!(cause(&harness), None, "between messages there is no clock");
        }
    }
    // The first bytes of a frame start the clock; so do those of a control frame, and its payload does not extend it.
    for first in [&[0x81, 0x82, 0, 0, 0, 0][..], &[0x89, 0xfd, 0, 0, 0, 0]] {
        assert_eq!(cause(&feed_slowly(config.clone(), &[first, b"", b"", b"", b""])), Some(SLOW));
    }
    let dripping: Vec<&[u8]> = [&[0x89, 0xfd, 0, 0, 0, 0][..]].into_iter().chain([&b"x"[..]; 100]).collect();
    assert_eq!(cause(&feed_slowly(config, &dripping)), Some(SLOW));
}

#[test]
fn each_message_has_a_timeout_of_its_own() {
    let config = Config::new().ping_interval(None).message_timeout(5 * S);
    let (begin, end_and_begin) = (frame(0x01, b"x"), [frame(0x80, b"y"), frame(0x01, b"x")].concat());
    let mut all: Vec<&[u8]> = vec![&begin, b"", b"", b""];
    (0..9).for_each(|_| all.extend([&end_and_begin[..], b"", b"", b""]));
    let mut harness = feed_slowly(config, &all);
    assert_eq!(cause(&harness), None);
    harness.pass(S);
    assert_eq!(cause(&harness), Some(SLOW));
}

#[test]
fn held_memory_is_reported_and_can_be_reclaimed() {
    let rule = CloseCause::Rejected { code: 1013, rule: "too many messages are arriving" };
    let compressed = [crate::ws::Deflate::new(), crate::ws::Deflate::new().keep_peer_context(true)];
    let all = [None].into_iter().chain(compressed.map(Some)).flat_map(|deflate| [(deflate, ""), (deflate, "more")]);
    for (deflate, beside) in all {
        let mut harness = Harness::new(&Setup { deflate, ..setup() }, now());
        // Not compressed, and compressed: "Hello".
        harness.feed(&frame(0x02, &[7; 100]));
        assert!(harness.holding >= 100, "{}", harness.holding);
        harness.feed(&frame(0x80, b"end"));
        assert_eq!(harness.holding, 0);
        if deflate.is_some() {
            harness.feed(&frame(0x42, b"\xf2\x48\xcd\xc9\xc9"));
            assert!(harness.holding > 50_000, "{}", harness.holding);
        } else {
            harness.feed(&frame(0x02, b"x"));
        }
        let sent = harness.sent.len();
        harness.shed(beside.as_bytes());
        assert_eq!(harness.sent[sent + 2..sent + 4], 1013_u16.to_be_bytes());
        assert_eq!(cause(&harness), Some(rule));
    }
    // A session without an arriving message has nothing to free.
    let mut harness = Harness::new(&setup(), now());
    harness.shed(b"");
    assert!(!harness.is_over() && harness.sent.is_empty());
}

#[test]
fn a_rejected_peer_holds_no_memory() {
    let message_and = |end: &[u8]| {
        let mut harness = Harness::new(&Setup { output: 4, ..setup() }, now());
        // The output is full, so the session stays open.
        harness.feed(&[frame(0x02, &[7; 100]), frame(0x00, &[7; 100]), end.to_vec()].concat());
        (harness.held(), harness.holding)
    };
    assert!(message_and(b"").0 >= 200);
    for end in [frame(0x02, b"inside another"), frame(0x88, b"\x03\xe8")] {
        assert_eq!(message_and(&end).1, 0);
    }
}
