//! A connection: the frames that arrive, and what they change.
//!
//! ```text
//!   bytes ─▶ receive ─┬─ HEADERS ─▶ hpack ─▶ Event::Request, or trailers
//!                     ├─ DATA ─▶ held bytes of a stream        (streams: what the application does with it)
//!                     ├─ SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, GOAWAY, PRIORITY
//!                     └─ a rule is broken ─▶ RST_STREAM, or GOAWAY
//!   out ◀─ frames of the streams, and of the connection
//! ```
//! Frames are taken out of the input as a whole, except for DATA: the input holds one of 16 KiB, so no frame is copied
//! before it is understood.

use std::time::Instant;

use super::{
    PREFACE,
    budget::{Budget, Refill},
    fields::Fields,
    frame::{self, ErrorCode, GREATEST, HEAD, Head, LARGEST},
    hpack::{Decoder, Encoder},
    resets::Resets,
    settings::{self, Options, Side},
    state::{Begun, Goaway, Receiving, StreamState},
    windows::{RecvWindow, Windows},
};
use crate::base::out::Out;

/// SETTINGS of the peer at once, without ACK. One that measures its windows changes them ten or twenty times.
const MOST_SETTINGS: u32 = 1000;
/// Streams that a client may have open before the server has said how many.
const BEFORE_SETTINGS: u32 = 100;
/// The most bytes of a block that an idle connection keeps for the next one.
const SMALL: usize = 256;

/// What [`Connection::receive`] has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// More input is needed, or the connection is over.
    Pending,
    /// A request has begun. Its fields are in [`Connection::take_fields`].
    Request {
        stream: u32,
        /// It has no body.
        ended: bool,
    },
}

/// One side of a connection: the server, or the client.
pub(crate) struct Connection {
    pub(super) side: Side,
    /// Frames to be sent.
    pub(super) out: Out,
    /// Bytes of `out` from which on streams wait.
    pub(super) output_limit: usize,
    pub(super) encoder: Encoder,
    /// The header block that is written. Kept for its allocation.
    pub(super) block: Vec<u8>,
    pub(super) decoder: Decoder,
    pub(super) fields: Fields,
    /// The header block that has begun, and is continued.
    pub(super) begun: Option<Box<Begun>>,
    /// The DATA frame that is arriving.
    data: Option<Data>,
    /// Bytes of the preface that are awaited.
    preface: u8,
    /// A frame has ended since the last look, outside of a header block.
    frame_ended: bool,
    /// Part of a frame is left in the input.
    partial: bool,
    /// The peer's SETTINGS have arrived, which come first.
    has_settings: bool,
    settings_budget: Budget,
    /// SETTINGS that the client has not acknowledged.
    pub(super) unacknowledged: u32,
    /// The most bytes of a header block.
    pub(super) block_limit: usize,
    /// A header block was longer: the next call of `receive` ends the connection.
    pub(super) is_lost: bool,
    /// In order of their numbers.
    pub(super) streams: Vec<(u32, Box<StreamState>)>,
    /// The number of streams that are not closed, and the most that there may be.
    pub(super) open: u32,
    pub(super) open_limit: u32,
    /// The last stream that the client has begun.
    pub(super) last: u32,
    pub(super) resets: Resets,
    pub(super) fault_budget: Budget,
    refill: Refill,
    /// The streams that were woken.
    pub(super) woken: Vec<u32>,
    /// The streams that wait for space in the output or for the connection's window, each with its urgency and the order
    /// of waiting.
    pub(super) waiting: std::collections::BTreeSet<(u8, u64, u32)>,
    /// The order of the last one that began to wait.
    pub(super) turn: u64,
    /// Bytes that this side may send, on the connection and on a new stream.
    pub(super) send_window: i64,
    pub(super) initial_send_window: i64,
    pub(super) recv_window: RecvWindow,
    pub(super) windows: Windows,
    /// A ping that was sent, and not answered.
    pub(super) ping: Option<[u8; 8]>,
    pub(super) goaway: Goaway,
    /// The peer has half-closed the connection: no frames come any more.
    pub(super) half_closed: bool,
    /// The peer begins no more streams, or accepts none behind this one, for the reason of this code.
    pub(super) peer_goaway: Option<(u32, u32)>,
    /// The peer accepts extended CONNECT (RFC 8441 §3).
    pub(super) connect_protocol: bool,
    pub(super) error: Option<ErrorCode>,
}

#[derive(Clone, Copy)]
struct Data {
    stream: u32,
    left: usize,
    padding: usize,
    ended: bool,
}

/// Nothing, or the code of a connection error.
pub(super) type Checked = Result<(), ErrorCode>;
/// What a frame has brought, or the code of a connection error.
pub(super) type Handled = Result<Option<Event>, ErrorCode>;

impl Connection {
    /// Creates one side. Its SETTINGS are in the output.
    pub(crate) fn new(options: &Options) -> Self {
        let mut out = Out::default();
        settings::write_first(&mut out, options);
        let windows = Windows::new(options);
        Self {
            side: options.side,
            out,
            output_limit: options.output,
            encoder: Encoder::new(),
            block: Vec::new(),
            decoder: Decoder::new(),
            fields: Fields::new(options.head, options.fields),
            begun: None,
            data: None,
            preface: if options.side == Side::Server { PREFACE.len() as u8 } else { 0 },
            frame_ended: false,
            partial: false,
            has_settings: false,
            settings_budget: Budget::new(MOST_SETTINGS),
            unacknowledged: 1,
            // A block is shorter than what it stands for, except for a client that writes it in a strange way.
            block_limit: options.head.saturating_mul(4),
            is_lost: false,
            streams: Vec::new(),
            open: 0,
            open_limit: if options.side == Side::Server { options.streams } else { BEFORE_SETTINGS },
            last: 0,
            resets: Resets::new(options.remembered),
            fault_budget: Budget::new(options.faults),
            refill: Refill::default(),
            woken: Vec::new(),
            waiting: std::collections::BTreeSet::new(),
            turn: 0,
            send_window: settings::DEFAULT_WINDOW,
            initial_send_window: settings::DEFAULT_WINDOW,
            recv_window: RecvWindow::new(windows.connection()),
            windows,
            ping: None,
            goaway: Goaway::No,
            half_closed: false,
            peer_goaway: None,
            connect_protocol: false,
            error: None,
        }
    }

    /// Notes the time, before frames are taken: what the peer may not do too often, it may do again after a while.
    pub(crate) fn set_now(&mut self, now: Instant) {
        let n = self.refill.due(now);
        if n > 0 {
            self.settings_budget.give(n);
            self.fault_budget.give(n);
        }
    }

    /// Takes frames from the front of `bytes` until a request has begun. Returns how many bytes it took.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> (usize, Event) {
        let mut rest = bytes;
        let event = loop {
            if self.is_lost {
                self.go_away(ErrorCode::EnhanceYourCalm);
            }
            if self.error.is_some() {
                break Event::Pending;
            }
            match self.take(&mut rest) {
                Ok(Some(Event::Pending)) => break Event::Pending,
                Ok(Some(event)) => break event,
                Ok(None) => {}
                Err(code) => self.go_away(code),
            }
        };
        self.partial = event == Event::Pending && !rest.is_empty();
        (bytes.len() - rest.len(), event)
    }

    /// Takes a frame, or a piece of DATA. `Pending`: it is not complete.
    fn take(&mut self, rest: &mut &[u8]) -> Handled {
        if self.data.is_some() {
            return self.take_data(rest);
        }
        if self.preface > 0 {
            return self.take_preface(rest);
        }
        let Some(head) = Head::parse(rest) else { return Ok(Some(Event::Pending)) };
        self.check(&head)?;
        if head.kind == frame::DATA {
            let padded = head.has(frame::PADDED);
            if padded && head.len > 0 && rest.len() == HEAD {
                return Ok(Some(Event::Pending));
            }
            let padding = if padded { rest.get(HEAD).copied() } else { None };
            *rest = &rest[HEAD + usize::from(padded && head.len > 0)..];
            self.begin_data(&head, padding)?;
            return Ok(None);
        }
        let Some(payload) = rest.get(HEAD..HEAD + head.len) else { return Ok(Some(Event::Pending)) };
        *rest = &rest[HEAD + head.len..];
        self.frame_ended = true;
        self.handle(&head, payload)
    }

    fn take_preface(&mut self, rest: &mut &[u8]) -> Handled {
        let awaited = &PREFACE[PREFACE.len() - usize::from(self.preface)..];
        let n = awaited.len().min(rest.len());
        if rest[..n] != awaited[..n] {
            return Err(ErrorCode::Protocol);
        }
        *rest = &rest[n..];
        self.preface -= n as u8;
        Ok((n == 0).then_some(Event::Pending))
    }

    /// Checks what the head of a frame alone can tell.
    fn check(&mut self, head: &Head) -> Checked {
        if !self.has_settings && (head.kind != frame::SETTINGS || head.has(frame::ACK)) {
            return Err(ErrorCode::Protocol);
        }
        if let Some(begun) = &self.begun {
            // RFC 9113 §4.3: no other frame comes between those of a header block.
            if head.kind != frame::CONTINUATION || head.stream != begun.stream {
                return Err(ErrorCode::Protocol);
            }
        }
        if head.len > LARGEST {
            return Err(ErrorCode::FrameSize);
        }
        let fits = match head.kind {
            frame::RST_STREAM | frame::WINDOW_UPDATE => head.len == 4,
            frame::SETTINGS if head.has(frame::ACK) => head.len == 0,
            frame::SETTINGS => head.len.is_multiple_of(6),
            frame::PING => head.len == 8,
            frame::GOAWAY => head.len >= 8,
            _ => true,
        };
        if !fits {
            return Err(ErrorCode::FrameSize);
        }
        let belongs = match head.kind {
            frame::DATA | frame::HEADERS | frame::PRIORITY | frame::RST_STREAM | frame::CONTINUATION => {
                head.stream != 0
            }
            frame::SETTINGS | frame::PING | frame::GOAWAY => head.stream == 0,
            _ => true,
        };
        // RFC 9113 §5.1: of an idle stream, only these may come.
        let begins = matches!(head.kind, frame::HEADERS | frame::PRIORITY | frame::CONTINUATION);
        let is_known =
            begins || !self.is_idle(head.stream) || head.kind > frame::CONTINUATION || self.is_ignored(head.stream);
        if belongs && is_known { Ok(()) } else { Err(ErrorCode::Protocol) }
    }

    fn handle(&mut self, head: &Head, payload: &[u8]) -> Handled {
        match head.kind {
            frame::HEADERS => return self.begin_block(head, payload),
            frame::CONTINUATION => return self.continue_block(head, payload),
            frame::PRIORITY if head.len != 5 => self.end_stream(head.stream, ErrorCode::FrameSize)?,
            frame::PRIORITY if frame::number(payload) & GREATEST == head.stream => self.blame(head.stream)?,
            frame::RST_STREAM => self.handle_reset(head.stream, frame::number(payload))?,
            frame::SETTINGS if head.has(frame::ACK) => self.handle_ack()?,
            frame::SETTINGS => self.handle_settings(payload)?,
            frame::PUSH_PROMISE => return Err(ErrorCode::Protocol),
            frame::PING => self.handle_ping(head, payload),
            frame::WINDOW_UPDATE => self.handle_window_update(head.stream, frame::number(payload) & GREATEST)?,
            frame::GOAWAY => self.handle_goaway(frame::number(payload) & GREATEST, frame::number(&payload[4..])),
            // Unknown frames have no meaning (§4.1).
            _ => {}
        }
        Ok(None)
    }

    // DATA.

    fn begin_data(&mut self, head: &Head, padding: Option<u8>) -> Checked {
        let padding = match (head.has(frame::PADDED), padding) {
            (true, None) => return Err(ErrorCode::FrameSize),
            (true, Some(padding)) if usize::from(padding) >= head.len => return Err(ErrorCode::Protocol),
            (_, padding) => padding.map_or(0, usize::from),
        };
        if !self.recv_window.take(head.len) {
            return Err(ErrorCode::FlowControl);
        }
        let around = padding + usize::from(head.has(frame::PADDED));
        // Padding counts, and is received at once.
        self.release_connection(around);
        self.data =
            Some(Data { stream: head.stream, left: head.len - around, padding, ended: head.has(frame::END_STREAM) });
        let open = Self::find(&mut self.streams, head.stream).filter(|state| state.recv == Receiving::Open);
        let Some(state) = open else {
            let late = self.resets.contains(head.stream);
            return if late { Ok(()) } else { self.end_stream(head.stream, ErrorCode::StreamClosed) };
        };
        if !state.recv_window.take(head.len) {
            return self.end_stream(head.stream, ErrorCode::FlowControl);
        }
        if self.side == Side::Client && !state.has_head {
            return self.blame(head.stream);
        }
        state.recv_window.release(around);
        if let Some(increment) = state.recv_window.update(self.windows.window) {
            frame::write_window_update(&mut self.out, head.stream, increment);
        }
        let n = (head.len - around) as u64;
        if let Some(left) = &mut state.left_in {
            // A body that is longer or shorter than it was announced is malformed (RFC 9113 §8.1.1).
            let fits = n <= *left && !(head.has(frame::END_STREAM) && n < *left);
            *left = left.saturating_sub(n);
            if !fits {
                return self.blame(head.stream);
            }
        }
        Ok(())
    }

    fn take_data(&mut self, rest: &mut &[u8]) -> Handled {
        let Some(mut data) = self.data.take() else { return Ok(None) };
        let n = data.left.min(rest.len());
        if n > 0 {
            let (piece, after) = rest.split_at(n);
            *rest = after;
            data.left -= n;
            match Self::find(&mut self.streams, data.stream) {
                Some(state) if state.recv == Receiving::Open => {
                    state.held.extend(piece);
                    self.wake(data.stream);
                }
                // Of a stream that has ended.
                _ => self.release_connection(n),
            }
        }
        let skipped = if data.left == 0 { data.padding.min(rest.len()) } else { 0 };
        *rest = &rest[skipped..];
        data.padding -= skipped;
        if data.left > 0 || data.padding > 0 {
            self.data = Some(data);
            return Ok(rest.is_empty().then_some(Event::Pending));
        }
        self.frame_ended = true;
        if data.ended {
            self.end_input(data.stream);
        }
        Ok(None)
    }

    // The other frames.

    fn handle_ack(&mut self) -> Checked {
        self.unacknowledged = self.unacknowledged.checked_sub(1).ok_or(ErrorCode::Protocol)?;
        Ok(())
    }

    #[cold]
    fn handle_settings(&mut self, payload: &[u8]) -> Checked {
        self.settings_budget.take()?;
        let is_first = !std::mem::replace(&mut self.has_settings, true);
        let changed = settings::read(payload)?;
        if let Some(bytes) = changed.table {
            for limit in bytes {
                self.encoder.set_limit(limit);
            }
        }
        self.connect_protocol |= changed.connect_protocol;
        if self.side == Side::Client {
            // RFC 9113 §6.5.2: without a value there is no limit.
            let unsaid = if is_first { u32::MAX } else { self.open_limit };
            self.open_limit = changed.streams.unwrap_or(unsaid);
        }
        if let Some(window) = changed.window {
            self.change_windows(i64::from(window))?;
        }
        frame::write_settings_ack(&mut self.out);
        Ok(())
    }

    /// Returns the bytes that are left of a DATA frame that is arriving. Its padding counts as received.
    #[cfg(any(test, fuzzing, feature = "__internals"))]
    pub(super) fn data_left(&self) -> usize {
        self.data.map_or(0, |data| data.left)
    }

    // State.

    /// Returns the code with which the connection has ended.
    pub(crate) fn error(&self) -> Option<ErrorCode> {
        self.error
    }

    /// Returns `true` if no request can come any more, and none is in progress.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.goaway, Goaway::Final(_)) && self.streams.is_empty()
    }

    /// Returns `true` if streams were woken.
    pub(crate) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Returns `true` if the client owes the rest of a frame or of a header block. The rest of DATA does not count: the
    /// request's own timeout runs.
    pub(crate) fn is_within(&self) -> bool {
        self.preface > 0 || self.begun.is_some() || self.partial && self.data.is_none()
    }

    /// Returns `true` if the request that has begun is the last one: its head was too long to be decoded. Its response
    /// must be written before the next call of [`receive`](Self::receive).
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Returns `true` if a frame has ended since the last call, outside of a header block.
    pub(crate) fn has_frame_ended(&mut self) -> bool {
        self.begun.is_none() && std::mem::take(&mut self.frame_ended)
    }

    /// Frees what an idle connection does not need.
    pub(crate) fn rest(&mut self) {
        self.decoder.rest();
        self.fields.rest();
        if self.block.capacity() > SMALL {
            self.block = Vec::new();
        }
        self.streams.shrink_to(4);
        self.woken.shrink_to(8);
    }

    /// Lends it the connection's output for a turn. What was written before, between two turns, comes behind it.
    pub(crate) fn swap_out(&mut self, out: &mut Out) {
        if let Some(bytes) = self.out.only_piece().filter(|bytes| !bytes.is_empty()) {
            out.push(bytes);
            self.out.clear();
        }
        std::mem::swap(&mut self.out, out);
    }

    /// Gives the output back at the end of a turn.
    pub(crate) fn return_out(&mut self, out: &mut Out) {
        std::mem::swap(&mut self.out, out);
    }
}
