//! Messages of this node to another one, which are no client's requests.

use std::time::Duration;

use uncork::{
    LoopHandle, PeerAddr,
    client::{self, CancelHandle},
};

use super::{
    handle::Nodes,
    proof::{FIELD, Proof},
};

/// Longest response of a node to a message, in bytes.
const LONGEST_RESPONSE: usize = 16 << 20;

impl Nodes {
    /// Posts a message to the node with this id, on a loop. `then` gets the body of the response, or `None` if the node is
    /// not in the list, does not respond with 200 within `timeout`, or the message is cancelled.
    pub(in crate::relay) fn post(
        &self,
        on: &LoopHandle,
        to: &str,
        path: &'static str,
        body: Vec<u8>,
        timeout: Duration,
        then: impl FnOnce(Option<Vec<u8>>) + Send + 'static,
    ) -> Option<CancelHandle> {
        let Some(at) = self.0.others.iter().position(|peer| peer.tag.to_string() == to) else {
            self.0.counters.failed();
            then(None);
            return None;
        };
        let peer = self.0.others.get(at)?;
        let mut call = client::Request::post(&format!("{}{path}", peer.url), body).timeout(timeout);
        let cancel = call.cancel_handle();
        let (nodes, tag, loop_handle) = (self.clone(), peer.tag, on.clone());
        self.0.counters.forwarded();
        peer.forwarded();
        on.after(Duration::ZERO, move |now| {
            let proof = nodes.own_proof(tag).value(nodes.key(), "POST", path, now.wall);
            let judge = nodes.clone();
            nodes.0.client.send(&loop_handle, call.header(FIELD, proof), move |result| {
                match judge.judged(at, result) {
                    Some(Ok(response)) if response.status() == 200 => {
                        response.collect(LONGEST_RESPONSE, move |result| then(result.ok().map(|full| full.body)));
                    }
                    _ => then(None),
                }
            });
        });
        Some(cancel)
    }

    /// Returns the claims of a message that no client has caused.
    fn own_proof(&self, to: super::id::Tag) -> Proof {
        Proof { from: self.tag(), to, peer: PeerAddr::Unix, https: false }
    }
}
