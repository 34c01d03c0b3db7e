//! Information about sessions, for operators.

use std::{net::IpAddr, time::Duration};

use uncork::{Moment, PipeCounters};

use super::{
    key::Key,
    requests::{Sender, Side},
    state::{Session, State},
};
use crate::relay::service::ServiceId as _;

/// A snapshot of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The first eight letters of the id: enough to distinguish sessions, and too few to use one. With nodes, those after
    /// the name of the node.
    pub name: String,
    /// Address of the client that allocated the session; `None` for a Unix socket.
    pub owner: Option<IpAddr>,
    /// Number of requests that wait for a message.
    pub receivers: usize,
    /// Number of requests whose message waits for a receiver.
    pub senders: usize,
    /// Number of messages that are being transferred.
    pub transfers: usize,
    /// Bytes of those messages that the receivers' connections have read so far.
    pub bytes_relayed: u64,
    /// Time until the session ends in any case.
    pub remaining: Duration,
}

/// Numbers of sessions, and of those that limits have affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounts {
    /// Number of sessions.
    pub sessions: usize,
    /// Number of sessions that no peer has ever connected to.
    pub unused: usize,
    /// Number of unused sessions that were evicted for others so far.
    pub evicted: u64,
    /// Number of allocations that a limit has rejected so far.
    pub rejected: u64,
}

impl State {
    pub(super) fn counts(&self, now: Moment) -> SessionCounts {
        let (evicted, rejected) = self.evicted_and_rejected();
        let mut counts = SessionCounts { evicted, rejected, ..SessionCounts::default() };
        for (_, session) in self.active(now.mono) {
            counts.sessions += 1;
            counts.unused += usize::from(!session.used);
        }
        counts
    }

    pub(super) fn infos(&self, now: Moment) -> Vec<SessionInfo> {
        self.active(now.mono).map(|(key, session)| info(key, session, now)).collect()
    }
}

fn info(key: Key, session: &Session, now: Moment) -> SessionInfo {
    let sides = [Side::Host, Side::Guest];
    let senders = || sides.iter().filter_map(|side| session.senders[*side].as_ref());
    let bytes = |sender: &Sender| match sender {
        Sender::Sending(_, transfer) => transfer.counters.as_ref().map(PipeCounters::read),
        Sender::Waiting(..) => None,
    };
    let transfers = senders().filter(|sender| matches!(sender, Sender::Sending(..))).count();
    SessionInfo {
        name: key.text().chars().take(8).collect(),
        owner: session.owner(),
        receivers: sides.iter().filter(|side| session.receivers[**side].is_some()).count(),
        senders: senders().count() - transfers,
        transfers,
        bytes_relayed: senders().filter_map(bytes).sum(),
        remaining: session.remaining(now.mono),
    }
}
