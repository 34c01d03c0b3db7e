//! Every example, started as a user starts it: flags, real sockets, the line that reports readiness, SIGTERM.
//!
//! | file | examples |
//! |---|---|
//! | `main` | `hello`, `json_api`, `fetch`; flags |
//! | `first` | `events`, `upload` |
//! | `echo` | `echo`, `upgrade_echo`, `websocket_echo` |
//! | `fileserver`, `unusual` | `fileserver` |
//! | `own_loop` | `external_select` |
//! | `relay` | `relay`, as in the README; its services are tested elsewhere |
//!
//! `cargo test` builds the examples; `cargo test --test examples` alone does not: `cargo build --examples` before it.
#![cfg(feature = "tls")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

mod echo;
mod fileserver;
mod first;
mod own_loop;
mod relay;
mod unusual;

#[path = "../support/client.rs"]
#[allow(dead_code)] // the relay's tests use the rest
mod client;
#[path = "../support/program.rs"]
mod program;
// The parts that can be tested without a server; their unit tests run here, too.
#[path = "../../examples/files/conditions.rs"]
#[allow(dead_code)]
mod conditions;
#[path = "../../examples/files/listing.rs"]
#[allow(dead_code)]
mod listing;
#[path = "../../examples/files/path.rs"]
#[allow(dead_code)]
mod path;

use client::Client;
use program::{Example, PLAIN, Setup, identity, output, program};

/// Long enough to show that nothing more is taken.
const MOMENT: Duration = Duration::from_millis(100);

/// Each case in each mode, plain and by TLS.
macro_rules! in_every_setup {
    ($($room:ident::$case:ident),* $(,)?) => {
        in_every_setup! { @ threads, false, "threads", $($room::$case)* }
        in_every_setup! { @ external, false, "external", $($room::$case)* }
        in_every_setup! { @ thread_per_connection, false, "thread-per-connection", $($room::$case)* }
        in_every_setup! { @ tls_threads, true, "threads", $($room::$case)* }
        in_every_setup! { @ tls_external, true, "external", $($room::$case)* }
        in_every_setup! { @ tls_thread_per_connection, true, "thread-per-connection", $($room::$case)* }
    };
    (@ $name:ident, $tls:expr, $mode:expr, $($room:ident::$case:ident)*) => {
        mod $name {
            const SETUP: super::Setup = super::Setup { tls: $tls, mode: $mode };
            $(#[test] fn $case() { super::$room::$case(SETUP); })*
        }
    };
}

in_every_setup! {
    echo::echo_gives_back_what_it_gets, echo::echo_streams, echo::echo_pushes_back,
    echo::echo_finishes_what_is_under_way_when_stopped, echo::upgrade_echo_gives_back_every_byte,
    echo::upgrade_echo_pushes_back, echo::websocket_echo_gives_back_every_message, fileserver::fileserver_serves,
    first::upload_stores_files, first::upload_stores_the_files_of_a_form, relay::relay_passes_a_file_on,
}

/// A directory, removed at the end of the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("examples-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    /// Writes a file with an old date.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let mut file = File::create(&path).expect("made");
        file.write_all(content.as_ref()).expect("written");
        file.set_modified(long_ago()).expect("set");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sun, 09 Sep 2001 01:46:40 GMT
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// Returns bytes without repetition, so that a misplaced piece shows.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Sends all of it while `read` reads, in two threads: neither side waits for the other.
fn send_while_reading(client: &mut Client, bytes: &[u8]) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < bytes.len() {
        if sent < bytes.len() {
            // At most as much in flight as the echo holds: received bytes allow more.
            let end = bytes.len().min(got.len() + 32 * 1024);
            if sent < end {
                client.send(&bytes[sent..end]);
                sent = end;
            }
        }
        got.extend(client.some(64 * 1024).expect("more"));
    }
    got
}

/// Reads `len` bytes, which repeat `block`.
fn read_back(client: &mut Client, block: &[u8], len: usize) {
    let mut got = 0;
    while got < len {
        let some = client.some(64 * 1024).expect("more");
        assert!(some.iter().enumerate().all(|(i, &b)| b == block[(got + i) % block.len()]), "{got}");
        got += some.len();
    }
}
// hello

#[test]
fn hello_says_hello() {
    let mut command = Command::new(program("hello"));
    command.arg("127.0.0.1:0");
    let hello = Example::run(command, None);
    let response = hello.ask("GET /", &[]);
    assert_eq!((response.status, response.text()), (200, "Hello, world!"));
}

#[test]
fn the_shortest_have_help_and_errors_in_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let taken = taken.local_addr().expect("bound").to_string();
    for name in ["hello", "json_api", "events"] {
        let help = output(name, &["--help"]);
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success() && text.contains(&format!("Usage: {name} [ADDRESS:PORT]")), "{help:?}");
        for (addr, error) in [(&*taken, "in use"), ("8080", "expected an address and a port")] {
            let output = output(name, &[addr]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && text.starts_with("error: cannot listen on "), "{output:?}");
            assert!(text.contains(error), "{text}");
        }
    }
}

// json_api

#[test]
fn json_api_keeps_notes() {
    let mut command = Command::new(program("json_api"));
    command.arg("127.0.0.1:0");
    let api = Example::run(command, None);
    let mut client = api.client();
    let mut add =
        |body: &str| client.request("POST /notes", &[&format!("Content-Length: {}", body.len())]).send(body).response();
    let added = add(r#"{"text": "buy milk", "tag": "at home"}"#);
    assert_eq!((added.status, added.get("location")), (201, Some("/notes/1")));
    assert_eq!(add(r#"{"text": "\u00e9"}"#).status, 201);
    assert!(add("").assert(400).text().starts_with("invalid note: "));
    let mut ask = |request: &str| client.request(request, &[]).response();
    let found = ask("GET /notes?x=1&t%61g=at+home");
    assert_eq!(
        (found.get("content-type"), found.text()),
        (Some("application/json"), r#"{"1":{"text":"buy milk","tag":"at home"}}"#)
    );
    assert_eq!(ask("GET /notes?tag=at%20home").text(), found.text());
    assert_eq!((ask("DELETE /notes/1").status, ask("DELETE /notes/1").status), (204, 404));
    assert_eq!(ask("GET /notes").text(), r#"{"2":{"text":"\u{e9}","tag":""}}"#.replace("\\u{e9}", "\u{e9}"));
    assert_eq!(ask("PUT /notes").get("allow"), Some("GET, POST"));
    // Beyond the limit, whether the length is known or not.
    let large = "x".repeat(64 * 1024 + 1);
    let response = api.client().request("POST /notes", &["Content-Length: 65537"]).send(&large).response();
    assert_eq!((response.status, response.text()), (413, "the request body is too large\n"));
    let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    assert_eq!(
        api.client().request("POST /notes", &["Transfer-Encoding: chunked"]).send(&chunk).response().status,
        413
    );
}

// fetch

#[test]
#[cfg(feature = "client")]
fn fetch_fetches() {
    for setup in [PLAIN, Setup { tls: true, ..PLAIN }] {
        let echo = Example::start("echo", setup, &[]);
        let url = format!("{}://localhost:{}/", echo.scheme, echo.addr.port());
        let roots = identity().cert.to_str().expect("text");
        let fetched = output("fetch", &["-i", "-H", "X-A: b", "-d", "hello", "-t", "20", "--roots", roots, &url]);
        assert_eq!(String::from_utf8_lossy(&fetched.stderr), "");
        let text = String::from_utf8(fetched.stdout).expect("text");
        assert!(fetched.status.success() && text.starts_with("200\n") && text.ends_with("\n\nhello"), "{text:?}");
    }
    for timeout in ["0", "-1", "soon"] {
        let failed = output("fetch", &["http://127.0.0.1:0/", &format!("--timeout={timeout}")]);
        let stderr = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(stderr.contains("expected whole seconds, 1 or more") && failed.status.code() == Some(2), "{stderr}");
    }
    let failed = output("fetch", &["http://127.0.0.1:0/"]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("port"));
}

// Flags

#[test]
fn help_tells_of_every_flag() {
    for name in ["echo", "upgrade_echo", "fileserver", "relay", "upload"] {
        let help = output(name, &["--help"]);
        let text = String::from_utf8(help.stdout).expect("text");
        assert!(help.status.success(), "{name}");
        for flag in ["--listen", "--mode", "--threads", "--tls-cert", "--tls-key", "external", "thread-per-connection"]
        {
            assert!(text.contains(flag), "{name}: {flag}");
        }
    }
    assert!(String::from_utf8_lossy(&output("fileserver", &["--help"]).stdout).contains("--root"));
    assert!(String::from_utf8_lossy(&output("external_select", &["--help"]).stdout).contains("--listen"));
}

/// A protocol without authentication must be built in as well as requested.
#[test]
#[cfg(all(feature = "tunnel", not(feature = "spdy")))]
fn origin_speaks_no_spdy_unless_it_is_built_in() {
    let pin = "0".repeat(64);
    let flags = ["--proxy", "localhost:1", "--root", ".", "--pin", &pin, "--allow-legacy-unauthenticated"];
    let refused = output("origin", &flags);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--features spdy"), "{refused:?}");
}

#[test]
fn https_can_be_tried_with_a_certificate_that_is_made_and_kept() {
    let dir = Dir::new();
    let try_in = dir.0.join("try");
    let flag = format!("--tls-self-made={}", try_in.display());
    let start = |name: &str, more: &[&str]| {
        let mut command = Command::new(program(name));
        command.args(["--listen", "127.0.0.1:0", &flag]).args(more);
        let mut example = Example::run(command, Some(identity().client.clone()));
        let made = CertificateDer::from_pem_file(try_in.join("cert.pem")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(made.clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        example.tls = Some(Arc::new(client));
        (example, made)
    };
    dir.file("www/x", "x");
    let (server, first) = start("fileserver", &["--root", dir.0.join("www").to_str().expect("text")]);
    server.ask("GET /", &[]).assert(200);
    server.stop();
    let (relay, second) = start("relay", &["--admin", "off"]);
    relay.ask("GET /", &[]).assert(200);
    relay.stop();
    assert_eq!(first, second, "made once");
    let mode = fs::metadata(try_in.join("key.pem")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a secret");
}

#[test]
fn mistakes_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let taken = taken.local_addr().expect("an address").to_string();
    let cert = identity().cert.to_str().expect("text");
    for (name, args, words) in [
        ("echo", &["--listen", "nonsense"][..], "nonsense"),
        ("echo", &["--listen", &taken], &*taken),
        ("external_select", &["--listen", &taken], &taken),
        ("echo", &["--mode", "fast"], "thread-per-connection"),
        ("echo", &["--threads", "0"], "--threads"),
        ("echo", &["--tls-cert", cert], "--tls-key"),
        ("echo", &["--tls-cert", "/no/such.pem", "--tls-key", cert], "/no/such.pem"),
        ("echo", &["--tls-cert", cert, "--tls-key", cert], cert),
        ("fileserver", &["--root", "/no/such"], "/no/such"),
        ("fileserver", &["--root", cert], cert),
    ] {
        let output = output(name, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{name} {args:?}: {said}");
        assert!(!said.contains("panicked") && output.stdout.is_empty(), "{name} {args:?}: {said}");
    }
}
