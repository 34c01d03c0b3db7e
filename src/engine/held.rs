//! Bytes that upgraded connections hold themselves, of messages that are still arriving. They count toward the loop's
//! buffers. Beyond half of these, the loop makes one connection free its bytes.
//!
//! ```text
//!   Io::hold ──▶ change ──▶ all > most? ──▶ the network with most ──▶ its largest message ──▶ Events::shed
//! ```
//! The largest message of the network that holds most is freed. So neither one network nor four can displace the
//! message of another one, as long as that holds less than they do.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

#[cfg(feature = "http2")]
use crate::base::ConnId;
use crate::base::RequestId;

/// Limits count by network; peers without an address count as one network.
type Network = Option<IpAddr>;

/// From this many held bytes on, freed memory is returned to the system.
const MUCH: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Held {
    /// The limit on held bytes.
    most: usize,
    all: usize,
    /// The most bytes held since memory was returned.
    peak: usize,
    entries: HashMap<RequestId, (Network, usize)>,
    networks: HashMap<Network, Share>,
    /// The networks, ordered by held bytes.
    order: BTreeSet<(usize, Network)>,
    /// Connections that must free their bytes, and have not been called yet.
    asked: HashSet<RequestId>,
}

/// The share of one network.
#[derive(Default)]
struct Share {
    bytes: usize,
    messages: BTreeSet<(usize, RequestId)>,
}

impl Held {
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Returns the bytes held by all connections.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// Sets the bytes that a connection holds.
    pub(super) fn change(&mut self, id: RequestId, network: Network, bytes: usize) {
        let before = self.entries.remove(&id).map_or(0, |(_, before)| before);
        let share = self.networks.entry(network).or_default();
        self.order.remove(&(share.bytes, network));
        share.messages.remove(&(before, id));
        share.bytes = share.bytes - before + bytes;
        self.all = self.all - before + bytes;
        if bytes > 0 {
            share.messages.insert((bytes, id));
            self.entries.insert(id, (network, bytes));
        }
        if share.bytes > 0 {
            self.order.insert((share.bytes, network));
        } else {
            self.networks.remove(&network);
        }
    }

    /// Returns `true` if memory must be returned now: much was held, and less than half of it still is.
    pub(super) fn gives_back(&mut self) -> bool {
        let now = self.peak >= MUCH && self.all < self.peak / 2;
        self.peak = if now { self.all } else { self.peak.max(self.all) };
        now
    }

    /// Removes a connection that has ended, or whose upgrade has.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.take_asked(id);
        if let Some((network, _)) = self.entries.get(&id) {
            self.change(id, *network, 0);
        }
    }

    /// Returns the connection that must free its bytes, if too much is held. They no longer count.
    pub(super) fn ask(&mut self) -> Option<RequestId> {
        if self.all <= self.most {
            return None;
        }
        let (_, network) = self.order.last()?;
        let (_, id) = *self.networks.get(network)?.messages.last()?;
        self.change(id, *network, 0);
        self.asked.insert(id);
        Some(id)
    }

    /// Returns `true` if this connection was asked and has not been called yet.
    pub(super) fn is_asked(&self, id: RequestId) -> bool {
        self.asked.contains(&id)
    }

    /// Returns the requests of this connection that were asked.
    #[cfg(feature = "http2")]
    pub(super) fn asked_of(&self, conn: ConnId) -> impl Iterator<Item = RequestId> {
        self.asked.iter().filter(move |id| id.conn == conn).copied()
    }

    /// Records that the connection learns of the request now.
    pub(super) fn take_asked(&mut self, id: RequestId) {
        self.asked.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(feature = "http2"))]
    use crate::base::ConnId;

    fn id(n: usize) -> RequestId {
        RequestId { conn: ConnId::new(0, n, 0), number: 1 }
    }

    fn network(n: u8) -> Network {
        Some([192, 0, 2, n].into())
    }

    #[test]
    fn the_largest_message_of_the_network_with_most_is_freed() {
        let mut held = Held::new(100);
        // One network with many small messages, another with a single larger one.
        (0..9).for_each(|n| held.change(id(n), network(1), 10));
        assert_eq!((held.all(), held.ask()), (90, None));
        held.change(id(20), network(2), 10);
        assert_eq!(held.ask(), None);
        held.change(id(20), network(2), 30);
        held.change(id(4), network(1), 11);
        assert_eq!((held.ask(), held.all()), (Some(id(4)), 110));
        assert!(held.is_asked(id(4)) && !held.is_asked(id(20)));
        assert!(held.ask().is_some_and(|asked| asked != id(20)));
        assert_eq!((held.ask(), held.all()), (None, 100));
        held.take_asked(id(4));
        assert!(!held.is_asked(id(4)));
    }

    #[test]
    fn four_networks_do_not_displace_a_fifth() {
        let mut held = Held::new(1000);
        held.change(id(0), network(0), 100);
        for n in 1..400 {
            held.change(id(n), network((n % 4 + 1) as u8), 20);
            while let Some(asked) = held.ask() {
                assert_ne!(asked, id(0));
                held.take_asked(asked);
            }
        }
        assert!(held.all() <= 1000 && held.all() > 900, "{}", held.all());
    }

    #[test]
    fn memory_is_given_back_when_most_of_much_is_free_again() {
        let mut held = Held::new(usize::MAX);
        let mut steps = |bytes| {
            held.change(id(1), None, bytes);
            held.gives_back()
        };
        assert_eq!(
            [MUCH - 1, 0, MUCH, MUCH / 2, MUCH / 2 - 1, 1, 0].map(&mut steps).map(u8::from),
            [0, 0, 0, 0, 1, 0, 0]
        );
        assert_eq!([5 * MUCH, 2 * MUCH, MUCH, MUCH / 2, 0].map(&mut steps).map(u8::from), [0, 1, 0, 1, 0]);
    }

    #[test]
    fn an_ended_connection_leaves_nothing() {
        let mut held = Held::new(10);
        held.change(id(1), None, 8);
        held.change(id(2), network(1), 9);
        assert_eq!(held.ask(), Some(id(2)));
        held.forget(id(1));
        held.forget(id(2));
        held.forget(id(3));
        assert_eq!(held.all(), 0);
        assert!(held.entries.is_empty() && held.networks.is_empty() && held.order.is_empty() && held.asked.is_empty());
    }
}
