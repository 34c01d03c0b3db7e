//! Compressed messages (RFC 7692).

use super::tests::*;
use crate::ws::{
    Deflate,
    deflate::Deflater,
    frame::{FIN, RSV1},
};

/// Encodes a client's compressed message in `count` frames.
fn compressed(deflater: &mut Deflater, kind: u8, payload: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(deflater.message(payload, &mut bytes));
    let size = bytes.len().div_ceil(count);
    let count = bytes.len().div_ceil(size);
    let mut wire = Vec::new();
    for (i, piece) in bytes.chunks(size).enumerate() {
        let first = if i == 0 { kind | RSV1 } else { 0 };
        wire.extend(frame(first | if i + 1 == count { FIN } else { 0 }, piece));
        if i == 0 && count > 1 {
            wire.extend(frame(PING, b"between"));
        }
    }
    wire
}

fn deflater(bits: u8, context: bool) -> Deflater {
    Deflater::new(&Deflate::new().own_window(bits).keep_own_context(context).at_least(1))
}

#[test]
fn the_examples_of_the_rfc_for_compression() {
    // RFC 7692 §7.2.3: one block; in fragments; with the context of the first; stored; with BFINAL; two blocks.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    let wire = [
        frame(FIN | RSV1 | TEXT, &hello),
        frame(RSV1 | TEXT, &hello[..3]),
        frame(FIN, &hello[3..]),
        frame(FIN | RSV1 | TEXT, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
        frame(FIN | RSV1 | TEXT, &stored),
        frame(FIN | RSV1 | TEXT, &last),
        frame(FIN | RSV1 | TEXT, &two),
        frame(FIN | RSV1 | TEXT, &[0x00]),
        frame(FIN | TEXT, b"plain"),
    ];
    let want = ["Hello", "Hello", "Hello", "Hello", "Hello", "Hello", "", "plain"].map(text);
    assert_eq!(events(&wire.concat(), true), want);
}

#[test]
fn what_was_deflated_is_inflated() {
    let long = "Some text that repeats itself; κόσμε. ".repeat(2000);
    for context in [false, true] {
        for bits in [9, 12, 15] {
            let mut deflater = deflater(bits, context);
            let mut wire = compressed(&mut deflater, TEXT, long.as_bytes(), 20);
            wire.extend(compressed(&mut deflater, BINARY, b"short", 5));
            wire.extend(compressed(&mut deflater, TEXT, long.as_bytes(), 1));
            let want = [Owned::Ping(b"between".into()), text(&long), Owned::Ping(b"between".into())];
            let want = [&want[..], &[Owned::Binary(b"short".into()), text(&long)]].concat();
            assert_eq!(events(&wire, true), want);
        }
    }
}

#[test]
fn context_is_what_makes_the_second_message_small() {
    let payload = b"A message that is like the one before it, and like the one behind it.";
    let lengths = |context| {
        let mut deflater = deflater(15, context);
        [0; 2].map(|_| {
            let mut out = Vec::new();
            assert!(deflater.message(payload, &mut out));
            out.len()
        })
    };
    let [first, second] = lengths(true);
    assert!(second < first / 4, "{first}, {second}");
    let [first, second] = lengths(false);
    assert_eq!(first, second);
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    // A megabyte in a kilobyte: ten times the limit.
    let wire = compressed(&mut deflater(15, false), BINARY, &vec![0; 1_000_000], 1);
    assert!(wire.len() < 2000);
    assert_eq!(events(&wire, true), [fault(1009, "message too big")]);
    let mut reader = server(false, true);
    let mut used = 0;
    assert!(reader.next(&mut wire.clone(), &mut used).is_err());
    assert!(reader.binary.capacity() < 300_000, "at most the limit is held, doubled once");
    let wire = compressed(&mut deflater(15, false), BINARY, &vec![0; 100_000], 1);
    assert_eq!(events(&wire, true), [Owned::Binary(vec![0; 100_000])]);
}

/// RFC 7692 §7.2.3.4. The bytes are Python's zlib's, flushed with `Z_FINISH`.
#[test]
fn a_final_block_ends_a_message_with_and_without_another_one_behind_it() {
    let hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    let stored = b"\x01\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f";
    let with = |bytes: &[u8], behind: &[u8]| [bytes, behind].concat();
    for payload in [
        with(hello, b""),
        with(stored, b""),
        // As in the RFC: an empty block after it, without its last four bytes.
        with(hello, b"\x00"),
        with(stored, b"\x00"),
        // Empty blocks around it: a final one, and a complete one.
        with(b"\x03\x00", hello),
        with(hello, b"\x03\x00"),
        with(hello, b"\x00\x00\x00\xff\xff\x00"),
    ] {
        let (first, rest) = payload.split_at(3);
        let wire = [
            // In one frame, in two, and with an empty last one; an uncompressed message between them.
            frame(FIN | RSV1 | TEXT, &payload),
            [frame(RSV1 | TEXT, first), frame(FIN, rest)].concat(),
            frame(FIN | TEXT, b"plain"),
            [frame(RSV1 | TEXT, &payload), frame(FIN, b"")].concat(),
            // Not final.
            frame(FIN | RSV1 | TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
            frame(FIN | RSV1 | TEXT, &payload),
        ];
        let want = ["Hello", "Hello", "plain", "Hello", "Hello", "Hello"].map(text);
        assert_eq!(events(&wire.concat(), true), want, "{}", payload.escape_ascii());
    }
    // Two in one message are one message; an empty payload is an empty message.
    let wire = [frame(FIN | RSV1 | TEXT, &with(hello, hello)), frame(FIN | RSV1 | TEXT, b"")].concat();
    assert_eq!(events(&[wire, frame(FIN | RSV1 | TEXT, hello)].concat(), true), ["HelloHello", "", "Hello"].map(text));
    // A message after a final block cannot refer to the data before it, here to "Hello".
    let wire = [frame(FIN | RSV1 | TEXT, hello), frame(FIN | RSV1 | TEXT, b"\xf2\x00\x11\x00\x00")];
    assert_eq!(events(&wire.concat(), true), [text("Hello"), fault(1007, "compressed data that is corrupt")]);
}

/// Wherever a message is truncated: it is rejected itself, or the next one is read correctly.
#[test]
fn a_message_that_ends_within_a_block_is_rejected_itself() {
    let hello = frame(FIN | RSV1 | TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    let noise: Vec<u8> = (0..70_u32).map(|n| (n * n * 7919 / 32) as u8).collect();
    let words = b"hello, world; hello again, world; ".repeat(3);
    for data in [&noise[..], &words, &[7; 300], b"x"] {
        // Stored, and with codes.
        for level in [0, 1, 9] {
            let mut codec = flate2::Compress::new(flate2::Compression::new(level), false);
            let mut whole = Vec::with_capacity(2000);
            codec.compress_vec(data, &mut whole, flate2::FlushCompress::Sync).expect("deflated");
            for cut in 1..=whole.len() {
                let wire = [frame(FIN | RSV1 | BINARY, &whole[..cut]), hello.clone()].concat();
                match &events(&wire, true)[..] {
                    // For example, the tail may be the end of a stored block.
                    [Owned::Binary(_), next] => assert_eq!(next, &text("Hello"), "{level} {cut}"),
                    found => assert_eq!(found, [fault(1007, "compressed data that is corrupt")], "{level} {cut}"),
                }
            }
        }
    }
    // Truncated, and with the tail that must not be sent.
    for payload in [&b"\xf2\x48\xcd"[..], b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff"] {
        let wire = frame(FIN | RSV1 | TEXT, payload);
        assert_eq!(events(&wire, true), [fault(1007, "compressed data that is corrupt")]);
    }
}

#[test]
fn text_is_checked_after_inflation() {
    let wire = compressed(&mut deflater(15, false), TEXT, b"valid until \xff here", 1);
    assert_eq!(events(&wire, true), [fault(1007, "text that is not UTF-8")]);
    let wire = compressed(&mut deflater(15, false), TEXT, b"ends in \xe2\x82", 1);
    assert_eq!(events(&wire, true), [fault(1007, "text that is not UTF-8")]);
    assert_eq!(
        events(&frame(FIN | RSV1 | BINARY, b"\xff\xff\xff\xff"), true),
        [fault(1007, "compressed data that is corrupt")]
    );
}
