//! The error that ends a session.

/// A rule that the peer broke, after which its bytes cannot be understood: the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The rule, as a text for logs.
    pub(crate) rule: &'static str,
}

impl Fault {
    pub(super) const fn protocol(rule: &'static str) -> Self {
        Self { rule }
    }
}
