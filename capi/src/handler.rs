//! Where requests come from: uncork's handler of one loop, with the loop's connections.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use uncork::{Action, ConnId, EndReason, Handler, PeerAddr, Request, Response, h1::Version};

use crate::{
    call::{Step, ask_locked},
    connection::{MHD_Connection, Parked, State, Suspension, Upgraded},
    logging,
    progress::{action, ask_again, park, respond},
    shared::Shared,
    tls::TlsFacts,
    types::flag,
};

/// The handler of one loop, with its connections.
pub(crate) struct Bridge {
    shared: Arc<Shared>,
    connections: HashMap<ConnId, Arc<MHD_Connection>, BuildHasherDefault<IdHasher>>,
}

/// Ids of connections differ in their low bits already, and no peer chooses them.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(8) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Bridge {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.handlers.add();
        Self { shared, connections: HashMap::default() }
    }
}

/// A handler for another loop, which has connections of its own.
impl Clone for Bridge {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.shared.handlers.remove();
    }
}

impl Handler for Bridge {
    fn accept(&mut self, peer: &PeerAddr) -> bool {
        logging::enter(&self.shared);
        self.shared.accepts(peer)
    }

    fn opened(&mut self, conn: ConnId, peer: &PeerAddr, socket: Option<BorrowedFd<'_>>) {
        logging::enter(&self.shared);
        let fd = socket.map(|socket| socket.as_raw_fd());
        let connection = Arc::new(MHD_Connection::new(self.shared.clone(), *peer, fd));
        self.connections.insert(conn, connection.clone());
        connection.report_opened();
    }

    fn request(&mut self, req: &mut Request<'_>) -> Action {
        match self.connections.get(&req.conn()) {
            Some(connection) => begin(connection, req),
            None => Action::Abort,
        }
    }

    fn closed(&mut self, conn: ConnId, _: &EndReason) {
        if let Some(connection) = self.connections.remove(&conn) {
            connection.closed();
        }
    }
}

/// Takes a request from uncork.
fn begin(connection: &Arc<MHD_Connection>, req: &mut Request<'_>) -> Action {
    let borrowed = Borrowed(Some(connection));
    let Some(mut state) = start(connection, req) else {
        return Response::text("The path contains a NUL.\n").with_status(400).into();
    };
    if let Some((callback, cls)) = connection.shared.uri_log {
        drop(state);
        let mut uri = req_target(connection);
        uri.push(0);
        // SAFETY: The program registered this function with this pointer. The string lives during the call.
        let request_cls = unsafe { callback(cls.0, uri.as_ptr().cast(), connection.address()) };
        // SAFETY: No other callback of this connection runs.
        unsafe { *connection.request_cls.get() = request_cls };
        state = connection.state();
    }
    let (step, mut state) = ask_locked(connection, state, Parked::Head);
    let can_suspend = connection.shared.flags & flag::SUSPEND_RESUME != 0;
    let can_upgrade = connection.shared.flags & flag::ALLOW_UPGRADE != 0;
    // After a body, too, the program may not respond at once.
    let can_wait = can_suspend || matches!(step, Step::Receive | Step::Again);
    let streams = state.queued.as_ref().is_some_and(|(_, response)| response.content.calls_the_program());
    let is_over = matches!(step, Step::Fail(_)) || (step == Step::Respond && !streams);
    if !is_over || connection.shared.completed.is_some() {
        state.keep_head();
    }
    borrowed.end(&mut state);
    if let Some(seconds) = state.new_timeout.take() {
        let timeout = if seconds == 0 { Duration::MAX } else { Duration::from_secs(seconds.into()) };
        req.set_timeout(timeout);
    }
    if !is_over {
        state.waker = Some(req.waker());
        state.loop_handle = Some(req.loop_handle());
        if can_wait {
            state.ticket = Some(req.ticket());
        }
    }
    let queued = if step == Step::Respond { state.take_queued() } else { None };
    drop(state);
    if connection.shared.completed.is_some() || can_wait || can_upgrade {
        let connection = connection.clone();
        req.on_end(move |end| connection.request_ended(end.reason));
    }
    match step {
        Step::Park(parked) => {
            park(connection, parked);
            Action::Suspend
        }
        Step::Again => {
            ask_again(connection);
            Action::Suspend
        }
        Step::Respond => respond(connection, queued),
        step => action(connection, step),
    }
}

/// The loan of the request to the connection: it ends with the call of the handler, however that ends.
struct Borrowed<'a>(Option<&'a MHD_Connection>);

impl Borrowed<'_> {
    /// Ends it under a lock that is held already.
    fn end(mut self, state: &mut State) {
        self.0 = None;
        state.request = None;
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            connection.state().request = None;
        }
    }
}

/// Resets the connection's state for a request and returns it; `None` if the path cannot be a string of C.
fn start<'a>(connection: &'a MHD_Connection, req: &mut Request<'_>) -> Option<MutexGuard<'a, State>> {
    if let Some(info) = req.tls_info() {
        connection.tls.get_or_init(|| Box::new(TlsFacts::of(&info)));
    }
    let target = req.target();
    let (path, query) = match target.as_bytes() {
        [b'/', ..] => match target.as_bytes().iter().position(|byte| *byte == b'?') {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        },
        // A CONNECT has no path.
        _ if req.path().is_empty() => (target, None),
        _ => (req.path(), req.query()),
    };
    let mut state = connection.state();
    let mut text = std::mem::take(&mut state.text);
    text.clear();
    text.extend_from_slice(path.as_bytes());
    if connection.shared.unescape.is_some() || text.contains(&b'%') {
        drop(state);
        connection.unescape(&mut text);
        if text.contains(&0) {
            return None;
        }
        state = connection.state();
    }
    text.push(0);
    let method = text.len();
    text.extend_from_slice(req.method().as_bytes());
    text.push(0);
    let query = query.map(|query| {
        let at = text.len();
        text.extend_from_slice(query.as_bytes());
        at
    });
    state.text = text;
    state.method = method;
    state.query = query;
    state.is_1_0 = req.version() == Version::Http10;
    state.has_body = req.has_body() && req.content_length() != Some(0);
    state.head = None;
    state.trailers = None;
    state.values = None;
    let unsent = state.queued.take();
    state.status = 0;
    state.responded = false;
    state.suspension = Suspension::default();
    state.upgraded = Upgraded::default();
    state.again = None;
    state.ticket = None;
    state.waker = None;
    state.number = req.id().number;
    state.request = Some(NonNull::from(req).cast());
    // SAFETY: No callback of this connection runs: its earlier requests have ended.
    unsafe { *connection.request_cls.get() = std::ptr::null_mut() };
    if unsent.is_some() {
        // Not under the lock: releasing its memory can call the program.
        drop(state);
        drop(unsent);
        state = connection.state();
    }
    Some(state)
}

/// Returns the request target, as sent.
fn req_target(connection: &MHD_Connection) -> Vec<u8> {
    let state = connection.state();
    // SAFETY: It is set only while the loop is in `Handler::request`, and reset under this lock before that returns.
    state.request.map(|request| unsafe { request.as_ref() }.target().as_bytes().to_vec()).unwrap_or_default()
}
