//! One request on its way to a connection: its origin, its deadlines, and the list of those that are queued.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    cancel::Stage,
    error::Error,
    request::Request,
    response::{Completion, Response},
    settings::Settings,
};
use crate::{
    api::LoopHandle,
    base::{Moment, Timeout, lock},
};

/// An origin: requests with equal keys may share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    unix: Option<Arc<Path>>,
    https: bool,
    host: String,
    zone: Option<String>,
    port: u16,
}

impl Key {
    pub(super) fn of(request: &Request) -> Self {
        let url = &request.url;
        if request.unix.is_some() && !url.https {
            // The server on this socket serves all hosts.
            return Self { unix: request.unix.clone(), https: false, host: String::new(), zone: None, port: 0 };
        }
        Self {
            unix: request.unix.clone(),
            https: url.https,
            host: url.host.clone(),
            zone: url.zone.clone(),
            port: url.port,
        }
    }
}

/// For the log.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        if let Some(path) = &self.unix {
            return write!(f, "{scheme} on {}", path.display());
        }
        match (self.host.strip_suffix(']'), &self.zone) {
            (Some(address), Some(zone)) => write!(f, "{scheme}://{address}%{zone}]:{}", self.port),
            _ => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// One request in progress.
pub(super) struct Exchange {
    pub(super) key: Key,
    pub(super) request: Request,
    pub(super) loop_handle: LoopHandle,
    pub(super) then: Completion<Response>,
    /// The deadline of the whole request.
    pub(super) deadline: Option<Instant>,
    /// The deadline for a connection.
    pub(super) connect_by: Instant,
    /// The redirects left, and whether there was one.
    pub(super) redirects: u8,
    pub(super) redirected: bool,
    /// Sends `Connection: close`.
    pub(super) close: bool,
    /// It has failed on a stale connection, and needs a new one.
    pub(super) retried: bool,
}

impl Exchange {
    /// Creates it on its loop, which has the time. Its timeouts start.
    pub(super) fn new(
        request: Request,
        settings: &Settings,
        loop_handle: LoopHandle,
        then: Completion<Response>,
        now: Moment,
    ) -> Box<Self> {
        let options = &request.options;
        let after = |timeout| now.mono.checked_add(timeout);
        let deadline = options.total_timeout.or(settings.total_timeout).and_then(after);
        // Without a limit: beyond what a clock can represent in practice.
        let connect_by = after(options.connect_timeout.unwrap_or(settings.connect_timeout)).or(deadline);
        let connect_by = connect_by.unwrap_or(now.mono + Duration::from_secs(1 << 31));
        Box::new(Self {
            key: Key::of(&request),
            loop_handle,
            then,
            deadline,
            connect_by,
            redirects: options.max_redirects.unwrap_or(settings.max_redirects),
            redirected: false,
            close: options.fresh,
            retried: false,
            request,
        })
    }

    /// Returns `true` if it must not use a connection that was used before.
    pub(super) fn needs_new_connection(&self) -> bool {
        self.retried || self.request.options.fresh
    }

    pub(super) fn fail(self: Box<Self>, error: Error) {
        self.then.complete(Err(error));
    }

    /// Returns the time at which it fails without a connection, and the timeout that is reported.
    pub(super) fn connection_by(&self) -> (Instant, Timeout) {
        match self.deadline {
            Some(deadline) if deadline < self.connect_by => (deadline, Timeout::Total),
            _ => (self.connect_by, Timeout::Connect),
        }
    }
}

/// A request that waits for a connection. It is taken once: by a connection that serves it, or by its timeout.
#[derive(Clone)]
pub(super) struct Pending(Arc<Mutex<Option<Box<Exchange>>>>);

impl Pending {
    /// Starts its timeout.
    pub(super) fn new(exchange: Box<Exchange>, now: Moment) -> Self {
        let (loop_handle, (by, which)) = (exchange.loop_handle.clone(), exchange.connection_by());
        let cancel = exchange.request.cancel.clone();
        let pending = Self(Arc::new(Mutex::new(Some(exchange))));
        if let Some(cancel) = cancel {
            let queued = pending.clone();
            cancel.note(Some(Stage::Pending(Box::new(move || queued.cancel()))));
            // Another thread may have cancelled it just before, and found no stage.
            if cancel.is_cancelled() {
                cancel.cancel();
            }
        }
        let timed = Timed(pending.clone());
        loop_handle.after(by.saturating_duration_since(now.mono), move |_| timed.0.fail(Error::TimedOut(which)));
        pending
    }

    pub(super) fn take(&self) -> Option<Box<Exchange>> {
        lock(&self.0).take()
    }

    /// Fails it, unless a connection serves it already.
    pub(super) fn fail(&self, error: Error) {
        if let Some(exchange) = self.take() {
            exchange.fail(error);
        }
    }

    /// Fails it on its loop; does nothing if a connection serves it, or it has failed already.
    fn cancel(self) {
        if let Some(on) = self.look(|exchange| exchange.loop_handle.clone()) {
            on.at_once(move |_| self.fail(Error::Cancelled));
        }
    }

    pub(super) fn look<T>(&self, f: impl FnOnce(&Exchange) -> T) -> Option<T> {
        lock(&self.0).as_deref().map(f)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.look(|_| ()).is_some()
    }
}

/// Fails the request when its loop ends.
struct Timed(Pending);

impl Drop for Timed {
    fn drop(&mut self) {
        self.0.fail(Error::LoopEnded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_the_log() {
        let key = |url| Key::of(&Request::get(url)).to_string();
        assert_eq!(key("http://Example.com/a"), "http://example.com:80");
        assert_eq!(key("https://[fe80::1%eth0]:8443/"), "https://[fe80::1%eth0]:8443");
        for (url, text) in [("http://a/", "http on /run/x"), ("https://a/", "https on /run/x")] {
            assert_eq!(Key::of(&Request::get(url).unix("/run/x")).to_string(), text);
        }
    }
}
