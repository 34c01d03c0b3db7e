//! How much of a limited thing is taken, in all and by each address: sessions, or bytes of messages.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use uncork::{Limits, PeerAddr};

use super::config::GatewayLimits;
use crate::relay::lock::lock;

/// A limited amount of something: sessions, or bytes of messages.
pub(super) struct AddressLimits {
    taken: Mutex<Taken>,
    limit: usize,
    limit_of_address: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// An amount that is taken until this is dropped.
pub(super) struct AddressGuard {
    limits: Arc<AddressLimits>,
    amount: usize,
    network: Option<IpAddr>,
}

/// The reason why an amount cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// Too much is taken in all.
    Full,
    /// Too much is taken by this address.
    PerAddress,
}

impl AddressLimits {
    pub(super) fn new(limits: &GatewayLimits) -> Arc<Self> {
        Self::of(limits.sessions, limits.sessions_per_address)
    }

    /// Limits the amount in all, and that of one address. The share of an address shrinks as the total fills
    /// ([`Limits::address_share`]).
    pub(super) fn of(limit: usize, limit_of_address: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), limit, limit_of_address })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        lock(&self.taken)
    }

    /// Takes one for this address. With `None`, it counts only in the total.
    pub(super) fn take(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<AddressGuard, LimitReached> {
        self.take_some(ip, 1)
    }

    /// Like [`take`](Self::take), but takes several at once.
    pub(super) fn take_some(self: &Arc<Self>, ip: Option<IpAddr>, amount: usize) -> Result<AddressGuard, LimitReached> {
        let network = ip.map(PeerAddr::network_of);
        let mut taken = self.taken();
        if amount > self.limit - taken.all.min(self.limit) {
            return Err(LimitReached::Full);
        }
        if let Some(network) = network {
            let share = Limits::address_share(self.limit, self.limit_of_address, taken.all);
            let count = taken.by_address.get(&network).copied().unwrap_or_default();
            if amount > share.saturating_sub(count) {
                return Err(LimitReached::PerAddress);
            }
            taken.by_address.insert(network, count + amount);
        }
        taken.all += amount;
        Ok(AddressGuard { limits: self.clone(), amount, network })
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        let mut taken = self.limits.taken();
        taken.all -= self.amount;
        if let Some(network) = self.network
            && let Entry::Occupied(mut entry) = taken.by_address.entry(network)
        {
            *entry.get_mut() -= self.amount;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_and_the_share_of_an_address_are_limited() {
        let limits = GatewayLimits { sessions: 3, sessions_per_address: 2, ..GatewayLimits::default() };
        let table = AddressLimits::new(&limits);
        let take = |ip: &str| table.take(Some(ip.parse().expect("an address")));
        let (a, b) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(take("192.0.2.1").err(), Some(LimitReached::PerAddress));
        let c = take("2001:db8::1");
        assert!(c.is_ok());
        assert_eq!(take("2001:db8:1::1").err(), Some(LimitReached::Full));
        assert_eq!(table.take(None).err(), Some(LimitReached::Full));
        drop((a, c));
        assert!(take("192.0.2.1").is_ok() && table.take(None).is_ok());
        drop(b);
        assert!(table.taken().by_address.is_empty() && table.taken().all == 0);
    }

    #[test]
    fn four_addresses_cannot_take_everything() {
        // Of sessions, with the defaults; and of bytes, with a quarter for each address.
        let GatewayLimits { sessions, sessions_per_address, .. } = GatewayLimits::default();
        for (limit, per_address, amount) in [(sessions, sessions_per_address, 1), (256 << 20, 64 << 20, 1 << 20)] {
            let (table, mut taken) = (AddressLimits::of(limit, per_address), Vec::new());
            let address = |n: u8| Some([192, 0, 2, n].into());
            loop {
                let before = taken.len();
                taken.extend((0..4).filter_map(|n| table.take_some(address(n), amount).ok()));
                if taken.len() == before {
                    break;
                }
            }
            assert!(taken.len() * amount < limit / 10 * 8, "{} of {limit}", taken.len() * amount);
            let others: Vec<_> = (10..20).map(|n| table.take_some(address(n), amount)).collect();
            assert!(others.iter().all(Result::is_ok));
        }
    }
}
