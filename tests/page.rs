//! The relay's page, and the measures that keep the downloads beside it from being pages, without a browser.
//! `tests/interop/browser` tests the page in a real one.

use std::time::Duration;

use uncork::{
    Request, Response, Running, Server,
    relay::{Rendezvous, RendezvousConfig},
};

#[path = "support/client.rs"]
#[allow(dead_code)] // the relays' tests use the rest
mod client;
// The module's unit tests run here, too.
#[path = "../examples/relay/page/mod.rs"]
mod page;

use client::{Client, TestResponse};
use page::{Page, PageConfig};

const HTML: &str = "Accept: text/html,*/*;q=0.8";

struct Site(Running);

impl Site {
    fn start() -> Self {
        let config = RendezvousConfig { ttl_max: Duration::from_secs(2), ..RendezvousConfig::default() };
        let page = PageConfig {
            rendezvous: Some(String::new()),
            ttl: config.ttl,
            link: config.ttl_max,
            sessions: Some("/cama".to_owned()),
        };
        let (page, rendezvous) = (Page::new(page), Rendezvous::new(config).expect("a good one"));
        let site = move |req: &mut Request<'_>| page.respond(req).unwrap_or_else(|| rendezvous.handle(req));
        Self(Server::bind("127.0.0.1:0").expect("bound").threads(2, site).expect("started"))
    }

    fn client(&self) -> Client {
        Client::connect(self.0.local_addr().expect("an address"), None)
    }

    #[track_caller]
    fn request(&self, line: &str, fields: &[&str]) -> TestResponse {
        let mut client = self.client();
        client.request(line, fields);
        if line.starts_with("HEAD ") { client.head() } else { client.response() }
    }

    #[track_caller]
    fn post(&self, path: &str, body: &str) -> TestResponse {
        self.client().post(path, &[], body.as_bytes()).response()
    }

    /// Creates a stream. Returns its path.
    #[track_caller]
    fn stream(&self, options: &str) -> String {
        let created = self.post("/stream", options);
        let id = created.assert(201).text().split('"').nth(3).expect("an id").to_owned();
        format!("/stream/{id}")
    }

    /// Transfers a body. Returns the responses to receiver and sender.
    #[track_caller]
    fn transfer(&self, path: &str, body: &[u8]) -> (TestResponse, TestResponse) {
        let (mut receiver, mut sender) = (self.client(), self.client());
        receiver.request(&format!("GET {path}"), &[]);
        sender.request(&format!("PUT {path}"), &[&format!("Content-Length: {}", body.len())]).send(body);
        (receiver.response(), sender.response())
    }
}

#[test]
fn the_page_runs_nothing_but_itself() {
    let site = Site::start();
    let page = site.request("GET /", &[HTML]);
    assert!(page.assert(200).text().starts_with("<!DOCTYPE html>"));
    let policy = page.get("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
        ("vary", "Accept"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(page.get(name), Some(value), "{name}");
    }
    let head = site.request("HEAD /", &[HTML]);
    assert_eq!((head.status, head.get("content-length")), (200, page.get("content-length")));
    assert_eq!(site.request("GET /?x=<script>alert(1)</script>", &[HTML]).text(), page.text(), "nothing is reflected");
    assert_eq!(site.request("POST /", &["Content-Length: 0"]).assert(405).get("allow"), Some("GET, HEAD"));
}

#[test]
fn who_has_it_need_not_get_it_again() {
    let site = Site::start();
    let page = site.request("GET /", &[HTML]);
    let etag = page.get("etag").expect("a tag");
    for (field, status) in [("If-Match: \"x\"".to_owned(), 412), (format!("If-Match: {etag}"), 200)] {
        assert_eq!(site.request("GET /", &[HTML, &field]).status, status, "{field}");
    }
    for known in [etag.to_owned(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let again = site.request("GET /", &[HTML, &format!("If-None-Match: {known}")]);
        assert_eq!((again.status, again.get("etag"), again.body.len()), (304, Some(etag), 0), "{known}");
        assert!(again.get("content-security-policy").is_some(), "a cache would take the new one");
    }
    site.request("GET /", &[HTML, "If-None-Match: \"x\""]).assert(200);
}

#[test]
fn it_speaks_of_what_there_is_now() {
    let config = |base: &str| PageConfig {
        rendezvous: Some(base.to_owned()),
        ttl: Duration::from_secs(60),
        link: Duration::from_secs(600),
        sessions: None,
    };
    let page = Page::new(config("/old"));
    let clone = page.clone();
    let site = move |req: &mut Request<'_>| clone.respond(req).unwrap_or_else(|| Response::new(404).into());
    let site = Site(Server::bind("127.0.0.1:0").expect("bound").threads(1, site).expect("started"));
    let old = site.request("GET /", &[HTML]);
    assert!(old.assert(200).text().contains("data-stream=\"/old/stream\""));
    page.reconfigure(config("/new"));
    let tag = format!("If-None-Match: {}", old.get("etag").expect("a tag"));
    assert!(site.request("GET /", &[HTML, &tag]).assert(200).text().contains("data-stream=\"/new/stream\""));
}

#[test]
fn a_terminal_gets_lines_for_a_terminal() {
    let site = Site::start();
    for accept in ["Accept: */*", "X: no Accept"] {
        let usage = site.request("GET /", &[accept]);
        assert_eq!(usage.get("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!((usage.get("vary"), usage.get("x-content-type-options")), (Some("Accept"), Some("nosniff")));
        assert!(usage.text().contains("/stream | cut") && usage.text().contains("$U/cama/session"), "{}", usage.text());
    }
    let mut client = site.client();
    client.send("GET / HTTP/1.1\r\nHost: relay.example:81\r\n\r\n");
    assert!(client.response().text().contains("curl -s -X POST http://relay.example:81/stream |"));
    client.send("GET / HTTP/1.1\r\nHost: $(reboot)\r\n\r\n");
    assert!(!client.response().text().contains("reboot"), "it is pasted into a shell");
}

#[test]
fn a_code_is_drawn_of_links_to_this_page_only() {
    let site = Site::start();
    let here = format!("http://{}/#file=abc", site.0.local_addr().expect("an address"));
    let mut client = site.client();
    let host = format!("Host: {}", site.0.local_addr().expect("an address"));
    client.send(format!("POST /qr HTTP/1.1\r\n{host}\r\nContent-Length: {}\r\n\r\n{here}", here.len()));
    let code = client.response();
    assert!(code.assert(200).text().contains("<svg"));
    assert_eq!(code.get("content-type"), Some("image/svg+xml"));
    assert_eq!(code.get("content-security-policy"), Some("default-src 'none'; sandbox"));
    assert_eq!((code.get("cache-control"), code.get("x-content-type-options")), (Some("no-store"), Some("nosniff")));
    site.post("/qr", "https://elsewhere.example/").assert(400);
    site.post("/qr", "").assert(400);
    site.post("/qr", &"x".repeat(301)).assert(413);
    let mut client = site.client();
    client.request("POST /qr", &["Transfer-Encoding: chunked"]).chunk(&[b'x'; 200]).chunk(&[b'x'; 200]);
    client.head().assert(413);
    assert_eq!(site.request("GET /qr?text=http://localhost/", &[]).assert(405).get("allow"), Some("POST"));
}

#[test]
fn what_else_there_is() {
    let site = Site::start();
    assert_eq!(site.request("GET /favicon.svg", &[]).assert(200).get("content-type"), Some("image/svg+xml"));
    assert!(site.request("GET /robots.txt", &[]).assert(200).text().contains("Disallow: /"));
    assert_eq!(site.request("GET /ping", &[]).assert(200).text(), "pong", "the rest");
    site.request("GET /nothing", &[]).assert(404);
    // Fields that claim to be the page's.
    for path in page::PATHS {
        assert_ne!(site.request(&format!("GET {path}"), &[]).status, 404, "{path}");
    }
}

#[test]
fn nothing_becomes_a_service_worker() {
    let site = Site::start();
    let stream = site.stream("{\"download_headers\":{\"Content-Type\":\"text/javascript\"}}");
    for path in ["/", "/favicon.svg", "/nothing", &stream] {
        site.request(&format!("GET {path}"), &["Service-Worker: script"]).assert(403);
    }
    let (download, _) = site.transfer(&stream, b"x");
    assert_eq!(download.assert(200).text(), "x", "the stream is unchanged");
}

#[test]
fn no_creator_makes_a_page_of_a_download() {
    let site = Site::start();
    let hostile = r#"{"Content-Type":"text/html","Content-Disposition":"inline; filename=\"a.html\"",
        "Content-Security-Policy":"default-src *","X-Content-Type-Options":"x","Set-Cookie":"a=b","Refresh":"0;url=/",
        "Service-Worker-Allowed":"/","X-Accel-Redirect":"/private","Clear-Site-Data":"\"*\"","X-Own":"mine"}"#;
    let stream = site.stream(&format!("{{\"download_headers\":{hostile},\"upload_headers\":{hostile}}}"));
    let (download, upload) = site.transfer(&stream, b"<script>alert(1)</script>");
    assert_eq!(download.assert(200).text(), "<script>alert(1)</script>");
    for (name, value) in [
        ("content-type", Some("application/octet-stream")),
        ("content-disposition", Some("attachment; filename=\"a.html\"")),
        ("content-security-policy", Some("sandbox")),
        ("x-content-type-options", Some("nosniff")),
        ("cache-control", Some("no-store")),
        ("x-own", Some("mine")),
        ("set-cookie", None),
        ("refresh", None),
        ("service-worker-allowed", None),
        ("x-accel-redirect", None),
        ("clear-site-data", None),
    ] {
        assert_eq!(download.get(name), value, "{name}");
        assert!(download.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).count() < 2, "{name}");
    }
    assert_eq!(upload.assert(200).get("x-own"), Some("mine"));
    assert!(upload.get("x-accel-redirect").is_none() && upload.get("set-cookie").is_none());
}

#[test]
fn a_stream_that_asks_for_nothing_is_an_attachment_too() {
    let site = Site::start();
    let (download, _) = site.transfer(&site.stream(""), b"<!doctype html>");
    assert_eq!(download.assert(200).get("content-type"), Some("application/octet-stream"));
    assert_eq!(download.get("content-disposition"), Some("attachment"));
}

/// The page reports by a second stream that its link was opened. `tests/browser` has the rest.
#[test]
fn the_opening_of_a_link_is_a_message_without_content() {
    let site = Site::start();
    let notice = site.stream("");
    let id = notice.rsplit('/').next().expect("an id");
    let stream = site.stream(&format!("{{\"upload_headers\":{{\"X-Opened-Stream\":\"{id}\"}}}}"));
    // The receiver's page finds it; the download does not have it.
    let status = site.request(&format!("GET {stream}/status"), &[]);
    assert!(
        status.text().contains(&format!("\"upload_headers\":{{\"X-Opened-Stream\":\"{id}\"}}")),
        "{}",
        status.text()
    );
    let (mut sender, mut receiver) = (site.client(), site.client());
    sender.request(&format!("GET {notice}"), &[]);
    receiver.request(&format!("PUT {notice}"), &["Content-Length: 0"]);
    assert_eq!((receiver.response().status, sender.response().assert(200).body.len()), (200, 0));
    // Opened again: the sender knows already.
    site.request(&format!("PUT {notice}"), &["Content-Length: 0"]).assert(404);
    let (download, _) = site.transfer(&stream, b"x");
    assert!(download.assert(200).get("x-opened-stream").is_none());
}

#[test]
fn a_sender_is_told_what_a_relay_is() {
    let site = Site::start();
    let page = site.request("GET /", &[HTML]);
    for text in ["passes through this relay, which stores nothing", "operator could read it", "on this computer only"] {
        assert!(page.assert(200).text().contains(text), "{text}");
    }
    assert!(!page.text().contains("directly"), "{}", page.text());
}

#[test]
fn a_link_can_be_good_for_longer_or_shorter() {
    let site = Site::start();
    let created = site.post("/stream?strict=1&ttl=1", "");
    let id = created.assert(201).text().split('"').nth(3).expect("an id").to_owned();
    site.request(&format!("GET /stream/{id}"), &[]).assert(504);
    let status = site.request(&format!("GET /stream/{id}/status"), &[]);
    assert!(status.text().contains("\"state\":\"TIMEOUT_NO_SRC\""), "{}", status.text());
    for bad in ["0", "-1", "x", "", "1.5"] {
        assert!(site.post(&format!("/stream?ttl={bad}"), "").assert(400).text().contains("InvalidQueryError"), "{bad}");
    }
    // The maximum.
    site.post("/stream?ttl=18446744073709551615", "").assert(201);
}
