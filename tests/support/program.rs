//! An example program as a user starts it: flags, real sockets, the line that reports readiness, SIGTERM.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, channel},
    },
};

use rustls::{ClientConfig, RootCertStore};

use crate::client::{Client, TIMEOUT, TestResponse};

/// The transport and the mode of an example.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) tls: bool,
    pub(crate) mode: &'static str,
}

pub(crate) const PLAIN: Setup = Setup { tls: false, mode: "threads" };

/// Returns the path of the built program. Panics if it was not built, or is older than its source.
pub(crate) fn program(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a path");
    let path = exe.parent().and_then(Path::parent).expect("target/<profile>").join("examples").join(name);
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    // Of this package, or of the one around it.
    let mut examples = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("examples"));
    let source = examples.find(|dir| dir.is_dir()).expect("the examples").join(name);
    let sources = [source.with_extension("rs"), source.join("main.rs")];
    let fresh = changed(&path).is_some_and(|built| sources.iter().all(|s| changed(s).is_none_or(|at| at <= built)));
    assert!(fresh, "{} is not built, or older than its source: cargo build --examples", path.display());
    path
}

/// A running example.
pub(crate) struct Example {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) scheme: &'static str,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    lines: Receiver<String>,
    pub(crate) stdin: Option<ChildStdin>,
}

impl Example {
    /// Starts an example on a free port and waits until it is ready.
    pub(crate) fn start(name: &str, setup: Setup, args: &[&str]) -> Self {
        // Its admin listener must not use the port of another test.
        let no_admin: &[&str] = if name == "relay" { &["--admin", "off"] } else { &[] };
        Self::run_in(Command::new(program(name)), setup, &[no_admin, args].concat())
    }

    /// Like [`start`](Self::start), but with a command that has its environment already.
    pub(crate) fn run_in(mut command: Command, setup: Setup, args: &[&str]) -> Self {
        let identity = identity();
        command.args(["--listen", "127.0.0.1:0", "--mode", setup.mode]).args(args);
        if setup.tls {
            command.arg("--tls-cert").arg(&identity.cert).arg("--tls-key").arg(&identity.key);
        }
        if setup.mode == "threads" {
            command.args(["--threads", "2"]);
        }
        Self::run(command, setup.tls.then(|| identity.client.clone()))
    }

    pub(crate) fn run(mut command: Command, tls: Option<Arc<ClientConfig>>) -> Self {
        command.env("RUST_LOG", "warn").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines() {
                if sender.send(line.expect("text")).is_err() {
                    return;
                }
            }
        });
        let ready = lines.recv_timeout(TIMEOUT).expect("the line that reports readiness");
        let url = ready.strip_prefix("listening on ").expect(&ready);
        let (scheme, addr) = url.split_once("://").expect(&ready);
        assert_eq!(scheme, if tls.is_some() { "https" } else { "http" });
        let addr = addr.parse().expect(&ready);
        let (stdin, scheme) = (child.stdin.take(), if tls.is_some() { "https" } else { "http" });
        Self { child, addr, scheme, tls, lines, stdin }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr, self.tls.clone())
    }

    /// Sends one request without a body, on a new connection.
    #[track_caller]
    pub(crate) fn ask(&self, line: &str, fields: &[&str]) -> TestResponse {
        let mut client = self.client();
        client.request(line, fields);
        if line.starts_with("HEAD ") { client.head() } else { client.response() }
    }

    pub(crate) fn terminate(&self) {
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.child.id().to_string()]).status();
        assert!(sent.expect("a shell").success());
    }

    /// Waits for the end of the program, which must be a success.
    #[track_caller]
    pub(crate) fn ends(mut self) {
        // The output ends with the program.
        while self.lines.recv_timeout(TIMEOUT).map_err(|e| assert_eq!(e.to_string(), CLOSED)).is_ok() {}
        let status = self.child.wait().expect("the end of the child");
        assert!(status.success(), "{status}");
    }

    #[track_caller]
    pub(crate) fn stop(self) {
        self.terminate();
        self.ends();
    }
}

const CLOSED: &str = "channel is empty and sending half is closed";

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub(crate) fn output(name: &str, args: &[&str]) -> Output {
    Command::new(program(name)).args(args).stdin(Stdio::null()).output().expect("started")
}

pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client: Arc<ClientConfig>,
}

/// Returns a certificate for `localhost`, made once, in files, and a client that trusts it.
pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("identity-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&cert, made.cert.pem()).expect("written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Identity { cert, key, client: Arc::new(client) }
    })
}
