//! HTTP/2 on an upgraded connection: the machine in `h2`, and what moves its bytes.
//!
//! ```text
//!            ┌──────────────────── Pump::turn ────────────────────┐
//!   io.rx ──▶│ Link::read ──▶ h2::Connection ──▶ streams           │
//!            │                     │  ▲           ▲ │              │
//!   io.tx ◀──│ Link::write ◀───────┘  └─────────────┘              │
//!            └─────────────────────────────────────────────────────┘
//! ```
//! Either end of a tunnel has a [`Link`], and is the [`Codec`](super::pump::Codec) around it. The link takes no frames
//! while the peer does not take the output.

use std::fmt;

use uncork::{ReadState, Rx, Tx};

use crate::h2::{
    connection::{Connection, Event},
    frame::{HEAD as FRAME_HEAD, Head},
    settings::{Options, Side},
};

/// The key with which the connection itself is woken. Others are numbers of streams.
pub(super) const CONNECTION: usize = usize::MAX;

/// The number of streams reset by this side that are remembered until the peer has responded to a later ping. Frames
/// that it sent on them before it knew are dropped. On a forgotten stream such a frame is a stream error. The number is
/// what clients can reset in that time; each address has its share.
const RESETS: usize = 16_384;

/// Limit of a request's head at an origin server, in bytes as HTTP/2 counts them (RFC 9113 §6.5.2). A much larger one
/// ends the connection, so the proxy sends none of these.
pub(super) const HEAD: u32 = 64 * 1024;

/// Bytes of output from which on streams wait. With the heads of frames it fits into 64 KiB.
const OUTPUT: usize = 60 * 1024;

/// Returns the options of one side of a tunnel. `window`: bytes of one body that may be in flight; it does not grow.
/// `head`: bytes of a head.
///
/// Faults of streams do not end the connection: what one client does must not end the streams of others.
pub(super) fn options(side: Side, streams: u32, window: u32, connection_window: u32, head: usize) -> Options {
    Options {
        side,
        streams,
        window,
        largest_window: window,
        connection_window,
        head,
        // Its bytes are the limit.
        fields: usize::MAX,
        output: OUTPUT,
        faults: u32::MAX,
        remembered: RESETS,
    }
}

/// A connection of HTTP/2, with the input that is not a whole frame yet.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// A frame that has begun to arrive. So no limit of the input is too small for a frame.
    begun: Vec<u8>,
    received: u64,
    /// The state behind the last byte that was taken.
    state: ReadState,
}

impl Link {
    /// Creates one side. Its SETTINGS are in the output.
    pub(super) fn new(options: &Options) -> Self {
        Self { connection: Connection::new(options), begun: Vec::new(), received: 0, state: ReadState::Open }
    }

    /// Takes frames until a request has begun, or there are no more. Returns also whether that changed anything.
    pub(super) fn read(&mut self, rx: &mut Rx<'_>) -> (bool, Event) {
        let before = (self.received, self.state);
        let mut event = Event::Pending;
        while self.takes_input() {
            let awaited = self.awaited();
            if awaited > 0 {
                let n = awaited.min(rx.bytes().len());
                self.begun.extend_from_slice(&rx.bytes()[..n]);
                self.consume(rx, n);
                if n < awaited {
                    break;
                }
                let (n, found) = self.connection.receive(&self.begun);
                self.begun.drain(..n);
                if self.begun.is_empty() {
                    self.begun = Vec::new();
                }
                event = found;
            } else {
                let (n, found) = self.connection.receive(rx.bytes());
                self.consume(rx, n);
                event = found;
                if event == Event::Pending {
                    // The rest of a frame, or of its head.
                    let n = rx.bytes().len().min(FRAME_HEAD);
                    self.begun.extend_from_slice(&rx.bytes()[..n]);
                    self.consume(rx, n);
                }
            }
            if event != Event::Pending || rx.bytes().is_empty() {
                break;
            }
        }
        if event == Event::Pending && rx.bytes().is_empty() {
            self.state = rx.state();
        }
        (before != (self.received, self.state), event)
    }

    /// Returns how many bytes are needed to go on with the frame that has begun. 0: none has.
    fn awaited(&self) -> usize {
        let whole = match Head::parse(&self.begun) {
            _ if self.begun.is_empty() => 0,
            None => FRAME_HEAD,
            Some(head) => FRAME_HEAD + head.len,
        };
        whole - self.begun.len()
    }

    fn consume(&mut self, rx: &mut Rx<'_>, n: usize) {
        rx.consume(n);
        self.received += n as u64;
    }

    fn takes_input(&self) -> bool {
        self.connection.error().is_none() && self.connection.takes_input()
    }

    /// Returns `true` if more input can be taken.
    pub(super) fn wants_input(&self) -> bool {
        self.state == ReadState::Open && self.takes_input()
    }

    /// Sends output. Returns `true` if that moved any bytes.
    pub(super) fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        self.connection.drain(|bytes| tx.write(bytes))
    }

    /// Moves the woken streams into `streams`, which is empty, in the order in which they are driven. `keys`: those
    /// that pipes have woken.
    pub(super) fn take_woken(&mut self, keys: &mut Vec<usize>, streams: &mut Vec<u32>) {
        for key in keys.drain(..) {
            if let Ok(stream) = u32::try_from(key) {
                self.connection.wake(stream);
            }
        }
        self.connection.take_woken(streams);
        if streams.is_empty() && self.connection.wake_waiting() {
            self.connection.take_woken(streams);
        }
    }

    /// Frees the buffers that are empty: an idle connection needs none.
    pub(super) fn rest(&mut self) {
        self.connection.rest();
        self.connection.rest_output();
    }

    /// Returns the number of bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Returns the end of the peer's side, if it has ended: without an error, or with the text of one.
    pub(super) fn ended(&self) -> Option<Result<(), String>> {
        if let Some(code) = self.connection.error() {
            return Some(Err(format!("the peer has broken a rule of HTTP/2 ({code:?})")));
        }
        Some(match (self.state, self.connection.peer_error()) {
            (ReadState::Open, _) => return None,
            (ReadState::Eof, Some(code @ 1..)) => Err(format!("the peer has ended it with code {code} of HTTP/2")),
            (ReadState::Eof, _) if self.begun.is_empty() => Ok(()),
            _ => Err("it was truncated".to_owned()),
        })
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("received", &self.received).field("state", &self.state).finish_non_exhaustive()
    }
}
