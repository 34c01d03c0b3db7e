//! The log: lines of uncork and of this crate go to the logger of the daemon whose thread wrote them.

use std::{
    cell::RefCell,
    ffi::{CString, c_char, c_void},
    fmt::Display,
    sync::{Arc, Once, Weak},
};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::{
    daemon::Shared,
    types::{FromC, Logger, flag},
};

unsafe extern "C" {
    fn uncork_mhd_log(log: Logger, cls: *mut c_void, line: *const c_char);
}

thread_local! {
    /// The daemon that this thread belongs to. A thread of a daemon never belongs to another one.
    static OWNER: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
}

/// What a daemon does with a line.
#[derive(Clone, Copy)]
pub(crate) struct LogTo {
    pub(crate) callback: Option<(Logger, FromC<c_void>)>,
    pub(crate) enabled: bool,
}

impl LogTo {
    pub(crate) fn new(flags: u32) -> Self {
        Self { callback: None, enabled: flags & flag::ERROR_LOG != 0 }
    }

    /// Writes one line, if the program has asked for a log.
    #[cold]
    pub(crate) fn line(&self, line: &dyn Display) {
        if !self.enabled {
            return;
        }
        match self.callback {
            None => eprintln!("{line}"),
            Some((callback, cls)) => {
                // A NUL would end the line early.
                let line = CString::new(line.to_string().replace('\0', " ")).unwrap_or_default();
                // SAFETY: The program registered this function and this pointer for the daemon, whose threads may call
                // it. The line lives during the call.
                unsafe { uncork_mhd_log(callback, cls.0, line.as_ptr()) };
            }
        }
    }
}

/// Notes that this thread belongs to a daemon.
pub(crate) fn enter(shared: &Arc<Shared>) {
    OWNER.with_borrow_mut(|owner| {
        if owner.as_ptr() != Arc::as_ptr(shared) {
            *owner = Arc::downgrade(shared);
        }
    });
}

struct Forward;

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // A thread that ends has dropped it already.
        let owner = OWNER.try_with(|owner| owner.borrow().upgrade()).ok().flatten();
        if let Some(shared) = owner {
            shared.log.line(record.args());
        }
    }

    fn flush(&self) {}
}

/// Makes uncork's lines reach the daemons.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // This library has a copy of `log` of its own, so there is no other logger.
        if log::set_logger(&Forward).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
    });
}
