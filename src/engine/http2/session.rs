//! h2's side of a connection: the handshake, requests, the end.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{self, Connection, Handshake, SendResponse},
};
use log::debug;

use crate::{
    base::{EndReason, Limits},
    h2::wire::Wire,
};

/// Bytes of a request's body that may be in flight, and of all bodies of a connection.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of each response's body that h2 buffers.
const SEND_BUFFER: usize = 64 * 1024;

pub(super) struct Session {
    state: State,
    /// No new requests.
    stops: bool,
    /// The reason for which the connection ends, if this side has decided that.
    reason: Option<EndReason>,
}

enum State {
    Handshake(Box<Handshake<Wire, Bytes>>),
    Open(Box<Connection<Wire, Bytes>>),
}

/// What h2 reports.
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
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .enable_connect_protocol()
            .handshake(wire);
        Self { state: State::Handshake(Box::new(handshake)), stops: false, reason: None }
    }

    /// Has h2 read and write. Returns the next request.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Event {
        if let State::Handshake(handshake) = &mut self.state {
            match Pin::new(&mut **handshake).poll(cx) {
                Poll::Pending => return Event::Pending,
                Poll::Ready(Err(error)) => return self.failed(&error),
                Poll::Ready(Ok(connection)) => {
                    self.state = State::Open(Box::new(connection));
                    if std::mem::take(&mut self.stops) {
                        self.shut_down();
                    }
                    if let Some(reason) = self.reason {
                        self.go_away(reason);
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
        }
        self.stops = true;
    }

    /// Ends the connection, in which no request is in progress.
    pub(super) fn go_away(&mut self, reason: EndReason) {
        self.reason = Some(reason);
        match &mut self.state {
            State::Open(connection) => connection.abrupt_shutdown(Reason::NO_ERROR),
            State::Handshake(_) => {}
        }
    }
}
