//! `fileserver`: listings, types, ranges, conditions, and no way out of the root.

use super::*;

pub(super) fn fileserver_serves(setup: Setup) {
    let dir = Dir::new();
    let large = noise(3 << 20);
    dir.file("page.html", "<h1>A page</h1>");
    dir.file("data.bin", &large);
    dir.file("with index/index.html", "the index");
    dir.file("empty", "");
    let files = Example::start("fileserver", setup, &["--root", dir.0.to_str().expect("text")]);
    let mut client = files.client();

    let page = client.request("GET /page.html", &[]).response();
    assert_eq!((page.assert(200).text(), page.get("content-length")), ("<h1>A page</h1>", Some("15")));
    assert_eq!(page.get("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.get("last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
    assert_eq!((page.get("accept-ranges"), page.get("x-content-type-options")), (Some("bytes"), Some("nosniff")));
    let head = client.request("HEAD /page.html", &[]).head();
    assert_eq!((head.get("etag"), head.get("content-length")), (page.get("etag"), Some("15")));

    let data = client.request("GET /data.bin", &[]).response();
    assert_eq!(data.assert(200).get("content-type"), Some("application/octet-stream"));
    assert!(data.body == large);
    let part = client.request("GET /data.bin", &["Range: bytes=1000000-2999999"]).response();
    assert_eq!(part.assert(206).get("content-range"), Some("bytes 1000000-2999999/3145728"));
    assert!(part.body == large[1_000_000..3_000_000]);
    assert_eq!(client.request("GET /empty", &[]).response().assert(200).body, b"");
    assert_eq!(client.request("GET /with%20index/", &[]).response().assert(200).text(), "the index");
    files.stop();
}

#[test]
fn fileserver_answers_ranges_and_conditions() {
    let dir = Dir::new();
    dir.file("digits.txt", "0123456789");
    let files = Example::start("fileserver", PLAIN, &["--root", dir.0.to_str().expect("text")]);
    let mut client = files.client();
    let whole = client.request("GET /digits.txt", &[]).response();
    let etag = whole.assert(200).get("etag").expect("an entity tag").to_owned();
    assert!(etag.starts_with('"'), "strong, for a file that has not changed for long: {etag}");

    let mut ask = |line: &str, fields: &[String]| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        client.request(line, &fields);
        if line.starts_with("HEAD") { client.head() } else { client.response() }
    };
    let get = "GET /digits.txt";
    for (range, status, said, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-2", 206, "bytes 8-9/10", "89"),
        ("bytes=0-999", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=10-", 416, "bytes */10", "The range is outside of the file, which has 10 bytes.\n"),
        ("bytes=-0", 416, "bytes */10", "The range is outside of the file, which has 10 bytes.\n"),
        ("bytes=4-2", 200, "", "0123456789"),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
        ("lines=0-1", 200, "", "0123456789"),
    ] {
        let response = ask(get, &[format!("Range: {range}")]);
        let content_range = response.get("content-range").unwrap_or_default();
        assert_eq!((response.status, content_range, response.text()), (status, said, body), "{range}");
    }
    // Ranges are for GET alone.
    assert_eq!(ask("HEAD /digits.txt", &["Range: bytes=2-4".into()]).status, 200);

    let (same, before, after) =
        ("Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:39 GMT", "Sunday, 09-Sep-01 01:46:41 GMT");
    for (fields, status) in [
        (vec![format!("If-None-Match: {etag}")], 304),
        (vec![format!("If-None-Match: \"x\", W/{etag}")], 304),
        (vec!["If-None-Match: \"x\"".into(), format!("If-None-Match: {etag}")], 304),
        (vec!["If-None-Match: *".into()], 304),
        (vec!["If-None-Match: \"x\"".into()], 200),
        (vec!["If-None-Match: \"x\"".into(), format!("If-Modified-Since: {same}")], 200),
        (vec![format!("If-Modified-Since: {same}")], 304),
        (vec![format!("If-Modified-Since: {after}")], 304),
        (vec![format!("If-Modified-Since: {before}")], 200),
        (vec![format!("If-Modified-Since: {after}"), format!("If-Modified-Since: {after}")], 200),
        (vec![format!("If-Modified-Since: {after}, {after}")], 200),
        (vec!["If-Modified-Since: yesterday".into()], 200),
        (vec![format!("If-Match: {etag}")], 200),
        (vec!["If-Match: *".into()], 200),
        (vec![format!("If-Match: W/{etag}")], 412),
        (vec!["If-Match: \"x\"".into()], 412),
        (vec![format!("If-Unmodified-Since: {same}")], 200),
        (vec![format!("If-Unmodified-Since: {before}")], 412),
        (vec![format!("If-Unmodified-Since: {before}"), format!("If-Unmodified-Since: {before}")], 200),
        (vec!["If-Match: ".into()], 412),
        (vec![format!("If-Match: {etag}"), "If-None-Match: *".into()], 304),
        (vec!["If-Match: \"x\"".into(), format!("If-None-Match: {etag}")], 412),
        (vec![format!("If-Unmodified-Since: {same}"), format!("If-Modified-Since: {same}")], 304),
        (vec!["If-Match: \"x\"".into(), "Range: bytes=99-".into()], 412),
        (vec![format!("If-Match: {etag}"), "Range: bytes=99-".into()], 416),
        (vec![format!("If-Match: {etag}"), format!("If-Unmodified-Since: {before}")], 200),
        (vec![format!("If-Range: {etag}"), "Range: bytes=0-0".into()], 206),
        (vec![format!("If-Range: W/{etag}"), "Range: bytes=0-0".into()], 200),
        (vec!["If-Range: \"x\"".into(), "Range: bytes=0-0".into()], 200),
        (vec![format!("If-Range: {same}"), "Range: bytes=0-0".into()], 206),
        (vec![format!("If-Range: {after}"), "Range: bytes=0-0".into()], 200),
        (vec![format!("If-Range: {etag}"), format!("If-Range: {etag}"), "Range: bytes=0-0".into()], 200),
        (vec!["If-Range: \"x\"".into(), "Range: bytes=99-".into()], 200),
        (vec!["Range: bytes=0-0".into(), "Range: bytes=1-1".into()], 200),
        (vec![format!("If-Range: {etag}")], 200),
        (vec![format!("If-None-Match: {etag}"), "Range: bytes=0-0".into()], 304),
    ] {
        let response = ask(get, &fields);
        assert_eq!(response.status, status, "{fields:?}");
        if status == 304 {
            assert_eq!((response.get("etag"), response.get("content-length")), (Some(&*etag), None), "{fields:?}");
            assert_eq!((response.get("content-type"), response.get("accept-ranges")), (None, None), "{fields:?}");
        }
        let without_range = if matches!(status, 206 | 416) { 200 } else { status };
        assert_eq!(ask("HEAD /digits.txt", &fields).status, without_range, "{fields:?}");
    }

    // A change is noticed.
    dir.file("digits.txt", "abc");
    let changed = ask(get, &[format!("If-None-Match: {etag}")]);
    assert_eq!(changed.assert(200).text(), "abc");
    assert_ne!(changed.get("etag"), Some(&*etag));

    for method in ["POST", "PUT", "DELETE", "PURGE"] {
        let response = ask(&format!("{method} /digits.txt"), &["Content-Length: 0".into()]);
        assert_eq!(response.assert(405).get("allow"), Some("GET, HEAD, OPTIONS"));
    }
    assert_eq!(ask("OPTIONS *", &[]).assert(204).get("allow"), Some("GET, HEAD, OPTIONS"));
    files.stop();
}

#[test]
fn fileserver_lets_nobody_out() {
    let dir = Dir::new();
    dir.file("www/in.txt", "inside");
    dir.file("www/sub/deep.txt", "deep");
    dir.file("www/.secret", "hidden");
    dir.file("www/.git/config", "hidden");
    dir.file("www/.well-known/it", "public");
    dir.file("www/%2e%2e", "a name with percent signs");
    dir.file("www-private/key", "outside");
    dir.file("key", "outside");
    let www = dir.0.join("www");
    symlink("../key", www.join("out.txt")).expect("linked");
    symlink("..", www.join("up")).expect("linked");
    symlink("../www-private", www.join("private")).expect("linked");
    symlink("/", www.join("all")).expect("linked");
    symlink("sub/deep.txt", www.join("link.txt")).expect("linked");
    symlink("loop", www.join("loop")).expect("linked");
    symlink("/dev/zero", www.join("zero")).expect("linked");
    let _socket = std::os::unix::net::UnixListener::bind(www.join("s")).ok(); // the path may be too long for one
    let fifo = Command::new("mkfifo").arg(www.join("fifo")).status().is_ok_and(|status| status.success());

    let files = Example::start("fileserver", PLAIN, &["--root", www.to_str().expect("text")]);
    let mut client = files.client();
    let mut get = |path: &str| client.request(&format!("GET {path}"), &[]).response();
    for path in [
        "/../key",
        "/../www-private/key",
        "/sub/../../key",
        "/%2e%2e/key",
        "/.%2E/key",
        "/..%2fkey",
        "/%2e%2e%2fkey",
        "/sub/%2e%2e/in.txt",
        "//key",
        "//",
        "/sub//deep.txt",
        "/./in.txt",
        "/in.txt%00",
        "/%00",
        "/in.txt%00.html",
        "/%",
        "/%2",
        "/%zz",
        "/sub/..",
    ] {
        let response = get(path);
        assert!(matches!(response.status, 400), "{path}: {response:?}");
        assert!(response.get("location").is_none(), "{path}");
    }
    for path in [
        "/out.txt",
        "/up/key",
        "/up",
        "/up/",
        "/up/www/in.txt/",
        "/private/key",
        "/private/",
        "/all/etc/passwd",
        "/zero",
        "/loop",
        "/.secret",
        "/.git/config",
        "/.git",
        "/.git/",
        "/nothing",
        "/..%5ckey",
        "/..\\key",
        "/in.txt/",
        "/in.txt/x",
        "/%252e%252e/key",
    ] {
        assert_eq!(get(path).status, 404, "{path}");
    }
    if fifo {
        assert_eq!(get("/fifo").status, 403);
    }
    for (path, body) in [
        ("/in.txt", "inside"),
        ("/link.txt", "deep"),
        ("/sub/deep.txt", "deep"),
        ("/.well-known/it", "public"),
        ("/%252e%252e", "a name with percent signs"),
        ("/i%6E.txt?key=../..", "inside"),
        ("http://elsewhere/in.txt", "inside"),
    ] {
        assert_eq!(get(path).assert(200).text(), body, "{path}");
    }
    // To a directory's canonical spelling, and never to another host.
    for (path, to) in [("/sub", "/sub/"), ("/s%75b", "/sub/"), ("/sub?q=//evil", "/sub/?q=//evil")] {
        assert_eq!(get(path).assert(301).get("location"), Some(to), "{path}");
    }
    let listing = get("/");
    for name in ["in.txt", "link.txt", "sub/", "%252e%252e", ".well-known/"] {
        assert!(listing.text().contains(&format!("href=\"{name}\"")), "{name}: {}", listing.text());
    }
    for name in ["out.txt", "up", "private", "all", "zero", "loop", "fifo", "s", ".secret", ".git", "..", "%2e%2e"] {
        for link in [format!("href=\"{name}\""), format!("href=\"{name}/\"")] {
            assert!(!listing.text().contains(&link), "{link}: {}", listing.text());
        }
    }
    let open = Example::start("fileserver", PLAIN, &["--hidden", "--root", www.to_str().expect("text")]);
    assert_eq!(open.ask("GET /.secret", &[]).assert(200).text(), "hidden");
    assert_eq!(open.ask("GET /out.txt", &[]).status, 404);
}

#[test]
fn fileserver_lists_strange_names() {
    let dir = Dir::new();
    dir.file("b <script>.txt", "x");
    dir.file("a\"'&.txt", "quotes");
    dir.file("javascript:alert(1)", "a colon");
    dir.file("zdir/x", "x");
    dir.file("ä ö", "umlauts");
    let files = Example::start("fileserver", PLAIN, &["--root", dir.0.to_str().expect("text")]);
    let listing = files.ask("GET /", &[]);
    let text = listing.assert(200).text();
    assert_eq!(listing.get("content-type"), Some("text/html; charset=utf-8"));
    assert!(!text.contains("<script") && text.contains("b &lt;script&gt;.txt"), "{text}");
    let links: Vec<&str> = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(
        links,
        ["zdir/", "a%22%27%26.txt", "b%20%3Cscript%3E.txt", "javascript%3Aalert%281%29", "%C3%A4%20%C3%B6"],
        "directories first, each sorted"
    );
    for (link, content) in links[1..].iter().zip(["quotes", "x", "a colon", "umlauts"]) {
        assert_eq!(files.ask(&format!("GET /{link}"), &[]).assert(200).text(), content, "{link}");
    }
    assert!(files.ask("GET /zdir/", &[]).text().contains("href=\"../\""));
}
