//! Messages between nodes about keys: a line of JSON, and then the bytes for the clients. The response names the keys that
//! did not get the message.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use uncork::Response;

use super::{key::Key, wire::Problem};

/// The path of a message, on the listener for nodes.
pub(super) const SEND: &str = "/keys/send";
/// The path of the question whether all sessions exist.
pub(super) const CHECK: &str = "/keys/check";

/// The first line of a message between nodes, without the keys.
pub(super) struct MessageHead {
    /// The sessions end after it.
    pub(super) last: bool,
    pub(super) binary: bool,
}

impl MessageHead {
    pub(super) fn bytes<'k>(&self, keys: impl Iterator<Item = &'k Key>, message: &[u8]) -> Vec<u8> {
        // Keys are any bytes.
        let keys: Vec<_> = keys.map(|key| BASE64.encode(key)).collect();
        let head = json!({ "keys": keys, "last": self.last, "binary": self.binary });
        [head.to_string().as_bytes(), b"\n", message].concat()
    }

    /// Reads a message: the head, its keys and the rest. `None` if it is malformed.
    pub(super) fn parse(body: &[u8]) -> Option<(Self, Vec<Key>, &[u8])> {
        let end = body.iter().position(|b| *b == b'\n')?;
        let (line, rest) = (body.get(..end)?, body.get(end + 1..)?);
        let head: Value = serde_json::from_slice(line).ok()?;
        let key = |key: &Value| BASE64.decode(key.as_str()?).ok().map(Key::from);
        let keys: Option<Vec<Key>> = head.get("keys")?.as_array()?.iter().map(key).collect();
        let flag = |name: &str| head.get(name)?.as_bool();
        Some((Self { last: flag("last")?, binary: flag("binary")? }, keys?, rest))
    }
}

/// Returns the response to another node: the keys that did not get the message, and why.
pub(super) fn failures(problems: &[(Problem, Key)]) -> Response {
    let failed: Vec<_> = problems.iter().map(|(problem, key)| json!([BASE64.encode(key), problem.name()])).collect();
    Response::json(json!({ "failed": failed }).to_string())
}

/// Reads the response of another node; `None` if it is malformed.
pub(super) fn parse_failures(body: &[u8]) -> Option<Vec<(Key, Problem)>> {
    let response: Value = serde_json::from_slice(body).ok()?;
    let one = |pair: &Value| {
        let key = BASE64.decode(pair.get(0)?.as_str()?).ok()?;
        Some((Key::from(key), Problem::of_name(pair.get(1)?.as_str()?)?))
    };
    response.get("failed")?.as_array()?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_between_nodes_is_read_as_it_was_written() {
        let keys = [Key::from(&b"bob"[..]), Key::from(&b"\xff\n"[..])];
        let bytes = MessageHead { last: true, binary: false }.bytes(keys.iter(), b"line\nline");
        let (head, keys, message) = MessageHead::parse(&bytes).unwrap();
        assert_eq!((head.last, head.binary, message), (true, false, &b"line\nline"[..]));
        assert_eq!(keys, [Key::from(&b"bob"[..]), Key::from(&b"\xff\n"[..])]);
        for bad in ["", "\n", "{}\n", "{\"keys\":[\"!\"],\"last\":false,\"binary\":false}\n", "{\"keys\":[]}"] {
            assert!(MessageHead::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
