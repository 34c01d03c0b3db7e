//! Every example, started as a user starts it: flags, real sockets, the line it prints when it is ready, SIGTERM.
//!
//! `cargo test` builds the examples; `cargo test --test examples` alone does not: `cargo build --examples` before it.
#![cfg(feature = "tls")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

#[path = "support/client.rs"]
#[allow(dead_code)] // the relay's tests use the rest
mod client;
#[path = "support/program.rs"]
mod program;
// What can be tested without a server; it also brings its unit tests along.
#[path = "../examples/files/conditions.rs"]
#[allow(dead_code)]
mod conditions;
#[path = "../examples/files/listing.rs"]
#[allow(dead_code)]
mod listing;
#[path = "../examples/files/path.rs"]
#[allow(dead_code)]
mod path;

use client::Client;
use program::{Example, PLAIN, Setup, identity, output, program};

/// Long enough to see that nothing more is taken.
const MOMENT: Duration = Duration::from_millis(100);

/// Each case in each mode, plain and by TLS.
macro_rules! in_every_setup {
    ($($case:ident),* $(,)?) => {
        in_every_setup! { @ threads, false, "threads", $($case)* }
        in_every_setup! { @ external, false, "external", $($case)* }
        in_every_setup! { @ thread_per_connection, false, "thread-per-connection", $($case)* }
        in_every_setup! { @ tls_threads, true, "threads", $($case)* }
        in_every_setup! { @ tls_external, true, "external", $($case)* }
        in_every_setup! { @ tls_thread_per_connection, true, "thread-per-connection", $($case)* }
    };
    (@ $name:ident, $tls:expr, $mode:expr, $($case:ident)*) => {
        mod $name {
            const SETUP: super::Setup = super::Setup { tls: $tls, mode: $mode };
            $(#[test] fn $case() { super::$case(SETUP); })*
        }
    };
}

in_every_setup! {
    echo_gives_back_what_it_gets, echo_streams, echo_pushes_back, echo_finishes_what_is_under_way_when_stopped,
    upgrade_echo_gives_back_every_byte, upgrade_echo_pushes_back, fileserver_serves, relay_passes_a_file_on,
    websocket_echo_gives_back_every_message,
}

/// A directory that is gone when the test is over.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("examples-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    /// Writes a file, as if long ago.
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

/// Bytes that don't repeat, so that a piece in the wrong place shows.
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

/// Sends all of it while `read` reads, from two threads' points of view: this side never waits for itself.
fn send_while_reading(client: &mut Client, bytes: &[u8]) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < bytes.len() {
        if sent < bytes.len() {
            // At most as much in flight as the echo surely holds: what comes back makes room for more.
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

/// Reads `len` bytes, which are those of `block`, again and again.
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
    let answer = hello.ask("GET /", &[]);
    assert_eq!((answer.status, answer.text()), (200, "Hello, world!"));
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
    let nobody = output("fetch", &["http://127.0.0.1:0/"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("port"));
}

// Flags

#[test]
fn help_tells_of_every_flag() {
    for name in ["echo", "upgrade_echo", "fileserver", "relay"] {
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

/// What has no authentication is to be built in as well as asked for.
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

// echo

fn echo_gives_back_what_it_gets(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let mut client = echo.client();
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "PURGE", "TRACE"] {
        let answer =
            client.request(&format!("{method} /any/path?x=%00"), &["Content-Length: 5"]).send("hello").answer();
        assert_eq!((answer.assert(200).text(), answer.get("content-length")), ("hello", Some("5")), "{method}");
        let answer = client.request(&format!("{method} /"), &["Cookie: secret"]).answer();
        assert_eq!((answer.assert(200).text(), answer.get("content-length")), ("", Some("0")), "{method}");
    }
    let answer = client.request("OPTIONS *", &[]).answer();
    assert_eq!(answer.assert(200).text(), "");

    let answer = client.post("/", &["Content-Type: text/x-mine"], b"kind").answer();
    assert_eq!((answer.get("content-type"), answer.text()), (Some("text/x-mine"), "kind"));
    assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
    let answer = client.post("/", &[], b"kind").answer();
    assert_eq!(answer.get("content-type"), Some("application/octet-stream"));

    // HEAD says what it would be.
    let head = client.request("HEAD /", &["Content-Length: 5"]).send("hello").head();
    assert_eq!(head.assert(200).get("content-length"), Some("5"));

    // Many on one connection, larger than everything on their way.
    let large = noise(3 << 20);
    for _ in 0..3 {
        let mut other = echo.client();
        for _ in 0..2 {
            other.request("PUT /", &[&format!("Content-Length: {}", large.len())]);
            let (first, rest) = large.split_at(1);
            let head = other.send(first).head();
            assert_eq!(head.assert(200).get("content-length"), Some(&*large.len().to_string()));
            assert_eq!(other.exactly(1).expect("the first"), first);
            assert!(send_while_reading(&mut other, rest) == rest);
        }
        assert_eq!(other.post("/", &[], b"still there").answer().text(), "still there");
    }

    // Asked for, not before.
    client.request("POST /", &["Content-Length: 2", "Expect: 100-continue"]);
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send("hi").answer().assert(200).text(), "hi");

    // A client that has finished still gets its answer.
    client.post("/", &[], b"bye").finish();
    assert_eq!(client.answer().assert(200).text(), "bye");
    assert!(client.is_closed());
    for _ in 0..20 {
        let mut other = echo.client();
        other.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nbye").finish();
        assert_eq!(other.answer().assert(200).text(), "bye");
    }

    // 200 to CONNECT means a tunnel.
    let mut tunnel = echo.client();
    tunnel.send("CONNECT there:80 HTTP/1.1\r\nHost: there:80\r\n\r\nright behind it");
    let head = tunnel.head();
    assert_eq!((head.status, head.get("content-length")), (200, None));
    assert_eq!(tunnel.exactly(15).expect("an echo"), b"right behind it");
    tunnel.finish();
    assert_eq!(tunnel.read_to_end().expect("an end in order"), b"");
    echo.stop();
}

fn echo_streams(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let mut client = echo.client();
    client.request("POST /", &["Transfer-Encoding: chunked", "Trailer: X-Sum"]);
    client.chunk(b"first");
    let head = client.head();
    assert!(head.assert(200).is_chunked());
    assert_eq!(client.next_chunk().expect("a chunk").as_deref(), Some(&b"first"[..]));
    // The answer comes while the request still goes on.
    client.chunk(b"second");
    assert_eq!(client.next_chunk().expect("a chunk").as_deref(), Some(&b"second"[..]));
    client.send("0\r\nX-Sum: 42\r\n\r\n");
    assert_eq!(client.line().expect("a line"), "0");
    assert_eq!(client.line().expect("a line"), "X-Sum: 42");
    assert_eq!(client.line().expect("a line"), "");
    assert_eq!(client.post("/", &[], b"next").answer().text(), "next");
    // A body that breaks off is not given back as if it were whole.
    client.request("POST /", &["Content-Length: 10"]).send("half");
    assert_eq!(client.head().get("content-length"), Some("10"));
    assert_eq!(client.exactly(4).expect("half"), b"half");
    client.finish();
    assert!(client.exactly(1).is_err());
    echo.stop();
}

fn echo_pushes_back(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let mut client = echo.client();
    client.request("POST /", &["Content-Length: 1000000000"]);
    let block = noise(64 * 1024);
    let mut sent = 0;
    while let Some(n) = client.push(&block[sent % block.len()..], MOMENT) {
        sent += n;
        assert!(sent < 100 << 20, "nobody reads, and everything is taken");
    }
    let rss = fs::read_to_string(format!("/proc/{}/status", echo.child.id()));
    if let Some(line) = rss.unwrap_or_default().lines().find(|line| line.starts_with("VmHWM:")) {
        let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert!(kib < 64 * 1024, "{kib} KiB");
    }
    // A blocking client of rustls can't read before it has written what it was given, so over TLS this is a dead end.
    if !setup.tls {
        client.head().assert(200);
        read_back(&mut client, &block, sent);
    }
    client.leave();
    echo.stop();
}

fn echo_finishes_what_is_under_way_when_stopped(setup: Setup) {
    let echo = Example::start("echo", setup, &[]);
    let (mut busy, mut idle) = (echo.client(), echo.client());
    idle.post("/", &[], b"x").answer().assert(200);
    busy.request("POST /", &["Content-Length: 10"]).send("first");
    busy.head().assert(200);
    assert_eq!(busy.exactly(5).expect("an echo"), b"first");
    echo.terminate();
    assert!(idle.is_closed(), "what is idle is closed");
    assert_eq!(busy.send("after").exactly(5).expect("an echo"), b"after");
    assert!(busy.is_closed());
    echo.ends();
}

// upgrade_echo

const UPGRADE: [&str; 2] = ["Connection: Upgrade", "Upgrade: echo"];

fn websocket_echo_gives_back_every_message(setup: Setup) {
    let deflated = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
    for (flags, extension) in [(&[][..], None), (&["--deflate"], Some("permessage-deflate"))] {
        let echo = Example::start("websocket_echo", setup, flags);
        assert!(echo.ask("GET /", &[]).assert(200).text().contains("WebSocket"));
        echo.ask("GET /", &["Connection: upgrade", "Upgrade: websocket"]).assert(400);
        let mut client = echo.client();
        let handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
        let key = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions: permessage-deflate"];
        let head = client.request("GET /", &[&handshake[..], &key].concat()).head();
        assert_eq!(head.assert(101).get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(head.get("sec-websocket-extensions"), extension);
        // The RFC's own frame; then, if it was agreed on, its compressed one; masked with zeros.
        client.send(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        let first = client.exactly(2).expect("a head");
        match extension {
            None => assert_eq!((&first[..], client.exactly(5).expect("an echo")), (&b"\x81\x05"[..], b"Hello".into())),
            Some(_) => {
                assert_eq!((&first[..], client.exactly(7).expect("an echo")), (&b"\xc1\x07"[..], deflated[6..].into()));
                client.send(deflated);
                let again = client.exactly(2).expect("a head");
                assert!(again[0] == 0xc1 && again[1] < 7, "the second one refers to the first: {again:x?}");
                client.exactly(again[1].into()).expect("an echo");
            }
        }
        client.send(b"\x88\x80\0\0\0\0");
        assert_eq!(client.exactly(2).expect("a Close"), b"\x88\x00");
        assert!(client.is_closed());
    }
}

fn upgrade_echo_gives_back_every_byte(setup: Setup) {
    let echo = Example::start("upgrade_echo", setup, &["--grace", "1000"]);
    for fields in [&[][..], &["Connection: Upgrade", "Upgrade: other"], &["Upgrade: echo"]] {
        let answer = echo.ask("GET /", fields);
        assert_eq!(answer.assert(426).get("upgrade"), Some("echo"));
        assert_eq!(answer.get("connection"), Some("upgrade"));
        assert!(answer.text().contains("Upgrade: echo"));
    }
    let mut client = echo.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: ECHO\r\n\r\nright behind it");
    let head = client.head();
    assert_eq!(head.assert(101).get("upgrade"), Some("echo"));
    assert_eq!(client.exactly(15).expect("an echo"), b"right behind it");
    for byte in b"one by one" {
        assert_eq!(client.send([*byte]).exactly(1).expect("an echo"), [*byte]);
    }
    let large = noise(1 << 20);
    assert!(send_while_reading(&mut client, &large) == large);
    // The rest comes back, and then the end.
    client.send(&large[..30_000]).finish();
    assert!(client.read_to_end().expect("an end in order") == large[..30_000]);

    let mut idle = echo.client();
    idle.request("GET /", &UPGRADE).head().assert(101);
    echo.terminate();
    assert_eq!(idle.read_to_end().expect("an end in order"), b"");
    drop(idle); // the server would wait a moment for our end of it
    echo.ends();
}

fn upgrade_echo_pushes_back(setup: Setup) {
    let echo = Example::start("upgrade_echo", setup, &["--grace", "0"]);
    let mut client = echo.client();
    client.request("GET /", &UPGRADE).head().assert(101);
    let block = noise(64 * 1024);
    let mut sent = 0;
    while let Some(n) = client.push(&block[sent % block.len()..], MOMENT) {
        sent += n;
        assert!(sent < 100 << 20, "nobody reads, and everything is taken");
    }
    if !setup.tls {
        read_back(&mut client, &block, sent);
    }
    // It is still there when the server is to stop, and does not hold it up.
    echo.stop();
    drop(client);
}

// external_select

#[test]
fn external_select_serves_beside_the_keyboard_and_a_timer() {
    let mut command = Command::new(program("external_select"));
    command.args(["--listen", "127.0.0.1:0"]);
    let mut program = Example::run(command, None);
    let mut client = program.client();
    assert!(client.request("GET /", &[]).answer().assert(200).text().contains("request 1"));
    let mut stdin = program.stdin.take().expect("piped");
    stdin.write_all(b"a line in two").expect("written");
    stdin.flush().expect("flushed");
    stdin.write_all(b" pieces\n").expect("written");
    stdin.flush().expect("flushed");
    let typed =
        |client: &mut Client| client.request("GET /", &[]).answer().text().starts_with("a line in two pieces\n");
    assert!((0..10_000).any(|_| typed(&mut client)), "what was typed is the page");
    let ticked = |client: &mut Client| !client.request("GET /", &[]).answer().text().contains("up 0 s");
    assert!((0..1_000_000).any(|_| ticked(&mut client)), "the timer ticks");
    stdin.write_all(b"quit\n").expect("written");
    program.ends();
    assert!(client.is_closed());
}

#[test]
fn external_select_ends_at_a_signal_and_outlives_its_keyboard() {
    let mut command = Command::new(program("external_select"));
    command.args(["--listen", "127.0.0.1:0"]);
    let mut program = Example::run(command, None);
    drop(program.stdin.take());
    program.ask("GET /", &[]).assert(200);
    program.stop();
}

// fileserver

fn fileserver_serves(setup: Setup) {
    let dir = Dir::new();
    let large = noise(3 << 20);
    dir.file("page.html", "<h1>A page</h1>");
    dir.file("data.bin", &large);
    dir.file("with index/index.html", "the index");
    dir.file("empty", "");
    let files = Example::start("fileserver", setup, &["--root", dir.0.to_str().expect("text")]);
    let mut client = files.client();

    let page = client.request("GET /page.html", &[]).answer();
    assert_eq!((page.assert(200).text(), page.get("content-length")), ("<h1>A page</h1>", Some("15")));
    assert_eq!(page.get("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.get("last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
    assert_eq!((page.get("accept-ranges"), page.get("x-content-type-options")), (Some("bytes"), Some("nosniff")));
    let head = client.request("HEAD /page.html", &[]).head();
    assert_eq!((head.get("etag"), head.get("content-length")), (page.get("etag"), Some("15")));

    let data = client.request("GET /data.bin", &[]).answer();
    assert_eq!(data.assert(200).get("content-type"), Some("application/octet-stream"));
    assert!(data.body == large);
    let part = client.request("GET /data.bin", &["Range: bytes=1000000-2999999"]).answer();
    assert_eq!(part.assert(206).get("content-range"), Some("bytes 1000000-2999999/3145728"));
    assert!(part.body == large[1_000_000..3_000_000]);
    assert_eq!(client.request("GET /empty", &[]).answer().assert(200).body, b"");
    assert_eq!(client.request("GET /with%20index/", &[]).answer().assert(200).text(), "the index");
    files.stop();
}

#[test]
fn fileserver_answers_ranges_and_conditions() {
    let dir = Dir::new();
    dir.file("digits.txt", "0123456789");
    let files = Example::start("fileserver", PLAIN, &["--root", dir.0.to_str().expect("text")]);
    let mut client = files.client();
    let whole = client.request("GET /digits.txt", &[]).answer();
    let etag = whole.assert(200).get("etag").expect("an entity tag").to_owned();
    assert!(etag.starts_with('"'), "strong, for a file that has not changed for long: {etag}");

    let mut ask = |line: &str, fields: &[String]| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        client.request(line, &fields);
        if line.starts_with("HEAD") { client.head() } else { client.answer() }
    };
    let get = "GET /digits.txt";
    for (range, status, said, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-2", 206, "bytes 8-9/10", "89"),
        ("bytes=0-999", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=10-", 416, "bytes */10", "It has 10 bytes, and none of these.\n"),
        ("bytes=-0", 416, "bytes */10", "It has 10 bytes, and none of these.\n"),
        ("bytes=4-2", 200, "", "0123456789"),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
        ("lines=0-1", 200, "", "0123456789"),
    ] {
        let answer = ask(get, &[format!("Range: {range}")]);
        let content_range = answer.get("content-range").unwrap_or_default();
        assert_eq!((answer.status, content_range, answer.text()), (status, said, body), "{range}");
    }
    // Ranges are for GET alone.
    assert_eq!(ask("HEAD /digits.txt", &["Range: bytes=2-4".into()]).status, 200);

    let (same, before, after) =
        ("Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:39 GMT", "Sunday, 09-Sep-01 01:46:41 GMT");
    for (fields, status) in [
        (vec![format!("If-None-Match: {etag}")], 304),
        (vec![format!("If-None-Match: \"x\", W/{etag}")], 304),
        (vec!["If-None-Match: \"x\"".into(), format!("If-None-Match: {etag}")], 304),
        (vec!["If-None-Match: *".into()], 304),
        (vec!["If-None-Match: \"x\"".into()], 200),
        (vec!["If-None-Match: \"x\"".into(), format!("If-Modified-Since: {same}")], 200),
        (vec![format!("If-Modified-Since: {same}")], 304),
        (vec![format!("If-Modified-Since: {after}")], 304),
        (vec![format!("If-Modified-Since: {before}")], 200),
        (vec!["If-Modified-Since: yesterday".into()], 200),
        (vec![format!("If-Match: {etag}")], 200),
        (vec!["If-Match: *".into()], 200),
        (vec![format!("If-Match: W/{etag}")], 412),
        (vec!["If-Match: \"x\"".into()], 412),
        (vec![format!("If-Unmodified-Since: {same}")], 200),
        (vec![format!("If-Unmodified-Since: {before}")], 412),
        (vec![format!("If-Match: {etag}"), format!("If-Unmodified-Since: {before}")], 200),
        (vec![format!("If-Range: {etag}"), "Range: bytes=0-0".into()], 206),
        (vec![format!("If-Range: W/{etag}"), "Range: bytes=0-0".into()], 200),
        (vec!["If-Range: \"x\"".into(), "Range: bytes=0-0".into()], 200),
        (vec![format!("If-Range: {same}"), "Range: bytes=0-0".into()], 206),
        (vec![format!("If-Range: {after}"), "Range: bytes=0-0".into()], 200),
        (vec![format!("If-None-Match: {etag}"), "Range: bytes=0-0".into()], 304),
    ] {
        let answer = ask(get, &fields);
        assert_eq!(answer.status, status, "{fields:?}");
        if status == 304 {
            assert_eq!((answer.get("etag"), answer.get("content-length")), (Some(&*etag), None), "{fields:?}");
        }
        assert_eq!(ask("HEAD /digits.txt", &fields).status, if status == 206 { 200 } else { status }, "{fields:?}");
    }

    // A change is seen.
    dir.file("digits.txt", "abc");
    let changed = ask(get, &[format!("If-None-Match: {etag}")]);
    assert_eq!(changed.assert(200).text(), "abc");
    assert_ne!(changed.get("etag"), Some(&*etag));

    for method in ["POST", "PUT", "DELETE", "PURGE"] {
        let answer = ask(&format!("{method} /digits.txt"), &["Content-Length: 0".into()]);
        assert_eq!(answer.assert(405).get("allow"), Some("GET, HEAD, OPTIONS"));
    }
    assert_eq!(ask("OPTIONS *", &[]).assert(204).get("allow"), Some("GET, HEAD, OPTIONS"));
    files.stop();
}

#[test]
fn fileserver_lets_nobody_out() {
    let dir = Dir::new();
    dir.file("www/in.txt", "inside");
    dir.file("www/sub/deep.txt", "deep");
    dir.file("www/.secret", "hidden");
    dir.file("www/.git/config", "hidden");
    dir.file("www/.well-known/it", "public");
    dir.file("www/%2e%2e", "a name with percent signs");
    dir.file("www-private/key", "outside");
    dir.file("key", "outside");
    let www = dir.0.join("www");
    symlink("../key", www.join("out.txt")).expect("linked");
    symlink("..", www.join("up")).expect("linked");
    symlink("../www-private", www.join("private")).expect("linked");
    symlink("/", www.join("all")).expect("linked");
    symlink("sub/deep.txt", www.join("link.txt")).expect("linked");
    symlink("loop", www.join("loop")).expect("linked");
    symlink("/dev/zero", www.join("zero")).expect("linked");
    let _socket = std::os::unix::net::UnixListener::bind(www.join("s")).ok(); // the path may be too long for one
    let fifo = Command::new("mkfifo").arg(www.join("fifo")).status().is_ok_and(|status| status.success());

    let files = Example::start("fileserver", PLAIN, &["--root", www.to_str().expect("text")]);
    let mut client = files.client();
    let mut get = |path: &str| client.request(&format!("GET {path}"), &[]).answer();
    for path in [
        "/../key",
        "/../www-private/key",
        "/sub/../../key",
        "/%2e%2e/key",
        "/.%2E/key",
        "/..%2fkey",
        "/%2e%2e%2fkey",
        "/sub/%2e%2e/in.txt",
        "/..%5ckey",
        "/..\\key",
        "//key",
        "//",
        "/sub//deep.txt",
        "/./in.txt",
        "/in.txt%00",
        "/%00",
        "/in.txt%00.html",
        "/%",
        "/%2",
        "/%zz",
        "/sub/..",
    ] {
        let answer = get(path);
        assert!(matches!(answer.status, 400), "{path}: {answer:?}");
        assert!(answer.get("location").is_none(), "{path}");
    }
    for path in [
        "/out.txt",
        "/up/key",
        "/up",
        "/up/",
        "/up/www/in.txt/",
        "/private/key",
        "/private/",
        "/all/etc/passwd",
        "/zero",
        "/loop",
        "/.secret",
        "/.git/config",
        "/.git",
        "/.git/",
        "/nothing",
        "/in.txt/",
        "/in.txt/x",
        "/%252e%252e/key",
    ] {
        assert_eq!(get(path).status, 404, "{path}");
    }
    if fifo {
        assert_eq!(get("/fifo").status, 403);
    }
    for (path, body) in [
        ("/in.txt", "inside"),
        ("/link.txt", "deep"),
        ("/sub/deep.txt", "deep"),
        ("/.well-known/it", "public"),
        ("/%252e%252e", "a name with percent signs"),
        ("/i%6E.txt?key=../..", "inside"),
        ("http://elsewhere/in.txt", "inside"),
    ] {
        assert_eq!(get(path).assert(200).text(), body, "{path}");
    }
    // To a directory's one spelling, and never to another host.
    for (path, to) in [("/sub", "/sub/"), ("/s%75b", "/sub/"), ("/sub?q=//evil", "/sub/?q=//evil")] {
        assert_eq!(get(path).assert(301).get("location"), Some(to), "{path}");
    }
    let listing = get("/");
    for name in ["in.txt", "link.txt", "sub/", "%252e%252e", ".well-known/"] {
        assert!(listing.text().contains(&format!("href=\"{name}\"")), "{name}: {}", listing.text());
    }
    for name in ["out.txt", "up", "private", "all", "zero", "loop", "fifo", "s", ".secret", ".git", "..", "%2e%2e"] {
        for link in [format!("href=\"{name}\""), format!("href=\"{name}/\"")] {
            assert!(!listing.text().contains(&link), "{link}: {}", listing.text());
        }
    }
    let open = Example::start("fileserver", PLAIN, &["--hidden", "--root", www.to_str().expect("text")]);
    assert_eq!(open.ask("GET /.secret", &[]).assert(200).text(), "hidden");
    assert_eq!(open.ask("GET /out.txt", &[]).status, 404);
}

#[test]
fn fileserver_lists_strange_names() {
    let dir = Dir::new();
    dir.file("b <script>.txt", "x");
    dir.file("a\"'&.txt", "quotes");
    dir.file("javascript:alert(1)", "a colon");
    dir.file("zdir/x", "x");
    dir.file("ä ö", "umlauts");
    let files = Example::start("fileserver", PLAIN, &["--root", dir.0.to_str().expect("text")]);
    let listing = files.ask("GET /", &[]);
    let text = listing.assert(200).text();
    assert_eq!(listing.get("content-type"), Some("text/html; charset=utf-8"));
    assert!(!text.contains("<script") && text.contains("b &lt;script&gt;.txt"), "{text}");
    let links: Vec<&str> = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(
        links,
        ["zdir/", "a%22%27%26.txt", "b%20%3Cscript%3E.txt", "javascript%3Aalert%281%29", "%C3%A4%20%C3%B6"],
        "directories first, each sorted"
    );
    for (link, content) in links[1..].iter().zip(["quotes", "x", "a colon", "umlauts"]) {
        assert_eq!(files.ask(&format!("GET /{link}"), &[]).assert(200).text(), content, "{link}");
    }
    assert!(files.ask("GET /zdir/", &[]).text().contains("href=\"../\""));
}

// relay

#[cfg(not(feature = "relay"))]
fn relay_passes_a_file_on(_: Setup) {}

#[cfg(feature = "relay")]
fn relay_passes_a_file_on(setup: Setup) {
    let relay = Example::start("relay", setup, &[]);
    let page = relay.ask("GET /", &[]);
    assert!(page.assert(200).text().contains("curl"));

    let mut host = relay.client();
    let session = host.request("PUT /cama/session", &["Content-Length: 0"]).answer();
    let path = session.assert(201).get("location").expect("a session").to_owned();
    let cookie = session.get("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a token").to_owned();

    let file = noise(5 << 20);
    let (sent, guest_path) = (file.clone(), path.clone());
    let mut guest = relay.client();
    let sender = std::thread::spawn(move || guest.post(&guest_path, &[], &sent).answer().status);
    let received = host.request(&format!("GET {path}"), &[&format!("Cookie: {cookie}")]).answer();
    assert_eq!(received.assert(200).get("content-length"), Some(&*file.len().to_string()));
    assert!(received.body == file, "byte for byte");
    assert!((200..300).contains(&sender.join().expect("sent")));
    relay.stop();
}

/// The lines of the README, as they stand there.
#[cfg(feature = "relay")]
#[test]
fn relay_works_with_curl_where_there_is_one() {
    let version = Command::new("curl").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    let version: Vec<u32> = version.split([' ', '.']).skip(1).map_while(|n| n.parse().ok()).collect();
    if version < vec![7, 84] {
        return; // `%header{}` is not older
    }
    let dir = Dir::new();
    let file = dir.file("photo.jpg", noise(1 << 20));
    for tls in [false, true] {
        let relay = Example::start("relay", Setup { tls, ..PLAIN }, &[]);
        let url = format!("{}://localhost:{}", relay.scheme, relay.addr.port());
        let script = "set -e; cd \"$DIR\"\n\
            S=$U/stream/$(curl -s -4 --cacert $CA -X POST $U/stream | cut -d '\"' -f 4)\n\
            curl -s -4 --cacert $CA -T photo.jpg $S &\n\
            curl -s -4 --cacert $CA -o copy.jpg $S\n\
            wait $!\n\
            cmp photo.jpg copy.jpg; rm copy.jpg\n\
            curl -s -4 --cacert $CA $S/status | grep -q FINISHED\n\
            S=$U$(curl -s -4 --cacert $CA -c jar.txt -o /dev/null -w '%header{location}' -X PUT $U/cama/session)\n\
            curl -s -4 --cacert $CA -X POST -T photo.jpg $S &\n\
            curl -s -4 --cacert $CA -b jar.txt -o copy.jpg $S\n\
            wait $!\n";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("U", &url).env("DIR", &dir.0).env("CA", &identity().cert);
        let output = shell.output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut copy = Vec::new();
        File::open(dir.0.join("copy.jpg")).and_then(|mut copy_of| copy_of.read_to_end(&mut copy)).expect("a copy");
        assert!(copy == fs::read(&file).expect("the file"));
        fs::remove_file(dir.0.join("copy.jpg")).expect("removed");
        relay.stop();
    }
}
