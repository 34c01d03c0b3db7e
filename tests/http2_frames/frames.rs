//! §6: the rules of each type of frame.

use crate::{
    cases::{Case, Want, case, run},
    peer::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS,
        PADDED, PING, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, SETTINGS, STREAM_CLOSED, WHOLE,
        WINDOW_UPDATE, WITH_PRIORITY, fields, frame, get, head, post, settings, window_update,
    },
};

const PROTOCOL: Want = Want::Goaway(&[PROTOCOL_ERROR]);
const SIZE: Want = Want::Goaway(&[FRAME_SIZE_ERROR]);
const FLOW: Want = Want::Goaway(&[FLOW_CONTROL_ERROR]);
/// A frame that is too short for its own fields: RFC 9113 §4.2 has FRAME_SIZE_ERROR, §6.1 and §6.2 PROTOCOL_ERROR.
const SHORT: Want = Want::Goaway(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]);

#[test]
fn data_and_headers_are_checked() {
    let block = head("GET", "/", &[]);
    let pad = |n: u8, bytes: &[u8]| [&[n][..], bytes].concat();
    let open = || post(1, "/wait", &[]);
    run(vec![
        case("6.1", "DATA on the connection", frame(DATA, 0, 0, b"x"), PROTOCOL),
        case(
            "6.1",
            "DATA on a stream that is not open",
            [get(1, "/wait"), frame(DATA, 0, 1, b"x")].concat(),
            Want::Reset(1, &[STREAM_CLOSED]),
        ),
        case(
            "6.1",
            "more padding than DATA",
            [open(), frame(DATA, PADDED | END_STREAM, 1, pad(5, b"test"))].concat(),
            PROTOCOL,
        ),
        case("6.1", "as much padding as DATA", [open(), frame(DATA, PADDED, 1, pad(6, b"hello"))].concat(), PROTOCOL),
        case("6.1", "padded DATA without a length", [open(), frame(DATA, PADDED, 1, [])].concat(), SHORT),
        case("6.2", "HEADERS on the connection", frame(HEADERS, WHOLE, 0, &block), PROTOCOL),
        case("6.2", "more padding than HEADERS", frame(HEADERS, WHOLE | PADDED, 1, pad(255, &block[..20])), PROTOCOL),
        case("6.2", "padded HEADERS without a length", frame(HEADERS, WHOLE | PADDED, 1, []), SHORT),
        case(
            "6.2",
            "HEADERS without the priority it announces",
            frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [0; 4]),
            SHORT,
        ),
        case(
            "6.2",
            "HEADERS, PRIORITY without END_HEADERS between",
            [frame(HEADERS, 0, 1, &block), frame(PRIORITY, 0, 3, [0; 5])].concat(),
            PROTOCOL,
        ),
        case(
            "6.2",
            "HEADERS twice without END_HEADERS",
            [frame(HEADERS, END_STREAM, 1, &block), frame(HEADERS, WHOLE, 1, &block)].concat(),
            PROTOCOL,
        ),
        case(
            "6.6",
            "PUSH_PROMISE",
            [open(), frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &block].concat())].concat(),
            PROTOCOL,
        ),
        case(
            "6.6",
            "PUSH_PROMISE on the connection",
            frame(PUSH_PROMISE, END_HEADERS, 0, [&[0, 0, 0, 2][..], &block].concat()),
            PROTOCOL,
        ),
    ]);
}

#[test]
fn small_frames_are_checked() {
    let open = || post(1, "/wait", &[]);
    run(vec![
        case("6.3", "PRIORITY on the connection", frame(PRIORITY, 0, 0, [0, 0, 0, 1, 9]), PROTOCOL),
        case(
            "6.3",
            "PRIORITY of 4 bytes",
            [open(), frame(PRIORITY, 0, 1, [0; 4])].concat(),
            Want::Reset(1, &[FRAME_SIZE_ERROR]),
        ),
        case(
            "6.3",
            "PRIORITY of 6 bytes",
            [open(), frame(PRIORITY, 0, 1, [0; 6])].concat(),
            Want::Reset(1, &[FRAME_SIZE_ERROR]),
        ),
        case("6.4", "RST_STREAM on the connection", frame(RST_STREAM, 0, 0, [0; 4]), PROTOCOL),
        case("6.4", "RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, [0; 4]), PROTOCOL),
        case("6.4", "RST_STREAM of 3 bytes", [open(), frame(RST_STREAM, 0, 1, [0; 3])].concat(), SIZE),
        case("6.4", "RST_STREAM of 5 bytes", [open(), frame(RST_STREAM, 0, 1, [0; 5])].concat(), SIZE),
        case("6.5", "ACK with a payload", frame(SETTINGS, ACK, 0, [0; 6]), SIZE),
        case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, [0, 3, 0, 0, 0, 9]), PROTOCOL),
        case("6.5", "SETTINGS of 3 bytes", frame(SETTINGS, 0, 0, [0; 3]), SIZE),
        case("6.5", "SETTINGS of 7 bytes", frame(SETTINGS, 0, 0, [0; 7]), SIZE),
        case("6.5.2", "ENABLE_PUSH of 2", settings(&[(2, 2)]), PROTOCOL),
        case("6.5.2", "INITIAL_WINDOW_SIZE above the greatest", settings(&[(4, 1 << 31)]), FLOW),
        case("6.5.2", "MAX_FRAME_SIZE below 16,384", settings(&[(5, (1 << 14) - 1)]), PROTOCOL),
        case("6.5.2", "MAX_FRAME_SIZE above the greatest", settings(&[(5, 1 << 24)]), PROTOCOL),
        case("8441-3", "ENABLE_CONNECT_PROTOCOL of 2", settings(&[(8, 2)]), PROTOCOL),
        case("6.5.3", "ACK that was not asked for", frame(SETTINGS, ACK, 0, []), PROTOCOL),
        case("6.7", "PING on a stream", frame(PING, 0, 1, [0; 8]), PROTOCOL),
        case("6.7", "PING of 6 bytes", frame(PING, 0, 0, [0; 6]), SIZE),
        case("6.7", "PING of 9 bytes", frame(PING, 0, 0, [0; 9]), SIZE),
        case("6.8", "GOAWAY on a stream", [open(), frame(GOAWAY, 0, 1, [0; 8])].concat(), PROTOCOL),
        case("6.8", "GOAWAY of 4 bytes", frame(GOAWAY, 0, 0, [0; 4]), SHORT),
    ]);
}

#[test]
fn flow_control_is_checked() {
    let open = || post(1, "/wait", &[]);
    let with =
        |own_settings, section, what, sent: Vec<u8>, want| Case { own_settings, ..case(section, what, sent, want) };
    let body = |n: usize| (0..n).flat_map(|_| frame(DATA, 0, 1, [0; 1 << 14])).collect::<Vec<_>>();
    run(vec![
        case("6.9", "an increment of 0 on the connection", window_update(0, 0), PROTOCOL),
        case(
            "6.9",
            "an increment of 0 on a stream",
            [open(), window_update(1, 0)].concat(),
            Want::Reset(1, &[PROTOCOL_ERROR]),
        ),
        case("6.9", "WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, [0, 0, 1]), SIZE),
        case("6.9", "WINDOW_UPDATE of 5 bytes", [open(), frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1, 0])].concat(), SIZE),
        case(
            "6.9.1",
            "the connection's window above the greatest",
            [window_update(0, i32::MAX as u32), window_update(0, i32::MAX as u32)].concat(),
            FLOW,
        ),
        case(
            "6.9.1",
            "a stream's window above the greatest",
            [open(), window_update(1, i32::MAX as u32)].concat(),
            Want::Reset(1, &[FLOW_CONTROL_ERROR]),
        ),
        with(&[(4, 1)], "6.9.1", "a window of one byte", get(1, "/large"), Want::FirstData(1, 1)),
        with(
            &[(4, 0)],
            "6.9.2",
            "a window that is opened by SETTINGS",
            [get(1, "/large"), settings(&[(4, 1)])].concat(),
            Want::FirstData(1, 1),
        ),
        with(
            &[(4, 3)],
            "6.9.2",
            "a window that becomes negative, and is opened",
            [get(1, "/wait"), settings(&[(4, 0)]), get(3, "/large"), window_update(3, 2)].concat(),
            Want::FirstData(3, 2),
        ),
        with(
            &[(4, 0)],
            "6.5.3",
            "the last of two values holds",
            [settings(&[(4, 9), (4, 1)]), get(1, "/large")].concat(),
            Want::FirstData(1, 1),
        ),
        case(
            "6.9.2",
            "all windows above the greatest by SETTINGS",
            [open(), window_update(1, 70_000), settings(&[(4, i32::MAX as u32)])].concat(),
            FLOW,
        ),
        case("6.9", "more DATA than a window has", [open(), body(17)].concat(), Want::Reset(1, &[FLOW_CONTROL_ERROR])),
    ]);
}

#[test]
fn continuation_is_checked() {
    let block = head("GET", "/", &[]);
    let (first, rest) = block.split_at(9);
    let begun = || frame(HEADERS, END_STREAM, 1, first);
    let more = |flags, stream, bytes: &[u8]| frame(CONTINUATION, flags, stream, bytes);
    let whole = || frame(HEADERS, WHOLE, 1, &block);
    run(vec![
        case(
            "6.10",
            "a frame other than CONTINUATION",
            [begun(), more(0, 1, &rest[..4]), frame(DATA, END_STREAM, 1, b"x")].concat(),
            PROTOCOL,
        ),
        case("6.10", "CONTINUATION on the connection", [begun(), more(END_HEADERS, 0, rest)].concat(), PROTOCOL),
        case("6.10", "CONTINUATION on another stream", [begun(), more(END_HEADERS, 3, rest)].concat(), PROTOCOL),
        case("6.10", "CONTINUATION behind END_HEADERS", [whole(), more(END_HEADERS, 1, rest)].concat(), PROTOCOL),
        case(
            "6.10",
            "CONTINUATION behind another with END_HEADERS",
            [begun(), more(END_HEADERS, 1, rest), more(END_HEADERS, 1, &fields(&[("x", "y")]))].concat(),
            PROTOCOL,
        ),
        case(
            "6.10",
            "CONTINUATION behind DATA",
            [post(1, "/wait", &[]), frame(DATA, 0, 1, b"x"), more(END_HEADERS, 1, rest)].concat(),
            PROTOCOL,
        ),
        case("6.10", "CONTINUATION behind SETTINGS", [settings(&[]), more(END_HEADERS, 1, rest)].concat(), PROTOCOL),
    ]);
}
