//! The clocks of one WebSocket: keep-alive, idle, and the arriving message. They are checked when the armed one
//! expires.
//!
//! ```text
//!   received ──ping_interval──▶ ping ──pong_timeout──▶ ended   any received bytes restart it
//!   active ──idle_timeout──▶ ended                             a sent message restarts it too
//!   begun ──message_timeout──▶ rejected                        each byte of the message extends it by 1/rate
//!   stopping ──a part of drain_spread──▶ closed with 1001      nothing restarts it
//! ```

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use super::{CloseCause, Config};

/// The session has ended, for this cause.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended(pub(super) CloseCause);

pub(super) struct Clocks {
    config: Config,
    /// The last time that bytes were received.
    received: Instant,
    /// The last time that bytes were received, or a message was sent.
    active: Instant,
    /// The time of the last ping, if nothing was received since.
    pinged: Option<Instant>,
    /// Boxed, so that an idle connection is small.
    rare: Option<Box<Rare>>,
}

/// The clocks that an idle connection does not have.
#[derive(Clone, Copy, Default)]
struct Rare {
    /// The arriving message, and the deadline for more of it.
    message: Option<(Progress, Instant)>,
    /// When the connection closes, because the server is stopping.
    closes: Option<Instant>,
}

/// The progress of the arriving message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number of the message.
    pub(super) number: u32,
    /// Bytes of its frames' payloads.
    pub(super) bytes: u64,
}

fn after(since: Instant, timeout: impl Into<Option<Duration>>) -> Option<Instant> {
    // A time beyond the range of the clock never comes.
    timeout.into().and_then(|timeout| since.checked_add(timeout))
}

impl Clocks {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self { config: config.clone(), received: now, active: now, pinged: None, rare: None }
    }

    /// The server is stopping. Returns `true` if the connection closes at once; otherwise it closes later, at a time that
    /// differs from those of others.
    pub(super) fn stopping(&mut self, now: Instant) -> bool {
        let spread = self.config.0.drain_spread;
        // A hasher has random keys, which differ from those of the one before.
        let part = RandomState::new().hash_one(now) as f64 / u64::MAX as f64;
        let closes = now.checked_add(spread.mul_f64(part.min(1.0))).filter(|_| !spread.is_zero());
        self.set(Rare { closes, ..self.rare() });
        closes.is_none()
    }

    /// Returns `true`, once, when the connection of a server that is stopping closes.
    pub(super) fn closes(&mut self, now: Instant) -> bool {
        let rare = self.rare();
        let closes = rare.closes.is_some_and(|closes| now >= closes);
        if closes {
            self.set(Rare { closes: None, ..rare });
        }
        closes
    }

    fn rare(&self) -> Rare {
        self.rare.as_deref().copied().unwrap_or_default()
    }

    fn set(&mut self, rare: Rare) {
        match (rare.message.is_some() || rare.closes.is_some(), &mut self.rare) {
            (true, Some(present)) => **present = rare,
            (true, none) => *none = Some(Box::new(rare)),
            (false, present) => *present = None,
        }
    }

    /// Records that something was received, or that nothing was read. Returns `true` if a ping was waiting for this:
    /// check the clocks then, since the next ping may be due before the deadline of this one.
    pub(super) fn received(&mut self, now: Instant) -> bool {
        (self.received, self.active) = (now, now);
        self.pinged.take().is_some()
    }

    /// Records that a message was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.active = now;
    }

    /// Records the progress of the arriving message; `None` if there is none, or if nothing is read. Returns `true` if
    /// a clock has started: check the clocks then.
    #[inline]
    pub(super) fn arriving(&mut self, now: Instant, progress: Option<Progress>) -> bool {
        if progress.is_none() && self.rare.is_none() {
            return false;
        }
        self.note(now, progress)
    }

    fn note(&mut self, now: Instant, progress: Option<Progress>) -> bool {
        let full = after(now, self.config.0.message_timeout);
        let (Some(progress), Some(full)) = (progress, full) else {
            self.set(Rare { message: None, ..self.rare() });
            return false;
        };
        let rare = self.rare();
        let (by, starts) = match rare.message {
            Some((before, by)) if before.number == progress.number => {
                let bytes = progress.bytes.saturating_sub(before.bytes);
                // In nanoseconds: with coarser units, small pieces would count as 0 at a high rate.
                let more = match bytes.saturating_mul(1_000_000_000).checked_div(self.config.0.message_min_rate) {
                    Some(nanos) => by.checked_add(Duration::from_nanos(nanos)).unwrap_or(full),
                    None if bytes > 0 => full,
                    None => by,
                };
                (more.min(full), false)
            }
            _ => (full, true),
        };
        self.set(Rare { message: Some((progress, by)), ..rare });
        starts
    }

    /// Returns `true` if the arriving message has exceeded its timeout.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.rare().message.is_some_and(|(_, by)| now >= by)
    }

    /// Returns `true` if a ping is due, and the time of the next check. `waits`: output is still queued, and a ping
    /// would be behind it.
    pub(super) fn check(&mut self, now: Instant, waits: bool) -> Result<(bool, Option<Instant>), Ended> {
        let idle = after(self.active, self.config.0.idle_timeout);
        if idle.is_some_and(|idle| now >= idle) {
            return Err(Ended(CloseCause::IdleTimeout));
        }
        let due = match self.pinged {
            Some(pinged) => after(pinged, self.config.0.pong_timeout),
            None => after(self.received, self.config.0.ping_interval),
        };
        let is_due = due.is_some_and(|due| now >= due);
        if is_due && self.pinged.is_some() && !waits {
            return Err(Ended(CloseCause::PongTimeout));
        }
        let ping = is_due && self.pinged.is_none();
        let due = if is_due {
            self.pinged = Some(now);
            after(now, self.config.0.pong_timeout)
        } else {
            due
        };
        let Rare { message, closes } = self.rare();
        Ok((ping, [idle, due, message.map(|(_, by)| by), closes].into_iter().flatten().min()))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the time does not matter")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn clocks(idle: Option<Duration>) -> (Clocks, Instant) {
        let now = Instant::now();
        (Clocks::new(&Config::new().ping_interval(10 * S).pong_timeout(5 * S).idle_timeout(idle), now), now)
    }

    #[test]
    fn a_silent_peer_gets_a_ping_and_then_times_out() {
        let (mut clocks, t) = clocks(None);
        assert_eq!(clocks.check(t, false), Ok((false, Some(t + 10 * S))));
        assert_eq!(clocks.check(t + 9 * S, false), Ok((false, Some(t + 10 * S))));
        assert_eq!(clocks.check(t + 10 * S, false), Ok((true, Some(t + 15 * S))));
        assert_eq!(clocks.check(t + 11 * S, false), Ok((false, Some(t + 15 * S))));
        assert_eq!(clocks.check(t + 15 * S, false), Err(Ended(CloseCause::PongTimeout)));
    }

    #[test]
    fn connections_of_a_server_that_stops_close_one_after_the_other() {
        let now = Instant::now();
        let clocks = |spread: u32| Clocks::new(&Config::new().ping_interval(None).drain_spread(spread * S), now);
        assert!(clocks(0).stopping(now) && !clocks(0).closes(now));
        let mut tenths = [0; 10];
        for _ in 0..1000 {
            let mut clocks = clocks(10);
            assert!(!clocks.stopping(now));
            let (ping, at) = clocks.check(now, false).unwrap();
            let at = at.expect("a time");
            assert!(!ping && at >= now && at <= now + 10 * S);
            assert!(!clocks.closes(at - Duration::from_nanos(1)));
            assert!(clocks.closes(at) && !clocks.closes(at), "once");
            assert_eq!(clocks.check(at, false), Ok((false, None)));
            tenths[usize::try_from((at - now).as_secs()).unwrap().min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (50..=150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn any_received_bytes_count_as_a_pong() {
        let (mut clocks, t) = clocks(None);
        assert_eq!(clocks.check(t + 10 * S, false), Ok((true, Some(t + 15 * S))));
        assert!(clocks.received(t + 14 * S));
        assert_eq!(clocks.check(t + 15 * S, false), Ok((false, Some(t + 24 * S))));
        clocks.sent(t + 20 * S);
        assert_eq!(clocks.check(t + 24 * S, false), Ok((true, Some(t + 29 * S))), "sending is not a pong");
    }

    #[test]
    fn a_peer_that_is_still_reading_has_more_time_for_its_pong() {
        let (mut clocks, t) = clocks(None);
        assert_eq!(clocks.check(t + 10 * S, true), Ok((true, Some(t + 15 * S))));
        assert_eq!(clocks.check(t + 15 * S, true), Ok((false, Some(t + 20 * S))));
        assert_eq!(clocks.check(t + 20 * S, false), Err(Ended(CloseCause::PongTimeout)));
    }

    #[test]
    fn the_idle_clock_is_restarted_by_both_directions() {
        let (mut clocks, t) = clocks(Some(7 * S));
        assert_eq!(clocks.check(t + 6 * S, false), Ok((false, Some(t + 7 * S))));
        clocks.sent(t + 6 * S);
        assert_eq!(clocks.check(t + 7 * S, false), Ok((false, Some(t + 10 * S))));
        assert!(!clocks.received(t + 8 * S), "there was no ping");
        assert_eq!(clocks.check(t + 14 * S, false), Ok((false, Some(t + 15 * S))));
        assert_eq!(clocks.check(t + 15 * S, false), Err(Ended(CloseCause::IdleTimeout)));
    }

    #[test]
    fn a_message_has_its_time_and_a_least_rate() {
        let now = Instant::now();
        let config = |rate| Config::new().ping_interval(None).message_timeout(10 * S).message_min_rate(rate);
        let at = |number, bytes| Some(Progress { number, bytes });
        let mut clocks = Clocks::new(&config(100), now);
        assert!(!clocks.arriving(now, None));
        assert!(clocks.arriving(now, at(1, 50)));
        assert_eq!(clocks.check(now, false), Ok((false, Some(now + 10 * S))));
        // A second for each hundred bytes.
        assert!(!clocks.arriving(now + 5 * S, at(1, 250)));
        assert_eq!(clocks.check(now + 5 * S, false), Ok((false, Some(now + 12 * S))));
        // However many bytes come: never more than the full timeout from now.
        assert!(!clocks.arriving(now + 6 * S, at(1, 1_000_000)));
        assert_eq!(clocks.check(now + 6 * S, false), Ok((false, Some(now + 16 * S))));
        assert!(!clocks.is_late(now + 15 * S) && clocks.is_late(now + 16 * S));
        // Only payload extends it.
        clocks.received(now + 15 * S);
        clocks.arriving(now + 16 * S, at(1, 1_000_000));
        assert!(clocks.is_late(now + 16 * S));
        // Another message has its own timeout; so has the same one after we paused reading.
        assert!(clocks.arriving(now + 16 * S, at(2, 0)) && !clocks.is_late(now + 25 * S));
        assert!(!clocks.arriving(now + 20 * S, None) && !clocks.is_late(now + 99 * S));
        assert!(clocks.arriving(now + 30 * S, at(2, 0)) && !clocks.is_late(now + 39 * S));

        // Byte by byte, at twice the minimum rate.
        let mut clocks = Clocks::new(&config(10_000), now);
        for byte in 0..600_000 {
            clocks.arriving(now + byte * S / 20_000, at(1, byte.into()));
        }
        assert!(!clocks.is_late(now + 30 * S));

        // Without a rate every byte is enough, but there must be one.
        let mut clocks = Clocks::new(&config(0), now);
        clocks.arriving(now, at(1, 0));
        clocks.arriving(now + 9 * S, at(1, 1));
        assert!(!clocks.is_late(now + 18 * S));
        clocks.arriving(now + 18 * S, at(1, 1));
        assert!(clocks.is_late(now + 19 * S));
        let mut clocks = Clocks::new(&Config::new().message_timeout(None), now);
        assert!(!clocks.arriving(now, at(1, 0)) && !clocks.is_late(now + 1_000_000 * S));
    }

    #[test]
    fn without_clocks_nothing_expires() {
        let now = Instant::now();
        let mut clocks = Clocks::new(&Config::new().ping_interval(None), now);
        assert_eq!(clocks.check(now + 1_000_000 * S, false), Ok((false, None)));
        let mut clocks = Clocks::new(&Config::new().ping_interval(Duration::MAX), now);
        assert_eq!(clocks.check(now + 1_000_000 * S, false), Ok((false, None)));
    }
}
