//! What a peer may do often, but not too often: change its settings, and have streams end by a fault.
//!
//! ```text
//!   left ──take──▶ 0: the connection ends (ENHANCE_YOUR_CALM)
//!     ▲ 33 a second; of faults, also one for each message that this side sends
//! ```
//! So a connection may live for any time, and a flood ends it.

use std::time::{Duration, Instant};

use super::frame::ErrorCode;

/// What comes back each second. nghttp2 allows as many resets: 1000 at once, then 33 a second.
const PER_SECOND: u32 = 33;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    most: u32,
}

impl Budget {
    pub(super) fn new(most: u32) -> Self {
        Self { left: most, most }
    }

    /// Takes one.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn take(&mut self) -> Result<(), ErrorCode> {
        self.left = self.left.checked_sub(1).ok_or(ErrorCode::EnhanceYourCalm)?;
        Ok(())
    }

    /// Gives `n` back.
    #[inline]
    pub(super) fn give(&mut self, n: u32) {
        self.left = self.left.saturating_add(n).min(self.most);
    }
}

#[cfg(test)]
impl Budget {
    pub(super) fn is_full(&self) -> bool {
        self.left == self.most
    }
}

/// When budgets are refilled next.
#[derive(Debug, Default)]
pub(super) struct Refill {
    next: Option<Instant>,
}

impl Refill {
    /// Returns what comes back for the whole seconds that have passed since the last call.
    #[inline]
    pub(super) fn due(&mut self, now: Instant) -> u32 {
        // So it is in most turns.
        if self.next.is_some_and(|next| now < next) { 0 } else { self.pass(now) }
    }

    #[cold]
    fn pass(&mut self, now: Instant) -> u32 {
        let Some(next) = self.next else {
            self.next = now.checked_add(SECOND);
            return 0;
        };
        let seconds = 1 + now.saturating_duration_since(next).as_secs();
        self.next = next.checked_add(Duration::from_secs(seconds));
        u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refills_over_time_up_to_its_most() {
        let (mut budget, mut refill, mut now) = (Budget::new(100), Refill::default(), Instant::now());
        let mut take_all = |budget: &mut Budget, now| {
            budget.give(refill.due(now));
            (0..).take_while(|_| budget.take().is_ok()).count()
        };
        assert_eq!(take_all(&mut budget, now), 100);
        // Parts of a second add up.
        for want in [0, 0, 33, 0, 33, 0, 0, 33] {
            now += Duration::from_millis(400);
            assert_eq!(take_all(&mut budget, now), want);
        }
        now += Duration::from_secs(3600);
        assert_eq!(take_all(&mut budget, now), 100);
        now += Duration::from_secs(u64::from(u32::MAX));
        assert_eq!(take_all(&mut budget, now), 100);
        budget.give(1);
        assert_eq!(budget.take(), Ok(()));
        assert_eq!(budget.take(), Err(ErrorCode::EnhanceYourCalm));
    }
}
