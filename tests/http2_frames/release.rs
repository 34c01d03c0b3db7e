//! A client may leave at any time, in any way: everything that was held for its requests is freed, and nothing panics.

use std::net::Shutdown;

use uncork::{Limits, Response};

use crate::{
    counted::Counting,
    peer::{
        CANCEL, DATA, END_HEADERS, GOAWAY, HEADERS, Peer, RST_STREAM, WHOLE, fields, frame, get, head, post, reset,
        window_update,
    },
};

/// Extended CONNECT (RFC 8441).
pub(crate) fn upgrade(stream: u32) -> Vec<u8> {
    let block = fields(&[
        (":method", "CONNECT"),
        (":protocol", "test"),
        (":scheme", "http"),
        (":path", "/up"),
        (":authority", "localhost"),
    ]);
    frame(HEADERS, END_HEADERS, stream, block)
}

/// A client's way to leave.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// Each stream is reset.
    Resets,
    /// Each stream is reset in the same segment as its request.
    ResetsAtOnce,
    /// The connection is half-closed.
    HalfCloses,
    /// The connection is closed.
    Closes,
    /// A connection error.
    Breaks,
    GoesAway,
}

const ALL: [Leaves; 6] =
    [Leaves::Resets, Leaves::ResetsAtOnce, Leaves::HalfCloses, Leaves::Closes, Leaves::Breaks, Leaves::GoesAway];

/// A request, with a part of its body.
fn request(stream: u32, kind: &str) -> Vec<u8> {
    let part = |stream| frame(DATA, 0, stream, [0; 1000]);
    match kind {
        "/up" => [upgrade(stream), part(stream)].concat(),
        "/upload" | "/stuck" => [post(stream, kind, &[]), part(stream)].concat(),
        "/ticket with a body" => [post(stream, "/ticket", &[]), part(stream)].concat(),
        "/produce with a body" => [post(stream, "/produce", &[]), part(stream)].concat(),
        _ => get(stream, kind),
    }
}

#[test]
fn everything_is_freed_however_a_client_leaves() {
    let server = Counting::start(Limits::default());
    let kinds = [
        "/ticket",
        "/ticket with a body",
        "/upload",
        "/stuck",
        "/produce",
        "/produce with a body",
        "/pending",
        "/large",
        "/up",
    ];
    for leaves in ALL {
        for own in [&[(4, 0)][..], &[(4, 100)], &[]] {
            let before = server.counters.requests();
            let mut peer = Peer::with(server.addr, own);
            let mut begun = 0;
            for (n, kind) in kinds.iter().enumerate() {
                let stream = 2 * n as u32 + 1;
                let mut sent = request(stream, kind);
                if matches!(leaves, Leaves::ResetsAtOnce) {
                    sent.extend(reset(stream, CANCEL));
                } else {
                    begun += 1;
                }
                peer.send(sent);
            }
            // A request that is reset at once may never begin.
            server.counters.begun(before + begun);
            peer.ping();
            match leaves {
                Leaves::Resets => (0..kinds.len() as u32).for_each(|n| peer.send(reset(2 * n + 1, CANCEL))),
                Leaves::ResetsAtOnce => {}
                Leaves::HalfCloses => peer.tcp().shutdown(Shutdown::Write).expect("half-closed"),
                Leaves::Closes => peer.tcp().shutdown(Shutdown::Both).expect("closed"),
                Leaves::Breaks => peer.send(frame(DATA, 0, 0, [])),
                Leaves::GoesAway => {
                    peer.send(frame(GOAWAY, 0, 0, [0; 8]));
                    peer.tcp().shutdown(Shutdown::Write).expect("half-closed");
                }
            }
            if matches!(leaves, Leaves::Resets | Leaves::ResetsAtOnce) {
                // Before the application learns of it, and after.
                for ticket in server.counters.tickets() {
                    let _ = ticket.respond(Response::text("late"));
                }
                peer.ping();
                // Without a body: the windows may be closed.
                peer.send(frame(HEADERS, WHOLE, 101, head("HEAD", "/", &[])));
                peer.until(|frame| frame.kind == HEADERS && frame.stream == 101);
            }
            server.counters.free();
            for ticket in server.counters.tickets() {
                assert!(ticket.is_closed(), "{leaves:?}");
                assert!(ticket.respond(Response::text("late")).is_err(), "{leaves:?}");
            }
        }
    }
}

#[test]
fn a_stream_that_is_reset_does_not_take_the_window_of_others() {
    let server = Counting::start(Limits::default());
    let mut peer = Peer::connect(server.addr);
    // More than the connection's window, on streams whose bodies are not taken.
    for n in 0..100 {
        let stream = 2 * n + 1;
        peer.send(post(stream, "/stuck", &[]));
        peer.send(frame(DATA, 0, stream, vec![0; 1 << 14]));
        peer.send(frame(DATA, 0, stream, vec![0; 1 << 14]));
        peer.send(reset(stream, CANCEL));
        peer.ping();
    }
    peer.send([post(1001, "/upload", &[]), frame(DATA, 1, 1001, [0; 1 << 14])].concat());
    peer.until(|frame| frame.stream == 1001 && frame.ends());
    server.counters.free();
}

#[test]
fn an_unread_response_does_not_stop_others() {
    let server = Counting::start(Limits::default());
    let mut peer = Peer::with(server.addr, &[(4, 0)]);
    peer.send(
        [get(1, "/produce"), get(3, "/produce"), window_update(3, 5), get(5, "/large"), window_update(5, 1 << 20)]
            .concat(),
    );
    peer.send(window_update(0, 1 << 21));
    let mut of_third = 0;
    loop {
        let frame = peer.next().expect("the response");
        assert!(frame.kind != RST_STREAM && (frame.kind != DATA || frame.stream != 1));
        of_third += if frame.kind == DATA && frame.stream == 3 { frame.payload.len() } else { 0 };
        if frame.stream == 5 && frame.ends() {
            break;
        }
    }
    assert_eq!(of_third, 5);
}

#[test]
fn a_half_closed_client_gets_what_it_has_requested_and_what_the_windows_allow() {
    let server = Counting::start(Limits::default());
    for cut in [false, true] {
        let before = server.counters.requests();
        let mut peer = Peer::with(server.addr, &[(4, 100)]);
        peer.send([get(1, "/ticket"), get(3, "/large"), request(5, "/upload")].concat());
        server.counters.begun(before + 3);
        let ticket = server.counters.tickets().pop().expect("a ticket");
        ticket.allow_half_close();
        peer.ping();
        if cut {
            // It disconnects within a frame.
            peer.send(&get(7, "/")[..12]);
        }
        peer.tcp().shutdown(Shutdown::Write).expect("half-closed");
        if cut {
            assert!(peer.ends() && ticket.is_closed());
        } else {
            // One is incomplete, the other would need a WINDOW_UPDATE.
            let resets = [(); 2].map(|()| peer.until(|frame| frame.kind == RST_STREAM));
            assert!(resets.iter().all(|reset| reset.code() == CANCEL) && resets[0].stream + resets[1].stream == 8);
            ticket.respond(Response::text("the response")).expect("still there");
            assert_eq!(peer.until(|frame| frame.kind == DATA && frame.stream == 1).payload, b"the response");
            assert!(peer.ends());
        }
        server.counters.free();
    }
}
