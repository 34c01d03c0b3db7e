//! Origin servers that connect by ALPN, and authenticate when the proxy asks.

use std::time::Duration;

use uncork::relay::tunnel::ProxyConfig;

use super::{
    proxy::{HOST, get},
    raw::RawOrigin,
    world::{World, config},
};

fn hello(token: &str, host: &str) -> String {
    format!("{{\"token\":\"{token}\",\"hosts\":[\"{host}\"],\"version\":\"1\"}}")
}

#[test]
fn an_origin_server_identifies_itself_and_then_serves() {
    for label in ["\u{547}\u{265}", "rh2"] {
        identifies_itself_and_then_serves(label.as_bytes());
    }
}

fn identifies_itself_and_then_serves(label: &[u8]) {
    let world = World::new();
    let mut origin = RawOrigin::by_label(&world, label, &hello("app", HOST));
    world.wait_until("the origin server is connected", |counts| counts.connections == 1);
    for mut client in [world.client(), world.secure_client()] {
        get(&mut client, "/");
        let stream = origin.request();
        origin.head(stream, 200, &[("content-length", "5")], false).data(stream, "hello", true);
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(world.proxy.connections()[0].hosts, [HOST]);
    origin.leave();
    world.wait_until("the connection has ended", |counts| counts.connections == 0);
}

#[test]
fn without_names_those_of_the_credential_are_registered() {
    let world = World::new();
    let _origin = RawOrigin::by_alpn(&world, "{\"token\":\"app\",\"user\":\"app\"}");
    world.wait_until("the origin server is connected", |counts| counts.connections == 1);
    assert_eq!(world.proxy.connections()[0].hosts, ["app.example", "*.dev.example"]);
}

#[test]
fn a_rejected_origin_server_gets_the_reason() {
    let world = World::with(ProxyConfig { failures_per_minute: 100, ..config() });
    let _owner = RawOrigin::new(&world, "other", "taken.dev.example");
    let long = format!("{{\"token\":\"{}\"}}", "x".repeat(20_000));
    for (response, status, reason) in [
        (hello("guess", HOST), "401", "unknown token"),
        (hello("app", "other.example"), "403", "other.example"),
        (hello("app", "taken.dev.example"), "409", "another credential"),
        (hello("app", "a b"), "400", "invalid host name"),
        ("{\"token\":\"app\",\"hosts\":[]}".into(), "400", "at least one host"),
        ("{\"token\":\"app\",\"user\":\"other\"}".into(), "401", "unknown user or password"),
        ("[]".into(), "401", "unknown token"),
        ("{".into(), "400", "JSON"),
        (String::new(), "400", "JSON"),
        (long, "400", "missing response to the hello"),
    ] {
        let mut origin = RawOrigin::by_alpn(&world, &response);
        origin.request();
        let rejection = origin.heads().pop().expect("a head");
        assert_eq!(rejection.uri().path(), "/.well-known/uncork/refused", "{response}");
        let field = |name: &str| rejection.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(field("uncork-status"), status, "{response}");
        assert!(field("uncork-reason").contains(reason), "{response}: {}", field("uncork-reason"));
        origin.ended();
    }
    let counts = world.proxy.counts();
    assert_eq!(counts.connections_total, 1);
    assert_eq!((counts.handshakes_unauthorized, counts.handshakes_forbidden, counts.handshakes_invalid), (3, 2, 5));
}

#[test]
fn connections_that_do_not_identify_themselves_are_closed() {
    let world = World::with(ProxyConfig { handshakes: 1, handshake_timeout: Duration::from_millis(200), ..config() });
    // It has the only slot for connections that have not authenticated.
    let mut silent = world.rh2();
    silent.send([]);
    silent.exactly(24).expect("the preface");
    while silent.some(usize::MAX).is_ok() {}
    world.wait_until("the connection is counted", |counts| (counts.unanswered, counts.displaced) == (1, 0));
    let mut client = world.rh2();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    while client.some(usize::MAX).is_ok() {}
    // The slot is free again, repeatedly.
    for _ in 0..3 {
        let mut origin = RawOrigin::by_alpn(&world, &hello("app", HOST));
        world.wait_until("the origin server is connected", |counts| counts.connections == 1);
        let mut client = world.client();
        get(&mut client, "/");
        let stream = origin.request();
        origin.head(stream, 200, &[], true);
        client.response().assert(200);
        origin.leave();
        world.wait_until("the connection has ended", |counts| counts.connections == 0);
    }
}
