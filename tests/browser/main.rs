//! The relay's page in a real browser: from one Chromium to another, through a relay of this process.
//!
//!     cargo test --test browser                     all of it; without Chromium, a line that says so
//!     cargo test --test browser -- file             those whose name has this in it
//!     UNCORK_BROWSER=yes cargo test --test browser  without Chromium, it fails
//!     UNCORK_BROWSER=no cargo test                  everything else
//!
//! It is no harness of tests, since it has to say when it is skipped.
#![expect(clippy::disallowed_methods, reason = "a browser takes its time")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uncork::{
    Request, Running, Server,
    relay::{Rendezvous, RendezvousConfig},
};

mod driver;
#[path = "../../examples/relay/page/mod.rs"]
#[allow(dead_code, unused_imports)] // its unit tests are not run here
mod page;

use driver::{Browser, Dir, Driver, PATIENCE, until};
use page::{Page, PageConfig};

type Case = fn(&Driver);

const CASES: &[(&str, Case)] = &[
    ("a_file_of_50_mb", a_file_of_50_mb),
    ("a_text_stays_a_text", a_text_stays_a_text),
    ("an_empty_file", an_empty_file),
    ("the_sender_sees_how_far_it_is", the_sender_sees_how_far_it_is),
    ("the_receiver_sees_how_far_it_is", the_receiver_sees_how_far_it_is),
    ("either_side_changes_its_mind", either_side_changes_its_mind),
    ("a_side_that_leaves_is_missed", a_side_that_leaves_is_missed),
    ("a_link_works_once_and_for_a_while", a_link_works_once_and_for_a_while),
    ("what_is_dropped_is_sent", what_is_dropped_is_sent),
    ("a_hostile_download_runs_nowhere", a_hostile_download_runs_nowhere),
];

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let asked = std::env::var("UNCORK_BROWSER").unwrap_or_default();
    if asked == "no" || std::env::args().any(|arg| arg == "--list") {
        println!("browser: SKIPPED, as asked for");
        return ExitCode::SUCCESS;
    }
    let Some(driver) = Driver::start() else {
        println!("browser: SKIPPED, for want of chromium and chromedriver (Debian: chromium, chromium-driver)");
        return if asked == "yes" { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let mut failed = 0;
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(&wanted)) {
        let start = Instant::now();
        let passed = std::panic::catch_unwind(|| case(&driver)).is_ok();
        failed += usize::from(!passed);
        println!(
            "browser: {name} ... {} ({:.1} s)",
            if passed { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f32()
        );
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl std::panic::RefUnwindSafe for Driver {}

// The relay, and what is not a browser.

struct Site(Running);

impl Site {
    fn start() -> Self {
        Self::with(RendezvousConfig::default())
    }

    fn with(config: RendezvousConfig) -> Self {
        let (ttl, link) = (config.ttl, config.ttl_max);
        let page = Page::new(PageConfig { rendezvous: Some(String::new()), ttl, link, sessions: None });
        let rendezvous = Rendezvous::new(config).expect("a good one");
        let site = move |req: &mut Request<'_>| page.answer(req).unwrap_or_else(|| rendezvous.handle(req));
        Self(Server::bind("127.0.0.1:0").expect("bound").threads(2, site).expect("started"))
    }

    fn addr(&self) -> SocketAddr {
        self.0.addr().expect("an address")
    }

    fn url(&self) -> String {
        format!("http://{}/", self.addr())
    }

    /// Sends a request, and what of its body there is.
    fn ask(&self, line: &str, fields: &str, body: &[u8]) -> TcpStream {
        let mut peer = TcpStream::connect(self.addr()).expect("connected");
        peer.set_read_timeout(Some(PATIENCE)).expect("set");
        peer.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes()).expect("sent");
        peer.write_all(body).expect("sent");
        peer
    }

    /// A new stream's id.
    fn stream(&self, wish: &Value) -> String {
        let wish = wish.to_string();
        let fields = format!("Content-Length: {}\r\nConnection: close\r\n", wish.len());
        let mut answer = String::new();
        self.ask("POST /stream", &fields, wish.as_bytes()).read_to_string(&mut answer).expect("answered");
        let (_, id) = answer.rsplit_once(":\"").expect(&answer);
        id.trim_end_matches("\"}").to_owned()
    }
}

/// Chooses a file, as the button does.
fn choose(sender: &Browser<'_>, site: &Site, file: &str) -> String {
    sender.open(&site.url());
    sender.fill("#file", file);
    link(sender)
}

fn write(sender: &Browser<'_>, site: &Site, text: &str) -> String {
    sender.open(&site.url());
    sender.fill("#words", text);
    sender.click("#send-text");
    link(sender)
}

/// The link the page shows, once it has one.
#[track_caller]
fn link(sender: &Browser<'_>) -> String {
    let read = || sender.run("return document.getElementById('link').value", &[]);
    until("a link", || read().as_str().filter(|link| !link.is_empty()).map(str::to_owned))
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes without a pattern, the same every time.
fn noise(n: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    (0..n.div_ceil(8)).flat_map(|_| next()).take(n).collect()
}

const ENTER: char = '\u{e007}';

// What people do.

fn a_file_of_50_mb(driver: &Driver) {
    let (site, dir) = (Site::start(), Dir::new());
    let (sender, receiver) = (driver.browser(), driver.browser());
    // A name that needs every rule there is.
    let name = "Größe 100% \u{1f377} 'a' (1); b.bin";
    let bytes = noise(50_000_000);
    let file = dir.0.join(name);
    fs::write(&file, &bytes).expect("written");
    let link = choose(&sender, &site, file.to_str().expect("text"));
    assert!(link.starts_with(&format!("{}#file=", site.url())), "{link}");
    let drawn = || sender.run("const qr = document.getElementById('qr'); return !qr.hidden && qr.naturalWidth", &[]);
    assert!(until("a code", || drawn().as_u64()) > 100);
    receiver.open(&link);
    receiver.reads(name);
    receiver.reads("50 MB");
    // By the keyboard: what is most likely wanted has the focus.
    receiver.press(ENTER);
    receiver.reads("Received");
    sender.reads("Sent");
    let got = fs::read(receiver.downloaded(name)).expect("read");
    assert_eq!((got.len(), sum(&got)), (bytes.len(), sum(&bytes)));
    assert_eq!((sender.complaints(), receiver.complaints()), (vec![], vec![]));
}

fn a_text_stays_a_text(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    let text = "Größe: <b>100 %</b>\n<img src=x onerror=alert(1)>\n\n&amp; <script>document.title = 'run'</script>";
    receiver.open(&write(&sender, &site, text));
    receiver.reads("Somebody sends you a text");
    receiver.click("#show");
    receiver.reads("Here is the text");
    let shown =
        receiver.run("const it = document.getElementById('text'); return [it.textContent, it.children.length]", &[]);
    assert_eq!(shown, json!([text, 0]));
    sender.reads("Sent");
    assert_eq!((sender.complaints(), receiver.complaints()), (vec![], vec![]));
}

fn an_empty_file(driver: &Driver) {
    let (site, dir) = (Site::start(), Dir::new());
    let (sender, receiver) = (driver.browser(), driver.browser());
    let file = dir.0.join("nothing");
    fs::write(&file, b"").expect("written");
    receiver.open(&choose(&sender, &site, file.to_str().expect("text")));
    receiver.reads("0 bytes");
    receiver.click("#download");
    receiver.reads("Received");
    sender.reads("Sent");
    assert_eq!(fs::read(receiver.downloaded("nothing")).expect("read"), b"");
}

fn bar(browser: &Browser<'_>) -> Option<f64> {
    let script =
        "const it = document.getElementById('bar'); return it.offsetParent && it.position >= 0 ? it.position : null";
    browser.run(script, &[]).as_f64()
}

fn the_sender_sees_how_far_it_is(driver: &Driver) {
    const SIZE: usize = 64_000_000;
    let (site, dir, sender) = (Site::start(), Dir::new(), driver.browser());
    let file = dir.0.join("a.bin");
    fs::write(&file, vec![b'x'; SIZE]).expect("written");
    let link = choose(&sender, &site, file.to_str().expect("text"));
    let id = link.rsplit_once('=').expect("an id").1;
    let mut receiver = site.ask(&format!("GET /stream/{id}"), "Connection: close\r\n", b"");
    let mut half = vec![0; SIZE / 2];
    receiver.read_exact(&mut half).expect("the half");
    // It takes no more, and so the bar stands: beyond the half, since buffers are full, and not at the end.
    let share = until("half a bar", || bar(&sender).filter(|share| *share >= 0.49));
    assert!(share < 0.95, "{share}");
    sender.reads("of 64 MB");
    let mut rest = Vec::new();
    receiver.read_to_end(&mut rest).expect("the rest");
    sender.reads("Sent");
    assert!(rest.len() >= SIZE / 2 && rest.ends_with(b"xxxx"));
}

fn the_receiver_sees_how_far_it_is(driver: &Driver) {
    const SIZE: usize = 8_000_000;
    let (site, receiver) = (Site::start(), driver.browser());
    let disposition = "attachment; filename=\"b.bin\"";
    let id = site.stream(&json!({"download_headers":
        {"Content-Length": SIZE.to_string(), "Content-Disposition": disposition}}));
    let mut sender = site.ask(&format!("PUT /stream/{id}"), &format!("Content-Length: {SIZE}\r\n"), b"");
    receiver.open(&format!("{}#file={id}", site.url()));
    receiver.reads("8 MB");
    receiver.click("#download");
    sender.write_all(&vec![b'x'; SIZE / 4]).expect("sent");
    let share = until("a quarter", || bar(&receiver).filter(|share| *share > 0.2));
    assert!(share < 0.3, "{share}");
    sender.write_all(&vec![b'x'; SIZE - SIZE / 4]).expect("sent");
    receiver.reads("Received");
    assert_eq!(fs::metadata(receiver.downloaded("b.bin")).expect("there").len(), SIZE as u64);
}

fn either_side_changes_its_mind(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    receiver.open(&write(&sender, &site, "no"));
    receiver.reads("Somebody sends you a text");
    receiver.click("#decline");
    sender.reads("The other side said no");
    sender.click("#again");
    let again = until("another link", || Some(link(&sender)).filter(|link| !link.is_empty()));
    receiver.open(&again);
    receiver.reads("Somebody sends you a text");
    sender.click("#share [data-cancel]");
    receiver.reads("The sender has withdrawn it");
    sender.reads("Send it to another device");
}

fn a_side_that_leaves_is_missed(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    receiver.open(&write(&sender, &site, "gone"));
    receiver.reads("Somebody sends you a text");
    // The browser would keep the page for the way back, and its connection with it.
    sender.go("about:blank").expect("left");
    receiver.reads("The sender has withdrawn it");
    // Now the other, half way.
    let dir = Dir::new();
    let file = dir.0.join("c.bin");
    fs::write(&file, vec![b'x'; 64_000_000]).expect("written");
    let link = choose(&sender, &site, file.to_str().expect("text"));
    let id = link.rsplit_once('=').expect("an id").1;
    let mut other = site.ask(&format!("GET /stream/{id}"), "", b"");
    other.read_exact(&mut vec![0; 1_000_000]).expect("a part");
    sender.reads("Sending");
    drop(other);
    sender.reads("The other side has left");
    // And a sender, half way.
    let id = site.stream(&json!({}));
    let mut other = site.ask(&format!("PUT /stream/{id}"), "Content-Length: 1000000\r\n", b"");
    receiver.open(&format!("{}#file={id}", site.url()));
    receiver.reads("Somebody sends you a file");
    receiver.click("#download");
    other.write_all(&[b'x'; 1000]).expect("sent");
    receiver.reads("Receiving");
    drop(other);
    receiver.reads("The sender has left");
}

fn a_link_works_once_and_for_a_while(driver: &Driver) {
    let site = Site::with(RendezvousConfig {
        ttl_max: Duration::from_secs(3),
        ttl: Duration::from_secs(3),
        ..RendezvousConfig::default()
    });
    let (sender, receiver) = (driver.browser(), driver.browser());
    let id = site.stream(&json!({}));
    let _sender = site.ask(&format!("PUT /stream/{id}"), "Content-Length: 1\r\n", b"x");
    let _receiver = site.ask(&format!("GET /stream/{id}"), "", b"");
    receiver.open(&format!("{}#file={id}", site.url()));
    receiver.reads("This link was used already");
    receiver.open(&write(&sender, &site, "late"));
    sender.reads("The link has expired");
    receiver.reads("This link has expired");
    receiver.open(&format!("{}#text=00000000-0000-4000-8000-000000000000", site.url()));
    receiver.reads("This link does not work any more");
}

fn what_is_dropped_is_sent(driver: &Driver) {
    let (site, sender) = (Site::start(), driver.browser());
    let drop = |files: &[&str]| {
        let script = "const data = new DataTransfer();
            for (const name of arguments[0]) data.items.add(new File(['dropped'], name));
            const event = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
            document.getElementById('drop').dispatchEvent(event);
            return event.defaultPrevented";
        assert_eq!(sender.run(script, &[json!(files)]), json!(true), "else the browser leaves for the file");
    };
    sender.open(&site.url());
    drop(&["a.txt", "b.txt"]);
    sender.reads("One file at a time");
    drop(&["a\u{202e}txt.exe"]);
    sender.reads("atxt.exe");
    let link = link(&sender);
    let id = link.rsplit_once('=').expect("an id").1;
    let mut answer = String::new();
    let mut receiver = site.ask(&format!("GET /stream/{id}"), "", b"");
    receiver.read_to_string(&mut answer).expect("received");
    assert!(answer.ends_with("\r\n\r\ndropped") && answer.contains("; filename=\"atxt.exe\";"), "{answer}");
    sender.reads("Sent");
}

fn a_hostile_download_runs_nowhere(driver: &Driver) {
    let (site, receiver) = (Site::start(), driver.browser());
    let html = b"<!doctype html><title>run</title><script>document.title = 'run'</script>";
    let fields = json!({"Content-Type": "text/html", "Content-Disposition": "inline; filename=\"d.html\"",
        "Content-Security-Policy": "sandbox allow-scripts allow-same-origin"});
    let id = site.stream(&json!({"download_headers": fields}));
    let _sender = site.ask(&format!("PUT /stream/{id}"), &format!("Content-Length: {}\r\n", html.len()), html);
    receiver.open(&site.url());
    // It is saved, and the page stays where it is.
    let _ = receiver.go(&format!("{}stream/{id}", site.url()));
    assert_eq!(fs::read(receiver.downloaded("d.html")).expect("read"), html);
    assert_eq!(receiver.run("return [location.pathname, document.title]", &[]), json!(["/", "Relay"]));
    // Nor does a script get between the relay and its pages.
    let id = site.stream(&json!({"download_headers": {"Content-Type": "text/javascript"}}));
    let _sender = site.ask(&format!("PUT /stream/{id}"), "Content-Length: 2\r\n", b"1;");
    let script = "const allow = trustedTypes.createPolicy('test', { createScriptURL: (url) => url });
        return navigator.serviceWorker.register(allow.createScriptURL(arguments[0])).then(() => 'registered', String)";
    let refused = receiver.run(script, &[json!(format!("/stream/{id}"))]);
    assert!(refused.as_str().is_some_and(|error| error != "registered"), "{refused}");
}
