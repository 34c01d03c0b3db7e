//! The establish callback: the application confirms a client, which gets its greeting and messages only then.

use std::time::Duration;

use crate::{
    app::{Call, Reaction},
    gateway::{MOMENT, is, pause, start, start_with},
    socket::Socket,
    world::World,
};

worlds! {
    the_application_hears_that_a_client_is_there, messages_wait_until_it_is_established,
    what_a_client_says_waits_until_it_is_established, a_client_that_leaves_while_it_is_established;
    slow: a_client_that_is_not_agreed_to,
}

fn the_application_hears_that_a_client_is_there(world: &World) {
    let gateway = start(world);
    let _client = gateway.client("k");
    let call = &gateway.app.calls("/establish")[0];
    assert_eq!((call.method.as_str(), call.text().as_str(), call.key().as_str()), ("POST", "", "k"));
    assert_eq!(call.get("x-kuiperbelt-endpoint").as_deref(), Some("gateway.test:9180"));
    assert_eq!(call.get("content-length").as_deref(), Some("0"));
}

fn a_client_that_is_not_agreed_to(world: &World) {
    for (n, reaction) in ["500", "201", "abort", "hang"].into_iter().enumerate() {
        let gateway = start_with(
            world,
            |config, _| config.callback.timeout = (reaction == "hang").then_some(Duration::from_millis(1500)),
            move |call| match (call.path.as_str(), reaction) {
                ("/connect", _) => Reaction::accept("k", "hello"),
                ("/establish", "abort") => Reaction::Abort,
                ("/establish", "hang") => Reaction::Hang,
                ("/establish", status) => Reaction::status(status.parse().expect("a status")),
                _ => Reaction::status(200),
            },
        );
        // Connected, and then the stream just ends: no greeting, no Close.
        Socket::connect(&gateway.host, "/connect", &[]).ends();
        let stats = gateway.stats("taken back", |stats| (stats.connect_errors, stats.connections) == (1, 0));
        assert_eq!((stats.total_messages, stats.closing_connections), (0, 0), "{n}");
        assert!(gateway.send(&["k"], "x").text().contains("session is not found"));
        assert!(gateway.app.calls("/close").is_empty(), "it was never connected");
    }
}

/// Accepts every client as `k`, and confirms when the test releases the call.
fn agrees_later(call: &Call, greeting: &str) -> Reaction {
    match call.path.as_str() {
        "/connect" => Reaction::accept("k", greeting),
        "/establish" => Reaction::Hang,
        _ => Reaction::status(200),
    }
}

fn messages_wait_until_it_is_established(world: &World) {
    let gateway = start_with(world, |_, _| {}, |call| agrees_later(call, "hello"));
    let mut client = Socket::connect(&gateway.host, "/connect", &[]);
    gateway.app.wait_for_calls("/establish", 1);
    for n in 1..=5 {
        is(&gateway.send(&["k"], &format!("message {n}")), 200, r#"{"result":"OK"}"#);
    }
    assert!(client.is_silent(MOMENT));
    gateway.app.release(1, 200);
    client.receives("hello");
    for n in 1..=5 {
        client.receives(&format!("message {n}"));
    }
    is(&gateway.send(&["k"], "more"), 200, r#"{"result":"OK"}"#);
    client.receives("more");
    assert_eq!(gateway.service.stats().total_messages, 7);

    // The application may close it before it is established, too.
    let mut client = Socket::connect(&gateway.host, "/connect", &[]);
    gateway.app.wait_for_calls("/establish", 2);
    is(&gateway.post("/close", &["k"], &[], b"bye"), 200, r#"{"result":"OK"}"#);
    assert!(gateway.send(&["k"], "late").text().contains("kuiperbelt: session is closed"));
    gateway.app.release(1, 200);
    client.receives("hello").receives("bye").is_closed(1000);
}

fn what_a_client_says_waits_until_it_is_established(world: &World) {
    let gateway = start_with(world, |_, _| {}, |call| agrees_later(call, ""));
    let mut client = Socket::connect(&gateway.host, "/connect", &[]);
    client.text("one").text("two");
    gateway.app.wait_for_calls("/establish", 1);
    pause(MOMENT);
    assert!(gateway.app.calls("/receive").is_empty());
    gateway.app.release(1, 200);
    let texts: Vec<String> = gateway.app.wait_for_calls("/receive", 2).iter().map(Call::text).collect();
    assert_eq!(texts, ["one", "two"]);
}

fn a_client_that_leaves_while_it_is_established(world: &World) {
    for (status, count) in [(200, 1), (500, 0)] {
        let gateway = start_with(world, |_, _| {}, |call| agrees_later(call, ""));
        let mut client = Socket::connect(&gateway.host, "/connect", &[]);
        gateway.app.wait_for_calls("/establish", 1);
        client.close();
        gateway.stats("the client has disconnected", |stats| stats.connections == 0);
        gateway.app.release(1, status);
        // An application that has confirmed learns of the end; one that has not confirmed knows.
        if count > 0 {
            assert_eq!(gateway.app.wait_for_calls("/close", count)[0].key(), "k");
        } else {
            gateway.stats("rejected", |stats| stats.connect_errors == 1);
        }
        gateway.stats("all over", |stats| stats.closing_connections == 0);
        assert_eq!(gateway.app.calls("/close").len(), count);
    }
}
