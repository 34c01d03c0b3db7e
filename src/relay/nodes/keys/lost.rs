//! Nodes that are lost: one survivor reports their clients to the application.
//!
//! ```text
//!   uncork:nodes          = { fra1:9f31c07a, ber2:… }     every start of a node, until its clients are reported
//!   uncork:node:<id>      = 9f31c07a                      10 s, renewed every 3 s
//!   uncork:lost:<id>:<epoch> = ber2                       the survivor that reports, 60 s, renewed
//! ```
//! Keys are removed from the lost node's set after they are reported. If the survivor is lost as well, another one
//! continues; a client may then be reported twice, and none is forgotten.

use std::{sync::Arc, time::Duration};

use uncork::LoopHandle;

use super::{
    super::directory::{Command, Reply},
    absent::parts,
    handle::Inner,
    holder::{Holder, Key},
    leases::millis,
    names::set_of,
};
use crate::relay::lock::lock;

/// How long a survivor's claim stays.
const CLAIM: Duration = Duration::from_secs(60);
/// Number of clients that are reported at once.
const BATCH: usize = 50;

impl Inner {
    pub(super) fn forget_absences(&self) {
        lock(&self.absent).forget();
    }

    /// Looks which nodes have no entry.
    pub(super) fn look_for_absent_nodes(self: Arc<Self>, on: &LoopHandle) {
        let (inner, on) = (self.clone(), on.clone());
        self.engine.send(vec![Command::new("SMEMBERS").key("nodes").hint()], move |result| {
            let Some(Reply::Array(members)) = result.ok().and_then(|replies| replies.into_iter().next()) else {
                return;
            };
            let own = format!("{}:{}", inner.nodes.id(), inner.epoch);
            let text = |reply| match reply {
                Reply::Bytes(member) => String::from_utf8(member).ok(),
                _ => None,
            };
            let members: Vec<_> = members
                .into_iter()
                .filter_map(text)
                .filter(|member| *member != own && parts(member).is_some())
                .collect();
            inner.look_at_entries(members, on);
        });
    }

    fn look_at_entries(self: Arc<Self>, members: Vec<String>, on: LoopHandle) {
        if members.is_empty() {
            return;
        }
        let entry = |member: &String| {
            let id = parts(member).map_or("", |(id, _)| id);
            Command::new("GET").key(format!("node:{id}")).hint()
        };
        let (inner, commands) = (self.clone(), members.iter().map(entry).collect());
        self.engine.send(commands, move |result| {
            let Ok(replies) = result else { return };
            let is_present = |member: &str, reply: &Reply| {
                matches!((parts(member), reply), (Some((_, epoch)), Reply::Bytes(entry)) if entry == epoch.as_bytes())
            };
            let looks = members.into_iter().zip(&replies).map(|(member, reply)| {
                let present = is_present(&member, reply);
                (member, present)
            });
            let lost = lock(&inner.absent).look(looks);
            for member in lost {
                inner.clone().ask_whether_lost(member, &on);
            }
        });
    }

    /// The node itself decides: it is not lost if it responds, and has not started again since.
    fn ask_whether_lost(self: Arc<Self>, member: String, on: &LoopHandle) {
        let Some((id, epoch)) = parts(&member).map(|(id, epoch)| (id.to_owned(), epoch.to_owned())) else { return };
        let (inner, asked) = (self.clone(), id.clone());
        self.ask_epoch(on, &asked, move |response| {
            if response.as_deref() != Some(epoch.as_bytes()) {
                inner.claim_lost(member, id, epoch);
            }
        });
    }

    fn claim_lost(self: Arc<Self>, member: String, id: String, epoch: String) {
        if self.owner().is_none() {
            return;
        }
        let name = format!("lost:{member}");
        let claim = Command::new("SET").key(&name).arg(self.nodes.id()).arg("NX").arg("PX").arg(millis(CLAIM));
        let inner = self.clone();
        self.engine.send(vec![claim], move |result| {
            if matches!(result.as_deref(), Ok([Reply::Bytes(_)])) {
                log::warn!(target: "uncork::relay", "node {id} is lost: its clients are reported");
                Arc::new(Reporter { inner, name, set: set_of(&id, &epoch), member }).next();
            }
        });
    }
}

/// Reports the clients of a lost node, batch by batch.
struct Reporter {
    inner: Arc<Inner>,
    name: String,
    set: String,
    member: String,
}

impl Reporter {
    fn next(self: Arc<Self>) {
        let commands = vec![
            Command::new("PEXPIRE").key(&self.name).arg(millis(CLAIM)),
            Command::new("SRANDMEMBER").key(&self.set).arg(BATCH.to_string()),
        ];
        let this = self.clone();
        self.inner.engine.send(commands, move |result| {
            // Without the engine: the claim expires, and a survivor begins again.
            let Some(Reply::Array(keys)) = result.ok().and_then(|replies| replies.into_iter().nth(1)) else { return };
            let bytes = |reply| match reply {
                Reply::Bytes(key) => Some(Key::from(key)),
                _ => None,
            };
            let keys: Vec<Key> = keys.into_iter().filter_map(bytes).collect();
            match keys.is_empty() {
                true => this.end(),
                false => this.look(keys),
            }
        });
    }

    /// Looks which of them have connected elsewhere.
    fn look(self: Arc<Self>, keys: Vec<Key>) {
        let (this, commands) = (self.clone(), keys.iter().map(|key| self.inner.names.lookup(key)).collect());
        self.inner.engine.send(commands, move |result| {
            let Ok(replies) = result else { return };
            let is_elsewhere = |reply: &Reply| match reply {
                Reply::Bytes(value) => Holder::parse(value)
                    .is_some_and(|holder| format!("{}:{}", holder.node, holder.epoch) != this.member),
                _ => false,
            };
            let (elsewhere, gone): (Vec<_>, Vec<_>) =
                keys.into_iter().zip(&replies).partition(|(_, reply)| is_elsewhere(reply));
            let left =
                Arc::new(Left { reporter: this.clone(), keys: elsewhere.into_iter().map(|(key, _)| key).collect() });
            for (key, _) in gone {
                let (left, reported) = (left.clone(), key.clone());
                let Some(owner) = this.inner.owner() else { return };
                owner.lost(&key, Box::new(move || left.reported(&reported)));
            }
        });
    }

    fn end(&self) {
        self.inner.tell(vec![Command::new("SREM").key("nodes").arg(&self.member), Command::new("DEL").key(&self.name)]);
    }
}

/// A batch that is being reported. When it is dropped, the next one begins.
struct Left {
    reporter: Arc<Reporter>,
    /// Those that have connected elsewhere.
    keys: Vec<Key>,
}

impl Left {
    fn reported(&self, key: &Key) {
        self.reporter.inner.tell(vec![Command::new("SREM").key(&self.reporter.set).arg(key)]);
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        let remove = keys.iter().fold(Command::new("SREM").key(&self.reporter.set), Command::arg);
        if !keys.is_empty() {
            self.reporter.inner.tell(vec![remove]);
        }
        self.reporter.clone().next();
    }
}
