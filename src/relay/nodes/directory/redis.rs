//! For tests: processes of `redis-server` and `redis-sentinel`, and an owner that records what it is told.

#![expect(clippy::disallowed_methods, reason = "tests may sleep, and read the clock to bound a wait")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command as Process, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use uncork::{LoopHandle, Request, Response, Running, Server};

use super::{Command, Engine, EngineEvents, EngineState, Reply, Unavailable, config::DirectoryConfig};

/// The longest wait of a test.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// Returns `true` if the program is installed. Says so if it is not.
pub(super) fn is_installed(program: &str) -> bool {
    let found = Process::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("skipped: {program} is not installed");
    }
    found.is_ok()
}

/// Returns a port that nothing listens on.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").port()
}

/// Repeats until `condition` holds.
#[track_caller]
pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}");
        sleep(Duration::from_millis(5));
    }
}

/// A directory that is removed at the end.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("uncork-redis-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server, killed at the end.
pub(super) struct Redis {
    pub(super) port: u16,
    pub(super) dir: Scratch,
    program: &'static str,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Starts `redis-server` with these arguments besides.
    pub(super) fn start(arguments: &[&str]) -> Self {
        Self::start_in(Scratch::new(), arguments)
    }

    pub(super) fn start_in(dir: Scratch, arguments: &[&str]) -> Self {
        let mut redis = Self { port: 0, dir, program: "redis-server", arguments: Vec::new(), process: None };
        // A port that was free may be in use when the server starts.
        let started = (0..3).any(|_| {
            redis.port = free_port();
            let (own, text) = (redis.dir.path(""), redis.port.to_string());
            // Files of the arguments are relative to its own directory.
            let mut all = vec!["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
            all.extend(["--dir", &own, "--enable-debug-command", "yes"]);
            all.extend(arguments);
            redis.arguments = all.into_iter().map(str::to_owned).collect();
            redis.listens()
        });
        assert!(started, "cannot start the server with {:?}", redis.arguments);
        redis
    }

    /// Starts `redis-sentinel` with this configuration.
    pub(super) fn sentinel(config: &str) -> Self {
        let (dir, port) = (Scratch::new(), free_port());
        let file = dir.path("sentinel.conf");
        let text = format!("port {port}\nbind 127.0.0.1\ndir {}\n{config}", dir.path(""));
        fs::write(&file, text).expect("written");
        let mut sentinel = Self { port, dir, program: "redis-sentinel", arguments: vec![file], process: None };
        sentinel.run();
        sentinel
    }

    /// Starts the process, again after [`kill`](Self::kill).
    pub(super) fn run(&mut self) {
        assert!(self.listens(), "cannot start {} with {:?}", self.program, self.arguments);
    }

    /// Starts the process. Returns `true` when it listens, and `false` if it ends before.
    fn listens(&mut self) -> bool {
        let mut command = Process::new(self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (addr, process) = (self.addr(), self.process.insert(command.spawn().expect("started")));
        let (mut has_ended, mut is_bound) = (false, false);
        until("the server listens", || {
            is_bound = TcpStream::connect(addr).is_ok();
            has_ended = process.try_wait().expect("a state").is_some();
            is_bound || has_ended
        });
        !has_ended
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command by a connection of its own, in the protocol's inline form. Returns the first line of the reply.
    pub(super) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.addr()).expect("connected");
        stream.set_read_timeout(Some(LONG)).expect("set");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Like [`ask`](Self::ask), but returns a string of several lines.
    pub(super) fn text(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.addr()).expect("connected");
        stream.set_read_timeout(Some(LONG)).expect("set");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What an owner is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Connected,
    Message(String, String),
    Lost,
}

struct Owner {
    told: Mutex<Sender<Told>>,
    /// Called by `connected`, before `done`.
    on_connected: Box<dyn Fn(&Engine) + Send + Sync>,
}

impl EngineEvents for Owner {
    fn connected(&self, engine: &Engine, done: Box<dyn FnOnce() + Send>) {
        assert_eq!(engine.status().state, EngineState::Connected);
        (self.on_connected)(engine);
        self.tell(Told::Connected);
        done();
        assert_eq!(engine.status().state, EngineState::Ready);
    }

    fn message(&self, channel: &[u8], payload: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.tell(Told::Message(text(channel), text(payload)));
    }

    fn lost(&self) {
        self.tell(Told::Lost);
    }
}

impl Owner {
    fn tell(&self, told: Told) {
        let _ = self.told.lock().expect("not poisoned").send(told);
    }
}

/// An engine on a loop of its own, subscribed to the channel `news`.
pub(super) struct World {
    pub(super) engine: Engine,
    told: Mutex<Receiver<Told>>,
    pub(super) server: Option<Running>,
}

impl World {
    pub(super) fn start(config: DirectoryConfig) -> Self {
        Self::start_with(config, |_| {})
    }

    pub(super) fn start_with(config: DirectoryConfig, on_connected: impl Fn(&Engine) + Send + Sync + 'static) -> Self {
        let server = Server::bind("127.0.0.1:0").expect("bound");
        let server = server.threads(1, |_: &mut Request<'_>| Response::new(404)).expect("running");
        let engine = Engine::new(config).expect("a valid configuration");
        let (tell, told) = channel();
        let on: LoopHandle = server.loops().remove(0);
        let owner = Owner { told: Mutex::new(tell), on_connected: Box::new(on_connected) };
        engine.start(&on, Arc::new(owner), vec!["news".into()]);
        assert_eq!(engine.loop_handle(), Some(on));
        Self { engine, told: Mutex::new(told), server: Some(server) }
    }

    pub(super) fn at(url: String) -> Self {
        Self::start(DirectoryConfig { url, ..DirectoryConfig::default() })
    }

    #[track_caller]
    pub(super) fn expect(&self, what: Told) {
        assert_eq!(self.told(LONG), Some(what), "{:?}", self.engine.status());
    }

    /// Returns what the owner is told next.
    pub(super) fn told(&self, timeout: Duration) -> Option<Told> {
        self.told.lock().expect("not poisoned").recv_timeout(timeout).ok()
    }

    /// Begins to send; the result comes later.
    pub(super) fn begin(&self, commands: Vec<Command>) -> Receiver<Result<Vec<Reply>, Unavailable>> {
        let (tell, told) = channel();
        self.engine.send(commands, move |outcome| drop(tell.send(outcome)));
        told
    }

    #[track_caller]
    pub(super) fn send(&self, commands: Vec<Command>) -> Result<Vec<Reply>, Unavailable> {
        self.begin(commands).recv_timeout(LONG).expect("called")
    }

    /// Sends one command that succeeds.
    #[track_caller]
    pub(super) fn one(&self, command: Command) -> Reply {
        self.send(vec![command]).expect("a reply").remove(0)
    }

    /// Waits for the last error that contains `text`.
    #[track_caller]
    pub(super) fn until_error(&self, text: &str) {
        until(text, || self.engine.status().last_error.is_some_and(|error| error.contains(text)));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop_now().expect("ended normally");
        }
    }
}

pub(super) fn bytes(text: &str) -> Reply {
    Reply::Bytes(text.into())
}
