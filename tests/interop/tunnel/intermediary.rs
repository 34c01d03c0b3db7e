//! The proxy and `origin --forward` as intermediaries (RFC 9110 §7.6): hop-by-hop fields, `Via`, loops, informational
//! responses, and as many concurrent requests as the tunnel admits. The backend is written by hand.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use uncork::{
    Action, Request, Response, Server, Ticket,
    relay::{Via, tunnel::ProxyConfig},
};

use super::{
    client::{Client, TIMEOUT, TestResponse},
    origin::site,
    origin_program::{Dir, Origin, fetch, wait_served},
    origin_server::{Mode, OriginServer, tunnel},
    proxy::HOST,
    raw::RawOrigin,
    world::{World, config},
};

/// A server that sends `response` to each request and closes. Returns the heads that it received.
fn backend(response: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(head) = stream.ok().and_then(|stream| one_exchange(stream, response).ok()) else { return };
            if sender.send(head).is_err() {
                return;
            }
        }
    });
    (addr, heads)
}

fn one_exchange(stream: TcpStream, response: &str) -> std::io::Result<String> {
    let (mut head, mut lines) = (String::new(), BufReader::new(stream));
    while lines.read_line(&mut head)? > 2 {}
    lines.get_mut().write_all(response.as_bytes())?;
    Ok(head)
}

/// A proxy, and `origin --forward` to that URL.
fn forwarding(name: &str, config: ProxyConfig, url: &str, more: &[&str]) -> (World, Dir, Origin) {
    let (world, dir) = (World::with(config), Dir::new(name));
    let origin = Origin::start(&world, &dir, "app", &[&["--forward", url], more].concat());
    origin.expect_line("connected");
    world.wait_until("the origin server is connected", |counts| counts.connections > 0);
    (world, dir, origin)
}

fn names(via: &str) -> Vec<&str> {
    via.split(", ").map(|entry| entry.split_once(' ').expect("a version and a name").1).collect()
}

const HOP_BY_HOP_RESPONSE: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-H\r\nX-H: secret\r\n\r\n\
    HTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 200 OK\r\nConnection: X-A, close\r\nX-A: secret\r\nConnection: x-b\r\nX-B: secret\r\n\
    Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nVia: 1.0 fred\r\n\
    X-C: stays\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nok\r\n0\r\nX-A: secret\r\nKeep-Alive: secret\r\nX-Sum: 7\r\n\r\n";

#[test]
fn fields_of_one_hop_end_in_both_directions_and_via_is_extended() {
    let (addr, heads) = backend(HOP_BY_HOP_RESPONSE);
    let (world, _dir, _origin) = forwarding("hop", config(), &format!("http://{addr}"), &["--via", "behind"]);
    for mut client in [world.client(), world.secure_client()] {
        client.send(format!(
            "GET /a HTTP/1.1\r\nHost: {HOST}\r\nConnection: X-Hop\r\nX-Hop: 1\r\nVia: 1.0 mary\r\nKeep_Alive: 1\r\n\r\n"
        ));
        let hints = client.head();
        assert_eq!((hints.status, hints.get("link")), (103, Some("</a.css>; rel=preload")));
        assert_eq!(hints.get("x-h"), None, "{hints:?}");
        assert_eq!(client.head().status, 102);
        let head = client.head();
        for removed in ["x-a", "x-b", "keep-alive", "proxy-connection", "te", "upgrade", "connection"] {
            assert_eq!(head.assert(200).get(removed), None, "{removed}: {head:?}");
        }
        assert_eq!(head.get("x-c"), Some("stays"));
        assert_eq!(head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count(), 2);
        let via = head.get("via").expect("a Via field");
        assert!(via.starts_with("1.0 fred, 1.1 behind, 2.0 uncork-"), "{via}");
        let rest: Vec<String> = (0..5).map(|_| client.line().expect("a line")).collect();
        assert_eq!(rest, ["2", "ok", "0", "x-sum: 7", ""], "trailers, too");
        let head = heads.recv_timeout(TIMEOUT).expect("a request");
        let line = head.lines().find_map(|line| line.strip_prefix("Via: ")).expect("a Via field");
        assert_eq!(names(line), ["mary", names(via)[2], "behind"], "the same names, from the other end");
        assert!(!head.to_ascii_lowercase().contains("hop") && !head.contains("eep_"), "{head}");
    }
    // HTTP/1.0 has no informational responses (1xx).
    let mut client = world.client();
    client.send(format!("GET /a HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
    client.head().assert(200);
    let head = heads.recv_timeout(TIMEOUT).expect("a request");
    assert!(head.contains("Via: 1.0 uncork-"), "the version of the request: {head}");
}

#[test]
fn via_is_added_to_a_switched_response() {
    let (addr, _heads) = backend(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade, X-A\r\nUpgrade: echo\r\nX-A: secret\r\nX-B: 1\r\n\r\n",
    );
    let (world, _dir, _origin) = forwarding("switch", config(), &format!("http://{addr}"), &[]);
    let mut client = world.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"));
    let head = client.head();
    assert_eq!((head.assert(101).get("x-a"), head.get("x-b")), (None, Some("1")), "{head:?}");
    assert_eq!(names(head.get("via").expect("a Via field")).len(), 2);
}

#[test]
fn a_request_in_a_loop_is_rejected_at_once() {
    // An origin server that forwards to the proxy it serves for.
    let (world, dir) = (World::new(), Dir::new("circle"));
    let url = format!("http://{}", world.plain);
    let origin = Origin::start(&world, &dir, "app", &["--forward", &url, "--via", "circle"]);
    origin.expect_line("connected");
    world.wait_until("the origin server is connected", |counts| counts.connections > 0);
    let before = world.proxy.counts();
    let response = fetch(&world, "GET /", &[]);
    assert_eq!(response.assert(508).text(), "request loop: this proxy has forwarded the request before\n");
    let counts = world.proxy.counts();
    assert_eq!((counts.requests - before.requests, counts.unfit - before.unfit), (2, 1));
    // The program knows its own name as well, and an endless chain.
    fetch(&world, "GET /", &["Via: 1.1 a, HTTP/1.1 Circle (note), 1.1 b"]).assert(508);
    fetch(&world, "GET /", &[&format!("Via: {}", vec!["1.1 x"; 40].join(", "))]).assert(508);
}

#[test]
fn proxies_may_stand_behind_one_another() {
    let near = World::new();
    let _origin_server = OriginServer::new(tunnel(near.origins), Mode::Threads, site).wait_connected(&near);
    let url = format!("http://{}", near.plain);
    let (far, _dir, _origin) = forwarding("chain", config(), &url, &[]);
    let response = fetch(&far, "GET /fields", &[]);
    let via = response.assert(200).text().lines().find_map(|line| line.strip_prefix("via: ")).expect("a Via field");
    let mut proxies = names(via);
    assert_eq!(proxies.len(), 3, "{via}");
    proxies.sort_unstable();
    proxies.dedup();
    assert_eq!(proxies.len(), 3, "three names: {via}");
    // With the same name in two programs it looks like a loop: the error says so, and a flag changes the name.
    let via = Some(Via::named("ours").expect("a name"));
    let near = World::with(ProxyConfig { via: via.clone(), ..config() });
    let _origin_server = OriginServer::new(tunnel(near.origins), Mode::Threads, site).wait_connected(&near);
    let url = format!("http://{}", near.plain);
    let (far, _dir, _origin) = forwarding("same", ProxyConfig { via, ..config() }, &url, &[]);
    fetch(&far, "GET /fields", &[]).assert(508);
}

#[test]
fn max_forwards_is_counted() {
    let (addr, heads) = backend("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let (world, _dir, _origin) = forwarding("max", config(), &format!("http://{addr}"), &[]);
    // The proxy, the program behind it, and the server.
    fetch(&world, "OPTIONS /", &["Max-Forwards: 0"]).assert(204);
    fetch(&world, "TRACE /", &["Max-Forwards: 0"]).assert(405);
    fetch(&world, "OPTIONS /", &["Max-Forwards: 1"]).assert(204);
    for (line, given, left) in
        [("OPTIONS /", "2", "0"), ("TRACE /", "9", "7"), ("GET /", "0", "0"), ("OPTIONS /", "x", "x")]
    {
        fetch(&world, line, &[&format!("Max-Forwards: {given}")]).assert(200);
        let head = heads.recv_timeout(TIMEOUT).expect("a request").to_ascii_lowercase();
        assert!(head.contains(&format!("max-forwards: {left}\r\n")), "{line} {given}: {head}");
    }
}

/// A server that responds only when the test says so.
fn holding_server() -> (String, Arc<Mutex<Vec<Ticket>>>, uncork::Running) {
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let held = waiting.clone();
    let handler = move |req: &mut Request<'_>| -> Action {
        if req.path() == "/held" {
            held.lock().expect("no panic").push(req.ticket());
            return Action::Suspend;
        }
        Response::text("at once").into()
    };
    let running = Server::bind("127.0.0.1:0").expect("bound").threads(1, handler).expect("running");
    (format!("http://{}", running.local_addr().expect("an address")), waiting, running)
}

#[track_caller]
fn until_held(waiting: &Mutex<Vec<Ticket>>, n: usize) {
    let end = Instant::now() + TIMEOUT;
    while waiting.lock().expect("no panic").len() < n {
        let held = waiting.lock().expect("no panic").len();
        assert!(Instant::now() < end, "{held} of {n} requests have reached the server");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hold(world: &World, n: usize) -> Vec<Client> {
    let request = |_| {
        let mut client = world.client();
        client.send(format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        client
    };
    (0..n).map(request).collect()
}

fn release(waiting: &Mutex<Vec<Ticket>>) {
    for ticket in std::mem::take(&mut *waiting.lock().expect("no panic")) {
        ticket.respond(Response::text("held")).expect("a suspended request");
    }
}

#[test]
fn as_many_requests_are_forwarded_as_the_tunnel_admits() {
    let (url, waiting, _running) = holding_server();
    let config = ProxyConfig { streams_per_address: 1000, ..config() };
    let (world, _dir, _origin) = forwarding("many", config, &url, &[]);
    let mut clients = hold(&world, 150);
    until_held(&waiting, 150);
    assert_eq!(fetch(&world, "GET /", &[]).assert(200).text(), "at once");
    release(&waiting);
    for client in &mut clients {
        assert_eq!(client.response().assert(200).text(), "held");
    }
}

#[test]
fn a_request_above_the_limit_is_rejected_at_once() {
    let (url, waiting, _running) = holding_server();
    let (world, _dir, _origin) = forwarding("limit", config(), &url, &["--forward-requests", "3"]);
    let mut clients = hold(&world, 3);
    until_held(&waiting, 3);
    let began = Instant::now();
    let rejected: TestResponse = fetch(&world, "GET /", &[]);
    assert_eq!((rejected.assert(503).get("retry-after"), began.elapsed().as_secs()), (Some("1"), 0));
    release(&waiting);
    for client in &mut clients {
        client.response().assert(200);
    }
    wait_served(&world);
    fetch(&world, "GET /", &[]).assert(200);
}

#[test]
fn trailers_of_one_hop_end_here() {
    let world = World::new();
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\nX-Hop: secret\r\nX_Forwarded_For: 192.0.2.1\r\nX-Sum: 6\r\n\r\n"
    ));
    let stream = origin.request();
    let trailers = origin.expect(|frame| frame.kind == super::raw::HEADERS);
    assert!(trailers.ends());
    origin.head(stream, 200, &[], true);
    client.response().assert(200);
    // Huffman-coded or not, a block of one short field is not longer than this.
    assert!(trailers.payload.len() < 16, "{:?}", trailers.payload);
}
