//! Flow control (RFC 9113 §5.2): how much the client may send, and how that adapts.
//!
//! ```text
//!   client ──DATA──▶ take     (open shrinks)
//!   application ──▶ release ──▶ owed ──(half a window)──▶ WINDOW_UPDATE     (open grows)
//! ```
//! What the application does not take, the client may not send. If the application takes most of a window within a
//! round trip, the window is what limits the client: it is doubled, up to a limit.

use super::settings::{DEFAULT_WINDOW, Options};

/// The window of a stream, or of the connection, for what the client sends.
#[derive(Debug)]
pub(super) struct RecvWindow {
    /// Bytes that the client may send.
    open: u32,
    /// Bytes that were received, and not announced by WINDOW_UPDATE.
    owed: u32,
}

impl RecvWindow {
    pub(super) fn new(open: u32) -> Self {
        Self { open, owed: 0 }
    }

    /// Takes `n` bytes out of the window. Returns `false` if the client was not allowed to send them.
    #[inline]
    #[must_use]
    pub(super) fn take(&mut self, n: usize) -> bool {
        let Some(open) = u32::try_from(n).ok().and_then(|n| self.open.checked_sub(n)) else { return false };
        self.open = open;
        true
    }

    /// Records that the application has received `n` bytes.
    #[inline]
    pub(super) fn release(&mut self, n: usize) {
        // At most as many as were taken.
        self.owed += n as u32;
    }

    /// Returns `true` if the peer may send anything.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Returns the increment to be announced, if it is worth a frame: half of `window`.
    #[inline]
    pub(super) fn update(&mut self, window: u32) -> Option<u32> {
        if self.owed < window / 2 || self.owed == 0 {
            return None;
        }
        let increment = std::mem::take(&mut self.owed);
        self.open += increment;
        Some(increment)
    }

    /// Returns `true` if all bytes of a window are open or owed, except for `left`.
    #[cfg(any(test, fuzzing, feature = "__internals"))]
    pub(super) fn is_whole(&self, window: u32, left: usize) -> bool {
        u64::from(self.open) + u64::from(self.owed) + left as u64 == u64::from(window)
    }

    /// Allows the client to send `n` bytes more.
    pub(super) fn grow(&mut self, n: u32) {
        self.open += n;
    }
}

/// The windows of all streams, and the round trips that they are measured by.
#[derive(Debug)]
pub(super) struct Windows {
    /// Bytes of a stream's window, and the most that it may grow to.
    pub(super) window: u32,
    largest: u32,
    /// Bytes of the connection's window.
    connection: u32,
    /// Bytes that the application has received.
    pub(super) received: u64,
    /// The same when a round trip began that is measured.
    before: Option<u64>,
}

impl Windows {
    pub(super) fn new(options: &Options) -> Self {
        let &Options { window, largest_window: largest, connection_window, .. } = options;
        let connection = connection_window.max(DEFAULT_WINDOW as u32);
        Self { window, largest, connection, received: 0, before: None }
    }

    /// Returns the bytes that the connection may have in flight.
    pub(super) fn connection(&self) -> u32 {
        self.connection
    }

    /// Returns `true` if the windows may grow, and no round trip is measured.
    pub(super) fn may_measure(&self) -> bool {
        self.window < self.largest && self.before.is_none()
    }

    /// Begins a round trip. `before`: bytes that the application had received then.
    pub(super) fn begin(&mut self, before: u64) {
        self.before = Some(before);
    }

    /// Ends the round trip. Returns `true` if the window has limited the client.
    pub(super) fn is_limiting(&mut self) -> bool {
        let window = u64::from(self.window);
        self.before.take().is_some_and(|before| self.received - before > window / 2) && self.window < self.largest
    }

    /// Doubles the windows. Returns by how much that of a stream has grown, and that of the connection.
    pub(super) fn double(&mut self) -> (u32, u32) {
        let grown = self.window.min(self.largest - self.window);
        let of_connection = self.connection / self.window * grown;
        self.window += grown;
        self.connection += of_connection;
        (grown, of_connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Limits;

    #[test]
    fn a_window_is_announced_by_halves() {
        let mut window = RecvWindow::new(100);
        assert!(window.take(60) && !window.take(41) && window.take(40));
        window.release(49);
        assert_eq!(window.update(100), None);
        window.release(1);
        assert_eq!(window.update(100), Some(50));
        assert!(window.take(50) && !window.take(1));
        assert_eq!(window.update(0), None, "nothing is owed");
    }

    #[test]
    fn windows_grow_while_they_limit_the_client() {
        let mut windows = Windows::new(&Options::server(&Limits::default()));
        while windows.window < 1024 * 1024 {
            let before = windows.received;
            windows.begin(before);
            assert!(!windows.may_measure());
            windows.received += u64::from(windows.window / 2);
            assert!(!windows.is_limiting(), "not more than half");
            windows.begin(before);
            windows.received += 1;
            assert!(windows.is_limiting());
            assert_eq!(windows.double(), (windows.window / 2, 8 * windows.window));
        }
        assert!(!windows.may_measure());
    }
}
