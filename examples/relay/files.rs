//! Reads files with a timeout.

use std::{sync::mpsc::channel, thread::Builder, time::Duration};

/// Time to read a file. A command behind a pipe (`<(decrypt key.pem)`) takes a moment.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `read` in a thread of its own. It may block, because of a FIFO without a writer or a file system that does not
/// respond. Then the thread stays, and the caller gets an error that names `what`.
pub(crate) fn with_timeout<T: Send + 'static>(
    what: &str,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = channel();
    let run = move || {
        let _ = sender.send(read());
    };
    Builder::new()
        .name("files".into())
        .spawn(run)
        .map_err(|error| format!("{what}: cannot start a thread: {error}"))?;
    let late = format!("{what}: cannot read it within {} seconds", READ_TIMEOUT.as_secs());
    receiver.recv_timeout(READ_TIMEOUT).map_err(|_| late)
}
