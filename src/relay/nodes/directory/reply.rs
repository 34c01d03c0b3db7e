//! A reply of the engine, and the reason why there is none.

use std::fmt;

/// A reply. RESP2 and RESP3 look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) enum Reply {
    /// There is no value.
    Nil,
    /// A number; also a boolean, as 0 or 1.
    Int(i64),
    /// A string; also a simple string, a verbatim string, and a number that is not a 64-bit integer.
    Bytes(Vec<u8>),
    /// An array; also a set, and a map as name, value, name, value.
    Array(Vec<Reply>),
    /// The engine has rejected the command. It has one of the engine's codes in front, such as `ERR` or `NOSCRIPT`.
    Error(String),
}

/// The longest text of an error that is kept.
const MAX_TEXT: usize = 200;

/// Errors that end by themselves or on another server. They say nothing about the command.
const NOT_NOW: &[&str] = &[
    "LOADING",
    "READONLY",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "BUSY",
    "TRYAGAIN",
    // Writes are rejected while the engine cannot save, has too few replicas, or no memory.
    "MISCONF",
    "NOREPLICAS",
    "OOM",
];

impl Reply {
    /// Returns the text of an error that means "not now".
    pub(super) fn not_now(&self) -> Option<&str> {
        let Self::Error(text) = self else { return None };
        NOT_NOW.contains(&code(text)).then_some(text)
    }

    /// Returns `true` if another node of the cluster has the key.
    pub(super) fn is_redirection(&self) -> bool {
        matches!(self, Self::Error(text) if ["MOVED", "ASK"].contains(&code(text)))
    }

    /// Returns `true` if the server is a replica that rejects writes.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Error(text) if code(text) == "READONLY")
    }

    /// Returns the bytes of a string.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Returns the code of an error: its first word.
pub(super) fn code(error: &str) -> &str {
    error.split(' ').next().unwrap_or_default()
}

/// Returns the start of a text of the engine, as one line.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The reason why there is no reply. It never means "no": the command may or may not have been carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) struct Unavailable(pub(super) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the directory is unavailable: {}", self.0)
    }
}

impl std::error::Error for Unavailable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_an_error_says_what_it_is() {
        let error = |text: &str| Reply::Error(text.into());
        for text in [
            "LOADING Redis is loading",
            "READONLY You can't",
            "CLUSTERDOWN x",
            "MASTERDOWN x",
            "BUSY Redis is",
            "TRYAGAIN x",
            "OOM command not allowed",
            "MISCONF x",
            "NOREPLICAS x",
            "BUSY",
        ] {
            assert_eq!(error(text).not_now(), Some(text));
        }
        for text in ["BUSYGROUP exists", "BUSYKEY exists", "ERR LOADING", "", "loading"] {
            assert_eq!(error(text).not_now(), None);
        }
        assert!(error("MOVED 1 a:1").is_redirection() && error("ASK 1 a:1").is_redirection());
        assert!(!error("ASKING").is_redirection() && error("MOVED 1 a:1").not_now().is_none());
        assert!(error("READONLY x").is_read_only() && !error("READ").is_read_only());
        assert_eq!(Reply::Bytes(b"LOADING".to_vec()).not_now(), None);
    }

    #[test]
    fn text_of_the_engine_is_one_short_line() {
        assert_eq!(printable(b"a\r\nb\x1b[0m \xff"), "a  b [0m \u{fffd}");
        assert_eq!(printable(&[b'x'; 1000]).len(), MAX_TEXT);
    }
}
