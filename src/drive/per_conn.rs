//! One thread per connection: the handler may block there, and delays only its own connection.
//!
//! ```text
//!   acceptor: an engine that keeps nothing ──Arrival──▶ parked thread, or a new one: an engine of one connection
//!
//!   thread:   serving ──its connection ends──▶ parked ──the next arrival──▶ serving …
//!                └──── turns its engine all the time, asleep in its poll ────┘
//! ```
//! A connection has three descriptors (socket, selector, notifier) and a clone of the handler. A thread whose
//! connection has ended is kept for the next one, together with its engine. Outgoing connections and timers of that
//! engine continue while it is parked, and beside the next connection.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use log::warn;

use super::{Clock, Loops, turn_until};
use crate::{
    api::{LoopHandle, loop_message::LoopMessage},
    base::{lock, log_throttle::LogThrottle},
    engine::{Arrival, Engine, HandOff, Setup},
};

/// The maximum number of idle threads that are kept.
const KEPT: usize = 64;

/// The state that the threads share.
pub(crate) struct Threads {
    state: Mutex<State>,
    changed: Condvar,
    make: Box<dyn Fn() -> Setup<'static> + Send + Sync>,
    loops: Loops,
    /// Loops that failed, and threads that could not be started. Without this, each connection would log a line while
    /// the system's resources are exhausted.
    failed: LogThrottle,
}

#[derive(Default)]
struct State {
    parked: Vec<Arc<Parked>>,
    /// All threads, including parked ones.
    count: usize,
}

/// A parked thread, and its next connection.
struct Parked {
    next: Mutex<Option<Arrival>>,
    engine: LoopHandle,
}

impl Parked {
    /// Stores the arrival, then wakes the thread, which looks for it after each turn. Gives it back if the thread has
    /// ended.
    fn give(&self, arrival: Arrival) -> Result<(), Arrival> {
        *lock(&self.next) = Some(arrival);
        match self.engine.0.post(LoopMessage::Wakeup) {
            Ok(()) => Ok(()),
            Err(_) => lock(&self.next).take().map_or(Ok(()), Err),
        }
    }
}

impl Threads {
    pub(crate) fn new(make: impl Fn() -> Setup<'static> + Send + Sync + 'static, loops: Loops) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            make: Box::new(make),
            loops,
            failed: LogThrottle::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives an arrival to a parked thread, or to a new thread.
    pub(crate) fn take(self: &Arc<Self>, mut arrival: Arrival) {
        loop {
            let parked = {
                let mut state = self.state();
                let parked = state.parked.pop();
                state.count += usize::from(parked.is_none());
                parked
            };
            let Some(parked) = parked else { break };
            match parked.give(arrival) {
                Ok(()) => return,
                // The thread has ended meanwhile, as the server stops.
                Err(back) => arrival = back,
            }
        }
        let threads = self.clone();
        let run = move || {
            if let Err(error) = threads.work(arrival) {
                threads.warn("the loop of a connection has failed", &error);
            }
            threads.state().count -= 1;
            threads.changed.notify_all();
        };
        if let Err(error) = Builder::new().name("uncork-conn".into()).spawn(run) {
            self.warn("cannot start a thread for a connection", &error);
            self.state().count -= 1;
        }
    }

    #[cold]
    fn warn(&self, text: &str, error: &io::Error) {
        if let Some(repetitions) = self.failed.record(Clock::new().now().mono) {
            warn!(target: "uncork::drive", "{text}: {error}{repetitions}");
        }
    }

    /// Runs a thread: one connection after the other, and the other work of its engine.
    fn work(self: &Arc<Self>, first: Arrival) -> io::Result<()> {
        let mut clock = Clock::new();
        let threads = self.clone();
        // Streams that the handler of a connection adopts get threads of their own too.
        let hand_off: HandOff = Box::new(move |arrival| threads.take(arrival));
        let mut engine = Engine::new(Setup { hand_off: Some(hand_off), ..(self.make)() }, clock.now())?;
        let own = Arc::new(Parked { next: Mutex::default(), engine: engine.handle() });
        self.loops.add(engine.handle());
        engine.install(first);
        let result = self.turn(&mut engine, &own, &mut clock);
        self.state().parked.retain(|other| !Arc::ptr_eq(other, &own));
        self.loops.remove(&own.engine);
        result
    }

    fn turn(&self, engine: &mut Engine<'static>, own: &Arc<Parked>, clock: &mut Clock) -> io::Result<()> {
        let mut parked = false;
        let mut now = clock.now();
        loop {
            let due = engine.turn(now);
            // After the turn that has read the wake-up; a later one wakes the poll.
            if parked && let Some(next) = lock(&own.next).take() {
                parked = false;
                engine.install(next);
                continue;
            }
            if engine.is_done() {
                return Ok(());
            }
            if !parked && engine.is_vacant() {
                parked = self.park(own);
                if !parked && engine.is_quiet() {
                    return Ok(());
                }
            }
            engine.poll_until(due)?;
            now = clock.now();
        }
    }

    /// Offers the thread for another connection, unless enough threads are parked.
    fn park(&self, own: &Arc<Parked>) -> bool {
        let mut state = self.state();
        let keep = state.parked.len() < KEPT;
        if keep {
            state.parked.push(own.clone());
        }
        keep
    }

    /// Waits until no thread is left, or until `deadline`. Returns how many threads are left that serve a connection.
    fn wait_until(&self, deadline: Instant, clock: &mut Clock) -> usize {
        let mut state = self.state();
        while state.count > 0 {
            let left = deadline.saturating_duration_since(clock.now().mono);
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.count.saturating_sub(state.parked.len())
    }
}

/// Time for the loop of a connection to end after the grace period: it must wake up and report, on a machine that can
/// be busy. It is waited for only if handlers still block.
const SLACK: Duration = Duration::from_secs(2);

/// Starts the thread that accepts, and returns it with the handle of its loop.
///
/// The thread ends when the server was stopped and the last connection has ended, or was abandoned because its handler
/// still blocks after the grace period.
pub(crate) fn start(
    setup: impl FnOnce() -> Setup<'static> + Send + 'static,
    threads: Arc<Threads>,
    grace: impl Fn() -> Option<Duration> + Send + 'static,
) -> io::Result<(JoinHandle<io::Result<()>>, LoopHandle)> {
    let (started, start) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let mut clock = Clock::new();
        let mut engine = match Engine::new(setup(), clock.now()) {
            Ok(engine) => engine,
            Err(error) => {
                let _ = started.send(Err(error));
                return Ok(());
            }
        };
        let handle = engine.handle();
        threads.loops.add(handle.clone());
        let _ = started.send(Ok(handle.clone()));
        let result = turn_until(&mut engine, Engine::is_done);
        threads.loops.remove(&handle);
        if result.is_err() {
            // No connection can be accepted any more.
            threads.loops.stop(None);
        }
        let until = clock.now().mono + grace().unwrap_or(Duration::ZERO) + SLACK;
        let left = threads.wait_until(until, &mut clock);
        result?;
        if left == 0 {
            return Ok(());
        }
        let text = format!("{left} connections were abandoned with their threads: their handlers still block");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    };
    let thread = Builder::new().name("uncork-accept".into()).spawn(run)?;
    let handle = start.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before its loop started")))?;
    Ok((thread, handle))
}
