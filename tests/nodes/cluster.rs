//! Three nodes in this process: each has a public listener, and one for the other nodes.

use std::{
    net::{SocketAddr, TcpListener},
    thread::JoinHandle,
    time::Duration,
};

use socket2::SockRef;
use uncork::{
    Action, Handler, Limits, Listen, Request, Server, StopHandle, TlsClient,
    relay::{
        Rendezvous, RendezvousConfig, SessionConfig, SessionRelay,
        nodes::{NodeListener, Nodes, NodesConfig},
    },
};

use crate::{identity::identity, support::Client};

/// Both services on one listener.
#[derive(Clone)]
struct Site {
    sessions: SessionRelay,
    rendezvous: Rendezvous,
}

impl Handler for Site {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        if self.sessions.serves(req.path()) { self.sessions.handle(req) } else { self.rendezvous.handle(req) }
    }

    fn stopping(&mut self) {
        self.sessions.stopping();
        self.rendezvous.stopping();
    }
}

/// A server that is stopped when it is dropped.
pub(crate) struct Serving {
    pub(crate) addr: SocketAddr,
    pub(crate) stop: StopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    fn start(listen: Listen, threads: usize, handler: impl Handler + Clone + Send + 'static) -> Self {
        let limits = Limits { body: 1 << 40, connections_per_address: usize::MAX, ..Limits::default() };
        let running = Server::new().listen(listen).limits(limits).threads(threads, handler).expect("running");
        let (addr, stop) = (running.local_addr().expect("bound"), running.stop_handle());
        Self { addr, stop, thread: Some(std::thread::spawn(move || running.join().expect("ended normally"))) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.stop_now();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|result| result.is_ok()), "a server has panicked");
    }
}

pub(crate) struct Node {
    pub(crate) nodes: Nodes,
    pub(crate) public: Serving,
    pub(crate) internal: Serving,
}

impl Node {
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.public.addr, None)
    }

    /// Creates a stream. Returns its path.
    pub(crate) fn stream(&self, query: &str) -> String {
        let response = self.client().post(&format!("/stream{query}"), &[], b"").response();
        response.assert(201).get("location").expect("a location").to_owned()
    }

    /// Allocates a session. Returns its path, and the host's field.
    pub(crate) fn session(&self, query: &str) -> (String, String) {
        let response = self.client().request(&format!("PUT /cama/session{query}"), &[]).response();
        let cookie = response.assert(201).get("set-cookie").expect("a cookie");
        let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a value"));
        (response.get("location").expect("a location").to_owned(), cookie)
    }

    /// Returns how many requests were rejected for this reason.
    pub(crate) fn rejected(&self, reason: &str) -> u64 {
        let rejected = self.nodes.counts().rejected;
        rejected.iter().find(|(name, _)| *name == reason).expect("a reason").1
    }
}

/// The nodes `a`, `b` and `c`.
pub(crate) struct Cluster {
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) c: Node,
    pub(crate) tls: bool,
}

pub(crate) const KEY: &[u8; 32] = b"a key that all of the nodes have";

/// Returns a listener whose connections have small buffers in the system, so that back-pressure shows.
fn bind() -> Listen {
    const BUFFER: usize = 256 * 1024;
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let options = SockRef::from(&socket);
    options.set_recv_buffer_size(BUFFER).and_then(|()| options.set_send_buffer_size(BUFFER)).expect("set");
    Listen::inherited(socket).expect("a listener")
}

/// Returns the URL of a node's listener.
pub(crate) fn url(addr: SocketAddr, tls: bool) -> String {
    if tls { format!("https://localhost:{}", addr.port()) } else { format!("http://{addr}") }
}

impl Cluster {
    pub(crate) fn start(tls: bool) -> Self {
        let listeners = ["a", "b", "c"].map(|id| (id, bind()));
        let urls: Vec<(String, String)> = listeners
            .iter()
            .map(|(id, listen)| ((*id).to_owned(), url(listen.local_addr().expect("bound"), tls)))
            .collect();
        let [a, b, c] = listeners.map(|(id, listen)| {
            let listen = if tls { listen.tls(identity().0.clone()) } else { listen };
            node(id, KEY, urls.clone(), listen, tls)
        });
        Self { a, b, c, tls }
    }

    /// Starts one more node, which the three do not know.
    pub(crate) fn stranger(&self, id: &str, key: &[u8], urls: Vec<(String, String)>) -> Node {
        node(id, key, urls, bind(), self.tls)
    }
}

fn node(id: &str, key: &[u8], nodes: Vec<(String, String)>, listen: Listen, tls: bool) -> Node {
    let trusted = tls.then(|| identity().1.clone());
    let config = NodesConfig { id: id.into(), key: key.to_vec(), nodes, tls: trusted, ..NodesConfig::default() };
    let nodes = Nodes::new(config).expect("a valid configuration");
    let sessions = SessionRelay::with_nodes(SessionConfig::default(), nodes.clone()).expect("valid");
    let config = RendezvousConfig { ttl: Duration::from_secs(600), list: true, ..RendezvousConfig::default() };
    let rendezvous = Rendezvous::with_nodes(config, nodes.clone()).expect("valid");
    let listener = NodeListener::new(nodes.clone()).sessions(&sessions).rendezvous(&rendezvous);
    let internal = Serving::start(listen, 1, listener);
    let public = Serving::start(bind(), 2, Site { sessions, rendezvous });
    Node { nodes, public, internal }
}

/// Returns what a client without the nodes' certificate has.
pub(crate) fn stranger() -> TlsClient {
    identity().2.clone()
}
