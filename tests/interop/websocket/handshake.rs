//! Accepted handshakes, and the responses to the others.

use uncork::{
    Action, Request,
    ws::{self, Done, Message},
};

use crate::{
    peer::{HANDSHAKE, PLAIN, Peer, TEXT, echo},
    world::{Host, World},
};

fn ignore(_: Message<'_>, _: Done) {}

/// Returns the fields of a valid handshake, without those of one name, and with others.
fn fields<'a>(without: &str, with: &[&'a str]) -> Vec<&'a str> {
    let kept = HANDSHAKE.into_iter().filter(|field| without.is_empty() || !field.starts_with(without));
    kept.chain(with.iter().copied()).collect()
}

#[test]
fn the_response_is_that_of_the_rfc() {
    let (host, _closed) = echo(&PLAIN);
    let (mut peer, response) = Peer::open_with(&host, &["Sec-WebSocket-Protocol: a, b", "Origin: http://elsewhere"]);
    response.is(101);
    let names: Vec<&str> = response.fields.iter().map(|(name, _)| name.as_str()).collect();
    // No sub-protocol and no extension unless the application selects one.
    assert_eq!(names, ["Date", "Connection", "Upgrade", "Sec-WebSocket-Accept"]);
    assert_eq!(response.get("connection"), Some("upgrade"));
    assert_eq!(response.get("upgrade"), Some("websocket"));
    assert_eq!(response.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    peer.send(TEXT, "x").expect(TEXT, "x");
    peer.close();
}

#[test]
fn letter_case_lists_and_repetition_are_accepted() {
    let (host, _closed) = echo(&PLAIN);
    for (without, with) in [
        ("Upgrade", &["upgrade: h2c, WebSocket"][..]),
        ("Upgrade", &["Upgrade: h2c", "UPGRADE: WEBSOCKET"]),
        ("Connection", &["connection: foo", "Connection: UPGRADE , bar"]),
        ("Sec-WebSocket-Version", &["sec-websocket-version:   13  "]),
        ("", &["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; y=\"z\""]),
        ("", &["Sec-WebSocket-Protocol: ,a,, b"]),
    ] {
        host.connect().request("GET /", &fields(without, with)).head().is(101);
    }
    // Bytes directly after the handshake belong to the WebSocket.
    let mut wire = host.connect();
    let head = crate::wire::request("GET /", &HANDSHAKE);
    wire.send([head.as_bytes(), &crate::peer::frame(TEXT, "early")].concat()).head().is(101);
    Peer { wire }.expect(TEXT, "early").wire.finish();
}

#[test]
fn every_check_has_its_rejection() {
    let (host, closed) = echo(&PLAIN);
    let version = "Sec-WebSocket-Version";
    let key = "Sec-WebSocket-Key";
    let no_key = "Sec-WebSocket-Key is not the base64 of 16 bytes";
    #[rustfmt::skip]
    let rows: &[(&str, &str, &[&str], u16, &str)] = &[
        ("POST /", "",    &["Content-Length: 0"],                          400, "the method of a WebSocket's handshake is GET"),
        ("HEAD /", "",    &[],                                             400, ""),
        ("GET /", "Upgrade", &[],                                          400, "Upgrade does not name websocket"),
        ("GET /", "Upgrade", &["Upgrade: websocket2"],                     400, "Upgrade does not name websocket"),
        ("GET /", "Connection", &[],                                       400, "Connection does not name upgrade"),
        ("GET /", "Connection", &["Connection: keep-alive"],               400, "Connection does not name upgrade"),
        ("GET /", version, &[],                                            400, "Sec-WebSocket-Version is missing"),
        ("GET /", version, &["Sec-WebSocket-Version: 8"],                  426, "the version of a WebSocket is 13"),
        ("GET /", version, &["Sec-WebSocket-Version: 13, 8"],              426, "the version of a WebSocket is 13"),
        ("GET /", version, &["Sec-WebSocket-Version: 013"],                426, "the version of a WebSocket is 13"),
        ("GET /", "",      &["Sec-WebSocket-Version: 13"],                 426, "the version of a WebSocket is 13"),
        ("GET /", key,     &[],                                            400, no_key),
        ("GET /", "",      &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], 400, no_key),
        ("GET /", key,     &["Sec-WebSocket-Key: "],                       400, no_key),
        ("GET /", key,     &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], 400, no_key),
        ("GET /", key,     &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="], 400, no_key),
        ("GET /", key,     &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE="], 400, no_key),
        ("GET /", key,     &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25*ZQ=="], 400, no_key),
        ("GET /", "",      &["Sec-WebSocket-Protocol: a b"],               400, "Sec-WebSocket-Protocol is not a list of tokens"),
        ("GET /", "",      &["Sec-WebSocket-Extensions: a;=b"],            400, "Sec-WebSocket-Extensions is malformed"),
        ("GET /", "",      &["Sec-WebSocket-Extensions: a; b=\"c d\""],    400, "Sec-WebSocket-Extensions is malformed"),
        ("GET /", "",      &["Origin: http://a", "Origin: http://b"],      400, "Origin is not one origin"),
    ];
    for (line, without, with, status, rule) in rows {
        let mut wire = host.connect();
        wire.request(line, &fields(without, with));
        if line.starts_with("HEAD") {
            wire.head().is(*status);
            continue;
        }
        let response = wire.response();
        let rule = format!("{rule}\n");
        assert_eq!((response.status, response.text()), (*status, rule.as_str()), "{line} {without} {with:?}");
        let versions = (response.get("sec-websocket-version"), response.get("upgrade"));
        assert_eq!(versions, if *status == 426 { (Some("13"), Some("websocket")) } else { (None, None) });
        // The connection is still HTTP.
        wire.request("GET /", &HANDSHAKE).head().is(101);
    }
    let head = "GET / HTTP/1.0\r\nHost: x\r\nConnection: upgrade, keep-alive\r\n";
    let old = format!("{head}{}\r\n\r\n", fields("Connection", &[]).join("\r\n"));
    let response = host.connect().send(old).response();
    assert_eq!((response.status, response.text()), (400, "a WebSocket's handshake needs HTTP/1.1\n"));
    let _ = closed;
}

fn from(policy: fn(&Request<'_>) -> bool) -> Host {
    let world: &World = &PLAIN;
    world.serve(move |req: &mut Request<'_>| -> Action {
        match ws::check_from(req, policy) {
            Ok(accept) => accept.switch(ignore).0.into(),
            Err(rejection) => rejection.into(),
        }
    })
}

#[test]
fn origins_are_checked() {
    // The code documents the reason of each rule.
    const ROWS: &[(&str, &str, bool, bool)] = &[
        ("", "example.org", true, true),
        ("https://example.org", "EXAMPLE.ORG:443", true, true),
        ("http://example.org:8080", "example.org", false, true),
        ("http://example.org.evil.net", "example.org", false, false),
    ];
    let hosts = [from(ws::same_origin), from(ws::same_hostname)];
    for (origin, name, same_origin, same_name) in ROWS {
        for (host, passes) in hosts.iter().zip([same_origin, same_name]) {
            let origin = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
            let head = format!("GET / HTTP/1.1\r\nHost: {name}\r\n{origin}{}\r\n\r\n", HANDSHAKE.join("\r\n"));
            let response = host.connect().send(&head).head();
            assert_eq!(response.status, if *passes { 101 } else { 403 }, "{head}");
        }
    }
}

#[test]
fn the_application_sees_origin_and_protocols_and_chooses_one() {
    let host = PLAIN.serve(|req: &mut Request<'_>| -> Action {
        let accept = match ws::check(req) {
            Ok(accept) => accept,
            Err(rejection) => return rejection.into(),
        };
        assert_eq!(accept.origin(), Some("https://here.example"));
        let offered: Vec<&str> = accept.protocols().collect();
        assert_eq!(offered, ["chat", "Soap", "mqtt"]);
        let choice = req.path().trim_start_matches('/').to_owned();
        accept.protocol(&choice).switch(ignore).0.into()
    });
    let offer = ["Origin: https://here.example", "Sec-WebSocket-Protocol: chat, Soap", "sec-websocket-protocol: mqtt"];
    for (choice, selected) in [("Soap", Some("Soap")), ("mqtt", Some("mqtt")), ("soap", None), ("", None)] {
        let mut wire = host.connect();
        let response = wire.request(&format!("GET /{choice}"), &fields("", &offer)).head();
        assert_eq!(response.is(101).get("sec-websocket-protocol"), selected);
    }
}
