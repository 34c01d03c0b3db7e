//! Fuzz target of the server's state machine: random bytes, a random application, and the rules that must hold.
//!
//! ```text
//!   3 h r w w h T e F ␊ POST / HTTP/1.1 ␍␊ …
//!   │ └── a letter ──┘   └ what the peer sends, in pieces of 3, of 1, of any size, and all at once
//!   size  for each act
//! ```

use super::{
    fuzz_input::{FuzzInput, in_pieces},
    server_harness::{Act, DATE, Event, Expected, Harness},
};
use crate::{
    base::Limits,
    h1::{Headers, Version, reason},
};

fn limits() -> Limits {
    Limits { head: 400, target: 100, fields: 8, body: 1000, drain: 20, ..Limits::default() }
}

fn fields(lines: &[(&str, &str)]) -> Headers {
    let mut fields = Headers::new();
    for (name, value) in lines {
        let added = fields.append(name, value);
        debug_assert!(added.is_ok());
    }
    fields
}

/// Returns the act of a letter; any other byte counts as one of them.
fn act(letter: u8) -> Act {
    const LETTERS: &[u8] = b"hatTeEicrRnmbzqwWfFsSdDx";
    let respond = |status, length| Act::Respond { status, fields: fields(&[("X-Case", "1")]), length };
    let letter = if LETTERS.contains(&letter) { letter } else { LETTERS[usize::from(letter) % LETTERS.len()] };
    match letter {
        b'a' => Act::Ask,
        b't' => Act::Take(1),
        b'T' => Act::Take(10),
        b'e' | b'E' => Act::End,
        b'i' => Act::Inform(103, fields(&[("Link", "</s>; rel=preload")])),
        b'c' => Act::Close,
        b'r' => respond(200, Some(3)),
        b'R' => respond(200, None),
        b'n' => respond(204, None),
        b'm' => respond(304, Some(7)),
        b'b' => respond(413, Some(0)),
        b'z' => respond(299, Some(0)),
        b'q' => respond(404, Some(300)),
        b'w' => Act::Write(b"w".to_vec()),
        b'W' => Act::Write(vec![b'\n'; 300]),
        b'f' => Act::Finish(None),
        b'F' => Act::Finish(Some(fields(&[("X-Sum", "7"), ("X-Sum", "")]))),
        b's' => Act::Switch(101, fields(&[("Upgrade", "echo")])),
        b'S' => Act::Switch(200, Headers::new()),
        b'd' => Act::Direct(true),
        b'D' => Act::Direct(false),
        b'x' => respond(599, Some(u64::MAX)),
        _ => Act::Head,
    }
}

/// Feeds `wire` in pieces of the sizes that `size` returns.
fn run(script: &[u8], wire: &[u8], size: impl FnMut() -> usize) -> Harness {
    let mut harness = Harness::new(limits());
    harness.acts.extend(script.iter().map(|letter| act(*letter)));
    // Continues after the script: every request is received and gets a response.
    for _ in 0..wire.len() / 16 {
        harness.acts.extend(b"hezff".iter().map(|letter| act(*letter)));
    }
    harness.acts.push_back(Act::Head);
    in_pieces(wire, size, |piece| {
        harness.feed(piece);
        !harness.over
    });
    harness.drive();
    harness
}

/// Checks that splitting the input or calling again changes nothing, that nothing is parsed after a rejection, and that
/// the output can be read as expected.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Some(input) = FuzzInput::parse(data, 64) else { return };
    let (whole, splits) = input.run(|size| run(input.script, input.wire, size));
    check(&whole);
    for split in splits {
        assert_eq!(whole.events, split.events, "events must not depend on how bytes arrive");
        assert_eq!(whole.expected, split.expected);
        assert_eq!(whole.responses.escape_ascii().to_string(), split.responses.escape_ascii().to_string());
        assert_eq!((whole.state(), whole.over), (split.state(), split.over));
        if split.conn.is_switched() || split.conn.is_idle() {
            assert_eq!(whole.used, split.used, "the bytes left must not depend on how bytes arrive");
        }
        check(&split);
    }
}

/// Reads the output as a client would, and compares it with the expected responses.
fn check(harness: &Harness) {
    let mut rest = &harness.sent[..];
    let broken = harness.events.last() == Some(&Event::Broken);
    for (n, expected) in harness.expected.iter().enumerate() {
        let last = n + 1 == harness.expected.len();
        let mut informed = 0;
        // Informational responses (1xx).
        while let Some(head) = head_of(rest).filter(|head| matches!(head.status, 100 | 102..200)) {
            let modern = expected.request.as_ref().is_some_and(|(_, version)| *version == Version::Http11);
            assert!(modern && head.length.is_none() && !head.chunked && head.dates == 0);
            informed += usize::from(head.status != 100);
            rest = &rest[head.bytes..];
        }
        assert_eq!(informed, expected.informed);
        if expected.status == 0 {
            assert!(last, "output after a request without a response");
            break;
        }
        let head = head_of(rest).expect("a head that ends");
        rest = &rest[head.bytes..];
        assert_eq!((head.status, head.dates), (expected.status, 1));
        rest = body(rest, &head, expected, broken && last);
        let (method, modern) = match &expected.request {
            Some((method, version)) => (method.as_str(), *version == Version::Http11),
            None => ("", true),
        };
        assert!(last || !head.close, "a response after the last one");
        assert!(last || modern || head.keep_alive, "a 1.0 client without keep-alive");
        assert!(last || method != "CONNECT" || head.status >= 300, "a tunnel's bytes were parsed as a request");
        assert!(last || head.status != 101);
    }
    assert!(rest.is_empty(), "unexpected output: {}", rest.escape_ascii());
}

/// Checks that the body of one response is the expected one. Returns the bytes behind it.
fn body<'a>(bytes: &'a [u8], head: &Head, expected: &Expected, broken: bool) -> &'a [u8] {
    let method = expected.request.as_ref().map_or("", |(method, _)| method);
    let modern = expected.request.as_ref().is_none_or(|(_, version)| *version == Version::Http11);
    assert!(head.length.is_none() || !head.chunked, "two framings");
    assert!(modern || !head.chunked, "chunks to a 1.0 client");
    if matches!(head.status, 101 | 204) || (method == "CONNECT" && head.status < 300) {
        assert!(head.length.is_none() && !head.chunked && expected.body.is_empty());
        return bytes;
    }
    if method == "HEAD" || head.status == 304 {
        return bytes;
    }
    if let Some(n) = head.length {
        assert!(expected.complete == (expected.body.len() as u64 == n));
        let (body, rest) = bytes.split_at(expected.body.len());
        assert_eq!(body, expected.body);
        return rest;
    }
    if !head.chunked {
        assert!(head.close, "only the end of the stream can end it");
        assert_eq!(bytes, expected.body);
        return b"";
    }
    let (mut rest, mut body) = (bytes, Vec::new());
    loop {
        if rest.is_empty() && !expected.complete {
            break;
        }
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a size line");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).expect("digits"), 16).expect("a size");
        rest = &rest[end + 2..];
        if size == 0 {
            let lines = expected.trailers.as_wire().len();
            assert_eq!(&rest[..lines], expected.trailers.as_wire());
            rest = rest[lines..].strip_prefix(b"\r\n").expect("the last line");
            assert!(expected.complete);
            break;
        }
        body.extend_from_slice(&rest[..size]);
        rest = rest[size..].strip_prefix(b"\r\n").expect("the end of a chunk");
    }
    assert!(broken || body == expected.body);
    rest
}

/// A response's head, as a client reads it.
#[derive(Default)]
struct Head {
    bytes: usize,
    status: u16,
    dates: usize,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

fn head_of(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).expect("text");
    let (line, lines) = text.split_once("\r\n").unwrap_or((text, ""));
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status line");
    let status = status.parse().expect("a status");
    assert_eq!(line[12..], format!(" {}", reason(status)));
    let mut head = Head { bytes: end + 4, status, ..Head::default() };
    for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a field");
        match name {
            "Date" => {
                assert_eq!(value.as_bytes(), DATE);
                head.dates += 1;
            }
            "Content-Length" => assert_eq!(head.length.replace(value.parse().expect("a length")), None),
            "Transfer-Encoding" => {
                assert!(value == "chunked" && !head.chunked);
                head.chunked = true;
            }
            "Connection" => {
                assert!(!head.close && !head.keep_alive);
                (head.close, head.keep_alive) = (value == "close", value == "keep-alive");
            }
            _ => assert!(["X-Case", "Link", "Upgrade", "Content-Type"].contains(&name), "{name}?"),
        }
    }
    Some(head)
}
