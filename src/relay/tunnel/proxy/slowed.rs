//! The order of streams, while a credential's rate does not let all of a connection move their bytes.
//!
//! ```text
//!   waiting: a1 a2 a3 … a20  b1        a: one address with twenty downloads, b: another with one
//!   turns:   a1 b1 a2 b1 a3 b1 …       each may use what has come into the bucket since the last
//! ```

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// Streams that wait for their credential's rate. The first one may use all available bytes, so they take turns: first
/// the addresses of their clients, then the streams of one address. Otherwise one address with many streams would
/// starve all others.
#[derive(Default)]
pub(super) struct Slowed {
    /// Streams that got nothing in the last round, and streams that got some; each stream once.
    unserved: Vec<usize>,
    served: Vec<usize>,
    /// The number of each address's last turn.
    turns: HashMap<Option<IpAddr>, u64>,
    turn: u64,
}

impl Slowed {
    pub(super) fn is_empty(&self) -> bool {
        self.unserved.is_empty() && self.served.is_empty()
    }

    /// Adds a stream that has bytes to move, and may not now. `served`: it has just moved some.
    pub(super) fn add(&mut self, key: usize, served: bool) {
        if !self.unserved.contains(&key) && !self.served.contains(&key) {
            if served { &mut self.served } else { &mut self.unserved }.push(key);
        }
    }

    /// Notes that it was this address's turn.
    pub(super) fn note_turn(&mut self, address: Option<IpAddr>) {
        self.turn += 1;
        self.turns.insert(address, self.turn);
    }

    /// Takes all of them out, in the order of their turns.
    pub(super) fn take(&mut self, address: impl Fn(usize) -> Option<IpAddr>) -> Vec<usize> {
        let mut all = std::mem::take(&mut self.unserved);
        all.append(&mut self.served);
        let waiting: HashSet<Option<IpAddr>> = all.iter().map(|key| address(*key)).collect();
        self.turns.retain(|address, _| waiting.contains(address));
        all.sort_by_key(|key| self.turns.get(&address(*key)).copied());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_and_their_streams_among_themselves() {
        // Streams 0 to 3 are of one address, 4 of another, 5 of none.
        let address = |key: usize| (key < 5).then(|| IpAddr::from([192, 0, 2, if key < 4 { 1 } else { 2 }]));
        let mut slowed = Slowed::default();
        (0..6).for_each(|key| slowed.add(key, false));
        slowed.add(3, true);
        let mut request = Vec::new();
        for _ in 0..12 {
            let all = slowed.take(address);
            assert_eq!(all.len(), 6, "each once");
            // The first uses all that is there.
            for (at, key) in all.into_iter().enumerate() {
                if at == 0 {
                    request.push(key);
                    slowed.note_turn(address(key));
                }
                slowed.add(key, at == 0);
            }
        }
        assert_eq!(request, [0, 4, 5, 1, 4, 5, 2, 4, 5, 3, 4, 5]);
        let _all = slowed.take(address);
        assert!(slowed.is_empty() && slowed.take(address).is_empty() && slowed.turns.is_empty());
    }
}
