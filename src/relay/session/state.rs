//! All sessions, and the requests that wait on each. One lock protects them; nothing in here calls application code.
//!
//! ```text
//!                 receivers[side]                senders[side]
//!   GET  ──▶ free ──▶ waits ──▶ free         free ──▶ waits ──▶ sends ──▶ free  ◀── POST
//!                       └─ at hand-over         └──────────────────┴─ when its request ends
//! ```

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use uncork::{Moment, Response};

use super::{
    config::SessionConfig,
    key::Key,
    requests::{Poll, Sender, Side, Sides},
    wire,
};
use crate::relay::{
    addresses::{Addresses, Allowance, Rejected},
    service::ServiceState,
    unused::{NoFreeSlot, SlotRequest, Unused},
};

/// The guests that may use a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guests {
    Any,
    /// No guest yet: the host of a secure session has not named an address.
    None,
    Only(IpAddr),
}

impl Guests {
    pub(super) fn admit(self, peer: Option<IpAddr>) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::Only(ip) => peer == Some(ip),
        }
    }
}

/// A session: its guests, the requests on it, and its lifetime.
pub(super) struct Session {
    pub(super) token: Box<str>,
    /// The path of the session, which is also the path of its cookie.
    pub(super) path: Box<str>,
    /// Further attributes of its cookies, such as `Secure`.
    pub(super) cookie_attributes: &'static str,
    pub(super) guests: Guests,
    pub(super) receivers: Sides<Option<Poll>>,
    pub(super) senders: Sides<Option<Sender>>,
    /// A peer has sent or received on it, or tried to.
    pub(super) used: bool,
    allocated: Instant,
    /// Number of connected requests. While there are any, the lifetime does not run.
    connected: u32,
    ttl: Duration,
    /// Time at which it ends if no request connects before.
    idle_until: Instant,
    /// Time at which it ends in any case.
    ends_at: Instant,
    /// The address that it counts for.
    owner: Option<IpAddr>,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.ends_at || (self.connected == 0 && now >= self.idle_until)
    }

    /// Returns the address that it counts for.
    pub(super) fn owner(&self) -> Option<IpAddr> {
        self.owner
    }

    /// Returns the time until it ends in any case.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        self.ends_at.saturating_duration_since(now)
    }

    /// Records that a request is connected.
    fn connect(&mut self) {
        self.connected += 1;
        self.used = true;
    }

    /// Records that a request has ended. With the last one, the full lifetime starts again.
    pub(super) fn disconnect(&mut self, now: Instant) {
        self.connected = self.connected.saturating_sub(1);
        if self.connected == 0 {
            self.idle_until = now + self.ttl;
        }
    }

    /// Returns the cookie of the host, valid for the full lifetime from now.
    pub(super) fn cookie(&self, now: Moment) -> String {
        let lifetime = self.ttl.min(self.remaining(now.mono));
        wire::cookie(&self.token, &self.path, now.wall, lifetime, self.cookie_attributes)
    }

    /// Adds the renewed cookie to a response to the host.
    pub(super) fn renewing(&self, side: Side, response: Response, now: Moment) -> Response {
        match side {
            Side::Host => response.header("Set-Cookie", self.cookie(now)),
            Side::Guest => response,
        }
    }

    /// Returns all suspended requests; `true` for a sender whose message is being transferred. Its connection must be
    /// closed, which truncates the transfer.
    pub(super) fn into_polls(self) -> impl Iterator<Item = (Poll, bool)> {
        let receivers = self.receivers.0.into_iter().flatten().map(|poll| (poll, false));
        let senders = self.senders.0.into_iter().flatten().map(|sender| match sender {
            Sender::Waiting(poll, _) => (poll, false),
            Sender::Sending(poll, ..) => (poll, true),
        });
        receivers.chain(senders)
    }

    /// Removes and returns the requests of one side that wait, are not in a transfer, and match the condition.
    pub(super) fn take_waiting<F: Fn(&Poll) -> bool>(
        &mut self,
        side: Side,
        matches: F,
    ) -> impl Iterator<Item = Poll> + use<F> {
        let receiver = self.receivers[side].take_if(|poll| matches(poll));
        let sender = self.senders[side].take_if(|s| matches!(s, Sender::Waiting(poll, _) if matches(poll)));
        let sender = match sender {
            Some(Sender::Waiting(poll, _)) => Some(poll),
            _ => None,
        };
        receiver.into_iter().chain(sender)
    }
}

/// The properties of a new session.
pub(super) struct CreateOptions {
    pub(super) path: Box<str>,
    pub(super) cookie_attributes: &'static str,
    pub(super) guests: Guests,
    pub(super) ttl: Duration,
    pub(super) owner: Option<IpAddr>,
}

/// The reason why no session is allocated.
pub(super) enum CreateError {
    Address(Rejected),
    NoFreeSlot(NoFreeSlot),
}

pub(super) struct State {
    sessions: HashMap<Key, Session>,
    addresses: Addresses,
    unused: Unused<Key>,
    /// Number of allocations that a limit has rejected.
    rejected: u64,
    swept: Option<Instant>,
}

impl ServiceState for State {
    type Config = SessionConfig;

    fn new(config: &SessionConfig) -> Self {
        let addresses = Addresses::new(allowance(config));
        Self { sessions: HashMap::new(), addresses, unused: Unused::new(), rejected: 0, swept: None }
    }

    fn reconfigure(&mut self, config: &SessionConfig) {
        self.addresses.set_allowance(allowance(config));
    }
}

impl State {
    /// Returns the session of this key. The caller has called [`remove_expired`](Self::remove_expired) before.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut Session> {
        self.sessions.get_mut(&key)
    }

    /// Records that a request is connected to a session.
    pub(super) fn connect(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if !session.used {
            self.unused.remove(session.owner, session.allocated, key);
        }
        session.connect();
    }

    /// Returns how many sessions were evicted for others, and how many allocations were rejected.
    pub(super) fn evicted_and_rejected(&self) -> (u64, u64) {
        (self.unused.evicted(), self.rejected)
    }

    /// Returns the sessions that have not ended.
    pub(super) fn active(&self, now: Instant) -> impl Iterator<Item = (Key, &Session)> {
        self.sessions.iter().filter(move |(_, session)| !session.is_over(now)).map(|(key, session)| (*key, session))
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Session> {
        self.sessions.values_mut()
    }

    /// Removes a session. The caller responds to the requests that wait on it.
    pub(super) fn remove(&mut self, key: Key) -> Option<Session> {
        let session = self.sessions.remove(&key)?;
        if let Some(ip) = session.owner {
            self.addresses.release(ip);
        }
        if !session.used {
            self.unused.remove(session.owner, session.allocated, key);
        }
        Some(session)
    }

    /// Removes a session if it has ended, like [`remove`](Self::remove).
    pub(super) fn remove_expired(&mut self, key: Key, now: Instant) -> Option<Session> {
        if self.sessions.get(&key)?.is_over(now) { self.remove(key) } else { None }
    }

    /// Allocates a session. Also returns the sessions that have ended: the caller responds to the requests that wait on
    /// them.
    pub(super) fn allocate(
        &mut self,
        key: Key,
        token: Box<str>,
        options: CreateOptions,
        config: &SessionConfig,
        now: Moment,
    ) -> (Result<&Session, CreateError>, Vec<Session>) {
        let mut expired = self.sweep(now.mono);
        match self.free_slot(options.owner, config, now.mono) {
            Ok(evicted) => expired.extend(evicted),
            Err(error) => {
                self.rejected += 1;
                return (Err(error), expired);
            }
        }
        self.unused.add(options.owner, now.mono, key);
        let session = self.sessions.entry(key).or_insert(Session {
            token,
            path: options.path,
            cookie_attributes: options.cookie_attributes,
            guests: options.guests,
            receivers: Sides([None, None]),
            senders: Sides([None, None]),
            used: false,
            allocated: now.mono,
            connected: 0,
            ttl: options.ttl,
            idle_until: now.mono + options.ttl.min(config.first_use_timeout),
            ends_at: now.mono + config.lifetime,
            owner: options.owner,
        });
        (Ok(session), expired)
    }

    /// Frees a slot for a session of this address. Returns the session that was evicted for it.
    fn free_slot(
        &mut self,
        owner: Option<IpAddr>,
        config: &SessionConfig,
        now: Instant,
    ) -> Result<Option<Session>, CreateError> {
        let slot = SlotRequest {
            limit: config.sessions,
            taken: self.sessions.len(),
            per_address: config.sessions_per_address,
            owner,
            owned: owner.map_or(0, |ip| self.addresses.slots(ip)),
        };
        let evicted = self.unused.free_slot(&slot).map_err(CreateError::NoFreeSlot)?;
        if let Some(ip) = owner {
            self.addresses.admit(ip, now).map_err(CreateError::Address)?;
        }
        let Some(key) = evicted else { return Ok(None) };
        self.unused.evicted_one("sessions", now);
        Ok(self.remove(key))
    }

    /// Removes the sessions that have ended, once a second at most, to free slots. A session that has ended is never
    /// visible, whether or not it was removed.
    fn sweep(&mut self, now: Instant) -> Vec<Session> {
        if self.swept.is_some_and(|at| now < at + Duration::from_secs(1)) {
            return Vec::new();
        }
        self.swept = Some(now);
        let over: Vec<Key> = self.sessions.iter().filter(|(_, s)| s.is_over(now)).map(|(key, _)| *key).collect();
        over.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

fn allowance(config: &SessionConfig) -> Allowance {
    Allowance {
        slots: config.sessions,
        per_address: config.sessions_per_address,
        per_minute: config.allocations_per_minute,
        burst: config.allocation_burst,
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests;
