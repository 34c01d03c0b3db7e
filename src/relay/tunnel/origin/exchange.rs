//! One request on a stream of SPDY, served as a connection of HTTP/1.1 that consists of two pipes.
//!
//! ```text
//!   SYN_STREAM, DATA ─▶ RequestWriter ─▶ PipeIn ══▶ the engine ══▶ PipeOut ─▶ ResponseReader ─▶ SYN_REPLY, DATA
//!         ◀─ WINDOW_UPDATE, as bytes leave for the pipe         written as fast as the window allows ─┘
//! ```
//! As in HTTP/2, a receiver that does not read stops its sender, and bytes behind a request are never parsed as another
//! request. The session has checked that a body has its declared length.

use std::task;

use uncork::{
    PipeIn, PipeOut,
    h1::write::{CHUNK_END, LAST_CHUNK, chunk_head},
    pipe,
};

use super::{
    parsed_request::{Framing, Parts, parse},
    stream::Served,
};
use crate::relay::{
    forward::about_client::{is_about_the_client, is_second_spelling},
    tunnel::{
        response::{Piece, ResponseHead, ResponseReader},
        spdy::{Code, ReplyHead, RequestHead, Session},
    },
};

/// Size of a pipe in bytes. A request without a body needs only the size of its head.
const PIPE: usize = 64 * 1024;

pub(super) struct Exchange {
    /// The stream's number.
    pub(super) id: u32,
    request: RequestWriter,
    reader: ResponseReader<PipeOut>,
    response: ResponseState,
}

/// Writes the request, in HTTP/1.1.
struct RequestWriter {
    inlet: Option<PipeIn>,
    framing: Framing,
    /// The head, or the framing of a chunk, that is not in the pipe yet.
    own: Vec<u8>,
    /// The part of the body that is framed and not in the pipe yet, from `at` on; it goes behind `own`.
    held: Vec<u8>,
    at: usize,
    /// Received after that, and not framed yet.
    more: Vec<u8>,
    /// The request ends behind this.
    end: bool,
}

/// The progress of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseState {
    Head,
    Body,
    /// All of it but its end.
    End,
    Over,
}

impl Exchange {
    /// Begins to serve a request.
    ///
    /// # Errors
    /// Returns the reason why it cannot be served.
    pub(super) fn begin(
        id: u32,
        head: RequestHead,
        end: bool,
        served: &Served,
        waker: task::Waker,
    ) -> Result<Self, &'static str> {
        let parsed = parse(&parts(&head)?, end)?;
        let capacity = if end { parsed.head.len() } else { PIPE };
        let ((mut inlet, input), (output, mut outlet)) = (pipe(capacity), pipe(PIPE));
        inlet.on_room(waker.clone());
        outlet.on_data(waker);
        served
            .loop_handle
            .adopt_pipes(served.peer, input, output, served.listener)
            .map_err(|_| "the loop has ended")?;
        let inlet = Some(inlet);
        let request = RequestWriter {
            inlet,
            framing: parsed.framing,
            own: parsed.head,
            held: Vec::new(),
            at: 0,
            more: Vec::new(),
            end,
        };
        Ok(Self { id, request, reader: ResponseReader::new(outlet, parsed.method), response: ResponseState::Head })
    }

    /// Takes a part of the request's body.
    pub(super) fn received(&mut self, bytes: &[u8], end: bool) {
        self.request.more.extend_from_slice(bytes);
        self.request.end |= end;
    }

    /// Moves what can be moved. Returns `true` if the exchange is over.
    pub(super) fn drive(&mut self, session: &mut Session) -> bool {
        self.request.drive(session, self.id);
        if let Err(reason) = self.drive_response(session) {
            log::debug!(target: "uncork::relay", "response aborted: {reason}");
            session.reset(self.id, Code::CANCEL);
            return true;
        }
        // The response may be complete before the request is, and the handler may still receive that.
        if self.response != ResponseState::Over || !self.request.is_over() {
            return false;
        }
        if let Some(inlet) = self.request.inlet.take() {
            inlet.finish(None);
        }
        // The rest of the body is ignored. A reset might make the peer drop the part of the response that it has not
        // read.
        session.ignore(self.id);
        true
    }

    fn drive_response(&mut self, session: &mut Session) -> Result<(), &'static str> {
        loop {
            if self.response == ResponseState::End && session.data(self.id, &[], true).1 {
                self.response = ResponseState::Over;
            }
            match self.reader.next() {
                Piece::Pending => return Ok(()),
                Piece::Broken(reason) => return Err(reason),
                // SPDY has no form for 1xx: a stream has one SYN_REPLY, and a HEADERS frame crashes a spdy-proxy.
                Piece::Informational(..) => {}
                Piece::Head(ResponseHead { switched: true, .. }) => {
                    return Err("a switch of protocols without an upgrade");
                }
                Piece::Head(ResponseHead { status, fields, whole, .. }) => {
                    if !session.reply(self.id, &ReplyHead { status, fields }, false) {
                        return Err("the head is too long");
                    }
                    self.response = if whole { ResponseState::End } else { ResponseState::Body };
                }
                Piece::Data { bytes, last } => {
                    let (n, all) = (session.data(self.id, bytes, false).0, bytes.len());
                    self.reader.consume(n);
                    if n < all {
                        return Ok(());
                    }
                    if last {
                        self.response = ResponseState::End;
                    }
                }
                Piece::End(_) => self.response = ResponseState::End,
            }
        }
    }
}

impl RequestWriter {
    fn is_over(&self) -> bool {
        let closed = self.inlet.as_ref().is_none_or(PipeIn::is_closed);
        let empty = self.own.is_empty() && self.held.is_empty() && self.more.is_empty();
        closed || (self.end && empty && self.framing == Framing::None)
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
            // The request is complete; nothing is framed any more.
            self.framing = Framing::None;
        }
    }
}

/// Returns the request for [`parse`], without the fields in which its client describes itself.
fn parts(head: &RequestHead) -> Result<Parts<'_>, &'static str> {
    if head.method == "CONNECT" {
        return Err("SPDY has no CONNECT");
    }
    let ends_here = |name: &str| is_about_the_client(name) || is_second_spelling(name);
    let fields = head.fields.iter().filter(|(name, _)| !ends_here(name)).collect();
    Ok(Parts { method: &head.method, target: &head.path, host: &head.host, fields, upgrade: false })
}
