//! The reverse tunnel in the relay: on, off, beside its other services, and its metrics.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::{
    client::Client,
    harness::{Dir, Relay, until},
};

/// SHA-256 of "test".
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn handshake(token: &str) -> String {
    format!(
        "PUT /tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: ptth\r\nALPN: h2\r\n\
         Authorization: Bearer {token}\r\nUncork-Hosts: app.example\r\n\r\n"
    )
}

/// An origin server that responds to requests, in frames by hand (RFC 9113), until the test ends it.
struct Origin(Client);

impl Origin {
    fn connect(relay: &Relay, tls: &Arc<ClientConfig>) -> Self {
        let mut client = Client::connect(relay.addr(), Some(tls.clone()));
        client.send(handshake("test"));
        assert_eq!(client.head().status, 101);
        Self::begin(client)
    }

    /// Like [`connect`](Self::connect), but by ALPN: it authenticates when the proxy requests that.
    fn by_alpn(relay: &Relay, tls: &ClientConfig) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"rh2".to_vec(), b"http/1.1".to_vec()];
        let mut client = Client::connect(relay.addr(), Some(Arc::new(tls)));
        client.send([]);
        let mut origin = Self::begin(client);
        origin.respond(r#"{"token":"test","hosts":["app.example"]}"#);
        origin
    }

    fn begin(mut client: Client) -> Self {
        assert_eq!(client.exactly(24).expect("the preface"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // Empty SETTINGS.
        client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        Self(client)
    }

    fn respond(&mut self, body: &str) {
        loop {
            let head = self.0.exactly(9).expect("a frame");
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            self.0.exactly(length).expect("its payload");
            if head[3] == 1 {
                // HEADERS with :status 200, which is entry 8 of the table, and DATA that ends the stream.
                let stream = &head[5..9];
                let data = [0, 0, body.len() as u8, 0, 1];
                self.0.send([&[0, 0, 1, 1, 4], stream, &[0x88], &data, stream, body.as_bytes()].concat());
                return;
            }
        }
    }
}

#[test]
fn a_server_behind_nat_is_reached_through_the_relay() {
    let dir = Dir::new();
    let tls = dir.identity();
    let token = format!("app {HASH} app.example *.dev.example");
    let log = dir.path("access.log");
    let args = [
        "--tls-cert",
        &dir.path("cert.pem"),
        "--tls-key",
        &dir.path("key.pem"),
        "--listen",
        "127.0.0.1:0,tls=false",
        "--tunnel-token",
        &token,
        "--trusted-proxy",
        "127.0.0.1",
        "--access-log",
        "--access-log-file",
        &log,
    ];
    let relay = Relay::start(&args);
    let plain = relay.urls[1].strip_prefix("http://").expect("plain").parse().expect("an address");

    let mut wrong = Client::connect(relay.addr(), Some(tls.clone()));
    wrong.send(handshake("guess"));
    wrong.response().assert(401);
    let mut clear = Client::connect(plain, None);
    clear.send(handshake("test"));
    clear.response().assert(403);

    let request = |client: &mut Client, fields: &str| {
        client.send(format!("GET /ping HTTP/1.1\r\nHost: app.example\r\n{fields}\r\n"));
    };
    let mut client = Client::connect(plain, None);
    request(&mut client, "");
    client.response().assert(502);
    let mut origin = Origin::connect(&relay, &tls);
    until("the origin is connected", || relay.metric("uncork_tunnel_origin_servers") == 1.0);
    request(&mut client, "X-Forwarded-For: 192.0.2.7\r\n");
    origin.respond("hello");
    assert_eq!(client.response().assert(200).text(), "hello", "not the rendezvous' pong");
    assert_eq!(client.request("GET /ping", &[]).response().assert(200).text(), "pong", "of its own name");

    let tunnels = relay.request_admin("GET /tunnels", &[]);
    let text = tunnels.assert(200).text();
    assert!(text.contains("\"token\":\"app\"") && text.contains("\"hosts\":[\"app.example\"]"), "{text}");
    assert!(text.contains("\"requests\":1") && !text.contains(HASH), "{text}");
    assert_eq!(relay.metric("uncork_tunnel_requests_total"), 2.0);
    assert_eq!(relay.metric("uncork_tunnel_rejected_total{reason=\"unauthorized\"}"), 1.0);
    assert_eq!(relay.metric("uncork_tunnel_rejected_total{reason=\"forbidden\"}"), 1.0);
    // The client may have them before the loop of the tunnel has counted them.
    until("its bytes are counted", || relay.metric("uncork_tunnel_bytes_total{direction=\"down\"}") == 5.0);
    until("a line for it", || dir.read("access.log").contains("192.0.2.7 - - "));
    relay.stop();
}

#[test]
fn an_origin_may_come_by_alpn() {
    let dir = Dir::new();
    let tls = dir.identity();
    let token = format!("app {HASH} app.example");
    let files = [dir.path("cert.pem"), dir.path("key.pem")];
    let relay = Relay::start(&["--tls-cert", &files[0], "--tls-key", &files[1], "--tunnel-token", &token]);
    let mut origin = Origin::by_alpn(&relay, &tls);
    until("the origin is connected", || relay.metric("uncork_tunnel_origin_servers") == 1.0);
    let mut client = Client::connect(relay.addr(), Some(tls));
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    origin.respond("hello");
    assert_eq!(client.response().assert(200).text(), "hello");
    relay.stop();
}

#[test]
fn connections_that_say_nothing_are_counted_and_keep_no_origin_server_out() {
    let dir = Dir::new();
    let tls = dir.identity();
    let token = format!("app {HASH} app.example");
    let files = [dir.path("cert.pem"), dir.path("key.pem")];
    let args = ["--tls-cert", &files[0], "--tls-key", &files[1], "--tunnel-token", &token];
    let relay = Relay::start(&[&args[..], &["--tunnel-handshakes", "2", "--tunnel-failures-per-minute", "3"]].concat());
    let mut reversed = ClientConfig::clone(&tls);
    reversed.alpn_protocols = vec![b"rh2".to_vec()];
    let reversed = Arc::new(reversed);
    let silent = || {
        let mut client = Client::connect_from(Some([127, 0, 0, 2].into()), relay.addr(), Some(reversed.clone()));
        client.send([]);
        client.exactly(24).expect("the preface");
        client
    };
    let _silent: Vec<Client> = (0..4).map(|_| silent()).collect();
    let failed = |reason: &str| relay.metric(&format!("uncork_tunnel_handshakes_failed_total{{reason=\"{reason}\"}}"));
    until("two were displaced, and two timed out", || failed("displaced") == 2.0 && failed("timed-out") == 2.0);
    let _origin = Origin::by_alpn(&relay, &tls);
    until("the origin is connected", || relay.metric("uncork_tunnel_origin_servers") == 1.0);
    assert_eq!((failed("displaced"), failed("throttled")), (3.0, 0.0));
    relay.stop();
}

#[test]
fn without_tokens_there_is_no_tunnel() {
    let relay = Relay::start(&[]);
    let mut client = relay.client();
    client.send(handshake("test"));
    client.response().assert(404);
    relay.request_admin("GET /tunnels", &[]).assert(404);
    relay.stop();
}
