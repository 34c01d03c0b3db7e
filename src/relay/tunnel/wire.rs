//! HTTP/2 over an upgraded connection: the `h2` crate reads and writes in memory, and our loop moves the bytes.
//!
//! ```text
//!            ┌──────────────────── Pump::turn ────────────────────┐
//!   io.rx ──▶│ rx ──▶ Wire: AsyncRead  ──▶ h2 ──▶ streams           │
//!            │                             ▲  │       ▲ │          │
//!   io.tx ◀──│ tx ◀── Wire: AsyncWrite ◀── h2 ◀──── streams         │
//!            └────────────────────────────────────────────────────┘
//! ```
//!
//! h2 needs an object with tokio's `AsyncRead` and `AsyncWrite`, and a caller that polls it. The object is a [`Wire`]:
//! two bounded buffers. The caller is the owner of the [`WirePump`], in its [`Upgrade::ready`](uncork::Upgrade::ready).
//! There is no runtime, no timer and no socket. h2 may be client or server; this file does not know which.
//!
//! Both ends of a wire run inside one call of `ready`, so the lock is never contended. A `Wire` keeps no waker: when
//! there are bytes, or there is space, the pump polls.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{self, Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uncork::{EventMask, Io, ReadState, Rx, Tx};

use super::{
    pump::{Codec, Pump, Step},
    wakes::Wakes,
};
use crate::relay::lock::lock;

/// Bytes of input held: as many as the engine reads at a time
/// ([`Limits::upgrade_input`](uncork::Limits::upgrade_input)).
const ROOM_IN: usize = 64 * 1024;

/// Bytes of output held, in each of two buffers: what the engine requests at a time, when half of its output is free.
const ROOM_OUT: usize = 32 * 1024;

/// The key with which the connection itself is woken.
pub(super) const CONNECTION: usize = usize::MAX;

/// The number of streams reset by this side that h2 remembers, and for how long. Frames that the peer sent on them
/// before it knew are dropped. On a forgotten stream such a frame is a stream error, and too many of these end the
/// connection. The time is enough for a path with full buffers. The number is what clients can reset in that time; each
/// address has its share.
pub(super) const RESETS: usize = 16_384;
pub(super) const REMEMBERED: Duration = Duration::from_secs(10);

/// Limit of a request's head at an origin server, in bytes as HTTP/2 counts them (RFC 9113 §6.5.2). h2 ends the
/// connection for a much larger one, so the proxy sends none of these.
pub(super) const HEAD: u32 = 64 * 1024;

/// Memory that h2 may use for small frames, each of which costs it more than its bytes: 256 bytes for each frame, less
/// its own. The streams [take them out](super::gathered) at every turn, and the input of one turn has at most 1.7 MB of
/// them.
pub(super) const SMALL_FRAMES: usize = 4 << 20;

/// The end for h2.
pub(super) struct Wire(Arc<Mutex<Buffers>>);

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

/// The end that moves the bytes.
pub(super) struct WirePump {
    pump: Pump,
    buffers: Arc<Mutex<Buffers>>,
    waker: task::Waker,
    received: u64,
}

/// Returns a wire, and the pump that serves it. `wakes` has the keys of the connection's streams, and [`CONNECTION`].
pub(super) fn wire(wakes: &Wakes) -> (WirePump, Wire) {
    let buffers = Arc::new(Mutex::new(Buffers::new()));
    let pump = Pump::new(wakes);
    let pump = WirePump { pump, buffers: buffers.clone(), waker: wakes.waker(CONNECTION), received: 0 };
    (pump, Wire(buffers))
}

impl WirePump {
    /// Does one call of [`Upgrade::ready`](uncork::Upgrade::ready); see [`Pump::turn`].
    ///
    /// `step` polls h2's connection with the context, which wakes [`CONNECTION`], and looks at the streams of the given
    /// keys. `CONNECTION` may be among them; the connection is polled in any case. `step` must wake whatever it leaves
    /// to be done.
    pub(super) fn turn(
        &mut self,
        io: &mut Io<'_>,
        step: impl FnMut(&mut Context<'_>, &mut Vec<usize>) -> Step,
    ) -> EventMask {
        let Self { pump, buffers, waker, received } = self;
        pump.turn(io, &mut H2 { buffers, waker, received, step })
    }

    /// Frees the buffers that are empty: an idle connection needs none.
    pub(super) fn shrink(&mut self) {
        let mut buffers = lock(&self.buffers);
        let Buffers { rx, tx, sending, .. } = &mut *buffers;
        for buffer in [rx, tx, sending] {
            if buffer.is_empty() {
                *buffer = Vec::new();
            }
        }
    }

    /// Returns the number of bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }
}

/// h2 as a [`Codec`].
struct H2<'a, F> {
    buffers: &'a Mutex<Buffers>,
    waker: &'a task::Waker,
    received: &'a mut u64,
    step: F,
}

impl<F: FnMut(&mut Context<'_>, &mut Vec<usize>) -> Step> Codec for H2<'_, F> {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        let mut buffers = lock(self.buffers);
        let before = buffers.end;
        let n = buffers.fill(rx.bytes(), rx.state());
        rx.consume(n);
        *self.received += n as u64;
        n > 0 || buffers.end != before
    }

    fn step(&mut self, woken: &mut Vec<usize>) -> Step {
        (self.step)(&mut Context::from_waker(self.waker), woken)
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        lock(self.buffers).drain(|bytes| tx.write(bytes))
    }

    fn has_output(&self) -> bool {
        lock(self.buffers).has_output()
    }

    /// h2 stops reading only while it cannot write.
    fn wants_input(&self, _: &Rx<'_>) -> bool {
        let buffers = lock(self.buffers);
        buffers.rx.len() < ROOM_IN && buffers.end == ReadState::Open
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

/// Returns the result of a write: pending, if nothing was taken. The pump polls again.
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

    /// The pump closes the connection when h2 is finished.
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

impl fmt::Debug for WirePump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WirePump").field("pump", &self.pump).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
