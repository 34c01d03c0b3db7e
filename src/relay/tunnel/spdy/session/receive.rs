//! The peer's frames: pieces in, events out.
//!
//! ```text
//!   Piece ──▶ is its stream open, or was it? ──no──▶ Fault: the connection is over
//!                    └──yes──▶ does the stream allow it? ──no──▶ RST_STREAM, Reset: the stream is over
//!                                       └──yes──▶ Event
//! ```

use super::{
    super::{
        fault::Fault,
        frame::{Code, Piece, Syn},
        head::{self, ReplyHead, RequestHead},
        headers::Pairs,
        stream::Stream,
        write,
    },
    Event, Role, Session,
};

/// Waiting output, above which no input is taken. Data alone cannot reach it; otherwise two ends could wait for each
/// other for ever.
pub(super) const OUTPUT: usize = 512 * 1024;
/// Waiting events, above which no input is taken.
pub(super) const EVENTS: usize = 64;

impl Session {
    /// Takes the peer's bytes. Returns how many were taken. If that is not all, events must be polled or output taken
    /// before the rest is offered.
    ///
    /// # Errors
    /// Returns an error if the peer broke a rule of the connection. The rest of the output reports that to the peer.
    /// Events from before it can still be polled; then all streams are over.
    pub(crate) fn handle_input(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut rest = bytes;
        loop {
            // A frame that was begun is taken whole: it brings one event at most.
            let full = self.events.len() >= EVENTS || self.output().len() >= OUTPUT;
            if full && self.decoder.is_between_frames() {
                break;
            }
            let done = match self.decoder.next(&mut rest) {
                Ok(Some(piece)) => self.piece(piece),
                Ok(None) => break,
                Err(fault) => Err(fault),
            };
            if let Err(fault) = done {
                let last = self.last_opened();
                write::goaway(&mut self.output, last, 1);
                self.fault = Some(fault);
                self.streams.clear();
                return Err(fault);
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn piece(&mut self, piece: Piece<'_>) -> Result<(), Fault> {
        match piece {
            Piece::Syn { syn, stream, fin } => {
                self.syn = Some((syn, stream, fin));
                Ok(())
            }
            Piece::Block { bytes, end } => {
                self.inflater.feed(bytes)?;
                if !end {
                    return Ok(());
                }
                let block = self.inflater.end()?;
                match self.syn.take() {
                    Some((Syn::Stream { unidirectional }, stream, fin)) => {
                        self.opened(stream, unidirectional, fin, block.as_ref())
                    }
                    Some((Syn::Reply, stream, fin)) => self.replied(stream, fin, block.as_ref()),
                    // Trailers: spdy-proxy does not know them, so their meaning is undefined.
                    Some((Syn::More, stream, fin)) => {
                        self.known(stream)?;
                        match self.streams.get(&stream) {
                            Some(it) if self.role == Role::Client && !it.replied => {
                                self.refuse(stream, Code::PROTOCOL_ERROR);
                            }
                            Some(_) if fin => self.finished(stream),
                            _ => {}
                        }
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            Piece::DataHead { stream, len, fin } => self.data_head(stream, len, fin),
            Piece::Data { bytes, end } => {
                let (stream, fin) = self.data;
                self.received(stream, bytes, end && fin);
                Ok(())
            }
            Piece::Reset { stream, code } => {
                self.known(stream)?;
                // Their number does not matter: each costs its own stream. A proxy sends many if many of its clients
                // disconnect.
                if self.streams.get(&stream).is_some_and(|it| !it.is_over()) {
                    self.over(stream, code);
                }
                Ok(())
            }
            Piece::Ping { id } => {
                if (id % 2 == 1) == (self.role == Role::Client) {
                    self.events.push_back(Event::Pong);
                } else {
                    write::ping(&mut self.output, id);
                }
                Ok(())
            }
            Piece::GoAway { last } => {
                self.closing = true;
                if self.role == Role::Client {
                    let mut unseen: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
                    unseen.sort_unstable();
                    unseen.into_iter().for_each(|id| self.over(id, Code::REFUSED_STREAM));
                }
                self.events.push_back(Event::GoAway);
                Ok(())
            }
            Piece::WindowUpdate { stream: 0, .. } => Ok(()),
            Piece::WindowUpdate { stream, delta } => {
                self.known(stream)?;
                let Some(it) = self.streams.get_mut(&stream) else { return Ok(()) };
                match it.update(delta) {
                    Err(code) => self.refuse(stream, code),
                    Ok(()) if it.waits && it.frame(1).is_some() => {
                        it.waits = false;
                        self.events.push_back(Event::Room { stream });
                    }
                    Ok(()) => {}
                }
                Ok(())
            }
        }
    }

    /// Checks that a stream exists or has existed.
    fn known(&self, stream: u32) -> Result<(), Fault> {
        if stream % 2 == 1 && stream <= self.newest {
            return Ok(());
        }
        Err(Fault::protocol("a frame for a stream that never existed"))
    }

    fn opened(&mut self, stream: u32, unidirectional: bool, fin: bool, block: Option<&Pairs>) -> Result<(), Fault> {
        if self.role == Role::Client {
            return Err(Fault::protocol("an origin server opened a stream"));
        }
        if stream.is_multiple_of(2) || stream <= self.newest {
            return Err(Fault::protocol("a stream number out of order"));
        }
        self.newest = stream;
        let request = match block.map(RequestHead::read) {
            _ if self.closing || self.streams.len() >= self.most => Err(Code::REFUSED_STREAM),
            None => Err(Code::FRAME_TOO_LARGE),
            Some(Err(_)) => Err(Code::PROTOCOL_ERROR),
            Some(Ok(_)) if unidirectional => Err(Code::PROTOCOL_ERROR),
            Some(Ok(head)) => Ok(head),
        };
        let opened = request.and_then(|head| {
            let length = head::length(&head.fields).unwrap_or_default();
            Stream::asking(fin, length).map(|stream| (head, stream))
        });
        match opened {
            Ok((head, new)) => {
                self.streams.insert(stream, new);
                self.events.push_back(Event::Opened { stream, head, end: fin });
            }
            // No event has reported this stream, and none will.
            Err(code) => write::reset(&mut self.output, stream, code),
        }
        Ok(())
    }

    fn replied(&mut self, stream: u32, fin: bool, block: Option<&Pairs>) -> Result<(), Fault> {
        if self.role == Role::Server {
            return Err(Fault::protocol("a reply to an origin server"));
        }
        self.known(stream)?;
        let Some(it) = self.streams.get_mut(&stream) else { return Ok(()) };
        let head = match block.map(ReplyHead::read) {
            _ if it.replied => Err(Code::STREAM_IN_USE),
            None => Err(Code::FRAME_TOO_LARGE),
            Some(Err(_)) => Err(Code::PROTOCOL_ERROR),
            Some(Ok(head)) => {
                let length = head::length(&head.fields).unwrap_or_default();
                it.reply(fin, head.is_bodiless(), length).map(|()| head)
            }
        };
        match head {
            Ok(head) => {
                self.events.push_back(Event::Replied { stream, head, end: fin });
                self.settle(stream);
            }
            Err(code) => self.refuse(stream, code),
        }
        Ok(())
    }

    fn data_head(&mut self, stream: u32, len: u32, fin: bool) -> Result<(), Fault> {
        self.known(stream)?;
        self.data = (stream, fin);
        let received = match self.streams.get_mut(&stream) {
            None => Ok(false),
            Some(it) if self.role == Role::Client && !it.replied => Err(Code::PROTOCOL_ERROR),
            Some(it) => it.receive(len, fin).map(|()| !it.mute),
        };
        match received {
            Ok(true) if len == 0 && fin => self.finished(stream),
            Ok(true) => {}
            // Without a stream, data is dropped as it comes.
            Ok(false) => {
                self.data.0 = 0;
                if let Some(it) = self.streams.get_mut(&stream) {
                    it.held += len;
                    self.release(stream, len as usize);
                    if fin {
                        self.finished(stream);
                    }
                } else {
                    self.pass(0, len);
                }
            }
            Err(code) => {
                self.data.0 = 0;
                self.refuse(stream, code);
                self.pass(0, len);
            }
        }
        Ok(())
    }

    /// Passes a part of a body to its stream, if there is one.
    fn received(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let Some(it) = self.streams.get_mut(&stream) else {
            // It was reset in the middle of the frame.
            let len = if stream == 0 { 0 } else { bytes.len() as u32 };
            return self.pass(0, len);
        };
        it.held += bytes.len() as u32;
        match self.events.back_mut() {
            Some(Event::Data { stream: last, bytes: held, end: false }) if *last == stream => {
                held.extend_from_slice(bytes);
            }
            _ => self.events.push_back(Event::Data { stream, bytes: bytes.to_vec(), end: false }),
        }
        if end {
            self.finished(stream);
        }
    }

    /// Handles the end of the peer's side.
    fn finished(&mut self, stream: u32) {
        let Some(it) = self.streams.get_mut(&stream).filter(|it| it.receives) else { return };
        if let Err(code) = it.finish() {
            return self.refuse(stream, code);
        }
        match self.events.back_mut() {
            Some(Event::Data { stream: last, end, .. }) if *last == stream => *end = true,
            _ => self.events.push_back(Event::Data { stream, bytes: Vec::new(), end: true }),
        }
        self.settle(stream);
    }
}
