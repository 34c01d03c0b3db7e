//! The times of a connection: the deadlines of its streams, and how long a silent client is waited for.
//!
//! ```text
//!   requests in progress   idle_timeout ──▶ PING ──20 s──▶ the end, if no timeout of a stream runs meanwhile
//!   none                   idle_timeout ──▶ GOAWAY, the end;  linger_timeout while the server stops
//!                          (head_timeout longer if part of a frame has come)
//!   a stream               send, body and other timeouts, as of a connection of HTTP/1.1
//! ```

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::Http2;
use crate::{
    base::{EndReason, Timeout, lock, time::Tick},
    engine::core::Core,
    h2::frame::ErrorCode,
};

/// Time for the response to a ping.
const PONG: Duration = Duration::from_secs(20);

impl Http2 {
    /// Sends a ping if a request is in progress, and the client has been silent for long; ends the connection if there
    /// is no response. Without a request, it does not wait long for one, nor for a client that has not noticed the
    /// GOAWAY.
    pub(super) fn notice_silence(&mut self, core: &Core) {
        if self.silent_until(core) > core.tick || self.over.is_some() {
            return;
        }
        if self.streams.is_empty() {
            let idle = EndReason::TimedOut(Timeout::Idle);
            self.leave(ErrorCode::NoError, self.stops.map_or(idle, |_| EndReason::Stopped));
        } else if self.is_pinged {
            self.over = Some(EndReason::TimedOut(Timeout::Idle));
        } else {
            let mut connection = lock(&self.connection);
            connection.ping();
            (self.is_pinged, self.ping_left) = (true, core.tick);
            self.ping_end = self.taken + connection.output() as u64;
        }
    }

    /// Returns when the client has been silent for too long: it may be so as long as a body or a response may wait for
    /// it.
    #[inline]
    pub(super) fn silent_until(&self, core: &Core) -> Tick {
        if self.streams.is_empty() {
            let stops = self.stops.map_or(Tick::NEVER, |stops| stops.after(core.limits.linger_timeout));
            // A request that has begun has the time of its head. Frames that are no request do not keep the connection,
            // in however many pieces they come.
            let more = if self.connection().is_within() { core.limits.head_timeout } else { Duration::ZERO };
            return stops.min(self.rests.after(core.limits.idle_timeout.saturating_add(more)));
        }
        if self.is_pinged && self.streams.iter().any(|(_, stream)| stream.slot.is_timed()) {
            return Tick::NEVER;
        }
        // While the ping waits behind other output, that has its own timeout.
        if self.is_pinged { self.ping_left.after(PONG) } else { self.heard.after(core.limits.idle_timeout) }
    }

    /// Handles the deadlines that have passed.
    #[inline]
    pub(super) fn expire(&mut self, core: &mut Core) {
        if self.due > core.tick {
            return;
        }
        let late = self.streams.iter().filter(|(_, stream)| stream.due <= core.tick).map(|(number, _)| *number);
        for number in late.collect::<Vec<_>>() {
            let Some(place) = self.place(number) else { continue };
            let mut connection = lock(&self.connection);
            let (waits, may_send) = (connection.has_others_first(number), connection.peer_may_send());
            drop(connection);
            let stream = &mut self.streams[place].1;
            stream.due = Tick::NEVER;
            if !may_send && stream.slot.io.running_timeout == Some(Timeout::Body) {
                // Bodies of other streams, which the application does not take, hold the connection's window: the client
                // may not send this one. Its timeout begins anew when the stream is driven.
                stream.slot.io.stop_timeout();
                self.marked.push(number);
                continue;
            }
            if waits || stream.output_end > self.taken {
                // What the client took meanwhile counts for this stream: it was the server that sent it first. It cannot
                // open the window for what it has not received.
                let n = self.taken - std::mem::replace(&mut stream.taken_before, self.taken);
                stream.slot.io.note_taken(core, usize::try_from(n).unwrap_or(usize::MAX));
            }
            match stream.slot.expire(core) {
                Ok(()) => self.marked.push(number),
                Err(reason) => self.end_stream(number, core, reason),
            }
        }
        self.due = self.streams.iter().map(|(_, stream)| stream.due).min().unwrap_or(Tick::NEVER);
    }
}
