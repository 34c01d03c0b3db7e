//! The streams that this side has reset: the peer may have sent frames on them before it knew (RFC 9113 §5.1).
//!
//! ```text
//!   RST_STREAM ─add─▶ recent ──PING──▶ before_ping ──its ACK──▶ forgotten
//!   a late frame ──▶ contains? ignored │ otherwise a fault
//! ```
//! The sets are ordered. A peer that sends many late frames must not have thousands of streams searched for each.

use std::collections::BTreeSet;

#[derive(Debug)]
pub(super) struct Resets {
    /// Reset since the last ping was sent.
    recent: BTreeSet<u32>,
    /// Reset before it. With the response to the ping, they are forgotten.
    before_ping: BTreeSet<u32>,
    /// The most streams that are remembered.
    most: usize,
}

impl Resets {
    pub(super) fn new(most: usize) -> Self {
        Self { recent: BTreeSet::new(), before_ping: BTreeSet::new(), most }
    }

    /// Remembers a stream, and forgets the one with the lowest number if there are too many.
    pub(super) fn add(&mut self, stream: u32) {
        let is_full = self.recent.len() + self.before_ping.len() >= self.most;
        if is_full && self.before_ping.pop_first().is_none() {
            self.recent.pop_first();
        }
        self.recent.insert(stream);
    }

    pub(super) fn contains(&self, stream: u32) -> bool {
        self.recent.contains(&stream) || self.before_ping.contains(&stream)
    }

    pub(super) fn ping_sent(&mut self) {
        self.before_ping.append(&mut self.recent);
    }

    /// The peer has seen the earlier resets: no frames follow that it sent before.
    pub(super) fn ping_answered(&mut self) {
        self.before_ping.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_resets_is_remembered() {
        let mut resets = Resets::new(4);
        let remembered = |resets: &Resets| (0..20).filter(|stream| resets.contains(*stream)).collect::<Vec<_>>();
        [1, 9, 3].into_iter().for_each(|stream| resets.add(stream));
        resets.ping_sent();
        [5, 7].into_iter().for_each(|stream| resets.add(stream));
        assert_eq!(remembered(&resets), [3, 5, 7, 9], "one too many");
        resets.ping_answered();
        assert_eq!(remembered(&resets), [5, 7], "these were reset behind the ping");
        [11, 13, 15].into_iter().for_each(|stream| resets.add(stream));
        assert_eq!(remembered(&resets), [7, 11, 13, 15]);
    }

    /// A tunnel remembers 16,384 streams, and each late frame is looked up.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test measures time")]
    fn a_late_frame_costs_little_however_many_streams_were_reset() {
        let time = |count: u32| {
            let mut resets = Resets::new(16_384);
            (0..count).for_each(|n| resets.add(2 * n + 1));
            let once = || {
                let start = std::time::Instant::now();
                // The last one that was reset, and one that was not.
                (0..1000).for_each(|_| assert!(resets.contains(2 * count - 1) && !resets.contains(2 * count + 1)));
                start.elapsed()
            };
            [(); 10].map(|()| once()).into_iter().min().expect("ten")
        };
        let (few, many) = (time(16), time(16_384));
        assert!(many < 20 * few, "{few:?} among 16, {many:?} among 16,384");
    }
}
