//! The proxy and `origin --forward` as intermediaries (RFC 9110 §7.6): hop-by-hop fields, `Via`, loops, interim
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
    client::{Answer, Client, PATIENCE},
    dug::{Dug, Mode, tunnel},
    origin::site,
    origin_program::{Dir, Origin, ask, served},
    proxy::HOST,
    raw::RawOrigin,
    world::{World, config},
};

/// A server that sends `response` to each request and closes. Returns the heads that it received.
fn backend(response: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    let (tell, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(head) = stream.ok().and_then(|stream| one_exchange(stream, response).ok()) else { return };
            if tell.send(head).is_err() {
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
    origin.says("connected");
    world.until("the origin server is connected", |counts| counts.connections > 0);
    (world, dir, origin)
}

fn names(via: &str) -> Vec<&str> {
    via.split(", ").map(|entry| entry.split_once(' ').expect("a version and a name").1).collect()
}

const LEAKY: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-H\r\nX-H: secret\r\n\r\n\
    HTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 200 OK\r\nConnection: X-A, close\r\nX-A: secret\r\nConnection: x-b\r\nX-B: secret\r\n\
    Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nVia: 1.0 fred\r\n\
    X-C: stays\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nok\r\n0\r\nX-A: secret\r\nKeep-Alive: secret\r\nX-Sum: 7\r\n\r\n";

#[test]
fn fields_of_one_hop_end_in_both_directions_and_via_is_signed() {
    let (addr, heads) = backend(LEAKY);
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
        for gone in ["x-a", "x-b", "keep-alive", "proxy-connection", "te", "upgrade", "connection"] {
            assert_eq!(head.assert(200).get(gone), None, "{gone}: {head:?}");
        }
        assert_eq!(head.get("x-c"), Some("stays"));
        assert_eq!(head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count(), 2);
        let via = head.get("via").expect("signed");
        assert!(via.starts_with("1.0 fred, 1.1 behind, 2.0 uncork-"), "{via}");
        let rest: Vec<String> = (0..5).map(|_| client.line().expect("a line")).collect();
        assert_eq!(rest, ["2", "ok", "0", "x-sum: 7", ""], "trailers, too");
        let asked = heads.recv_timeout(PATIENCE).expect("asked");
        let line = asked.lines().find_map(|line| line.strip_prefix("Via: ")).expect("signed");
        assert_eq!(names(line), ["mary", names(via)[2], "behind"], "the same names, from the other end");
        assert!(!asked.to_ascii_lowercase().contains("hop") && !asked.contains("eep_"), "{asked}");
    }
    // HTTP/1.0 has no interim responses.
    let mut client = world.client();
    client.send(format!("GET /a HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
    client.head().assert(200);
    let asked = heads.recv_timeout(PATIENCE).expect("asked");
    assert!(asked.contains("Via: 1.0 uncork-"), "the version that came: {asked}");
}

#[test]
fn what_switches_is_signed_too() {
    let (addr, _heads) = backend(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade, X-A\r\nUpgrade: echo\r\nX-A: secret\r\nX-B: 1\r\n\r\n",
    );
    let (world, _dir, _origin) = forwarding("switch", config(), &format!("http://{addr}"), &[]);
    let mut client = world.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"));
    let head = client.head();
    assert_eq!((head.assert(101).get("x-a"), head.get("x-b")), (None, Some("1")), "{head:?}");
    assert_eq!(names(head.get("via").expect("signed")).len(), 2);
}

#[test]
fn a_request_that_comes_back_is_answered_once() {
    // An origin server that forwards to the proxy it serves for.
    let (world, dir) = (World::new(), Dir::new("circle"));
    let url = format!("http://{}", world.plain);
    let origin = Origin::start(&world, &dir, "app", &["--forward", &url, "--via", "circle"]);
    origin.says("connected");
    world.until("the origin server is connected", |counts| counts.connections > 0);
    let before = world.proxy.counts();
    let answer = ask(&world, "GET /", &[]);
    assert_eq!(answer.assert(508).text(), "request loop: this proxy has forwarded the request before\n");
    let counts = world.proxy.counts();
    assert_eq!((counts.requests - before.requests, counts.unfit - before.unfit), (2, 1));
    // The program knows its own name as well, and an endless chain.
    ask(&world, "GET /", &["Via: 1.1 a, HTTP/1.1 Circle (note), 1.1 b"]).assert(508);
    ask(&world, "GET /", &[&format!("Via: {}", vec!["1.1 x"; 40].join(", "))]).assert(508);
}

#[test]
fn proxies_may_stand_behind_one_another() {
    let near = World::new();
    let _dug = Dug::new(tunnel(near.origins), Mode::Threads, site).stands(&near);
    let url = format!("http://{}", near.plain);
    let (far, _dir, _origin) = forwarding("chain", config(), &url, &[]);
    let answer = ask(&far, "GET /fields", &[]);
    let via = answer.assert(200).text().lines().find_map(|line| line.strip_prefix("via: ")).expect("signed");
    let mut passed = names(via);
    assert_eq!(passed.len(), 3, "{via}");
    passed.sort_unstable();
    passed.dedup();
    assert_eq!(passed.len(), 3, "three names: {via}");
    // With the same name in two programs it looks like a loop: the error says so, and a flag changes the name.
    let via = Some(Via::named("ours").expect("a name"));
    let near = World::with(ProxyConfig { via: via.clone(), ..config() });
    let _dug = Dug::new(tunnel(near.origins), Mode::Threads, site).stands(&near);
    let url = format!("http://{}", near.plain);
    let (far, _dir, _origin) = forwarding("same", ProxyConfig { via, ..config() }, &url, &[]);
    ask(&far, "GET /fields", &[]).assert(508);
}

#[test]
fn max_forwards_is_counted() {
    let (addr, heads) = backend("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let (world, _dir, _origin) = forwarding("max", config(), &format!("http://{addr}"), &[]);
    // The proxy, the program behind it, and the server.
    ask(&world, "OPTIONS /", &["Max-Forwards: 0"]).assert(204);
    ask(&world, "TRACE /", &["Max-Forwards: 0"]).assert(405);
    ask(&world, "OPTIONS /", &["Max-Forwards: 1"]).assert(204);
    for (line, given, left) in
        [("OPTIONS /", "2", "0"), ("TRACE /", "9", "7"), ("GET /", "0", "0"), ("OPTIONS /", "x", "x")]
    {
        ask(&world, line, &[&format!("Max-Forwards: {given}")]).assert(200);
        let asked = heads.recv_timeout(PATIENCE).expect("asked").to_ascii_lowercase();
        assert!(asked.contains(&format!("max-forwards: {left}\r\n")), "{line} {given}: {asked}");
    }
}

/// A server that responds only when the test says so.
fn patient() -> (String, Arc<Mutex<Vec<Ticket>>>, uncork::Running) {
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let keeps = waiting.clone();
    let handler = move |req: &mut Request<'_>| -> Action {
        if req.path() == "/held" {
            keeps.lock().expect("no panic").push(req.ticket());
            return Action::Suspend;
        }
        Response::text("at once").into()
    };
    let running = Server::bind("127.0.0.1:0").expect("bound").threads(1, handler).expect("running");
    (format!("http://{}", running.local_addr().expect("an address")), waiting, running)
}

#[track_caller]
fn until_held(waiting: &Mutex<Vec<Ticket>>, n: usize) {
    let end = Instant::now() + PATIENCE;
    while waiting.lock().expect("no panic").len() < n {
        let held = waiting.lock().expect("no panic").len();
        assert!(Instant::now() < end, "{held} of {n} requests have reached the server");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hold(world: &World, n: usize) -> Vec<Client> {
    let ask = |_| {
        let mut client = world.client();
        client.send(format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        client
    };
    (0..n).map(ask).collect()
}

fn release(waiting: &Mutex<Vec<Ticket>>) {
    for ticket in std::mem::take(&mut *waiting.lock().expect("no panic")) {
        ticket.respond(Response::text("held")).expect("a suspended request");
    }
}

#[test]
fn as_many_are_forwarded_as_the_tunnel_lets_in() {
    let (url, waiting, _running) = patient();
    let config = ProxyConfig { streams_per_address: 1000, ..config() };
    let (world, _dir, _origin) = forwarding("many", config, &url, &[]);
    let mut clients = hold(&world, 150);
    until_held(&waiting, 150);
    assert_eq!(ask(&world, "GET /", &[]).assert(200).text(), "at once");
    release(&waiting);
    for client in &mut clients {
        assert_eq!(client.answer().assert(200).text(), "held");
    }
}

#[test]
fn a_limit_that_is_met_is_told_at_once() {
    let (url, waiting, _running) = patient();
    let (world, _dir, _origin) = forwarding("limit", config(), &url, &["--forward-requests", "3"]);
    let mut clients = hold(&world, 3);
    until_held(&waiting, 3);
    let began = Instant::now();
    let refused: Answer = ask(&world, "GET /", &[]);
    assert_eq!((refused.assert(503).get("retry-after"), began.elapsed().as_secs()), (Some("1"), 0));
    release(&waiting);
    for client in &mut clients {
        client.answer().assert(200);
    }
    served(&world);
    ask(&world, "GET /", &[]).assert(200);
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
    client.answer().assert(200);
    // Huffman-coded or not, a block of one short field is not longer than this.
    assert!(trailers.payload.len() < 16, "{:?}", trailers.payload);
}
