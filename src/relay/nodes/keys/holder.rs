//! A key, and its holder as the directory has it: `node:epoch:number:since`.

use std::{fmt, sync::Arc};

pub(in crate::relay) type Key = Arc<[u8]>;

/// The holder of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) struct Holder {
    pub(in crate::relay) node: String,
    pub(super) epoch: String,
    pub(in crate::relay) number: u64,
    /// When the lease began, in milliseconds since 1970.
    pub(super) since: u64,
}

impl Holder {
    /// Reads the value of a key; `None` if it is not one of this program's.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split(':');
        let (node, epoch) = (parts.next()?, parts.next()?);
        let (number, since) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let is_whole = parts.next().is_none() && !node.is_empty() && !epoch.is_empty();
        is_whole.then(|| Self { node: node.to_owned(), epoch: epoch.to_owned(), number, since })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.node, self.epoch, self.number, self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let holder = Holder { node: "fra1".into(), epoch: "9f31c07a".into(), number: 17, since: 1_796_000_000_000 };
        assert_eq!(holder.to_string(), "fra1:9f31c07a:17:1796000000000");
        assert_eq!(Holder::parse(holder.to_string().as_bytes()), Some(holder));
        for bad in ["", "a:b:1", "a:b:x:1", "a:b:1:-1", ":b:1:1", "a::1:1", "a:b:1:1:1", "\u{fc}"] {
            assert_eq!(Holder::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Holder::parse(b"\xff"), None);
    }
}
