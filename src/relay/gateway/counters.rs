//! What is counted, as the original counts it.
//!
//! `connections` and `total_connections` count every request to connect from its first byte, those that fail too;
//! `connect_errors` those that failed, unless the application said 403; `total_messages` each target of a message, and
//! the first message of a session; `message_errors` messages that could not be written; `closing_connections` the close
//! callbacks under way. Whatever goes up and down again is held by a [`Held`], so that it cannot be forgotten.
//!
//! The original counts nothing of what goes wrong later. Here it is counted as well, and is not in what `/stats` says,
//! which is the original's to the byte.

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
    refused_clients: AtomicU64,
}

/// One of what is counted up while it lasts.
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
    /// A request to connect: counted until the guard is dropped.
    pub(super) fn connection(self: &Arc<Self>) -> Held {
        self.total_connections.fetch_add(1, Relaxed);
        self.hold(|counters| &counters.connections)
    }

    /// A close callback: counted until the guard is dropped.
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

    pub(super) fn refused_client(&self) {
        self.refused_clients.fetch_add(1, Relaxed);
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
            refused_clients: read(&self.refused_clients),
        }
    }
}

/// What a [`Gateway`](super::Gateway) has counted. Its `Display` is the JSON of `/stats`, without the line's end; the
/// last three are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStats {
    /// Clients that are connected, or on their way to it.
    pub connections: u64,
    /// Requests to connect, ever.
    pub total_connections: u64,
    /// Messages to clients, ever: one for each target, and each session's first.
    pub total_messages: u64,
    /// Requests to connect that failed, other than by a 403 of the application's.
    pub connect_errors: u64,
    /// Messages that could not be written: the connection broke while they were on their way.
    pub message_errors: u64,
    /// Close callbacks under way.
    pub closing_connections: u64,
    /// Messages of clients that the application did not take: it answered anything but 200, or not at all.
    pub lost_messages: u64,
    /// Close callbacks that the application answered with anything but 200, or not at all.
    pub close_errors: u64,
    /// Clients whose connections ended because they broke a rule or ran into a limit: they were told so, by 1002, 1007
    /// or 1009.
    pub refused_clients: u64,
}

impl fmt::Display for GatewayStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connections,
            total_connections,
            total_messages,
            connect_errors,
            message_errors,
            closing_connections,
            ..
        } = self;
        let json = JsonObject::new()
            .member("connections", *connections)
            .member("total_connections", *total_connections)
            .member("total_messages", *total_messages)
            .member("connect_errors", *connect_errors)
            .member("message_errors", *message_errors)
            .member("closing_connections", *closing_connections);
        f.write_str(&json.end())
    }
}

impl GatewayStats {
    /// The lines a monitoring agent reads: name, value and time, with tabs between them.
    pub(super) fn lines(&self, now: SystemTime) -> String {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        [
            ("conn.current", self.connections),
            ("conn.total", self.total_connections),
            ("conn.errors", self.connect_errors),
            ("conn.closing", self.closing_connections),
            ("messages.total", self.total_messages),
            ("messages.errors", self.message_errors),
        ]
        .map(|(name, value)| format!("kuiperbelt.{name}\t{value}\t{now}\n"))
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
            refused_clients: 9,
        };
        assert_eq!(
            stats.to_string(),
            r#"{"connections":1,"total_connections":5,"total_messages":12,"connect_errors":2,"message_errors":3,"closing_connections":4}"#
        );
        assert_eq!(
            stats.lines(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_181_849_900)),
            "kuiperbelt.conn.current\t1\t1795181849\nkuiperbelt.conn.total\t5\t1795181849\n\
             kuiperbelt.conn.errors\t2\t1795181849\nkuiperbelt.conn.closing\t4\t1795181849\n\
             kuiperbelt.messages.total\t12\t1795181849\nkuiperbelt.messages.errors\t3\t1795181849\n"
        );
    }
}
