//! Runs the server's state machine: bytes in, an application that follows a script, bytes out.
//!
//! The fuzz target and the traces use it. It takes the engine's part between the two buffers. A response before the end
//! of the body drains the body or ends the connection. A broken rule is rejected, or aborts the connection if a
//! response is in progress.
//!
//! ```text
//!   pieces ──▶ rx ──▶ ServerConn ──▶ Event: what the application received
//!                        ▲
//!             Acts ──────┘─────────▶ out: what the peer gets; Expected: what it must get
//! ```

use std::collections::VecDeque;

use super::{BodyEvent, BodyOut, ServerConn, message::ResponseSpec};
use crate::{
    base::{Limits, buf::Buf, out::Out},
    h1::{
        Framing, HeadLimits, Headers, KnownHost, Misbehaved, Version, field_slots,
        write::{CHUNK_END, chunk_head},
    },
};

/// The date of every response.
pub(crate) const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// Bytes of input held at once; more than the longest element the machine must see completely.
const ROOM: usize = 4096;

/// The application's next act. An act that must wait for input delays those behind it. An impossible act is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Waits for the next request's head; the request before it is completed first.
    Head,
    /// Asks for the body.
    Ask,
    /// Waits for so many bytes of body, or for its end.
    Take(usize),
    /// Waits for the end of the body.
    End,
    Inform(u16, Headers),
    /// Allows no other request after this one.
    Close,
    Respond {
        status: u16,
        fields: Headers,
        length: Option<u64>,
    },
    /// Writes some of the response's body.
    Write(Vec<u8>),
    /// Ends the response's body.
    Finish(Option<Headers>),
    Switch(u16, Headers),
    /// Switches reading past the input buffer on or off. It is used for bodies, where it is possible.
    Direct(bool),
}

/// An event that the application received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Head {
        method: String,
        target: String,
        version: Version,
        framing: Framing,
    },
    Body(Vec<u8>),
    End(Headers),
    /// The peer broke a rule; `true` if a response could be written.
    Rejected(Misbehaved, bool),
    /// The stream belongs to another protocol.
    Switched,
    /// The connection was aborted within a response.
    Broken,
}

/// The response that the peer must read from the output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Method and version, if the head was understood.
    pub(crate) request: Option<(String, Version)>,
    pub(crate) informed: usize,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    /// The response is complete.
    pub(crate) complete: bool,
}

/// The progress of an act.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Wait,
}

pub(crate) struct Harness {
    pub(crate) conn: ServerConn,
    pub(crate) rx: Buf,
    out: Out,
    limits: Limits,
    /// The acts left.
    pub(crate) acts: VecDeque<Act>,
    /// No act follows, whatever arrives.
    pub(crate) over: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) expected: Vec<Expected>,
    /// All output.
    pub(crate) sent: Vec<u8>,
    /// All output but `100 Continue`, which may be missing if the body has already arrived.
    pub(crate) responses: Vec<u8>,
    /// Input that was consumed.
    pub(crate) used: usize,
    /// Bytes that the current Take still waits for.
    wanted: Option<usize>,
    drain: usize,
    direct: bool,
}

impl Harness {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            conn: ServerConn::new(),
            rx: Buf::from_store(vec![0; ROOM].into_boxed_slice()),
            out: Out::default(),
            limits,
            acts: VecDeque::new(),
            over: false,
            events: Vec::new(),
            expected: Vec::new(),
            sent: Vec::new(),
            responses: Vec::new(),
            used: 0,
            wanted: None,
            drain: 0,
            direct: false,
        }
    }

    /// Adds a piece of input.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) {
        self.drive();
        while !piece.is_empty() && !self.over {
            let past = match self.acts.front() {
                Some(Act::Take(n)) if self.direct && self.rx.is_empty() => self.wanted.unwrap_or(*n),
                Some(Act::End) if self.direct && self.rx.is_empty() => usize::MAX,
                _ => 0,
            };
            let past = past.min(self.conn.direct()).min(piece.len());
            let n = if past > 0 {
                self.received_body(&piece[..past]);
                self.conn.took_directly(past);
                self.used += past;
                if let Some(wanted) = &mut self.wanted {
                    *wanted -= past;
                }
                past
            } else {
                self.rx.push(piece)
            };
            assert!(n > 0, "the input is full, but the machine waits for more");
            piece = &piece[n..];
            self.drive();
        }
    }

    /// Does everything that is possible. A second call does nothing more.
    pub(crate) fn drive(&mut self) {
        self.advance();
        let before = (self.state(), self.rx.len(), self.acts.len(), self.events.len(), self.sent.len());
        self.advance();
        let after = (self.state(), self.rx.len(), self.acts.len(), self.events.len(), self.sent.len());
        assert_eq!(before, after, "a second call outcome more");
    }

    /// Returns the state as one word.
    pub(crate) fn state(&self) -> &'static str {
        match &self.conn {
            conn if conn.is_switched() => "switched",
            _ if self.events.contains(&Event::Broken) => "broken",
            conn if conn.must_close() => "closing",
            conn if conn.is_idle() => "idle",
            conn if conn.is_receiving() && conn.is_responding() => "receiving and responding",
            conn if conn.is_responding() => "responding",
            conn if conn.is_receiving() => "receiving",
            conn if conn.owes_response() => "owing",
            _ => "drained",
        }
    }

    fn advance(&mut self) {
        while !self.over {
            let Some(act) = self.acts.pop_front() else { return };
            let outcome = self.act(&act);
            self.flush(false);
            match outcome {
                Ok(Outcome::Done) => self.wanted = None,
                Ok(Outcome::Wait) => {
                    self.acts.push_front(act);
                    return;
                }
                Err(rule) => {
                    self.reject(rule);
                    self.flush(false);
                }
            }
        }
    }

    fn reject(&mut self, rule: Misbehaved) {
        self.over = true;
        let responded = !self.conn.is_responding() && self.conn.reject(rule, DATE, &mut self.out);
        self.events.push(Event::Rejected(rule, responded));
        if responded {
            if self.expected.last().is_none_or(|expected| expected.status != 0) {
                self.expected.push(Expected::default());
            }
            let expected = self.expected();
            expected.status = rule.status();
            expected.body = format!("{rule}\n").into_bytes();
            expected.complete = true;
        } else if self.conn.is_responding() {
            self.events.push(Event::Broken);
            return;
        }
        // Whatever arrives now is not parsed.
        assert!(self.conn.must_close() && !self.conn.is_idle() && !self.conn.is_receiving());
        let left = self.rx.len();
        assert!(matches!(self.conn.poll_body(&mut self.rx, &self.limits), Ok(BodyEvent::End(None))));
        assert_eq!(self.rx.len(), left);
    }

    fn act(&mut self, act: &Act) -> Result<Outcome, Misbehaved> {
        match act {
            Act::Head => return self.head(),
            Act::Ask => {
                self.flush(false);
                self.conn.ask_for_body(&self.rx, &mut self.out);
                self.flush(true);
            }
            Act::Take(n) => return self.take(*n),
            Act::End => return self.take(usize::MAX),
            Act::Inform(status, fields) => {
                self.conn.inform(*status, fields, &mut self.out);
                let informed = usize::from(!self.out.is_empty());
                if let Some(expected) = self.expected.last_mut() {
                    expected.informed += informed;
                }
            }
            Act::Close if !self.conn.is_idle() => self.conn.forbid_keep_alive(),
            Act::Respond { status, fields, length } if self.conn.owes_response() => {
                self.respond(*status, fields, *length);
            }
            Act::Write(bytes) if self.conn.is_responding() => self.write(bytes),
            Act::Finish(trailers) if self.conn.is_responding() => self.finish(trailers.as_ref()),
            Act::Switch(status, fields) if self.conn.owes_response() && self.conn.can_switch(*status) => {
                // The body belongs to HTTP: it must be complete first.
                if self.take(usize::MAX)? == Outcome::Wait {
                    return Ok(Outcome::Wait);
                }
                let response = ResponseSpec { status: *status, fields, length: None, date: DATE };
                self.conn.switch(Some(&response), &mut self.out);
                self.expected().status = *status;
                self.expected().complete = true;
                assert!(self.conn.is_switched());
                self.events.push(Event::Switched);
                self.over = true;
            }
            Act::Direct(on) => self.direct = *on,
            _ => {}
        }
        Ok(Outcome::Done)
    }

    fn head(&mut self) -> Result<Outcome, Misbehaved> {
        // Completes the request before.
        if self.conn.owes_response() {
            self.respond(500, &Headers::new(), Some(0));
        }
        if self.conn.is_responding() {
            self.finish(None);
        }
        if self.over || self.conn.must_close() {
            self.over = true;
            return Ok(Outcome::Wait);
        }
        while self.conn.is_receiving() {
            match self.conn.poll_body(&mut self.rx, &self.limits)? {
                BodyEvent::NeedMore => return Ok(Outcome::Wait),
                BodyEvent::End(_) => {}
                BodyEvent::Data(n) => {
                    // All of it or nothing, byte by byte: where it stops must not depend on the pieces.
                    let n = n.min(self.drain);
                    if n == 0 {
                        self.conn.forbid_keep_alive();
                        self.over = true;
                        return Ok(Outcome::Wait);
                    }
                    self.drain -= n;
                    self.conn.took(&mut self.rx, n);
                    self.used += n;
                }
            }
        }
        if !self.conn.is_idle() {
            self.over = true;
            return Ok(Outcome::Wait);
        }
        let limits = HeadLimits { head: self.limits.head, target: self.limits.target, fields: self.limits.fields };
        let mut slots = field_slots();
        let Some((end, head)) = self.conn.poll_head(&self.rx, &mut slots, &limits, &mut KnownHost::default())? else {
            return Ok(Outcome::Wait);
        };
        let method = head.method.to_owned();
        self.expected.push(Expected { request: Some((method.clone(), head.version)), ..Expected::default() });
        self.events.push(Event::Head {
            method,
            target: head.target.to_owned(),
            version: head.version,
            framing: head.framing,
        });
        self.drain = usize::try_from(self.limits.drain).unwrap_or(usize::MAX);
        let begun = self.conn.begin(&head, &self.limits, false);
        self.rx.consume(end);
        self.used += end;
        begun.map(|()| Outcome::Done)
    }

    /// Takes `n` bytes of body, or fewer if it ends before.
    fn take(&mut self, n: usize) -> Result<Outcome, Misbehaved> {
        if !self.conn.is_receiving() {
            return Ok(Outcome::Done);
        }
        let mut wanted = self.wanted.unwrap_or(n);
        while wanted > 0 {
            let before = self.rx.len();
            let event = self.conn.poll_body(&mut self.rx, &self.limits)?;
            self.used += before - self.rx.len();
            match event {
                BodyEvent::NeedMore => {
                    self.wanted = Some(wanted);
                    return Ok(Outcome::Wait);
                }
                BodyEvent::End(trailers) => {
                    self.events.push(Event::End(trailers.map(|boxed| *boxed).unwrap_or_default()));
                    break;
                }
                BodyEvent::Data(n) => {
                    assert!(n > 0 && n <= self.rx.len(), "some data, and no more than there is");
                    // Not always everything.
                    let n = n.div_ceil(2).min(wanted);
                    let data = self.rx.filled()[..n].to_vec();
                    self.received_body(&data);
                    self.conn.took(&mut self.rx, n);
                    self.used += n;
                    wanted -= n;
                }
            }
        }
        Ok(Outcome::Done)
    }

    fn received_body(&mut self, data: &[u8]) {
        match self.events.last_mut() {
            Some(Event::Body(body)) => body.extend_from_slice(data),
            _ => self.events.push(Event::Body(data.to_vec())),
        }
    }

    fn respond(&mut self, status: u16, fields: &Headers, length: Option<u64>) {
        if self.conn.is_receiving() && self.conn.expects_continue() {
            self.conn.forbid_keep_alive();
        }
        let framing = self.conn.respond(&ResponseSpec { status, fields, length, date: DATE }, &mut self.out);
        assert_eq!(framing, self.conn.body_out());
        let complete = !self.conn.is_responding();
        assert_eq!(complete, framing == BodyOut::Nothing);
        let expected = self.expected();
        expected.status = status;
        expected.complete = complete;
    }

    fn write(&mut self, bytes: &[u8]) {
        let bytes = match self.conn.body_out() {
            BodyOut::Length(left) => &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))],
            _ => bytes,
        };
        if bytes.is_empty() {
            return;
        }
        if self.conn.body_out() == BodyOut::Chunked {
            let mut head = [0; 18];
            let n = chunk_head(bytes.len(), &mut head);
            self.out.push(&head[..n]);
            self.out.push(bytes);
            self.out.push(CHUNK_END);
        } else {
            self.out.push(bytes);
        }
        self.conn.wrote(bytes.len() as u64);
        let complete = !self.conn.is_responding();
        let expected = self.expected();
        expected.body.extend_from_slice(bytes);
        expected.complete = complete;
    }

    fn finish(&mut self, trailers: Option<&Headers>) {
        let chunked = self.conn.body_out() == BodyOut::Chunked;
        if !self.conn.end_body(trailers, &mut self.out) {
            self.events.push(Event::Broken);
            self.over = true;
            return;
        }
        let expected = self.expected();
        expected.complete = true;
        if let Some(trailers) = trailers.filter(|_| chunked) {
            expected.trailers = trailers.clone();
        }
    }

    fn expected(&mut self) -> &mut Expected {
        if self.expected.is_empty() {
            self.expected.push(Expected::default());
        }
        let last = self.expected.len() - 1;
        &mut self.expected[last]
    }

    /// Moves the output to the peer. `optional`: it is `100 Continue`.
    fn flush(&mut self, optional: bool) {
        let bytes = self.out.buf.filled();
        self.sent.extend_from_slice(bytes);
        if !optional {
            self.responses.extend_from_slice(bytes);
        }
        self.out.clear();
    }
}
