//! Three relays that serve the same sessions and streams, with TLS between them and without.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    harness::{Dir, Relay, stream, until},
    program::output,
};

/// Returns three ports that are free now.
fn ports() -> [u16; 3] {
    let taken = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("bound"));
    taken.map(|socket| socket.local_addr().expect("bound").port())
}

/// Starts the nodes `a`, `b` and `c`. Returns the files of their logs, too.
fn start(dir: &Dir, tls: bool) -> [(Relay, String); 3] {
    let key = dir.write("node.key", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8w\n");
    let (ports, names) = (ports(), ["a", "b", "c"]);
    let scheme = if tls { "https" } else { "http" };
    let nodes: Vec<String> =
        names.iter().zip(ports).map(|(id, port)| format!("--node={id} {scheme}://localhost:{port}")).collect();
    let files = ["cert.pem", "key.pem", "cert.pem"].map(|name| dir.path(name));
    let mut relays = names.iter().zip(ports).map(|(id, port)| {
        let log = dir.path(&format!("{id}.log"));
        let listen = format!("127.0.0.1:{port}");
        let mut args = vec!["--threads=2", "--rendezvous-public-list", "--node-id", id, "--node-listen", &listen];
        args.extend(["--node-key-file", &key]);
        args.extend(nodes.iter().map(String::as_str));
        if tls {
            args.extend(["--node-tls-cert", &files[0], "--node-tls-key", &files[1], "--node-tls-ca", &files[2]]);
        }
        (Relay::logging_to(&log, &args), log)
    });
    [(); 3].map(|()| relays.next().expect("three"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures how soon a response comes")]
fn clients_may_connect_to_any_of_three() {
    for tls in [false, true] {
        let dir = Dir::new();
        dir.identity();
        let [(a, log), (b, _), (c, _)] = start(&dir, tls);
        let path = stream(&c);
        let (mut source, mut receiver) = (a.client(), b.client());
        let body: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
        receiver.request(&format!("GET {path}"), &[]);
        source.request(&format!("PUT {path}"), &[&format!("Content-Length: {}", body.len())]).send(&body);
        assert!(receiver.response().assert(200).body == body);
        source.response().assert(200);
        assert_eq!((a.metric("uncork_node_forwarded_total"), c.metric("uncork_node_accepted_total")), (1.0, 2.0));
        until("bytes are counted", || a.metric("uncork_node_forwarded_bytes_total") == 300_000.0);
        let (_, own) = (stream(&a), stream(&b));
        let listed = a.request("GET /stream", &[]);
        assert!(listed.assert(200).text().contains(own.trim_start_matches("/stream/")), "{listed:?}");

        // Killed: its clients get 502 at once, the others go on.
        let (mut source, mut receiver) = (a.client(), b.client());
        let path = stream(&c);
        receiver.request(&format!("GET {path}"), &[]);
        source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"hello");
        let head = receiver.head();
        assert_eq!(receiver.next_chunk().expect("a chunk").as_deref(), Some(&b"hello"[..]));
        let waiting = stream(&c);
        let mut waits = a.client();
        waits.request(&format!("GET {waiting}"), &[]);
        until("it waits on its node", || c.metric("uncork_node_accepted_total") >= 6.0);
        c.signal(Signal::KILL);
        assert!(receiver.body(&head).is_err(), "truncated");
        source.response().assert(502);
        waits.response().assert(502);
        let start = Instant::now();
        assert!(a.request(&format!("GET {path}"), &[]).assert(502).text().contains("NodeError"));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let listed = b.request("GET /stream", &[]);
        assert_eq!(listed.assert(200).get("x-missing-nodes"), Some("c"), "{listed:?}");
        let nodes = a.request_admin("GET /nodes", &[]);
        let nodes: serde_json::Value = serde_json::from_slice(&nodes.assert(200).body).expect("JSON");
        let field = |name: &str| [0, 1, 2].map(|at| nodes[at][name].to_string());
        assert_eq!(field("node"), ["\"a\"", "\"b\"", "\"c\""], "{nodes}");
        assert_eq!(field("responds"), ["true", "true", "false"], "{nodes}");
        assert_eq!(field("streams"), ["1", "1", "null"], "{nodes}");
        assert!(nodes[1]["error"].is_null() && nodes[2]["error"].is_string(), "{nodes}");
        assert!(nodes[1]["clock_ahead_ms"].as_i64().is_some_and(|ms| (-10..30_000).contains(&ms)), "{nodes}");
        assert!(a.metric("uncork_node_failed_total") >= 4.0);
        let log = std::fs::read_to_string(log).expect("a log");
        assert!(log.contains("node a: listening for other nodes on") && log.contains("node c at"), "{log}");
        assert!(!log.contains("without TLS"), "it is a loopback address: {log}");
        a.stop();
        b.stop();
    }
}

#[test]
fn mistakes_in_the_section_of_nodes_are_named() {
    let dir = Dir::new();
    dir.identity();
    let (short, cert) = (dir.write("short.key", "too short\n"), dir.path("cert.pem"));
    let key = dir.write("node.key", &"k".repeat(32));
    let node = ["--node-id", "a", "--node-listen", "127.0.0.1:1", "--node-key-file"];
    for (args, says) in [
        (&["--node-listen", "127.0.0.1:1"][..], "[node] id is missing"),
        (&["--node", "b http://b:1"], "[node] id is missing"),
        (&["--node-id", "a"], "[node] listen is missing"),
        (&["--node-id", "a", "--node-listen", "127.0.0.1:1"], "[node] key-file is missing"),
        (&[&node[..], &["/no/such.key"]].concat(), "cannot read --node-key-file /no/such.key"),
        (&[&node[..], &[&short]].concat(), "[node] invalid key: 9 bytes"),
        (&[&node[..], &[&key, "--node-tls-cert", &cert]].concat(), "belong together"),
        (&[&node[..], &[&key, "--node", "b https://b:1"]].concat(), "expected http without tls-cert"),
        (&[&node[..], &[&key, "--node", "b http://b:1", "--node", "b http://c:1"]].concat(), "given twice"),
        (&["--node-id", "much-too-long"], "1 to 6 letters"),
        (&["--node-listen", "here"], "10.0.0.1:7001"),
        (&["--node", "b"], "ID URL"),
    ] {
        let output = output("relay", &[&["--check-config"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(says), "{args:?}: {error}");
    }
}
