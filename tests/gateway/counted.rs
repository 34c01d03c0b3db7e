//! `/stats`, `/ping`, unknown paths, and the correct statistics after all of it.

use std::sync::{Mutex, Once};

use crate::{
    app::{Reaction, agrees},
    gateway::{is, start, start_with},
    socket::{Socket, send_handshake},
    world::World,
};

worlds! { statistics_as_json, statistics_as_text, is_anybody_there, right_after_all_of_it, paths_of_ones_own, requests_are_logged, presence }

const NOTHING: &str = "{\"connections\":0,\"total_connections\":0,\"total_messages\":0,\"connect_errors\":0,\
                       \"message_errors\":0,\"closing_connections\":0}\n";

fn statistics_as_json(world: &World) {
    let gateway = start(world);
    for line in ["GET /stats", "GET /stats?format=json", "GET /stats?format=", "DELETE /stats", "POST /stats"] {
        let mut wire = gateway.host.connect();
        wire.request(line, &[]);
        let response = wire.response();
        is(&response, 200, NOTHING);
        assert_eq!(response.get("content-type"), Some("application/json"));
    }
}

fn statistics_as_text(world: &World) {
    let gateway = start(world);
    let _client = gateway.client("k");
    gateway.send(&["k"], "x");
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (target, form, body) in [
        ("GET /stats?format=tsv", "", ""),
        ("GET /stats?format=txt", "", ""),
        ("GET /stats?a=b&format=text", "", ""),
        ("POST /stats", form, "format=tsv"),
        ("POST /stats?format=json", form, "x=y&format=text"),
        ("POST /stats?format=text", form, "x=y"),
    ] {
        let mut wire = gateway.host.connect();
        let length = format!("Content-Length: {}", body.len());
        let fields = if form.is_empty() { vec![] } else { vec![form, &length] };
        wire.request(target, &fields).send(body);
        let response = wire.response();
        response.is(200);
        assert_eq!(response.get("content-type"), Some("text/plain"), "{target}");
        let lines: Vec<Vec<&str>> = response.text().lines().map(|line| line.split('\t').collect()).collect();
        let want = [
            ("kuiperbelt.conn.current", "1"),
            ("kuiperbelt.conn.total", "1"),
            ("kuiperbelt.conn.errors", "0"),
            ("kuiperbelt.conn.closing", "0"),
            ("kuiperbelt.messages.total", "1"),
            ("kuiperbelt.messages.errors", "0"),
        ];
        assert!(response.text().ends_with('\n') && lines.len() == want.len());
        for (line, (name, value)) in lines.iter().zip(want) {
            assert_eq!(line[..2], [name, value]);
            let time: u64 = line[2].parse().expect("unix seconds");
            assert!(time > 1_700_000_000 && time == lines[0][2].parse::<u64>().expect("the same"));
        }
    }
}

fn is_anybody_there(world: &World) {
    let gateway = start(world);
    for method in ["GET", "POST", "OPTIONS", "BREW"] {
        let mut wire = gateway.host.connect();
        wire.request(&format!("{method} /ping"), &[]);
        let response = wire.response();
        is(&response, 200, r#"{"result":"OK"}"#);
        assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
    }
    let response = gateway.get("/pong");
    is(&response, 404, "404 page not found\n");
    assert_eq!(response.get("content-type"), Some("text/plain; charset=utf-8"));
}

fn right_after_all_of_it(world: &World) {
    let gateway = start_with(
        world,
        |_, _| {},
        |call| match (call.path.as_str(), call.query.as_deref()) {
            ("/connect", Some("greeted")) => Reaction::accept("greeted", "hello"),
            ("/connect", Some("broken")) => Reaction::status(500),
            ("/establish", _) if call.key() == "unwanted" => Reaction::status(500),
            _ => agrees(call),
        },
    );
    // 1: greeted and stays. 2: closes. 3: 403. 4: 500. 5: not confirmed. 6: not a handshake. 7: closed. 8: replaced by
    // 9.
    let mut greeted = Socket::connect(&gateway.host, "/connect?greeted", &[]);
    greeted.receives("hello");
    gateway.client("closes").close();
    Socket::rejected(&gateway.host, "/connect?unknown", &[]).is(403);
    Socket::rejected(&gateway.host, "/connect?broken", &[]).is(500);
    gateway.client("unwanted").ends();
    gateway.get("/connect").is(400);
    let mut closed = gateway.client("closed");
    gateway.post("/close", &["closed", "unknown"], &[], b"bye").is(200);
    closed.receives("bye").is_closed(1000);
    let mut replaced = gateway.client("twice");
    let _stays = gateway.client("twice");
    replaced.is_closed(4000);
    gateway.send(&["greeted", "unknown", "twice", "twice"], "to all").is(200);
    greeted.receives("to all");

    let want = "{\"connections\":2,\"total_connections\":9,\"total_messages\":5,\"connect_errors\":3,\
                \"message_errors\":0,\"closing_connections\":0}";
    gateway.stats("all of it", |stats| stats.to_string() == want);
    is(&gateway.get("/stats"), 200, &format!("{want}\n"));
    assert_eq!(gateway.app.wait_for_calls("/close", 1).len(), 1);
}

fn paths_of_ones_own(world: &World) {
    let gateway = start_with(
        world,
        |config, _| {
            let path = &mut config.path;
            (path.connect, path.send, path.close) = ("/ws".into(), "/api/say".into(), "/api/end".into());
            (path.stats, path.ping) = ("/api/stats".into(), "/".into());
        },
        agrees,
    );
    let mut wire = gateway.host.connect();
    send_handshake(&mut wire, "/ws?key=k", &[]);
    wire.head().is(101);
    let mut client = Socket { wire };
    is(&gateway.post("/api/say", &["k"], &[], b"hello"), 200, r#"{"result":"OK"}"#);
    is(&gateway.post("/api/end", &["k"], &[], b"bye"), 200, r#"{"result":"OK"}"#);
    client.receives("hello").receives("bye").is_closed(1000);
    is(&gateway.get("/"), 200, r#"{"result":"OK"}"#);
    gateway.get("/api/stats").is(200);
    for path in ["/connect", "/send", "/close", "/stats", "/ping"] {
        is(&gateway.get(path), 404, "404 page not found\n");
    }
}

fn presence(world: &World) {
    let gateway = start_with(world, |config, _| config.limits.targets = 3, agrees);
    let ask = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| format!("X-Kuiperbelt-Session: {key}")).collect();
        let mut wire = gateway.host.connect();
        wire.request("GET /presence", &keys.iter().map(String::as_str).collect::<Vec<_>>());
        wire.response()
    };
    is(&ask(&[]), 200, "{\"keys\":0,\"result\":\"OK\"}\n");
    let mut client = gateway.client("k");
    let yes = r#"{"connected":true,"session":"k"}"#;
    let want =
        format!("{{\"result\":\"OK\",\"sessions\":[{yes},{{\"connected\":false,\"session\":\"\\\"<\"}},{yes}]}}\n");
    is(&ask(&["k", "\"<", "k"]), 200, &want.replace('<', "\\u003c"));
    is(&ask(&[]), 200, "{\"keys\":1,\"result\":\"OK\"}\n");
    is(&ask(&["k"; 4]), 431, r#"{"errors":[{"error":"too many session headers"}],"result":"NG"}"#);
    // Without other nodes, `nodes=all` changes nothing.
    assert_eq!(gateway.get("/stats?nodes=all").text(), gateway.get("/stats").text());
    client.close();
    gateway.stats("it has left", |stats| stats.connections == 0);
    is(&ask(&["k"]), 200, "{\"result\":\"OK\",\"sessions\":[{\"connected\":false,\"session\":\"k\"}]}\n");
}

/// Keeps the lines of the access log.
struct Log(Mutex<Vec<String>>);

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "uncork::relay::access"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().expect("no panic").push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

static LOG: Log = Log(Mutex::new(Vec::new()));

fn requests_are_logged(world: &World) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LOG).expect("the only one");
        log::set_max_level(log::LevelFilter::Info);
    });
    // Other tests log, too: these lines have a name of their own.
    let name = format!("{:?}-{}", world.mode, world.tls);
    let lines = || -> Vec<String> {
        let lines = LOG.0.lock().expect("no panic");
        lines.iter().filter(|line| line.contains(&name) && line.starts_with("access ")).cloned().collect()
    };
    let gateway = start(world);
    gateway.client("k").close();
    gateway.post(&format!("/send?{name}"), &["unknown"], &[], b"x").is(200);
    gateway.post(&format!("/close?{name}"), &[], &[], b"x").is(400);
    gateway.get(&format!("/ping?{name}")).is(200);
    gateway.get(&format!("/nothing/{name}")).is(404);
    gateway.get(&format!("/stats?{name}")).is(200);
    gateway.get(&format!("/connect?{name}")).is(400);
    assert_eq!(
        lines(),
        [
            format!("access method=POST url=/send?{name} status=200 size=92"),
            format!("access method=POST url=/close?{name} status=400 size=64"),
            format!("access method=GET url=/ping?{name} status=200 size=15"),
            format!("access method=GET url=/nothing/{name} status=404 size=19"),
        ]
    );

    let quiet = start_with(world, |config, _| config.suppress_access_log = true, agrees);
    quiet.get(&format!("/ping?{name}")).is(200);
    assert_eq!(lines().len(), 4);
}
