//! HTTP/2 over an upgraded connection: the `h2` crate reads and writes in memory, and our loop moves the bytes.
//!
//! ```text
//!            ┌──────────────────── Pump::turn ────────────────────┐
//!   io.rx ──▶│ WireEnd ──▶ Wire ──▶ h2 ──▶ streams                  │
//!            │                      ▲  │       ▲ │                  │
//!   io.tx ◀──│ WireEnd ◀── Wire ◀── h2 ◀──── streams                │
//!            └────────────────────────────────────────────────────┘
//! ```
//! The caller of h2 is the owner of the [`WirePump`], in its [`Upgrade::ready`](uncork::Upgrade::ready).

use std::{
    fmt,
    task::{self, Context},
    time::Duration,
};

use uncork::{EventMask, Io, Rx, Tx};

use super::pump::{Codec, Pump, Step};
pub(super) use crate::h2::wire::Wire;
use crate::h2::{
    wakes::Wakes,
    wire::{self, WireEnd},
};

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

/// Moves the bytes between a connection and h2.
pub(super) struct WirePump {
    pump: Pump,
    end: WireEnd,
    waker: task::Waker,
    received: u64,
}

/// Returns a wire, and the pump that serves it. `wakes` has the keys of the connection's streams, and [`CONNECTION`].
pub(super) fn wire(wakes: &Wakes) -> (WirePump, Wire) {
    let (end, wire) = wire::wire();
    (WirePump { pump: Pump::new(wakes), end, waker: wakes.waker(CONNECTION), received: 0 }, wire)
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
        let Self { pump, end, waker, received } = self;
        pump.turn(io, &mut H2 { end, waker, received, step })
    }

    /// Frees the buffers that are empty: an idle connection needs none.
    pub(super) fn shrink(&mut self) {
        self.end.shrink();
    }

    /// Returns the number of bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }
}

/// h2 as a [`Codec`].
struct H2<'a, F> {
    end: &'a WireEnd,
    waker: &'a task::Waker,
    received: &'a mut u64,
    step: F,
}

impl<F: FnMut(&mut Context<'_>, &mut Vec<usize>) -> Step> Codec for H2<'_, F> {
    fn read(&mut self, rx: &mut Rx<'_>) -> bool {
        let (n, news) = self.end.fill(rx.bytes(), rx.state());
        rx.consume(n);
        *self.received += n as u64;
        news
    }

    fn step(&mut self, woken: &mut Vec<usize>) -> Step {
        (self.step)(&mut Context::from_waker(self.waker), woken)
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> bool {
        self.end.drain(|bytes| tx.write(bytes))
    }

    fn has_output(&self) -> bool {
        self.end.has_output()
    }

    fn wants_input(&self, _: &Rx<'_>) -> bool {
        self.end.wants_input()
    }
}

impl fmt::Debug for WirePump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WirePump").field("pump", &self.pump).finish_non_exhaustive()
    }
}
