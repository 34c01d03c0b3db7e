//! Reading files without waiting for ever.

use std::{sync::mpsc::channel, thread::Builder, time::Duration};

/// How long a file may take to be read: a command behind a pipe (`<(decrypt key.pem)`) needs a moment.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs what reads a file in a thread of its own. A FIFO without a writer, or a file system that does not respond, keeps
/// the thread; the caller gets an error that names `what`.
pub(crate) fn in_time<T: Send + 'static>(what: &str, read: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (tell, told) = channel();
    let run = move || {
        let _ = tell.send(read());
    };
    Builder::new().name("files".into()).spawn(run).map_err(|error| format!("{what}: no thread to read it: {error}"))?;
    let late = format!("{what}: nothing came from it in {} seconds", READ_TIMEOUT.as_secs());
    told.recv_timeout(READ_TIMEOUT).map_err(|_| late)
}
