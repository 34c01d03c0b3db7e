//! One request on a stream of SPDY, served as a connection of HTTP/1.1 that is two pipes.
//!
//! ```text
//!   SYN_STREAM, DATA ──▶ RequestBody: head, framing ──▶ PipeIn ══▶ the engine, a handler ══▶ PipeOut ──▶ Answer ──▶ SYN_REPLY, DATA
//!         ◀─ WINDOW_UPDATE, as bytes leave for the pipe          written as fast as the window has it ─┘
//! ```
//! As with HTTP/2: who does not read is not written for, and what comes behind a request can't be taken for another. The
//! session has seen to it that a body is as long as it said.

use std::task;

use uncork::{
    PipeIn,
    h1::{
        Headers,
        write::{CHUNK_END, LAST_CHUNK, chunk_head},
    },
    pipe,
};

use super::{
    parsed_request::{Framing, asked},
    response::{Answer, AnswerHead, Piece},
    stream::Served,
};
use crate::relay::tunnel::{
    head::{is_about_the_client, is_second_spelling},
    spdy::{Code, ReplyHead, RequestHead, Session},
};

/// Bytes of a pipe. A request without a body needs only as many as its head has.
const ROOM: usize = 64 * 1024;

pub(super) struct Exchange {
    /// The stream's number.
    pub(super) id: u32,
    up: Up,
    answer: Answer,
    down: Down,
}

/// The request.
struct Up {
    inlet: Option<PipeIn>,
    framing: Framing,
    /// The head, or what frames a chunk: not in the pipe yet.
    own: Vec<u8>,
    /// Of the body: not in the pipe yet, behind `own`, from `at` on.
    held: Vec<u8>,
    at: usize,
    /// Received behind that, and not framed yet.
    more: Vec<u8>,
    /// Nothing comes behind it.
    end: bool,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Down {
    Head,
    Body,
    /// All of it is sent but the end.
    End,
    Over,
}

impl Exchange {
    /// Begins to serve a request. An error says why it can't be.
    pub(super) fn begin(
        id: u32,
        head: RequestHead,
        end: bool,
        served: &Served<'_>,
        waker: task::Waker,
    ) -> Result<Self, &'static str> {
        let asked = asked(&parts(head)?, end)?;
        let room = if end { asked.head.len() } else { ROOM };
        let ((mut inlet, input), (output, mut outlet)) = (pipe(room), pipe(ROOM));
        inlet.on_room(waker.clone());
        outlet.on_data(waker);
        served.here.adopt_pipes(served.peer, input, output, served.listener).map_err(|_| "the loop has ended")?;
        let inlet = Some(inlet);
        let up = Up { inlet, framing: asked.framing, own: asked.head, held: Vec::new(), at: 0, more: Vec::new(), end };
        Ok(Self { id, up, answer: Answer::new(outlet, asked.method), down: Down::Head })
    }

    /// Some of the request's body came.
    pub(super) fn received(&mut self, bytes: &[u8], end: bool) {
        self.up.more.extend_from_slice(bytes);
        self.up.end |= end;
    }

    /// Moves what can be moved. Whether it is over.
    pub(super) fn drive(&mut self, session: &mut Session) -> bool {
        self.up.drive(session, self.id);
        if let Err(why) = self.drive_down(session) {
            log::debug!(target: "uncork::relay", "an answer is broken off: {why}");
            session.reset(self.id, Code::CANCEL);
            return true;
        }
        // The answer may be there before the request is whole, and somebody still receive that.
        if self.down != Down::Over || !self.up.is_over() {
            return false;
        }
        if let Some(inlet) = self.up.inlet.take() {
            inlet.finish(None);
        }
        // What nobody wanted to receive; a reset might cost the peer what it has not read of the answer.
        session.ignore(self.id);
        true
    }

    fn drive_down(&mut self, session: &mut Session) -> Result<(), &'static str> {
        loop {
            if self.down == Down::End && session.data(self.id, &[], true).1 {
                self.down = Down::Over;
            }
            match self.answer.next() {
                Piece::Waits => return Ok(()),
                Piece::Broken(why) => return Err(why),
                // SPDY has no form for 1xx: a stream has one SYN_REPLY, and its HEADERS frame crashes the programs of 2014.
                Piece::Interim(..) => {}
                Piece::Head(AnswerHead { switched: true, .. }) => return Err("nobody asked for another protocol"),
                Piece::Head(AnswerHead { status, fields, whole, .. }) => {
                    if !session.reply(self.id, &ReplyHead { status, fields }, false) {
                        return Err("its head is too long");
                    }
                    self.down = if whole { Down::End } else { Down::Body };
                }
                Piece::Data { bytes, last } => {
                    let (n, all) = (session.data(self.id, bytes, false).0, bytes.len());
                    self.answer.took(n);
                    if n < all {
                        return Ok(());
                    }
                    if last {
                        self.down = Down::End;
                    }
                }
                Piece::End(_) => self.down = Down::End,
            }
        }
    }
}

impl Up {
    fn is_over(&self) -> bool {
        let gone = self.inlet.as_ref().is_none_or(PipeIn::is_closed);
        let empty = self.own.is_empty() && self.held.is_empty() && self.more.is_empty();
        gone || (self.end && empty && self.framing == Framing::None)
    }

    /// Moves the request on.
    fn drive(&mut self, session: &mut Session, id: u32) {
        let Some(inlet) = &mut self.inlet else { return };
        loop {
            let n = inlet.write(&self.own);
            self.own.drain(..n);
            if !self.own.is_empty() {
                return;
            }
            if !self.held.is_empty() {
                let n = inlet.write(&self.held[self.at..]);
                self.at += n;
                session.release(id, n);
                if self.at < self.held.len() {
                    return;
                }
                (self.held, self.at) = (Vec::new(), 0);
                if self.framing == Framing::Chunked {
                    self.own.extend_from_slice(CHUNK_END);
                    continue;
                }
            }
            if !self.more.is_empty() {
                self.held = std::mem::take(&mut self.more);
                if self.framing == Framing::Chunked {
                    let mut size = [0; 18];
                    let n = chunk_head(self.held.len(), &mut size);
                    self.own.extend_from_slice(&size[..n]);
                }
                continue;
            }
            if !self.end || self.framing == Framing::None {
                return;
            }
            if self.framing == Framing::Chunked {
                self.own.extend_from_slice(LAST_CHUNK);
            }
            // It is whole; nothing is framed any more.
            self.framing = Framing::None;
        }
    }
}

/// The request as [`asked`] takes it, without what its client says of itself.
fn parts(head: RequestHead) -> Result<http::request::Parts, &'static str> {
    let RequestHead { method, path, host, fields, .. } = head;
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::from_bytes(method.as_bytes()).map_err(|_| "it has no method")?;
    if *request.method() == http::Method::CONNECT {
        return Err("there is no CONNECT here");
    }
    let target = if path == "*" { path.parse() } else { format!("http://{host}{path}").parse() };
    *request.uri_mut() = target.map_err(|_| "its target is none")?;
    if request.uri().authority().is_none() {
        // `*` has no place behind one.
        let host = http::HeaderValue::try_from(host).map_err(|_| "it names no host")?;
        request.headers_mut().insert(http::header::HOST, host);
    }
    copy(&fields, request.headers_mut())?;
    Ok(request.into_parts().0)
}

fn copy(fields: &Headers, to: &mut http::HeaderMap) -> Result<(), &'static str> {
    const BAD: &str = "it has a field that can't be passed on";
    let ends_here = |name: &str| is_about_the_client(name) || is_second_spelling(name);
    for (name, value) in fields.iter().filter(|(name, _)| !ends_here(name)) {
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| BAD)?;
        let value = http::HeaderValue::from_bytes(value).map_err(|_| BAD)?;
        to.try_append(name, value).map_err(|_| BAD)?;
    }
    Ok(())
}
