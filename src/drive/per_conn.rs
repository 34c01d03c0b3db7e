//! One thread per connection: there the handler may block, and costs its own connection only.
//!
//! ```text
//!   acceptor: an engine that keeps nothing ──Arrival──▶ idle thread, or a new one: an engine of one connection
//! ```
//! A connection has three descriptors (socket, selector, bell) and a clone of the handler. Finished threads are kept
//! for the next connection, engine and all.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use log::warn;

use super::{Clock, Loops, turn_until};
use crate::{
    api::Loop,
    engine::{Arrival, Elsewhere, Engine, Setup},
};

/// Threads that have nothing to do and are kept.
const KEPT: usize = 64;

/// What the threads share: who is idle, and how many are at work.
pub(crate) struct Threads {
    state: Mutex<State>,
    changed: Condvar,
    make: Box<dyn Fn() -> Setup<'static> + Send + Sync>,
    loops: Loops,
}

#[derive(Default)]
struct State {
    idle: Vec<Sender<Order>>,
    /// Threads that have a connection.
    busy: usize,
    /// Threads there are.
    alive: usize,
    stopped: bool,
}

/// What a thread is told.
enum Order {
    Serve(Arrival),
    End,
}

impl Threads {
    pub(crate) fn new(make: impl Fn() -> Setup<'static> + Send + Sync + 'static, loops: Loops) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), make: Box::new(make), loops })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an arrival to an idle thread, or to a new one.
    pub(crate) fn take(self: &Arc<Self>, arrival: Arrival) -> Result<(), Arrival> {
        let idle = {
            let mut state = self.state();
            state.busy += 1;
            let idle = state.idle.pop();
            state.alive += usize::from(idle.is_none());
            idle
        };
        // An idle thread waits for its order: it is there to take it.
        let thread = match idle {
            Some(thread) => thread,
            None => {
                let (give, get) = channel();
                let (threads, own) = (self.clone(), give.clone());
                let spawned = Builder::new().name("uncork-conn".into()).spawn(move || threads.work(&own, &get));
                if let Err(error) = spawned {
                    warn!(target: "uncork::drive", "no thread for another connection: {error}");
                    let mut state = self.state();
                    (state.busy, state.alive) = (state.busy - 1, state.alive - 1);
                    return Err(arrival);
                }
                give
            }
        };
        thread.send(Order::Serve(arrival)).map_err(|back| match back.0 {
            Order::Serve(arrival) => arrival,
            Order::End => unreachable!("an order comes back as it was given"),
        })
    }

    /// A thread's life: one connection after the other.
    fn work(self: &Arc<Self>, own: &Sender<Order>, get: &Receiver<Order>) {
        let mut engine: Option<(Engine<'static>, Loop)> = None;
        while let Ok(Order::Serve(arrival)) = get.recv() {
            if let Err(error) = self.serve(&mut engine, arrival) {
                warn!(target: "uncork::drive", "a connection's loop has failed: {error}");
            }
            let mut state = self.state();
            state.busy -= 1;
            let keep = !state.stopped && state.idle.len() < KEPT;
            if keep {
                state.idle.push(own.clone());
            }
            drop(state);
            if !keep {
                break;
            }
        }
        if let Some((_, handle)) = &engine {
            self.loops.remove(handle);
        }
        drop(engine);
        self.state().alive -= 1;
        self.changed.notify_all();
    }

    fn serve(self: &Arc<Self>, engine: &mut Option<(Engine<'static>, Loop)>, arrival: Arrival) -> io::Result<()> {
        if engine.is_none() {
            let threads = self.clone();
            // What a connection's handler adopts gets a thread of its own, too.
            let elsewhere: Elsewhere = Box::new(move |arrival| threads.take(arrival));
            let setup = Setup { elsewhere: Some(elsewhere), ..(self.make)() };
            let admission = setup.admission.clone();
            let new = Engine::new(setup, Clock::new().now()).inspect_err(|_| admission.leave(&arrival.peer))?;
            let handle = new.handle();
            self.loops.add(handle.clone());
            *engine = Some((new, handle));
        }
        let Some((engine, _)) = engine else { return Ok(()) };
        engine.install(arrival);
        turn_until(engine, Engine::is_empty)
    }

    /// No thread is kept from now on, and the idle ones end.
    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for thread in state.idle.drain(..) {
            let _ = thread.send(Order::End);
        }
    }

    /// Waits until no thread is left, or `deadline`; how many connections are.
    fn wait_until(&self, deadline: Option<Instant>, clock: &mut Clock) -> usize {
        let mut state = self.state();
        while state.alive > 0 {
            let left = deadline.map(|at| at.saturating_duration_since(clock.now().mono));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            // Without a deadline, connections end by their own; look again now and then all the same.
            let pause = left.unwrap_or(Duration::from_secs(1));
            state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.busy
    }
}

/// Time for a connection's own loop to end after the grace: it has to be woken, and to report.
const SLACK: Duration = Duration::from_millis(500);

/// Starts the thread that accepts; it ends when the server was stopped and the last connection is over, or is given
/// up because its handler still blocks after the grace.
pub(crate) fn start(
    setup: impl FnOnce() -> Setup<'static> + Send + 'static,
    threads: Arc<Threads>,
    grace: impl Fn() -> Option<Duration> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let mut clock = Clock::new();
        let mut engine = match Engine::new(setup(), clock.now()) {
            Ok(engine) => engine,
            Err(error) => {
                let _ = tell.send(Err(error));
                return Ok(());
            }
        };
        let handle = engine.handle();
        threads.loops.add(handle.clone());
        let _ = tell.send(Ok(()));
        let result = turn_until(&mut engine, Engine::is_done);
        threads.loops.remove(&handle);
        threads.stop();
        let until = clock.now().mono + grace().unwrap_or(Duration::ZERO) + SLACK;
        let left = threads.wait_until(Some(until), &mut clock);
        result?;
        if left == 0 {
            return Ok(());
        }
        let words = format!("{left} connections were abandoned with their threads: their handlers still block");
        Err(io::Error::new(io::ErrorKind::TimedOut, words))
    };
    let thread = Builder::new().name("uncork-accept".into()).spawn(run)?;
    told.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before it began")))?;
    Ok(thread)
}
