//! One client address, or a few, cannot use up what others need: the slots of a tunnel's connections and hosts, and a
//! credential's rate. Clients connect from several addresses of this machine.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use uncork::{
    PeerAddr,
    relay::tunnel::{ProxyConfig, Trusted},
};

use super::{
    client::{Client, TestResponse},
    origin::site,
    origin_server::{Mode, OriginServer, tunnel},
    proxy::{HOST, get},
    raw::{RawOrigin, SETTINGS},
    world::{World, config, credential},
};

const SIBLING: &str = "other.app.example";

fn ip(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, n).into()
}

fn from(world: &World, n: u8) -> Client {
    Client::connect_from(Some(ip(n)), world.plain, None)
}

/// Starts an upload that stalls behind its third byte.
fn stall(client: &mut Client, host: &str) {
    client.send(format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nabc"));
}

#[track_caller]
fn ask(client: &mut Client, host: &str) -> TestResponse {
    client.send(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).response()
}

/// Requests that hold a slot on one of the connections.
fn held(world: &World) -> u64 {
    world.proxy.connections().iter().map(|connection| connection.active as u64).sum()
}

/// Each of these addresses stalls this many uploads, in turn. Returns the active requests when all are accepted or
/// rejected.
fn flood(world: &World, addresses: std::ops::Range<u8>, each: usize) -> (Vec<Client>, u64) {
    let before = world.proxy.counts();
    let mut clients = Vec::new();
    for _ in 0..each {
        for n in addresses.clone() {
            let mut client = from(world, n);
            stall(&mut client, HOST);
            clients.push(client);
        }
    }
    let all = clients.len() as u64;
    world.wait_until("all are accepted or rejected", |counts| held(world) + counts.rejected - before.rejected == all);
    let active = held(world);
    (clients, active)
}

/// A proxy with two connections of 64 slots each, for two hosts of one credential.
fn two_by_64() -> (World, OriginServer) {
    let credentials = vec![credential("app", &[HOST, SIBLING])];
    let world = World::with(ProxyConfig { credentials, streams_per_connection: 64, ..ProxyConfig::default() });
    let tunnel = tunnel(world.origins).host(SIBLING);
    let origin = OriginServer::new(tunnel, Mode::Threads, site).wait_connected(&world);
    world.wait_until("both connections are established", |counts| counts.connections == 2);
    (world, origin)
}

#[test]
fn addresses_that_stall_leave_slots_for_others_and_for_sibling_hosts() {
    for (addresses, each, max) in [(1, 70, 54), (4, 30, 86), (16, 12, 102)] {
        let (world, _origin_server) = two_by_64();
        let (mut clients, active) = flood(&world, 1..1 + addresses, each);
        assert!(active <= max, "{active} of 128 slots are taken by {addresses} addresses");
        // One more of them is rejected at once, with a reason.
        let rejected = ask(&mut from(&world, 1), HOST);
        assert_eq!(
            (rejected.assert(503).get("retry-after"), rejected.text()),
            (Some("1"), "too many concurrent requests from your address for this host\n")
        );
        for host in [HOST, SIBLING] {
            let mut newcomer = from(&world, 200);
            for _ in 0..10 {
                ask(&mut newcomer, host).assert(200);
            }
        }
        // The slots are free again when they leave.
        clients.drain(..).for_each(Client::leave);
        world.wait_until("all requests have ended", |_| held(&world) == 0);
        ask(&mut from(&world, 1), HOST).assert(200);
    }
}

#[test]
fn one_host_leaves_slots_for_its_siblings_at_any_demand() {
    let (world, _origin_server) = two_by_64();
    let (_clients, active) = flood(&world, 1..127, 1);
    // Two loops may look at the same time.
    assert!((100..=105).contains(&active), "four fifths of 128: {active}");
    ask(&mut from(&world, 200), HOST).assert(503);
    let mut newcomer = from(&world, 200);
    for _ in 0..10 {
        ask(&mut newcomer, SIBLING).assert(200);
    }
}

#[test]
fn a_few_addresses_leave_slots_of_a_host_to_others() {
    let world = World::with(ProxyConfig { streams_per_host: 16, ..config() });
    let _origin_server = OriginServer::new(tunnel(world.origins), Mode::Threads, site).wait_connected(&world);
    let (_clients, active) = flood(&world, 1..5, 8);
    assert!(active < 16, "{active} of 16");
    ask(&mut from(&world, 200), HOST).assert(200);
}

#[test]
fn the_client_that_a_trusted_proxy_names_has_the_share() {
    let trusted = Trusted::peers(|peer: &PeerAddr| peer.ip().is_some_and(|ip| ip.is_loopback()));
    let world = World::with(ProxyConfig { trusted, streams_per_address: 2, ..config() });
    let _origin_server = OriginServer::new(tunnel(world.origins), Mode::Threads, site).wait_connected(&world);
    let ask = |chain: &str| {
        let mut client = world.client();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: {chain}\r\nContent-Length: 9\r\n\r\nabc"
        ));
        client
    };
    // The last address that is not a proxy itself counts, whatever a client has put in front.
    let before = world.proxy.counts();
    let _two = ["10.0.0.1, 192.0.2.1", "192.0.2.1:4711, 127.0.0.9"].map(ask);
    world.wait_until("both are in progress", |counts| counts.active == 2);
    assert_eq!(ask("192.0.2.1").head().assert(429).get("retry-after"), Some("1"));
    let _others = ["192.0.2.2", "192.0.2.1, 192.0.2.3", "[2001:db8::1]", "2001:db8::2"].map(ask);
    world.wait_until("the others are in progress", |counts| counts.active == 6);
    ask("[2001:db8::3]:80").head().assert(429);
    assert_eq!(world.proxy.counts().rejected - before.rejected, 2);
}

#[test]
fn a_client_that_is_not_trusted_has_one_share_for_all_addresses_it_names() {
    let world = World::with(ProxyConfig { streams_per_address: 2, ..config() });
    let _origin_server = OriginServer::new(tunnel(world.origins), Mode::Threads, site).wait_connected(&world);
    world.wait_until("the probe is over", |counts| counts.active == 0);
    let ask = |n: usize| {
        let mut client = world.client();
        let head = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 192.0.2.{n}\r\n");
        client.send(format!("{head}Content-Length: 9\r\n\r\nabc"));
        client
    };
    let _two = [1, 2].map(ask);
    world.wait_until("both are in progress", |counts| counts.active == 2);
    ask(3).head().assert(429);
}

#[test]
fn an_upload_that_stalls_times_out() {
    let world = World::with(ProxyConfig { response_timeout: Duration::from_millis(300), ..config() });
    let _origin_server = OriginServer::new(tunnel(world.origins), Mode::Threads, site).wait_connected(&world);
    let mut client = world.client();
    stall(&mut client, HOST);
    client.head().assert(504);
    world.wait_until("its slot is free", |counts| held(&world) == 0 && counts.timed_out == 1);
    assert_eq!(world.proxy.counts().lost, 0, "counted once");
}

#[test]
fn an_origin_server_gets_no_more_streams_than_it_allows() {
    let world = World::new();
    let mut origin = RawOrigin::silent(&world, "app", HOST);
    // MAX_CONCURRENT_STREAMS: 2.
    origin.frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0, 2]);
    origin.expect(|frame| frame.kind == SETTINGS && frame.flags != 0);
    world.wait_until("the origin server is connected", |counts| counts.connections == 1);
    let mut two = [1, 2].map(|n| from(&world, n));
    let streams = two.each_mut().map(|client| {
        get(client, "/");
        origin.request()
    });
    let rejected = ask(&mut from(&world, 3), HOST);
    assert_eq!(
        (rejected.assert(503).get("retry-after"), rejected.text()),
        (Some("1"), "too many concurrent requests for the origin server\n")
    );
    for (client, stream) in two.iter_mut().zip(streams) {
        origin.head(stream, 200, &[], true);
        client.response().assert(200);
    }
}

#[test]
fn addresses_take_turns_at_a_credentials_rate() {
    const GREEDY: usize = 20;
    let credentials = vec![credential("app", &[HOST]).rate(200_000)];
    let world = World::with(ProxyConfig { credentials, window: 1 << 21, ..ProxyConfig::default() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut clients = Vec::new();
    for _ in 0..GREEDY {
        let mut greedy = from(&world, 1);
        get(&mut greedy, "/big");
        let stream = origin.request();
        origin.head(stream, 200, &[("content-length", "1000000")], false);
        for _ in 0..20 {
            origin.data(stream, [1; 10_000], false);
        }
        // Data that it does not read stays in the system's buffers.
        clients.push(greedy);
    }
    // The first second's worth is used, and it continues.
    world.wait_until("the rate holds", |counts| counts.bytes_down >= 200_000);
    let before = world.proxy.counts().bytes_down;
    for _ in 0..4 {
        let mut client = from(&world, 2);
        get(&mut client, "/small");
        let stream = origin.request();
        origin.head(stream, 200, &[("content-length", "5")], false).data(stream, "small", true);
        assert_eq!(client.response().text(), "small");
    }
    // Each turn is worth 10,000 bytes. In turns of streams, each small response would wait for 20 of them; in order
    // of arrival, for the end of them all.
    let meanwhile = world.proxy.counts().bytes_down - before;
    assert!(meanwhile < 400_000, "{meanwhile} bytes went to the greedy client meanwhile");
    clients.into_iter().for_each(Client::leave);
}
