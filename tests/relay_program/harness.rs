//! A running relay, and a directory for its files.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use rcgen::date_time_ymd;
use rustix::process::{Pid, Signal, kill_process};
use rustls::{ClientConfig, RootCertStore};

use crate::{
    client::{Client, TIMEOUT, TestResponse},
    program::program,
};

/// A directory, removed at the end of the test. Its name is short, since it holds sockets.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("uncork-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.0.join(name), content).expect("written");
        self.path(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Writes a new certificate and its key. Returns a client that trusts it.
    pub(crate) fn identity(&self) -> Arc<ClientConfig> {
        self.identity_of(1975, 4096)
    }

    /// Like [`identity`](Self::identity), but valid from the first to the second year.
    pub(crate) fn identity_of(&self, from: i32, until: i32) -> Arc<ClientConfig> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let made = params.self_signed(&key).expect("a certificate");
        self.write("cert.pem", &made.pem());
        self.write("key.pem", &key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(made.der().clone()).expect("a root");
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    /// Its listeners, as it reported them.
    pub(crate) urls: Vec<String>,
    pub(crate) admin: SocketAddr,
    lines: Receiver<String>,
    /// Its messages to systemd.
    notifications: UnixDatagram,
    _dir: Dir,
}

impl Relay {
    /// Starts it on a free port, with an admin listener.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(Command::new(program("relay")), &[&["--listen", "127.0.0.1:0"], args].concat())
    }

    /// Like [`start`](Self::start), but with a command that has its environment already.
    pub(crate) fn start_with(mut command: Command, args: &[&str]) -> Self {
        let dir = Dir::new();
        let notifications = UnixDatagram::bind(dir.0.join("notify")).expect("bound");
        command.env("NOTIFY_SOCKET", dir.0.join("notify"));
        Self::run(command, args, notifications, dir)
    }

    /// Like [`start`](Self::start), but with its log in a file.
    pub(crate) fn logging_to(log: &str, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 2>\"$0\"; exec \"$@\"", log]).arg(program("relay"));
        Self::start_with(command, &[&["--listen", "127.0.0.1:0"], args].concat())
    }

    pub(crate) fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process")
    }

    pub(crate) fn run(mut command: Command, args: &[&str], notifications: UnixDatagram, dir: Dir) -> Self {
        notifications.set_read_timeout(Some(TIMEOUT)).expect("set");
        command.args(["--admin", "127.0.0.1:0"]).args(args).env_remove("RUST_LOG");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut urls = Vec::new();
        let admin = loop {
            let line = lines.recv_timeout(TIMEOUT).expect("a line for each listener");
            match line.strip_prefix("listening on ") {
                Some(url) => urls.push(url.to_owned()),
                None => break line.strip_prefix("admin on http://").expect(&line).parse().expect(&line),
            }
        };
        let relay = Self { child, urls, admin, lines, notifications, _dir: dir };
        relay.notifies("READY=1");
        relay
    }

    /// Waits for this message to systemd; there must be no other before.
    #[track_caller]
    pub(crate) fn notifies(&self, state: &str) {
        let mut buffer = [0; 256];
        let n = self.notifications.recv(&mut buffer).expect(state);
        assert_eq!(String::from_utf8_lossy(&buffer[..n]), state);
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        let (_, addr) = self.urls[0].split_once("://").expect("a URL");
        addr.parse().expect("an address")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr(), None)
    }

    /// Sends one request without a body, on a new connection.
    #[track_caller]
    pub(crate) fn request(&self, line: &str, fields: &[&str]) -> TestResponse {
        self.client().request(line, fields).response()
    }

    /// Sends one request to the admin listener.
    #[track_caller]
    pub(crate) fn request_admin(&self, line: &str, fields: &[&str]) -> TestResponse {
        Client::connect(self.admin, None).request(line, fields).response()
    }

    /// Returns the value of a metric.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.request_admin("GET /metrics", &[]);
        let line = page.assert(200).text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {}", page.text())).parse().expect("a number")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("sent");
    }

    /// Reloads the configuration. Returns `true` if it was accepted.
    #[track_caller]
    pub(crate) fn reload(&self) -> bool {
        const SUCCESS: &str = "uncork_reloads_total{outcome=\"success\"}";
        let before = self.metric(SUCCESS);
        self.signal(Signal::HUP);
        self.notifies("RELOADING=1");
        self.notifies("READY=1");
        self.metric(SUCCESS) > before
    }

    /// Waits for its end, which must be a success.
    #[track_caller]
    pub(crate) fn ends(mut self) {
        // Its output ends with it.
        while self.lines.recv_timeout(TIMEOUT).map_err(|e| assert!(e.to_string().contains("closed"), "{e}")).is_ok() {}
        let status = self.child.wait().expect("the end of the child");
        assert!(status.success(), "{status}");
    }

    /// Kills it, and waits until the system has closed its connections.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("the end of the child");
    }

    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        self.ends();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates a stream of the rendezvous. Returns its path.
#[track_caller]
pub(crate) fn stream(relay: &Relay) -> String {
    let response = relay.client().post("/stream", &[], b"").response();
    let id = response.assert(201).text().split('"').nth(3).expect("an id").to_owned();
    format!("/stream/{id}")
}

/// Polls until the condition holds.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a bound that only a hang reaches")]
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Returns the content of a file, when it ends with a complete line.
#[track_caller]
pub(crate) fn line_of(file: &Path) -> String {
    let read = || fs::read_to_string(file).unwrap_or_default();
    until(&format!("a line in {}", file.display()), || read().ends_with('\n'));
    read()
}
