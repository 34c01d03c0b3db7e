//! Which uses of which nonces have been seen, in a fixed amount of memory.

/// The number of slots that a nonce can be in.
const WAYS: usize = 4;
/// The number of uses below the highest that can still arrive: requests overtake each other on several connections.
const WINDOW: u32 = 64;

/// A table of the nonces that were used successfully. A nonce that was only issued takes no slot, so a client without a
/// password cannot evict the nonces of others.
///
/// Stamps of nonces grow. When a bucket is full, its oldest nonce is evicted, and from then on the bucket accepts no
/// nonce that is as old: so a nonce cannot come back as if it were new, however many are used.
pub(super) struct ReplayTable {
    buckets: Box<[Bucket]>,
}

#[derive(Clone)]
struct Bucket {
    /// The highest stamp that was evicted.
    floor: u64,
    len: usize,
    slots: [Slot; WAYS],
}

/// The uses of one nonce.
#[derive(Clone, Copy, Default)]
struct Slot {
    stamp: u64,
    /// The highest count that was seen.
    highest: u32,
    /// Bit `n` is set if the count `highest - 1 - n` was seen.
    seen: u64,
}

impl ReplayTable {
    /// Creates a table of at least `slots` slots, and of at least one bucket.
    pub(super) fn new(slots: usize) -> Self {
        let bucket = Bucket { floor: 0, len: 0, slots: [Slot::default(); WAYS] };
        Self { buckets: vec![bucket; slots.div_ceil(WAYS).max(1)].into() }
    }

    /// Notes a use of a nonce. Returns `false` if it must not be accepted: this use was seen before, or is too old to
    /// know.
    pub(super) fn claim(&mut self, stamp: u64, count: u32) -> bool {
        self.slot(stamp).is_some_and(|slot| slot.claim(count))
    }

    /// Notes the only use of a nonce. Returns `false` if it was used before, or is too old to know.
    pub(super) fn claim_once(&mut self, stamp: u64) -> bool {
        self.slot(stamp).is_some_and(|slot| {
            let is_unused = slot.highest == 0;
            slot.highest = u32::MAX;
            slot.seen = u64::MAX;
            is_unused
        })
    }

    /// Returns the slot of a nonce, a new one if it has none; `None` if it is older than one that was evicted.
    fn slot(&mut self, stamp: u64) -> Option<&mut Slot> {
        // Stamps have their milliseconds above bit 16; consecutive ones must not fall into one bucket.
        let hash = (stamp ^ (stamp >> 16)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let buckets = self.buckets.len();
        let bucket = &mut self.buckets[hash as usize % buckets];
        let used = &bucket.slots[..bucket.len];
        let at = if let Some(at) = used.iter().position(|slot| slot.stamp == stamp) {
            at
        } else {
            if stamp <= bucket.floor {
                return None;
            }
            let at = if bucket.len < WAYS {
                bucket.len += 1;
                bucket.len - 1
            } else {
                let (at, oldest) = used.iter().enumerate().min_by_key(|(_, slot)| slot.stamp)?;
                if oldest.stamp > stamp {
                    return None; // Evicting a newer one would have both clients ask again.
                }
                bucket.floor = oldest.stamp;
                at
            };
            bucket.slots[at] = Slot { stamp, ..Slot::default() };
            at
        };
        Some(&mut bucket.slots[at])
    }
}

impl Slot {
    fn claim(&mut self, count: u32) -> bool {
        if count > self.highest {
            let step = count - self.highest;
            // The highest so far becomes bit `step - 1`.
            self.seen = self.seen.checked_shl(step).unwrap_or(0);
            if self.highest != 0 && step <= WINDOW {
                self.seen |= 1 << (step - 1);
            }
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        if behind == 0 || behind > WINDOW || self.seen & 1 << (behind - 1) != 0 {
            return false;
        }
        self.seen |= 1 << (behind - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_use_is_accepted_once() {
        let mut table = ReplayTable::new(1);
        let rows = [
            (1, true),
            (1, false),
            (2, true),
            (5, true),
            (4, true),
            (3, true),
            (3, false),
            (5, false),
            (4, false),
            (69, true),
            (5, false),
            (6, true),
            (4, false),
            (68, true),
            (68, false),
            (1000, true),
            (936, true),
            (935, false),
            (936, false),
            (u32::MAX, true),
            (u32::MAX, false),
            (1000, false),
            (u32::MAX - 64, true),
        ];
        for (count, expected) in rows {
            assert_eq!(table.claim(7, count), expected, "{count}");
        }
    }

    #[test]
    fn a_nonce_for_one_use_is_accepted_once() {
        let mut table = ReplayTable::new(1);
        assert!(table.claim_once(1) && !table.claim_once(1));
        assert!(!table.claim(1, 5), "nor with a count");
        assert!(table.claim(2, 1) && !table.claim_once(2));
    }

    /// Against a model that remembers everything: what the table accepts, it accepts once.
    #[test]
    fn nothing_is_accepted_twice_however_many_nonces_there_are() {
        for slots in [0, 1, 3, 4, 5, 16, 100] {
            let (mut table, mut accepted, mut state) = (ReplayTable::new(slots), HashSet::new(), 1_u64);
            let mut random = |n: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % n
            };
            for _ in 0..20_000 {
                let (stamp, count) = (1 + random(200), 1 + random(200) as u32);
                if table.claim(stamp, count) {
                    assert!(accepted.insert((stamp, count)), "{slots} slots: {stamp}, {count}");
                }
            }
            assert!(accepted.len() > 10, "{slots} slots: nothing is accepted");
        }
    }

    #[test]
    fn a_fresh_nonce_is_always_accepted() {
        let mut table = ReplayTable::new(4);
        for stamp in 1..1000 {
            assert!(table.claim(stamp << 16, 1) && table.claim(stamp << 16, 2), "{stamp}");
        }
        assert!(!table.claim(1 << 16, 3), "evicted");
    }

    #[test]
    fn as_many_clients_as_slots_mostly_keep_their_nonces() {
        let mut table = ReplayTable::new(1024);
        let stamps: Vec<u64> = (1..=512).map(|n| (n * 12_345) << 16).collect();
        stamps.iter().for_each(|&stamp| assert!(table.claim(stamp, 1)));
        let kept = stamps.iter().filter(|&&stamp| table.claim(stamp, 2)).count();
        assert!(kept > 450, "{kept} of 512");
    }
}
