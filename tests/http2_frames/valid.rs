//! What a server must accept: every type of frame, in its ordinary uses.

use std::time::Duration;

use crate::{
    cases::{Case, TestServer, Want, case, run},
    peer::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, NO_ERROR, PADDED, PING, PRIORITY,
        Peer, RST_STREAM, WHOLE, WITH_PRIORITY, fields, frame, get, head, literal, post, reset, settings,
        window_update,
    },
};

fn ok(section: &'static str, what: &'static str, sent: Vec<u8>) -> Case {
    case(section, what, sent, Want::Status(1, 200))
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[weight]].concat())
}

/// The end of a request may be an empty DATA frame, also where Content-Length says that there is no body. Then it may
/// come behind the response.
#[test]
fn an_empty_body_ends_behind_its_response_without_an_error() {
    let server = TestServer::start();
    for (what, sent) in [
        ("POST", post(1, "/", &[("content-length", "0")])),
        ("CONNECT", frame(HEADERS, END_HEADERS, 1, fields(&[(":method", "CONNECT"), (":authority", "a:1")]))),
    ] {
        let mut peer = Peer::with(server.addr, &[]);
        peer.try_send(&sent).expect("sent");
        let mut frames = Vec::new();
        while !frames.last().is_some_and(Frame::ends) {
            frames.push(peer.within(Duration::from_secs(3)).expect("in time").expect("the connection goes on"));
        }
        peer.try_send(frame(DATA, END_STREAM, 1, b"")).expect("sent");
        peer.try_send(frame(PING, 0, 0, *b"the end.")).expect("sent");
        while !frames.last().is_some_and(|frame| frame.kind == PING && frame.flags & ACK != 0) {
            frames.push(peer.within(Duration::from_secs(3)).expect("in time").expect("the connection goes on"));
        }
        let errors = frames.iter().filter(|frame| frame.kind == RST_STREAM && frame.code() != NO_ERROR).count();
        assert_eq!(errors, 0, "{what}: {frames:?}");
    }
}

#[test]
fn a_server_accepts_what_is_valid() {
    let whole = head("GET", "/", &[]);
    let (first, rest) = whole.split_at(10);
    let (second, third) = rest.split_at(1);
    let body = |stream, bytes: &[u8]| frame(DATA, END_STREAM, stream, bytes);
    let padded = |n: u8, bytes: &[u8]| [&[n][..], bytes, &vec![0; n.into()]].concat();
    run(vec![
        case("3.4", "the client's preface", [], Want::Alive),
        ok("5.1", "a request", get(1, "/")),
        ok("5.1", "WINDOW_UPDATE on a half-closed stream", [get(1, "/"), window_update(1, 100)].concat()),
        ok("5.1", "PRIORITY on a half-closed stream", [get(1, "/"), priority(1, 0, 9)].concat()),
        case("5.1", "RST_STREAM on a half-closed stream", [get(1, "/wait"), reset(1, 8)].concat(), Want::Alive),
        case(
            "5.1",
            "PRIORITY on a closed stream",
            [get(1, "/wait"), reset(1, 8), priority(1, 0, 9)].concat(),
            Want::Alive,
        ),
        case("5.1", "RST_STREAM on a closed stream", [get(1, "/wait"), reset(1, 8), reset(1, 8)].concat(), Want::Alive),
        case(
            "5.1",
            "WINDOW_UPDATE on a closed stream",
            [get(1, "/wait"), reset(1, 8), window_update(1, 9)].concat(),
            Want::Alive,
        ),
        case(
            "5.3.2",
            "PRIORITY on an idle stream, and a request on an earlier one",
            [priority(5, 0, 9), get(1, "/")].concat(),
            Want::Status(1, 200),
        ),
        ok("6.1", "DATA", [post(1, "/length", &[]), body(1, b"hello")].concat()),
        ok("6.1", "several DATA", [post(1, "/length", &[]), frame(DATA, 0, 1, b"he"), body(1, b"llo")].concat()),
        ok(
            "6.1",
            "padded DATA",
            [post(1, "/length", &[]), frame(DATA, PADDED | END_STREAM, 1, padded(6, b"x"))].concat(),
        ),
        ok(
            "6.1",
            "DATA that is only padding",
            [post(1, "/length", &[]), frame(DATA, PADDED | END_STREAM, 1, padded(9, b""))].concat(),
        ),
        ok("6.1", "empty DATA", [post(1, "/length", &[]), frame(DATA, 0, 1, b""), body(1, b"")].concat()),
        ok("6.2", "padded HEADERS", frame(HEADERS, WHOLE | PADDED, 1, padded(7, &whole))),
        ok(
            "6.2",
            "HEADERS with a priority",
            frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [&[0, 0, 0, 0, 9][..], &whole].concat()),
        ),
        ok(
            "6.2",
            "HEADERS with an exclusive priority and padding",
            frame(HEADERS, WHOLE | WITH_PRIORITY | PADDED, 1, padded(3, &[&[0x80, 0, 0, 3, 9][..], &whole].concat())),
        ),
        ok("6.3", "PRIORITY", [priority(1, 0, 255), get(1, "/")].concat()),
        ok("6.3", "an exclusive PRIORITY", [frame(PRIORITY, 0, 3, [0x80, 0, 0, 1, 1]), get(1, "/")].concat()),
        case("6.4", "RST_STREAM", [get(1, "/wait"), reset(1, 8), get(3, "/")].concat(), Want::Status(3, 200)),
        case(
            "6.4",
            "RST_STREAM with an unknown code",
            [get(1, "/wait"), reset(1, 0xffff_ffff), get(3, "/")].concat(),
            Want::Status(3, 200),
        ),
        case("6.5", "SETTINGS", settings(&[(3, 100)]), Want::SettingsAck),
        case(
            "6.5.2",
            "every setting",
            settings(&[(1, 0), (2, 0), (3, 0), (4, 0x7fff_ffff), (5, 0xff_ffff), (6, 1)]),
            Want::SettingsAck,
        ),
        case("6.5.2", "an unknown setting", settings(&[(0xfafa, 0xffff_ffff)]), Want::SettingsAck),
        case("6.7", "PING", frame(PING, 0, 0, *b"the end."), Want::Alive),
        case("6.7", "PING with ACK", frame(PING, ACK, 0, *b"notasked"), Want::Alive),
        case(
            "6.8",
            "GOAWAY, and the response of the last stream",
            [get(1, "/"), frame(GOAWAY, 0, 0, [0; 8])].concat(),
            Want::Status(1, 200),
        ),
        ok(
            "6.9",
            "WINDOW_UPDATE on the connection and on a stream",
            [window_update(0, 9), post(1, "/length", &[]), window_update(1, 9), body(1, b"")].concat(),
        ),
        ok(
            "6.10",
            "CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, 0, 1, second),
                frame(CONTINUATION, END_HEADERS, 1, third),
            ]
            .concat(),
        ),
        ok(
            "6.10",
            "empty CONTINUATION",
            [frame(HEADERS, END_STREAM, 1, &whole), frame(CONTINUATION, END_HEADERS, 1, [])].concat(),
        ),
        case("8.1", "HEAD", frame(HEADERS, WHOLE, 1, head("HEAD", "/", &[])), Want::Status(1, 200)),
        ok("8.1", "OPTIONS *", frame(HEADERS, WHOLE, 1, head("OPTIONS", "*", &[]))),
        ok(
            "8.1",
            "trailers",
            [post(1, "/length", &[]), frame(DATA, 0, 1, b"x"), frame(HEADERS, WHOLE, 1, fields(&[("x-sum", "1")]))]
                .concat(),
        ),
        ok(
            "8.1",
            "trailers without DATA",
            [post(1, "/length", &[]), frame(HEADERS, WHOLE, 1, fields(&[("x-sum", "1")]))].concat(),
        ),
        ok("8.1.1", "Content-Length", [post(1, "/length", &[("content-length", "5")]), body(1, b"hello")].concat()),
        ok("8.2.2", "te: trailers", frame(HEADERS, WHOLE, 1, head("GET", "/", &[("te", "trailers")]))),
        ok(
            "8.2.3",
            "crumbs of Cookie",
            frame(HEADERS, WHOLE, 1, head("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2")])),
        ),
        ok(
            "8.3.1",
            "Host in place of :authority",
            frame(
                HEADERS,
                WHOLE,
                1,
                fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "localhost")]),
            ),
        ),
        ok("8.3.1", "an unknown method", frame(HEADERS, WHOLE, 1, head("BREW", "/", &[]))),
        ok("8.3.1", "an empty field", frame(HEADERS, WHOLE, 1, [whole.clone(), literal("x-empty", "")].concat())),
    ]);
}
