//! A rolling restart: a relay that drains takes nothing new, and closes the gateway's clients one after the other. Until
//! then the other relays reach them.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use uncork::{Request, Response, Server};

use crate::{
    client::Client,
    harness::{Dir, Relay, until},
    redis::{Redis, free_ports},
};

const CLIENTS: usize = 12;

/// Connects a client of the gateway, with this key.
fn connect(relay: &Relay, key: &str) -> Client {
    let mut client = relay.client();
    let fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
    let fields = [&fields[..], &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]].concat();
    client.request(&format!("GET /connect?{key}"), &fields).head().is(101);
    client
}

/// Reads messages until the Close, and responds to it. Returns the messages.
fn messages_until_close(client: &mut Client) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    loop {
        let head = client.exactly(2).expect("a frame");
        let payload = client.exactly(head[1].into()).expect("its payload");
        match head[0] {
            0x81 => messages.push(payload),
            0x88 => {
                assert_eq!(payload, 1001_u16.to_be_bytes());
                client.send([0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]);
                return messages;
            }
            other => panic!("{other:#x}"),
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the time of the spread is measured")]
fn a_relay_that_drains_closes_its_clients_one_after_the_other() {
    let Some(redis) = Redis::start() else { return eprintln!("skipped: redis-server is not installed") };
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    let application = |req: &mut Request<'_>| match req.path() {
        "/connect" => Response::new(200).header("X-Kuiperbelt-Session", req.query().unwrap_or_default()),
        _ => {
            CLOSED.fetch_add(1, Ordering::SeqCst);
            Response::new(200)
        }
    };
    let application = Server::bind("127.0.0.1:0").and_then(|server| server.threads(1, application)).expect("running");
    let url = |path: &str| format!("http://{}{path}", application.local_addr().expect("bound"));
    let (dir, ports) = (Dir::new(), free_ports::<2>());
    let key = dir.write("node.key", &"k".repeat(40));
    let relays = [("a", ports[0]), ("b", ports[1])].map(|(id, port)| {
        let args = [
            format!("--gateway-connect-url={}", url("/connect")),
            format!("--gateway-close-url={}", url("/close")),
            format!("--directory-url=redis://127.0.0.1:{}", redis.port()),
            format!("--node=a http://localhost:{}", ports[0]),
            format!("--node=b http://localhost:{}", ports[1]),
            format!("--node-id={id}"),
            format!("--node-listen=127.0.0.1:{port}"),
            format!("--node-key-file={key}"),
            "--gateway-drain-spread=3".to_owned(),
            "--shutdown-timeout=5".to_owned(),
        ];
        Relay::start(&args.each_ref().map(String::as_str))
    });
    let [a, b] = &relays;
    until("the directory is connected", || {
        relays.iter().all(|relay| relay.metric("uncork_directory_connected") == 1.0)
    });
    let clients: Vec<Client> = (0..CLIENTS).map(|n| connect(a, &format!("k{n}"))).collect();
    let keys: Vec<String> = (0..CLIENTS).map(|n| format!("X-Kuiperbelt-Session: k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let all = Client::connect(b.admin, None).post("/send", &keys, b"before").response();
    assert_eq!(all.assert(200).text(), r#"{"result":"OK"}"#);
    let start = Instant::now();
    a.signal(Signal::TERM);
    a.notifies("STOPPING=1");
    a.request_admin("GET /ready", &[]).assert(503);
    until("it takes no new connections", || TcpStream::connect(a.addr()).is_err());
    // The other one reaches those that are still connected.
    let response = Client::connect(b.admin, None).post("/send", &keys, b"during").response();
    assert!(response.assert(200).text().contains("\"result\":\"OK\""), "{response:?}");
    let mut got = 0;
    for mut client in clients {
        let messages = messages_until_close(&mut client);
        assert_eq!(messages[0], b"before");
        got += messages.len() - 1;
    }
    // Of twelve, at least two have their turn after a tenth of the time, but for one run in many millions.
    assert!((2..=CLIENTS).contains(&got) && start.elapsed() < Duration::from_secs(5), "{got} {:?}", start.elapsed());
    until("the application was told of all", || CLOSED.load(Ordering::SeqCst) == CLIENTS);
    let [a, b] = relays;
    a.ends();
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    let last = connect(&b, "k0");
    drop(last);
    b.signal(Signal::KILL);
    application.stop_now().expect("stopped");
}
