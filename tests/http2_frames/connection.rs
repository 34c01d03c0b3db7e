//! §3 to §5 and §7: the preface, the format of frames, the states of streams, extensions.

use crate::{
    cases::{STREAMS, Want, case, run},
    peer::{
        COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_SIZE_ERROR, HEADERS, PING, PREFACE,
        PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, SETTINGS, STREAM_CLOSED, WHOLE, WITH_PRIORITY, frame, get, head,
        literal, post, reset, settings, window_update,
    },
};

const PROTOCOL: Want = Want::Goaway(&[PROTOCOL_ERROR]);

fn raw(section: &'static str, what: &'static str, sent: Vec<u8>, want: Want) -> crate::cases::Case {
    crate::cases::Case { raw: true, ..case(section, what, sent, want) }
}

#[test]
fn the_preface_is_checked() {
    run(vec![
        raw("3.4", "no preface", b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec(), Want::Closed),
        raw("3.4", "a preface with another end", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(), Want::Closed),
        raw("3.4", "PING before SETTINGS", [PREFACE, &frame(PING, 0, 0, [0; 8])].concat(), PROTOCOL),
        raw("3.4", "a request before SETTINGS", [PREFACE, &get(1, "/")].concat(), PROTOCOL),
        raw("3.4", "ACK before SETTINGS", [PREFACE, &frame(SETTINGS, 1, 0, [])].concat(), PROTOCOL),
        raw(
            "3.4",
            "SETTINGS, and a request at once",
            [PREFACE, &settings(&[]), &get(1, "/")].concat(),
            Want::Status(1, 200),
        ),
        raw(
            "3.4",
            "an invalid SETTINGS first",
            [PREFACE, &frame(SETTINGS, 0, 0, [0; 3])].concat(),
            Want::Goaway(&[FRAME_SIZE_ERROR]),
        ),
    ]);
}

#[test]
fn the_format_of_frames_is_checked() {
    let open = frame(HEADERS, END_STREAM, 1, head("GET", "/", &[]));
    let large = literal("x-large", "x".repeat(17_000));
    run(vec![
        case("4.1", "a frame of an unknown type", frame(0xfa, 0xff, 0, b"anything"), Want::Alive),
        case(
            "4.1",
            "a frame of an unknown type on a stream",
            [frame(22, 0, 1, b"anything"), get(1, "/")].concat(),
            Want::Status(1, 200),
        ),
        case("4.1", "flags without a meaning", frame(PING, 0xfe, 0, *b"the end."), Want::Alive),
        case(
            "4.1",
            "flags without a meaning on HEADERS",
            frame(HEADERS, WHOLE | 0x82, 1, head("GET", "/", &[])),
            Want::Status(1, 200),
        ),
        case("4.1", "the reserved bit", frame(PING, 0, 1 << 31, *b"the end."), Want::Alive),
        case(
            "4.2",
            "DATA of 16,384 bytes",
            [post(1, "/length", &[]), frame(DATA, END_STREAM, 1, [0; 1 << 14])].concat(),
            Want::Status(1, 200),
        ),
        case(
            "4.2",
            "DATA that is too large",
            [post(1, "/length", &[]), frame(DATA, END_STREAM, 1, [0; (1 << 14) + 1])].concat(),
            Want::Goaway(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2",
            "HEADERS that is too large",
            frame(HEADERS, WHOLE, 1, [head("GET", "/", &[]), large].concat()),
            Want::Goaway(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2",
            "an unknown frame that is too large",
            frame(0xfa, 0, 0, [0; (1 << 14) + 1]),
            Want::Goaway(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.3",
            "a block that cannot be decoded",
            frame(HEADERS, WHOLE, 1, [0xff; 12]),
            Want::Goaway(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "4.3",
            "PRIORITY within a block",
            [open.clone(), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 9])].concat(),
            PROTOCOL,
        ),
        case("4.3", "HEADERS on another stream within a block", [open.clone(), get(3, "/")].concat(), PROTOCOL),
        case("4.3", "DATA within a block", [open.clone(), frame(DATA, 0, 1, b"x")].concat(), PROTOCOL),
        case("4.3", "PING within a block", [open.clone(), frame(PING, 0, 0, [0; 8])].concat(), PROTOCOL),
        case("4.3", "WINDOW_UPDATE within a block", [open, window_update(0, 1)].concat(), PROTOCOL),
    ]);
}

#[test]
fn the_states_of_streams_are_checked() {
    let idle = |what, sent: Vec<u8>| case("5.1", what, sent, PROTOCOL);
    let after = |before: Vec<u8>, frame: Vec<u8>| [before, frame].concat();
    let half = || get(1, "/wait");
    let closed = || [get(1, "/wait"), reset(1, 8)].concat();
    let data = || frame(DATA, END_STREAM, 1, b"x");
    let continued = || frame(CONTINUATION, END_HEADERS, 1, head("GET", "/", &[]));
    let late = Want::Goaway(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    let ended = || post(1, "/", &[]);
    let full = (0..=STREAMS).flat_map(|n| get(2 * n + 1, "/wait")).collect::<Vec<_>>();
    run(vec![
        idle("DATA on an idle stream", data()),
        idle("RST_STREAM on an idle stream", reset(1, 8)),
        idle("WINDOW_UPDATE on an idle stream", window_update(1, 1)),
        idle("CONTINUATION on an idle stream", continued()),
        // A server begins no streams: those with even numbers are idle (§5.1.1).
        idle("DATA on a stream with an even number", [get(5, "/"), frame(DATA, 0, 2, b"x")].concat()),
        idle("RST_STREAM on a stream with an even number", [get(5, "/"), reset(2, 8)].concat()),
        idle("WINDOW_UPDATE on a stream with an even number", [get(5, "/"), window_update(2, 1)].concat()),
        idle("DATA on an idle stream behind an open one", [get(1, "/wait"), frame(DATA, 0, 3, b"x")].concat()),
        case("5.1", "DATA on a half-closed stream", after(half(), data()), Want::Reset(1, &[STREAM_CLOSED])),
        case("5.1", "HEADERS on a half-closed stream", after(half(), get(1, "/")), Want::Reset(1, &[STREAM_CLOSED])),
        case(
            "5.1",
            "trailers on a half-closed stream",
            after(half(), frame(HEADERS, WHOLE, 1, literal("x", "y"))),
            Want::Reset(1, &[STREAM_CLOSED]),
        ),
        case("5.1", "CONTINUATION on a half-closed stream", after(half(), continued()), late.clone()),
        case(
            "5.1",
            "DATA on a stream that the client has reset",
            after(closed(), data()),
            Want::Reset(1, &[STREAM_CLOSED]),
        ),
        case("5.1", "HEADERS on a stream that the client has reset", after(closed(), get(1, "/")), late.clone()),
        case("5.1", "CONTINUATION on a stream that the client has reset", after(closed(), continued()), late.clone()),
        case(
            "5.1",
            "DATA on a stream that has ended",
            [get(1, "/"), get(3, "/"), data()].concat(),
            Want::Reset(1, &[STREAM_CLOSED]),
        ),
        case("5.1", "CONTINUATION on a stream that has ended", after(get(1, "/"), continued()), late.clone()),
        case(
            "5.1",
            "DATA after an early response",
            [ended(), frame(DATA, 0, 1, b"x"), data(), get(3, "/")].concat(),
            Want::Status(3, 200),
        ),
        case("5.1.1", "an even stream", get(2, "/"), PROTOCOL),
        case(
            "5.1.1",
            "an earlier stream than the last",
            [get(5, "/"), get(3, "/")].concat(),
            Want::Goaway(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        case(
            "5.1.1",
            "the same stream again",
            [get(5, "/"), get(5, "/")].concat(),
            Want::Goaway(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        case(
            "5.1.2",
            "more streams than are allowed",
            full,
            Want::Reset(2 * STREAMS + 1, &[PROTOCOL_ERROR, REFUSED_STREAM]),
        ),
        case(
            "5.3.1",
            "HEADERS that depend on themselves",
            frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [&[0, 0, 0, 1, 9][..], &head("GET", "/", &[])].concat()),
            Want::Reset(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "5.3.1",
            "PRIORITY that depends on itself",
            [post(1, "/wait", &[]), frame(PRIORITY, 0, 1, [0, 0, 0, 1, 9])].concat(),
            Want::Reset(1, &[PROTOCOL_ERROR]),
        ),
        case("5.5", "an unknown frame", frame(0x42, 0, 0, []), Want::Alive),
        case(
            "5.5",
            "an unknown frame within a block",
            [frame(HEADERS, END_STREAM, 1, head("GET", "/", &[])), frame(0x42, 0, 1, [])].concat(),
            PROTOCOL,
        ),
        case(
            "7",
            "GOAWAY with an unknown code",
            [frame(7, 0, 0, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), frame(PING, 0, 0, *b"the end.")].concat(),
            Want::Alive,
        ),
        case("7", "RST_STREAM with an unknown code", [get(1, "/wait"), reset(1, 0xfa)].concat(), Want::Alive),
    ]);
}
