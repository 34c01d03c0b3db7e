//! Commands, as they are sent, and the function that gets their replies.

use super::{
    reply::{Reply, Unavailable},
    slots::slot_of,
};

/// One command: its name and its arguments. Binary-safe.
#[derive(Clone, Debug)]
pub(in crate::relay) struct Command {
    name: &'static str,
    /// Those of all arguments: a script for many keys has many.
    bytes: Vec<u8>,
    arguments: Vec<Argument>,
    is_hint: bool,
}

#[derive(Clone, Copy, Debug)]
struct Argument {
    /// Where its bytes end.
    end: usize,
    /// The prefix is put before it.
    is_key: bool,
}

impl Command {
    pub(in crate::relay) fn new(name: &'static str) -> Self {
        Self { name, bytes: Vec::new(), arguments: Vec::new(), is_hint: false }
    }

    /// Adds a key, or the name of a channel: the prefix is put before it. In a cluster, all keys of a command must be in
    /// the same slot: they have a part in braces in common, or are the same.
    pub(in crate::relay) fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.add(true, |bytes| bytes.extend_from_slice(key.as_ref()))
    }

    /// Adds an argument. A number is given as text.
    pub(in crate::relay) fn arg(self, arg: impl AsRef<[u8]>) -> Self {
        self.add(false, |bytes| bytes.extend_from_slice(arg.as_ref()))
    }

    /// Adds a key that `write` appends, without a buffer of its own.
    pub(in crate::relay) fn key_with(self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.add(true, write)
    }

    /// Adds an argument that `write` appends, without a buffer of its own.
    pub(in crate::relay) fn arg_with(self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.add(false, write)
    }

    fn add(mut self, is_key: bool, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        write(&mut self.bytes);
        self.arguments.push(Argument { end: self.bytes.len(), is_key });
        self
    }

    /// Makes it a hint: dropped and counted, the oldest first, if the queue is full or there is no connection. A
    /// pipeline is dropped as a whole, and only if all of its commands are hints.
    pub(in crate::relay) fn hint(mut self) -> Self {
        self.is_hint = true;
        self
    }

    /// Returns the name and the arguments, without the prefix.
    #[cfg(test)]
    pub(in crate::relay) fn words(&self) -> Vec<Vec<u8>> {
        let arguments = self.parts().map(|(bytes, _)| bytes.to_vec());
        std::iter::once(self.name.as_bytes().to_vec()).chain(arguments).collect()
    }

    pub(super) fn is_hint(&self) -> bool {
        self.is_hint
    }

    /// Returns the arguments, and whether each is a key.
    fn parts(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut start = 0;
        self.arguments.iter().map(move |Argument { end, is_key }| {
            let bytes = &self.bytes[start..*end];
            start = *end;
            (bytes, *is_key)
        })
    }

    /// Returns the slot of its first key in a cluster. All of its keys must be in the same one.
    pub(super) fn slot(&self, prefix: &str) -> Option<u16> {
        let (key, _) = self.parts().find(|(_, is_key)| *is_key)?;
        Some(slot_of(&[prefix.as_bytes(), key].concat()))
    }

    /// Appends the command as it is sent.
    pub(super) fn encode(&self, prefix: &str, into: &mut Vec<u8>) {
        // A length has few digits, mostly.
        into.reserve(self.bytes.len() + (self.arguments.len() + 2) * (prefix.len() + 9));
        begin(self.arguments.len() + 1, into);
        bulk(&[self.name.as_bytes()], into);
        for (bytes, is_key) in self.parts() {
            match is_key {
                true => bulk(&[prefix.as_bytes(), bytes], into),
                false => bulk(&[bytes], into),
            }
        }
    }
}

/// Appends a command of these words.
pub(super) fn encode_words(words: &[&[u8]], into: &mut Vec<u8>) {
    begin(words.len(), into);
    words.iter().for_each(|word| bulk(&[word], into));
}

fn begin(words: usize, into: &mut Vec<u8>) {
    into.push(b'*');
    decimal(words as u64, into);
    into.extend_from_slice(b"\r\n");
}

/// Appends one string that is made of these parts.
fn bulk(parts: &[&[u8]], into: &mut Vec<u8>) {
    into.push(b'$');
    decimal(parts.iter().map(|part| part.len() as u64).sum(), into);
    into.extend_from_slice(b"\r\n");
    parts.iter().for_each(|part| into.extend_from_slice(part));
    into.extend_from_slice(b"\r\n");
}

/// Appends a number as text.
pub(in crate::relay) fn decimal(mut n: u64, into: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // Less than 10.
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return into.extend_from_slice(&digits[at..]);
        }
    }
}

/// The result of a pipeline: one reply for each command, or why there are none.
pub(super) type Outcome = Result<Vec<Reply>, Unavailable>;

/// The function to call with the replies. It is called exactly once: dropping it uncalled calls it.
pub(super) struct Then(Option<Box<dyn FnOnce(Outcome) + Send>>);

impl Then {
    pub(super) fn new(then: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    pub(super) fn call(mut self, outcome: Outcome) {
        if let Some(then) = self.0.take() {
            then(outcome);
        }
    }
}

impl Drop for Then {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(Unavailable("the loop has ended".into())));
        }
    }
}

/// Commands that are sent together.
pub(super) struct Pipeline {
    /// As they are sent.
    pub(super) wire: Vec<u8>,
    /// At least 1.
    pub(super) commands: usize,
    pub(super) is_hint: bool,
    pub(super) then: Then,
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut wire = Vec::new();
        Command::new("SET").key("gw:1").arg([0, b'\r', b'\n']).arg(7.to_string()).encode("p:", &mut wire);
        assert_eq!(wire, b"*4\r\n$3\r\nSET\r\n$6\r\np:gw:1\r\n$3\r\n\0\r\n\r\n$1\r\n7\r\n");
        wire.clear();
        encode_words(&[b"PING"], &mut wire);
        assert_eq!(wire, b"*1\r\n$4\r\nPING\r\n");
        let written =
            Command::new("SET").key_with(|key| key.extend(b"gw:1")).arg_with(|arg| arg.extend([0, b'\r', b'\n']));
        assert_eq!(written.words(), [&b"SET"[..], b"gw:1", b"\0\r\n"]);
        assert!(Command::new("PUBLISH").hint().is_hint() && !Command::new("PUBLISH").is_hint());
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for n in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut written = b"x".to_vec();
            decimal(n, &mut written);
            assert_eq!(written, format!("x{n}").as_bytes());
        }
    }

    #[test]
    fn the_function_is_called_once_even_if_it_is_dropped() {
        let (report, reports) = channel();
        let then = |report: std::sync::mpsc::Sender<Outcome>| Then::new(move |outcome| drop(report.send(outcome)));
        drop(then(report.clone()));
        then(report).call(Ok(vec![Reply::Nil]));
        let all: Vec<Outcome> = reports.iter().collect();
        assert_eq!(all, [Err(Unavailable("the loop has ended".into())), Ok(vec![Reply::Nil])]);
    }
}
