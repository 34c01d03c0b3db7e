//! `fileserver`: files that it does not serve, directories that are exchanged, and special files.

use std::os::unix::{
    fs::{DirBuilderExt, MetadataExt},
    net::UnixListener,
};

use super::*;

impl Dir {
    fn text(&self) -> &str {
        self.0.to_str().expect("text")
    }

    /// Writes a file that only its owner may read.
    fn private(&self, name: &str, content: &str) {
        let path = self.file(name, content);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
    }
}

#[track_caller]
fn lists(listing: &str, name: &str) -> bool {
    listing.contains(&format!("href=\"{name}\"")) || listing.contains(&format!("href=\"{name}/\""))
}

#[test]
fn fileserver_keeps_its_keys_and_what_is_private() {
    let dir = Dir::new();
    let www = dir.0.join("www");
    let key = dir.file("www/key.pem", fs::read(&identity().key).expect("a key"));
    let cert = dir.file("www/cert.pem", fs::read(&identity().cert).expect("a certificate"));
    fs::hard_link(&key, www.join("hard")).expect("linked");
    symlink("key.pem", www.join("soft")).expect("linked");
    symlink(&cert, www.join("absolute")).expect("linked");
    dir.file("www/public.txt", "public");
    dir.private("www/private.txt", "private");
    symlink("private.txt", www.join("to-private")).expect("linked");
    fs::DirBuilder::new().mode(0o700).create(www.join("closed")).expect("made");
    dir.file("www/closed/in/deep.txt", "deep");
    symlink("closed/in/deep.txt", www.join("to-deep")).expect("linked");

    let (cert_flag, key_flag) = (cert.to_str().expect("text"), key.to_str().expect("text"));
    let start = |more: &[&str]| {
        let mut command = Command::new(program("fileserver"));
        command.args(["--listen", "127.0.0.1:0", "--tls-cert", cert_flag, "--tls-key", key_flag, "--root"]);
        command.arg(&www).args(more);
        Example::run(command, Some(identity().client.clone()))
    };
    let ours = ["key.pem", "cert.pem", "hard", "soft", "absolute"];
    let private = ["private.txt", "to-private", "closed", "closed/in/deep.txt", "to-deep"];
    let (careful, open) = (start(&[]), start(&["--serve-private"]));
    for name in ours {
        assert_eq!(careful.ask(&format!("GET /{name}"), &[]).status, 403, "{name}");
        assert_eq!(open.ask(&format!("GET /{name}"), &[]).status, 403, "{name}");
    }
    for name in private {
        assert_eq!(careful.ask(&format!("GET /{name}"), &[]).status, 403, "{name}");
        assert!(matches!(open.ask(&format!("GET /{name}"), &[]).status, 200 | 301), "{name}");
    }
    assert_eq!(careful.ask("GET /closed/", &[]).status, 403);
    assert_eq!(careful.ask("GET /public.txt", &[]).assert(200).text(), "public");
    let (shown, all) = (careful.ask("GET /", &[]), open.ask("GET /", &[]));
    for name in ours.iter().chain(&private).filter(|name| !name.contains('/')) {
        assert!(!lists(shown.assert(200).text(), name), "{name}: {}", shown.text());
        assert_eq!(lists(all.assert(200).text(), name), private.contains(name), "{name}: {}", all.text());
    }
    assert!(lists(shown.text(), "public.txt"), "{}", shown.text());

    // A renewed key is another file of that name.
    dir.file("www/next", "the next key");
    let old = fs::metadata(&key).expect("there").ino();
    fs::rename(www.join("next"), &key).expect("renamed");
    assert_ne!(fs::metadata(&key).expect("there").ino(), old);
    for name in ["key.pem", "soft"] {
        assert_eq!(open.ask(&format!("GET /{name}"), &[]).status, 403, "{name}");
    }
    assert!(!lists(open.ask("GET /", &[]).text(), "soft"));
}

#[test]
fn no_key_is_made_below_the_directory_that_is_served() {
    let dir = Dir::new();
    dir.file("www/x", "x");
    let www = dir.0.join("www");
    symlink("www", dir.0.join("link")).expect("linked");
    for (root, made_in) in [
        (www.clone(), www.clone()),
        (www.clone(), www.join("try")),
        (www.clone(), dir.0.join("link/a/b")),
        (dir.0.join("link"), www.join("try")),
        (www.clone(), dir.0.join("not-there/../www/try")),
        ("/".into(), dir.0.join("try")),
    ] {
        let (root, made_in) = (root.to_str().expect("text"), made_in.to_str().expect("text"));
        let refused = output("fileserver", &["--listen", "127.0.0.1:0", "--root", root, "--tls-self-made", made_in]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{made_in}: {said}");
        assert!(said.contains("private key") && said.contains(root), "{said}");
    }
    let left: Vec<_> = fs::read_dir(&www).expect("there").collect();
    assert_eq!(left.len(), 1, "nothing was made: {left:?}");
}

#[test]
fn a_certificate_is_kept_for_the_user_unless_a_directory_is_named() {
    let dir = Dir::new();
    dir.file("www/x", "x");
    let state = dir.0.join("state");
    let mut command = Command::new(program("fileserver"));
    command.args(["--listen", "127.0.0.1:0", "--tls-self-made", "--root", "."]).current_dir(&dir.0);
    let refused = command.env("XDG_STATE_HOME", &state).output().expect("started");
    assert_eq!(refused.status.code(), Some(2), "its directory is below this root");
    let mut command = Command::new(program("relay"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "off", "--tls-self-made"]).env("XDG_STATE_HOME", &state);
    Example::run(command, Some(identity().client.clone())).stop();
    let mut command = Command::new(program("fileserver"));
    command.args(["--listen", "127.0.0.1:0", "--tls-self-made", "--root", "www"]).current_dir(&dir.0);
    command.env("XDG_STATE_HOME", &state);
    let mut files = Example::run(command, Some(identity().client.clone()));
    let mut roots = RootCertStore::empty();
    let made = CertificateDer::from_pem_file(state.join("uncork/cert.pem")).expect("a certificate");
    roots.add(made).expect("a root");
    files.tls = Some(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
    assert_eq!(files.ask("GET /x", &[]).assert(200).text(), "x");
    let mode = |path: &str| fs::metadata(state.join(path)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("uncork"), mode("uncork/key.pem")), (0o700, 0o600));
}

#[test]
fn fileserver_sees_the_next_release() {
    let dir = Dir::new();
    dir.file("1/x", "first");
    dir.file("2/x", "second");
    dir.file("2/only", "new");
    let current = dir.0.join("current");
    symlink("1", &current).expect("linked");
    let files = Example::start("fileserver", PLAIN, &["--root", current.to_str().expect("text")]);
    let mut client = files.client();
    assert_eq!(client.request("GET /x", &[]).response().assert(200).text(), "first");
    symlink("2", dir.0.join("next")).expect("linked");
    fs::rename(dir.0.join("next"), &current).expect("renamed");
    assert_eq!(client.request("GET /x", &[]).response().assert(200).text(), "second");
    assert!(lists(client.request("GET /", &[]).response().assert(200).text(), "only"));
    // Between two releases there may be none.
    fs::remove_file(&current).expect("removed");
    assert_eq!(client.request("GET /x", &[]).response().status, 404);
}

/// Replaces the entry at `place` by each of these links in turn, until the test stops it.
fn exchange(place: PathBuf, links: [&'static str; 2], stop: Arc<AtomicUsize>) -> std::thread::JoinHandle<()> {
    let next = place.with_extension("next");
    std::thread::spawn(move || {
        for link in links.iter().cycle() {
            if stop.load(Ordering::Relaxed) > 0 {
                return;
            }
            symlink(link, &next).expect("linked");
            fs::rename(&next, &place).expect("renamed");
        }
    })
}

#[test]
fn fileserver_answers_while_releases_are_exchanged() {
    let dir = Dir::new();
    for release in ["1", "2"] {
        dir.file(&format!("{release}/sub/x"), release);
        symlink("sub", dir.0.join(release).join("link")).expect("linked");
    }
    let current = dir.0.join("current");
    symlink("1", &current).expect("linked");
    let files = Example::start("fileserver", PLAIN, &["--root", current.to_str().expect("text")]);
    let stop = Arc::new(AtomicUsize::new(0));
    let exchanging = exchange(current, ["1", "2"], stop.clone());
    let (mut client, mut seen) = (files.client(), [0, 0]);
    for n in 0..100_000 {
        if n >= 1000 && seen.iter().all(|&times| times >= 10) {
            break;
        }
        let path = if n % 2 == 0 { "/sub/x" } else { "/link/x" };
        match client.request(&format!("GET {path}"), &[]).response().assert(200).text() {
            "1" => seen[0] += 1,
            "2" => seen[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    stop.store(1, Ordering::Relaxed);
    exchanging.join().expect("exchanged");
    assert!(seen.iter().all(|&times| times >= 10), "both in turn: {seen:?}");
}

/// A checked entry may be another one when it is opened. The server does not follow it out of the root.
#[test]
fn fileserver_is_not_led_out_by_links_that_change() {
    let dir = Dir::new();
    dir.file("www/inside/x", "inside");
    dir.file("outside/x", "outside");
    let place = dir.0.join("www/place");
    symlink("inside", &place).expect("linked");
    let files = Example::start("fileserver", PLAIN, &["--root", dir.0.join("www").to_str().expect("text")]);
    let stop = Arc::new(AtomicUsize::new(0));
    let exchanging = exchange(place, ["inside", "../outside"], stop.clone());
    let (mut client, mut seen) = (files.client(), [0, 0]);
    for n in 0..100_000 {
        if n >= 1000 && seen.iter().all(|&times| times >= 10) {
            break;
        }
        let response = client.request("GET /place/x", &[]).response();
        match (response.status, response.text()) {
            (200, "inside") => seen[0] += 1,
            (404, _) => seen[1] += 1,
            _ => panic!("{response:?}"),
        }
    }
    stop.store(1, Ordering::Relaxed);
    exchanging.join().expect("exchanged");
    assert!(seen.iter().all(|&times| times >= 10), "both in turn: {seen:?}");
}

#[test]
fn fileserver_knows_files_of_every_kind() {
    let dir = Dir::new();
    dir.file("a\\b.txt", "a backslash");
    dir.file("m.mjs", "export {}");
    dir.file("j.js", "");
    let _socket = UnixListener::bind(dir.0.join("s")).ok(); // its path may be too long
    let fifo = Command::new("mkfifo").arg(dir.0.join("fifo")).status().is_ok_and(|status| status.success());
    let old = dir.file("old", "older than HTTP's dates");
    let set = |path: &Path, time| File::options().write(true).open(path).and_then(|file| file.set_modified(time));
    set(&old, SystemTime::UNIX_EPOCH - Duration::from_millis(1_500)).expect("set");
    let late = dir.file("late", "to come");
    // Not every file system supports such times.
    let _ = set(&late, SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_000));
    let fresh = dir.file("fresh", "just written");
    set(&fresh, SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800)).expect("set");

    let files = Example::start("fileserver", PLAIN, &["--root", dir.text()]);
    let mut client = files.client();
    let mut get = |path: &str, fields: &[&str]| client.request(&format!("GET {path}"), fields).response();
    assert_eq!(get("/a%5Cb.txt", &[]).assert(200).text(), "a backslash");
    for path in ["/m.mjs", "/j.js"] {
        assert_eq!(get(path, &[]).assert(200).get("content-type"), Some("text/javascript; charset=utf-8"), "{path}");
    }
    // Neither is opened: the first would wait for a writer.
    for (path, is_there) in [("/fifo", fifo), ("/s", dir.0.join("s").exists())] {
        assert_eq!(get(path, &[]).status, if is_there { 403 } else { 404 }, "{path}");
    }
    for path in ["/late", "/fresh"] {
        let response = get(path, &[]);
        // Not in the future (RFC 9110 §8.8.2.1).
        let time = |name| httpdate::parse_http_date(response.get(name).expect("a field")).expect("a date");
        assert!(
            response.assert(200).get("etag").is_some() && time("last-modified") <= time("date"),
            "{path}: {response:?}"
        );
    }
    let response = get("/old", &[]);
    assert!(response.assert(200).get("etag").is_some() && response.get("last-modified").is_none(), "{response:?}");
    // Without a date, conditions on dates are ignored.
    for (path, date) in [("/old", "Thu, 01 Jan 1970 00:00:00 GMT"), ("/old", "Thu, 01 Jan 2099 00:00:00 GMT")] {
        assert_eq!(get(path, &[&format!("If-Modified-Since: {date}")]).status, 200, "{path}");
        assert_eq!(get(path, &[&format!("If-Unmodified-Since: {date}")]).status, 200, "{path}");
        assert_eq!(get(path, &["Range: bytes=0-0", &format!("If-Range: {date}")]).status, 200, "{path}");
    }
    let etag = get("/old", &[]).get("etag").expect("a tag").to_owned();
    assert_eq!(get("/old", &["Range: bytes=0-0", &format!("If-Range: {etag}")]).assert(206).text(), "o");

    let listing = get("/", &[]);
    for name in ["a%5Cb.txt", "old", "late", "fresh"] {
        assert!(lists(listing.assert(200).text(), name), "{name}: {}", listing.text());
    }
    // A listing has neither tag nor date, but it exists.
    for (field, status) in [
        ("If-None-Match: *", 304),
        ("If-None-Match: \"x\"", 200),
        ("If-Match: *", 200),
        ("If-Match: \"x\"", 412),
        ("If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT", 200),
        ("Range: bytes=0-0", 200),
    ] {
        let listing = get("/", &[field]);
        assert_eq!(listing.status, status, "{field}");
        // Of a 304, too (§15.4.5): a cache applies it to its stored response.
        assert_eq!(listing.get("cache-control"), Some("no-cache"), "{field}");
        // A missing, redirected or invalid file is so under every condition (RFC 9110 §13.2.1).
        assert_eq!(get("/not-there", &[field]).status, 404, "{field}");
    }
}

/// Files whose length is unknown are sent completely, and devices not at all.
#[test]
#[cfg(target_os = "linux")]
fn fileserver_reads_what_the_system_makes_when_it_is_read() {
    let proc = Example::start("fileserver", PLAIN, &["--root", "/proc"]);
    let mut client = proc.client();
    let version = fs::read_to_string("/proc/version").expect("there");
    let response = client.request("GET /version", &[]).response();
    assert_eq!((response.assert(200).text(), response.get("etag")), (&*version, None));
    assert_eq!(client.request("GET /version", &["Range: bytes=0-3"]).response().assert(200).text(), version);
    client.request("HEAD /version", &[]).head().assert(200);
    // Through a link within the root.
    let status = client.request("GET /self/status", &[]).response();
    assert!(status.assert(200).text().starts_with("Name:\tfileserver\n"), "{}", status.text());
    // A link that leaves it.
    assert_eq!(client.request("GET /self/exe", &[]).response().status, 404);
    assert_eq!(client.request("GET /self/root/etc/passwd", &[]).response().status, 404);
    proc.stop();

    let sys = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    if let Ok(content) = fs::read_to_string(sys) {
        let files = Example::start("fileserver", PLAIN, &["--root", "/sys/kernel"]);
        let response = files.ask("GET /mm/transparent_hugepage/enabled", &[]);
        assert_eq!(response.assert(200).text(), content, "its declared length is {:?}", fs::metadata(sys));
    }
    let dev = Example::start("fileserver", PLAIN, &["--root", "/dev"]);
    for path in ["/null", "/zero"] {
        assert_eq!(dev.ask(&format!("GET {path}"), &[]).status, 403, "{path}");
    }
}

/// An existing file is never reported as missing.
#[test]
#[cfg(target_os = "linux")]
fn fileserver_without_descriptors_is_unavailable() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    let dir = Dir::new();
    dir.file("x", "still there");
    dir.file("sub/y", "y");
    let files = Example::start("fileserver", PLAIN, &["--root", dir.text()]);
    let mut client = files.client();
    assert_eq!(client.request("GET /x", &[]).response().assert(200).text(), "still there");
    let pid = Pid::from_raw(files.child.id().try_into().expect("a number"));
    let limit = |most| prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), ..most_of_all() }).expect("set");
    fn most_of_all() -> Rlimit {
        rustix::process::getrlimit(Resource::Nofile)
    }
    limit(3);
    for path in ["/x", "/", "/sub/", "/not-there"] {
        let response = client.request(&format!("GET {path}"), &[]).response();
        assert_eq!(response.assert(503).get("retry-after"), Some("1"), "{path}");
    }
    limit(256);
    assert_eq!(client.request("GET /x", &[]).response().assert(200).text(), "still there");
    assert_eq!(client.request("GET /not-there", &[]).response().status, 404);
}
