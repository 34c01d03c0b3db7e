//! The client's side: requests that this side begins, and the heads of their responses.
//!
//! ```text
//!   may_begin ─▶ begin ─▶ HEADERS, then write, finish          (streams)
//!   HEADERS ─▶ take_head: 1xx …, the final one ─▶ take_with, take_end  (direct)
//! ```

use super::{
    connection::{Checked, Connection},
    frame::{self, ErrorCode},
    priority,
    state::{ReceivedHead, Sending, StreamState},
};
use crate::h1::{Version, framing::BodyFields};

/// Responses with 1xx that are kept until the application takes them.
const MOST_HEADS: usize = 16;

/// Whether a request may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayBegin {
    Now,
    /// When a stream has ended, or the peer allows more.
    Later,
    /// The connection takes no more requests.
    Never,
}

impl Connection {
    /// Returns whether a request may begin.
    pub(crate) fn may_begin(&self) -> MayBegin {
        // RFC 9113 §5.1.1: with the last number, another connection is needed.
        let is_used_up = self.last >= frame::GREATEST - 2;
        match self.error.is_some() || self.peer_goaway.is_some() || is_used_up {
            true => MayBegin::Never,
            false if self.open >= self.open_limit || self.is_full() => MayBegin::Later,
            false => MayBegin::Now,
        }
    }

    /// Returns how many streams the peer allows at the same time.
    pub(crate) fn stream_limit(&self) -> u32 {
        self.open_limit
    }

    /// Returns `true` if the peer accepts extended CONNECT (RFC 8441 §3).
    pub(crate) fn accepts_connect(&self) -> bool {
        self.connect_protocol
    }

    /// Begins a request with these fields, those of the request line first. All names are lowercase. `ended`: it has no
    /// body. `head_only`: its response has none. Returns its stream.
    pub(crate) fn begin<'a>(
        &mut self,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        ended: bool,
        head_only: bool,
    ) -> u32 {
        let stream = if self.last == 0 { 1 } else { self.last + 2 };
        self.last = stream;
        self.block.clear();
        self.encoder.begin(&mut self.block);
        for (name, value) in fields {
            self.encoder.field(name, value, &mut self.block);
        }
        frame::write_headers(&mut self.out, stream, &self.block, ended);
        let mut state = StreamState::new(priority::DEFAULT, false, None, self.windows.window, self.initial_send_window);
        state.send = if ended { Sending::Over } else { Sending::Body };
        state.head_only = head_only;
        self.streams.push((stream, Box::new(state)));
        self.open += 1;
        stream
    }

    /// Takes the head of a response, those with 1xx before the final one.
    pub(super) fn handle_response(&mut self, stream: u32, ended: bool) -> Checked {
        let Some(state) = Self::find(&mut self.streams, stream) else { return Ok(()) };
        let (Some(status), Some(fields)) = (self.fields.status(), self.fields.behind_status()) else {
            return self.blame(stream);
        };
        let is_final = status >= 200;
        let mut body = BodyFields::default();
        fields.get_all("content-length").for_each(|value| body.content_length(value));
        let Ok(framing) = body.decide(Version::Http2) else { return self.blame(stream) };
        // RFC 9113 §8.6: HTTP/2 has no 101.
        if status == 101 || (ended && !is_final) {
            return self.blame(stream);
        }
        if state.heads.len() == MOST_HEADS {
            return self.end_stream(stream, ErrorCode::EnhanceYourCalm);
        }
        if is_final {
            state.has_head = true;
            let is_empty = state.head_only || matches!(status, 204 | 304);
            state.left_in = if is_empty { Some(0) } else { framing.content_length() };
        }
        let is_short = ended && state.left_in.is_some_and(|left| left > 0);
        state.heads.push(ReceivedHead { status, fields, ended });
        if is_short {
            return self.blame(stream);
        }
        if ended {
            self.end_input(stream);
        }
        self.wake(stream);
        Ok(())
    }

    /// Returns the next head of a response.
    pub(crate) fn take_head(&mut self, stream: u32) -> Option<ReceivedHead> {
        let state = self.state(stream)?;
        (!state.heads.is_empty()).then(|| state.heads.remove(0))
    }
}
