//! A client of HTTPS for C programs: they connect to it without TLS, and it connects to their daemon with TLS.
//!
//! ```text
//!   C client ──plain──▶ proxy ──TLS──▶ daemon of the C program
//! ```
//! The first two bytes of a connection are the port of the daemon. What follows is forwarded, and so are half-closes and
//! resets, in both directions. With the highest bit of a third byte, the end of the client's stream is truncated: the
//! daemon gets a FIN without close_notify.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::OnceLock,
    thread,
};

use uncork::{
    Dial, EventMask, Io, LoopHandle, PipeIn, PipeOut, ReadState, Request, Response, Server, TlsClient, Upgrade, pipe,
};

use crate::tls::{CLIENT, Pki, connect};

const ROOM: usize = 64 * 1024;

/// One side: copies between a stream and two pipes. A pipe that is dropped resets the stream at its other end.
struct Side {
    to: Option<PipeIn>,
    from: PipeOut,
}

impl Upgrade for Side {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if io.events().is_error() || io.rx.state() == ReadState::Truncated {
            io.abort();
            return EventMask::TERMINATE;
        }
        if let Some(mut to) = self.to.take() {
            to.on_room(io.waker());
            if to.is_closed() {
                io.abort();
                return EventMask::TERMINATE;
            }
            let n = to.write(io.rx.bytes());
            io.rx.consume(n);
            match io.rx.bytes().is_empty() && io.rx.state() == ReadState::Eof {
                true => to.finish(None),
                false => self.to = Some(to),
            }
        }
        self.from.on_data(io.waker());
        while io.tx.room() > 0 {
            let n = io.tx.write(self.from.bytes());
            self.from.consume(n);
            if n == 0 {
                break;
            }
        }
        if self.from.is_truncated() && self.from.bytes().is_empty() {
            io.abort();
            return EventMask::TERMINATE;
        }
        let mut mask = EventMask::EXTERNAL | EventMask::CORK;
        if self.from.is_finished() {
            io.tx.finish();
            if self.to.is_none() {
                return EventMask::TERMINATE;
            }
        }
        if self.to.is_some() && io.rx.bytes().is_empty() {
            mask |= EventMask::READ;
        }
        if io.tx.room() == 0 { mask | EventMask::WRITE } else { mask }
    }
}

/// Starts the proxy, which runs as long as the tests. Returns its port.
pub(crate) fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let running = Server::new().threads(1, |_: &mut Request<'_>| Response::new(500)).expect("running");
        let handle = running.loops()[0].clone();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let pem = std::fs::read(Pki::get().file("authority.pem")).expect("a certificate");
        let client = TlsClient::roots_pem(&pem).expect("a root");
        thread::spawn(move || {
            let _running = running;
            for stream in listener.incoming() {
                forward(stream.expect("a connection"), &handle, &client);
            }
        });
        port
    })
}

fn forward(mut stream: TcpStream, handle: &LoopHandle, client: &TlsClient) {
    let mut first = [0; 3];
    stream.read_exact(&mut first).expect("the port of the daemon");
    let port = u16::from_be_bytes([first[0], first[1]]);
    if first[2] != 0 {
        thread::spawn(move || truncate(stream, port));
        return;
    }
    let ((near_to, far_from), (far_to, near_from)) = (pipe(ROOM), pipe(ROOM));
    handle.adopt_upgrade(stream, Side { to: Some(near_to), from: near_from }).expect("a loop");
    handle.dial(Dial::tcp(([127, 0, 0, 1], port).into()).tls(client, "localhost"), move |result| {
        // Without a connection the pipes are dropped, which resets the client.
        result.is_ok().then(|| Box::new(Side { to: Some(far_to), from: far_from }) as Box<dyn Upgrade>)
    });
}

/// Forwards what the client sends, ends the stream without close_notify, and reads to the end.
fn truncate(mut near: TcpStream, port: u16) {
    let mut far = connect(port, &CLIENT);
    let mut all = Vec::new();
    near.read_to_end(&mut all).expect("the client's bytes");
    far.write_all(&all).expect("sent");
    far.sock.shutdown(Shutdown::Write).expect("a half-close");
    let _ = far.sock.read_to_end(&mut all);
}
