//! Heads of responses, by a table, parsed at once and byte by byte.

use super::{super::field_slots, *};

type Outcome = Result<(u16, ResponseFraming, bool), Misbehaved>;

/// Finds and parses a head in `bytes`, which may have less or more.
fn parse(method: &str, bytes: &[u8], limits: &HeadLimits) -> Result<Option<(usize, Outcome)>, Misbehaved> {
    let (mut whole, mut split) = (HeadScanner::default(), HeadScanner::default());
    let found = find_response(&mut whole, bytes, limits);
    let pieces = (0..=bytes.len()).map(|n| find_response(&mut split, &bytes[..n], limits)).find(|s| *s != Ok(None));
    assert_eq!(found, pieces.unwrap_or(Ok(None)), "{}", bytes.escape_ascii());
    let Some(end) = found? else { return Ok(None) };
    let mut slots = field_slots();
    let parsed = parse_response(&bytes[..end], method, &mut slots, limits);
    Ok(Some((end, parsed.map(|head| (head.status, head.framing, head.keep_alive)))))
}

#[track_caller]
fn outcome(method: &str, head: &str) -> Outcome {
    parse(method, head.as_bytes(), &HeadLimits::default())?.expect("a whole head").1
}

#[test]
fn by_the_table() {
    use Misbehaved::*;
    use ResponseFraming::*;
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, &str, Outcome)] = &[
        // method   status line               fields                                          outcome
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 5",                            Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 0",                            Ok((200, Length(0), true))),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: chunked",                   Ok((200, Chunked, true))),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: Chunked",                   Ok((200, Chunked, true))),
        ("GET",     "HTTP/1.1 200 OK",        "X: y",                                         Ok((200, UntilClose, false))),
        ("GET",     "HTTP/1.1 200 ",          "Content-Length: 5",                            Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.1 200 a  b\t\u{e9}", "Content-Length: 5",                         Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.1 999 x",         "Content-Length: 5",                            Ok((999, Length(5), true))),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 5\r\nConnection: x, Close",    Ok((200, Length(5), false))),
        ("GET",     "HTTP/1.0 200 OK",        "Content-Length: 5",                            Ok((200, Length(5), false))),
        ("GET",     "HTTP/1.0 200 OK",        "Content-Length: 5\r\nConnection: keep-alive",  Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.0 200 OK",        "Connection: keep-alive",                       Ok((200, UntilClose, false))),
        // Item 1.
        ("HEAD",    "HTTP/1.1 200 OK",        "Content-Length: 5",                            Ok((200, None, true))),
        ("HEAD",    "HTTP/1.1 200 OK",        "Transfer-Encoding: chunked",                   Ok((200, None, true))),
        ("HEAD",    "HTTP/1.1 200 OK",        "X: y",                                         Ok((200, None, true))),
        ("head",    "HTTP/1.1 200 OK",        "Content-Length: 5",                            Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.1 304 x",         "Content-Length: 5",                            Ok((304, None, true))),
        ("GET",     "HTTP/1.1 204 x",         "X: y",                                         Ok((204, None, true))),
        ("GET",     "HTTP/1.1 204 x",         "Content-Length: 0",                            Ok((204, None, true))),
        ("GET",     "HTTP/1.1 204 x",         "Content-Length: 5",                            Ok((204, None, false))),
        ("GET",     "HTTP/1.1 204 x",         "Transfer-Encoding: chunked",                   Ok((204, None, false))),
        ("GET",     "HTTP/1.1 100 Continue",  "X: y",                                         Ok((100, None, true))),
        ("GET",     "HTTP/1.1 103 x",         "Content-Length: 5",                            Ok((103, None, false))),
        ("GET",     "HTTP/1.1 205 x",         "Content-Length: 0",                            Ok((205, Length(0), true))),
        // Item 2.
        ("GET",     "HTTP/1.1 101 x",         "Content-Length: 5",                            Ok((101, Switched, false))),
        ("CONNECT", "HTTP/1.1 200 OK",        "Content-Length: 5\r\nTransfer-Encoding: x",    Ok((200, Switched, false))),
        ("CONNECT", "HTTP/1.1 299 OK",        "X: y",                                         Ok((299, Switched, false))),
        ("CONNECT", "HTTP/1.1 407 x",         "Content-Length: 5",                            Ok((407, Length(5), true))),
        // Items 3 to 5.
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 5\r\nTransfer-Encoding: chunked", Err(BothLengths)),
        ("HEAD",    "HTTP/1.1 200 OK",        "Content-Length: 5\r\nTransfer-Encoding: chunked", Err(BothLengths)),
        ("GET",     "HTTP/1.1 304 x",         "Content-Length: 5\r\nContent-Length: 6",       Err(BadContentLength)),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 5\r\nContent-Length: 6",       Err(BadContentLength)),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 5\r\nContent-Length: 5",       Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 5, 5",                         Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 5, 6",                         Err(BadContentLength)),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: +5",                           Err(BadContentLength)),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 0x5",                          Err(BadContentLength)),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: ",                             Err(BadContentLength)),
        ("GET",     "HTTP/1.1 200 OK",        "Content-Length: 99999999999999999999",         Err(BadContentLength)),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: gzip, chunked",             Err(UnknownTransferCoding)),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: gzip",                      Err(UnknownTransferCoding)),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: xchunked",                  Err(UnknownTransferCoding)),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: chunked, gzip",             Err(ChunkedNotFinal)),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(ChunkedNotFinal)),
        ("GET",     "HTTP/1.1 200 OK",        "Transfer-Encoding: ",                          Err(BadTransferEncoding)),
        ("GET",     "HTTP/1.0 200 OK",        "Transfer-Encoding: chunked",                   Err(TransferEncodingOn10)),
        // Status lines.
        ("GET",     "HTTP/1.1 200",           "Content-Length: 5",                            Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.1 200 ",          "Content-Length: 5",                            Ok((200, Length(5), true))),
        ("GET",     "HTTP/1.0 404",           "X: y",                                         Ok((404, UntilClose, false))),
        ("GET",     "HTTP/1.1 200\t",         "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 200OK",         "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 20",            "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 ",              "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1  200 OK",       "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1\t200 OK",       "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 2000 OK",       "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 20 OK",         "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 099 OK",        "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 +20 OK",        "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 2x0 OK",        "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.1 OK",            "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/1.2 200 OK",        "X: y",                                         Err(UnsupportedVersion)),
        ("GET",     "HTTP/2.0 200 OK",        "X: y",                                         Err(UnsupportedVersion)),
        ("GET",     "HTTP/1 200 OK",          "X: y",                                         Err(BadStatusLine)),
        ("GET",     "HTTP/11 200 OK",         "X: y",                                         Err(BadStatusLine)),
        ("GET",     "http/1.1 200 OK",        "X: y",                                         Err(BadStatusLine)),
        ("GET",     " HTTP/1.1 200 OK",       "X: y",                                         Err(BadStatusLine)),
        ("GET",     "\r\nHTTP/1.1 200 OK",    "X: y",                                         Err(BadStatusLine)),
        ("GET",     "ICY 200 OK",             "X: y",                                         Err(BadStatusLine)),
        ("GET",     "SSH-2.0-x",              "X: y",                                         Err(BadStatusLine)),
        // Fields.
        ("GET",     "HTTP/1.1 200 OK",        "X : y",                                        Err(SpaceBeforeColon)),
        ("GET",     "HTTP/1.1 200 OK",        "X: y\r\n z",                                   Err(ObsFold)),
        ("GET",     "HTTP/1.1 200 OK",        " X: y",                                        Err(ObsFold)),
        ("GET",     "HTTP/1.1 200 OK",        "X",                                            Err(BadField)),
        ("GET",     "HTTP/1.1 200 OK",        ": y",                                          Err(BadField)),
        ("GET",     "HTTP/1.1 200 OK",        "X y: z",                                       Err(BadField)),
        ("GET",     "HTTP/1.1 200 OK",        "X: a\0b",                                      Err(ControlByte)),
        ("GET",     "HTTP/1.1 200 OK",        "X: a\nSet-Cookie: b",                          Err(BareLf)),
        ("GET",     "HTTP/1.1 200 OK",        "X: a\rb",                                      Err(BareCr)),
        ("GET",     "HTTP/1.1 200 O\nK",      "X: y",                                         Err(BareLf)),
    ];
    for (method, line, fields, want) in ROWS {
        assert_eq!(outcome(method, &format!("{line}\r\n{fields}\r\n\r\n")), *want, "{method} {line:?} {fields:?}");
    }
    assert_eq!(outcome("GET", "HTTP/1.1 200 OK\n\n"), Err(BareLf));
    assert_eq!(outcome("GET", "HTTP/1.1 200 OK\r\n\r\n"), Ok((200, UntilClose, false)));
}

#[test]
fn other_protocols_are_rejected_at_once() {
    let limits = HeadLimits::default();
    for bytes in ["S", "HTTP\r", "HTTP:", "\r", "\n", "\0", " "] {
        assert_eq!(parse("GET", bytes.as_bytes(), &limits), Err(Misbehaved::BadStatusLine), "{bytes:?}");
    }
    assert_eq!(parse("GET", b"HTT", &limits), Ok(None));
    assert_eq!(parse("GET", b"HTTP/1.1 200 OK\r\n", &limits), Ok(None));
}

#[test]
fn limits_hold() {
    let limits = HeadLimits { head: 60, target: 60, fields: 2 };
    let small = parse("GET", b"HTTP/1.1 204 x\r\nA: b\r\nC: d\r\n\r\nrest", &limits);
    assert_eq!(small, Ok(Some((30, Ok((204, ResponseFraming::None, true))))));
    let many = parse("GET", b"HTTP/1.1 204 x\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", &limits);
    assert!(matches!(many, Ok(Some((_, Err(Misbehaved::TooManyFields))))), "{many:?}");
    for head in [format!("HTTP/1.1 200 {}", "x".repeat(60)), format!("HTTP/1.1 200 x\r\nA: {}", "x".repeat(60))] {
        assert_eq!(parse("GET", head.as_bytes(), &limits), Err(Misbehaved::HeadTooLarge));
    }
}
