//! The connection: operations in, events out, and bytes on both sides.
//!
//! ```text
//!            client, P                                   server, C
//!   open ──SYN_STREAM──▶ ‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥▶ Opened
//!   data ──DATA, FIN───▶ ‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥▶ Data { end }
//!   Writable ◀‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥◀─WINDOW_UPDATE── release
//!   Replied ◀‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥◀─SYN_REPLY── reply
//!   Data { end } ◀‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥◀─DATA, FIN── data
//!   reset ─RST_STREAM──▶ ‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥▶ Reset
//! ```
//!
//! A stream is removed when both of its ends have sent FIN, when either side has reset it, and when the peer's GOAWAY
//! excludes it. Frames for it are dropped afterwards; operations on it do nothing.

mod receive;

use std::collections::{HashMap, VecDeque};

use super::{
    fault::Fault,
    frame::{Code, Decoder, Syn},
    head::{ReplyHead, RequestHead},
    headers::{Inflater, Stored},
    stream::Stream,
    write,
};

/// Output in bytes from which no more data is accepted, and no stream is opened.
const MAX_OUTPUT: usize = 128 * 1024;
/// The longest head that is sent, in bytes of its names and values.
const MAX_HEAD: usize = 60 * 1024;

/// The role of this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The proxy, which opens streams.
    Client,
    /// The origin server, which replies to them.
    Server,
}

/// An action of the peer, or something that has become possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request; `end`: without a body.
    Opened { stream: u32, head: RequestHead, end: bool },
    /// The reply to one of our requests; `end`: without a body.
    Replied { stream: u32, head: ReplyHead, end: bool },
    /// A part of a body; `end`: the last part. Its bytes must be [released](Session::release) sooner or later.
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    /// A stream that had to wait can send more.
    Writable { stream: u32 },
    /// The stream is over: the peer has reset it, or broke a rule on it.
    Reset { stream: u32, code: Code },
    /// The peer takes no new streams.
    GoAway,
    /// The response to a ping.
    Pong,
}

impl Event {
    fn stream(&self) -> Option<u32> {
        match self {
            Self::Opened { stream, .. }
            | Self::Replied { stream, .. }
            | Self::Data { stream, .. }
            | Self::Writable { stream }
            | Self::Reset { stream, .. } => Some(*stream),
            Self::GoAway | Self::Pong => None,
        }
    }
}

/// The reason why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The connection takes no more streams: another one is needed.
    Closed,
    /// At the limit of streams or of output: possible later.
    Busy,
    /// The head cannot be written as a header block, or is too long for one.
    InvalidHead,
}

/// One end of a connection.
pub(crate) struct Session {
    role: Role,
    max_streams: usize,
    decoder: Decoder,
    inflater: Inflater,
    stored: Stored,
    streams: HashMap<u32, Stream>,
    /// The newest stream, of the side that opens them.
    newest: u32,
    /// The frame whose header block is being received.
    syn: Option<(Syn, u32, bool)>,
    /// The stream of the data frame being received, and whether it is the last.
    data: (u32, bool),
    events: VecDeque<Event>,
    output: Vec<u8>,
    /// Number of bytes of `output` that were taken.
    taken: usize,
    /// Streams that wait until output is taken.
    output_waiters: Vec<u32>,
    pings: u32,
    /// The peer, or this side, takes no new streams.
    closing: bool,
    fault: Option<Fault>,
}

impl Session {
    /// Creates one end, with this limit of open streams.
    pub(crate) fn new(role: Role, max_streams: usize) -> Self {
        Self {
            role,
            max_streams,
            decoder: Decoder::new(),
            inflater: Inflater::new(),
            stored: Stored::default(),
            streams: HashMap::new(),
            newest: 0,
            syn: None,
            data: (0, false),
            events: VecDeque::new(),
            output: Vec::new(),
            taken: 0,
            output_waiters: Vec::new(),
            pings: 0,
            closing: false,
            fault: None,
        }
    }

    /// Returns the next event, in order.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // Operations.

    /// Sends a request. Returns the number of the new stream; `end`: without a body.
    ///
    /// # Errors
    /// Returns an error if that is not possible, or not now.
    pub(crate) fn open(&mut self, head: &RequestHead, end: bool) -> Result<u32, OpenError> {
        if self.role == Role::Server || self.closing || self.fault.is_some() || self.newest >= 0x7fff_fffd {
            return Err(OpenError::Closed);
        }
        if self.streams.len() >= self.max_streams || self.output().len() >= MAX_OUTPUT {
            return Err(OpenError::Busy);
        }
        let pairs = head.pairs();
        if head.check().is_err() || !fits(&pairs) {
            return Err(OpenError::InvalidHead);
        }
        let stream = if self.newest == 0 { 1 } else { self.newest + 2 };
        self.newest = stream;
        let stored = &mut self.stored;
        write::syn_stream(&mut self.output, stream, end, |out| stored.block(out, parts(&pairs)));
        self.streams.insert(stream, Stream::opened(end, head.method == "HEAD"));
        Ok(stream)
    }

    /// Sends a reply; `end`: without a body. Returns `false`, and sends nothing, if the head is invalid or too long.
    pub(crate) fn reply(&mut self, stream: u32, head: &ReplyHead, end: bool) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else { return true };
        let pairs = head.pairs();
        if self.role == Role::Client || state.replied || head.check().is_err() || !fits(&pairs) {
            return false;
        }
        state.replied = true;
        state.sends = !end;
        let stored = &mut self.stored;
        write::syn_reply(&mut self.output, stream, end, |out| stored.block(out, parts(&pairs)));
        self.remove_if_over(stream);
        true
    }

    /// Sends a part of a body, as much as possible now. Returns how many bytes, and whether its `end` is sent too. If
    /// that is not all, an [`Event::Writable`] follows. If the stream does not exist any more, everything counts as
    /// sent.
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> (usize, bool) {
        let mut rest = bytes;
        let server = self.role == Role::Server;
        let Some(state) = self.streams.get_mut(&stream).filter(|state| state.sends) else { return (bytes.len(), true) };
        if server && !state.replied {
            return (0, false);
        }
        let mut ended = false;
        while !rest.is_empty() || (end && !ended) {
            let full = self.output.len() - self.taken >= MAX_OUTPUT;
            let Some(size) = state.frame(rest.len()).filter(|_| !full) else {
                state.wants_to_send = true;
                if full && !state.waits_for_output {
                    state.waits_for_output = true;
                    self.output_waiters.push(stream);
                }
                return (bytes.len() - rest.len(), false);
            };
            let (now, later) = rest.split_at(size);
            // An origin server of spdy-proxy ends with an empty frame, its proxy with the last frame of the body.
            ended = end && later.is_empty() && (!server || now.is_empty());
            write::data(&mut self.output, stream, ended, now);
            state.sent(size as u32);
            rest = later;
        }
        if ended {
            state.sends = false;
            self.remove_if_over(stream);
        }
        (bytes.len(), ended)
    }

    /// Resets a stream; no more events of it follow.
    pub(crate) fn reset(&mut self, stream: u32, code: Code) {
        let Some(state) = self.streams.get(&stream) else { return };
        if !state.is_over() {
            write::reset(&mut self.output, stream, code);
        }
        self.remove(stream);
        self.events.retain(|event| event.stream() != Some(stream));
    }

    /// Drops what the peer still sends on a stream.
    pub(crate) fn ignore(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.discards = true;
        let held = state.held as usize;
        self.events.retain(|event| event.stream() != Some(stream));
        self.release(stream, held);
    }

    /// Returns window to the peer, for bytes of a stream that were forwarded.
    pub(crate) fn release(&mut self, stream: u32, n: usize) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let n = state.release(n.try_into().unwrap_or(u32::MAX));
        if n > 0 && state.receives {
            self.send_window_update(stream, n);
        }
        self.send_window_update(0, n);
        self.remove_if_over(stream);
    }

    /// Sends a ping; [`Event::Pong`] follows.
    pub(crate) fn ping(&mut self) {
        let first = if self.role == Role::Client { 1 } else { 2 };
        write::ping(&mut self.output, first + self.pings * 2);
        self.pings = (self.pings + 1) & 0x3fff_ffff;
    }

    /// Sends GOAWAY: no new streams in either direction; open ones go on.
    pub(crate) fn close(&mut self) {
        if !self.closing && self.fault.is_none() {
            let last = self.last_opened();
            write::goaway(&mut self.output, last, 0);
        }
        self.closing = true;
    }

    /// Returns the number of open streams.
    #[cfg(any(test, fuzzing, feature = "__internals"))]
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    // Output.

    /// Returns the bytes to be sent next.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.taken..]
    }

    /// Removes bytes that were sent.
    pub(crate) fn consume(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.output.len());
        if self.taken == self.output.len() {
            self.output.clear();
            if self.streams.is_empty() {
                self.output.shrink_to(0);
            }
            self.taken = 0;
        } else if self.taken >= MAX_OUTPUT {
            self.output.drain(..self.taken);
            self.taken = 0;
        }
        if self.output().len() <= MAX_OUTPUT / 2 {
            for stream in std::mem::take(&mut self.output_waiters) {
                let Some(state) = self.streams.get_mut(&stream) else { continue };
                state.waits_for_output = false;
                if std::mem::take(&mut state.wants_to_send) {
                    self.events.push_back(Event::Writable { stream });
                }
            }
        }
    }

    // Internals.

    /// Returns the peer's newest stream, for GOAWAY.
    fn last_opened(&self) -> u32 {
        if self.role == Role::Server { self.newest } else { 0 }
    }

    fn send_window_update(&mut self, stream: u32, n: u32) {
        if n > 0 {
            write::window_update(&mut self.output, stream, n);
        }
    }

    /// Resets a stream on which the peer broke a rule.
    fn fail_stream(&mut self, stream: u32, code: Code) {
        write::reset(&mut self.output, stream, code);
        self.end_stream(stream, code);
    }

    /// Ends a stream and reports it to the user.
    fn end_stream(&mut self, stream: u32, code: Code) {
        if self.remove(stream) {
            self.events.push_back(Event::Reset { stream, code });
        }
    }

    /// Removes a stream that is over on both sides; window for what its reader still holds is returned later.
    fn remove_if_over(&mut self, stream: u32) {
        let over = |state: &Stream| state.is_over() && state.held == 0;
        if self.streams.get(&stream).is_some_and(over) {
            self.streams.remove(&stream);
        }
    }

    fn remove(&mut self, stream: u32) -> bool {
        let Some(state) = self.streams.remove(&stream) else { return false };
        self.send_window_update(0, state.held);
        true
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {} streams, {:?})", self.role, self.streams.len(), self.fault)
    }
}

fn fits(pairs: &[(String, Vec<u8>)]) -> bool {
    pairs.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>() <= MAX_HEAD
}

fn parts(pairs: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs.iter().map(|(name, value)| (name.as_bytes(), &value[..]))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
