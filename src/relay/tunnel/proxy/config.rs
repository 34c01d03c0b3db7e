//! Settings of the proxy, each with its default and the reason for it.

use std::time::Duration;

#[cfg(feature = "spdy")]
use uncork::PeerAddr;

use super::{
    credential::{Credential, Proof},
    trusted::Trusted,
};
use crate::relay::{
    ConfigError, Via, config as checks,
    tunnel::address::{Address, MAX, NamedNodes},
};

/// Settings of a [`Proxy`](super::Proxy).
///
/// ```
/// use uncork::relay::tunnel::{Credential, Proxy, ProxyConfig};
/// // printf %s "$TOKEN" | sha256sum
/// let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// let app = Credential::token("app", hash)?.host("app.example")?.host("*.dev.example")?;
/// let proxy = Proxy::new(ProxyConfig { credentials: vec![app], ..ProxyConfig::default() })?;
/// # Ok::<(), uncork::relay::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Path where origin servers request a tunnel. Default: `/tunnel`.
    pub path: String,
    /// Credentials of origin servers. Default: none, so that no origin server is accepted.
    pub credentials: Vec<Credential>,
    /// Rule that distributes requests, if several origin servers have registered the name. Default:
    /// [`Balance::RoundRobin`].
    pub balance: Balance,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are trusted and continued: proxies in front of this one. Default:
    /// none. A program that decides this itself calls [`Proxy::handle_behind`](super::Proxy::handle_behind).
    pub trusted: Trusted,
    /// Name of this proxy in the `Via` field of requests and responses. A request that already has this name in its
    /// `Via` is rejected with 508 (Loop Detected). Default: `None`, a random name that is new at each start, so that
    /// several proxies may stand behind one another.
    pub via: Option<Via>,
    /// Timeout of an origin server's response, from the complete request, and of an upload that it does not read.
    /// Beyond it: 504. Default: 60 s, as nginx.
    pub response_timeout: Duration,
    /// Value of `Retry-After` while no origin server is connected. Default: 5 s, since origin servers reconnect within
    /// seconds.
    pub retry_after: Duration,
    /// Silence after which an origin server is pinged; after twice as much its connection is closed. Default: 15 s, so
    /// that a dead origin server is detected within 30 s and NAT mappings (typically 30 s or more) stay alive.
    pub ping_interval: Duration,
    /// Timeout of the requests in progress when the server stops. Default: 30 s. The server's own grace applies as
    /// well.
    pub drain_timeout: Duration,
    /// Timeout of an origin server's first frame, from the `101`, and of the whole handshake by ALPN. Default: 10 s.
    pub handshake_timeout: Duration,
    /// Time for which a name stays with its credential after the last origin server has disconnected. Clients get 502
    /// until then, afterwards 404. Default: 10 minutes, so that a restart does not lose the name to another credential.
    pub name_timeout: Duration,
    /// Maximum number of connections of origin servers. One more is rejected with 503. Default: 1,024.
    pub connections: usize,
    /// Maximum number of connections with one credential. One more is rejected with 429. Default: 16.
    pub connections_per_credential: usize,
    /// Maximum number of names that one connection may register. More are rejected with 403. Default: 64.
    pub names_per_connection: usize,
    /// Maximum number of concurrent requests on one connection, or as many as the origin server accepts, if that is
    /// less. Beyond it another connection is used, or the response is 503. Default: 256.
    pub streams_per_connection: usize,
    /// Maximum number of concurrent requests of one client address (one /64 network in IPv6), over all hosts. One more
    /// is rejected with 429. Default: 128. How many of them one host gets depends on the free capacity there:
    /// [`share_per_address`](Self::share_per_address). A request that its client cancels counts for one second more. So
    /// this is also how many streams one address can have reset in a second.
    pub streams_per_address: usize,
    /// Maximum number of concurrent requests for one name, over all connections. One more is rejected with 503.
    /// Default: 1,024.
    pub streams_per_host: usize,
    /// Share of one client address in the capacity of a connection and of a name, in percent of what is free. If no
    /// connection has capacity left for the address, the response is 503. Default: 100, with which an address gets one
    /// more request as long as it has no more than are free. One address alone has half, four have a fifth each,
    /// sixteen a seventeenth, and as much stays free for others. Clients without an address (Unix sockets) have no
    /// share.
    pub share_per_address: u32,
    /// Share of one name, in the same way, where its connections also serve other names. Default: 400, which is four
    /// fifths of the capacity. So requests for one host do not block the credential's other hosts.
    pub share_per_name: u32,
    /// Maximum size of a response's fields in bytes, as HTTP/2 counts them; at least 32 KiB. A larger head becomes 502
    /// for its client. One of four times as much ends the connection; no [`Tunnel`](super::super::Tunnel) sends such a
    /// head. Default: 64 KiB.
    pub head: u32,
    /// Maximum number of bytes that an origin server may send ahead of the client, for each response. Default: 256 KiB,
    /// which a path of 100 ms fills with 2.5 MB/s. A client that does not read costs this much memory. The connection's
    /// own window is this times the number of streams; else a few such clients would stop all others.
    pub window: u32,
    /// Maximum number of concurrent connections by [ALPN](super::Proxy::ALPN) that have not identified themselves yet. For one more,
    /// the oldest of the network with the most such connections is closed (a network is one IPv4 address, or one /64 of
    /// IPv6). So a new connection is always accepted, however many others are open. Default: 64. A handshake by `PUT`
    /// has no such limit: until its request it is a connection like any other, and [`Limits`](uncork::Limits) apply.
    pub handshakes: usize,
    /// Maximum number of failed handshakes of one network in a minute: without a valid credential, or by ALPN without a
    /// response. The next one is rejected unread: with 429, or by closing the connection after ALPN. Default: 30. 0:
    /// no limit.
    pub failures_per_minute: u32,
    /// Where origin servers reach this proxy, as `NAME:PORT`, if it is one of several nodes. With it, an origin server
    /// that has connected by a common name of all nodes knows which one it has got. Default: `None`.
    pub address: Option<String>,
    /// Where origin servers reach the other nodes, as `NAME:PORT`; at most 15. This one may be among them, so
    /// that the list can be the same everywhere. They are told in the handshake (the field
    /// `Uncork-Nodes`), and keep their connections to different nodes. Each node must show a certificate for that name
    /// that the origin servers accept. Default: none.
    pub other_addresses: Vec<String>,
    /// With other nodes: whether this one closes connections if it has clearly more of them than the others (a quarter
    /// more than the mean, and one). It compares once per [`ping_interval`](Self::ping_interval), and closes at most
    /// one a second, in good order: those with the fewest requests first. It closes only connections of origin servers
    /// that go to other nodes then, and whose hosts have another connection, here or on a node that responds. Default:
    /// `true`.
    pub shed: bool,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            path: "/tunnel".into(),
            credentials: Vec::new(),
            balance: Balance::RoundRobin,
            trusted: Trusted::none(),
            via: None,
            response_timeout: Duration::from_secs(60),
            retry_after: Duration::from_secs(5),
            ping_interval: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            name_timeout: Duration::from_secs(600),
            connections: 1024,
            connections_per_credential: 16,
            names_per_connection: 64,
            streams_per_connection: 256,
            streams_per_address: 128,
            streams_per_host: 1024,
            share_per_address: 100,
            share_per_name: 400,
            head: 64 * 1024,
            window: 256 * 1024,
            handshakes: 64,
            failures_per_minute: 30,
            address: None,
            other_addresses: Vec::new(),
            shed: true,
        }
    }
}

impl ProxyConfig {
    pub(super) fn checked(mut self) -> Result<Self, ConfigError> {
        self.path = checks::base_path(&self.path)?;
        if self.path.is_empty() {
            return Err(ConfigError::new("invalid path for origin servers: expected other than the root"));
        }
        // Limits of a stream and a connection (RFC 9113 §6.9.1).
        let max = (1 << 31) - 1;
        if !(1024..=max).contains(&self.window) {
            return Err(ConfigError::new("invalid window: expected 1 KiB to 2 GiB"));
        }
        // Our origin server sends up to 72 KiB, and HTTP/2 ends the connection at four times its limit.
        if self.head < 32 * 1024 {
            return Err(ConfigError::new("invalid limit of response heads: expected at least 32 KiB"));
        }
        if !(1..=10_000).contains(&self.streams_per_connection) {
            return Err(ConfigError::new("invalid number of streams per connection: expected 1 to 10,000"));
        }
        if self.share_per_address == 0 || self.share_per_name == 0 {
            return Err(ConfigError::new("invalid share per address or name: expected at least 1 percent"));
        }
        for (i, one) in self.credentials.iter().enumerate() {
            if one.hosts.is_empty() {
                return Err(ConfigError::new("invalid credential: expected at least one name"));
            }
            if self.credentials[..i].iter().any(|other| other.name == one.name) {
                return Err(ConfigError::new("invalid credentials: two have the same name"));
            }
            if self.credentials[..i].iter().any(|other| other.proof == one.proof) {
                return Err(ConfigError::new("invalid credentials: two have the same token or certificate"));
            }
        }
        self.nodes()?;
        checks::times([
            &mut self.response_timeout,
            &mut self.retry_after,
            &mut self.ping_interval,
            &mut self.drain_timeout,
            &mut self.handshake_timeout,
            &mut self.name_timeout,
        ]);
        Ok(self)
    }

    /// Returns what origin servers are told about the nodes.
    pub(super) fn nodes(&self) -> Result<NamedNodes, ConfigError> {
        let address = |text: &String| {
            Address::parse(text).ok_or_else(|| {
                ConfigError::of(None, format!("invalid address {text:?} for origin servers: expected NAME:PORT"))
            })
        };
        let own = self.address.as_ref().map(address).transpose()?;
        let mut others = self.other_addresses.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        // The list may be the same on all nodes.
        others.retain(|other| own.as_ref() != Some(other));
        if others.len() >= MAX {
            return Err(ConfigError::new("invalid addresses for origin servers: there are too many"));
        }
        Ok(NamedNodes { own, others })
    }

    /// Returns the window of a connection.
    pub(super) fn connection_window(&self) -> u32 {
        let streams = u32::try_from(self.streams_per_connection).unwrap_or(u32::MAX);
        self.window.saturating_mul(streams).min((1 << 31) - 1)
    }

    /// Returns the credential of this token. All are compared, each in constant time.
    pub(super) fn by_token(&self, token: &[u8]) -> Option<usize> {
        self.by_proof(&Proof::of_token(token))
    }

    /// Returns the credential of this certificate (DER).
    pub(super) fn by_certificate(&self, certificate: &[u8]) -> Option<usize> {
        self.by_proof(&Proof::of_certificate(certificate))
    }

    /// Returns the credential of origin servers without a proof.
    #[cfg(feature = "spdy")]
    pub(super) fn legacy(&self) -> Option<usize> {
        self.credentials.iter().position(|one| one.proof == Proof::Address)
    }

    /// Returns `true` if the address is allowed for origin servers without a proof.
    #[cfg(feature = "spdy")]
    pub(super) fn is_legacy_source(&self, peer: &PeerAddr) -> bool {
        self.credentials.iter().any(|one| one.sources.as_ref().is_some_and(|sources| sources.has(peer)))
    }

    fn by_proof(&self, shown: &Proof) -> Option<usize> {
        let mut found = None;
        for (i, one) in self.credentials.iter().enumerate() {
            // No early end: the time must not depend on the match.
            if one.proof.is_same(shown) {
                found = Some(i);
            }
        }
        found
    }
}

/// How requests are distributed over several origin servers of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// To the one with the fewest requests in progress.
    LeastBusy,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn config(credentials: Vec<Credential>) -> Result<ProxyConfig, ConfigError> {
        ProxyConfig { credentials, ..ProxyConfig::default() }.checked()
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let other = "0".repeat(64);
        let [a, b, c] = [
            Credential::token("other", &other).unwrap().host("*").unwrap(),
            Credential::token("test", HASH).unwrap().host("*").unwrap(),
            Credential::certificate("cert", &other).unwrap().host("*").unwrap(),
        ];
        let config = config(vec![a, b, c]).unwrap();
        assert_eq!(config.by_token(b"test"), Some(1));
        for wrong in [&b"tesT"[..], b"", b"test ", HASH.as_bytes()] {
            assert_eq!(config.by_token(wrong), None);
        }
        assert_eq!(config.by_certificate(b"test"), None, "a token is not a certificate");
    }

    #[test]
    fn fingerprints_are_read_as_they_are_printed() {
        let colons =
            HASH.to_uppercase().as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":");
        let one = Credential::certificate("a", &colons).unwrap().host("a.example").unwrap();
        assert_eq!(config(vec![one]).unwrap().by_certificate(b"test"), Some(0));
        for wrong in ["", "9f", &HASH[1..], &format!("{HASH}00"), &"g".repeat(64)] {
            assert!(Credential::token("a", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn invalid_settings_are_rejected() {
        let one = |name: &str| Credential::token(name, HASH).unwrap().host("a.example").unwrap();
        assert!(config(vec![one("a")]).is_ok());
        assert!(config(vec![one("a"), one("b")]).is_err(), "the same token");
        assert!(config(vec![Credential::token("a", HASH).unwrap()]).is_err(), "no names");
        for path in ["", "/", "tunnel", "/a b"] {
            assert!(ProxyConfig { path: path.into(), ..ProxyConfig::default() }.checked().is_err(), "{path:?}");
        }
        assert!(ProxyConfig { head: 16 * 1024, ..ProxyConfig::default() }.checked().is_err());
        assert!(ProxyConfig { window: 0, ..ProxyConfig::default() }.checked().is_err());
        assert!(ProxyConfig { share_per_address: 0, ..ProxyConfig::default() }.checked().is_err());
        for address in ["", "a:0", "https://a:1", "a b"] {
            let config = ProxyConfig { other_addresses: vec![address.into()], ..ProxyConfig::default() };
            assert!(config.checked().is_err(), "{address:?}");
        }
        assert!(ProxyConfig { streams_per_connection: 0, ..ProxyConfig::default() }.checked().is_err());
    }
}
