//! Proxies in front: only trusted ones can name a client's address and scheme.

use crate::{
    client::Client,
    harness::{Dir, Relay, line_of},
};

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.7 50000 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x07\xc3\x50\x01\xbb";

/// Returns the client's address in the access log.
#[track_caller]
fn logged(dir: &Dir) -> String {
    let line = line_of(&dir.0.join("access.log"));
    std::fs::write(dir.0.join("access.log"), "").expect("emptied");
    let client = line.split("\"client\":\"").nth(1).and_then(|rest| rest.split('"').next());
    client.expect(&line).to_owned()
}

#[test]
fn fields_are_believed_of_trusted_proxies_only() {
    for (trusted, want) in [("127.0.0.1", "192.0.2.1"), ("10.0.0.0/8", "127.0.0.1")] {
        let dir = Dir::new();
        let file = dir.path("access.log");
        let relay = Relay::start(&["--trusted-proxy", trusted, "--access-log=json", "--access-log-file", &file]);
        for fields in [
            &["X-Forwarded-For: 203.0.113.66, 192.0.2.1"][..],
            &["Forwarded: for=203.0.113.66, for=\"192.0.2.1:80\";proto=https"],
            &["X-Forwarded-For: ::ffff:192.0.2.1"],
        ] {
            relay.request("GET /ping", fields).assert(200);
            assert_eq!(logged(&dir), want, "{fields:?}");
        }
        relay.request("GET /ping", &["X-Forwarded-For: unknown"]).assert(200);
        assert_eq!(logged(&dir), "127.0.0.1");
        relay.stop();
    }
}

#[test]
fn links_and_cookies_are_those_of_the_clients_scheme() {
    for (trusted, https) in [("127.0.0.1", true), ("10.0.0.0/8", false)] {
        let relay = Relay::start(&["--trusted-proxy", trusted]);
        for fields in [
            &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "Content-Length: 0"][..],
            &["Forwarded: for=192.0.2.1;proto=https", "Content-Length: 0"],
        ] {
            let session = relay.request("PUT /cama/session", fields);
            assert_eq!(session.assert(201).get("set-cookie").expect("one").contains("; Secure"), https, "{fields:?}");
            let usage = relay.request("GET /", fields);
            assert_eq!(usage.assert(200).text().contains("S=https://"), https, "{}", usage.text());
        }
        relay.stop();
    }
}

#[test]
fn limits_are_those_of_the_client_behind_the_proxy() {
    let relay = Relay::start(&["--trusted-proxy", "127.0.0.0/8", "--sessions-per-address", "1"]);
    let allocate = |client: &str| {
        relay.request("PUT /cama/session", &["Content-Length: 0", &format!("X-Forwarded-For: {client}")]).status
    };
    assert_eq!([allocate("192.0.2.1"), allocate("192.0.2.1"), allocate("192.0.2.2")], [201, 429, 201]);
    assert!(relay.request_admin("GET /sessions", &[]).assert(200).text().contains("\"owner\":\"192.0.2.2\""));
    relay.stop();
}

#[test]
fn the_proxy_protocol_tells_who_asks() {
    for mode in ["threads", "external", "thread-per-connection"] {
        let dir = Dir::new();
        let file = dir.path("access.log");
        let relay = Relay::start_with(
            std::process::Command::new(crate::program::program("relay")),
            &[
                "--listen",
                "127.0.0.1:0,proxy-protocol",
                "--trusted-proxy",
                "127.0.0.1",
                "--mode",
                mode,
                "--access-log=json",
                "--access-log-file",
                &file,
            ],
        );
        for (header, client) in [(V1.as_bytes(), "192.0.2.7"), (V2, "192.0.2.8")] {
            relay.client().send(header).request("GET /ping", &[]).response().assert(200);
            assert_eq!(logged(&dir), client);
        }
        // A client's own field is a claim of the client; the proxy's claim is that of the connection.
        let mut client = relay.client();
        client.send(V1).request("GET /ping", &["X-Forwarded-For: 203.0.113.66"]).response().assert(200);
        assert_eq!(logged(&dir), "192.0.2.7");
        assert!(relay.client().request("GET /ping", &[]).try_head().is_err(), "without the header");
        relay.stop();
    }
}

#[test]
fn the_proxy_protocol_is_for_trusted_proxies() {
    let relay = Relay::start_with(
        std::process::Command::new(crate::program::program("relay")),
        &["--listen", "127.0.0.1:0,proxy-protocol", "--listen", "127.0.0.1:0", "--trusted-proxy", "192.0.2.1"],
    );
    let mut untrusted = relay.client();
    let sent = untrusted.try_send(V1).and_then(|()| untrusted.try_send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(sent.is_err() || untrusted.try_head().is_err());
    let other = relay.urls[1].strip_prefix("http://").expect("a URL").parse().expect("an address");
    Client::connect(other, None).request("GET /ping", &[]).response().assert(200);
    relay.stop();
}

#[test]
fn whom_to_trust_can_change() {
    let dir = Dir::new();
    let file = dir.path("access.log");
    let config = |trusted: &str| {
        format!(
            "[proxies]\ntrusted = [{trusted}]\n[sessions]\nserver-name = \"{}\"\n[access-log]\nformat = \"json\"\nfile = \"{file}\"\n",
            trusted.len()
        )
    };
    let path = dir.write("relay.toml", &config(""));
    let relay = Relay::start(&["--config", &path]);
    relay.request("GET /ping", &["X-Forwarded-For: 192.0.2.1"]);
    assert_eq!(logged(&dir), "127.0.0.1");
    dir.write("relay.toml", &config("\"127.0.0.1\""));
    assert!(relay.reload());
    relay.request("GET /ping", &["X-Forwarded-For: 192.0.2.1"]);
    assert_eq!(logged(&dir), "192.0.2.1");
    dir.write("relay.toml", "[proxies]\ntrusted = [\"nonsense\"]\n");
    assert!(!relay.reload(), "a file that can't be read changes nothing");
    relay.request("GET /ping", &["X-Forwarded-For: 192.0.2.1"]);
    assert_eq!(logged(&dir), "192.0.2.1");
    relay.stop();
}
