//! An error in a line of a text.

use crate::relay::config::ConfigError;

/// An error in a line of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) what: String,
}

/// Creates a [`Fault`].
pub(super) fn fault(line: usize, what: impl Into<String>) -> Fault {
    Fault { line, what: what.into() }
}

impl From<Fault> for ConfigError {
    fn from(Fault { line, what }: Fault) -> Self {
        Self::of(Some(line), what)
    }
}
