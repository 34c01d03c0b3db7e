//! One of the connections a tunnel keeps: made, lost, and made again.
//!
//! ```text
//!   connect ─▶ name, on a thread of its own ─▶ addresses, one after the other ─▶ Carrier: knocks ─▶ stood
//!      ▲                        └──────────────────┴──────────────────────────────────┴──▶ failed ─┐
//!      ├────── after a random part of 0.5 s, 1 s, 2 s … 60 s ◀──────────────────── ended ◀─────────┤
//!      ├────── at once, if it has stood for long, or there is another way in ◀────── ended ◀─────────┤
//!      └────── at once, beside the old one, which then leaves in order ◀────────── suspect         │
//!                                                                         the server stops ◀───────┘
//! ```
//! Each attempt has a generation. What is said of one that is not the latest changes nothing: two attempts never lead to
//! three.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task,
    time::{Duration, Instant},
};

use uncork::{Dial, LoopHandle, PeerAddr, Upgrade};

use super::{
    TunnelError, TunnelEvent,
    carrier::Carrier,
    config::{REVERSED, Shared},
    http2::Times,
};

pub(super) struct OriginConnection {
    shared: Arc<Shared>,
    here: LoopHandle,
    /// Of the tunnel's connections, from 0.
    number: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The latest attempt.
    generation: u64,
    /// The latest that stands, or stood; since when, and how to wake it.
    standing: Option<(u64, Instant, task::Waker)>,
    /// In a row.
    failures: u32,
    /// A lost connection was made again without a pause, and has not stood for long since.
    redialed: bool,
    /// The next attempt is by an upgrade of HTTP/1.1 only.
    by_upgrade: bool,
    stopped: bool,
}

impl OriginConnection {
    pub(super) fn new(shared: Arc<Shared>, here: LoopHandle, number: usize) -> Arc<Self> {
        Arc::new(Self { shared, here, number, state: Mutex::default() })
    }

    /// Begins to connect, from any thread.
    pub(super) fn start(self: &Arc<Self>) {
        let line = self.clone();
        self.here.after(Duration::ZERO, move |_| line.connect(0));
    }

    pub(super) fn knock(&self) -> Vec<u8> {
        self.shared.knock.clone()
    }

    /// The answer to who we are; `None`: we are known by our certificate, which HTTP/2 alone does not show.
    pub(super) fn hello(&self) -> Option<bytes::Bytes> {
        self.shared.hello.clone()
    }

    pub(super) fn within(&self) -> Duration {
        self.shared.within
    }

    pub(super) fn times(&self) -> Times {
        self.shared.times
    }

    /// The proxy is one of 2014.
    #[cfg(feature = "spdy")]
    pub(super) fn is_legacy(&self) -> bool {
        self.shared.legacy
    }

    pub(super) fn listener(&self) -> usize {
        self.shared.listener
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server stops: nothing new is begun.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
    }

    /// Whether a newer one stands.
    pub(super) fn is_superseded(&self, generation: u64) -> bool {
        self.state().standing.as_ref().is_some_and(|(standing, ..)| *standing > generation)
    }

    /// One stands: those before it may go.
    pub(super) fn stood(&self, generation: u64, peer: PeerAddr, waker: task::Waker, now: Instant) {
        let before = {
            let mut state = self.state();
            state.standing.replace((generation, now, waker))
        };
        if let Some((_, _, waker)) = before {
            waker.wake();
        }
        self.shared.tell(&TunnelEvent::Up { connection: self.number, peer });
    }

    /// One is not to be trusted any more: another is begun beside it.
    pub(super) fn suspect(self: &Arc<Self>, generation: u64) {
        let next = {
            let mut state = self.state();
            if state.generation != generation || state.stopped {
                return;
            }
            state.generation += 1;
            state.generation
        };
        log::debug!(target: "uncork::relay", "tunnel {}: silent, another connection is made beside it", self.number);
        let line = self.clone();
        self.here.after(Duration::ZERO, move |_| line.connect(next));
    }

    /// One is no more, or has never stood. `unanswered`: the proxy has agreed on HTTP/2 by ALPN, and then neither let it in nor
    /// refused it.
    pub(super) fn ended(
        self: &Arc<Self>,
        generation: u64,
        error: Option<TunnelError>,
        retry_after: Option<u64>,
        unanswered: bool,
        now: Option<Instant>,
    ) {
        let (next, again) = {
            let mut state = self.state();
            if state.stopped {
                drop(state);
                return self.shared.tell(&TunnelEvent::Left { connection: self.number });
            }
            if state.generation != generation {
                return;
            }
            let since = state.standing.as_ref().filter(|(standing, ..)| *standing == generation).map(|(_, at, _)| *at);
            let healthy =
                since.zip(now).is_some_and(|(since, now)| now.saturating_duration_since(since) >= self.shared.healthy);
            if healthy {
                state.failures = 0;
                state.redialed = false;
            }
            let lost = since.is_some() && !matches!(error, Some(TunnelError::Refused { .. }));
            let again = if unanswered {
                // The places for such handshakes may be taken: there is another way.
                state.by_upgrade = true;
                Duration::ZERO
            } else if lost && state.failures == 0 && !state.redialed {
                state.redialed = true;
                Duration::ZERO
            } else {
                let pause = self.shared.pause(state.failures, retry_after);
                state.failures = state.failures.saturating_add(1);
                pause
            };
            state.generation += 1;
            (state.generation, again)
        };
        let error = error.unwrap_or(TunnelError::Closed);
        self.shared.tell(&TunnelEvent::Down { connection: self.number, error: &error, again });
        let line = self.clone();
        self.here.after(again, move |_| line.connect(next));
    }

    /// On the loop.
    fn connect(self: &Arc<Self>, generation: u64) {
        let (host, port) = (self.shared.host.clone(), self.shared.port);
        let by_upgrade = std::mem::take(&mut self.state().by_upgrade);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.dial(generation, vec![SocketAddr::new(ip, port)], by_upgrade);
        }
        let line = self.clone();
        let resolve = move || {
            let found = (&*host, port).to_socket_addrs();
            let back = line.clone();
            line.here.after(Duration::ZERO, move |_| match found.map(Iterator::collect::<Vec<_>>) {
                Ok(found) if !found.is_empty() => back.dial(generation, found, by_upgrade),
                Ok(_) => back.unresolved(generation, "it has no address".into()),
                Err(error) => back.unresolved(generation, error.to_string()),
            });
        };
        if let Err(error) = std::thread::Builder::new().name("uncork-names".into()).spawn(resolve) {
            self.unresolved(generation, format!("no thread for it: {error}"));
        }
    }

    fn unresolved(self: &Arc<Self>, generation: u64, why: String) {
        let host = self.shared.host.to_string();
        self.ended(generation, Some(TunnelError::Resolve { host, why }), None, false, None);
    }

    /// Tries one address after the other.
    fn dial(self: &Arc<Self>, generation: u64, mut addresses: Vec<SocketAddr>, by_upgrade: bool) {
        if addresses.is_empty() {
            return self.ended(generation, None, None, false, None);
        }
        let addr = addresses.remove(0);
        let tls = if by_upgrade { &self.shared.tls_upgrade } else { &self.shared.tls };
        let dial = Dial::tcp(addr).tls(tls, &self.shared.host).timeout(self.shared.within);
        let line = self.clone();
        self.here.dial(dial, move |result| match result {
            Ok(dialed) => {
                let (reversed, now) = (dialed.alpn == Some(REVERSED), dialed.now().mono);
                let carrier = Carrier::new(line.clone(), generation, line.here.clone(), *dialed.peer, reversed, now);
                Some(Box::new(carrier) as Box<dyn Upgrade>)
            }
            Err(uncork::DialError::LoopEnded) => {
                line.stop();
                None
            }
            Err(error) => {
                log::debug!(target: "uncork::relay", "tunnel {}: {addr}: {error}", line.number);
                match addresses.is_empty() {
                    true => line.ended(generation, Some(TunnelError::Dial(error)), None, false, None),
                    false => line.dial(generation, addresses, by_upgrade),
                }
                None
            }
        });
    }
}
