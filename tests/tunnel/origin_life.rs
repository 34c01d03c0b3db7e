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
    client::{Client, PATIENCE},
    dug::{Dug, MODES, Mode, trust, tunnel},
    origin::site,
    site::bytes,
    world::{World, config},
};

const HOST: &str = "Host: app.example";

fn get(client: &mut Client, path: &str) -> super::client::Answer {
    client.send(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n\r\n")).answer()
}

#[test]
fn who_is_not_let_in_is_told_why_and_tries_again() {
    let world = World::new();
    let proxy = || tunnel(world.origins).connections(1);
    for (tunnel, words) in [
        (proxy().token("wrong"), "401, check the token: unknown token"),
        (
            proxy().host("other.example"),
            "403, the token may not have these names: this credential must not use other.example",
        ),
        (Tunnel::dial(&format!("localhost:{}", world.plain.port())).tls(trust()).host("a"), "cannot establish TLS"),
        (proxy().tls(TlsClient::builder().pin([7; 32]).build().expect("a pin")), "not the pinned one"),
    ] {
        let dug = Dug::new(tunnel, Mode::Threads, site);
        for _ in 0..2 {
            let event = dug.hears("next attempt in");
            assert!(event.contains(words), "{event}");
        }
    }
    assert_eq!(world.proxy.counts().connections, 0);
    let mut client = world.client();
    get(&mut client, "/").assert(502);
    let shown = shown("localhost", false);
    let dug = Dug::new(shown.tunnel().path("/elsewhere"), Mode::Threads, site);
    let event = dug.hears("next attempt in");
    assert!(event.contains("404, is this the proxy's port for origin servers?"), "{event}");
}

/// One origin server that knows only a name, and one that takes the name first.
#[test]
fn a_name_is_whose_it_is() {
    let world = World::new();
    let _first = Dug::new(tunnel(world.origins).host("a.dev.example"), Mode::Threads, site).stands(&world);
    let thief = Tunnel::dial(&format!("localhost:{}", world.origins.port())).tls(trust()).token("other");
    let thief = Dug::new(thief.host("a.dev.example").backoff(Duration::from_millis(20)), Mode::Threads, site);
    let event = thief.hears("next attempt in");
    assert!(event.contains("409, another credential has one of these names"), "{event}");
}

/// A proxy with its own certificate, possibly a wrong one, which does not support `rh2`.
struct Shown {
    world: Vec<uncork::Running>,
    addr: SocketAddr,
    public: SocketAddr,
    pem: String,
    pin: [u8; 32],
}

fn shown(name: &str, expired: bool) -> Shown {
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
    let running = server.threads(1, proxy.origins()).expect("running");
    let public = Server::bind("127.0.0.1:0").expect("bound").threads(1, proxy.public()).expect("running");
    let clients = public.local_addr().expect("an address");
    let pin = Sha256::digest(key.subject_public_key_info()).into();
    Shown { world: vec![running, public], addr, public: clients, pem, pin }
}

impl Shown {
    fn tunnel(&self) -> Tunnel {
        tunnel(self.addr).tls(TlsClient::roots_pem(self.pem.as_bytes()).expect("a root"))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        for running in self.world.drain(..) {
            running.stop().expect("in order");
        }
    }
}

#[test]
fn the_proxy_has_to_prove_who_it_is() {
    let (good, expired, other) = (shown("localhost", false), shown("localhost", true), shown("elsewhere", false));
    let roots = |shown: &Shown| TlsClient::builder().roots_pem(shown.pem.as_bytes()).expect("a root");
    let dig = |shown: &Shown, tls: TlsClient| Dug::new(tunnel(shown.addr).tls(tls), Mode::Threads, site);
    for (shown, tls, words) in [
        (&expired, roots(&expired), "has expired"),
        (&other, roots(&other), "not valid for name"),
        (&good, roots(&other), "invalid peer certificate"),
        (&good, TlsClient::builder().pin(other.pin), "not the pinned one"),
        // Both conditions must hold.
        (&good, roots(&other).pin(good.pin), "invalid peer certificate"),
        (&good, roots(&good).pin(other.pin), "not the pinned one"),
    ] {
        let dug = dig(shown, tls.build().expect("TLS"));
        let event = dug.hears("next attempt in");
        assert!(event.contains(words), "{words}: {event}");
    }
    for (shown, tls) in [
        (&good, roots(&good)),
        (&good, roots(&good).pin(good.pin)),
        // Independent of its certificate.
        (&expired, TlsClient::builder().pin(other.pin).pin(expired.pin)),
        (&other, TlsClient::builder().pin(other.pin)),
    ] {
        dig(shown, tls.build().expect("TLS")).hears("connected");
    }
}

/// As an HTTP proxy on the path may need it.
#[test]
fn without_alpn_it_begins_with_an_upgrade() {
    let shown = shown("localhost", false);
    let dug = Dug::new(shown.tunnel(), Mode::Threads, site);
    dug.hears("connected");
    let end = Instant::now() + PATIENCE;
    let mut client = Client::connect(shown.public, None);
    while get(&mut client, "/").status == 502 {
        assert!(Instant::now() < end, "the origin server does not join");
    }
    assert!(get(&mut client, "/big").assert(200).body == bytes(3_000_000));
}

#[test]
fn an_origin_that_is_killed_costs_clear_errors_and_is_healed_when_it_is_back() {
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
            let dug = Dug::new(tunnel(world.origins), Mode::Threads, handler);
            dug.hears("connected");
            // Healed: a client receives the whole response.
            while get(&mut world.client(), "/body").status != 200 {
                assert!(began.elapsed() < Duration::from_secs(2), "healed within two seconds");
            }
            drop(dug);
        }
        over.store(true, Ordering::Relaxed);
        let all: Vec<(u32, u32)> = clients.into_iter().map(|client| client.join().expect("no wrong bytes")).collect();
        // Not each of them: an origin server lives only until one client has received the whole.
        assert!(all.iter().any(|(good, _)| *good > 0), "{all:?}");
    });
}

#[test]
fn a_proxy_that_is_killed_is_found_again() {
    for mode in MODES {
        let world = World::new();
        let origins = world.origins;
        let dug = Dug::new(tunnel(origins), mode, site).stands(&world);
        drop(world);
        dug.hears("next attempt in");
        let world = World::on(config(), 2, &origins.to_string());
        dug.hears("connected");
        world.until("a link", |counts| counts.connections > 0);
        let end = Instant::now() + PATIENCE;
        while get(&mut world.client(), "/").status != 200 {
            assert!(Instant::now() < end, "it is served again");
        }
    }
}

/// Passes bytes on between the origin server and its proxy, until the test stops it.
fn silenced(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (addr, silent) = (listener.local_addr().expect("an address"), Arc::new(AtomicBool::new(false)));
    let shared = silent.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            for (from, into) in [(&near, &far), (&far, &near)] {
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
fn a_silent_network_is_found_out_and_gone_round() {
    let mut proxy = config();
    proxy.ping_interval = Duration::from_secs(60);
    let world = World::with(proxy);
    let (addr, silent) = silenced(world.origins);
    let dug = Dug::new(tunnel(addr).ping_interval(Duration::from_millis(200)).connections(1), Mode::Threads, site);
    let dug = dug.serves(&world);
    dug.hears("connected");
    get(&mut world.client(), "/").assert(200);
    silent.store(true, Ordering::Relaxed);
    // Another connection is made beside it when the first ping is overdue; no loss is reported.
    dug.hears("connected");
    let end = Instant::now() + PATIENCE;
    loop {
        // The proxy does not know yet that the old connection is dead: it may still select it.
        let mut client = world.client();
        client.send(format!("GET / HTTP/1.1\r\n{HOST}\r\nConnection: close\r\n\r\n"));
        if !client.is_silent(Duration::from_millis(300)) {
            client.answer().assert(200);
            break;
        }
        assert!(Instant::now() < end, "never served again");
    }
}

#[test]
fn pings_keep_an_idle_tunnel() {
    let mut proxy = config();
    proxy.ping_interval = Duration::from_secs(60);
    let world = World::with(proxy);
    let dug =
        Dug::new(tunnel(world.origins).ping_interval(Duration::from_millis(250)), Mode::Threads, site).stands(&world);
    // Twice as long: without pings, or responses to them, it would be considered dead.
    std::thread::sleep(Duration::from_millis(1000));
    get(&mut world.client(), "/").assert(200);
    assert_eq!(world.proxy.counts().connections, 2);
    drop(dug);
}

#[test]
fn two_origins_share_a_name_and_one_may_leave() {
    let world = World::new();
    let named = |name: &'static str| {
        let handler = move |_: &mut Request<'_>| Response::text(name);
        Dug::new(tunnel(world.origins).connections(1), Mode::Threads, handler)
    };
    let (one, two) = (named("one"), named("two"));
    one.hears("connected");
    two.hears("connected");
    let end = Instant::now() + PATIENCE;
    let mut seen = [0, 0];
    while seen.contains(&0) {
        assert!(Instant::now() < end, "{seen:?}");
        match get(&mut world.client(), "/").text() {
            "one" => seen[0] += 1,
            "two" => seen[1] += 1,
            _ => {}
        }
    }
    // In order: no event is reported.
    one.stopper.shutdown(PATIENCE);
    let mut client = world.client();
    for _ in 0..100 {
        get(&mut client, "/").assert(200);
    }
    one.ends();
    for _ in 0..20 {
        assert_eq!(get(&mut client, "/").assert(200).text(), "two");
    }
}

#[test]
fn it_drains_when_it_is_stopped() {
    for mode in MODES {
        let world = World::new();
        let (tell, told) = std::sync::mpsc::channel::<Ticket>();
        let handler = move |req: &mut Request<'_>| {
            tell.send(req.ticket()).expect("heard");
            Action::Suspend
        };
        let dug = Dug::new(tunnel(world.origins), mode, handler);
        world.until("two links", |counts| counts.connections == 2);
        let mut client = world.client();
        client.send(format!("GET / HTTP/1.1\r\n{HOST}\r\n\r\n"));
        let ticket = told.recv_timeout(PATIENCE).expect("asked");
        dug.stopper.shutdown(PATIENCE);
        world.until("one link", |counts| counts.connections == 1);
        ticket.respond(Response::text("in the end")).expect("a suspended request");
        assert_eq!(client.answer().assert(200).text(), "in the end");
        dug.hears("left");
        dug.ends();
        world.until("no link", |counts| counts.connections == 0);
        get(&mut world.client(), "/").assert(502);
    }
}
