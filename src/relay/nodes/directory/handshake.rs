//! The handshake of a connection, without I/O: one command after the other, each when the reply to the one before is
//! there.
//!
//! ```text
//!   HELLO 3 AUTH … SETNAME … ──┬───────────────────────────────▶ SELECT ─▶ ROLE ─▶ PING ─▶ SUBSCRIBE
//!                              └ unknown ─▶ AUTH ─▶ SETNAME ───▶ SELECT ─▶ ROLE ─▶ PING
//! ```
//! A node of a cluster has one database, and is not asked for its role: it names the node that has a slot.
//!
//! In RESP2 a connection that has subscribed takes no other commands, so messages have a connection of their own:
//! `AUTH`, `SETNAME`, `SUBSCRIBE`.

use std::{sync::Arc, time::Duration};

use super::{
    command::encode_words,
    reply::{Reply, code, printable},
};

/// The use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Commands to a master; messages too, in RESP3.
    Commands,
    /// Commands to a node of a cluster, which may be a replica: then it names the master. Messages too, in RESP3.
    ClusterNode,
    /// Messages only, in RESP2.
    Messages,
    /// Questions to a Sentinel; messages too, in RESP3.
    Sentinel,
}

/// What a connection has from its configuration.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) purpose: Purpose,
    pub(super) name: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
    /// With the prefix.
    pub(super) channels: Vec<Vec<u8>>,
    pub(super) handshake_timeout: Duration,
    pub(super) command_timeout: Duration,
    pub(super) ping_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Auth,
    SetName,
    Select,
    Role,
    Ping,
    Subscribe,
    Done,
}

pub(super) struct Handshake {
    setup: Arc<Setup>,
    step: Step,
    resp3: bool,
    /// Channels that the server has confirmed.
    subscribed: usize,
}

impl Handshake {
    /// Begins: appends the first command.
    pub(super) fn begin(setup: Arc<Setup>, out: &mut Vec<u8>) -> Self {
        let mut handshake = Self { setup, step: Step::Hello, resp3: true, subscribed: 0 };
        if handshake.setup.purpose == Purpose::Messages {
            handshake.resp3 = false;
            handshake.step = Step::Auth;
        }
        handshake.proceed(out);
        handshake
    }

    pub(super) fn resp3(&self) -> bool {
        self.resp3
    }

    pub(super) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Handles a reply, and appends the next command.
    ///
    /// # Errors
    /// Returns the reason why the connection cannot be used.
    pub(super) fn reply(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Result<(), String> {
        let error = match reply {
            Reply::Error(text) => Some(text.as_str()),
            _ => None,
        };
        match (self.step, error) {
            // Permission is asked for before a user is known: AUTH may be allowed where HELLO is not.
            (Step::Hello, Some(text)) if is_unknown(text) || ["NOPROTO", "NOPERM"].contains(&code(text)) => {
                self.resp3 = false;
                self.step = Step::Auth;
            }
            (Step::Hello, None) => match (is_cluster(reply), self.setup.purpose) {
                (Some(true), Purpose::Commands) => {
                    return Err("it is part of a cluster, and the configuration names no nodes of a cluster".into());
                }
                (Some(false), Purpose::ClusterNode) => return Err("it is not part of a cluster".into()),
                _ => self.step = Step::Select,
            },
            (Step::Hello | Step::Auth, Some(text)) => {
                return Err(format!("it has rejected the handshake: {}", line(text)));
            }
            (Step::Auth, None) => self.step = Step::SetName,
            // A name is only shown to operators.
            (Step::SetName, _) => self.step = Step::Select,
            (Step::Select, None) => self.step = Step::Role,
            (Step::Select, Some(text)) => {
                return Err(format!("cannot select database {}: {}", self.setup.database, line(text)));
            }
            (Step::Role, Some(text)) => return Err(format!("cannot ask for the role: {}", line(text))),
            (Step::Role, None) => {
                check_role(reply)?;
                self.step = Step::Ping;
            }
            // It says what HELLO and ROLE do not: the server is loading, a script is running, …
            (Step::Ping, Some(text)) => return Err(format!("it is not ready: {}", line(text))),
            (Step::Ping, None) => self.step = Step::Subscribe,
            (Step::Subscribe, Some(text)) => return Err(format!("cannot subscribe: {}", line(text))),
            (Step::Subscribe | Step::Done, _) => return Err("it has sent a reply without a command".into()),
        }
        self.proceed(out);
        Ok(())
    }

    /// Counts a channel that the server has confirmed.
    pub(super) fn confirmed(&mut self) {
        if self.step == Step::Subscribe {
            self.subscribed += 1;
            if self.subscribed >= self.setup.channels.len() {
                self.step = Step::Done;
            }
        }
    }

    /// Appends the command of this step, or of the next one that is needed.
    fn proceed(&mut self, out: &mut Vec<u8>) {
        loop {
            let setup = &self.setup;
            let user = setup.user.as_deref();
            match (self.step, setup.password.as_deref()) {
                (Step::Hello, Some(password)) => {
                    let user = user.unwrap_or("default").as_bytes();
                    let words: [&[u8]; 7] =
                        [b"HELLO", b"3", b"AUTH", user, password.as_bytes(), b"SETNAME", setup.name.as_bytes()];
                    return encode_words(&words, out);
                }
                (Step::Hello, None) => {
                    return encode_words(&[b"HELLO", b"3", b"SETNAME", setup.name.as_bytes()], out);
                }
                (Step::Auth, Some(password)) => {
                    let mut words: Vec<&[u8]> = vec![b"AUTH"];
                    words.extend(user.map(str::as_bytes));
                    words.push(password.as_bytes());
                    return encode_words(&words, out);
                }
                (Step::Auth, None) => self.step = Step::SetName,
                (Step::SetName, _) => {
                    return encode_words(&[b"CLIENT", b"SETNAME", setup.name.as_bytes()], out);
                }
                (Step::Select | Step::Role, _) if setup.purpose != Purpose::Commands => self.step = Step::Ping,
                (Step::Select, _) if setup.database == 0 => self.step = Step::Role,
                (Step::Select, _) => {
                    return encode_words(&[b"SELECT", setup.database.to_string().as_bytes()], out);
                }
                (Step::Role, _) => return encode_words(&[b"ROLE"], out),
                (Step::Ping, _) => return encode_words(&[b"PING"], out),
                (Step::Subscribe, _) => {
                    let takes_messages = self.resp3 || setup.purpose == Purpose::Messages;
                    if !takes_messages || setup.channels.is_empty() {
                        self.step = Step::Done;
                        return;
                    }
                    let mut words: Vec<&[u8]> = vec![b"SUBSCRIBE"];
                    words.extend(setup.channels.iter().map(Vec::as_slice));
                    return encode_words(&words, out);
                }
                (Step::Done, _) => return,
            }
        }
    }
}

fn is_unknown(error: &str) -> bool {
    error.to_ascii_lowercase().contains("unknown command")
}

/// Returns whether a server is part of a cluster, if its reply to HELLO says so.
fn is_cluster(hello: &Reply) -> Option<bool> {
    let Reply::Array(parts) = hello else { return None };
    let mode = parts.chunks_exact(2).find(|pair| pair[0].bytes() == Some(b"mode"))?;
    Some(mode[1].bytes() == Some(b"cluster"))
}

fn check_role(reply: &Reply) -> Result<(), String> {
    let Reply::Array(parts) = reply else { return Err("its role is invalid".into()) };
    match parts.first().and_then(Reply::bytes) {
        Some(b"master") => Ok(()),
        Some(role) => Err(format!("it is not a master, its role is {:?}", printable(role))),
        None => Err("its role is invalid".into()),
    }
}

fn line(text: &str) -> String {
    printable(text.as_bytes())
}
