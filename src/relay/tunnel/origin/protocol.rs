//! The interface of the protocols on a tunnel's connection, and the clocks that they share.

use std::{
    task,
    time::{Duration, Instant},
};

use uncork::{EventMask, Io};

use super::error::TunnelError;
use crate::relay::tunnel::address::NamedNodes;

/// Concurrent requests on one connection.
pub(super) const STREAMS: u32 = 256;

/// The durations that the application can set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Silence before a ping. After one and a half times as much the connection is suspect, after twice as much dead.
    pub(super) ping_interval: Duration,
    /// For the requests in progress when the connection is drained.
    pub(super) drain_timeout: Duration,
    /// For connecting, and for the proxy's response or its question for the credential.
    pub(super) connect_timeout: Duration,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// A ping is overdue: another connection should be opened.
    Suspect,
}

/// The protocol on a connection once the proxy has accepted it.
pub(super) trait Protocol: Send {
    /// Returns a waker of the carrier.
    fn waker(&self) -> task::Waker;

    /// Does one call of the carrier's [`Upgrade::ready`](uncork::Upgrade::ready).
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask;

    /// Returns `true` if the proxy has accepted the connection, as far as this side can know.
    fn is_accepted(&self) -> bool {
        true
    }

    /// Returns what the proxy has said about the nodes in this protocol.
    fn nodes(&self) -> Option<&NamedNodes> {
        None
    }

    fn liveness(&self) -> &Liveness;

    /// Begins no more requests; those in progress are finished.
    fn drain(&mut self, now: Instant);

    /// Returns `true` if the connection carries another protocol only, after an upgrade: it takes no more requests, and
    /// does not end for a newer connection.
    fn has_left_http(&self) -> bool {
        false
    }

    /// Returns `true` if the end of the connection is the usual one after requests, and no failure.
    fn has_served(&self) -> bool {
        false
    }

    /// Returns the error that has ended the connection, once.
    fn take_error(&mut self) -> Option<TunnelError>;
}

/// Clocks of a connection: how long the proxy has been silent, and since when the connection is draining.
#[derive(Debug)]
pub(super) struct Liveness {
    pub(super) timeouts: Timeouts,
    pub(super) now: Instant,
    received: Instant,
    pinged: bool,
    draining: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(timeouts: Timeouts, now: Instant) -> Self {
        Self { timeouts, now, received: now, pinged: false, draining: None }
    }

    /// Notes that the proxy has sent something.
    pub(super) fn note_input(&mut self) {
        (self.received, self.pinged) = (self.now, false);
    }

    /// Returns `true`, once per silence, if it has lasted long enough for a ping.
    pub(super) fn begin_ping(&mut self) -> bool {
        let due = self.silence() >= self.timeouts.ping_interval && !self.pinged;
        self.pinged |= due;
        due
    }

    pub(super) fn health(&self) -> Health {
        if self.silence() >= self.timeouts.ping_interval.saturating_mul(3) / 2 { Health::Suspect } else { Health::Good }
    }

    /// Returns `true` if the silence has lasted so long that the proxy counts as dead.
    pub(super) fn is_dead(&self) -> bool {
        self.silence() >= self.timeouts.ping_interval.saturating_mul(2)
    }

    /// Starts the drain timeout. Returns `false` if it was started before.
    pub(super) fn drain(&mut self, now: Instant) -> bool {
        let first = self.draining.is_none();
        self.draining.get_or_insert(now);
        first
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Returns `true` if the drain timeout has passed.
    pub(super) fn is_drained(&self) -> bool {
        self.draining.is_some_and(|since| self.now >= since + self.timeouts.drain_timeout)
    }

    /// Returns when the next of these clocks runs out.
    pub(super) fn due(&self) -> Instant {
        let ping = self.timeouts.ping_interval;
        let steps = [ping, ping.saturating_mul(3) / 2, ping.saturating_mul(2)];
        let silent = steps.into_iter().map(|after| self.received + after).find(|at| *at > self.now);
        let silent = silent.unwrap_or(self.now);
        self.draining.map_or(silent, |since| silent.min(since + self.timeouts.drain_timeout))
    }

    fn silence(&self) -> Duration {
        self.now.saturating_duration_since(self.received)
    }
}
