//! The establish callback: the application confirms a client, which gets its greeting and messages only then.

use std::time::Duration;

use crate::{
    app::{Heard, Say},
    gate::{MOMENT, is, pause, start, start_with},
    socket::Socket,
    world::World,
};

worlds! {
    the_application_hears_that_a_client_is_there, messages_wait_until_it_is_established,
    what_a_client_says_waits_until_it_is_established, a_client_that_leaves_while_it_is_established;
    slow: a_client_that_is_not_agreed_to,
}

fn the_application_hears_that_a_client_is_there(world: &World) {
    let gate = start(world);
    let _client = gate.client("k");
    let heard = &gate.app.heard("/establish")[0];
    assert_eq!((heard.method.as_str(), heard.text().as_str(), heard.key().as_str()), ("POST", "", "k"));
    assert_eq!(heard.get("x-kuiperbelt-endpoint").as_deref(), Some("gate.test:9180"));
    assert_eq!(heard.get("content-length").as_deref(), Some("0"));
}

fn a_client_that_is_not_agreed_to(world: &World) {
    for (n, how) in ["500", "201", "abort", "hang"].into_iter().enumerate() {
        let gate = start_with(
            world,
            |config, _| config.callback.timeout = (how == "hang").then_some(Duration::from_millis(1500)),
            move |heard| match (heard.path.as_str(), how) {
                ("/connect", _) => Say::welcome("k", "hello"),
                ("/establish", "abort") => Say::Abort,
                ("/establish", "hang") => Say::Hang,
                ("/establish", status) => Say::status(status.parse().expect("a status")),
                _ => Say::status(200),
            },
        );
        // Connected, and then the stream just ends: no greeting, no Close.
        Socket::connect(&gate.host, "/connect", &[]).just_ends();
        let stats = gate.stats("taken back", |stats| (stats.connect_errors, stats.connections) == (1, 0));
        assert_eq!((stats.total_messages, stats.closing_connections), (0, 0), "{n}");
        assert!(gate.send(&["k"], "x").text().contains("session is not found"));
        assert!(gate.app.heard("/close").is_empty(), "it was never connected");
    }
}

/// Accepts every client as `k`, and confirms when the test says so.
fn agrees_later(heard: &Heard, hello: &str) -> Say {
    match heard.path.as_str() {
        "/connect" => Say::welcome("k", hello),
        "/establish" => Say::Hang,
        _ => Say::status(200),
    }
}

fn messages_wait_until_it_is_established(world: &World) {
    let gate = start_with(world, |_, _| {}, |heard| agrees_later(heard, "hello"));
    let mut client = Socket::connect(&gate.host, "/connect", &[]);
    gate.app.hears("/establish", 1);
    for n in 1..=5 {
        is(&gate.send(&["k"], &format!("message {n}")), 200, r#"{"result":"OK"}"#);
    }
    assert!(client.is_silent(MOMENT));
    gate.app.release(1, 200);
    client.says("hello");
    for n in 1..=5 {
        client.says(&format!("message {n}"));
    }
    is(&gate.send(&["k"], "more"), 200, r#"{"result":"OK"}"#);
    client.says("more");
    assert_eq!(gate.gateway.stats().total_messages, 7);

    // The application may close it before it is established, too.
    let mut client = Socket::connect(&gate.host, "/connect", &[]);
    gate.app.hears("/establish", 2);
    is(&gate.post("/close", &["k"], &[], b"bye"), 200, r#"{"result":"OK"}"#);
    assert!(gate.send(&["k"], "late").text().contains("kuiperbelt: session is closed"));
    gate.app.release(1, 200);
    client.says("hello").says("bye").is_closed(1000);
}

fn what_a_client_says_waits_until_it_is_established(world: &World) {
    let gate = start_with(world, |_, _| {}, |heard| agrees_later(heard, ""));
    let mut client = Socket::connect(&gate.host, "/connect", &[]);
    client.text("one").text("two");
    gate.app.hears("/establish", 1);
    pause(MOMENT);
    assert!(gate.app.heard("/receive").is_empty());
    gate.app.release(1, 200);
    let said: Vec<String> = gate.app.hears("/receive", 2).iter().map(Heard::text).collect();
    assert_eq!(said, ["one", "two"]);
}

fn a_client_that_leaves_while_it_is_established(world: &World) {
    for (status, told) in [(200, 1), (500, 0)] {
        let gate = start_with(world, |_, _| {}, |heard| agrees_later(heard, ""));
        let mut client = Socket::connect(&gate.host, "/connect", &[]);
        gate.app.hears("/establish", 1);
        client.leave();
        gate.stats("the client has left", |stats| stats.connections == 0);
        gate.app.release(1, status);
        // An application that has confirmed learns of the end; one that has not confirmed knows.
        if told > 0 {
            assert_eq!(gate.app.hears("/close", told)[0].key(), "k");
        } else {
            gate.stats("refused", |stats| stats.connect_errors == 1);
        }
        gate.stats("all over", |stats| stats.closing_connections == 0);
        assert_eq!(gate.app.heard("/close").len(), told);
    }
}
