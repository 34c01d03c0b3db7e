//! The two halves of an HTTP/1.1 exchange, and the rules between them.
//!
//! RULE 1: every transition is in this file. Other files may only report what happened. RULE 2: this file does not know
//! whether it serves the server or the client.
//!
//! ```text
//!   request:   Idle ──Head──▶ Body ──End──▶ Done ─┐            ┌─▶ both Idle again (keep-alive)
//!                                                 ├── settle ──┼─▶ MustClose ──Close──▶ Closed
//!   response:  Idle ─▶ Owed ──Head──▶ Body ──End──▶ Done ─┘    └─▶ both Switched (101, CONNECT)
//! ```
//!
//! `Owed` makes sure that a client that half-closes still gets its response. Without it, two states would look alike:
//! "the request's side is closed and the response has not begun", and "no request has arrived".

/// The state of one half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    /// Nothing was sent.
    Idle,
    /// Response only: a request has arrived, a response is owed.
    Owed,
    /// The head was sent, the body is incomplete.
    Body,
    /// The message is complete.
    Done,
    /// Only the end of the stream may follow.
    MustClose,
    /// The stream has ended in this direction.
    Closed,
    /// The stream belongs to another protocol.
    Switched,
}

/// An event of one half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Head,
    End,
    Switch,
    Close,
    /// The half broke the rules: nothing in it can be trusted any more.
    Break,
}

/// A report that does not fit the state: a mistake of the caller, whatever the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Illegal(pub(crate) Half, pub(crate) Did);

impl Half {
    /// Event-triggered transitions: the whole table.
    const fn after(self, did: Did) -> Result<Self, Illegal> {
        Ok(match (self, did) {
            (Self::Idle | Self::Owed, Did::Head) => Self::Body,
            (Self::Body, Did::End) => Self::Done,
            (Self::Owed, Did::Switch) => Self::Switched,
            (Self::Idle | Self::Body | Self::Done | Self::MustClose | Self::Closed, Did::Close) => Self::Closed,
            (_, Did::Break) => Self::Closed,
            (state, did) => return Err(Illegal(state, did)),
        })
    }
}

/// Both halves of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Halves {
    request: Half,
    response: Half,
    keep_alive: bool,
}

impl Halves {
    pub(crate) const NEW: Self = Self { request: Half::Idle, response: Half::Idle, keep_alive: true };

    pub(crate) fn request(&self) -> Half {
        self.request
    }

    pub(crate) fn response(&self) -> Half {
        self.response
    }

    pub(crate) fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Ends the connection with the current exchange.
    pub(crate) fn forbid_keep_alive(&mut self) {
        self.keep_alive = false;
        self.settle();
    }

    pub(crate) fn did_request(&mut self, did: Did) -> Result<(), Illegal> {
        self.request = self.request.after(did)?;
        if matches!(did, Did::Break) {
            self.keep_alive = false;
        }
        self.settle();
        Ok(())
    }

    /// Records a request without a body: its head is its end. Nearly all are, so the two steps are one here.
    #[inline]
    pub(crate) fn did_whole_request(&mut self) -> Result<(), Illegal> {
        if *self == Self::NEW {
            (self.request, self.response) = (Half::Done, Half::Owed);
            return Ok(());
        }
        self.did_request(Did::Head)?;
        self.did_request(Did::End)
    }

    pub(crate) fn did_response(&mut self, did: Did) -> Result<(), Illegal> {
        self.response = self.response.after(did)?;
        // No rule applies while a response is in progress.
        if self.response != Half::Body {
            self.settle();
        }
        Ok(())
    }

    /// Records a response that is written at once, to a complete request.
    #[inline]
    pub(crate) fn did_whole_response(&mut self) -> Result<(), Illegal> {
        if *self == (Self { request: Half::Done, response: Half::Owed, keep_alive: true }) {
            *self = Self::NEW;
            return Ok(());
        }
        self.did_response(Did::Head)?;
        self.did_response(Did::End)
    }

    /// State-triggered transitions, to a fixed point. Each rule leaves the states it applies to, so this ends.
    #[inline]
    fn settle(&mut self) {
        use Half::{Body, Closed, Done, Idle, MustClose, Owed, Switched};
        loop {
            match (self.request, self.response, self.keep_alive) {
                (Body | Done, Idle, _) => self.response = Owed,
                (Done, Done, true) => *self = Self::NEW,
                (Done, Switched, _) => self.request = Switched,
                (_, Done, false) => self.response = MustClose,
                (Done | Idle, MustClose | Closed, _) => self.request = MustClose,
                // A closed side can bring no other message: when the response is out, this side closes, too.
                (Closed, Done | Idle, true) => self.keep_alive = false,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ALL: [Did; 5] = [Did::Head, Did::End, Did::Switch, Did::Close, Did::Break];

    fn neighbours(from: Halves) -> Vec<Halves> {
        let mut next = Vec::new();
        for did in ALL {
            let (mut a, mut b) = (from, from);
            next.extend(a.did_request(did).is_ok().then_some(a));
            next.extend(b.did_response(did).is_ok().then_some(b));
        }
        let mut last = from;
        last.forbid_keep_alive();
        next.push(last);
        next
    }

    fn reachable(from: Halves) -> HashSet<Halves> {
        let (mut seen, mut todo) = (HashSet::new(), vec![from]);
        while let Some(state) = todo.pop() {
            if seen.insert(state) {
                todo.extend(neighbours(state));
            }
        }
        seen
    }

    /// The machine is small enough to be enumerated: no dead ends.
    #[test]
    fn from_every_reachable_state_the_connection_can_end() {
        let all = reachable(Halves::NEW);
        assert!(all.len() > 10 && all.len() < 80, "{} states", all.len());
        for state in all {
            let ends = reachable(state).into_iter().any(|s| {
                matches!(s.response, Half::Closed | Half::Switched)
                    || (s.response == Half::MustClose && s.request != Half::Idle)
            });
            assert!(ends, "a dead end: {state:?}");
        }
    }

    #[test]
    fn one_step_or_two_lead_to_the_same() {
        for state in reachable(Halves::NEW) {
            let (mut one, mut two) = (state, state);
            let steps = two.did_request(Did::Head).and_then(|()| two.did_request(Did::End));
            assert_eq!((one.did_whole_request(), one), (steps, two), "from {state:?}");
        }
    }

    #[test]
    fn a_response_under_way_leaves_nothing_to_settle() {
        for mut state in reachable(Halves::NEW).into_iter().filter(|state| state.response == Half::Body) {
            let before = state;
            state.settle();
            assert_eq!(state, before);
        }
    }

    #[test]
    fn keep_alive_starts_over() {
        let mut h = Halves::NEW;
        h.did_request(Did::Head).expect("head");
        assert_eq!(h.response(), Half::Owed);
        h.did_request(Did::End).expect("end");
        h.did_response(Did::Head).expect("head");
        h.did_response(Did::End).expect("end");
        assert_eq!(h, Halves::NEW);
    }

    #[test]
    fn a_response_may_be_complete_before_the_request_is() {
        let mut h = Halves::NEW;
        h.did_request(Did::Head).expect("head");
        h.did_response(Did::Head).expect("head");
        h.did_response(Did::End).expect("end");
        assert_eq!((h.request(), h.response()), (Half::Body, Half::Done));
        let mut refused = h;
        refused.forbid_keep_alive();
        assert_eq!(refused.response(), Half::MustClose, "closing does not wait for the rest of the request");
        h.did_request(Did::End).expect("end");
        assert_eq!(h, Halves::NEW);
    }

    #[test]
    fn a_client_that_half_closes_still_gets_its_response() {
        let mut h = Halves::NEW;
        h.did_request(Did::Head).expect("head");
        h.did_request(Did::End).expect("end");
        h.did_request(Did::Close).expect("close");
        assert_eq!(h.response(), Half::Owed);
        h.did_response(Did::Head).expect("head");
        h.did_response(Did::End).expect("end");
        assert_eq!(h.response(), Half::MustClose);
    }

    #[test]
    fn a_broken_request_gets_one_response_and_no_successor() {
        let mut h = Halves::NEW;
        h.did_request(Did::Break).expect("break");
        h.did_response(Did::Head).expect("the rejection");
        h.did_response(Did::End).expect("its end");
        assert_eq!(h.response(), Half::MustClose);
        assert!(h.did_response(Did::Head).is_err(), "one response");
        assert!(h.did_request(Did::Head).is_err(), "no next request");
    }

    #[test]
    fn switching_waits_for_the_whole_request() {
        let mut h = Halves::NEW;
        h.did_request(Did::Head).expect("head");
        h.did_response(Did::Switch).expect("switch");
        assert_eq!(h.request(), Half::Body);
        h.did_request(Did::End).expect("end");
        assert_eq!((h.request(), h.response()), (Half::Switched, Half::Switched));
        assert!(h.did_request(Did::Head).is_err());
    }
}
