//! `examples/origin` as a user starts it, at a proxy of the test: the checks of spdy-proxy's own tests, a forwarded
//! server, wrong flags, and its end.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant, SystemTime},
};

use uncork::{Action, EndReason, Produced, Request, Response, Server, Tx, ws};

use super::{
    client::{TIMEOUT, TestResponse},
    origin::site,
    program::program,
    site::bytes,
    world::{World, identity},
};

const HOST: &str = "Host: app.example";

/// A directory that is removed at the end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("origin-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        Self(dir)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).expect("written");
        // An old date: the entity tag of a new file is weak for two seconds, and a test must not reach their end.
        let written = fs::File::options().write(true).open(&path).expect("there");
        written.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("set");
        path.to_str().expect("text").to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program, and its output.
pub(crate) struct Origin {
    child: Child,
    lines: Receiver<String>,
}

impl Origin {
    pub(crate) fn start(world: &World, dir: &Dir, token: &str, args: &[&str]) -> Self {
        let ca = dir.file("ca.pem", identity().pem.as_bytes());
        let proxy = format!("localhost:{}", world.origins.port());
        let mut child = Command::new(program("origin"))
            .args(["--proxy", &proxy, "--host", "app.example", "--ca", &ca])
            .args(args)
            .env("UNCORK_TOKEN", token)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines }
    }

    /// Waits for the next line of output that contains `what`.
    #[track_caller]
    pub(crate) fn expect_line(&self, what: &str) -> String {
        let (end, mut lines) = (Instant::now() + TIMEOUT, Vec::new());
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => lines.push(line),
                Err(_) => panic!("no line with {what:?}, but {lines:?}"),
            }
        }
    }

    fn terminate(&self) {
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.child.id().to_string()]).status();
        assert!(sent.expect("a shell").success());
    }

    fn wait_ended(mut self) {
        let status = self.child.wait().expect("the end of the child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the proxy forwards to the program.
pub(crate) fn wait_served(world: &World) {
    let end = Instant::now() + TIMEOUT;
    while fetch(world, "GET /", &[]).status == 502 {
        assert!(Instant::now() < end, "the origin server does not join");
    }
}

#[track_caller]
pub(crate) fn fetch(world: &World, line: &str, fields: &[&str]) -> TestResponse {
    let mut client = world.client();
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(format!("{line} HTTP/1.1\r\n{HOST}\r\n{fields}\r\n"));
    if line.starts_with("HEAD ") { client.head() } else { client.response() }
}

/// The fields of a response that do not depend on its time.
fn fields(response: &TestResponse) -> Vec<(String, String)> {
    let mut fields: Vec<_> =
        response.fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date")).cloned().collect();
    fields.sort();
    fields
}

#[test]
fn a_directory_is_published() {
    for mode in ["threads", "external"] {
        let world = World::new();
        let dir = Dir::new(mode);
        let files = [
            ("pic.jpg", "image/jpeg", 300_001),
            ("film.avi", "video/x-msvideo", 700_000),
            ("film.mkv", "video/x-matroska", 700_003),
            ("film.mp4", "video/mp4", 4_092_532),
        ];
        let content = |n: usize| {
            let mut content = vec![0; n];
            fill_random(&mut content);
            content
        };
        let files = files.map(|(name, kind, n)| (name, kind, content(n)));
        for (name, _, content) in &files {
            dir.file(name, content);
        }
        let root = dir.0.to_str().expect("text");
        let origin = Origin::start(&world, &dir, "app", &["--root", root, "--mode", mode]);
        let line = origin.expect_line("connected to 127.0.0.1:");
        assert!(line.contains("published: app.example"), "{line}");
        wait_served(&world);
        let listing = fetch(&world, "GET /", &[]);
        assert_eq!(listing.assert(200).get("content-type"), Some("text/html; charset=utf-8"));
        for (name, kind, content) in &files {
            assert!(listing.text().contains(name));
            let response = fetch(&world, &format!("GET /{name}"), &[]);
            assert!(response.assert(200).body == *content, "{name}");
            let length = content.len().to_string();
            for (field, value) in [("accept-ranges", "bytes"), ("content-length", &length), ("content-type", kind)] {
                assert_eq!(response.get(field), Some(value), "{name}");
            }
            let head = fetch(&world, &format!("HEAD /{name}"), &[]);
            assert_eq!(fields(head.assert(200)), fields(&response), "HEAD has the fields of GET");
            let since = format!("If-Modified-Since: {}", response.get("last-modified").expect("a time"));
            assert_eq!(fetch(&world, &format!("GET /{name}"), &[&since]).assert(304).body.len(), 0);
        }
        let part = fetch(&world, "GET /film.mp4", &["Range: bytes=512-2047"]);
        assert_eq!(part.assert(206).get("content-range"), Some("bytes 512-2047/4092532"));
        assert!(part.body == files[3].2[512..2048]);
        fetch(&world, "GET /nothing", &[]).assert(404);
        origin.terminate();
        origin.expect_line("the server stops");
        origin.wait_ended();
    }
}

/// A status line that ends behind its code does not cause a 502; an ambiguous one still does.
#[test]
fn a_server_that_sends_no_reason_phrase_is_usable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut lines = BufReader::new(&stream);
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).is_ok_and(|n| n > 0) {}
            let line = if head.starts_with("GET /bad") { "HTTP/1.1 200\nX: y" } else { "HTTP/1.1 201" };
            let _ = write!(&stream, "{line}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    let world = World::new();
    let dir = Dir::new("phrase");
    let _origin = Origin::start(&world, &dir, "app", &["--forward", &url]);
    wait_served(&world);
    assert_eq!(fetch(&world, "GET /", &[]).assert(201).text(), "ok");
    fetch(&world, "GET /bad", &[]).assert(502);
}

/// Its own token, keys and certificates are not served, and neither are files that only their owner may read.
#[test]
fn private_files_are_not_published() {
    let world = World::new();
    let dir = Dir::new("private");
    let token = dir.file("token", b"app");
    let private = dir.file("private", b"private");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("set");
    fs::hard_link(&token, dir.0.join("hard")).expect("linked");
    dir.file("public", b"public");
    let root = dir.0.to_str().expect("text");
    for more in [&[][..], &["--serve-private"]] {
        let args = [&["--root", root, "--token-file", &token], more].concat();
        let origin = Origin::start(&world, &dir, "wrong", &args);
        wait_served(&world);
        let listing = fetch(&world, "GET /", &[]);
        for name in ["token", "hard", "ca.pem"] {
            fetch(&world, &format!("GET /{name}"), &[]).assert(403);
            assert!(!listing.assert(200).text().contains(name), "{name}: {}", listing.text());
        }
        fetch(&world, "GET /private", &[]).assert(if more.is_empty() { 403 } else { 200 });
        assert_eq!(fetch(&world, "GET /public", &[]).assert(200).text(), "public");
        origin.terminate();
        origin.wait_ended();
    }
}

fn fill_random(into: &mut [u8]) {
    fs::File::open("/dev/urandom").expect("randomness").read_exact(into).expect("randomness");
}

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// Returns a frame of WebSocket. A masked one has the key 0, which changes no byte.
fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..126 => frame.push(mask | n as u8),
        n => {
            frame.push(mask | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend([0; 4]);
    }
    [frame, payload.to_vec()].concat()
}

/// Echoes WebSocket messages.
#[derive(Default)]
struct Echo(Option<ws::Sender>);

impl ws::Handler for Echo {
    fn open(&mut self, sender: &ws::Sender) {
        self.0 = Some(sender.clone());
    }

    fn message(&mut self, message: ws::Message<'_>, done: ws::Done) {
        if let Some(sender) = &self.0 {
            let _closing = sender.message(message);
            sender.on_room(move || done.next());
        }
    }
}

#[test]
fn requests_are_forwarded_to_a_local_server() {
    let ((end, ended), (arrival, arrived)) = (channel(), channel());
    let tickets = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let handler = move |req: &mut Request<'_>| -> Action {
        if ["/base/pause", "/base/wait"].contains(&req.path()) {
            let end = end.clone();
            req.on_end(move |request| {
                let _ = end.send(request.reason);
            });
            arrival.send(()).expect("a receiver");
            if req.path() == "/base/pause" {
                return Response::stream(|_: &mut Tx<'_>| Produced::Pending).into();
            }
            tickets.lock().expect("no panic").push(req.ticket());
            return Action::Suspend;
        }
        match ws::check(req) {
            Ok(accept) if req.path() == "/base/ws" => accept.switch(Echo::default()).0.into(),
            Err(rejection) if req.path() == "/base/ws" => rejection.into(),
            _ => site(req),
        }
    };
    let running = Server::bind("127.0.0.1:0").expect("bound").threads(1, handler).expect("running");
    let url = format!("http://{}/base/", running.local_addr().expect("an address"));
    let world = World::new();
    let dir = Dir::new("forward");
    let origin = Origin::start(&world, &dir, "app", &["--forward", &url]);
    origin.expect_line("connected");
    wait_served(&world);
    assert_eq!(fetch(&world, "GET /a?b=c", &[]).assert(200).text(), "GET /base/a");
    let mut client = world.client();
    let body = b"hello=world";
    client.send(format!("POST /echo?x HTTP/1.1\r\n{HOST}\r\nContent-Length: {}\r\n\r\n", body.len())).send(body);
    assert_eq!(client.response().assert(200).text(), "POST /base/echo");
    // WebSocket, from end to end: proxy, tunnel, origin server, server.
    let mut client = world.client();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    client.send(format!("GET /ws HTTP/1.1\r\n{HOST}\r\n{upgrade}\r\n{key}\r\n\r\n")).head().assert(101);
    for size in [0, 1, 125, 70_000] {
        let (message, echoed) = (frame(BINARY, true, &bytes(size)), frame(BINARY, false, &bytes(size)));
        assert!(client.send(message).exactly(echoed.len()).expect("an echo") == echoed, "{size}");
    }
    let end = frame(CLOSE, false, b"");
    assert_eq!(client.send(frame(CLOSE, true, b"")).exactly(end.len()).expect("a Close frame"), end);
    // A client that disconnects while the server's response pauses, or before it begins: the server is notified.
    for path in ["/pause", "/wait"] {
        let mut client = world.client();
        client.send(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n\r\n"));
        arrived.recv_timeout(TIMEOUT).expect("the server has received it");
        if path == "/pause" {
            client.head().assert(200);
        }
        client.leave();
        assert_eq!(ended.recv_timeout(TIMEOUT), Ok(EndReason::PeerClosed), "{path}");
    }
    // The server has stopped: a clear response.
    running.stop_now().expect("ended normally");
    assert!(fetch(&world, "GET /", &[]).assert(502).text().contains("cannot be reached"));
    origin.expect_line("cannot forward a request");
}

#[test]
fn requests_under_way_are_finished_at_sigterm() {
    let world = World::new();
    let (dir, content) = (Dir::new("drain"), bytes(6_000_000));
    dir.file("large", &content);
    let origin = Origin::start(&world, &dir, "app", &["--root", dir.0.to_str().expect("text")]);
    origin.expect_line("connected");
    wait_served(&world);
    let mut client = world.client();
    let head = client.send(format!("GET /large HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
    head.assert(200);
    let mut got = client.exactly(100_000).expect("its beginning");
    origin.terminate();
    // It is stopping: new requests are rejected.
    let end = Instant::now() + TIMEOUT;
    while fetch(&world, "HEAD /large", &[]).status != 502 {
        assert!(Instant::now() < end, "the connection continues");
        std::thread::sleep(Duration::from_millis(10));
    }
    got.extend(client.exactly(content.len() - got.len()).expect("the rest"));
    assert!(got == content);
    origin.wait_ended();
}

#[test]
fn errors_are_reported_in_words() {
    let world = World::new();
    let dir = Dir::new("wrong");
    let root = dir.0.to_str().expect("text").to_owned();
    let origin = Origin::start(&world, &dir, "wrong", &["--root", &root]);
    let line = origin.expect_line("401");
    assert!(line.contains("check the token") && line.contains("next attempt in"), "{line}");
    drop(origin);
    let pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let origin = Origin::start(&world, &dir, "app", &["--root", &root, "--pin", pin]);
    origin.expect_line("the server's key is not the pinned one: its SHA-256 is ");
    drop(origin);
    let output = |args: &[&str], token: &str| {
        let output = Command::new(program("origin")).args(args).env("UNCORK_TOKEN", token).output().expect("started");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let valid = ["--proxy", "a.example:1", "--host", "b.example", "--root", &root, "--pin", &"0".repeat(64)];
    for (wrong, token, expected) in [
        (vec!["--proxy", "a.example:1", "--host", "b.example"], "t", "--root <DIR>|--forward <URL>"),
        (valid.to_vec(), "", "no token: set UNCORK_TOKEN"),
        ([&valid[..6], &["--pin", "abc"]].concat(), "t", "expected 32 bytes of SHA-256, got 2"),
        ([&valid[..6], &["--ca", "/no/such/file"]].concat(), "t", "/no/such/file: no such file"),
        ([&valid[..4], &["--forward", "ftp://a", "--pin", valid[7]]].concat(), "t", "as in http://127.0.0.1:3000"),
        (
            [&valid[..4], &["--forward", "http://a", "--via", "a b", "--pin", valid[7]]].concat(),
            "t",
            "invalid name for Via: must have 1 to 64",
        ),
        ([&["--proxy", "https://a"], &valid[2..]].concat(), "t", "expected a name and a port"),
        (
            [&valid[..2], &["--host", "https://b.example/"], &valid[4..]].concat(),
            "t",
            "invalid host name \"https://b.example/\": expected a host without a scheme",
        ),
    ] {
        let (code, text) = output(&wrong, token);
        assert!(code == Some(2) && text.contains(expected), "{wrong:?}: {code:?} {text}");
    }
    let (code, help) = output(&["--help"], "");
    assert_eq!(code, Some(0));
    for flag in [
        "--proxy",
        "--host",
        "--token-file",
        "--ca",
        "--pin",
        "--forward",
        "--forward-requests",
        "--via",
        "--connections",
        "--mode",
        "--shutdown-timeout",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
}
