//! The engine's pipe in the middle of a long body: peers that leave or stall, earlier data, and the counters. Over
//! plain sockets these bodies are spliced while pipes of the system are available; peers cannot see the difference.

use std::{thread, time::Duration};

use uncork::{EndReason, Limits};

use crate::{
    pipes::{Served, serve_within},
    wire::Finish,
    world::{World, bytes},
};

matrix! {
    everywhere {
        half_of_a_body_may_come_with_its_head,
        a_fast_body_that_pauses_arrives_as_far_as_it_came,
        a_receiver_that_leaves_in_the_middle_takes_nothing_along,
        a_receiver_that_leaves_during_a_pause_has_had_all_that_came,
        a_sender_that_leaves_in_the_middle_leaves_nothing_behind,
        a_stalled_body_holds_at_most_one_pipe,
    }
    http1 { a_body_may_come_in_small_pieces, an_older_receiver_gets_it_too, every_byte_is_counted }
}

const ROOM: usize = 256 * 1024;
/// More than sockets and pipe hold together: a sender's system holds 4 MiB, all others less than 1 MiB.
const LONG: usize = 12 << 20;

fn serve(world: &World) -> Served {
    serve_within(world, ROOM, Limits::default())
}

/// The numbers of pipes of the system: none, one, enough.
fn serve_each(world: &World) -> [Served; 3] {
    [0, 1, 100].map(|kernel_pipes| serve_within(world, ROOM, Limits { kernel_pipes, ..Limits::default() }))
}

/// Sends a body with a unique pattern from one client to the other.
#[track_caller]
fn goes_through(served: &Served, size: usize) {
    let body: Vec<u8> = bytes(size + 17).split_off(17);
    let (mut to, mut from) = (served.receiver(), served.host.connect());
    thread::scope(|scope| {
        let sender = scope.spawn(|| from.post("/", &[], &body).response());
        assert!(to.response().body == body);
        assert_eq!(sender.join().expect("sent").text(), format!("Complete {size}"));
    });
}

fn half_of_a_body_may_come_with_its_head(world: &World) {
    let served = serve(world);
    for size in [1_000, 60_000, 150_000, 1_000_000] {
        for early in [1, size / 2, size - 1] {
            let (body, mut to) = (bytes(size), served.receiver());
            let mut from = served.host.connect();
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
            thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    from.send([head.as_bytes(), &body[..early]].concat());
                    from.send(&body[early..]).response()
                });
                assert!(to.response().body == body, "{early} of {size}");
                assert_eq!(sender.join().expect("sent").text(), format!("Complete {size}"));
            });
            // Both connections can be used again.
            from.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").response().is(409);
        }
    }
}

fn a_body_may_come_in_small_pieces(world: &World) {
    let served = serve(world);
    let (body, mut to) = (bytes(200_000), served.receiver());
    let mut from = served.host.connect();
    from.request("POST /", &["Content-Length: 200000"]);
    to.head().is(200);
    // More pieces at once than a pipe of the system has slots; then one at a time.
    for piece in body[..150_000].chunks(500) {
        from.send(piece);
    }
    assert!(to.exactly(150_000) == body[..150_000]);
    for piece in body[150_000..].chunks(5_000) {
        from.send(piece);
        assert!(to.exactly(piece.len()) == piece);
    }
    assert_eq!(from.response().text(), "Complete 200000");
}

fn a_fast_body_that_pauses_arrives_as_far_as_it_came(world: &World) {
    for served in serve_each(world) {
        let (body, mut to, mut from) = (bytes(LONG), served.receiver(), served.host.connect());
        from.request("POST /", &[&format!("Content-Length: {LONG}")]);
        to.head().is(200);
        // First fast, then in smaller pieces than those of a fast body.
        let mut at = 0;
        for piece in [6_000_001, 1, 70_000, 1_000_000, 100, LONG - 7_070_102] {
            let piece = &body[at..at + piece];
            at += piece.len();
            thread::scope(|scope| {
                scope.spawn(|| from.send(piece));
                assert!(to.exactly(piece.len()) == piece, "up to {at}");
            });
        }
        assert_eq!(from.response().text(), format!("Complete {LONG}"));
        // The connection transfers small bodies as before.
        from.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").response().is(409);
    }
}

fn an_older_receiver_gets_it_too(world: &World) {
    let served = serve(world);
    for fields in [&["Content-Length: 1000000"][..], &["Transfer-Encoding: chunked"]] {
        let body = bytes(1_000_000);
        let (mut to, mut from) = (served.older_receiver(), served.host.connect());
        from.request("POST /", fields);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                if fields[0].starts_with('C') {
                    return from.send(&body).response();
                }
                for chunk in body.chunks(70_000) {
                    from.chunk(chunk);
                }
                from.chunk(b"").response()
            });
            to.head().is(200);
            let (got, finish) = to.until_end();
            assert!(got == body && finish == Finish::Clean, "{} bytes, {finish:?}", got.len());
            assert_eq!(sender.join().expect("sent").text(), "Complete 1000000");
        });
    }
}

fn every_byte_is_counted(world: &World) {
    for served in serve_each(world) {
        for size in [70_000, 3_000_000] {
            let (body, mut to, mut from) = (bytes(size), served.receiver(), served.host.connect());
            thread::scope(|scope| {
                scope.spawn(|| assert!(to.response().body == body));
                assert_eq!(from.post("/confirmed", &[], &body).response().text(), format!("Complete {size}"));
            });
            let mut ends = [served.ended.next(), served.ended.next()];
            ends.sort_by_key(|end| end.received);
            let [to, from] = ends;
            assert_eq!((to.reason, to.received, to.written), (EndReason::Complete, 0, size as u64));
            assert_eq!((from.reason, from.received), (EndReason::Complete, size as u64));
            if cfg!(target_os = "linux") {
                assert_eq!(to.acked, Some(size as u64));
            }
            assert_eq!(served.moved().last(), Some(&(size as u64, size as u64)));
        }
    }
}

fn a_receiver_that_leaves_in_the_middle_takes_nothing_along(world: &World) {
    for served in serve_each(world) {
        let (body, mut to, mut from) = (bytes(LONG), served.receiver(), served.host.connect());
        from.request("POST /", &[&format!("Content-Length: {LONG}")]);
        from.push(&body, Duration::from_millis(100));
        to.head().is(200);
        assert!(to.exactly(200_000) == body[..200_000]);
        to.reset();
        let response = from.response();
        let written: u64 =
            response.text().strip_prefix("PeerClosed ").expect("the reason PeerClosed").parse().expect("a number");
        assert!((200_000..LONG as u64).contains(&written), "{written}");
        let end = served.ended.next();
        assert_eq!((end.reason, end.written), (EndReason::PeerClosed, written));
        let (put_in, taken_out) = served.moved()[0];
        assert!(taken_out == written && put_in >= taken_out && put_in - taken_out <= ROOM as u64);
        goes_through(&served, 1_000_000);
    }
}

/// Also where the sender's loop itself writes spliced data to the receiver's socket. Nothing more is sent: only the
/// end of its stream shows that the receiver has disconnected.
fn a_receiver_that_leaves_during_a_pause_has_had_all_that_came(world: &World) {
    let body = bytes(LONG);
    let (first, second) = (3_000_001, 1_000_000);
    for served in serve_each(world) {
        for way in ["reset", "close", "cut", "half-close"] {
            let (mut to, mut from) = (served.receiver(), served.host.connect());
            from.request("POST /", &[&format!("Content-Length: {LONG}")]);
            to.head().is(200);
            for sent in [&body[..first], &body[first..][..second]] {
                thread::scope(|scope| {
                    scope.spawn(|| from.send(sent));
                    assert!(to.exactly(sent.len()) == sent);
                });
            }
            let kept = match way {
                "reset" => {
                    to.reset();
                    None
                }
                "close" => {
                    to.finish();
                    drop(to);
                    None
                }
                "cut" => {
                    to.end_tcp();
                    drop(to);
                    None
                }
                _ => {
                    to.finish();
                    Some(to)
                }
            };
            let all = first + second;
            assert_eq!(from.response().text(), format!("PeerClosed {all}"), "{way}");
            let end = served.ended.next();
            assert_eq!((end.reason, end.written), (EndReason::PeerClosed, all as u64), "{way}");
            assert_eq!(served.moved().pop(), Some((all as u64, all as u64)), "{way}");
            drop((kept, from));
            // The counters of the sender.
            served.ended.next();
        }
        goes_through(&served, 1_000_000);
    }
}

fn a_sender_that_leaves_in_the_middle_leaves_nothing_behind(world: &World) {
    for served in serve_each(world) {
        let (body, mut to, mut from) = (bytes(LONG), served.receiver(), served.host.connect());
        from.request("POST /", &[&format!("Content-Length: {LONG}")]);
        from.push(&body, Duration::from_millis(100));
        to.head().is(200);
        from.reset();
        let (got, finish) = to.until_end();
        assert!(got == body[..got.len()] && got.len() < LONG);
        assert_eq!(finish, Finish::Reset, "a part was accepted as the whole");
        goes_through(&served, 1_000_000);
    }
}

/// Some of many bodies whose receivers do not read get a pipe of the system. Each buffers its limit, and in the end
/// each is complete.
fn a_stalled_body_holds_at_most_one_pipe(world: &World) {
    let served = serve_within(world, ROOM, Limits { kernel_pipes: 3, ..Limits::default() });
    let pairs: Vec<_> = (0..5).map(|_| (served.receiver(), served.host.connect())).collect();
    let body = bytes(LONG);
    let stalled: Vec<_> = thread::scope(|scope| {
        let push = pairs.into_iter().map(|(to, mut from)| {
            let body = &body;
            scope.spawn(move || {
                from.request("POST /", &[&format!("Content-Length: {LONG}")]);
                let sent = from.push(body, Duration::from_millis(300));
                assert!(sent < LONG, "sent without a reader");
                (to, from, sent)
            })
        });
        push.collect::<Vec<_>>().into_iter().map(|thread| thread.join().expect("pushed")).collect()
    });
    let moved = served.moved();
    assert!(moved.len() == 5 && moved.iter().all(|(into, out)| into - out <= ROOM as u64), "{moved:?}");
    thread::scope(|scope| {
        for (mut to, mut from, sent) in stalled {
            let body = &body;
            scope.spawn(move || assert!(to.response().body == *body));
            scope.spawn(move || assert_eq!(from.send(&body[sent..]).response().text(), format!("Complete {LONG}")));
        }
    });
}
