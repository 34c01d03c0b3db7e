//! One of the connections that a tunnel keeps: opened, ended, and opened again.
//!
//! ```text
//!   connect ─▶ resolve, in its own thread ─▶ dial each address in turn ─▶ Carrier: requests ─▶ established
//!      ▲                        └──────────────────┴──────────────────────────────────┴──▶ failed ─┐
//!      ├────── after a random part of 0.5 s, 1 s, 2 s … 60 s ◀──────────────────── ended ◀─────────┤
//!      ├────── at once, if it was healthy, or if an upgrade is left to try ◀───── ended ◀─────────┤
//!      ├────── at once, beside the old one, which then drains ◀────────────────── suspect          │
//!      └────── at once, beside the old one, to another node ◀─── two connections to one node       │
//!                                                                         the server stops ◀───────┘
//! ```
//! Each attempt has a generation. A report about a generation that is not the latest changes nothing, so two attempts
//! never lead to three connections.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard},
    task,
    time::{Duration, Instant},
};

use uncork::{Dial, LoopHandle, Upgrade};

use super::{
    carrier::{Accepted, Carrier, CarrierEnd, Supervisor},
    error::TunnelError,
    event::TunnelEvent,
    shared::{Shared, random},
    stream::Served,
};
use crate::relay::{
    lock::lock,
    tunnel::{address::Address, labels::Inner, printable::printable},
};

pub(super) struct OriginConnection {
    shared: Arc<Shared>,
    loop_handle: LoopHandle,
    /// Index among the tunnel's connections, from 0.
    number: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The attempt, or the established connection, whose reports count.
    generation: u64,
    /// The number of attempts so far.
    attempts: u64,
    /// The established connection, until it ends: its generation and its address.
    live: Option<(u64, Address)>,
    /// The attempt by which the connection moves to another node. If it fails, the live one stays.
    moving: Option<u64>,
    /// The latest attempt that was established: its generation, since when, and its carrier's waker.
    established: Option<(u64, Instant, task::Waker)>,
    /// Failed attempts in a row.
    failures: u32,
    /// A connection that had ended was opened again at once, and the new one is not old enough to count as healthy.
    redialed: bool,
    /// The next attempt uses an upgrade of HTTP/1.1 only.
    by_upgrade: bool,
    stopped: bool,
}

impl OriginConnection {
    pub(super) fn new(shared: Arc<Shared>, loop_handle: LoopHandle, number: usize) -> Arc<Self> {
        Arc::new(Self { shared, loop_handle, number, state: Mutex::default() })
    }

    /// Begins to connect, from any thread.
    pub(super) fn start(self: &Arc<Self>) {
        let connection = self.clone();
        self.loop_handle.after(Duration::ZERO, move |now| connection.connect(0, now.mono));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs on the loop.
    fn connect(self: &Arc<Self>, generation: u64, now: Instant) {
        let to = self.shared.lock_targets().next(self.number, now, random().unwrap_or(0));
        let by_upgrade = std::mem::take(&mut self.state().by_upgrade);
        self.connect_to(Attempt { generation, to, by_upgrade });
    }

    fn connect_to(self: &Arc<Self>, attempt: Attempt) {
        let Address { host, port } = attempt.to.clone();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.dial(attempt, vec![SocketAddr::new(ip, port)]);
        }
        let (connection, on_error) = (self.clone(), attempt.clone());
        let resolve = move || {
            let found = (&*host, port).to_socket_addrs();
            let this = connection.clone();
            connection.loop_handle.after(Duration::ZERO, move |_| match found.map(Iterator::collect::<Vec<_>>) {
                Ok(found) if !found.is_empty() => this.dial(attempt, found),
                Ok(_) => this.unresolved(&attempt, "it has no address".into()),
                Err(error) => this.unresolved(&attempt, error.to_string()),
            });
        };
        if let Err(error) = std::thread::Builder::new().name("uncork-names".into()).spawn(resolve) {
            self.unresolved(&on_error, format!("cannot start a thread: {error}"));
        }
    }

    /// An attempt has failed before the proxy was connected.
    fn failed(self: &Arc<Self>, attempt: &Attempt, error: TunnelError) {
        let (connection, attempt) = (self.clone(), attempt.clone());
        // For the time.
        self.loop_handle.after(Duration::ZERO, move |now| {
            let end = CarrierEnd { error: Some(error), now: Some(now.mono), ..CarrierEnd::default() };
            connection.has_ended(attempt.generation, &attempt.to, end);
        });
    }

    fn unresolved(self: &Arc<Self>, attempt: &Attempt, reason: String) {
        let host = attempt.to.host.to_string();
        self.failed(attempt, TunnelError::Resolve { host, reason });
    }

    /// Dials one address after the other, until a dial succeeds.
    fn dial(self: &Arc<Self>, attempt: Attempt, mut addresses: Vec<SocketAddr>) {
        if addresses.is_empty() {
            return self.failed(&attempt, TunnelError::Closed);
        }
        let addr = addresses.remove(0);
        let request = match self.shared.registration.request(&attempt.to) {
            Ok(request) => request,
            // Only names with valid characters are used.
            Err(reason) => return self.failed(&attempt, TunnelError::Broken(reason)),
        };
        let tls = if attempt.by_upgrade { &self.shared.tls_upgrade } else { &self.shared.tls };
        let dial = Dial::tcp(addr).tls(tls, &attempt.to.host).timeout(self.shared.timeouts.connect_timeout);
        let this = self.clone();
        self.loop_handle.dial(dial, move |result| match result {
            Ok(dialed) => {
                let (reversed, now) = (dialed.alpn.and_then(Inner::of_alpn), dialed.now().mono);
                let shared = this.shared.clone();
                let loop_handle = this.loop_handle.clone();
                let served = Served { loop_handle, listener: shared.listener, peer: *dialed.peer };
                let supervisor = Arc::new(Supervised { connection: this, to: attempt.to });
                let carrier = Carrier::new(supervisor, shared, attempt.generation, served, reversed, request, now);
                Some(Box::new(carrier) as Box<dyn Upgrade>)
            }
            Err(uncork::DialError::LoopEnded) => {
                this.stop();
                None
            }
            Err(error) => {
                let text = printable(error.to_string().as_bytes());
                log::debug!(target: "uncork::relay", "tunnel {}: {addr}: {text}", this.number);
                match addresses.is_empty() {
                    true => this.failed(&attempt, TunnelError::Dial(error)),
                    false => this.dial(attempt, addresses),
                }
                None
            }
        });
    }
}

/// One attempt to connect.
#[derive(Clone)]
struct Attempt {
    generation: u64,
    to: Address,
    by_upgrade: bool,
}

/// What a carrier reports to.
struct Supervised {
    connection: Arc<OriginConnection>,
    /// The address that was dialled.
    to: Address,
}

impl Supervisor for Supervised {
    fn stop(&self) {
        self.connection.stop();
    }

    fn is_superseded(&self, generation: u64) -> bool {
        self.connection.state().established.as_ref().is_some_and(|(established, ..)| *established > generation)
    }

    fn established(self: Arc<Self>, generation: u64, accepted: Accepted) {
        let Accepted { peer, waker, nodes, now } = accepted;
        let connection = &self.connection;
        let before = {
            let mut state = connection.state();
            state.live = Some((generation, self.to.clone()));
            state.moving = None;
            state.established.replace((generation, now, waker))
        };
        if let Some((_, _, waker)) = before {
            waker.wake();
        }
        connection.shared.report(&TunnelEvent::Up { connection: connection.number, peer });
        if connection.shared.registration.uses_nodes {
            connection.shared.lock_targets().established(connection.number, &self.to, nodes);
            connection.spread(generation, now);
        }
    }

    fn suspect(self: Arc<Self>, generation: u64) {
        let connection = self.connection.clone();
        let Some(next) = connection.next_attempt(generation) else { return };
        log::debug!(target: "uncork::relay", "tunnel {}: the proxy is silent, opening a second connection", connection.number);
        let (again, silent) = (connection.clone(), self.to.clone());
        connection.loop_handle.after(Duration::ZERO, move |now| {
            again.shared.lock_targets().failed(again.number, &silent, now.mono);
            again.connect(next, now.mono);
        });
    }

    fn used_up(self: Arc<Self>, generation: u64) {
        let connection = self.connection.clone();
        let Some(next) = connection.next_attempt(generation) else { return };
        let again = connection.clone();
        connection.loop_handle.after(Duration::ZERO, move |now| again.connect(next, now.mono));
    }

    fn ended(self: Arc<Self>, generation: u64, end: CarrierEnd) {
        self.connection.has_ended(generation, &self.to, end);
    }
}

impl OriginConnection {
    fn stop(&self) {
        self.state().stopped = true;
    }

    /// Returns the generation of another attempt beside this connection; `None` if there is one already.
    fn next_attempt(&self, generation: u64) -> Option<u64> {
        let mut state = self.state();
        if state.generation != generation || state.stopped {
            return None;
        }
        state.attempts += 1;
        state.generation = state.attempts;
        Some(state.generation)
    }

    /// Moves the connection to another node, if it shares its node with another one and there is a free one. Looks
    /// again later, as long as the connection lives.
    fn spread(self: &Arc<Self>, generation: u64, now: Instant) {
        let is_over = {
            let state = self.state();
            state.generation != generation || state.stopped
        };
        if is_over {
            return;
        }
        let (better, is_spread) = {
            let mut targets = self.shared.lock_targets();
            (targets.better(self.number, now, random().unwrap_or(0)), targets.is_spread())
        };
        if let Some(to) = better {
            let Some(next) = self.next_attempt(generation) else { return };
            self.state().moving = Some(next);
            log::debug!(target: "uncork::relay", "tunnel {}: moving to {to}", self.number);
            let connection = self.clone();
            let attempt = Attempt { generation: next, to, by_upgrade: false };
            self.loop_handle.after(Duration::ZERO, move |_| connection.connect_to(attempt));
        } else if is_spread {
            let connection = self.clone();
            self.loop_handle.after(self.shared.recheck_delay(), move |now| connection.spread(generation, now.mono));
        }
    }

    /// A connection to this address, or an attempt, is over.
    fn has_ended(self: &Arc<Self>, generation: u64, to: &Address, end: CarrierEnd) {
        let CarrierEnd { error, retry_after, unanswered, served, now } = end;
        let (next, retry_in) = {
            let mut state = self.state();
            if state.live.as_ref().is_some_and(|(live, _)| *live == generation) {
                state.live = None;
                self.shared.lock_targets().ended(self.number);
            }
            if state.stopped {
                drop(state);
                return self.shared.report(&TunnelEvent::Stopped { connection: self.number });
            }
            if state.generation != generation {
                return;
            }
            if let Some(now) = now {
                self.shared.lock_targets().failed(self.number, to, now);
            }
            if state.moving == Some(generation) {
                state.moving = None;
                if let Some((live, _)) = state.live {
                    state.generation = live;
                    drop(state);
                    let error = error.unwrap_or(TunnelError::Closed);
                    log::debug!(target: "uncork::relay", "tunnel {}: not moved to {to}: {error}", self.number);
                    let connection = self.clone();
                    return self.loop_handle.after(self.shared.recheck_delay(), move |now| {
                        connection.spread(live, now.mono);
                    });
                }
            }
            let since =
                state.established.as_ref().filter(|(latest, ..)| *latest == generation).map(|(_, since, _)| *since);
            let age = since.zip(now).map(|(since, now)| now.saturating_duration_since(since));
            if age.is_some_and(|age| age >= self.shared.healthy_after) {
                state.failures = 0;
                state.redialed = false;
            }
            let lost = since.is_some() && !matches!(error, Some(TunnelError::Rejected { .. }));
            let retry_in = if unanswered {
                // The proxy may be at its limit for such handshakes. An upgrade does not count there.
                state.by_upgrade = true;
                Duration::ZERO
            } else if served && lost {
                Duration::ZERO
            } else if lost && state.failures == 0 && !state.redialed {
                state.redialed = true;
                Duration::ZERO
            } else {
                let delay = self.shared.backoff_delay(state.failures, retry_after);
                state.failures = state.failures.saturating_add(1);
                delay
            };
            state.attempts += 1;
            state.generation = state.attempts;
            (state.generation, retry_in)
        };
        let error = error.unwrap_or(TunnelError::Closed);
        self.shared.report(&TunnelEvent::Down { connection: self.number, error: &error, retry_in });
        let connection = self.clone();
        self.loop_handle.after(retry_in, move |now| connection.connect(next, now.mono));
    }
}
