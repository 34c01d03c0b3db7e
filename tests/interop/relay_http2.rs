//! The relay over HTTP/2: sessions and streams, with all requests on one connection. It must be built before:
//! `cargo build --examples`.

#![allow(clippy::duplicate_mod, reason = "both clients include the response that they receive")]

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod client;
#[path = "../relay_program/harness.rs"]
#[allow(dead_code, reason = "the tests of the program use the rest")]
mod harness;
#[path = "../support/http2/mod.rs"]
#[allow(dead_code, reason = "the tests of HTTP/2 use the rest")]
mod http2;
#[path = "../support/program.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod program;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "the tests of HTTP/2 use the rest")]
mod wire;

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;

use crate::{
    client::Client,
    harness::{Dir, Relay, until},
    http2::{get, post},
};

/// Starts a relay with TLS. Returns it with a client's configuration that offers HTTP/2.
fn relay(dir: &Dir, more: &[&str]) -> (Relay, Arc<ClientConfig>) {
    let mut client = (*dir.identity()).clone();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (cert, key) = (dir.path("cert.pem"), dir.path("key.pem"));
    let relay = Relay::start(&[&["--tls-cert", &cert, "--tls-key", &key], more].concat());
    (relay, Arc::new(client))
}

fn put(path: &str, fields: &[(&str, &str)]) -> http::Request<()> {
    let mut request = post(path, fields);
    *request.method_mut() = http::Method::PUT;
    request
}

/// Returns bytes that show a lost, doubled or moved one.
fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

#[test]
fn a_session_and_a_stream_go_through_one_connection() {
    let dir = Dir::new();
    for mode in ["threads", "external", "thread-per-connection"] {
        let (relay, config) = relay(&dir, &["--mode", mode]);
        let mut client = http2::Client::connect(relay.addr(), Some(config)).expect("connected");
        assert_eq!(client.link.alpn().as_deref(), Some(&b"h2"[..]));
        // A session: its host receives, a guest sends, and the other way.
        let created = client.request(put("/cama/session", &[]), true).head(&mut client);
        assert_eq!(created.status(), 201);
        let path = created.headers()["location"].to_str().expect("text").to_owned();
        let cookie = created.headers()["set-cookie"].to_str().expect("text");
        let cookie = cookie.split(';').next().expect("a token").to_owned();
        let body = pattern(2_000_000);
        for from_host in [false, true] {
            let (mine, theirs) = if from_host { (cookie.as_str(), "a=b") } else { ("a=b", cookie.as_str()) };
            let mut receives = get(&path);
            receives.headers_mut().insert("cookie", theirs.parse().expect("a value"));
            let mut download = client.request(receives, true);
            let mut upload = client.request(post(&path, &[("cookie", mine), ("content-length", "2000000")]), false);
            assert_eq!(download.head(&mut client).headers()["content-length"], "2000000");
            assert!(transfers(&mut client, &mut upload, &mut download, &body));
            let report = upload.head(&mut client);
            assert_eq!(
                (report.status().as_u16(), &report.headers()["x-bytes-delivered"]),
                (200, &"2000000".parse().expect("a value"))
            );
        }
        // Several streams of the rendezvous at the same time.
        let pairs: Vec<_> = (0..20)
            .map(|_| {
                let mut created = client.request(post("/stream", &[]), true);
                let location = created.head(&mut client).headers()["location"].to_str().expect("text").to_owned();
                created.body(&mut client).expect("its id");
                let download = client.get(&location);
                (download, client.request(put(&location, &[]), false))
            })
            .collect();
        for (mut download, mut upload) in pairs {
            // The response begins with the first byte.
            upload.write(&mut client, b"x");
            assert_eq!(download.head(&mut client).status(), 200);
            assert_eq!(download.data(&mut client).expect("data").expect("data"), &b"x"[..]);
            assert!(transfers(&mut client, &mut upload, &mut download, &body[..100_000]));
            assert_eq!(upload.head(&mut client).status(), 200);
        }
        drop(client);
        relay.stop();
    }
}

/// Sends on one stream what the other receives.
fn transfers(
    client: &mut http2::Client,
    upload: &mut http2::Exchange,
    download: &mut http2::Exchange,
    body: &[u8],
) -> bool {
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < body.len() {
        sent += upload.push(client, &body[sent..(sent + 65_536).min(body.len())], Duration::ZERO).expect("sent");
        while got.len() < body.len()
            && let Some(data) = client.until(Duration::from_millis(1), |_, cx| download.poll_data(cx))
        {
            got.extend_from_slice(&data.expect("more").expect("data"));
        }
    }
    upload.finish(client);
    download.body(client).expect("the end").0.is_empty() && got == body
}

#[test]
fn a_stop_finishes_what_is_in_progress() {
    let dir = Dir::new();
    let (relay, config) = relay(&dir, &["--shutdown-timeout", "100"]);
    let mut client = http2::Client::connect(relay.addr(), Some(config)).expect("connected");
    let mut created = client.request(post("/stream", &[]), true);
    let location = created.head(&mut client).headers()["location"].to_str().expect("text").to_owned();
    created.body(&mut client).expect("its id");
    let (mut download, mut upload) = (client.get(&location), client.request(put(&location, &[]), false));
    upload.write(&mut client, b"first");
    download.head(&mut client);
    assert_eq!(download.data(&mut client).expect("data").expect("data"), &b"first"[..]);
    relay.signal(rustix::process::Signal::TERM);
    relay.notifies("STOPPING=1");
    until("it has stopped listening", || std::net::TcpStream::connect(relay.addr()).is_err());
    upload.write(&mut client, b"second").finish(&mut client);
    assert_eq!(download.body(&mut client).expect("the rest").0, b"second");
    assert_eq!(upload.head(&mut client).status(), 200);
    upload.body(&mut client).expect("a whole response");
    assert_eq!(client.ends(), http2::End::Clean);
    relay.ends();
}

#[test]
fn it_can_be_switched_off() {
    let dir = Dir::new();
    let (relay, config) = relay(&dir, &["--http2", "false"]);
    let mut client = Client::connect(relay.addr(), Some(config));
    client.request("GET /ping", &[]).response().assert(200);
    relay.stop();
}
