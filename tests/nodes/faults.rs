//! Ends in the middle, nodes that are gone, and requests that no node should send.

use super::*;

/// A source that disconnects is a truncated download, on every node.
pub(super) fn a_source_disconnects(nodes: &Cluster) {
    for length in ["Transfer-Encoding: chunked", "Content-Length: 100"] {
        let path = nodes.c.stream("");
        let (mut source, mut receiver) = (nodes.a.client(), nodes.b.client());
        receiver.request(&format!("GET {path}"), &[]);
        source.request(&format!("PUT {path}"), &[length]).send("5\r\nhello\r\n");
        let head = receiver.head();
        head.is(200);
        receiver.exactly(5).expect("the beginning");
        source.leave();
        let end = receiver.body(&head);
        assert!(end.is_err(), "{end:?}");
    }
}

/// A client that disconnects, or half-closes, gives its place free on the owner.
pub(super) fn a_client_that_waits_disconnects(nodes: &Cluster) {
    for half_closes in [false, true] {
        let path = nodes.c.stream("");
        let before = nodes.c.nodes.counts().accepted;
        let mut first = nodes.a.client();
        first.request(&format!("GET {path}"), &[]);
        let mut second = nodes.c.client();
        until("the receiver is on the owner", || nodes.c.nodes.counts().accepted > before);
        std::thread::sleep(MOMENT);
        second.request(&format!("GET {path}"), &[]).response().assert(429);
        let held = match half_closes {
            true => {
                first.finish();
                Some(first)
            }
            false => {
                first.leave();
                None
            }
        };
        // Then the stream has no receiver again, or reports that it has lost it.
        until("its place is free", || {
            nodes.c.client().request(&format!("GET {path}"), &[]).try_status(MOMENT) != Some(429)
        });
        drop(held);
    }
}

pub(super) fn a_receiver_disconnects(nodes: &Cluster) {
    let path = nodes.c.stream("");
    let (mut source, mut receiver) = (nodes.a.client(), nodes.b.client());
    receiver.request(&format!("GET {path}"), &[]);
    source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"hello");
    receiver.head().is(200);
    receiver.leave();
    // The owner responds before the body has ended.
    let response = source.response();
    assert!(response.assert(502).text().contains("StreamDestinationError"), "{response:?}");
}

pub(super) fn the_owner_is_gone(nodes: &Cluster) {
    let (stream, (session, _)) = (nodes.c.stream(""), nodes.c.session(""));
    let _streams = [&nodes.a, &nodes.b].map(|node| node.stream(""));
    let mut waiting = nodes.b.client();
    waiting.request(&format!("GET {stream}"), &[]);
    until("it waits on the owner", || nodes.c.nodes.counts().accepted == 1);
    nodes.c.internal.stop.stop_now();
    nodes.c.public.stop.stop_now();
    // The owner stops in good order.
    waiting.response().assert(503);
    until("the owner is gone", || std::net::TcpStream::connect(nodes.c.internal.addr).is_err());

    let start = Instant::now();
    let response = nodes.a.client().request(&format!("GET {stream}"), &[]).response();
    let form = r#"{"name":"NodeError","message":"The node that this id belongs to cannot be reached"}"#;
    assert_eq!(response.assert(502).text(), form);
    let fields = ["Content-Length: 5", "Expect: 100-continue"];
    nodes.a.client().request(&format!("PUT {stream}"), &fields).head().is(502);
    let response = nodes.a.client().request(&format!("GET {session}"), &[]).response();
    assert_eq!(response.assert(502).text(), "The node that this id belongs to cannot be reached");
    assert_eq!(response.get("server"), Some("cama/1"));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let state = nodes.a.nodes.others().into_iter().find(|other| other.id == "c").expect("in the list");
    assert!(state.failed == 3 && state.error.is_some(), "{state:?}");

    let response = nodes.a.client().request("GET /stream", &[]).response();
    let list: serde_json::Value = serde_json::from_slice(&response.assert(200).body).expect("JSON");
    assert_eq!((list.as_array().map(Vec::len), response.get("x-missing-nodes")), (Some(2), Some("c")));
}

pub(super) fn the_owner_goes_in_mid_transfer(nodes: &Cluster) {
    let path = nodes.c.stream("");
    let (mut source, mut receiver) = (nodes.a.client(), nodes.b.client());
    receiver.request(&format!("GET {path}"), &[]);
    source.request(&format!("PUT {path}"), &["Transfer-Encoding: chunked"]).chunk(b"hello");
    let head = receiver.head();
    assert_eq!(receiver.next_chunk().expect("a chunk").as_deref(), Some(&b"hello"[..]));
    nodes.c.internal.stop.stop_now();
    assert!(receiver.body(&head).is_err(), "truncated");
    let status = source.response().status;
    assert!(status == 502 || status == 503, "{status}");
}

pub(super) fn what_no_node_has_made(nodes: &Cluster) {
    let own = nodes.c.stream("");
    let forged = |at: usize| {
        let mut path = own.clone().into_bytes();
        path[at] = if path[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(path).expect("ASCII")
    };
    let uuid = "/stream/01234567-89ab-4def-8123-456789abcdef".to_owned();
    for path in [forged("/stream/".len()), forged(own.len() - 1), forged(own.len() - 20), uuid] {
        let response = nodes.a.client().request(&format!("GET {path}"), &[]).response();
        assert!(response.assert(404).text().contains("SessionNotFoundError"), "{path}");
    }
    nodes.a.client().request("GET /cama/session/AAAAAAAAAAAAAAAAAAAAAA", &[]).response().assert(404);
    // An id of a stream is a node's id, but no session: the owner says so.
    let session = own.replace("/stream", "/cama/session");
    nodes.a.client().request(&format!("GET {session}"), &[]).response().assert(404);
    assert_eq!(nodes.a.nodes.counts().forwarded, 1);
}

/// A node whose list is wrong: requests for C go to the public listener of A, to B, and to C with another key.
pub(super) fn a_request_that_comes_back(nodes: &Cluster) {
    let path = nodes.c.stream("");
    let list = |url: String| vec![("c".to_owned(), url)];
    let ask = |node: &cluster::Node| node.client().request(&format!("GET {path}"), &[]).response();
    let public = nodes.stranger("d", cluster::KEY, list(format!("http://{}", nodes.a.public.addr)));
    ask(&public).assert(508);
    assert_eq!((nodes.a.rejected("loop"), nodes.a.nodes.counts().forwarded), (1, 0));
    let wrong = nodes.stranger("d", cluster::KEY, list(cluster::url(nodes.b.internal.addr, nodes.tls)));
    ask(&wrong).assert(502);
    assert_eq!((nodes.b.rejected("recipient"), nodes.b.nodes.counts().forwarded), (1, 0));
    let error = wrong.nodes.others()[0].error.clone().expect("an error");
    let says = "recipient: the request was signed for node c, but reached node b; check id and nodes of both";
    assert!(error.contains(says), "{error}");

    // With another key, C's ids are unknown.
    let other = nodes.stranger("d", &[1; 32], list(cluster::url(nodes.c.internal.addr, nodes.tls)));
    ask(&other).assert(404);
    let response = other.client().request("GET /stream", &[]).response();
    assert_eq!((response.assert(200).get("x-missing-nodes"), nodes.c.rejected("signature")), (Some("c"), 1));
    // A node that is not in the list.
    let alone = nodes.stranger("d", cluster::KEY, Vec::new());
    ask(&alone).assert(502);
    // A client that claims to be a node.
    let mut client = nodes.a.client();
    client.request(&format!("GET {path}"), &["Uncork-Node: 1 1 b a 0 http unix x"]).response().assert(508);
}

/// The listener for nodes serves no others, and creates nothing.
pub(super) fn what_is_not_of_a_node(nodes: &Cluster) {
    if nodes.tls {
        // Without a client certificate there is no connection at all.
        let client = uncork::client::Client::builder().tls(cluster::stranger()).build();
        let request = uncork::client::Request::get(&format!("{}/stream", cluster::url(nodes.c.internal.addr, true)));
        assert!(client.call_blocking(request).is_err());
        return;
    }
    let path = nodes.c.stream("");
    let ask =
        |line: &str, fields: &[&str]| Client::connect(nodes.c.internal.addr, None).request(line, fields).response();
    assert_eq!(ask(&format!("GET {path}"), &[]).assert(403).get("uncork-node-rejected"), Some("unsigned"));
    ask(&format!("GET {path}"), &["Uncork-Node: nonsense"]).assert(400);
    let mac = "A".repeat(43);
    ask(&format!("GET {path}"), &[&format!("Uncork-Node: 1 1 a c 0 http unix {mac}")]).assert(403);
    ask("PUT /cama/session", &[]).assert(403);
    assert_eq!(["unsigned", "malformed", "signature"].map(|reason| nodes.c.rejected(reason)), [2, 1, 1]);
    assert_eq!(nodes.c.nodes.counts().accepted, 0);
}

/// A forwarded request that waits gets a response at once when its node stops.
pub(super) fn stopping(nodes: &Cluster) {
    let path = nodes.c.stream("");
    let mut receiver = nodes.a.client();
    receiver.request(&format!("GET {path}"), &[]);
    until("it waits on the owner", || nodes.c.nodes.counts().accepted == 1);
    nodes.a.public.stop.shutdown(support::client::TIMEOUT);
    let response = receiver.response();
    assert!(response.assert(503).get("retry-after").is_some(), "{response:?}");
    // The stream is free for another receiver, on another node.
    until("its place is free", || {
        nodes.b.client().request(&format!("GET {path}"), &[]).try_status(MOMENT) != Some(429)
    });
}

impl Client {
    /// Returns the status of the response, if one begins within this time.
    fn try_status(&mut self, time: Duration) -> Option<u16> {
        if self.is_silent(time) { None } else { self.try_head().ok().map(|head| head.status) }
    }
}
