//! Time is an argument: only `drive` reads a clock.

use std::time::{Duration, Instant, SystemTime};

/// One reading of both clocks, taken once for each turn of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock: for deadlines and durations.
    pub mono: Instant,
    /// The wall clock: for `Date`, cookies and logs.
    pub wall: SystemTime,
}

/// The time at which a loop must be turned again, even if its descriptor does not become readable.
///
/// A *soft* deadline. Calling early is harmless. Calling late only delays timeouts and, by up to 2 ms, the delivery of
/// coalesced body data. If the value is [`Now`](Wait::Now), there is work left, and the call must follow. The earliest
/// of several is their minimum.
///
/// ```
/// use std::time::{Duration, Instant};
/// use uncork::Wait;
/// let now = Instant::now();
/// let soon = Wait::Until(now + Duration::from_micros(400));
/// assert_eq!(soon.min(Wait::Forever), soon);
/// assert_eq!(soon.poll_millis(now), 1); // rounded up: 0 would spin
/// assert_eq!(Wait::Forever.poll_millis(now), -1);
/// ```
#[must_use = "sleep no longer than this, or connections hang"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// There is work left: do not sleep.
    Now,
    /// Sleep until an event, or this instant at the latest.
    Until(Instant),
    /// Sleep until an event.
    Forever,
}

impl Wait {
    /// Returns how long to sleep from `now`; `None` means without a limit.
    pub fn timeout(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::Until(at) => Some(at.saturating_duration_since(now)),
            Self::Forever => None,
        }
    }

    /// Returns the timeout for `poll(2)` and `epoll_wait(2)`: milliseconds, rounded **up**, because rounding 0.4 ms
    /// down to 0 spins; -1 means without a limit.
    pub fn poll_millis(self, now: Instant) -> i32 {
        match self.timeout(now) {
            None => -1,
            Some(left) => i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        }
    }
}

/// Milliseconds since the start of a loop. Deadlines are made of them: moving one is writing one integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Tick {
    /// No deadline; later than every other.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn since(start: Instant, now: Instant) -> Self {
        Self(u64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX - 1))
    }

    /// Returns the first tick at or after `at`.
    pub(crate) fn ceil(start: Instant, at: Instant) -> Self {
        Self(millis_ceil(at.saturating_duration_since(start)).min(u64::MAX - 1))
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        // A tick is a millisecond that has begun: one is added so that a delay is never too short.
        Self(self.0.saturating_add(millis_ceil(delay)).saturating_add(1).min(u64::MAX - 1))
    }

    /// Returns the time from `now` until this tick; `None` for [`Tick::NEVER`].
    pub(crate) fn left(self, now: Self) -> Option<Duration> {
        if self == Self::NEVER { None } else { Some(Duration::from_millis(self.0.saturating_sub(now.0))) }
    }

    pub(crate) fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis).min(u64::MAX - 1))
    }

    /// Returns the tick as an instant, for [`Wait::Until`]; `None` for [`Tick::NEVER`] and for ticks beyond any clock.
    pub(crate) fn instant(self, start: Instant) -> Option<Instant> {
        if self == Self::NEVER { None } else { start.checked_add(Duration::from_millis(self.0)) }
    }
}

/// Computes in 64 bits: a division of 128 bits is a function call.
fn millis_ceil(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(u64::from(time.subsec_nanos().div_ceil(1_000_000)))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_of_many_is_their_minimum() {
        let now = Instant::now();
        let later = Wait::Until(now + Duration::from_secs(1));
        assert!(Wait::Now < later && later < Wait::Forever);
        assert_eq!(later.timeout(now), Some(Duration::from_secs(1)));
        assert_eq!(Wait::Until(now).poll_millis(now + Duration::from_secs(9)), 0);
    }

    #[test]
    fn a_delay_is_never_too_short() {
        let start = Instant::now();
        let now = start + Duration::from_micros(10_900);
        let tick = Tick::since(start, now).after(Duration::from_millis(5));
        let at = tick.instant(start).expect("not never");
        assert!(at >= now + Duration::from_millis(5), "{:?}", at - now);
        assert!(Tick::since(start, at) >= tick, "a tick is reached at its instant");
        assert_eq!(Tick::NEVER.instant(start), None);
        assert!(Tick::since(start, now).after(Duration::MAX) < Tick::NEVER);
    }
}
