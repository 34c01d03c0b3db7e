//! Counters, and the list of connections.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use uncork::PeerAddr;

/// Names of the counters.
#[derive(Clone, Copy)]
pub(super) enum Count {
    /// Requests of clients.
    Requests,
    /// Requests for hosts that no origin server has registered (404).
    Unknown,
    /// Requests for hosts without a connected origin server (502).
    NoOriginServer,
    /// Requests that exceeded a limit of the connections, the host or the address, or that all origin servers rejected
    /// unread (429, 503).
    Rejected,
    /// Requests whose origin server disconnected before its response, or sent a malformed one (502).
    Lost,
    /// Requests without a response in time (504).
    TimedOut,
    /// Requests that could not be forwarded (400, 413, 431, 501).
    Unfit,
    /// Truncated responses; the client's connection is truncated as well.
    Truncated,
    /// Clients that disconnected before the end of their response.
    Disconnected,
    /// Requests that one origin server rejected unread and that were retried on another one.
    Retried,
    /// Requests that were forwarded to another node.
    #[cfg(feature = "nodes")]
    Forwarded,
    /// Forwarded requests without a response of the other node (502, 503).
    #[cfg(feature = "nodes")]
    Unreachable,
    /// Requests for which the other nodes were not asked, because there were too many questions (503).
    #[cfg(feature = "nodes")]
    NotAsked,
    /// Connections of origin servers that were closed, because other nodes have fewer.
    #[cfg(feature = "nodes")]
    Shed,
    /// Connections of origin servers.
    Connections,
    /// Connections closed because a ping had no response.
    Silent,
    /// Handshakes without a valid credential (401).
    HandshakeUnauthorized,
    /// Handshakes that were not allowed: without TLS, or for names that are not the credential's (403) or taken (409).
    HandshakeForbidden,
    /// Handshakes beyond a limit on connections (429, 503).
    HandshakeOverLimit,
    /// Requests that were no handshake (400, 405, 426), or could not be served (500).
    HandshakeInvalid,
    /// Connections by ALPN that did not identify themselves.
    Unanswered,
    /// Handshakes by ALPN closed for a newer one, at the limit.
    Displaced,
    /// Handshakes that were rejected unread, because their network has failed too often.
    Throttled,
    /// Bytes of request bodies, to origin servers.
    RequestBytes,
    /// Bytes of response bodies, from origin servers.
    ResponseBytes,
}

const COUNTS: usize = Count::ResponseBytes as usize + 1;

#[derive(Default)]
pub(super) struct Counters([AtomicU64; COUNTS]);

impl Counters {
    pub(super) fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    pub(super) fn add_many(&self, count: Count, n: u64) {
        self.0[count as usize].fetch_add(n, Relaxed);
    }

    /// Reads the counters. The caller adds the two gauges.
    pub(super) fn read(&self) -> ProxyCounts {
        let get = |count: Count| self.0[count as usize].load(Relaxed);
        ProxyCounts {
            connections: 0,
            active: 0,
            requests: get(Count::Requests),
            unknown_host: get(Count::Unknown),
            no_origin_server: get(Count::NoOriginServer),
            rejected: get(Count::Rejected),
            lost: get(Count::Lost),
            timed_out: get(Count::TimedOut),
            unfit: get(Count::Unfit),
            truncated: get(Count::Truncated),
            disconnected: get(Count::Disconnected),
            retried: get(Count::Retried),
            #[cfg(feature = "nodes")]
            forwarded: get(Count::Forwarded),
            #[cfg(feature = "nodes")]
            unreachable: get(Count::Unreachable),
            #[cfg(feature = "nodes")]
            not_asked: get(Count::NotAsked),
            #[cfg(feature = "nodes")]
            shed: get(Count::Shed),
            connections_total: get(Count::Connections),
            silent: get(Count::Silent),
            handshakes_unauthorized: get(Count::HandshakeUnauthorized),
            handshakes_forbidden: get(Count::HandshakeForbidden),
            handshakes_over_limit: get(Count::HandshakeOverLimit),
            handshakes_invalid: get(Count::HandshakeInvalid),
            unanswered: get(Count::Unanswered),
            displaced: get(Count::Displaced),
            throttled: get(Count::Throttled),
            bytes_up: get(Count::RequestBytes),
            bytes_down: get(Count::ResponseBytes),
        }
    }
}

/// The counters of a [`Proxy`](super::Proxy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyCounts {
    /// Connections of origin servers, now.
    pub connections: u64,
    /// Requests in progress, now.
    pub active: u64,
    /// Requests of clients, since the start.
    pub requests: u64,
    /// Requests for hosts that no origin server has registered (404).
    pub unknown_host: u64,
    /// Requests for hosts without a connected origin server (502).
    pub no_origin_server: u64,
    /// Requests that exceeded a limit, or that all origin servers rejected unread (429, 503).
    pub rejected: u64,
    /// Requests whose origin server disconnected before its response, or sent a malformed one (502).
    pub lost: u64,
    /// Requests without a response in time (504).
    pub timed_out: u64,
    /// Requests that could not be forwarded (400, 413, 431, 501).
    pub unfit: u64,
    /// Responses that an origin server has truncated; the client's connection is truncated as well.
    pub truncated: u64,
    /// Clients that disconnected before the end of their response.
    pub disconnected: u64,
    /// Requests that one origin server rejected unread and that were retried on another one.
    pub retried: u64,
    /// Requests that were forwarded to another node, which has an origin server for the host. That node counts them,
    /// too.
    #[cfg(feature = "nodes")]
    pub forwarded: u64,
    /// Forwarded requests without a response of the other node (502), and requests for hosts that only a node which
    /// does not respond may have (503).
    #[cfg(feature = "nodes")]
    pub unreachable: u64,
    /// Requests for hosts that are not here, rejected because too many hosts were being looked up (503).
    #[cfg(feature = "nodes")]
    pub not_asked: u64,
    /// Connections that were closed slowly, because other nodes have fewer.
    #[cfg(feature = "nodes")]
    pub shed: u64,
    /// Connections of origin servers, since the start.
    pub connections_total: u64,
    /// Connections closed because a ping had no response.
    pub silent: u64,
    /// Handshakes without a valid credential (401).
    pub handshakes_unauthorized: u64,
    /// Handshakes that were not allowed: without TLS, or for names that are not the credential's (403) or taken (409).
    pub handshakes_forbidden: u64,
    /// Handshakes beyond a limit on connections (429, 503).
    pub handshakes_over_limit: u64,
    /// Requests that were no handshake (400, 405, 426), or could not be served (500).
    pub handshakes_invalid: u64,
    /// Connections by ALPN that did not identify themselves, in time or at all.
    pub unanswered: u64,
    /// Handshakes by ALPN closed for a newer one, because [`handshakes`](super::ProxyConfig::handshakes) was reached.
    /// More than a few mean that some networks open connections and stay silent.
    pub displaced: u64,
    /// Handshakes that were rejected unread, because their network had [failed too
    /// often](super::ProxyConfig::failures_per_minute).
    pub throttled: u64,
    /// Bytes of request bodies, to origin servers.
    pub bytes_up: u64,
    /// Bytes of response bodies, from origin servers.
    pub bytes_down: u64,
}

/// One connection of an origin server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The name of its credential.
    pub credential: String,
    /// The names that it has registered.
    pub hosts: Vec<String>,
    /// The address of the origin server.
    pub peer: PeerAddr,
    /// The time when it connected.
    pub since: SystemTime,
    /// Requests in progress.
    pub active: usize,
    /// Requests so far.
    pub requests: u64,
    /// Bytes of request bodies, to it.
    pub bytes_up: u64,
    /// Bytes of response bodies, from it.
    pub bytes_down: u64,
    /// The round-trip time of the last ping. `None` if it was never pinged: it was never idle.
    pub round_trip: Option<Duration>,
    /// It takes no new requests: it is draining, or this server is.
    pub draining: bool,
}

impl fmt::Display for ConnectionInfo {
    /// Writes one line for logs and status pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credential, hosts, peer, active, requests, bytes_up, bytes_down, .. } = self;
        write!(f, "{credential} {peer} [{}] {active} of {requests} requests", hosts.join(", "))?;
        write!(f, ", {bytes_up} bytes to it, {bytes_down} from it")?;
        if let Some(time) = self.round_trip {
            write!(f, ", {:.1} ms", time.as_secs_f64() * 1000.0)?;
        }
        f.write_str(if self.draining { ", draining" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_under_their_names() {
        let counters = Counters::default();
        counters.add(Count::TimedOut);
        counters.add_many(Count::ResponseBytes, 7);
        let want = ProxyCounts { timed_out: 1, bytes_down: 7, ..ProxyCounts::default() };
        assert_eq!(counters.read(), want);
    }
}
