//! A client that speaks HTTP/2 with prior knowledge (§3.3) to a port of HTTPS, without TLS. It cannot read HTTP/1.1, so
//! the response says in HTTP/2 what is wrong.

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use uncork::{Listen, Request, Response, Running, Server, Tls, h1::Version};

use crate::peer::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PING, PREFACE, Peer, frame, get, head, post,
    settings,
};

const RULE: &[u8] = b"plain HTTP on an HTTPS port\n";

/// Returns a server of HTTPS, and the number of requests that its handler has seen.
fn server(versions: &[Version]) -> (Running, Arc<AtomicUsize>) {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let tls = Tls::pem_bytes(pair.cert.pem().as_bytes(), pair.signing_key.serialize_pem().as_bytes()).expect("a pair");
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let handler = move |_: &mut Request<'_>| {
        count.fetch_add(1, Relaxed);
        Response::text("ok")
    };
    let server =
        Server::new().listen(Listen::tcp("127.0.0.1:0").expect("bound").tls(tls)).versions(versions.iter().copied());
    (server.threads(1, handler).expect("running"), seen)
}

#[test]
fn it_is_told_in_http2() {
    let (server, seen) = server(&[Version::Http11, Version::Http2]);
    let addr = server.local_addr().expect("an address");
    let start = [PREFACE, &settings(&[])].concat();
    let with_body = [post(1, "/", &[("content-length", "3")]), frame(DATA, END_STREAM, 1, b"abc")].concat();
    let connect = frame(HEADERS, END_HEADERS, 1, head("CONNECT", "/", &[(":protocol", "echo")]));
    let connect = [connect, frame(DATA, END_STREAM, 1, [])].concat();
    for (what, first, then) in [
        ("all at once", [&start[..], &get(1, "/")].concat(), Vec::new()),
        ("a request after the SETTINGS", start.clone(), get(1, "/")),
        ("a preface in pieces", start[..4].to_vec(), [&start[4..], &get(1, "/")].concat()),
        ("a body", start.clone(), with_body),
        ("an upgrade", start.clone(), connect),
        ("two requests", start.clone(), [get(1, "/"), get(3, "/")].concat()),
    ] {
        let mut peer = Peer::silent(addr);
        peer.send(first);
        if !then.is_empty() {
            // The first bytes are read alone.
            std::thread::sleep(Duration::from_millis(30));
            peer.send(then);
        }
        let status = peer.until(|frame| frame.kind == HEADERS && frame.stream == 1).status();
        assert_eq!(status, 400, "{what}");
        let text = peer.until(|frame| frame.kind == DATA && frame.stream == 1);
        assert_eq!((text.payload.as_slice(), text.ends()), (RULE, true), "{what}");
        assert_eq!(peer.until(|frame| frame.kind == GOAWAY).code(), NO_ERROR, "{what}");
        // A client that has seen the GOAWAY gets the end.
        let ping = peer.until(|frame| frame.kind == PING);
        peer.send(frame(PING, ACK, 0, ping.payload));
        assert!(peer.ends(), "{what}");
    }
    assert_eq!(seen.load(Relaxed), 0, "the handler sees no request that came without TLS");
    server.stop_now().expect("ended");
}

#[test]
fn what_is_not_certainly_http2_is_told_in_http1() {
    let (both, _) = server(&[Version::Http11, Version::Http2]);
    let (only_http1, _) = server(&[Version::Http11]);
    for (server, sent) in
        [(&both, &b"GET / HTTP/1.1\r\n"[..]), (&both, b"PRINT / HTTP/1.1\r\n"), (&both, b"PRI"), (&only_http1, PREFACE)]
    {
        let mut peer = Peer::silent(server.local_addr().expect("an address"));
        peer.send(sent);
        let mut received = Vec::new();
        // The server may close before it has read all.
        let _ = peer.tcp().read_to_end(&mut received);
        let sent = sent.escape_ascii();
        assert!(received.starts_with(b"HTTP/1.1 400 ") && received.ends_with(RULE), "{sent}: {received:?}");
    }
    for server in [both, only_http1] {
        server.stop_now().expect("ended");
    }
}
