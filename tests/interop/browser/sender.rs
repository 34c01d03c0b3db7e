//! What a sender must know: who can read the content, whether the link was opened, and where it works.

use std::io::Read;

use serde_json::json;
use uncork::{Listen, relay::RendezvousConfig};

use crate::{
    driver::{Browser, Driver, HOST, until},
    site::{Site, code, id, link, write},
};

const OPENED: &str = "The link was opened. Waiting for the receiver to accept.";

pub(crate) fn what_the_relay_can_read_is_said_before(driver: &Driver) {
    let (http, https, sender) = (Site::start(), Site::https(), driver.browser());
    let encrypted =
        "HTTPS encrypts it on the way to and from the relay, but the relay\u{2019}s operator could read it.";
    let open = "This page does not use HTTPS, so the relay\u{2019}s operator and others on the network could read it.";
    let local = "The relay\u{2019}s operator could read it.";
    for (url, said) in [
        (format!("http://{HOST}:{}/", http.addr().port()), open),
        (http.url(), local),
        (format!("https://{HOST}:{}/", https.addr().port()), encrypted),
        (https.url().replace("http:", "https:"), encrypted),
    ] {
        sender.open(&url);
        sender.shows("Send a file or a text");
        let text = sender.text();
        let said = format!("It passes through this relay, which stores nothing. {said}\n");
        assert!(text.contains(&said) && text.matches("read it").count() == 1, "{url}: {text}");
        assert!(!text.contains("directly"), "{text}");
    }
}

/// Waits until the sender's page has asked for the status twice more.
fn two_more_polls(sender: &Browser) {
    let script = "return performance.getEntriesByType('resource').filter((it) => it.name.endsWith('/status')).length";
    let count = || sender.run(script, &[]).as_u64().expect("a number");
    let before = count();
    until("two polls", || (count() >= before + 2).then_some(()));
}

pub(crate) fn an_opened_link_is_reported(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    let link = write(&sender, &site, "opened");
    sender.shows("Waiting for the other device.");
    // A program that previews links loads the page, and may load what it finds in it, but runs no script.
    let fields = "Accept: text/html\r\nConnection: close\r\n";
    let mut response = String::new();
    site.request("GET /", fields, b"").read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    // The page shows its link before the relay has received the head of its upload.
    until("the upload's head", || (site.state(id(&link)) == "SRC_CONNECTED").then_some(()));
    two_more_polls(&sender);
    assert!(!sender.text().contains(OPENED));
    // Nor is a page that a browser has loaded in advance, and does not show yet.
    let hidden =
        "Object.defineProperty(document, 'visibilityState', { get: () => window.shown ? 'visible' : 'hidden' })";
    if receiver.before_load(hidden) {
        receiver.open(&link);
        receiver.shows("Receive a text");
        two_more_polls(&sender);
        assert!(!sender.text().contains(OPENED));
        receiver.run("window.shown = true; document.dispatchEvent(new Event('visibilitychange'))", &[]);
    } else {
        receiver.open(&link);
    }
    receiver.shows("Receive a text");
    sender.shows(OPENED);
    // In words, in the element whose changes a screen reader reads aloud.
    let state = "const it = document.querySelector('#live[role=status]'); return [it.innerText.trim(), document.title]";
    assert_eq!(sender.run(state, &[]), json!([OPENED, "The link was opened \u{b7} Relay"]));
    // Opened again, it still works.
    receiver.open(&link);
    receiver.shows("Receive a text");
    receiver.click("#show");
    receiver.shows("Here is the text");
    sender.shows("Sent");
    // The next link was not opened.
    sender.click("#fresh");
    sender.fill("#words", "again");
    sender.click("#send-text");
    sender.shows("Waiting for the other device.");
    two_more_polls(&sender);
    assert!(!sender.text().contains(OPENED));
    assert_eq!(sender.warnings(), Vec::<String>::new());
}

pub(crate) fn a_link_for_this_computer_only_is_marked(driver: &Driver) {
    let (site, sender) = (Site::start(), driver.browser());
    // Not every system has IPv6.
    let v6 = Listen::tcp("[::1]:0").map(|listen| Site::listen(listen, RendezvousConfig::default()));
    let port = site.addr().port();
    let describes = "return document.getElementById('copy-link').getAttribute('aria-describedby')";
    let open = |host: &str, port: u16| {
        sender.open(&format!("http://{host}:{port}/"));
        sender.fill("#words", "where");
        sender.click("#send-text");
        link(&sender);
    };
    let v4 = ["127.0.0.1", "localhost", "relay.localhost", "127.1"].map(|host| (host, port));
    for (host, port) in v4.into_iter().chain(v6.iter().map(|site| ("[::1]", site.addr().port()))) {
        open(host, port);
        let text = sender.text();
        assert!(text.contains("This link works on this computer only"), "{host}: {text}");
        assert!(text.contains(&format!("--listen 0.0.0.0:{port}")), "{host}: {text}");
        assert_eq!(sender.run(describes, &[]), json!("local"), "{host}");
    }
    open(HOST, port);
    let text = sender.text();
    assert!(text.contains("Open this link") && !text.contains("on this computer only"), "{text}");
    assert_eq!(sender.run(describes, &[]), json!(null));
    assert!(link(&sender).starts_with(&format!("http://{HOST}:{port}/#text=")));
}

/// A browser opens at most six connections to a server. A page that waits has two, and needs another now and then.
pub(crate) fn several_pages_wait_at_once(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    let mut pages = Vec::new();
    for n in 0..4 {
        let tab = sender.tab();
        let link = write(&sender, &site, &format!("text {n}"));
        assert_eq!(code(&sender), link, "its code is drawn");
        pages.push((tab, link));
    }
    for (n, (tab, link)) in pages.iter().enumerate() {
        receiver.open(link);
        receiver.shows("Receive a text");
        receiver.click("#show");
        receiver.shows("Here is the text");
        assert!(receiver.text().contains(&format!("text {n}")));
        sender.switch(tab);
        sender.shows("Sent");
    }
}
