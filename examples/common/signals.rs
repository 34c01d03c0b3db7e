//! The first signal stops a server gracefully, the second at once.

use std::{io, time::Duration};

use signal_hook::iterator::Signals;
use uncork::StopHandle;

/// Waits for them on a thread of its own.
pub(crate) fn stop_on(mut signals: Signals, stopper: StopHandle, grace: Duration) -> io::Result<()> {
    let wait = move || {
        for (before, _) in signals.forever().enumerate() {
            match before {
                0 => {
                    log::info!("stopping; what is under way has {} seconds", grace.as_secs());
                    stopper.shutdown(grace);
                }
                _ => stopper.stop_now(),
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}
