//! Another protocol by a socket: the handler of the program gets one end of a pair of sockets, over HTTP and HTTPS
//! alike. `bridge` moves the bytes.
//!
//! A handle of C is a number, not an address. So one that is used after the end finds nothing.

use std::{
    collections::BTreeMap,
    ffi::{c_int, c_void},
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    ptr::{null, without_provenance_mut},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use uncork::{EventMask, Io, Upgrade};

use crate::{
    bridge::{self, ClientSide, Joint},
    connection::MHD_Connection,
    logging,
    response::{MHD_Response, Protocol},
    shared::lock,
    types::{FromC, NO, Result, UpgradeHandle, UpgradeHandler, YES, flag},
};

/// A socket that the program has.
#[derive(Clone)]
struct Handle {
    connection: Arc<MHD_Connection>,
    joint: Arc<Joint>,
}

static HANDLES: Mutex<BTreeMap<usize, Handle>> = Mutex::new(BTreeMap::new());

/// Registers a handle, and returns the number that C gets.
fn register(handle: Handle) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    lock(&HANDLES).insert(number, handle);
    number
}

/// The upgrade of a connection, by a socket.
pub(crate) struct SocketUpgrade {
    connection: Arc<MHD_Connection>,
    handler: UpgradeHandler,
    cls: FromC<c_void>,
    side: Option<ClientSide>,
}

impl SocketUpgrade {
    pub(crate) fn new(connection: Arc<MHD_Connection>, handler: UpgradeHandler, cls: FromC<c_void>) -> Self {
        Self { connection, handler, cls, side: None }
    }

    /// Makes the bridge, and gives the program its socket.
    fn start(&mut self, io: &Io<'_>) -> io::Result<ClientSide> {
        let handle = self.connection.state().loop_handle.clone();
        let handle = handle.ok_or_else(|| io::Error::other("the loop is not known"))?;
        let (own, theirs) = UnixStream::pair()?;
        // As the original's.
        theirs.set_nonblocking(true)?;
        let fd = theirs.as_raw_fd();
        let (client, app, joint) = bridge::new(theirs, io.waker());
        handle.adopt_upgrade(own, app).map_err(|_| io::Error::other("the loop has ended"))?;
        let number = register(Handle { connection: self.connection.clone(), joint });
        {
            let mut state = self.connection.state();
            state.upgraded.by_socket = true;
            state.upgraded.has_socket = true;
        }
        if let Err(error) = self.call(fd, number) {
            close(number);
            return Err(error);
        }
        Ok(client)
    }

    /// Calls the handler. It may block if each connection has a thread, and the bytes must move meanwhile.
    fn call(&self, fd: c_int, number: usize) -> io::Result<()> {
        let (handler, cls, connection) = (self.handler, self.cls, self.connection.clone());
        let call = move || {
            let cls = cls;
            // SAFETY: No other callback of this connection runs.
            let request_cls = unsafe { *connection.request_cls.get() };
            // SAFETY: The program has passed this function with this pointer. The connection lives during the call.
            unsafe {
                handler(cls.0, connection.address(), request_cls, null(), 0, fd, without_provenance_mut(number));
            }
        };
        let shared = self.connection.shared.clone();
        if shared.flags & flag::THREAD_PER_CONNECTION == 0 {
            call();
            return Ok(());
        }
        shared.helpers.add();
        let started = {
            let shared = shared.clone();
            thread::Builder::new().name("upgrade".into()).spawn(move || {
                logging::enter(&shared);
                call();
                shared.helpers.remove();
            })
        };
        started.map(drop).inspect_err(|_| shared.helpers.remove())
    }
}

impl Upgrade for SocketUpgrade {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if self.side.is_none() {
            match self.start(io) {
                Ok(side) => self.side = Some(side),
                Err(error) => {
                    self.connection.log(&format!("cannot make a socket for an upgrade: {error}"));
                    io.abort();
                    return EventMask::TERMINATE;
                }
            }
        }
        self.side.as_mut().map_or(EventMask::TERMINATE, |side| side.ready(io))
    }
}

/// Closes the program's socket. Returns `false` if it has none of this number.
fn close(number: usize) -> bool {
    let Some(Handle { connection, joint }) = lock(&HANDLES).remove(&number) else { return false };
    joint.close();
    let ended = {
        let mut state = connection.state();
        state.upgraded.has_socket = false;
        state.suspension.request_ended.is_some()
    };
    if ended {
        connection.report_later();
    }
    true
}

export! {
    /// Creates a response that changes to another protocol, which a handler speaks by a socket.
    fn MHD_create_response_for_upgrade(handler: Option<UpgradeHandler>, cls: *mut c_void) -> *const MHD_Response,
        or null(); {
        handler.map_or(null(), |handler| MHD_Response::upgrade_to_c(Protocol::Socket(handler, FromC(cls))))
    }
}

export! {
    /// Closes the socket of an upgraded connection (0), has its output wait for more (1), or sends it at once (2). From
    /// any thread.
    fn MHD_upgrade_action(handle: UpgradeHandle, action: c_int) -> Result, or NO; {
        let number = handle.addr();
        let corks = match action {
            0 => return if close(number) { YES } else { NO },
            1 => true,
            2 => false,
            _ => return NO,
        };
        let found = lock(&HANDLES).get(&number).cloned();
        match found {
            Some(handle) => {
                handle.joint.cork(corks);
                YES
            }
            None => NO,
        }
    }
}
