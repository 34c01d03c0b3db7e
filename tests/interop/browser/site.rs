//! The relay of this process, and the parts that are not a browser: raw requests, files, the content of the page.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use uncork::{
    Listen, Request, Running, Server, Tls,
    relay::{Rendezvous, RendezvousConfig},
};

use crate::{
    driver::{Browser, TIMEOUT, until},
    page::{Page, PageConfig},
    program::{Identity, identity},
};

/// Returns an identity that the browsers accept.
pub(crate) fn tls() -> Tls {
    let Identity { cert, key, .. } = identity();
    Tls::pem(cert, key).expect("a valid pair")
}

/// A relay of this process.
pub(crate) struct Site(pub(crate) Running);

impl Site {
    pub(crate) fn start() -> Self {
        Self::with(RendezvousConfig::default())
    }

    pub(crate) fn with(config: RendezvousConfig) -> Self {
        Self::listen(Listen::tcp("127.0.0.1:0").expect("bound"), config)
    }

    pub(crate) fn https() -> Self {
        Self::listen(Listen::tcp("127.0.0.1:0").expect("bound").tls(tls()), RendezvousConfig::default())
    }

    pub(crate) fn listen(listen: Listen, config: RendezvousConfig) -> Self {
        let (ttl, link) = (config.ttl, config.ttl_max);
        let page = Page::new(PageConfig { rendezvous: Some(String::new()), ttl, link, sessions: None });
        let rendezvous = Rendezvous::new(config).expect("a good one");
        let site = move |req: &mut Request<'_>| page.respond(req).unwrap_or_else(|| rendezvous.handle(req));
        Self(Server::new().listen(listen).threads(2, site).expect("started"))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.addr())
    }

    /// Sends a request, and the given part of its body.
    pub(crate) fn request(&self, line: &str, fields: &str, body: &[u8]) -> TcpStream {
        Self::send(TcpStream::connect(self.addr()).expect("connected"), line, fields, body)
    }

    /// Like [`request`](Self::request), but from a socket with a small buffer: some systems let buffers grow to 32 MiB.
    pub(crate) fn request_narrow(&self, line: &str, fields: &str) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("made");
        socket.set_recv_buffer_size(256 * 1024).expect("set");
        socket.connect(&self.addr().into()).expect("connected");
        Self::send(socket.into(), line, fields, b"")
    }

    fn send(mut peer: TcpStream, line: &str, fields: &str, body: &[u8]) -> TcpStream {
        peer.set_read_timeout(Some(TIMEOUT)).expect("set");
        peer.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes()).expect("sent");
        peer.write_all(body).expect("sent");
        peer
    }

    /// Creates a stream. Returns its id.
    pub(crate) fn stream(&self, options: &Value) -> String {
        let options = options.to_string();
        let fields = format!("Content-Length: {}\r\nConnection: close\r\n", options.len());
        let mut response = String::new();
        self.request("POST /stream", &fields, options.as_bytes()).read_to_string(&mut response).expect("a response");
        let (_, id) = response.rsplit_once(":\"").expect(&response);
        id.trim_end_matches("\"}").to_owned()
    }

    /// Returns the state of a stream, as its status has it.
    pub(crate) fn state(&self, id: &str) -> String {
        let mut response = String::new();
        let mut peer = self.request(&format!("GET /stream/{id}/status"), "Connection: close\r\n", b"");
        peer.read_to_string(&mut response).expect("a response");
        let (_, body) = response.split_once("\r\n\r\n").expect(&response);
        let status: Value = serde_json::from_str(body).expect(&response);
        status["state"].as_str().expect(&response).to_owned()
    }
}

/// Chooses a file, like the button.
pub(crate) fn choose(sender: &Browser, site: &Site, file: &str) -> String {
    sender.open(&site.url());
    sender.fill("#file", file);
    link(sender)
}

pub(crate) fn write(sender: &Browser, site: &Site, text: &str) -> String {
    sender.open(&site.url());
    sender.fill("#words", text);
    sender.click("#send-text");
    link(sender)
}

/// Returns the link of the page, when it has one.
#[track_caller]
pub(crate) fn link(sender: &Browser) -> String {
    let read = || sender.run("return document.getElementById('link').value", &[]);
    until("a link", || read().as_str().filter(|link| !link.is_empty()).map(str::to_owned))
}

pub(crate) fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns pseudo-random bytes, the same in every call.
pub(crate) fn random_bytes(n: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    (0..n.div_ceil(8)).flat_map(|_| next()).take(n).collect()
}

/// Returns the bar's value, if it is visible and has one.
pub(crate) fn bar(browser: &Browser) -> Option<f64> {
    let script =
        "const it = document.getElementById('bar'); return it.offsetParent && it.position >= 0 ? it.position : null";
    browser.run(script, &[]).as_f64()
}

/// Returns the id in a link.
pub(crate) fn id(link: &str) -> &str {
    link.rsplit_once('=').expect("an id").1
}

/// Returns the text of the QR code on the page, read from its pixels.
#[track_caller]
pub(crate) fn code(sender: &Browser) -> String {
    let script = "const qr = document.getElementById('qr');
        if (qr.hidden || !qr.complete || !qr.naturalWidth) return null;
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [qr.naturalWidth, qr.naturalHeight];
        const context = canvas.getContext('2d');
        context.drawImage(qr, 0, 0);
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, canvas.height, Array.from({ length: data.length / 4 }, (_, i) => +(data[4 * i] > 127)).join('')]";
    let drawn = until("a code", || Some(sender.run(script, &[])).filter(Value::is_array));
    let side = |n: usize| usize::try_from(drawn[n].as_u64().expect("a number")).expect("a small one");
    let (width, pixels) = (side(0), drawn[2].as_str().expect("pixels").as_bytes());
    let light = |x, y| if pixels[y * width + x] == b'1' { 255 } else { 0 };
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, side(1), light);
    let codes = image.detect_grids();
    codes.first().expect("one").decode().expect("readable").1
}
