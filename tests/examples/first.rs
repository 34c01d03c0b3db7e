//! The first programs: `events` and `upload`.

use super::*;

fn events() -> Example {
    let mut command = Command::new(program("events"));
    command.arg("127.0.0.1:0");
    Example::run(command, None)
}

fn type_line(events: &mut Example, line: &str) {
    let stdin = events.stdin.as_mut().expect("piped");
    stdin.write_all(format!("{line}\n").as_bytes()).expect("written");
    stdin.flush().expect("flushed");
}

/// A client that receives events.
struct Reader {
    client: Client,
    received: String,
}

impl Reader {
    fn connect(events: &Example) -> Self {
        let mut client = events.client();
        let head = client.request("GET /events", &["Accept: text/event-stream"]).head();
        assert_eq!(head.assert(200).get("content-type"), Some("text/event-stream"));
        assert!(head.is_chunked() && head.get("cache-control") == Some("no-store"));
        Self { client, received: String::new() }
    }

    /// Returns the next event; `None` at the end of the stream.
    fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.received.split_once("\n\n") {
                let event = event.to_owned();
                self.received = rest.to_owned();
                return Some(event);
            }
            let chunk = self.client.next_chunk().expect("a chunk")?;
            self.received += std::str::from_utf8(&chunk).expect("text");
        }
    }

    #[track_caller]
    fn receives(&mut self, event: &str) {
        assert_eq!(self.next().as_deref(), Some(event));
    }
}

#[test]
fn events_reach_all_readers() {
    let mut events = events();
    let page = events.ask("GET /", &[]);
    assert!(page.assert(200).text().contains("new EventSource(\"events\")"));
    assert_eq!(page.get("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(events.ask("POST /events", &["Content-Length: 0"]).assert(405).get("allow"), Some("GET"));
    events.ask("GET /other", &[]).assert(404);

    let mut ann = Reader::connect(&events);
    ann.receives("event: readers\ndata: 1");
    let mut bob = Reader::connect(&events);
    ann.receives("event: readers\ndata: 2");
    bob.receives("event: readers\ndata: 2");
    type_line(&mut events, &"x".repeat(64 * 1024 + 1)); // too long
    for line in ["hello", "", "gr\u{fc}n  <b>", "one\rline"] {
        type_line(&mut events, line);
        let data = format!("data: {}", line.replace('\r', " "));
        ann.receives(&data);
        bob.receives(&data);
    }
    // A reader that has disconnected is noticed at once, without an event.
    bob.client.leave();
    ann.receives("event: readers\ndata: 1");
    // The end of the input does not end the server.
    drop(events.stdin.take());
    Reader::connect(&events).receives("event: readers\ndata: 2");
    ann.receives("event: readers\ndata: 2");
}

#[test]
fn a_reader_that_does_not_read_costs_no_memory_and_delays_no_other() {
    let mut events = events();
    let mut slow = Reader::connect(&events);
    let mut quick = Reader::connect(&events);
    quick.receives("event: readers\ndata: 2");
    let line = "x".repeat(60_000);
    let mut sent = 0;
    // Far more than its queue, the engine's output, and the buffers of both sockets.
    for _ in 0..400 {
        type_line(&mut events, &line);
        assert_eq!(quick.next().map(|event| event.len()), Some(6 + line.len()));
        sent += 1;
    }
    // What was queued arrives, then the response ends. A browser connects again.
    let mut received = 0;
    while let Some(event) = slow.next() {
        received += usize::from(event.starts_with("data: "));
    }
    assert!(received < sent && received >= 64, "{received} of {sent}");
    quick.receives("event: readers\ndata: 1");
}

/// The names of all files in a directory, hidden ones too.
fn names(dir: &Dir) -> Vec<String> {
    let entries = fs::read_dir(&dir.0).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

pub(super) fn upload_stores_files(setup: Setup) {
    let dir = Dir::new();
    let upload = Example::start("upload", setup, &["--directory", dir.0.to_str().expect("text"), "--max-body", "8M"]);
    let page = upload.ask("GET /", &[]);
    assert!(page.assert(200).text().contains("<form method=\"post\" enctype=\"multipart/form-data\">"));
    let mut client = upload.client();
    let mut put = |target: &str, body: &[u8]| {
        client.request(&format!("PUT {target}"), &[&format!("Content-Length: {}", body.len())]);
        client.send(body).response()
    };
    let large = noise(3 << 20);
    assert_eq!(put("/files/large.bin", &large).assert(201).text(), "large.bin: stored 3145728 bytes\n");
    put("/files/empty", b"").assert(201);
    assert!(fs::read(dir.0.join("large.bin")).expect("a file") == large);
    // A name cannot lead out of the directory, hide the file, or replace another.
    for (target, name) in [
        ("/files/../../etc/passwd", "_.._etc_passwd"),
        ("/files/..%2F..%2Fup", "_.._up"),
        ("/files/%2Fetc%2Fhosts", "_etc_hosts"),
        ("/files/.hidden", "hidden"),
        ("/files/a%00b%0Ac%3Cd%3E", "a_b_c_d_"),
        ("/files/gr%C3%BCn%20(1).txt", "gr\u{fc}n (1).txt"),
    ] {
        assert_eq!(put(target, b"x").assert(201).text(), format!("{name}: stored 1 bytes\n"), "{target}");
        assert_eq!(fs::read(dir.0.join(name)).expect(name), b"x");
    }
    assert!(put("/files/large.bin", b"other").assert(409).text().contains("there is a file of that name"));
    assert!(fs::read(dir.0.join("large.bin")).expect("a file") == large);
    for target in ["/files/", "/files/..", "/files/%20.", &format!("/files/{}", "x".repeat(256))] {
        put(target, b"x").assert(400);
    }
    put("/other", b"x").assert(404);
    upload.ask("GET /files/large.bin", &[]).assert(405);

    // An incomplete file is not stored, nor one beyond the limit, whether its length is known or not.
    let before = names(&dir);
    let mut cut = upload.client();
    cut.request("PUT /files/cut", &["Content-Length: 1000000"]).send(&large[..500_000]);
    cut.leave();
    let mut known = upload.client();
    known.request("PUT /files/known", &["Content-Length: 9000000", "Expect: 100-continue"]).head().assert(413);
    let mut unknown = upload.client();
    unknown.request("PUT /files/unknown", &["Transfer-Encoding: chunked"]);
    let block = noise(1 << 20);
    for _ in 0..9 {
        let _ = unknown.try_chunk(&block); // the server may have closed the connection
    }
    unknown.head().assert(413);
    // Its thread has seen the end when the temporary file is gone.
    assert!((0..100_000).any(|_| names(&dir) == before), "{:?}", names(&dir));
    let mut last = upload.client();
    last.request("PUT /files/last", &["Transfer-Encoding: chunked"]).chunk(b"in ").chunk(b"pieces").chunk(b"");
    last.response().assert(201);
    assert_eq!(fs::read(dir.0.join("last")).expect("a file"), b"in pieces");
    upload.stop();
}

/// Returns a multipart form with these parts, as browsers send it.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (parameters, value) in parts {
        let head = format!("--WebKit9\r\nContent-Disposition: form-data; name={parameters}\r\n");
        body.extend_from_slice(&[head.as_bytes(), b"Content-Type: text/plain\r\n\r\n", value, b"\r\n"].concat());
    }
    body.extend_from_slice(b"--WebKit9--\r\n");
    body
}

const FORM: &str = "Content-Type: multipart/form-data; boundary=WebKit9";

pub(super) fn upload_stores_the_files_of_a_form(setup: Setup) {
    let dir = Dir::new();
    let upload = Example::start("upload", setup, &["--directory", dir.0.to_str().expect("text"), "--max-body", "8M"]);
    let mut client = upload.client();
    let mut post = |fields: &[&str], body: &[u8]| {
        let length = format!("Content-Length: {}", body.len());
        client.request("POST /", &[fields, &[&length]].concat()).send(body).response()
    };
    let large = noise(3 << 20);
    let body = form(&[
        ("\"comment\"", b"not a file"),
        ("\"file\"; filename=\"large.bin\"", &large),
        ("\"file\"; filename=\"empty\"", b""),
        ("\"file\"; filename=\"C:\\dir\\old.txt\"", b"a\r\n--WebKit\r\n"),
        ("\"other\"; filename=\"../up\"", b"x"),
    ]);
    let response = post(&[FORM], &body);
    let lines =
        "large.bin: stored 3145728 bytes\nempty: stored 0 bytes\nold.txt: stored 13 bytes\nup: stored 1 bytes\n";
    assert_eq!(response.assert(201).text(), lines);
    assert_eq!(names(&dir), ["empty", "large.bin", "old.txt", "up"]);
    assert!(fs::read(dir.0.join("large.bin")).expect("a file") == large);
    assert_eq!(fs::read(dir.0.join("old.txt")).expect("a file"), b"a\r\n--WebKit\r\n");

    // One file that cannot be stored does not keep the others from it.
    let body = form(&[("f; filename=empty", &large), ("f; filename=\"..\"", b"x"), ("f; filename=new", b"x")]);
    let response = post(&[FORM], &body);
    let lines = "empty: there is a file of that name\ninvalid name\nnew: stored 1 bytes\n";
    assert_eq!(response.assert(409).text(), lines);

    let before = names(&dir);
    assert!(post(&[FORM], &form(&[("f; filename=\"\"", b"")])).assert(400).text().contains("no file"));
    post(&["Content-Type: application/x-www-form-urlencoded"], b"file=x").assert(400);
    post(&["Content-Type: text/plain"], b"file=x").assert(415);
    post(&["Content-Type: multipart/form-data"], &form(&[])).assert(400);
    let unfinished = form(&[("f; filename=unfinished", b"x")]);
    assert!(post(&[FORM], &unfinished[..unfinished.len() - 8]).assert(400).text().contains("ended before its end"));
    let mut chunked = upload.client();
    chunked.request("POST /", &[FORM, "Transfer-Encoding: chunked"]);
    chunked.chunk(&form(&[("f; filename=large", &large)])[..1 << 20]);
    chunked.leave();
    let mut known = upload.client();
    known.request("POST /", &[FORM, "Content-Length: 9000000", "Expect: 100-continue"]).head().assert(413);
    assert!((0..100_000).any(|_| names(&dir) == before), "{:?}", names(&dir));
    upload.stop();
}

/// curl, as in the manual of the example.
#[test]
fn curl_sends_a_form() {
    if Command::new("curl").arg("--version").output().is_err() {
        return println!("skipped: curl is not installed");
    }
    let (dir, files) = (Dir::new(), Dir::new());
    let upload = Example::start("upload", PLAIN, &["--directory", dir.0.to_str().expect("text")]);
    let content = noise(1 << 20);
    let file = files.file("a \"b\" \u{fc}.bin", &content);
    let url = format!("http://{}/", upload.addr);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "-F"])
        .arg(format!("file=@\"{}\"", file.to_str().expect("text").replace('"', "\\\"")))
        .arg(&url)
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(": stored 1048576 bytes"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let [name] = &names(&dir)[..] else { panic!("{said}") };
    assert!(fs::read(dir.0.join(name)).expect("a file") == content);
}

#[test]
fn upload_needs_a_directory() {
    for (args, words) in [(&[][..], "--directory"), (&["--directory", "/no/such"], "/no/such: not a directory")] {
        let output = output("upload", args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains(words) && output.stdout.is_empty(), "{said}");
    }
}
