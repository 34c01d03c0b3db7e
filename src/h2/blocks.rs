//! Header blocks (RFC 9113 §4.3): what HEADERS and CONTINUATION bring.
//!
//! ```text
//!   HEADERS ─┬─ END_HEADERS ─▶ decode ─┬─ a new stream ─▶ Event::Request
//!            └─ CONTINUATION … ─▶ ▲    ├─ a stream of this client ─▶ the head of a response
//!                                      └─ a second block ─▶ trailers
//! ```

use super::{
    connection::{Checked, Connection, Event, Handled},
    fields::Fields,
    frame::{self, ErrorCode, GREATEST, Head},
    settings::Side,
    state::{Begun, Goaway, Receiving},
};

impl Connection {
    pub(super) fn begin_block(&mut self, head: &Head, payload: &[u8]) -> Handled {
        let mut block = payload;
        if head.has(frame::PADDED) {
            let (&padding, rest) = block.split_first().ok_or(ErrorCode::FrameSize)?;
            let len = rest.len().checked_sub(padding.into()).ok_or(ErrorCode::Protocol)?;
            block = &rest[..len];
        }
        let mut circular = false;
        if head.has(frame::WITH_PRIORITY) {
            let (priority, rest) = block.split_at_checked(5).ok_or(ErrorCode::FrameSize)?;
            circular = frame::number(priority) & GREATEST == head.stream;
            block = rest;
        }
        let ended = head.has(frame::END_STREAM);
        if head.has(frame::END_HEADERS) {
            return self.handle_block(head.stream, ended, circular, block);
        }
        self.begun = Some(Box::new(Begun { stream: head.stream, ended, circular, bytes: block.to_vec() }));
        Ok(None)
    }

    #[cold]
    pub(super) fn continue_block(&mut self, head: &Head, payload: &[u8]) -> Handled {
        let mut begun = self.begun.take().ok_or(ErrorCode::Protocol)?;
        if begun.bytes.len() + payload.len() > self.block_limit {
            return self.give_up_block(&begun);
        }
        begun.bytes.extend_from_slice(payload);
        if head.has(frame::END_HEADERS) {
            return self.handle_block(begun.stream, begun.ended, begun.circular, &begun.bytes);
        }
        self.begun = Some(begun);
        Ok(None)
    }

    /// A block that is too long is not decoded, so that no later one can be: the connection ends behind the response.
    #[cold]
    fn give_up_block(&mut self, begun: &Begun) -> Handled {
        let stream = begun.stream;
        let begins = self.side == Side::Server && !stream.is_multiple_of(2) && stream > self.last;
        if !begins || self.goaway != Goaway::No || self.has_too_many() {
            return Err(ErrorCode::EnhanceYourCalm);
        }
        self.last = stream;
        self.fields.exceed();
        self.is_lost = true;
        Ok(Some(Event::Request { stream, ended: begun.ended }))
    }

    fn handle_block(&mut self, stream: u32, ended: bool, circular: bool, block: &[u8]) -> Handled {
        // Every block is decoded, wanted or not: it changes the table (RFC 9113 §4.3).
        self.fields.clear();
        let fields = &mut self.fields;
        let decoded = self.decoder.decode(block, |name, value, known| fields.add(name, value, known));
        decoded.map_err(|_| ErrorCode::Compression)?;
        if stream.is_multiple_of(2) || (self.side == Side::Client && stream > self.last) {
            return Err(ErrorCode::Protocol);
        }
        if stream <= self.last {
            return self.handle_later_block(stream, ended).map(|()| None);
        }
        if self.goaway != Goaway::No && self.is_ignored(stream) {
            return Ok(None);
        }
        self.last = stream;
        if circular {
            return self.blame(stream).map(|()| None);
        }
        if self.has_too_many() {
            return self.end_stream(stream, ErrorCode::RefusedStream).map(|()| None);
        }
        Ok(Some(Event::Request { stream, ended }))
    }

    /// Returns `true` if no other stream may begin. Those that both sides have ended count as well from twice the limit
    /// on, until the application has left them: a client may reset all its streams and begin as many at once, but not
    /// again and again.
    fn has_too_many(&self) -> bool {
        self.open >= self.open_limit || self.streams.len() as u64 >= 2 * u64::from(self.open_limit)
    }

    /// Returns the fields of the request that has begun. They are given back by [`return_fields`](Self::return_fields),
    /// for their allocation.
    pub(crate) fn take_fields(&mut self) -> Fields {
        std::mem::take(&mut self.fields)
    }

    pub(crate) fn return_fields(&mut self, fields: Fields) {
        self.fields = fields;
    }

    /// Handles the block of a stream that has begun: a response, or trailers.
    fn handle_later_block(&mut self, stream: u32, ended: bool) -> Checked {
        let Some(state) = Self::find(&mut self.streams, stream).filter(|state| state.fault.is_none()) else {
            // A client cannot know how much the server had sent when it was told.
            let is_late = self.side == Side::Client || self.resets.contains(stream);
            return if is_late { Ok(()) } else { Err(ErrorCode::StreamClosed) };
        };
        if state.recv != Receiving::Open {
            return self.end_stream(stream, ErrorCode::StreamClosed);
        }
        if self.side == Side::Client && !state.has_head {
            return self.handle_response(stream, ended);
        }
        match self.fields.trailers() {
            Some(trailers) if ended && state.left_in.unwrap_or(0) == 0 && !state.switched => {
                state.trailers = trailers;
                self.end_input(stream);
                Ok(())
            }
            _ => self.blame(stream),
        }
    }
}
