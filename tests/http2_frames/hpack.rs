//! RFC 7541: header blocks.

use crate::{
    cases::{Case, Want, case, run},
    peer::{COMPRESSION_ERROR, HEADERS, WHOLE, frame, head},
};

/// The head of `GET /`, from the static table, with a literal name.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];

fn ok(section: &'static str, what: &'static str, block: &[u8]) -> Case {
    case(section, what, frame(HEADERS, WHOLE, 1, block), Want::Status(1, 200))
}

/// A block that cannot be decoded (RFC 9113 §4.3).
fn bad(section: &'static str, what: &'static str, block: &[u8]) -> Case {
    case(section, what, frame(HEADERS, WHOLE, 1, block), Want::Goaway(&[COMPRESSION_ERROR]))
}

#[test]
fn valid_blocks_are_decoded() {
    let and = |more: &[u8]| [GET, more].concat();
    let first = |before: &[u8]| [before, GET].concat();
    // Adds `x: y` to the dynamic table, as index 62.
    let added = [0x40, 1, b'x', 1, b'y'];
    run(vec![
        ok("6.1", "the static table", GET),
        ok("6.1", "the dynamic table", &and(&[&added[..], &[0xbe]].concat())),
        case(
            "2.2",
            "the dynamic table of an earlier block",
            [frame(HEADERS, WHOLE, 3, and(&added)), frame(HEADERS, WHOLE, 5, and(&[0xbe]))].concat(),
            Want::Status(3, 200),
        ),
        ok("6.2.1", "a literal that is added, with an indexed name", &and(&[0x53, 1, b'*'])),
        ok("6.2.1", "a literal that is added", &and(&added)),
        ok("6.2.2", "a literal that is not added, with an indexed name", &and(&[0x0f, 0x04, 1, b'*'])),
        ok("6.2.2", "a literal that is not added", &and(&[0, 1, b'x', 1, b'y'])),
        ok("6.2.3", "a literal that is never added, with an indexed name", &and(&[0x1f, 0x04, 1, b'*'])),
        ok("6.2.3", "a literal that is never added", &and(&[0x10, 1, b'x', 1, b'y'])),
        // `www.example.com` of RFC 7541, C.4.1.
        ok("5.2", "Huffman's code", &[&[0x82, 0x86, 0x84, 0x41, 0x8c][..], &HUFFMAN].concat()),
        ok(
            "5.2",
            "Huffman's code in a name",
            &and(&[0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 1, b'y']),
        ),
        ok("6.3", "a smaller table", &first(&[0x20])),
        ok("6.3", "two sizes", &first(&[0x20, 0x3f, 0xe1, 0x1f])),
        ok("5.1", "an integer of several bytes", &and(&[&[0, 1, b'x', 0x7f, 0x73][..], &[b'y'; 242]].concat())),
        ok(
            "5.1",
            "an integer with needless zeros",
            &and(&[0, 1, b'x', 0x7f, 0x80, 0x00].iter().copied().chain([b'y'; 127]).collect::<Vec<_>>()),
        ),
    ]);
}

const HUFFMAN: [u8; 12] = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];

#[test]
fn invalid_blocks_are_rejected() {
    let and = |more: &[u8]| [GET, more].concat();
    let whole = head("GET", "/", &[]);
    run(vec![
        bad("6.1", "index 0", &and(&[0x80])),
        bad("2.3.3", "an index behind the tables", &and(&[0xc6])),
        bad("2.3.3", "a name with an index behind the tables", &and(&[0x7f, 0x20, 1, b'x'])),
        bad(
            "2.3.3",
            "an index behind a table that was emptied",
            &[&[0x40, 1, b'x', 1, b'y', 0x20][..], GET, &[0xbe]].concat(),
        ),
        bad("4.2", "a size behind a field", &and(&[0x20])),
        bad("4.2", "a size between fields", &[&GET[..1], &[0x3f, 0xe1, 0x1f], &GET[1..]].concat()),
        bad("6.3", "a size above the limit", &[&[0x3f, 0xe2, 0x1f][..], GET].concat()),
        bad("6.3", "a size far above the limit", &[&[0x3f, 0xff, 0xff, 0xff, 0x0f][..], GET].concat()),
        bad("5.2", "padding of 15 bits", &and(&[0, 0x86, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0xff, 1, b'y'])),
        bad("5.2", "padding of zeros", &and(&[0, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0x80, 1, b'y'])),
        bad(
            "5.2",
            "the end of strings within a string",
            &and(&[0, 0x88, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0xff, 0xff, 0xff, 1, b'y']),
        ),
        bad("5.1", "an integer without its end", &and(&[0, 1, b'x', 0x7f, 0x80])),
        bad(
            "5.1",
            "an integer that is too large",
            &and(&[0, 1, b'x', 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ),
        bad("5.1", "an index that is too large", &and(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        bad("5.2", "a string that is longer than the block", &and(&[0, 1, b'x', 9, b'y'])),
        bad("6.2", "a block that ends behind a name", &and(&[0, 1, b'x'])),
        bad("6.2", "a block that ends within a name", &whole[..whole.len() - 12]),
    ]);
}
