//! Handshakes of origin servers: accepted and rejected.

use std::time::Duration;

use base64::Engine as _;
use uncork::relay::tunnel::{Balance, ProxyConfig};

use super::{
    client::Client,
    proxy::{HOST, get},
    raw::{RawOrigin, tunnel_request},
    world::{World, config, credential, hash},
};

/// Returns a handshake with one replaced part.
fn changed(from: &str, to: &str) -> String {
    let request = tunnel_request("app", HOST);
    assert!(request.contains(from), "{from}");
    request.replace(from, to)
}

/// Returns the credentials for Basic authentication.
fn basic(text: &str) -> String {
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(text))
}

#[test]
fn a_rejected_handshake_gets_the_reason() {
    let config = ProxyConfig { failures_per_minute: 1000, ..config() };
    let world = World::with(config);
    let _owner = RawOrigin::new(&world, "other", "taken.dev.example");
    #[rustfmt::skip]
    let rows = [
        (changed("Bearer app", "Bearer App"),              401, "unknown token"),
        (changed("Bearer app", "Bearer "),                 401, ""),
        (changed("Bearer app", "Basic app"),               401, "Bearer or Basic"),
        (changed("Bearer app", "Digest app"),              401, "Bearer or Basic"),
        (changed("Bearer app", &basic("app:App")),         401, "unknown user or password"),
        (changed("Bearer app", &basic("other:app")),       401, "unknown user or password"),
        (changed("Bearer app", &basic("app")),             401, "Bearer or Basic"),
        (changed("Authorization: Bearer app\r\n", ""),     401, "client certificate"),
        (changed("Authorization: Bearer app\r\n", "Authorization: Bearer app\r\nAuthorization: Bearer app\r\n"), 401, "one"),
        (tunnel_request("app", "other.example"),                    403, "other.example"),
        (tunnel_request("app", "app.example, *.example"),           403, "*.example"),
        (tunnel_request("app", "*.app.example"),                    403, "*.app.example"),
        (tunnel_request("app", "*"),                                403, "*"),
        (tunnel_request("app", "taken.dev.example"),                409, "another credential"),
        (tunnel_request("app", "TAKEN.dev.example"),                409, "another credential"),
        (tunnel_request("app", ""),                                 400, "at least one host"),
        (tunnel_request("app", "a b"),                              400, "invalid host name"),
        (tunnel_request("app", "app.example:80"),                   400, "invalid host name"),
        (changed("ALPN: h2", "ALPN: h3"),                  400, "h2"),
        (changed("Upgrade: ptth", "Upgrade: websocket"),   426, "ptth"),
        (changed("Connection: upgrade\r\n", ""),           426, "ptth"),
        (changed("PUT /tunnel", "POST /tunnel"),           405, "PUT or GET"),
        (changed("PUT /tunnel", "PUT /"),                  404, ""),
    ];
    for (request, status, text) in rows {
        let mut client = world.origin();
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status, status, "{request}{response:?}");
        assert!(response.text().contains(text), "{request}{}", response.text());
        assert_eq!(response.get("www-authenticate").is_some(), status == 401);
    }
    let many: Vec<String> = (0..65).map(|i| format!("{i}.dev.example")).collect();
    let mut client = world.origin();
    client.send(tunnel_request("app", &many.join(", ")));
    client.response().assert(403);
    assert_eq!(world.proxy.counts().connections_total, 1);
}

#[test]
fn a_tunnel_may_be_requested_by_get() {
    let world = World::new();
    let mut client = world.origin();
    client.send(changed("PUT /tunnel", "GET /tunnel").replace("ALPN: h2", "ALPN: http%2F1.1, h2"));
    let head = client.head();
    assert_eq!((head.status, head.get("alpn")), (101, Some("h2")));
}

#[test]
fn the_token_may_be_the_password_of_basic_authentication() {
    let world = World::new();
    for user in ["app", ""] {
        let mut client = world.origin();
        client.send(changed("Bearer app", &basic(&format!("{user}:app"))));
        assert_eq!(client.head().status, 101, "{user:?}");
    }
}

#[test]
fn without_names_those_of_the_credential_are_registered() {
    let world = World::new();
    let mut client = world.origin();
    client.send(changed("Uncork-Hosts: app.example\r\n", ""));
    assert_eq!(client.head().status, 101);
    client.exactly(24).expect("the preface");
    // Settings: the first frame.
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    world.wait_until("the origin server is connected", |counts| counts.connections == 1);
    assert_eq!(world.proxy.connections()[0].hosts, ["app.example", "*.dev.example"]);
}

#[test]
fn a_tunnel_needs_tls() {
    let world = World::new();
    let server = uncork::Server::bind("127.0.0.1:0").expect("bound");
    let addr = server.local_addr().expect("an address");
    let running = server.threads(1, world.proxy.origin_servers()).expect("running");
    let mut client = Client::connect(addr, None);
    client.send(tunnel_request("app", HOST));
    client.response().assert(403);
    running.stop_now().expect("stopped");
}

#[test]
fn a_network_that_guesses_tokens_is_rejected_unread() {
    let world = World::with(ProxyConfig { failures_per_minute: 3, ..config() });
    for _ in 0..3 {
        let mut client = world.origin();
        client.send(tunnel_request("guess", HOST));
        client.response().assert(401);
    }
    let mut client = world.origin();
    client.send(tunnel_request("app", HOST));
    let response = client.response();
    assert_eq!(response.status, 429, "with a valid token, too");
    assert!(response.get("retry-after").is_some());
}

#[test]
fn a_name_belongs_to_its_owner_and_stays_so_for_a_while() {
    let world = World::with(ProxyConfig { name_timeout: Duration::from_millis(400), ..config() });
    let status = |token: &str| {
        let mut client = world.origin();
        client.send(tunnel_request(token, "x.dev.example"));
        client.head().status
    };
    let first = RawOrigin::new(&world, "app", "x.dev.example");
    assert_eq!(status("other"), 409);
    first.leave();
    world.wait_until("the connection has ended", |counts| counts.connections == 0);
    assert_eq!(status("other"), 409, "it may reconnect");
    let end = std::time::Instant::now() + super::client::TIMEOUT;
    while status("other") == 409 {
        assert!(std::time::Instant::now() < end, "the name is not free");
    }
    assert_eq!(status("app"), 409, "the other one has the name");
}

#[test]
fn connections_of_one_credential_are_limited() {
    let world = World::with(ProxyConfig { connections_per_credential: 2, connections: 3, ..config() });
    let _all = [RawOrigin::new(&world, "app", HOST), RawOrigin::new(&world, "app", HOST)];
    let status = |token: &str, hosts: &str| {
        let mut client = world.origin();
        client.send(tunnel_request(token, hosts));
        client.head().status
    };
    assert_eq!(status("app", HOST), 429);
    let _third = RawOrigin::new(&world, "other", "other.example");
    assert_eq!(status("other", "other.example"), 503);
}

#[test]
fn requests_go_to_the_nearest_name_and_path() {
    let credentials = vec![credential("app", &["*"])];
    let world = World::with(ProxyConfig { credentials, ..ProxyConfig::default() });
    let names = ["a.example", "a.example/api", "*.example", "*"];
    let mut origins: Vec<RawOrigin> = names.iter().map(|name| RawOrigin::new(&world, "app", name)).collect();
    let mut client = world.client();
    for (host, path, want) in [
        ("a.example", "/", 0),
        ("A.Example:8080", "/", 0),
        ("a.example", "/api", 1),
        ("a.example", "/api/x?y", 1),
        ("a.example", "/apix", 0),
        ("b.example", "/api", 2),
        ("c.b.example", "/", 2),
        ("example", "/", 3),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let stream = origins[want].request();
        origins[want].head(stream, 200, &[], true);
        client.response().assert(200);
    }
    assert_eq!(
        world.proxy.connections().iter().map(|connection| connection.requests).collect::<Vec<_>>(),
        [3, 2, 2, 1]
    );
}

#[test]
fn several_origins_take_turns_or_the_least_busy_is_taken() {
    for (balance, want) in [(Balance::RoundRobin, [2, 2]), (Balance::LeastBusy, [1, 3])] {
        let world = World::with(ProxyConfig { balance, ..config() });
        let mut origins = [RawOrigin::new(&world, "app", HOST), RawOrigin::new(&world, "app", HOST)];
        let requests = || world.proxy.connections().iter().map(|connection| connection.requests).collect::<Vec<_>>();
        // A slow one.
        let mut slow = world.client();
        get(&mut slow, "/slow");
        world.wait_until("the request has arrived", |_| requests().contains(&1));
        let busy = requests().iter().position(|n| *n == 1).expect("one of them");
        let mut client = world.client();
        for _ in 0..3 {
            let before = requests();
            get(&mut client, "/");
            world.wait_until("the request has arrived", |_| requests() != before);
            let chosen = requests().iter().zip(before).position(|(now, before)| *now > before).expect("one of them");
            // The stream of the slow one came first.
            let mut stream = origins[chosen].request();
            if chosen == busy && requests()[busy] == 2 && balance == Balance::RoundRobin {
                stream = origins[chosen].request();
            }
            origins[chosen].head(stream, 200, &[], true);
            client.response().assert(200);
            let active = || world.proxy.connections().iter().map(|connection| connection.active).sum::<usize>();
            world.wait_until("the connection is over", |_| active() == 1);
        }
        let mut counts = requests();
        counts.swap(0, busy);
        assert_eq!(counts, want, "{balance:?}");
    }
}

#[test]
fn limits_of_addresses_hosts_and_bodies_hold() {
    let credentials = vec![credential("app", &[HOST]).body(10), credential("other", &["other.example"])];
    let limits = |address, host| ProxyConfig {
        streams_per_address: address,
        streams_per_host: host,
        credentials: credentials.clone(),
        ..ProxyConfig::default()
    };
    for (config, status) in [(limits(2, 100), 429), (limits(100, 2), 503)] {
        let world = World::with(config);
        let mut origin = RawOrigin::new(&world, "app", HOST);
        let mut clients: Vec<Client> = (0..3).map(|_| world.client()).collect();
        let mut streams = Vec::new();
        for client in &mut clients[..2] {
            get(client, "/");
            streams.push(origin.request());
        }
        get(&mut clients[2], "/");
        let rejected = clients[2].response();
        assert_eq!((rejected.status, rejected.get("retry-after")), (status, Some("1")));
        origin.head(streams[0], 200, &[], true);
        clients[0].response().assert(200);
        world.wait_until("one is over", |counts| counts.active == 1);
        get(&mut clients[2], "/");
        let stream = origin.request();
        origin.head(stream, 200, &[], true);
        clients[2].response().assert(200);
    }
    let world = World::with(limits(10, 10));
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 11\r\n\r\n"));
    assert_eq!(client.head().status, 413, "before it was sent");
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    client.chunk(b"0123456789").chunk(b"x");
    let stream = origin.request();
    assert_eq!(client.head().status, 413, "when it is too much");
    assert_eq!(origin.expect(|frame| frame.kind == super::raw::RST_STREAM).stream, stream);
}

#[test]
fn a_credential_has_its_rate() {
    let credentials = vec![credential("app", &[HOST]).rate(200_000)];
    let world = World::with(ProxyConfig { credentials, window: 1 << 20, ..ProxyConfig::default() });
    let mut origin = RawOrigin::new(&world, "app", HOST);
    let mut client = world.client();
    let began = std::time::Instant::now();
    get(&mut client, "/");
    let stream = origin.request();
    origin.head(stream, 200, &[("content-length", "500000")], false);
    for i in 1..=50 {
        origin.data(stream, vec![1; 10_000], i == 50);
    }
    let head = client.head();
    assert_eq!(client.body(&head).expect("the body").len(), 500_000);
    // The first second's worth is sent at once, and a busy machine may start to count late; without a rate limit it
    // takes a few milliseconds.
    assert!(began.elapsed() > Duration::from_millis(600), "{:?}", began.elapsed());
}

#[test]
fn only_hashes_of_tokens_are_kept() {
    let config = config();
    let printed = format!("{config:?}");
    assert!(
        !printed.contains("\"Bearer") && !printed.contains(&hash("app")),
        "neither in the clear nor in hexadecimal"
    );
}
