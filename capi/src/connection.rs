//! A connection: the object that C knows by its address, reused for all requests of the connection.

use std::{
    cell::UnsafeCell,
    ffi::{c_char, c_void},
    os::fd::RawFd,
    ptr::{NonNull, null_mut},
    sync::{Arc, Mutex, MutexGuard, OnceLock, atomic::AtomicU32},
    time::Duration,
};

use uncork::{EndReason, Head, Headers, LoopHandle, PeerAddr, Request, Ticket, Waker};

use crate::{
    info_cell::ConnectionInfos,
    response::MHD_Response,
    shared::{Shared, lock},
    tls::TlsFacts,
    types::ConnectionAddress,
    values::Values,
};

/// `struct MHD_Connection`, which C knows by its address only.
pub struct MHD_Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: PeerAddr,
    /// The pointer that the program keeps for a request (`req_cls`, formerly `con_cls`).
    pub(crate) request_cls: UnsafeCell<*mut c_void>,
    /// The pointer that the program keeps for a connection (`socket_context`).
    pub(crate) socket_context: UnsafeCell<*mut c_void>,
    /// What the program has asked for.
    pub(crate) infos: OnceLock<Box<ConnectionInfos>>,
    pub(crate) fd: Option<RawFd>,
    /// The timeout of the connection, in seconds; 0 for none.
    pub(crate) timeout: AtomicU32,
    /// Of a connection with TLS, from its first request on.
    pub(crate) tls: OnceLock<Box<TlsFacts>>,
    state: Mutex<State>,
}

// SAFETY: What is in cells is written by the program's callbacks, which run on one loop, and by functions that the
// program may call only there, or while the connection is suspended. All other state is behind the lock.
unsafe impl Send for MHD_Connection {}
// SAFETY: As above.
unsafe impl Sync for MHD_Connection {}

/// The state of the request in progress.
#[derive(Default)]
pub(crate) struct State {
    /// The request, while the loop is in `Handler::request`. The lock keeps it from being read later.
    pub(crate) request: Option<NonNull<Request<'static>>>,
    /// A copy of its head, if the head is needed longer than that.
    pub(crate) head: Option<Head>,
    /// Boxed, as few requests have any.
    pub(crate) trailers: Option<Box<Headers>>,
    /// Path and method, each with its NUL, then the query.
    pub(crate) text: Vec<u8>,
    pub(crate) method: usize,
    pub(crate) query: Option<usize>,
    pub(crate) is_1_0: bool,
    pub(crate) values: Option<Box<Values>>,
    /// The response that the program has queued.
    pub(crate) queued: Option<(u16, Arc<MHD_Response>)>,
    /// The timeout that the program has set for the connection, in seconds, and uncork has not got yet.
    pub(crate) new_timeout: Option<u32>,
    /// The status that was sent, or 0.
    pub(crate) status: u16,
    /// The program's access handler is running.
    pub(crate) in_call: bool,
    /// No further response can be queued.
    pub(crate) responded: bool,
    pub(crate) has_body: bool,
    pub(crate) suspension: Suspension,
    pub(crate) upgraded: Upgraded,
    /// The last pause before the access handler is called again, if it has queued no response.
    pub(crate) again: Option<Duration>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) waker: Option<Waker>,
    pub(crate) loop_handle: Option<LoopHandle>,
    /// The number of the request on this connection; 0 if none is in progress.
    pub(crate) number: u32,
}

/// What is known of the suspension of a connection.
#[derive(Default)]
pub(crate) struct Suspension {
    pub(crate) suspended: bool,
    /// The program has suspended it since the last call of a callback began.
    pub(crate) since_call: bool,
    /// What a resumption continues, once the callback has returned.
    pub(crate) parked: Option<Parked>,
    /// The end of the request and of the connection, if they are not reported yet.
    pub(crate) request_ended: Option<EndReason>,
    pub(crate) closed: bool,
}

/// What is known of the connection after an upgrade.
#[derive(Default)]
pub(crate) struct Upgraded {
    /// It counts in [`Shared::upgraded`]: a protocol of the program has it, until its last byte is sent.
    pub(crate) counted: bool,
    /// The program has woken it before there was a waker.
    pub(crate) woken_early: bool,
    /// The program has had a socket.
    pub(crate) by_socket: bool,
    /// The program has a socket, and has not closed it.
    pub(crate) has_socket: bool,
    /// The event handler is running.
    pub(crate) call: Option<Box<UpgradeCall>>,
}

/// One call of an event handler: why it is called, and what it asks for.
#[derive(Clone, Copy, Default)]
pub(crate) struct UpgradeCall {
    pub(crate) reasons: u32,
    pub(crate) finish: bool,
    pub(crate) abort: bool,
    /// `Some(None)` cancels it.
    pub(crate) deadline: Option<Option<Duration>>,
}

/// What a resumption continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// The access handler is called as at the head.
    Head,
    /// The access handler is called as at the end of the request.
    End,
    /// The upload or the content reader is called.
    Stream,
}

impl MHD_Connection {
    pub(crate) fn new(shared: Arc<Shared>, peer: PeerAddr, fd: Option<RawFd>) -> Self {
        Self {
            fd,
            timeout: AtomicU32::new(shared.timeout),
            shared,
            peer,
            request_cls: UnsafeCell::new(null_mut()),
            socket_context: UnsafeCell::new(null_mut()),
            infos: OnceLock::new(),
            tls: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    /// Returns the connection of a pointer.
    ///
    /// # Safety
    /// The pointer must be NULL, or a connection of a daemon that runs, and was not reported as closed.
    pub(crate) unsafe fn of_c<'a>(connection: *const Self) -> Option<&'a Self> {
        // SAFETY: The caller guarantees it.
        unsafe { connection.as_ref() }
    }

    /// Returns another owner of the connection that a pointer of C means.
    pub(crate) fn shared_owner(&self) -> Arc<Self> {
        // SAFETY: Every connection that C can know is in an `Arc`, which the loop's table of connections owns.
        unsafe {
            Arc::increment_strong_count(self);
            Arc::from_raw(self)
        }
    }

    /// Returns its address, for the callbacks of the program.
    pub(crate) fn address(&self) -> ConnectionAddress {
        (&raw const *self).cast()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for the resumption, which has the loop call the stream again. If it is resumed already, the loop does so
    /// now.
    pub(crate) fn park_stream(&self) {
        let mut state = self.state();
        if state.suspension.suspended {
            state.suspension.parked = Some(Parked::Stream);
        } else {
            state.wake();
        }
    }

    /// Writes a line to the daemon's log.
    #[cold]
    pub(crate) fn log(&self, line: &str) {
        self.shared.log.line(&format_args!("{}: {line}", self.peer));
    }
}

impl State {
    /// Has the loop call the stream of the request again.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Calls `f` with each header field of the request.
    pub(crate) fn each_field(&self, mut f: impl FnMut(&str, &[u8])) {
        if let Some(head) = &self.head {
            head.headers().iter().for_each(|(name, value)| f(name, value));
        } else if let Some(request) = self.request {
            // SAFETY: It is set only while the loop is in `Handler::request`, and is reset under this lock before that
            // returns. The loop uses it through this pointer only.
            let request = unsafe { request.as_ref() };
            request.headers().iter().for_each(|(name, value)| f(name, value));
        }
    }

    /// Calls `f` with the method and the target of the request, as sent; returns `None` if there is no request.
    pub(crate) fn with_target<T>(&self, f: impl FnOnce(&str, &str) -> T) -> Option<T> {
        match (&self.head, self.request) {
            (Some(head), _) => Some(f(head.method(), head.target())),
            (None, Some(request)) => {
                // SAFETY: As in `each_field`.
                let request = unsafe { request.as_ref() };
                Some(f(request.method(), request.target()))
            }
            (None, None) => None,
        }
    }

    pub(crate) fn query(&self) -> Option<&[u8]> {
        self.query.and_then(|at| self.text.get(at..))
    }

    /// Returns the path, the method and the version as C gets them.
    pub(crate) fn line(&self) -> (*const c_char, *const c_char, *const c_char) {
        let version = if self.is_1_0 { c"HTTP/1.0" } else { c"HTTP/1.1" };
        let method = self.text.get(self.method..).map_or(c"".as_ptr(), |method| method.as_ptr().cast());
        (self.text.as_ptr().cast(), method, version.as_ptr())
    }

    /// Returns `true` if the request has this method.
    pub(crate) fn has_method(&self, method: &str) -> bool {
        let own = self.text.get(self.method..).unwrap_or_default();
        own.strip_prefix(method.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Takes the response that the program has queued. No other can be queued for this request.
    pub(crate) fn take_queued(&mut self) -> Option<(u16, Arc<MHD_Response>)> {
        self.responded = true;
        self.queued.take()
    }

    /// Makes the head outlive the call of the handler.
    pub(crate) fn keep_head(&mut self) {
        if let (None, Some(request)) = (&self.head, self.request) {
            // SAFETY: As in `each_field`.
            self.head = Some(unsafe { request.as_ref() }.head());
        }
    }
}
