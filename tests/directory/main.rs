//! The gateway on three nodes, with a real engine (`redis-server`), real WebSocket clients and a real application.
//! Without `redis-server`, the tests say that they were skipped.

#![allow(clippy::duplicate_mod, reason = "both clients include the response that they receive")]
#![cfg(all(feature = "directory", feature = "gateway", feature = "tls"))]
#![expect(clippy::disallowed_methods, reason = "tests may sleep, and read the clock to bound a wait")]

#[path = "../gateway/app.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod app;
#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod client;
#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/node_identity.rs"]
mod identity;
#[path = "../gateway/socket.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod socket;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod wire;
#[path = "../support/world.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "each test uses a part of it")]
mod world;

mod cluster;
mod cut;
mod presence;
mod redis;
mod redis_cluster;

use std::time::{Duration, Instant};

use cluster::{Cluster, connect};
use redis::Redis;
use wire::TIMEOUT;

/// Repeats until `condition` holds.
#[track_caller]
fn until(what: impl What, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "{}", what.text());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a wait is for.
trait What {
    fn text(&self) -> String;
}

impl What for &str {
    fn text(&self) -> String {
        (*self).to_owned()
    }
}

impl<F: Fn() -> String> What for F {
    fn text(&self) -> String {
        self()
    }
}

/// Runs a test with an engine, if there is one on this machine.
fn with_engine(test: impl FnOnce(Redis)) {
    match Redis::start() {
        Some(redis) => test(redis),
        None => println!("skipped: redis-server is not installed"),
    }
}

const NOT_FOUND: &str = "kuiperbelt: session is not found";

fn errors(list: &[(&str, &str)], result: &str) -> String {
    let list: Vec<_> = list.iter().map(|(error, key)| format!(r#"{{"error":"{error}","session":"{key}"}}"#)).collect();
    format!("{{\"errors\":[{}],\"result\":\"{result}\"}}\n", list.join(","))
}

#[test]
fn a_message_reaches_a_client_on_any_node() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let mut bob = connect(&cluster.a, "bob");
        let mut eve = connect(&cluster.b, "eve");
        for node in cluster.all() {
            node.send(&["bob", "eve"], "hello").is(200, r#"{"result":"OK"}"#);
            bob.receives("hello");
            eve.receives("hello");
            node.send(&["bob", "nobody", "eve"], "some").is(200, &errors(&[(NOT_FOUND, "nobody")], "OK"));
            bob.receives("some");
            eve.receives("some");
        }
        // Binary, and many bytes.
        let large = vec![7; 200_000];
        cluster
            .c
            .post("/send", &["bob"], &["Content-Type: application/octet-stream"], &large)
            .is(200, r#"{"result":"OK"}"#);
        assert_eq!(bob.next(), (socket::BINARY, large));
        cluster
            .c
            .post("/send", &["bob"], &[], b"\xff")
            .is(400, r#"{"errors":[{"error":"message is not valid UTF-8"}],"result":"NG"}"#);
        // The last message, from another node.
        cluster.c.post("/close", &["bob"], &[], b"bye").is(200, r#"{"result":"OK"}"#);
        bob.receives("bye");
        bob.is_closed(1000);
        until("the key is gone", || cluster.b.send(&["bob"], "late").text().contains(NOT_FOUND));
        // The messages of a client go to the application as before, and its end is reported once.
        eve.text("question");
        assert_eq!(cluster.app.wait_for_calls("/receive", 1)[0].text(), "question");
        eve.close();
        assert_eq!(cluster.app.wait_for_calls("/close", 1)[0].key(), "eve");
        until("no lease is left", || cluster.all().all(|node| node.directory.leases() == 0));
    });
}

#[test]
fn with_strict_broadcast_no_client_gets_a_message_that_one_cannot_get() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |config| config.strict_broadcast = true);
        let (mut bob, mut eve) = (connect(&cluster.a, "bob"), connect(&cluster.b, "eve"));
        let want = errors(&[(NOT_FOUND, "nobody")], "NG");
        cluster.a.send(&["bob", "eve", "nobody"], "all or none").is(400, &want);
        cluster.c.send(&["bob", "eve"], "both").is(200, r#"{"result":"OK"}"#);
        bob.receives("both");
        eve.receives("both");
        // An entry of a session that its node does not have.
        redis.cli(&["SET", "uncork:gw:key:ghost", "b:0123456789abcdef:9:1796000000000"]);
        cluster.c.send(&["bob", "ghost"], "all or none").is(400, &errors(&[(NOT_FOUND, "ghost")], "NG"));
        until("the stale entry is removed", || redis.cli(&["EXISTS", "uncork:gw:key:ghost"]) == "0");
        cluster.c.send(&["bob"], "only bob").is(200, r#"{"result":"OK"}"#);
        bob.receives("only bob");
    });
}

#[test]
fn the_newest_connection_has_the_key() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let mut old = connect(&cluster.a, "bob");
        let mut new = connect(&cluster.b, "bob");
        assert!(old.is_closed(4000).contains("another connection"));
        for node in cluster.all() {
            node.send(&["bob"], "to the new one").is(200, r#"{"result":"OK"}"#);
            new.receives("to the new one");
        }
        // Back to the first node.
        let mut newest = connect(&cluster.a, "bob");
        new.is_closed(4000);
        cluster.c.send(&["bob"], "to the newest").is(200, r#"{"result":"OK"}"#);
        newest.receives("to the newest");
        newest.close();
        // The application is told once, for the last of them.
        assert_eq!(cluster.app.wait_for_calls("/close", 1).len(), 1);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(cluster.app.calls("/close").len(), 1);
    });
}

#[test]
fn a_connection_that_the_application_rejects_takes_nothing() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let mut old = connect(&cluster.a, "bob");
        cluster.reject_next_establish();
        let mut rejected = socket::Socket::connect(&cluster.b.public, "/connect?key=bob", &[]);
        rejected.ends();
        until("the first session is back", || {
            let response = cluster.c.send(&["bob"], "still you");
            response.text() == r#"{"result":"OK"}"#
        });
        old.receives("still you");
        cluster.b.send(&["bob"], "again").is(200, r#"{"result":"OK"}"#);
        old.receives("again");
    });
}

#[test]
fn without_the_engine_sessions_go_on_and_unknown_keys_are_not_called_unknown() {
    with_engine(|mut redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let (mut bob, mut eve) = (connect(&cluster.a, "bob"), connect(&cluster.b, "eve"));
        redis.kill();
        cluster.wait_until("disconnected", |node| !node.is_ready());
        cluster.a.send(&["bob"], "here").is(200, r#"{"result":"OK"}"#);
        bob.receives("here");
        let unavailable = errors(&[("directory unavailable", "eve")], "NG");
        cluster.a.send(&["bob", "eve"], "nowhere").is(503, &unavailable);
        cluster.a.post("/close", &["eve"], &[], b"").is(503, &unavailable);
        // New clients can connect meanwhile.
        let mut dan = connect(&cluster.c, "dan");
        cluster.c.send(&["dan"], "welcome").is(200, r#"{"result":"OK"}"#);
        dan.receives("welcome");
        // The engine has forgotten everything. Within 5 s, all is registered again.
        redis.restart();
        let back = Instant::now();
        cluster.wait_until("connected again", cluster::Node::is_ready);
        for (key, client) in [("bob", &mut bob), ("eve", &mut eve), ("dan", &mut dan)] {
            for node in cluster.all() {
                until("registered again", || node.send(&[key], "back").text() == r#"{"result":"OK"}"#);
                client.receives("back");
            }
        }
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    });
}

#[test]
fn a_node_without_the_engine_gives_way_to_the_newer_session() {
    with_engine(|redis| {
        let cut = cut::Cut::before(redis.port());
        let cluster = Cluster::start_with(redis.port(), Some(cut.port()), |_| {});
        let mut old = connect(&cluster.a, "bob");
        cut.cut();
        cluster.wait_until("a is disconnected", |node| node.id != "a" || !node.is_ready());
        let mut new = connect(&cluster.b, "bob");
        cluster.c.send(&["bob"], "to the new one").is(200, r#"{"result":"OK"}"#);
        new.receives("to the new one");
        cut.mend();
        // It was told by the other node, or finds out when it registers again.
        old.is_closed(4000);
        cluster.wait_until("all are connected", cluster::Node::is_ready);
        cluster.a.send(&["bob"], "still the new one").is(200, r#"{"result":"OK"}"#);
        new.receives("still the new one");
        assert_eq!(cluster.app.calls("/close").len(), 0);
    });
}

#[test]
fn the_clients_of_a_lost_node_are_reported_by_one_survivor() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let clients: Vec<_> = (0..120).map(|n| connect(&cluster.a, &format!("k{n}"))).collect();
        let mut bob = connect(&cluster.b, "bob");
        // A machine that vanishes: nothing of it reaches the others or the engine any more.
        cluster.lose_a();
        // One of its clients has connected elsewhere before the loss is noticed.
        let mut moved = connect(&cluster.c, "k7");
        // The entry of the node expires after 10 s, and three looks follow.
        let start = Instant::now();
        while cluster.app.calls("/close").len() < 119 {
            assert!(start.elapsed() < Duration::from_secs(60), "{}", cluster.app.calls("/close").len());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        let calls = cluster.app.calls("/close");
        let mut keys: Vec<_> = calls.iter().map(app::Call::key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!((keys.len(), keys.contains(&"k7".to_owned())), (119, false));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(cluster.app.calls("/close").len(), 119, "each once");
        cluster.b.send(&["bob", "k7"], "on").is(200, r#"{"result":"OK"}"#);
        bob.receives("on");
        moved.receives("on");
        drop(clients);
    });
}

/// The application may agree to a client that has left meanwhile, and then it must learn of its end, even if the node
/// is lost before it can tell.
#[test]
fn a_client_that_leaves_during_its_establish_callback_stays_in_the_set_of_its_node() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let is_in_set = |key: &str| redis.cli(&["SISMEMBER", &of_node(&redis, "a"), key]) == "1";
        let has_entry = |key: &str| redis.cli(&["EXISTS", &format!("uncork:gw:key:{key}")]) == "1";
        let leaves = |key: &str, number: usize| {
            cluster.delay_next_establish();
            let mut client = socket::Socket::connect(&cluster.a.public, &format!("/connect?key={key}"), &[]);
            cluster.app.wait_for_calls("/establish", number);
            client.close();
            until("the entry is removed", || !has_entry(key));
            assert!(is_in_set(key), "{key}");
        };
        leaves("bob", 1);
        cluster.app.release(1, 200);
        assert_eq!(cluster.app.wait_for_calls("/close", 1)[0].key(), "bob");
        until("it was told", || !is_in_set("bob"));
        // Rejected: the application knows that there is no session.
        leaves("eve", 2);
        cluster.app.release(1, 403);
        until("it need not be told", || !is_in_set("eve"));
        // The node is lost before the response.
        leaves("dan", 3);
        cluster.lose_a();
        let start = Instant::now();
        while cluster.app.calls("/close").len() < 2 {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(300));
        let keys: Vec<_> = cluster.app.calls("/close").iter().map(app::Call::key).collect();
        assert_eq!(keys, ["bob", "dan"]);
    });
}

#[test]
fn many_clients_are_registered_in_batches() {
    with_engine(|mut redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let mut clients: Vec<_> = (0..1200).map(|n| connect(&cluster.a, &format!("k{n}"))).collect();
        redis.kill();
        cluster.wait_until("disconnected", |node| !node.is_ready());
        redis.restart();
        cluster.wait_until("connected again", cluster::Node::is_ready);
        let keys: Vec<String> = (0..1200).map(|n| format!("k{n}")).collect();
        for some in keys.chunks(100) {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            cluster.b.send(&some, "all").is(200, r#"{"result":"OK"}"#);
        }
        for client in &mut clients {
            client.receives("all");
        }
        assert_eq!(cluster.a.directory.leases(), 1200);
    });
}

#[test]
fn a_client_that_is_not_in_the_directory_is_found() {
    for strict in [false, true] {
        with_engine(|redis| {
            let cut = cut::Cut::before(redis.port());
            let cluster =
                Cluster::start_with(redis.port(), Some(cut.port()), |config| config.strict_broadcast = strict);
            cut.cut();
            cluster.wait_until("a is disconnected", |node| node.id != "a" || !node.is_ready());
            let mut bob = connect(&cluster.a, "bob");
            let mut eve = connect(&cluster.b, "eve");
            for node in [&cluster.b, &cluster.c] {
                node.send(&["bob", "eve"], "hello").is(200, r#"{"result":"OK"}"#);
                bob.receives("hello");
                eve.receives("hello");
            }
            let (status, result) = if strict { (400, "NG") } else { (200, "OK") };
            cluster.c.send(&["nobody"], "hello").is(status, &errors(&[(NOT_FOUND, "nobody")], result));
            // The entry of a node that does not have the client.
            redis.cli(&["SET", "uncork:gw:key:bob", "c:0123456789abcdef:9:0"]);
            cluster.b.send(&["bob"], "again").is(200, r#"{"result":"OK"}"#);
            bob.receives("again");
        });
    }
}

#[test]
fn a_client_that_moves_and_leaves_is_reported_once() {
    with_engine(|redis| {
        let cluster = Cluster::start(redis.port(), |_| {});
        let _clients = ["bob", "eve", "dan"].map(|key| connect(&cluster.a, key));
        // One moves while its node serves, another one after its node is lost.
        let mut moved = connect(&cluster.b, "dan");
        until("dan is on b only", || redis.cli(&["SCARD", &of_node(&redis, "a")]) == "2");
        cluster.lose_a();
        let mut later = connect(&cluster.c, "bob");
        moved.close();
        later.close();
        // Eve is reported when the node is found to be lost.
        let start = Instant::now();
        while !cluster.app.calls("/close").iter().any(|call| call.key() == "eve") {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut keys: Vec<_> = cluster.app.calls("/close").iter().map(app::Call::key).collect();
        keys.sort();
        assert_eq!(keys, ["bob", "dan", "eve"]);
    });
}

/// Returns the name of the set of a node's keys.
fn of_node(redis: &Redis, node: &str) -> String {
    let start = redis.cli(&["GET", &format!("uncork:node:{node}")]);
    format!("uncork:gw:of:{node}:{start}")
}
