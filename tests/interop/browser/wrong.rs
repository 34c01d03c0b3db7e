//! Failures, and the page's explanations: what has happened, and what to do.

use std::{
    fs,
    io::{Read, Write},
    time::Duration,
};

use serde_json::json;
use uncork::relay::RendezvousConfig;

use crate::{
    driver::{Dir, Driver, until},
    site::{Site, choose, id, link, write},
};

pub(crate) fn either_side_changes_its_mind(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    receiver.open(&write(&sender, &site, "no"));
    receiver.shows("Receive a text");
    receiver.click("#decline");
    sender.shows("The receiver declined");
    sender.click("#again");
    let again = until("another link", || Some(link(&sender)).filter(|link| !link.is_empty()));
    receiver.open(&again);
    receiver.shows("Receive a text");
    sender.click("#share [data-cancel]");
    receiver.shows("The sender has cancelled");
    sender.shows("Send a file or a text");
}

pub(crate) fn a_side_that_leaves_is_missed(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    receiver.open(&write(&sender, &site, "gone"));
    receiver.shows("Receive a text");
    // The browser would keep the page for the way back, and its connection with it.
    sender.go("about:blank").expect("navigated");
    receiver.shows("The sender has cancelled");
    // Now the other, half way.
    let dir = Dir::new();
    let file = dir.0.join("c.bin");
    fs::write(&file, vec![b'x'; 64_000_000]).expect("written");
    let link = choose(&sender, &site, file.to_str().expect("text"));
    let id = id(&link);
    let mut other = site.request(&format!("GET /stream/{id}"), "", b"");
    other.read_exact(&mut vec![0; 1_000_000]).expect("a part");
    sender.shows("Sending");
    drop(other);
    sender.shows("The receiver has disconnected");
    // And a sender, half way.
    let id = site.stream(&json!({}));
    let mut other = site.request(&format!("PUT /stream/{id}"), "Content-Length: 1000000\r\n", b"");
    receiver.open(&format!("{}#file={id}", site.url()));
    receiver.shows("Receive a file");
    receiver.click("#download");
    other.write_all(&[b'x'; 1000]).expect("sent");
    receiver.shows("Receiving");
    drop(other);
    receiver.shows("The sender has disconnected");
}

pub(crate) fn a_link_works_once_and_for_a_while(driver: &Driver) {
    let site = Site::with(RendezvousConfig {
        ttl_max: Duration::from_secs(3),
        ttl: Duration::from_secs(3),
        ..RendezvousConfig::default()
    });
    let (sender, receiver) = (driver.browser(), driver.browser());
    let id = site.stream(&json!({}));
    let _sender = site.request(&format!("PUT /stream/{id}"), "Content-Length: 1\r\n", b"x");
    let _receiver = site.request(&format!("GET /stream/{id}"), "", b"");
    receiver.open(&format!("{}#file={id}", site.url()));
    receiver.shows("This link has already been used");
    receiver.open(&write(&sender, &site, "late"));
    sender.shows("The link has expired");
    receiver.shows("This link has expired");
    receiver.open(&format!("{}#text=00000000-0000-4000-8000-000000000000", site.url()));
    receiver.shows("This link no longer works");
}

pub(crate) fn two_who_want_it_at_once(driver: &Driver) {
    const SIZE: usize = 1_000_000;
    let (site, first, second) = (Site::start(), driver.browser(), driver.browser());
    let fields = json!({"Content-Length": SIZE.to_string(), "Content-Disposition": "attachment; filename=\"e.bin\""});
    let id = site.stream(&json!({"download_headers": fields}));
    let mut source = site.request(&format!("PUT /stream/{id}"), &format!("Content-Length: {SIZE}\r\n"), b"");
    for browser in [&first, &second] {
        browser.open(&format!("{}#file={id}", site.url()));
        browser.shows("Receive a file");
    }
    // Both see the offer. The second one to accept gets an error, and no bytes.
    first.click("#download");
    source.write_all(&vec![b'x'; SIZE / 2]).expect("sent");
    until("the first download", || (site.state(&id) == "STREAMING").then_some(()));
    second.click("#download");
    second.shows("This link has already been used");
    source.write_all(&vec![b'x'; SIZE / 2]).expect("sent");
    first.shows("Received");
    assert_eq!(fs::metadata(first.downloaded("e.bin")).expect("there").len(), SIZE as u64);
    assert_eq!(fs::read_dir(&second.downloads.0).expect("read").count(), 0);
    assert!(second.text().contains("This link has already been used"));
}

pub(crate) fn a_file_that_is_too_large(driver: &Driver) {
    let site = Site::with(RendezvousConfig { body: 1_000_000, ..RendezvousConfig::default() });
    let (dir, sender) = (Dir::new(), driver.browser());
    let file = dir.0.join("f.bin");
    fs::write(&file, vec![b'x'; 30_000_000]).expect("written");
    sender.open(&site.url());
    sender.fill("#file", file.to_str().expect("text"));
    sender.shows("Too large for this relay");
}

pub(crate) fn a_relay_that_stops(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    receiver.open(&write(&sender, &site, "later"));
    receiver.shows("Receive a text");
    site.0.stop_now().expect("stopped");
    // The page does not wait forever.
    sender.shows("The relay ");
    receiver.click("#show");
    receiver.shows("The relay cannot be reached");
    // And a file, whose download the browser handles.
    let site = Site::start();
    let id = site.stream(&json!({}));
    let _source = site.request(&format!("PUT /stream/{id}"), "Content-Length: 5\r\n", b"");
    receiver.open(&format!("{}#file={id}", site.url()));
    receiver.shows("Receive a file");
    site.0.stop_now().expect("stopped");
    receiver.click("#download");
    receiver.shows("The relay cannot be reached");
}

pub(crate) fn a_hostile_download_runs_nowhere(driver: &Driver) {
    let (site, receiver) = (Site::start(), driver.browser());
    let html = b"<!doctype html><title>run</title><script>document.title = 'run'</script>";
    let fields = json!({"Content-Type": "text/html", "Content-Disposition": "inline; filename=\"d.html\"",
        "Content-Security-Policy": "sandbox allow-scripts allow-same-origin"});
    let id = site.stream(&json!({"download_headers": fields}));
    let _sender = site.request(&format!("PUT /stream/{id}"), &format!("Content-Length: {}\r\n", html.len()), html);
    receiver.open(&site.url());
    // The download is saved, and the page stays.
    let _ = receiver.go(&format!("{}stream/{id}", site.url()));
    assert_eq!(fs::read(receiver.downloaded("d.html")).expect("read"), html);
    assert_eq!(receiver.run("return [location.pathname, document.title]", &[]), json!(["/", "Relay"]));
    // Nor can a script interfere with the relay and its pages.
    let id = site.stream(&json!({"download_headers": {"Content-Type": "text/javascript"}}));
    let _sender = site.request(&format!("PUT /stream/{id}"), "Content-Length: 2\r\n", b"1;");
    let script = "const allow = trustedTypes.createPolicy('test', { createScriptURL: (url) => url });
        return navigator.serviceWorker.register(allow.createScriptURL(arguments[0])).then(() => 'registered', String)";
    let result = receiver.run(script, &[json!(format!("/stream/{id}"))]);
    assert!(result.as_str().is_some_and(|error| error != "registered"), "{result}");
}
