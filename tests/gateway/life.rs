//! The ends of sessions, by either side, and the end of the gateway itself.

use std::time::Duration;

use uncork::relay::GatewayConfig;

use crate::{
    app::{Call, Reaction, agrees},
    gate::{MOMENT, is, pause, start, start_with},
    socket::{CLOSE, PING, PONG, Socket},
    world::World,
};

worlds! {
    the_application_hears_of_every_end_but_its_own, an_end_it_does_not_hear_of_costs_nobody_anything,
    a_key_used_again, a_key_used_again_by_one_that_is_rejected, an_older_one_that_leaves_while_a_newer_one_comes,
    stopping, stopping_with_an_application_that_hangs, stopping_at_once;
    slow: a_silent_client_is_dropped, whatever_a_client_sends_keeps_it, what_is_sent_to_a_client_keeps_it,
    a_client_that_does_not_answer_pings,
}

fn the_application_hears_of_every_end_but_its_own(world: &World) {
    let gate = start_with(world, |config, _| config.idle_timeout = Some(Duration::from_secs(60)), agrees);
    gate.client("closes").close();
    drop(gate.client("drops"));
    gate.client("resets").wire.reset();
    let mut wrong = gate.client("wrong");
    wrong.raw(&[0x81, 0]).receives_close(1002);
    let mut closed = gate.client("closed");
    is(&gate.post("/close", &["closed"], &[], b""), 200, r#"{"result":"OK"}"#);
    closed.receives("").is_closed(1000);
    let mut half = gate.client("half");
    half.wire.finish();
    half.ends();

    let mut keys: Vec<String> = gate.app.wait_for_calls("/close", 5).iter().map(Call::key).collect();
    keys.sort();
    assert_eq!(keys, ["closes", "drops", "half", "resets", "wrong"]);
    let stats = gate.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    assert_eq!((stats.total_connections, stats.connect_errors, stats.message_errors), (6, 0, 0));
    assert_eq!(gate.app.calls("/close").len(), 5, "each of them once");
}

fn an_end_it_does_not_hear_of_costs_nobody_anything(world: &World) {
    // It hangs, and has no timeout.
    let gate = start_with(
        world,
        |config, _| config.callback.timeout = Some(Duration::from_millis(100)),
        |call| if call.path == "/close" { Reaction::Hang } else { agrees(call) },
    );
    for n in 0..3 {
        gate.client(&format!("k{n}")).close();
    }
    gate.stats("under way", |stats| (stats.connections, stats.closing_connections) == (0, 3));
    pause(Duration::from_millis(200));
    assert_eq!(gate.gateway.stats().closing_connections, 3, "the time limit is not for these");
    let mut other = gate.client("other");
    is(&gate.send(&["other"], "hello"), 200, r#"{"result":"OK"}"#);
    other.receives("hello");
    gate.app.release(3, 500);
    gate.stats("received, or not", |stats| stats.closing_connections == 0);
}

fn a_key_used_again(world: &World) {
    let gate = start(world);
    let mut old = gate.client("k");
    let mut new = gate.client("k");
    assert_eq!(old.is_closed(4000), "another connection has this session now");
    is(&gate.send(&["k"], "for the new one"), 200, r#"{"result":"OK"}"#);
    new.receives("for the new one");
    gate.stats("the old session has ended", |stats| stats.connections == 1);
    // Its end is not the session's.
    is(&gate.send(&["k"], "still there"), 200, r#"{"result":"OK"}"#);
    new.receives("still there").text("hi");
    gate.app.wait_for_calls("/receive", 1);
    assert!(gate.app.calls("/close").is_empty());
    new.close();
    assert_eq!(gate.app.wait_for_calls("/close", 1).len(), 1);
    gate.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    assert_eq!(gate.app.calls("/close").len(), 1);
}

/// The first is confirmed at once, the others when the test releases the call.
fn agrees_to_the_first(call: &Call, seen: &mut usize) -> Reaction {
    match call.path.as_str() {
        "/establish" => {
            *seen += 1;
            if *seen == 1 { Reaction::status(200) } else { Reaction::Hang }
        }
        _ => agrees(call),
    }
}

fn a_key_used_again_by_one_that_is_rejected(world: &World) {
    let mut seen = 0;
    let gate = start_with(world, |_, _| {}, move |call| agrees_to_the_first(call, &mut seen));
    let mut old = gate.client("k");
    is(&gate.send(&["k"], "first"), 200, r#"{"result":"OK"}"#);
    old.receives("first");
    let mut new = gate.client("k");
    // From here on messages are for the new one; if it is rejected, they are dropped.
    is(&gate.send(&["k"], "lost"), 200, r#"{"result":"OK"}"#);
    assert!(old.is_silent(MOMENT));
    gate.app.release(1, 403);
    new.ends();
    gate.stats("rejected", |stats| (stats.connect_errors, stats.connections) == (1, 1));
    is(&gate.send(&["k"], "hello"), 200, r#"{"result":"OK"}"#);
    old.receives("hello");
    assert!(gate.app.calls("/close").is_empty());
    old.close();
    gate.app.wait_for_calls("/close", 1);
}

fn an_older_one_that_leaves_while_a_newer_one_comes(world: &World) {
    for (status, count) in [(200, 0), (403, 1)] {
        let mut seen = 0;
        let gate = start_with(world, |_, _| {}, move |call| agrees_to_the_first(call, &mut seen));
        let mut old = gate.client("k");
        gate.app.wait_for_calls("/establish", 1);
        let mut new = gate.client("k");
        old.close();
        gate.stats("the old session has ended", |stats| stats.connections == 1);
        pause(MOMENT);
        assert!(gate.app.calls("/close").is_empty(), "the key has a session");
        gate.app.release(1, status);
        if count == 0 {
            is(&gate.send(&["k"], "hello"), 200, r#"{"result":"OK"}"#);
            new.receives("hello").close();
        } else {
            new.ends();
        }
        assert_eq!(gate.app.wait_for_calls("/close", 1)[0].key(), "k");
        gate.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
        assert_eq!(gate.app.calls("/close").len(), 1);
    }
}

const IDLE: Duration = Duration::from_millis(1200);

fn idle(config: &mut GatewayConfig) {
    config.idle_timeout = Some(IDLE);
}

fn a_silent_client_is_dropped(world: &World) {
    let gate = start_with(world, |config, _| idle(config), agrees);
    let mut client = gate.client("k");
    client.ends();
    assert_eq!(gate.app.wait_for_calls("/close", 1)[0].key(), "k");
    gate.stats("all have disconnected", |stats| (stats.connections, stats.closing_connections) == (0, 0));
}

fn whatever_a_client_sends_keeps_it(world: &World) {
    let gate = start_with(world, |config, _| idle(config), agrees);
    let mut client = gate.client("k");
    for _ in 0..4 {
        pause(IDLE / 4);
        client.frame(PING, b"");
        assert_eq!(client.next(), (PONG, vec![]));
        pause(IDLE / 4);
        client.frame(PONG, b"").text("x");
    }
    gate.app.wait_for_calls("/receive", 4);
    client.close();
}

fn what_is_sent_to_a_client_keeps_it(world: &World) {
    let gate = start_with(world, |config, _| idle(config), agrees);
    let mut client = gate.client("k");
    for _ in 0..5 {
        pause(IDLE / 3);
        is(&gate.send(&["k"], "x"), 200, r#"{"result":"OK"}"#);
        client.receives("x");
    }
    client.ends();
}

fn a_client_that_does_not_answer_pings(world: &World) {
    let gate = start_with(world, |config, _| config.ping_interval = Some(Duration::from_millis(1000)), agrees);
    let (mut responding, mut silent) = (gate.client("responding"), gate.client("silent"));
    for _ in 0..3 {
        assert_eq!(responding.next().0, PING);
        responding.frame(PONG, b"");
    }
    assert_eq!(gate.app.wait_for_calls("/close", 1)[0].key(), "silent");
    assert_eq!(silent.next().0, PING);
    silent.ends();
    is(&gate.send(&["responding"], "x"), 200, r#"{"result":"OK"}"#);
}

fn stopping(world: &World) {
    let gate = start_with(
        world,
        |_, _| {},
        |call| match (call.path.as_str(), call.query.as_deref()) {
            ("/connect", Some("key=late")) => Reaction::Hang,
            _ => agrees(call),
        },
    );
    let mut clients: Vec<Socket> = (0..40).map(|n| gate.client(&format!("k{n}"))).collect();
    // One that waits for the application, and one that does not respond.
    let mut connecting = gate.host.connect();
    crate::socket::send_handshake(&mut connecting, "/connect?key=late", &[]);
    gate.app.wait_for_calls("/connect", 41);
    let unresponsive = clients.pop().expect("one of them");
    gate.host.stopper.shutdown(Duration::from_secs(20));
    for client in &mut clients {
        client.receives_close(1001);
        client.frame(CLOSE, &1001_u16.to_be_bytes()).ends();
    }
    drop(unresponsive);
    gate.app.release(1, 403);
    connecting.response().is(403);
    let mut keys: Vec<String> = gate.app.wait_for_calls("/close", 40).iter().map(Call::key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 40, "each of them once");
    gate.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    gate.host.ends();
}

fn stopping_with_an_application_that_hangs(world: &World) {
    let gate = start_with(world, |_, _| {}, |call| if call.path == "/close" { Reaction::Hang } else { agrees(call) });
    let mut client = gate.client("k");
    gate.host.stopper.shutdown(Duration::from_secs(1));
    client.is_closed(1001);
    gate.app.wait_for_calls("/close", 1);
    // The grace period applies to it, and no more.
    gate.host.ends();
    assert_eq!(gate.gateway.stats().closing_connections, 0, "given up, and counted so");
}

fn stopping_at_once(world: &World) {
    let gate = start(world);
    let clients: Vec<Socket> = (0..5).map(|n| gate.client(&format!("k{n}"))).collect();
    gate.host.stopper.stop_now();
    gate.host.ends();
    drop(clients);
    let stats = gate.gateway.stats();
    assert_eq!((stats.connections, stats.closing_connections), (0, 0));
}
