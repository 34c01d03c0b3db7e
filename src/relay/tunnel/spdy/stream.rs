//! One stream: what each side may still send, and which ends are open.
//!
//! ```text
//!   received:  room ◀──release── held by its reader ◀── data        65,536 in all
//!   sent:      window ◀── WINDOW_UPDATE;   in flight: up to 5 frames, if it is a server's
//! ```

use std::collections::VecDeque;

use super::frame::Code;

/// Bytes a side may send before it is given more; there is no agreeing on another number.
pub(super) const WINDOW: u32 = 65_536;
/// The most a window may come to.
const LARGEST: u32 = 0x7fff_ffff;
/// Data frames of one stream that an original proxy can be sent before it has passed any on.
const IN_FLIGHT: usize = 5;
/// The longest data frame we send; as the original.
const LONGEST: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Stream {
    /// Bytes we may send.
    window: u32,
    /// Bytes the peer may send.
    room: u32,
    /// Received, and not released.
    pub(super) held: u32,
    /// Our end: more may be sent.
    pub(super) sends: bool,
    /// The peer's end.
    pub(super) receives: bool,
    /// The reply's head was sent, or received.
    pub(super) replied: bool,
    /// Of a request by HEAD.
    head_only: bool,
    /// What is received has no meaning, and is released at once.
    pub(super) mute: bool,
    /// Body bytes to come, if that was said.
    left: Option<u64>,
    /// Sizes of data frames on the way; `None` where any number may be.
    flight: Option<VecDeque<u32>>,
    /// Bytes the peer has passed on of the first of them.
    passed: u32,
    /// Somebody waits to send.
    pub(super) waits: bool,
    /// It is among those that wait for output to be taken.
    pub(super) starves: bool,
}

impl Stream {
    /// One we opened; `head_only`: the reply will have no body.
    pub(super) fn asked(end: bool, head_only: bool) -> Self {
        Self {
            window: WINDOW,
            room: WINDOW,
            held: 0,
            sends: !end,
            receives: true,
            replied: false,
            head_only,
            mute: false,
            left: None,
            flight: None,
            passed: 0,
            waits: false,
            starves: false,
        }
    }

    /// One the peer opened, with a body of this length, if it said so.
    pub(super) fn asking(end: bool, length: Option<u64>) -> Result<Self, Code> {
        let mut stream = Self { flight: Some(VecDeque::new()), ..Self::asked(false, false) };
        stream.expect(end, length)?;
        Ok(stream)
    }

    /// The reply came.
    pub(super) fn reply(&mut self, end: bool, bodiless: bool, length: Option<u64>) -> Result<(), Code> {
        self.replied = true;
        self.mute = self.head_only || bodiless;
        self.expect(end, length.filter(|_| !self.mute))
    }

    fn expect(&mut self, end: bool, length: Option<u64>) -> Result<(), Code> {
        if end && length.is_some_and(|n| n > 0) {
            return Err(Code::PROTOCOL_ERROR);
        }
        self.left = length;
        self.receives = !end;
        Ok(())
    }

    /// A data frame comes, of so many bytes.
    pub(super) fn receive(&mut self, len: u32, end: bool) -> Result<(), Code> {
        if !self.receives {
            return Err(Code::STREAM_ALREADY_CLOSED);
        }
        if len > self.room {
            return Err(Code::FLOW_CONTROL_ERROR);
        }
        if let Some(left) = &mut self.left {
            // A body that is longer or shorter than it was said to be must not be taken for whole.
            *left = left.checked_sub(u64::from(len)).ok_or(Code::PROTOCOL_ERROR)?;
            if end && *left > 0 {
                return Err(Code::PROTOCOL_ERROR);
            }
        }
        self.room -= len;
        Ok(())
    }

    /// The peer says no more: whether that is right.
    pub(super) fn finish(&mut self) -> Result<(), Code> {
        if self.left.is_some_and(|n| n > 0) {
            return Err(Code::PROTOCOL_ERROR);
        }
        self.receives = false;
        Ok(())
    }

    /// Up to so many bytes have been passed on: how many were.
    pub(super) fn release(&mut self, n: u32) -> u32 {
        let n = n.min(self.held);
        self.held -= n;
        self.room += n;
        n
    }

    /// The peer has passed on what we sent.
    pub(super) fn update(&mut self, delta: u32) -> Result<(), Code> {
        self.window = self.window.checked_add(delta).filter(|n| *n <= LARGEST).ok_or(Code::FLOW_CONTROL_ERROR)?;
        let Some(flight) = &mut self.flight else { return Ok(()) };
        self.passed = self.passed.saturating_add(delta);
        while let Some(size) = flight.front().filter(|size| **size <= self.passed) {
            self.passed -= size;
            flight.pop_front();
        }
        if flight.is_empty() {
            self.passed = 0;
        }
        Ok(())
    }

    /// The size of the next data frame, of so many bytes to be sent; `None`: it has to wait.
    pub(super) fn frame(&self, offered: usize) -> Option<usize> {
        let flies = self.flight.as_ref().is_some_and(|flight| flight.len() >= IN_FLIGHT);
        let size = offered.min(LONGEST).min(self.window as usize);
        (!flies && (size > 0 || offered == 0)).then_some(size)
    }

    /// A data frame is sent.
    pub(super) fn sent(&mut self, size: u32) {
        self.window -= size;
        if let Some(flight) = &mut self.flight {
            flight.push_back(size);
        }
    }

    /// Both ends are closed.
    pub(super) fn is_over(&self) -> bool {
        !self.sends && !self.receives
    }
}
