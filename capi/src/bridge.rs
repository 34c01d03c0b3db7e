//! The bridge between an upgraded connection and the socket that the program has.
//!
//! ```text
//!   client ══ uncork ══ ClientSide ══ two pipes ══ AppSide ══ uncork ══ pair of sockets ══ program
//!               │                                                │
//!            HTTP or HTTPS                                  the same loop
//! ```
//! Each side is an upgrade on a stream of its own. It reads only what the pipe has room for, so back-pressure goes from
//! end to end. The end of the input in one direction half-closes the other stream, and nothing else.
//!
//! The program closes by `MHD_upgrade_action`, not by `close`. From then on the bridge sends what the program has
//! written, and discards what the client sends. The program's descriptor is closed when the last of it was read: a
//! socket that is closed while it has unread input drops what was written to it.

use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use uncork::{EventMask, Io, PipeIn, PipeOut, ReadState, Upgrade, Waker, pipe};

use crate::shared::lock;

/// Bytes that each pipe holds: as many as a loop reads at once.
const ROOM: usize = 64 * 1024;

/// What the program and the two sides share.
pub(crate) struct Joint {
    state: Mutex<State>,
    corked: AtomicBool,
    client: Waker,
}

struct State {
    /// The program's end of the pair.
    socket: Option<UnixStream>,
    /// The program has closed it.
    closed: bool,
    /// The other end is gone.
    app_ended: bool,
    app: Option<Waker>,
}

impl Joint {
    fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Closes the program's socket.
    pub(crate) fn close(&self) {
        let app = {
            let mut state = lock(&self.state);
            state.closed = true;
            if state.app_ended {
                state.socket = None;
            } else if let Some(socket) = &state.socket {
                // Fails if the program has done it already.
                let _ = socket.shutdown(Shutdown::Write);
            }
            state.app.clone()
        };
        self.client.wake();
        if let Some(app) = app {
            app.wake();
        }
    }

    /// Has small pieces of output share segments, or has every piece sent at once.
    pub(crate) fn cork(&self, yes: bool) {
        self.corked.store(yes, Ordering::Release);
        self.client.wake();
    }
}

/// One side: moves bytes between its stream and the two pipes.
struct Side {
    /// `None` after the end of the input.
    to: Option<PipeIn>,
    from: PipeOut,
    /// Everything that the other side has sent is written.
    is_done: bool,
}

impl Side {
    fn new(mut to: PipeIn, mut from: PipeOut, waker: &Waker) -> Self {
        to.on_room(waker.clone());
        from.on_data(waker.clone());
        Self { to: Some(to), from, is_done: false }
    }

    fn work(&mut self, io: &mut Io<'_>) {
        let offered = io.rx.bytes().len();
        match self.to.take() {
            // The other side has ended, and reads no more.
            Some(to) if to.is_closed() => {
                io.rx.consume(offered);
                self.to = Some(to);
            }
            Some(mut to) => {
                let n = to.write(io.rx.bytes());
                io.rx.consume(n);
                if io.rx.bytes().is_empty() && io.rx.state() != ReadState::Open {
                    to.finish(None);
                } else {
                    self.to = Some(to);
                }
            }
            None => io.rx.consume(offered),
        }
        while io.tx.room() > 0 {
            let n = io.tx.write(self.from.bytes());
            self.from.consume(n);
            if n == 0 {
                break;
            }
        }
        // A program cannot learn from its socket that the stream is truncated.
        if !self.is_done && (self.from.is_finished() || (self.from.is_truncated() && self.from.bytes().is_empty())) {
            self.is_done = true;
            io.tx.finish();
        }
    }

    fn mask(&self, io: &Io<'_>) -> EventMask {
        let mut mask = EventMask::EXTERNAL;
        if self.to.is_some() && io.rx.bytes().is_empty() && io.rx.state() == ReadState::Open {
            mask |= EventMask::READ;
        }
        if io.tx.room() == 0 {
            mask |= EventMask::WRITE;
        }
        mask
    }
}

/// The side of the client.
pub(crate) struct ClientSide {
    side: Side,
    joint: Arc<Joint>,
}

/// The side of the program, on the other end of its socket.
pub(crate) struct AppSide {
    /// `None` before the first call, which knows the waker.
    side: Option<Side>,
    pipes: Option<(PipeIn, PipeOut)>,
    joint: Arc<Joint>,
}

/// Makes a bridge. `socket` is the program's end of a pair, and `client` wakes the side of the client.
pub(crate) fn new(socket: UnixStream, client: Waker) -> (ClientSide, AppSide, Arc<Joint>) {
    let ((to_app, from_client), (to_client, from_app)) = (pipe(ROOM), pipe(ROOM));
    let side = Side::new(to_app, from_app, &client);
    let state = Mutex::new(State { socket: Some(socket), closed: false, app_ended: false, app: None });
    let joint = Arc::new(Joint { state, corked: AtomicBool::new(false), client });
    let app = AppSide { side: None, pipes: Some((to_client, from_client)), joint: joint.clone() };
    (ClientSide { side, joint: joint.clone() }, app, joint)
}

impl Upgrade for ClientSide {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if io.events().is_error() {
            return EventMask::TERMINATE;
        }
        // Before the work: what the program has written before it closed is all in the pipe then, or still to come.
        let closed = self.joint.is_closed();
        self.side.work(io);
        if self.side.is_done && (closed || self.side.from.is_truncated()) {
            return EventMask::TERMINATE;
        }
        let mask = self.side.mask(io);
        match self.joint.corked.load(Ordering::Acquire) {
            true => mask | EventMask::WRITE,
            false => mask | EventMask::CORK,
        }
    }
}

impl Upgrade for AppSide {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Some((to, from)) = self.pipes.take() {
            // The program reads when it likes.
            io.remove_send_timeout();
            lock(&self.joint.state).app = Some(io.waker());
            self.side = Some(Side::new(to, from, &io.waker()));
        }
        let Some(side) = self.side.as_mut().filter(|_| !io.events().is_error()) else { return EventMask::TERMINATE };
        let closed = self.joint.is_closed();
        side.work(io);
        if side.to.is_none() && closed {
            // It reads nothing more.
            io.abort();
            return EventMask::TERMINATE;
        }
        let client_is_gone = side.is_done && side.to.as_ref().is_some_and(PipeIn::is_closed);
        if client_is_gone && io.tx.is_empty() {
            // At once: what the program writes from now on fails.
            io.abort();
        }
        if client_is_gone || (side.is_done && side.to.is_none()) {
            return EventMask::TERMINATE;
        }
        if io.events().is_stopping() {
            io.tx.finish();
        }
        side.mask(io) | EventMask::CORK
    }
}

impl Drop for AppSide {
    fn drop(&mut self) {
        let mut state = lock(&self.joint.state);
        state.app_ended = true;
        if state.closed {
            state.socket = None;
        }
    }
}
