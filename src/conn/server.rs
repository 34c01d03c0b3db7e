//! The server's side of one HTTP/1.1 connection.

use super::halves::{Did, Half, Halves, Illegal};
use crate::{
    base::{Limits, buf::Buf, out::Out},
    h1::{
        FieldSlots, Framing, HeadLimits, HeadScanner, Headers, KnownHost, Misbehaved, RequestHead, Version,
        chunked::{BodyLimits, Decoder, Step},
        parse_request_of,
        write::{self, BodyLength, ConnectionOption, ResponseHead, Sink},
    },
};

impl Sink for Out {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    #[inline]
    fn put_with(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        self.buf.reserve(most);
        let filled = fill(&mut self.buf.spare()[..most]);
        self.buf.commit(filled);
    }
}

/// How the request's body goes on.
#[derive(Debug)]
pub(crate) enum BodyEvent {
    /// The first so many bytes (more than 0) of the input are body.
    Data(usize),
    /// The body is whole.
    End(Option<Box<Headers>>),
    NeedMore,
}

/// How the response's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyOut {
    /// Nothing of it is sent: HEAD, 204, 304, or there is none.
    Nothing,
    /// So many bytes are left to send.
    Length(u64),
    Chunked,
    UntilClose,
}

enum BodyIn {
    None,
    Length(u64),
    Chunked(Decoder),
}

/// An answer, as the machine needs it.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) fields: &'a Headers,
    /// The body's length, if it is known.
    pub(crate) length: Option<u64>,
    pub(crate) date: &'a [u8; 29],
}

pub(crate) struct ServerConn {
    halves: Halves,
    scan: HeadScanner,
    body: BodyIn,
    out: BodyOut,
    version: Version,
    head_only: bool,
    connect: bool,
    /// The peer asks for another protocol.
    upgrade: bool,
    /// The peer waits for `100 Continue`.
    expects: bool,
    /// Bytes of the request's body taken so far.
    received: u64,
}

impl ServerConn {
    pub(crate) fn new() -> Self {
        Self {
            halves: Halves::NEW,
            scan: HeadScanner::default(),
            body: BodyIn::None,
            out: BodyOut::Nothing,
            version: Version::Http11,
            head_only: false,
            connect: false,
            upgrade: false,
            expects: false,
            received: 0,
        }
    }

    // What is the state?

    /// Between two requests.
    pub(crate) fn is_idle(&self) -> bool {
        self.halves.request() == Half::Idle && self.halves.response() == Half::Idle
    }

    /// Nothing may follow what was written.
    pub(crate) fn must_close(&self) -> bool {
        matches!(self.halves.response(), Half::MustClose | Half::Closed)
    }

    /// The request's body is not whole yet.
    #[inline]
    pub(crate) fn is_receiving(&self) -> bool {
        self.halves.request() == Half::Body
    }

    /// Nothing of the request's body is to come, be its end reported or not.
    pub(crate) fn is_all_in(&self) -> bool {
        !self.is_receiving() || matches!(self.body, BodyIn::None | BodyIn::Length(0))
    }

    /// A request was seen and nothing of its answer was written.
    #[inline]
    pub(crate) fn owes_answer(&self) -> bool {
        self.halves.response() == Half::Owed
    }

    /// The answer's head was written, its body is under way.
    pub(crate) fn is_answering(&self) -> bool {
        self.halves.response() == Half::Body
    }

    pub(crate) fn is_switched(&self) -> bool {
        self.halves.request() == Half::Switched
    }

    /// The peer waits for `100 Continue`, and did not get it.
    pub(crate) fn expects_continue(&self) -> bool {
        self.expects
    }

    /// The request is HEAD: of its answer, only the head is sent.
    pub(crate) fn is_head_only(&self) -> bool {
        self.head_only
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn body_out(&self) -> BodyOut {
        self.out
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        self.halves.keep_alive()
    }

    // What came in.

    /// The next request's head and where it ends in `rx`, if it is complete.
    #[inline]
    pub(crate) fn poll_head<'b>(
        &mut self,
        rx: &'b Buf,
        slots: &'b mut FieldSlots<'b>,
        limits: &HeadLimits,
        known: &mut KnownHost,
    ) -> Result<Option<(usize, RequestHead<'b>)>, Misbehaved> {
        debug_assert!(self.is_idle());
        let bytes = rx.filled();
        let Some(end) = self.scan.find(bytes, limits)? else { return Ok(None) };
        let head = parse_request_of(&bytes[self.scan.skip()..end], slots, limits, known)?;
        Ok(Some((end, head)))
    }

    /// Whether part of a head has come.
    pub(crate) fn has_partial_head(&self, rx: &Buf) -> bool {
        rx.len() > self.scan.skip()
    }

    /// Goes on with this head. `last`: no other request may follow it.
    ///
    /// # Errors
    /// [`Misbehaved::BodyTooLarge`]; then the request is refused with [`refuse`](Self::refuse).
    #[inline]
    pub(crate) fn begin(&mut self, head: &RequestHead<'_>, limits: &Limits, last: bool) -> Result<(), Misbehaved> {
        self.scan = HeadScanner::default();
        self.version = head.version;
        self.head_only = head.method == "HEAD";
        self.connect = head.method == "CONNECT";
        self.upgrade = head.upgrade;
        self.expects = head.expect_continue;
        self.received = 0;
        self.out = BodyOut::Nothing;
        let bodiless = matches!(head.framing, Framing::None | Framing::Length(0));
        let begun = if bodiless { self.halves.did_whole_request() } else { self.halves.did_request(Did::Head) };
        debug_assert!(begun.is_ok(), "{begun:?}");
        if !head.keep_alive || last {
            self.halves.forbid_keep_alive();
        }
        match head.framing {
            Framing::None | Framing::Length(0) => self.body = BodyIn::None,
            Framing::Length(n) if n > limits.body => return Err(Misbehaved::BodyTooLarge),
            Framing::Length(n) => self.body = BodyIn::Length(n),
            Framing::Chunked => self.body = BodyIn::Chunked(Decoder::new()),
        }
        Ok(())
    }

    /// How the body goes on. Framing bytes are consumed from `rx`; data is for the caller to take.
    pub(crate) fn poll_body(&mut self, rx: &mut Buf, limits: &Limits) -> Result<BodyEvent, Misbehaved> {
        let (framing, event) = self.look_at_body(rx.filled(), limits)?;
        rx.consume(framing);
        Ok(event)
    }

    /// The same for what lies elsewhere: how many bytes of framing are at its front, and what is behind them. `input`
    /// is all that has come and was not taken.
    pub(crate) fn look_at_body(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, BodyEvent), Misbehaved> {
        if !self.is_receiving() {
            return Ok((0, BodyEvent::End(None)));
        }
        let mut framing = 0;
        let trailers = match &mut self.body {
            BodyIn::None | BodyIn::Length(0) => None,
            BodyIn::Length(_) if input.is_empty() => return Ok((0, BodyEvent::NeedMore)),
            BodyIn::Length(left) => return Ok((0, BodyEvent::Data(clamp(*left).min(input.len())))),
            BodyIn::Chunked(decoder) => {
                let limits = BodyLimits { body: limits.body, trailers: limits.head, fields: limits.fields };
                loop {
                    match decoder.step(&input[framing..], &limits)? {
                        Step::Skip(n) => framing += n,
                        Step::Data(n) => return Ok((framing, BodyEvent::Data(n))),
                        Step::NeedMore => return Ok((framing, BodyEvent::NeedMore)),
                        Step::End(n, trailers) => {
                            framing += n;
                            break trailers;
                        }
                    }
                }
            }
        };
        self.body = BodyIn::None;
        self.expects = false;
        self.report(Did::End, true);
        Ok((framing, BodyEvent::End(trailers)))
    }

    /// The first `n` bytes of the data were taken.
    pub(crate) fn took(&mut self, rx: &mut Buf, n: usize) {
        rx.consume(n);
        self.took_directly(n);
    }

    /// How many bytes of body may be read without looking at them; 0 if they must be looked at.
    pub(crate) fn direct(&self) -> usize {
        match self.body {
            BodyIn::Length(left) if self.is_receiving() => clamp(left),
            _ => 0,
        }
    }

    /// So many bytes of body were read past `rx`.
    pub(crate) fn took_directly(&mut self, n: usize) {
        self.received += n as u64;
        match &mut self.body {
            BodyIn::Length(left) => *left = left.saturating_sub(n as u64),
            BodyIn::Chunked(decoder) => decoder.took(n),
            BodyIn::None => {}
        }
    }

    /// The peer will send no more.
    pub(crate) fn handle_end(&mut self) {
        let closed = self.halves.did_request(Did::Close);
        debug_assert!(closed.is_ok());
        self.halves.forbid_keep_alive();
    }

    // What goes out.

    /// Asks for the body, if the peer waits to be asked and has not begun anyway.
    ///
    /// RFC 9110 §10.1.1: "A server MAY omit sending a 100 (Continue) response if it has already received some or all
    /// of the content for the corresponding request".
    pub(crate) fn ask_for_body(&mut self, rx: &Buf, out: &mut Out) {
        if std::mem::take(&mut self.expects) && rx.is_empty() && self.owes_answer() {
            out.push(write::CONTINUE);
        }
    }

    /// An informational response; not to HTTP/1.0, and not once the answer has begun.
    pub(crate) fn inform(&mut self, status: u16, headers: &Headers, out: &mut Out) {
        if self.version == Version::Http11 && self.owes_answer() && (102..200).contains(&status) {
            write::informational(status, headers, out);
        }
    }

    /// From here on the connection ends with the current exchange.
    pub(crate) fn forbid_keep_alive(&mut self) {
        self.halves.forbid_keep_alive();
    }

    /// Writes the answer's head; says how its body is framed. If there is none to send, the answer is complete.
    #[inline]
    #[cfg(any(test, fuzzing, feature = "__internals"))]
    pub(crate) fn respond(&mut self, answer: &Answer<'_>, out: &mut Out) -> BodyOut {
        self.respond_with(answer, &[], out)
    }

    /// The same, and behind the head at once the body, unless `body` is empty or nothing is to be sent of it.
    #[inline]
    pub(crate) fn respond_with(&mut self, answer: &Answer<'_>, body: &[u8], out: &mut Out) -> BodyOut {
        let tunnel = self.connect && answer.status < 300;
        let bodiless = tunnel || matches!(answer.status, 100..200 | 204 | 304);
        if tunnel {
            // RFC 9110 §9.3.6: the client takes it for a tunnel now. What it sends into that is no request.
            self.halves.forbid_keep_alive();
        }
        // RFC 9112 §6.3, items 1 to 8, from the sender's side.
        let length = match answer.length {
            _ if bodiless => BodyLength::None,
            // RFC 9110 §15.3.6: a 205 has no content, whatever the application gave it.
            _ if answer.status == 205 => BodyLength::Known(0),
            Some(n) => BodyLength::Known(n),
            None if self.version == Version::Http11 => BodyLength::Chunked,
            None => {
                self.halves.forbid_keep_alive();
                BodyLength::UntilClose
            }
        };
        let connection = match (self.halves.keep_alive(), self.version) {
            // RFC 9110 §7.8: who sends Upgrade, as a 426 must, also sends that connection option.
            (false, Version::Http11) if answer.status == 426 => Some(ConnectionOption::CloseUpgrade),
            (true, Version::Http11) if answer.status == 426 => Some(ConnectionOption::Upgrade),
            (false, _) => Some(ConnectionOption::Close),
            (true, Version::Http10) => Some(ConnectionOption::KeepAlive),
            (true, Version::Http11) => None,
        };
        let is_with_it = !self.head_only && length == BodyLength::Known(body.len() as u64);
        write::response(
            &ResponseHead {
                status: answer.status,
                fields: answer.fields.as_wire(),
                length,
                date: answer.date,
                connection,
            },
            if is_with_it { body } else { &[] },
            out,
        );
        self.out = match length {
            _ if self.head_only || is_with_it => BodyOut::Nothing,
            BodyLength::None | BodyLength::Known(0) => BodyOut::Nothing,
            BodyLength::Known(n) => BodyOut::Length(n),
            BodyLength::Chunked => BodyOut::Chunked,
            BodyLength::UntilClose => BodyOut::UntilClose,
        };
        if self.out == BodyOut::Nothing {
            let result = self.halves.did_whole_response();
            debug_assert!(result.is_ok(), "{result:?}");
        } else {
            self.report(Did::Head, false);
        }
        self.out
    }

    /// So many bytes of the answer's body were written. A body of known length ends with its last byte.
    #[inline]
    pub(crate) fn wrote(&mut self, n: u64) {
        if let BodyOut::Length(left) = &mut self.out {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.out = BodyOut::Nothing;
                self.report(Did::End, false);
            }
        }
    }

    /// The answer's body is over; `false` if it is shorter than its head has said: then only a reset is honest.
    pub(crate) fn end_body(&mut self, trailers: Option<&Headers>, out: &mut Out) -> bool {
        match (self.out, trailers) {
            (BodyOut::Nothing, _) => return true,
            (BodyOut::Length(_), _) => return false,
            (BodyOut::Chunked, Some(trailers)) => write::trailers(trailers, out),
            (BodyOut::Chunked, None) => out.push(write::LAST_CHUNK),
            (BodyOut::UntilClose, _) => {}
        }
        self.out = BodyOut::Nothing;
        self.report(Did::End, false);
        true
    }

    /// Answers 101, or 2xx to CONNECT, or leaves the answer to others: the stream belongs to another protocol once the
    /// request is whole.
    pub(crate) fn switch(&mut self, answer: Option<&Answer<'_>>, out: &mut Out) {
        if let Some(answer) = answer {
            write::response_head(
                &ResponseHead {
                    status: answer.status,
                    fields: answer.fields.as_wire(),
                    length: BodyLength::None,
                    date: answer.date,
                    connection: (answer.status == 101).then_some(ConnectionOption::Upgrade),
                },
                out,
            );
        }
        self.report(Did::Switch, false);
    }

    /// Whether a switch is open to this request: an upgrade asked for on 1.1, or CONNECT.
    pub(crate) fn can_switch(&self, status: u16) -> bool {
        match self.connect {
            true => (200..300).contains(&status),
            false => status == 101 && self.upgrade && self.version == Version::Http11,
        }
    }

    /// The peer broke a rule: answers that, if an answer is open, and lets nothing follow. Bytes behind it are never
    /// parsed. Whether it could be said.
    pub(crate) fn refuse(&mut self, what: Misbehaved, date: &[u8; 29], out: &mut Out) -> bool {
        // Of a head that was not understood, the method isn't known: `head_only` is about the request before it.
        let with_body = !self.head_only || self.halves.response() == Half::Idle;
        self.report(Did::Break, true);
        let open = matches!(self.halves.response(), Half::Idle | Half::Owed);
        if open {
            write::error(what, date, with_body, out);
            self.report(Did::Head, false);
            self.report(Did::End, false);
        }
        open
    }

    fn report(&mut self, did: Did, request: bool) {
        let result: Result<(), Illegal> =
            if request { self.halves.did_request(did) } else { self.halves.did_response(did) };
        debug_assert!(result.is_ok(), "{result:?}");
    }
}

fn clamp(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
