//! The ends of sessions, by either side, and the end of the gateway itself.

use std::time::Duration;

use uncork::relay::GatewayConfig;

use crate::{
    app::{Call, Reaction, agrees},
    gateway::{MOMENT, is, now, pause, start, start_with},
    socket::{CLOSE, PING, PONG, Socket},
    world::World,
};

worlds! {
    the_application_hears_of_every_end_but_its_own, an_end_it_does_not_hear_of_costs_nobody_anything,
    a_key_used_again, a_key_used_again_by_one_that_is_rejected, an_older_one_that_leaves_while_a_newer_one_comes,
    stopping, stopping_spread_over_a_time, stopping_with_an_application_that_hangs, stopping_at_once;
    slow: a_silent_client_is_dropped, whatever_a_client_sends_keeps_it, what_is_sent_to_a_client_keeps_it,
    a_client_that_does_not_answer_pings,
}

fn the_application_hears_of_every_end_but_its_own(world: &World) {
    let gateway = start_with(world, |config, _| config.idle_timeout = Some(Duration::from_secs(60)), agrees);
    gateway.client("closes").close();
    drop(gateway.client("drops"));
    gateway.client("resets").wire.reset();
    let mut wrong = gateway.client("wrong");
    wrong.raw(&[0x81, 0]).receives_close(1002);
    let mut closed = gateway.client("closed");
    is(&gateway.post("/close", &["closed"], &[], b""), 200, r#"{"result":"OK"}"#);
    closed.receives("").is_closed(1000);
    let mut half = gateway.client("half");
    half.wire.finish();
    half.ends();

    let mut keys: Vec<String> = gateway.app.wait_for_calls("/close", 5).iter().map(Call::key).collect();
    keys.sort();
    assert_eq!(keys, ["closes", "drops", "half", "resets", "wrong"]);
    let stats =
        gateway.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    assert_eq!((stats.total_connections, stats.connect_errors, stats.message_errors), (6, 0, 0));
    assert_eq!(gateway.app.calls("/close").len(), 5, "each of them once");
}

fn an_end_it_does_not_hear_of_costs_nobody_anything(world: &World) {
    // It hangs, and has no timeout.
    let gateway = start_with(
        world,
        |config, _| config.callback.timeout = Some(Duration::from_millis(100)),
        |call| if call.path == "/close" { Reaction::Hang } else { agrees(call) },
    );
    for n in 0..3 {
        gateway.client(&format!("k{n}")).close();
    }
    gateway.stats("in progress", |stats| (stats.connections, stats.closing_connections) == (0, 3));
    pause(Duration::from_millis(200));
    assert_eq!(gateway.service.stats().closing_connections, 3, "the time limit is not for these");
    let mut other = gateway.client("other");
    is(&gateway.send(&["other"], "hello"), 200, r#"{"result":"OK"}"#);
    other.receives("hello");
    gateway.app.release(3, 500);
    gateway.stats("received, or not", |stats| stats.closing_connections == 0);
}

fn a_key_used_again(world: &World) {
    let gateway = start(world);
    let mut old = gateway.client("k");
    let mut new = gateway.client("k");
    assert_eq!(old.is_closed(4000), "another connection has this session now");
    is(&gateway.send(&["k"], "for the new one"), 200, r#"{"result":"OK"}"#);
    new.receives("for the new one");
    gateway.stats("the old session has ended", |stats| stats.connections == 1);
    // Its end is not the session's.
    is(&gateway.send(&["k"], "still there"), 200, r#"{"result":"OK"}"#);
    new.receives("still there").text("hi");
    gateway.app.wait_for_calls("/receive", 1);
    assert!(gateway.app.calls("/close").is_empty());
    new.close();
    assert_eq!(gateway.app.wait_for_calls("/close", 1).len(), 1);
    gateway.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    assert_eq!(gateway.app.calls("/close").len(), 1);
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
    let gateway = start_with(world, |_, _| {}, move |call| agrees_to_the_first(call, &mut seen));
    let mut old = gateway.client("k");
    is(&gateway.send(&["k"], "first"), 200, r#"{"result":"OK"}"#);
    old.receives("first");
    let mut new = gateway.client("k");
    // From here on messages are for the new one; if it is rejected, they are dropped.
    is(&gateway.send(&["k"], "lost"), 200, r#"{"result":"OK"}"#);
    assert!(old.is_silent(MOMENT));
    gateway.app.release(1, 403);
    new.ends();
    gateway.stats("rejected", |stats| (stats.connect_errors, stats.connections) == (1, 1));
    is(&gateway.send(&["k"], "hello"), 200, r#"{"result":"OK"}"#);
    old.receives("hello");
    assert!(gateway.app.calls("/close").is_empty());
    old.close();
    gateway.app.wait_for_calls("/close", 1);
}

fn an_older_one_that_leaves_while_a_newer_one_comes(world: &World) {
    for (status, count) in [(200, 0), (403, 1)] {
        let mut seen = 0;
        let gateway = start_with(world, |_, _| {}, move |call| agrees_to_the_first(call, &mut seen));
        let mut old = gateway.client("k");
        gateway.app.wait_for_calls("/establish", 1);
        let mut new = gateway.client("k");
        old.close();
        gateway.stats("the old session has ended", |stats| stats.connections == 1);
        pause(MOMENT);
        assert!(gateway.app.calls("/close").is_empty(), "the key has a session");
        gateway.app.release(1, status);
        if count == 0 {
            is(&gateway.send(&["k"], "hello"), 200, r#"{"result":"OK"}"#);
            new.receives("hello").close();
        } else {
            new.ends();
        }
        assert_eq!(gateway.app.wait_for_calls("/close", 1)[0].key(), "k");
        gateway.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
        assert_eq!(gateway.app.calls("/close").len(), 1);
    }
}

const IDLE: Duration = Duration::from_millis(1200);

fn idle(config: &mut GatewayConfig) {
    config.idle_timeout = Some(IDLE);
}

fn a_silent_client_is_dropped(world: &World) {
    let gateway = start_with(world, |config, _| idle(config), agrees);
    let mut client = gateway.client("k");
    client.ends();
    assert_eq!(gateway.app.wait_for_calls("/close", 1)[0].key(), "k");
    gateway.stats("all have disconnected", |stats| (stats.connections, stats.closing_connections) == (0, 0));
}

fn whatever_a_client_sends_keeps_it(world: &World) {
    let gateway = start_with(world, |config, _| idle(config), agrees);
    let mut client = gateway.client("k");
    for _ in 0..4 {
        pause(IDLE / 4);
        client.frame(PING, b"");
        assert_eq!(client.next(), (PONG, vec![]));
        pause(IDLE / 4);
        client.frame(PONG, b"").text("x");
    }
    gateway.app.wait_for_calls("/receive", 4);
    client.close();
}

fn what_is_sent_to_a_client_keeps_it(world: &World) {
    let gateway = start_with(world, |config, _| idle(config), agrees);
    let mut client = gateway.client("k");
    for _ in 0..5 {
        pause(IDLE / 3);
        is(&gateway.send(&["k"], "x"), 200, r#"{"result":"OK"}"#);
        client.receives("x");
    }
    client.ends();
}

fn a_client_that_does_not_answer_pings(world: &World) {
    let gateway = start_with(world, |config, _| config.ping_interval = Some(Duration::from_millis(1000)), agrees);
    let (mut responding, mut silent) = (gateway.client("responding"), gateway.client("silent"));
    for _ in 0..3 {
        assert_eq!(responding.next().0, PING);
        responding.frame(PONG, b"");
    }
    assert_eq!(gateway.app.wait_for_calls("/close", 1)[0].key(), "silent");
    assert_eq!(silent.next().0, PING);
    silent.ends();
    is(&gateway.send(&["responding"], "x"), 200, r#"{"result":"OK"}"#);
}

fn stopping(world: &World) {
    let gateway = start_with(
        world,
        |_, _| {},
        |call| match (call.path.as_str(), call.query.as_deref()) {
            ("/connect", Some("key=late")) => Reaction::Hang,
            _ => agrees(call),
        },
    );
    let mut clients: Vec<Socket> = (0..40).map(|n| gateway.client(&format!("k{n}"))).collect();
    // One that waits for the application, and one that does not respond.
    let mut connecting = gateway.host.connect();
    crate::socket::send_handshake(&mut connecting, "/connect?key=late", &[]);
    gateway.app.wait_for_calls("/connect", 41);
    let unresponsive = clients.pop().expect("one of them");
    gateway.host.stopper.shutdown(Duration::from_secs(20));
    for client in &mut clients {
        client.receives_close(1001);
        client.frame(CLOSE, &1001_u16.to_be_bytes()).ends();
    }
    drop(unresponsive);
    gateway.app.release(1, 403);
    connecting.response().is(403);
    let mut keys: Vec<String> = gateway.app.wait_for_calls("/close", 40).iter().map(Call::key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 40, "each of them once");
    gateway.stats("all sessions have ended", |stats| (stats.connections, stats.closing_connections) == (0, 0));
    gateway.host.ends();
}

fn stopping_spread_over_a_time(world: &World) {
    const SPREAD: Duration = Duration::from_millis(1500);
    let gateway = start_with(world, |config, _| config.drain_spread = SPREAD, agrees);
    let clients: Vec<Socket> = (0..30).map(|n| gateway.client(&format!("k{n}"))).collect();
    let start = now();
    gateway.host.stopper.shutdown(Duration::from_secs(20));
    let closes = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            // It is served until its turn.
            client.frame(PING, b"?");
            let mut next = client.next();
            if next == (PONG, b"?".to_vec()) {
                next = client.next();
            }
            let at = start.elapsed();
            assert_eq!(next, (CLOSE, 1001_u16.to_be_bytes().to_vec()));
            client.frame(CLOSE, &1001_u16.to_be_bytes()).ends();
            at
        })
    });
    let closes: Vec<_> = closes.collect();
    let mut times: Vec<Duration> = closes.into_iter().map(|client| client.join().expect("closed")).collect();
    times.sort();
    let (first, last) = (times[0], times[29]);
    assert!(last - first > SPREAD / 3 && last < SPREAD + Duration::from_secs(1), "{times:?}");
    assert_eq!(gateway.app.wait_for_calls("/close", 30).len(), 30);
    gateway.host.ends();
}

fn stopping_with_an_application_that_hangs(world: &World) {
    let gateway =
        start_with(world, |_, _| {}, |call| if call.path == "/close" { Reaction::Hang } else { agrees(call) });
    let mut client = gateway.client("k");
    gateway.host.stopper.shutdown(Duration::from_secs(1));
    client.is_closed(1001);
    gateway.app.wait_for_calls("/close", 1);
    // The grace period applies to it, and no more.
    gateway.host.ends();
    assert_eq!(gateway.service.stats().closing_connections, 0, "given up, and counted so");
}

fn stopping_at_once(world: &World) {
    let gateway = start(world);
    let clients: Vec<Socket> = (0..5).map(|n| gateway.client(&format!("k{n}"))).collect();
    gateway.host.stopper.stop_now();
    gateway.host.ends();
    drop(clients);
    let stats = gateway.service.stats();
    assert_eq!((stats.connections, stats.closing_connections), (0, 0));
}
