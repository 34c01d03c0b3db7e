//! HTTP/1.1 on a tunnel's connection: what was received and not read yet, and what was written and not sent yet.
//!
//! ```text
//!   io.rx ──▶ Input ──▶ ResponseReader (P), parse_request (C)
//!   io.tx ◀── Output ◀── heads, and bodies with their framing
//! ```
//! Both are bounded. A full one stops its side, from end to end.

use bytes::{Buf, BytesMut};
use uncork::{
    PipeOut, ReadState, Rx, Tx,
    h1::{
        HeadLimits,
        chunked::BodyLimits,
        write::{CHUNK_END, chunk_head},
    },
};

/// Limits of a head, as large as those that HTTP/2 allows here.
pub(super) const HEAD: HeadLimits = HeadLimits { head: 64 * 1024, target: 64 * 1024, fields: 256 };
/// Limits of a chunked body.
pub(super) const BODY: BodyLimits = BodyLimits { body: u64::MAX, trailers: 16 * 1024, fields: 256 };

/// Bytes that are received at most before they are read: more than the largest head.
const INPUT: usize = HEAD.head + 8 * 1024;
/// Bytes of bodies that wait to be sent.
const OUTPUT: usize = 64 * 1024;

/// The host in the proxy's own requests: for the credential, and to find out whether the origin server is there.
pub(super) const OWN_HOST: &str = "origin.invalid";

/// Bytes that arrive, and end.
pub(super) trait Source {
    fn bytes(&mut self) -> &[u8];

    fn consume(&mut self, n: usize);

    /// Returns `true` if the bytes have ended, and are complete.
    fn is_finished(&mut self) -> bool;

    /// Returns `true` if the bytes have ended before their end.
    fn is_truncated(&mut self) -> bool;
}

impl Source for PipeOut {
    fn bytes(&mut self) -> &[u8] {
        PipeOut::bytes(self)
    }

    fn consume(&mut self, n: usize) {
        PipeOut::consume(self, n);
    }

    fn is_finished(&mut self) -> bool {
        PipeOut::is_finished(self)
    }

    fn is_truncated(&mut self) -> bool {
        PipeOut::is_truncated(self)
    }
}

/// What was received on the connection.
#[derive(Debug)]
pub(super) struct Input {
    bytes: BytesMut,
    state: ReadState,
    /// The connection has more bytes, for which there was no space.
    left_some: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), state: ReadState::Open, left_some: false }
    }

    /// Takes bytes of the connection. Returns `true` if that changed anything.
    pub(super) fn fill(&mut self, rx: &mut Rx<'_>) -> bool {
        let n = rx.bytes().len().min(INPUT.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(&rx.bytes()[..n]);
        rx.consume(n);
        // Bytes are left in the connection that no event reports again.
        self.left_some = !rx.bytes().is_empty();
        let before = self.state;
        if rx.bytes().is_empty() {
            self.state = rx.state();
        }
        n > 0 || self.state != before
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < INPUT
    }

    /// Returns `true` if no more bytes arrive. Some may be left.
    pub(super) fn has_ended(&self) -> bool {
        self.state != ReadState::Open
    }

    /// Returns `true` if [`fill`](Self::fill) must be called again, since there is space for what it has left.
    pub(super) fn must_fill(&self) -> bool {
        self.left_some && self.has_room()
    }
}

impl Source for Input {
    fn bytes(&mut self) -> &[u8] {
        &self.bytes
    }

    fn consume(&mut self, n: usize) {
        self.bytes.advance(n);
        if self.bytes.is_empty() {
            // An idle connection holds no buffer.
            self.bytes = BytesMut::new();
        }
    }

    fn is_finished(&mut self) -> bool {
        self.bytes.is_empty() && self.state == ReadState::Eof
    }

    fn is_truncated(&mut self) -> bool {
        self.bytes.is_empty() && self.state == ReadState::Truncated
    }
}

/// Bytes that wait to be sent on the connection.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: BytesMut,
    /// Nothing follows.
    finished: bool,
}

impl Output {
    /// Returns how many bytes of a body may be added.
    pub(super) fn room(&self) -> usize {
        OUTPUT.saturating_sub(self.bytes.len())
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a chunk. `bytes`: not empty.
    pub(super) fn put_chunk(&mut self, bytes: &[u8]) {
        let mut size = [0; 18];
        let n = chunk_head(bytes.len(), &mut size);
        self.put(&size[..n]);
        self.put(bytes);
        self.put(CHUNK_END);
    }

    /// Half-closes the connection behind what was added.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Sends. Returns `true` if bytes were moved.
    pub(super) fn drain(&mut self, tx: &mut Tx<'_>) -> bool {
        let n = tx.write(&self.bytes);
        self.bytes.advance(n);
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            if std::mem::take(&mut self.finished) {
                tx.finish();
            }
        }
        n > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
