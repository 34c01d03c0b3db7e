//! Three nodes with a gateway each, and their application.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use uncork::{
    Limits, Listen, Running, Server,
    relay::{
        Gateway, GatewayConfig,
        nodes::{Directory, DirectoryConfig, EngineState, NodeListener, Nodes, NodesConfig},
    },
};

use crate::{
    app::{App, Reaction, agrees},
    cut::Cut,
    identity::identity,
    socket::Socket,
    until,
    wire::TestResponse,
    world::{Host, Mode, World},
};

const WORLD: World = World::plain(Mode::Threads);

pub(crate) struct Node {
    pub(crate) id: &'static str,
    pub(crate) public: Host,
    pub(crate) directory: Directory,
    /// The listener for other nodes.
    internal: Option<Running>,
}

impl Node {
    pub(crate) fn is_ready(&self) -> bool {
        self.directory.status().state == EngineState::Ready
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, keys: &[&str], fields: &[&str], body: &[u8]) -> Response {
        let keys: Vec<String> = keys.iter().map(|key| format!("X-Kuiperbelt-Session: {key}")).collect();
        let fields: Vec<&str> = fields.iter().copied().chain(keys.iter().map(String::as_str)).collect();
        let mut wire = self.public.connect();
        wire.post(path, &fields, body);
        Response(wire.response())
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str, keys: &[&str]) -> Response {
        let keys: Vec<String> = keys.iter().map(|key| format!("X-Kuiperbelt-Session: {key}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut wire = self.public.connect();
        wire.request(&format!("GET {target}"), &keys);
        Response(wire.response())
    }

    #[track_caller]
    pub(crate) fn send(&self, keys: &[&str], body: &str) -> Response {
        self.post("/send", keys, &["Content-Type: text/plain"], body.as_bytes())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.directory.stop();
        if let Some(internal) = self.internal.take() {
            let _ = internal.stop_now();
        }
    }
}

pub(crate) struct Response(TestResponse);

impl Response {
    pub(crate) fn text(&self) -> &str {
        self.0.text()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// Asserts the status and the body, to the byte.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, body: &str) {
        assert_eq!((self.0.status, self.0.text()), (status, body));
    }
}

pub(crate) struct Cluster {
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) c: Node,
    /// The way to the listener of node a.
    way_to_a: Cut,
    /// The way of node a to the engine.
    engine_of_a: Option<Cut>,
    rejects: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    pub(crate) app: App,
}

impl Cluster {
    pub(crate) fn start(engine: u16, change: impl Fn(&mut GatewayConfig)) -> Self {
        Self::start_over(false, engine, change)
    }

    /// Like [`start`](Self::start). `tls`: between the nodes.
    pub(crate) fn start_over(tls: bool, engine: u16, change: impl Fn(&mut GatewayConfig)) -> Self {
        let engine_of_a = Cut::before(engine);
        let port = engine_of_a.port();
        let config = |id: &str| at(if id == "a" { port } else { engine });
        Self { engine_of_a: Some(engine_of_a), ..Self::start_nodes(tls, config, change) }
    }

    /// `engine_of_a`: node a has the engine on this port.
    pub(crate) fn start_with(engine: u16, engine_of_a: Option<u16>, change: impl Fn(&mut GatewayConfig)) -> Self {
        let config = |id: &str| at(engine_of_a.filter(|_| id == "a").unwrap_or(engine));
        Self::start_nodes(false, config, change)
    }

    /// Starts them with this directory.
    pub(crate) fn start_nodes(
        tls: bool,
        config: impl Fn(&str) -> DirectoryConfig,
        change: impl Fn(&mut GatewayConfig),
    ) -> Self {
        let rejects = Arc::new(AtomicBool::new(false));
        let hangs = Arc::new(AtomicBool::new(false));
        let (rejecting, hanging) = (rejects.clone(), hangs.clone());
        let app = App::start(move |call| match call.path.as_str() {
            "/establish" if hanging.swap(false, Ordering::SeqCst) => Reaction::Hang,
            "/establish" if rejecting.swap(false, Ordering::SeqCst) => Reaction::status(403),
            _ => agrees(call),
        });
        let listeners = ["a", "b", "c"].map(|id| (id, TcpListener::bind("127.0.0.1:0").expect("bound")));
        let port = |at: usize| listeners[at].1.local_addr().expect("bound").port();
        let way_to_a = Cut::before(port(0));
        let url = |port: u16| match tls {
            true => format!("https://localhost:{port}"),
            false => format!("http://127.0.0.1:{port}"),
        };
        let urls: Vec<(String, String)> =
            vec![("a".into(), url(way_to_a.port())), ("b".into(), url(port(1))), ("c".into(), url(port(2)))];
        let [a, b, c] = listeners.map(|(id, listener)| node(id, &urls, (listener, tls), config(id), &app, &change));
        let cluster = Self { a, b, c, way_to_a, engine_of_a: None, rejects, hangs, app };
        cluster.wait_until("connected", Node::is_ready);
        cluster
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        [&self.a, &self.b, &self.c].into_iter()
    }

    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, is: impl Fn(&Node) -> bool) {
        let status = || self.all().map(|node| format!("{:?} ", node.directory.status())).collect::<String>();
        until(|| format!("{what}: {}", status()), || self.all().all(&is));
    }

    pub(crate) fn reject_next_establish(&self) {
        self.rejects.store(true, Ordering::SeqCst);
    }

    /// The application responds to the next establish callback when it is [released](App::release).
    pub(crate) fn delay_next_establish(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    /// Cuts the way of the other nodes to node a.
    pub(crate) fn cut_way_to_a(&self) {
        self.way_to_a.cut();
    }

    /// Cuts node a from the engine and from the other nodes. Its clients and its application still have it.
    pub(crate) fn lose_a(&self) {
        self.engine_of_a.as_ref().expect("a proxy").cut();
        self.way_to_a.cut();
    }
}

fn at(engine: u16) -> DirectoryConfig {
    DirectoryConfig { url: format!("redis://127.0.0.1:{engine}"), ..DirectoryConfig::default() }
}

fn node(
    id: &'static str,
    urls: &[(String, String)],
    (listener, tls): (TcpListener, bool),
    directory: DirectoryConfig,
    app: &App,
    change: impl Fn(&mut GatewayConfig),
) -> Node {
    let trusted = tls.then(|| identity().1.clone());
    let (id_text, key, nodes) = (id.into(), vec![7; 32], urls.to_vec());
    let config = NodesConfig { id: id_text, key, nodes, tls: trusted, ..NodesConfig::default() };
    let nodes = Nodes::new(config).expect("a valid configuration");
    let directory = Directory::new(directory, nodes.clone()).expect("a valid configuration");
    let mut config = GatewayConfig { endpoint: format!("{id}.test:9180"), ..GatewayConfig::default() };
    config.callback.connect = app.url("/connect");
    config.callback.establish = app.url("/establish");
    config.callback.receive = app.url("/receive");
    config.callback.close = app.url("/close");
    config.limits.sessions_per_address = config.limits.sessions;
    change(&mut config);
    let limits = Limits { connections_per_address: usize::MAX, ..config.server_limits(Limits::default()) };
    let gateway = Gateway::with_directory(config, directory.clone()).expect("a valid configuration");
    let listen = Listen::inherited(listener).expect("a listener");
    let listen = if tls { listen.tls(identity().0.clone()) } else { listen };
    let internal =
        Server::new().listen(listen).threads(1, NodeListener::new(nodes).gateway(&gateway)).expect("running");
    directory.start(&internal.loops()[0]);
    let public = WORLD.serve_within(limits, gateway);
    Node { id, public, directory, internal: Some(internal) }
}

/// Connects a client under that key. The session is established when the application has agreed.
#[track_caller]
pub(crate) fn connect(node: &Node, key: &str) -> Socket {
    let mut socket = Socket::connect(&node.public, &format!("/connect?key={key}"), &[]);
    // A message that arrives shows that the session is established.
    node.send(&[key], "established?").is(200, r#"{"result":"OK"}"#);
    socket.receives("established?");
    socket
}
