//! What an operator may know of the sessions there are.

use std::{net::IpAddr, time::Duration};

use uncork::{Moment, PipeCounters};

use super::{
    SessionRelay,
    state::{Key, Sender, Session, Side, State},
};

/// One session, as it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The first eight letters of its id: enough to tell it from others, not enough to enter it.
    pub name: String,
    /// Who has allocated it; `None` for whoever came by a Unix socket.
    pub owner: Option<IpAddr>,
    /// Requests that wait for a message.
    pub receivers: usize,
    /// Requests whose message waits for a receiver.
    pub senders: usize,
    /// Messages on their way.
    pub transfers: usize,
    /// Bytes of those that were taken out by the receiver's side so far.
    pub moved: u64,
    /// How long it can live yet, at the most.
    pub left: Duration,
}

/// How many sessions there are, and what limits did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounts {
    /// All sessions.
    pub sessions: usize,
    /// Those that no peer has ever connected to.
    pub unused: usize,
    /// How many of those had to make room for others so far.
    pub evicted: u64,
    /// How many allocations a limit has refused so far.
    pub refused: u64,
}

impl SessionRelay {
    /// How many sessions there are, and what limits did.
    pub fn counts(&self, now: Moment) -> SessionCounts {
        let state = self.shared.lock();
        let (evicted, refused) = state.evicted_and_refused();
        let mut counts = SessionCounts { evicted, refused, ..SessionCounts::default() };
        for (_, session) in state.living(now.mono) {
            counts.sessions += 1;
            counts.unused += usize::from(!session.used);
        }
        counts
    }

    /// All sessions there are. For operators: who is told of a session's address should not be the public.
    pub fn sessions(&self, now: Moment) -> Vec<SessionInfo> {
        self.shared.lock().infos(now)
    }
}

impl State {
    fn infos(&self, now: Moment) -> Vec<SessionInfo> {
        self.living(now.mono).map(|(key, session)| info(key, session, now)).collect()
    }
}

fn info(key: Key, session: &Session, now: Moment) -> SessionInfo {
    let sides = [Side::Host, Side::Guest];
    let senders = || sides.iter().filter_map(|side| session.senders[*side].as_ref());
    let moved = |sender: &Sender| match sender {
        Sender::Sending(_, transfer) => transfer.moved.as_ref().map(PipeCounters::read),
        Sender::Waiting(..) => None,
    };
    let transfers = senders().filter(|sender| matches!(sender, Sender::Sending(..))).count();
    SessionInfo {
        name: key.text().chars().take(8).collect(),
        owner: session.owner(),
        receivers: sides.iter().filter(|side| session.receivers[**side].is_some()).count(),
        senders: senders().count() - transfers,
        transfers,
        moved: senders().filter_map(moved).sum(),
        left: session.left(now.mono),
    }
}
