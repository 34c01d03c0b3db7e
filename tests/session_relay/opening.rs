//! `PUT <base>/session`: opening a session, and requests for unknown sessions.

use super::*;

pub(crate) fn allocation(setup: Setup) {
    let server = start(setup);
    let response = server.client().request("PUT /cama/session", &[]).response();
    response.assert(201);
    assert_eq!(response.get("server"), Some("cama/1"));
    assert_eq!(response.get("x-type"), Some("basic"));
    assert_eq!(response.get("content-length"), Some("0"));
    let path = response.get("location").expect("a location");
    let id = path.strip_prefix("/cama/session/").expect("the path only, no host");
    assert!(id.len() >= 22 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{id}");

    let cookie = response.get("set-cookie").expect("a cookie");
    let parts: Vec<&str> = cookie.split("; ").collect();
    let [token, expires, cookie_path, age, http_only, rest @ ..] = &parts[..] else { panic!("{cookie}") };
    assert!(token.strip_prefix("token=").expect("a token").len() >= 22, "{token}");
    assert_eq!((*cookie_path, *age, *http_only), (format!("Path={path}").as_str(), "Max-Age=3600", "HttpOnly"));
    assert_eq!(rest, if setup.tls { &["Secure"][..] } else { &[] });
    let expires = expires.strip_prefix("Expires=").expect("a date");
    let (date, expires) =
        (response.get("date").expect("a date"), httpdate::parse_http_date(expires).expect("IMF, GMT"));
    let lasts = expires.duration_since(httpdate::parse_http_date(date).expect("a date")).expect("the future");
    assert!((3598..=3602).contains(&lasts.as_secs()), "{lasts:?}");

    // The next one is different; and a body is ignored.
    let mut client = server.client();
    let length = ["Content-Length: 5"];
    let other = client.request("PUT /cama/session/", &length).send("hello").response();
    assert_ne!(other.assert(201).get("location"), Some(path));
    assert_ne!(token, &other.get("set-cookie").expect("a cookie").split(';').next().expect("one"));
}

pub(crate) fn allocation_chooses_type_and_time(setup: Setup) {
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
        let response = client.request(&format!("PUT /cama/session{query}"), &[field]).response();
        assert_eq!(response.assert(201).get("x-type"), Some(kind), "{query} {field}");
        assert_eq!(seconds(response.get("set-cookie").expect("a cookie")), age, "{query}");
    }
}

/// RFC 9110 §14.5; with POST the field has no meaning.
pub(crate) fn a_part_is_rejected(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut client = server.client();
    let range = "Content-Range: bytes 0-4/10";
    client.request("PUT /cama/session", &[range, "Content-Length: 0"]).response().assert(400);
    let put = format!("PUT {}", session.path);
    client.request(&put, &[&session.cookie, range, "X-Peer-Address: 192.0.2.1"]).response().assert(400);
    let mut receiver = session.host_waits(&server);
    client.post(&session.path, &[range], b"hello").response().assert(200);
    assert_eq!(receiver.response().assert(200).text(), "hello");
}

pub(crate) fn what_is_not_there(setup: Setup) {
    let server = start(setup);
    let mut client = server.client();
    for path in ["/", "/cama", "/cama/", "/cama/x", "/camax", "/cama/sessions", "/cama/session/a/b", "/session"] {
        for method in ["GET", "PUT", "DELETE"] {
            let response = client.request(&format!("{method} {path}"), &[]).response();
            assert_eq!((response.status, response.text()), (404, ""), "{method} {path}");
        }
    }
}

pub(crate) fn other_methods(setup: Setup) {
    let server = start(setup);
    let session = Session::new(&server);
    let mut client = server.client();
    for path in ["/cama/session", "/cama/session/"] {
        for method in ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "put", "HEAD"] {
            let response = client.request(&format!("{method} {path}"), &[]).head();
            assert_eq!(response.assert(405).get("allow"), Some("PUT"), "{method}");
            assert_eq!(response.get("content-length"), Some("0"), "{method}");
        }
    }
    for method in ["PATCH", "HEAD", "OPTIONS", "get"] {
        let response = client.request(&format!("{method} {}", session.path), &[]).head();
        assert_eq!(response.assert(405).get("allow"), Some("GET, POST, PUT, DELETE"), "{method}");
        assert_eq!(response.get("content-length"), Some("0"), "{method}");
    }
}
