//! Several proxies that serve the same hosts: origin servers are connected to some of them, clients to any.

use std::{
    net::TcpListener,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use uncork::{
    Limits, Listen, Server, StopHandle, Tls,
    relay::{
        nodes::{NodeListener, Nodes, NodesConfig},
        tunnel::{Proxy, ProxyConfig, Tunnel},
    },
};

use super::{
    client::{Client, TIMEOUT},
    origin::site,
    origin_server::{Mode, OriginServer, trust, tunnel},
    site::bytes,
    world::{World, config, identity},
};

/// The answers of other nodes are kept for a second.
const KEPT: Duration = Duration::from_millis(1100);

const HOST: &str = "Host: app.example";

pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) nodes: Nodes,
    internal: Internal,
}

/// The listener for other nodes.
struct Internal {
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Internal {
    fn stop(&mut self) {
        self.stop.stop_now();
        self.thread.take().into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn sockets<const N: usize>() -> [TcpListener; N] {
    std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("bound"))
}

/// Starts `N` nodes that name no addresses for origin servers.
fn cluster<const N: usize>(tls: bool, change: impl Fn(&mut ProxyConfig)) -> [Node; N] {
    start(tls, sockets(), &identity().reversed, |_, config| change(config))
}

/// Starts `N` nodes that tell origin servers about each other.
fn named<const N: usize>(with_own: bool, listener: &Tls) -> [Node; N] {
    let origins: [TcpListener; N] = sockets();
    let names: Vec<String> =
        origins.iter().map(|socket| format!("localhost:{}", socket.local_addr().expect("bound").port())).collect();
    start(false, origins, listener, |at, config| {
        config.address = with_own.then(|| names[at].clone());
        config.other_addresses = names.iter().filter(|name| with_own || **name != names[at]).cloned().collect();
    })
}

/// Starts `N` nodes, `a`, `b` and so on. `change` is called with each configuration and the node's number.
fn start<const N: usize>(
    tls: bool,
    origins: [TcpListener; N],
    listener: &Tls,
    change: impl Fn(usize, &mut ProxyConfig),
) -> [Node; N] {
    start_with(tls, origins, listener, |at, nodes| {
        let mut config = config();
        change(at, &mut config);
        Proxy::with_nodes(config, nodes).expect("valid")
    })
}

/// Like [`start`], but with these proxies.
pub(crate) fn start_with<const N: usize>(
    tls: bool,
    origins: [TcpListener; N],
    listener: &Tls,
    proxy: impl Fn(usize, Nodes) -> Proxy,
) -> [Node; N] {
    let sockets: [TcpListener; N] = sockets();
    let ids: [String; N] = std::array::from_fn(|at| char::from(b'a' + at as u8).to_string());
    let urls = sockets.iter().zip(&ids).map(|(socket, id)| {
        let port = socket.local_addr().expect("bound").port();
        (id.clone(), if tls { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") })
    });
    let urls: Vec<(String, String)> = urls.collect();
    let mut numbers = 0..;
    let mut origins = origins.into_iter();
    sockets.map(|socket| {
        let at = numbers.next().expect("a number");
        let origins = Listen::inherited(origins.next().expect("one for each")).expect("a listener");
        let origins = origins.tls(listener.clone());
        let key = b"a key that all of the nodes have".to_vec();
        let nodes = NodesConfig { id: ids[at].clone(), key, nodes: urls.clone(), ..NodesConfig::default() };
        let nodes = Nodes::new(NodesConfig { tls: tls.then(trust), ..nodes }).expect("valid");
        let proxy = proxy(at, nodes.clone());
        let listen = Listen::inherited(socket).expect("a listener");
        let listen = if tls { listen.tls(identity().server.clone()) } else { listen };
        let limits = Limits { body: 1 << 40, connections_per_address: usize::MAX, ..Limits::default() };
        let listener = NodeListener::new(nodes.clone()).tunnel(&proxy);
        let running = Server::new().listen(listen).limits(limits).threads(1, listener).expect("running");
        let stop = running.stop_handle();
        let thread = Some(std::thread::spawn(move || running.join().expect("ended normally")));
        Node { world: World::of(proxy, 2, origins), nodes, internal: Internal { stop, thread } }
    })
}

/// Connects an origin server to this node alone.
pub(crate) fn origin_server(node: &Node) -> OriginServer {
    let tunnel = tunnel(node.world.origins).connections(1);
    let server = OriginServer::new(tunnel, Mode::Threads, site);
    server.expect_event("connected");
    server.wait_served(&node.world)
}

pub(crate) fn get(client: &mut Client, path: &str) -> super::client::TestResponse {
    client.send(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n\r\n")).response()
}

fn both(test: impl Fn(bool)) {
    [false, true].into_iter().for_each(test);
}

#[test]
fn a_request_is_forwarded_to_the_node_that_has_the_host() {
    both(|tls| {
        let [a, b, c] = cluster(tls, |_| {});
        let _origin = origin_server(&b);
        for node in [&a, &c] {
            let mut client = node.world.client();
            for n in 0..5 {
                assert_eq!(get(&mut client, &format!("/{n}?x=1")).assert(200).text(), format!("GET /{n}"));
            }
            assert_eq!(get(&mut client, "/who").text(), "Some(127.0.0.1) Some(\"app.example\")");
            assert!(get(&mut client, "/big").body == bytes(3_000_000));
            get(&mut client, "/204").assert(204);
            assert_eq!(get(&mut client, "/304").assert(304).get("etag"), Some("\"a\""));
            let head = client.send(format!("HEAD /big HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
            assert_eq!(head.assert(200).get("content-length"), Some("3000000"));
            let hints = client.send(format!("GET /hints HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
            assert_eq!(hints.assert(103).get("link"), Some("</a.css>; rel=preload"));
            assert_eq!(client.response().assert(200).text(), "hinted");
            let mut secure = node.world.secure_client();
            assert!(get(&mut secure, "/fields").assert(200).text().contains("x-forwarded-proto: https\n"));
            assert_eq!(node.world.proxy.counts().forwarded, 12);
            assert_eq!(node.world.proxy.counts().unreachable, 0);
        }
        assert_eq!(b.world.proxy.counts().forwarded, 0);
        // Each node has asked about one host, once or a few times.
        assert!(b.nodes.counts().accepted < 24 + 2 * 8, "{:?}", b.nodes.counts());
        assert_eq!(b.nodes.counts().rejected.iter().map(|(_, n)| n).sum::<u64>(), 0);
    });
}

#[test]
fn bodies_are_streamed_both_ways() {
    both(|tls| {
        let [a, b] = cluster(tls, |_| {});
        let _origin = origin_server(&b);
        let mut client = a.world.client();
        let body = bytes(5 << 20);
        client.send(format!("POST /echo HTTP/1.1\r\n{HOST}\r\nContent-Length: {}\r\n\r\n", body.len())).send(&body);
        assert!(client.response().assert(200).body == body);
        client.send(format!("POST /echo HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        for chunk in body[..300_000].chunks(7777) {
            client.chunk(chunk);
        }
        let response = client.send("0\r\nX-Sum: 9\r\n\r\n").response();
        assert!(response.assert(200).body == body[..300_000]);
        assert_eq!(response.get("x-sum"), Some("9"), "trailers are forwarded");
        // The client is asked for its body, and truncations are seen.
        client.send(format!("POST /echo HTTP/1.1\r\n{HOST}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
        client.head().assert(100);
        assert_eq!(client.send("hello").response().assert(200).text(), "hello");
        let head = client.send(format!("GET /broken HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
        if head.status == 200 {
            client.body(&head).expect_err("truncated");
        } else {
            head.assert(502);
        }
    });
}

#[test]
fn another_protocol_is_forwarded() {
    both(|tls| {
        let [a, b] = cluster(tls, |_| {});
        let _origin = origin_server(&b);
        let mut client = a.world.client();
        client.send(format!("GET /up HTTP/1.1\r\n{HOST}\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nfirst"));
        let head = client.head();
        assert_eq!(head.assert(101).get("upgrade"), Some("test"));
        assert_eq!(client.exactly(5).expect("an echo"), b"first");
        let much = bytes(1_000_000);
        for part in much.chunks(50_000) {
            client.send(part);
            assert!(client.exactly(part.len()).expect("an echo") == part);
        }
        client.finish();
        assert!(client.is_closed_normally(), "a half-close goes both ways");
        // Declined.
        let mut client = a.world.client();
        client.send(format!("GET /up HTTP/1.1\r\n{HOST}\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"));
        assert!(client.response().status >= 400);
    });
}

#[test]
fn a_host_that_no_node_has_is_what_it_is_on_one() {
    let [a, b] = cluster(false, |_| {});
    let _origin = origin_server(&b);
    let status = |node: &Node, host: &str| {
        node.world.client().send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().status
    };
    let asked = a.nodes.counts().forwarded;
    assert_eq!(status(&a, "elsewhere.test"), 404);
    assert_eq!(a.nodes.counts().forwarded, asked, "no credential allows it: no node is asked");
    assert_eq!(status(&a, "other.example"), 502, "known by its credential");
    assert_eq!(status(&a, "new.dev.example"), 404, "it may be registered, but is not");
    assert_eq!(a.nodes.counts().forwarded, asked + 2);
    assert_eq!((a.world.proxy.counts().unknown_host, a.world.proxy.counts().no_origin_server), (2, 1));
    // A name that was registered on another node is known there.
    let tunnel = tunnel(b.world.origins).connections(1).host("x.dev.example");
    let server = OriginServer::new(tunnel, Mode::Threads, site);
    server.expect_event("connected");
    let server = server.wait_served(&b.world);
    assert_eq!(status(&a, "x.dev.example"), 200);
    drop(server);
    b.world.wait_until("it has left", |counts| counts.connections == 1);
    std::thread::sleep(KEPT);
    assert_eq!(status(&a, "x.dev.example"), 502);
}

#[test]
fn what_a_client_says_about_nodes_ends_at_the_first_one() {
    let [a, b] = cluster(false, |_| {});
    let _origin = origin_server(&b);
    let mut client = a.world.client();
    let fields = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nUncork_Node_Service: x\r\nX-One: 1";
    let text = client.send(format!("GET /fields HTTP/1.1\r\n{HOST}\r\n{fields}\r\n\r\n")).response();
    let text = text.assert(200).text();
    assert!(text.contains("x-one: 1\n") && text.contains("x-forwarded-for: 127.0.0.1\n"), "{text}");
    for line in ["6.6.6.6", "ncork-node", "ncork_node"] {
        assert!(!text.contains(line), "{line:?} in {text}");
    }
    // One hop only.
    let fields = "Uncork-Node: 1 1 b a 1 http 192.0.2.1:1 AAAA";
    client.send(format!("GET / HTTP/1.1\r\n{HOST}\r\n{fields}\r\n\r\n")).response().assert(508);
    let mut client = b.world.client();
    client.send(format!("GET / HTTP/1.1\r\n{HOST}\r\nUncork-Node-Service: tunnel\r\n\r\n")).response().assert(200);
    assert_eq!(a.nodes.counts().rejected.iter().find(|(name, _)| *name == "loop"), Some(&("loop", 1)));
}

#[test]
fn what_a_trusted_proxy_says_is_continued() {
    let [a, b] = cluster(false, |config| config.trusted = uncork::relay::tunnel::Trusted::peers(|_| true));
    let _origin = origin_server(&b);
    let mut client = a.world.client();
    let fields = "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https";
    let text = client.send(format!("GET /fields HTTP/1.1\r\n{HOST}\r\n{fields}\r\n\r\n")).response();
    let text = text.assert(200).text();
    assert!(text.contains("x-forwarded-for: 192.0.2.9, 127.0.0.1\n"), "{text}");
    assert!(text.contains("x-forwarded-proto: https\n"), "{text}");
}

#[test]
fn a_node_that_is_lost_is_left_out() {
    both(|tls| {
        let [a, mut b, c] = cluster(tls, |_| {});
        let (_one, _two) = (origin_server(&b), origin_server(&c));
        let mut client = a.world.client();
        std::thread::sleep(KEPT);
        // Both are known to have it: the answers of both have arrived.
        get(&mut client, "/1").assert(200);
        get(&mut client, "/2").assert(200);
        b.internal.stop();
        let end = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < end {
            assert_eq!(get(&mut client, "/on").assert(200).text(), "GET /on");
        }
        assert_eq!(a.world.proxy.counts().unreachable, 0);
    });
}

#[test]
fn the_last_node_with_a_host_is_lost() {
    let [a, mut b] = cluster(false, |_| {});
    let _origin = origin_server(&b);
    let mut client = a.world.client();
    get(&mut client, "/").assert(200);
    b.internal.stop();
    let response = get(&mut client, "/");
    assert!(response.assert(502).text().contains("does not respond"), "{}", response.text());
    std::thread::sleep(KEPT);
    let response = get(&mut client, "/");
    assert!(response.assert(503).text().contains("some do not respond"), "{}", response.text());
    assert!(response.get("retry-after").is_some());
    assert_eq!(a.world.proxy.counts().unreachable, 2);
    // Its own requests go on.
    get(&mut b.world.client(), "/").assert(200);
}

#[test]
fn an_origin_server_that_has_just_left() {
    let [a, b] = cluster(false, |_| {});
    let origin = origin_server(&b);
    let mut client = a.world.client();
    get(&mut client, "/").assert(200);
    drop(origin);
    b.world.wait_until("it has left", |counts| counts.connections == 0);
    // Within the second in which the answer is kept, or after it.
    get(&mut client, "/").assert(502);
    assert_eq!(a.world.proxy.counts().unreachable, 0);
    assert_eq!(a.nodes.counts().failed, 0);
}

#[test]
fn a_client_that_disconnects_is_noticed_by_the_origin_server() {
    let [a, b] = cluster(false, |_| {});
    let _origin = origin_server(&b);
    let mut client = a.world.client();
    client.send(format!("GET /endless HTTP/1.1\r\n{HOST}\r\n\r\n")).head().assert(200);
    b.world.wait_until("it runs", |counts| counts.active == 1);
    drop(client);
    b.world.wait_until("it has ended", |counts| counts.active == 0);
    a.world.wait_until("it has ended", |counts| counts.active == 0);
    assert!(TIMEOUT > KEPT);
}

/// Waits until the nodes have these numbers of connections, and no other.
#[track_caller]
fn wait_for(what: &str, nodes: &[Node], is: impl Fn(&[u64]) -> bool) {
    let end = Instant::now() + TIMEOUT;
    loop {
        let counts: Vec<u64> = nodes.iter().map(|node| node.world.proxy.counts().connections).collect();
        if is(&counts) {
            return;
        }
        assert!(Instant::now() < end, "not in time: {what}; {counts:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_origin_server_keeps_its_connections_to_different_nodes() {
    // By ALPN and by PUT, with and without the node's own address.
    for listener in [&identity().reversed, &identity().server] {
        for with_own in [false, true] {
            let nodes: [Node; 3] = named(with_own, listener);
            let _origin = OriginServer::new(tunnel(nodes[0].world.origins), Mode::Threads, site);
            wait_for("two nodes", &nodes, |counts| {
                counts.iter().filter(|n| **n == 1).count() == 2 && counts.contains(&0)
            });
            for node in &nodes {
                get(&mut node.world.client(), "/").assert(200);
            }
        }
    }
}

#[test]
fn a_proxy_that_names_none_gets_all_connections() {
    let nodes: [Node; 2] = cluster(false, |_| {});
    let _origin = OriginServer::new(tunnel(nodes[0].world.origins), Mode::Threads, site);
    wait_for("both at the first", &nodes, |counts| counts == [2, 0]);
    // And one that does, if the origin server is told to ignore it.
    let nodes: [Node; 2] = named(true, &identity().reversed);
    let _origin = OriginServer::new(tunnel(nodes[0].world.origins).other_nodes(false), Mode::Threads, site);
    wait_for("both at the first", &nodes, |counts| counts == [2, 0]);
    std::thread::sleep(Duration::from_millis(200));
    wait_for("they stay there", &nodes, |counts| counts == [2, 0]);
}

#[test]
fn a_node_must_show_a_certificate_for_its_name() {
    // The second one is named by its address, which is not in its certificate.
    let origins: [TcpListener; 2] = sockets();
    let ports = [0, 1].map(|at: usize| origins[at].local_addr().expect("bound").port());
    let nodes = start(false, origins, &identity().reversed, |at, config| {
        config.other_addresses = vec![format!("127.0.0.1:{}", ports[1 - at])];
    });
    let _origin = OriginServer::new(tunnel(nodes[0].world.origins), Mode::Threads, site);
    wait_for("both at the first", &nodes, |counts| counts == [2, 0]);
    std::thread::sleep(Duration::from_millis(1500));
    wait_for("they stay there", &nodes, |counts| counts == [2, 0]);
    assert_eq!(nodes[1].world.proxy.counts().connections_total, 0);
}

#[test]
fn requests_go_on_when_a_node_is_lost() {
    let nodes: [Node; 3] = named(true, &identity().reversed);
    let _origin = OriginServer::new(tunnel(nodes[0].world.origins), Mode::Threads, site);
    wait_for("two nodes", &nodes, |counts| counts.iter().filter(|n| **n == 1).count() == 2);
    // The node that has the second connection.
    let at = (1..3).find(|at| nodes[*at].world.proxy.counts().connections == 1).expect("a second node");
    let left = [0, 3 - at];
    let mut clients = left.map(|at| nodes[at].world.client());
    for client in &mut clients {
        get(client, "/before").assert(200);
    }
    nodes[at].internal.stop.stop_now();
    nodes[at].world.stopper.stop_now();
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        for client in &mut clients {
            assert_eq!(get(client, "/on").assert(200).text(), "GET /on");
        }
    }
    wait_for("the connection has moved to the third node", &nodes, |counts| counts[3 - at] == 1);
}

/// Starts eight origin servers with one connection each, all at the first of two nodes, which ping often.
fn crowd(host: impl Fn(usize) -> String, other_nodes: bool) -> ([Node; 2], Vec<OriginServer>) {
    let nodes: [Node; 2] = {
        let origins: [TcpListener; 2] = sockets();
        let names: Vec<String> =
            origins.iter().map(|socket| format!("localhost:{}", socket.local_addr().expect("bound").port())).collect();
        start(false, origins, &identity().reversed, |at, config| {
            config.address = Some(names[at].clone());
            config.other_addresses.clone_from(&names);
            config.ping_interval = Duration::from_secs(1);
        })
    };
    let servers = (0..8).map(|n| {
        let tunnel = Tunnel::dial(&format!("localhost:{}", nodes[0].world.origins.port())).tls(trust()).token("app");
        let tunnel = tunnel.host(&host(n)).connections(1).other_nodes(other_nodes).backoff(Duration::from_millis(100));
        OriginServer::new(tunnel, Mode::Threads, site)
    });
    let servers = servers.collect();
    wait_for("all at the first", &nodes, |counts| counts == [8, 0]);
    // Without requests, nothing is compared.
    get(&mut nodes[0].world.client(), "/");
    (nodes, servers)
}

#[test]
fn a_node_with_clearly_more_connections_closes_some() {
    let (nodes, _servers) = crowd(|_| "app.example".into(), true);
    let begin = Instant::now();
    let mut client = nodes[0].world.client();
    while nodes[1].world.proxy.counts().connections < 2 {
        get(&mut client, "/").assert(200);
        assert!(begin.elapsed() < TIMEOUT, "{:?}", nodes[1].world.proxy.counts());
    }
    assert!(begin.elapsed() > Duration::from_secs(2), "one a second");
    // A quarter more than the mean, and one, is not too much.
    std::thread::sleep(Duration::from_millis(2500));
    wait_for("the rest stays", &nodes, |counts| counts == [6, 2]);
    assert_eq!(nodes[0].world.proxy.counts().shed, 2);
}

#[test]
fn a_connection_without_another_one_for_its_host_stays() {
    // Hosts with one connection each, and origin servers that would come back.
    let own = crowd(|n| format!("x{n}.dev.example"), true);
    let staying = crowd(|_| "app.example".into(), false);
    std::thread::sleep(Duration::from_millis(3500));
    for (nodes, _) in [own, staying] {
        wait_for("all stay", &nodes, |counts| counts == [8, 0]);
        assert_eq!(nodes[0].world.proxy.counts().shed, 0);
        assert!(nodes[0].nodes.others()[0].times.count > 0, "it has compared");
    }
}
