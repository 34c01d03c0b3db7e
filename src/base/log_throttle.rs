//! Rate-limited log lines, for events that can occur often.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::lock;

/// The shortest time between two lines.
const BETWEEN: Duration = Duration::from_secs(60);

/// Allows the first of many equal lines, and then one a minute, with a count. Shared by all loops.
#[derive(Default)]
pub(crate) struct LogThrottle(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Instant>,
    count: u64,
}

impl LogThrottle {
    /// Counts an event. Returns the text to add to the line; `None` if no line is due.
    #[cold]
    pub(crate) fn record(&self, now: Instant) -> Option<Repetitions> {
        let mut state = lock(&self.0);
        state.count += 1;
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN) {
            return None;
        }
        state.last = Some(now);
        Some(Repetitions(std::mem::take(&mut state.count)))
    }
}

/// The number of events since the last line. Prints nothing for a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repetitions(u64);

impl fmt::Display for Repetitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            n => write!(f, " ({n} times since the last line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_at_once_and_the_others_once_a_minute() {
        #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
        let start = Instant::now();
        let throttle = LogThrottle::default();
        let at = |seconds: u64| throttle.record(start + Duration::from_secs(seconds)).map(|n| n.to_string());
        assert_eq!(at(0).as_deref(), Some(""));
        assert_eq!([at(1), at(20), at(59)], [None, None, None]);
        assert_eq!(at(60).as_deref(), Some(" (4 times since the last line)"));
        assert_eq!(at(61), None);
        assert_eq!(at(500).as_deref(), Some(" (2 times since the last line)"));
        assert_eq!(at(700).as_deref(), Some(""), "a single one");
    }
}
