//! Three relays that serve the same sessions and streams, with TLS between them and without.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustix::process::Signal;
use rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer};
use uncork::{Request, Response, TlsClient, relay::tunnel::Tunnel};

use crate::{
    client::Client,
    harness::{Dir, Relay, stream, until},
    program::output,
    redis::{Redis, free_ports},
};

/// Starts the nodes `a`, `b` and `c`. Returns the files of their logs, too.
fn start(dir: &Dir, tls: bool) -> [(Relay, String); 3] {
    let key = dir.write("node.key", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8w\n");
    let (ports, names): ([_; 3], _) = (free_ports(), ["a", "b", "c"]);
    let scheme = if tls { "https" } else { "http" };
    let nodes: Vec<String> =
        names.iter().zip(ports).map(|(id, port)| format!("--node={id} {scheme}://localhost:{port}")).collect();
    let files = ["cert.pem", "key.pem", "ca.pem"].map(|name| dir.path(name));
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
        authority(&dir, 4096);
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
        for (node, id) in [(&a, "b"), (&a, "c"), (&c, "b")] {
            let name = |part: &str| format!("uncork_node_question_duration_seconds_{part}");
            let count = name(&format!("count{{node=\"{id}\"}}"));
            until("each node is asked at the start", || node.metric(&count) >= 1.0);
            assert!(node.metric(&name(&format!("bucket{{node=\"{id}\",le=\"+Inf\"}}"))) >= 1.0);
            assert!(node.metric(&name(&format!("sum{{node=\"{id}\"}}"))) > 0.0);
        }
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
        let times = [0, 1, 2].map(|at| nodes[at]["round_trip_seconds"].as_f64());
        assert!(times[0].is_none() && times[1].is_some_and(|time| time > 0.0) && times[2].is_none(), "{nodes}");
        assert!(a.metric("uncork_node_questions_failed_total{node=\"c\"}") >= 1.0);
        assert!(a.metric("uncork_node_failed_total") >= 3.0);
        let log = std::fs::read_to_string(log).expect("a log");
        assert!(log.contains("node a: listening for other nodes on") && log.contains("node c at"), "{log}");
        assert!(!log.contains("without TLS"), "it is a loopback address: {log}");
        a.stop();
        b.stop();
    }
}

/// Makes an authority and a certificate for all nodes, valid until that year. Returns a client that has them.
fn authority(dir: &Dir, until: i32) -> Arc<ClientConfig> {
    let (ca_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a certificate");
    let mut of_node = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    (of_node.not_before, of_node.not_after) = (date_time_ymd(1975, 1, 1), date_time_ymd(until, 1, 1));
    let cert = of_node.signed_by(&key, &Issuer::new(params, ca_key)).expect("a certificate");
    dir.write("ca.pem", &ca.pem());
    dir.write("cert.pem", &cert.pem());
    dir.write("key.pem", &key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("a root");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let client = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(client.with_client_auth_cert(vec![cert.der().clone()], key).expect("a client"))
}

#[test]
fn new_certificates_between_nodes_are_taken_while_transfers_go_on() {
    let dir = Dir::new();
    let old = authority(&dir, 4096);
    let [(a, _), (b, _), (c, log)] = start(&dir, true);
    let path = stream(&c);
    let (mut source, mut receiver) = (a.client(), b.client());
    receiver.request(&format!("GET {path}"), &[]);
    source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"before");
    let head = receiver.head();
    assert_eq!(receiver.next_chunk().expect("a chunk").as_deref(), Some(&b"before"[..]));
    let status = format!("GET {path}/status");
    a.request(&status, &[]).assert(200);
    let text = std::fs::read_to_string(log).expect("a log");
    let url = text.split("other nodes on ").nth(1).and_then(|rest| rest.split(';').next()).expect("a URL");
    let internal = url.trim_start_matches("https://").parse().expect("an address");
    // Its own listener rejects what is not signed; a connection is what matters here.
    let connects = |tls: &Arc<ClientConfig>| {
        let mut client = Client::connect(internal, Some(tls.clone()));
        client.request("GET /node", &[]).try_head().is_ok_and(|head| head.status == 403)
    };
    assert!(connects(&old));

    // Another authority: nodes without its certificates reject each other.
    let new = authority(&dir, 4000);
    assert!(a.reload());
    a.request(&status, &[]).assert(502);
    assert!(connects(&old) && b.request(&status, &[]).assert(200).status == 200);
    assert!(b.reload() && c.reload());
    for node in [&a, &b] {
        node.request(&status, &[]).assert(200);
    }
    assert!(connects(&new));
    let expiry = format!("uncork_certificate_expiry_timestamp_seconds{{listener=\"{url}\"}}");
    assert_eq!(c.metric(&expiry), 64_060_588_800.0);
    dir.write("key.pem", "nonsense");
    assert!(!c.reload(), "an invalid key");
    assert!(connects(&new));

    source.chunk(b"after").chunk(b"");
    assert_eq!(receiver.body(&head).expect("the rest"), b"after");
    source.response().assert(200);
    for relay in [a, b, c] {
        relay.stop();
    }
}

#[test]
fn a_server_behind_nat_is_reached_through_any_of_three() {
    behind_nat(None);
}

#[test]
fn the_hosts_of_tunnels_are_in_the_directory() {
    match Redis::start() {
        Some(redis) => behind_nat(Some(redis)),
        None => eprintln!("skipped: redis-server is not installed"),
    }
}

#[expect(clippy::disallowed_methods, reason = "requests are sent for a while")]
fn behind_nat(redis: Option<Redis>) {
    let dir = Dir::new();
    let directory = redis.as_ref().map(|redis| format!("--directory-url=redis://127.0.0.1:{}", redis.port()));
    let tls = dir.identity();
    let key = dir.write("node.key", &"k".repeat(40));
    let (ports, origins, names): ([_; 3], [_; 3], _) = (free_ports(), free_ports(), ["a", "b", "c"]);
    let (cert, private) = (dir.path("cert.pem"), dir.path("key.pem"));
    let nodes: Vec<String> =
        names.iter().zip(ports).map(|(id, port)| format!("--node={id} http://localhost:{port}")).collect();
    let others: Vec<String> = origins.iter().map(|port| format!("--tunnel-other-address=localhost:{port}")).collect();
    // The hash of "test".
    let token = "app 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 app.example *.dev.example";
    let mut relays = Vec::new();
    for at in 0..3 {
        let (listen, node) = (format!("127.0.0.1:{}", origins[at]), format!("127.0.0.1:{}", ports[at]));
        let own = format!("localhost:{}", origins[at]);
        let mut args = vec!["--threads=2", "--tls-cert", &cert, "--tls-key", &private, "--listen", &listen];
        args.extend(["--tunnel-token", token, "--tunnel-address", &own]);
        args.extend(["--node-id", names[at], "--node-listen", &node, "--node-key-file", &key]);
        args.extend(nodes.iter().chain(&others).chain(&directory).map(String::as_str));
        relays.push(Relay::start(&args));
    }
    let trust = TlsClient::roots_pem(dir.read("cert.pem").as_bytes()).expect("a root");
    let tunnel = Tunnel::dial(&format!("localhost:{}", origins[0])).tls(trust).token("test").host("app.example");
    let origin = tunnel
        .backoff(Duration::from_millis(20))
        .threads(1, |req: &mut Request<'_>| Response::text(format!("{} from {}", req.path(), req.peer())));
    let origin = origin.expect("running");
    let connections = |relay: &Relay| relay.metric("uncork_tunnel_origin_servers");
    until("two nodes have a connection", || relays.iter().filter(|relay| connections(relay) == 1.0).count() == 2);
    let connect = |relay: &Relay| Client::connect(relay.addr(), Some(tls.clone()));
    let get = |client: &mut Client| {
        let response = client.send("GET /ping HTTP/1.1\r\nHost: app.example\r\n\r\n").response();
        assert!(response.assert(200).text().starts_with("/ping from 127.0.0.1"), "{response:?}");
    };
    if let Some(redis) = &redis {
        let registered = || redis.cli(&["HLEN", "uncork:tun:app.example"]) == "2";
        until("both nodes are registered", registered);
        let connected = |relay: &Relay| relay.metric("uncork_tunnel_directory_connected") == 1.0;
        until("all nodes are connected", || relays.iter().all(connected));
    }
    relays.iter().for_each(|relay| get(&mut connect(relay)));
    let without = relays.iter().position(|relay| connections(relay) == 0.0).expect("the third");
    assert_eq!(relays[without].metric("uncork_tunnel_forwarded_total"), 1.0);
    let list = relays[0].request_admin("GET /nodes", &[]);
    let list: serde_json::Value = serde_json::from_slice(&list.assert(200).body).expect("JSON");
    let counts = [0, 1, 2].map(|at| list[at]["origin_connections"].as_u64().expect("a number"));
    assert_eq!(counts.iter().sum::<u64>(), 2, "{list}");
    // A host of the tunnel that no node has; hosts that are the relay's own.
    let mut client = connect(&relays[without]);
    let status = |client: &mut Client, host: &str| {
        client.send(format!("GET /ping HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().status
    };
    assert_eq!((status(&mut client, "new.dev.example"), status(&mut client, "relay.example")), (404, 200));

    // A node is killed: the others go on. A request that it had when it died may get an error, so there is none.
    let lost = relays.iter().rposition(|relay| connections(relay) == 1.0).expect("a node with a connection");
    relays.remove(lost).kill();
    let mut clients: Vec<Client> = relays.iter().map(connect).collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        clients.iter_mut().for_each(get);
    }
    origin.stop_now().expect("stopped");
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
