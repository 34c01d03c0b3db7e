//! Closes connections when no buffer is left, so that the others can continue.
//!
//! A connection keeps a buffer as long as it holds bytes that do not move: encrypted output that a client does not
//! receive, or an incomplete TLS record. One address can have as many of those as it has connections, and its timeouts
//! are long. So when buffers have been missing for a second, connections of the address with the most of them are
//! closed. Only those that have not moved for a second are, until an eighth of all buffers is free.
//!
//! Over HTTP/2, a stream does what a connection does: one that is stalled is reset, and its connection goes on.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use log::warn;

use super::{
    Engine,
    core::Core,
    phase::{Phase, Slot},
};
use crate::base::{ConnId, EndReason, RequestId, Timeout, pool, time::Tick};

/// The time for which buffers may be missing, and a connection may be stalled meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// The stalled connections and streams of one network that hold buffers, and the number of these. A connection has the
/// number 0.
#[derive(Default)]
struct Holder {
    buffers: usize,
    stalled: Vec<(RequestId, usize)>,
}

impl Holder {
    fn add(&mut self, id: RequestId, buffers: usize) {
        if buffers > 0 {
            self.buffers += buffers;
            self.stalled.push((id, buffers));
        }
    }
}

impl Engine<'_> {
    /// Handles a request for a buffer when none was left.
    #[cold]
    pub(super) fn relieve(&mut self) {
        if self.core.pool.is_short() {
            self.take_back();
        }
        if self.core.pool.returned() {
            self.relief = Tick::NEVER;
            self.feed_starved();
        }
    }

    fn take_back(&mut self) {
        let is_due = self.relief <= self.core.tick;
        if is_due || self.relief == Tick::NEVER {
            self.relief = self.core.tick.after(GRACE);
            // The loop may sleep: this wakes it.
            self.later_count += 1;
            self.later.insert((self.relief, self.later_count), Box::new(|_| {}));
        }
        if !is_due {
            return;
        }
        let mut holders: HashMap<Option<IpAddr>, Holder> = HashMap::new();
        for (_, slot) in &self.slots {
            let holder = holders.entry(slot.io.peer.addr.network()).or_default();
            if slot.is_stalled(&self.core) {
                holder.add(RequestId { conn: slot.io.id, number: 0 }, slot.lent());
            } else if let Phase::Streams(streams) = &slot.phase
                && !slot.io.queued
            {
                streams.each(&mut |stream| {
                    if stream.is_stalled(&self.core) {
                        holder.add(stream.io.request_id(), stream.lent());
                    }
                });
            }
        }
        let mut closed = 0;
        while self.core.pool.is_scarce() {
            let Some(most) = holders.values_mut().max_by_key(|holder| holder.buffers) else { break };
            let Some((id, buffers)) = most.stalled.pop() else { break };
            most.buffers -= buffers;
            closed += 1;
            self.close_request(id, EndReason::TimedOut(Timeout::Send));
        }
        if closed > 0
            && let Some(repetitions) = self.admission.relieved.record(self.core.now.mono)
        {
            warn!(target: "uncork::engine", "no buffer was left: {closed} stalled connections or \
                streams were closed{repetitions}");
        }
    }

    /// Continues connections that wait for a buffer, now that some are free. Those of addresses with the fewest waiting
    /// come first, so that one address cannot block the others.
    fn feed_starved(&mut self) {
        let starved = std::mem::take(&mut self.core.starved);
        let network = |id: ConnId| {
            let slot = self.slots.get(id.index()).filter(|slot| slot.io.id == id)?;
            Some((id, slot.io.peer.addr.network()))
        };
        let mut waiting: Vec<(ConnId, Option<IpAddr>)> = starved.into_iter().filter_map(network).collect();
        let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for (_, network) in &waiting {
            *counts.entry(*network).or_default() += 1;
        }
        waiting.sort_by_key(|(_, network)| counts.get(network).copied());
        for (id, _) in waiting {
            self.enqueue(id);
        }
    }
}

impl Slot {
    /// Returns the number of buffers that it keeps between two turns.
    pub(super) fn lent(&self) -> usize {
        let own = [&self.io.rx, &self.io.out.buf].into_iter().filter(|buf| pool::is_lent(buf)).count();
        let mut within = 0;
        if let Phase::Streams(streams) = &self.phase {
            streams.each(&mut |stream| within += stream.lent());
        }
        own + within + self.io.transport.lent_buffers()
    }

    /// Returns `true` if it waits for its peer, and nothing has moved for a while.
    fn is_stalled(&self, core: &Core) -> bool {
        let since = |by: Tick, full: Duration| by.plus(GRACE.as_millis() as u64) <= core.tick.after(full);
        if self.io.queued || matches!(self.phase, Phase::Dialing(_)) {
            return false;
        }
        match self.io.running_timeout {
            _ if self.io.send_by != Tick::NEVER => since(self.io.send_by, self.io.duration(Timeout::Send, core)),
            Some(timeout) if self.io.recv_by != Tick::NEVER => since(self.io.recv_by, self.io.duration(timeout, core)),
            // No timeout runs for a suspended request: pipelined bytes of its client could keep a buffer for hours.
            _ => matches!(&self.phase, Phase::Job(job) if job.is_suspended()),
        }
    }
}
