//! What is in the directory, by name, and the commands for one key.
//!
//! ```text
//!   one server   uncork:gw:key:bob        250 keys in one script, whatever they are
//!   a cluster    uncork:gw:key:{3f}:bob   those with the same number in one script: they are in one slot
//! ```
//! The number is one of 256, by a checksum of the key. It divides the keys among all nodes of a cluster, and leaves
//! enough of them together. This is the only place that knows the difference.

use std::collections::BTreeMap;

use super::{
    super::directory::{Command, crc16},
    holder::{Holder, Key},
};

/// Removes a value if it is still the lease's.
pub(super) const REMOVE: &str =
    "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

/// The names of the keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    is_cluster: bool,
}

impl Names {
    pub(super) fn new(is_cluster: bool) -> Self {
        Self { is_cluster }
    }

    /// Appends the name of a key.
    pub(super) fn write(self, key: &[u8], into: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        into.extend_from_slice(b"gw:key:");
        if self.is_cluster {
            let number = usize::from(number(key));
            into.extend_from_slice(&[b'{', DIGITS[number >> 4], DIGITS[number & 15], b'}', b':']);
        }
        into.extend_from_slice(key);
    }

    /// Divides keys into those that may be in one command, and not more than this many.
    pub(super) fn batches(self, keys: Vec<Key>, most: usize) -> Vec<Vec<Key>> {
        if !self.is_cluster {
            return keys.chunks(most).map(<[Key]>::to_vec).collect();
        }
        let mut together = BTreeMap::<u8, Vec<Key>>::new();
        for key in keys {
            together.entry(number(&key)).or_default().push(key);
        }
        together.values().flat_map(|keys| keys.chunks(most)).map(<[Key]>::to_vec).collect()
    }

    /// Returns the command that reads who has a key.
    pub(super) fn lookup(self, key: &[u8]) -> Command {
        Command::new("GET").key_with(|name| self.write(key, name))
    }

    /// Returns the command that removes the value of a lease that has turned out not to exist.
    pub(super) fn remove_stale(self, key: &[u8], holder: &Holder) -> Command {
        self.script(REMOVE, key).arg(holder.to_string())
    }

    /// Returns the call of a script for one key.
    pub(super) fn script(self, text: &'static str, key: &[u8]) -> Command {
        Command::new("EVAL").arg(text).arg("1").key_with(|name| self.write(key, name))
    }
}

/// Returns the number of a key, the same on all nodes.
fn number(key: &[u8]) -> u8 {
    crc16(key).to_be_bytes()[1]
}

/// Returns the name of the set of a node's keys.
pub(super) fn set_of(node: &str, epoch: &str) -> String {
    format!("gw:of:{node}:{epoch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(is_cluster: bool, key: &str) -> String {
        let mut name = Vec::new();
        Names::new(is_cluster).write(key.as_bytes(), &mut name);
        String::from_utf8(name).expect("text")
    }

    #[test]
    fn names() {
        assert_eq!(name(false, "123456789"), "gw:key:123456789");
        assert_eq!(name(true, "123456789"), "gw:key:{c3}:123456789");
        assert_eq!(name(true, "{x}"), format!("gw:key:{{{:02x}}}:{{x}}", number(b"{x}")));
        assert_eq!(set_of("fra1", "9f"), "gw:of:fra1:9f");
    }

    #[test]
    fn keys_that_are_in_one_slot_are_together() {
        let keys: Vec<Key> = (0..5000).map(|n| format!("session-{n}").into_bytes().into()).collect();
        let one = Names::new(false).batches(keys.clone(), 250);
        assert!(one.len() == 20 && one.iter().all(|batch| batch.len() == 250));
        let many = Names::new(true).batches(keys, 15);
        assert_eq!(many.iter().map(Vec::len).sum::<usize>(), 5000);
        assert!(many.iter().all(|batch| (1..=15).contains(&batch.len())));
        assert!(many.iter().all(|batch| batch.iter().all(|key| number(key) == number(&batch[0]))));
        assert!(many.len() > 256, "all numbers are used, and large batches are divided");
    }
}
