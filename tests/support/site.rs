//! Bodies, handlers and upgrades that tests of several layers share.

use uncork::{Action, Consumed, EventMask, Io, Produced, ReadState, Response, Tx, Upload, h1::Headers};

/// Returns `n` bytes of a pattern that shows lost, doubled and reordered bytes.
pub(crate) fn bytes(n: usize) -> Vec<u8> {
    let mut bytes = (0..=250).collect::<Vec<u8>>().repeat(n / 251 + 1);
    bytes.truncate(n);
    bytes
}

/// Collects a body and responds with it; the trailer field `X-Sum` of the request becomes a field of the response.
#[derive(Default)]
pub(crate) struct Collect(Vec<u8>);

impl Upload for Collect {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, trailers: &Headers) -> Action {
        let sum = trailers.get("x-sum").unwrap_or(b"none").to_vec();
        Response::new(200).header("X-Sum", sum).body(self.0).into()
    }
}

/// Returns a chunked response of [`bytes`] with the trailer field `X-Sum: 7`.
pub(crate) fn with_trailers(n: usize) -> Response {
    let mut left = bytes(n);
    Response::stream(move |out: &mut Tx<'_>| {
        let n = out.write(&left);
        left.drain(..n);
        let mut sum = Headers::new();
        sum.append("X-Sum", "7").expect("valid");
        if left.is_empty() { Produced::Trailers(sum) } else { Produced::More }
    })
}

/// Returns a response without an end: `x` in pieces of 1,000 bytes.
pub(crate) fn endless() -> Response {
    Response::stream(|out: &mut Tx<'_>| {
        out.write(&[b'x'; 1000]);
        Produced::More
    })
}

/// Returns a response that its own handler aborts after two pieces of `part`.
pub(crate) fn aborted() -> Response {
    let mut calls = 0;
    Response::stream(move |out: &mut Tx<'_>| {
        calls += 1;
        out.write(b"part");
        if calls == 1 { Produced::More } else { Produced::Abort }
    })
}

/// The echo of the documentation: it reads only as much as it can send.
pub(crate) fn echo(io: &mut Io<'_>) -> EventMask {
    let n = io.tx.write(io.rx.bytes());
    io.rx.consume(n);
    match (io.rx.bytes().is_empty(), io.rx.state()) {
        (true, ReadState::Open) => EventMask::READ,
        (true, _) => EventMask::TERMINATE,
        (false, _) => EventMask::WRITE,
    }
}
