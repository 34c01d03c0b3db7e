//! A server: where it listens, how it is driven, how it is stopped.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
};

#[cfg(feature = "tls")]
use crate::transport::Tls;
use crate::{
    api::{AccessRecord, Handler, LoopHandle},
    base::{Limits, PeerAddr},
    drive::{Loops, StopHandle, external::ExternalServer, per_conn, threads},
    engine::{AccessLog, Admission, LoopListener, Setup, Trusted},
    transport::{Listener, Security},
};

/// A server to be: listeners, limits, and then one of three ways to drive it.
///
/// ```no_run
/// use uncork::{Request, Response, Server};
/// # fn main() -> std::io::Result<()> {
/// Server::bind("127.0.0.1:8080")?
///     .threads(4, |_: &mut Request<'_>| Response::text("Hello, world!\n"))?
///     .join()
/// # }
/// ```
#[must_use = "a server serves when it is driven: threads, thread_per_connection or external"]
pub struct Server {
    listeners: Vec<Listening>,
    limits: Limits,
    access_log: Option<Arc<AccessLog>>,
}

struct Listening {
    source: Source,
    security: Security,
    proxies: Option<Arc<Trusted>>,
}

enum Source {
    /// Bound here: other loops may bind sockets of their own to the same address.
    Bound(Listener, SocketAddr),
    /// Unix, or handed over: other loops share the one socket.
    Single(Listener),
    /// Only for what is adopted.
    Nothing,
}

impl Server {
    fn with(source: Source) -> Self {
        Self { listeners: Vec::new(), limits: Limits::default(), access_log: None }.and(source)
    }

    fn and(mut self, source: Source) -> Self {
        self.listeners.push(Listening { source, security: None, proxies: None });
        self
    }

    /// Listens on a TCP address, v4 or v6; `[::]` serves both. Port 0 takes a free one: see [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    /// What the system says: in use, not permitted, no such address. The address is named in the error's text.
    pub fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> io::Result<Self> {
        Ok(Self::with(bind(addr)?))
    }

    /// Listens on one more TCP address.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn and_bind(self, addr: impl ToSocketAddrs + fmt::Debug) -> io::Result<Self> {
        Ok(self.and(bind(addr)?))
    }

    /// Listens on a Unix socket. A socket file nobody listens on any more is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::with(Source::Single(Listener::unix(path.as_ref())?)))
    }

    /// Listens on a Unix socket as well.
    ///
    /// # Errors
    /// What the system says.
    pub fn and_unix(self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(self.and(Source::Single(Listener::unix(path.as_ref())?)))
    }

    /// Serves a listening socket the application hands over, TCP or Unix.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` if it is neither, or does not listen (as far as the system tells that).
    pub fn listener(listener: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(Self::with(Source::Single(Listener::handed_over(listener.into())?)))
    }

    /// Serves one more listening socket the application hands over.
    ///
    /// # Errors
    /// As [`listener`](Self::listener).
    pub fn and_listener(self, listener: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(self.and(Source::Single(Listener::handed_over(listener.into())?)))
    }

    /// Listens nowhere: serves only what [`LoopHandle::adopt`](crate::LoopHandle::adopt) hands it.
    pub fn unbound() -> Self {
        Self::with(Source::Nothing)
    }

    /// The listener named last speaks HTTPS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        if let Some(last) = self.listeners.last_mut() {
            last.security = Some(tls.into());
        }
        self
    }

    /// To the listener named last only proxies come, which say first, by the PROXY protocol (version 1 or 2, HAProxy's
    /// `doc/proxy-protocol.txt`), for whom they speak: that client is the connection's peer, for limits,
    /// [`Handler::accept`], [`Request::peer`](crate::Request::peer) and logs. What they say is believed, so `trusted` has
    /// to know them: whoever else comes is turned away, and so is a proxy that says nothing, or nonsense. A proxy that
    /// speaks for itself, or for a client that has no address of TCP, stays the peer.
    ///
    /// The header comes before TLS, and shares the time of the handshake ([`Limits::handshake_timeout`]).
    pub fn proxy_protocol(mut self, trusted: impl Fn(&PeerAddr) -> bool + Send + Sync + 'static) -> Self {
        if let Some(last) = self.listeners.last_mut() {
            last.proxies = Some(Arc::new(trusted));
        }
        self
    }

    /// Other limits than the default ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Calls `log` with each request that is over, from its loop. The entry's `Display` is the combined log format.
    pub fn access_log(mut self, log: impl Fn(&AccessRecord<'_>) + Send + Sync + 'static) -> Self {
        self.access_log = Some(Arc::new(log));
        self
    }

    /// The address of the first listener; `None` if it is none of TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// The addresses of all TCP listeners.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(|listening| match &listening.source {
            Source::Bound(_, addr) => Some(*addr),
            Source::Single(listener) => listener.local_addr(),
            Source::Nothing => None,
        })
    }

    /// Runs `count` loops (at least one), each in a thread of its own, with a clone of `handler`. Each has a listening
    /// socket of its own where the system spreads connections over them.
    ///
    /// # Errors
    /// What the system says to another socket, selector or thread.
    pub fn threads<H>(mut self, count: usize, handler: H) -> io::Result<Running>
    where
        H: Handler + Clone + Send + 'static,
    {
        let (count, addr, admission) = (count.max(1), self.local_addr(), Arc::new(Admission::new(&self.limits)));
        if count > 1 {
            self.share()?;
        }
        let mut setups = Vec::with_capacity(count);
        for _ in 1..count {
            let (ports, handler) = (self.other_ports()?, handler.clone());
            setups.push(self.setup(ports, handler, &admission));
        }
        let ports = std::mem::take(&mut self.listeners).into_iter().map(Listening::into_port).collect();
        setups.push(self.setup(ports, handler, &admission));
        let loops = Loops::default();
        let threads = threads::start(setups, &loops)?;
        Ok(Running { threads, loops, addr })
    }

    /// Serves each connection in a thread of its own, with a clone of `handler`, which may block there. For handlers
    /// that have to; three descriptors and a thread for each connection are a price.
    ///
    /// While a handler blocks, nothing else happens on its connection and its loop: no deadline, no wake. Between two
    /// connections a thread goes on turning its [`LoopHandle`]: connections dialled there live on.
    ///
    /// # Errors
    /// What the system says to a selector or thread.
    pub fn thread_per_connection<H>(mut self, handler: H) -> io::Result<Running>
    where
        H: Handler + Clone + Send + 'static,
    {
        let (addr, admission) = (self.local_addr(), Arc::new(Admission::new(&self.limits)));
        let loops = Loops::default();
        // What the engine of each connection needs of the ports: how their connections begin.
        let begin = |listening: &Listening| (listening.security.clone(), listening.proxies.clone());
        let beginnings: Vec<_> = self.listeners.iter().map(begin).collect();
        let ports = std::mem::take(&mut self.listeners).into_iter().map(Listening::into_port).collect();
        let acceptor = self.setup(ports, handler.clone(), &admission);
        let (limits, access_log) = (self.limits, self.access_log);
        let prototype = std::sync::Mutex::new(handler);
        let make = move || Setup {
            handler: Box::new(prototype.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()),
            ports: beginnings
                .iter()
                .cloned()
                .map(|(security, proxies)| LoopListener::new(None, security, proxies))
                .collect(),
            limits: limits.clone(),
            admission: admission.clone(),
            access_log: access_log.clone(),
            elsewhere: None,
        };
        let workers = per_conn::Threads::new(make, loops.clone());
        let takers = workers.clone();
        let acceptor = move || Setup { elsewhere: Some(Box::new(move |arrival| takers.take(arrival))), ..acceptor() };
        let asked = loops.clone();
        let thread = per_conn::start(acceptor, workers, move || asked.grace())?;
        Ok(Running { threads: vec![thread], loops, addr })
    }

    /// Gives the server into the application's own loop.
    ///
    /// # Errors
    /// What the system says to a selector.
    pub fn external<'h, H>(self, handler: H) -> io::Result<ExternalServer<'h>>
    where
        H: Handler + 'h,
    {
        let (addr, admission) = (self.local_addr(), Arc::new(Admission::new(&self.limits)));
        let setup = Setup {
            handler: Box::new(handler),
            ports: self.listeners.into_iter().map(Listening::into_port).collect(),
            limits: self.limits,
            admission,
            access_log: self.access_log,
            elsewhere: None,
        };
        ExternalServer::new(setup, addr)
    }

    fn setup<H: Handler + Send + 'static>(
        &self,
        ports: Vec<LoopListener>,
        handler: H,
        admission: &Arc<Admission>,
    ) -> impl FnOnce() -> Setup<'static> + Send + use<H> {
        let (limits, admission, access_log) = (self.limits.clone(), admission.clone(), self.access_log.clone());
        move || Setup { handler: Box::new(handler), ports, limits, admission, access_log, elsewhere: None }
    }

    /// Lets other loops bind to the same addresses. Only now that they are bound: a second server on the same address
    /// is to be told that it is in use, not to take half of the connections.
    fn share(&self) -> io::Result<()> {
        for listening in &self.listeners {
            if let Source::Bound(listener, _) = &listening.source {
                listener.share()?;
            }
        }
        Ok(())
    }

    /// The same ports once more, for another loop.
    fn other_ports(&self) -> io::Result<Vec<LoopListener>> {
        let mut ports = Vec::with_capacity(self.listeners.len());
        for listening in &self.listeners {
            let listener = match &listening.source {
                Source::Bound(listener, addr) => {
                    // Where the system has no SO_REUSEPORT, or refuses it, loops share one socket.
                    Some(Listener::tcp(*addr, true).or_else(|_| listener.try_clone())?)
                }
                Source::Single(listener) => Some(listener.try_clone()?),
                Source::Nothing => None,
            };
            ports.push(LoopListener::new(listener, listening.security.clone(), listening.proxies.clone()));
        }
        Ok(ports)
    }
}

impl Listening {
    fn into_port(self) -> LoopListener {
        let listener = match self.source {
            Source::Bound(listener, _) | Source::Single(listener) => Some(listener),
            Source::Nothing => None,
        };
        LoopListener::new(listener, self.security, self.proxies)
    }
}

fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> io::Result<Source> {
    let found = addr.to_socket_addrs().map_err(|error| {
        let words = format!("can't listen on {addr:?}, give an address and a port (127.0.0.1:8080): {error}");
        io::Error::new(error.kind(), words)
    })?;
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, format!("can't listen on {addr:?}: no such address"));
    for addr in found {
        match Listener::tcp(addr, false) {
            Ok(listener) => {
                let addr = listener.local_addr().unwrap_or(addr);
                return Ok(Source::Bound(listener, addr));
            }
            Err(error) => last = io::Error::new(error.kind(), format!("can't listen on {addr}: {error}")),
        }
    }
    Err(last)
}

/// A server that runs in threads of its own. Dropping it lets it run on.
pub struct Running {
    threads: Vec<JoinHandle<io::Result<()>>>,
    loops: Loops,
    addr: Option<SocketAddr>,
}

impl Running {
    /// The address of the first listener; `None` if it is none of TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Stops it, from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.loops.clone())
    }

    /// Its loops, to hand them streams from any thread.
    pub fn loops(&self) -> Vec<LoopHandle> {
        self.loops.all()
    }

    /// Waits until it was stopped and has ended.
    ///
    /// # Errors
    /// What the system said to a loop that could not go on. In thread-per-connection mode, `TimedOut` if handlers that
    /// still blocked after the grace were abandoned with their threads.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            let one = thread.join().unwrap_or_else(|_| Err(io::Error::other("a loop's thread has panicked")));
            result = result.and(one);
        }
        result
    }

    /// Stops it at once, and waits.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn stop(self) -> io::Result<()> {
        self.loops.stop(None);
        self.join()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addrs", &self.local_addrs().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_named() {
        let error = Server::bind("nonsense").map(drop).expect_err("no address");
        assert!(error.to_string().contains("\"nonsense\""), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let taken = Server::bind("127.0.0.1:0").expect("bound");
        let addr = taken.local_addr().expect("an address");
        let error = Server::unbound().and_bind(addr).map(drop).expect_err("taken");
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
    }
}
