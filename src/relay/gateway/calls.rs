//! Limits how many calls of the application run at once, and chooses the next one that waits.
//!
//! ```text
//!   network a ──▶ [ waits, waits ] ─┐
//!   network b ──▶ [ waits ] ────────┼─ in turn, each within its share ──▶ running ──▶ the application
//!   network c ──▶ [ ] ──────────────┘
//! ```
//! Each client network has a queue of its own, and its share of the calls shrinks as they are taken
//! ([`Limits::address_share`]). So the clients of one address, or of a few, cannot take all calls, and do not delay the
//! others.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use uncork::{Limits, LoopHandle};

use crate::relay::lock::lock;

/// A client's network; `None` for a Unix socket, which has no share of its own.
pub(super) type Network = Option<IpAddr>;

/// The client that a call is made for: the loop of its connection, on which the response is handled, and its network.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) loop_handle: LoopHandle,
    pub(super) network: Network,
}

/// Starts a call. The argument is `None` if too many calls of this network wait already.
type Job = Box<dyn FnOnce(Option<Running>) + Send>;

pub(super) struct Calls {
    limit: usize,
    /// Maximum number of calls of one network that wait.
    waiting: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    networks: HashMap<Network, Queue>,
    /// The networks whose calls wait; the first one is next.
    turn: VecDeque<Network>,
    /// A thread is starting calls. It will notice a change of this state.
    starting: bool,
}

#[derive(Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<Job>,
}

/// A running call; it ends when this is dropped.
pub(super) struct Running {
    calls: Arc<Calls>,
    network: Network,
}

impl Calls {
    pub(super) fn new(limit: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), waiting, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs `job` when it is this network's turn, at once or later.
    pub(super) fn run(self: &Arc<Self>, network: Network, job: impl FnOnce(Option<Running>) + Send + 'static) {
        {
            let mut state = self.state();
            let State { networks, turn, .. } = &mut *state;
            let queue = networks.entry(network).or_default();
            if queue.waiting.len() >= self.waiting {
                drop(state);
                return job(None);
            }
            if queue.waiting.is_empty() {
                turn.push_back(network);
            }
            queue.waiting.push_back(Box::new(job));
        }
        self.start();
    }

    /// Starts the calls that may run. A call that ends meanwhile does not start the next one recursively: that could
    /// overflow the stack.
    fn start(self: &Arc<Self>) {
        let mut state = self.state();
        if mem::replace(&mut state.starting, true) {
            return;
        }
        while let Some((network, job)) = state.next(self.limit) {
            drop(state);
            job(Some(Running { calls: self.clone(), network }));
            state = self.state();
        }
        state.starting = false;
    }
}

impl State {
    fn next(&mut self, limit: usize) -> Option<(Network, Job)> {
        if self.running >= limit {
            return None;
        }
        let share = Limits::address_share(limit, (limit / 4).max(1), self.running);
        for _ in 0..self.turn.len() {
            let network = self.turn.pop_front()?;
            let Some(queue) = self.networks.get_mut(&network) else { continue };
            if network.is_some() && queue.running >= share {
                self.turn.push_back(network);
                continue;
            }
            let Some(job) = queue.waiting.pop_front() else { continue };
            queue.running += 1;
            self.running += 1;
            if !queue.waiting.is_empty() {
                self.turn.push_back(network);
            }
            return Some((network, job));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        {
            let mut state = self.calls.state();
            state.running -= 1;
            if let Some(queue) = state.networks.get_mut(&self.network) {
                queue.running -= 1;
                if queue.running == 0 && queue.waiting.is_empty() {
                    state.networks.remove(&self.network);
                }
            }
        }
        self.calls.start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that run until the test ends them, in the order in which they began.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Entries>>);

    type Entries = Vec<(u8, Option<Running>)>;

    impl Log {
        fn run(&self, calls: &Arc<Calls>, network: u8) {
            let log = self.clone();
            calls.run(Some([192, 0, 2, network].into()), move |running| log.0.lock().unwrap().push((network, running)));
        }

        fn count(&self, network: u8) -> usize {
            self.0.lock().unwrap().iter().filter(|(n, running)| *n == network && running.is_some()).count()
        }

        fn end(&self, network: u8) {
            let mut log = self.0.lock().unwrap();
            let at = log.iter().position(|(n, running)| *n == network && running.is_some()).expect("one runs");
            let running = log[at].1.take();
            drop(log);
            drop(running);
        }
    }

    #[test]
    fn one_network_and_four_leave_calls_to_others() {
        for networks in [1, 4, 100] {
            let (calls, log) = (Calls::new(400, 1000), Log::default());
            for _ in 0..500 {
                (0..networks).for_each(|n| log.run(&calls, n));
            }
            let all: usize = (0..networks).map(|n| log.count(n)).sum();
            assert!(all < 400, "{networks} networks run {all}");
            log.run(&calls, 200);
            assert_eq!(log.count(200), 1, "beside {networks}");
            // The waiting calls run, in turn.
            log.end(200);
            (0..networks).for_each(|n| log.end(n));
            let again: usize = (0..networks).map(|n| log.count(n)).sum();
            assert!(again + 1 >= all && !calls.state().starting, "{again} of {all}");
        }
    }

    #[test]
    fn all_of_them_run_in_the_end_and_nothing_is_left() {
        let (calls, log) = (Calls::new(1, 10_000), Log::default());
        for n in [1, 1, 1, 2, 1, 2] {
            log.run(&calls, n);
        }
        for n in [1, 1, 2, 1, 2, 1] {
            log.end(n);
        }
        let state = calls.state();
        assert!(state.running == 0 && state.networks.is_empty() && state.turn.is_empty());
        drop(state);
        // Ten thousand that end as soon as they begin.
        log.run(&calls, 1);
        for _ in 0..10_000 {
            calls.run(None, drop);
        }
        log.end(1);
        assert_eq!(calls.state().running, 0);
    }

    #[test]
    fn too_many_of_one_network_do_not_wait() {
        let (calls, log) = (Calls::new(4, 2), Log::default());
        (0..5).for_each(|_| log.run(&calls, 1));
        let rejected = log.0.lock().unwrap().iter().filter(|(_, running)| running.is_none()).count();
        assert_eq!((log.count(1), rejected), (1, 2));
        log.run(&calls, 2);
        assert_eq!(log.count(2), 1);
    }
}
