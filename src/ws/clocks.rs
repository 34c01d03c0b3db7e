//! The clocks of one WebSocket: keep-alive and idle. Soft: looked at when the one that was armed has run out.
//!
//! ```text
//!   heard ──ping_every──▶ ping ──pong_within──▶ over        whatever is received starts it anew
//!   active ──idle_timeout──▶ over                           so does a message of ours that is out
//! ```

use std::time::{Duration, Instant};

use super::{Config, How};

/// It can't go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over(pub(super) How);

pub(super) struct Clocks {
    config: Config,
    /// When something was received.
    heard: Instant,
    /// When something was received, or a message was sent.
    active: Instant,
    /// When a ping was sent, if nothing was received since.
    pinged: Option<Instant>,
}

fn after(since: Instant, time: impl Into<Option<Duration>>) -> Option<Instant> {
    // A time that no clock can show never comes.
    time.into().and_then(|time| since.checked_add(time))
}

impl Clocks {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self { config: config.clone(), heard: now, active: now, pinged: None }
    }

    /// Something was received; or nothing was listened to, which is not the peer's fault. Whether it answers a ping:
    /// the clocks have to be looked at then, since the next one may be due earlier than this one's answer was.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        (self.heard, self.active) = (now, now);
        self.pinged.take().is_some()
    }

    /// A message was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.active = now;
    }

    /// Whether a ping is due, and when to look again. `waits`: output of ours is still on its way, and a ping would be
    /// behind it.
    pub(super) fn look(&mut self, now: Instant, waits: bool) -> Result<(bool, Option<Instant>), Over> {
        let idle = after(self.active, self.config.0.idle_timeout);
        if idle.is_some_and(|idle| now >= idle) {
            return Err(Over(How::Idle));
        }
        let due = match self.pinged {
            Some(pinged) => after(pinged, self.config.0.pong_within),
            None => after(self.heard, self.config.0.ping_every),
        };
        let rang = due.is_some_and(|due| now >= due);
        if rang && self.pinged.is_some() && !waits {
            return Err(Over(How::NoPong));
        }
        let ping = rang && self.pinged.is_none();
        let due = if rang {
            self.pinged = Some(now);
            after(now, self.config.0.pong_within)
        } else {
            due
        };
        Ok((ping, [idle, due].into_iter().flatten().min()))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn clocks(idle: Option<Duration>) -> (Clocks, Instant) {
        let now = Instant::now();
        (Clocks::new(&Config::new().ping_every(10 * S).pong_within(5 * S).idle_timeout(idle), now), now)
    }

    #[test]
    fn a_silent_peer_is_pinged_and_then_given_up() {
        let (mut clocks, t) = clocks(None);
        assert_eq!(clocks.look(t, false), Ok((false, Some(t + 10 * S))));
        assert_eq!(clocks.look(t + 9 * S, false), Ok((false, Some(t + 10 * S))));
        assert_eq!(clocks.look(t + 10 * S, false), Ok((true, Some(t + 15 * S))));
        assert_eq!(clocks.look(t + 11 * S, false), Ok((false, Some(t + 15 * S))));
        assert_eq!(clocks.look(t + 15 * S, false), Err(Over(How::NoPong)));
    }

    #[test]
    fn whatever_is_heard_is_an_answer() {
        let (mut clocks, t) = clocks(None);
        assert_eq!(clocks.look(t + 10 * S, false), Ok((true, Some(t + 15 * S))));
        assert!(clocks.heard(t + 14 * S));
        assert_eq!(clocks.look(t + 15 * S, false), Ok((false, Some(t + 24 * S))));
        clocks.sent(t + 20 * S);
        assert_eq!(clocks.look(t + 24 * S, false), Ok((true, Some(t + 29 * S))), "to be sent to is no answer");
    }

    #[test]
    fn a_peer_that_is_still_reading_has_more_time_to_answer() {
        let (mut clocks, t) = clocks(None);
        assert_eq!(clocks.look(t + 10 * S, true), Ok((true, Some(t + 15 * S))));
        assert_eq!(clocks.look(t + 15 * S, true), Ok((false, Some(t + 20 * S))));
        assert_eq!(clocks.look(t + 20 * S, false), Err(Over(How::NoPong)));
    }

    #[test]
    fn the_idle_clock_is_put_back_by_both_directions() {
        let (mut clocks, t) = clocks(Some(7 * S));
        assert_eq!(clocks.look(t + 6 * S, false), Ok((false, Some(t + 7 * S))));
        clocks.sent(t + 6 * S);
        assert_eq!(clocks.look(t + 7 * S, false), Ok((false, Some(t + 10 * S))));
        assert!(!clocks.heard(t + 8 * S), "there was no ping");
        assert_eq!(clocks.look(t + 14 * S, false), Ok((false, Some(t + 15 * S))));
        assert_eq!(clocks.look(t + 15 * S, false), Err(Over(How::Idle)));
    }

    #[test]
    fn without_clocks_nothing_is_looked_at() {
        let now = Instant::now();
        let mut clocks = Clocks::new(&Config::new().ping_every(None), now);
        assert_eq!(clocks.look(now + 1_000_000 * S, false), Ok((false, None)));
        let mut clocks = Clocks::new(&Config::new().ping_every(Duration::MAX), now);
        assert_eq!(clocks.look(now + 1_000_000 * S, false), Ok((false, None)));
    }
}
