//! The connection: verbs in, events out, and bytes on both sides.
//!
//! ```text
//!            client, P                                   server, C
//!   open ──SYN_STREAM──▶ ‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥▶ Opened
//!   data ──DATA, FIN───▶ ‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥▶ Data { end }
//!   Room ◀‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥◀─WINDOW_UPDATE── release
//!   Replied ◀‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥◀─SYN_REPLY── reply
//!   Data { end } ◀‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥◀─DATA, FIN── data
//!   reset ─RST_STREAM──▶ ‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥‥▶ Reset
//! ```
//!
//! A stream is forgotten when both of its ends have said FIN, when it is reset by whomever, and when the peer has gone
//! away without having seen it. What comes for it afterwards is dropped; verbs for it do nothing.

mod receive;

use std::collections::{HashMap, VecDeque};

use super::{
    Fault,
    frame::{Code, Decoder, Syn, write},
    head::{ReplyHead, RequestHead},
    headers::{Inflater, Stored},
    stream::Stream,
};

/// Output that waits, above which there is no more data, and no stream is opened.
const DATA: usize = 128 * 1024;
/// The longest head we send, in bytes of its names and values.
const HEAD: usize = 60 * 1024;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The proxy, which opens streams.
    Client,
    /// The origin, which answers them.
    Server,
}

/// What the peer did, or has made possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request; `end`: without a body.
    Opened { stream: u32, head: RequestHead, end: bool },
    /// The answer to one of ours; `end`: without a body.
    Replied { stream: u32, head: ReplyHead, end: bool },
    /// Some of a body; `end`: the last of it. What it has must be [released](Session::release), sooner or later.
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    /// More can be sent on a stream that had to wait.
    Room { stream: u32 },
    /// It is over, and nothing more comes of it: the peer's doing, or a rule it broke on this stream.
    Reset { stream: u32, code: Code },
    /// The peer takes no new streams.
    GoAway,
    /// It is alive.
    Pong,
}

impl Event {
    fn stream(&self) -> Option<u32> {
        match self {
            Self::Opened { stream, .. }
            | Self::Replied { stream, .. }
            | Self::Data { stream, .. }
            | Self::Room { stream }
            | Self::Reset { stream, .. } => Some(*stream),
            Self::GoAway | Self::Pong => None,
        }
    }
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// The connection takes no more streams: another one is needed.
    Gone,
    /// As many as may be are open, or too much waits to be sent: later.
    Busy,
    /// It cannot be written as a header block, or is too long for one.
    Unfit,
}

/// One end of a connection.
pub(crate) struct Session {
    role: Role,
    most: usize,
    decoder: Decoder,
    inflater: Inflater,
    stored: Stored,
    streams: HashMap<u32, Stream>,
    /// The newest stream, of whichever side opens them.
    newest: u32,
    /// The header block under way, and whose.
    syn: Option<(Syn, u32, bool)>,
    /// The data frame under way: whose, and whether it is the last.
    data: (u32, bool),
    events: VecDeque<Event>,
    output: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// Streams that wait for output to be taken.
    starved: Vec<u32>,
    pings: u32,
    /// The peer, or we ourselves, take no new streams.
    closing: bool,
    fault: Option<Fault>,
}

impl Session {
    /// `most`: streams open at once.
    pub(crate) fn new(role: Role, most: usize) -> Self {
        Self {
            role,
            most,
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
            starved: Vec::new(),
            pings: 0,
            closing: false,
            fault: None,
        }
    }

    /// What happened, in order.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // Verbs.

    /// Asks: the new stream's number; `end`: without a body.
    ///
    /// # Errors
    /// If that is not possible, or not now.
    pub(crate) fn open(&mut self, head: &RequestHead, end: bool) -> Result<u32, NotOpened> {
        if self.role == Role::Server || self.closing || self.fault.is_some() || self.newest >= 0x7fff_fffd {
            return Err(NotOpened::Gone);
        }
        if self.streams.len() >= self.most || self.output().len() >= DATA {
            return Err(NotOpened::Busy);
        }
        let pairs = head.pairs();
        if head.check().is_err() || !fits(&pairs) {
            return Err(NotOpened::Unfit);
        }
        let stream = if self.newest == 0 { 1 } else { self.newest + 2 };
        self.newest = stream;
        let stored = &mut self.stored;
        write::syn_stream(&mut self.output, stream, end, |out| stored.block(out, parts(&pairs)));
        self.streams.insert(stream, Stream::asked(end, head.method == "HEAD"));
        Ok(stream)
    }

    /// Answers; `end`: without a body. `false`: it cannot be written, or is too long: nothing was sent.
    pub(crate) fn reply(&mut self, stream: u32, head: &ReplyHead, end: bool) -> bool {
        let Some(it) = self.streams.get_mut(&stream) else { return true };
        let pairs = head.pairs();
        if self.role == Role::Client || it.replied || head.check().is_err() || !fits(&pairs) {
            return false;
        }
        it.replied = true;
        it.sends = !end;
        let stored = &mut self.stored;
        write::syn_reply(&mut self.output, stream, end, |out| stored.block(out, parts(&pairs)));
        self.settle(stream);
        true
    }

    /// Sends some of a body, as much as may be now: how much, and whether its `end` is sent too. If that is not all, an
    /// [`Event::Room`] says when to go on. All of it counts as sent if there is no such stream any more.
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> (usize, bool) {
        let mut rest = bytes;
        let server = self.role == Role::Server;
        let Some(it) = self.streams.get_mut(&stream).filter(|it| it.sends) else { return (bytes.len(), true) };
        if server && !it.replied {
            return (0, false);
        }
        let mut ended = false;
        while !rest.is_empty() || (end && !ended) {
            let full = self.output.len() - self.taken >= DATA;
            let Some(size) = it.frame(rest.len()).filter(|_| !full) else {
                it.waits = true;
                if full && !it.starves {
                    it.starves = true;
                    self.starved.push(stream);
                }
                return (bytes.len() - rest.len(), false);
            };
            let (now, later) = rest.split_at(size);
            // The originals' origins end with an empty frame, their proxies with the last of the body.
            ended = end && later.is_empty() && (!server || now.is_empty());
            write::data(&mut self.output, stream, ended, now);
            it.sent(size as u32);
            rest = later;
        }
        if ended {
            it.sends = false;
            self.settle(stream);
        }
        (bytes.len(), ended)
    }

    /// Ends a stream at once; nothing more is heard of it.
    pub(crate) fn reset(&mut self, stream: u32, code: Code) {
        let Some(it) = self.streams.get(&stream) else { return };
        if !it.is_over() {
            write::reset(&mut self.output, stream, code);
        }
        self.forget(stream);
        self.events.retain(|event| event.stream() != Some(stream));
    }

    /// Nobody wants what still comes on a stream: it is dropped as it comes.
    pub(crate) fn ignore(&mut self, stream: u32) {
        let Some(it) = self.streams.get_mut(&stream) else { return };
        it.mute = true;
        let held = it.held as usize;
        self.events.retain(|event| event.stream() != Some(stream));
        self.release(stream, held);
    }

    /// So much of what a stream received has been passed on: as much may come again.
    pub(crate) fn release(&mut self, stream: u32, n: usize) {
        let Some(it) = self.streams.get_mut(&stream) else { return };
        let n = it.release(n.try_into().unwrap_or(u32::MAX));
        if n > 0 && it.receives {
            self.pass(stream, n);
        }
        self.pass(0, n);
        self.settle(stream);
    }

    /// Asks whether the peer is alive: [`Event::Pong`] if it is.
    pub(crate) fn ping(&mut self) {
        let first = if self.role == Role::Client { 1 } else { 2 };
        write::ping(&mut self.output, first + self.pings * 2);
        self.pings = (self.pings + 1) & 0x3fff_ffff;
    }

    /// No new streams from now on, in either direction; those that are go on.
    pub(crate) fn close(&mut self) {
        if !self.closing && self.fault.is_none() {
            let last = self.last_opened();
            write::goaway(&mut self.output, last, 0);
        }
        self.closing = true;
    }

    /// How many streams are open.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    // Output.

    /// What is to be sent next.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.taken..]
    }

    /// So much of it is on its way.
    pub(crate) fn consume(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.output.len());
        if self.taken == self.output.len() {
            self.output.clear();
            if self.streams.is_empty() {
                self.output.shrink_to(0);
            }
            self.taken = 0;
        } else if self.taken >= DATA {
            self.output.drain(..self.taken);
            self.taken = 0;
        }
        if self.output().len() <= DATA / 2 {
            for stream in std::mem::take(&mut self.starved) {
                let Some(it) = self.streams.get_mut(&stream) else { continue };
                it.starves = false;
                if std::mem::take(&mut it.waits) {
                    self.events.push_back(Event::Room { stream });
                }
            }
        }
    }

    // Within.

    /// The newest stream of the peer's, for GOAWAY.
    fn last_opened(&self) -> u32 {
        if self.role == Role::Server { self.newest } else { 0 }
    }

    fn pass(&mut self, stream: u32, n: u32) {
        if n > 0 {
            write::window_update(&mut self.output, stream, n);
        }
    }

    /// The peer broke a rule on this stream: both sides are told.
    fn refuse(&mut self, stream: u32, code: Code) {
        write::reset(&mut self.output, stream, code);
        self.over(stream, code);
    }

    /// It is over, and not by its user.
    fn over(&mut self, stream: u32, code: Code) {
        if self.forget(stream) {
            self.events.push_back(Event::Reset { stream, code });
        }
    }

    /// Forgets a stream that is over on both sides; what its reader still holds is released when it is.
    fn settle(&mut self, stream: u32) {
        let over = |it: &Stream| it.is_over() && it.held == 0;
        if self.streams.get(&stream).is_some_and(over) {
            self.streams.remove(&stream);
        }
    }

    fn forget(&mut self, stream: u32) -> bool {
        let Some(it) = self.streams.remove(&stream) else { return false };
        self.pass(0, it.held);
        true
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {} streams, {:?})", self.role, self.streams.len(), self.fault)
    }
}

fn fits(pairs: &[(String, Vec<u8>)]) -> bool {
    pairs.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>() <= HEAD
}

fn parts(pairs: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs.iter().map(|(name, value)| (name.as_bytes(), &value[..]))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
