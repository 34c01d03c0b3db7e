//! The session relay's contract, case by case, over real sockets: plain and TLS, with one loop and with two, so that
//! host and guest meet on different ones.

#![cfg(all(feature = "relay", feature = "tls"))]

use std::{io::ErrorKind, time::Duration};

use uncork::relay::SessionConfig;

#[allow(dead_code)] // the examples' tests use the rest
mod support;
use support::{
    Answer, Client, Setup, TestServer,
    bodies::{pattern, push_until_stuck, receive},
};

/// A moment, to see that nothing happens. The only waiting in here, and never for something to happen.
const MOMENT: Duration = Duration::from_millis(40);

const PLAIN_1: Setup = Setup { tls: false, threads: 1 };

/// Each case in four set-ups.
macro_rules! in_every_setup {
    ($($case:ident),* $(,)?) => {
        in_every_setup! { @ plain_1, false, 1, $($case)* }
        in_every_setup! { @ plain_2, false, 2, $($case)* }
        in_every_setup! { @ tls_1, true, 1, $($case)* }
        in_every_setup! { @ tls_2, true, 2, $($case)* }
    };
    (@ $name:ident, $tls:expr, $threads:expr, $($case:ident)*) => {
        mod $name {
            const SETUP: super::Setup = super::Setup { tls: $tls, threads: $threads };
            $(#[test] fn $case() { super::$case(SETUP); })*
        }
    };
}

in_every_setup! {
    allocation, allocation_chooses_type_and_time, what_is_not_there, other_methods,
    an_unknown_session, a_message_each_way, the_token_makes_the_host, one_receiver_a_side, one_sender_a_side,
    timeouts, a_connection_goes_on, nothing_at_all_is_a_message_too, chunked_is_progressive, trailers_pass_through,
    the_body_is_asked_for_only_when_somebody_is_there, nothing_is_read_until_somebody_is_there,
    a_receiver_that_left_loses_nothing, a_receiver_is_lost_in_mid_transfer, a_sender_is_lost_in_mid_transfer,
    a_sender_is_lost_and_that_shows, a_stalled_receiver_pushes_back, many_messages_in_a_row,
    a_secure_session, a_basic_session_can_be_closed_to_others, deletion, deletion_in_mid_transfer,
    an_end_to_everything, messages_have_a_limit, stopping,
}

fn start(setup: Setup) -> TestServer {
    TestServer::start(setup, SessionConfig::default())
}

fn start_with(setup: Setup, change: impl FnOnce(&mut SessionConfig)) -> TestServer {
    let mut config = SessionConfig::default();
    change(&mut config);
    TestServer::start(setup, config)
}

/// A session, with what the host knows of it.
struct Session {
    path: String,
    token: String,
    cookie: String,
}

impl Session {
    fn new(server: &TestServer) -> Self {
        Self::with(server, "", &[])
    }

    fn with(server: &TestServer, query: &str, fields: &[&str]) -> Self {
        let answer = server.client().request(&format!("PUT /cama/session{query}"), fields).answer();
        answer.assert(201);
        let path = answer.get("location").expect("a location").to_owned();
        let token = token(&answer).to_owned();
        let cookie = format!("Cookie: token={token}");
        Self { path, token, cookie }
    }

    fn get(&self) -> String {
        format!("GET {}", self.path)
    }

    /// A host's GET that has reached the server.
    fn host_waits(&self, server: &TestServer) -> Client {
        self.waits(server, &[&self.cookie])
    }

    /// A guest's.
    fn guest_waits(&self, server: &TestServer) -> Client {
        self.waits(server, &[])
    }

    fn waits(&self, server: &TestServer, fields: &[&str]) -> Client {
        let mut client = server.client();
        server.seen(|| {
            client.request(&self.get(), fields);
        });
        client
    }
}

fn token(answer: &Answer) -> &str {
    let cookie = answer.get("set-cookie").expect("a cookie");
    cookie.strip_prefix("token=").and_then(|rest| rest.split(';').next()).expect("a token")
}

fn seconds(cookie: &str) -> u64 {
    let (_, rest) = cookie.split_once("Max-Age=").expect("an age");
    rest.split(';').next().and_then(|n| n.parse().ok()).expect("a number")
}

// 1: PUT /cama/session

fn allocation(setup: Setup) {
    let server = start(setup);
    let answer = server.client().request("PUT /cama/session", &[]).answer();
    answer.assert(201);
    assert_eq!(answer.get("server"), Some("cama/1"));
    assert_eq!(answer.get("x-type"), Some("basic"));
    assert_eq!(answer.get("content-length"), Some("0"));
    let path = answer.get("location").expect("a location");
    let id = path.strip_prefix("/cama/session/").expect("the path only, no host");
    assert!(id.len() >= 22 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{id}");

    let cookie = answer.get("set-cookie").expect("a cookie");
    let parts: Vec<&str> = cookie.split("; ").collect();
    let [token, expires, place, age, http_only, rest @ ..] = &parts[..] else { panic!("{cookie}") };
    assert!(token.strip_prefix("token=").expect("a token").len() >= 22, "{token}");
    assert_eq!((*place, *age, *http_only), (format!("Path={path}").as_str(), "Max-Age=3600", "HttpOnly"));
    assert_eq!(rest, if setup.tls { &["Secure"][..] } else { &[] });
    let expires = expires.strip_prefix("Expires=").expect("a date");
    let (date, expires) = (answer.get("date").expect("a date"), httpdate::parse_http_date(expires).expect("IMF, GMT"));
    let lasts = expires.duration_since(httpdate::parse_http_date(date).expect("a date")).expect("the future");
    assert!((3598..=3602).contains(&lasts.as_secs()), "{lasts:?}");

    // Another one is another one; and a body is ignored.
    let mut client = server.client();
    let length = ["Content-Length: 5"];
    let other = client.request("PUT /cama/session/", &length).send("hello").answer();
    assert_ne!(other.assert(201).get("location"), Some(path));
    assert_ne!(token, &other.get("set-cookie").expect("a cookie").split(';').next().expect("one"));
}

fn allocation_chooses_type_and_time(setup: Setup) {
    let server = start_with(setup, |c| c.ttl_max = Duration::from_secs(7200));
    let mut client = server.client();
    for (query, field, kind, age) in [
        ("", "X-Type: secure", "secure", 3600),
        ("", "x-type: basic", "basic", 3600),
        ("?secure=true", "X-A: b", "secure", 3600),
        ("?secure=True", "X-A: b", "basic", 3600),
        ("?secure=1", "X-A: b", "basic", 3600),
        ("?timeout=5", "X-A: b", "basic", 5),
        ("?timeout=5x&secure=true", "X-A: b", "secure", 5),
        ("?secure=true&timeout=60", "X-A: b", "secure", 60),
        ("?timeout=x5", "X-A: b", "basic", 3600),
        ("?timeout=", "X-A: b", "basic", 3600),
        ("?timeout=0", "X-A: b", "basic", 1),
        ("?timeout=99999999999999999999999", "X-A: b", "basic", 7200),
        ("?mytimeout=5", "X-A: b", "basic", 3600),
    ] {
        let answer = client.request(&format!("PUT /cama/session{query}"), &[field]).answer();
        assert_eq!(answer.assert(201).get("x-type"), Some(kind), "{query} {field}");
        assert_eq!(seconds(answer.get("set-cookie").expect("a cookie")), age, "{query}");
    }
}

fn what_is_not_there(setup: Setup) {
    let server = start(setup);
    let mut client = server.client();
    for path in ["/", "/cama", "/cama/", "/cama/x", "/camax", "/cama/sessions", "/cama/session/a/b", "/session"] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = client.request(&format!("{method} {path}"), &[]).answer();
            assert_eq!((answer.status, answer.text()), (404, ""), "{method} {path}");
        }
    }
}

fn other_methods(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut client = server.client();
    for path in ["/cama/session", "/cama/session/"] {
        for method in ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "put", "HEAD"] {
            let answer = client.request(&format!("{method} {path}"), &[]).head();
            assert_eq!(answer.assert(405).get("allow"), Some("PUT"), "{method}");
            assert_eq!(answer.get("content-length"), Some("0"), "{method}");
        }
    }
    for method in ["PATCH", "HEAD", "OPTIONS", "get"] {
        let answer = client.request(&format!("{method} {}", session.path), &[]).head();
        assert_eq!(answer.assert(405).get("allow"), Some("GET, POST, PUT, DELETE"), "{method}");
        assert_eq!(answer.get("content-length"), Some("0"), "{method}");
    }
}

// 2: GET

fn an_unknown_session(setup: Setup) {
    let server = start(setup);
    let mut client = server.client();
    for (method, id) in [("GET", "nosuch"), ("POST", "AAAAAAAAAAAAAAAAAAAAAA"), ("DELETE", "x"), ("PUT", "x=")] {
        let answer = client.request(&format!("{method} /cama/session/{id}"), &[]).answer();
        assert_eq!(answer.assert(404).text(), "");
        let cookie = answer.get("set-cookie").expect("a deletion");
        assert!(cookie.starts_with("token=; Expires="), "{cookie}");
        assert!(cookie.contains(&format!("; Path=/cama/session/{id}; Max-Age=0")), "{cookie}");
    }
    // What would become an attribute of the cookie stays out of it.
    let answer = client.request("GET /cama/session/x;Domain=example.org", &[]).answer();
    assert_eq!(answer.assert(404).get("set-cookie"), None);
}

fn a_message_each_way(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    for from_host in [false, true] {
        let (mine, theirs) = if from_host { (session.cookie.as_str(), "X-A: b") } else { ("X-A: b", &*session.cookie) };
        for receiver_first in [false, true] {
            let (mut sender, mut receiver) = (server.client(), server.client());
            if receiver_first {
                server.seen(|| {
                    receiver.request(&session.get(), &[theirs]);
                });
            }
            let body = pattern(0, 100_000);
            server.seen(|| sender.post(&session.path, &["Content-Type: image/x-test", mine], &body).is_out());
            if !receiver_first {
                receiver.request(&session.get(), &[theirs]);
            }
            let answer = receiver.answer();
            answer.assert(200);
            assert_eq!(answer.get("content-type"), Some("image/x-test"));
            assert_eq!(answer.get("content-length"), Some("100000"));
            assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
            assert!(answer.body == body);
            // Host answers renew the cookie.
            assert_eq!(answer.get("set-cookie").is_some(), !from_host);
            let report = sender.answer();
            assert_eq!(report.assert(200).get("x-bytes-delivered"), Some("100000"));
            assert_eq!((report.get("content-length"), report.get("x-bytes-relayed")), (Some("0"), None));
            assert_eq!(report.get("set-cookie").is_some(), from_host);
        }
    }
}

fn the_token_makes_the_host(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let token = &session.token;
    let swapped: String = token.chars().rev().collect();
    // What the guest sends reaches the host only.
    for host in [
        format!("Cookie: token={token}"),
        format!("Cookie: token=\"{token}\""),
        format!("Cookie: a=b; token={token}; c=d"),
        format!("Cookie: token=old; token={token}"),
        format!("COOKIE:token={token}"),
    ] {
        let mut receiver = session.waits(&server, &[&host]);
        let mut sender = server.client();
        sender.post(&session.path, &[], b"to the host");
        assert_eq!(receiver.answer().assert(200).text(), "to the host", "{host}");
        sender.answer().assert(200);
    }
    for guest in [
        "X-A: b".to_owned(),
        format!("Cookie: token={swapped}"),
        "Cookie: token=".to_owned(),
        format!("Cookie: token={token}x"),
        format!("Cookie: token={}", &token[1..]),
        format!("Cookie: Token={token}"),
        format!("Cookie: xtoken={token}"),
        format!("X-Token: {token}"),
    ] {
        let mut receiver = session.waits(&server, &[&guest]);
        let mut sender = server.client();
        sender.post(&session.path, &[&session.cookie], b"to the guest");
        assert_eq!(receiver.answer().assert(200).text(), "to the guest", "{guest}");
        sender.answer().assert(200);
    }
}

fn one_receiver_a_side(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut host = session.host_waits(&server);
    let guest = session.guest_waits(&server); // both may wait at once
    for fields in [&[session.cookie.as_str()][..], &[]] {
        let answer = server.client().request(&session.get(), fields).answer();
        assert_eq!(answer.assert(409).text(), "there can be only one receiver at a time");
        assert_eq!(answer.get("content-type"), Some("text/plain"));
    }
    // A receiver that leaves makes room.
    server.left(|| guest.leave());
    let _guest = session.guest_waits(&server);
    // And so does one that was served, at once.
    let mut sender = server.client();
    sender.post(&session.path, &[], b"one");
    assert_eq!(host.answer().assert(200).text(), "one");
    host.request(&session.get(), &[&session.cookie, "X-Timeout: 0"]).answer().assert(504);
}

fn one_sender_a_side(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let (mut host, mut guest) = (server.client(), server.client());
    server.seen(|| host.post(&session.path, &[&session.cookie], b"from the host").is_out());
    server.seen(|| guest.post(&session.path, &[], b"from the guest").is_out());
    for fields in [&[session.cookie.as_str()][..], &[]] {
        let answer = server.client().post(&session.path, fields, b"me too").answer();
        assert_eq!(answer.assert(409).text(), "there can be only one sender at a time");
        assert_eq!(answer.get("content-type"), Some("text/plain"));
    }
    assert_eq!(server.client().request(&session.get(), &[]).answer().text(), "from the host");
    assert_eq!(host.answer().assert(200).get("x-bytes-delivered"), Some("13"));
    // The place is free as soon as the sender knows.
    server.client().post(&session.path, &[&session.cookie, "X-Timeout: 0"], b"more").answer().assert(504);
    assert_eq!(server.client().request(&session.get(), &[&session.cookie]).answer().text(), "from the guest");
    assert_eq!(guest.answer().assert(200).get("x-bytes-delivered"), Some("14"));
}

fn timeouts(setup: Setup) {
    let server = start_with(setup, |c| c.request_timeout_max = Duration::from_millis(100));
    let session = Session::new(&server);
    let mut client = server.client();
    let host = session.cookie.as_str();
    for (query, fields) in [
        ("", &["X-Timeout: 0"][..]),
        ("", &["X-Timeout: 0x"]),
        ("?timeout=0", &[]),
        ("?timeout=0s", &[]),
        ("?timeout=3000", &["X-Timeout: 0"]), // the header wins
        ("?timeout=0", &["X-Timeout: soon"]), // garbage is ignored
        ("?a=b&timeout=0", &[]),
        ("?timeout=3000", &[]), // clamped
    ] {
        for who in ["X-A: b", host] {
            for method in ["GET", "POST"] {
                let fields: Vec<&str> = fields.iter().copied().chain([who]).collect();
                let answer = client.request(&format!("{method} {}{query}", session.path), &fields).answer();
                assert_eq!(answer.assert(504).text(), "request timed out");
                assert_eq!(answer.get("content-type"), Some("text/plain"));
                match answer.get("set-cookie") {
                    Some(cookie) => {
                        assert!(who == host && cookie.starts_with(&format!("token={}; ", session.token)), "{cookie}");
                        assert!(cookie.contains(&format!("; Path={}; Max-Age=3600", session.path)), "{cookie}");
                    }
                    None => assert_ne!(who, host, "{method} {query}"),
                }
            }
        }
    }
}

fn a_connection_goes_on(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut client = server.client();
    client.request(&session.get(), &["X-Timeout: 0"]).answer().assert(504);
    client.request(&session.get(), &["X-Timeout: 0"]).answer().assert(504);
    let mut sender = server.client();
    for text in ["one", "two", "three"] {
        server.seen(|| {
            client.request(&session.get(), &[]);
        });
        sender.post(&session.path, &[&session.cookie], text.as_bytes());
        assert_eq!(client.answer().assert(200).text(), text);
        let report = sender.answer();
        assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(text.len().to_string().as_str()));
    }
    client.request("PUT /cama/session", &[]).answer().assert(201);
}

// 3: POST

fn nothing_at_all_is_a_message_too(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    for (fields, body, length) in [
        (&["Content-Length: 0", "Content-Type: a/b"][..], "", Some("0")),
        (&["Content-Type: a/b"], "", Some("0")),
        (&["Transfer-Encoding: chunked", "Content-Type: a/b"], "0\r\n\r\n", None),
    ] {
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), fields).send(body);
        let answer = receiver.answer();
        assert_eq!((answer.assert(200).text(), answer.get("content-type")), ("", Some("a/b")));
        assert_eq!((answer.get("content-length"), answer.is_chunked()), (length, length.is_none()));
        assert_eq!(sender.answer().assert(200).get("x-bytes-delivered"), Some("0"));
    }
    // And one that says nothing about its type is of no type.
    let mut receiver = session.host_waits(&server);
    server.client().post(&session.path, &[], b"x").answer().assert(200);
    assert_eq!(receiver.answer().assert(200).get("content-type"), None);
}

fn chunked_is_progressive(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked", "Content-Type: text/x"]);
    let head = receiver.head();
    assert_eq!((head.assert(200).is_chunked(), head.get("content-type")), (true, Some("text/x")));
    assert_eq!(head.get("content-length"), None);
    for word in ["each word", "arrives", "before the next one", "was sent"] {
        sender.chunk(word.as_bytes());
        let mut got = Vec::new();
        while got.len() < word.len() {
            got.extend(receiver.next_chunk().expect("a chunk").expect("not the last"));
        }
        assert_eq!(got, word.as_bytes());
    }
    assert!(sender.is_silent(MOMENT));
    sender.chunk(b"");
    assert_eq!(receiver.next_chunk().expect("the last"), None);
    let report = sender.answer();
    assert_eq!(report.assert(200).get("x-bytes-delivered"), Some("43"));
    assert_eq!((report.get("x-bytes-relayed"), report.get("content-length")), (Some("43"), Some("0")));
}

fn trailers_pass_through(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]);
    sender.send("5\r\nhello\r\n0\r\nX-Checksum: 42\r\n\r\n");
    receiver.head().assert(200);
    assert_eq!(receiver.next_chunk().expect("a chunk").expect("data"), b"hello");
    let error = receiver.next_chunk().expect_err("a trailer is no chunk");
    assert!(error.to_string().contains("X-Checksum: 42"), "{error}");
    sender.answer().assert(200);
}

fn the_body_is_asked_for_only_when_somebody_is_there(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut sender = server.client();
    let fields = ["Expect: 100-continue", "Content-Length: 5"];
    server.seen(|| {
        sender.request(&format!("POST {}", session.path), &fields);
    });
    assert!(sender.is_silent(MOMENT));
    let mut receiver = session.host_waits(&server);
    sender.head().assert(100);
    sender.send("hello");
    assert_eq!(receiver.answer().assert(200).text(), "hello");
    assert_eq!(sender.answer().assert(200).get("x-bytes-delivered"), Some("5"));
    // Nobody there: no 100, but the final word.
    sender.request(&format!("POST {}", session.path), &["Expect: 100-continue", "Content-Length: 5", "X-Timeout: 0"]);
    sender.head().assert(504);
}

fn nothing_is_read_until_somebody_is_there(setup: Setup) {
    // More than the client's and the server's socket hold.
    const TOTAL: usize = 12 << 20;
    let server = start(setup);
    let session = Session::new(&server);
    let mut sender = server.client();
    server.seen(|| {
        sender.request(&format!("POST {}", session.path), &[&format!("Content-Length: {TOTAL}")]);
    });
    let sent = push_until_stuck(&mut sender, TOTAL);
    assert!(sent < TOTAL, "it was read and kept");
    let mut receiver = session.host_waits(&server);
    let head = receiver.head();
    assert_eq!(head.assert(200).get("content-length"), Some(TOTAL.to_string().as_str()));
    exchange(sender, receiver, sent, TOTAL);
}

fn a_stalled_receiver_pushes_back(setup: Setup) {
    // More than all the sockets on the way hold. The clients' are kept small, but the system gives the server's as
    // much as it likes: 32 MiB to receive, 4 MiB to send.
    const TOTAL: usize = 40 << 20;
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &[&format!("Content-Length: {TOTAL}")]);
    receiver.head().assert(200);
    let sent = push_until_stuck(&mut sender, TOTAL);
    assert!(sent < TOTAL, "the receiver takes nothing, and yet everything was read");
    exchange(sender, receiver, sent, TOTAL);
}

/// The rest is sent while everything is received.
fn exchange(mut sender: Client, mut receiver: Client, sent: usize, total: usize) {
    let report = std::thread::spawn(move || {
        sender.send(pattern(sent, total - sent));
        sender.answer()
    });
    receive(&mut receiver, total);
    let report = report.join().expect("no panic");
    assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(total.to_string().as_str()));
}

fn a_receiver_that_left_loses_nothing(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let early = session.host_waits(&server);
    server.left(|| early.leave());
    let mut sender = server.client();
    server.seen(|| sender.post(&session.path, &[], b"for whoever comes").is_out());
    assert!(sender.is_silent(MOMENT));
    assert_eq!(session.host_waits(&server).answer().assert(200).text(), "for whoever comes");
    assert_eq!(sender.answer().assert(200).get("x-bytes-delivered"), Some("17"));
    // A sender that left is nobody to wait for either.
    let mut early = server.client();
    server.seen(|| early.post(&session.path, &[], b"too late").is_out());
    server.left(|| early.leave());
    server.client().request(&session.get(), &[&session.cookie, "X-Timeout: 0"]).answer().assert(504);
}

fn a_receiver_is_lost_in_mid_transfer(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let chunked = ["Transfer-Encoding: chunked"];
    let length = ["Content-Length: 100000000"];
    for fields in [chunked, length] {
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), &fields);
        receiver.head().assert(200);
        if fields == chunked {
            sender.chunk(b"a part of it");
            assert!(receiver.next_chunk().is_ok());
        } else {
            sender.send("a part of it");
            assert!(receiver.some(1).is_ok());
        }
        receiver.leave();
        // A receiver that closes looks like one that only has no more to say, until it is sent something.
        for part in [&b"more"[..], b"and more"] {
            let _ = if fields == chunked { sender.try_chunk(part) } else { sender.try_send(part) };
        }
        let report = sender.answer();
        let delivered: u64 = report.assert(200).get("x-bytes-delivered").expect("a count").parse().expect("a number");
        // At the least: under chunking and TLS it is rounded down.
        assert!(delivered <= 16, "{delivered}");
        if !setup.tls && fields == length {
            assert_eq!(delivered, 12, "that much was acknowledged");
        }
        assert_eq!(report.get("x-bytes-relayed").is_some(), fields == chunked);
        assert!(sender.is_closed(), "the rest has no place to go");
        // The session goes on.
        let mut receiver = session.host_waits(&server);
        server.client().post(&session.path, &[], b"again").answer().assert(200);
        assert_eq!(receiver.answer().text(), "again");
    }
}

fn a_sender_is_lost_in_mid_transfer(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]).chunk(b"a part");
    let head = receiver.head();
    assert_eq!(receiver.next_chunk().expect("a chunk").expect("data"), b"a part");
    server.left(|| sender.leave());
    assert_eq!(receiver.body(&head).expect("the terminating chunk"), b"");
    // The connection is good for another message, and the sender's place is free.
    server.seen(|| {
        receiver.request(&session.get(), &[&session.cookie]);
    });
    server.client().post(&session.path, &[], b"again").answer().assert(200);
    assert_eq!(receiver.answer().text(), "again");
    // A length that was announced can't be taken back: the connection breaks.
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Content-Length: 10"]).send("short");
    let head = receiver.head();
    assert_eq!(head.assert(200).get("content-length"), Some("10"));
    sender.leave();
    assert!(receiver.body(&head).is_err());
}

fn a_sender_is_lost_and_that_shows(setup: Setup) {
    let server = start_with(setup, |c| c.clean_when_cut = false);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]).chunk(b"a part");
    let head = receiver.head();
    assert_eq!(receiver.next_chunk().expect("a chunk").expect("data"), b"a part");
    sender.leave();
    let error = receiver.body(&head).expect_err("no terminating chunk");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error:?}");
}

fn many_messages_in_a_row(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let (mut sender, mut receiver) = (server.client(), server.client());
    let path = session.path.clone();
    let sending = std::thread::spawn(move || {
        for i in 0..200usize {
            let body = pattern(i, i * 37 % 5000);
            if i % 2 == 0 {
                sender.post(&path, &[], &body);
            } else {
                sender.request(&format!("POST {path}"), &["Transfer-Encoding: chunked"]);
                body.chunks(700).for_each(|part| {
                    sender.chunk(part);
                });
                sender.chunk(b"");
            }
            let report = sender.answer();
            assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(body.len().to_string().as_str()), "{i}");
        }
    });
    for i in 0..200usize {
        let answer = receiver.request(&session.get(), &[&session.cookie]).answer();
        assert!(answer.assert(200).body == pattern(i, i * 37 % 5000), "{i}");
    }
    sending.join().expect("no panic");
}

// 4: secure sessions

fn a_secure_session(setup: Setup) {
    let server = start(setup);
    let session = Session::with(&server, "", &["X-Type: secure"]);
    let (mut host, mut guest) = (server.client(), server.client());
    let put = format!("PUT {}", session.path);
    let no_wait = "X-Timeout: 0";
    let refused = |answer: &Answer| {
        assert_eq!(answer.assert(403).get("content-type"), Some("text/plain"));
        assert!(!answer.body.is_empty());
    };
    // Before a permission there is no guest.
    refused(&guest.request(&session.get(), &[no_wait]).answer());
    refused(&guest.request(&format!("POST {}", session.path), &[no_wait]).answer());
    host.request(&session.get(), &[&session.cookie, no_wait]).answer().assert(504);
    // Only the host gives one, and only for an address.
    refused(&guest.request(&put, &["X-Peer-Address: 127.0.0.1"]).answer());
    for bad in ["X-Peer-Address: nobody", "X-Peer-Address: 127.0.0.1:80", "X-Peer-Address: 0.0.0.0", "X-A: b"] {
        host.request(&put, &[&session.cookie, bad]).answer().assert(400);
    }
    refused(&guest.request(&session.get(), &[no_wait]).answer());
    // Given again, it replaces. A mapped address is the address it maps.
    for (ip, status) in [
        ("127.0.0.1", 504),
        ("192.0.2.1", 403),
        ("::ffff:127.0.0.1", 504),
        ("::1", 403),
        ("[::ffff:7f00:1]", 504),
        ("2001:db8::1", 403),
    ] {
        let answer = host.request(&put, &[&session.cookie, &format!("X-Peer-Address: {ip}")]).answer();
        assert_eq!(answer.assert(200).text(), "");
        guest.request(&session.get(), &[no_wait]).answer().assert(status);
        host.request(&session.get(), &[&session.cookie, no_wait]).answer().assert(504);
    }
}

fn a_basic_session_can_be_closed_to_others(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut waiting = session.guest_waits(&server);
    let mut host = server.client();
    let put = format!("PUT {}", session.path);
    host.request(&put, &[&session.cookie, "X-Peer-Address: 127.0.0.1"]).answer().assert(200);
    assert!(waiting.is_silent(MOMENT), "it was named");
    host.request(&put, &[&session.cookie, "X-Peer-Address: 192.0.2.1"]).answer().assert(200);
    waiting.answer().assert(403);
    waiting.request(&session.get(), &[]).answer().assert(403);
}

// 5: DELETE

fn deletion(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let delete = format!("DELETE {}", session.path);
    let mut client = server.client();
    client.request(&delete, &[]).answer().assert(403);
    let mut receivers = [session.host_waits(&server), session.guest_waits(&server)];
    let answer = client.request(&delete, &[&session.cookie]).answer();
    assert_eq!(answer.assert(200).text(), "");
    let cookie = answer.get("set-cookie").expect("a deletion");
    assert!(
        cookie.starts_with("token=") && cookie.contains(&format!("; Path={}; Max-Age=0", session.path)),
        "{cookie}"
    );
    let expires = cookie.split_once("Expires=").and_then(|(_, rest)| rest.split(';').next());
    assert_eq!(expires, answer.get("date"));
    for receiver in &mut receivers {
        receiver.answer().assert(410);
        // The connection goes on, the session does not.
        receiver.request(&session.get(), &[&session.cookie]).answer().assert(404);
    }
    client.request(&delete, &[&session.cookie]).answer().assert(404);
    client.request(&format!("PUT {}", session.path), &[&session.cookie]).answer().assert(404);

    // Those that wait to send are told as well.
    let session = Session::new(&server);
    let (mut host, mut guest) = (server.client(), server.client());
    server.seen(|| host.post(&session.path, &[&session.cookie], b"unheard").is_out());
    server.seen(|| guest.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]).is_out());
    client.request(&format!("DELETE {}", session.path), &[&session.cookie]).answer().assert(200);
    host.answer().assert(410);
    guest.answer().assert(410);
}

fn deletion_in_mid_transfer(setup: Setup) {
    let server = start(setup);
    for fields in [["Transfer-Encoding: chunked"], ["Content-Length: 1000"]] {
        let session = Session::new(&server);
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), &fields).chunk(b"a part");
        let head = receiver.head();
        match head.is_chunked() {
            true => assert!(receiver.next_chunk().is_ok()),
            false => assert!(receiver.some(1).is_ok()),
        }
        let mut other = session.host_waits(&server);
        server.client().request(&format!("DELETE {}", session.path), &[&session.cookie]).answer().assert(200);
        sender.answer().assert(410);
        other.answer().assert(410);
        assert!(sender.is_closed());
        // What the receiver has is not the whole: as if the sender had been lost.
        match receiver.body(&head) {
            Ok(_) => assert!(head.is_chunked()),
            Err(error) => assert!(!head.is_chunked(), "{error}"),
        }
    }
}

// 6: lifetime

fn expiry(setup: Setup) {
    // Long enough for a busy machine to answer within it. (What counts when is told on a virtual clock in `state`.)
    let ttl = Duration::from_millis(700);
    let server = start_with(setup, |c| c.ttl = ttl);
    let (mut client, mut receiver) = (server.client(), server.client());
    client.request("GET /", &[]).answer().assert(404);
    receiver.request("GET /", &[]).answer().assert(404);
    let session = Session::new(&server);
    // While somebody is connected, time stands still; and starts again, in full.
    server.seen(|| {
        receiver.request(&session.get(), &[]);
    });
    assert!(receiver.is_silent(ttl + ttl / 2));
    server.left(|| receiver.leave());
    client.request(&session.get(), &["X-Timeout: 0"]).answer().assert(504);
    assert!(client.is_silent(ttl + ttl / 2));
    let answer = client.request(&session.get(), &[&session.cookie]).answer();
    assert_eq!(answer.assert(404).text(), "");
    assert!(answer.get("set-cookie").expect("a deletion").starts_with("token=;"));
}

fn an_end_to_everything(setup: Setup) {
    let server = start_with(setup, |c| c.lifetime = Duration::from_millis(250));
    let session = Session::new(&server);
    let mut waiting = [session.host_waits(&server), session.guest_waits(&server)];
    for client in &mut waiting {
        client.answer().assert(410);
    }
    server.client().request(&session.get(), &[]).answer().assert(404);
    // A message on its way is cut off.
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Content-Length: 1000"]).send("a part");
    let head = receiver.head();
    sender.answer().assert(410);
    assert!(receiver.body(&head).is_err());
}

// Limits, browsers, and the rest

fn messages_have_a_limit(setup: Setup) {
    let server = start_with(setup, |c| c.body = 1000);
    let session = Session::new(&server);
    let mut sender = server.client();
    let expect = ["Expect: 100-continue", "Content-Length: 1001"];
    sender.request(&format!("POST {}", session.path), &expect).answer().assert(413);
    // A chunked one shows it only on its way.
    let mut receiver = session.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", session.path), &["Transfer-Encoding: chunked"]);
    let head = receiver.head();
    sender.chunk(&[b'x'; 999]);
    let mut got = 0;
    while got < 999 {
        got += receiver.next_chunk().expect("a chunk").expect("data").len();
    }
    sender.chunk(b"yz");
    sender.answer().assert(413);
    assert!(receiver.body(&head).is_ok_and(|rest| rest.len() <= 1));
    // Just as much as is allowed.
    for fields in [["Transfer-Encoding: chunked"], ["Content-Length: 1000"]] {
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        sender.request(&format!("POST {}", session.path), &fields);
        match fields[0] {
            "Content-Length: 1000" => sender.send([b'x'; 1000]),
            _ => sender.chunk(&[b'x'; 1000]).chunk(b""),
        };
        assert_eq!(receiver.answer().assert(200).body.len(), 1000);
        assert_eq!(sender.answer().assert(200).get("x-bytes-delivered"), Some("1000"));
    }
}

fn stopping(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut waiting = [session.host_waits(&server), session.guest_waits(&server)];
    let other = Session::new(&server);
    let mut receiver = other.host_waits(&server);
    let mut sender = server.client();
    sender.request(&format!("POST {}", other.path), &["Content-Length: 10"]).send("hello");
    let head = receiver.head();
    server.stopper.graceful(Duration::from_secs(10));
    for client in &mut waiting {
        let answer = client.answer();
        assert!(answer.assert(503).get("retry-after").is_some());
    }
    // What was on its way arrives.
    sender.send("world");
    assert_eq!(receiver.body(&head).expect("whole"), b"helloworld");
    assert_eq!(sender.answer().assert(200).get("x-bytes-delivered"), Some("10"));
}

impl Client {
    /// Ends a chain: the request is out, its answer is for later.
    fn is_out(&mut self) {}
}

#[test]
fn expiry_plain() {
    expiry(PLAIN_1);
}

#[test]
fn expiry_tls() {
    expiry(Setup { tls: true, threads: 2 });
}

#[test]
fn allocations_have_a_rate() {
    let server = start_with(PLAIN_1, |c| (c.allocations_per_minute, c.allocation_burst) = (1, 3));
    let mut client = server.client();
    for _ in 0..3 {
        client.request("PUT /cama/session", &[]).answer().assert(201);
    }
    let answer = client.request("PUT /cama/session", &[]).answer();
    let after: u64 = answer.assert(429).get("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=60).contains(&after) && !answer.text().is_empty());
}

#[test]
fn sessions_have_a_limit_for_each_address_and_in_all() {
    let server = start_with(PLAIN_1, |c| c.sessions_per_address = 2);
    let first = Session::new(&server);
    Session::new(&server);
    let mut client = server.client();
    assert!(client.request("PUT /cama/session", &[]).answer().assert(429).get("retry-after").is_some());
    client.request(&format!("DELETE {}", first.path), &[&first.cookie]).answer().assert(200);
    client.request("PUT /cama/session", &[]).answer().assert(201);

    let server = start_with(PLAIN_1, |c| c.sessions = 1);
    let first = Session::new(&server);
    let mut client = server.client();
    assert!(client.request("PUT /cama/session", &[]).answer().assert(503).get("retry-after").is_some());
    client.request(&format!("DELETE {}", first.path), &[&first.cookie]).answer().assert(200);
    client.request("PUT /cama/session", &[]).answer().assert(201);
}

#[test]
fn cors_is_off_until_it_is_asked_for() {
    let server = start(PLAIN_1);
    let answer = server.client().request("PUT /cama/session", &["Origin: https://example.org"]).answer();
    assert!(answer.assert(201).fields.iter().all(|(name, _)| !name.to_lowercase().starts_with("access-control")));

    let server = start_with(PLAIN_1, |c| c.allow_origins = vec!["https://example.org".into()]);
    let mut client = server.client();
    let preflight = ["Origin: https://example.org", "Access-Control-Request-Method: PUT"];
    let answer = client.request("OPTIONS /cama/session", &preflight).answer();
    assert_eq!(answer.assert(204).get("access-control-allow-origin"), Some("https://example.org"));
    assert_eq!(answer.get("access-control-allow-methods"), Some("PUT"));
    assert_eq!(answer.get("access-control-allow-credentials"), Some("true"));
    let session = Session::new(&server);
    // Answers that come later carry it too.
    let answer = client.request(&session.get(), &["Origin: https://example.org", "X-Timeout: 0"]).answer();
    assert_eq!(answer.assert(504).get("access-control-allow-origin"), Some("https://example.org"));
    assert_eq!(answer.get("vary"), Some("Origin"));
    // Another origin gets nothing, and no answer may be kept for it.
    for stranger in ["Origin: https://example.com", "Origin: null", "X-A: b"] {
        let answer = client.request(&session.get(), &[stranger, "X-Timeout: 0"]).answer();
        assert_eq!((answer.get("access-control-allow-origin"), answer.get("vary")), (None, Some("Origin")));
        let preflight = [stranger, "Access-Control-Request-Method: PUT"];
        client.request("OPTIONS /cama/session", &preflight).answer().assert(405);
    }

    let server = start_with(PLAIN_1, |c| c.allow_origins = vec!["*".into()]);
    let answer = server.client().request("PUT /cama/session", &["Origin: https://example.com"]).answer();
    assert_eq!(answer.assert(201).get("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.get("access-control-allow-credentials"), None);
}

#[test]
fn a_browser_does_not_run_what_it_receives() {
    let server = start(PLAIN_1);
    let session = Session::new(&server);
    let mut receiver = session.host_waits(&server);
    server.client().post(&session.path, &["Content-Type: text/html"], b"<script>").answer().assert(200);
    let answer = receiver.answer();
    assert_eq!(answer.get("content-type"), Some("text/html"), "the contract");
    assert_eq!(answer.get("content-security-policy"), Some("sandbox"));
    assert_eq!(answer.get("cache-control"), Some("no-store"));
    receiver.request(&session.get(), &["Service-Worker: script"]).answer().assert(400);
}

#[test]
fn another_base_path_and_another_name() {
    let server = start_with(PLAIN_1, |c| (c.base_path, c.server) = ("/a/b/".into(), String::new()));
    let mut client = server.client();
    let answer = client.request("PUT /a/b/session", &[]).answer();
    assert!(answer.assert(201).get("location").is_some_and(|path| path.starts_with("/a/b/session/")));
    assert_eq!(answer.get("server"), None);
    client.request("PUT /cama/session", &[]).answer().assert(404);
}

#[test]
fn a_thread_for_each_connection() {
    for tls in [false, true] {
        let server = start(Setup { tls, threads: 0 });
        let session = Session::new(&server);
        let mut receiver = session.host_waits(&server);
        let mut sender = server.client();
        let body = pattern(0, 3 << 20);
        let sending = std::thread::spawn({
            let (path, body) = (session.path.clone(), body.clone());
            move || sender.post(&path, &[], &body).answer()
        });
        assert!(receiver.answer().assert(200).body == body);
        let report = sending.join().expect("no panic");
        assert_eq!(report.assert(200).get("x-bytes-delivered"), Some(body.len().to_string().as_str()));
        receiver.request(&session.get(), &["X-Timeout: 0"]).answer().assert(504);
    }
}

#[test]
fn both_ends_leave_and_come_back_without_end() {
    // Two loops, four clients that each leave whenever they like: whatever happens, the session must stay usable.
    let server = start(Setup { tls: false, threads: 2 });
    let session = Session::new(&server);
    std::thread::scope(|scope| {
        for who in 0..4usize {
            let (server, session) = (&server, &session);
            scope.spawn(move || {
                for i in 0..60usize {
                    let mut client = server.client();
                    let cookie = if who % 2 == 0 { session.cookie.as_str() } else { "X-A: b" };
                    if who < 2 {
                        client.request(&session.get(), &[cookie]);
                    } else {
                        let _ = client.request(&format!("POST {}", session.path), &[cookie, "Content-Length: 70000"]);
                        let _ = client.try_send(pattern(0, if i % 3 == 0 { 70_000 } else { 30_000 }));
                    }
                    if i % 5 == 4 {
                        let _ = client.is_silent(Duration::from_millis(2));
                    }
                    client.leave();
                }
            });
        }
    });
    for side in [session.cookie.as_str(), "X-A: b"] {
        let other = if side == "X-A: b" { session.cookie.as_str() } else { "X-A: b" };
        // Places of those who left become free as their ends are noticed, which is at once; but we are not told when.
        let report = loop {
            let answer = server.client().post(&session.path, &[side, "X-Timeout: 0"], b"").answer();
            if answer.status == 504 {
                break answer;
            }
            assert!([409, 200].contains(&answer.status), "{answer:?}");
        };
        assert_eq!(report.text(), "request timed out");
        let (mut sender, mut receiver) = (server.client(), session.waits(&server, &[other]));
        sender.post(&session.path, &[side], b"still here");
        assert_eq!(receiver.answer().assert(200).text(), "still here");
        assert_eq!(sender.answer().assert(200).get("x-bytes-delivered"), Some("10"));
    }
}
