//! Reads a response of HTTP/1.1 piece by piece: out of a pipe (C), or from the connection (P).
//!
//! ```text
//!   engine ──HTTP/1.1──▶ PipeOut ──▶ ResponseReader::next ──▶ Informational… Head Data… End
//!                                                            └─ Broken: malformed, or truncated
//! ```
//! A pipe is filled again only when its rear half is free. So an incomplete head or chunk size is taken out and kept
//! here; otherwise both ends would wait for each other.

use uncork::h1::{
    HeadScanner, Headers, Misbehaved, ResponseFraming,
    chunked::{Decoder, Step},
    field_slots, find_response, parse_response,
};

use super::http1::{BODY, HEAD, Source};

/// Bytes that are parsed together with what was kept.
const MORE: usize = 512;

pub(super) struct ResponseReader<S> {
    source: S,
    method: Box<str>,
    state: State,
    /// The start of a head, or of a line.
    kept: Vec<u8>,
    scan: HeadScanner,
}

enum State {
    Head,
    Length(u64),
    Chunked(Decoder),
    /// Bytes until the pipe ends.
    Rest,
    Over,
}

/// The next piece.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// None yet: the pipe's reader will be woken.
    Pending,
    /// 1xx, but not 101.
    Informational(u16, Headers),
    Head(ResponseHead),
    /// A part of the body, never empty; the caller must call [`ResponseReader::consume`]. `last`: the body ends behind
    /// it.
    Data {
        bytes: &'a [u8],
        last: bool,
    },
    /// The end, reported once.
    End(Option<Box<Headers>>),
    /// The response is malformed or truncated; with the reason, for a log.
    Broken(&'static str),
}

#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) fields: Headers,
    /// It has no body.
    pub(super) whole: bool,
    /// Another protocol follows.
    pub(super) switched: bool,
    /// `Content-Length` says where the body ends.
    pub(super) has_length: bool,
    /// Another request may follow on the connection.
    pub(super) keep_alive: bool,
}

impl<S: Source> ResponseReader<S> {
    /// Reads the response to a request of this method.
    pub(super) fn new(source: S, method: Box<str>) -> Self {
        Self { source, method, state: State::Head, kept: Vec::new(), scan: HeadScanner::default() }
    }

    /// Reads the response to the next request, of this method. The last one is complete.
    pub(super) fn begin(&mut self, method: Box<str>) {
        (self.method, self.state) = (method, State::Head);
    }

    pub(super) fn source(&mut self) -> &mut S {
        &mut self.source
    }

    pub(super) fn source_ref(&self) -> &S {
        &self.source
    }

    /// Returns `true` if nothing more arrives.
    pub(super) fn has_ended(&mut self) -> bool {
        self.source.is_finished() || self.source.is_truncated()
    }

    pub(super) fn next(&mut self) -> Piece<'_> {
        match &mut self.state {
            State::Head => self.head(),
            State::Chunked(_) => self.chunk(),
            State::Length(left) => {
                let left = usize::try_from(*left).unwrap_or(usize::MAX);
                if self.source.bytes().is_empty() {
                    return self.wait_or_fail("the body ended before its length");
                }
                let bytes = self.source.bytes();
                let n = bytes.len().min(left);
                Piece::Data { bytes: &bytes[..n], last: n == left }
            }
            State::Rest => {
                if self.source.bytes().is_empty() {
                    if self.source.is_finished() {
                        self.state = State::Over;
                        return Piece::End(None);
                    }
                    return self.wait_or_fail("the body was truncated");
                }
                Piece::Data { bytes: self.source.bytes(), last: false }
            }
            State::Over => Piece::Pending,
        }
    }

    /// Consumes bytes of the last [`Piece::Data`].
    pub(super) fn consume(&mut self, n: usize) {
        self.source.consume(n);
        match &mut self.state {
            State::Length(left) => {
                *left = left.saturating_sub(n as u64);
                if *left == 0 {
                    self.state = State::Over;
                }
            }
            State::Chunked(decoder) => decoder.took(n),
            State::Head | State::Rest | State::Over => {}
        }
    }

    /// Handles an empty pipe: waits for more, or fails with `early` if the pipe has ended.
    fn wait_or_fail(&mut self, early: &'static str) -> Piece<'static> {
        // In this order: bytes that were written before the end are found by the next call.
        if (self.source.is_truncated() || self.source.is_finished()) && self.source.bytes().is_empty() {
            self.state = State::Over;
            return Piece::Broken(early);
        }
        Piece::Pending
    }

    fn head(&mut self) -> Piece<'_> {
        if self.source.bytes().is_empty() {
            return self.wait_or_fail("there was no response");
        }
        let Self { source, method, kept, scan, .. } = self;
        let bytes = source.bytes();
        // The common case: the whole head is in the pipe.
        let before = kept.len();
        let in_place = before == 0;
        if !in_place {
            kept.extend_from_slice(bytes);
        }
        let found = find_response(scan, if in_place { bytes } else { kept }, &HEAD);
        let end = match found {
            Err(rule) => return self.broken(rule),
            Ok(None) => {
                if in_place {
                    kept.extend_from_slice(bytes);
                }
                let n = kept.len() - before;
                source.consume(n);
                return Piece::Pending;
            }
            Ok(Some(end)) => end,
        };
        let parsed = {
            let head = if in_place { &bytes[..end] } else { &kept[..end] };
            let mut slots = field_slots();
            parse_response(head, method, &mut slots, &HEAD).map(|parsed| {
                let head = ResponseHead {
                    status: parsed.status,
                    fields: parsed.fields.to_owned(),
                    whole: matches!(parsed.framing, ResponseFraming::None | ResponseFraming::Length(0)),
                    switched: parsed.framing == ResponseFraming::Switched,
                    has_length: matches!(parsed.framing, ResponseFraming::Length(_)),
                    keep_alive: parsed.keep_alive,
                };
                (head, parsed.framing)
            })
        };
        let (head, framing) = match parsed {
            Ok(parsed) => parsed,
            Err(rule) => return self.broken(rule),
        };
        source.consume(end - before);
        kept.clear();
        *scan = HeadScanner::default();
        if matches!(head.status, 100 | 102..200) {
            return Piece::Informational(head.status, head.fields);
        }
        self.state = match framing {
            _ if head.whole => State::Over,
            ResponseFraming::Length(n) => State::Length(n),
            ResponseFraming::Chunked => State::Chunked(Decoder::new()),
            ResponseFraming::None | ResponseFraming::Switched | ResponseFraming::UntilClose => State::Rest,
        };
        Piece::Head(head)
    }

    fn chunk(&mut self) -> Piece<'_> {
        loop {
            if self.source.bytes().is_empty() {
                return self.wait_or_fail("the body ended within a chunk");
            }
            let Self { source, kept, state, .. } = self;
            let State::Chunked(decoder) = state else { return Piece::Pending };
            let bytes = source.bytes();
            let before = kept.len();
            if before > 0 {
                kept.extend_from_slice(&bytes[..bytes.len().min(MORE)]);
            }
            let step = decoder.step(if before > 0 { kept } else { bytes }, &BODY);
            match step {
                Err(rule) => return self.broken(rule),
                Ok(Step::Data(n)) => {
                    // Nothing is kept here: data begins behind a line.
                    return Piece::Data { bytes: &self.source.bytes()[..n], last: false };
                }
                Ok(Step::Skip(n)) => {
                    source.consume(n - before);
                    kept.clear();
                }
                Ok(Step::End(n, trailers)) => {
                    source.consume(n - before);
                    kept.clear();
                    self.state = State::Over;
                    return Piece::End(trailers);
                }
                Ok(Step::NeedMore) => {
                    if before == 0 {
                        kept.extend_from_slice(bytes);
                    }
                    let n = kept.len() - before;
                    source.consume(n);
                }
            }
        }
    }

    #[cold]
    fn broken(&mut self, rule: Misbehaved) -> Piece<'static> {
        self.state = State::Over;
        Piece::Broken(rule.rule())
    }
}

#[cfg(test)]
mod tests {
    use uncork::{PipeIn, pipe};

    use super::*;

    /// Returns the pieces of a response, whose bytes come through a pipe of `capacity` bytes, at most `step` at a time.
    fn read(method: &str, wire: &[u8], capacity: usize, step: usize, truncate: bool) -> String {
        let (inlet, outlet) = pipe(capacity);
        let mut inlet: Option<PipeIn> = Some(inlet);
        let (mut response, mut sent, mut seen, mut idle) =
            (ResponseReader::new(outlet, method.into()), 0, String::new(), 0);
        while idle < 3 {
            if let Some(to) = &mut inlet {
                sent += to.write(&wire[sent..(sent + step).min(wire.len())]);
            }
            if sent == wire.len()
                && let Some(to) = inlet.take()
            {
                if truncate { drop(to) } else { to.finish(None) }
            }
            let mut used = 0;
            let over = matches!(response.state, State::Over);
            let piece = match response.next() {
                Piece::Pending => {
                    idle += usize::from(over || inlet.is_none());
                    continue;
                }
                Piece::Data { bytes, .. } => {
                    used = bytes.len().min(3);
                    String::from_utf8_lossy(&bytes[..used]).into_owned()
                }
                Piece::Informational(status, fields) => format!("[{status} {fields:?}]"),
                Piece::Head(head) => format!("[{} {:?} {}]", head.status, head.fields, head.whole),
                Piece::End(trailers) => format!("[end {trailers:?}]"),
                Piece::Broken(_) => "[broken]".to_owned(),
            };
            idle = 0;
            if used > 0 {
                response.consume(used);
            }
            seen += &piece;
        }
        assert!(matches!(response.state, State::Over), "{seen}");
        seen
    }

    #[test]
    fn a_response_is_the_same_however_it_arrives() {
        let long = "x".repeat(300);
        let chunked = format!(
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: {long}\r\n\r\n\
             5\r\nhello\r\n7\r\n, world\r\n0\r\nX-Sum: {long}\r\n\r\n"
        );
        let cases = [
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_owned()),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_owned()),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
            ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_owned()),
            ("GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nanything".to_owned()),
            ("GET", chunked),
        ];
        for (method, wire) in &cases {
            let whole = read(method, wire.as_bytes(), 4096, usize::MAX, false);
            assert!(!whole.contains("broken"), "{whole}");
            for (capacity, step) in [(4096, 1), (4096, 7), (64, 64), (16, 5), (1, 1)] {
                assert_eq!(
                    read(method, wire.as_bytes(), capacity, step, false),
                    whole,
                    "{wire:?} by {capacity}, {step}"
                );
            }
        }
        assert!(read("GET", cases[6].1.as_bytes(), 50, 9, false).contains("hello, world[end Some("));
    }

    #[test]
    fn a_part_is_never_taken_for_the_whole() {
        let wires = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ];
        for wire in wires {
            for n in 0..wire.len() {
                for truncate in [true, false] {
                    let seen = read("GET", &wire.as_bytes()[..n], 4096, usize::MAX, truncate);
                    assert!(seen.ends_with("[broken]"), "{seen}");
                }
            }
        }
        let until_close = read("GET", b"HTTP/1.1 200 OK\r\n\r\nsome", 4096, usize::MAX, true);
        assert!(until_close.ends_with("some[broken]"), "{until_close}");
        assert!(read("GET", b"220 mail.example ESMTP\r\n", 4096, 1, false).ends_with("[broken]"));
    }
}
