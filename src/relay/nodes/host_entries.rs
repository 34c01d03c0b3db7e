//! The entries of the tunnel's hosts at the engine, without I/O: commands, and what their replies mean.
//!
//! ```text
//!   uncork:tun:app.example      = { fra1: 1767225600000, ber2: 1767225603000 }    node, and until when in ms
//!   uncork:tun:*.dev.example    = { fra1: 1767225600000 }
//!   uncork:tun:changes          the channel: the host whose entry has changed
//! ```
//! A node renews its fields, and the whole entry stays as long as one node renews it. Fields of nodes that are lost
//! remain, so each has its own time.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::directory::{Command, Reply};

/// The channel for changes, without the prefix.
pub(super) const CHANGES: &str = "tun:changes";

/// How long a host stays after the last renewal.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// Names of one host that are looked up: itself, and patterns above it. A longer name has no more in practice.
const NAMES: usize = 16;

/// The hosts of this node, each with its number of connections.
#[derive(Default)]
pub(super) struct OwnHosts(HashMap<Box<str>, usize>);

impl OwnHosts {
    /// Adds a connection. Returns `true` if it is the first one for the host.
    pub(super) fn add(&mut self, host: &str) -> bool {
        let count = self.0.entry(host.into()).or_default();
        *count += 1;
        *count == 1
    }

    /// Removes a connection. Returns `true` if it was the last one for the host.
    pub(super) fn remove(&mut self, host: &str) -> bool {
        let Some(count) = self.0.get_mut(host) else { return false };
        *count = count.saturating_sub(1);
        let is_last = *count == 0;
        if is_last {
            self.0.remove(host);
        }
        is_last
    }

    pub(super) fn has(&self, host: &str) -> bool {
        self.0.contains_key(host)
    }

    pub(super) fn all(&self) -> Vec<Box<str>> {
        self.0.keys().cloned().collect()
    }
}

/// Returns the commands that register or renew a host.
pub(super) fn register(host: &str, node: &str, now: SystemTime) -> [Command; 2] {
    let until = millis(now).saturating_add(LEASE.as_millis());
    [
        Command::new("HSET").key(key(host)).arg(node).arg(until.to_string()).hint(),
        Command::new("PEXPIRE").key(key(host)).arg(LEASE.as_millis().to_string()).hint(),
    ]
}

/// Returns the command that removes a host.
pub(super) fn withdraw(host: &str, node: &str) -> Command {
    Command::new("HDEL").key(key(host)).arg(node).hint()
}

/// Returns the command that tells all nodes of a change.
pub(super) fn changed(host: &str) -> Command {
    Command::new("PUBLISH").key(CHANGES).arg(host).hint()
}

/// Returns the commands that look a host up: by its name, and by the patterns that include it.
pub(super) fn lookups(host: &str) -> Vec<Command> {
    let domains = host.match_indices('.').map(|(at, _)| format!("*{}", &host[at..]));
    let names = std::iter::once(host.to_owned()).chain(domains).take(NAMES).chain(["*".to_owned()]);
    names.map(|name| Command::new("HGETALL").key(key(&name))).collect()
}

/// Returns the nodes that have the host, by the replies to [`lookups`].
pub(super) fn holders(replies: &[Reply], now: SystemTime) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    for reply in replies {
        let Reply::Array(fields) = reply else { continue };
        for field in fields.chunks_exact(2) {
            let [Reply::Bytes(node), Reply::Bytes(until)] = field else { continue };
            let until = std::str::from_utf8(until).ok().and_then(|until| until.parse::<u128>().ok());
            let node = String::from_utf8_lossy(node).into_owned();
            if until.is_some_and(|until| millis(now) < until) && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
    }
    nodes
}

fn key(host: &str) -> String {
    format!("tun:{host}")
}

fn millis(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn a_host_is_announced_with_its_first_connection_and_withdrawn_with_its_last() {
        let mut hosts = OwnHosts::default();
        assert_eq!([hosts.add("a"), hosts.add("a"), hosts.add("b")], [true, false, true]);
        assert_eq!([hosts.remove("a"), hosts.remove("a"), hosts.remove("a")], [false, true, false]);
        assert!(!hosts.has("a") && hosts.has("b"));
        assert_eq!(hosts.all(), ["b".into()]);
    }

    #[test]
    fn a_host_has_its_name_and_the_patterns_above_it() {
        let text = |host| format!("{:?}", lookups(host));
        let count = |host| lookups(host).len();
        assert_eq!((count("a.b.example"), count("localhost")), (4, 2));
        let keys = text("a.b.example");
        for pattern in ["tun:a.b.example", "tun:*.b.example", "tun:*.example", "tun:*"] {
            let bytes = format!("{:?}", pattern.as_bytes());
            assert!(keys.contains(&bytes), "{pattern} in {keys}");
        }
        assert_eq!(count(&"a.".repeat(100)), NAMES + 1);
    }

    #[test]
    fn nodes_whose_time_is_over_do_not_count() {
        let until = |seconds| bytes(&millis(at(seconds)).to_string());
        let replies = [
            Reply::Array(vec![bytes("fra1"), until(10), bytes("ber2"), until(9)]),
            Reply::Array(vec![]),
            Reply::Nil,
            Reply::Error("WRONGTYPE".into()),
            Reply::Array(vec![bytes("fra1"), until(20), bytes("muc3"), until(20), bytes("x")]),
            Reply::Array(vec![bytes("odd"), bytes("-1"), bytes("odd"), Reply::Nil]),
        ];
        assert_eq!(holders(&replies, at(9)), ["fra1", "muc3"]);
        assert_eq!(holders(&replies, at(20)), Vec::<String>::new());
    }
}
