use std::cell::Cell;

use super::{Misbehaved::*, *};

thread_local!(static LOOKED_AT: Cell<usize> = const { Cell::new(0) });

/// Counts bytes that the code under test has read.
pub(super) fn looked_at(n: usize) {
    LOOKED_AT.set(LOOKED_AT.get() + n);
}

const SMALL: HeadLimits = HeadLimits { head: 300, target: 40, fields: 8 };

/// The beginning and the end of the head.
type Found = Result<Option<(usize, usize)>, Misbehaved>;

/// Checks the outcome with pieces of 1, of 2, ... up to all at once: it must not depend on how bytes arrive.
#[track_caller]
fn every_way(input: &[u8], want: Found) {
    for size in 1..=input.len().max(1) {
        let mut scan = HeadScanner::default();
        let mut got = Ok(None);
        let mut len = 0;
        while got == Ok(None) && len < input.len() {
            len = (len + size).min(input.len());
            got = scan.find(&input[..len], &SMALL);
        }
        let got = got.map(|end| end.map(|end| (scan.skip(), end)));
        assert_eq!(got, want, "in pieces of {size}: {}", input.escape_ascii());
    }
}

#[test]
fn finds_the_end() {
    #[rustfmt::skip]
    let rows: &[(&str, &str, Found)] = &[
        ("one line",            "GET / HTTP/1.1\r\n\r\n",                     Ok(Some((0, 18)))),
        ("with a field",        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",          Ok(Some((0, 27)))),
        ("with more behind",    "GET / HTTP/1.1\r\nHost: x\r\n\r\nbody\n\0",  Ok(Some((0, 27)))),
        ("two pipelined",       "G / H\r\n\r\nG / H\r\n\r\n",                 Ok(Some((0, 9)))),
        ("nothing yet",         "",                                           Ok(None)),
        ("in the line",         "GET / HT",                                   Ok(None)),
        ("between CR and LF",   "GET / HTTP/1.1\r",                           Ok(None)),
        ("before the end",      "GET / HTTP/1.1\r\nHost: x\r\n\r",            Ok(None)),
        ("an empty line first", "\r\nG / H\r\n\r\n",                          Ok(Some((2, 11)))),
        ("four of them",        "\r\n\r\n\r\n\r\nG / H\r\n\r\n",              Ok(Some((8, 17)))),
        ("five of them",        "\r\n\r\n\r\n\r\n\r\nG / H\r\n\r\n",          Err(BadRequestLine)),
        ("a tab",               "G / H\r\nA:\tb\r\n\r\n",                     Ok(Some((0, 15)))),
        ("bytes above ASCII",   "G / H\r\nA: \u{e9}\u{feff}\r\n\r\n",         Ok(Some((0, 19)))),
        ("bare LF",             "GET / HTTP/1.1\nHost: x\r\n\r\n",            Err(BareLf)),
        ("bare LF in a field",  "G / H\r\nA: b\nC: d\r\n\r\n",                Err(BareLf)),
        ("bare LF at the end",  "G / H\r\nA: b\r\n\n",                        Err(BareLf)),
        ("LF first",            "\nG / H\r\n\r\n",                            Err(BareLf)),
        ("LF CR",               "G / H\n\r\n\r",                              Err(BareLf)),
        ("bare CR",             "G / H\rA: b\r\n\r\n",                        Err(BareCr)),
        ("two CRs",             "G / H\r\r\n\r\n",                            Err(BareCr)),
        ("bare CR in a value",  "G / H\r\nA: b\rc\r\n\r\n",                   Err(BareCr)),
        ("bare CR at the end",  "G / H\r\nA: b\r\n\rX",                       Err(BareCr)),
        ("CR first",            "\rG / H\r\n\r\n",                            Err(BareCr)),
        ("NUL",                 "G / H\r\nA: b\0\r\n\r\n",                    Err(ControlByte)),
        ("NUL in a name",       "G / H\r\nA\0: b\r\n\r\n",                    Err(ControlByte)),
        ("vertical tab",        "G / H\r\nA:\x0bb\r\n\r\n",                   Err(ControlByte)),
        ("a TLS client",        "\x16\x03\x01\x02\0\x01",                     Err(ControlByte)),
    ];
    for (name, input, want) in rows {
        println!("{name}");
        every_way(input.as_bytes(), *want);
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let head = |target: usize, total: usize| {
        let start = format!("GET /{} HTTP/1.1\r\nA: ", "t".repeat(target - 1));
        format!("{start}{}\r\n\r\n", "v".repeat(total - start.len() - 4))
    };
    every_way(head(10, 299).as_bytes(), Ok(Some((0, 299))));
    every_way(head(10, 300).as_bytes(), Ok(Some((0, 300))));
    every_way(head(10, 301).as_bytes(), Err(HeadTooLarge));
    every_way(&head(10, 400).as_bytes()[..300], Err(HeadTooLarge));
    every_way(&head(10, 400).as_bytes()[..299], Ok(None));
    // The request line may have its target and 128 bytes more. The parser checks the exact limit of the target.
    let line = SMALL.target + LINE_ROOM;
    every_way(head(line - 15, 250).as_bytes(), Ok(Some((0, 250))));
    every_way(head(line - 14, 250).as_bytes(), Err(TargetTooLong));
    every_way("x".repeat(line - 1).as_bytes(), Ok(None));
    every_way("x".repeat(line).as_bytes(), Err(TargetTooLong));
    every_way([&"x".repeat(line)[..], "\n"].concat().as_bytes(), Err(TargetTooLong));
    // A buffer as large as the limit always yields a result when it is full.
    for at in 0..300 {
        let mut input = vec![b'x'; 300];
        input[at] = b'\r';
        assert!(HeadScanner::default().find(&input, &SMALL).is_err());
    }
}

#[test]
fn each_byte_is_read_once_however_they_arrive() {
    let limits = HeadLimits { head: 1 << 20, ..HeadLimits::default() };
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    while head.len() < 64 * 1024 {
        head.extend_from_slice(b"X-Some-Field: with a value of ordinary length\r\n");
    }
    head.extend_from_slice(b"\r\n");
    LOOKED_AT.set(0);
    let mut scan = HeadScanner::default();
    for n in 1..head.len() {
        assert_eq!(scan.find(&head[..n], &limits), Ok(None));
    }
    assert_eq!(scan.find(&head, &limits), Ok(Some(head.len())));
    // One for each byte, and one for each call and line.
    assert!(LOOKED_AT.get() < 4 * head.len(), "{} bytes of {}", LOOKED_AT.get(), head.len());
}

#[test]
fn words_and_bytes_agree_on_every_control_byte() {
    for len in 0..40 {
        for at in 0..len {
            for b in 0..=255u8 {
                let mut bytes = vec![b'a'; len];
                bytes[at] = b;
                let first = if b < 0x20 { at } else { len };
                assert_eq!(next_control(&bytes, 0), first);
                // A borrow in the word must not hide or invent one.
                bytes.fill(0x9f);
                bytes[at] = b;
                assert_eq!(next_control(&bytes, 0), first);
                bytes.fill(b' ');
                bytes[at] = b;
                assert_eq!(next_control(&bytes, at.min(3)), first);
            }
        }
    }
}

#[test]
fn it_is_small() {
    assert!(size_of::<HeadScanner>() <= 8);
}

#[test]
fn asking_again_changes_nothing() {
    let head = b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut scan = HeadScanner::default();
    for n in 0..head.len() {
        for _ in 0..2 {
            assert_eq!(scan.find(&head[..n], &HeadLimits::default()), Ok(None), "{n}");
        }
    }
    assert_eq!(scan.find(head, &HeadLimits::default()), Ok(Some(head.len())));
}

#[test]
fn an_empty_line_after_the_head_does_not_belong_to_it() {
    every_way(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n\r\nGET", Ok(Some((0, 27))));
    every_way(b"\r\nGET / HTTP/1.1\r\n\r\n\r\n", Ok(Some((2, 20))));
}
