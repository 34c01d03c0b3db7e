//! Messages of clients: passed on one by one, correct or not.

use std::time::Duration;

use crate::{
    app::{Call, Reaction, agrees, nowhere, raw},
    gateway::{MOMENT, TestGateway, is, pause, start, start_with},
    socket::{BINARY, CLOSE, PING, PONG, Socket, TEXT, frame},
    wire::{Finish, Wire},
    world::World,
};

worlds! {
    messages_are_posted, one_at_a_time, without_a_receiver_they_are_dropped, a_message_the_application_does_not_take,
    an_application_that_hangs_is_given_up, an_application_that_cannot_be_reached, pings_are_answered, a_close_is_answered,
    broken_frames_cost_only_who_sends_them, messages_have_a_limit, text_is_utf8,
    messages_the_application_has_not_answered_for_have_a_limit, what_is_said_behind_the_last_word_is_dropped,
    calls_for_one_address_leave_some_to_others, a_message_that_does_not_go_on_is_rejected,
}

fn messages_are_posted(world: &World) {
    let gateway = start(world);
    let mut client = gateway.client("k");
    let long = vec![b'y'; 300_000];
    client.text("hello").frame(BINARY, b"\x00\xff").text("").frame(BINARY, &long);
    // In fragments, with a ping between them.
    client.raw(&frame(TEXT, b"three ")).raw(&frame(0x80 | PING, b"p")).raw(&frame(0, b"in ")).raw(&frame(0x80, b"one"));
    let calls = gateway.app.wait_for_calls("/receive", 5);
    let want: [(&str, &[u8]); 5] = [
        ("text/plain", b"hello"),
        ("application/octet-stream", b"\x00\xff"),
        ("text/plain", b""),
        ("application/octet-stream", &long),
        ("text/plain", b"three in one"),
    ];
    for (call, (kind, body)) in calls.iter().zip(want) {
        assert_eq!((call.method.as_str(), call.get("content-type").as_deref()), ("POST", Some(kind)));
        assert_eq!(call.body, body);
        // It has a length, for servers that support no other framing.
        let length = body.len().to_string();
        assert_eq!((call.get("transfer-encoding"), call.get("content-length")), (None, Some(length)));
        assert_eq!(call.key(), "k");
        assert_eq!(call.get("x-kuiperbelt-endpoint").as_deref(), Some("gateway.test:9180"));
    }
    assert_eq!(client.next(), (PONG, b"p".to_vec()));
    assert_eq!(gateway.service.stats().total_messages, 0, "those are to clients");
}

fn one_at_a_time(world: &World) {
    let gateway =
        start_with(world, |_, _| {}, |call| if call.path == "/receive" { Reaction::Hang } else { agrees(call) });
    let (mut a, mut b) = (gateway.client("a"), gateway.client("b"));
    a.text("a1").text("a2").text("a3");
    b.text("b1");
    let texts = |n: usize| gateway.app.wait_for_calls("/receive", n).iter().map(Call::text).collect::<Vec<_>>();
    // The other client does not delay it.
    let mut first = texts(2);
    first.sort();
    assert_eq!(first, ["a1", "b1"]);
    pause(MOMENT);
    assert_eq!(gateway.app.calls("/receive").len(), 2);
    gateway.app.release(2, 200);
    assert_eq!(texts(3)[2], "a2");
    // Messages to it do not wait.
    is(&gateway.send(&["a"], "hello"), 200, r#"{"result":"OK"}"#);
    a.receives("hello");
    gateway.app.release(1, 200);
    assert_eq!(texts(4)[3], "a3");
    gateway.app.release(1, 200);
}

fn without_a_receiver_they_are_dropped(world: &World) {
    let gateway = start_with(world, |config, _| config.callback.receive = String::new(), agrees);
    let mut client = gateway.client("k");
    client.text("one").text("two").frame(PING, b"still there?");
    assert_eq!(client.next(), (PONG, b"still there?".to_vec()));
}

fn a_message_the_application_does_not_take(world: &World) {
    let mut n = 0;
    let gateway = start_with(
        world,
        |_, _| {},
        move |call| {
            if call.path != "/receive" {
                return agrees(call);
            }
            n += 1;
            match n {
                1 => Reaction::status(500),
                2 => Reaction::status(404),
                3 => Reaction::Abort,
                4 => Reaction::Respond(200, vec![], vec![b'z'; 3_000_000]),
                _ => Reaction::status(200),
            }
        },
    );
    let mut client = gateway.client("k");
    for n in 1..=6 {
        client.text(&format!("message {n}"));
    }
    // Each is lost on its own, none is sent twice, and the connection stays.
    let texts: Vec<String> = gateway.app.wait_for_calls("/receive", 6).iter().map(Call::text).collect();
    assert_eq!(texts, (1..=6).map(|n| format!("message {n}")).collect::<Vec<_>>());
    client.close();
    // The body of a 200 does not matter.
    gateway.stats("three were not taken", |stats| (stats.lost_messages, stats.connections) == (3, 0));
}

fn an_application_that_hangs_is_given_up(world: &World) {
    let gateway = start_with(
        world,
        |config, _| config.callback.timeout = Some(Duration::from_millis(300)),
        |call| match (call.path.as_str(), call.text().as_str()) {
            ("/receive", "hang") => Reaction::Hang,
            _ => agrees(call),
        },
    );
    let (mut a, mut b) = (gateway.client("a"), gateway.client("b"));
    a.text("hang").text("after it");
    b.text("meanwhile");
    let texts: Vec<String> = gateway.app.wait_for_calls("/receive", 3).iter().map(Call::text).collect();
    assert!(texts.contains(&"meanwhile".into()) && texts[2] == "after it", "{texts:?}");
    assert_eq!(gateway.service.stats().lost_messages, 1);
    a.close();
}

fn an_application_that_cannot_be_reached(world: &World) {
    for url in [nowhere(), raw(b"garbage\r\n\r\n"), raw(b""), raw(b"HTTP/1.1 200 OK\r\n")] {
        let gateway = start_with(
            world,
            |config, _| {
                config.callback.receive = url.clone();
                config.callback.close = url.clone();
                config.callback.establish = String::new();
            },
            agrees,
        );
        let mut client = gateway.client("k");
        client.text("one").text("two");
        is(&gateway.send(&["k"], "still there"), 200, r#"{"result":"OK"}"#);
        client.receives("still there").frame(PING, b"p");
        assert_eq!(client.next(), (PONG, b"p".to_vec()));
        client.close();
        gateway.stats(&url, |stats| (stats.lost_messages, stats.close_errors) == (2, 1));
        gateway.stats(&url, |stats| (stats.connections, stats.closing_connections, stats.connect_errors) == (0, 0, 0));
    }
}

fn pings_are_answered(world: &World) {
    let gateway = start(world);
    let mut client = gateway.client("k");
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        client.frame(PING, payload);
        assert_eq!(client.next(), (PONG, payload.to_vec()));
    }
    client.frame(PONG, b"never asked for").text("x");
    gateway.app.wait_for_calls("/receive", 1);
}

fn a_close_is_answered(world: &World) {
    let gateway = start(world);
    for (n, (payload, code)) in
        [(&b"\x03\xe8bye"[..], 1000_u16), (b"\x03\xe9", 1001), (b"\x0f\xa1why", 4001)].into_iter().enumerate()
    {
        let mut client = gateway.client("k");
        client.frame(CLOSE, payload);
        assert_eq!(client.receives_close(code), "");
        client.wire.ends(Finish::Clean);
        gateway.app.wait_for_calls("/close", n + 1);
    }
    let mut client = gateway.client("k");
    client.frame(CLOSE, b"");
    assert_eq!(client.next(), (CLOSE, vec![]));
    client.wire.ends(Finish::Clean);
    let calls = gateway.app.wait_for_calls("/close", 4);
    assert!(calls.iter().all(|call| (call.key().as_str(), call.text().as_str()) == ("k", "")));
    assert!(calls.iter().all(|call| call.method == "POST" && call.get("x-kuiperbelt-endpoint").is_none()));
    gateway.stats("all have disconnected", |stats| {
        (stats.connections, stats.closing_connections, stats.message_errors) == (0, 0, 0)
    });
}

/// A client sends this and gets its error; another client does not notice.
#[track_caller]
fn is_wrong(gateway: &TestGateway, bytes: &[u8], code: u16) -> String {
    let before = gateway.app.calls("/close").len();
    let mut witness = gateway.client("witness");
    let mut client = gateway.client("wrong");
    client.raw(bytes);
    let reason = client.receives_close(code);
    client.wire.ends(Finish::Clean);
    assert!(gateway.app.wait_for_calls("/close", before + 1)[before].key() == "wrong");
    is(
        &gateway.send(&["witness", "wrong"], "x"),
        200,
        "{\"errors\":[{\"error\":\"kuiperbelt: session is not found\",\"session\":\"wrong\"}],\"result\":\"OK\"}\n",
    );
    witness.receives("x").close();
    gateway.app.wait_for_calls("/close", before + 2);
    reason
}

fn broken_frames_cost_only_who_sends_them(world: &World) {
    let gateway = start(world);
    let unmasked = [0x81, 2, b'h', b'i'];
    assert_eq!(is_wrong(&gateway, &unmasked, 1002), "incorrect mask flag");
    for bytes in [
        frame(0xc1, b"reserved bit"),
        frame(0x83, b"reserved opcode"),
        frame(0x80, b"continues nothing"),
        frame(PING, b"a ping in fragments"),
        frame(0x80 | PING, [0; 126]),
        [frame(TEXT, b"a"), frame(0x80 | TEXT, b"b")].concat(),
        frame(0x80 | CLOSE, [3]),
        frame(0x80 | CLOSE, 1005_u16.to_be_bytes()),
        [&[0x81, 0xff, 0xff][..], &[0; 11]].concat(),
    ] {
        is_wrong(&gateway, &bytes, 1002);
    }
    let stats = gateway.stats("all sessions have ended", |stats| stats.connections == 0);
    assert_eq!((stats.rejected_clients, stats.connect_errors, stats.message_errors), (10, 0, 0));
}

fn messages_have_a_limit(world: &World) {
    let gateway = start_with(world, |config, _| config.limits.message = 1000, agrees);
    let mut client = gateway.client("k");
    client.frame(BINARY, &[1; 1000]);
    assert_eq!(gateway.app.wait_for_calls("/receive", 1)[0].body.len(), 1000);
    client.close();
    gateway.app.wait_for_calls("/close", 1);
    is_wrong(&gateway, &frame(0x80 | BINARY, [1; 1001])[..20], 1009);
    is_wrong(&gateway, &[frame(TEXT, [b'a'; 600]), frame(0x80, [b'a'; 600])].concat(), 1009);
    // A length of 2^62 is rejected by its head.
    is_wrong(&gateway, &[&[0x82, 0xff, 0x40][..], &[0; 11]].concat(), 1009);
    assert_eq!(gateway.app.calls("/receive").len(), 1);
}

fn hangs(call: &Call) -> Reaction {
    if call.text().starts_with("hang") { Reaction::Hang } else { agrees(call) }
}

fn messages_the_application_has_not_answered_for_have_a_limit(world: &World) {
    // A quarter of it for one address: a thousand bytes.
    let gateway = start_with(world, |config, _| config.limits.pending = 4000, hangs);
    let (mut a, mut b, mut c) = (gateway.client("a"), gateway.client("b"), gateway.client("c"));
    a.text(&format!("hang{:600}", ""));
    gateway.app.wait_for_calls("/receive", 1);
    b.text(&format!("one too many{:600}", "")).text("and another one");
    assert_eq!(b.is_closed(1013), "too many messages wait for the application");
    assert_eq!(gateway.app.wait_for_calls("/close", 1)[0].key(), "b", "the application gets it");
    gateway.stats("counted", |stats| stats.rejected_clients == 1);
    // Smaller messages are passed on, and so is a large one when there is space again.
    c.text("small");
    assert_eq!(gateway.app.wait_for_calls("/receive", 2)[1].text(), "small");
    gateway.app.release(1, 200);
    gateway.stats("a has got on", |stats| stats.connections == 2);
    a.text("hang again");
    gateway.app.wait_for_calls("/receive", 3);
    c.text(&format!("large{:800}", ""));
    gateway.app.wait_for_calls("/receive", 4);
    gateway.app.release(1, 200);
}

/// The limit holds although the client responds to pings.
fn a_message_that_does_not_go_on_is_rejected(world: &World) {
    let gateway = start_with(
        world,
        |config, _| {
            // Far apart: a busy machine must neither miss a ping nor delay the Pong until the next one.
            config.message_timeout = Some(Duration::from_millis(1500));
            config.ping_interval = Some(Duration::from_millis(500));
        },
        agrees,
    );
    let mut client = gateway.client("k");
    client.raw(&frame(TEXT, b"never to be ended"));
    let payload = loop {
        match client.next() {
            (PING, payload) => _ = client.frame(PONG, &payload),
            (CLOSE, payload) => break payload,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(payload, [&1008_u16.to_be_bytes()[..], b"message too slow"].concat());
    client.wire.ends(Finish::Clean);
    assert_eq!(gateway.app.wait_for_calls("/close", 1)[0].key(), "k");
    gateway.stats("counted", |stats| (stats.rejected_clients, stats.connections) == (1, 0));
    assert!(gateway.app.calls("/receive").is_empty());
}

/// The application has closed it: messages behind that, before the client's Close, are dropped.
fn what_is_said_behind_the_last_word_is_dropped(world: &World) {
    let gateway = start(world);
    let mut client = gateway.client("k");
    is(&gateway.post("/close", &["k"], &[], b"bye"), 200, r#"{"result":"OK"}"#);
    client.receives("bye");
    client.text("but").text("wait");
    client.is_closed(1000);
    gateway.stats("all have disconnected", |stats| stats.connections == 0);
    assert!(gateway.app.calls("/receive").is_empty() && gateway.app.calls("/close").is_empty());
}

/// Connects a client from another address of this machine, without TLS.
fn client_from(gateway: &TestGateway, address: [u8; 4], key: &str) -> Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from((address, 0)).into()).expect("all of 127/8 is this machine");
    socket.connect(&gateway.host.addr().into()).expect("connected");
    let wire = Wire::over(socket.into(), None).expect("plain");
    Socket::over(wire, &format!("/connect?key={key}"), &[])
}

fn calls_for_one_address_leave_some_to_others(world: &World) {
    if world.tls {
        return;
    }
    let change = |config: &mut uncork::relay::GatewayConfig| {
        config.limits.calls = 8;
        config.callback.establish = String::new();
    };
    let gateway = start_with(world, |config, _| change(config), hangs);
    let mut crowd: Vec<Socket> = (0..6).map(|n| gateway.client(&format!("crowd{n}"))).collect();
    for client in &mut crowd {
        client.text("hang");
    }
    // A quarter of them are for one address.
    gateway.app.wait_for_calls("/receive", 2);
    pause(MOMENT);
    assert_eq!(gateway.app.calls("/receive").len(), 2);
    let mut other = client_from(&gateway, [127, 0, 0, 2], "other");
    other.text("passes by");
    assert_eq!(gateway.app.wait_for_calls("/receive", 3)[2].text(), "passes by");
    // As they end, the others have their turn.
    for n in 3..7 {
        gateway.app.release(1, 200);
        gateway.app.wait_for_calls("/receive", n + 1);
    }
    gateway.app.release(2, 200);
    other.close();
}

fn text_is_utf8(world: &World) {
    let gateway = start(world);
    is_wrong(&gateway, &frame(0x80 | TEXT, b"a\xffb"), 1007);
    is_wrong(&gateway, &frame(0x80 | TEXT, b"cut \xe2\x82"), 1007);
    // In the middle of a message that never ends.
    is_wrong(&gateway, &frame(TEXT, b"\xc0"), 1007);
    let mut client = gateway.client("k");
    client.raw(&frame(TEXT, b"cut \xe2\x82")).raw(&frame(0x80, b"\xac, but whole"));
    assert_eq!(gateway.app.wait_for_calls("/receive", 1)[0].text(), "cut \u{20ac}, but whole");
}
