//! One client must not end the connection of all: by disconnecting, by not reading, or by a huge head.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use uncork::{Limits, Request, Response, Server, relay::tunnel::ProxyConfig};

use super::{
    client::Client,
    origin::site,
    origin_server::{Mode, OriginServer, tunnel},
    proxy::{HOST, get},
    raw::{RST_STREAM, RawOrigin},
    site::bytes,
    world::{World, config, credential},
};

/// Checks that the first connection still serves.
#[track_caller]
fn another_client_is_served(world: &World, origin: &mut RawOrigin) {
    let mut client = world.client();
    get(&mut client, "/");
    let stream = origin.request();
    origin.head(stream, 200, &[], true);
    client.response().assert(200);
    assert_eq!(world.proxy.counts().connections_total, 1);
}

#[test]
fn bursts_of_cancelled_requests_do_not_affect_other_clients() {
    let world = World::new();
    let body: Arc<[u8]> = bytes(30_000_000).into();
    let expected = body.clone();
    let handler = move |req: &mut Request<'_>| match req.path() {
        "/big" => Response::new(200).body(body.clone()),
        _ => Response::text("fine"),
    };
    let _origin_server =
        OriginServer::new(tunnel(world.origins).connections(1), Mode::Threads, handler).wait_served(&world);
    thread::scope(|scope| {
        let attackers: Vec<_> = (2..6)
            .map(|last| {
                let world = &world;
                scope.spawn(move || {
                    for _ in 0..10 {
                        let mut burst: Vec<Client> = (0..100).map(|_| world.client_from(last)).collect();
                        burst.iter_mut().for_each(|client| get(client, "/"));
                        burst.into_iter().for_each(Client::leave);
                    }
                })
            })
            .collect();
        // A download that runs for the whole time, and other clients beside it.
        let mut download = world.client();
        get(&mut download, "/big");
        download.head().assert(200);
        let mut parts = expected.chunks(100_000);
        while !attackers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let mut bystander = world.client();
            get(&mut bystander, "/");
            bystander.response().assert(200);
            if let Some(part) = parts.next() {
                assert!(download.exactly(part.len()).expect("the next part") == part, "other bytes");
            }
        }
        for part in parts {
            assert!(download.exactly(part.len()).expect("the rest") == part, "other bytes");
        }
    });
    let counts = world.proxy.counts();
    assert_eq!((counts.connections_total, counts.connections, counts.lost), (1, 1, 0), "{counts:?}");
}

#[test]
fn the_slot_of_a_client_that_left_stays_taken_for_a_while() {
    let world = World::with(ProxyConfig { streams_per_address: 4, ..config() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let began = Instant::now();
    for _ in 0..4 {
        let mut client = world.client_from(2);
        get(&mut client, "/");
        let stream = origin.request();
        client.leave();
        let reset = origin.expect(|frame| frame.kind == RST_STREAM);
        assert_eq!(reset.stream, stream);
    }
    world.wait_until("all four have left", |counts| counts.active == 0);
    let ended = Instant::now();
    let mut again = world.client_from(2);
    get(&mut again, "/");
    let rejected = again.response();
    // On a machine that was paused meanwhile, the slots are free already.
    assert!(rejected.status == 429 || began.elapsed() > Duration::from_secs(1), "{rejected:?}");
    let mut other = world.client_from(3);
    get(&mut other, "/");
    let stream = origin.request();
    origin.head(stream, 200, &[], true);
    other.response().assert(200);
    // Only the end of a request matters: complete ones release their slots at once.
    for _ in 0..8 {
        get(&mut other, "/");
        let stream = origin.request();
        origin.head(stream, 200, &[], true);
        other.response().assert(200);
    }
    // The slot stays taken for one second, and no longer.
    thread::sleep(Duration::from_millis(1500).saturating_sub(ended.elapsed()));
    let mut again = world.client_from(2);
    get(&mut again, "/");
    let stream = origin.request();
    origin.head(stream, 200, &[], true);
    again.response().assert(200);
}

/// Data that an origin server sent before it knew that the client had left is not an error, however much it is.
#[test]
fn responses_that_were_under_way_to_clients_that_left_are_dropped() {
    let world = World::with(ProxyConfig { streams_per_address: 1000, ..config() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    for _ in 0..5 {
        let mut clients: Vec<Client> = (0..100).map(|_| world.client()).collect();
        let mut streams = Vec::new();
        for client in &mut clients {
            get(client, "/");
            let stream = origin.request();
            origin.head(stream, 200, &[], false);
            client.head().assert(200);
            streams.push(stream);
        }
        clients.into_iter().for_each(Client::leave);
        for _ in &streams {
            origin.expect(|frame| frame.kind == RST_STREAM);
        }
        // One after the other, so that a stream's frames do not all arrive at once.
        for _ in 0..20 {
            for stream in &streams {
                origin.data(*stream, "late", false);
            }
        }
    }
    another_client_is_served(&world, &mut origin);
}

/// A response in tiny pieces, as of an event stream, to a client that does not read.
#[test]
fn unread_responses_in_tiny_frames_do_not_end_the_connection() {
    // At one byte a second.
    let credentials = vec![credential("app", &[HOST]).rate(1)];
    let world = World::with(ProxyConfig { credentials, ..ProxyConfig::default() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut slow = world.client();
    get(&mut slow, "/events");
    let stream = origin.request();
    origin.head(stream, 200, &[("content-type", "text/event-stream")], false);
    slow.head().assert(200);
    for _ in 0..40_000 {
        origin.data(stream, "x", false);
    }
    another_client_is_served(&world, &mut origin);
}

/// The proxy itself allows large heads.
#[test]
fn a_head_that_no_origin_server_accepts_does_not_end_the_connection() {
    let world = World::new();
    let limits = Limits { head: 1 << 20, fields: 1_000, ..Limits::default() };
    let tunnel = tunnel(world.origins).connections(1).limits(limits.clone());
    let _origin_server = OriginServer::new(tunnel, Mode::Threads, site).wait_served(&world);
    let server = Server::bind("127.0.0.1:0").expect("bound").limits(limits);
    let addr = server.local_addr().expect("an address");
    let running = server.threads(1, world.proxy.public()).expect("running");
    for (size, count, status) in [(50_000, 1, 200), (70_000, 1, 431), (500_000, 1, 431), (10, 900, 200), (50, 900, 431)]
    {
        let mut client = Client::connect(addr, None);
        let fields: String = (0..count).map(|n| format!("X-{n}: {}\r\n", "v".repeat(size))).collect();
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
        assert_eq!(client.response().status, status, "{count} fields of {size} bytes");
    }
    running.stop_now().expect("stopped");
    assert_eq!(world.proxy.counts().connections_total, 1);
}
