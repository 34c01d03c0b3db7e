//! Who is there: sessions by their keys, and how many there are of each address.
//!
//! ```text
//!   key ──▶ [ established, established later, … ]     the last one is whom messages go to
//! ```
//!
//! A key is nearly always one session. It is several only while a new one with the same key is being established: the
//! new one has the messages from then on, but the old one stays until the application has agreed. If it has, the old one
//! is closed; if not, it is as if nothing had been. Whoever leaves takes out itself, never somebody else.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uncork::{Limits, PeerAddr};

use super::{GatewayLimits, session::Session};

/// A session's key, as it stood in the header field: any bytes.
pub(super) type Key = Arc<[u8]>;

/// All sessions.
#[derive(Default)]
pub(super) struct Registry {
    sessions: Mutex<HashMap<Key, SessionList>>,
}

/// The sessions of one key, the newest last; never empty.
enum SessionList {
    One(Arc<Session>),
    Several(Vec<Arc<Session>>),
}

impl SessionList {
    fn all(&self) -> &[Arc<Session>] {
        match self {
            Self::One(session) => std::slice::from_ref(session),
            Self::Several(sessions) => sessions,
        }
    }

    fn of(mut sessions: Vec<Arc<Session>>) -> Option<Self> {
        match sessions.len() {
            0 | 1 => sessions.pop().map(Self::One),
            _ => Some(Self::Several(sessions)),
        }
    }
}

impl Registry {
    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, SessionList>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, messages for its key go to this session.
    pub(super) fn add(&self, session: Arc<Session>) {
        match self.sessions().entry(session.key().clone()) {
            Entry::Vacant(entry) => {
                entry.insert(SessionList::One(session));
            }
            Entry::Occupied(mut entry) => {
                let several = entry.get().all().iter().cloned().chain([session]).collect();
                entry.insert(SessionList::Several(several));
            }
        }
    }

    /// This session is to stay: takes out those it replaces, for the caller to close.
    pub(super) fn settle(&self, session: &Arc<Session>) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions();
        let Some(line) = sessions.get_mut(&**session.key()) else { return Vec::new() };
        let Some(at) = line.all().iter().position(|other| Arc::ptr_eq(other, session)) else { return Vec::new() };
        if at == 0 {
            return Vec::new();
        }
        let mut replaced = line.all().to_vec();
        let kept = replaced.split_off(at);
        if let Some(kept) = SessionList::of(kept) {
            *line = kept;
        }
        replaced
    }

    /// It is gone. Who has its key now.
    pub(super) fn remove(&self, session: &Arc<Session>) -> Option<Arc<Session>> {
        let mut sessions = self.sessions();
        let Entry::Occupied(mut entry) = sessions.entry(session.key().clone()) else { return None };
        let rest: Vec<_> = entry.get().all().iter().filter(|other| !Arc::ptr_eq(other, session)).cloned().collect();
        let heir = rest.last().cloned();
        match SessionList::of(rest) {
            Some(line) => drop(entry.insert(line)),
            None => drop(entry.remove()),
        }
        heir
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.sessions().contains_key(key)
    }

    /// The sessions of these keys, in their order; of those that are not there, nothing.
    pub(super) fn find<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Option<Arc<Session>>> {
        let sessions = self.sessions();
        keys.map(|key| sessions.get(key).and_then(|line| line.all().last()).cloned()).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sessions().len()
    }
}

/// The places there are for sessions; or bytes, for what they say.
pub(super) struct AddressLimits {
    taken: Mutex<Taken>,
    most: usize,
    most_of_address: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place somebody has, until this is dropped.
pub(super) struct AddressGuard {
    places: Arc<AddressLimits>,
    amount: usize,
    network: Option<IpAddr>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// There are too many in all.
    Full,
    /// There are too many of this address.
    Crowded,
}

impl AddressLimits {
    pub(super) fn new(limits: &GatewayLimits) -> Arc<Self> {
        Self::of(limits.sessions, limits.sessions_per_address)
    }

    /// So many in all, and for one address; the share of an address shrinks as they fill
    /// ([`Limits::address_share`]).
    pub(super) fn of(most: usize, most_of_address: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), most, most_of_address })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody from this address; who has none is not counted by it.
    pub(super) fn take(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<AddressGuard, LimitReached> {
        self.take_some(ip, 1)
    }

    /// As [`take`](Self::take), but so many at once.
    pub(super) fn take_some(self: &Arc<Self>, ip: Option<IpAddr>, amount: usize) -> Result<AddressGuard, LimitReached> {
        let network = ip.map(PeerAddr::network_of);
        let mut taken = self.taken();
        if amount > self.most - taken.all.min(self.most) {
            return Err(LimitReached::Full);
        }
        if let Some(network) = network {
            let share = Limits::address_share(self.most, self.most_of_address, taken.all);
            let count = taken.by_address.get(&network).copied().unwrap_or_default();
            if amount > share.saturating_sub(count) {
                return Err(LimitReached::Crowded);
            }
            taken.by_address.insert(network, count + amount);
        }
        taken.all += amount;
        Ok(AddressGuard { places: self.clone(), amount, network })
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
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

    fn session(key: &str) -> Arc<Session> {
        Session::new(key.as_bytes().into(), 1, 1)
    }

    fn find(registry: &Registry, key: &str) -> Option<Arc<Session>> {
        registry.find([key.as_bytes()].into_iter()).pop().flatten()
    }

    #[track_caller]
    fn assert_is(found: Option<Arc<Session>>, want: &Arc<Session>) {
        assert!(found.is_some_and(|found| Arc::ptr_eq(&found, want)));
    }

    #[test]
    fn who_leaves_takes_out_itself() {
        let registry = Registry::default();
        let (old, new) = (session("a"), session("a"));
        registry.add(old.clone());
        registry.add(new.clone());
        assert_is(find(&registry, "a"), &new);
        assert_eq!(registry.settle(&new).len(), 1);
        assert_is(registry.remove(&old), &new);
        assert_is(find(&registry, "a"), &new);
        assert!(registry.remove(&new).is_none() && registry.len() == 0);
        assert!(registry.remove(&new).is_none(), "twice does no harm");
    }

    #[test]
    fn who_is_refused_leaves_the_old_one_where_it_was() {
        let registry = Registry::default();
        let (old, a, b) = (session("k"), session("k"), session("k"));
        for session in [&old, &a, &b] {
            registry.add(session.clone());
        }
        assert_is(registry.remove(&a), &b);
        assert_is(find(&registry, "k"), &b);
        assert_is(registry.remove(&b), &old);
        assert_is(find(&registry, "k"), &old);
        assert!(registry.settle(&old).is_empty(), "nobody was there before");
        assert!(registry.settle(&b).is_empty(), "it is gone");
    }

    #[test]
    fn an_older_one_that_is_agreed_to_late_does_not_close_a_newer_one() {
        let registry = Registry::default();
        let (first, a, b) = (session("k"), session("k"), session("k"));
        for session in [&first, &a, &b] {
            registry.add(session.clone());
        }
        assert!(matches!(&registry.settle(&a)[..], [replaced] if Arc::ptr_eq(replaced, &first)));
        assert_is(find(&registry, "k"), &b);
        assert!(matches!(&registry.settle(&b)[..], [replaced] if Arc::ptr_eq(replaced, &a)));
        assert_is(find(&registry, "k"), &b);
    }

    #[test]
    fn sessions_are_found_in_the_order_of_their_keys() {
        let registry = Registry::default();
        let (a, b) = (session("a"), session("b"));
        registry.add(a.clone());
        registry.add(b.clone());
        let found = registry.find(["b", "x", "a", "b"].map(str::as_bytes).into_iter());
        let found: Vec<_> = found.iter().map(|s| s.as_ref().map(|s| s.key().to_vec())).collect();
        assert_eq!(found, [Some(b"b".to_vec()), None, Some(b"a".to_vec()), Some(b"b".to_vec())]);
        assert!(registry.has(b"a") && !registry.has(b"x"));
    }

    #[test]
    fn places_are_limited_in_all_and_by_address() {
        let limits = GatewayLimits { sessions: 3, sessions_per_address: 2, ..GatewayLimits::default() };
        let places = AddressLimits::new(&limits);
        let take = |ip: &str| places.take(Some(ip.parse().expect("an address")));
        let (a, b) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(take("192.0.2.1").err(), Some(LimitReached::Crowded));
        let c = take("2001:db8::1");
        assert!(c.is_ok());
        assert_eq!(take("2001:db8:1::1").err(), Some(LimitReached::Full));
        assert_eq!(places.take(None).err(), Some(LimitReached::Full));
        drop((a, c));
        assert!(take("192.0.2.1").is_ok() && places.take(None).is_ok());
        drop(b);
        assert!(places.taken().by_address.is_empty() && places.taken().all == 0);
    }

    #[test]
    fn four_addresses_cannot_take_all_places() {
        // Of sessions, by default; and of bytes, a quarter for each.
        let GatewayLimits { sessions, sessions_per_address, .. } = GatewayLimits::default();
        for (most, per_address, amount) in [(sessions, sessions_per_address, 1), (256 << 20, 64 << 20, 1 << 20)] {
            let (places, mut taken) = (AddressLimits::of(most, per_address), Vec::new());
            let address = |n: u8| Some([192, 0, 2, n].into());
            loop {
                let before = taken.len();
                taken.extend((0..4).filter_map(|n| places.take_some(address(n), amount).ok()));
                if taken.len() == before {
                    break;
                }
            }
            assert!(taken.len() * amount < most / 10 * 8, "{} of {most}", taken.len() * amount);
            let others: Vec<_> = (10..20).map(|n| places.take_some(address(n), amount)).collect();
            assert!(others.iter().all(Result::is_ok));
        }
    }
}
