//! Bytes between a connection and the `h2` crate, which reads and writes in memory.
//!
//! ```text
//!   input  ──fill──▶ [ rx ] ──▶ Wire: AsyncRead  ──▶ h2 ──▶ streams
//!   output ◀─drain── [ tx ] ◀── Wire: AsyncWrite ◀── h2 ◀── streams
//! ```
//! h2 needs an object with tokio's `AsyncRead` and `AsyncWrite`, and a caller that polls it. The object is a [`Wire`]:
//! two bounded buffers. The caller has the other end, [`WireEnd`], and moves the bytes. There is no runtime, no timer
//! and no socket. h2 may be client or server; this file does not know which.
//!
//! Both ends of a wire are used by one thread at a time, so the lock is never contended. A `Wire` keeps no waker: when
//! there are bytes, or there is space, its caller polls.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{api::ReadState, base::lock};

/// Bytes of input held: as many as the engine reads at a time
/// ([`Limits::upgrade_input`](crate::Limits::upgrade_input)).
const ROOM_IN: usize = 64 * 1024;

/// Bytes of output held, in each of two buffers: what the engine requests at a time, when half of its output is free.
const ROOM_OUT: usize = 32 * 1024;

/// The largest buffer that an idle connection keeps.
const SMALL: usize = 512;

/// The end for h2.
pub(crate) struct Wire(Arc<Mutex<Buffers>>);

/// The end for the connection.
pub(crate) struct WireEnd(Arc<Mutex<Buffers>>);

struct Buffers {
    rx: Vec<u8>,
    /// The number of bytes of `rx` that were read.
    read: usize,
    /// The state behind `rx`.
    end: ReadState,
    /// Output that h2 has written since `sending` was begun. Two buffers, so that no bytes are moved within one.
    tx: Vec<u8>,
    sending: Vec<u8>,
    /// The number of bytes of `sending` that were sent.
    sent: usize,
}

/// Returns the two ends of a wire.
pub(crate) fn wire() -> (WireEnd, Wire) {
    let buffers = Arc::new(Mutex::new(Buffers::new()));
    (WireEnd(buffers.clone()), Wire(buffers))
}

impl WireEnd {
    /// Takes input, as much as there is space for, and the state behind its last byte. Returns the number of bytes, and
    /// whether h2 learns anything new.
    pub(crate) fn fill(&self, bytes: &[u8], end: ReadState) -> (usize, bool) {
        let mut buffers = lock(&self.0);
        let before = buffers.end;
        let n = buffers.fill(bytes, end);
        (n, n > 0 || buffers.end != before)
    }

    /// Passes output to `write`, which returns how many bytes it took. Returns `true` if it took any.
    pub(crate) fn drain(&self, write: impl FnMut(&[u8]) -> usize) -> bool {
        lock(&self.0).drain(write)
    }

    /// Returns `true` if output is left to be sent.
    pub(crate) fn has_output(&self) -> bool {
        lock(&self.0).has_output()
    }

    /// Returns `true` if more input can be taken. h2 stops reading only while it cannot write.
    pub(crate) fn wants_input(&self) -> bool {
        let buffers = lock(&self.0);
        buffers.rx.len() < ROOM_IN && buffers.end == ReadState::Open
    }

    /// Frees the large buffers that are empty: an idle connection needs none. Small ones stay for the next request.
    pub(crate) fn shrink(&self) {
        let mut buffers = lock(&self.0);
        let Buffers { rx, tx, sending, .. } = &mut *buffers;
        for buffer in [rx, tx, sending] {
            if buffer.is_empty() && buffer.capacity() > SMALL {
                *buffer = Vec::new();
            }
        }
    }
}

impl Buffers {
    fn new() -> Self {
        Self { rx: Vec::new(), read: 0, end: ReadState::Open, tx: Vec::new(), sending: Vec::new(), sent: 0 }
    }

    /// Takes input, up to the limit. Returns how many bytes it took.
    fn fill(&mut self, bytes: &[u8], end: ReadState) -> usize {
        if self.read > 0 {
            self.rx.drain(..self.read);
            self.read = 0;
        }
        let n = bytes.len().min(ROOM_IN.saturating_sub(self.rx.len()));
        self.rx.extend_from_slice(&bytes[..n]);
        // The end comes only behind the last byte.
        if n == bytes.len() {
            self.end = end;
        }
        n
    }

    /// Passes output to `write`, which returns how many bytes it took. Returns `true` if it took any.
    fn drain(&mut self, mut write: impl FnMut(&[u8]) -> usize) -> bool {
        let mut moved = false;
        loop {
            if self.sent == self.sending.len() {
                self.sent = 0;
                self.sending.clear();
                std::mem::swap(&mut self.sending, &mut self.tx);
            }
            match write(&self.sending[self.sent..]) {
                0 => return moved,
                n => self.sent += n,
            }
            moved = true;
        }
    }

    /// Takes what h2 writes, up to the limit.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(ROOM_OUT.saturating_sub(self.tx.len()));
        self.tx.extend_from_slice(&bytes[..n]);
        n
    }

    fn has_output(&self) -> bool {
        self.sent < self.sending.len() || !self.tx.is_empty()
    }
}

/// Returns the result of a write: pending, if nothing was taken. Its caller polls again.
fn taken(n: usize) -> Poll<io::Result<usize>> {
    if n == 0 { Poll::Pending } else { Poll::Ready(Ok(n)) }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut buffers = lock(&self.0);
        let bytes = &buffers.rx[buffers.read..];
        if bytes.is_empty() {
            return match buffers.end {
                ReadState::Open => Poll::Pending,
                ReadState::Eof => Poll::Ready(Ok(())),
                ReadState::Truncated => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            };
        }
        let n = bytes.len().min(into.remaining());
        into.put_slice(&bytes[..n]);
        buffers.read += n;
        if buffers.read == buffers.rx.len() {
            buffers.rx.clear();
            buffers.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        taken(lock(&self.0).push(bytes))
    }

    /// Writes the head of a frame and its payload at once.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let mut buffers = lock(&self.0);
        let mut all = 0;
        for piece in pieces {
            let n = buffers.push(piece);
            all += n;
            if n < piece.len() {
                break;
            }
        }
        taken(all)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The caller closes the connection when h2 is finished.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = lock(&self.0);
        let out = buffers.tx.len() + buffers.sending.len() - buffers.sent;
        write!(f, "Wire({} bytes in, {out} out)", buffers.rx.len() - buffers.read)
    }
}

impl fmt::Debug for WireEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WireEnd")
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
