use super::{Misbehaved::*, *};

const LIMITS: BodyLimits = BodyLimits { body: 100, trailers: 64, fields: 3 };

/// The data, and the end: the number of unread bytes and the trailers, or `None` if the body has not ended.
type Want<'a> = (&'a str, Result<Option<(usize, &'a str)>, Misbehaved>);

/// Checks the outcome with pieces of 1, of 2, ... up to all at once: it must not depend on how bytes arrive.
#[track_caller]
fn every_way(input: &[u8], want: Want<'_>) {
    for size in 1..=input.len().max(1) {
        let (data, end) = run(input, size, &LIMITS);
        let end = end.map(|end| end.map(|(end, trailers)| (input.len() - end, trailers.as_wire().to_vec())));
        let want_end = want.1.map(|end| end.map(|(left, trailers)| (left, trailers.as_bytes().to_vec())));
        assert_eq!((data.as_slice(), end), (want.0.as_bytes(), want_end), "pieces of {size}: {}", input.escape_ascii());
    }
}

#[test]
fn bodies() {
    #[rustfmt::skip]
    let rows: &[(&str, &str, Want<'_>)] = &[
        ("empty",              "0\r\n\r\n",                                    ("", Ok(Some((0, ""))))),
        ("one chunk",          "5\r\nhello\r\n0\r\n\r\n",                      ("hello", Ok(Some((0, ""))))),
        ("two chunks",         "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",             ("hello", Ok(Some((0, ""))))),
        ("more behind",        "1\r\na\r\n0\r\n\r\nGET /",                     ("a", Ok(Some((5, ""))))),
        ("both cases",         "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
                                                                        ("01234567890123456789", Ok(Some((0, ""))))),
        ("leading zeros",      "0000000000000001\r\na\r\n000\r\n\r\n",         ("a", Ok(Some((0, ""))))),
        ("looks like framing", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",              ("\r\n0\r\n\r\n", Ok(Some((0, ""))))),
        ("not yet ended",      "5\r\nhel",                                     ("hel", Ok(None))),
        ("no last CRLF",       "0\r\n",                                        ("", Ok(None))),
        ("nothing",            "",                                             ("", Ok(None))),
        // sizes
        ("no size",            "\r\nhello",                                    ("", Err(BadChunk))),
        ("0x",                 "0x5\r\nhello\r\n0\r\n\r\n",                    ("", Err(BadChunk))),
        ("plus",               "+5\r\nhello\r\n0\r\n\r\n",                     ("", Err(BadChunk))),
        ("minus",              "-5\r\nhello\r\n0\r\n\r\n",                     ("", Err(BadChunk))),
        ("space before",       " 5\r\nhello\r\n0\r\n\r\n",                     ("", Err(BadChunk))),
        ("space behind",       "5 \r\nhello\r\n0\r\n\r\n",                     ("", Err(BadChunk))),
        ("tab behind",         "5\t\r\nhello\r\n0\r\n\r\n",                    ("", Err(BadChunk))),
        ("underscore",         "1_0\r\n",                                      ("", Err(BadChunk))),
        ("no hex digit",       "5g\r\n",                                       ("", Err(BadChunk))),
        ("seventeen digits",   "00000000000000001\r\na\r\n0\r\n\r\n",          ("", Err(BadChunk))),
        ("2^64",               "10000000000000000\r\n",                        ("", Err(BadChunk))),
        ("2^64 - 1",           "ffffffffffffffff\r\n",                         ("", Err(BodyTooLarge))),
        ("wraps around",       "1\r\na\r\nffffffffffffffff\r\n",               ("a", Err(BodyTooLarge))),
        ("over the limit",     "65\r\n",                                       ("", Err(BodyTooLarge))),
        ("together over it",   "1\r\na\r\n64\r\n",                             ("a", Err(BodyTooLarge))),
        // line ends
        ("bare LF",            "5\nhello\r\n0\r\n\r\n",                        ("", Err(BadChunk))),
        ("bare CR",            "5\rhello\r\n0\r\n\r\n",                        ("", Err(BadChunk))),
        ("two CRs",            "5\r\r\nhello\r\n0\r\n\r\n",                    ("", Err(BadChunk))),
        ("LF behind data",     "5\r\nhello\n0\r\n\r\n",                        ("hello", Err(BadChunk))),
        ("CR behind data",     "5\r\nhello\r0\r\n\r\n",                        ("hello", Err(BadChunk))),
        ("data too long",      "5\r\nhello!\r\n0\r\n\r\n",                     ("hello", Err(BadChunk))),
        ("data too short",     "5\r\nhell\r\n0\r\n\r\n",                       ("hell\r", Err(BadChunk))),
        ("LF for the end",     "0\r\n\n",                                      ("", Err(BadTrailer))),
        ("CR for the end",     "0\r\n\rX",                                     ("", Err(BadTrailer))),
        ("LF behind zero",     "0\n\r\n",                                      ("", Err(BadChunk))),
        // extensions
        ("an extension",       "1;a\r\nx\r\n0\r\n\r\n",                        ("x", Ok(Some((0, ""))))),
        ("with a value",       "1;a=b\r\nx\r\n0;c=d\r\n\r\n",                  ("x", Ok(Some((0, ""))))),
        ("quoted",             "1;a=\"b;\\\"c\";d\r\nx\r\n0\r\n\r\n",          ("x", Ok(Some((0, ""))))),
        ("bad whitespace",     "1 ;\ta = b ; c\r\nx\r\n0\r\n\r\n",             ("x", Ok(Some((0, ""))))),
        ("no name",            "1;\r\nx\r\n0\r\n\r\n",                         ("", Err(BadChunk))),
        ("no value",           "1;a=\r\nx\r\n0\r\n\r\n",                       ("", Err(BadChunk))),
        ("not closed",         "1;a=\"b\r\nx\r\n0\r\n\r\n",                    ("", Err(BadChunk))),
        ("closed by escape",   "1;a=\"b\\\"\r\nx\r\n0\r\n\r\n",                ("", Err(BadChunk))),
        ("space at its end",   "1;a \r\nx\r\n0\r\n\r\n",                       ("", Err(BadChunk))),
        ("bare LF in it",      "1;a\nb\r\nx\r\n0\r\n\r\n",                     ("", Err(BadChunk))),
        ("bare CR in it",      "1;a=\"\rb\"\r\nx\r\n0\r\n\r\n",                ("", Err(BadChunk))),
        ("NUL in it",          "1;a=\"\0\"\r\nx\r\n0\r\n\r\n",                 ("", Err(BadChunk))),
        ("comma",              "1,a\r\nx\r\n0\r\n\r\n",                        ("", Err(BadChunk))),
        // trailers
        ("a trailer",          "0\r\nX-Sum: 7\r\n\r\n",                        ("", Ok(Some((0, "X-Sum: 7\r\n"))))),
        ("two, trimmed",       "0\r\nA:\t1 \r\nB:\r\n\r\nGET",                 ("", Ok(Some((3, "A: 1\r\nB: \r\n"))))),
        ("one dropped",        "0\r\nHost: evil\r\nA: 1\r\n\r\n",              ("", Ok(Some((0, "A: 1\r\n"))))),
        ("all dropped",        "0\r\ncontent-length: 4\r\n\r\n",               ("", Ok(Some((0, ""))))),
        ("space before colon", "0\r\nA : 1\r\n\r\n",                           ("", Err(BadTrailer))),
        ("no colon",           "0\r\nA\r\n\r\n",                               ("", Err(BadTrailer))),
        ("no name",            "0\r\n: 1\r\n\r\n",                             ("", Err(BadTrailer))),
        ("continued",          "0\r\nA: 1\r\n 2\r\n\r\n",                      ("", Err(BadTrailer))),
        ("bare LF in one",     "0\r\nA: 1\nB: 2\r\n\r\n",                      ("", Err(BadTrailer))),
        ("NUL in one",         "0\r\nA: \0\r\n\r\n",                           ("", Err(BadTrailer))),
        ("bad, and dropped",   "0\r\nHost: \x7f\r\n\r\n",                      ("", Err(BadTrailer))),
        ("three",  "0\r\nA:\r\nB:\r\nC:\r\n\r\n",                  ("", Ok(Some((0, "A: \r\nB: \r\nC: \r\n"))))),
        ("four",               "0\r\nA:\r\nB:\r\nC:\r\nD:\r\n\r\n",            ("", Err(TrailersTooLarge))),
        ("four, dropped",      "0\r\nTE:\r\nTE:\r\nTE:\r\nTE:\r\n\r\n",        ("", Err(TrailersTooLarge))),
    ];
    for (name, input, want) in rows {
        println!("{name}");
        every_way(input.as_bytes(), *want);
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let trailer = |n: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(n - 2));
    let kept = format!("A: {}\r\n", "x".repeat(62));
    every_way(trailer(64).as_bytes(), ("", Ok(Some((0, &kept)))));
    every_way(trailer(65).as_bytes(), ("", Err(TrailersTooLarge)));
    every_way(&trailer(99).as_bytes()[..3 + 65], ("", Err(TrailersTooLarge)));
    let two = "0\r\nA:2345678901234567890123456789\r\nB:2345678901234567890123456789\r\n";
    every_way(two.as_bytes(), ("", Ok(None)));
    every_way(format!("{two}C").as_bytes(), ("", Err(TrailersTooLarge)));

    let line = |n: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(n - 2));
    assert_eq!(run(line(1024).as_bytes(), 7, &LIMITS).0, b"x");
    for size in [1, 7, 1024, 1025, 1026, 9999] {
        assert_eq!(run(line(1025).as_bytes(), size, &LIMITS).1, Err(ChunkExtensionTooLong), "{size}");
        assert_eq!(run(&vec![b'0'; 1025], size, &LIMITS).1, Err(ChunkExtensionTooLong), "{size}");
        assert_eq!(run(&vec![b'0'; 1024], size, &LIMITS).1, Ok(None), "{size}");
    }
    // Many extensions, each within its limit.
    let flood = format!("1;{}\r\nx\r\n", "e".repeat(511)).repeat(33);
    for size in [1, 500, 99_999] {
        let (data, end) = run(flood.as_bytes(), size, &LIMITS);
        assert_eq!((data.len(), end), (32, Err(ChunkExtensionTooLong)), "32 times 512 bytes are the most");
    }
}

#[test]
fn forbidden_trailers() {
    for name in [
        "Transfer-Encoding",
        "content-length",
        "HOST",
        "Connection",
        "Trailer",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Encoding",
        "Content-Type",
        "Content-Range",
        "TE",
        "Upgrade",
        "Expect",
        "Max-Forwards",
        "Cache-Control",
        "If-Match",
        "if-none-match",
        "Proxy-Authorization",
        "X-Forwarded-For",
    ] {
        assert!(!may_be_trailer(name.as_bytes()), "{name}");
    }
    for name in ["X-Sum", "Digest", "Content-MD5x", "Server-Timing", "If", "ETag", "grpc-status"] {
        assert!(may_be_trailer(name.as_bytes()), "{name}");
    }
}

#[test]
fn it_is_small_and_does_not_read_data() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
    let limits = BodyLimits { body: u64::MAX, ..LIMITS };
    let mut decoder = Decoder::new();
    assert_eq!(decoder.step(b"ffffffffffffffff\r\n", &limits), Ok(Step::Skip(18)));
    for n in [1, 1000, 64 * 1024] {
        let data = vec![b'\n'; n];
        assert_eq!(decoder.step(&data, &limits), Ok(Step::Data(n)));
        decoder.took(n);
    }
    assert!(!decoder.is_done());
}

#[test]
fn one_call_skips_all_framing_between_data() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.step(b"1\r\na\r\n1;x\r\nb", &LIMITS), Ok(Step::Skip(3)));
    decoder.step(b"a\r\n1;x\r\nb", &LIMITS).unwrap();
    decoder.took(1);
    assert_eq!(decoder.step(b"\r\n1;x\r\nb", &LIMITS), Ok(Step::Skip(7)));
    assert_eq!(decoder.step(b"b", &LIMITS), Ok(Step::Data(1)));
    decoder.took(1);
    assert_eq!(decoder.step(b"\r", &LIMITS), Ok(Step::NeedMore));
    assert_eq!(decoder.step(b"\r\n0", &LIMITS), Ok(Step::Skip(2)));
    assert_eq!(decoder.step(b"0\r\n\r", &LIMITS), Ok(Step::Skip(3)));
    assert_eq!(decoder.step(b"\r\nrest", &LIMITS), Ok(Step::End(2, None)));
    assert!(decoder.is_done());
    assert_eq!(decoder.step(b"rest", &LIMITS), Ok(Step::End(0, None)));
}

#[test]
fn the_fuzz_target_holds_over_bodies_and_their_neighbours() {
    let bodies: &[&[u8]] = &[
        b"\x03a;b=\"c\"\r\n0123456789\r\n5\r\nhello\r\n0\r\nA: b\r\nTE: x\r\n\r\nGET / ",
        b"\x01ffffffffffffffff\r\n",
        b"\x023e8\r\nabc",
    ];
    for body in bodies {
        super::super::neighbours::fuzz_neighbours(body, b"\0\n\r ;\":0f\x80", fuzz);
    }
}

#[test]
fn a_line_that_arrives_byte_by_byte_is_read_once() {
    let line = format!("1;{}", "e".repeat(1000));
    let mut decoder = Decoder::new();
    for n in 1..=line.len() {
        assert_eq!(decoder.step(&line.as_bytes()[..n], &LIMITS), Ok(Step::NeedMore));
        assert_eq!(usize::from(decoder.seen), n, "the next call starts where this one stopped");
    }
    // Bytes read before are not read again: here they are even replaced.
    let mut other = vec![0; line.len()];
    assert_eq!(decoder.step(&other, &LIMITS), Ok(Step::NeedMore));
    other.push(0);
    assert_eq!(decoder.step(&other, &LIMITS), Err(BadChunk));
}
