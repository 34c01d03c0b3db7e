//! The public builder of a tunnel: the proxy, the names and all durations.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{Handler, Limits, LoopHandle, Running, Server, TlsClient};

use super::{
    auth_alpn,
    connection::OriginConnection,
    event::{Observer, TunnelEvent},
    protocol::{STREAMS, Timeouts},
    shared::{Registration, Shared},
    targets::Targets,
    upgrade_request::Proof,
};
use crate::relay::tunnel::{
    address::Address,
    labels::{Inner, UNREVERSED},
    pattern::Pattern,
};

/// A tunnel that is not opened yet: the proxy's address, the credential and the names to register.
///
/// ```no_run
/// use uncork::{Request, Response, TlsClient, relay::tunnel::Tunnel};
///
/// let ours = TlsClient::builder().roots("ca.pem")?.build()?;
/// Tunnel::dial("proxy.example:8443")
///     .token("2f0c…")
///     .host("app.example")
///     .tls(ours)
///     .serve(|_: &mut Request<'_>| Response::text("from behind NAT\n"))?
///     .join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a tunnel is opened by serve, threads, external or attach"]
#[derive(Clone)]
pub struct Tunnel {
    proxy: String,
    path: String,
    proof: Option<Proof>,
    hosts: Vec<String>,
    tls: Option<TlsClient>,
    connections: usize,
    other_nodes: bool,
    ping_interval: Duration,
    backoff: Duration,
    healthy_after: Duration,
    drain_timeout: Duration,
    connect_timeout: Duration,
    limits: Limits,
    listener: usize,
    observer: Option<Arc<Observer>>,
    /// The proxy is a spdy-proxy.
    legacy: bool,
    http1_only: bool,
}

/// The reason why a [`Tunnel`] cannot be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The proxy's address, a name, the token or the path is invalid; with the reason.
    Config(crate::relay::ConfigError),
    /// The system's root certificates cannot be read.
    Tls(uncork::TlsError),
    /// The operating system cannot provide a thread or a descriptor.
    Io(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn invalid(reason: impl Into<String>) -> StartError {
    StartError::Config(crate::relay::ConfigError::of(None, reason.into()))
}

impl Tunnel {
    /// Creates a tunnel to this proxy: a name or an IP address, and the port where it accepts origin servers, by
    /// default 443. The proxy is always dialled over TLS, and must prove that name by its certificate.
    pub fn dial(proxy: &str) -> Self {
        Self {
            proxy: proxy.to_owned(),
            path: "/tunnel".to_owned(),
            proof: None,
            hosts: Vec::new(),
            tls: None,
            connections: 2,
            other_nodes: true,
            ping_interval: Duration::from_secs(15),
            backoff: Duration::from_millis(500),
            healthy_after: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            limits: Limits::default(),
            listener: 0,
            observer: None,
            legacy: false,
            http1_only: false,
        }
    }

    /// Sets the token that identifies this origin server. Without one, the client certificate of [`tls`](Self::tls)
    /// does.
    pub fn token(self, token: &str) -> Self {
        Self { proof: Some(Proof { user: None, token: token.to_owned() }), ..self }
    }

    /// Like [`token`](Self::token), but sends a name with it, for a proxy that expects Basic authentication (RFC 7617).
    /// Ours compares it with the name of its [`Credential`](crate::relay::tunnel::Credential). The name must not have a
    /// colon.
    pub fn user(self, name: &str, token: &str) -> Self {
        Self { proof: Some(Proof { user: Some(name.to_owned()), token: token.to_owned() }), ..self }
    }

    /// Registers this name: the proxy forwards requests for it through the tunnel. `*.example.org` stands for all names
    /// below `example.org`; a path behind the name (`example.org/app`) for a part of it. May be called several times.
    /// Without a call, the proxy registers all the names that the credential allows. A name of another form is an error
    /// when the tunnel is started.
    pub fn host(mut self, name: &str) -> Self {
        self.hosts.push(name.to_owned());
        self
    }

    /// Sets how the proxy's certificate is verified: by certain authorities
    /// ([`TlsClientBuilder::roots`](uncork::TlsClientBuilder::roots)) or by a certain key
    /// ([`TlsClientBuilder::pin`](uncork::TlsClientBuilder::pin)). Default: the system's root certificates.
    pub fn tls(self, tls: TlsClient) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Connects to a spdy-proxy, which expects a bare `PUT /` and uses SPDY/3.1. **It accepts every origin server
    /// that dials it.** It knows neither tokens nor names, so neither may be set. It uses one origin server at a time,
    /// so one connection is kept; [`connections`](Self::connections) has no effect. [`tls`](Self::tls) still verifies
    /// the proxy; the certificate that comes with spdy-proxy needs a [pin](uncork::TlsClientBuilder::pin).
    ///
    /// A spdy-proxy does not describe its clients: the peer of every request is the proxy itself. Fields in which a
    /// client describes itself (`X-Forwarded-For`) are dropped. SPDY has no form for informational responses (1xx) and
    /// trailers, so they are dropped too.
    #[cfg(feature = "spdy")]
    pub fn allow_legacy_unauthenticated(self) -> Self {
        Self { legacy: true, ..self }
    }

    /// Serves requests in HTTP/1.1 instead of HTTP/2, if the proxy supports that: one at a time on each connection, and
    /// the others wait. An upgrade, and a client that disconnects early, use up a connection, which is then replaced by
    /// another. A proxy that is silent in the
    /// middle of a request is not noticed. Use it only where HTTP/2 cannot be used. Default: both are offered, and the
    /// proxy chooses.
    pub fn http1_only(self) -> Self {
        Self { http1_only: true, ..self }
    }

    /// Sets how many connections are kept open, 1 to 64. Default: 2, so that one may fail. If the proxy is one of
    /// several nodes, they are spread over the nodes; see [`other_nodes`](Self::other_nodes).
    pub fn connections(self, count: usize) -> Self {
        Self { connections: count.clamp(1, 64), ..self }
    }

    /// Sets whether other nodes are used that the proxy names
    /// ([`ProxyConfig::other_addresses`](crate::relay::tunnel::ProxyConfig::other_addresses)). Default:
    /// `true`.
    ///
    /// Then the connections are kept to different nodes, as far as there are enough. A node that fails, or that closes
    /// a connection, is avoided for 30 times the [first backoff](Self::backoff); if all have failed, the configured one
    /// is tried first. A connection that shares its node with another one moves when a node is free. Addresses that
    /// are no longer named are forgotten.
    ///
    /// A named node gets the token, like the configured proxy: it must prove its name by a certificate that
    /// [`tls`](Self::tls) accepts, or have the pinned key. At most 16 are used of each proxy.
    pub fn other_nodes(self, use_them: bool) -> Self {
        Self { other_nodes: use_them, ..self }
    }

    /// Returns how many concurrent requests the tunnel accepts: 256 for each connection, and as many for its
    /// replacement, which may exist at the same time. A handler with a limit of its own should accept no less; else it
    /// rejects requests that the proxy has admitted.
    pub fn max_requests(&self) -> usize {
        2 * STREAMS as usize * self.count()
    }

    /// Sets the path where the proxy accepts origin servers. Default: `/tunnel`.
    pub fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Sets the silence after which the proxy is pinged. After one and a half times as much another connection is
    /// opened beside the silent one; after twice as much the silent one is closed. Default: 15 s.
    pub fn ping_interval(self, interval: Duration) -> Self {
        Self { ping_interval: interval.max(Duration::from_millis(10)), ..self }
    }

    /// Sets the first backoff. Default: 0.5 s. The delay before a connection that has ended is opened again is a random
    /// part of the backoff, which doubles with each failure, up to 60 s.
    ///
    /// A connection that is [a minute](Self::healthy_after) old resets the backoff, and is opened again at once when it
    /// ends. There is no delay either if the proxy has closed a connection by ALPN without accepting
    /// or rejecting it; the next attempt then uses `PUT`.
    pub fn backoff(self, first: Duration) -> Self {
        Self { backoff: first.max(Duration::from_millis(1)), ..self }
    }

    /// Sets the age from which a connection counts as healthy: earlier failures are forgotten. Default: 60 s.
    pub fn healthy_after(self, age: Duration) -> Self {
        Self { healthy_after: age, ..self }
    }

    /// Sets the timeout of the requests in progress on a connection that a newer one has replaced. Default: 30 s. When
    /// the server stops, the server's grace applies instead.
    pub fn drain_timeout(self, timeout: Duration) -> Self {
        Self { drain_timeout: timeout, ..self }
    }

    /// Sets the timeout of connecting with the TLS handshake, and of the proxy's response. Default: 10 s each.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: timeout, ..self }
    }

    /// Sets the limits of requests that come through the tunnel, for [`serve`](Self::serve), [`threads`](Self::threads)
    /// and [`external`](Self::external).
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the number that requests return from [`Request::listener_index`](uncork::Request::listener_index).
    /// Default: 0.
    pub fn listener_index(self, listener: usize) -> Self {
        Self { listener, ..self }
    }

    /// Calls `f` with each event of the connections, on their loops; `f` must not block. Default: events are logged.
    pub fn on_event(self, f: impl Fn(&TunnelEvent<'_>) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Arc::new(f)), ..self }
    }

    /// Serves with as many loops as there are processors; see [`threads`](Self::threads).
    ///
    /// # Errors
    /// As [`threads`](Self::threads).
    pub fn serve<H: Handler + Clone + Send + 'static>(self, handler: H) -> Result<Running, StartError> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads(count, handler)
    }

    /// Serves with `count` loops, each in a thread of its own, like [`Server::threads`]. The tunnel begins to connect
    /// at once, and reopens connections that have ended for as long as the server runs.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid, or if the system cannot provide a thread. An unreachable
    /// proxy, or one that rejects the tunnel, is not an error: [`on_event`](Self::on_event) reports it, and the tunnel
    /// tries again.
    pub fn threads<H>(self, count: usize, handler: H) -> Result<Running, StartError>
    where
        H: Handler + Clone + Send + 'static,
    {
        let (shared, limits) = (self.shared()?, self.limits.clone());
        let running = Server::new().limits(limits).threads(count, handler)?;
        start(&shared, self.count(), &running.loops());
        Ok(running)
    }

    /// Serves in the application's own loop, like [`Server::external`].
    ///
    /// # Errors
    /// As [`threads`](Self::threads).
    pub fn external<'h, H: Handler + 'h>(self, handler: H) -> Result<uncork::ExternalServer<'h>, StartError> {
        let (shared, limits) = (self.shared()?, self.limits.clone());
        let external = Server::new().limits(limits).external(handler)?;
        start(&shared, self.count(), &[external.loop_handle()]);
        Ok(external)
    }

    /// Serves with the handler of a server that runs already and may have listeners too. Connections are distributed
    /// over its loops in turn.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid, or if `loops` is empty.
    pub fn attach(self, loops: &[LoopHandle]) -> Result<(), StartError> {
        if loops.is_empty() {
            return Err(invalid("the tunnel needs at least one loop"));
        }
        start(&self.shared()?, self.count(), loops);
        Ok(())
    }

    fn count(&self) -> usize {
        if self.legacy { 1 } else { self.connections }
    }

    fn shared(&self) -> Result<Arc<Shared>, StartError> {
        let (host, port) = address(&self.proxy)?;
        if self.legacy && (self.proof.is_some() || !self.hosts.is_empty()) {
            return Err(invalid("a spdy-proxy knows neither tokens nor names: set neither"));
        }
        for host in &self.hosts {
            Pattern::parse(host).map_err(|expected| invalid(format!("invalid host name {host:?}: {expected}")))?;
        }
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => TlsClient::system().map_err(StartError::Tls)?,
        };
        let inner: &[Inner] = if self.http1_only { &[Inner::Http1] } else { &Inner::ALL };
        let registration = Registration {
            path: self.path.clone(),
            proof: self.proof.clone(),
            hosts: self.hosts.clone(),
            inner,
            legacy: self.legacy,
            uses_nodes: self.other_nodes && !self.legacy,
        };
        let configured = Address { host: host.into(), port };
        // Checked before it is sent.
        registration.request(&configured).map_err(invalid)?;
        Ok(Arc::new(Shared {
            registration,
            targets: Mutex::new(Targets::new(configured, self.count(), Shared::avoidance(self.backoff))),
            tls_upgrade: tls.alpn(&[UNREVERSED]),
            // Without a token only the upgrade request can identify this side.
            tls: match self.proof {
                _ if self.legacy => tls.alpn(&[]),
                Some(_) => {
                    tls.alpn(&inner.iter().flat_map(|inner| inner.alpn()).chain([UNREVERSED]).collect::<Vec<_>>())
                }
                None => tls.alpn(&[UNREVERSED]),
            },
            hello_response: self
                .proof
                .as_ref()
                .map(|proof| auth_alpn::hello_response(proof, &self.hosts, self.other_nodes)),
            timeouts: Timeouts {
                ping_interval: self.ping_interval,
                drain_timeout: self.drain_timeout,
                connect_timeout: self.connect_timeout,
            },
            backoff: self.backoff,
            healthy_after: self.healthy_after,
            listener: self.listener,
            observer: self.observer.clone(),
        }))
    }
}

/// Returns host and port, without the brackets of an IPv6 address.
fn address(proxy: &str) -> Result<(String, u16), StartError> {
    let bad_address =
        || invalid(format!("invalid proxy {proxy:?}: expected a name and a port, as in proxy.example:8443"));
    let (host, port) = match proxy.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(bad_address)?;
            (host, if port.is_empty() { "443" } else { port.strip_prefix(':').ok_or_else(bad_address)? })
        }
        None => proxy.rsplit_once(':').unwrap_or((proxy, "443")),
    };
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad_address)?;
    if host.is_empty() || host.contains(['/', ' ', '@']) {
        return Err(bad_address());
    }
    Ok((host.to_owned(), port))
}

fn start(shared: &Arc<Shared>, connections: usize, loops: &[LoopHandle]) {
    for (number, loop_handle) in loops.iter().cycle().take(connections).enumerate() {
        OriginConnection::new(shared.clone(), loop_handle.clone(), number).start();
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is left out.
        f.debug_struct("Tunnel").field("proxy", &self.proxy).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> TlsClient {
        TlsClient::builder().pin([0; 32]).build().expect("a pin")
    }

    #[test]
    fn the_proxy_is_a_name_and_a_port() {
        for (text, host, port) in [
            ("proxy.example:8443", "proxy.example", 8443),
            ("proxy.example", "proxy.example", 443),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[2001:db8::1]:8443", "2001:db8::1", 8443),
            ("[::1]", "::1", 443),
        ] {
            assert_eq!(address(text).expect(text), (host.to_owned(), port));
        }
        for text in ["", ":1", "a:", "a:0", "a:65536", "https://a:1", "[::1", "[::1]x", "a b:1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn most_requests_are_two_connections_of_256_each() {
        assert_eq!(Tunnel::dial("a").max_requests(), 1024);
        assert_eq!(Tunnel::dial("a").connections(3).max_requests(), 1536);
    }

    #[test]
    fn no_setting_can_split_the_request() {
        let tunnel = || Tunnel::dial("a").tls(trust());
        for bad in [
            tunnel().host("a\r\nX: b"),
            tunnel().host("a:80"),
            tunnel().host(""),
            tunnel().host("a").token("a\nb"),
            tunnel().host("a").path("/ HTTP/1.1\r\nX:"),
            tunnel().host("a").user("a:b", "c"),
        ] {
            assert!(bad.shared().is_err(), "{bad:?}");
        }
        assert!(tunnel().host("a").shared().is_ok());
        assert!(tunnel().token("a").shared().is_ok(), "the names are those of the credential");
        assert!(!format!("{:?}", tunnel().token("secret").user("a", "secret")).contains("secret"));
    }
}
