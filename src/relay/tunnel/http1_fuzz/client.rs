//! A public client: one request, whose body it sends piece by piece.

use uncork::{LoopHandle, PeerAddr};

use super::{
    end::OtherEnd,
    reference::{Response, response},
};

pub(super) struct Client {
    pub(super) end: OtherEnd,
    pub(super) number: usize,
    pub(super) method: &'static str,
    pub(super) upgrades: bool,
    framing: Framing,
    /// Bytes of the body, or of the new protocol.
    pub(super) offered: usize,
    /// The request was sent to its end.
    pub(super) complete: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    /// What is left of the length.
    Length(usize),
    Chunked,
    Raw,
}

/// Returns a byte of a client's body.
fn pattern(client: usize, at: usize) -> u8 {
    (at * 7 + (at >> 8) + client * 13) as u8
}

impl Client {
    /// Begins a request. `kind`: of which kind. `size`: of its body, and of the response's.
    pub(super) fn begin(on: &LoopHandle, peer: PeerAddr, number: usize, kind: u8, letter: u8, size: usize) -> Self {
        let (method, framing, fields) = match kind % 9 {
            0 | 1 => ("GET", Framing::None, String::new()),
            2 => ("HEAD", Framing::None, String::new()),
            3 => ("POST", Framing::Length(size), format!("Content-Length: {size}\r\n")),
            4 => ("PUT", Framing::Chunked, "Transfer-Encoding: chunked\r\nTE: trailers\r\n".to_owned()),
            5 => ("POST", Framing::Length(size), format!("Content-Length: {size}\r\nExpect: 100-continue\r\n")),
            6 => ("GET", Framing::Raw, "Connection: upgrade\r\nUpgrade: echo\r\n".to_owned()),
            7 => {
                let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                ("GET", Framing::Raw, format!("Connection: upgrade\r\nUpgrade: websocket\r\n{key}"))
            }
            _ => ("OPTIONS", Framing::None, "Connection: close\r\n".to_owned()),
        };
        let mut client = Self {
            end: OtherEnd::connect(on, peer, super::PUBLIC),
            number,
            method,
            upgrades: framing == Framing::Raw,
            framing,
            offered: 0,
            complete: matches!(framing, Framing::None | Framing::Length(0)),
        };
        let letter = char::from(letter);
        let head = format!("{method} /{number}/{letter}/{size} HTTP/1.1\r\nHost: app.example\r\n{fields}\r\n");
        client.end.send(head.as_bytes());
        client
    }

    /// Returns `true` if these bytes are the beginning of what was sent.
    pub(super) fn has_offered(&self, bytes: &[u8]) -> bool {
        bytes.len() <= self.offered && bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(self.number, at))
    }

    /// Sends a part of the body.
    pub(super) fn send(&mut self, size: usize) {
        let n = match self.framing {
            Framing::None => return,
            Framing::Length(left) => size.min(left),
            Framing::Chunked | Framing::Raw => size,
        };
        if n == 0 || self.complete || !self.end.can_send() {
            return;
        }
        let bytes: Vec<u8> = (self.offered..self.offered + n).map(|at| pattern(self.number, at)).collect();
        self.offered += n;
        match &mut self.framing {
            Framing::Chunked => {
                self.end.send(format!("{n:x}\r\n").as_bytes());
                self.end.send(&bytes);
                self.end.send(b"\r\n");
            }
            Framing::Length(left) => {
                *left -= n;
                self.complete = *left == 0;
                self.end.send(&bytes);
            }
            Framing::None | Framing::Raw => self.end.send(&bytes),
        }
    }

    /// Sends the rest of the body.
    pub(super) fn complete(&mut self, trailers: bool) {
        match self.framing {
            Framing::None => {}
            Framing::Length(left) => self.send(left),
            Framing::Chunked if self.complete => {}
            Framing::Chunked if trailers => self.end.send(b"0\r\nX-Sum: 1\r\nConnection: a\r\n\r\n"),
            Framing::Chunked => self.end.send(b"0\r\n\r\n"),
            Framing::Raw => self.end.finish(),
        }
        self.complete = true;
    }

    /// Returns its response so far.
    pub(super) fn response(&self) -> Response {
        response(&mut &self.end.received[..], self.method, self.end.received_end())
    }
}
