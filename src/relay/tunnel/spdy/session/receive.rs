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

/// Output in bytes from which no input is taken. Data alone cannot reach it; otherwise two ends could wait for each
/// other for ever.
pub(super) const OUTPUT: usize = 512 * 1024;
/// Number of events from which no input is taken.
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
                        self.check_number(stream)?;
                        match self.streams.get(&stream) {
                            Some(state) if self.role == Role::Client && !state.replied => {
                                self.fail_stream(stream, Code::PROTOCOL_ERROR);
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
                self.check_number(stream)?;
                // Their number does not matter: each ends its own stream. A proxy sends many if many of its clients
                // disconnect.
                if self.streams.get(&stream).is_some_and(|state| !state.is_over()) {
                    self.end_stream(stream, code);
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
                    unseen.into_iter().for_each(|id| self.end_stream(id, Code::REFUSED_STREAM));
                }
                self.events.push_back(Event::GoAway);
                Ok(())
            }
            Piece::WindowUpdate { stream: 0, .. } => Ok(()),
            Piece::WindowUpdate { stream, delta } => {
                self.check_number(stream)?;
                let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
                match state.update(delta) {
                    Err(code) => self.fail_stream(stream, code),
                    Ok(()) if state.wants_to_send && state.frame(1).is_some() => {
                        state.wants_to_send = false;
                        self.events.push_back(Event::Writable { stream });
                    }
                    Ok(()) => {}
                }
                Ok(())
            }
        }
    }

    /// Checks that a stream exists or has existed.
    fn check_number(&self, stream: u32) -> Result<(), Fault> {
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
            _ if self.closing || self.streams.len() >= self.max_streams => Err(Code::REFUSED_STREAM),
            None => Err(Code::FRAME_TOO_LARGE),
            Some(Err(_)) => Err(Code::PROTOCOL_ERROR),
            Some(Ok(_)) if unidirectional => Err(Code::PROTOCOL_ERROR),
            Some(Ok(head)) => Ok(head),
        };
        let opened = request.and_then(|head| {
            let length = head::length(&head.fields).unwrap_or_default();
            Stream::accepted(fin, length).map(|stream| (head, stream))
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
        self.check_number(stream)?;
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        let head = match block.map(ReplyHead::read) {
            _ if state.replied => Err(Code::STREAM_IN_USE),
            None => Err(Code::FRAME_TOO_LARGE),
            Some(Err(_)) => Err(Code::PROTOCOL_ERROR),
            Some(Ok(head)) => {
                let length = head::length(&head.fields).unwrap_or_default();
                state.reply(fin, head.is_bodiless(), length).map(|()| head)
            }
        };
        match head {
            Ok(head) => {
                self.events.push_back(Event::Replied { stream, head, end: fin });
                self.remove_if_over(stream);
            }
            Err(code) => self.fail_stream(stream, code),
        }
        Ok(())
    }

    fn data_head(&mut self, stream: u32, len: u32, fin: bool) -> Result<(), Fault> {
        self.check_number(stream)?;
        self.data = (stream, fin);
        let received = match self.streams.get_mut(&stream) {
            None => Ok(false),
            Some(state) if self.role == Role::Client && !state.replied => Err(Code::PROTOCOL_ERROR),
            Some(state) => state.receive(len, fin).map(|()| !state.discards),
        };
        match received {
            Ok(true) if len == 0 && fin => self.finished(stream),
            Ok(true) => {}
            // Without a stream, data is dropped as it comes.
            Ok(false) => {
                self.data.0 = 0;
                if let Some(state) = self.streams.get_mut(&stream) {
                    state.held += len;
                    self.release(stream, len as usize);
                    if fin {
                        self.finished(stream);
                    }
                } else {
                    self.send_window_update(0, len);
                }
            }
            Err(code) => {
                self.data.0 = 0;
                self.fail_stream(stream, code);
                self.send_window_update(0, len);
            }
        }
        Ok(())
    }

    /// Passes a part of a body to its stream, if there is one.
    fn received(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let Some(state) = self.streams.get_mut(&stream) else {
            // It was reset in the middle of the frame.
            let len = if stream == 0 { 0 } else { bytes.len() as u32 };
            return self.send_window_update(0, len);
        };
        state.held += bytes.len() as u32;
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
        let Some(state) = self.streams.get_mut(&stream).filter(|state| state.receives) else { return };
        if let Err(code) = state.finish() {
            return self.fail_stream(stream, code);
        }
        match self.events.back_mut() {
            Some(Event::Data { stream: last, end, .. }) if *last == stream => *end = true,
            _ => self.events.push_back(Event::Data { stream, bytes: Vec::new(), end: true }),
        }
        self.remove_if_over(stream);
    }
}
