//! Rejected and hostile origin programs of spdy-proxy.

use std::time::{Duration, Instant};

use flate2::FlushCompress;
use uncork::relay::tunnel::Credential;

use super::{
    spdy_peer::{
        AUTHORITY, ESTABLISHED, OK, Origin, PING, Peer, RST_STREAM, SYN_REPLY, SYN_STREAM, VERSION, Zlib, control,
        data, get, handshake, legacy, numbers, world_and_origin,
    },
    world::{World, config},
};

#[test]
fn origin_servers_that_are_not_listed_are_rejected() {
    let put = handshake(AUTHORITY);
    // Without the flag the handshake is an ordinary request for an unknown path.
    let world = World::new();
    let mut client = world.origin();
    client.send(handshake(AUTHORITY));
    assert_eq!(client.head().status, 404);
    // With it, from another address.
    let mut config = config();
    config.credentials.push(Credential::allow_legacy_unauthenticated("old", |_| false).host("*").expect("a pattern"));
    let world = World::with(config);
    let mut client = world.origin();
    client.send(handshake(AUTHORITY));
    assert_eq!(client.head().status, 403);
    // A token, an upgrade, or another path: not the handshake of spdy-proxy.
    let world = World::with(legacy());
    for (from, to) in [
        ("User-Agent", "Authorization"),
        ("User-Agent", "Upgrade"),
        ("PUT / ", "PUT /x "),
        ("PUT / ", "DELETE / "),
        ("PUT / ", "PUT /?a "),
    ] {
        let mut client = world.origin();
        client.send(put.replace(from, to));
        assert_eq!(client.head().status, 404, "{to}");
    }
    let mut client = world.origin();
    client.send(put.replace(": 12", ": 2000"));
    assert_eq!(client.head().status, 413);
    let mut client = world.origin();
    client.send(put.replace("Content-Length: 12", "Transfer-Encoding: chunked").replace("Hello from C", ""));
    client.chunk(&[b'x'; 1000]);
    let _ = client.try_chunk(&[b'x'; 1000]);
    assert_eq!(client.head().status, 413);
    let counts = world.proxy.counts();
    assert_eq!((counts.connections_total, counts.connections), (0, 0));
    // An accepted origin server is not affected.
    drop(Origin::new(&world));
}

/// Each case affects its own response, which becomes a 502.
#[test]
fn malformed_replies_are_not_forwarded() {
    let (world, mut origin) = world_and_origin();
    let mut client = world.client();
    let wrong: &[&[(&str, &str)]] = &[
        &[OK, VERSION, ("x", "a\r\nSet-Cookie: b=c")],
        &[OK, VERSION, ("x\r\ny", "z")],
        &[OK, VERSION, ("content-length", "1\x002")],
        &[OK, VERSION, ("content-length", "1, 1")],
        &[VERSION],
        &[("", "x")],
        &[(":status", "200\r\nx: y")],
        &[(":status", "101 Switching Protocols"), ("upgrade", "x")],
        &[(":status", "099")],
    ];
    for fields in wrong {
        get(&mut client, "/");
        let stream = origin.request().stream;
        origin.reply(stream, false, fields);
        assert_eq!(client.response().status, 502, "{fields:?}");
        assert_eq!(origin.expect(RST_STREAM).number(0), stream);
    }
    // A wrong length: the client must not accept the body as complete.
    for (length, sent) in [("5", "hell"), ("4", "hello")] {
        get(&mut client, "/");
        let stream = origin.request().stream;
        origin.reply(stream, false, &[OK, VERSION, ("content-length", length)]).data(stream, true, sent);
        // Its head may not have been sent.
        if let Ok(head) = client.try_head() {
            client.body(&head).expect_err("truncated");
        }
        client = world.client();
    }
    // The proxy's own framing replaces the origin server's.
    get(&mut client, "/");
    let stream = origin.request().stream;
    let fields = [OK, VERSION, ("transfer-encoding", "chunked"), ("connection", "close"), ("content-length", "2")];
    origin.reply(stream, false, &fields).data(stream, true, "ok");
    let response = client.response();
    assert_eq!((response.text(), response.get("transfer-encoding"), response.get("connection")), ("ok", None, None));
}

/// Each case ends its own connection, and nothing else.
#[test]
fn hostile_origin_programs_are_disconnected() {
    let bomb = |zlib: &mut Zlib| {
        let block = zlib.block(&[("x", &"x".repeat(3_000_000))]);
        control(SYN_REPLY, 0, &[&numbers(&[1])[..], &block].concat())
    };
    type Wire<'a> = &'a dyn Fn(&mut Zlib) -> Vec<u8>;
    let wires: [(&str, Wire<'_>); 9] = [
        ("a bomb", &bomb),
        ("not zlib", &|_| control(SYN_REPLY, 0, &[&numbers(&[1])[..], b"GET / HTTP/1.1"].concat())),
        ("a stream of its own", &|zlib| {
            control(SYN_STREAM, 0, &[&numbers(&[2, 0])[..], &[0, 0], &zlib.block(&[])].concat())
        }),
        ("an unknown stream", &|_| data(99, false, b"x")),
        ("data on stream 0", &|_| data(0, false, b"x")),
        ("HTTP", &|_| b"GET / HTTP/1.1\r\nHost: old.example\r\n\r\n".to_vec()),
        ("a long ping", &|_| control(PING, 0, &[0; 100])),
        ("a block of 16 MiB", &|_| control(SYN_REPLY, 0, &[])[..5].iter().copied().chain([0xff; 3]).collect()),
        ("a count of 2^32", &|zlib| {
            let mut block = Vec::with_capacity(100);
            zlib.deflate.compress_vec(&[0xff; 4], &mut block, FlushCompress::Sync).expect("deflated");
            control(SYN_REPLY, 0, &[&numbers(&[1])[..], &block].concat())
        }),
    ];
    let world = World::with(legacy());
    let mut other = super::raw::RawOrigin::new(&world, "app", "app.example");
    for (name, wire) in wires {
        let mut client = world.client();
        let mut origin = {
            let mut client = world.origin();
            client.send(handshake(AUTHORITY));
            assert_eq!(client.exactly(ESTABLISHED.len()).expect("a response"), ESTABLISHED);
            Origin { client, zlib: Zlib::new() }
        };
        world.wait_until("both are connected", |counts| counts.connections == 2);
        get(&mut client, "/");
        origin.request();
        let bytes = wire(&mut origin.zlib);
        origin.client.send(bytes);
        assert_eq!(client.response().status, 502, "{name}");
        origin.expect_end();
        world.wait_until("the connection has ended", |counts| counts.connections == 1);
    }
    let mut client = world.client();
    super::proxy::get(&mut client, "/");
    let stream = other.request();
    other.head(stream, 200, &[], true);
    client.response().assert(200);
}

/// The proxy does not read from an origin server that does not read: its buffers are bounded.
#[test]
fn a_flood_of_pings_is_held_back() {
    let (world, mut origin) = world_and_origin();
    let pings: Vec<u8> = (0..10_000).flat_map(|_| control(PING, 0, &numbers(&[2]))).collect();
    let (mut sent, end) = (0, Instant::now() + Duration::from_secs(20));
    while let Some(n) = origin.client.push(&pings[sent % 12..], Duration::from_millis(500)) {
        sent += n;
        assert!(sent < 64 << 20 && Instant::now() < end, "the flood does not stop: {sent} bytes");
    }
    drop(world);
}
