//! The log: lines of uncork and of this crate go to the logger of the daemon whose thread wrote them.

use std::{
    cell::RefCell,
    sync::{Arc, Once, Weak},
};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::shared::Shared;

thread_local! {
    /// The daemon that this thread belongs to. A thread of a daemon never belongs to another one.
    static OWNER: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
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
