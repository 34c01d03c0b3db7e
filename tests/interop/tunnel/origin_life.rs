//! The tunnel's life: accepted and rejected origin servers, loss and reconnection, and its end.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use uncork::{
    Action, Listen, Request, Response, Server, Ticket, Tls, TlsClient,
    relay::tunnel::{Proxy, Tunnel},
};

use super::{
    client::{Client, TIMEOUT},
    origin::site,
    origin_server::{MODES, Mode, OriginServer, trust, tunnel},
    site::bytes,
    world::{World, config},
};

const HOST: &str = "Host: app.example";

fn get(client: &mut Client, path: &str) -> super::client::TestResponse {
    client.send(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n\r\n")).response()
}

#[test]
fn a_rejected_tunnel_reports_the_reason_and_tries_again() {
    let world = World::new();
    let proxy = || tunnel(world.origins).connections(1);
    for (tunnel, text) in [
        (proxy().token("wrong"), "401 (check the token): unknown token"),
        (
            proxy().host("other.example"),
            "403 (check that the token is valid for these names): this credential must not use other.example",
        ),
        (Tunnel::dial(&format!("localhost:{}", world.plain.port())).tls(trust()).host("a"), "cannot establish TLS"),
        (proxy().tls(TlsClient::builder().pin([7; 32]).build().expect("a pin")), "not the pinned one"),
    ] {
        let origin = OriginServer::new(tunnel, Mode::Threads, site);
        for _ in 0..2 {
            let event = origin.expect_event("next attempt in");
            assert!(event.contains(text), "{event}");
        }
    }
    assert_eq!(world.proxy.counts().connections, 0);
    let mut client = world.client();
    get(&mut client, "/").assert(502);
    let proxy = test_proxy("localhost", false);
    let origin = OriginServer::new(proxy.tunnel().path("/elsewhere"), Mode::Threads, site);
    let event = origin.expect_event("next attempt in");
    assert!(event.contains("404 (this may not be the proxy's port for origin servers)"), "{event}");
}

/// A second credential requests a name that the first one has.
#[test]
fn a_name_belongs_to_one_credential() {
    let world = World::new();
    let _first =
        OriginServer::new(tunnel(world.origins).host("a.dev.example"), Mode::Threads, site).wait_connected(&world);
    let second = Tunnel::dial(&format!("localhost:{}", world.origins.port())).tls(trust()).token("other");
    let second =
        OriginServer::new(second.host("a.dev.example").backoff(Duration::from_millis(20)), Mode::Threads, site);
    let event = second.expect_event("next attempt in");
    assert!(event.contains("409 (another credential has one of these names)"), "{event}");
}

/// A proxy with its own certificate, possibly a wrong one, which does not support `rh2`.
struct TestProxy {
    servers: Vec<uncork::Running>,
    addr: SocketAddr,
    public: SocketAddr,
    pem: String,
    pin: [u8; 32],
}

fn test_proxy(name: &str, expired: bool) -> TestProxy {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let cert = params.self_signed(&key).expect("a certificate");
    let pem = cert.pem();
    let tls = Tls::pem_bytes(pem.as_bytes(), key.serialize_pem().as_bytes()).expect("a pair");
    let proxy = Proxy::new(config()).expect("a proxy");
    let server = Server::new().listen(Listen::tcp("127.0.0.1:0").expect("bound").tls(tls));
    let addr = server.local_addr().expect("an address");
    let running = server.threads(1, proxy.origin_servers()).expect("running");
    let public = Server::bind("127.0.0.1:0").expect("bound").threads(1, proxy.public()).expect("running");
    let clients = public.local_addr().expect("an address");
    let pin = Sha256::digest(key.subject_public_key_info()).into();
    TestProxy { servers: vec![running, public], addr, public: clients, pem, pin }
}

impl TestProxy {
    fn tunnel(&self) -> Tunnel {
        tunnel(self.addr).tls(TlsClient::roots_pem(self.pem.as_bytes()).expect("a root"))
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        for running in self.servers.drain(..) {
            running.stop_now().expect("ended normally");
        }
    }
}

#[test]
fn the_proxy_must_prove_its_identity() {
    let (good, expired, other) =
        (test_proxy("localhost", false), test_proxy("localhost", true), test_proxy("elsewhere", false));
    let roots = |proxy: &TestProxy| TlsClient::builder().roots_pem(proxy.pem.as_bytes()).expect("a root");
    let dial = |proxy: &TestProxy, tls: TlsClient| OriginServer::new(tunnel(proxy.addr).tls(tls), Mode::Threads, site);
    for (proxy, tls, text) in [
        (&expired, roots(&expired), "has expired"),
        (&other, roots(&other), "not valid for name"),
        (&good, roots(&other), "invalid peer certificate"),
        (&good, TlsClient::builder().pin(other.pin), "not the pinned one"),
        // Both conditions must hold.
        (&good, roots(&other).pin(good.pin), "invalid peer certificate"),
        (&good, roots(&good).pin(other.pin), "not the pinned one"),
    ] {
        let origin = dial(proxy, tls.build().expect("TLS"));
        let event = origin.expect_event("next attempt in");
        assert!(event.contains(text), "{text}: {event}");
    }
    for (proxy, tls) in [
        (&good, roots(&good)),
        (&good, roots(&good).pin(good.pin)),
        // Independent of its certificate.
        (&expired, TlsClient::builder().pin(other.pin).pin(expired.pin)),
        (&other, TlsClient::builder().pin(other.pin)),
    ] {
        dial(proxy, tls.build().expect("TLS")).expect_event("connected");
    }
}

/// An HTTP proxy on the path may require that.
#[test]
fn without_alpn_the_tunnel_begins_with_an_upgrade() {
    let proxy = test_proxy("localhost", false);
    let origin = OriginServer::new(proxy.tunnel(), Mode::Threads, site);
    origin.expect_event("connected");
    let end = Instant::now() + TIMEOUT;
    let mut client = Client::connect(proxy.public, None);
    while get(&mut client, "/").status == 502 {
        assert!(Instant::now() < end, "the origin server does not join");
    }
    assert!(get(&mut client, "/big").assert(200).body == bytes(3_000_000));
}

#[test]
fn a_killed_origin_server_causes_clear_errors_until_it_is_back() {
    let world = World::new();
    let body: Arc<[u8]> = bytes(200_000).into();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (world, body, over) = (&world, &body, &over);
                scope.spawn(move || {
                    let (mut good, mut bad) = (0, 0);
                    while !over.load(Ordering::Relaxed) {
                        let mut client = world.client();
                        client.send(format!("GET /body HTTP/1.1\r\n{HOST}\r\n\r\n"));
                        let Ok(head) = client.try_head() else {
                            bad += 1;
                            continue;
                        };
                        match head.status {
                            200 => match client.body(&head) {
                                Ok(got) => {
                                    assert!(got[..] == body[..], "wrong bytes");
                                    good += 1;
                                }
                                Err(_) => bad += 1,
                            },
                            502 | 503 => bad += 1,
                            status => panic!("{status}"),
                        }
                    }
                    (good, bad)
                })
            })
            .collect();
        for _ in 0..3 {
            let body = body.clone();
            let handler = move |_: &mut Request<'_>| Response::new(200).body(body.clone());
            let began = Instant::now();
            let origin = OriginServer::new(tunnel(world.origins), Mode::Threads, handler);
            origin.expect_event("connected");
            // Served again: a client receives the whole response.
            while get(&mut world.client(), "/body").status != 200 {
                assert!(began.elapsed() < Duration::from_secs(2), "served again within two seconds");
            }
            drop(origin);
        }
        over.store(true, Ordering::Relaxed);
        let all: Vec<(u32, u32)> = clients.into_iter().map(|client| client.join().expect("no wrong bytes")).collect();
        // Not each of them: an origin server lives only until one client has received the whole.
        assert!(all.iter().any(|(good, _)| *good > 0), "{all:?}");
    });
}

#[test]
fn a_proxy_that_is_restarted_is_dialled_again() {
    for mode in MODES {
        let world = World::new();
        let origins = world.origins;
        let origin = OriginServer::new(tunnel(origins), mode, site).wait_connected(&world);
        drop(world);
        origin.expect_event("next attempt in");
        let world = World::on(config(), 2, &origins.to_string());
        origin.expect_event("connected");
        world.wait_until("a connection", |counts| counts.connections > 0);
        let end = Instant::now() + TIMEOUT;
        while get(&mut world.client(), "/").status != 200 {
            assert!(Instant::now() < end, "it is served again");
        }
    }
}

/// Forwards bytes between the origin server and its proxy, until the test stops it.
fn silenced(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (addr, silent) = (listener.local_addr().expect("an address"), Arc::new(AtomicBool::new(false)));
    let shared = silent.clone();
    std::thread::spawn(move || {
        for inbound in listener.incoming().map_while(Result::ok) {
            let Ok(outbound) = TcpStream::connect(to) else { continue };
            for (from, into) in [(&inbound, &outbound), (&outbound, &inbound)] {
                let (mut from, mut into) = (from.try_clone().expect("a stream"), into.try_clone().expect("a stream"));
                // Connections made after the silence work.
                let silent = if shared.load(Ordering::Relaxed) { Arc::default() } else { shared.clone() };
                std::thread::spawn(move || {
                    let mut block = [0; 4096];
                    while let Ok(n) = std::io::Read::read(&mut from, &mut block) {
                        if n == 0 {
                            break;
                        }
                        if !silent.load(Ordering::Relaxed) && std::io::Write::write_all(&mut into, &block[..n]).is_err()
                        {
                            break;
                        }
                    }
                });
            }
        }
    });
    (addr, silent)
}

#[test]
fn a_silent_network_is_detected_and_avoided() {
    let mut proxy = config();
    proxy.ping_interval = Duration::from_secs(60);
    let world = World::with(proxy);
    let (addr, silent) = silenced(world.origins);
    let origin =
        OriginServer::new(tunnel(addr).ping_interval(Duration::from_millis(200)).connections(1), Mode::Threads, site);
    let origin = origin.wait_served(&world);
    origin.expect_event("connected");
    get(&mut world.client(), "/").assert(200);
    silent.store(true, Ordering::Relaxed);
    // Another connection is made beside it when the first ping is overdue; no loss is reported.
    origin.expect_event("connected");
    let end = Instant::now() + TIMEOUT;
    loop {
        // The proxy does not know yet that the old connection is dead: it may still select it.
        let mut client = world.client();
        client.send(format!("GET / HTTP/1.1\r\n{HOST}\r\nConnection: close\r\n\r\n"));
        if !client.is_silent(Duration::from_millis(300)) {
            client.response().assert(200);
            break;
        }
        assert!(Instant::now() < end, "never served again");
    }
}

#[test]
fn pings_keep_an_idle_tunnel_open() {
    let mut proxy = config();
    proxy.ping_interval = Duration::from_secs(60);
    let world = World::with(proxy);
    let origin =
        OriginServer::new(tunnel(world.origins).ping_interval(Duration::from_millis(250)), Mode::Threads, site)
            .wait_connected(&world);
    // Twice as long: without pings, or responses to them, it would be considered dead.
    std::thread::sleep(Duration::from_millis(1000));
    get(&mut world.client(), "/").assert(200);
    assert_eq!(world.proxy.counts().connections, 2);
    drop(origin);
}

#[test]
fn two_origin_servers_share_a_name_and_one_may_stop() {
    let world = World::new();
    let named = |name: &'static str| {
        let handler = move |_: &mut Request<'_>| Response::text(name);
        OriginServer::new(tunnel(world.origins).connections(1), Mode::Threads, handler)
    };
    let (one, two) = (named("one"), named("two"));
    one.expect_event("connected");
    two.expect_event("connected");
    let end = Instant::now() + TIMEOUT;
    let mut seen = [0, 0];
    while seen.contains(&0) {
        assert!(Instant::now() < end, "{seen:?}");
        match get(&mut world.client(), "/").text() {
            "one" => seen[0] += 1,
            "two" => seen[1] += 1,
            _ => {}
        }
    }
    // A normal end: no event is reported.
    one.stopper.shutdown(TIMEOUT);
    let mut client = world.client();
    for _ in 0..100 {
        get(&mut client, "/").assert(200);
    }
    one.wait_ended();
    for _ in 0..20 {
        assert_eq!(get(&mut client, "/").assert(200).text(), "two");
    }
}

#[test]
fn a_stopped_tunnel_finishes_its_requests() {
    for mode in MODES {
        let world = World::new();
        let (sender, tickets) = std::sync::mpsc::channel::<Ticket>();
        let handler = move |req: &mut Request<'_>| {
            sender.send(req.ticket()).expect("a receiver");
            Action::Suspend
        };
        let origin = OriginServer::new(tunnel(world.origins), mode, handler);
        world.wait_until("two connections", |counts| counts.connections == 2);
        let mut client = world.client();
        client.send(format!("GET / HTTP/1.1\r\n{HOST}\r\n\r\n"));
        let ticket = tickets.recv_timeout(TIMEOUT).expect("a request");
        origin.stopper.shutdown(TIMEOUT);
        world.wait_until("one connection", |counts| counts.connections == 1);
        ticket.respond(Response::text("in the end")).expect("a suspended request");
        assert_eq!(client.response().assert(200).text(), "in the end");
        origin.expect_event("the server stops");
        origin.wait_ended();
        world.wait_until("no connection", |counts| counts.connections == 0);
        get(&mut world.client(), "/").assert(502);
    }
}
