//! Limits what each address takes of a service: the number of slots, and the rate at which it takes them. A slot is a
//! session or a stream. The table is bounded, whatever the number of addresses.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use uncork::PeerAddr;

/// Interval at which a full table is searched for entries that are no longer needed.
const SWEEP: Duration = Duration::from_secs(1);

/// Entries beyond one per slot: 16,384 addresses that have no slot, but have used a part of their burst.
const SPARE: usize = 16_384;

/// The limits.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    /// Slots in all.
    pub(super) slots: usize,
    /// Slots of one address at the same time.
    pub(super) per_address: usize,
    /// Slots that one address may take per minute, on average; 0 for no limit.
    pub(super) per_minute: u32,
    /// Slots that one address may take at once, before the rate applies.
    pub(super) burst: u32,
}

pub(super) struct Addresses {
    /// By [`PeerAddr::network_of`].
    table: HashMap<IpAddr, Entry>,
    /// Maximum number of entries.
    capacity: usize,
    per_address: u32,
    /// Time per slot, and tolerated debt: a token bucket, stored as one instant (GCRA).
    interval: Duration,
    tolerance: Duration,
    swept: Option<Instant>,
}

struct Entry {
    /// Slots that are taken.
    slots: u32,
    /// Time at which the bucket will be full again.
    full_at: Instant,
}

/// The reason why one more slot is rejected, and when to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    TooMany,
    TooFast(Duration),
    /// The table is full of other addresses.
    AddressTableFull,
}

impl Addresses {
    pub(super) fn new(allowance: Allowance) -> Self {
        let mut addresses = Self {
            table: HashMap::new(),
            capacity: 0,
            per_address: 0,
            interval: Duration::ZERO,
            tolerance: Duration::ZERO,
            swept: None,
        };
        addresses.set_allowance(allowance);
        addresses
    }

    /// Changes the limits. Slots that are taken stay taken, even if they exceed the new limits.
    pub(super) fn set_allowance(&mut self, allowance: Allowance) {
        self.interval = match allowance.per_minute {
            0 => Duration::ZERO,
            n => Duration::from_secs(60) / n,
        };
        self.capacity = allowance.slots.saturating_add(SPARE);
        self.per_address = u32::try_from(allowance.per_address).unwrap_or(u32::MAX);
        self.tolerance = self.interval.saturating_mul(allowance.burst.saturating_sub(1));
    }

    /// Takes one slot for this address. The caller must [release](Self::release) it.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Instant) -> Result<(), Rejected> {
        let ip = PeerAddr::network_of(ip);
        if self.table.len() >= self.capacity && !self.table.contains_key(&ip) {
            self.sweep(now);
            if self.table.len() >= self.capacity {
                return Err(Rejected::AddressTableFull);
            }
        }
        let entry = self.table.entry(ip).or_insert(Entry { slots: 0, full_at: now });
        if entry.slots >= self.per_address {
            return Err(Rejected::TooMany);
        }
        let debt = entry.full_at.saturating_duration_since(now);
        // Each loop of a server has a time of its own: without a rate, a loop that lags behind must not be too fast.
        if debt > self.tolerance && !self.interval.is_zero() {
            return Err(Rejected::TooFast(debt - self.tolerance));
        }
        entry.full_at = now + debt + self.interval;
        entry.slots += 1;
        Ok(())
    }

    /// Returns how long this address must wait, if it has taken too many slots recently.
    #[cfg(feature = "tunnel")]
    pub(super) fn too_fast(&self, ip: IpAddr, now: Instant) -> Option<Duration> {
        let debt = self.table.get(&PeerAddr::network_of(ip))?.full_at.saturating_duration_since(now);
        debt.checked_sub(self.tolerance).filter(|after| !after.is_zero())
    }

    /// Returns how many slots this address has.
    pub(super) fn slots(&self, ip: IpAddr) -> usize {
        self.table.get(&PeerAddr::network_of(ip)).map_or(0, |entry| entry.slots as usize)
    }

    /// Releases a slot of this address.
    pub(super) fn release(&mut self, ip: IpAddr) {
        if let Some(entry) = self.table.get_mut(&PeerAddr::network_of(ip)) {
            entry.slots = entry.slots.saturating_sub(1);
        }
    }

    /// Removes addresses that have no slot and a full bucket: they equal new ones.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|at| now >= at + SWEEP) {
            self.swept = Some(now);
            self.table.retain(|_, entry| entry.slots > 0 || entry.full_at > now);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    fn table(change: impl FnOnce(&mut Allowance)) -> Addresses {
        let mut allowance = Allowance { slots: 10_000, per_address: 1_000, per_minute: 600, burst: 100 };
        change(&mut allowance);
        Addresses::new(allowance)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_rate_nobody_is_too_fast_whose_loop_lags_behind() {
        let (mut table, now) = (table(|a| (a.per_minute, a.burst) = (0, 1)), Instant::now());
        assert_eq!(table.admit(ip("192.0.2.1"), now + Duration::from_millis(5)), Ok(()));
        assert_eq!(table.admit(ip("192.0.2.1"), now), Ok(()));
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut table = table(|c| (c.per_minute, c.burst) = (60, 3));
        let (t0, a) = (Instant::now(), ip("192.0.2.1"));
        for _ in 0..3 {
            assert_eq!(table.admit(a, t0), Ok(()));
        }
        assert_eq!(table.admit(a, t0), Err(Rejected::TooFast(Duration::from_secs(1))));
        assert_eq!(table.admit(ip("192.0.2.2"), t0), Ok(()), "no other address is held back");
        let t1 = t0 + Duration::from_secs(1);
        assert_eq!(table.admit(a, t1), Ok(()));
        assert_eq!(table.admit(a, t1), Err(Rejected::TooFast(Duration::from_secs(1))));
    }

    #[test]
    fn places_are_counted_until_released() {
        let mut table = table(|c| (c.per_address, c.per_minute) = (1, 0));
        let (now, a) = (Instant::now(), ip("2001:db8::1"));
        assert_eq!(table.admit(a, now), Ok(()));
        assert_eq!(table.admit(ip("2001:db8::ffff:2"), now), Err(Rejected::TooMany), "the same /64");
        assert_eq!(table.admit(ip("2001:db8:0:1::1"), now), Ok(()), "another one");
        table.release(a);
        assert_eq!(table.admit(a, now), Ok(()));
    }

    #[test]
    fn what_is_allowed_can_change() {
        let allowance = |per_address| Allowance { slots: 10, per_address, per_minute: 0, burst: 1 };
        let (now, a) = (Instant::now(), ip("192.0.2.1"));
        let mut table = Addresses::new(allowance(2));
        assert_eq!([table.admit(a, now), table.admit(a, now)], [Ok(()), Ok(())]);
        table.set_allowance(allowance(1));
        table.release(a);
        assert_eq!(table.admit(a, now), Err(Rejected::TooMany));
        table.set_allowance(allowance(3));
        assert_eq!(table.admit(a, now), Ok(()));
    }

    #[test]
    fn a_mapped_address_is_the_same_address() {
        let mut table = table(|c| c.per_address = 1);
        let now = Instant::now();
        assert_eq!(table.admit(ip("192.0.2.1"), now), Ok(()));
        assert_eq!(table.admit(ip("::ffff:192.0.2.1"), now), Err(Rejected::TooMany));
    }

    #[test]
    fn it_is_bounded_and_forgets_only_what_says_nothing() {
        let mut table = table(|c| (c.per_minute, c.burst) = (60, 1));
        table.capacity = 2;
        let now = Instant::now();
        assert_eq!(table.admit(ip("192.0.2.1"), now), Ok(()));
        assert_eq!(table.admit(ip("192.0.2.2"), now), Ok(()));
        table.release(ip("192.0.2.2"));
        assert_eq!(
            table.admit(ip("192.0.2.3"), now),
            Err(Rejected::AddressTableFull),
            "both buckets are still filling"
        );
        let later = now + Duration::from_secs(1);
        assert_eq!(table.admit(ip("192.0.2.3"), later), Ok(()));
        assert_eq!(table.table.len(), 2);
        assert!(table.table.contains_key(&ip("192.0.2.1")), "it has a slot");
    }
}
