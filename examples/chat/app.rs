//! The application: keeps the list of users and forwards messages. The gateway sends it one request for each event.
//!
//! | request | event | action |
//! |---|---|---|
//! | `GET /connect?NAME&TOKEN` | a user connects | responds with a key and a greeting, or rejects |
//! | `POST /establish` | the user is connected | notifies all users |
//! | `POST /receive` | the user sends a message | sends it to all users |
//! | `POST /close` | the user has disconnected | notifies all users |
//! | `GET /name?NAME&TOKEN` | a page could not connect | responds as to `/connect`, without a key |
//!
//! Each response waits until all users have the message, so a user cannot send faster than the others receive.
//!
//! A page makes a random token. With it, it connects again while its old connection, which it has lost, is still in the
//! list; for all others the name is in use.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use percent_encoding::percent_decode_str;
use uncork::{
    Action, Consumed, Handler, LoopHandle, Request, Response, Ticket, Upload,
    client::{self, Client},
    h1::Headers,
};

const KEY: &str = "X-Kuiperbelt-Session";
const ENDPOINT: &str = "X-Kuiperbelt-Endpoint";

/// The key of a session, written `NAME:NUMBER:TOKEN`. Each connection has its own number, so that the end of an old
/// connection is not taken for the end of a newer one.
#[derive(PartialEq, Eq)]
struct Key {
    name: String,
    number: u64,
    token: String,
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once(':')?;
        let (number, token) = rest.split_once(':')?;
        Some(Self { name: name.to_owned(), number: number.parse().ok()?, token: token.to_owned() })
    }

    /// Returns `true` if this is an older connection of the same page.
    fn is_before(&self, other: &Self) -> bool {
        !self.token.is_empty() && self.token == other.token && self.number < other.number
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.name, self.number, self.token)
    }
}

/// A connected user.
struct User {
    key: Key,
    /// The gateway that has the connection: a close callback does not name it.
    gateway: String,
}

/// One chat.
#[derive(Clone, Default)]
pub(crate) struct Chat {
    /// The users, by name.
    users: Arc<Mutex<BTreeMap<String, User>>>,
    connections: Arc<AtomicU64>,
    client: Client,
}

impl Handler for Chat {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let query = req.query().unwrap_or_default();
        match req.path() {
            "/connect" => return self.connect(query).unwrap_or_else(|rejection| rejection).into(),
            "/name" => return self.check(query).map_or_else(|rejection| rejection, |_| Response::new(200)).into(),
            _ => {}
        }
        let Some(key) = req.header_str(KEY).and_then(Key::parse) else { return Response::new(404).into() };
        match req.path() {
            "/establish" => self.establish(Callback::new(req), key),
            "/receive" => {
                let text = format!("{}: ", key.name).into_bytes();
                Action::Receive(Box::new(Message { chat: self.clone(), callback: Callback::new(req), text }))
            }
            "/close" => self.close(Callback::new(req), &key),
            _ => Response::new(404).into(),
        }
    }
}

impl Chat {
    fn users(&self) -> MutexGuard<'_, BTreeMap<String, User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the key of a new connection, or the response that rejects it.
    fn check(&self, query: &str) -> Result<Key, Response> {
        let (name, token) = query.split_once('&').unwrap_or((query, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        let name = name.trim();
        let is_reserved = |c: char| c.is_control() || matches!(c, ':' | '*');
        let is_token = token.len() <= 64 && token.bytes().all(|b| b.is_ascii_alphanumeric());
        if name.is_empty() || name.chars().count() > 24 || name.contains(is_reserved) || !is_token {
            return Err(Response::text("This name is not allowed.\n").with_status(403));
        }
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let key = Key { name: name.to_owned(), number, token: token.to_owned() };
        match self.users().get(name) {
            Some(user) if !user.key.is_before(&key) => Err(Response::text("This name is in use.\n").with_status(409)),
            _ => Ok(key),
        }
    }

    fn connect(&self, query: &str) -> Result<Response, Response> {
        let key = self.check(query)?;
        let users = self.users();
        let others: Vec<&str> = users.keys().map(String::as_str).filter(|name| *name != key.name).collect();
        let here = match &others[..] {
            [] => "you are the only user".to_owned(),
            others => format!("with you: {}", others.join(", ")),
        };
        Ok(Response::text(format!("* welcome, {}; {here}", key.name)).header(KEY, key.to_string()))
    }

    fn establish(&self, callback: Callback, key: Key) -> Action {
        let (name, gateway) = (key.name.clone(), callback.gateway.clone());
        let mut users = self.users();
        match users.get_mut(&name) {
            // The page has connected again before the end of its old connection was known.
            Some(user) if user.key.is_before(&key) => {
                *user = User { key, gateway };
                Response::new(200).into()
            }
            // Two users have chosen one name at the same time. The gateway closes this connection.
            Some(_) => Response::new(409).into(),
            None => {
                users.insert(name.clone(), User { key, gateway });
                drop(users);
                self.broadcast(callback, format!("* {name} is here"))
            }
        }
    }

    fn close(&self, callback: Callback, key: &Key) -> Action {
        let mut users = self.users();
        if users.get(&key.name).is_none_or(|user| user.key != *key) {
            return Response::new(200).into();
        }
        let gateway = users.remove(&key.name).map(|user| user.gateway).unwrap_or_default();
        drop(users);
        self.broadcast(Callback { gateway, ..callback }, format!("* {} has left", key.name))
    }

    /// Sends a line to all users, then responds to the callback.
    fn broadcast(&self, callback: Callback, line: impl Into<Vec<u8>>) -> Action {
        let users = self.users();
        if users.is_empty() {
            return Response::new(200).into();
        }
        let call = client::Request::post(&format!("http://{}/send", callback.gateway), line.into());
        let call = users.values().fold(call, |call, user| call.header(KEY, user.key.to_string()));
        self.client.send(&callback.loop_handle, call, move |result| {
            // A user that has just disconnected is not an error for the others.
            let status = result.map_or(502, |response| {
                let status = response.status();
                response.discard();
                status
            });
            let _ = callback.ticket.respond(Response::new(status));
        });
        Action::Suspend
    }
}

/// A callback of the gateway, while it waits for its response.
struct Callback {
    ticket: Ticket,
    loop_handle: LoopHandle,
    gateway: String,
}

impl Callback {
    fn new(req: &mut Request<'_>) -> Self {
        let gateway = req.header_str(ENDPOINT).unwrap_or_default().to_owned();
        Self { ticket: req.ticket(), loop_handle: req.loop_handle(), gateway }
    }
}

/// A message, while it is received; the gateway limits its size.
struct Message {
    chat: Chat,
    callback: Callback,
    text: Vec<u8>,
}

impl Upload for Message {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.text.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        self.chat.broadcast(self.callback, self.text)
    }
}
