//! Three relay processes, their engine, and the cuts between them.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    client::{Client, TestResponse},
    clients::App,
    cut::Cut,
    program::{identity, program},
    redis::Redis,
    run::{Random, Run, nanoseconds},
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The token of the origin server.
pub(crate) const TOKEN: &str = "test";
/// Its hash, and the host that it may have.
const TOKEN_ENTRY: &str = "app 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 app.example";

/// The ports of a node, the same after it is started again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// For clients.
    pub(crate) plain: u16,
    /// For origin servers.
    pub(crate) tls: u16,
    pub(crate) admin: u16,
    /// For other nodes.
    node: u16,
}

/// The way from one node to another.
pub(crate) struct Way {
    from: usize,
    to: usize,
    pub(crate) cut: Cut,
}

impl Way {
    pub(crate) fn is_of(&self, a: usize, b: usize) -> bool {
        [(a, b), (b, a)].contains(&(self.from, self.to))
    }
}

pub(crate) struct Cluster {
    relays: Vec<Option<Child>>,
    arguments: Vec<Vec<String>>,
    ports: [Ports; 3],
    pub(crate) engine: Redis,
    pub(crate) engine_of: Vec<Cut>,
    pub(crate) between: Vec<Way>,
    dir: PathBuf,
    logs_are_kept: bool,
}

/// Returns a free port that the system gives to no outgoing connection, since a program that is started again needs it.
fn port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static FIRST: OnceLock<u16> = OnceLock::new();
    // Another run on this machine has other ports.
    let first = || Random::new(u64::from(std::process::id()) << 32 ^ nanoseconds()).below(12_000) as u16;
    let first = FIRST.get_or_init(first);
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Cluster {
    /// Starts everything; `None` if there is no engine on this machine.
    pub(crate) fn start(run: &Run, app: &App) -> Option<Self> {
        let engine = Redis::start_on(port())?;
        let dir = std::env::temp_dir().join(format!("uncork-chaos-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let key = dir.join("node.key");
        fs::write(&key, "k".repeat(40)).expect("written");
        let ports = NAMES.map(|_| Ports { plain: port(), tls: port(), admin: port(), node: port() });
        run.set_ports(ports);
        let engine_of: Vec<Cut> = NAMES.iter().map(|_| Cut::before(engine.port())).collect();
        let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let between: Vec<Way> = pairs.map(|(from, to)| Way { from, to, cut: Cut::before(ports[to].node) }).collect();
        let mut cluster = Self {
            relays: NAMES.map(|_| None).into(),
            arguments: Vec::new(),
            ports,
            engine,
            engine_of,
            between,
            dir,
            logs_are_kept: false,
        };
        cluster.arguments = (0..3).map(|node| cluster.arguments(node, &key.display().to_string(), app)).collect();
        (0..3).for_each(|node| cluster.start_again(node));
        Some(cluster)
    }

    fn arguments(&self, node: usize, key: &str, app: &App) -> Vec<String> {
        let (ports, identity) = (self.ports[node], identity());
        let text = |path: &std::path::Path| path.display().to_string();
        let mut arguments: Vec<String> = vec![
            format!("--listen=127.0.0.1:{}", ports.tls),
            format!("--listen=127.0.0.1:{},tls=false", ports.plain),
            format!("--admin=127.0.0.1:{}", ports.admin),
            format!("--tls-cert={}", text(&identity.cert)),
            format!("--tls-key={}", text(&identity.key)),
            format!("--node-id={}", NAMES[node]),
            format!("--node-listen=127.0.0.1:{}", ports.node),
            format!("--node-key-file={key}"),
            format!("--directory-url=redis://127.0.0.1:{}", self.engine_of[node].port()),
            format!("--tunnel-token={TOKEN_ENTRY}"),
            format!("--tunnel-address=localhost:{}", ports.tls),
            format!("--gateway-endpoint={}.test:80", NAMES[node]),
        ];
        let others = self.between.iter().filter(|way| way.from == node);
        arguments.extend(others.map(|way| format!("--node={} http://127.0.0.1:{}", NAMES[way.to], way.cut.port())));
        arguments.extend(self.ports.iter().map(|ports| format!("--tunnel-other-address=localhost:{}", ports.tls)));
        for callback in ["connect", "establish", "receive", "close"] {
            arguments.push(format!("--gateway-{callback}-url={}", app.url(callback)));
        }
        // All the load comes from one address.
        for limit in [
            "--threads=2",
            "--connections-per-address=1000000",
            "--sessions-per-address=100000",
            "--allocations-per-minute=0",
            "--rendezvous-streams-per-address=100000",
            "--rendezvous-creations-per-minute=0",
            "--gateway-clients-per-address=10000",
            "--log-level=info,uncork::relay=debug",
        ] {
            arguments.push(limit.to_owned());
        }
        arguments
    }

    /// Starts a node, and waits until it listens.
    pub(crate) fn start_again(&mut self, node: usize) {
        let log = File::options().append(true).create(true).open(self.dir.join(format!("{}.log", NAMES[node])));
        let mut command = Command::new(program("relay"));
        command.args(&self.arguments[node]).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(log.expect("a log")).spawn().expect("started");
        self.relays[node] = Some(child);
        let start = Instant::now();
        while get(self.ports[node].admin, "/health").is_err() || get(self.ports[node].plain, "/ping").is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "node {node} does not start: {}", self.dir.display());
            let ended = self.relays[node].as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "node {node} has ended: {ended:?}, {}", self.dir.display());
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.relays[node].take() {
            child.kill().and_then(|()| child.wait()).expect("ended");
        }
    }

    /// Stops it gracefully. Returns `false` if it does not end.
    pub(crate) fn terminate(&mut self, node: usize) -> bool {
        self.signal(node, Signal::TERM);
        let start = Instant::now();
        while self.relays[node].as_mut().is_some_and(|child| child.try_wait().expect("a state").is_none()) {
            if start.elapsed() > Duration::from_secs(30) {
                return false;
            }
            sleep(Duration::from_millis(20));
        }
        self.relays[node] = None;
        true
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        send(self.relays[node].as_ref().expect("it runs").id(), signal);
    }

    pub(crate) fn signal_engine(&self, signal: Signal) {
        send(self.engine.process(), signal);
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = String> {
        self.ports.iter().map(|ports| format!("localhost:{}", ports.tls))
    }

    pub(crate) fn keep_logs(&mut self) {
        println!("logs: {}", self.dir.display());
        self.logs_are_kept = true;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..3).for_each(|node| self.kill(node));
        if !self.logs_are_kept && !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn send(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(process, signal).expect("sent");
}

pub(crate) fn connect(port: u16) -> io::Result<Client> {
    Client::try_connect_from(None, SocketAddr::from(([127, 0, 0, 1], port)), None)
}

/// Sends a request on a new connection, and receives the response.
pub(crate) fn exchange(port: u16, line: &str, fields: &[&str], body: &[u8]) -> io::Result<TestResponse> {
    let mut client = connect(port)?;
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n{fields}");
    if !fields.contains("Host: ") {
        request.push_str("Host: localhost\r\n");
    }
    if !line.starts_with("GET ") {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    client.try_send([request.as_bytes(), b"\r\n", body].concat())?;
    let mut response = client.try_head()?;
    response.body = client.body(&response)?;
    Ok(response)
}

pub(crate) fn get(port: u16, path: &str) -> io::Result<TestResponse> {
    exchange(port, &format!("GET {path}"), &[], b"")
}

/// Returns `true` if the node is connected to the engine, and all of its clients are registered.
pub(crate) fn is_ready(ports: &Ports) -> bool {
    get(ports.admin, "/ready").is_ok_and(|response| response.status == 200 && response.body.starts_with(b"ready"))
}
