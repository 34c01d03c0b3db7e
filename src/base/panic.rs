//! The message of a panic, for the log.

use std::any::Any;

/// Returns the message that a panic was raised with, if it is a text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<&str>().copied();
    message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
