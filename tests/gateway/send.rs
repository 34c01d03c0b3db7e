//! Messages of the application to clients: `/send` and `/close`.

use std::time::Duration;

use uncork::relay::GatewayConfig;

use crate::{
    app::agrees,
    gateway::{MOMENT, TestGateway, is, now, pause, start, start_with},
    socket::{BINARY, Socket, TEXT},
    world::World,
};

worlds! {
    everybody_named_gets_it, requests_that_are_none, who_is_not_there_does_not_matter, unless_it_is_strict,
    kinds_of_messages, a_message_to_a_thousand, bodies_have_a_limit, a_body_that_does_not_come_whole,
    a_session_header_of_ones_own, the_last_word, the_last_word_may_be_empty,
    the_last_word_to_somebody_who_does_not_read;
    slow: who_does_not_read_is_waited_for, so_long_and_no_longer, the_others_get_it_at_once,
    a_sender_that_leaves_does_not_send, nobody_waits_behind_the_end,
}

const OK: &str = r#"{"result":"OK"}"#;

fn not_found(keys: &[&str], result: &str) -> String {
    errors("kuiperbelt: session is not found", keys, result)
}

fn errors(error: &str, keys: &[&str], result: &str) -> String {
    let errors: Vec<String> = keys.iter().map(|key| format!(r#"{{"error":"{error}","session":"{key}"}}"#)).collect();
    format!("{{\"errors\":[{}],\"result\":\"{result}\"}}\n", errors.join(","))
}

/// A client that does not read and has filled the gateway's output and the system's: the next message waits in the
/// queue.
fn stalled(gateway: &TestGateway, key: &str) -> Socket {
    let socket = Socket::over(gateway.host.connect_narrow(), &format!("/connect?key={key}"), &[]);
    gateway.app.wait_for_calls("/establish", 1);
    socket
}

/// Sends until a message finds the queue full. Returns how many are in it.
fn fill(gateway: &TestGateway, key: &str, body: &str) -> usize {
    for n in 0..1000 {
        let response = gateway.send(&[key], body);
        if response.text() != OK {
            assert!(response.text().contains("context deadline exceeded"), "{}", response.text());
            return n;
        }
    }
    panic!("it accepts everything");
}

fn everybody_named_gets_it(world: &World) {
    let gateway = start(world);
    let (mut a, mut b, mut c) = (gateway.client("a"), gateway.client("b"), gateway.client("c"));
    let response = gateway.send(&["a", "c"], "hello");
    is(&response, 200, OK);
    assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
    a.receives("hello");
    c.receives("hello");
    assert!(b.is_silent(MOMENT));
    // Each key counts, also a repeated one.
    is(&gateway.send(&["b", "a", "b"], "again"), 200, OK);
    b.receives("again").receives("again");
    a.receives("again");
    assert!(a.is_silent(MOMENT));
    assert_eq!(gateway.service.stats().total_messages, 5);
}

fn requests_that_are_none(world: &World) {
    let gateway = start(world);
    for path in ["/send", "/close"] {
        for method in ["GET", "PUT", "DELETE", "post"] {
            let mut wire = gateway.host.connect();
            wire.request(&format!("{method} {path}"), &["X-Kuiperbelt-Session: a"]);
            let response = wire.response();
            is(&response, 405, r#"{"errors":[{"error":"required POST method"}],"result":"NG"}"#);
            assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
            assert_eq!(response.get("allow"), Some("POST"));
        }
        let response = gateway.post(path, &[], &[], b"x");
        is(&response, 400, r#"{"errors":[{"error":"session header is missing"}],"result":"NG"}"#);
        assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
    }
    assert_eq!(gateway.service.stats().total_messages, 0);
}

fn who_is_not_there_does_not_matter(world: &World) {
    let gateway = start(world);
    let mut a = gateway.client("a");
    let response = gateway.send(&["bob", "a", "carl"], "hello");
    is(&response, 200, &not_found(&["bob", "carl"], "OK"));
    assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
    a.receives("hello");
    is(&gateway.send(&["bob"], "hello"), 200, &not_found(&["bob"], "OK"));
    // A list is one unusual key; an empty one is a key as well.
    is(&gateway.send(&["a, a", ""], "hello"), 200, &not_found(&["a, a", ""], "OK"));
    is(&gateway.send(&["\"<a>"], "hello"), 200, &not_found(&["\\\"\\u003ca\\u003e"], "OK"));
    is(&gateway.post("/close", &["bob"], &[], b""), 200, &not_found(&["bob"], "OK"));
    assert!(a.is_silent(MOMENT));
    assert_eq!(gateway.service.stats().total_messages, 1);
}

fn unless_it_is_strict(world: &World) {
    let gateway = start_with(world, |config, _| config.strict_broadcast = true, agrees);
    let mut a = gateway.client("a");
    for path in ["/send", "/close"] {
        let response = gateway.post(path, &["a", "bob"], &[], b"hello");
        is(&response, 400, &not_found(&["bob"], "NG"));
        assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
    }
    assert!(a.is_silent(MOMENT));
    assert_eq!(gateway.service.stats().total_messages, 0);
    is(&gateway.send(&["a", "a"], "hello"), 200, OK);
    a.receives("hello").receives("hello");
}

fn kinds_of_messages(world: &World) {
    let gateway = start(world);
    let mut a = gateway.client("a");
    let long = vec![b'x'; 70_000];
    for (fields, body, op) in [
        (&[][..], &b"text"[..], TEXT),
        (&["Content-Type: text/plain"], b"text", TEXT),
        (&["Content-Type: application/json"], "\u{1f600}".as_bytes(), TEXT),
        (&["Content-Type: application/octet-stream"], b"\x00\xff", BINARY),
        (&["Content-Type: APPLICATION/octet-stream; a=b"], b"\xff", BINARY),
        (&["Content-Type: application/octet-streams"], b"text", TEXT),
        (&[], b"", TEXT),
        (&["Content-Type: application/octet-stream"], b"", BINARY),
        (&[], &long, TEXT),
    ] {
        is(&gateway.post("/send", &["a"], fields, body), 200, OK);
        assert_eq!(a.next(), (op, body.to_vec()), "{fields:?}");
    }
    // Invalid text would cost the client its connection.
    let response = gateway.post("/send", &["a"], &[], b"\xff");
    is(&response, 400, r#"{"errors":[{"error":"message is not valid UTF-8"}],"result":"NG"}"#);
    is(&gateway.send(&["a"], "still there"), 200, OK);
    a.receives("still there");
}

fn a_message_to_a_thousand(world: &World) {
    let gateway = start(world);
    let mut clients: Vec<Socket> = (0..8).map(|n| gateway.client(&format!("client-{n}"))).collect();
    // Each of them many times, as if there were as many keys.
    let keys: Vec<String> = (0..1500).map(|n| format!("client-{}", n % 8)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).chain(["unknown"]).collect();
    let mut config = GatewayConfig::default();
    config.limits.targets = 2000;
    is(&gateway.send(&keys, "hello"), 200, &not_found(&["unknown"], "OK"));
    for (n, client) in clients.iter_mut().enumerate() {
        for _ in 0..(1500 + 7 - n) / 8 {
            client.receives("hello");
        }
        assert!(client.is_silent(Duration::from_millis(5)));
    }
    assert_eq!(gateway.service.stats().total_messages, 1500);
}

fn bodies_have_a_limit(world: &World) {
    let gateway = start_with(world, |config, _| config.limits.send = 1000, agrees);
    let mut a = gateway.client("a");
    let large = r#"{"errors":[{"error":"message is too large"}],"result":"NG"}"#;
    is(&gateway.send(&["a"], &"x".repeat(1000)), 200, OK);
    is(&gateway.send(&["a"], &"x".repeat(1001)), 413, large);
    for (size, status) in [(1000, 200), (1001, 413)] {
        let mut wire = gateway.host.connect();
        wire.request("POST /send", &["X-Kuiperbelt-Session: a", "Transfer-Encoding: chunked"]);
        wire.chunk(&vec![b'x'; 500]).chunk(&vec![b'x'; size - 500]).chunk(b"");
        wire.response().is(status);
    }
    a.receives(&"x".repeat(1000)).receives(&"x".repeat(1000));
    assert!(a.is_silent(MOMENT));
}

fn a_body_that_does_not_come_whole(world: &World) {
    let gateway = start(world);
    let mut a = gateway.client("a");
    let mut wire = gateway.host.connect();
    wire.request("POST /send", &["X-Kuiperbelt-Session: a", "Transfer-Encoding: chunked"]);
    wire.chunk(b"hello").send("no chunk\r\n");
    let response = wire.response();
    is(&response, 500, r#"{"result":"NG"}"#);
    let mut wire = gateway.host.connect();
    wire.request("POST /send", &["X-Kuiperbelt-Session: a", "Content-Length: 10"]).send("hello");
    drop(wire);
    assert!(a.is_silent(MOMENT));
    is(&gateway.send(&["a"], "whole"), 200, OK);
    a.receives("whole");
}

fn a_session_header_of_ones_own(world: &World) {
    let gateway = start_with(
        world,
        |config, _| config.session_header = "x-who".into(),
        |call| match call.path.as_str() {
            "/connect" => crate::app::Reaction::Respond(200, vec![("X-WHO", "me".into())], vec![]),
            _ => crate::app::Reaction::status(200),
        },
    );
    let mut client = Socket::connect(&gateway.host, "/connect", &[]);
    assert_eq!(gateway.app.wait_for_calls("/establish", 1)[0].get("x-who").as_deref(), Some("me"));
    is(&gateway.post("/send", &[], &["X-Who: me"], b"hello"), 200, OK);
    client.receives("hello");
    is(&gateway.send(&["me"], "hello"), 400, r#"{"errors":[{"error":"session header is missing"}],"result":"NG"}"#);
}

/// More than the gateway's and the system's buffers of a client that does not read.
fn long() -> String {
    "x".repeat(512 * 1024)
}

/// Timeout of a sender whose client does not read.
const SEND_TIMEOUT: Duration = Duration::from_millis(600);

fn limit_send_time(config: &mut GatewayConfig) {
    config.send_timeout = Some(SEND_TIMEOUT);
}

fn who_does_not_read_is_waited_for(world: &World) {
    let gateway = start(world);
    let mut slow = stalled(&gateway, "slow");
    // Without a timeout the sender waits in the end, and no request fails.
    let mut waiting = Vec::new();
    for n in 0..200 {
        let mut wire = gateway.host.connect();
        gateway.send_post(&mut wire, "/send", &["slow"], &[], format!("{n} {}", long()).as_bytes());
        if wire.is_silent(Duration::from_millis(500)) {
            waiting.push(wire);
            if waiting.len() == 3 {
                break;
            }
        }
    }
    assert_eq!(waiting.len(), 3, "a sender waits");
    let sent = gateway.service.stats().total_messages;
    // All messages arrive, in order, and every waiting sender gets its response.
    for n in 0..sent {
        let (_, message) = slow.next();
        assert!(message.starts_with(format!("{n} x").as_bytes()), "{n}: {}", message[..10].escape_ascii());
    }
    for wire in &mut waiting {
        is(&wire.response(), 200, OK);
    }
}

fn so_long_and_no_longer(world: &World) {
    for (strict, status, result) in [(false, 200, "OK"), (true, 400, "NG")] {
        let gateway = start_with(
            world,
            |config, _| {
                limit_send_time(config);
                config.strict_broadcast = strict;
            },
            agrees,
        );
        let (mut slow, mut quick) = (stalled(&gateway, "slow"), gateway.client("quick"));
        let queued = fill(&gateway, "slow", &long());
        let response = gateway.send(&["slow", "quick", "slow"], "hello");
        is(&response, status, &errors("context deadline exceeded", &["slow", "slow"], result));
        assert_eq!(response.get("content-type"), Some("application/json; charset=utf-8"));
        quick.receives("hello");
        // Queued messages arrive, abandoned ones do not.
        for _ in 0..queued {
            assert_eq!(slow.next().1.len(), long().len());
        }
        is(&gateway.send(&["slow"], "the next"), 200, OK);
        slow.receives("the next");
        assert_eq!(gateway.service.stats().total_messages, queued as u64 + 5, "also the abandoned ones");
        assert_eq!(gateway.service.stats().message_errors, 0);
    }
}

fn the_others_get_it_at_once(world: &World) {
    let gateway = start_with(world, |config, _| config.send_timeout = Some(Duration::from_secs(2)), agrees);
    let mut slow: Vec<Socket> =
        (0..4).map(|n| Socket::over(gateway.host.connect_narrow(), &format!("/connect?key=slow{n}"), &[])).collect();
    gateway.app.wait_for_calls("/establish", 4);
    let mut quick = gateway.client("quick");
    let keys = ["slow0", "slow1", "slow2", "slow3", "quick"];
    let start = loop {
        let start = now();
        let response = gateway.send(&keys, &long());
        assert_eq!(quick.next().1.len(), long().len());
        if response.text() != OK {
            break start;
        }
    };
    // In parallel: four clients that do not read cost the time of one.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    slow.clear();
}

fn a_sender_that_leaves_does_not_send(world: &World) {
    let gateway = start_with(world, |config, _| limit_send_time(config), agrees);
    let mut slow = stalled(&gateway, "slow");
    let queued = fill(&gateway, "slow", &long());
    let mut wire = gateway.host.connect();
    gateway.send_post(&mut wire, "/send", &["slow"], &[], b"never mind");
    gateway.stats("it waits", |stats| stats.total_messages == queued as u64 + 2);
    drop(wire);
    // Independent of the order of its end and of the free space: nothing of it remains.
    pause(SEND_TIMEOUT + SEND_TIMEOUT / 4);
    for _ in 0..queued {
        assert_eq!(slow.next().1.len(), long().len());
    }
    assert!(slow.is_silent(MOMENT));
}

fn nobody_waits_behind_the_end(world: &World) {
    let gateway = start(world);
    let slow = stalled(&gateway, "slow");
    let mut waiting = loop {
        let mut wire = gateway.host.connect();
        gateway.send_post(&mut wire, "/send", &["slow"], &[], long().as_bytes());
        if wire.is_silent(Duration::from_millis(500)) {
            break wire;
        }
    };
    drop(slow);
    is(&waiting.response(), 200, &errors("kuiperbelt: session is closed", &["slow"], "OK"));
    assert_eq!(gateway.app.wait_for_calls("/close", 1)[0].key(), "slow");
    // One message was being written when the connection broke.
    let stats =
        gateway.stats("the connection has ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    assert_eq!(stats.message_errors, 1);
}

fn the_last_word(world: &World) {
    let gateway = start(world);
    let (mut a, mut b, mut c) = (gateway.client("a"), gateway.client("b"), gateway.client("c"));
    let response = gateway.post("/close", &["a", "unknown", "b"], &["Content-Type: text/plain"], b"bye");
    is(&response, 200, &not_found(&["unknown"], "OK"));
    a.receives("bye").is_closed(1000);
    b.receives("bye").is_closed(1000);
    assert!(c.is_silent(MOMENT));
    let stats = gateway.stats("the clients have disconnected", |stats| stats.connections == 1);
    assert_eq!((stats.total_messages, stats.message_errors, stats.connect_errors), (2, 0, 0));
    is(&gateway.send(&["a"], "late"), 200, &not_found(&["a"], "OK"));
    is(&gateway.post("/close", &["c"], &["Content-Type: application/octet-stream"], b"\xff"), 200, OK);
    assert_eq!(c.next(), (BINARY, vec![0xff]));
    assert_eq!(c.is_closed(1000), "");
    gateway.stats("all requests have ended", |stats| stats.connections == 0);
    assert!(gateway.app.calls("/close").is_empty(), "the application knows");
}

fn the_last_word_may_be_empty(world: &World) {
    let gateway = start(world);
    let mut a = gateway.client("a");
    is(&gateway.post("/close", &["a"], &[], b""), 200, OK);
    a.receives("").is_closed(1000);
    // Without any body.
    let mut b = gateway.client("b");
    let mut wire = gateway.host.connect();
    wire.request("POST /close", &["X-Kuiperbelt-Session: b"]);
    is(&wire.response(), 200, OK);
    b.receives("").is_closed(1000);
}

fn the_last_word_to_somebody_who_does_not_read(world: &World) {
    let gateway = start_with(
        world,
        |config, _| {
            limit_send_time(config);
            config.send_queue_size = 500;
            config.limits.queue = 1 << 30;
        },
        agrees,
    );
    let mut slow = stalled(&gateway, "slow");
    for _ in 0..40 {
        is(&gateway.send(&["slow"], &long()), 200, OK);
    }
    is(&gateway.post("/close", &["slow"], &[], b"bye"), 200, OK);
    is(&gateway.send(&["slow"], "late"), 200, &errors("kuiperbelt: session is closed", &["slow"], "OK"));
    for _ in 0..40 {
        assert_eq!(slow.next().1.len(), long().len());
    }
    slow.receives("bye").is_closed(1000);
    gateway.stats("the connection has ended", |stats| stats.connections == 0);
    assert!(gateway.app.calls("/close").is_empty());
}
