//! A node with clearly more connections of origin servers than the others closes some, slowly.
//!
//! ```text
//!   once per ping interval: GET /node of all others ──▶ surplus ──▶ one a second: is each of its hosts served
//!                                                                     by another connection, here or elsewhere?
//!                                                                     └─ yes: GOAWAY; it goes to another node
//! ```
//! It runs on the loop of a request; if that loop ends, on that of a later one.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use uncork::{LoopHandle, Moment};

use super::{connection::OriginConnection, counters::Count, shared::Shared};
use crate::relay::{nodes::Asker, tunnel::pattern::Pattern};

/// Time between two connections that are closed.
const BETWEEN: Duration = Duration::from_secs(1);

/// Maximum number of connections that are closed before the next comparison.
const MOST: usize = 10;

/// Compares the numbers of connections from now on, on this loop, if nothing does yet.
pub(super) fn begin(shared: &Arc<Shared>, on: &LoopHandle) {
    let config = &shared.common.config;
    let useful = config.shed && shared.common.nodes.is_some() && shared.hosts.is_some();
    if useful && !shared.compares.load(Relaxed) && !shared.compares.swap(true, Relaxed) {
        Round { shared: shared.clone(), on: on.clone() }.later(config.ping_interval);
    }
}

/// One comparison. Dropped without the next one, it lets another loop begin.
struct Round {
    shared: Arc<Shared>,
    on: LoopHandle,
}

impl Drop for Round {
    fn drop(&mut self) {
        self.shared.compares.store(false, Relaxed);
    }
}

impl Round {
    fn later(self, delay: Duration) {
        self.on.clone().after(delay, move |now| self.compare(now));
    }

    fn next(self) {
        let delay = self.shared.common.config.ping_interval;
        self.later(delay);
    }

    fn compare(self, now: Moment) {
        let own = self.open().len() as u64;
        let Some(nodes) = self.shared.hosts.as_ref().map(|hosts| hosts.nodes().clone()) else { return };
        if own < 2 {
            return self.next();
        }
        nodes.ask_origin_connections(&self.on.clone(), now, move |others| {
            let surplus = usize::try_from(surplus(own, &others)).unwrap_or(usize::MAX).min(MOST);
            let mut candidates = self.open();
            candidates.retain(|connection| connection.spreads);
            candidates.sort_by_key(|connection| std::cmp::Reverse(connection.active()));
            self.shed(candidates, surplus);
        });
    }

    fn open(&self) -> Vec<Arc<OriginConnection>> {
        let mut open: Vec<_> = self.shared.table().connections.values().cloned().collect();
        open.retain(|connection| connection.is_open());
        open
    }

    /// Closes `left` of these connections, the last one first, one a second.
    fn shed(self, mut candidates: Vec<Arc<OriginConnection>>, left: usize) {
        let next = if left == 0 { None } else { candidates.pop() };
        let Some(next) = next else { return self.next() };
        let missing = self.not_served_here(&next);
        self.on.clone().after(BETWEEN, move |now| {
            self.check(missing, now, move |round, is_served| {
                let closes = is_served && next.is_open();
                if closes {
                    log::info!(target: "uncork::relay", "tunnel {}: closing it, because other nodes have fewer", next.id);
                    round.shared.common.counters.add(Count::Shed);
                    next.shed();
                }
                round.shed(candidates, left - usize::from(closes));
            });
        });
    }

    /// Returns the hosts of a connection that no other connection here serves.
    fn not_served_here(&self, connection: &OriginConnection) -> Vec<Pattern> {
        let open = self.open();
        let others: Vec<_> = open.iter().filter(|other| other.id != connection.id).collect();
        let is_served = |pattern: &Pattern| others.iter().any(|other| other.patterns.contains(pattern));
        connection.patterns.iter().filter(|pattern| !is_served(pattern)).cloned().collect()
    }

    /// Asks other nodes about these hosts, one after the other, until one is not served there.
    fn check(self, mut hosts: Vec<Pattern>, now: Moment, then: impl FnOnce(Self, bool) + Send + 'static) {
        let Some(pattern) = hosts.pop() else { return then(self, true) };
        let Some(directory) = self.shared.hosts.clone() else { return then(self, false) };
        let host = Pattern { path: "".into(), ..pattern }.to_string();
        directory.lookup(&host, &self.on.clone(), &Asker::own(now), move |found| {
            if found.is_some_and(|found| !found.nodes.is_empty()) {
                self.check(hosts, now, then);
            } else {
                then(self, false);
            }
        });
    }
}

/// Returns how many connections are clearly more than this node's share.
fn surplus(own: u64, others: &[u64]) -> u64 {
    if others.is_empty() {
        return 0;
    }
    let all = others.iter().fold(own as f64, |sum, n| sum + *n as f64);
    let mean = all / (others.len() + 1) as f64;
    // Rounded down: the rest is not clearly more.
    (own as f64 - (mean * 1.25 + 1.0)).max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clearly_more_is_too_much() {
        for (own, others, want) in [
            (8, &[0][..], 2),
            (6, &[2], 0),
            (2, &[0], 0),
            (3, &[0], 0),
            (100, &[0, 0], 57),
            (40, &[30, 30], 0),
            (0, &[100], 0),
            (100, &[], 0),
            (u64::MAX, &[u64::MAX], 0),
        ] {
            assert_eq!(surplus(own, others), want, "{own} {others:?}");
        }
    }
}
