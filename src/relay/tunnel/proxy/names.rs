//! The owners of names, and the connections that serve them.
//!
//! ```text
//!   claim ──▶ name, owner ── join ──▶ connections ── leave ──▶ none left: still owned, for a while ──▶ free
//! ```
//! A request goes to the exact host before any pattern, and to the longest pattern before shorter ones. There it goes
//! to the longest path.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::shares::Permits;
use crate::relay::tunnel::pattern::{Pattern, is_within};

/// The table of names. `L` is a connection.
pub(super) struct Names<L> {
    exact: HashMap<Box<str>, Vec<Name<L>>>,
    any: HashMap<Box<str>, Vec<Name<L>>>,
    /// Time for which a name without a connection stays with its owner.
    kept: Duration,
    /// Largest number of names of one owner.
    max_names: usize,
    /// Concurrent requests of each name, and the share of an address in percent.
    permits: (usize, u32),
}

/// One name.
pub(super) struct Name<L> {
    path: Box<str>,
    /// The credential that has registered it.
    pub(super) owner: usize,
    pub(super) connections: Vec<L>,
    /// The index of the connection that is next.
    next: usize,
    /// When it becomes free, if no connection joins it.
    free_at: Instant,
    /// Limits the requests in progress.
    pub(super) permits: Arc<Permits>,
}

/// The reason why names are not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClaimError {
    /// Another owner has this one.
    Taken(Pattern),
    /// The owner has too many.
    TooMany,
}

impl<L: Clone> Names<L> {
    pub(super) fn new(kept: Duration, max_names: usize, permits: (usize, u32)) -> Self {
        Self { exact: HashMap::new(), any: HashMap::new(), kept, max_names, permits }
    }

    /// Makes the owner the owner of all these names, or of none.
    pub(super) fn claim(&mut self, patterns: &[Pattern], owner: usize, now: Instant) -> Result<(), ClaimError> {
        self.forget(now);
        let mut more = 0;
        for pattern in patterns {
            match self.get(pattern) {
                Some(name) if name.owner != owner => return Err(ClaimError::Taken(pattern.clone())),
                Some(_) => {}
                None => more += 1,
            }
        }
        let all = self.exact.values().chain(self.any.values()).flatten();
        if all.filter(|name| name.owner == owner).count() + more > self.max_names {
            return Err(ClaimError::TooMany);
        }
        let free_at = now + self.kept;
        for pattern in patterns {
            if let Some(name) = self.get(pattern) {
                name.free_at = free_at;
                continue;
            }
            let Pattern { host, path, any } = pattern.clone();
            let permits = Permits::new(self.permits.0, self.permits.1);
            let names = if any { &mut self.any } else { &mut self.exact }.entry(host).or_default();
            names.push(Name { path, owner, connections: Vec::new(), next: 0, free_at, permits });
            // Longest path first.
            names.sort_by_key(|name| std::cmp::Reverse(name.path.len()));
        }
        Ok(())
    }

    /// Adds a connection to these names, which its owner has claimed.
    pub(super) fn join(&mut self, patterns: &[Pattern], connection: &L) {
        for pattern in patterns {
            if let Some(name) = self.get(pattern) {
                name.connections.push(connection.clone());
            }
        }
    }

    /// Removes a connection from these names.
    pub(super) fn leave(&mut self, patterns: &[Pattern], is_it: impl Fn(&L) -> bool, now: Instant) {
        let free_at = now + self.kept;
        for pattern in patterns {
            if let Some(name) = self.get(pattern) {
                name.connections.retain(|connection| !is_it(connection));
                name.free_at = name.free_at.max(free_at);
            }
        }
    }

    /// Returns the name for a request to this host (in lower case) and path.
    pub(super) fn find(&mut self, host: &str, path: &str, now: Instant) -> Option<&mut Name<L>> {
        let fits = |name: &Name<L>| is_within(path, &name.path) && !name.is_free(now);
        if let Some(at) = self.exact.get(host).and_then(|names| names.iter().position(fits)) {
            return self.exact.get_mut(host)?.get_mut(at);
        }
        // The part behind each dot, the longest first; then the pattern for all.
        let domains = host.match_indices('.').map(|(at, _)| &host[at + 1..]).chain([""]);
        for domain in domains {
            if let Some(at) = self.any.get(domain).and_then(|names| names.iter().position(fits)) {
                return self.any.get_mut(domain)?.get_mut(at);
            }
        }
        None
    }

    /// Returns whether a connection serves this host (in lower case), whatever the path; `None` if it is not
    /// registered.
    #[cfg(feature = "nodes")]
    pub(super) fn has(&self, host: &str, now: Instant) -> Option<bool> {
        let domains = host.match_indices('.').map(|(at, _)| &host[at + 1..]).chain([""]);
        let any = domains.filter_map(|domain| self.any.get(domain));
        let names = self.exact.get(host).into_iter().chain(any).flatten().filter(|name| !name.is_free(now));
        names.map(|name| !name.connections.is_empty()).reduce(|one, other| one || other)
    }

    fn get(&mut self, pattern: &Pattern) -> Option<&mut Name<L>> {
        let table = if pattern.any { &mut self.any } else { &mut self.exact };
        table.get_mut(&pattern.host)?.iter_mut().find(|name| name.path == pattern.path)
    }

    /// Removes names that are free.
    fn forget(&mut self, now: Instant) {
        for table in [&mut self.exact, &mut self.any] {
            table.retain(|_, names| {
                names.retain(|name| !name.is_free(now));
                !names.is_empty()
            });
        }
    }
}

impl<L> Name<L> {
    fn is_free(&self, now: Instant) -> bool {
        self.connections.is_empty() && now >= self.free_at
    }

    /// Returns its connections, beginning with the one that is next.
    pub(super) fn in_turn(&mut self) -> impl Iterator<Item = &L> {
        let from = self.next % self.connections.len().max(1);
        self.next = from + 1;
        self.connections[from..].iter().chain(&self.connections[..from])
    }
}

/// One request in progress, counted until this is dropped.
pub(super) struct Active(Arc<AtomicUsize>);

impl Active {
    pub(super) fn one_more(of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(1, Ordering::Relaxed);
        Self(of.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(600);

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
    }

    fn names() -> (Names<u32>, Instant) {
        (Names::new(KEPT, 8, (1024, 100)), Instant::now())
    }

    fn found(names: &mut Names<u32>, host: &str, path: &str, now: Instant) -> Option<Vec<u32>> {
        names.find(host, path, now).map(|name| name.connections.clone())
    }

    #[test]
    fn the_nearest_name_is_found() {
        let (mut names, now) = names();
        for (connection, pattern) in
            ["a.x.example", "a.x.example/api", "*.x.example", "*.example", "*"].iter().enumerate()
        {
            let patterns = patterns(&[pattern]);
            names.claim(&patterns, 0, now).expect("free");
            names.join(&patterns, &(connection as u32));
        }
        for (host, path, want) in [
            ("a.x.example", "/", 0),
            ("a.x.example", "/api", 1),
            ("a.x.example", "/api/v1", 1),
            ("a.x.example", "/apis", 0),
            ("b.x.example", "/api", 2),
            ("c.b.x.example", "/", 2),
            ("x.example", "/", 3),
            ("example", "/", 4),
            ("elsewhere.test", "*", 4),
        ] {
            assert_eq!(found(&mut names, host, path, now), Some(vec![want]), "{host}{path}");
        }
    }

    #[test]
    fn a_name_stays_with_its_owner_for_a_while() {
        let (mut names, now) = names();
        let name = patterns(&["app.example"]);
        assert_eq!(found(&mut names, "app.example", "/", now), None);
        names.claim(&name, 1, now).expect("free");
        assert_eq!(found(&mut names, "app.example", "/", now), Some(vec![]), "known, but not connected");
        assert_eq!(names.claim(&name, 2, now), Err(ClaimError::Taken(name[0].clone())));
        names.join(&name, &7);
        let later = now + 2 * KEPT;
        assert_eq!(names.claim(&name, 2, later), Err(ClaimError::Taken(name[0].clone())), "in use, for any time");
        names.leave(&name, |connection| *connection == 7, later);
        assert_eq!(names.claim(&name, 2, later), Err(ClaimError::Taken(name[0].clone())), "its owner may reconnect");
        names.claim(&name, 1, later).expect("its owner has reconnected");
        assert_eq!(names.claim(&name, 2, later + KEPT), Ok(()), "the owner did not come back");
        assert_eq!(names.claim(&name, 1, later + KEPT), Err(ClaimError::Taken(name[0].clone())));
    }

    #[test]
    fn all_names_or_none() {
        let (mut names, now) = names();
        names.claim(&patterns(&["a.example"]), 1, now).expect("free");
        let both = patterns(&["b.example", "a.example"]);
        assert_eq!(names.claim(&both, 2, now), Err(ClaimError::Taken(both[1].clone())));
        assert_eq!(found(&mut names, "b.example", "/", now), None);
        let many: Vec<String> = (0..9).map(|i| format!("{i}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(names.claim(&patterns(&many), 2, now), Err(ClaimError::TooMany));
        names.claim(&patterns(&many[..8]), 2, now).expect("as many as one may have");
    }

    #[test]
    fn connections_take_turns() {
        let (mut names, now) = names();
        let name = patterns(&["app.example"]);
        names.claim(&name, 0, now).expect("free");
        [1, 2, 3].iter().for_each(|connection| names.join(&name, connection));
        let mut turn = || {
            let name = names.find("app.example", "/", now).expect("known");
            name.in_turn().copied().collect::<Vec<_>>()
        };
        assert_eq!([turn(), turn(), turn(), turn()], [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
    }

    #[test]
    fn requests_are_counted_while_they_last() {
        let count = Arc::default();
        let (one, two) = (Active::one_more(&count), Active::one_more(&count));
        assert_eq!(count.load(Ordering::Relaxed), 2);
        drop((one, two));
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
