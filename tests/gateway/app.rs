//! The application: a real server that records its calls, and responds as the test requires.

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use uncork::{Action, Consumed, Handler, PipeOut, Request, Response, Running, Server, Ticket, Upload, h1::Headers};

use crate::wire::TIMEOUT;

/// A call that the application received.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Call {
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

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} {:?}", self.method, self.path, self.fields, self.body.escape_ascii().to_string())
    }
}

/// The application's reaction to a call.
pub(crate) enum Reaction {
    Respond(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The body comes from a pipe, whose other end the test has.
    Stream(Vec<(&'static str, String)>, PipeOut),
    /// Nothing, until [`App::release`].
    Hang,
    /// Closes the connection.
    Abort,
}

impl Reaction {
    pub(crate) fn status(status: u16) -> Self {
        Self::Respond(status, vec![], vec![])
    }

    /// Accepts the client under this key, with this greeting.
    pub(crate) fn accept(key: &str, greeting: &str) -> Self {
        Self::Respond(200, vec![("X-Kuiperbelt-Session", key.to_owned())], greeting.into())
    }

    fn action(self, suspend: impl FnOnce()) -> Action {
        let with_fields = |response: Response, fields: Vec<(&str, String)>| {
            fields.into_iter().fold(response, |response, (name, value)| response.header(name, value))
        };
        match self {
            Self::Respond(status, fields, body) => with_fields(Response::new(status), fields).body(body).into(),
            Self::Stream(fields, pipe) => with_fields(Response::stream(pipe), fields).into(),
            Self::Abort => Action::Abort,
            Self::Hang => {
                suspend();
                Action::Suspend
            }
        }
    }
}

/// Accepts a client under the key in its query, `key=`, and rejects one without it. Agrees to all other calls.
pub(crate) fn agrees(call: &Call) -> Reaction {
    match call.path.as_str() {
        "/connect" => match call.query.as_deref().and_then(|query| query.strip_prefix("key=")) {
            Some(key) => Reaction::accept(key, ""),
            None => Reaction::status(403),
        },
        _ => Reaction::status(200),
    }
}

type Script = Box<dyn FnMut(&Call) -> Reaction + Send>;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    script: Option<Script>,
    calls: Vec<Call>,
    hanging: Vec<Ticket>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, call: Call, ticket: Ticket) -> Action {
        // Not under the lock: the script may use the test's own state.
        let script = self.state().script.take();
        let Some(mut script) = script else { return Response::new(500).into() };
        let reaction = script(&call);
        let mut state = self.state();
        state.script = Some(script);
        state.calls.push(call);
        let action = reaction.action(|| state.hanging.push(ticket));
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
    pub(crate) fn start(script: impl FnMut(&Call) -> Reaction + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        shared.state().script = Some(Box::new(script));
        let recorder = Recorder(shared.clone());
        let running = Server::bind("127.0.0.1:0").expect("bound").threads(1, recorder).expect("running");
        Self { addr: running.local_addr().expect("an address"), running: Some(running), shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Returns every call of that path so far.
    pub(crate) fn calls(&self, path: &str) -> Vec<Call> {
        self.shared.state().calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// Returns the calls of that path, when there are this many.
    #[track_caller]
    pub(crate) fn wait_for_calls(&self, path: &str, count: usize) -> Vec<Call> {
        let of_path = |state: &State| state.calls.iter().filter(|call| call.path == path).count();
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, TIMEOUT, |state| of_path(state) < count);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let calls: Vec<Call> = state.calls.iter().filter(|call| call.path == path).cloned().collect();
        assert!(calls.len() >= count, "{path}: only {} calls of {count}: {calls:?}", calls.len());
        calls
    }

    /// Responds to the hanging calls, when there are this many, the oldest first.
    #[track_caller]
    pub(crate) fn release(&self, count: usize, status: u16) {
        self.release_with(count, || Reaction::status(status));
    }

    #[track_caller]
    pub(crate) fn release_with(&self, count: usize, reaction: impl Fn() -> Reaction) {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, TIMEOUT, |state| state.hanging.len() < count);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(state.hanging.len() >= count, "only {} hang", state.hanging.len());
        for ticket in state.hanging.drain(..count) {
            // The gateway may have given up this call.
            let _ = ticket.respond(reaction().action(|| ()));
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.state().hanging.clear();
        if let Some(running) = self.running.take() {
            let _ = running.stop_now();
        }
    }
}

#[derive(Clone)]
struct Recorder(Arc<Shared>);

impl Handler for Recorder {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let call = Call {
            method: req.method().into(),
            path: req.path().into(),
            query: req.query().map(Into::into),
            fields: req.headers().iter().map(|(name, value)| (name.to_owned(), text(value))).collect(),
            body: Vec::new(),
        };
        let ticket = req.ticket();
        match req.has_body() {
            true => Action::Receive(Box::new(Body { shared: self.0.clone(), call, ticket })),
            false => self.0.handle(call, ticket),
        }
    }
}

struct Body {
    shared: Arc<Shared>,
    call: Call,
    ticket: Ticket,
}

impl Upload for Body {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.call.body.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _trailers: &Headers) -> Action {
        self.shared.handle(self.call, self.ticket)
    }
}

/// Starts a server that sends these bytes for every call, valid or not, and closes. Returns its URL.
pub(crate) fn raw(response: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("an address");
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(TIMEOUT));
                let (mut head, mut block) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut block) {
                        Ok(n) if n > 0 => head.extend_from_slice(&block[..n]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(response);
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
