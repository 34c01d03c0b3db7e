//! The part of a response's body that the peer's system has acknowledged.
//!
//! The system reports how many bytes *on the wire* it still holds. Where only the body is on the wire, that is exact.
//! Under chunking and TLS it must be translated back, and is rounded down to what was handed over completely.
//!
//! ```text
//!   wire   ├─ head ─┼─ chunk ──┼─ chunk ──┼─ chunk ──┤        ┄ marks: so much of the body was out
//!                                 acknowledged ▲                 when so much was on the wire
//! ```

use std::collections::VecDeque;

use crate::transport::Transport;

/// Beyond this number, marks are thinned out: the acknowledged length is then rounded down further.
const MARKS: usize = 64;

/// Pairs of a wire offset and a body offset, taken when the output was empty.
#[derive(Default)]
pub(super) struct Marks(VecDeque<(u64, u64)>);

impl Marks {
    /// Records that the first `body` bytes of the body, with their framing, are within the first `wire` bytes of the
    /// wire.
    pub(super) fn note(&mut self, wire: u64, body: u64) {
        if self.0.back().is_some_and(|&(_, last)| last == body) {
            return;
        }
        if self.0.len() >= MARKS {
            let mut odd = false;
            self.0.retain(|_| {
                odd = !odd;
                odd
            });
        }
        self.0.push_back((wire, body));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how much of the `written` bytes of a body is acknowledged at least; `None` if the system cannot report
    /// it. `sent`: bytes of plaintext handed to the transport.
    pub(super) fn acknowledged(&self, transport: &Transport, sent: u64, written: u64) -> Option<u64> {
        let queued = transport.unacknowledged()?;
        let wire = transport.on_wire(sent).saturating_sub(queued);
        let whole = self.0.iter().rev().find(|&&(at, _)| at <= wire).map_or(0, |&(_, body)| body);
        // Whatever the framing, the missing part of the body is not longer than the missing bytes.
        Some(whole.max(written.saturating_sub(queued)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_bounded_and_the_latest_is_kept() {
        let mut marks = Marks::default();
        for i in 1..=1000 {
            marks.note(i * 10, i);
            marks.note(i * 10, i);
        }
        assert!(marks.0.len() <= MARKS);
        assert_eq!(marks.0.back(), Some(&(10_000, 1000)));
        assert!(marks.0.iter().zip(marks.0.iter().skip(1)).all(|(a, b)| a < b));
    }
}
