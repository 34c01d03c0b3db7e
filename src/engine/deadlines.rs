//! The times at which connections are driven if no event comes before.
//!
//! Deadlines move all the time (each byte extends one), so they are moved lazily. A slot's deadline is a field; its
//! entry here is checked against that field only when it fires. A later deadline costs nothing, an earlier one costs an
//! entry.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::base::{ConnId, time::Tick};

#[derive(Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Tick, ConnId)>>,
}

impl Deadlines {
    /// Makes sure that `id` is driven by `due`. `entry`: the slot's earliest entry, [`Tick::NEVER`] if it has none.
    #[inline]
    pub(super) fn schedule(&mut self, id: ConnId, due: Tick, entry: &mut Tick) {
        if due < *entry {
            *entry = due;
            self.heap.push(Reverse((due, id)));
        }
    }

    /// Removes and returns the next entry that has come due.
    pub(super) fn expired(&mut self, now: Tick) -> Option<(Tick, ConnId)> {
        let Reverse((due, _)) = self.heap.peek()?;
        if *due > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    pub(super) fn next(&self) -> Tick {
        self.heap.peek().map_or(Tick::NEVER, |Reverse((due, _))| *due)
    }

    /// Removes the entries of ended connections when they are the majority.
    pub(super) fn tidy(&mut self, live: usize, is_current: impl Fn(Tick, ConnId) -> bool) {
        if self.heap.len() > 1024 + 4 * live {
            self.heap.retain(|Reverse((due, id))| is_current(*due, *id));
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the time does not matter")]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_later_deadline_costs_no_entry() {
        let start = Instant::now();
        let tick = |ms| Tick::since(start, start + Duration::from_millis(ms));
        let (mut deadlines, mut entry) = (Deadlines::default(), Tick::NEVER);
        let id = ConnId::new(0, 0, 1);
        deadlines.schedule(id, tick(100), &mut entry);
        for later in 101..200 {
            deadlines.schedule(id, tick(later), &mut entry);
        }
        assert_eq!((deadlines.heap.len(), deadlines.next()), (1, tick(100)));
        deadlines.schedule(id, tick(50), &mut entry);
        assert_eq!(deadlines.next(), tick(50));
        assert_eq!(deadlines.expired(tick(49)), None);
        assert_eq!(deadlines.expired(tick(50)), Some((tick(50), id)));
    }
}
