//! Several proxies that register their hosts at an engine, a real `redis-server`.

use std::time::{Duration, Instant};

use uncork::relay::{
    nodes::{DirectoryConfig, EngineState},
    tunnel::Proxy,
};

use super::{
    client::TIMEOUT,
    nodes::{Node, get, origin_server, sockets, start_with},
    origin::site,
    origin_server::{Mode, OriginServer, tunnel},
    redis::Redis,
    world::{config, identity},
};

/// Starts three nodes, and waits until all are connected to the engine. `None` if there is no engine.
fn cluster() -> Option<(Redis, [Node; 3])> {
    let Some(redis) = Redis::start() else {
        eprintln!("skipped: redis-server is not installed");
        return None;
    };
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let nodes = start_with(false, sockets(), &identity().reversed, |_, nodes| {
        let directory = DirectoryConfig { url: url.clone(), ..DirectoryConfig::default() };
        Proxy::with_directory(config(), nodes, directory).expect("valid")
    });
    for node in &nodes {
        node.world.proxy.start_directory(&node.world.loops[0]);
        // The first call counts.
        node.world.proxy.start_directory(&node.world.loops[1]);
    }
    wait_for("all are ready", || nodes.iter().all(is_ready));
    Some((redis, nodes))
}

fn is_ready(node: &Node) -> bool {
    node.world.proxy.directory_status().is_some_and(|status| status.state == EngineState::Ready)
}

#[track_caller]
fn wait_for(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < TIMEOUT, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn status(node: &Node, host: &str) -> u16 {
    node.world.client().send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().status
}

#[test]
fn a_host_that_is_registered_need_not_be_asked_about() {
    let Some((redis, nodes)) = cluster() else { return };
    let [a, b, c] = &nodes;
    let server = origin_server(b);
    let entry = || redis.cli(&["HGET", "uncork:tun:app.example", "b"]);
    wait_for("it is registered", || entry().parse::<u64>().is_ok());
    let ttl: u64 = redis.cli(&["PTTL", "uncork:tun:app.example"]).parse().expect("a number");
    assert!((1..=30_000).contains(&ttl), "{ttl}");
    let mut client = a.world.client();
    for _ in 0..3 {
        get(&mut client, "/").assert(200);
    }
    assert_eq!((b.nodes.counts().accepted, c.nodes.counts().accepted), (3, 0), "no node was asked");
    // Patterns, too.
    let tunnel = tunnel(b.world.origins).connections(1).host("*.dev.example");
    let second = OriginServer::new(tunnel, Mode::Threads, site);
    second.expect_event("connected");
    wait_for("it is registered", || redis.cli(&["HGET", "uncork:tun:*.dev.example", "b"]).parse::<u64>().is_ok());
    assert_eq!(status(a, "x.y.dev.example"), 200);
    assert_eq!(c.nodes.counts().accepted, 0);
    drop((server, second));
    wait_for("it is removed", || entry().is_empty());
    wait_for("that is known", || status(a, "app.example") == 502);
}

#[test]
fn a_new_host_is_known_at_once() {
    let Some((_redis, [a, b, _c])) = cluster() else { return };
    // The answer that no node has it is kept for a second, unless a message says that this has changed.
    let mut attempts = (0..5).map(|n| {
        let host = format!("x{n}.dev.example");
        let begin = Instant::now();
        assert_eq!(status(&a, &host), 404);
        let tunnel = tunnel(b.world.origins).connections(1).host(&host);
        let _server = OriginServer::new(tunnel, Mode::Threads, site);
        wait_for("it is known", || status(&a, &host) == 200);
        begin.elapsed()
    });
    assert!(attempts.any(|time| time < Duration::from_millis(900)), "never before the second was over");
}

#[test]
fn without_the_engine_the_nodes_are_asked() {
    let Some((mut redis, nodes)) = cluster() else { return };
    let [a, b, c] = &nodes;
    let _server = origin_server(b);
    assert_eq!(status(a, "app.example"), 200);
    redis.kill();
    wait_for("it is gone", || !nodes.iter().any(is_ready));
    std::thread::sleep(Duration::from_millis(1100));
    let asked = c.nodes.counts().accepted;
    assert_eq!(status(a, "app.example"), 200, "it is found without the engine");
    assert!(c.nodes.counts().accepted > asked, "the nodes were asked");
    // What comes meanwhile is registered later.
    let tunnel = tunnel(c.world.origins).connections(1).host("x.dev.example");
    let second = OriginServer::new(tunnel, Mode::Threads, site);
    second.expect_event("connected");
    wait_for("it is known", || status(a, "x.dev.example") == 200);
    assert_eq!(status(a, "y.dev.example"), 404);
    redis.restart();
    wait_for("all are ready", || nodes.iter().all(is_ready));
    for (host, node) in [("app.example", "b"), ("app.example", "c"), ("x.dev.example", "c")] {
        let key = format!("uncork:tun:{host}");
        wait_for(host, || redis.cli(&["HGET", &key, node]).parse::<u64>().is_ok());
    }
    assert_eq!(status(a, "app.example"), 200);
}
