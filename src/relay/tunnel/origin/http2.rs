//! The carrier's protocol HTTP/2: a connection to the proxy, on which this side is the server.
//!
//! ```text
//!   Io ◀══ Pump ══▶ h2::server::Connection ──poll_accept──▶ Stream::begin ──▶ adopt_pipes, on this loop
//!                     woken keys ──▶ only those streams are driven
//!   deadline: ping after silence, suspect, dead, the drain timeout
//! ```

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    server::{self, Connection, Handshake},
};
use slab::Slab;
use uncork::{EventMask, Io};

use super::{
    auth_alpn::AuthAlpn,
    error::TunnelError,
    protocol::{Liveness, Protocol, STREAMS, Timeouts},
    stream::{Served, Stream},
};
use crate::h2::wakes::Wakes;
use crate::relay::tunnel::{
    address::NamedNodes,
    printable::h2_error,
    pump::Step,
    wire::{CONNECTION, HEAD, REMEMBERED, RESETS, SMALL_FRAMES, Wire, WirePump, wire},
};

/// Bytes of one request's body that may be in flight: 2.5 MB/s over a path of 100 ms. The connection has this much for
/// each stream, or a few streams whose bodies are not read would stop all others.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAMS * WINDOW;
/// Bytes of each response's body that h2 buffers.
const SEND_BUFFER: usize = 64 * 1024;

pub(super) struct Http2 {
    pump: WirePump,
    inner: Inner,
}

struct Inner {
    served: Served,
    wakes: Wakes,
    h2: Phase,
    pings: Option<PingPong>,
    streams: Slab<Stream>,
    liveness: Liveness,
    auth: AuthAlpn,
    error: Option<TunnelError>,
}

enum Phase {
    Handshake(Box<Handshake<Wire, Bytes>>),
    Open(Box<Connection<Wire, Bytes>>),
}

impl Http2 {
    /// h2 may end the connection neither for streams that the proxy resets before they are accepted, nor for errors of
    /// streams. The input buffer bounds the former. The proxy is trusted, and what one of its clients does must not end
    /// the streams of others.
    ///
    /// `hello`: the response to the proxy's question for the credential, if ALPN has selected HTTP/2.
    pub(super) fn new(served: Served, timeouts: Timeouts, hello: Option<Bytes>, now: Instant) -> Self {
        let wakes = Wakes::new();
        let (pump, wire) = wire(&wakes);
        let handshake = server::Builder::new()
            .max_concurrent_streams(STREAMS)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(RESETS)
            .reset_stream_duration(REMEMBERED)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(None)
            .data_frame_budget(SMALL_FRAMES)
            .enable_connect_protocol()
            .handshake(wire);
        let inner = Inner {
            served,
            wakes,
            h2: Phase::Handshake(Box::new(handshake)),
            pings: None,
            streams: Slab::new(),
            liveness: Liveness::new(timeouts, now),
            auth: AuthAlpn::new(hello, now + timeouts.connect_timeout),
            error: None,
        };
        Self { pump, inner }
    }
}

impl Protocol for Http2 {
    fn waker(&self) -> std::task::Waker {
        self.inner.wakes.waker(CONNECTION)
    }

    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let Self { pump, inner } = self;
        inner.liveness.now = io.now().mono;
        if !io.rx.bytes().is_empty() {
            inner.liveness.note_input();
        }
        let mask = pump.turn(io, |cx, keys| inner.step(cx, keys));
        if inner.liveness.begin_ping() {
            pump.shrink();
            inner.ping();
        }
        io.set_deadline(Some(inner.due()));
        mask
    }

    fn is_accepted(&self) -> bool {
        self.inner.auth.is_open(self.inner.liveness.now)
    }

    fn nodes(&self) -> Option<&NamedNodes> {
        Some(self.inner.auth.nodes())
    }

    fn liveness(&self) -> &Liveness {
        &self.inner.liveness
    }

    fn drain(&mut self, now: Instant) {
        let inner = &mut self.inner;
        if inner.liveness.drain(now) {
            if let Phase::Open(connection) = &mut inner.h2 {
                connection.graceful_shutdown();
            }
            inner.wakes.waker(CONNECTION).wake();
        }
    }

    fn take_error(&mut self) -> Option<TunnelError> {
        self.inner.error.take()
    }
}

impl Inner {
    /// Drives the woken streams, has h2 read and write, and begins new requests.
    fn step(&mut self, cx: &mut Context<'_>, keys: &mut Vec<usize>) -> Step {
        if self.liveness.is_dead() {
            self.error = Some(TunnelError::Silent);
            return Step::Abort;
        }
        if self.liveness.is_drained() {
            return Step::Abort;
        }
        if self.auth.is_late(self.liveness.now) {
            self.error = Some(TunnelError::TimedOut);
            return Step::Abort;
        }
        for key in keys.drain(..) {
            if key != CONNECTION {
                self.drive(key);
            }
        }
        if let Phase::Handshake(handshake) = &mut self.h2 {
            match Pin::new(&mut **handshake).poll(cx) {
                Poll::Pending => return Step::Pending,
                Poll::Ready(Err(error)) => return self.end(Some(error)),
                Poll::Ready(Ok(mut connection)) => {
                    self.pings = connection.ping_pong();
                    if self.liveness.is_draining() {
                        connection.graceful_shutdown();
                    }
                    self.h2 = Phase::Open(Box::new(connection));
                }
            }
        }
        loop {
            let Phase::Open(connection) = &mut self.h2 else { return Step::Pending };
            match connection.poll_accept(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return self.end(None),
                Poll::Ready(Some(Err(error))) => return self.end(Some(error)),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let Some((request, respond)) = (match self.auth.filter(request, respond, self.liveness.now) {
                        Ok(passed) => passed,
                        Err(error) => {
                            self.error = Some(error);
                            self.streams.clear();
                            return Step::Over;
                        }
                    }) else {
                        continue;
                    };
                    let entry = self.streams.vacant_entry();
                    let key = entry.key();
                    if let Some(stream) = Stream::begin(request, respond, &self.served, self.wakes.waker(key)) {
                        entry.insert(stream);
                        self.drive(key);
                    }
                }
            }
        }
        if let Some(pings) = &mut self.pings {
            // Any input resets the silence; this only frees h2's slot for the next ping.
            let _ = pings.poll_pong(cx);
        }
        Step::Pending
    }

    fn drive(&mut self, key: usize) {
        if self.streams.get_mut(key).is_some_and(Stream::drive) {
            drop(self.streams.remove(key));
        }
    }

    /// The connection is over, and its streams with it.
    fn end(&mut self, error: Option<h2::Error>) -> Step {
        self.streams.clear();
        if let Some(error) = error {
            self.error = Some(TunnelError::Broken(h2_error(&error)));
        }
        Step::Over
    }

    fn ping(&mut self) {
        if let Some(pings) = &mut self.pings
            && pings.send_ping(Ping::opaque()).is_ok()
        {
            // h2 was polled before this call.
            self.wakes.waker(CONNECTION).wake();
        }
    }

    /// Returns when the next clock runs out.
    fn due(&self) -> Instant {
        let due = self.liveness.due();
        self.auth.due(self.liveness.now).map_or(due, |at| due.min(at))
    }
}
