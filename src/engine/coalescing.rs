//! A body that comes fast is taken in large pieces.
//!
//! A socket wakes its loop for every packet. Of a sender that is as fast as the loop, each turn then finds one packet, and
//! it costs as much to be woken as to move it. So while much is left of a body and it comes fast, the system is asked to
//! wake for [`WATER`] bytes and more (`SO_RCVLOWAT`, socket(7)), as network cards do it with interrupts.
//!
//! ```text
//!   bytes  ▂▂█▂█▂█▂█▂█▂█▂█▂▂ ▂   ▂▂                   ▂ little is left
//!   wakes  ││││└──┘└──┘└──┘└─ PAUSE ─┘││              │ of every packet again
//!              fast                  over             over
//! ```
//!
//! What lies in the socket waits for company no longer than [`PAUSE`] (and what rounding to ticks adds), and only behind
//! bytes that were fast. The mark is set and taken back in one place, `Slot::settle`.

use std::time::Duration;

use crate::base::time::Tick;

/// What a fast body is taken in. More would save little, and is more than some systems' sockets hold at first.
pub(super) const WATER: usize = 128 * 1024;
/// So many bytes within a [`PAUSE`] are fast: half a Gbit/s to one, by how ticks fall. Slower than that, a loop has the
/// time.
const FAST: usize = 2 * WATER;
const PAUSE: Duration = Duration::from_millis(2);

/// How fast a body comes.
#[derive(Clone, Copy)]
pub(super) struct Coalescing {
    /// How much has come by when, if that was no longer than a pause ago.
    came: usize,
    by: Tick,
    /// It is fast, unless it pauses until then.
    until: Tick,
}

impl Default for Coalescing {
    fn default() -> Self {
        Self { came: 0, by: Tick::NEVER, until: Tick::NEVER }
    }
}

impl Coalescing {
    /// So many bytes have come.
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

    /// Whether large pieces are better.
    pub(super) fn is_on(&self) -> bool {
        self.until != Tick::NEVER
    }

    /// When to look what has come, although nothing woke us.
    pub(super) fn due(&self) -> Tick {
        self.until
    }

    /// If nothing has come since, it is not fast any more.
    pub(super) fn look_at(&mut self, tick: Tick) {
        if self.until <= tick {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use std::time::Instant;

    use super::*;

    fn ticks() -> impl Fn(u64) -> Tick {
        let start = Instant::now();
        move |ms| Tick::since(start, start + Duration::from_millis(ms))
    }

    #[test]
    fn what_comes_fast_is_taken_in_large_pieces_until_it_pauses() {
        let (at, mut body) = (ticks(), Coalescing::default());
        body.note(at(1), WATER);
        assert!(!body.is_on() && body.due() == Tick::NEVER);
        body.note(at(2), WATER);
        assert!(body.is_on() && body.due() <= at(2).after(PAUSE));
        // Slower, but it does not pause.
        for ms in 3..100 {
            body.note(at(ms), 10_000);
            body.look_at(at(ms + 1));
            assert!(body.is_on());
        }
        body.note(at(103), 0);
        body.look_at(body.due());
        assert!(!body.is_on() && body.due() == Tick::NEVER, "it has paused, and has to be fast again");
        body.note(at(104), WATER);
        assert!(!body.is_on());
    }

    #[test]
    fn what_comes_slowly_is_looked_at_each_time() {
        let (at, mut body) = (ticks(), Coalescing::default());
        for ms in (0..1000).step_by(5) {
            body.note(at(ms), FAST - 1);
            body.look_at(at(ms));
            assert!(!body.is_on());
        }
    }
}
