//! The session relay and the rendezvous on three nodes, over real sockets; between the nodes plain, and by TLS with
//! client certificates.

#![cfg(feature = "nodes")]
#![expect(clippy::disallowed_methods, reason = "tests may sleep, and read the clock to bound a wait")]

use std::time::{Duration, Instant};

mod cluster;
mod faults;
#[path = "../support/node_identity.rs"]
mod identity;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)] // other tests use the rest
mod support;

use cluster::Cluster;
use support::{
    Client,
    bodies::{pattern, push_until_stuck, receive},
};

/// A short time, to show that nothing happens.
const MOMENT: Duration = Duration::from_millis(100);

macro_rules! between_nodes {
    ($($module:ident $name:ident,)*) => {
        $(mod $name {
            #[test]
            fn plain() {
                super::$module::$name(&crate::cluster::Cluster::start(false));
            }
            #[test]
            fn tls() {
                super::$module::$name(&crate::cluster::Cluster::start(true));
            }
        })*
    };
}

between_nodes! {
    carried a_stream, carried a_session, carried the_body_is_asked_for_only_when_the_owner_asks,
    carried much_in_one_direction_and_in_the_other, carried a_list_of_all, carried the_address_of_the_client,
    carried errors_and_states, carried many_on_one_connection,
    faults a_source_disconnects, faults a_client_that_waits_disconnects, faults a_receiver_disconnects,
    faults the_owner_is_gone, faults the_owner_goes_in_mid_transfer, faults what_no_node_has_made,
    faults a_request_that_comes_back, faults what_is_not_of_a_node, faults stopping,
}

/// Repeats until `condition` holds.
#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < support::client::TIMEOUT, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

mod carried {
    use super::*;

    /// The source is on A, the receiver on B, the stream on C.
    pub(super) fn a_stream(nodes: &Cluster) {
        let path = nodes.c.stream("");
        assert_eq!(path.strip_prefix("/stream/").map(str::len), Some(40), "{path}");
        let (mut source, mut receiver) = (nodes.a.client(), nodes.b.client());
        source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"hello, ");
        receiver.request(&format!("GET {path}"), &[]);
        let head = receiver.head();
        assert!(head.is(200).is_chunked(), "{head:?}");
        assert_eq!(receiver.next_chunk().expect("a chunk").expect("not the last"), b"hello, ");
        source.chunk(b"world").chunk(b"");
        assert_eq!(receiver.body(&head).expect("the rest"), b"world");
        source.response().assert(200);
        let counts = nodes.a.nodes.counts();
        assert_eq!((counts.forwarded, counts.failed), (1, 0));
        assert_eq!(nodes.c.nodes.counts().accepted, 2);
        until("bytes are counted", || nodes.a.nodes.counts().bytes == 12 && nodes.b.nodes.counts().bytes == 12);
    }

    /// The host is on A, the guest on B, the session on C.
    pub(super) fn a_session(nodes: &Cluster) {
        let (path, cookie) = nodes.c.session("");
        let (mut host, mut guest) = (nodes.a.client(), nodes.b.client());
        for round in 0..3 {
            guest.request(&format!("GET {path}"), &[]);
            host.post(&path, &[&cookie, "Content-Type: text/x-test"], b"from the host");
            let response = guest.response();
            assert_eq!(response.assert(200).text(), "from the host", "{round}");
            assert_eq!((response.get("content-type"), response.get("server")), (Some("text/x-test"), Some("cama/1")));
            assert_eq!(host.response().assert(200).get("x-bytes-delivered"), Some("13"));
            host.request(&format!("GET {path}"), &[&cookie]);
            guest.post(&path, &[], b"from the guest");
            assert_eq!(host.response().assert(200).text(), "from the guest", "{round}");
            guest.response().assert(200);
        }
        guest.request(&format!("GET {path}"), &["TE: trailers"]);
        host.request(&format!("POST {path}"), &[&cookie, "Transfer-Encoding: chunked", "Trailer: X-Sum"]);
        host.send("5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n");
        assert!(guest.head().is(200).is_chunked());
        for line in ["5", "hello", "0", "X-Sum: 5", ""] {
            assert_eq!(guest.line().expect("a line"), line);
        }
        host.response().assert(200);
        host.request(&format!("DELETE {path}"), &[&cookie]).response().assert(200);
        nodes.b.client().request(&format!("GET {path}"), &[]).response().assert(404);
    }

    pub(super) fn the_body_is_asked_for_only_when_the_owner_asks(nodes: &Cluster) {
        let (path, cookie) = nodes.c.session("");
        let mut host = nodes.a.client();
        let fields = [cookie.as_str(), "Content-Length: 5", "Expect: 100-continue"];
        host.request(&format!("POST {path}"), &fields);
        assert!(host.is_silent(Duration::from_millis(1300)), "no receiver yet");
        let mut guest = nodes.b.client();
        guest.request(&format!("GET {path}"), &[]);
        host.head().is(100);
        host.send("hello");
        assert_eq!(guest.response().assert(200).text(), "hello");
        host.response().assert(200);

        // Rejected without the body: on the same connection, since none was sent.
        let fields = ["Content-Length: 5", "Expect: 100-continue", "Content-Range: bytes 0-4/9"];
        host.request(&format!("PUT {}", nodes.c.stream("")), &fields).head().is(400);
        let taken = nodes.c.stream("");
        let mut first = nodes.b.client();
        first.request(&format!("PUT {taken}"), &["Content-Length: 5", "Expect: 100-continue"]).head().is(100);
        let mut second = nodes.a.client();
        let second = second.request(&format!("PUT {taken}"), &["Content-Length: 5", "Expect: 100-continue"]).head();
        assert_eq!(second.status, 429, "{second:?}");
    }

    /// A receiver that reads nothing stops the source, whichever nodes they are on; then everything arrives.
    pub(super) fn much_in_one_direction_and_in_the_other(nodes: &Cluster) {
        const TOTAL: usize = 64 << 20;
        for (from, to) in [(&nodes.a, &nodes.b), (&nodes.b, &nodes.c)] {
            let path = nodes.c.stream("");
            let (mut source, mut receiver) = (from.client(), to.client());
            receiver.request(&format!("GET {path}"), &[]);
            source.request(&format!("PUT {path}"), &[&format!("Content-Length: {TOTAL}")]);
            let sent = push_until_stuck(&mut source, TOTAL);
            // The system lets the outbound sockets of the nodes buffer up to 32 MiB. The nodes themselves hold little.
            assert!(sent < TOTAL, "the receiver takes nothing, and yet everything was read");
            let held = uncork::pipe_memory();
            assert!(held < 4 << 20, "{held} bytes in pipes");
            let rest = std::thread::spawn(move || {
                let block = pattern(sent % 251, TOTAL - sent);
                source.send(&block).response()
            });
            assert_eq!(receiver.head().is(200).get("content-length"), Some(TOTAL.to_string().as_str()));
            receive(&mut receiver, TOTAL);
            rest.join().expect("sent").assert(200);
        }
    }

    pub(super) fn a_list_of_all(nodes: &Cluster) {
        let paths = [&nodes.a, &nodes.b, &nodes.c].map(|node| node.stream(""));
        for node in [&nodes.a, &nodes.c] {
            let response = node.client().request("GET /stream", &[]).response();
            let list: serde_json::Value = serde_json::from_slice(&response.assert(200).body).expect("JSON");
            assert_eq!(list.as_array().map(Vec::len), Some(3), "{list}");
            for path in &paths {
                assert!(response.text().contains(path.trim_start_matches("/stream/")), "{list}");
            }
            assert_eq!(response.get("x-missing-nodes"), None);
        }
        let length = nodes.b.client().request("HEAD /stream", &[]).head();
        assert!(length.is(200).get("content-length").is_some(), "{length:?}");
    }

    /// A guest that the host has named by its address is admitted, on whatever node it is.
    pub(super) fn the_address_of_the_client(nodes: &Cluster) {
        let (path, cookie) = nodes.c.session("?secure=true");
        let named = "X-Peer-Address: 127.0.0.5";
        nodes.b.client().request(&format!("PUT {path}"), &[&cookie, named]).response().assert(200);
        let from = |ip: &str| Client::connect_from(Some(ip.parse().expect("an address")), nodes.a.public.addr, None);
        let mut other = from("127.0.0.6");
        other.request(&format!("GET {path}"), &["X-Forwarded-For: 127.0.0.5"]).response().assert(403);
        let mut guest = from("127.0.0.5");
        guest.request(&format!("GET {path}"), &[]);
        nodes.b.client().post(&path, &[&cookie], b"x").response().assert(200);
        assert_eq!(guest.response().assert(200).text(), "x");
    }

    pub(super) fn errors_and_states(nodes: &Cluster) {
        let path = nodes.c.stream("");
        let status = |node: &cluster::Node| node.client().request(&format!("GET {path}/status"), &[]).response();
        assert_eq!(status(&nodes.a).assert(200).text(), status(&nodes.c).text());
        let head = nodes.a.client().request(&format!("HEAD {path}/status"), &[]).head();
        assert!(head.is(200).get("content-length").is_some_and(|n| n != "0"), "{head:?}");
        let mut receiver = nodes.b.client();
        receiver.request(&format!("GET {path}"), &[]);
        until("the receiver is there", || nodes.c.nodes.counts().accepted >= 3);
        std::thread::sleep(MOMENT);
        let json = br#"{"message":"no tea"}"#;
        nodes.a.client().post(&format!("{path}/error"), &[], json).response().assert(200);
        assert!(receiver.response().assert(400).text().contains("no tea"));
        // The form of the URL's query is the client's, unless no URL can have it.
        nodes.a.client().request(&format!("GET {path}/status?a=b%20c"), &[]).response().assert(200);
    }

    pub(super) fn many_on_one_connection(nodes: &Cluster) {
        let (mut source, mut receiver) = (nodes.a.client(), nodes.b.client());
        for n in 0..40 {
            let (path, body) = (nodes.c.stream(""), pattern(n, n * 1000));
            receiver.request(&format!("GET {path}"), &[]);
            source.request(&format!("PUT {path}"), &[&format!("Content-Length: {}", body.len())]).send(&body);
            assert!(receiver.response().assert(200).body == body, "{n}");
            source.response().assert(200);
        }
        assert_eq!((nodes.a.nodes.counts().failed, nodes.b.nodes.counts().failed), (0, 0));
    }
}
