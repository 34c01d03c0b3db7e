//! Messages of the application to clients: `/send` and `/close`.

use std::time::Duration;

use uncork::relay::GatewayConfig;

use crate::{
    app::polite,
    gate::{Gate, MOMENT, is, now, pause, start, start_with},
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
fn stalled(gate: &Gate, key: &str) -> Socket {
    let socket = Socket::over(gate.host.connect_narrow(), &format!("/connect?key={key}"), &[]);
    gate.app.hears("/establish", 1);
    socket
}

/// Sends until a message finds the queue full. Returns how many are in it.
fn fill(gate: &Gate, key: &str, body: &str) -> usize {
    for n in 0..1000 {
        let answer = gate.send(&[key], body);
        if answer.text() != OK {
            assert!(answer.text().contains("context deadline exceeded"), "{}", answer.text());
            return n;
        }
    }
    panic!("it accepts everything");
}

fn everybody_named_gets_it(world: &World) {
    let gate = start(world);
    let (mut a, mut b, mut c) = (gate.client("a"), gate.client("b"), gate.client("c"));
    let answer = gate.send(&["a", "c"], "hello");
    is(&answer, 200, OK);
    assert_eq!(answer.get("content-type"), Some("application/json; charset=utf-8"));
    a.says("hello");
    c.says("hello");
    assert!(b.is_silent(MOMENT));
    // Each key counts, also a repeated one.
    is(&gate.send(&["b", "a", "b"], "again"), 200, OK);
    b.says("again").says("again");
    a.says("again");
    assert!(a.is_silent(MOMENT));
    assert_eq!(gate.gateway.stats().total_messages, 5);
}

fn requests_that_are_none(world: &World) {
    let gate = start(world);
    for path in ["/send", "/close"] {
        for method in ["GET", "PUT", "DELETE", "post"] {
            let mut wire = gate.host.connect();
            wire.request(&format!("{method} {path}"), &["X-Kuiperbelt-Session: a"]);
            let answer = wire.answer();
            is(&answer, 405, r#"{"errors":[{"error":"required POST method"}],"result":"NG"}"#);
            assert_eq!(answer.get("content-type"), Some("application/json; charset=utf-8"));
            assert_eq!(answer.get("allow"), Some("POST"));
        }
        let answer = gate.post(path, &[], &[], b"x");
        is(&answer, 400, r#"{"errors":[{"error":"session header is missing"}],"result":"NG"}"#);
        assert_eq!(answer.get("content-type"), Some("application/json; charset=utf-8"));
    }
    assert_eq!(gate.gateway.stats().total_messages, 0);
}

fn who_is_not_there_does_not_matter(world: &World) {
    let gate = start(world);
    let mut a = gate.client("a");
    let answer = gate.send(&["bob", "a", "carl"], "hello");
    is(&answer, 200, &not_found(&["bob", "carl"], "OK"));
    assert_eq!(answer.get("content-type"), Some("application/json; charset=utf-8"));
    a.says("hello");
    is(&gate.send(&["bob"], "hello"), 200, &not_found(&["bob"], "OK"));
    // A list is one unusual key; an empty one is a key as well.
    is(&gate.send(&["a, a", ""], "hello"), 200, &not_found(&["a, a", ""], "OK"));
    is(&gate.send(&["\"<a>"], "hello"), 200, &not_found(&["\\\"\\u003ca\\u003e"], "OK"));
    is(&gate.post("/close", &["bob"], &[], b""), 200, &not_found(&["bob"], "OK"));
    assert!(a.is_silent(MOMENT));
    assert_eq!(gate.gateway.stats().total_messages, 1);
}

fn unless_it_is_strict(world: &World) {
    let gate = start_with(world, |config, _| config.strict_broadcast = true, polite);
    let mut a = gate.client("a");
    for path in ["/send", "/close"] {
        let answer = gate.post(path, &["a", "bob"], &[], b"hello");
        is(&answer, 400, &not_found(&["bob"], "NG"));
        assert_eq!(answer.get("content-type"), Some("application/json; charset=utf-8"));
    }
    assert!(a.is_silent(MOMENT));
    assert_eq!(gate.gateway.stats().total_messages, 0);
    is(&gate.send(&["a", "a"], "hello"), 200, OK);
    a.says("hello").says("hello");
}

fn kinds_of_messages(world: &World) {
    let gate = start(world);
    let mut a = gate.client("a");
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
        is(&gate.post("/send", &["a"], fields, body), 200, OK);
        assert_eq!(a.next(), (op, body.to_vec()), "{fields:?}");
    }
    // Invalid text would cost the client its connection.
    let answer = gate.post("/send", &["a"], &[], b"\xff");
    is(&answer, 400, r#"{"errors":[{"error":"message is not valid UTF-8"}],"result":"NG"}"#);
    is(&gate.send(&["a"], "still there"), 200, OK);
    a.says("still there");
}

fn a_message_to_a_thousand(world: &World) {
    let gate = start(world);
    let mut clients: Vec<Socket> = (0..8).map(|n| gate.client(&format!("client-{n}"))).collect();
    // Each of them many times, as if there were as many keys.
    let keys: Vec<String> = (0..1500).map(|n| format!("client-{}", n % 8)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).chain(["nobody"]).collect();
    let mut config = GatewayConfig::default();
    config.limits.targets = 2000;
    is(&gate.send(&keys, "hello"), 200, &not_found(&["nobody"], "OK"));
    for (n, client) in clients.iter_mut().enumerate() {
        for _ in 0..(1500 + 7 - n) / 8 {
            client.says("hello");
        }
        assert!(client.is_silent(Duration::from_millis(5)));
    }
    assert_eq!(gate.gateway.stats().total_messages, 1500);
}

fn bodies_have_a_limit(world: &World) {
    let gate = start_with(world, |config, _| config.limits.send = 1000, polite);
    let mut a = gate.client("a");
    let large = r#"{"errors":[{"error":"message is too large"}],"result":"NG"}"#;
    is(&gate.send(&["a"], &"x".repeat(1000)), 200, OK);
    is(&gate.send(&["a"], &"x".repeat(1001)), 413, large);
    for (size, status) in [(1000, 200), (1001, 413)] {
        let mut wire = gate.host.connect();
        wire.request("POST /send", &["X-Kuiperbelt-Session: a", "Transfer-Encoding: chunked"]);
        wire.chunk(&vec![b'x'; 500]).chunk(&vec![b'x'; size - 500]).chunk(b"");
        wire.answer().is(status);
    }
    a.says(&"x".repeat(1000)).says(&"x".repeat(1000));
    assert!(a.is_silent(MOMENT));
}

fn a_body_that_does_not_come_whole(world: &World) {
    let gate = start(world);
    let mut a = gate.client("a");
    let mut wire = gate.host.connect();
    wire.request("POST /send", &["X-Kuiperbelt-Session: a", "Transfer-Encoding: chunked"]);
    wire.chunk(b"hello").send("no chunk\r\n");
    let answer = wire.answer();
    is(&answer, 500, r#"{"result":"NG"}"#);
    let mut wire = gate.host.connect();
    wire.request("POST /send", &["X-Kuiperbelt-Session: a", "Content-Length: 10"]).send("hello");
    drop(wire);
    assert!(a.is_silent(MOMENT));
    is(&gate.send(&["a"], "whole"), 200, OK);
    a.says("whole");
}

fn a_session_header_of_ones_own(world: &World) {
    let gate = start_with(
        world,
        |config, _| config.session_header = "x-who".into(),
        |heard| match heard.path.as_str() {
            "/connect" => crate::app::Say::Answer(200, vec![("X-WHO", "me".into())], vec![]),
            _ => crate::app::Say::status(200),
        },
    );
    let mut client = Socket::connect(&gate.host, "/connect", &[]);
    assert_eq!(gate.app.hears("/establish", 1)[0].get("x-who").as_deref(), Some("me"));
    is(&gate.post("/send", &[], &["X-Who: me"], b"hello"), 200, OK);
    client.says("hello");
    is(&gate.send(&["me"], "hello"), 400, r#"{"errors":[{"error":"session header is missing"}],"result":"NG"}"#);
}

/// More than the gateway's and the system's buffers of a client that does not read.
fn long() -> String {
    "x".repeat(512 * 1024)
}

/// How long a sender waits for a client that does not read.
const PATIENT: Duration = Duration::from_millis(600);

fn impatient(config: &mut GatewayConfig) {
    config.send_timeout = Some(PATIENT);
}

fn who_does_not_read_is_waited_for(world: &World) {
    let gate = start(world);
    let mut slow = stalled(&gate, "slow");
    // Without a timeout the sender waits in the end, and no request fails.
    let mut waiting = Vec::new();
    for n in 0..200 {
        let mut wire = gate.host.connect();
        gate.ask(&mut wire, "/send", &["slow"], &[], format!("{n} {}", long()).as_bytes());
        if wire.is_silent(Duration::from_millis(500)) {
            waiting.push(wire);
            if waiting.len() == 3 {
                break;
            }
        }
    }
    assert_eq!(waiting.len(), 3, "a sender waits");
    let sent = gate.gateway.stats().total_messages;
    // All messages arrive, in order, and every waiting sender gets its response.
    for n in 0..sent {
        let (_, message) = slow.next();
        assert!(message.starts_with(format!("{n} x").as_bytes()), "{n}: {}", message[..10].escape_ascii());
    }
    for wire in &mut waiting {
        is(&wire.answer(), 200, OK);
    }
}

fn so_long_and_no_longer(world: &World) {
    for (strict, status, result) in [(false, 200, "OK"), (true, 400, "NG")] {
        let gate = start_with(
            world,
            |config, _| {
                impatient(config);
                config.strict_broadcast = strict;
            },
            polite,
        );
        let (mut slow, mut quick) = (stalled(&gate, "slow"), gate.client("quick"));
        let queued = fill(&gate, "slow", &long());
        let answer = gate.send(&["slow", "quick", "slow"], "hello");
        is(&answer, status, &errors("context deadline exceeded", &["slow", "slow"], result));
        assert_eq!(answer.get("content-type"), Some("application/json; charset=utf-8"));
        quick.says("hello");
        // Queued messages arrive, abandoned ones do not.
        for _ in 0..queued {
            assert_eq!(slow.next().1.len(), long().len());
        }
        is(&gate.send(&["slow"], "the next"), 200, OK);
        slow.says("the next");
        assert_eq!(gate.gateway.stats().total_messages, queued as u64 + 5, "also the abandoned ones");
        assert_eq!(gate.gateway.stats().message_errors, 0);
    }
}

fn the_others_get_it_at_once(world: &World) {
    let gate = start_with(world, |config, _| config.send_timeout = Some(Duration::from_secs(2)), polite);
    let mut slow: Vec<Socket> =
        (0..4).map(|n| Socket::over(gate.host.connect_narrow(), &format!("/connect?key=slow{n}"), &[])).collect();
    gate.app.hears("/establish", 4);
    let mut quick = gate.client("quick");
    let keys = ["slow0", "slow1", "slow2", "slow3", "quick"];
    let start = loop {
        let start = now();
        let answer = gate.send(&keys, &long());
        assert_eq!(quick.next().1.len(), long().len());
        if answer.text() != OK {
            break start;
        }
    };
    // In parallel: four clients that do not read cost the time of one.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    slow.clear();
}

fn a_sender_that_leaves_does_not_send(world: &World) {
    let gate = start_with(world, |config, _| impatient(config), polite);
    let mut slow = stalled(&gate, "slow");
    let queued = fill(&gate, "slow", &long());
    let mut wire = gate.host.connect();
    gate.ask(&mut wire, "/send", &["slow"], &[], b"never mind");
    gate.stats("it waits", |stats| stats.total_messages == queued as u64 + 2);
    drop(wire);
    // Independent of the order of its end and of the free space: nothing of it remains.
    pause(PATIENT + PATIENT / 4);
    for _ in 0..queued {
        assert_eq!(slow.next().1.len(), long().len());
    }
    assert!(slow.is_silent(MOMENT));
}

fn nobody_waits_behind_the_end(world: &World) {
    let gate = start(world);
    let slow = stalled(&gate, "slow");
    let mut waiting = loop {
        let mut wire = gate.host.connect();
        gate.ask(&mut wire, "/send", &["slow"], &[], long().as_bytes());
        if wire.is_silent(Duration::from_millis(500)) {
            break wire;
        }
    };
    drop(slow);
    is(&waiting.answer(), 200, &errors("kuiperbelt: session is closed", &["slow"], "OK"));
    assert_eq!(gate.app.hears("/close", 1)[0].key(), "slow");
    // One message was being written when the connection broke.
    let stats =
        gate.stats("the connection has ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    assert_eq!(stats.message_errors, 1);
}

fn the_last_word(world: &World) {
    let gate = start(world);
    let (mut a, mut b, mut c) = (gate.client("a"), gate.client("b"), gate.client("c"));
    let answer = gate.post("/close", &["a", "nobody", "b"], &["Content-Type: text/plain"], b"bye");
    is(&answer, 200, &not_found(&["nobody"], "OK"));
    a.says("bye").is_closed(1000);
    b.says("bye").is_closed(1000);
    assert!(c.is_silent(MOMENT));
    let stats = gate.stats("the clients are gone", |stats| stats.connections == 1);
    assert_eq!((stats.total_messages, stats.message_errors, stats.connect_errors), (2, 0, 0));
    is(&gate.send(&["a"], "late"), 200, &not_found(&["a"], "OK"));
    is(&gate.post("/close", &["c"], &["Content-Type: application/octet-stream"], b"\xff"), 200, OK);
    assert_eq!(c.next(), (BINARY, vec![0xff]));
    assert_eq!(c.is_closed(1000), "");
    gate.stats("all requests have ended", |stats| stats.connections == 0);
    assert!(gate.app.heard("/close").is_empty(), "the application knows");
}

fn the_last_word_may_be_empty(world: &World) {
    let gate = start(world);
    let mut a = gate.client("a");
    is(&gate.post("/close", &["a"], &[], b""), 200, OK);
    a.says("").is_closed(1000);
    // Without any body.
    let mut b = gate.client("b");
    let mut wire = gate.host.connect();
    wire.request("POST /close", &["X-Kuiperbelt-Session: b"]);
    is(&wire.answer(), 200, OK);
    b.says("").is_closed(1000);
}

fn the_last_word_to_somebody_who_does_not_read(world: &World) {
    let gate = start_with(
        world,
        |config, _| {
            impatient(config);
            config.send_queue_size = 500;
            config.limits.queue = 1 << 30;
        },
        polite,
    );
    let mut slow = stalled(&gate, "slow");
    for _ in 0..40 {
        is(&gate.send(&["slow"], &long()), 200, OK);
    }
    is(&gate.post("/close", &["slow"], &[], b"bye"), 200, OK);
    is(&gate.send(&["slow"], "late"), 200, &errors("kuiperbelt: session is closed", &["slow"], "OK"));
    for _ in 0..40 {
        assert_eq!(slow.next().1.len(), long().len());
    }
    slow.says("bye").is_closed(1000);
    gate.stats("the connection has ended", |stats| stats.connections == 0);
    assert!(gate.app.heard("/close").is_empty());
}
