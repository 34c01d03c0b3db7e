//! Who waits: own threads, the application's loop, or one thread per connection. Three ways to turn the same engine,
//! with no protocol in any of them.
//!
//! ```text
//!   threads    n engines, each in a thread of its own:      loop { poll(wait); turn(now) }
//!   external   the application sleeps, on one descriptor:   turn(), when it is readable or Wait is over
//!   per_conn   an engine of one connection on its thread:   the same loop; its handler may block
//! ```
//!
//! The only room that reads the clocks: time is an argument everywhere else.

pub(crate) mod external;
pub(crate) mod per_conn;
pub(crate) mod threads;

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    api::{LoopHandle, loop_message::LoopMessage},
    base::Moment,
    engine::Engine,
};

/// Reads the clocks. The wall clock is read once a second and carried on by the monotonic one in between.
pub(crate) struct Clock {
    read: Moment,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]
    pub(crate) fn new() -> Self {
        Self { read: Moment { mono: Instant::now(), wall: SystemTime::now() } }
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]
    pub(crate) fn now(&mut self) -> Moment {
        let mono = Instant::now();
        let since = mono.saturating_duration_since(self.read.mono);
        if since >= Duration::from_secs(1) {
            self.read = Moment { mono, wall: SystemTime::now() };
            return self.read;
        }
        Moment { mono, wall: self.read.wall + since }
    }
}

/// The loops of a server, as those see them who want to stop it.
#[derive(Clone, Default)]
pub(crate) struct Loops(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    loops: Vec<LoopHandle>,
    /// The order to stop, for loops that come later.
    stop: Option<Option<Duration>>,
}

impl Loops {
    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, one: LoopHandle) {
        let stop = {
            let mut registry = self.registry();
            registry.loops.push(one.clone());
            registry.stop
        };
        if let Some(grace) = stop {
            let _ = one.0.post(LoopMessage::Stop(grace));
        }
    }

    pub(crate) fn remove(&self, one: &LoopHandle) {
        self.registry().loops.retain(|other| !Arc::ptr_eq(&one.0, &other.0));
    }

    pub(crate) fn all(&self) -> Vec<LoopHandle> {
        self.registry().loops.clone()
    }

    /// The grace that was granted, if it was stopped with one.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.registry().stop.flatten()
    }

    pub(crate) fn stop(&self, grace: Option<Duration>) {
        let loops = {
            let mut registry = self.registry();
            registry.stop = Some(grace);
            registry.loops.clone()
        };
        for one in loops {
            // A loop that has ended needs no stopping.
            let _ = one.0.post(LoopMessage::Stop(grace));
        }
    }
}

/// Stops a server, from any thread: after reading a signal handler's self-pipe, for instance.
#[derive(Clone)]
pub struct StopHandle(pub(crate) Loops);

impl StopHandle {
    /// At once: every connection is closed, and requests end with [`EndReason::Stopped`](crate::EndReason::Stopped).
    pub fn stop_now(&self) {
        self.0.stop(None);
    }

    /// Gracefully: listeners close when their queues are empty, idle connections close, requests under way are
    /// finished (with `Connection: close`), upgrades are told. What is left after `grace` ends: tickets that still
    /// wait are answered with 503. May be called again with a shorter grace.
    pub fn shutdown(&self, grace: Duration) {
        self.0.stop(Some(grace));
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

/// Turns an engine in this thread until `over`.
pub(crate) fn turn_until<'h>(engine: &mut Engine<'h>, over: impl Fn(&Engine<'h>) -> bool) -> io::Result<()> {
    let mut clock = Clock::new();
    let mut now = clock.now();
    loop {
        let due = engine.turn(now);
        if over(engine) {
            return Ok(());
        }
        engine.poll_until(due)?;
        now = clock.now();
    }
}
