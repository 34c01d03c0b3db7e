//! One of the connections that a tunnel keeps: opened, ended, and opened again.
//!
//! ```text
//!   connect ─▶ resolve, in its own thread ─▶ dial each address in turn ─▶ Carrier: requests ─▶ established
//!      ▲                        └──────────────────┴──────────────────────────────────┴──▶ failed ─┐
//!      ├────── after a random part of 0.5 s, 1 s, 2 s … 60 s ◀──────────────────── ended ◀─────────┤
//!      ├────── at once, if it was healthy, or if an upgrade is left to try ◀───── ended ◀─────────┤
//!      └────── at once, beside the old one, which then drains ◀────────────────── suspect          │
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

use uncork::{Dial, LoopHandle, PeerAddr, Upgrade};

use super::{
    carrier::{Carrier, CarrierEnd, Supervisor},
    error::TunnelError,
    event::TunnelEvent,
    shared::{REVERSED, Shared},
};
use crate::relay::{lock::lock, tunnel::printable::printable};

pub(super) struct OriginConnection {
    shared: Arc<Shared>,
    loop_handle: LoopHandle,
    /// Index among the tunnel's connections, from 0.
    number: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The latest attempt.
    generation: u64,
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
        self.loop_handle.after(Duration::ZERO, move |_| connection.connect(0));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs on the loop.
    fn connect(self: &Arc<Self>, generation: u64) {
        let (host, port) = (self.shared.host.clone(), self.shared.port);
        let by_upgrade = std::mem::take(&mut self.state().by_upgrade);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.dial(generation, vec![SocketAddr::new(ip, port)], by_upgrade);
        }
        let connection = self.clone();
        let resolve = move || {
            let found = (&*host, port).to_socket_addrs();
            let this = connection.clone();
            connection.loop_handle.after(Duration::ZERO, move |_| match found.map(Iterator::collect::<Vec<_>>) {
                Ok(found) if !found.is_empty() => this.dial(generation, found, by_upgrade),
                Ok(_) => this.unresolved(generation, "it has no address".into()),
                Err(error) => this.unresolved(generation, error.to_string()),
            });
        };
        if let Err(error) = std::thread::Builder::new().name("uncork-names".into()).spawn(resolve) {
            self.unresolved(generation, format!("cannot start a thread: {error}"));
        }
    }

    /// An attempt has failed before the proxy was connected.
    fn failed(self: Arc<Self>, generation: u64, error: TunnelError) {
        self.ended(generation, CarrierEnd { error: Some(error), ..CarrierEnd::default() });
    }

    fn unresolved(self: &Arc<Self>, generation: u64, reason: String) {
        let host = self.shared.host.to_string();
        self.clone().failed(generation, TunnelError::Resolve { host, reason });
    }

    /// Dials one address after the other, until a dial succeeds.
    fn dial(self: &Arc<Self>, generation: u64, mut addresses: Vec<SocketAddr>, by_upgrade: bool) {
        if addresses.is_empty() {
            return self.clone().ended(generation, CarrierEnd::default());
        }
        let addr = addresses.remove(0);
        let tls = if by_upgrade { &self.shared.tls_upgrade } else { &self.shared.tls };
        let dial = Dial::tcp(addr).tls(tls, &self.shared.host).timeout(self.shared.timeouts.connect_timeout);
        let this = self.clone();
        self.loop_handle.dial(dial, move |result| match result {
            Ok(dialed) => {
                let (reversed, now) = (dialed.alpn == Some(REVERSED), dialed.now().mono);
                let (shared, loop_handle) = (this.shared.clone(), this.loop_handle.clone());
                let carrier = Carrier::new(this, shared, generation, loop_handle, *dialed.peer, reversed, now);
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
                    true => this.failed(generation, TunnelError::Dial(error)),
                    false => this.dial(generation, addresses, by_upgrade),
                }
                None
            }
        });
    }
}

impl Supervisor for OriginConnection {
    fn stop(&self) {
        self.state().stopped = true;
    }

    fn is_superseded(&self, generation: u64) -> bool {
        self.state().established.as_ref().is_some_and(|(established, ..)| *established > generation)
    }

    fn established(&self, generation: u64, peer: PeerAddr, waker: task::Waker, now: Instant) {
        let before = {
            let mut state = self.state();
            state.established.replace((generation, now, waker))
        };
        if let Some((_, _, waker)) = before {
            waker.wake();
        }
        self.shared.report(&TunnelEvent::Up { connection: self.number, peer });
    }

    fn suspect(self: Arc<Self>, generation: u64) {
        let next = {
            let mut state = self.state();
            if state.generation != generation || state.stopped {
                return;
            }
            state.generation += 1;
            state.generation
        };
        log::debug!(target: "uncork::relay", "tunnel {}: the proxy is silent, opening a second connection", self.number);
        let connection = self.clone();
        self.loop_handle.after(Duration::ZERO, move |_| connection.connect(next));
    }

    fn ended(self: Arc<Self>, generation: u64, end: CarrierEnd) {
        let CarrierEnd { error, retry_after, unanswered, now } = end;
        let (next, retry_in) = {
            let mut state = self.state();
            if state.stopped {
                drop(state);
                return self.shared.report(&TunnelEvent::Stopped { connection: self.number });
            }
            if state.generation != generation {
                return;
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
            } else if lost && state.failures == 0 && !state.redialed {
                state.redialed = true;
                Duration::ZERO
            } else {
                let delay = self.shared.backoff_delay(state.failures, retry_after);
                state.failures = state.failures.saturating_add(1);
                delay
            };
            state.generation += 1;
            (state.generation, retry_in)
        };
        let error = error.unwrap_or(TunnelError::Closed);
        self.shared.report(&TunnelEvent::Down { connection: self.number, error: &error, retry_in });
        let connection = self.clone();
        self.loop_handle.after(retry_in, move |_| connection.connect(next));
    }
}
