//! Limits the log lines of an event that may happen thousands of times a second.

use std::time::{Duration, Instant};

/// Allows a log line for the first event, and then one per interval, with the count of events since the last line.
pub(super) struct Repeated {
    interval: Duration,
    logged: Option<Instant>,
    count: u64,
}

impl Repeated {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, logged: None, count: 0 }
    }

    /// Counts an event. Returns the count since the last line, if another line is due now.
    pub(super) fn happened(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.logged.is_some_and(|at| now.saturating_duration_since(at) < self.interval) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// Returns the end of a log line about one event of this many: nothing for a single one.
#[cfg(any(feature = "gateway", feature = "tunnel"))]
pub(super) fn others(count: u64) -> String {
    if count > 1 { format!(" (and {} others)", count - 1) } else { String::new() }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_logged_once_an_interval() {
        let (mut repeated, start) = (Repeated::new(Duration::from_secs(1)), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(repeated.happened(at(5)), Some(1));
        assert_eq!(repeated.happened(at(6)), None);
        // The time of a loop that lags behind.
        assert_eq!(repeated.happened(at(0)), None);
        assert_eq!(repeated.happened(at(1004)), None);
        assert_eq!(repeated.happened(at(1005)), Some(4));
        assert_eq!(repeated.happened(at(1006)), None);
    }
}
