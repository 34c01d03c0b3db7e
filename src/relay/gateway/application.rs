//! Calls to the application.
//!
//! | callback | request | who waits for it |
//! |---|---|---|
//! | connect | the client's own, but for what concerns its connection | the client's handshake |
//! | establish | `POST`, empty | the session: nothing is sent or passed on before |
//! | receive | `POST`, chunked, a message | the client's next message |
//! | close | `POST`, empty | nobody |

use std::time::Duration;

use uncork::{
    Loop, Request,
    client::{Answer, Call, Client, Error, Whole},
    h1::Headers,
};

use super::{GatewayConfig, registry::Key};

/// Tells the application how to reach the gateway that calls it.
const ENDPOINT: &str = "X-Kuiperbelt-Endpoint";

/// What a call without a time limit may take all the same, so that nothing stays for ever.
const FOREVER: Duration = Duration::from_secs(3600);

/// Connections to an application: many calls may wait in it, and must not be in the others' way.
const CONNECTIONS: usize = 4096;
/// Connections kept while nothing is called, and for how long; as the original.
const IDLE: (usize, Duration) = (32, Duration::from_secs(10));
/// One call in so long is told that its connection closes, so that load balancers can balance.
const ROTATE: Duration = Duration::from_secs(10);
/// As the original.
const REDIRECTS: u8 = 10;

/// Fields of a client's request that concern its own connection, or are written anew.
const NOT_PASSED_ON: &[&str] = &[
    "connection",
    "upgrade",
    "host",
    "content-length",
    "transfer-encoding",
    "expect",
    "te",
    "trailer",
    "proxy-connection",
];

pub(super) struct Application {
    client: Client,
}

/// What the application has said of a client that wants to connect.
pub(super) enum Verdict {
    /// It may, under this key; the body greets it.
    Welcome(Key, Whole),
    /// It may not: the answer is to be passed on.
    No(Whole),
    /// It may, but nobody knows as whom.
    Nameless,
    /// It could not be asked.
    Unreachable(Error),
    /// It is nowhere to be asked: the URL is none.
    Nowhere(Error),
}

impl Application {
    pub(super) fn new(config: &GatewayConfig) -> Self {
        let waiting = config.limits.sessions.saturating_mul(2).max(1024);
        let client = Client::builder()
            .connections(CONNECTIONS)
            .queue(waiting)
            .idle(IDLE.0)
            .idle_time(IDLE.1)
            .rotate(ROTATE)
            .redirects(REDIRECTS)
            .build();
        Self { client }
    }

    /// The call that asks whether a client may connect.
    pub(super) fn connect_call(&self, config: &GatewayConfig, req: &Request<'_>) -> Call {
        let base = config.callback.connect.split(['?', '#']).next().unwrap_or_default();
        let url = match req.query() {
            Some(query) if !query.is_empty() => format!("{base}?{query}"),
            _ => base.to_owned(),
        };
        let mut headers = Headers::new();
        for (name, value) in req.headers().iter() {
            let websocket = name.get(..13).is_some_and(|start| start.eq_ignore_ascii_case("sec-websocket"));
            if !websocket && !NOT_PASSED_ON.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                // What was a field's value once still is.
                let _ = headers.append(name, value);
            }
        }
        set(&mut headers, config);
        // Not beside one of the client's own: who reads the first must not be led elsewhere by it.
        let _ = headers.insert(ENDPOINT, &config.endpoint);
        timed(Call::new(req.method(), &url).headers(&headers), config.callback.timeout)
    }

    /// Asks; `then` is called on the loop `here`.
    pub(super) fn connect(
        &self,
        config: &GatewayConfig,
        here: &Loop,
        call: Call,
        then: impl FnOnce(Verdict) + Send + 'static,
    ) {
        let (limit, header) = (config.limits.answer, config.session_header.clone());
        self.client.fetch(here, call, limit, move |whole| then(verdict(whole, &header)));
    }

    /// Tells that a client is connected; `then` hears whether the application agrees.
    pub(super) fn establish(
        &self,
        config: &GatewayConfig,
        here: &Loop,
        key: &Key,
        then: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let mut headers = about(key, config);
        let _ = headers.insert(ENDPOINT, &config.endpoint);
        self.tell(here, &config.callback.establish, &headers, config.callback.timeout, then);
    }

    /// Passes a message on; `then` hears whether the application has taken it.
    pub(super) fn receive(
        &self,
        config: &GatewayConfig,
        here: &Loop,
        key: &Key,
        text: bool,
        message: Vec<u8>,
        then: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let call = Call::post(&config.callback.receive, message)
            .chunked()
            .header("Content-Type", if text { "text/plain" } else { "application/octet-stream" })
            .header(&config.session_header, key)
            .header(ENDPOINT, &config.endpoint);
        self.client.send(here, timed(call, config.callback.timeout), move |answer| then(agreed(answer)));
    }

    /// Tells that a client is gone.
    pub(super) fn close(
        &self,
        config: &GatewayConfig,
        here: &Loop,
        key: &Key,
        then: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        self.tell(here, &config.callback.close, &about(key, config), None, then);
    }

    fn tell(
        &self,
        here: &Loop,
        url: &str,
        headers: &Headers,
        timeout: Option<Duration>,
        then: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        // To be told twice does no harm.
        let call = Call::post(url, "").headers(headers).repeatable(true);
        self.client.send(here, timed(call, timeout), move |answer| then(agreed(answer)));
    }
}

/// The fields of a call about the session of this key.
fn about(key: &Key, config: &GatewayConfig) -> Headers {
    let mut headers = Headers::new();
    let _ = headers.append(&config.session_header, key);
    set(&mut headers, config);
    headers
}

/// What the configuration adds and takes away.
fn set(headers: &mut Headers, config: &GatewayConfig) {
    for (name, value) in &config.proxy_set_header {
        match value.is_empty() {
            true => headers.remove(name),
            // Checked when the gateway was made.
            false => drop(headers.insert(name, value)),
        }
    }
}

/// With its time limits: one for the whole, and none within it.
fn timed(call: Call, timeout: Option<Duration>) -> Call {
    let most = timeout.unwrap_or(FOREVER);
    call.deadline(most).connect_within(most).head_within(most).idle_within(most)
}

/// 200 is a yes. The body does not matter; it is read so that the connection can be used again.
fn agreed(answer: Result<Answer, Error>) -> Result<(), String> {
    match answer {
        Ok(answer) => {
            let status = answer.status();
            answer.discard();
            if status == 200 { Ok(()) } else { Err(format!("the application answered {status}")) }
        }
        Err(error) => Err(error.to_string()),
    }
}

fn verdict(whole: Result<Whole, Error>, header: &str) -> Verdict {
    match whole {
        Ok(whole) if whole.status != 200 => Verdict::No(whole),
        Ok(whole) => match whole.headers.get(header).filter(|key| !key.is_empty()).map(Key::from) {
            Some(key) => Verdict::Welcome(key, whole),
            None => Verdict::Nameless,
        },
        Err(error @ (Error::Url(_) | Error::Call(_))) => Verdict::Nowhere(error),
        Err(error) => Verdict::Unreachable(error),
    }
}
