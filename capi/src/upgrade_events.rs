//! Another protocol by events: the callback that was proposed for libmicrohttpd in 2012.
//!
//! ```text
//!   uncork ──Io──▶ EventUpgrade ──input, output──▶ handler of the program ──▶ events to wait for
//!                       │  ▲                            │
//!                       ▼  └── finish, abort, deadline ─┤  MHD_upgrade_finish, …_abort, …_set_deadline
//!                   call: why ──────────────────────────┘  MHD_upgrade_events
//! ```
//! The handler writes into the loop's own buffer, which the connection has only while there are bytes in it. So an idle
//! connection has none, and nothing is copied.

use std::{
    ffi::{c_char, c_uint, c_void},
    ptr::null,
    sync::Arc,
    time::Duration,
};

use uncork::{EventMask, Io, ReadState, Upgrade};

use crate::{
    connection::{MHD_Connection, UpgradeCall},
    response::{MHD_Response, Protocol},
    types::{FromC, NO, Result, UpgradeEventHandler, YES},
};

/// `enum MHD_UpgradeReason`: the bits of `uncork::Events` that C gets as they are, and those of the peer's side.
mod reason {
    pub(super) const OF_EVENTS: u32 = 1 | 2 | 4 | 16 | 32 | 64;
    pub(super) const PEER_FINISHED: u32 = 8;
    pub(super) const TRUNCATED: u32 = 128;
}

/// The upgrade of a connection, by events.
pub(crate) struct EventUpgrade {
    connection: Arc<MHD_Connection>,
    handler: UpgradeEventHandler,
    cls: FromC<c_void>,
}

/// What a handler has done wrong.
enum Fault {
    Mask(c_uint),
    Consumed(usize, usize),
    Written(usize, usize),
}

impl EventUpgrade {
    pub(crate) fn new(connection: Arc<MHD_Connection>, handler: UpgradeEventHandler, cls: FromC<c_void>) -> Self {
        Self { connection, handler, cls }
    }

    /// Calls the handler. Takes what it has consumed, and keeps what it has written.
    fn call(&self, io: &mut Io<'_>) -> std::result::Result<EventMask, Fault> {
        let input = io.rx.bytes();
        let offered = input.len();
        // A pointer of C is never NULL here, even for no bytes.
        let input: *const c_char = if input.is_empty() { c"".as_ptr() } else { input.as_ptr().cast() };
        let (mut consumed, mut mask, mut room_len, mut written) = (offered, 0, 0, 0);
        io.tx.write_with(usize::MAX, |room| {
            room_len = room.len();
            written = room_len;
            let request_cls = self.connection.request_cls.get();
            // SAFETY: The program has passed this function with this pointer. The input and the room have as many bytes
            // as the sizes say, and live during the call; so does the connection. No other callback of it runs.
            mask = unsafe {
                (self.handler)(
                    self.cls.0,
                    self.connection.address(),
                    request_cls,
                    &raw mut consumed,
                    input,
                    &raw mut written,
                    room.as_mut_ptr().cast(),
                )
            };
            if written > room_len { 0 } else { written }
        });
        if consumed > offered {
            return Err(Fault::Consumed(consumed, offered));
        }
        if written > room_len {
            return Err(Fault::Written(written, room_len));
        }
        io.rx.consume(consumed);
        u8::try_from(mask).ok().and_then(EventMask::from_bits).ok_or(Fault::Mask(mask))
    }
}

impl Upgrade for EventUpgrade {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        let mut reasons = u32::from(io.events().bits()) & reason::OF_EVENTS;
        reasons |= match io.rx.state() {
            ReadState::Open => 0,
            ReadState::Eof => reason::PEER_FINISHED,
            ReadState::Truncated => reason::PEER_FINISHED | reason::TRUNCATED,
        };
        self.connection.state().upgraded.call = Some(Box::new(UpgradeCall { reasons, ..UpgradeCall::default() }));
        let result = self.call(io);
        let call = self.connection.state().upgraded.call.take().unwrap_or_default();
        let mask = result.unwrap_or_else(|fault| {
            self.report(&fault);
            io.abort();
            EventMask::TERMINATE
        });
        if call.finish {
            io.tx.finish();
        }
        if let Some(deadline) = call.deadline {
            let now = io.now().mono;
            io.set_deadline(deadline.and_then(|after| now.checked_add(after)));
        }
        if call.abort {
            io.abort();
        }
        mask
    }
}

impl EventUpgrade {
    #[cold]
    fn report(&self, fault: &Fault) {
        self.connection.log(&match fault {
            Fault::Mask(mask) => format!("aborting the connection: an upgrade handler has returned the events {mask}"),
            Fault::Consumed(n, of) => {
                format!("aborting the connection: an upgrade handler has consumed {n} of {of} bytes")
            }
            Fault::Written(n, of) => {
                format!("aborting the connection: an upgrade handler has written {n} bytes, with room for {of}")
            }
        });
    }
}

export! {
    /// Creates a response that changes to another protocol, which a handler speaks by events.
    fn MHD_create_response_for_upgrade_events(handler: Option<UpgradeEventHandler>, cls: *mut c_void)
        -> *const MHD_Response, or null(); {
        handler.map_or(null(), |handler| MHD_Response::upgrade_to_c(Protocol::Events(handler, FromC(cls))))
    }
}

/// Has `f` note what the running handler of a connection asks for. `MHD_NO` if none runs.
///
/// # Safety
/// `connection` must be NULL or a connection.
unsafe fn in_call(connection: *const MHD_Connection, f: impl FnOnce(&mut UpgradeCall)) -> Result {
    // SAFETY: The caller guarantees it.
    let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return NO };
    match &mut connection.state().upgraded.call {
        Some(call) => {
            f(call);
            YES
        }
        None => NO,
    }
}

export! {
    /// Returns the reasons for the running call of the upgrade handler; 0 if it does not run.
    fn MHD_upgrade_events(connection: *const MHD_Connection) -> c_uint, or 0; {
        let mut reasons = 0;
        // SAFETY: By the contract of the interface it is NULL or a connection.
        unsafe { in_call(connection, |call| reasons = call.reasons) };
        reasons
    }
}

export! {
    /// Half-closes after the output of the running call: the peer can still send.
    fn MHD_upgrade_finish(connection: *const MHD_Connection) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        unsafe { in_call(connection, |call| call.finish = true) }
    }
}

export! {
    /// Aborts the connection after the running call: the output is dropped, and the peer sees a reset.
    fn MHD_upgrade_abort(connection: *const MHD_Connection) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        unsafe { in_call(connection, |call| call.abort = true) }
    }
}

export! {
    /// Has the handler called in that many milliseconds, whatever it waits for; a negative number cancels that.
    fn MHD_upgrade_set_deadline(connection: *const MHD_Connection, milliseconds: i64) -> Result, or NO; {
        let after = u64::try_from(milliseconds).ok().map(Duration::from_millis);
        // SAFETY: By the contract of the interface it is NULL or a connection.
        unsafe { in_call(connection, |call| call.deadline = Some(after)) }
    }
}

export! {
    /// Has the handler called, from any thread, if it waits for that.
    fn MHD_upgrade_wake(connection: *const MHD_Connection) -> Result, or NO; {
        // SAFETY: By the contract of the interface it is NULL or a connection whose end was not reported.
        let Some(connection) = (unsafe { MHD_Connection::of_c(connection) }) else { return NO };
        let mut state = connection.state();
        if state.number == 0 {
            return NO;
        }
        if state.upgraded.counted {
            state.wake();
        } else {
            state.upgraded.woken_early = true;
        }
        YES
    }
}
