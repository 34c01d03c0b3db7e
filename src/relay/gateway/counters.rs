//! Counters of the gateway, with the meaning that they have in kuiperbelt.
//!
//! - `connections` and `total_connections` count every request to connect, also one that fails.
//! - `connect_errors` counts requests to connect that failed, unless the application responded with 403.
//! - `total_messages` counts each target of a message, and the first message of a session.
//! - `message_errors` counts messages that could not be written.
//! - `closing_connections` counts the close callbacks that run.
//!
//! A [`Held`] holds each count that goes down again, so that no code path can forget to decrement it.
//!
//! kuiperbelt does not count later failures. They are counted here as well, but are not in `/stats`, whose bytes are
//! those of kuiperbelt.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use crate::relay::json::JsonObject;

#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    total_connections: AtomicU64,
    connect_errors: AtomicU64,
    total_messages: AtomicU64,
    message_errors: AtomicU64,
    closing_connections: AtomicU64,
    lost_messages: AtomicU64,
    close_errors: AtomicU64,
    rejected_clients: AtomicU64,
    upstream_requests: AtomicU64,
    upstream_errors: AtomicU64,
}

/// One unit of a counter, which is decremented when this is dropped.
pub(super) struct Held {
    counters: Arc<Counters>,
    which: fn(&Counters) -> &AtomicU64,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.which)(&self.counters).fetch_sub(1, Relaxed);
    }
}

impl Counters {
    /// Counts a request to connect until the guard is dropped.
    pub(super) fn connection(self: &Arc<Self>) -> Held {
        self.total_connections.fetch_add(1, Relaxed);
        self.hold(|counters| &counters.connections)
    }

    /// Counts a close callback until the guard is dropped.
    pub(super) fn closing(self: &Arc<Self>) -> Held {
        self.hold(|counters| &counters.closing_connections)
    }

    fn hold(self: &Arc<Self>, which: fn(&Self) -> &AtomicU64) -> Held {
        which(self).fetch_add(1, Relaxed);
        Held { counters: self.clone(), which }
    }

    pub(super) fn connect_error(&self) {
        self.connect_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn messages(&self, count: usize) {
        self.total_messages.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn message_errors(&self, count: usize) {
        self.message_errors.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn lost_message(&self) {
        self.lost_messages.fetch_add(1, Relaxed);
    }

    pub(super) fn close_error(&self) {
        self.close_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn rejected_client(&self) {
        self.rejected_clients.fetch_add(1, Relaxed);
    }

    pub(super) fn upstream_request(&self) {
        self.upstream_requests.fetch_add(1, Relaxed);
    }

    pub(super) fn upstream_error(&self) {
        self.upstream_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> GatewayStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        GatewayStats {
            connections: read(&self.connections),
            total_connections: read(&self.total_connections),
            total_messages: read(&self.total_messages),
            connect_errors: read(&self.connect_errors),
            message_errors: read(&self.message_errors),
            closing_connections: read(&self.closing_connections),
            lost_messages: read(&self.lost_messages),
            close_errors: read(&self.close_errors),
            rejected_clients: read(&self.rejected_clients),
            upstream_requests: read(&self.upstream_requests),
            upstream_errors: read(&self.upstream_errors),
        }
    }
}

/// Counters of a [`Gateway`](super::Gateway).
///
/// `Display` writes the JSON of `/stats`, without the newline. The last five counters are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStats {
    /// Clients that are connected, or are connecting.
    pub connections: u64,
    /// Requests to connect, in total.
    pub total_connections: u64,
    /// Messages to clients, in total: one for each target, and the first message of each session.
    pub total_messages: u64,
    /// Requests to connect that failed, except those that the application rejected with 403.
    pub connect_errors: u64,
    /// Messages that could not be written, because the connection has ended.
    pub message_errors: u64,
    /// Close callbacks that run.
    pub closing_connections: u64,
    /// Messages of clients that were lost: the response of the application was not 200, or there was none.
    pub lost_messages: u64,
    /// Close callbacks that failed: the response of the application was not 200, or there was none.
    pub close_errors: u64,
    /// Clients whose connections were closed because they broke a rule or exceeded a limit, with 1002, 1007, 1008, 1009
    /// or 1013.
    pub rejected_clients: u64,
    /// Requests that were passed on to the upstream.
    pub upstream_requests: u64,
    /// Those of them that have no response of the application: 502, 503 or 504.
    pub upstream_errors: u64,
}

impl fmt::Display for GatewayStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object().end())
    }
}

impl GatewayStats {
    /// Returns the counters of `/stats`, with their names.
    fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("connections", self.connections),
            ("total_connections", self.total_connections),
            ("total_messages", self.total_messages),
            ("connect_errors", self.connect_errors),
            ("message_errors", self.message_errors),
            ("closing_connections", self.closing_connections),
        ]
    }

    /// Returns the JSON of `/stats`, to which members can be added.
    pub(super) fn object(&self) -> JsonObject {
        self.named().into_iter().fold(JsonObject::new(), |object, (name, value)| object.member(name, value))
    }

    /// Reads what [`object`](Self::object) has written. `None` if a counter is missing.
    #[cfg(feature = "directory")]
    pub(super) fn parse(object: &serde_json::Value) -> Option<Self> {
        let counter = |name: &str| object.get(name)?.as_u64();
        Some(Self {
            connections: counter("connections")?,
            total_connections: counter("total_connections")?,
            total_messages: counter("total_messages")?,
            connect_errors: counter("connect_errors")?,
            message_errors: counter("message_errors")?,
            closing_connections: counter("closing_connections")?,
            ..Self::default()
        })
    }

    /// Returns the sums of the counters of `/stats`.
    #[cfg(feature = "directory")]
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections.saturating_add(other.connections),
            total_connections: self.total_connections.saturating_add(other.total_connections),
            total_messages: self.total_messages.saturating_add(other.total_messages),
            connect_errors: self.connect_errors.saturating_add(other.connect_errors),
            message_errors: self.message_errors.saturating_add(other.message_errors),
            closing_connections: self.closing_connections.saturating_add(other.closing_connections),
            ..self
        }
    }

    /// Returns the lines that a monitoring agent reads: name, value and time, separated by tabs. `prefix`: the start of
    /// each name.
    pub(super) fn lines(&self, prefix: &str, now: SystemTime) -> String {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        [
            ("conn.current", self.connections),
            ("conn.total", self.total_connections),
            ("conn.errors", self.connect_errors),
            ("conn.closing", self.closing_connections),
            ("messages.total", self.total_messages),
            ("messages.errors", self.message_errors),
        ]
        .map(|(name, value)| format!("{prefix}.{name}\t{value}\t{now}\n"))
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_lasts_is_counted_while_it_lasts() {
        let counters = Arc::new(Counters::default());
        let (a, b) = (counters.connection(), counters.connection());
        let closing = counters.closing();
        let now = counters.read();
        assert_eq!((now.connections, now.total_connections, now.closing_connections), (2, 2, 1));
        drop((a, closing));
        let now = counters.read();
        assert_eq!((now.connections, now.total_connections, now.closing_connections), (1, 2, 0));
        drop(b);
        assert_eq!(counters.read().connections, 0);
    }

    #[test]
    fn both_forms_byte_for_byte() {
        let stats = GatewayStats {
            connections: 1,
            total_connections: 5,
            total_messages: 12,
            connect_errors: 2,
            message_errors: 3,
            closing_connections: 4,
            lost_messages: 7,
            close_errors: 8,
            rejected_clients: 9,
            upstream_requests: 10,
            upstream_errors: 11,
        };
        assert_eq!(
            stats.to_string(),
            r#"{"connections":1,"total_connections":5,"total_messages":12,"connect_errors":2,"message_errors":3,"closing_connections":4}"#
        );
        assert_eq!(
            stats.lines("kuiperbelt", SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_181_849_900)),
            "kuiperbelt.conn.current\t1\t1795181849\nkuiperbelt.conn.total\t5\t1795181849\n\
             kuiperbelt.conn.errors\t2\t1795181849\nkuiperbelt.conn.closing\t4\t1795181849\n\
             kuiperbelt.messages.total\t12\t1795181849\nkuiperbelt.messages.errors\t3\t1795181849\n"
        );
    }
}
