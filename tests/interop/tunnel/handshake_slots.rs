//! Slots for handshakes: silent connections keep no origin server out.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use uncork::relay::tunnel::ProxyConfig;

use super::{
    client::{Client, TIMEOUT},
    origin::site,
    origin_server::{Mode, OriginServer, tunnel},
    proxy::{HOST, get},
    raw::{RawOrigin, tunnel_request},
    world::{World, config},
};

/// Opens a silent connection by ALPN from 127.0.0.`last`; `None` if it is closed before the proxy's request.
fn silent(world: &World, last: u8) -> Option<Client> {
    let mut client = world.rh2_from(last);
    client.try_send([]).ok()?;
    client.exactly(24).ok()?;
    Some(client)
}

fn hello() -> String {
    format!("{{\"token\":\"app\",\"hosts\":[\"{HOST}\"],\"version\":1}}")
}

/// Returns how long it takes until an origin server that connects from 127.0.0.1 by ALPN is accepted.
fn registration_time(world: &World) -> Duration {
    let began = Instant::now();
    let before = world.proxy.counts().connections_total;
    let origin = RawOrigin::by_alpn(world, &hello());
    world.wait_until("the origin server is connected", |counts| counts.connections_total > before);
    origin.leave();
    began.elapsed()
}

#[test]
fn silent_connections_of_one_or_four_addresses_keep_no_origin_server_out() {
    for addresses in [&[2][..], &[2, 3, 4, 5]] {
        let world = World::with(ProxyConfig {
            handshakes: 8,
            handshake_timeout: Duration::from_secs(60),
            // Without the limit of failures, which alone would end this soon.
            failures_per_minute: 1_000_000,
            ..config()
        });
        // More than there are slots: each newer connection displaces an older one.
        let opened: Vec<Client> = addresses.iter().cycle().take(24).filter_map(|last| silent(&world, *last)).collect();
        assert_eq!(opened.len(), 24);
        world.wait_until("16 have lost their slots", |counts| (counts.displaced, counts.unanswered) == (16, 16));
        for _ in 0..3 {
            let took = registration_time(&world);
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
        let over = AtomicBool::new(false);
        // The same, while they connect again and again.
        thread::scope(|scope| {
            for last in addresses {
                let (world, over) = (&world, &over);
                scope.spawn(move || {
                    let mut held = std::collections::VecDeque::new();
                    while !over.load(Ordering::Relaxed) {
                        held.extend(silent(world, *last));
                        held.truncate(16);
                    }
                });
            }
            let times: Vec<Duration> = (0..3).map(|_| registration_time(&world)).collect();
            over.store(true, Ordering::Relaxed);
            assert!(times.iter().all(|took| *took < Duration::from_secs(5)), "{times:?}");
        });
    }
}

#[test]
fn a_network_with_many_silent_connections_is_rejected_and_others_are_not() {
    let world = World::with(ProxyConfig { failures_per_minute: 3, ..config() });
    for _ in 0..3 {
        silent(&world, 2).expect("the preface").leave();
    }
    world.wait_until("three are counted", |counts| counts.unanswered == 3);
    assert!(silent(&world, 2).is_none(), "closed at once");
    world.wait_until("the connection is counted", |counts| counts.throttled == 1);
    let mut put =
        Client::connect_from(Some([127, 0, 0, 2].into()), world.origins, Some(super::world::identity().client.clone()));
    put.send(tunnel_request("app", HOST));
    put.response().assert(429);
    registration_time(&world);
    let counts = world.proxy.counts();
    assert_eq!((counts.unanswered, counts.throttled, counts.displaced), (3, 2, 0), "{counts:?}");
    assert_eq!(
        (counts.handshakes_unauthorized, counts.handshakes_forbidden, counts.handshakes_over_limit),
        (0, 0, 0),
        "{counts:?}"
    );
}

#[test]
fn connections_that_begin_nothing_keep_no_origin_server_out() {
    let world = World::with(ProxyConfig { handshakes: 2, ..config() });
    let listen = uncork::Listen::tcp("127.0.0.1:0").expect("bound").tls(super::world::identity().server.clone());
    let server = uncork::Server::new().listen(listen);
    let addr = server.local_addr().expect("an address");
    let running = server.threads(1, world.proxy.origin_servers()).expect("running");
    let silent: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(addr).expect("connected")).collect();
    let mut origin = Client::connect(addr, Some(super::world::identity().client.clone()));
    origin.send(tunnel_request("app", HOST));
    assert_eq!(origin.head().status, 101);
    drop(silent);
    running.stop_now().expect("stopped");
}

#[test]
fn an_origin_server_without_a_slot_for_alpn_uses_an_upgrade() {
    // There is no slot at all for handshakes by ALPN.
    let world = World::with(ProxyConfig { handshakes: 0, ..config() });
    let tunnel = tunnel(world.origins).connections(1).backoff(Duration::from_secs(60));
    let origin = OriginServer::new(tunnel, Mode::Threads, site);
    let event = origin.expect_event("next attempt in");
    assert!(event.contains("next attempt in 0.0 s"), "{event}");
    origin.expect_event("connected");
    let _origin_server = origin.wait_served(&world);
    let mut client = world.client();
    get(&mut client, "/");
    client.response().assert(200);
}

/// Many silent connections from a few addresses, and a correct origin server.
#[test]
fn an_origin_server_connects_beside_silent_connections() {
    let world = World::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for last in 2..6 {
            let (world, over) = (&world, &over);
            scope.spawn(move || {
                let mut held = Vec::new();
                while !over.load(Ordering::Relaxed) && held.len() < 100 {
                    held.extend(silent(world, last));
                }
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        world.wait_until("silent connections were rejected", |counts| counts.throttled + counts.displaced > 10);
        let began = Instant::now();
        let origin = OriginServer::new(tunnel(world.origins), Mode::Threads, site).wait_connected(&world);
        let took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        assert!(took < TIMEOUT / 2, "{took:?}");
        drop(origin);
    });
}
