//! `examples/gateway` and `examples/chat`, started as a user starts them.
//!
//! `cargo test` builds the examples; `cargo test --test gateway` alone does not: `cargo build --examples` before it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    app::{App, agrees},
    client::TIMEOUT,
    frames::HANDSHAKE,
    program::{Example, PLAIN, Setup, output, program},
    socket::{CLOSE, PING, PONG, Socket, send_handshake},
    wire::Wire,
};

/// A configuration in a temporary file.
struct Config(PathBuf);

impl Config {
    fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gateway-{}-{}.yml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).expect("written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns its standard error when it cannot start, and its exit code.
fn fails(args: &[&str]) -> (String, Option<i32>) {
    let output = output("gateway", args);
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

fn wire(program: &Example) -> Wire {
    Wire::connect(program.addr, program.tls.clone(), None).expect("connected")
}

fn client(program: &Example, target: &str) -> Socket {
    Socket::over(wire(program), target, &[])
}

#[test]
fn the_gateway_says_what_it_is() {
    for version in ["-version", "--version"] {
        let Output { stdout, status, .. } = output("gateway", &[version]);
        let want = format!("ekbo version: {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((String::from_utf8_lossy(&stdout).as_ref(), status.code()), (want.as_str(), Some(0)));
    }
    for help in ["-h", "--help", "-help"] {
        let Output { stdout, status, .. } = output("gateway", &[help]);
        let text = String::from_utf8_lossy(&stdout);
        for flag in [
            "--config",
            "--port",
            "--sock",
            "--log-level",
            "--gops-addr",
            "--version",
            "--tls-cert",
            "--shutdown-timeout",
        ] {
            assert!(text.contains(flag), "{flag}: {text}");
        }
        assert!(status.success());
    }
}

#[test]
fn the_gateway_says_what_is_wrong() {
    let (stderr, code) = fails(&["-port", "1234", "-sock", "/tmp/x"]);
    assert_eq!((stderr.as_str(), code), ("error: port and sock option is duplicate.\n", Some(1)));
    let (stderr, code) = fails(&["-config", "/nowhere/at.all"]);
    assert!(stderr.starts_with("error: cannot read the settings in /nowhere/at.all: "), "{stderr}");
    assert!(stderr.contains("--config FILE names another one") && code == Some(1), "{stderr}");

    for (text, line, what) in [
        ("port: x\n", ":1:", "invalid port \"x\": must be a number"),
        (
            "port: 1\norigin_policy: any\n",
            ":2:",
            "invalid origin_policy \"any\": must be same_origin, same_hostname or none",
        ),
        ("a: b: c\n", ":1:", "invalid YAML"),
        ("port: {{ must_env \"NOT_SET_ANYWHERE\" }}", ":1:", "environment variable NOT_SET_ANYWHERE is not defined"),
    ] {
        let config = Config::new(text);
        let (stderr, code) = fails(&[&format!("-config={}", config.path())]);
        assert!(stderr.starts_with(&format!("error: {}{line} ", config.path())), "{stderr}");
        assert!(stderr.contains(what) && code == Some(1), "{stderr}");
    }
    for args in [&["-port", "x"][..], &["-log-level", "loud"], &["-no-such-flag"], &["word"]] {
        assert_eq!(fails(args).1, Some(2), "{args:?}");
    }
}

#[test]
fn the_gateway_serves() {
    let app = App::start(agrees);
    let config =
        Config::new("callback:\n  connect: {{ env \"APP_URL\" \"\" }}\n  close: {{ env \"APP_CLOSE\" \"\" }}\n");
    let setups = [PLAIN, Setup { tls: true, mode: "external" }, Setup { tls: false, mode: "thread-per-connection" }];
    for (n, setup) in setups.into_iter().enumerate() {
        let mut command = Command::new(program("gateway"));
        command.env("APP_URL", app.url("/connect")).env("APP_CLOSE", app.url("/close"));
        let gateway = Example::run_in(command, setup, &["-config", config.path(), "-log-level", "error"]);
        let mut client = client(&gateway, "/connect?key=k");
        let mut sender = wire(&gateway);
        sender.post("/send", &["X-Kuiperbelt-Session: k"], b"hello");
        assert_eq!(sender.response().is(200).text(), r#"{"result":"OK"}"#);
        client.receives("hello");
        // The client closes normally, and the application learns of it.
        gateway.terminate();
        client.receives_close(1001);
        client.frame(CLOSE, &1001_u16.to_be_bytes()).ends();
        gateway.ends();
        assert_eq!(app.wait_for_calls("/close", n + 1)[n].key(), "k");
    }
}

#[test]
fn the_gateway_listens_on_a_unix_socket_and_warns() {
    let config = Config::new("prot: 9180\n");
    let sock = config.path().replace(".yml", ".sock");
    let mut command = Command::new(program("gateway"));
    command.args(["-config", config.path(), "-sock", &sock, "-gops-addr", "127.0.0.1:1"]).env_remove("RUST_LOG");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("the line that reports readiness");
    assert_eq!(line, format!("listening on http://unix:{sock}\n"));
    let mut stream = std::os::unix::net::UnixStream::connect(&sock).expect("connected");
    stream.write_all(b"GET /ping HTTP/1.0\r\n\r\n").expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    assert!(response.ends_with("\r\n\r\n{\"result\":\"OK\"}"), "{response}");

    let _ = child.kill();
    let stderr = child.wait_with_output().expect("ended").stderr;
    let stderr = String::from_utf8_lossy(&stderr);
    for what in [
        &format!("{}:1: unknown key prot: ignored; the closest known key is port", config.path()),
        "callback.connect is not set: no client can connect",
        "--gops-addr has no effect",
        "access method=GET url=/ping status=200 size=15",
    ] {
        assert!(stderr.contains(what), "{what}: {stderr}");
    }
    let _ = fs::remove_file(sock);
}

/// The sample: it listens on this machine only, accepts pages of its own origin, and logs once what it drops, for an
/// application that has only a connect callback.
#[test]
fn the_sample_is_for_this_machine_and_its_own_pages() {
    let app = App::start(agrees);
    let log = Config::new("");
    let sample = include_str!("../../examples/gateway/config.yml");
    let others = ["  establish:", "  receive:", "  close: {{ env \"EKBO_CLOSE_CALLBACK_URL\""];
    let lines = sample.lines().filter(|line| !others.iter().any(|other| line.starts_with(other)));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len() + others.len(), sample.lines().count());
    let config = Config::new(&lines.join("\n"));
    let mut command = Command::new(program("gateway"));
    command.args(["-config", config.path()]);
    command.env("EKBO_PORT", "0").env("EKBO_CONNECT_CALLBACK_URL", app.url("/connect"));
    command.stderr(fs::File::create(log.path()).expect("made"));
    let gateway = Example::run(command, None);
    assert!(gateway.addr.ip().is_loopback());
    let (mut own, mut evil) = (wire(&gateway), wire(&gateway));
    send_handshake(&mut evil, "/connect?key=evil", &["Origin: https://evil.example"]);
    evil.response().is(403);
    send_handshake(&mut own, "/connect?key=k", &["Origin: https://localhost"]);
    own.head().is(101);
    let mut own = Socket { wire: own };
    own.text("one").text("two").text("three").frame(PING, b"still there?");
    assert_eq!(own.next(), (PONG, b"still there?".to_vec()));
    own.close();
    gateway.stop();
    let stderr = fs::read_to_string(log.path()).expect("text");
    assert_eq!(stderr.matches("messages of clients are dropped").count(), 1, "{stderr}");
}

/// A page has a token, by which it connects again while the server has not noticed the loss of its connection.
#[test]
fn a_page_connects_again_under_its_name() {
    let chat = Example::start("chat", PLAIN, &[]);
    let enter = |query: &str| Socket::over(wire(&chat), &format!("/connect?{query}"), &["Origin: http://localhost"]);
    let ask = |query: &str| {
        let response = chat.ask(&format!("GET /name?{query}"), &[]);
        assert_eq!(response.get("cache-control"), Some("no-store"));
        (response.status, response.text().to_owned())
    };
    let mut lost = enter("Ann&t1");
    lost.receives("* welcome, Ann; you are the only user").receives("* Ann is here");
    // Not before: the application may be told of the second one first.
    let mut bob = enter("Bob");
    lost.receives("* Bob is here");
    bob.receives("* welcome, Bob; with you: Ann").receives("* Bob is here");
    let in_use = (409, "This name is in use.\n".to_owned());
    for query in ["Ann", "Ann&", "Ann&t2", "%20Ann&t2", "Bob", "Bob&"] {
        assert_eq!(ask(query), in_use, "{query}");
        let mut other = wire(&chat);
        send_handshake(&mut other, &format!("/connect?{query}"), &["Origin: http://localhost"]);
        other.response().is(409);
    }
    for query in ["", "a:b", "x&t:2", "x&%20", &format!("x&{}", "t".repeat(65))] {
        assert_eq!(ask(query), (403, "This name is not allowed.\n".to_owned()), "{query}");
    }
    assert_eq!((ask("Ann&t1").0, ask("Eve").0), (200, 200));

    let mut ann = enter("Ann&t1");
    ann.receives("* welcome, Ann; with you: Bob");
    // It is the same user: nothing is announced, neither now nor at the end of the old connection.
    ann.text("one");
    ann.receives("Ann: one");
    bob.receives("Ann: one");
    lost.close();
    // The close callback for the old connection is called in the meantime.
    for _ in 0..20 {
        ann.text("two");
        ann.receives("Ann: two");
        bob.receives("Ann: two");
        assert_eq!(ask("Ann"), in_use);
    }
    ann.close();
    bob.receives("* Ann has left");
    bob.close();
    chat.stop();
}

/// Of two who choose a name at the same time, one gets it. The other one may be rejected after its handshake.
#[test]
fn a_name_has_one_user() {
    let chat = Example::start("chat", PLAIN, &[]);
    let is_greeted = |stream: &mut TcpStream| {
        let (mut received, mut block) = (String::new(), [0; 1024]);
        while !received.contains("* welcome, ") && !received.contains("This name is in use.") {
            match stream.read(&mut block).expect("a greeting, a response or the end") {
                0 => return false,
                n => received.push_str(&String::from_utf8_lossy(&block[..n])),
            }
        }
        received.contains("* welcome, ")
    };
    for n in 0..20 {
        let mut both = ["t1", "t2"].map(|token| {
            let mut stream = TcpStream::connect(chat.addr).expect("connected");
            stream.set_read_timeout(Some(TIMEOUT)).expect("set");
            let fields = HANDSHAKE.join("\r\n");
            let head = format!("GET /connect?n{n}&{token} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            stream.write_all(format!("{head}Origin: http://localhost\r\n\r\n").as_bytes()).expect("sent");
            stream
        });
        let greeted = both.each_mut().map(is_greeted);
        assert_ne!(greeted[0], greeted[1], "{n}");
    }
}

#[test]
fn two_people_chat() {
    for setup in [PLAIN, Setup { tls: true, mode: "threads" }] {
        let chat = Example::start("chat", setup, &[]);
        let origin = format!("Origin: {}://localhost", chat.scheme);
        let enter = |name: &str| Socket::over(wire(&chat), &format!("/connect?{name}"), &[&origin]);
        let rejected = |name: &str, origin: &str| {
            let mut wire = wire(&chat);
            send_handshake(&mut wire, &format!("/connect?{name}"), &[origin]);
            wire.response()
        };

        let mut ann = enter("Ann");
        ann.receives("* welcome, Ann; you are the only user").receives("* Ann is here");
        // Gr&uuml;n, as a browser encodes it.
        let mut bob = enter("Gr%C3%BCn");
        bob.receives("* welcome, Gr\u{fc}n; with you: Ann").receives("* Gr\u{fc}n is here");
        ann.receives("* Gr\u{fc}n is here");
        for n in 0..20 {
            let (one, other) = if n % 2 == 0 { (&mut ann, &mut bob) } else { (&mut bob, &mut ann) };
            one.text(&format!("words {n} <b>&amp;"));
            let line = format!("{}: words {n} <b>&amp;", if n % 2 == 0 { "Ann" } else { "Gr\u{fc}n" });
            one.receives(&line);
            other.receives(&line);
        }
        rejected("Ann", &origin).is(409);
        for name in ["", "%20", "a:b", "*x", &"x".repeat(25), "a%0Ab"] {
            rejected(name, &origin).is(403);
        }
        rejected("Eve", "Origin: http://evil.example").is(403);

        // The application's own requests to the gateway are not public.
        let mut public = wire(&chat);
        public.post("/send", &["X-Kuiperbelt-Session: Ann"], b"spam");
        public.response().is(404);
        let mut page = wire(&chat);
        page.request("GET /", &[]);
        assert!(page.response().is(200).text().contains("<title>Chat</title>"));

        bob.close();
        ann.receives("* Gr\u{fc}n has left");
        chat.terminate();
        ann.receives_close(1001);
        ann.frame(CLOSE, &1001_u16.to_be_bytes()).ends();
        chat.ends();
    }
}
