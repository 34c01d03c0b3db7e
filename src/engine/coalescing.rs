//! Takes a body that arrives fast in large pieces.
//!
//! A socket wakes its loop for every packet. If the sender is as fast as the loop, each turn finds one packet, and
//! waking costs as much as moving it. So while much of a fast body is left, the system is asked to wake only for
//! [`WATER`] bytes or more (`SO_RCVLOWAT`, socket(7)), as network cards do with interrupts.
//!
//! ```text
//!   bytes  ▂▂█▂█▂█▂█▂█▂█▂█▂▂ ▂   ▂▂                   ▂ little is left
//!   wakes  ││││└──┘└──┘└──┘└─ PAUSE ─┘││              │ of every packet again
//!              fast                  over             over
//! ```
//!
//! Bytes wait in the socket no longer than [`PAUSE`] (plus rounding to ticks), and only after bytes that were fast.
//! The mark is set and removed in one place, `Slot::settle`.

use std::time::Duration;

use crate::base::time::Tick;

/// The size of the pieces. Larger ones would save little, and some systems' sockets do not hold more at first.
pub(super) const WATER: usize = 128 * 1024;
/// Within a [`PAUSE`], this many bytes are fast: half a Gbit/s to one, depending on ticks. Below that, a loop has
/// enough time.
const FAST: usize = 2 * WATER;
const PAUSE: Duration = Duration::from_millis(2);

/// The speed of a body.
#[derive(Clone, Copy)]
pub(super) struct Coalescing {
    /// The bytes that arrived in the current pause, and when that ends.
    came: usize,
    by: Tick,
    /// The body is fast until then, unless more arrives.
    until: Tick,
}

impl Default for Coalescing {
    fn default() -> Self {
        Self { came: 0, by: Tick::NEVER, until: Tick::NEVER }
    }
}

impl Coalescing {
    /// Counts bytes that have arrived.
    pub(super) fn note(&mut self, tick: Tick, came: usize) {
        if came == 0 {
            return;
        }
        if self.by == Tick::NEVER || self.by < tick {
            *self = Self { came: 0, by: tick.after(PAUSE), ..*self };
        }
        self.came = self.came.saturating_add(came);
        if self.is_on() || self.came >= FAST {
            self.until = tick.after(PAUSE);
        }
    }

    /// Returns `true` if large pieces are better.
    pub(super) fn is_on(&self) -> bool {
        self.until != Tick::NEVER
    }

    /// Returns when to read although no event came.
    pub(super) fn due(&self) -> Tick {
        self.until
    }

    /// Ends the fast mode if nothing has arrived since.
    pub(super) fn look_at(&mut self, tick: Tick) {
        if self.until <= tick {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the time does not matter")]
mod tests {
    use std::time::Instant;

    use super::*;

    fn ticks() -> impl Fn(u64) -> Tick {
        let start = Instant::now();
        move |ms| Tick::since(start, start + Duration::from_millis(ms))
    }

    #[test]
    fn a_fast_body_is_read_in_large_pieces_until_it_pauses() {
        let (at, mut body) = (ticks(), Coalescing::default());
        body.note(at(1), WATER);
        assert!(!body.is_on() && body.due() == Tick::NEVER);
        body.note(at(2), WATER);
        assert!(body.is_on() && body.due() <= at(2).after(PAUSE));
        // Slower, but without a pause.
        for ms in 3..100 {
            body.note(at(ms), 10_000);
            body.look_at(at(ms + 1));
            assert!(body.is_on());
        }
        body.note(at(103), 0);
        body.look_at(body.due());
        assert!(!body.is_on() && body.due() == Tick::NEVER, "it has paused, and must be fast again");
        body.note(at(104), WATER);
        assert!(!body.is_on());
    }

    #[test]
    fn a_slow_body_is_read_at_every_event() {
        let (at, mut body) = (ticks(), Coalescing::default());
        for ms in (0..1000).step_by(5) {
            body.note(at(ms), FAST - 1);
            body.look_at(at(ms));
            assert!(!body.is_on());
        }
    }
}
