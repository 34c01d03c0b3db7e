//! Behind nginx, with the configurations of `examples/relay`: nothing is buffered, waiting clients are not
//! disconnected, WebSocket works, and the client's address is known. Without nginx these tests are skipped; with
//! `UNCORK_NGINX=yes`, a missing nginx is a failure.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use uncork::{Request, Response, Server};

use crate::{
    client::Client,
    harness::{Dir, Relay, line_of, stream},
    program::program as built,
};

const HTTP: &str = include_str!("../../examples/relay/nginx.conf");
const STREAM: &str = include_str!("../../examples/relay/nginx-stream.conf");

fn nginx() -> Option<PathBuf> {
    first_existing("nginx", &["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].map(PathBuf::from))
}

/// Returns the first path that exists.
fn first_existing(what: &str, paths: &[PathBuf]) -> Option<PathBuf> {
    let found = paths.iter().find(|path| path.exists()).cloned();
    if found.is_none() {
        assert!(std::env::var_os("UNCORK_NGINX").is_none_or(|value| value != "yes"), "no {what}");
        println!("SKIPPED: {what} is missing (Debian: nginx, libnginx-mod-stream)");
    }
    found
}

/// A running nginx, and its addresses.
struct Nginx {
    child: Child,
    addr: SocketAddr,
    dir: Dir,
    client: Arc<ClientConfig>,
}

impl Nginx {
    /// Starts it with that configuration; ports and files are replaced by those of the test.
    fn start(
        program: &Path,
        dir: Dir,
        client: Arc<ClientConfig>,
        config: &str,
        around: impl Fn(&str) -> String,
    ) -> Self {
        // It inherits a socket of the test, as at a binary upgrade, so that the system can choose the port.
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = listener.local_addr().expect("an address");
        let config = config.replace("listen 443", &format!("listen {addr}"));
        let main = format!(
            "pid {0}/pid; error_log {0}/error.log;\n{1}",
            dir.0.display(),
            around(&config.replace("/etc/ssl/relay", &dir.0.display().to_string()))
        );
        let file = dir.write("nginx.conf", &main);
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 3<&0 </dev/null; NGINX='3;'; export NGINX; exec \"$@\"", "sh"]).arg(program);
        shell.args(["-p", &dir.path(""), "-c", &file, "-g", "daemon off;"]);
        shell.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).stderr(Stdio::null());
        Self { child: shell.spawn().expect("started"), addr, dir, client }
    }

    /// Starts it in front of a relay with plain HTTP.
    fn in_front_of(program: &Path, relay: &Relay) -> Self {
        let dir = Dir::new();
        let client = dir.identity();
        let config = HTTP.replace("127.0.0.1:8080", &relay.addr().to_string());
        let temporary = dir.path("temporary");
        let around = |config: &str| {
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let paths: String = kinds.iter().map(|kind| format!("{kind}_temp_path {temporary}-{kind};\n")).collect();
            format!("events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{paths}{config}\n}}\n")
        };
        Self::start(program, dir, client, &config, around)
    }

    fn client(&self) -> Client {
        Client::connect(self.addr, Some(self.client.clone()))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It must end its own children.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.dir.read("error.log"));
        }
    }
}

#[test]
fn nothing_is_held_back_and_nobody_cut_off() {
    let Some(program) = nginx() else { return };
    let dir = Dir::new();
    let log = dir.path("access.log");
    let relay = Relay::start(&[
        "--trusted-proxy",
        "127.0.0.1",
        "--access-log=json",
        "--access-log-file",
        &log,
        "--shutdown-timeout",
        "0",
    ]);
    let nginx = Nginx::in_front_of(&program, &relay);

    // The relay's limits apply to the client.
    let ping =
        nginx.client().request("GET /ping", &["X-Forwarded-For: 192.0.2.1", "Forwarded: for=203.0.113.66"]).response();
    assert_eq!(ping.assert(200).text(), "pong");
    assert!(line_of(&dir.0.join("access.log")).contains("\"client\":\"192.0.2.1\""));

    // So does the scheme: that between client and nginx, not that between nginx and relay, and not the client's
    // claim.
    let session =
        nginx.client().request("PUT /cama/session", &["Content-Length: 0", "X-Forwarded-Proto: http"]).response();
    assert!(session.assert(201).get("set-cookie").expect("a cookie").contains("; Secure"));

    // A receiver waits for a sender; each piece arrives before the next is sent.
    let path = stream(&relay);
    let (mut receiver, mut source) = (nginx.client(), nginx.client());
    receiver.request(&format!("GET {path}"), &[]);
    assert!(receiver.is_silent(Duration::from_millis(50)));
    source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"first");
    receiver.head().assert(200);
    for piece in [b"second", b"third."] {
        assert!(!receiver.next_chunk().expect("a chunk").expect("not the end").is_empty());
        source.chunk(piece);
    }
    assert_eq!(receiver.next_chunk().expect("a chunk"), Some(b"third.".to_vec()));
    source.chunk(b"");
    assert_eq!(receiver.next_chunk().expect("the end"), None);
    source.response().assert(200);

    // A receiver that does not read stops the sender, instead of filling a disk.
    let path = stream(&relay);
    let (mut receiver, mut source) = (nginx.client(), nginx.client());
    receiver.request(&format!("GET {path}"), &[]);
    let size = 64 << 20;
    let (block, mut taken) = (vec![7; 64 * 1024], 0);
    source.request(&format!("PUT {path}"), &[&format!("Content-Length: {size}")]).send(b"7");
    receiver.head().assert(200);
    while let Some(n) = source.push(&block, Duration::from_millis(500)) {
        taken += n;
        assert!(taken < size - 1, "everything was sent without a reader");
    }
}

#[test]
fn websocket_goes_through() {
    let Some(program) = nginx() else { return };
    let application = Server::bind("127.0.0.1:0").expect("bound");
    let addr = application.local_addr().expect("an address");
    let application =
        application.threads(1, |_: &mut Request<'_>| Response::new(200).header("X-Kuiperbelt-Session", "me"));
    let application = application.expect("running");
    let relay = Relay::start(&["--gateway-connect-url", &format!("http://{addr}/"), "--trusted-proxy", "127.0.0.1"]);
    let nginx = Nginx::in_front_of(&program, &relay);
    let mut client = nginx.client();
    let fields = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let response = client.request("GET /connect", &fields).head();
    assert_eq!(response.assert(101).get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let mut send = Client::connect(relay.admin, None);
    send.post("/send", &["X-Kuiperbelt-Session: me", "Content-Type: text/plain"], b"hello").response().assert(200);
    assert_eq!(client.exactly(7).expect("a frame"), b"\x81\x05hello");
    drop(client);
    relay.stop();
    application.stop_now().expect("stopped");
}

#[test]
fn the_proxy_protocol_comes_from_nginx() {
    let Some(program) = nginx() else { return };
    let module = std::env::var_os("NGINX_STREAM_MODULE").map(PathBuf::from);
    let module = module.unwrap_or_else(|| "/usr/lib/nginx/modules/ngx_stream_module.so".into());
    let Some(module) = first_existing("nginx's stream module", &[module]) else { return };
    let dir = Dir::new();
    let client = dir.identity();
    let (log, cert, key) = (dir.path("access.log"), dir.path("cert.pem"), dir.path("key.pem"));
    let relay = Relay::start_with(
        Command::new(built("relay")),
        &[
            "--listen",
            "127.0.0.1:0,proxy-protocol",
            "--trusted-proxy",
            "127.0.0.1",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--access-log=json",
            "--access-log-file",
            &log,
        ],
    );
    let config = STREAM.replace("127.0.0.1:8443", &relay.addr().to_string());
    let load = |config: &str| format!("load_module {};\nevents {{}}\n{config}", module.display());
    let nginx = Nginx::start(&program, Dir::new(), client, &config, load);
    nginx.client().request("GET /ping", &[]).response().assert(200);
    assert!(line_of(&dir.0.join("access.log")).contains("\"client\":\"127.0.0.1\""));
    relay.stop();
}
