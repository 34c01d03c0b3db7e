//! A cluster's keys: which slot each is in, and which node has the slot.
//!
//! ```text
//!   uncork:gw:key:{3f}:bob ──CRC16 of what is between the braces──▶ one of 16,384 slots ──Table──▶ 10.0.0.1:6379
//!   CLUSTER SLOTS ──▶ Table          -MOVED 3999 10.0.0.2:6379, -ASK … ──▶ Redirection
//! ```
//! A node of the cluster executes a command only if it has the slots of all of its keys.

use super::{
    reply::{Reply, code},
    url::Place,
};

/// The slots of every cluster.
pub(super) const SLOTS: u16 = 16_384;
/// The most masters that a table may name. The engine's own recommendation is 1000 nodes at most.
const MAX_NODES: usize = 1000;
/// The longest name of a host.
const MAX_HOST: usize = 255;

/// No node has the slot.
const NONE: u16 = u16::MAX;

/// Returns the slot of a key, which is made of these parts. If it has a part in braces that is not empty, that alone
/// counts: keys that have it in common are in the same slot.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|b| *b == b'}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
pub(in crate::relay) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// Which node has which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    places: Vec<Place>,
    /// For each slot, the number of a place.
    slots: Vec<u16>,
}

impl Table {
    /// Reads the reply to `CLUSTER SLOTS`. `from`: the node that has sent it; a range without a host is its own.
    ///
    /// # Errors
    /// Returns what is wrong.
    pub(super) fn parse(reply: &Reply, from: &Place) -> Result<Self, String> {
        let invalid = || "its table of slots is invalid".to_owned();
        let Reply::Array(ranges) = reply else { return Err(invalid()) };
        if ranges.len() > usize::from(SLOTS) {
            return Err(invalid());
        }
        let mut table = Self { places: Vec::new(), slots: vec![NONE; usize::from(SLOTS)] };
        for range in ranges {
            let Reply::Array(parts) = range else { return Err(invalid()) };
            let [Reply::Int(first), Reply::Int(last), Reply::Array(master), ..] = &parts[..] else {
                return Err(invalid());
            };
            let (Ok(first), Ok(last)) = (usize::try_from(*first), usize::try_from(*last)) else {
                return Err(invalid());
            };
            if first > last || last >= usize::from(SLOTS) {
                return Err(invalid());
            }
            let host = match master.first() {
                Some(Reply::Bytes(host)) => std::str::from_utf8(host).map_err(|_| invalid())?,
                Some(Reply::Nil) => "",
                _ => return Err(invalid()),
            };
            let port = match master.get(1) {
                Some(Reply::Int(port)) => u16::try_from(*port).map_err(|_| invalid())?,
                _ => return Err(invalid()),
            };
            // `?`: a host name that is not known yet.
            let Some(place) = place(host, port, from) else { continue };
            let number = table.number(place).ok_or_else(invalid)?;
            table.slots[first..=last].fill(number);
        }
        if table.places.is_empty() { Err("it knows no node that has slots".into()) } else { Ok(table) }
    }

    /// Returns the node that has a slot.
    pub(super) fn node(&self, slot: u16) -> Option<&Place> {
        self.places.get(usize::from(*self.slots.get(usize::from(slot))?))
    }

    /// Returns all nodes that have slots.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Place> {
        let mut has = vec![false; self.places.len()];
        for number in &self.slots {
            if let Some(has) = has.get_mut(usize::from(*number)) {
                *has = true;
            }
        }
        self.places.iter().zip(has).filter(|(_, has)| *has).map(|(place, _)| place)
    }

    /// Notes that another node has a slot.
    pub(super) fn set(&mut self, slot: u16, place: &Place) {
        if usize::from(slot) < self.slots.len()
            && let Some(number) = self.number(place.clone())
        {
            self.slots[usize::from(slot)] = number;
        }
    }

    /// Returns the number of a place, or `None` if there are too many.
    fn number(&mut self, place: Place) -> Option<u16> {
        let found = self.places.iter().position(|own| *own == place);
        if found.is_none() && self.places.len() < MAX_NODES {
            self.places.push(place);
            return u16::try_from(self.places.len() - 1).ok();
        }
        found.and_then(|number| u16::try_from(number).ok())
    }
}

/// Another node has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirection {
    pub(super) slot: u16,
    pub(super) place: Place,
    /// For this command only: the slot is on its way to that node.
    pub(super) is_once: bool,
}

impl Redirection {
    /// Reads `MOVED` and `ASK`; `None` if it is neither, or malformed. `from`: the node that has sent it.
    pub(super) fn parse(reply: &Reply, from: &Place) -> Option<Self> {
        let Reply::Error(text) = reply else { return None };
        let is_once = match code(text) {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let mut words = text.split(' ').skip(1);
        let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        Some(Self { slot, place: place(host, port.parse().ok()?, from)?, is_once })
    }
}

/// Returns the place of a node as another one names it.
fn place(host: &str, port: u16, from: &Place) -> Option<Place> {
    let host = match (host, from) {
        ("", Place::Tcp(own, _)) => own,
        ("" | "?", _) => return None,
        (host, _) => host,
    };
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let is_valid = port > 0 && host.len() <= MAX_HOST && host.bytes().all(is_valid);
    is_valid.then(|| Place::Tcp(host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Place {
        Place::Tcp(host.into(), port)
    }

    fn range(first: i64, last: i64, host: &str, port: i64) -> Reply {
        let master = Reply::Array(vec![Reply::Bytes(host.into()), Reply::Int(port), Reply::Bytes(b"id".to_vec())]);
        Reply::Array(vec![Reply::Int(first), Reply::Int(last), master])
    }

    #[test]
    fn slots_are_those_of_the_engine() {
        // By `CLUSTER KEYSLOT`.
        for (key, slot) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{user1000}.following", 3443),
            ("user1000", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("{bar", 4015),
            ("foo{bar}{zap}", 5061),
            ("bar", 5061),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_table_is_read_and_corrected() {
        let from = at("self", 1);
        let ranges = vec![range(0, 99, "::1", 7), range(100, 199, "", 8), range(300, 300, "?", 9)];
        let mut table = Table::parse(&Reply::Array(ranges), &from).expect("valid");
        let node = |table: &Table, slot| table.node(slot).cloned();
        assert_eq!([0, 99].map(|slot| node(&table, slot)), [Some(at("::1", 7)), Some(at("::1", 7))]);
        assert_eq!([100, 199].map(|slot| node(&table, slot)), [Some(at("self", 8)), Some(at("self", 8))]);
        assert_eq!([200, 300, u16::MAX].map(|slot| node(&table, slot)), [None, None, None]);
        table.set(100, &at("c", 9));
        assert_eq!(node(&table, 100), Some(at("c", 9)));
        (0..100).for_each(|slot| table.set(slot, &at("c", 9)));
        table.set(u16::MAX, &at("d", 1));
        assert_eq!(table.nodes().cloned().collect::<Vec<_>>(), [at("self", 8), at("c", 9)]);
    }

    #[test]
    fn what_is_not_a_table_is_rejected() {
        let many = |n: i64| (0..n).map(|n| range(n, n, "h", n + 1)).collect::<Vec<_>>();
        assert!(Table::parse(&Reply::Array(many(1000)), &at("a", 1)).is_ok());
        for ranges in [
            vec![],
            many(1001),
            vec![range(0, 16_384, "a", 1)],
            vec![range(2, 1, "a", 1)],
            vec![range(-1, 1, "a", 1)],
            vec![range(0, 1, "a", 65_536)],
            vec![range(0, 1, "a b", 1)],
            vec![range(0, 1, &"x".repeat(256), 1)],
            vec![range(0, 1, "a", 0)],
            vec![Reply::Int(1)],
            vec![Reply::Array(vec![Reply::Int(1), Reply::Int(2)])],
            vec![Reply::Nil; 20_000],
        ] {
            assert!(Table::parse(&Reply::Array(ranges), &at("a", 1)).is_err());
        }
        assert!(
            Table::parse(&Reply::Error("ERR This instance has cluster support disabled".into()), &at("a", 1)).is_err()
        );
    }

    #[test]
    fn redirections() {
        let parse = |text: &str| Redirection::parse(&Reply::Error(text.into()), &at("self", 1));
        let to = |slot, place, is_once| Some(Redirection { slot, place, is_once });
        assert_eq!(parse("MOVED 3999 127.0.0.1:6381"), to(3999, at("127.0.0.1", 6381), false));
        assert_eq!(parse("ASK 0 ::1:6381"), to(0, at("::1", 6381), true));
        assert_eq!(parse("MOVED 16383 :2"), to(16_383, at("self", 2), false));
        for other in
            ["MOVED", "MOVED 1", "MOVED 16384 a:1", "MOVED x a:1", "ASK 1 a", "ASK 1 a:0", "ASK 1 ?:1", "ERR x"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(Redirection::parse(&Reply::Bytes(b"MOVED 1 a:1".to_vec()), &at("self", 1)), None);
    }
}
