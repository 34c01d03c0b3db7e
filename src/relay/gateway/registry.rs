//! All sessions, by their keys.
//!
//! ```text
//!   key ──▶ [ established, established later, … ]     messages go to the last one
//! ```
//!
//! A key nearly always has one session. It has several only while a new session with the same key is being established.
//! The new one gets the messages from then on, but the old one stays until the application agrees. If it agrees, the
//! old one is closed; if not, the old one continues as before. A session that ends removes only itself.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{key::Key, session::Session};
use crate::relay::lock::lock;

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
        lock(&self.sessions)
    }

    /// Adds a session; messages for its key go to it from now on.
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

    /// Removes and returns the sessions that an established session replaces; the caller closes them.
    pub(super) fn settle(&self, session: &Arc<Session>) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions();
        let Some(list) = sessions.get_mut(&**session.key()) else { return Vec::new() };
        let Some(at) = list.all().iter().position(|other| Arc::ptr_eq(other, session)) else { return Vec::new() };
        if at == 0 {
            return Vec::new();
        }
        let mut replaced = list.all().to_vec();
        let kept = replaced.split_off(at);
        if let Some(kept) = SessionList::of(kept) {
            *list = kept;
        }
        replaced
    }

    /// Removes a session that has ended. Returns the session that has its key now, if there is one.
    pub(super) fn remove(&self, session: &Arc<Session>) -> Option<Arc<Session>> {
        let mut sessions = self.sessions();
        let Entry::Occupied(mut entry) = sessions.entry(session.key().clone()) else { return None };
        let rest: Vec<_> = entry.get().all().iter().filter(|other| !Arc::ptr_eq(other, session)).cloned().collect();
        let successor = rest.last().cloned();
        match SessionList::of(rest) {
            Some(list) => drop(entry.insert(list)),
            None => drop(entry.remove()),
        }
        successor
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.sessions().contains_key(key)
    }

    /// Returns the sessions of these keys, in their order; `None` for a key without a session.
    pub(super) fn find<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Option<Arc<Session>>> {
        let sessions = self.sessions();
        keys.map(|key| sessions.get(key).and_then(|list| list.all().last()).cloned()).collect()
    }

    /// Returns the session of this key that gets its messages.
    #[cfg(feature = "directory")]
    pub(super) fn session(&self, key: &[u8]) -> Option<Arc<Session>> {
        self.find(std::iter::once(key)).pop().flatten()
    }

    /// Returns the session of this key with this lease.
    #[cfg(feature = "directory")]
    pub(super) fn with_lease(&self, key: &[u8], number: u64) -> Option<Arc<Session>> {
        let sessions = self.sessions();
        sessions.get(key)?.all().iter().find(|session| session.lease().number == number).cloned()
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.sessions().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::gateway::lease::Lease;

    fn session(key: &str) -> Arc<Session> {
        Session::new(key.as_bytes().into(), Lease::default(), 1, 1)
    }

    fn find(registry: &Registry, key: &str) -> Option<Arc<Session>> {
        registry.find([key.as_bytes()].into_iter()).pop().flatten()
    }

    #[track_caller]
    fn assert_is(found: Option<Arc<Session>>, want: &Arc<Session>) {
        assert!(found.is_some_and(|found| Arc::ptr_eq(&found, want)));
    }

    #[test]
    fn a_session_that_ends_removes_only_itself() {
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
    fn a_session_that_is_rejected_does_not_affect_the_old_one() {
        let registry = Registry::default();
        let (old, a, b) = (session("k"), session("k"), session("k"));
        for session in [&old, &a, &b] {
            registry.add(session.clone());
        }
        assert_is(registry.remove(&a), &b);
        assert_is(find(&registry, "k"), &b);
        assert_is(registry.remove(&b), &old);
        assert_is(find(&registry, "k"), &old);
        assert!(registry.settle(&old).is_empty(), "there was no older session");
        assert!(registry.settle(&b).is_empty(), "it was removed");
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
}
