//! The application: a real server that records its calls, and responds as the test requires.

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use uncork::{Action, Consumed, Handler, PipeOut, Request, Response, Running, Server, Ticket, Upload, h1::Headers};

use crate::wire::PATIENCE;

/// A call that the application received.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    /// Returns all values of that name, joined by bars.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let values = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let values: Vec<&str> = values.collect();
        (!values.is_empty()).then(|| values.join("|"))
    }

    pub(crate) fn key(&self) -> String {
        self.get("X-Kuiperbelt-Session").unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} {:?}", self.method, self.path, self.fields, self.body.escape_ascii().to_string())
    }
}

/// The application's reaction to a call.
pub(crate) enum Say {
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The body comes from a pipe, whose other end the test has.
    Stream(Vec<(&'static str, String)>, PipeOut),
    /// Nothing, until [`App::release`].
    Hang,
    /// Closes the connection.
    Abort,
}

impl Say {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, vec![], vec![])
    }

    /// Accepts the client under this key, with this greeting.
    pub(crate) fn welcome(key: &str, hello: &str) -> Self {
        Self::Answer(200, vec![("X-Kuiperbelt-Session", key.to_owned())], hello.into())
    }

    fn action(self, ticket: impl FnOnce()) -> Action {
        let dress = |response: Response, fields: Vec<(&str, String)>| {
            fields.into_iter().fold(response, |response, (name, value)| response.header(name, value))
        };
        match self {
            Self::Answer(status, fields, body) => dress(Response::new(status), fields).body(body).into(),
            Self::Stream(fields, pipe) => dress(Response::stream(pipe), fields).into(),
            Self::Abort => Action::Abort,
            Self::Hang => {
                ticket();
                Action::Suspend
            }
        }
    }
}

/// The key is the client's query behind `key=`; without one, the client is rejected.
pub(crate) fn polite(heard: &Heard) -> Say {
    match heard.path.as_str() {
        "/connect" => match heard.query.as_deref().and_then(|query| query.strip_prefix("key=")) {
            Some(key) => Say::welcome(key, ""),
            None => Say::status(403),
        },
        _ => Say::status(200),
    }
}

type Script = Box<dyn FnMut(&Heard) -> Say + Send>;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    script: Option<Script>,
    heard: Vec<Heard>,
    hanging: Vec<Ticket>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, heard: Heard, ticket: Ticket) -> Action {
        // The reaction may cause the test to look here.
        let script = self.state().script.take();
        let Some(mut script) = script else { return Response::new(500).into() };
        let say = script(&heard);
        let mut state = self.state();
        state.script = Some(script);
        state.heard.push(heard);
        let action = say.action(|| state.hanging.push(ticket));
        self.changed.notify_all();
        action
    }
}

pub(crate) struct App {
    shared: Arc<Shared>,
    running: Option<Running>,
    addr: SocketAddr,
}

impl App {
    /// On one loop, so that calls are recorded in order of arrival.
    pub(crate) fn start(script: impl FnMut(&Heard) -> Say + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        shared.state().script = Some(Box::new(script));
        let listener = Listener(shared.clone());
        let running = Server::bind("127.0.0.1:0").expect("bound").threads(1, listener).expect("running");
        Self { addr: running.local_addr().expect("an address"), running: Some(running), shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Returns every call of that path so far.
    pub(crate) fn heard(&self, path: &str) -> Vec<Heard> {
        self.shared.state().heard.iter().filter(|heard| heard.path == path).cloned().collect()
    }

    /// Returns the calls of that path, when there are this many.
    #[track_caller]
    pub(crate) fn hears(&self, path: &str, count: usize) -> Vec<Heard> {
        let of_path = |state: &State| state.heard.iter().filter(|heard| heard.path == path).count();
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| of_path(state) < count);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let heard: Vec<Heard> = state.heard.iter().filter(|heard| heard.path == path).cloned().collect();
        assert!(heard.len() >= count, "{path}: only {} calls of {count}: {heard:?}", heard.len());
        heard
    }

    /// Responds to the hanging calls, when there are this many, the oldest first.
    #[track_caller]
    pub(crate) fn release(&self, count: usize, status: u16) {
        self.release_with(count, || Say::status(status));
    }

    #[track_caller]
    pub(crate) fn release_with(&self, count: usize, say: impl Fn() -> Say) {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| state.hanging.len() < count);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(state.hanging.len() >= count, "only {} hang", state.hanging.len());
        for ticket in state.hanging.drain(..count) {
            // The gateway may have given up this call.
            let _ = ticket.respond(say().action(|| ()));
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.state().hanging.clear();
        if let Some(running) = self.running.take() {
            let _ = running.stop();
        }
    }
}

#[derive(Clone)]
struct Listener(Arc<Shared>);

impl Handler for Listener {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let heard = Heard {
            method: req.method().into(),
            path: req.path().into(),
            query: req.query().map(Into::into),
            fields: req.headers().iter().map(|(name, value)| (name.to_owned(), text(value))).collect(),
            body: Vec::new(),
        };
        let ticket = req.ticket();
        match req.has_body() {
            true => Action::Receive(Box::new(Body { shared: self.0.clone(), heard, ticket })),
            false => self.0.hear(heard, ticket),
        }
    }
}

struct Body {
    shared: Arc<Shared>,
    heard: Heard,
    ticket: Ticket,
}

impl Upload for Body {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.heard.body.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        self.shared.hear(self.heard, self.ticket)
    }
}

/// Starts a server that sends these bytes for every call, valid or not, and closes. Returns its URL.
pub(crate) fn raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let (mut head, mut block) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut block) {
                        Ok(n) if n > 0 => head.extend_from_slice(&block[..n]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(answer);
            });
        }
    });
    format!("http://{addr}/connect")
}

/// Returns an address without a listener.
pub(crate) fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    format!("http://{}/connect", listener.local_addr().expect("an address"))
}
