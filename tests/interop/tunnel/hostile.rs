//! Origin servers that break rules. Their own clients get an error; no other client is affected.

use std::{thread, time::Duration};

use uncork::relay::tunnel::ProxyConfig;

use super::{
    client::Client,
    proxy::{HOST, get},
    raw::{ACK, DATA, PING, RST_STREAM, RawOrigin, SETTINGS, literals},
    world::{World, config},
};

/// A world, a hostile origin server, and a correct one of another name.
fn hostile_and_good() -> (World, RawOrigin, RawOrigin) {
    let world = World::new();
    let (hostile, good) = (RawOrigin::new(&world, "app", HOST), RawOrigin::new(&world, "other", "other.example"));
    (world, hostile, good)
}

/// Checks that the clients of the correct one are served.
#[track_caller]
fn others_are_served(world: &World, good: &mut RawOrigin) {
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
    let stream = good.request();
    good.head(stream, 200, &[("content-length", "2")], false).data(stream, "ok", true);
    assert_eq!(client.response().text(), "ok");
}

fn open_request(world: &World, origin: &mut RawOrigin) -> (Client, u32) {
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request();
    (client, stream)
}

#[test]
fn malformed_heads_are_an_error_of_the_origin_server() {
    let rows: &[&[(&str, &str)]] = &[
        &[],
        &[("content-type", "text/plain")],
        &[(":status", "abc")],
        &[(":status", "99")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        &[(":status", "200"), ("upgrade", "websocket")],
        &[(":status", "200"), ("Upper", "case")],
        &[(":status", "200"), ("a b", "c")],
        &[(":status", "200"), ("a", "b\r\nset-cookie: c")],
        &[(":status", "200"), ("a", "b\0c")],
        &[(":status", "200"), ("content-length", "x")],
        &[(":status", "200"), ("content-length", "1"), ("content-length", "2")],
        &[("x", "y"), (":status", "200")],
    ];
    for fields in rows {
        let (world, mut hostile, mut good) = hostile_and_good();
        let (mut client, stream) = open_request(&world, &mut hostile);
        hostile.fields(stream, &literals(fields.iter().copied()), true);
        let response = client.head();
        assert_eq!(response.status, 502, "{fields:?}: {response:?}");
        others_are_served(&world, &mut good);
    }
}

/// Receives a response that is truncated, or an error if nothing of it was sent to the client before that.
#[track_caller]
fn truncated(client: &mut Client) {
    if let Some(head) = client.try_head().ok().filter(|head| head.status != 502) {
        let result = client.body(&head);
        assert!(result.is_err(), "{result:?}");
    }
}

#[test]
fn a_response_of_a_wrong_length_is_never_complete() {
    for (declared, sent, end) in [("10", "short", true), ("3", "too long", false)] {
        let (world, mut hostile, mut good) = hostile_and_good();
        let (mut client, stream) = open_request(&world, &mut hostile);
        hostile.head(stream, 200, &[("content-length", declared)], false).data(stream, sent, end);
        truncated(&mut client);
        others_are_served(&world, &mut good);
    }
}

#[test]
fn a_head_larger_than_allowed_is_not_held() {
    let (world, mut hostile, mut good) = hostile_and_good();
    let (mut client, stream) = open_request(&world, &mut hostile);
    // 1 MiB of fields, in frames of 16 KiB.
    let value = "v".repeat(8000);
    let mut block = literals([(":status", "200")]);
    for _ in 0..128 {
        block.extend(literals([("x", value.as_str())]));
    }
    let mut pieces = block.chunks(16_000);
    let first = pieces.next().expect("a piece");
    let _ = hostile.try_frame(1, 0, stream, first);
    for piece in pieces {
        if hostile.try_frame(9, 0, stream, piece).is_err() {
            break;
        }
    }
    let _ = hostile.try_frame(9, 4, stream, []);
    assert_eq!(client.head().status, 502);
    others_are_served(&world, &mut good);
}

#[test]
fn frames_that_break_the_rules_end_the_connection() {
    let rows: &[(u8, u8, u32, &[u8])] = &[
        // DATA on a stream that is not open, HEADERS on a stream of the wrong peer and on an unknown one; a push.
        (0, 0, 0, b"x"),
        (1, 4, 2, &[0x88]),
        (1, 4, 9, &[0x88]),
        (5, 4, 1, &[0, 0, 0, 2, 0x82]),
        // Wrong sizes: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM.
        (4, 0, 0, b"short"),
        (6, 0, 0, b"short"),
        (8, 0, 0, b"xy"),
        (3, 0, 1, b"xy"),
        // CONTINUATION without HEADERS; an invalid header block.
        (9, 4, 1, &[0x88]),
        (1, 4, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (kind, flags, stream, payload) in rows {
        let (world, mut hostile, mut good) = hostile_and_good();
        let (mut client, _) = open_request(&world, &mut hostile);
        hostile.frame(*kind, *flags, *stream, payload);
        assert_eq!(client.head().status, 502, "frame of type {kind}");
        hostile.ended();
        others_are_served(&world, &mut good);
        world.wait_until("the connection has ended", |counts| counts.connections == 1);
    }
}

#[test]
fn a_frame_longer_than_agreed_ends_the_connection() {
    let (world, mut hostile, mut good) = hostile_and_good();
    let (mut client, stream) = open_request(&world, &mut hostile);
    hostile.head(stream, 200, &[("content-length", "100000")], false);
    let _ = hostile.try_frame(DATA, 0, stream, vec![0; 100_000]);
    truncated(&mut client);
    others_are_served(&world, &mut good);
}

#[test]
fn data_beyond_the_window_is_not_held() {
    let (world, mut hostile, mut good) = hostile_and_good();
    // A client that does not read.
    let (mut client, stream) = open_request(&world, &mut hostile);
    hostile.head(stream, 200, &[], false);
    for _ in 0..512 {
        if hostile.try_frame(DATA, 0, stream, vec![0; 16_000]).is_err() {
            break;
        }
    }
    // FLOW_CONTROL_ERROR: the stream is reset, and later frames of it are discarded.
    let reset = hostile.expect(|frame| frame.kind == RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (stream, 3));
    others_are_served(&world, &mut good);
    truncated(&mut client);
}

#[test]
fn floods_end_the_connection_or_do_no_harm() {
    // Pings, settings, and empty data frames: the frames of a flood.
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[]), (DATA, &[])] {
        let (world, mut hostile, mut good) = hostile_and_good();
        let (_client, stream) = open_request(&world, &mut hostile);
        if kind == DATA {
            hostile.head(stream, 200, &[], false);
        }
        let stream = if kind == DATA { stream } else { 0 };
        thread::scope(|scope| {
            let flood = scope.spawn(move || {
                let _ = (0..20_000).try_for_each(|_| hostile.try_frame(kind, 0, stream, payload));
                hostile
            });
            // An origin server that does not read the acknowledgements may be held back for long, and then closed.
            // Meanwhile, and afterwards:
            while !flood.is_finished() {
                others_are_served(&world, &mut good);
                thread::sleep(Duration::from_millis(20));
            }
            let _hostile = flood.join().expect("flooded");
            others_are_served(&world, &mut good);
        });
    }
}

#[test]
fn resets_affect_their_own_requests_only() {
    let (world, mut hostile, mut good) = hostile_and_good();
    let mut client = world.client();
    for _ in 0..300 {
        get(&mut client, "/");
        let stream = hostile.request();
        hostile.reset(stream, 2);
        client.response().assert(502);
    }
    others_are_served(&world, &mut good);
}

#[test]
fn a_silent_origin_server_counts_as_dead_and_one_that_acknowledges_pings_does_not() {
    let world = World::with(ProxyConfig { ping_interval: Duration::from_millis(300), ..config() });
    let mut good = RawOrigin::new(&world, "app", HOST);
    let mut silent = RawOrigin::new(&world, "other", "other.example");
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
    silent.request();
    for _ in 0..6 {
        let ping = good.expect(|frame| frame.kind == PING && frame.flags & ACK == 0);
        good.frame(PING, ACK, 0, &ping.payload);
    }
    assert_eq!(client.response().status, 502, "its clients get an error");
    let counts = world.proxy.counts();
    assert_eq!((counts.silent, counts.connections), (1, 1), "{counts:?}");
    assert!(world.proxy.connections()[0].round_trip.is_some());
    silent.ended();
}

#[test]
fn an_origin_server_without_a_preface_gets_no_request() {
    let world = World::with(ProxyConfig { handshake_timeout: Duration::from_millis(200), ..config() });
    let mut origin = RawOrigin::silent(&world, "app", HOST);
    let mut client = world.client();
    get(&mut client, "/");
    assert_eq!(client.response().status, 502, "no request before its preface");
    origin.ended_silently();
    world.wait_until("the connection has ended", |counts| counts.connections == 0 && counts.silent == 1);
}

#[test]
fn frames_for_a_request_that_is_over_are_ignored() {
    let (world, mut hostile, mut good) = hostile_and_good();
    let (client, stream) = open_request(&world, &mut hostile);
    client.leave();
    hostile.expect(|frame| frame.kind == RST_STREAM);
    hostile.head(stream, 200, &[], false).data(stream, "late", true);
    let (mut client, stream) = open_request(&world, &mut hostile);
    hostile.head(stream, 200, &[], true);
    client.response().assert(200);
    others_are_served(&world, &mut good);
}
