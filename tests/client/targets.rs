//! The targets of requests: names, addresses, Unix sockets, redirects.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use uncork::client::{Client, Error, Request};

use crate::scripted::{Peer, Scripted, TIMEOUT, ok};

#[test]
fn redirects_are_followed_if_allowed() {
    let script = |_, mut peer: Peer| {
        while let Some(received) = peer.request() {
            let (path, body) = (received.line().to_owned(), String::from_utf8(received.body.clone()).expect("text"));
            let to = |status: u16, to: &str| {
                format!("HTTP/1.1 {status} x\r\nLocation: {to}\r\nContent-Length: 3\r\n\r\nabc")
            };
            let response = match path.split(' ').nth(1).expect("a target") {
                "/a" => to(302, "b/../c?x"),
                "/c?x" => to(307, "/d#frag"),
                "/loop" => to(301, "/loop"),
                "/bad" => to(301, "ftp://x/"),
                "/raw" => to(302, "/caf\u{e9} noir?q=\u{e9}"),
                "/control" => to(302, "/a\tb"),
                "/two" => "HTTP/1.1 302 x\r\nLocation: /d\r\nLocation: /d\r\nContent-Length: 0\r\n\r\n".to_owned(),
                "/none" => "HTTP/1.1 302 x\r\nContent-Length: 0\r\n\r\n".to_owned(),
                _ => {
                    ok(&format!("{path} {body} {:?} {:?}", received.get("authorization"), received.get("content-type")))
                }
            };
            peer.send(response);
        }
    };
    // One connection, and another after each error.
    let server = Scripted::new(6, script);
    let client = Client::new();
    let call = |method: &str, path: &str, n| {
        let request = Request::new(method, &server.url(path))
            .header("Authorization", "x")
            .header("Content-Type", "t")
            .body("body");
        client
            .call_blocking(request.max_redirects(n))
            .map(|response| (response.status, String::from_utf8(response.body).expect("text")))
    };
    assert_eq!(call("GET", "/a", 0).map(|a| a.0), Ok(302));
    assert_eq!(call("PUT", "/a", 2), Ok((200, "PUT /d HTTP/1.1 body Some(\"x\") Some(\"t\")".into())));
    assert_eq!(call("POST", "/a", 2), Ok((200, "GET /d HTTP/1.1  Some(\"x\") None".into())));
    assert!(matches!(call("GET", "/a", 1), Err(Error::Redirect(_))));
    assert!(matches!(call("GET", "/loop", 20), Err(Error::Redirect(_))));
    assert!(matches!(call("GET", "/bad", 1), Err(Error::Redirect("unknown scheme: expected http or https"))));
    assert!(matches!(call("GET", "/control", 1), Err(Error::Redirect("it has a control byte"))));
    // An unencoded Location is encoded.
    let raw = "GET /caf%C3%A9%20noir?q=%C3%A9 HTTP/1.1 body Some(\"x\") Some(\"t\")";
    assert_eq!(call("GET", "/raw", 1), Ok((200, raw.into())));
    assert_eq!(call("GET", "/two", 1).err(), Some(Error::Redirect("several Location fields")));
    assert_eq!(call("GET", "/two", 0).map(|a| a.0), Ok(302));
    assert_eq!(call("GET", "/none", 1).map(|a| a.0), Ok(302));
    // To another origin, without private fields.
    let other = Scripted::new(1, script);
    let target = other.url("/there");
    let redirecting = Scripted::new(1, move |_, mut peer| {
        peer.respond(format!("HTTP/1.1 308 x\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"));
    });
    let request = Request::get(&redirecting.url("/"))
        .header("Authorization", "x")
        .header("Cookie", "y")
        .header("Content-Type", "t");
    let response = client.call_blocking(request.max_redirects(1)).expect("a response");
    assert_eq!(String::from_utf8(response.body).expect("text"), "GET /there HTTP/1.1  None Some(\"t\")");
    drop(client);
    assert_eq!((server.join(), other.join(), redirecting.join()), (6, 1, 1));
}

#[test]
fn names_are_resolved() {
    let server = Scripted::new(1, |_, mut peer| {
        let received = peer.request().expect("a request");
        peer.send(ok(received.get("host").expect("Host")));
    });
    let url = format!("http://LocalHost:{}/", server.addr.port());
    let response = Client::new().call_blocking(Request::get(&url)).expect("a response");
    assert_eq!(String::from_utf8(response.body).expect("text"), format!("localhost:{}", server.addr.port()));
    server.join();
    let start = Instant::now();
    let result = Client::new()
        .call_blocking(Request::get("http://no-such-host.invalid/").connect_timeout(Duration::from_secs(15)));
    assert!(matches!(result, Err(Error::Resolve { .. } | Error::TimedOut(_))), "{result:?}");
    assert!(start.elapsed() < TIMEOUT);
}

/// The zone selects the interface; it is not sent to the server.
#[test]
fn an_address_has_a_zone() {
    use std::{io::Write, net::TcpListener};
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = String::new();
            let mut lines = std::io::BufReader::new(&stream);
            while !head.ends_with("\r\n\r\n") {
                assert!(std::io::BufRead::read_line(&mut lines, &mut head).expect("a line") > 0);
            }
            stream.write_all(ok("x").as_bytes()).expect("written");
            heads.push(head);
        }
        heads
    });
    let loopback = if cfg!(target_os = "linux") { "lo" } else { "lo0" };
    for zone in [format!("%{loopback}"), format!("%25{loopback}")] {
        let request = Request::get(&format!("http://[::1{zone}]:{port}/")).fresh();
        assert_eq!(Client::new().call_blocking(request).expect("a response").status, 200, "{zone}");
    }
    for head in server.join().expect("heads") {
        assert!(head.contains(&format!("Host: [::1]:{port}\r\n")), "{head}");
    }
    let result = Client::new().call_blocking(Request::get(&format!("http://[::1%no-such]:{port}/")));
    assert!(matches!(result, Err(Error::Resolve { .. })), "{result:?}");
}

#[test]
fn requests_over_a_unix_socket() {
    use std::{io::Write, os::unix::net::UnixListener};
    let dir = std::env::temp_dir().join(format!("uncork-client-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("socket");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("bound");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = [0; 64];
        let n = stream.read(&mut head).expect("a head");
        stream.write_all(ok("unix").as_bytes()).expect("sent");
        String::from_utf8(head[..n].to_vec()).expect("text")
    });
    let client = Client::new();
    let response =
        client.call_blocking(Request::get("http://some.host/x").unix(&path).authority("other:1")).expect("a response");
    assert_eq!(response.body, b"unix");
    assert_eq!(server.join().expect("served"), "GET /x HTTP/1.1\r\nHost: other:1\r\n\r\n");
    let result = client.call_blocking(Request::get("http://x/").unix(dir.join("missing")));
    assert!(matches!(result, Err(Error::Connect { .. })), "{result:?}");
    std::fs::remove_dir_all(&dir).expect("removed");
}
