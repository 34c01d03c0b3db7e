//! h2's side of a connection: the handshake, requests, the end.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason, RecvStream,
    server::{self, Connection, Handshake, SendResponse},
};
use log::debug;

use crate::{
    base::{EndReason, Limits},
    h2::wire::Wire,
};

/// Bytes of a request's body that may be in flight, at first and at most (RFC 9113 §5.2). A whole connection may have
/// [`STREAMS`] times as much.
const WINDOW: u32 = 64 * 1024;
const LARGEST_WINDOW: u32 = 1024 * 1024;
const STREAMS: u32 = 16;
/// Bytes of each response's body that h2 buffers.
const SEND_BUFFER: usize = 64 * 1024;

pub(super) struct Session {
    state: State,
    /// No new requests.
    stops: bool,
    /// This side has ended something: h2 must be polled to send that.
    changed: bool,
    /// The reason for which the connection ends, if this side has decided that.
    reason: Option<EndReason>,
    pings: Option<PingPong>,
    /// A ping was sent, and its response has not arrived.
    pinged: bool,
    /// Bytes that the application has received when the ping was sent, if that measures a round trip.
    received_before: Option<u64>,
    window: u32,
}

enum State {
    Handshake(Box<Handshake<Wire, Bytes>>),
    Open(Box<Connection<Wire, Bytes>>),
}

/// What h2 reports.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Event {
    Pending,
    Request(http::Request<RecvStream>, SendResponse<Bytes>),
    /// The connection has ended. Its output is in the wire.
    Over(EndReason),
}

impl Session {
    pub(super) fn new(wire: Wire, limits: &Limits) -> Self {
        let handshake = server::Builder::new()
            .max_concurrent_streams(limits.streams)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(STREAMS * WINDOW)
            .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .enable_connect_protocol()
            .handshake(wire);
        Self {
            state: State::Handshake(Box::new(handshake)),
            stops: false,
            changed: false,
            reason: None,
            pings: None,
            pinged: false,
            received_before: None,
            window: WINDOW,
        }
    }

    /// Has h2 read and write. Returns the next request.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Event {
        if let State::Handshake(handshake) = &mut self.state {
            match Pin::new(&mut **handshake).poll(cx) {
                Poll::Pending => return Event::Pending,
                Poll::Ready(Err(error)) => return self.failed(&error),
                Poll::Ready(Ok(mut connection)) => {
                    self.pings = connection.ping_pong();
                    self.state = State::Open(Box::new(connection));
                    if std::mem::take(&mut self.stops) {
                        self.shut_down();
                    }
                }
            }
        }
        let State::Open(connection) = &mut self.state else { return Event::Pending };
        match connection.poll_accept(cx) {
            Poll::Pending => Event::Pending,
            Poll::Ready(Some(Ok((request, respond)))) => Event::Request(request, respond),
            Poll::Ready(None) => Event::Over(self.reason.unwrap_or(EndReason::Complete)),
            Poll::Ready(Some(Err(error))) => self.failed(&error),
        }
    }

    /// Sends a ping, unless one is on its way. Returns `true` if h2 must be polled.
    pub(super) fn ping(&mut self) -> bool {
        let Some(pings) = self.pings.as_mut().filter(|_| !self.pinged) else { return false };
        self.pinged = pings.send_ping(Ping::opaque()).is_ok();
        self.pinged
    }

    /// Adapts the windows to what the application receives: `received` bytes so far. If it receives most of a window
    /// within a round trip, the window is what limits the client.
    pub(super) fn measure(&mut self, received: u64, cx: &mut Context<'_>) {
        if self.window == LARGEST_WINDOW && !self.pinged {
            return;
        }
        if self.pinged && self.pings.as_mut().is_some_and(|pings| pings.poll_pong(cx).is_ready()) {
            self.pinged = false;
            let limited =
                self.received_before.take().is_some_and(|before| received - before > u64::from(self.window / 2));
            if let (true, State::Open(connection)) = (limited, &mut self.state) {
                self.window = (2 * self.window).min(LARGEST_WINDOW);
                // If the client has not acknowledged the last change yet, this one waits for another round trip.
                if connection.set_initial_window_size(self.window).is_ok() {
                    connection.set_target_window_size(STREAMS * self.window);
                } else {
                    self.window /= 2;
                }
            }
        }
    }

    /// Begins to measure a round trip, if none is measured.
    pub(super) fn begin_measure(&mut self, received: u64) {
        if self.window < LARGEST_WINDOW && self.received_before.is_none() && self.ping() {
            self.received_before = Some(received);
        }
    }

    fn failed(&self, error: &h2::Error) -> Event {
        debug!(target: "uncork::conn", "HTTP/2: {error}");
        Event::Over(match self.reason {
            Some(reason) => reason,
            None if error.is_io() || error.is_remote() => EndReason::PeerClosed,
            None => EndReason::Rejected { status: 0, rule: "HTTP/2" },
        })
    }

    /// Has h2 write what it can.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        if let State::Open(connection) = &mut self.state {
            let _ = connection.poll_closed(cx);
        }
    }

    /// Accepts no new requests: those that are on their way are served, then the connection ends (RFC 9113 §6.8).
    pub(super) fn shut_down(&mut self) {
        if let State::Open(connection) = &mut self.state
            && !self.stops
        {
            connection.graceful_shutdown();
            self.changed = true;
        }
        self.stops = true;
    }

    /// Ends the connection with this code. Returns `false` if it has not begun: there is nothing to send.
    pub(super) fn go_away(&mut self, code: Reason, reason: EndReason) -> bool {
        self.reason = Some(reason);
        match &mut self.state {
            State::Open(connection) => connection.abrupt_shutdown(code),
            State::Handshake(_) => return false,
        }
        self.changed = true;
        true
    }

    /// Returns `true`, once, if h2 must be polled because this side has ended something.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns `true` if this side has decided to end the connection.
    pub(super) fn is_ending(&self) -> bool {
        self.reason.is_some()
    }
}
