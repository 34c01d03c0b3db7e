//! HTTP/2 over an upgraded connection: the `h2` crate reads and writes in memory, and our loop moves the bytes.
//!
//! ```text
//!            ┌──────────────────── Pump::turn ─────────────────────┐
//!   io.rx ──▶│ rx ──▶ Wire: AsyncRead  ──▶ h2 ──▶ streams           │
//!            │                             ▲  │       ▲ │           │   again, as long as bytes moved
//!   io.tx ◀──│ tx ◀── Wire: AsyncWrite ◀── h2 ◀──── streams         │   or something was woken
//!            └───────────────────────────────────────────────────┘
//! ```
//!
//! h2 wants an object with tokio's `AsyncRead` and `AsyncWrite`, and somebody to poll. It gets a [`Wire`], which is two
//! bounded buffers, and is polled by whoever owns the [`Pump`], in its [`Upgrade::ready`](uncork::Upgrade::ready): no
//! runtime, no timer, no socket. h2 is client or server: neither is known here.
//!
//! Both ends of a wire run inside one call of `ready`, so the lock is never contended. A `Wire` keeps no waker: when
//! there are bytes, or room, the pump polls.
//!
//! What is asked for follows from what there is: READ while there is room for input (h2 stops reading only while it can't
//! write), WRITE while output waits, EXTERNAL always. CORK, always: h2 writes when it has something to say.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{self, Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uncork::{EventMask, Io, ReadState, Rx};

use super::wakes::Wakes;

/// Bytes of input held: as many as the engine reads at a time
/// ([`Limits::upgrade_input`](uncork::Limits::upgrade_input)).
const ROOM_IN: usize = 64 * 1024;

/// Bytes of output held, in each of two buffers: what the engine asks for at a time, when half of its output is free.
const ROOM_OUT: usize = 32 * 1024;

/// Rounds in one call before other connections have their turn.
const ROUNDS: usize = 32;

/// The key under which the connection itself is woken.
pub(super) const CONNECTION: usize = usize::MAX;

/// Streams reset by this side that h2 remembers, and for how long: what the peer has sent on them before it knew is
/// dropped. On a stream that h2 has forgotten it is an error of the stream, and too many of these end the connection. Long
/// enough for a path with full buffers; as many as clients reset in that time, of which each address has its share.
pub(super) const RESETS: usize = 16_384;
pub(super) const REMEMBERED: Duration = Duration::from_secs(10);

/// Bytes of a request's head, as HTTP/2 counts them (RFC 9113 §6.5.2), that an origin server takes. h2 ends the connection
/// for one that is much larger, so the proxy sends none of these.
pub(super) const HEAD: u32 = 64 * 1024;

/// What h2 may hold in frames so small that each costs it more than its bytes: 256 bytes for each, less its own. The streams
/// [take them out](super::held) at every turn, and the input of one turn has at most 1.7 MB of such.
pub(super) const SMALL_FRAMES: usize = 4 << 20;

/// The end that is given to h2.
pub(super) struct Wire(Arc<Mutex<Buffers>>);

struct Buffers {
    rx: Vec<u8>,
    /// How much of `rx` was read.
    read: usize,
    /// Whether something comes behind `rx`.
    end: ReadState,
    /// What h2 has written since `sending` was begun. Two buffers, so that nothing is moved within one.
    tx: Vec<u8>,
    sending: Vec<u8>,
    /// How much of `sending` was sent.
    sent: usize,
}

/// The end that moves the bytes.
pub(super) struct Pump {
    buffers: Arc<Mutex<Buffers>>,
    wakes: Wakes,
    waker: task::Waker,
    woken: Vec<usize>,
    /// h2 is done: what is left is sent, then the connection ends.
    over: bool,
    received: u64,
}

/// How it goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// h2 waits: for bytes, or to be woken.
    Waits,
    /// h2 has nothing more to say: what it wrote is sent, then the connection is closed.
    Over,
    /// The peer is gone, or has to go: the connection is broken off.
    Abort,
}

/// A wire, and the pump that serves it. `wakes` has the keys of the connection's streams, and [`CONNECTION`].
pub(super) fn wire(wakes: &Wakes) -> (Pump, Wire) {
    let buffers = Arc::new(Mutex::new(Buffers::new()));
    let waker = wakes.waker(CONNECTION);
    let pump =
        Pump { buffers: buffers.clone(), wakes: wakes.clone(), waker, woken: Vec::new(), over: false, received: 0 };
    (pump, Wire(buffers))
}

fn lock(buffers: &Mutex<Buffers>) -> MutexGuard<'_, Buffers> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pump {
    /// One call of [`Upgrade::ready`](uncork::Upgrade::ready): moves bytes and takes steps until neither changes
    /// anything.
    ///
    /// `step` polls h2's connection with the context it is given, which wakes [`CONNECTION`], and looks at the streams
    /// whose keys it is given (not at `CONNECTION`, which may be among them, but is polled in any case). What it leaves
    /// to be done it must have woken.
    pub(super) fn turn(
        &mut self,
        io: &mut Io<'_>,
        mut step: impl FnMut(&mut Context<'_>, &mut Vec<usize>) -> Step,
    ) -> EventMask {
        self.wakes.begin(|| io.waker());
        for _ in 0..ROUNDS {
            let mut moved = self.fill(&mut io.rx);
            if !self.over {
                self.wakes.take(&mut self.woken);
                let done = step(&mut Context::from_waker(&self.waker), &mut self.woken);
                self.woken.clear();
                match done {
                    Step::Waits => {}
                    Step::Over => self.over = true,
                    Step::Abort => {
                        io.abort();
                        return EventMask::TERMINATE;
                    }
                }
            }
            moved |= lock(&self.buffers).drain(|bytes| io.tx.write(bytes));
            if self.over {
                return if lock(&self.buffers).has_output() { EventMask::WRITE } else { EventMask::TERMINATE };
            }
            if !moved && self.wakes.end() {
                return self.mask();
            }
        }
        self.wakes.pause();
        self.mask()
    }

    /// Gives back what an idle connection need not hold.
    pub(super) fn shrink(&mut self) {
        let mut buffers = lock(&self.buffers);
        let Buffers { rx, tx, sending, .. } = &mut *buffers;
        for buffer in [rx, tx, sending] {
            if buffer.is_empty() {
                *buffer = Vec::new();
            }
        }
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Takes what came in. Whether that changed anything.
    fn fill(&mut self, rx: &mut Rx<'_>) -> bool {
        let mut buffers = lock(&self.buffers);
        let before = buffers.end;
        let n = buffers.fill(rx.bytes(), rx.state());
        rx.consume(n);
        self.received += n as u64;
        n > 0 || buffers.end != before
    }

    fn mask(&self) -> EventMask {
        let buffers = lock(&self.buffers);
        let mut mask = EventMask::EXTERNAL | EventMask::CORK;
        if buffers.rx.len() < ROOM_IN && buffers.end == ReadState::Open {
            mask |= EventMask::READ;
        }
        if buffers.has_output() {
            mask |= EventMask::WRITE;
        }
        mask
    }
}

impl Buffers {
    fn new() -> Self {
        Self { rx: Vec::new(), read: 0, end: ReadState::Open, tx: Vec::new(), sending: Vec::new(), sent: 0 }
    }

    /// Takes what came in, as far as there is room; how much that was.
    fn fill(&mut self, bytes: &[u8], end: ReadState) -> usize {
        if self.read > 0 {
            self.rx.drain(..self.read);
            self.read = 0;
        }
        let n = bytes.len().min(ROOM_IN.saturating_sub(self.rx.len()));
        self.rx.extend_from_slice(&bytes[..n]);
        // Only behind the last byte.
        if n == bytes.len() {
            self.end = end;
        }
        n
    }

    /// Gives what is to be sent to `write`, which takes what it has room for. Whether that was anything.
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

    /// Takes what h2 writes, as far as there is room.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(ROOM_OUT.saturating_sub(self.tx.len()));
        self.tx.extend_from_slice(&bytes[..n]);
        n
    }

    fn has_output(&self) -> bool {
        self.sent < self.sending.len() || !self.tx.is_empty()
    }
}

/// What h2 writes is taken, or it is asked to wait for the pump.
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

    /// The head of a frame and its payload at once.
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

    /// The pump closes, when h2 is over.
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

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump").field("wakes", &self.wakes).field("over", &self.over).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
