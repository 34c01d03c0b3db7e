//! The set of woken streams of a connection.
//!
//! ```text
//!   pipe, another loop ──▶ task::Waker of a key ──▶ [ keys ] ──take──▶ only these are driven
//!                                                          └─ outside of a call: the connection's own waker
//! ```
//! A connection carries hundreds of streams, and has one [`Waker`]. So each stream has a waker of its own,
//! which notes the stream's key. The connection is woken once, and drives the noted streams only. A wake-up during a
//! call of the connection needs no message: the call finds it before it ends.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Wake},
};

use uncork::Waker;

use crate::relay::lock::lock;

/// The keys that were woken, and the connection's waker. Clones share one set.
#[derive(Clone)]
pub(super) struct Wakes(Arc<Mutex<Set>>);

struct Set {
    /// Each of them owns the set, which is why the end of a connection must [`close`](Wakes::close) it.
    woken: Vec<Arc<Key>>,
    /// The connection is in a call, and looks here before the call ends. It also does so in its first call.
    in_call: bool,
    connection: Option<Waker>,
    closed: bool,
}

struct Key {
    wakes: Wakes,
    key: usize,
    noted: AtomicBool,
}

impl Wakes {
    /// Returns an empty set.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Set { woken: Vec::new(), in_call: true, connection: None, closed: false })))
    }

    /// Returns a waker that notes `key`. Keys may be reused: a late wake-up then causes one needless look.
    pub(super) fn waker(&self, key: usize) -> task::Waker {
        Arc::new(Key { wakes: self.clone(), key, noted: AtomicBool::new(false) }).into()
    }

    /// Begins a call of the connection. `waker` is called once.
    pub(super) fn begin(&self, waker: impl FnOnce() -> Waker) {
        let mut set = self.set();
        set.in_call = true;
        set.connection.get_or_insert_with(waker);
    }

    /// Moves the woken keys into `keys`, in the order of waking, each once.
    pub(super) fn take(&self, keys: &mut Vec<usize>) {
        let mut set = self.set();
        for woken in set.woken.drain(..) {
            // In this order: a wake-up from now on is noted again.
            woken.noted.store(false, Ordering::Release);
            keys.push(woken.key);
        }
    }

    /// Ends the call. Returns `false` if a key was woken meanwhile; then the call must go on.
    pub(super) fn end(&self) -> bool {
        let mut set = self.set();
        set.in_call = !set.woken.is_empty();
        !set.in_call
    }

    /// Ends the call although there is work left, so that other connections have their turn: the connection is woken.
    pub(super) fn pause(&self) {
        let mut set = self.set();
        set.in_call = false;
        if let Some(connection) = &set.connection {
            connection.wake();
        }
    }

    /// Forgets the woken keys. From now on none is noted.
    pub(super) fn close(&self) {
        let woken = {
            let mut set = self.set();
            (set.closed, set.connection) = (true, None);
            std::mem::take(&mut set.woken)
        };
        drop(woken);
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        lock(&self.0)
    }
}

impl Wake for Key {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.noted.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut set = self.wakes.set();
        if set.closed {
            return;
        }
        set.woken.push(self.clone());
        // Only the first of many wakes the connection: the others are found with it. A wake-up posts a message, and
        // runs nothing.
        if !set.in_call
            && set.woken.len() == 1
            && let Some(connection) = &set.connection
        {
            connection.wake();
        }
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.set();
        f.debug_struct("Wakes").field("woken", &set.woken.len()).field("in_call", &set.in_call).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(wakes: &Wakes) -> Vec<usize> {
        let mut keys = Vec::new();
        wakes.take(&mut keys);
        keys
    }

    #[test]
    fn each_key_is_noted_once_until_it_is_taken() {
        let wakes = Wakes::new();
        let (a, b) = (wakes.waker(1), wakes.waker(2));
        b.wake_by_ref();
        a.wake_by_ref();
        b.wake_by_ref();
        assert!(!wakes.end(), "two keys are noted");
        assert_eq!(taken(&wakes), [2, 1]);
        b.wake();
        assert_eq!(taken(&wakes), [2]);
        assert!(wakes.end());
    }

    #[test]
    fn nothing_is_left_of_a_connection_that_has_ended() {
        let wakes = Wakes::new();
        let pump = crate::relay::tunnel::pump::Pump::new(&wakes);
        let (before, after) = (wakes.waker(1), wakes.waker(2));
        before.wake();
        drop(pump);
        after.wake();
        assert_eq!(Arc::strong_count(&wakes.0), 1);
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        let wakes = Wakes::new();
        let threads: Vec<_> = (0..4)
            .map(|key| {
                let waker = wakes.waker(key);
                std::thread::spawn(move || (0..10_000).for_each(|_| waker.wake_by_ref()))
            })
            .collect();
        let mut seen = [false; 4];
        while !threads.iter().all(std::thread::JoinHandle::is_finished) {
            taken(&wakes).into_iter().for_each(|key| seen[key] = true);
        }
        taken(&wakes).into_iter().for_each(|key| seen[key] = true);
        assert_eq!(seen, [true; 4]);
        assert!(wakes.end());
    }
}
