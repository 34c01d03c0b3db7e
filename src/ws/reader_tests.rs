use super::*;
use crate::ws::{
    deflate::Half,
    frame::{Encoded, FIN, RSV1},
};

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Fault(u16, &'static str),
}

pub(super) fn text(text: &str) -> Owned {
    Owned::Text(text.into())
}

/// Returns the events of these bytes, read in pieces of `size`. Parts are put together.
pub(super) fn read(mut reader: Reader, bytes: &[u8], size: usize) -> Vec<Owned> {
    let mut found = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut whole = true;
    for piece in bytes.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            let mut used = 0;
            let event = match reader.next(&mut buffer, &mut used) {
                Ok(None) => {
                    buffer.drain(..used);
                    break;
                }
                Ok(Some(event)) => event,
                Err(fault) => {
                    if !whole {
                        found.pop(); // A streamed message that never ended.
                    }
                    found.push(Owned::Fault(fault.code, fault.rule));
                    return found;
                }
            };
            match event {
                Event::Message(Message::Text(text)) => found.push(Owned::Text(text.into())),
                Event::Message(Message::Binary(bytes)) => found.push(Owned::Binary(bytes.into())),
                Event::Part(MessagePart { piece, first, last }) => {
                    assert_eq!(first, whole, "only the first part is marked so");
                    match (piece, first, found.last_mut()) {
                        (Message::Text(text), true, _) => found.push(Owned::Text(text.into())),
                        (Message::Binary(bytes), true, _) => found.push(Owned::Binary(bytes.into())),
                        (Message::Text(text), false, Some(Owned::Text(before))) => before.push_str(text),
                        (Message::Binary(bytes), false, Some(Owned::Binary(before))) => before.extend_from_slice(bytes),
                        other => panic!("{other:?}"),
                    }
                    assert!(last || !piece.bytes().is_empty());
                    whole = last;
                }
                Event::Ping(payload) if whole => found.push(Owned::Ping(payload.into())),
                // Between the parts of a message: before it, as without streaming.
                Event::Ping(payload) => found.insert(found.len() - 1, Owned::Ping(payload.into())),
                Event::Pong(payload) => found.push(Owned::Pong(payload.into())),
                Event::Close(code, reason) => {
                    if !whole {
                        found.pop();
                    }
                    found.push(Owned::Close(code, reason.into()));
                    return found;
                }
            }
            buffer.drain(..used);
            reader.shrink();
        }
    }
    if !whole {
        found.pop();
    }
    found
}

fn config() -> Config {
    Config::new().message(100_000).fragments(20)
}

pub(super) fn server(streams: bool, deflate: bool) -> Reader {
    let inflate = deflate.then(|| Inflate::new(Half { bits: 15, context: true }));
    Reader::new(true, streams, &config(), inflate)
}

/// Returns the events, which are the same however the input is split, and with or without streaming.
#[track_caller]
pub(super) fn events(bytes: &[u8], deflate: bool) -> Vec<Owned> {
    let found = read(server(false, deflate), bytes, bytes.len().max(1));
    for streams in [false, true] {
        for size in [1, 2, 3, 7, 64, 1000, bytes.len().max(1)] {
            if size == 1 && bytes.len() > 200_000 {
                continue;
            }
            assert_eq!(read(server(streams, deflate), bytes, size), found, "pieces of {size}, streamed: {streams}");
        }
    }
    found
}

/// Encodes a client's frame.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut wire = Encoded::new(first, payload.len(), Some(key)).as_bytes().to_vec();
    let from = wire.len();
    wire.extend_from_slice(payload);
    mask(&mut wire[from..], key, 0);
    wire
}

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const PING: u8 = FIN | 9;
const PONG: u8 = FIN | 10;
const CLOSE: u8 = FIN | 8;

pub(super) fn fault(code: u16, rule: &'static str) -> Owned {
    Owned::Fault(code, rule)
}

#[test]
fn the_examples_of_the_rfc() {
    // §5.7
    assert_eq!(events(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", false), [text("Hello")]);
    let fragments = [frame(TEXT, b"Hel"), frame(FIN, b"lo")].concat();
    assert_eq!(events(&fragments, false), [text("Hello")]);
    assert_eq!(events(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", false), [Owned::Pong(b"Hello".into())]);
    assert_eq!(frame(PONG, b"Hello"), b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    // A server's frames are not masked.
    let client = || Reader::new(false, false, &config(), None);
    assert_eq!(read(client(), b"\x01\x03Hel\x80\x02lo\x89\x05Hello", 1), [text("Hello"), Owned::Ping(b"Hello".into())]);
    assert_eq!(read(client(), &frame(FIN | TEXT, b"x"), 9), [fault(1002, "incorrect mask flag")]);
    assert_eq!(read(server(false, false), b"\x81\x05Hello", 9), [fault(1002, "incorrect mask flag")]);
}

#[test]
fn messages_of_every_size_arrive() {
    for size in [0, 1, 124, 125, 126, 127, 128, 1000, 65535, 65536, 100_000] {
        let payload: Vec<u8> = (0..size).map(|i| i as u8).collect();
        assert_eq!(events(&frame(FIN | BINARY, &payload), false), [Owned::Binary(payload)]);
    }
}

#[test]
fn fragments_are_put_together_and_control_frames_go_between() {
    let wire = [
        frame(TEXT, "κόσ".as_bytes()),
        frame(PING, b"1"),
        frame(0, &"με".as_bytes()[..1]), // within a character
        frame(PING, b""),
        frame(0, b""),
        frame(FIN, &"με".as_bytes()[1..]),
        frame(FIN | BINARY, b"next"),
    ];
    let want = [Owned::Ping(b"1".into()), Owned::Ping(b"".into()), text("κόσμε"), Owned::Binary(b"next".into())];
    assert_eq!(events(&wire.concat(), false), want);
    let empty = [frame(TEXT, b""), frame(0, b""), frame(FIN, b""), frame(FIN | BINARY, b"")].concat();
    assert_eq!(events(&empty, false), [text(""), Owned::Binary(vec![])]);
}

#[test]
fn every_rule_has_its_fault() {
    let rows: &[(&[Vec<u8>], u16, &str)] = &[
        (&[frame(FIN, b"x")], 1002, "a continuation of nothing"),
        (&[frame(0, b"x")], 1002, "a continuation of nothing"),
        (&[frame(TEXT, b"x"), frame(FIN | TEXT, b"y")], 1002, "a message inside another"),
        (&[frame(BINARY, b"x"), frame(BINARY, b"y")], 1002, "a message inside another"),
        (&[frame(FIN | RSV1 | TEXT, b"x")], 1002, "reserved bits must be 0"),
        (&[frame(FIN | RSV1 | 9, b"x")], 1002, "reserved bits must be 0"),
        (&[frame(0x80 | 3, b"x")], 1002, "reserved opcode"),
        (&[frame(9, b"x")], 1002, "a control frame in fragments"),
        (&[frame(PING, &[0; 126])], 1002, "a control frame of more than 125 bytes"),
        (&[frame(CLOSE, b"\x03")], 1002, "a Close with half a code"),
        (&[frame(CLOSE, b"\x03\xed")], 1002, "a Close with a code that must not be sent"),
        (&[frame(CLOSE, b"\x03\xe8\xff")], 1007, "a reason that is not UTF-8"),
        (&[frame(FIN | TEXT, b"abc\xffdef")], 1007, "text that is not UTF-8"),
        (&[frame(FIN | TEXT, b"\xe2\x82")], 1007, "text that is not UTF-8"),
        (&[frame(TEXT, b"\xe2"), frame(FIN, b"")], 1007, "text that is not UTF-8"),
        (&[frame(TEXT, b"\xe2"), frame(PING, b""), frame(0, b"\x28")], 1007, "text that is not UTF-8"),
        (&[frame(FIN | BINARY, &vec![0; 100_001])], 1009, "message too big"),
        (&[frame(BINARY, &vec![0; 50_000]), frame(0, &vec![0; 50_001])], 1009, "message too big"),
    ];
    for (frames, code, rule) in rows {
        let wire = [&frame(FIN | TEXT, b"before")[..], &frames.concat(), b"and the rest"].concat();
        let found = events(&wire, false);
        assert_eq!((&found[0], found.last()), (&text("before"), Some(&fault(*code, rule))), "{rule}");
    }
}

/// RFC 7692 §6: only the first frame of a message may be marked as compressed.
#[test]
fn reserved_bits_mean_nothing_else_when_compression_is_agreed_on() {
    let begun = frame(RSV1 | TEXT, &[0xf2]);
    for wrong in [
        frame(FIN | RSV1 | 9, b""),
        frame(FIN | RSV1 | 10, b""),
        frame(FIN | RSV1 | 8, b""),
        [&begun[..], &frame(RSV1, b"x")].concat(),
        [&begun[..], &frame(FIN | RSV1 | 9, b"x")].concat(),
        frame(FIN | 0x20 | TEXT, b""),
        frame(FIN | 0x10 | TEXT, b""),
        frame(FIN | RSV1 | 0x20 | TEXT, b""),
        [&begun[..], &frame(0x10, b"x")].concat(),
    ] {
        assert_eq!(events(&wrong, true), [fault(1002, "reserved bits must be 0")], "{}", wrong.escape_ascii());
    }
}

#[test]
fn what_is_too_big_is_rejected_before_it_arrives() {
    let head = |len| Encoded::new(FIN | BINARY, len, Some([0; 4])).as_bytes().to_vec();
    assert_eq!(events(&head(100_001), false), [fault(1009, "message too big")]);
    assert_eq!(events(&head(100_000), false), []);
    assert_eq!(events(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", false), []);
    assert_eq!(events(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", false), [fault(1009, "message too big")]);
    let reader = Reader::new(true, false, &config().frame(1000), None);
    assert_eq!(read(reader, &head(1001), 99), [fault(1009, "frame too big")]);
    let many = [frame(TEXT, b""), frame(0, b"").repeat(19), frame(FIN, b"")].concat();
    assert_eq!(events(&many, false), [fault(1009, "too many fragments")]);
    let enough = [frame(TEXT, b""), frame(0, b"").repeat(18), frame(FIN, b"")].concat();
    assert_eq!(events(&enough, false), [text("")]);
}

#[test]
fn a_wrong_byte_fails_at_once_in_the_middle_of_a_frame() {
    let wire = frame(FIN | TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited");
    for streams in [false, true] {
        // 6 bytes of head, 11 valid ones, F4, and 90, which cannot follow it.
        assert_eq!(read(server(streams, false), &wire[..6 + 12], 1), []);
        assert_eq!(read(server(streams, false), &wire[..6 + 13], 1), [fault(1007, "text that is not UTF-8")]);
        assert_eq!(read(server(streams, false), &wire[..6 + 13], 100), [fault(1007, "text that is not UTF-8")]);
    }
}

#[test]
fn close_is_the_last_event() {
    let wire = [frame(CLOSE, b"\x03\xe8bye"), frame(FIN | TEXT, b"x")].concat();
    assert_eq!(events(&wire, false), [Owned::Close(1000, "bye".into())]);
    assert_eq!(events(&frame(CLOSE, b""), false), [Owned::Close(1005, String::new())]);
    // Within a message, which is then never delivered.
    let wire = [frame(TEXT, b"x"), frame(CLOSE, b"")].concat();
    assert_eq!(events(&wire, false), [Owned::Close(1005, String::new())]);
}

#[test]
fn a_complete_message_is_borrowed_and_nothing_is_kept() {
    let mut reader = server(false, false);
    let mut wire = [frame(FIN | TEXT, b"hello"), frame(FIN | BINARY, &[7; 5000])].concat();
    let (start, mut used) = (wire.as_ptr() as usize, 0);
    let Ok(Some(Event::Message(Message::Text(text)))) = reader.next(&mut wire, &mut used) else { panic!() };
    assert_eq!((text, text.as_ptr() as usize - start, used), ("hello", 6, 11));
    let Ok(Some(Event::Message(Message::Binary(bytes)))) = reader.next(&mut wire, &mut used) else { panic!() };
    assert_eq!((bytes.len(), bytes.as_ptr() as usize - start), (5000, 19));
    assert_eq!((reader.text.capacity(), reader.binary.capacity()), (0, 0));
}
