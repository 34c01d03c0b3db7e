//! The logger of a daemon: a function of the program, or standard error.

use std::{
    ffi::{CString, c_char, c_void},
    fmt::Display,
};

use crate::types::{FromC, Logger, flag};

unsafe extern "C" {
    fn uncork_mhd_log(log: Logger, cls: *mut c_void, line: *const c_char);
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
