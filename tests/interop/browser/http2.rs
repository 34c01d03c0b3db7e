//! The page and WebSockets over HTTP/2, which a browser chooses over TLS by itself.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use serde_json::json;
use uncork::{
    Action, Listen, Request, Response, Server,
    h1::Version,
    ws::{self, Done, Message, Sender},
};

use crate::{
    driver::{Browser, Dir, Driver, until},
    program::{Example, Setup},
    site::{Site, link, random_bytes, sum, tls},
};

/// Asserts that all that the page has loaded came over HTTP/2. A request that it has aborted has no status.
#[track_caller]
fn is_http2(browser: &Browser) {
    let script = "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
        .filter(it => it.name.startsWith('http') && it.responseStatus).map(it => it.nextHopProtocol)";
    let protocols = browser.run(script, &[]);
    let all = protocols.as_array().expect("a list");
    assert!(!all.is_empty() && all.iter().all(|protocol| protocol == "h2"), "{protocols}");
}

pub(crate) fn a_file_goes_over_http_2(driver: &Driver) {
    let (site, dir) = (Site::https(), Dir::new());
    let (sender, receiver) = (driver.browser(), driver.browser());
    let bytes = random_bytes(20_000_000);
    let file = dir.0.join("file.bin");
    fs::write(&file, &bytes).expect("written");
    sender.open(&site.url().replace("http:", "https:"));
    sender.fill("#file", file.to_str().expect("text"));
    let link = link(&sender);
    receiver.open(&link);
    receiver.shows("20 MB");
    is_http2(&receiver);
    receiver.press('\u{e007}');
    receiver.shows("Received");
    sender.shows("Sent");
    is_http2(&sender);
    let got = fs::read(receiver.downloaded("file.bin")).expect("read");
    assert_eq!((got.len(), sum(&got)), (bytes.len(), sum(&bytes)));
}

/// Over HTTP/1.1 a browser has at most six connections: each upload would wait for a download that cannot begin.
pub(crate) fn many_transfers_of_one_browser_at_once(driver: &Driver) {
    let (site, browser) = (Site::https(), driver.browser());
    browser.open(&site.url().replace("http:", "https:"));
    browser.shows("Send a file or a text");
    let script = "
        const transfer = async n => {
            const created = await fetch('/stream', {method: 'POST', body: '{}'});
            const path = '/stream/' + Object.values(await created.json())[0];
            const body = new Uint8Array(300000).fill(n);
            const sent = fetch(path, {method: 'PUT', body: new Blob([body])});
            return () => Promise.all([sent, fetch(path).then(got => got.arrayBuffer())]);
        };
        (async () => {
            const receive = await Promise.all([...Array(20).keys()].map(transfer));
            const all = await Promise.all(receive.map(get => get()));
            const right = all.filter(([sent, got], n) =>
                sent.ok && got.byteLength == 300000 && new Uint8Array(got).every(byte => byte == n));
            window.result = right.length;
        })().catch(error => window.result = String(error));";
    browser.run(script, &[]);
    let result =
        until("20 transfers", || Some(browser.run("return window.result ?? null", &[])).filter(|it| !it.is_null()));
    assert_eq!(result, json!(20), "{:?}", browser.warnings());
    is_http2(&browser);
}

struct Echo(Option<Sender>, Version);

impl ws::Handler for Echo {
    fn open(&mut self, sender: &Sender) {
        self.0 = Some(sender.clone());
    }

    fn message(&mut self, message: Message<'_>, done: Done) {
        let Self(Some(sender), version) = self else { return };
        let _ = sender.text(&format!("{version:?} {}", message.bytes().len()));
        drop(done);
    }
}

/// A file of 50 MB, while a WebSocket is open, over one connection.
pub(crate) fn a_file_and_a_websocket_share_a_connection(driver: &Driver) {
    let connections = Arc::new(Mutex::new(BTreeSet::new()));
    let (seen, file) = (connections.clone(), Arc::<[u8]>::from(random_bytes(50_000_000)));
    let want = sum(&file);
    let site = move |req: &mut Request<'_>| -> Action {
        seen.lock().expect("no panic").insert(format!("{:?} {}", req.version(), req.id().conn));
        match req.path() {
            "/" => Response::text("the page").into(),
            "/file" => Response::new(200).body(file.clone()).into(),
            "/socket" => match ws::check(req) {
                Ok(accept) => accept.switch(Echo(None, req.version())).0.into(),
                Err(rejection) => rejection.into(),
            },
            _ => Response::new(404).into(),
        }
    };
    let listen = Listen::tcp("127.0.0.1:0").expect("bound").tls(tls());
    let server = Server::new().listen(listen).threads(1, site).expect("started");
    let browser = driver.browser();
    browser.open(&format!("https://{}/", server.local_addr().expect("an address")));
    let script = "
        const echo = text => new Promise(done => { socket.onmessage = event => done(event.data); socket.send(text); });
        const hex = hash => [...new Uint8Array(hash)].map(byte => byte.toString(16).padStart(2, '0')).join('');
        const socket = new WebSocket('/socket');
        socket.onopen = async () => {
            const before = await echo('abc');
            const file = fetch('/file', {cache: 'no-store'}).then(got => got.arrayBuffer());
            const during = await echo('x'.repeat(100000));
            const bytes = await file;
            const hash = hex(await crypto.subtle.digest('SHA-256', bytes));
            window.result = [bytes.byteLength, hash, before, during, await echo('')];
        };
        socket.onclose = () => window.result ??= 'closed';";
    browser.run(script, &[]);
    let result =
        until("the file", || Some(browser.run("return window.result ?? null", &[])).filter(|it| !it.is_null()));
    assert_eq!(result, json!([50_000_000, want, "Http2 3", "Http2 100000", "Http2 0"]));
    let connections = connections.lock().expect("no panic");
    assert_eq!(connections.len(), 1, "{connections:?}");
    server.stop_handle().stop_now();
}

pub(crate) fn a_websocket_is_a_stream(driver: &Driver) {
    let site = |req: &mut Request<'_>| -> Action {
        if req.path() == "/" {
            return Response::text("the page").into();
        }
        match ws::check(req) {
            Ok(accept) => accept.switch(Echo(None, req.version())).0.into(),
            Err(rejection) => rejection.into(),
        }
    };
    let listen = Listen::tcp("127.0.0.1:0").expect("bound").tls(tls());
    let server = Server::new().listen(listen).threads(2, site).expect("started");
    let browser = driver.browser();
    browser.open(&format!("https://{}/", server.local_addr().expect("an address")));
    let script = "
        window.got = [];
        window.sockets = [...Array(10).keys()].map(n => {
            const socket = new WebSocket('/socket');
            socket.onopen = () => socket.send('x'.repeat(n * 10000));
            socket.onmessage = event => { got.push(event.data); socket.close(1000); };
            socket.onclose = event => got.push(`closed ${event.code} ${event.wasClean}`);
            return socket;
        });";
    browser.run(script, &[]);
    let got = until("10 messages and ends", || {
        let got = browser.run("return got", &[]);
        Some(got).filter(|got| got.as_array().is_some_and(|got| got.len() == 20))
    });
    let mut got: Vec<_> = got.as_array().expect("a list").iter().filter_map(|text| text.as_str()).collect();
    got.sort_unstable();
    let mut want: Vec<_> = (0..10).map(|n| format!("Http2 {}", n * 10_000)).collect();
    want.extend(vec!["closed 1000 true".to_owned(); 10]);
    want.sort_unstable();
    assert_eq!(got, want);
    server.stop_handle().stop_now();
}

/// The gateway's WebSocket.
pub(crate) fn the_chat_works_over_http_2(driver: &Driver) {
    let chat = Example::start("chat", Setup { tls: true, mode: "threads" }, &[]);
    let (ann, bob) = (driver.browser(), driver.browser());
    for (browser, name) in [(&ann, "Ann"), (&bob, "Bob")] {
        browser.open(&format!("https://{}/", chat.addr));
        is_http2(browser);
        browser.fill("#input", name);
        browser.press('\u{e007}');
        browser.shows(&format!("Connected as {name}."));
    }
    ann.fill("#input", "over one connection");
    ann.press('\u{e007}');
    bob.shows("over one connection");
}
