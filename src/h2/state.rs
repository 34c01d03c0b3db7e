//! The state of a stream (RFC 9113 §5.1), in both directions.
//!
//! ```text
//!                            │ Receiving        │ Sending
//!   open                     │ Open             │ Owed, Body
//!   half-closed by the peer  │ Ended            │ Owed, Body
//!   half-closed by this side │ Open             │ Over
//!   closed                   │ Ended            │ Over
//!   closed by a fault        │ Closed           │ Over
//! ```
//! Streams that are idle, and those that the application has left, have no state.

use std::{collections::VecDeque, io::IoSlice};

use super::{
    frame::{ErrorCode, LARGEST},
    windows::RecvWindow,
};
use crate::h1::Headers;

/// What the peer may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    Open,
    /// Its message is complete.
    Ended,
    /// It does not matter any more.
    Closed,
}

/// What this side has still to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// The head of the response.
    Owed,
    /// DATA.
    Body,
    Over,
}

/// The end of a response, behind the bytes that were written.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing is known of it yet, or it was sent.
    None,
    Plain,
    Trailers(Box<Headers>),
}

/// A header block that has begun.
pub(super) struct Begun {
    pub(super) stream: u32,
    pub(super) ended: bool,
    /// It depends on itself (RFC 7540 §5.3.1).
    pub(super) circular: bool,
    pub(super) bytes: Vec<u8>,
}

/// How far this side has ended the connection (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goaway {
    No,
    /// The first GOAWAY was sent, and a ping behind it. Requests that are on their way are still accepted.
    Announced,
    /// The second one was sent: requests behind this stream are ignored.
    Final(u32),
}

/// Why a stream has ended before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The peer has reset it with this code.
    Reset(u32),
    /// This side has reset it.
    Own(ErrorCode),
    /// The peer has not begun with it (RFC 9113 §6.8): it may be tried elsewhere.
    Unseen,
    /// The connection has ended.
    Gone,
}

/// The head of a response that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReceivedHead {
    pub(crate) status: u16,
    pub(crate) fields: Headers,
    /// Nothing follows.
    pub(crate) ended: bool,
}

/// The state of a stream, until the application leaves it.
#[derive(Debug)]
pub(super) struct StreamState {
    /// 0 is the most urgent (RFC 9218).
    pub(super) urgency: u8,
    pub(super) recv: Receiving,
    pub(super) recv_window: RecvWindow,
    /// Bytes that have arrived, and that the application has not taken.
    pub(super) held: VecDeque<u8>,
    /// Bytes of the request's body that are left, if its length was announced.
    pub(super) left_in: Option<u64>,
    pub(super) trailers: Option<Box<Headers>>,
    /// The end of the request was reported.
    pub(super) end_reported: bool,
    pub(super) send: Sending,
    pub(super) send_window: i64,
    /// Bytes of the response's body that are left, if its length was announced.
    pub(super) left_out: Option<u64>,
    pub(super) end: End,
    /// The bytes in both directions belong to another protocol.
    pub(super) switched: bool,
    /// This side has ended, with a complete message or not.
    pub(super) finished: bool,
    /// Bytes of the request's body that came behind that.
    pub(super) unwanted: usize,
    /// Why the stream has ended before it was complete.
    pub(super) fault: Option<Fault>,
    /// Heads of responses that the application of a client has not taken: those with 1xx, and the final one.
    pub(super) heads: Vec<ReceivedHead>,
    /// The final one has arrived.
    pub(super) has_head: bool,
    /// The request of this client was HEAD: its response has no body, whatever its length says.
    pub(super) head_only: bool,
    /// It is among those that were woken.
    pub(super) woken: bool,
    /// Its place among those that wait for space, if it is there.
    pub(super) waits: Option<u64>,
    /// Bytes that it may write before others have their turn.
    pub(super) quota: usize,
}

impl StreamState {
    pub(super) fn new(urgency: u8, ended: bool, left_in: Option<u64>, recv_window: u32, send_window: i64) -> Self {
        Self {
            urgency,
            recv: if ended { Receiving::Ended } else { Receiving::Open },
            recv_window: RecvWindow::new(recv_window),
            held: VecDeque::new(),
            left_in,
            trailers: None,
            end_reported: false,
            send: Sending::Owed,
            send_window,
            left_out: None,
            end: End::None,
            switched: false,
            finished: false,
            unwanted: 0,
            fault: None,
            heads: Vec::new(),
            has_head: false,
            head_only: false,
            woken: false,
            waits: None,
            quota: LARGEST,
        }
    }

    /// Returns `true` until both sides have ended, or the stream was reset.
    pub(super) fn is_open(&self) -> bool {
        self.fault.is_none() && (self.recv == Receiving::Open || self.send != Sending::Over)
    }

    /// Records that the stream has ended. Returns the number of bytes that the application will not take.
    pub(super) fn fail(&mut self, fault: Fault) -> usize {
        self.fault = Some(fault);
        self.recv = Receiving::Closed;
        self.send = Sending::Over;
        self.end = End::None;
        std::mem::take(&mut self.held).len()
    }

    /// Like [`fail`](Self::fail), but keeps what has arrived of a response. A response that is complete stays so: a client
    /// must not discard it (RFC 9113 §8.1).
    pub(super) fn fail_response(&mut self, fault: Fault) -> usize {
        self.send = Sending::Over;
        if self.recv != Receiving::Ended {
            (self.recv, self.fault) = (Receiving::Closed, Some(fault));
        }
        0
    }

    /// Moves held bytes into `into`. Returns their number.
    pub(super) fn take_held(&mut self, into: &mut [u8]) -> usize {
        let n = self.held.len().min(into.len());
        let (first, second) = self.held.as_slices();
        let from_first = first.len().min(n);
        into[..from_first].copy_from_slice(&first[..from_first]);
        into[from_first..n].copy_from_slice(&second[..n - from_first]);
        self.remove_held(n);
        n
    }

    /// Removes held bytes.
    pub(super) fn remove_held(&mut self, n: usize) {
        self.held.drain(..n);
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
    }
}

/// Passes `n` bytes of `pieces`, from `from` on, to `put`.
pub(super) fn part_of(pieces: &[IoSlice<'_>], mut from: usize, mut n: usize, mut put: impl FnMut(&[u8])) {
    for piece in pieces {
        let skipped = from.min(piece.len());
        from -= skipped;
        let rest = &piece[skipped..];
        let part = &rest[..rest.len().min(n)];
        n -= part.len();
        if !part.is_empty() {
            put(part);
        }
    }
}
