//! What a tunnel is told: whose proxy, which names, how long what.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use uncork::{
    Handler, Limits, LoopHandle, PeerAddr, Running, Server, TlsClient,
    h1::{
        Headers,
        write::{BodyLength, ConnectionOption, RequestLine, request_head},
    },
};

use super::{
    TunnelError,
    connection::OriginConnection,
    http2::{STREAMS, Times},
};

/// HTTP/2 with the roles reversed, from the first byte behind TLS.
pub(super) const REVERSED: &[u8] = b"rh2";

/// The most a connection pauses before it is made again.
const LONGEST: Duration = Duration::from_secs(60);

/// A tunnel to be: to which proxy, by what right, for which names.
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
#[must_use = "a tunnel is dug by serve, threads, external or attach"]
#[derive(Clone)]
pub struct Tunnel {
    proxy: String,
    path: String,
    token: Option<String>,
    hosts: Vec<String>,
    tls: Option<TlsClient>,
    connections: usize,
    ping: Duration,
    backoff: Duration,
    healthy: Duration,
    drain: Duration,
    within: Duration,
    limits: Limits,
    listener: usize,
    observer: Option<Arc<Observer>>,
    /// The proxy is one of 2014.
    legacy: bool,
}

type Observer = dyn Fn(&TunnelEvent<'_>) + Send + Sync;

/// What becomes of a tunnel's connections. Its `Display` is a line for a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunnelEvent<'a> {
    /// The proxy has let a connection in: requests may come on it.
    Up {
        /// Its number, from 0.
        connection: usize,
        /// The proxy.
        peer: PeerAddr,
    },
    /// A connection was not made, or is no more.
    Down {
        /// Its number, from 0.
        connection: usize,
        /// Why.
        error: &'a TunnelError,
        /// When it is tried again.
        again: Duration,
    },
    /// A connection has ended because the server stops.
    Left {
        /// Its number, from 0.
        connection: usize,
    },
}

impl fmt::Display for TunnelEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { connection, peer } => write!(f, "tunnel {connection}: connected to {peer}"),
            Self::Down { connection, error, again } => {
                write!(f, "tunnel {connection}: {error}; again in {:.1} s", again.as_secs_f64())
            }
            Self::Left { connection } => write!(f, "tunnel {connection}: left"),
        }
    }
}

/// Why a tunnel can't be begun.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunnelConfigError {
    /// What is said of the proxy, the names or the token can't be; in words.
    Config(crate::relay::ConfigError),
    /// Nobody can be believed: the system's root certificates can't be had.
    Tls(uncork::TlsError),
    /// No loops for it.
    Io(std::io::Error),
}

impl fmt::Display for TunnelConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TunnelConfigError {}

impl From<std::io::Error> for TunnelConfigError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn said(words: impl Into<String>) -> TunnelConfigError {
    TunnelConfigError::Config(crate::relay::ConfigError::of(None, words.into()))
}

impl Tunnel {
    /// To this proxy: a name or an address, and the port where it waits for origins; 443 if none is said. It is always
    /// dialled over TLS, and has to prove that name.
    pub fn dial(proxy: &str) -> Self {
        Self {
            proxy: proxy.to_owned(),
            path: "/tunnel".to_owned(),
            token: None,
            hosts: Vec::new(),
            tls: None,
            connections: 2,
            ping: Duration::from_secs(15),
            backoff: Duration::from_millis(500),
            healthy: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            within: Duration::from_secs(10),
            limits: Limits::default(),
            listener: 0,
            observer: None,
            legacy: false,
        }
    }

    /// The token by which the proxy knows us. (Or it knows us by the certificate that [`tls`](Self::tls) shows.)
    pub fn token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Asks for this name: what the proxy is asked of it, we are asked. `*.example.org` for all below one; a path behind
    /// it (`example.org/app`) for a part of one. May be called several times.
    pub fn host(mut self, name: &str) -> Self {
        self.hosts.push(name.to_owned());
        self
    }

    /// Whom to believe to be the proxy: certain authorities ([`TlsClientBuilder::roots`](uncork::TlsClientBuilder::roots))
    /// or a certain key ([`TlsClientBuilder::pin`](uncork::TlsClientBuilder::pin)); by default, whom other programs on
    /// this system believe.
    pub fn tls(self, tls: TlsClient) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The proxy is a program of 2014, which is asked by a bare `PUT /` and speaks SPDY/3.1. **It believes everybody who
    /// dials it**, and knows neither tokens nor names: none may be said. It has one origin at a time, so one connection is
    /// kept, whatever [`connections`](Self::connections) says. Whom *we* believe is said by [`tls`](Self::tls), as ever:
    /// the certificate that came with it will need a [pin](uncork::TlsClientBuilder::pin).
    ///
    /// It tells nothing of its clients: the peer of every request is the proxy itself, and fields in which a client speaks
    /// of itself (`X-Forwarded-For`) are dropped. SPDY has no form for interim responses (1xx) and trailers: they are
    /// dropped as well.
    #[cfg(feature = "spdy")]
    pub fn allow_legacy_unauthenticated(self) -> Self {
        Self { legacy: true, ..self }
    }

    /// How many connections are kept, so that one may fail. 2.
    pub fn connections(self, count: usize) -> Self {
        Self { connections: count.clamp(1, 64), ..self }
    }

    /// Returns how many requests the tunnel lets in at the same time: 256 for each connection, and as many for the one that stands
    /// beside it while it is replaced. A handler that keeps a limit of its own should take no less, or it refuses
    /// requests for which the proxy has a place.
    pub fn most_requests(&self) -> usize {
        2 * STREAMS as usize * self.count()
    }

    /// Where the proxy expects to be asked for a tunnel. `/tunnel`.
    pub fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// The silence after which a connection is pinged. 15 s. After half as much again another is made beside it, after
    /// twice as much it is taken for dead.
    pub fn ping_interval(self, time: Duration) -> Self {
        Self { ping: time.max(Duration::from_millis(10)), ..self }
    }

    /// The pause before a lost connection is made again is a random part of this; of twice as much after the next
    /// failure, and so on up to 60 s. 0.5 s. What has stood for [a minute](Self::healthy_after) begins anew, and its loss
    /// is made good at once: then the first attempt has no pause. Nor has one by `PUT`, if the proxy has closed a connection
    /// by ALPN (`rh2`) without letting it in or refusing it.
    pub fn backoff(self, first: Duration) -> Self {
        Self { backoff: first.max(Duration::from_millis(1)), ..self }
    }

    /// How long a connection must have stood for its failures to be forgotten. 60 s.
    pub fn healthy_after(self, time: Duration) -> Self {
        Self { healthy: time, ..self }
    }

    /// How long a connection that is left, because a newer one stands, has for the requests on it. 30 s. (When the server
    /// stops, it has the server's grace.)
    pub fn drain_timeout(self, time: Duration) -> Self {
        Self { drain: time, ..self }
    }

    /// The most that connecting and TLS may take, and the proxy's answer. 10 s each.
    pub fn connect_timeout(self, time: Duration) -> Self {
        Self { within: time, ..self }
    }

    /// Limits of the requests that come by the tunnel, for [`serve`](Self::serve), [`threads`](Self::threads) and
    /// [`external`](Self::external).
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The number that requests find as [`Request::listener_index`](uncork::Request::listener_index). 0.
    pub fn listener_index(self, listener: usize) -> Self {
        Self { listener, ..self }
    }

    /// Calls `f` with what becomes of the connections, from their loops; it must not block. By default they are logged.
    pub fn on_event(self, f: impl Fn(&TunnelEvent<'_>) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Arc::new(f)), ..self }
    }

    /// Serves by as many loops as there are processors; see [`threads`](Self::threads).
    ///
    /// # Errors
    /// As [`threads`](Self::threads).
    pub fn serve<H: Handler + Clone + Send + 'static>(self, handler: H) -> Result<Running, TunnelConfigError> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads(count, handler)
    }

    /// Serves by `count` loops, each in a thread of its own, as [`Server::threads`] does. It begins to connect at once,
    /// and goes on for as long as the server runs, whatever becomes of the connections.
    ///
    /// # Errors
    /// If what was said can't be, or the system refuses a thread. That the proxy can't be reached, or refuses, is no
    /// error: it is told by [`observe`](Self::on_event), and tried again.
    pub fn threads<H>(self, count: usize, handler: H) -> Result<Running, TunnelConfigError>
    where
        H: Handler + Clone + Send + 'static,
    {
        let (shared, limits) = (self.shared()?, self.limits.clone());
        let running = Server::unbound().limits(limits).threads(count, handler)?;
        start(&shared, self.count(), &running.loops());
        Ok(running)
    }

    /// Serves in the application's own loop, as [`Server::external`] does.
    ///
    /// # Errors
    /// As [`threads`](Self::threads).
    pub fn external<'h, H: Handler + 'h>(self, handler: H) -> Result<uncork::ExternalServer<'h>, TunnelConfigError> {
        let (shared, limits) = (self.shared()?, self.limits.clone());
        let external = Server::unbound().limits(limits).external(handler)?;
        start(&shared, self.count(), &[external.loop_handle()]);
        Ok(external)
    }

    /// Serves by the handler of a server that runs already, which may have listeners, too: connections go to its loops in
    /// turn.
    ///
    /// # Errors
    /// If what was said can't be, or there are no loops.
    pub fn attach(self, loops: &[LoopHandle]) -> Result<(), TunnelConfigError> {
        if loops.is_empty() {
            return Err(said("there is no loop to serve the tunnel"));
        }
        start(&self.shared()?, self.count(), loops);
        Ok(())
    }

    fn count(&self) -> usize {
        if self.legacy { 1 } else { self.connections }
    }

    fn shared(&self) -> Result<Arc<Shared>, TunnelConfigError> {
        let (host, port) = address(&self.proxy)?;
        if self.legacy && (self.token.is_some() || !self.hosts.is_empty()) {
            return Err(said("a proxy of 2014 knows neither tokens nor names: none may be said"));
        }
        if self.hosts.is_empty() && !self.legacy {
            return Err(said("the tunnel has no name: give at least one host"));
        }
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => TlsClient::system().map_err(TunnelConfigError::Tls)?,
        };
        Ok(Arc::new(Shared {
            knock: self.knock(&host, port)?,
            host: host.into(),
            port,
            tls_upgrade: tls.alpn(&[b"http/1.1"]),
            // Without a token only the request for an upgrade can say who we are.
            tls: match self.token {
                _ if self.legacy => tls.alpn(&[]),
                Some(_) => tls.alpn(&[REVERSED, b"http/1.1"]),
                None => tls.alpn(&[b"http/1.1"]),
            },
            hello: self.token.as_ref().map(|token| self.hello(token)),
            #[cfg(feature = "spdy")]
            legacy: self.legacy,
            times: Times { ping: self.ping, drain: self.drain, within: self.within },
            backoff: self.backoff,
            healthy: self.healthy,
            within: self.within,
            listener: self.listener,
            observer: self.observer.clone(),
        }))
    }

    /// What is said to a proxy that asks.
    fn hello(&self, token: &str) -> Bytes {
        let hello = serde_json::json!({ "token": token, "hosts": self.hosts, "version": 1 });
        Bytes::from(hello.to_string())
    }

    /// What is said to the proxy first.
    fn knock(&self, host: &str, port: u16) -> Result<Vec<u8>, TunnelConfigError> {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        if self.legacy {
            let agent = "Go-http-client/1.1";
            let head = format!("PUT / HTTP/1.1\r\nHost: {bracketed}:{port}\r\nUser-Agent: {agent}\r\n");
            return Ok(format!("{head}Content-Length: 12\r\n\r\nHello from C").into_bytes());
        }
        let bad = |what: &str| said(format!("{what} has a character in it that can't be sent"));
        let mut fields = Headers::new();
        if let Some(token) = &self.token {
            fields.append("Authorization", format!("Bearer {token}")).map_err(|_| bad("the token"))?;
        }
        let names = self.hosts.join(", ");
        fields.append("Upgrade", "ptth").and(fields.append("ALPN", "h2")).map_err(|_| bad("the upgrade"))?;
        fields.append("Uncork-Hosts", names).map_err(|_| bad("a host"))?;
        let host = if port == 443 { bracketed } else { format!("{bracketed}:{port}") };
        let line = RequestLine {
            method: "PUT",
            target: &self.path,
            host: &host,
            fields: fields.as_wire(),
            length: BodyLength::Known(0),
            expect: false,
            connection: Some(ConnectionOption::Upgrade),
        };
        let mut knock = Vec::new();
        request_head(&line, &mut knock).map_err(|rule| said(format!("the proxy can't be asked: {}", rule.rule())))?;
        Ok(knock)
    }
}

/// Host and port; brackets of an IPv6 address taken off.
fn address(proxy: &str) -> Result<(String, u16), TunnelConfigError> {
    let wrong = || said(format!("{proxy:?} is no proxy: give a name and a port, as in proxy.example:8443"));
    let (host, port) = match proxy.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            (host, if port.is_empty() { "443" } else { port.strip_prefix(':').ok_or_else(wrong)? })
        }
        None => proxy.rsplit_once(':').unwrap_or((proxy, "443")),
    };
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', ' ', '@']) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

fn start(shared: &Arc<Shared>, connections: usize, loops: &[LoopHandle]) {
    for (number, here) in loops.iter().cycle().take(connections).enumerate() {
        OriginConnection::new(shared.clone(), here.clone(), number).start();
    }
}

/// What all connections of a tunnel share.
pub(super) struct Shared {
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) tls: TlsClient,
    /// By which a tunnel is asked for by an upgrade only.
    pub(super) tls_upgrade: TlsClient,
    pub(super) knock: Vec<u8>,
    pub(super) hello: Option<Bytes>,
    pub(super) times: Times,
    pub(super) healthy: Duration,
    pub(super) within: Duration,
    pub(super) listener: usize,
    #[cfg(feature = "spdy")]
    pub(super) legacy: bool,
    backoff: Duration,
    observer: Option<Arc<Observer>>,
}

impl Shared {
    pub(super) fn tell(&self, event: &TunnelEvent<'_>) {
        match &self.observer {
            Some(observer) => observer(event),
            None if matches!(event, TunnelEvent::Down { .. }) => log::warn!(target: "uncork::relay", "{event}"),
            None => log::info!(target: "uncork::relay", "{event}"),
        }
    }

    /// How long to wait after so many failures in a row: full jitter, so that those whom one event has cut off do not
    /// come back at one moment.
    pub(super) fn pause(&self, failures: u32, retry_after: Option<u64>) -> Duration {
        let most = self.backoff.saturating_mul(1 << failures.min(16)).min(LONGEST);
        let mut random = [0; 4];
        // Without randomness there is the whole pause.
        let part = if getrandom::fill(&mut random).is_ok() {
            f64::from(u32::from_ne_bytes(random)) / 2f64.powi(32)
        } else {
            1.0
        };
        let least = Duration::from_secs(retry_after.unwrap_or(0)).min(LONGEST);
        least + most.mul_f64(part)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token.
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
    fn what_is_asked_is_by_the_contract() {
        let tunnel = Tunnel::dial("[::1]:8443").token("abc").host("app.example").host("*.dev.example");
        let knock = String::from_utf8(tunnel.knock("::1", 8443).expect("fine")).expect("text");
        assert_eq!(
            knock,
            "PUT /tunnel HTTP/1.1\r\nHost: [::1]:8443\r\nConnection: upgrade\r\nContent-Length: 0\r\n\
             Authorization: Bearer abc\r\nUpgrade: ptth\r\nALPN: h2\r\nUncork-Hosts: app.example, *.dev.example\r\n\r\n"
        );
    }

    #[test]
    fn it_says_how_many_requests_it_lets_in() {
        assert_eq!(Tunnel::dial("a").most_requests(), 1024);
        assert_eq!(Tunnel::dial("a").connections(3).most_requests(), 1536);
    }

    #[test]
    fn nothing_that_is_said_can_split_it() {
        let tunnel = || Tunnel::dial("a").tls(trust());
        for bad in [
            tunnel().host("a\r\nX: b"),
            tunnel().host("a").token("a\nb"),
            tunnel().host("a").path("/ HTTP/1.1\r\nX:"),
            tunnel(),
        ] {
            assert!(bad.shared().is_err(), "{bad:?}");
        }
        assert!(tunnel().host("a").shared().is_ok());
        assert!(!format!("{:?}", tunnel().token("secret")).contains("secret"));
    }

    #[test]
    fn pauses_grow_to_a_minute_and_are_random() {
        let shared = Tunnel::dial("a").tls(trust()).host("a").shared().expect("fine");
        for (failures, most) in [(0, 0.5), (1, 1.0), (3, 4.0), (7, 60.0), (1000, 60.0)] {
            let pauses: Vec<f64> = (0..200).map(|_| shared.pause(failures, None).as_secs_f64()).collect();
            assert!(pauses.iter().all(|pause| *pause <= most), "{failures}");
            let spread = |from: f64, to: f64| pauses.iter().any(|pause| (from * most..to * most).contains(pause));
            assert!(spread(0.0, 0.2) && spread(0.4, 0.6) && spread(0.8, 1.0), "{failures}");
        }
        let asked = shared.pause(0, Some(5));
        assert!(asked >= Duration::from_secs(5) && asked <= Duration::from_millis(5500));
        assert!(shared.pause(0, Some(u64::MAX)) <= Duration::from_millis(60_500));
    }
}
