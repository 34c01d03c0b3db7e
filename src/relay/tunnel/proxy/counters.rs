//! What is counted, and who is connected.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use uncork::PeerAddr;

/// What happened.
#[derive(Clone, Copy)]
pub(super) enum Count {
    /// A request for an origin came in.
    Requests,
    /// … for a host that nobody has registered: 404.
    Unknown,
    /// … for one whose origins are all away: 502.
    NoOrigin,
    /// … that found all its origins, its host or its address at a limit, or was refused by all: 429 and 503.
    Refused,
    /// … whose origin was lost before it had answered, or made no sense: 502.
    Lost,
    /// … that was not answered in time: 504.
    TimedOut,
    /// … that can't be passed on: 400, 413, 431, 501.
    Unfit,
    /// An answer was cut short, and so was the client's connection.
    Cut,
    /// A client left before its answer was whole.
    Left,
    /// A request was refused by one origin and tried on another.
    Retried,
    /// An origin was connected.
    Links,
    /// An origin's connection was closed for its silence.
    Silent,
    /// A handshake without a valid credential, or for names that are not to be had.
    Denied,
    /// A connection by ALPN did not identify itself.
    Unanswered,
    /// A handshake lost its place to a newer one, because all were taken.
    Displaced,
    /// A handshake was refused unread, because its network has failed too often.
    Throttled,
    /// Bytes of requests' bodies, to origins.
    Up,
    /// Bytes of answers' bodies, from origins.
    Down,
}

const COUNTS: usize = Count::Down as usize + 1;

#[derive(Default)]
pub(super) struct Counters([AtomicU64; COUNTS]);

impl Counters {
    pub(super) fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    pub(super) fn add_many(&self, count: Count, n: u64) {
        self.0[count as usize].fetch_add(n, Relaxed);
    }

    /// Reads all that is counted up; what is there now is the caller's to add.
    pub(super) fn read(&self) -> ProxyCounts {
        let get = |count: Count| self.0[count as usize].load(Relaxed);
        ProxyCounts {
            links: 0,
            active: 0,
            requests: get(Count::Requests),
            unknown_host: get(Count::Unknown),
            no_origin: get(Count::NoOrigin),
            refused: get(Count::Refused),
            lost: get(Count::Lost),
            timed_out: get(Count::TimedOut),
            unfit: get(Count::Unfit),
            cut: get(Count::Cut),
            left: get(Count::Left),
            retried: get(Count::Retried),
            links_total: get(Count::Links),
            silent: get(Count::Silent),
            denied: get(Count::Denied),
            unanswered: get(Count::Unanswered),
            displaced: get(Count::Displaced),
            throttled: get(Count::Throttled),
            bytes_up: get(Count::Up),
            bytes_down: get(Count::Down),
        }
    }
}

/// What a [`Proxy`](super::Proxy) has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyCounts {
    /// Connections of origins, now.
    pub links: u64,
    /// Requests under way, now.
    pub active: u64,
    /// Requests of clients, ever.
    pub requests: u64,
    /// … for hosts that nobody has registered: 404.
    pub unknown_host: u64,
    /// … for hosts whose origins were all away: 502.
    pub no_origin: u64,
    /// … that met a limit, or were refused by all origins: 429 and 503.
    pub refused: u64,
    /// … whose origin was lost before it had answered, or made no sense: 502.
    pub lost: u64,
    /// … that were not answered in time: 504.
    pub timed_out: u64,
    /// … that could not be passed on: 400, 413, 431, 501.
    pub unfit: u64,
    /// Answers that an origin has cut short, and the client's connection with them.
    pub cut: u64,
    /// Clients that left before their answer was whole.
    pub left: u64,
    /// Requests that one origin has refused and another was given.
    pub retried: u64,
    /// Connections of origins, ever.
    pub links_total: u64,
    /// … that were closed for their silence.
    pub silent: u64,
    /// Handshakes without a valid credential, or for names that were not to be had.
    pub denied: u64,
    /// Connections by ALPN (`rh2`) that did not identify themselves, in time or at all.
    pub unanswered: u64,
    /// … that lost their place to a newer one, because [`ProxyConfig::handshakes`](super::ProxyConfig::handshakes) were
    /// under way. More than a few mean that some networks open connections and say nothing.
    pub displaced: u64,
    /// Handshakes that were refused unread, because their network had
    /// [failed too often](super::ProxyConfig::failures_per_minute).
    pub throttled: u64,
    /// Bytes of requests' bodies, to origins.
    pub bytes_up: u64,
    /// Bytes of answers' bodies, from origins.
    pub bytes_down: u64,
}

/// One connection of an origin.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The name of its credential.
    pub credential: String,
    /// What it has registered.
    pub hosts: Vec<String>,
    /// Where it comes from.
    pub peer: PeerAddr,
    /// Since when it is connected.
    pub since: SystemTime,
    /// Requests under way.
    pub active: usize,
    /// Requests so far.
    pub requests: u64,
    /// Bytes of requests' bodies, to it.
    pub bytes_up: u64,
    /// Bytes of answers' bodies, from it.
    pub bytes_down: u64,
    /// The way there and back, by the last ping. `None` if it was never pinged: it was never idle.
    pub round_trip: Option<Duration>,
    /// It takes no new requests: it, or this server, is about to leave.
    pub leaving: bool,
}

impl fmt::Display for ConnectionInfo {
    /// A line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credential, hosts, peer, active, requests, bytes_up, bytes_down, .. } = self;
        write!(f, "{credential} {peer} [{}] {active} of {requests} requests", hosts.join(", "))?;
        write!(f, ", {bytes_up} bytes to it, {bytes_down} from it")?;
        if let Some(time) = self.round_trip {
            write!(f, ", {:.1} ms", time.as_secs_f64() * 1000.0)?;
        }
        f.write_str(if self.leaving { ", leaving" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_read_under_its_name() {
        let counters = Counters::default();
        counters.add(Count::TimedOut);
        counters.add_many(Count::Down, 7);
        let want = ProxyCounts { timed_out: 1, bytes_down: 7, ..ProxyCounts::default() };
        assert_eq!(counters.read(), want);
    }
}
