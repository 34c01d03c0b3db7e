//! What can be set about a proxy, each with its default and the reason for it; who may be an origin, and of which names.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uncork::PeerAddr;

use super::pattern::Pattern;
use crate::relay::{ConfigError, Via, config as checks};

/// How a [`Proxy`](super::Proxy) behaves.
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
    /// Where origins ask for a tunnel. `/tunnel`.
    pub path: String,
    /// Who may be an origin, and of which names. None by default: then nobody is.
    pub credentials: Vec<Credential>,
    /// Which origin gets a request, if several have registered the name.
    pub balance: Balance,
    /// Whose `X-Forwarded-*` and `Forwarded` are believed, and continued: proxies in front of this one. Nobody's by
    /// default. (Where a program decides that itself: [`Proxy::handle_behind`](super::Proxy::handle_behind).)
    pub trusted: Trusted,
    /// The name under which this proxy signs what it forwards, in the `Via` field of requests and responses. A request that
    /// has this name in its `Via` is answered with 508 (Loop Detected). `None` by default: a random name, new at each
    /// start, so that proxies may stand behind one another.
    pub via: Option<Via>,
    /// How long an origin may take to begin its answer, once it has the request whole; and how long an upload may stand
    /// still for its sake. Then it is a 504. 60 s, as nginx.
    pub response_timeout: Duration,
    /// When a client is told to come back if no origin is connected. 5 s: an origin redials within seconds.
    pub retry_after: Duration,
    /// After how much silence an origin is pinged. After twice as much it is taken for dead. 15 s: so it is found dead
    /// after half a minute, and NAT on the way, which forgets after 30 s or more, is kept from that.
    pub ping_interval: Duration,
    /// How long requests under way may take when the server stops. 30 s; the server's own grace applies as well.
    pub drain_timeout: Duration,
    /// How long an origin may take from the `101` to its first frame. 10 s.
    pub handshake_timeout: Duration,
    /// How long a name stays the credential's that has registered it, when its last origin is gone. 10 minutes: nobody
    /// else gets it because an origin restarts. Until then its clients are told 502, afterwards 404.
    pub names_kept: Duration,
    /// Connections of origins in all; one more is refused with 503. 1,024.
    pub connections: usize,
    /// Connections of one credential; one more is refused with 429. 16.
    pub connections_per_credential: usize,
    /// Names one connection may register; more are refused with 403. 64.
    pub names_per_connection: usize,
    /// Requests on one connection at the same time. 256, or as many as the origin server takes, if that is less: beyond it
    /// another connection is taken, or the answer is 503.
    pub streams_per_connection: usize,
    /// Requests of one client's address (one /64 network in IPv6) at the same time; one more is refused with 429. 128,
    /// whatever is connected. How many of these one host gets depends on what is free there:
    /// [`share_per_address`](Self::share_per_address). The place of a client that left early stays taken for one second
    /// more, so this is also how many streams one address can have reset in a second.
    pub streams_per_address: usize,
    /// Requests of one name at the same time, whatever is connected; one more is refused with 503. 1,024.
    pub streams_per_host: usize,
    /// Share of one client's address in a connection's places, and in a name's, in percent of those that are free.
    /// 100: it gets one more as long as it has no more than are free. One address alone has half, four have a fifth each,
    /// sixteen a seventeenth, and as much stays free for others. Where no connection has a place left for it, the answer
    /// is 503. Clients without an address (Unix sockets) have no share.
    pub share_per_address: u32,
    /// Share of one name, where its connections are for other names as well, in the same way. 400: four fifths of the
    /// places. So requests for one host do not keep clients from the other hosts of the credential.
    pub share_per_name: u32,
    /// Bytes of a response's fields, as HTTP/2 counts them. 64 KiB; 32 KiB at the least. A larger head is 502 for its client;
    /// one of four times as much ends the connection, which no [`Tunnel`](super::super::Tunnel) sends.
    pub head: u32,
    /// Bytes an origin may send ahead of what a client has taken, for each answer. 256 KiB, which a path of 100 ms fills
    /// with 2.5 MB/s. It is memory: a client that does not read costs as much. The connection's own window is so many
    /// times this as there may be streams, or a few such clients would stop all others.
    pub window: u32,
    /// Connections by ALPN (`rh2`) at the same time that have not identified themselves yet. 64. For one more, the oldest of
    /// the network with the most such connections is closed (a network is one IPv4 address, or one /64 of IPv6): so a
    /// newcomer always gets in, however many places others have taken. A handshake by `PUT` has no such limit: until its
    /// request it is a connection as any other, and [`Limits`](uncork::Limits) apply.
    pub handshakes: usize,
    /// Handshakes of one network in a minute that fail: without a valid credential, or by ALPN without an answer. 30. The
    /// next is refused unread: with 429, or closed where it came by ALPN. 0 for no limit.
    pub failures_per_minute: u32,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            path: "/tunnel".into(),
            credentials: Vec::new(),
            balance: Balance::RoundRobin,
            trusted: Trusted::nobody(),
            via: None,
            response_timeout: Duration::from_secs(60),
            retry_after: Duration::from_secs(5),
            ping_interval: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            names_kept: Duration::from_secs(600),
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
        }
    }
}

impl ProxyConfig {
    pub(super) fn checked(mut self) -> Result<Self, ConfigError> {
        self.path = checks::base_path(&self.path)?;
        if self.path.is_empty() {
            return Err(ConfigError("the path where origins ask for a tunnel must not be the root"));
        }
        // What a stream and a connection may be asked for (RFC 9113 §6.9.1).
        let most = (1 << 31) - 1;
        if !(1024..=most).contains(&self.window) {
            return Err(ConfigError("the window must be between 1 KiB and 2 GiB"));
        }
        // An origin server of ours sends up to 72 KiB, and h2 ends the connection for four times what it takes.
        if self.head < 32 * 1024 {
            return Err(ConfigError("heads of responses must be allowed to have 32 KiB"));
        }
        if !(1..=10_000).contains(&self.streams_per_connection) {
            return Err(ConfigError("a connection needs between 1 and 10,000 streams"));
        }
        if self.share_per_address == 0 || self.share_per_name == 0 {
            return Err(ConfigError("a share of the places that are free must not be none of them"));
        }
        for (i, one) in self.credentials.iter().enumerate() {
            if one.hosts.is_empty() {
                return Err(ConfigError("a credential without names is of no use: give it at least one"));
            }
            if self.credentials[..i].iter().any(|other| other.name == one.name) {
                return Err(ConfigError("two credentials have the same name"));
            }
            if self.credentials[..i].iter().any(|other| other.proof == one.proof) {
                return Err(ConfigError("two credentials are the same token or certificate, or both none"));
            }
        }
        checks::times([
            &mut self.response_timeout,
            &mut self.retry_after,
            &mut self.ping_interval,
            &mut self.drain_timeout,
            &mut self.handshake_timeout,
            &mut self.names_kept,
        ]);
        Ok(self)
    }

    /// The connection's window.
    pub(super) fn connection_window(&self) -> u32 {
        let streams = u32::try_from(self.streams_per_connection).unwrap_or(u32::MAX);
        self.window.saturating_mul(streams).min((1 << 31) - 1)
    }

    /// Whose token this is. All are compared, and each in the same time, whether or not it fits.
    pub(super) fn by_token(&self, token: &[u8]) -> Option<usize> {
        self.by_proof(Proof::Token(Sha256::digest(token).into()))
    }

    /// Whose certificate (DER) this is.
    pub(super) fn by_certificate(&self, certificate: &[u8]) -> Option<usize> {
        self.by_proof(Proof::Certificate(Sha256::digest(certificate).into()))
    }

    /// The credential of origins that have none.
    #[cfg(feature = "spdy")]
    pub(super) fn legacy(&self) -> Option<usize> {
        self.credentials.iter().position(|one| one.proof == Proof::Address)
    }

    /// Whether one of those may come from there.
    #[cfg(feature = "spdy")]
    pub(super) fn is_legacy_source(&self, peer: &PeerAddr) -> bool {
        self.credentials.iter().any(|one| one.sources.as_ref().is_some_and(|sources| sources.has(peer)))
    }

    fn by_proof(&self, shown: Proof) -> Option<usize> {
        self.credentials.iter().enumerate().fold(None, |found, (i, one)| match (one.proof, shown) {
            (Proof::Token(a), Proof::Token(b)) | (Proof::Certificate(a), Proof::Certificate(b)) => {
                if bool::from(a.ct_eq(&b)) { Some(i) } else { found }
            }
            _ => found,
        })
    }
}

/// Which of several origins of one name gets a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastBusy,
}

/// Who may be an origin, by what proof, of which names, and with what limits.
#[derive(Clone, Debug)]
pub struct Credential {
    pub(super) name: String,
    proof: Proof,
    pub(super) hosts: Vec<Pattern>,
    pub(super) body: u64,
    pub(super) rate: Option<u64>,
    /// From where an origin may come that shows nothing.
    #[cfg(feature = "spdy")]
    sources: Option<Trusted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// SHA-256 of the token.
    Token([u8; 32]),
    /// SHA-256 of the certificate, in DER.
    Certificate([u8; 32]),
    /// None: where it comes from is enough.
    #[cfg(feature = "spdy")]
    Address,
}

impl Credential {
    /// Whoever has the token whose SHA-256 this is, in hexadecimal. The token itself, which should be 256 random bits, is
    /// not known here: who reads the configuration cannot be an origin. `name` is for logs and statistics.
    ///
    /// # Errors
    /// If `hash` isn't 64 hexadecimal digits.
    pub fn token(name: impl Into<String>, hash: &str) -> Result<Self, ConfigError> {
        Ok(Self::new(name.into(), Proof::Token(sha256(hash)?)))
    }

    /// Whoever shows the client certificate whose SHA-256 (of its DER, as `openssl x509 -fingerprint -sha256` says) this
    /// is, in hexadecimal, with or without colons. The listener must ask for it
    /// ([`TlsBuilder::client_certificates`](uncork::TlsBuilder::client_certificates)), and so has verified it.
    ///
    /// # Errors
    /// If `hash` isn't 64 hexadecimal digits.
    pub fn certificate(name: impl Into<String>, hash: &str) -> Result<Self, ConfigError> {
        Ok(Self::new(name.into(), Proof::Certificate(sha256(&hash.replace(':', ""))?)))
    }

    fn new(name: String, proof: Proof) -> Self {
        Self {
            name,
            proof,
            hosts: Vec::new(),
            body: 1 << 30,
            rate: None,
            #[cfg(feature = "spdy")]
            sources: None,
        }
    }

    /// Whoever comes from where `sources` allows and speaks the protocol of 2014: `PUT /`, then SPDY. **That is no
    /// authentication**: whoever can connect from there is sent what clients send, and answers them. So it holds for
    /// nobody unless it is asked for, and should be open to single addresses only. There is one such credential at the
    /// most, and one origin of it at a time: the newest. It has all the names that are given here; `*` makes it the origin
    /// of whatever nobody else has registered.
    #[cfg(feature = "spdy")]
    pub fn allow_legacy_unauthenticated(
        name: impl Into<String>,
        sources: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { sources: Some(Trusted::peers(sources)), ..Self::new(name.into(), Proof::Address) }
    }

    /// May register this name: `app.example`, `*.dev.example` (whatever stands in front of the dot, and such patterns),
    /// `*` for all, each with or without a path below which it holds: `app.example/api`.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn host(mut self, pattern: &str) -> Result<Self, ConfigError> {
        let pattern = Pattern::parse(pattern).ok_or(ConfigError(
            "a name must be a host as app.example or a pattern as *.dev.example, and may have a path behind it",
        ))?;
        self.hosts.push(pattern);
        Ok(self)
    }

    /// Bytes of a request's body at the most; more is refused with 413. 1 GiB, unless said otherwise.
    pub fn body(self, most: u64) -> Self {
        Self { body: most, ..self }
    }

    /// Bytes a second that its connections carry together at the most, in both directions. No limit, unless said
    /// otherwise.
    pub fn rate(self, most: impl Into<Option<u64>>) -> Self {
        Self { rate: most.into(), ..self }
    }

    /// Whether it may register this name.
    pub(super) fn allows(&self, claim: &Pattern) -> bool {
        self.hosts.iter().any(|host| host.covers(claim))
    }
}

fn sha256(hex: &str) -> Result<[u8; 32], ConfigError> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
            _ => None,
        })
        .collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(ConfigError("a credential is kept as its SHA-256: 64 hexadecimal digits"))
}

/// Which peers are proxies in front of this one, whose word about their clients is believed.
#[derive(Clone)]
pub struct Trusted(Arc<dyn Fn(&PeerAddr) -> bool + Send + Sync>);

impl Trusted {
    /// Nobody is.
    pub fn nobody() -> Self {
        Self::peers(|_| false)
    }

    /// Those of whom `f` says so.
    pub fn peers(f: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }

    pub(super) fn has(&self, peer: &PeerAddr) -> bool {
        (self.0)(peer)
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trusted(..)")
    }
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
        assert_eq!(config.by_certificate(b"test"), None, "a token is no certificate");
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
    fn what_cannot_work_is_refused() {
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
        assert!(ProxyConfig { streams_per_connection: 0, ..ProxyConfig::default() }.checked().is_err());
    }
}
