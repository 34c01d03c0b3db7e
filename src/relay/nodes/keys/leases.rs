//! The leases of this node's keys, without I/O: what is held, the commands for the engine, and what its replies mean.
//!
//! ```text
//!   uncork:gw:key:<key>          = fra1:9f31c07a:17:1796…   which node has the key, since which start, by which lease,
//!                                                           since when; for 30 s
//!   uncork:gw:of:<node>:<epoch>  = { key, key, … }          for the close callbacks, if the node is lost
//! ```
//! The newest lease of a key wins. A new lease takes the key. One that is registered again, because the engine was away,
//! takes it only if it is free, or if the other lease is older by the clocks of the two nodes. A value has a number, so
//! that a message about a former lease of the same node does not end the present one. Nothing is renewed, removed or
//! replaced unless the value is still the expected one.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    super::directory::{Command, Reply, decimal},
    holder::{Holder, Key},
    names::{Names, REMOVE, set_of},
};

/// How long a key stays after the last renewal.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How long the set of a node's keys stays after the last renewal. A node that is lost has it until a survivor has
/// read it.
const SET: Duration = Duration::from_secs(24 * 3600);

/// Maximum number of ended leases of which the engine does not know. Beyond it the oldest are forgotten: their entries
/// expire, but if this node is lost soon, their clients are reported once more.
const ENDED: usize = 100_000;

/// Renews values that are still the leases': as many as there are keys. Returns the places of the others, from 1. One
/// script for many keys, since each call costs the engine and this node more than a key in it does. Its text is sent
/// each time: that is about a byte for each key.
const RENEW: &str = "local gone={} for i,key in ipairs(KEYS) do \
    if redis.call('GET',key)==ARGV[i+1] then redis.call('PEXPIRE',key,ARGV[1]) else gone[#gone+1]=i end \
    end return gone";
/// Replaces a value if it is still the expected one.
const REPLACE: &str =
    "if redis.call('GET',KEYS[1])==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) return 1 end return 0";

/// The leases of this node.
pub(super) struct Leases {
    names: Names,
    node: String,
    epoch: String,
    /// The start of each value: the node and its epoch, each with a colon.
    own: Vec<u8>,
    next: u64,
    held: HashMap<Key, Lease>,
    /// Leases that have ended, and of which the engine does not know yet.
    ended: VecDeque<Ended>,
    /// Keys of ended leases that stay in the set, and how often: the application is being told.
    unreported: HashMap<Key, usize>,
}

#[derive(Clone, Copy)]
pub(super) struct Lease {
    number: u64,
    since: u64,
}

struct Ended {
    key: Key,
    lease: Lease,
    /// The value to put back.
    before: Option<Holder>,
}

/// What became of a lease that was registered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    Kept,
    /// It has the key now; this holder had it before.
    TookOver(Holder),
    /// An older lease has the key: it is replaced by [`Leases::replace`].
    Older(Holder),
    /// Another lease has the key.
    Lost,
    /// It has ended in the meantime, or the reply is unknown.
    Nothing,
}

impl Leases {
    pub(super) fn new(node: String, epoch: String, names: Names) -> Self {
        Self {
            names,
            own: format!("{node}:{epoch}:").into_bytes(),
            node,
            epoch,
            next: 0,
            held: HashMap::new(),
            ended: VecDeque::new(),
            unreported: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.held.keys().cloned().collect()
    }

    fn holder(&self, lease: Lease) -> Holder {
        Holder { node: self.node.clone(), epoch: self.epoch.clone(), number: lease.number, since: lease.since }
    }

    /// Appends the value of a lease: its holder as text.
    fn write(&self, lease: Lease, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.own);
        decimal(lease.number, into);
        into.push(b':');
        decimal(lease.since, into);
    }

    /// Returns `true` if this node has the key by the lease with this number.
    pub(super) fn has(&self, key: &[u8], number: u64) -> bool {
        self.held.get(key).is_some_and(|lease| lease.number == number)
    }

    /// Returns `true` if a value is this node's, of this start.
    pub(super) fn is_own(&self, holder: &Holder) -> bool {
        holder.node == self.node && holder.epoch == self.epoch
    }

    /// Begins a lease. A former lease of the same key is over. `now`: in milliseconds since 1970. Returns its number.
    pub(super) fn claim(&mut self, key: &Key, now: u64) -> u64 {
        self.next += 1;
        self.held.insert(key.clone(), Lease { number: self.next, since: now });
        self.next
    }

    /// Ends a lease. `before`: the holder whose session goes on, because the application has rejected the new one.
    pub(super) fn release(&mut self, key: &Key, number: u64, before: Option<Holder>) {
        if let Some(lease) = self.held.get(key).copied().filter(|lease| lease.number == number) {
            self.held.remove(key);
            self.end(Ended { key: key.clone(), lease, before });
        }
    }

    /// The application is about to be told of the end of a key's lease, with this number. Until [`reported`], the key stays
    /// in the set of this node's keys: if this node is lost meanwhile, another one tells it. Returns the lease.
    ///
    /// [`reported`]: Self::reported
    pub(super) fn unreported(&mut self, key: &Key, number: u64) -> Option<Lease> {
        let lease = self.held.get(key).copied().filter(|lease| lease.number == number)?;
        *self.unreported.entry(key.clone()).or_default() += 1;
        Some(lease)
    }

    /// The application was told of the end of this lease.
    pub(super) fn reported(&mut self, key: &Key, lease: Lease) {
        if let Some(count) = self.unreported.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.unreported.remove(key);
            }
        }
        self.end(Ended { key: key.clone(), lease, before: None });
    }

    /// Another lease has the key now: this one ends, and the engine's value stays. The key is no longer in the set of
    /// this node's keys: if this node is lost later, the end of that client is not its to report.
    pub(super) fn lose(&mut self, key: &[u8], number: u64) -> bool {
        let has = self.has(key, number);
        if has && let Some((key, lease)) = self.held.remove_entry(key) {
            self.end(Ended { key, lease, before: None });
        }
        has
    }

    /// Returns the commands that register a lease: two, of which the second one's reply is for [`registered`]. `again`:
    /// it is not new.
    ///
    /// [`registered`]: Self::registered
    pub(super) fn register(&self, key: &Key, again: bool) -> Option<[Command; 2]> {
        let lease = *self.held.get(key)?;
        let set = Command::new("SADD").key(self.set()).arg(key);
        let value =
            Command::new("SET").key_with(|name| self.names.write(key, name)).arg_with(|value| self.write(lease, value));
        let value = value.arg("PX").arg(millis(LEASE)).arg("GET");
        Some([set, if again { value.arg("NX") } else { value }])
    }

    /// Returns what the reply to [`register`](Self::register) means for the lease with this number.
    pub(super) fn registered(&self, key: &Key, number: u64, again: bool, reply: &Reply) -> Renewed {
        let lease = self.held.get(key).copied().filter(|lease| lease.number == number);
        let (Some(lease), Reply::Nil | Reply::Bytes(_)) = (lease, reply) else { return Renewed::Nothing };
        let other = match reply {
            Reply::Bytes(value) => Holder::parse(value).filter(|holder| *holder != self.holder(lease)),
            _ => None,
        };
        match other {
            None => Renewed::Kept,
            Some(other) if !again => Renewed::TookOver(other),
            Some(other) if other.since < lease.since => Renewed::Older(other),
            Some(_) => Renewed::Lost,
        }
    }

    /// Returns the command that replaces an older lease; `None` if this one has ended.
    pub(super) fn replace(&self, key: &Key, number: u64, other: &Holder) -> Option<Command> {
        let lease = self.held.get(key).copied().filter(|lease| lease.number == number)?;
        let script = self.names.script(REPLACE, key).arg(other.to_string()).arg_with(|value| self.write(lease, value));
        Some(script.arg(millis(LEASE)))
    }

    /// Returns the command that renews the leases of these keys, which may be in one (see [`Names::batches`]), and those
    /// that it renews; `None` if all have ended.
    pub(super) fn renew(&self, keys: &[Key]) -> Option<(Renewing, Command)> {
        let held = |key: &Key| Some((key.clone(), *self.held.get(key)?));
        let held: Vec<(Key, Lease)> = keys.iter().filter_map(held).collect();
        if held.is_empty() {
            return None;
        }
        let mut command = Command::new("EVAL").arg(RENEW).arg(held.len().to_string());
        for (key, _) in &held {
            command = command.key_with(|name| self.names.write(key, name));
        }
        command = command.arg(millis(LEASE));
        for (_, lease) in &held {
            command = command.arg_with(|value| self.write(*lease, value));
        }
        Some((Renewing(held), command))
    }

    /// Returns the keys whose leases the engine does not have, by the reply to [`renew`](Self::renew): they are to be
    /// registered again.
    pub(super) fn renewed(&self, renewing: &Renewing, reply: &Reply) -> Vec<Key> {
        let Reply::Array(gone) = reply else { return Vec::new() };
        let gone = gone.iter().filter_map(|place| match place {
            Reply::Int(place) => renewing.0.get(usize::try_from(*place).ok()?.checked_sub(1)?),
            _ => None,
        });
        gone.filter(|(key, lease)| self.has(key, lease.number)).map(|(key, _)| key.clone()).collect()
    }

    /// Returns the number of the lease of a key.
    pub(super) fn number(&self, key: &[u8]) -> Option<u64> {
        self.held.get(key).map(|lease| lease.number)
    }

    /// Takes the leases that have ended: two commands for each, and what to give back if they were not carried out.
    pub(super) fn take_ended(&mut self, most: usize) -> (Vec<Command>, TakenEnded) {
        let taken: Vec<_> = self.ended.drain(..self.ended.len().min(most)).collect();
        let mut commands = Vec::with_capacity(2 * taken.len());
        for ended in &taken {
            let script = |text| self.names.script(text, &ended.key).arg_with(|value| self.write(ended.lease, value));
            commands.push(match &ended.before {
                None => script(REMOVE),
                Some(before) => script(REPLACE).arg(before.to_string()).arg(millis(LEASE)),
            });
            // A newer lease of this node needs the entry, or a survivor of this node.
            match self.held.contains_key(&ended.key) || self.unreported.contains_key(&ended.key) {
                true => commands.push(Command::new("SADD").key(self.set()).arg(&ended.key)),
                false => commands.push(Command::new("SREM").key(self.set()).arg(&ended.key)),
            }
        }
        (commands, TakenEnded(taken))
    }

    pub(super) fn give_back(&mut self, ended: TakenEnded) {
        ended.0.into_iter().for_each(|ended| self.end(ended));
    }

    fn end(&mut self, ended: Ended) {
        if self.ended.len() >= ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
    }

    /// Returns the command that keeps the set of this node's keys.
    pub(super) fn keep_set(&self) -> Command {
        Command::new("PEXPIRE").key(self.set()).arg(millis(SET))
    }

    fn set(&self) -> String {
        set_of(&self.node, &self.epoch)
    }
}

/// Leases that are being renewed, in the order of the command.
pub(super) struct Renewing(Vec<(Key, Lease)>);

/// Leases that have ended and are being reported to the engine.
pub(super) struct TakenEnded(Vec<Ended>);

pub(super) fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_its_holder() {
        let lease = Lease { number: 17, since: 1_796_000_000_000 };
        let (leases, mut value) = (Leases::new("fra1".into(), "9f31c07a".into(), Names::new(false)), Vec::new());
        leases.write(lease, &mut value);
        assert_eq!(Holder::parse(&value), Some(leases.holder(lease)));
        assert_eq!(value, leases.holder(lease).to_string().as_bytes());
    }

    #[test]
    fn many_leases_are_renewed_at_once() {
        let key = |text: &str| Key::from(text.as_bytes());
        let mut leases = Leases::new("a".into(), "e".into(), Names::new(false));
        for (text, now) in [("k", 5), ("l", 6), ("m", 7)] {
            leases.claim(&key(text), now);
        }
        let (renewing, command) = leases.renew(&[key("m"), key("none"), key("k"), key("l")]).expect("three");
        let words: Vec<String> = command.words().into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
        assert_eq!((&*words[0], &*words[1], &*words[2]), ("EVAL", RENEW, "3"));
        let rest = ["gw:key:m", "gw:key:k", "gw:key:l", "30000", "a:e:3:7", "a:e:1:5", "a:e:2:6"];
        assert_eq!(words[3..], rest);
        leases.claim(&key("l"), 8);
        // Places that do not exist change nothing, and neither does that of a lease that has ended.
        let places = [3, 2, 0, -1, 4].map(Reply::Int);
        assert_eq!(leases.renewed(&renewing, &Reply::Array(places.to_vec())), [key("k")]);
        for reply in [Reply::Array(vec![]), Reply::Nil, Reply::Int(1), Reply::Array(vec![Reply::Nil])] {
            assert_eq!(leases.renewed(&renewing, &reply), Vec::<Key>::new());
        }
        assert!(leases.renew(&[key("none")]).is_none());
    }
}
