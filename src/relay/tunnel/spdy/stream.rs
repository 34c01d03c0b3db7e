//! One stream: how much each side may still send, and which ends are open.
//!
//! ```text
//!   received:  receive window ◀──release── held by its reader ◀── data        65,536 in all
//!   sent:      send window ◀── WINDOW_UPDATE;   in flight: up to 5 frames, if it is a server's
//! ```

use std::collections::VecDeque;

use super::frame::Code;

/// The initial window in bytes. SPDY here cannot negotiate another one.
pub(super) const WINDOW: u32 = 65_536;
/// The largest window.
const MAX_WINDOW: u32 = 0x7fff_ffff;
/// Data frames of one stream that may be in flight to a spdy-proxy.
const MAX_IN_FLIGHT: usize = 5;
/// The longest data frame that is sent, like in spdy-proxy.
const MAX_FRAME: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Stream {
    /// Bytes that this side may send.
    send_window: u32,
    /// Bytes that the peer may send.
    receive_window: u32,
    /// Bytes received, and not released.
    pub(super) held: u32,
    /// This side's end: more may be sent.
    pub(super) sends: bool,
    /// The peer's end: more may come.
    pub(super) receives: bool,
    /// The head of the reply was sent, or received.
    pub(super) replied: bool,
    /// The request is a HEAD.
    head_only: bool,
    /// Received data is dropped, and released at once.
    pub(super) discards: bool,
    /// The part of the declared length that is left.
    left: Option<u64>,
    /// Sizes of data frames in flight; `None` if their number is not limited.
    in_flight: Option<VecDeque<u32>>,
    /// Bytes of the first of them for which the peer has sent WINDOW_UPDATE.
    acknowledged: u32,
    /// The user waits to send.
    pub(super) wants_to_send: bool,
    /// The stream is among those that wait for output to be taken.
    pub(super) waits_for_output: bool,
}

impl Stream {
    /// Creates a stream that this side opens; `head_only`: the reply has no body.
    pub(super) fn opened(end: bool, head_only: bool) -> Self {
        Self {
            send_window: WINDOW,
            receive_window: WINDOW,
            held: 0,
            sends: !end,
            receives: true,
            replied: false,
            head_only,
            discards: false,
            left: None,
            in_flight: None,
            acknowledged: 0,
            wants_to_send: false,
            waits_for_output: false,
        }
    }

    /// Creates a stream that the peer opens, with the declared length of its body.
    pub(super) fn accepted(end: bool, length: Option<u64>) -> Result<Self, Code> {
        let mut stream = Self { in_flight: Some(VecDeque::new()), ..Self::opened(false, false) };
        stream.expect(end, length)?;
        Ok(stream)
    }

    /// Handles the head of the reply.
    pub(super) fn reply(&mut self, end: bool, bodiless: bool, length: Option<u64>) -> Result<(), Code> {
        self.replied = true;
        self.discards = self.head_only || bodiless;
        self.expect(end, length.filter(|_| !self.discards))
    }

    fn expect(&mut self, end: bool, length: Option<u64>) -> Result<(), Code> {
        if end && length.is_some_and(|n| n > 0) {
            return Err(Code::PROTOCOL_ERROR);
        }
        self.left = length;
        self.receives = !end;
        Ok(())
    }

    /// Handles a data frame of this many bytes.
    pub(super) fn receive(&mut self, len: u32, end: bool) -> Result<(), Code> {
        if !self.receives {
            return Err(Code::STREAM_ALREADY_CLOSED);
        }
        if len > self.receive_window {
            return Err(Code::FLOW_CONTROL_ERROR);
        }
        if let Some(left) = &mut self.left {
            // A body that is longer or shorter than its declared length must not count as complete.
            *left = left.checked_sub(u64::from(len)).ok_or(Code::PROTOCOL_ERROR)?;
            if end && *left > 0 {
                return Err(Code::PROTOCOL_ERROR);
            }
        }
        self.receive_window -= len;
        Ok(())
    }

    /// Handles the peer's FIN. Returns an error if the body is shorter than declared.
    pub(super) fn finish(&mut self) -> Result<(), Code> {
        if self.left.is_some_and(|n| n > 0) {
            return Err(Code::PROTOCOL_ERROR);
        }
        self.receives = false;
        Ok(())
    }

    /// Releases up to `n` received bytes. Returns how many.
    pub(super) fn release(&mut self, n: u32) -> u32 {
        let n = n.min(self.held);
        self.held -= n;
        self.receive_window += n;
        n
    }

    /// Handles WINDOW_UPDATE: the peer has forwarded bytes.
    pub(super) fn update(&mut self, delta: u32) -> Result<(), Code> {
        self.send_window =
            self.send_window.checked_add(delta).filter(|n| *n <= MAX_WINDOW).ok_or(Code::FLOW_CONTROL_ERROR)?;
        let Some(flight) = &mut self.in_flight else { return Ok(()) };
        self.acknowledged = self.acknowledged.saturating_add(delta);
        while let Some(size) = flight.front().filter(|size| **size <= self.acknowledged) {
            self.acknowledged -= size;
            flight.pop_front();
        }
        if flight.is_empty() {
            self.acknowledged = 0;
        }
        Ok(())
    }

    /// Returns the size of the next data frame, for this many bytes; `None`: it must wait.
    pub(super) fn frame(&self, offered: usize) -> Option<usize> {
        let is_full = self.in_flight.as_ref().is_some_and(|flight| flight.len() >= MAX_IN_FLIGHT);
        let size = offered.min(MAX_FRAME).min(self.send_window as usize);
        (!is_full && (size > 0 || offered == 0)).then_some(size)
    }

    /// Notes a data frame that was sent.
    pub(super) fn sent(&mut self, size: u32) {
        self.send_window -= size;
        if let Some(flight) = &mut self.in_flight {
            flight.push_back(size);
        }
    }

    /// Returns `true` if both ends are closed.
    pub(super) fn is_over(&self) -> bool {
        !self.sends && !self.receives
    }
}
