//! A tunnel that is requested over HTTP/2, by extended CONNECT (RFC 8441): HTTP/2 within a stream of HTTP/2.

use super::{
    client::Client,
    proxy::{HOST, get},
    raw::{ACK, DATA, END_HEADERS, Frame, HEADERS, SETTINGS, WINDOW_UPDATE, literals},
    world::World,
};

/// The outer connection, as a client of HTTP/2 whose only stream is 1.
struct Outer {
    client: Client,
    /// Bytes of the tunnel, of which the first `read` were looked at.
    inner: Vec<u8>,
    read: usize,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = u32::try_from(payload.len()).expect("a short payload").to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

impl Outer {
    fn new(world: &World) -> Self {
        let mut client = world.alpn_from(1, b"h2");
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send(frame(SETTINGS, 0, 0, []));
        Self { client, inner: Vec::new(), read: 0 }
    }

    /// Receives the next frame, except SETTINGS, which are acknowledged, and WINDOW_UPDATE.
    fn next(&mut self) -> Frame {
        loop {
            let head = self.client.exactly(9).expect("a frame");
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
            let payload = self.client.exactly(length).expect("a payload");
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => drop(self.client.send(self::frame(SETTINGS, ACK, 0, []))),
                SETTINGS | WINDOW_UPDATE => {}
                _ => return frame,
            }
        }
    }

    /// Receives this many bytes of the tunnel.
    fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.inner.len() < self.read + n {
            let frame = self.next();
            assert_eq!((frame.kind, frame.stream), (DATA, 1), "{frame:?}");
            self.inner.extend(frame.payload);
        }
        self.read += n;
        self.inner[self.read - n..self.read].to_vec()
    }

    /// Returns the stream of the next request in the tunnel.
    fn request(&mut self) -> u32 {
        loop {
            let head = self.exactly(9);
            self.exactly(usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]));
            if head[3] == HEADERS {
                return u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
            }
        }
    }

    fn send(&mut self, inner: Vec<u8>) {
        self.client.send(frame(DATA, 0, 1, inner));
    }
}

/// Returns the head of the request for a tunnel.
fn connect(token: &str) -> Vec<u8> {
    literals([
        (":method", "CONNECT"),
        (":protocol", "ptth"),
        (":scheme", "https"),
        (":path", "/tunnel"),
        (":authority", "localhost"),
        ("alpn", "h2, http%2F1.1"),
        ("authorization", &format!("Bearer {token}")),
        ("uncork-hosts", HOST),
    ])
}

#[test]
fn a_tunnel_may_be_a_stream_of_http2() {
    let world = World::new();
    let mut outer = Outer::new(&world);
    outer.client.send(frame(HEADERS, END_HEADERS, 1, connect("app")));
    let head = outer.next();
    // An indexed `:status: 200` (RFC 7541, appendix A).
    assert_eq!((head.kind, head.payload.first()), (HEADERS, Some(&0x88)), "{head:?}");
    assert_eq!(outer.exactly(24), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    outer.send(frame(SETTINGS, 0, 0, []));
    world.wait_until("the origin server is connected", |counts| counts.connections == 1);
    for mut client in [world.client(), world.secure_client()] {
        get(&mut client, "/");
        let stream = outer.request();
        let head = literals([(":status", "200"), ("content-length", "5")]);
        outer.send([frame(HEADERS, END_HEADERS, stream, head), frame(DATA, 1, stream, "hello")].concat());
        assert_eq!(client.response().text(), "hello");
    }
    outer.client.leave();
    world.wait_until("the connection has ended", |counts| counts.connections == 0);
}

#[test]
fn a_rejected_stream_gets_the_status() {
    let world = World::new();
    let mut outer = Outer::new(&world);
    outer.client.send(frame(HEADERS, END_HEADERS, 1, connect("guess")));
    let head = outer.next();
    assert_eq!(head.kind, HEADERS);
    assert_eq!(world.proxy.counts().handshakes_unauthorized, 1);
}
