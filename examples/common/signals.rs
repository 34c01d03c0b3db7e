//! Shuts a server down at the first signal, and stops it at once at the second.

use std::{io, time::Duration};

use signal_hook::iterator::Signals;
use uncork::StopHandle;

/// Waits for signals on a thread of its own. Requests in progress have `timeout` to finish after the first one.
pub(crate) fn stop_on(mut signals: Signals, stop_handle: StopHandle, timeout: Duration) -> io::Result<()> {
    let wait = move || {
        for (before, _) in signals.forever().enumerate() {
            match before {
                0 => {
                    log::info!("stopping: requests in progress have {} seconds to finish", timeout.as_secs());
                    stop_handle.shutdown(timeout);
                }
                _ => stop_handle.stop_now(),
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}
