//! Permits for requests, of which an address has a share: the fewer are free, the smaller.
//!
//! ```text
//!   256 permits, 100 %     one address takes 129, and 127 stay free
//!                          four take 51 or 52 each, and 50 stay free
//!                          sixteen take 15 or 16 each, and 14 stay free
//! ```
//! An address gets one more as long as it has no more than are free. So a few addresses can never take all permits,
//! however large the limit is, and a single address is not held back needlessly. (Switches share buffers among their
//! ports in this way: Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998.)

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::relay::lock::lock;

/// The permits of one connection, or of one name.
pub(super) struct Permits {
    limit: AtomicUsize,
    /// Share of one address, in percent of the free permits.
    share: u32,
    /// Changed under the lock only.
    taken: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// The reason why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermitError {
    /// All permits are taken.
    AllTaken,
    /// This address has its share.
    ShareUsed,
}

/// A permit, held until this is dropped.
pub(super) struct Permit {
    permits: Arc<Permits>,
    address: Option<IpAddr>,
}

impl Permits {
    pub(super) fn new(limit: usize, share: u32) -> Arc<Self> {
        Arc::new(Self { limit: limit.into(), share, taken: AtomicUsize::new(0), by_address: Mutex::default() })
    }

    /// Takes a permit for this address (that of its network, in IPv6). Without an address there is no share.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Permit, PermitError> {
        self.take_of(usize::MAX, address)
    }

    /// Takes a permit, if another limit leaves `available` permits.
    pub(super) fn take_of(self: &Arc<Self>, available: usize, address: Option<IpAddr>) -> Result<Permit, PermitError> {
        let mut by_address = self.by_address();
        let free = self.free().min(available);
        if free == 0 {
            return Err(PermitError::AllTaken);
        }
        if let Some(address) = address {
            let has = by_address.get(&address).copied().unwrap_or(0);
            if more(has, self.share, free) == 0 {
                return Err(PermitError::ShareUsed);
            }
            by_address.insert(address, has + 1);
        }
        self.taken.fetch_add(1, Relaxed);
        Ok(Permit { permits: self.clone(), address })
    }

    /// Changes the limit. Permits that are taken stay valid.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    pub(super) fn free(&self) -> usize {
        self.limit.load(Relaxed).saturating_sub(self.taken())
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        lock(&self.by_address)
    }
}

/// Returns how many more permits one address (or name) with `has` permits can take, while no other takes any. It may
/// take one as long as it has no more than `share` percent of the free ones, whose number falls with each.
pub(super) fn more(has: usize, share: u32, free: usize) -> usize {
    let (has, share) = (has as u128 * 100, u128::from(share));
    let left = (free as u128 * share).checked_sub(has).map_or(0, |left| left / (100 + share) + 1);
    usize::try_from(left).map_or(free, |left| left.min(free))
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut by_address = self.permits.by_address();
        self.permits.taken.fetch_sub(1, Relaxed);
        if let Some(address) = self.address
            && let Some(has) = by_address.get_mut(&address)
        {
            *has -= 1;
            if *has == 0 {
                by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    /// Lets this many addresses take what they can get, in turn.
    fn filled(permits: &Arc<Permits>, addresses: u8) -> Vec<Permit> {
        let mut taken = Vec::new();
        loop {
            let before = taken.len();
            taken.extend((0..addresses).filter_map(|n| permits.take(ip(n)).ok()));
            if taken.len() == before {
                return taken;
            }
        }
    }

    #[test]
    fn a_few_addresses_never_take_all() {
        for (addresses, free) in [(1, 127), (4, 50), (16, 14), (64, 2)] {
            let permits = Permits::new(256, 100);
            let taken = filled(&permits, addresses);
            assert_eq!((permits.free(), taken.len()), (free, 256 - free), "{addresses} addresses");
            assert_eq!(permits.take(ip(0)).err(), Some(PermitError::ShareUsed));
            let newcomer = permits.take(ip(200)).expect("there is a permit for one more");
            drop((taken, newcomer));
            assert!(permits.taken() == 0 && permits.by_address().is_empty());
        }
    }

    #[test]
    fn a_share_of_a_share_leaves_some_for_others_too() {
        // One name may have four fifths of a connection's permits, and four addresses ask for that name.
        let (connection, name) = (Permits::new(256, 100), Permits::new(1024, 100));
        let take = |n: u8| {
            let permit = name.take_of(more(name.taken(), 400, connection.free()), ip(n)).ok()?;
            Some((permit, connection.take(ip(n)).ok()?))
        };
        // Each tries more often than it can succeed.
        let taken: Vec<_> = (0..100).flat_map(|_| 0..4).filter_map(take).collect();
        assert!((160..=168).contains(&taken.len()), "{}", taken.len());
        assert!(take(200).is_some(), "a new address that asks for the same name");
    }

    #[test]
    fn more_is_what_can_be_taken_one_by_one() {
        for share in [1, 50, 100, 400, u32::MAX] {
            for (has, free) in [(0, 0), (0, 1), (0, 256), (3, 7), (128, 128), (129, 127), (205, 51), (300, 20)] {
                let is_one_more = |n: usize| (has + n) as u64 * 100 <= (free - n) as u64 * u64::from(share);
                let want = (0..free).take_while(|n| is_one_more(*n)).count();
                assert_eq!(more(has, share, free), want, "{has} + {free}, {share} %");
            }
        }
    }

    #[test]
    fn the_share_is_of_what_is_free() {
        for (share, free) in [(50, 170), (100, 127), (300, 63), (u32::MAX, 0)] {
            let permits = Permits::new(256, share);
            let _taken = filled(&permits, 1);
            assert_eq!(permits.free(), free, "{share} %");
        }
        let permits = Permits::new(usize::MAX, u32::MAX);
        assert!(permits.take(ip(0)).is_ok());
    }

    #[test]
    fn clients_without_an_address_and_small_limits_may_use_all_permits() {
        let permits = Permits::new(2, 100);
        let two: Vec<Permit> = (0..2).map(|_| permits.take(ip(0)).expect("free")).collect();
        assert_eq!(permits.take(ip(1)).err(), Some(PermitError::AllTaken));
        drop(two);
        let _two: Vec<Permit> = (0..2).map(|_| permits.take(None).expect("free")).collect();
        assert_eq!(permits.take(None).err(), Some(PermitError::AllTaken));
        permits.set_limit(1);
        assert_eq!((permits.taken(), permits.free()), (2, 0));
    }
}
