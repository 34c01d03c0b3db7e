//! `examples/gateway/README.md` is true: its application runs, and its requests and responses are those of the gateway.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use uncork::relay::{GatewayFile, OriginPolicy};

use crate::{
    app::{App, Call, Reaction},
    gateway::{TestGateway, now, pause, start_with},
    program::{Example, program},
    socket::{Socket, send_handshake},
    wire::{TIMEOUT, Wire},
    world::{Mode, World},
};

const WORLD: World = World::plain(Mode::Threads);

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway").join(name);
    fs::read_to_string(path).expect("a file")
}

/// Returns the code blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let (text, fence) = (read("README.md"), format!("\n```{language}\n"));
    let found = text.split(&fence).skip(1);
    found.map(|rest| rest.split_once("\n```\n").expect("the end of the block").0.to_owned()).collect()
}

/// An HTTP message as the manual shows it.
#[derive(Debug)]
struct Shown {
    line: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Shown {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let line = lines.next().expect("a first line").to_owned();
        let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let fields = lines.map(|line| field(line).expect(line)).collect();
        Self { line, fields, body: body.trim_end().to_owned() }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn status(&self) -> u16 {
        self.line.split(' ').nth(1).expect("a status").parse().expect("a number")
    }
}

/// Returns the requests of the manual with their responses.
fn exchanges() -> Vec<(Shown, Shown)> {
    let blocks = blocks("http");
    let parts = blocks.iter().map(|block| block.split_once("\n\nHTTP/1.1 ").expect(block));
    parts.map(|(request, response)| (Shown::parse(request), Shown::parse(&format!("HTTP/1.1 {response}")))).collect()
}

/// The application responds as the manual does, to every client under the name in its query.
fn responds(call: &Call, exchanges: &[(Shown, Shown)]) -> Reaction {
    let of_path = |line: &str| line.split([' ', '?']).nth(1) == Some(&call.path);
    let (_, shown) = exchanges.iter().find(|(request, _)| of_path(&request.line)).expect("an exchange of that path");
    let name = call.query.as_deref().and_then(|query| query.strip_prefix("name="));
    match name {
        Some(name) => Reaction::accept(name, &shown.body.replace("ann", name)),
        None => Reaction::status(shown.status()),
    }
}

#[track_caller]
fn assert_shown(call: &Call, shown: &Shown) {
    let target = call.query.as_ref().map_or(call.path.clone(), |query| format!("{}?{query}", call.path));
    assert_eq!(format!("{} {target} HTTP/1.1", call.method), shown.line);
    for (name, value) in shown.fields.iter().filter(|(name, _)| name != "Host") {
        assert_eq!(call.get(name).as_ref(), Some(value), "{name}: {shown:?}");
    }
    let of_the_protocol = ["x-kuiperbelt-session", "x-kuiperbelt-endpoint", "content-type", "content-length"];
    for name in of_the_protocol {
        let is_shown = shown.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        assert_eq!(call.get(name).is_some(), is_shown, "{name}: {shown:?}");
    }
    assert_eq!(call.text(), shown.body);
}

/// Sends a request as the manual shows it, and compares the response.
#[track_caller]
fn assert_exchange(gateway: &TestGateway, (request, response): &(Shown, Shown)) {
    let fields: Vec<String> = request.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut wire = gateway.host.connect();
    wire.send(format!("{}\r\n{}\r\n{}", request.line, fields.concat(), request.body));
    let got = wire.response();
    assert_eq!((got.status, got.text().trim_end()), (response.status(), response.body.as_str()), "{request:?}");
    for (name, value) in &response.fields {
        assert_eq!(got.get(&name.to_ascii_lowercase()), Some(value.as_str()), "{name}: {request:?}");
    }
}

#[test]
fn the_exchanges_are_those_of_the_gateway() {
    let shown = exchanges();
    let of = |start: &str| shown.iter().filter(|(request, _)| request.line.starts_with(start)).collect::<Vec<_>>();
    let endpoint = shown[0].0.get("X-Kuiperbelt-Endpoint").expect("the gateway's address").to_owned();
    let change = |config: &mut uncork::relay::GatewayConfig, _: &App| {
        config.endpoint = endpoint;
        config.origin_policy = OriginPolicy::None;
    };
    let gateway = start_with(&WORLD, change, |call| responds(call, &exchanges()));
    let app = &gateway.app;
    let cookie = format!("Cookie: {}", shown[0].0.get("Cookie").expect("a field of the client"));
    let mut ann = Socket::connect(&gateway.host, "/connect?name=ann", &[&cookie]);
    ann.receives("welcome, ann");
    ann.text("hello, all");
    let mut eve = Socket::connect(&gateway.host, "/connect?name=eve", &[]);
    eve.receives("welcome, eve");
    assert_shown(&app.wait_for_calls("/connect", 1)[0], &of("GET /connect")[0].0);
    assert_shown(&app.wait_for_calls("/establish", 1)[0], &of("POST /establish")[0].0);
    assert_shown(&app.wait_for_calls("/receive", 1)[0], &of("POST /receive")[0].0);

    // The callback and the call have the same path here, but only the callback has no body.
    let (close_callback, close) = match of("POST /close")[..] {
        [callback, call] => (callback, call),
        ref others => panic!("{others:?}"),
    };
    let send = of("POST /send");
    assert_eq!(send.len(), 2);
    assert_exchange(&gateway, send[0]);
    ann.receives("hello");
    eve.receives("hello");
    assert_exchange(&gateway, send[1]);
    ann.receives("hello");
    assert_exchange(&gateway, close);
    eve.receives("bye").is_closed(1000);
    gateway.stats("eve has disconnected", |stats| stats.connections == 1);
    assert_exchange(&gateway, of("GET /stats")[0]);
    assert_exchange(&gateway, of("GET /ping")[0]);
    let presence = of("GET /presence");
    assert_exchange(&gateway, presence[0]);
    assert_exchange(&gateway, presence[1]);
    ann.close();
    assert_shown(&app.wait_for_calls("/close", 1)[0], &close_callback.0);
    assert_eq!(shown.len(), 11, "all exchanges of the manual are in this test");
}

#[test]
fn the_manual_shows_the_application() {
    let app = read("app.py");
    let shown = blocks("python");
    assert_eq!(shown.iter().map(|block| format!("{block}\n")).collect::<String>(), app);
    let code = app.lines().filter(|line| !line.trim().is_empty());
    assert!(code.count() < 40, "it is short");
    // Without arguments, it and the sample configuration fit together.
    let file = GatewayFile::parse(&read("config.yml"), |_| None).expect("a good configuration");
    let url = |path: &str| format!("http://localhost:12346{path}");
    let callback = &file.config.callback;
    assert_eq!([&callback.connect, &callback.establish], [&url("/connect"), &url("/establish")]);
    assert_eq!([&callback.receive, &callback.close], [&url("/receive"), &url("/close")]);
    assert!(app.contains("\"127.0.0.1:12346\"") && app.contains(&format!("\"127.0.0.1:{}\"", file.port)));
}

/// A child that is killed at the end of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_application_in_python_is_a_chat_room() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    // Both must know the other's port before they start. No other test listens on this address.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 91, high, low);
    let (app_addr, addr) = (SocketAddr::from((ip, 12346)), SocketAddr::from((ip, 9180)));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway");
    let mut python = Command::new("python3");
    python.arg("-B").arg(directory.join("app.py")).args([app_addr.to_string(), addr.to_string()]);
    let _app = Killed(python.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started"));
    let start = now();
    while TcpStream::connect(app_addr).is_err() {
        assert!(start.elapsed() < TIMEOUT, "the application does not listen");
        pause(std::time::Duration::from_millis(20));
    }

    let mut command = Command::new(program("gateway"));
    command.arg("--config").arg(directory.join("config.yml")).args(["--listen", &addr.to_string()]);
    for name in ["connect", "establish", "receive", "close"] {
        command.env(format!("EKBO_{}_CALLBACK_URL", name.to_uppercase()), format!("http://{app_addr}/{name}"));
    }
    let gateway = Example::run(command, None);
    let wire = || Wire::connect(gateway.addr, None, None).expect("connected");
    let enter = |name: &str| Socket::over(wire(), &format!("/connect?name={name}"), &[]);
    let mut ann = enter("ann");
    ann.receives("welcome, ann").receives("ann is here");
    let mut bob = enter("bob");
    bob.receives("welcome, bob").receives("bob is here");
    ann.receives("bob is here").text("hello, all").receives("ann: hello, all");
    bob.receives("ann: hello, all").text("gr\u{fc}n").receives("bob: gr\u{fc}n");
    ann.receives("bob: gr\u{fc}n");
    for name in ["ann", "", "%0A"] {
        let mut rejected = wire();
        send_handshake(&mut rejected, &format!("/connect?name={name}"), &[]);
        assert_eq!(rejected.response().is(403).text(), "choose another name");
    }
    bob.close();
    ann.receives("bob says goodbye");
    drop(ann);
    gateway.stop();
}
