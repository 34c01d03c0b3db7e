//! The client's side of one HTTP/1.1 connection.
//!
//! It uses the same halves as the server: here the request is written and the response is read. In one exchange,
//! [`begin`](ClientConn::begin) writes the request's head. [`wrote`](ClientConn::wrote) and
//! [`end_body`](ClientConn::end_body) account for its body. Call [`poll_head`](ClientConn::poll_head) and
//! [`received_head`](ClientConn::received_head) until there is a final head, then [`poll_body`](ClientConn::poll_body)
//! until its end. Both directions may proceed at the same time. Afterwards the connection is
//! [idle](ClientConn::is_idle), or cannot be used again.

use super::{
    BodyOut,
    halves::{Did, Half, Halves, Illegal},
};
use crate::h1::{
    FieldSlots, HeadLimits, HeadScanner, Headers, Misbehaved, ParsedResponse, ResponseFraming,
    chunked::{BodyLimits, Decoder, Step},
    parse_response,
    response::find_response,
    write::{self, BodyLength, ConnectionOption, RequestLine, Sink},
};

/// Informational responses (1xx) to one request. RFC 9110 §15.2 sets no limit; servers send no more than two or three.
const INFORMATIONAL_MAX: u8 = 16;

/// The head of a request, as the machine needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestSpec<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) host: &'a str,
    pub(crate) fields: &'a Headers,
    pub(crate) length: BodyLength,
    /// Waits for `100 Continue` before it sends the body.
    pub(crate) expect: bool,
    /// Offers to switch protocols; `fields` names them.
    pub(crate) upgrade: bool,
    /// No other request follows it.
    pub(crate) last: bool,
}

/// The meaning of a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadKind {
    /// An informational response (1xx); 100 means that the server wants the body. Another head follows.
    Informational(u16),
    /// The final response; its body follows, if it has one.
    Final,
    /// The final response; another protocol follows.
    Switched,
}

enum BodyIn {
    None,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

pub(crate) struct ClientConn {
    halves: Halves,
    scan: HeadScanner,
    out: BodyOut,
    body: BodyIn,
    /// The methods that change the meaning of a response.
    method: Method,
    upgrade: bool,
    informational: u8,
    /// Bytes of the response's body taken so far, and the announced number.
    received: u64,
    announced: Option<u64>,
}

#[derive(Clone, Copy)]
enum Method {
    Head,
    Connect,
    Other,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Connect => "CONNECT",
            Self::Other => "GET",
        }
    }
}

impl ClientConn {
    pub(crate) fn new() -> Self {
        Self {
            halves: Halves::NEW,
            scan: HeadScanner::default(),
            out: BodyOut::Nothing,
            body: BodyIn::None,
            method: Method::Other,
            upgrade: false,
            informational: 0,
            received: 0,
            announced: None,
        }
    }

    // State.

    /// Returns `true` if the next request may begin.
    pub(crate) fn is_idle(&self) -> bool {
        self.halves.request() == Half::Idle && self.halves.response() == Half::Idle
    }

    /// Returns `true` while the request's body is incomplete.
    pub(crate) fn is_sending(&self) -> bool {
        self.halves.request() == Half::Body
    }

    /// Returns `true` if a request has begun and no final head has arrived.
    pub(crate) fn awaits_head(&self) -> bool {
        self.halves.response() == Half::Owed
    }

    /// Returns `true` while the response's body is incomplete.
    pub(crate) fn is_receiving(&self) -> bool {
        self.halves.response() == Half::Body
    }

    /// Returns `true` if no more bytes of the response's body will come.
    pub(crate) fn has_no_body(&self) -> bool {
        matches!(self.body, BodyIn::None | BodyIn::Length(0))
    }

    /// Returns the framing of what is left of the request's body.
    pub(crate) fn body_out(&self) -> BodyOut {
        self.out
    }

    /// Returns the bytes of the response's body taken so far, and its announced length.
    pub(crate) fn progress(&self) -> (u64, Option<u64>) {
        (self.received, self.announced)
    }

    // Output.

    /// Writes the head of a request, which must describe the body that follows.
    ///
    /// # Errors
    /// If the request cannot be written as it is. Nothing was written then.
    pub(crate) fn begin<S: Sink>(&mut self, ask: &RequestSpec<'_>, out: &mut S) -> Result<(), Misbehaved> {
        debug_assert!(self.is_idle());
        let line = RequestLine {
            method: ask.method,
            target: ask.target,
            host: ask.host,
            fields: ask.fields.as_wire(),
            length: ask.length,
            expect: ask.expect,
            connection: match (ask.last, ask.upgrade) {
                (true, false) => Some(ConnectionOption::Close),
                (true, true) => Some(ConnectionOption::CloseUpgrade),
                (false, true) => Some(ConnectionOption::Upgrade),
                (false, false) => None,
            },
        };
        write::request_head(&line, out)?;
        *self = Self::new();
        self.method = match ask.method {
            "HEAD" => Method::Head,
            "CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        self.upgrade = ask.upgrade;
        self.report(Did::Head, true);
        if ask.last {
            self.halves.forbid_keep_alive();
        }
        self.out = match ask.length {
            BodyLength::None | BodyLength::UntilClose | BodyLength::Known(0) => BodyOut::Nothing,
            BodyLength::Known(n) => BodyOut::Length(n),
            BodyLength::Chunked => BodyOut::Chunked,
        };
        if self.out == BodyOut::Nothing {
            self.report(Did::End, true);
        }
        Ok(())
    }

    /// Records `n` written bytes of the body. A body of known length ends with its last byte.
    pub(crate) fn wrote(&mut self, n: u64) {
        if let BodyOut::Length(left) = &mut self.out {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.out = BodyOut::Nothing;
                self.report(Did::End, true);
            }
        }
    }

    /// Ends the body. Returns `false` if it is shorter than announced: then the caller must reset the connection.
    pub(crate) fn end_body<S: Sink>(&mut self, trailers: Option<&Headers>, out: &mut S) -> bool {
        match (self.out, trailers) {
            (BodyOut::Nothing, _) => return true,
            (BodyOut::Length(_), _) => return false,
            (BodyOut::Chunked, Some(trailers)) => write::trailers(trailers, out),
            (BodyOut::Chunked | BodyOut::UntilClose, _) => out.put(write::LAST_CHUNK),
        }
        self.out = BodyOut::Nothing;
        self.report(Did::End, true);
        true
    }

    // Input.

    /// Returns the next head and where it ends in `input`, if it is complete. `input`: all bytes that have arrived and
    /// were not consumed.
    pub(crate) fn poll_head<'b>(
        &mut self,
        input: &'b [u8],
        slots: &'b mut FieldSlots<'b>,
        limits: &HeadLimits,
    ) -> Result<Option<(usize, ParsedResponse<'b>)>, Misbehaved> {
        debug_assert!(self.awaits_head());
        let Some(end) = find_response(&mut self.scan, input, limits)? else { return Ok(None) };
        let head = parse_response(&input[..end], self.method.name(), slots, limits)?;
        Ok(Some((end, head)))
    }

    /// Continues the exchange with this head. Returns its meaning.
    ///
    /// # Errors
    /// [`Misbehaved::UnrequestedSwitch`], [`Misbehaved::TooManyInformational`].
    pub(crate) fn received_head(&mut self, head: &ParsedResponse<'_>) -> Result<HeadKind, Misbehaved> {
        self.scan = HeadScanner::default();
        if head.status == 101 && !self.upgrade {
            return Err(Misbehaved::UnrequestedSwitch);
        }
        if matches!(head.status, 100 | 102..200) {
            self.informational += 1;
            return match self.informational > INFORMATIONAL_MAX {
                true => Err(Misbehaved::TooManyInformational),
                false => Ok(HeadKind::Informational(head.status)),
            };
        }
        if !head.keep_alive {
            self.halves.forbid_keep_alive();
        }
        self.announced = None;
        self.body = match head.framing {
            ResponseFraming::Switched => {
                self.report(Did::Switch, false);
                return Ok(HeadKind::Switched);
            }
            ResponseFraming::None | ResponseFraming::Length(0) => BodyIn::None,
            ResponseFraming::Length(n) => {
                self.announced = Some(n);
                BodyIn::Length(n)
            }
            ResponseFraming::Chunked => BodyIn::Chunked(Decoder::new()),
            ResponseFraming::UntilClose => BodyIn::UntilClose,
        };
        self.report(Did::Head, false);
        Ok(HeadKind::Final)
    }

    /// Returns the next part of the body. `limits` are those of chunked bodies.
    pub(crate) fn poll_body(&mut self, input: &[u8], limits: &BodyLimits) -> Result<Step, Misbehaved> {
        if !self.is_receiving() {
            return Ok(Step::End(0, None));
        }
        let step = match &mut self.body {
            BodyIn::None | BodyIn::Length(0) => Step::End(0, None),
            BodyIn::Length(_) | BodyIn::UntilClose if input.is_empty() => Step::NeedMore,
            BodyIn::Length(left) => Step::Data(usize::try_from(*left).unwrap_or(usize::MAX).min(input.len())),
            BodyIn::UntilClose => Step::Data(input.len()),
            BodyIn::Chunked(decoder) => decoder.step(input, limits)?,
        };
        if matches!(step, Step::End(..)) {
            self.body = BodyIn::None;
            self.report(Did::End, false);
        }
        Ok(step)
    }

    /// Returns how many bytes of the body follow without framing.
    pub(crate) fn direct(&self) -> usize {
        match self.body {
            BodyIn::Length(left) if self.is_receiving() => usize::try_from(left).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    /// Records that the first `n` bytes of the data were taken.
    pub(crate) fn took(&mut self, n: usize) {
        self.received += n as u64;
        match &mut self.body {
            BodyIn::Length(left) => *left = left.saturating_sub(n as u64),
            BodyIn::Chunked(decoder) => decoder.took(n),
            BodyIn::None | BodyIn::UntilClose => {}
        }
    }

    /// Records that the server will send no more. `clean`: it ended in the way its transport prescribes. Returns `true`
    /// if that completes the response.
    pub(crate) fn handle_end(&mut self, clean: bool) -> bool {
        let until_close = self.is_receiving() && matches!(self.body, BodyIn::UntilClose);
        self.halves.forbid_keep_alive();
        if until_close && clean {
            self.body = BodyIn::None;
            self.report(Did::End, false);
            return true;
        }
        false
    }

    fn report(&mut self, did: Did, request: bool) {
        let result: Result<(), Illegal> =
            if request { self.halves.did_request(did) } else { self.halves.did_response(did) };
        debug_assert!(result.is_ok(), "{result:?}");
    }
}
