//! h2 as client and as server, over two wires with nothing between them, in one thread without a runtime.

use std::{future::Future, pin::pin, task};

use http::{Request, Response};

use super::*;

/// The buffers of both ends, between which the test moves bytes.
struct Pair {
    left: Arc<Mutex<Buffers>>,
    right: Arc<Mutex<Buffers>>,
    /// The largest number of bytes moved at a time.
    step: usize,
}

fn pair(step: usize) -> (Pair, Wire, Wire) {
    let [left, right] = [(); 2].map(|()| Arc::new(Mutex::new(Buffers::new())));
    (Pair { left: left.clone(), right: right.clone(), step }, Wire(left), Wire(right))
}

impl Pair {
    /// Moves bytes in both directions. Returns `true` if there were any.
    fn carry(&self) -> bool {
        let move_bytes = |from: &Mutex<Buffers>, to: &Mutex<Buffers>| {
            let mut to = lock(to);
            lock(from).drain(|bytes| to.fill(&bytes[..bytes.len().min(self.step)], ReadState::Open))
        };
        move_bytes(&self.left, &self.right) | move_bytes(&self.right, &self.left)
    }
}

/// Returns the output of a future that is ready at once.
fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(task::Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn exchange(step: usize, size: usize) -> Vec<u8> {
    let (pair, left, right) = pair(step);
    let (mut send, connection) = now(h2::client::handshake(left)).expect("the preface fits").expect("written");
    let mut connection = pin!(connection);
    let mut greeting = pin!(h2::server::handshake(right));
    let (mut server, mut out, mut response, mut body) = (None, None, None, None);
    let cx = &mut Context::from_waker(task::Waker::noop());
    let (mut got, mut sent) = (Vec::new(), 0);
    for _ in 0..1_000_000 {
        pair.carry();
        let _ = connection.as_mut().poll(cx);
        if response.is_none() && send.poll_ready(cx).is_ready() {
            response = Some(send.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap().0);
        }
        if let Some(waits) = &mut response
            && body.is_none()
            && let Poll::Ready(response) = pin!(waits).poll(cx)
        {
            body = Some(response.unwrap().into_body());
        }
        if let Some(body) = &mut body
            && let Poll::Ready(data) = body.poll_data(cx)
        {
            let Some(data) = data else { return got };
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            got.extend_from_slice(&data);
        }
        match &mut server {
            None => match greeting.as_mut().poll(cx) {
                Poll::Ready(done) => server = Some(done.unwrap()),
                Poll::Pending => continue,
            },
            Some(server) => {
                if let Poll::Ready(Some(request)) = server.poll_accept(cx) {
                    out = Some(request.unwrap().1.send_response(Response::new(()), false).unwrap());
                }
            }
        }
        if let Some(out) = &mut out
            && sent < size
        {
            out.reserve_capacity(size - sent);
            if let Poll::Ready(Some(room)) = out.poll_capacity(cx) {
                let chunk: Vec<u8> = (sent..sent + room.unwrap()).map(|i| i as u8).collect();
                sent += chunk.len();
                out.send_data(chunk.into(), sent == size).unwrap();
            }
        }
    }
    panic!("the exchange does not end: {} of {size} bytes", got.len());
}

#[test]
fn http_2_runs_over_a_wire_in_any_pieces() {
    for (step, size) in [(1, 300), (7, 70_000), (usize::MAX, 1 << 20)] {
        let got = exchange(step, size);
        assert_eq!(got.len(), size);
        assert!(got.iter().enumerate().all(|(i, &b)| b == i as u8), "in pieces of {step}");
    }
}

#[test]
fn both_directions_are_bounded() {
    let mut buffers = Buffers::new();
    let data = vec![1; 1 << 20];
    assert_eq!(buffers.fill(&data, ReadState::Eof), ROOM_IN);
    assert_eq!(buffers.end, ReadState::Open, "the end comes behind more bytes");
    assert_eq!(buffers.fill(&data, ReadState::Eof), 0);
    assert_eq!(buffers.push(&data), ROOM_OUT);
    assert_eq!(buffers.push(&data), 0);
    assert!(!buffers.drain(|_| 0));
    assert_eq!(buffers.push(&data), ROOM_OUT, "bytes that are being sent do not count");
    assert_eq!(buffers.push(&data), 0);
    let mut left = 2 * ROOM_OUT;
    assert!(buffers.drain(|bytes| {
        let n = bytes.len().min(1000);
        left -= n;
        n
    }));
    assert_eq!(left, 0);
    assert!(!buffers.has_output());
}

#[test]
fn the_end_comes_behind_the_last_byte() {
    for (end, ok) in [(ReadState::Eof, true), (ReadState::Truncated, false)] {
        let (pair, mut wire, _other) = pair(1);
        lock(&pair.left).fill(b"ab", end);
        let cx = &mut Context::from_waker(task::Waker::noop());
        let mut read = |want: usize| {
            let mut store = [0; 8];
            let mut into = ReadBuf::new(&mut store);
            let result = Pin::new(&mut wire).poll_read(cx, &mut into);
            assert_eq!(into.filled().len(), want);
            result
        };
        assert!(matches!(read(2), Poll::Ready(Ok(()))));
        assert!(matches!(read(0), Poll::Ready(result) if result.is_ok() == ok));
    }
}
