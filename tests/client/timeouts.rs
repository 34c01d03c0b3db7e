//! Servers that are too slow: each timeout.

use std::{sync::mpsc::channel, time::Duration};

use uncork::{
    Request, Response, Server, Timeout,
    client::{self, Client, Error},
};

use crate::scripted::{Peer, Scripted, TIMEOUT, ok};

/// Waits until the client has closed the connection.
fn wait_until_closed(mut peer: Peer) {
    while !peer.is_closed() {
        peer.exactly(1000);
    }
}

#[test]
fn every_timeout() {
    let short = Duration::from_millis(100);
    let (release, blocked) = channel::<()>();
    let server = Scripted::new(5, move |n, mut peer| {
        peer.head().expect("a request");
        match n {
            0 | 1 => {}
            2 => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
            // Single bytes, which an idle timeout would not stop.
            3 => {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                peer.stream.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
                while std::io::Write::write_all(&mut peer.stream, b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                return;
            }
            _ => return blocked.recv_timeout(TIMEOUT).expect("the end of the test"),
        }
        wait_until_closed(peer);
    });
    let client = Client::new();
    let call = |configure: &dyn Fn(client::Request) -> client::Request| {
        client.call_blocking(configure(client::Request::get(&server.url("/")))).expect_err("a timeout")
    };
    assert_eq!(call(&|request| request.head_timeout(short)), Error::TimedOut(Timeout::Head));
    assert_eq!(call(&|request| request.timeout(short)), Error::TimedOut(Timeout::Total));
    assert_eq!(call(&|request| request.idle_timeout(short)), Error::TimedOut(Timeout::Idle));
    assert_eq!(call(&|request| request.idle_timeout(TIMEOUT).timeout(2 * short)), Error::TimedOut(Timeout::Total));
    // A server that does not take the body.
    let upload = client::Request::post(&server.url("/"), vec![0; 32 << 20]).idle_timeout(short).head_timeout(TIMEOUT);
    assert_eq!(client.call_blocking(upload), Err(Error::TimedOut(Timeout::Idle)));
    release.send(()).expect("a receiver");
    server.join();
}

/// Sends this repeatedly, byte by byte, until the client has closed the connection.
fn send_slowly(mut peer: Peer, bytes: &[u8]) {
    for piece in bytes.chunks(1).cycle() {
        if std::io::Write::write_all(&mut peer.stream, piece).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A timeout that each byte restarts would not stop a server that sends one byte at a time.
#[test]
fn single_bytes_do_not_extend_a_timeout() {
    let short = Duration::from_millis(100);
    let server = Scripted::new(5, move |n, mut peer| {
        peer.head().expect("a request");
        match n {
            0 => send_slowly(
                peer,
                b"HTTP/1.1 200 OK\r\nA: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ),
            // Informational responses (1xx) are not the response.
            1 => send_slowly(peer, b"HTTP/1.1 102 x\r\n\r\n"),
            // Bodies that the client does not need: of a redirect, and of a discarded response.
            2 => {
                peer.send("HTTP/1.1 302 x\r\nLocation: /there\r\n\r\n");
                send_slowly(peer, b"x");
            }
            3 => peer.send(ok("there")),
            _ => {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                send_slowly(peer, b"1\r\nx\r\n");
            }
        }
    });
    let client = Client::new();
    let call = |path: &str| client::Request::get(&server.url(path)).head_timeout(short).idle_timeout(short);
    for _ in 0..2 {
        assert_eq!(client.call_blocking(call("/")), Err(Error::TimedOut(Timeout::Head)));
    }
    assert_eq!(
        client
            .call_blocking(call("/").max_redirects(1).head_timeout(TIMEOUT).timeout(TIMEOUT))
            .map(|response| response.body),
        Ok(b"there".to_vec())
    );
    let (sender, end) = channel();
    let loops = Server::new().threads(1, |_: &mut Request<'_>| Response::new(404));
    let loops = loops.expect("running");
    client.send(&loops.loops()[0], call("/").fresh().head_timeout(TIMEOUT), move |response| {
        let response = response.expect("a head").on_end(move |end| sender.send(end).expect("a receiver"));
        response.discard();
    });
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(Err(Error::TimedOut(Timeout::Idle))));
    loops.stop_now().expect("ended");
    server.join();
}
