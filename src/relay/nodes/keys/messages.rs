//! What nodes tell each other about keys: the paths on the listener for nodes, and the bodies.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use uncork::LoopHandle;

use super::{
    super::directory::Command,
    handle::{Directory, Inner},
    holder::{Holder, Key},
    names::set_of,
};

/// The question for the start of a node. The response is its name.
pub(in crate::relay) const EPOCH: &str = "/keys/epoch";
/// Another node has a key now: see [`parse_replaced`].
pub(in crate::relay) const REPLACED: &str = "/keys/replaced";

/// Timeout of such a message.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a message that another node has a key: the key, and the number of the lease that is over. `None` if it is
/// malformed.
pub(in crate::relay) fn parse_replaced(body: &[u8]) -> Option<(Key, u64)> {
    let message: Value = serde_json::from_slice(body).ok()?;
    let key = BASE64.decode(message.get("key")?.as_str()?).ok()?;
    Some((key.into(), message.get("number")?.as_u64()?))
}

/// Keys are any bytes, hence base64.
fn replaced(key: &[u8], number: u64) -> Vec<u8> {
    json!({ "key": BASE64.encode(key), "number": number }).to_string().into_bytes()
}

impl Directory {
    /// Tells the former holder that this node has the key now. If that node cannot be reached, it finds out when it renews
    /// its lease; or it is lost, and this node removes the key from that node's set: its client is not reported as gone,
    /// even if it leaves this node before that node is found to be lost.
    pub(in crate::relay) fn tell_replaced(&self, key: &Key, holder: &Holder) {
        self.0.tell_replaced(key, holder);
    }
}

impl Inner {
    pub(super) fn tell_replaced(self: &Arc<Self>, key: &Key, holder: &Holder) {
        let Some(on) = self.engine.loop_handle() else { return };
        let set = set_of(&holder.node, &holder.epoch);
        let (inner, its_key) = (self.clone(), key.clone());
        self.nodes.post(&on, &holder.node, REPLACED, replaced(key, holder.number), TIMEOUT, move |response| {
            if response.is_none() {
                inner.tell(vec![Command::new("SREM").key(set).arg(&its_key)]);
            }
        });
    }

    /// Asks a node for its start. `then` gets it, or `None` if the node does not respond.
    pub(super) fn ask_epoch(
        self: &Arc<Self>,
        on: &LoopHandle,
        id: &str,
        then: impl FnOnce(Option<Vec<u8>>) + Send + 'static,
    ) {
        self.nodes.post(on, id, EPOCH, Vec::new(), TIMEOUT, then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (key, number) = parse_replaced(&replaced(b"\xff\0bob", 7)).unwrap();
        assert_eq!((&key[..], number), (&b"\xff\0bob"[..], 7));
        for bad in ["", "{}", r#"{"key":"!","number":1}"#, r#"{"key":"","number":-1}"#] {
            assert!(parse_replaced(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
