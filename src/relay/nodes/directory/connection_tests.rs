//! Traces of one connection on a clock of their own.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    Reply, Unavailable,
    command::{Outcome, Pipeline, Then, encode_words},
    connection::{Connection, Event, MAX_REPLY},
    handshake::{Purpose, Setup},
    queue::Queue,
};

const SECOND: Duration = Duration::from_secs(1);

fn setup() -> Setup {
    Setup {
        purpose: Purpose::Commands,
        name: "uncork".into(),
        user: None,
        password: None,
        database: 0,
        channels: Vec::new(),
        handshake_timeout: 2 * SECOND,
        command_timeout: SECOND,
        ping_interval: 5 * SECOND,
    }
}

struct Trace {
    connection: Connection,
    queue: Queue,
    now: Instant,
    done: Arc<Mutex<Vec<(&'static str, Outcome)>>>,
    /// Events besides `Done`, as text.
    log: Vec<String>,
}

impl Trace {
    #[expect(clippy::disallowed_methods, reason = "the time does not matter")]
    fn new(change: impl FnOnce(&mut Setup)) -> Self {
        let (mut setup, now) = (setup(), Instant::now());
        change(&mut setup);
        let connection = Connection::new(Arc::new(setup), now);
        Self { connection, queue: Queue::new(1000), now, done: Arc::default(), log: Vec::new() }
    }

    /// A connection whose handshake is complete, with the first PING answered.
    fn open() -> Self {
        let mut trace = Self::new(|_| {});
        for (sends, gets) in [
            ("HELLO 3 SETNAME uncork", "%1\r\n+proto\r\n:3\r\n"),
            ("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            ("PING", "+PONG\r\n"),
        ] {
            trace.sends(sends);
            trace.gets(gets);
        }
        trace.pass(Duration::ZERO);
        trace.sends("PING");
        trace.gets("+PONG\r\n");
        assert_eq!(trace.log, ["open resp3=true", "round trip 0ns"]);
        trace.log.clear();
        trace
    }

    /// Checks the output: commands of words without spaces.
    #[track_caller]
    fn sends(&mut self, commands: &str) {
        let mut want = Vec::new();
        for command in commands.split(" | ").filter(|command| !command.is_empty()) {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            encode_words(&words, &mut want);
        }
        let found = String::from_utf8_lossy(self.connection.output()).into_owned();
        assert_eq!(found, String::from_utf8_lossy(&want));
        self.connection.written(found.len());
    }

    fn gets(&mut self, wire: &str) {
        self.connection.receive(wire.as_bytes(), self.now);
        self.turn();
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.connection.tick(self.now);
        self.turn();
    }

    fn turn(&mut self) {
        self.queue.set_deadlines(self.now + SECOND);
        self.connection.take(&mut self.queue);
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Done(then, outcome) => then.call(outcome),
                Event::Open { resp3 } => self.log.push(format!("open resp3={resp3}")),
                Event::RoundTrip(time) => self.log.push(format!("round trip {time:?}")),
                Event::Message { channel, payload } => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    self.log.push(format!("{}: {}", text(&channel), text(&payload)));
                }
            }
        }
    }

    /// Sends a pipeline of this many commands that are called like it.
    fn send(&mut self, name: &'static str, commands: usize) {
        let done = self.done.clone();
        let then = Then::new(move |outcome| done.lock().unwrap().push((name, outcome)));
        let mut wire = Vec::new();
        (0..commands).for_each(|_| encode_words(&[name.as_bytes()], &mut wire));
        assert!(self.queue.push(Pipeline { wire, commands, is_hint: false, then }).is_ok());
        self.turn();
    }

    #[track_caller]
    fn done(&mut self, want: &[(&'static str, Result<&[Reply], &str>)]) {
        let done: Vec<(&str, Outcome)> = self.done.lock().unwrap().drain(..).collect();
        let want: Vec<(&str, Outcome)> = want
            .iter()
            .map(|(name, outcome)| (*name, outcome.map(<[_]>::to_vec).map_err(|text| Unavailable(text.to_owned()))))
            .collect();
        assert_eq!(done, want);
    }

    #[track_caller]
    fn failed(&self, text: &str) {
        let failure = self.connection.failure().unwrap_or("it has not failed");
        assert!(failure.contains(text), "{failure}");
    }
}

fn ok() -> Reply {
    Reply::Bytes(b"OK".to_vec())
}

#[test]
fn the_handshake_in_resp3() {
    let mut trace = Trace::new(|setup| {
        setup.user = Some("u".into());
        setup.password = Some("p".into());
        setup.database = 3;
        setup.channels = vec![b"x:a".to_vec(), b"x:b".to_vec()];
    });
    trace.sends("HELLO 3 AUTH u p SETNAME uncork");
    trace.send("WAITS", 1);
    trace.gets("%1\r\n$5\r\nproto\r\n:3\r\n");
    trace.sends("SELECT 3");
    trace.gets("+OK\r\n");
    trace.sends("ROLE");
    trace.gets("*1\r\n+master\r\n");
    trace.sends("PING");
    trace.gets("+PONG\r\n");
    trace.sends("SUBSCRIBE x:a x:b");
    trace.gets(">3\r\n+subscribe\r\n+x:a\r\n:1\r\n>3\r\n+message\r\n+x:a\r\n+early\r\n");
    assert_eq!(trace.log, ["x:a: early"]);
    trace.sends("");
    trace.gets(">3\r\n+subscribe\r\n+x:b\r\n:2\r\n");
    assert_eq!(trace.log[1..], ["open resp3=true"]);
    trace.sends("WAITS");
}

#[test]
fn the_handshake_falls_back_to_resp2() {
    for error in ["-ERR unknown command 'HELLO', with args", "-NOPROTO unsupported", "-NOPERM no permission"] {
        let mut trace = Trace::new(|setup| {
            setup.password = Some("p".into());
            setup.channels = vec![b"a".to_vec()];
        });
        trace.sends("HELLO 3 AUTH default p SETNAME uncork");
        trace.gets(&format!("{error}\r\n"));
        trace.sends("AUTH p");
        trace.gets("+OK\r\n");
        trace.sends("CLIENT SETNAME uncork");
        trace.gets("-ERR unknown command\r\n"); // only for operators
        trace.sends("ROLE");
        trace.gets("*1\r\n+master\r\n");
        trace.sends("PING");
        trace.gets("+PONG\r\n");
        assert_eq!(trace.log, ["open resp3=false"], "messages have a connection of their own");
    }
}

#[test]
fn messages_in_resp2() {
    let mut trace = Trace::new(|setup| {
        setup.purpose = Purpose::Messages;
        (setup.user, setup.password) = (Some("u".into()), Some("p".into()));
        setup.channels = vec![b"a".to_vec(), b"b".to_vec()];
    });
    trace.sends("AUTH u p");
    trace.gets("+OK\r\n");
    trace.sends("CLIENT SETNAME uncork");
    trace.gets("+OK\r\n");
    trace.sends("PING");
    trace.gets("+PONG\r\n");
    trace.sends("SUBSCRIBE a b");
    trace.gets("*3\r\n+subscribe\r\n+a\r\n:1\r\n*3\r\n+subscribe\r\n+b\r\n:2\r\n");
    trace.pass(SECOND);
    trace.sends("PING");
    trace.gets("*3\r\n+message\r\n+a\r\n+one\r\n*2\r\n+pong\r\n+\r\n");
    assert_eq!(trace.log, ["open resp3=false", "a: one", "round trip 0ns"]);
    assert_eq!(trace.connection.failure(), None);
}

#[test]
fn a_sentinel_has_no_role_and_no_database() {
    let mut trace = Trace::new(|setup| {
        setup.purpose = Purpose::Sentinel;
        setup.database = 1;
        setup.channels = vec![b"+switch-master".to_vec()];
    });
    trace.sends("HELLO 3 SETNAME uncork");
    trace.gets("%0\r\n");
    trace.sends("PING");
    trace.gets("+PONG\r\n");
    trace.sends("SUBSCRIBE +switch-master");
    trace.gets(">3\r\n+subscribe\r\n+switch-master\r\n:1\r\n");
    assert_eq!(trace.log, ["open resp3=true"]);
}

#[test]
fn what_cannot_be_used_is_given_up_in_the_handshake() {
    let hello = "%0\r\n";
    for (replies, says) in [
        (&["-WRONGPASS invalid\r\n"][..], "rejected the handshake: WRONGPASS invalid"),
        (&["-ERR unknown command 'HELLO'\r\n", "-NOAUTH Authentication required\r\n"], ""),
        (&[hello, "*5\r\n+slave\r\n+h\r\n:1\r\n+connected\r\n:9\r\n"], "not a master, its role is \"slave\""),
        (&[hello, "*0\r\n"], "role is invalid"),
        (&[hello, "+x\r\n"], "role is invalid"),
        (&["%2\r\n+proto\r\n:3\r\n+mode\r\n+cluster\r\n"], "part of a cluster"),
        (&[hello, "-NOPERM no\r\n"], "cannot ask for the role: NOPERM no"),
        (&[hello, "*1\r\n+master\r\n", "-LOADING Redis is loading\r\n"], "not ready: LOADING"),
        (&["hello\r\n"], "does not speak the protocol"),
        (&["HTTP/1.1 400 Bad Request\r\n"], "does not speak the protocol"),
    ] {
        let mut trace = Trace::new(|_| {});
        replies.iter().for_each(|reply| trace.gets(reply));
        if says.is_empty() {
            assert_eq!(trace.connection.failure(), None, "the name may be rejected");
            continue;
        }
        trace.failed(says);
        assert!(trace.connection.output().is_empty() && trace.connection.deadline().is_none());
        trace.send("NEVER", 1);
        trace.sends("");
    }
    let mut trace = Trace::new(|setup| setup.channels = vec![b"a".to_vec()]);
    for reply in [hello, "*1\r\n+master\r\n", "+PONG\r\n", "-NOPERM channel\r\n"] {
        trace.gets(reply);
    }
    trace.failed("cannot subscribe: NOPERM channel");
    let mut trace = Trace::new(|setup| setup.database = 99);
    trace.gets(hello);
    trace.gets("-ERR DB index is out of range\r\n");
    trace.failed("cannot select database 99: ERR DB index");
}

#[test]
fn the_handshake_has_a_deadline() {
    let mut trace = Trace::new(|_| {});
    assert_eq!(trace.connection.deadline(), Some(trace.now + 2 * SECOND));
    trace.pass(SECOND);
    trace.gets("%0\r\n");
    assert!(trace.connection.failure().is_none());
    trace.pass(SECOND);
    trace.failed("the handshake took longer than 2s");
}

#[test]
fn pipelines_get_their_replies_in_order() {
    let mut trace = Trace::open();
    trace.send("A", 2);
    trace.send("B", 1);
    trace.sends("A | A | B");
    assert!(!trace.connection.is_idle());
    trace.gets("+OK\r\n");
    trace.done(&[]);
    trace.gets("-ERR no\r\n>3\r\n+message\r\n+c\r\n+m\r\n:5\r\n");
    trace.done(&[("A", Ok(&[ok(), Reply::Error("ERR no".into())])), ("B", Ok(&[Reply::Int(5)]))]);
    assert_eq!(trace.log, ["c: m"]);
    assert!(trace.connection.is_idle());
    for push in [">1\r\n+x\r\n", ">2\r\n+invalidate\r\n*0\r\n", ">3\r\n+message\r\n:1\r\n:2\r\n"] {
        trace.gets(push);
        assert_eq!(trace.connection.failure(), None, "other pushes change nothing");
    }
}

#[test]
fn a_call_has_a_deadline_and_its_late_replies_are_discarded() {
    let mut trace = Trace::open();
    trace.send("A", 2);
    trace.gets("+OK\r\n");
    trace.pass(SECOND / 2);
    trace.send("B", 1);
    trace.pass(SECOND / 2);
    trace.done(&[("A", Err("the engine did not reply within 1s"))]);
    assert_eq!(trace.connection.deadline(), Some(trace.now + SECOND / 2), "of B");
    trace.gets("+late\r\n+OK\r\n");
    trace.done(&[("B", Ok(&[ok()]))]);
    assert!(trace.connection.is_idle() && trace.connection.failure().is_none());
}

#[test]
fn ping_keeps_an_idle_connection_and_ends_a_dead_one() {
    let mut trace = Trace::open();
    assert_eq!(trace.connection.deadline(), Some(trace.now + 5 * SECOND));
    trace.pass(5 * SECOND);
    trace.sends("PING");
    trace.pass(SECOND / 2);
    trace.gets("+PONG\r\n");
    assert_eq!(trace.log, ["round trip 500ms"]);
    trace.pass(5 * SECOND);
    trace.sends("PING");
    trace.send("A", 1);
    assert_eq!(trace.connection.deadline(), Some(trace.now + SECOND));
    // A reply to something larger comes first: it lives.
    trace.pass(SECOND / 2);
    trace.gets("$100\r\nx");
    trace.pass(SECOND / 2);
    trace.done(&[("A", Err("the engine did not reply within 1s"))]);
    assert_eq!(trace.connection.failure(), None);
    trace.pass(SECOND / 2);
    trace.failed("no reply to PING within 1s");
}

#[test]
fn not_now_is_unavailable_and_not_an_error() {
    for text in
        ["LOADING x", "CLUSTERDOWN x", "MASTERDOWN x", "BUSY x", "TRYAGAIN x", "MISCONF x", "MOVED 1 h:1", "ASK 1 h:1"]
    {
        let mut trace = Trace::open();
        trace.send("A", 2);
        trace.gets(&format!("-{text}\r\n+OK\r\n"));
        trace.done(&[("A", Err(text))]);
        assert_eq!(trace.connection.failure(), None, "{text}");
    }
}

#[test]
fn a_replica_is_left() {
    let mut trace = Trace::open();
    trace.send("A", 1);
    trace.send("B", 2);
    trace.gets("-READONLY You can't write against a read only replica.\r\n+OK\r\n");
    let reason = "it is a replica now (READONLY)";
    trace.done(&[("A", Err("READONLY You can't write against a read only replica.")), ("B", Err(reason))]);
    trace.failed(reason);
}

#[test]
fn what_is_in_flight_is_told_when_the_connection_ends() {
    let mut trace = Trace::open();
    trace.send("A", 2);
    trace.gets("+OK\r\n");
    trace.connection.fail("lost");
    trace.connection.fail("the second reason does not count");
    trace.turn();
    trace.done(&[("A", Err("lost"))]);
    trace.failed("lost");
    trace.gets("+OK\r\n");
    trace.done(&[]);
}

#[test]
fn a_reply_without_a_command_ends_it() {
    let mut trace = Trace::open();
    trace.gets("+OK\r\n");
    trace.failed("a reply without a command");
    let mut trace = Trace::open();
    trace.gets("-ERR max number of clients\r\n");
    trace.failed("ERR max number of clients");
}

#[test]
fn replies_are_bounded() {
    let mut trace = Trace::open();
    trace.send("A", 1);
    trace.gets(&format!("${}\r\n", MAX_REPLY + 1));
    trace.failed("too large");
    let mut trace = Trace::open();
    trace.send("A", 3);
    let part = format!("${}\r\n{}\r\n", MAX_REPLY / 2, "x".repeat(MAX_REPLY / 2));
    trace.gets(&part);
    trace.gets(&part);
    trace.failed("replies to a pipeline are too large");
    assert_eq!(trace.done.lock().unwrap().len(), 1);
}

#[test]
fn output_is_taken_as_it_is_sent() {
    let mut trace = Trace::open();
    let name = "X".repeat(10_000).leak();
    for _ in 0..100 {
        trace.send(name, 1);
    }
    let one = trace.connection.output().len();
    assert!((64 * 1024..80 * 1024).contains(&one), "{one}");
    let mut sent = 0;
    while !trace.connection.output().is_empty() {
        let n = trace.connection.output().len().min(1000);
        trace.connection.written(n);
        sent += n;
        trace.turn();
    }
    assert!(sent > 1_000_000 && trace.queue.is_empty(), "{sent}");
}
