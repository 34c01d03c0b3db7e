//! The carrier: a connection to the proxy, on which this side is HTTP/2's server.
//!
//! ```text
//!   Io ◀══ Pump ══▶ h2::server::Connection ──poll_accept──▶ Stream::begin ──▶ adopt_pipes, on this very loop
//!                     woken keys ──▶ only those streams are driven
//!   deadline: ping after silence, suspicion, death, the end of a drain
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
use uncork::{EventMask, Io, LoopHandle, PeerAddr};

use super::{
    TunnelError,
    auth_alpn::AuthAlpn,
    protocol::{Liveness, Protocol, STREAMS, Times},
    stream::{Served, Stream},
};
use crate::relay::tunnel::{
    pump::Step,
    wakes::Wakes,
    wire::{CONNECTION, HEAD, REMEMBERED, RESETS, SMALL_FRAMES, Wire, WirePump, wire},
};

/// What may be under way of one request's body: 2.5 MB/s over a path of 100 ms. And of all on a connection: as much for
/// each, or a few that nobody takes would stop all others.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAMS * WINDOW;
/// Bytes that h2 holds of each answer's body.
const SEND_BUFFER: usize = 64 * 1024;

pub(super) struct Http2 {
    pump: WirePump,
    inner: Inner,
}

struct Inner {
    here: LoopHandle,
    listener: usize,
    peer: PeerAddr,
    wakes: Wakes,
    h2: Phase,
    pings: Option<PingPong>,
    streams: Slab<Stream>,
    liveness: Liveness,
    auth: AuthAlpn,
    error: Option<TunnelError>,
}

enum Phase {
    Greeting(Box<Handshake<Wire, Bytes>>),
    Open(Box<Connection<Wire, Bytes>>),
}

impl Http2 {
    /// The connection ends neither for streams that the proxy resets before they are looked at (there are never more of
    /// them than the input buffer holds), nor for errors of streams. The proxy is believed, and what its clients do must
    /// not end the streams of others.
    ///
    /// `hello`: the proxy does not know yet who we are, and will ask; this is the answer.
    pub(super) fn new(
        here: LoopHandle,
        listener: usize,
        peer: PeerAddr,
        times: Times,
        hello: Option<Bytes>,
        now: Instant,
    ) -> Self {
        let wakes = Wakes::new();
        let (pump, wire) = wire(&wakes);
        let greeting = server::Builder::new()
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
            here,
            listener,
            peer,
            wakes,
            h2: Phase::Greeting(Box::new(greeting)),
            pings: None,
            streams: Slab::new(),
            liveness: Liveness::new(times, now),
            auth: AuthAlpn::new(hello, now + times.connect_timeout),
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

    fn liveness(&self) -> &Liveness {
        &self.inner.liveness
    }

    fn leave(&mut self, now: Instant) {
        let inner = &mut self.inner;
        if inner.liveness.leave(now) {
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
    /// Looks at what was woken, has h2 read and write, and begins what is asked.
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
        if let Phase::Greeting(greeting) = &mut self.h2 {
            match Pin::new(&mut **greeting).poll(cx) {
                Poll::Pending => return Step::Waits,
                Poll::Ready(Err(error)) => return self.end(Some(error)),
                Poll::Ready(Ok(mut connection)) => {
                    self.pings = connection.ping_pong();
                    if self.liveness.is_leaving() {
                        connection.graceful_shutdown();
                    }
                    self.h2 = Phase::Open(Box::new(connection));
                }
            }
        }
        loop {
            let Phase::Open(connection) = &mut self.h2 else { return Step::Waits };
            match connection.poll_accept(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return self.end(None),
                Poll::Ready(Some(Err(error))) => return self.end(Some(error)),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let Some((request, respond)) = (match self.auth.passes(request, respond, self.liveness.now) {
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
                    let served = Served { here: &self.here, listener: self.listener, peer: self.peer };
                    if let Some(stream) = Stream::begin(request, respond, &served, self.wakes.waker(key)) {
                        entry.insert(stream);
                        self.drive(key);
                    }
                }
            }
        }
        if let Some(pings) = &mut self.pings {
            // That something was heard is what counts; this makes room for the next.
            let _ = pings.poll_pong(cx);
        }
        Step::Waits
    }

    fn drive(&mut self, key: usize) {
        if self.streams.get_mut(key).is_some_and(Stream::drive) {
            drop(self.streams.remove(key));
        }
    }

    /// The connection is over. What is under way is broken off.
    fn end(&mut self, error: Option<h2::Error>) -> Step {
        self.streams.clear();
        if let Some(error) = error {
            self.error = Some(TunnelError::Broken(error.to_string()));
        }
        Step::Over
    }

    fn ping(&mut self) {
        if let Some(pings) = &mut self.pings
            && pings.send_ping(Ping::opaque()).is_ok()
        {
            // h2 was polled before.
            self.wakes.waker(CONNECTION).wake();
        }
    }

    /// When to look at the clocks again.
    fn due(&self) -> Instant {
        let due = self.liveness.due();
        self.auth.due(self.liveness.now).map_or(due, |at| due.min(at))
    }
}
