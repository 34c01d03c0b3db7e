//! All streams, and the deadline of each. One lock protects them.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    time::{Duration, Instant},
};

use uncork::{Limits, Moment, PeerAddr};

use super::{
    body::CreateOptions,
    config::RendezvousConfig,
    id::Id,
    stream::{Due, Stream},
};
use crate::relay::{
    addresses::{Addresses, Allowance, Rejected},
    service::ServiceState,
    unused::{NoFreeSlot, SlotRequest, Unused},
};

/// Numbers of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RendezvousCounts {
    /// Streams whose sides have not all connected.
    pub waiting: usize,
    /// Streams that are being transferred.
    pub running: usize,
    /// Records of streams that have ended.
    pub over: usize,
    /// Streams that wait, and to which no peer is connected.
    pub unused: usize,
    /// Unused streams that were evicted for others so far.
    pub evicted: u64,
    /// Creations that a limit has rejected so far.
    pub rejected: u64,
}

/// The properties of a new stream.
pub(super) struct CreateRequest {
    pub(super) options: CreateOptions,
    pub(super) receivers: usize,
    /// The creator's `?strict=`: a source that disconnects aborts the downloads.
    pub(super) strict: Option<bool>,
    pub(super) owner: Option<IpAddr>,
    /// Time that the sides have to connect.
    pub(super) ttl: Duration,
}

/// The reason why no stream is created.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CreateError {
    Address(Rejected),
    NoFreeSlot(NoFreeSlot),
    /// The fields of all streams together are too large.
    Fields,
    /// The fields of this address's streams are too large.
    AddressFields,
}

pub(super) struct State {
    streams: HashMap<Id, Stream>,
    /// Streams that wait for their sides, by deadline.
    waiting: BTreeSet<(Instant, Id)>,
    /// Records, by the time at which they are removed.
    records: BTreeSet<(Instant, Id)>,
    addresses: Addresses,
    unused: Unused<Id>,
    /// Number of creations that a limit has rejected.
    rejected: u64,
    /// Bytes of JSON that are held.
    weight: usize,
    /// Bytes of JSON by the network of the creator ([`PeerAddr::network_of`]); no entry is 0.
    weights: HashMap<IpAddr, usize>,
    /// The latest known time, for callers without a time.
    now: Option<Moment>,
}

impl ServiceState for State {
    type Config = RendezvousConfig;

    fn new(config: &RendezvousConfig) -> Self {
        Self {
            streams: HashMap::new(),
            waiting: BTreeSet::new(),
            records: BTreeSet::new(),
            addresses: Addresses::new(allowance(config)),
            unused: Unused::new(),
            rejected: 0,
            weight: 0,
            weights: HashMap::new(),
            now: None,
        }
    }

    fn reconfigure(&mut self, config: &RendezvousConfig) {
        self.addresses.set_allowance(allowance(config));
    }
}

impl State {
    /// Returns the latest known time, including this one.
    pub(super) fn at(&mut self, now: Moment) -> Moment {
        let latest = self.now.filter(|latest| latest.mono > now.mono).unwrap_or(now);
        self.now = Some(latest);
        latest
    }

    /// Returns the latest known time.
    pub(super) fn latest(&self) -> Option<Moment> {
        self.now
    }

    /// Calls `f` with the stream of this id, if there is one, after its deadline was checked.
    pub(super) fn with<R>(
        &mut self,
        id: Id,
        config: &RendezvousConfig,
        now: Moment,
        f: impl FnOnce(&mut Stream) -> R,
    ) -> Option<R> {
        let now = self.at(now);
        let stream = self.streams.get_mut(&id)?;
        let before = Filing::of(stream);
        match before.due {
            Due::Connect(at) if at <= now.mono => stream.expire(config, now),
            Due::Connect(_) => stream.prune(config, now),
            _ => {}
        }
        let result = match stream.due() {
            Due::Remove(at) if at <= now.mono => None,
            _ => Some(f(stream)),
        };
        let (after, state, bytes) = (Filing::of(stream), stream.state(), stream.bytes());
        if after != before {
            self.unfile(id, before);
            self.file(id, after);
            if after.due != before.due && matches!(after.due, Due::Remove(_)) {
                let stream = id.short();
                log::debug!(target: "uncork::relay", stream:%, state, bytes; "stream ended");
            }
        }
        if result.is_none() {
            self.remove(id);
        }
        result
    }

    /// Creates a stream.
    pub(super) fn create(
        &mut self,
        id: Id,
        request: CreateRequest,
        config: &RendezvousConfig,
        now: Moment,
    ) -> Result<(), CreateError> {
        let now = self.at(now);
        self.sweep(config, now);
        let weight = request.options.weight();
        if let Err(error) = self.free_slot(request.owner, weight, config, now.mono) {
            self.rejected += 1;
            return Err(error);
        }
        let CreateRequest { options, receivers, strict, owner, ttl } = request;
        let stream = Stream::new(options, receivers, strict, owner, now, ttl, config.first_use_timeout);
        self.weight += weight;
        if let Some(ip) = owner.filter(|_| weight > 0) {
            *self.weights.entry(PeerAddr::network_of(ip)).or_default() += weight;
        }
        self.file(id, Filing::of(&stream));
        self.streams.insert(id, stream);
        log::debug!(target: "uncork::relay", stream:% = id.short(); "stream created");
        Ok(())
    }

    /// Frees a slot for a stream of this address, and bytes for fields of this weight.
    fn free_slot(
        &mut self,
        owner: Option<IpAddr>,
        weight: usize,
        config: &RendezvousConfig,
        now: Instant,
    ) -> Result<(), CreateError> {
        // The oldest records are removed first.
        while self.streams.len() >= config.streams || self.weight.saturating_add(weight) > config.json_total {
            let Some((_, oldest)) = self.records.pop_first() else { break };
            self.remove(oldest);
        }
        let slot = SlotRequest {
            limit: config.streams,
            // Records are removed when the table is full, so they do not reduce the share of an address.
            taken: self.streams.len() - self.records.len(),
            per_address: config.streams_per_address,
            owner,
            owned: owner.map_or(0, |ip| self.addresses.slots(ip)),
        };
        let evicted = self.unused.free_slot(&slot).map_err(CreateError::NoFreeSlot)?;
        let freed = evicted.and_then(|id| self.streams.get(&id)).map_or(0, Stream::weight);
        if (self.weight - freed).saturating_add(weight) > config.json_total {
            return Err(CreateError::Fields);
        }
        if let Some(ip) = owner {
            let has = self.weights.get(&PeerAddr::network_of(ip)).copied().unwrap_or(0);
            if has.saturating_add(weight) > share_of_fields(config, self.weight) {
                return Err(CreateError::AddressFields);
            }
            self.addresses.admit(ip, now).map_err(CreateError::Address)?;
        }
        if let Some(id) = evicted {
            self.unused.evicted_one("streams", now);
            self.remove(id);
        }
        Ok(())
    }

    /// Returns all streams, in no order.
    pub(super) fn all(&mut self, config: &RendezvousConfig, now: Moment) -> impl Iterator<Item = (&Id, &Stream)> {
        let now = self.at(now);
        self.sweep(config, now);
        self.streams.iter()
    }

    /// Returns the numbers of streams.
    pub(super) fn counts(&mut self, config: &RendezvousConfig, now: Moment) -> RendezvousCounts {
        let all = self.all(config, now).count();
        let (waiting, over) = (self.waiting.len(), self.records.len());
        RendezvousCounts {
            waiting,
            running: all.saturating_sub(waiting + over),
            over,
            unused: self.streams.values().filter(|stream| stream.unused().is_some()).count(),
            evicted: self.unused.evicted(),
            rejected: self.rejected,
        }
    }

    /// Calls `f` with every stream.
    pub(super) fn each(&mut self, mut f: impl FnMut(&mut Stream)) {
        let mut changed = Vec::new();
        for (id, stream) in &mut self.streams {
            let before = Filing::of(stream);
            f(stream);
            changed.push((*id, before, Filing::of(stream)));
        }
        for (id, before, after) in changed {
            self.unfile(id, before);
            self.file(id, after);
        }
    }

    /// Handles the streams whose deadline has passed.
    fn sweep(&mut self, config: &RendezvousConfig, now: Moment) {
        while let Some((_, id)) = self.waiting.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.with(id, config, now, |_| ());
        }
        while let Some((_, id)) = self.records.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: Id) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.unfile(id, Filing::of(&stream));
        self.weight -= stream.weight();
        if let Some(ip) = stream.owner {
            self.addresses.release(ip);
            if let Entry::Occupied(mut entry) = self.weights.entry(PeerAddr::network_of(ip)) {
                *entry.get_mut() = entry.get().saturating_sub(stream.weight());
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }

    fn file(&mut self, id: Id, filing: Filing) {
        match filing.due {
            Due::Connect(at) => self.waiting.insert((at, id)),
            Due::Remove(at) => self.records.insert((at, id)),
            Due::Never => false,
        };
        if let Some((owner, created)) = filing.unused {
            self.unused.add(owner, created, id);
        }
    }

    fn unfile(&mut self, id: Id, filing: Filing) {
        match filing.due {
            Due::Connect(at) => self.waiting.remove(&(at, id)),
            Due::Remove(at) => self.records.remove(&(at, id)),
            Due::Never => false,
        };
        if let Some((owner, created)) = filing.unused {
            self.unused.remove(owner, created, id);
        }
    }
}

/// The index entries of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Filing {
    due: Due,
    unused: Option<(Option<IpAddr>, Instant)>,
}

impl Filing {
    fn of(stream: &Stream) -> Self {
        Self { due: stream.due(), unused: stream.unused() }
    }
}

/// Returns how many bytes of JSON may be held for one address. It is the same share as of the streams, and enough for
/// the largest JSON at least. `held`: the bytes held for all.
fn share_of_fields(config: &RendezvousConfig, held: usize) -> usize {
    let part = config.json_total as u128 * config.streams_per_address as u128 / (config.streams as u128).max(1);
    let part = usize::try_from(part).unwrap_or(usize::MAX);
    let largest = config.json.saturating_mul(2);
    Limits::address_share(config.json_total, part.max(largest), held).max(largest)
}

fn allowance(config: &RendezvousConfig) -> Allowance {
    Allowance {
        slots: config.streams,
        per_address: config.streams_per_address,
        per_minute: config.creations_per_minute,
        burst: config.creation_burst,
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
mod tests;
