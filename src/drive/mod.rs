//! The three modes: own threads, the application's loop, or one thread per connection. Three ways to turn the same
//! engine, with no protocol in any of them.
//!
//! ```text
//!   threads    n engines, each in a thread of its own:      loop { poll(wait); turn(now) }
//!   external   the application sleeps, on one descriptor:   turn(), when it is readable or Wait has passed
//!   per_conn   an engine of one connection on its thread:   the same loop; its handler may block
//! ```
//!
//! The only module that reads the clocks: time is an argument everywhere else.

pub(crate) mod external;
pub(crate) mod per_conn;
pub(crate) mod threads;

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    api::{LoopHandle, loop_message::LoopMessage},
    base::{Moment, lock},
    engine::Engine,
};

/// Reads the clocks. The wall clock is read once a second; in between, the monotonic clock advances it.
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

/// The loops of a server, for the handles that stop it.
#[derive(Clone, Default)]
pub(crate) struct Loops(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    loops: Vec<LoopHandle>,
    /// The grace period of a stop, for loops that start later.
    stop: Option<Option<Duration>>,
}

impl Loops {
    pub(crate) fn add(&self, handle: LoopHandle) {
        let stop = {
            let mut registry = lock(&self.0);
            registry.loops.push(handle.clone());
            registry.stop
        };
        if let Some(grace) = stop {
            let _ = handle.0.post(LoopMessage::Stop(grace));
        }
    }

    pub(crate) fn remove(&self, handle: &LoopHandle) {
        lock(&self.0).loops.retain(|other| handle != other);
    }

    pub(crate) fn all(&self) -> Vec<LoopHandle> {
        lock(&self.0).loops.clone()
    }

    /// Returns the grace period, if the server was stopped with one.
    pub(crate) fn grace(&self) -> Option<Duration> {
        lock(&self.0).stop.flatten()
    }

    pub(crate) fn stop(&self, grace: Option<Duration>) {
        let loops = {
            let mut registry = lock(&self.0);
            registry.stop = Some(grace);
            registry.loops.clone()
        };
        for handle in loops {
            // A loop that has ended needs no stopping.
            let _ = handle.0.post(LoopMessage::Stop(grace));
        }
    }
}

/// A handle that stops a server, from any thread.
///
/// Its methods do not wait: they post a message to each loop. They lock a mutex, so a signal handler must not call
/// them; let it write to a pipe, and stop the server from the thread that reads the pipe. A server can be stopped
/// several times: the earliest end counts.
#[derive(Clone)]
pub struct StopHandle(pub(crate) Loops);

impl StopHandle {
    /// Stops the server at once: closes every connection, and ends requests with
    /// [`EndReason::Stopped`](crate::EndReason::Stopped).
    pub fn stop_now(&self) {
        self.0.stop(None);
    }

    /// Stops the server gracefully. Listeners close after their queues were emptied, and idle connections close.
    /// Requests in progress are finished, with `Connection: close`. Upgrades see
    /// [`Events::is_stopping`](crate::Events::is_stopping).
    ///
    /// Connections that are left after `grace` are closed; requests that are still suspended get a 503. A later call
    /// can shorten the grace period, not extend it.
    pub fn shutdown(&self, grace: Duration) {
        self.0.stop(Some(grace));
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopHandle(..)")
    }
}

/// Turns an engine in this thread until `is_over` returns `true`.
pub(crate) fn turn_until<'h>(engine: &mut Engine<'h>, is_over: impl Fn(&Engine<'h>) -> bool) -> io::Result<()> {
    let mut clock = Clock::new();
    let mut now = clock.now();
    loop {
        let due = engine.turn(now);
        if is_over(engine) {
            return Ok(());
        }
        engine.poll_until(due)?;
        now = clock.now();
    }
}
