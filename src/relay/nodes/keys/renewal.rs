//! What is done periodically, and after a reconnection.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use uncork::LoopHandle;

use super::{
    super::directory::{Command, Engine, EngineEvents, Reply},
    handle::Inner,
    holder::{Holder, Key},
    leases::{Renewed, millis},
};
use crate::relay::lock::lock;

/// Leases are renewed at this interval: two renewals may fail before one expires.
const RENEW: Duration = Duration::from_secs(10);
/// Renewals are spread over this time, so that other commands do not wait for all of them.
const SPREAD: Duration = Duration::from_secs(8);
/// Number of keys in one pipeline.
const BATCH: usize = 500;
/// Number of keys in one script, while which the engine does nothing else: less than a millisecond.
const RENEWED: usize = 250;
/// The time until keys that the engine did not get are registered again.
const AGAIN: Duration = Duration::from_millis(500);
/// A node renews its own entry, and looks at those of the others, at this interval.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long a node's own entry stays after the last renewal.
const NODE: Duration = Duration::from_secs(10);

/// Keys that are being registered.
struct Registering {
    batches: VecDeque<Vec<Key>>,
    /// The engine is connected, and did not get them: it was too slow, or said "not now".
    failed: Vec<Vec<Key>>,
    /// When the connection was made: a later one registers everything itself.
    since: Option<Instant>,
    done: Box<dyn FnOnce() + Send>,
}

/// The events of the engine.
struct Events(Arc<Inner>);

impl EngineEvents for Events {
    fn connected(&self, _: &Engine, done: Box<dyn FnOnce() + Send>) {
        self.0.clone().heartbeat();
        // The lock ends here.
        let keys = self.0.leases().keys();
        self.0.clone().register_all(keys, done);
    }

    fn message(&self, _channel: &[u8], _payload: &[u8]) {}

    fn lost(&self) {
        // An entry that was missing may be missing because the engine was.
        self.0.forget_absences();
    }
}

impl Inner {
    pub(super) fn run(self: Arc<Self>, on: &LoopHandle) {
        self.engine.start(on, Arc::new(Events(self.clone())), Vec::new());
        let (renewing, beating) = (self.clone(), self);
        renewing.renew_after(on.clone(), RENEW);
        beating.beat_after(on.clone(), HEARTBEAT);
    }

    fn renew_after(self: Arc<Self>, on: LoopHandle, delay: Duration) {
        let next = on.clone();
        on.after(delay, move |_| {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            self.clone().renew_all(&next);
            self.renew_after(next, RENEW);
        });
    }

    fn beat_after(self: Arc<Self>, on: LoopHandle, delay: Duration) {
        let next = on.clone();
        on.after(delay, move |_| {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            self.clone().heartbeat();
            self.clone().look_for_absent_nodes(&next);
            self.clone().report_ended();
            self.clone().register_claimed();
            self.beat_after(next, HEARTBEAT);
        });
    }

    /// Renews this node's own entry.
    fn heartbeat(self: Arc<Self>) {
        let entry = Command::new("SET").key(format!("node:{}", self.nodes.id())).arg(&self.epoch);
        let member = format!("{}:{}", self.nodes.id(), self.epoch);
        let keep_set = self.leases().keep_set();
        self.tell(vec![
            entry.arg("PX").arg(millis(NODE)).hint(),
            Command::new("SADD").key("nodes").arg(member).hint(),
            keep_set.hint(),
        ]);
    }

    /// Renews all leases, batch by batch.
    fn renew_all(self: Arc<Self>, on: &LoopHandle) {
        let keys = self.leases().keys();
        let batches = self.names.batches(keys, RENEWED);
        let count = u32::try_from(batches.len()).unwrap_or(u32::MAX);
        for (n, batch) in (0..).zip(batches) {
            let (inner, share) = (self.clone(), SPREAD * n / count);
            on.after(share, move |_| inner.renew(&batch));
        }
    }

    fn renew(self: Arc<Self>, keys: &[Key]) {
        let renewed = self.leases().renew(keys);
        let Some((renewing, command)) = renewed else { return };
        let inner = self.clone();
        self.engine.send(vec![command], move |result| {
            // Without the engine they are registered again after the reconnection.
            let Some(reply) = result.ok().and_then(|replies| replies.into_iter().next()) else { return };
            let gone = inner.leases().renewed(&renewing, &reply);
            if !gone.is_empty() {
                inner.register_all(gone, Box::new(|| {}));
            }
        });
    }

    /// Registers claimed keys that the engine did not get although it was connected. Without this, one part may be
    /// missing for as long as the lease is renewed: in a cluster, the set of this node's keys is on another server.
    fn register_claimed(self: Arc<Self>) {
        let keys = mem::take(&mut *lock(&self.unregistered));
        if !keys.is_empty() {
            self.register_all(keys.into_iter().collect(), Box::new(|| {}));
        }
    }

    /// Registers keys, batch by batch, and those that the engine did not get again. Calls `done` at the end, or if the
    /// engine is lost: then all are registered again after the reconnection.
    fn register_all(self: Arc<Self>, keys: Vec<Key>, done: Box<dyn FnOnce() + Send>) {
        let since = self.engine.connected_since();
        let batches = self.names.batches(keys, BATCH).into();
        self.register_next(Registering { batches, failed: Vec::new(), since, done });
    }

    fn register_next(self: Arc<Self>, mut registering: Registering) {
        let Some(keys) = registering.batches.pop_front() else { return self.register_failed(registering) };
        let (registered, commands): (Vec<_>, Vec<_>) = {
            let leases = self.leases();
            let one = |key: Key| {
                let (number, commands) = (leases.number(&key)?, leases.register(&key, true)?);
                Some(((key, number), commands))
            };
            keys.into_iter().filter_map(one).unzip()
        };
        let inner = self.clone();
        self.engine.send(commands.into_iter().flatten().collect(), move |result| {
            let Ok(replies) = result else {
                registering.failed.push(registered.into_iter().map(|(key, _)| key).collect());
                // Not at once: without a connection this is called before `send` returns.
                return inner.register_after(Duration::ZERO, registering);
            };
            // The second of each two replies counts.
            for ((key, number), reply) in registered.iter().zip(replies.iter().skip(1).step_by(2)) {
                let registered = inner.leases().registered(key, *number, true, reply);
                match registered {
                    Renewed::Lost => inner.lost_key(key, *number),
                    Renewed::Older(other) => inner.clone().replace(key, *number, other),
                    _ => {}
                }
            }
            inner.register_next(registering);
        });
    }

    fn register_failed(self: Arc<Self>, mut registering: Registering) {
        registering.batches = mem::take(&mut registering.failed).into();
        match registering.batches.is_empty() {
            true => (registering.done)(),
            false => self.register_after(AGAIN, registering),
        }
    }

    fn register_after(self: Arc<Self>, time: Duration, registering: Registering) {
        match self.engine.loop_handle() {
            Some(on) if registering.since.is_some() && self.engine.connected_since() == registering.since => {
                on.after(time, move |_| self.register_next(registering));
            }
            _ => (registering.done)(),
        }
    }

    /// Takes a key from an older lease: both sessions were established while the engine was away.
    fn replace(self: Arc<Self>, key: &Key, number: u64, other: Holder) {
        let Some(command) = self.leases().replace(key, number, &other) else { return };
        let (inner, key) = (self.clone(), key.clone());
        self.engine.send(vec![command], move |result| {
            let has_replaced = matches!(result.as_deref(), Ok([Reply::Int(1)]));
            if has_replaced && !inner.leases().is_own(&other) {
                inner.tell_replaced(&key, &other);
            }
        });
    }

    /// Another node has a key that this one had, too.
    fn lost_key(&self, key: &Key, number: u64) {
        let had = self.leases().lose(key, number);
        if let Some(owner) = self.owner().filter(|_| had) {
            owner.replaced(key, number);
        }
    }

    /// Reports leases that have ended. What the engine does not get is reported later.
    pub(super) fn report_ended(self: Arc<Self>) {
        // Each end of a session calls this: without the engine, it must cost nothing.
        if !self.engine.is_connected() {
            return;
        }
        let (commands, taken) = self.leases().take_ended(BATCH);
        if commands.is_empty() {
            return;
        }
        let inner = self.clone();
        self.engine.send(commands, move |result| match result {
            Ok(_) => inner.report_ended(),
            Err(_) => inner.leases().give_back(taken),
        });
    }
}
