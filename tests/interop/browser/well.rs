//! Transfers that succeed.

use std::{
    fs,
    io::{Read, Write},
};

use serde_json::json;

use crate::{
    driver::{Browser, Dir, Driver, until},
    site::{Site, bar, choose, code, id, link, random_bytes, sum, write},
};

const ENTER: char = '\u{e007}';
const CONTROL: char = '\u{e009}';

pub(crate) fn a_file_of_50_mb(driver: &Driver) {
    let (site, dir) = (Site::start(), Dir::new());
    let (sender, receiver) = (driver.browser(), driver.browser());
    // A name that needs every escaping rule.
    let name = "Größe 100% \u{1f377} 'a' (1); b.bin";
    let bytes = random_bytes(50_000_000);
    let file = dir.0.join(name);
    fs::write(&file, &bytes).expect("written");
    let link = choose(&sender, &site, file.to_str().expect("text"));
    assert!(link.starts_with(&format!("{}#file=", site.url())), "{link}");
    assert_eq!(code(&sender), link, "what a camera sees");
    receiver.open(&link);
    receiver.shows(name);
    receiver.shows("50 MB");
    // By keyboard: the most likely control has the focus.
    receiver.press(ENTER);
    receiver.shows("Received");
    sender.shows("Sent");
    let got = fs::read(receiver.downloaded(name)).expect("read");
    assert_eq!((got.len(), sum(&got)), (bytes.len(), sum(&bytes)));
    assert_eq!((sender.warnings(), receiver.warnings()), (vec![], vec![]));
    assert_eq!((sender.third_parties(), receiver.third_parties()), (json!([]), json!([])));
}

pub(crate) fn a_file_is_never_in_memory(driver: &Driver) {
    const SIZE: u64 = 512 << 20;
    let (site, dir, sender) = (Site::start(), Dir::new(), driver.browser());
    let file = dir.0.join("zeros.bin");
    // It has no blocks on the disk, and is sent completely.
    fs::File::create(&file).and_then(|file| file.set_len(SIZE)).expect("made");
    sender.open(&site.url());
    let Some(before) = sender.memory() else { return };
    sender.fill("#file", file.to_str().expect("text"));
    let link = link(&sender);
    let mut receiver = site.request(&format!("GET /stream/{}", id(&link)), "Connection: close\r\n", b"");
    let (mut block, mut got, mut peak) = (vec![0; 1 << 20], 0, before);
    loop {
        let n = receiver.read(&mut block).expect("received") as u64;
        // At a quarter, at a half and at three quarters.
        if n == 0 || (got + n) / (SIZE / 4) > got / (SIZE / 4) {
            peak = peak.max(sender.memory().expect("reported before"));
        }
        if n == 0 {
            break;
        }
        got += n;
    }
    assert!(got > SIZE, "all of it, and a head");
    sender.shows("Sent");
    assert!(peak - before < SIZE / 4, "{} MiB for {} MiB", (peak - before) >> 20, SIZE >> 20);
}

pub(crate) fn a_text_stays_a_text(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    let text = "Größe: <b>100 %</b>\n<img src=x onerror=alert(1)>\n\n&amp; <script>document.title = 'run'</script>";
    receiver.open(&write(&sender, &site, text));
    receiver.shows("Receive a text");
    receiver.click("#show");
    receiver.shows("Here is the text");
    let shown =
        receiver.run("const it = document.getElementById('text'); return [it.textContent, it.children.length]", &[]);
    assert_eq!(shown, json!([text, 0]));
    sender.shows("Sent");
    assert_eq!((sender.warnings(), receiver.warnings()), (vec![], vec![]));
}

pub(crate) fn a_text_that_is_a_link_can_be_followed(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    let visit = "const it = document.getElementById('visit'); return [!it.hidden, it.getAttribute('href'), it.rel]";
    for (text, shown, href) in [
        (" https://example.org/?a=b#c\n", true, "https://example.org/?a=b#c"),
        ("javascript:alert(1)", false, "#"),
        ("https://example.org/ and more", false, "#"),
    ] {
        receiver.open(&write(&sender, &site, text));
        receiver.shows("Receive a text");
        receiver.click("#show");
        receiver.shows("Here is the text");
        assert_eq!(receiver.run(visit, &[]), json!([shown, href, "noopener noreferrer"]), "{text}");
        sender.shows("Sent");
    }
}

/// Without a mouse: the focus is always where the next step is.
pub(crate) fn a_keyboard_is_enough(driver: &Driver) {
    let site = Site::start();
    let (sender, receiver) = (driver.browser(), driver.browser());
    let has = |browser: &Browser, id: &str| {
        until(&format!("the focus on {id}"), || browser.focus().contains(id).then_some(()));
    };
    sender.open(&site.url());
    // The mark at the top, the file, the text, its button.
    for id in ["Relay", "file", "words"] {
        assert!(sender.tab_key().contains(id), "{id}: {}", sender.focus());
    }
    sender.press('x');
    assert_eq!(sender.tab_key(), "send-text");
    sender.press(ENTER);
    has(&sender, "copy-link");
    let link = link(&sender);
    receiver.open(&link);
    has(&receiver, "show");
    receiver.press(ENTER);
    has(&receiver, "Here is the text");
    has(&sender, "over-title");
    sender.shows("Sent");
    assert_eq!(sender.tab_key(), "fresh");
    sender.press(ENTER);
    has(&sender, "Send a file or a text");
    // From within the text.
    sender.fill("#words", "y");
    sender.chord(CONTROL, ENTER);
    has(&sender, "copy-link");
}

pub(crate) fn an_empty_file(driver: &Driver) {
    let (site, dir) = (Site::start(), Dir::new());
    let (sender, receiver) = (driver.browser(), driver.browser());
    let file = dir.0.join("nothing");
    fs::write(&file, b"").expect("written");
    receiver.open(&choose(&sender, &site, file.to_str().expect("text")));
    receiver.shows("0 bytes");
    receiver.click("#download");
    receiver.shows("Received");
    sender.shows("Sent");
    assert_eq!(fs::read(receiver.downloaded("nothing")).expect("read"), b"");
}

pub(crate) fn the_sender_sees_how_far_it_is(driver: &Driver) {
    const SIZE: usize = 64_000_000;
    let (site, dir, sender) = (Site::start(), Dir::new(), driver.browser());
    let file = dir.0.join("a.bin");
    fs::write(&file, vec![b'x'; SIZE]).expect("written");
    let link = choose(&sender, &site, file.to_str().expect("text"));
    let id = id(&link);
    let mut receiver = site.request_narrow(&format!("GET /stream/{id}"), "Connection: close\r\n");
    let mut half = vec![0; SIZE / 2];
    receiver.read_exact(&mut half).expect("the half");
    // It takes no more, so the bar stands: beyond the half, since buffers are full, and not at the end.
    let share = until("half a bar", || bar(&sender).filter(|share| *share >= 0.49));
    assert!(share < 0.95, "{share}");
    sender.shows("of 64 MB");
    let mut rest = Vec::new();
    receiver.read_to_end(&mut rest).expect("the rest");
    sender.shows("Sent");
    assert!(rest.len() >= SIZE / 2 && rest.ends_with(b"xxxx"));
}

pub(crate) fn the_receiver_sees_how_far_it_is(driver: &Driver) {
    const SIZE: usize = 8_000_000;
    let (site, receiver) = (Site::start(), driver.browser());
    let disposition = "attachment; filename=\"b.bin\"";
    let id = site.stream(&json!({"download_headers":
        {"Content-Length": SIZE.to_string(), "Content-Disposition": disposition}}));
    let mut sender = site.request(&format!("PUT /stream/{id}"), &format!("Content-Length: {SIZE}\r\n"), b"");
    receiver.open(&format!("{}#file={id}", site.url()));
    receiver.shows("8 MB");
    receiver.click("#download");
    sender.write_all(&vec![b'x'; SIZE / 4]).expect("sent");
    let share = until("a quarter", || bar(&receiver).filter(|share| *share > 0.2));
    assert!(share < 0.3, "{share}");
    sender.write_all(&vec![b'x'; SIZE - SIZE / 4]).expect("sent");
    receiver.shows("Received");
    assert_eq!(fs::metadata(receiver.downloaded("b.bin")).expect("there").len(), SIZE as u64);
}

pub(crate) fn what_is_dropped_is_sent(driver: &Driver) {
    let (site, sender) = (Site::start(), driver.browser());
    let drop = |files: &[&str]| {
        let script = "const data = new DataTransfer();
            for (const name of arguments[0]) data.items.add(new File(['dropped'], name));
            const event = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
            document.getElementById('drop').dispatchEvent(event);
            return event.defaultPrevented";
        assert_eq!(sender.run(script, &[json!(files)]), json!(true), "otherwise the browser opens the file");
    };
    sender.open(&site.url());
    drop(&["a.txt", "b.txt"]);
    sender.shows("One file at a time");
    drop(&["a\u{202e}txt.exe"]);
    sender.shows("atxt.exe");
    let link = link(&sender);
    let id = id(&link);
    let mut response = String::new();
    let mut receiver = site.request(&format!("GET /stream/{id}"), "", b"");
    receiver.read_to_string(&mut response).expect("received");
    assert!(response.ends_with("\r\n\r\ndropped") && response.contains("; filename=\"atxt.exe\";"), "{response}");
    sender.shows("Sent");
}
