//! Runs the client's state machine against a server that sends arbitrary bytes in pieces, and records the events.
//!
//! ```text
//!   3 g h u c ␊ HTTP/1.1 200 OK ␍␊ …
//!   │ └──┬──┘   └ what the server sends, in pieces of 3, of 1, of any size, and all at once
//!   size │
//!        a letter for each request: GET, HEAD, with an offer to upgrade, CONNECT, the last one;
//!        PUT in chunks, or PUT with a body that is sent only after the response
//! ```

use super::{
    BodyOut,
    client::{ClientConn, HeadKind, RequestSpec},
    fuzz_input::{FuzzInput, in_pieces},
};
use crate::h1::{
    HeadLimits, Headers, Misbehaved, ResponseFraming,
    chunked::{BodyLimits, Step},
    field_slots,
    write::BodyLength,
};

const HEAD: HeadLimits = HeadLimits { head: 400, target: 400, fields: 8 };
const BODY: BodyLimits = BodyLimits { body: 1000, trailers: 100, fields: 5 };

/// An event that the client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Status, framing, and number of fields.
    Head(u16, ResponseFraming, usize),
    Body(Vec<u8>),
    End(Headers),
    /// The bytes that follow belong to another protocol.
    Switched,
    Broken(Misbehaved),
    /// The stream ended; `true` if that completed the response.
    Cut(bool),
}

/// One connection, and a client that sends one request after the other.
pub(crate) struct Harness<'s> {
    conn: ClientConn,
    script: &'s [u8],
    input: Vec<u8>,
    pub(crate) events: Vec<Event>,
    /// Bytes that were parsed as HTTP.
    used: usize,
    over: bool,
}

impl<'s> Harness<'s> {
    pub(crate) fn new(script: &'s [u8]) -> Self {
        let mut harness =
            Self { conn: ClientConn::new(), script, input: Vec::new(), events: Vec::new(), used: 0, over: false };
        harness.send();
        harness
    }

    /// Sends the next request, if there is one.
    fn send(&mut self) {
        let Some((letter, rest)) = self.script.split_first() else {
            self.over = true;
            return;
        };
        self.script = rest;
        let request = RequestSpec {
            method: match letter {
                b'h' => "HEAD",
                b'c' => "CONNECT",
                b'p' | b'e' => "PUT",
                _ => "GET",
            },
            target: "/",
            host: "x",
            fields: &Headers::new(),
            length: match letter {
                b'p' => BodyLength::Chunked,
                b'e' => BodyLength::Known(5),
                _ => BodyLength::None,
            },
            expect: false,
            upgrade: *letter == b'u',
            last: *letter == b'l',
        };
        let begun = self.conn.begin(&request, &mut Vec::new());
        debug_assert!(begun.is_ok());
        assert!(self.conn.awaits_head());
        assert_eq!(self.conn.is_sending(), self.conn.body_out() != BodyOut::Nothing);
        if self.conn.body_out() == BodyOut::Chunked {
            assert!(self.conn.end_body(None, &mut Vec::new()) && !self.conn.is_sending());
        }
    }

    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        if let Err(rule) = self.work() {
            self.events.push(Event::Broken(rule));
            self.over = true;
        }
    }

    pub(crate) fn end(&mut self, clean: bool) {
        if !self.over {
            self.events.push(Event::Cut(self.conn.handle_end(clean)));
            assert!(!self.conn.is_idle(), "no request can follow after the end of the stream");
        }
    }

    fn consume(&mut self, n: usize) {
        self.input.drain(..n);
        self.used += n;
    }

    fn work(&mut self) -> Result<(), Misbehaved> {
        while !self.over {
            if self.conn.awaits_head() {
                let mut slots = field_slots();
                let Some((end, head)) = self.conn.poll_head(&self.input, &mut slots, &HEAD)? else { return Ok(()) };
                assert!(end <= HEAD.head && head.fields.len() <= HEAD.fields);
                self.events.push(Event::Head(head.status, head.framing, head.fields.len()));
                let received_head = self.conn.received_head(&head)?;
                self.consume(end);
                if received_head == HeadKind::Switched {
                    self.events.push(Event::Switched);
                    self.over = true;
                }
                continue;
            }
            match self.conn.poll_body(&self.input, &BODY)? {
                Step::NeedMore => return Ok(()),
                Step::Skip(n) => self.consume(n),
                Step::Data(n) => {
                    // Not always everything.
                    let n = n.div_ceil(2);
                    match self.events.last_mut() {
                        Some(Event::Body(body)) => body.extend_from_slice(&self.input[..n]),
                        _ => self.events.push(Event::Body(self.input[..n].to_vec())),
                    }
                    self.conn.took(n);
                    self.consume(n);
                }
                Step::End(n, trailers) => {
                    self.consume(n);
                    self.events.push(Event::End(trailers.map(|boxed| *boxed).unwrap_or_default()));
                    let (got, announced) = self.conn.progress();
                    assert!(self.conn.has_no_body() && announced.is_none_or(|n| n == got));
                    if self.conn.is_sending() {
                        assert!(!self.conn.is_idle(), "the response is complete, the request is not");
                        self.conn.wrote(5);
                    }
                    match self.conn.is_idle() {
                        true => self.send(),
                        false => self.over = true,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Feeds `wire` in pieces of the sizes that `size` returns.
pub(crate) fn run<'s>(script: &'s [u8], wire: &[u8], size: impl FnMut() -> usize) -> Harness<'s> {
    let mut harness = Harness::new(script);
    in_pieces(wire, size, |piece| {
        harness.feed(piece);
        true
    });
    harness.end(wire.len().is_multiple_of(2));
    harness
}

/// Checks that splitting the input changes nothing, and that each body has the announced framing.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Some(input) = FuzzInput::parse(data, 16) else { return };
    let (whole, splits) = input.run(|size| run(input.script, input.wire, size));
    for split in splits {
        assert_eq!(whole.events, split.events, "events must not depend on how bytes arrive");
        if !matches!(whole.events.last(), Some(Event::Broken(_) | Event::Cut(_))) {
            assert_eq!(whole.used, split.used, "the bytes left must not depend on how bytes arrive");
        }
    }
    let mut framing = ResponseFraming::None;
    for (n, event) in whole.events.iter().enumerate() {
        let body = match n.checked_sub(1).map(|before| &whole.events[before]) {
            Some(Event::Body(body)) => body.len() as u64,
            _ => 0,
        };
        match (event, framing) {
            (Event::Head(status, next, _), _) => {
                framing = *next;
                assert!(*status >= 100 && *status <= 999);
            }
            (Event::Body(_), ResponseFraming::Length(n)) => {
                let Event::Body(now) = event else { continue };
                assert!(now.len() as u64 <= n);
            }
            (Event::Body(_), framing) => {
                assert!(
                    matches!(framing, ResponseFraming::Chunked | ResponseFraming::UntilClose),
                    "a body without a framing"
                );
            }
            (Event::End(_), ResponseFraming::Length(n)) => assert_eq!(body, n),
            (Event::End(_), framing) => {
                assert!(framing != ResponseFraming::UntilClose, "only the end of the stream can end it");
            }
            (Event::Cut(true), framing) => assert_eq!(framing, ResponseFraming::UntilClose),
            (Event::Switched, framing) => assert_eq!(framing, ResponseFraming::Switched),
            (Event::Broken(_) | Event::Cut(false), _) => {}
        }
        let last = matches!(event, Event::Switched | Event::Broken(_) | Event::Cut(_));
        assert!(!last || n + 1 == whole.events.len(), "an event after the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events_of(script: &str, wire: &str) -> Vec<Event> {
        let data = format!("3{script}\n{wire}");
        fuzz(data.as_bytes());
        run(script.as_bytes(), wire.as_bytes(), || usize::MAX).events
    }

    fn body(bytes: &str) -> Event {
        Event::Body(bytes.as_bytes().to_vec())
    }

    fn end() -> Event {
        Event::End(Headers::new())
    }

    #[test]
    fn one_response_after_the_other() {
        use ResponseFraming::*;
        let wire = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
            HTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
            HTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest ";
        let events = events_of("ghgggg", wire);
        let want = [
            Event::Head(200, Length(3), 1),
            body("abc"),
            end(),
            Event::Head(103, None, 1),
            Event::Head(200, None, 1),
            end(),
            Event::Head(200, Chunked, 1),
            body("de"),
            end(),
            Event::Head(204, None, 0),
            end(),
            Event::Head(200, UntilClose, 0),
            body("rest "),
            Event::Cut(wire.len().is_multiple_of(2)),
        ];
        assert_eq!(events, want);
    }

    #[test]
    fn the_connection_ends_after_close() {
        let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
        let keep = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(events_of("gg", &close.repeat(2)).len(), 3);
        assert_eq!(events_of("gg", &keep.repeat(2)).len(), 6);
        assert_eq!(events_of("lg", &keep.repeat(2)).len(), 3);
    }

    #[test]
    fn a_body_may_go_out_after_the_response() {
        let keep = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(events_of("epe", &keep.repeat(3)).len(), 9);
    }

    #[test]
    fn switching() {
        let switch = "HTTP/1.1 101 x\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\nHTTP/";
        assert_eq!(events_of("u", switch)[1..], [Event::Switched]);
        assert_eq!(events_of("g", switch)[1..], [Event::Broken(Misbehaved::UnrequestedSwitch)]);
        assert_eq!(events_of("c", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/")[1..], [Event::Switched]);
        assert_eq!(events_of("c", "HTTP/1.1 403 x\r\nContent-Length: 1\r\n\r\nx")[1..], [body("x"), end()]);
    }

    #[test]
    fn informational_responses_are_bounded() {
        let wire = "HTTP/1.1 102 x\r\n\r\n".repeat(30);
        assert_eq!(events_of("g", &wire).last(), Some(&Event::Broken(Misbehaved::TooManyInformational)));
    }

    #[test]
    fn a_body_goes_out_while_the_response_comes_in() {
        let mut conn = ClientConn::new();
        let fields = Headers::new();
        let mut request = RequestSpec {
            method: "PUT",
            target: "/",
            host: "x",
            fields: &fields,
            length: BodyLength::Known(5),
            expect: false,
            upgrade: false,
            last: false,
        };
        let mut out = Vec::new();
        conn.begin(&request, &mut out).unwrap();
        assert_eq!(out, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
        let mut slots = field_slots();
        let (_, head) =
            conn.poll_head(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &mut slots, &HEAD).unwrap().unwrap();
        assert_eq!(conn.received_head(&head), Ok(HeadKind::Final));
        assert_eq!(conn.poll_body(b"", &BODY), Ok(Step::End(0, None)));
        assert!(conn.is_sending() && !conn.is_idle(), "the response is complete, the request is not");
        conn.wrote(4);
        assert!(!conn.end_body(None, &mut out), "too short");
        conn.wrote(1);
        assert!(conn.is_idle(), "and now both are");
        request.length = BodyLength::Chunked;
        out.clear();
        conn.begin(&request, &mut out).unwrap();
        assert!(conn.end_body(None, &mut out) && out.ends_with(b"\r\n\r\n0\r\n\r\n"));
        request.target = "/ x";
        assert!(ClientConn::new().begin(&request, &mut out).is_err());
    }
}
