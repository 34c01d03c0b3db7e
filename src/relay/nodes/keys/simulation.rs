//! Nodes, an engine and the network between them, on a virtual clock: thousands of runs with random faults.
//!
//! In every second run the engine is a cluster: a pipeline may fail alone, after any of its commands was carried out.
//!
//! The leases are the real ones, and so are the commands. The engine is a table that does what `redis-server` does for
//! them. What [`renewal`](super::renewal) does with an engine is done here with this one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{
    super::directory::{Command, Reply},
    holder::{Holder, Key},
    leases::{Leases, Renewed, Renewing, TakenEnded},
    names::Names,
};

/// Milliseconds.
type Time = u64;

const NODES: usize = 3;
const KEYS: usize = 4;
const RENEW: Time = 10_000;
const BACK_OFF: Time = 700;
const AGAIN: Time = 500;
const HEARTBEAT: Time = 3_000;

/// Random numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// The engine: values with their expiry, and sets.
#[derive(Default)]
struct Table {
    values: HashMap<Vec<u8>, (Vec<u8>, Time)>,
    sets: HashMap<Vec<u8>, BTreeSet<Vec<u8>>>,
}

impl Table {
    fn get(&self, key: &[u8], now: Time) -> Option<Vec<u8>> {
        self.values.get(key).filter(|(_, until)| *until > now).map(|(value, _)| value.clone())
    }

    fn run(&mut self, command: &Command, now: Time) -> Reply {
        let words = command.words();
        let text = |at: usize| String::from_utf8(words[at].clone()).expect("text");
        let number = |at: usize| text(at).parse::<Time>().expect("a number");
        let bytes = |value: Option<Vec<u8>>| value.map_or(Reply::Nil, Reply::Bytes);
        match (text(0).as_str(), words.len()) {
            ("SADD", _) => {
                Reply::Int(i64::from(self.sets.entry(words[1].clone()).or_default().insert(words[2].clone())))
            }
            ("SREM", _) => Reply::Int(i64::from(self.sets.entry(words[1].clone()).or_default().remove(&words[2]))),
            ("SET", 6 | 7) => {
                assert_eq!((text(3).as_str(), text(5).as_str()), ("PX", "GET"));
                let before = self.get(&words[1], now);
                if words.len() == 6 || before.is_none() {
                    self.values.insert(words[1].clone(), (words[2].clone(), now + number(4)));
                }
                bytes(before)
            }
            ("EVAL", _) if text(1).contains("PEXPIRE") => {
                let (keys, values) = words[3..].split_at(number(2) as usize);
                let until = now + number(3 + keys.len());
                let mut gone = Vec::new();
                for (place, (key, value)) in (1..).zip(keys.iter().zip(&values[1..])) {
                    match self.get(key, now).as_ref() == Some(value) {
                        true => drop(self.values.insert(key.clone(), (value.clone(), until))),
                        false => gone.push(Reply::Int(place)),
                    }
                }
                Reply::Array(gone)
            }
            ("EVAL", _) => {
                if self.get(&words[3], now).as_ref() != Some(&words[4]) {
                    return Reply::Int(0);
                }
                match text(1) {
                    script if script.contains("'DEL'") => drop(self.values.remove(&words[3])),
                    script if script.contains("'SET'") => {
                        drop(self.values.insert(words[3].clone(), (words[5].clone(), now + number(6))));
                    }
                    script => panic!("unknown script: {script}"),
                }
                Reply::Int(1)
            }
            (name, n) => panic!("unknown command: {name} of {n} words"),
        }
    }
}

/// What the replies of a pipeline are for.
enum Purpose {
    Claim(Key, u64),
    Renew(Renewing),
    Register(Vec<(Key, u64)>),
    Replace(Key, Holder),
    Ended(TakenEnded),
}

struct Pipeline {
    arrives: Time,
    commands: Vec<Command>,
    /// A node of the cluster says "not now": only some commands are carried out, and there are no replies.
    fails: bool,
    /// Set when the engine has carried it out.
    replies: Option<(Time, Option<Vec<Reply>>)>,
    purpose: Purpose,
}

struct Node {
    leases: Leases,
    connected: bool,
    reconnects: Time,
    renews: Time,
    /// In order, as on a connection.
    pipelines: VecDeque<Pipeline>,
    /// Sessions: their lease, by key.
    sessions: BTreeMap<Key, u64>,
}

struct World {
    now: Time,
    random: Random,
    table: Table,
    nodes: Vec<Node>,
    /// Messages between nodes: when, to which node, the key and the lease that is over.
    messages: Vec<(Time, usize, Key, u64)>,
    engine_is_up: bool,
    names: Names,
    /// One of this many pipelines fails alone; 0 for none.
    fails: u64,
    /// Keys of a node that the engine did not get, and when they are registered again.
    again: Vec<(Time, usize, Vec<Key>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let names = Names::new(seed.is_multiple_of(2));
        let node = |n: usize| Node {
            leases: Leases::new(format!("n{n}"), "1".into(), names),
            connected: true,
            reconnects: 0,
            renews: RENEW + n as u64,
            pipelines: VecDeque::new(),
            sessions: BTreeMap::new(),
        };
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let nodes = (0..NODES).map(node).collect();
        Self {
            now: 1_000_000,
            random,
            table: Table::default(),
            nodes,
            messages: Vec::new(),
            engine_is_up: true,
            names,
            fails: if seed.is_multiple_of(2) { 6 } else { 0 },
            again: Vec::new(),
        }
    }

    fn send(&mut self, at: usize, commands: Vec<Command>, purpose: Purpose) {
        let fails = self.fails > 0 && self.random.below(self.fails) == 0;
        let (delay, node) = (self.random.below(40), &mut self.nodes[at]);
        if !node.connected {
            return self.handle(at, purpose, None);
        }
        let last = node.pipelines.back().map_or(0, |pipeline| pipeline.arrives);
        let arrives = last.max(self.now + delay);
        node.pipelines.push_back(Pipeline { arrives, commands, fails, replies: None, purpose });
    }

    /// A client connects to a node under this key.
    fn connect(&mut self, at: usize, key: &Key) {
        let node = &mut self.nodes[at];
        let number = node.leases.claim(key, self.now);
        node.sessions.insert(key.clone(), number);
        let commands = node.leases.register(key, false).map_or_else(Vec::new, Vec::from);
        self.send(at, commands, Purpose::Claim(key.clone(), number));
    }

    /// The client of a session disconnects.
    fn disconnect(&mut self, at: usize, key: &Key) {
        let node = &mut self.nodes[at];
        if let Some(number) = node.sessions.remove(key) {
            node.leases.release(key, number, None);
            self.report_ended(at);
        }
    }

    fn report_ended(&mut self, at: usize) {
        if self.nodes[at].connected {
            let (commands, taken) = self.nodes[at].leases.take_ended(100);
            if !commands.is_empty() {
                self.send(at, commands, Purpose::Ended(taken));
            }
        }
    }

    fn register_all(&mut self, at: usize, keys: Vec<Key>) {
        for batch in self.names.batches(keys, 100) {
            self.register(at, batch);
        }
    }

    fn register(&mut self, at: usize, keys: Vec<Key>) {
        let leases = &self.nodes[at].leases;
        let one = |key: Key| Some(((key.clone(), leases.number(&key)?), leases.register(&key, true)?));
        let (registered, commands): (Vec<_>, Vec<_>) = keys.into_iter().filter_map(one).unzip();
        if !registered.is_empty() {
            self.send(at, commands.into_iter().flatten().collect(), Purpose::Register(registered));
        }
    }

    /// A session ends, because another one has its key.
    fn replaced(&mut self, at: usize, key: &Key, number: u64) {
        let node = &mut self.nodes[at];
        node.leases.lose(key, number);
        if node.sessions.get(key) == Some(&number) {
            node.sessions.remove(key);
        }
    }

    fn tell_replaced(&mut self, holder: &Holder, key: &Key, faults: bool) {
        let at: usize = holder.node[1..].parse().expect("a node");
        // Some are lost.
        if !faults || self.random.below(4) > 0 {
            let delay = self.random.below(100);
            self.messages.push((self.now + delay, at, key.clone(), holder.number));
        }
    }

    fn handle(&mut self, at: usize, purpose: Purpose, replies: Option<Vec<Reply>>) {
        match (purpose, replies) {
            (Purpose::Ended(taken), None) => self.nodes[at].leases.give_back(taken),
            // Without a connection, all are registered again after the reconnection.
            (Purpose::Register(registered), None) if self.nodes[at].connected => {
                let keys = registered.into_iter().map(|(key, _)| key).collect();
                self.again.push((self.now + AGAIN, at, keys));
            }
            (Purpose::Claim(key, _), None) if self.nodes[at].connected => {
                self.again.push((self.now + HEARTBEAT, at, vec![key]));
            }
            (_, None) => {}
            (Purpose::Ended(_), Some(_)) => self.report_ended(at),
            (Purpose::Claim(key, number), Some(replies)) => {
                let registered = self.nodes[at].leases.registered(&key, number, false, &replies[1]);
                if let Renewed::TookOver(other) = registered {
                    self.tell_replaced(&other, &key, true);
                }
            }
            (Purpose::Renew(renewed), Some(replies)) => {
                let gone = self.nodes[at].leases.renewed(&renewed, &replies[0]);
                self.register_all(at, gone);
            }
            (Purpose::Register(registered), Some(replies)) => {
                for ((key, number), reply) in registered.iter().zip(replies.iter().skip(1).step_by(2)) {
                    match self.nodes[at].leases.registered(key, *number, true, reply) {
                        Renewed::Lost => self.replaced(at, key, *number),
                        Renewed::Older(other) => {
                            if let Some(command) = self.nodes[at].leases.replace(key, *number, &other) {
                                self.send(at, vec![command], Purpose::Replace(key.clone(), other));
                            }
                        }
                        _ => {}
                    }
                }
            }
            (Purpose::Replace(key, other), Some(replies)) => {
                if replies == [Reply::Int(1)] {
                    self.tell_replaced(&other, &key, true);
                }
            }
        }
    }

    /// The connection of a node to the engine ends. What has not arrived is lost, and so are replies.
    fn cut(&mut self, at: usize, reconnects: Time) {
        let node = &mut self.nodes[at];
        (node.connected, node.reconnects) = (false, self.now + reconnects);
        for pipeline in std::mem::take(&mut self.nodes[at].pipelines) {
            self.handle(at, pipeline.purpose, None);
        }
    }

    fn step(&mut self) {
        self.now += 1 + self.random.below(150);
        for at in 0..NODES {
            self.turn(at);
        }
        let messages = std::mem::take(&mut self.messages);
        let (due, later): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.0 <= self.now);
        self.messages = later;
        for (_, at, key, number) in due {
            self.replaced(at, &key, number);
        }
        let again = std::mem::take(&mut self.again);
        let (due, later): (Vec<_>, Vec<_>) = again.into_iter().partition(|again| again.0 <= self.now);
        self.again = later;
        for (_, at, keys) in due {
            self.register_all(at, keys);
        }
    }

    fn turn(&mut self, at: usize) {
        let now = self.now;
        // The engine carries out what has arrived, in order.
        let delay = self.random.below(40);
        for pipeline in self.nodes[at].pipelines.iter_mut().filter(|one| one.replies.is_none() && one.arrives <= now) {
            let mut replies = Vec::new();
            for command in &pipeline.commands {
                if !pipeline.fails || self.random.below(2) == 0 {
                    replies.push(self.table.run(command, now));
                }
            }
            pipeline.replies = Some((now + delay, (!pipeline.fails).then_some(replies)));
        }
        while let Some((arrives, _)) = self.nodes[at].pipelines.front().and_then(|one| one.replies.as_ref()) {
            if *arrives > now {
                break;
            }
            let Some(pipeline) = self.nodes[at].pipelines.pop_front() else { break };
            self.handle(at, pipeline.purpose, pipeline.replies.and_then(|(_, replies)| replies));
        }
        if !self.nodes[at].connected && self.engine_is_up && self.nodes[at].reconnects <= now {
            self.nodes[at].connected = true;
            let keys = self.nodes[at].leases.keys();
            self.register_all(at, keys);
            self.report_ended(at);
        }
        if self.nodes[at].renews <= now {
            self.nodes[at].renews = now + RENEW;
            for batch in self.names.batches(self.nodes[at].leases.keys(), 100) {
                if let Some((renewing, command)) = self.nodes[at].leases.renew(&batch) {
                    self.send(at, vec![command], Purpose::Renew(renewing));
                }
            }
            self.report_ended(at);
        }
    }

    fn run_for(&mut self, time: Time) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }
}

/// One run: clients connect to random nodes and disconnect, while the engine and its connections fail.
fn run(seed: u64) {
    let mut world = World::new(seed);
    let keys: Vec<Key> = (0..KEYS).map(|n| format!("k{n}").into_bytes().into()).collect();
    // The node and the lease of the newest connection of each key, unless its client has disconnected.
    let mut newest: HashMap<Key, (usize, u64)> = HashMap::new();
    for _ in 0..40 {
        // Longer than any delay: which connection is the newest is certain.
        let pause = 500 + world.random.below(6_000);
        world.run_for(pause);
        let (at, key) = (world.random.below(NODES as u64) as usize, &keys[world.random.below(KEYS as u64) as usize]);
        match world.random.below(10) {
            0..=4 => {
                world.connect(at, key);
                newest.insert(key.clone(), (at, world.nodes[at].leases.number(key).expect("a lease")));
            }
            5 | 6 => {
                if newest.get(key).is_some_and(|(node, _)| *node == at) {
                    newest.remove(key);
                }
                world.disconnect(at, key);
            }
            7 | 8 => {
                let time = world.random.below(60_000);
                world.cut(at, time);
            }
            _ => {
                // The engine is killed, and comes back without its data.
                world.table = Table::default();
                let time = 1 + world.random.below(40_000);
                for node in 0..NODES {
                    let back_off = world.random.below(BACK_OFF);
                    world.cut(node, time + back_off);
                }
            }
        }
    }
    // Everything heals.
    world.fails = 0;
    world.run_for(150_000);
    for (at, node) in world.nodes.iter().enumerate() {
        assert_eq!(node.leases.len(), node.sessions.len(), "seed {seed}: sessions and leases of n{at}");
        for (key, number) in &node.sessions {
            let mut name = Vec::new();
            world.names.write(key, &mut name);
            let value = world.table.get(&name, world.now);
            let holder = value.as_deref().and_then(Holder::parse).expect("a live session is in the directory");
            assert_eq!((holder.node, holder.number), (format!("n{at}"), *number), "seed {seed}: {key:?}");
            let set = world.table.sets.get(format!("gw:of:n{at}:1").as_bytes());
            assert!(set.is_some_and(|set| set.contains(&key[..])), "seed {seed}: {key:?} would not be reported");
        }
    }
    let live: usize = world.nodes.iter().map(|node| node.sessions.len()).sum();
    let values = world.table.values.values().filter(|(_, until)| *until > world.now).count();
    assert_eq!(values, live, "seed {seed}: values without a session");
    for (key, (at, number)) in newest {
        assert_eq!(world.nodes[at].sessions.get(&key), Some(&number), "seed {seed}: the newest session of {key:?}");
    }
}

#[test]
fn thousands_of_runs_end_with_one_holder_of_each_key() {
    for seed in 1..=2_000 {
        run(seed);
    }
}
