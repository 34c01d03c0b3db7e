//! The server's side of one HTTP/1.1 connection.

use super::{
    halves::{Did, Half, Halves, Illegal},
    message::{BodyOut, Message, ResponseSpec},
};
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

/// The next part of the request's body.
#[derive(Debug)]
pub(crate) enum BodyEvent {
    /// So many bytes (more than 0) at the front of the input are body.
    Data(usize),
    /// The body is complete.
    End(Option<Box<Headers>>),
    NeedMore,
}

/// The length of a body that ends with its stream.
const UNKNOWN: u64 = u64::MAX;

enum BodyIn {
    None,
    Length(u64),
    /// In a box: most connections never have one.
    Chunked(Box<Decoder>),
    /// All bytes are data, and the stream says where they end. The number of bytes that are left, or [`UNKNOWN`].
    Stream(u64),
}

pub(crate) struct ServerConn {
    halves: Halves,
    scan: HeadScanner,
    body: BodyIn,
    out: BodyOut,
    version: Version,
    head_only: bool,
    connect: bool,
    /// The request offers to switch protocols.
    upgrade: bool,
    /// The client waits for `100 Continue`.
    expects: bool,
    /// Bytes of the request's body taken so far.
    received: u64,
    /// It is a stream of HTTP/2. The second `Box` keeps the pointer at one word: two would make every connection larger.
    message: Option<Box<Box<dyn Message>>>,
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
            message: None,
        }
    }

    // State.

    /// Returns `true` between two requests.
    pub(crate) fn is_idle(&self) -> bool {
        self.halves.request() == Half::Idle && self.halves.response() == Half::Idle
    }

    /// Returns `true` if no other response may follow.
    pub(crate) fn must_close(&self) -> bool {
        matches!(self.halves.response(), Half::MustClose | Half::Closed)
    }

    /// Returns `true` while the request's body is incomplete.
    #[inline]
    pub(crate) fn is_receiving(&self) -> bool {
        self.halves.request() == Half::Body
    }

    /// Makes it the machine of a stream. After [`begin`](Self::begin), with a head of that stream.
    #[cfg(feature = "http2")]
    pub(crate) fn speak(&mut self, message: Box<dyn Message>) {
        self.message = Some(Box::new(message));
    }

    /// Returns `true` if no more bytes of the request's body will come, whether its end was reported or not.
    pub(crate) fn is_all_in(&self) -> bool {
        !self.is_receiving() || matches!(self.body, BodyIn::None | BodyIn::Length(0))
    }

    /// Returns `true` if a request has arrived and no byte of its response was written.
    #[inline]
    pub(crate) fn owes_response(&self) -> bool {
        self.halves.response() == Half::Owed
    }

    /// Returns `true` if the response's head was written and its body is incomplete.
    pub(crate) fn is_responding(&self) -> bool {
        self.halves.response() == Half::Body
    }

    pub(crate) fn is_switched(&self) -> bool {
        self.halves.request() == Half::Switched
    }

    /// Returns `true` if the client waits for `100 Continue`, which was not sent.
    pub(crate) fn expects_continue(&self) -> bool {
        self.expects
    }

    /// Returns `true` if the request is HEAD: only the head of its response is sent.
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

    // Input.

    /// Returns the next request's head and where it ends in `rx`, if it is complete.
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

    /// Returns `true` if part of a head has arrived.
    pub(crate) fn has_partial_head(&self, rx: &Buf) -> bool {
        rx.len() > self.scan.skip()
    }

    /// Begins the exchange with this head. `last`: no other request may follow it.
    ///
    /// # Errors
    /// [`Misbehaved::BodyTooLarge`]: the caller must [`reject`](Self::reject) the request.
    #[inline(always)]
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
            Framing::Length(n) if head.version == Version::Http2 => self.body = BodyIn::Stream(n),
            Framing::Chunked if head.version == Version::Http2 => self.body = BodyIn::Stream(UNKNOWN),
            Framing::Length(n) => self.body = BodyIn::Length(n),
            Framing::Chunked => self.body = BodyIn::Chunked(Box::new(Decoder::new())),
        }
        Ok(())
    }

    /// Returns the next part of the body. Consumes framing bytes from `rx`; the caller takes the data.
    pub(crate) fn poll_body(&mut self, rx: &mut Buf, limits: &Limits) -> Result<BodyEvent, Misbehaved> {
        let (framing, event) = self.look_at_body(rx.filled(), limits)?;
        rx.consume(framing);
        Ok(event)
    }

    /// Like [`poll_body`](Self::poll_body), but for bytes that lie elsewhere. Returns the number of framing bytes at
    /// the front of `input`, and what follows them. `input`: all bytes that have arrived and were not taken.
    pub(crate) fn look_at_body(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, BodyEvent), Misbehaved> {
        if !self.is_receiving() {
            return Ok((0, BodyEvent::End(None)));
        }
        let mut framing = 0;
        let trailers = match &mut self.body {
            BodyIn::None | BodyIn::Length(0) => None,
            BodyIn::Length(_) if input.is_empty() => return Ok((0, BodyEvent::NeedMore)),
            BodyIn::Length(left) => return Ok((0, BodyEvent::Data(clamp(*left).min(input.len())))),
            BodyIn::Stream(left) if !input.is_empty() => {
                let most = if *left == UNKNOWN { limits.body.saturating_sub(self.received) } else { *left };
                return match clamp(most).min(input.len()) {
                    0 => Err(Misbehaved::BodyTooLarge),
                    n => Ok((0, BodyEvent::Data(n))),
                };
            }
            BodyIn::Stream(left) => match self.message.as_mut().and_then(|message| message.poll_end()) {
                // `h2` has compared the length with the data; a part must never look like the whole.
                Some(_) if *left != UNKNOWN && *left > 0 => return Err(Misbehaved::TruncatedBody),
                Some(trailers) => trailers,
                None => return Ok((0, BodyEvent::NeedMore)),
            },
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

    /// Records that the first `n` bytes of the data were taken.
    pub(crate) fn took(&mut self, rx: &mut Buf, n: usize) {
        rx.consume(n);
        self.took_directly(n);
    }

    /// Returns how many bytes of the body may be read without parsing; 0 if they must be parsed.
    pub(crate) fn direct(&self) -> usize {
        match self.body {
            BodyIn::Length(left) if self.is_receiving() => clamp(left),
            _ => 0,
        }
    }

    /// Records `n` bytes of the body that were read past `rx`.
    pub(crate) fn took_directly(&mut self, n: usize) {
        self.received += n as u64;
        match &mut self.body {
            BodyIn::Length(left) => *left = left.saturating_sub(n as u64),
            BodyIn::Chunked(decoder) => decoder.took(n),
            BodyIn::Stream(UNKNOWN) | BodyIn::None => {}
            BodyIn::Stream(left) => *left = left.saturating_sub(n as u64),
        }
    }

    /// Records that the client will send no more.
    pub(crate) fn handle_end(&mut self) {
        let closed = self.halves.did_request(Did::Close);
        debug_assert!(closed.is_ok());
        self.halves.forbid_keep_alive();
    }

    // Output.

    /// Requests the body with `100 Continue`, if the client waits for that and has not begun to send.
    ///
    /// RFC 9110 §10.1.1: "A server MAY omit sending a 100 (Continue) response if it has already received some or all of
    /// the content for the corresponding request".
    pub(crate) fn ask_for_body(&mut self, rx: &Buf, out: &mut Out) {
        if std::mem::take(&mut self.expects) && rx.is_empty() && self.owes_response() {
            match &mut self.message {
                Some(message) => message.inform(100, &Headers::new()),
                None => out.push(write::CONTINUE),
            }
        }
    }

    /// Writes an informational response; not to HTTP/1.0, and not once the response has begun.
    pub(crate) fn inform(&mut self, status: u16, headers: &Headers, out: &mut Out) {
        if self.version > Version::Http10 && self.owes_response() && (102..200).contains(&status) {
            match &mut self.message {
                Some(message) => message.inform(status, headers),
                None => write::informational(status, headers, out),
            }
        }
    }

    /// Ends the connection with the current exchange.
    pub(crate) fn forbid_keep_alive(&mut self) {
        self.halves.forbid_keep_alive();
    }

    /// Writes the response's head. Returns the framing of its body; if that is `Nothing`, the response is complete.
    #[cfg(any(test, fuzzing, feature = "__internals"))]
    pub(crate) fn respond(&mut self, response: &ResponseSpec<'_>, out: &mut Out) -> BodyOut {
        self.respond_with(response, &[], out)
    }

    /// Writes the response's head and `body` behind it, unless `body` is empty or the response has no content. Returns
    /// the framing of what is left of the body.
    #[inline]
    pub(crate) fn respond_with(&mut self, response: &ResponseSpec<'_>, body: &[u8], out: &mut Out) -> BodyOut {
        let length = self.length_of(response);
        if let Some(message) = &mut self.message {
            self.out = Self::body_after(length, self.head_only);
            let known = if let BodyLength::Known(n) = length { Some(n) } else { None };
            message.respond(response, known, self.out);
            return self.responded();
        }
        let connection = match (self.halves.keep_alive(), self.version) {
            // RFC 9110 §7.8: a sender of Upgrade (a 426 must send it) also sends that connection option.
            (false, Version::Http11) if response.status == 426 => Some(ConnectionOption::CloseUpgrade),
            (true, Version::Http11) if response.status == 426 => Some(ConnectionOption::Upgrade),
            (false, _) => Some(ConnectionOption::Close),
            (true, Version::Http10) => Some(ConnectionOption::KeepAlive),
            (true, Version::Http11 | Version::Http2) => None,
        };
        let is_with_it = !self.head_only && length == BodyLength::Known(body.len() as u64);
        write::response(
            &ResponseHead {
                status: response.status,
                fields: response.fields.as_wire(),
                length,
                date: response.date,
                connection,
            },
            if is_with_it { body } else { &[] },
            out,
        );
        self.out = if is_with_it { BodyOut::Nothing } else { Self::body_after(length, self.head_only) };
        self.responded()
    }

    /// Returns the length of a response's body, as its head announces it.
    #[inline]
    pub(crate) fn length_of(&mut self, response: &ResponseSpec<'_>) -> BodyLength {
        let tunnel = self.connect && response.status < 300;
        let bodiless = tunnel || matches!(response.status, 100..200 | 204 | 304);
        if tunnel {
            // RFC 9110 §9.3.6: the client sees a tunnel now, and sends no further request.
            self.halves.forbid_keep_alive();
        }
        // RFC 9112 §6.3, items 1 to 8, from the sender's side.
        match response.length {
            _ if bodiless => BodyLength::None,
            // RFC 9110 §15.3.6: a 205 has no content.
            _ if response.status == 205 => BodyLength::Known(0),
            Some(n) => BodyLength::Known(n),
            None if self.version == Version::Http11 => BodyLength::Chunked,
            None => {
                self.halves.forbid_keep_alive();
                BodyLength::UntilClose
            }
        }
    }

    #[inline]
    fn body_after(length: BodyLength, head_only: bool) -> BodyOut {
        match length {
            _ if head_only => BodyOut::Nothing,
            BodyLength::None | BodyLength::Known(0) => BodyOut::Nothing,
            BodyLength::Known(n) => BodyOut::Length(n),
            BodyLength::Chunked => BodyOut::Chunked,
            BodyLength::UntilClose => BodyOut::UntilClose,
        }
    }

    /// Records that the response's head was written.
    #[inline]
    fn responded(&mut self) -> BodyOut {
        if self.out == BodyOut::Nothing {
            let result = self.halves.did_whole_response();
            debug_assert!(result.is_ok(), "{result:?}");
        } else {
            self.report(Did::Head, false);
        }
        self.out
    }

    /// Records `n` written bytes of the response's body. A body of known length ends with its last byte.
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

    /// Ends the response's body. Returns `false` if it is shorter than its head announced: then only a reset informs
    /// the client.
    pub(crate) fn end_body(&mut self, trailers: Option<&Headers>, out: &mut Out) -> bool {
        match (self.out, trailers) {
            (BodyOut::Nothing, _) => return true,
            (BodyOut::Length(_), _) => return false,
            (BodyOut::Chunked, Some(trailers)) => write::trailers(trailers, out),
            (BodyOut::Chunked, None) => out.push(write::LAST_CHUNK),
            (BodyOut::UntilClose, trailers) => {
                if let Some(message) = &mut self.message {
                    message.end(trailers);
                }
            }
        }
        self.out = BodyOut::Nothing;
        self.report(Did::End, false);
        true
    }

    /// Switches protocols: writes 101, or 2xx to CONNECT, or no response at all. The stream belongs to the other
    /// protocol once the request is complete.
    pub(crate) fn switch(&mut self, response: Option<&ResponseSpec<'_>>, out: &mut Out) {
        if let (Some(response), Some(message)) = (response, &mut self.message) {
            message.switch(response);
        } else if let Some(response) = response {
            write::response_head(
                &ResponseHead {
                    status: response.status,
                    fields: response.fields.as_wire(),
                    length: BodyLength::None,
                    date: response.date,
                    connection: (response.status == 101).then_some(ConnectionOption::Upgrade),
                },
                out,
            );
        }
        self.report(Did::Switch, false);
    }

    /// Returns `true` if it is a stream of HTTP/2, which has no bytes in front of a response.
    pub(crate) fn is_stream(&self) -> bool {
        self.message.is_some()
    }

    /// Returns `true` if the request allows a switch: HTTP/1.1 with an upgrade, or CONNECT.
    pub(crate) fn can_switch(&self, status: u16) -> bool {
        match self.connect {
            true => (200..300).contains(&status),
            false => status == 101 && self.upgrade && self.version > Version::Http10,
        }
    }

    /// Rejects a request that broke a rule, if a response is still owed, and ends the connection. Bytes behind it are
    /// never parsed. Returns `true` if the response was written.
    pub(crate) fn reject(&mut self, what: Misbehaved, date: &[u8; 29], out: &mut Out) -> bool {
        // The method of a head that was not understood is unknown: `head_only` is about the request before it.
        let with_body = !self.head_only || self.halves.response() == Half::Idle;
        self.report(Did::Break, true);
        let open = matches!(self.halves.response(), Half::Idle | Half::Owed);
        if open {
            match &mut self.message {
                Some(message) => reject_stream(message.as_mut().as_mut(), what, date, with_body, out),
                None => write::error(what, date, with_body, out),
            }
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

/// Responds with the rule that the client of a stream broke.
#[cold]
fn reject_stream(message: &mut dyn Message, what: Misbehaved, date: &[u8; 29], with_body: bool, out: &mut Out) {
    let length = what.rule().len() as u64 + 1;
    let fields = const { &Headers::constant(b"Content-Type: text/plain\r\n") };
    let response = ResponseSpec { status: what.status(), fields, length: Some(length), date };
    let body = if with_body { BodyOut::Length(length) } else { BodyOut::Nothing };
    message.respond(&response, Some(length), body);
    if with_body {
        out.push(what.rule().as_bytes());
        out.push(b"\n");
    }
}

fn clamp(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
