//! One request on its connection: it is sent, its timeouts run, and it ends in one of three ways.
//!
//! ```text
//!   serve ──head──▶ busy: receive ─▶ upload ─▶ clocks ──┐ until woken
//!                    ▲──────────────────────────────────┘
//!                    ├─▶ finish       the response is complete: the connection is free, then the receiver is called
//!                    ├─▶ fail         the receiver gets the error; the connection is aborted
//!                    └─▶ begin_again  the connection was stale, and a repeat does no harm: sent on a new connection
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use log::debug;

use super::{
    super::{
        Error, Timeout,
        cancel::Stage,
        connect,
        exchange::{Exchange, Pending},
        pool::{self, Shared},
        request::Content,
        response::ResponseChannel,
        sink::Sink,
        upload::{Pause, Upload},
    },
    Connection, Go, Phase, is_quiet,
    receive::More,
};
use crate::{
    api::{Io, Upgrade},
    base::{EventMask, Moment},
    conn::client::RequestSpec,
    h1::{Headers, write::BodyLength},
};

/// How long the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1: "a client
/// SHOULD NOT wait for an indefinite period").
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of one request.
pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    /// Until the response's head has been received.
    pub(super) exchange: Option<Box<Exchange>>,
    /// The connection has served another request before.
    pub(super) reused: bool,
    /// Bytes of the response have been received.
    pub(super) received: bool,
    pub(super) upload: Upload,
    /// The request's body is a stream.
    pub(super) streams: bool,
    pub(super) to: Destination,
    pub(super) channel: Option<Arc<ResponseChannel>>,
    /// Names that the response's `Connection` lists: trailers of these names end here.
    pub(super) listed: Vec<Box<str>>,
    /// The redirected or repeated request, to be sent at the end of this response.
    pub(super) next: Option<Box<Exchange>>,
    pub(super) deadline: Option<Instant>,
    pub(super) head_timeout: Duration,
    pub(super) idle_timeout: Duration,
    /// The running timeout and its deadline.
    pub(super) clock: Option<(Timeout, Instant)>,
}

/// The destination of the response's body.
pub(super) enum Destination {
    /// None yet: there is no head, or the application has not chosen.
    Undecided,
    Sink(Sink),
    /// None: the connection is closed.
    Close,
    Switch(Box<dyn Upgrade>),
}

impl Connection {
    pub(super) fn serve(&mut self, mut exchange: Box<Exchange>, io: &mut Io<'_>) -> Go {
        self.phase = Phase::Closed;
        if self.used && !is_quiet(io) {
            // It was closed while idle. Nothing of the request was sent, so any request may use a new connection.
            exchange.retried = true;
            return self.begin_again(exchange, io.now());
        }
        // In this order: a request that is cancelled in between wakes this connection in vain.
        exchange.request.note(|| Some(Stage::Served(io.waker())));
        if exchange.request.is_cancelled() {
            exchange.fail(Error::Cancelled);
            return self.release(io);
        }
        let request = &mut exchange.request;
        let content = match &request.content {
            Content::Full(bytes) => Content::Full(bytes.clone()),
            Content::None | Content::Stream(..) => std::mem::replace(&mut request.content, Content::None),
        };
        let length = match &content {
            Content::Full(bytes) if !request.options.chunked => BodyLength::Known(bytes.as_slice().len() as u64),
            Content::Stream(_, Some(n)) => BodyLength::Known(*n),
            Content::Full(_) | Content::Stream(..) => BodyLength::Chunked,
            // RFC 9110 §8.6: "A user agent SHOULD send Content-Length in a request when the method defines a meaning for
            // enclosed content and it is not sending Transfer-Encoding."
            Content::None if matches!(&*request.method, "POST" | "PUT" | "PATCH") => BodyLength::Known(0),
            Content::None => BodyLength::None,
        };
        let expect = request.options.expect_continue && !matches!(length, BodyLength::None | BodyLength::Known(0));
        let connect = &*request.method == "CONNECT";
        let authority =
            if connect { format!("{}:{}", request.url.host, request.url.port) } else { request.url.authority() };
        let spec = RequestSpec {
            method: &request.method,
            target: if connect { &authority } else { &request.url.target },
            host: request.host.as_deref().unwrap_or(&authority),
            fields: &request.headers,
            length,
            expect,
            upgrade: request.options.upgrade,
            last: exchange.close || self.stopping,
        };
        if let Err(rule) = self.conn.begin(&spec, io.tx.sink()) {
            exchange.fail(Error::InvalidRequest(rule.to_string()));
            return self.release(io);
        }
        let (waker, now) = (io.waker(), io.now().mono);
        let streams = matches!(content, Content::Stream(..));
        let upload = match expect {
            true => Upload::Held(content, now + CONTINUE_TIMEOUT),
            false => Upload::of(content, &waker),
        };
        let (options, settings) = (&exchange.request.options, &exchange.shared.settings);
        self.phase = Phase::Busy(Box::new(Work {
            shared: exchange.shared.clone(),
            reused: std::mem::replace(&mut self.used, true),
            received: false,
            upload,
            streams,
            to: Destination::Undecided,
            channel: None,
            listed: Vec::new(),
            next: None,
            deadline: exchange.deadline,
            head_timeout: options.head_timeout.unwrap_or(settings.head_timeout),
            idle_timeout: options.idle_timeout.unwrap_or(settings.idle_timeout),
            clock: None,
            exchange: Some(exchange),
        }));
        Go::On
    }

    /// Sends the request on a new connection, with the permit of this one.
    fn begin_again(&mut self, exchange: Box<Exchange>, now: Moment) -> Go {
        match self.permit.take() {
            Some(permit) => connect::begin(Pending::new(exchange, now), permit, now),
            None => pool::start(exchange, now),
        }
        Go::Close
    }

    /// Returns `true` if the request was cancelled before its response.
    fn is_cancelled(&self) -> bool {
        matches!(&self.phase, Phase::Busy(work) if work.exchange.as_ref().is_some_and(|x| x.request.is_cancelled()))
    }

    pub(super) fn busy(&mut self, io: &mut Io<'_>) -> Go {
        let now = io.now();
        if self.is_cancelled() {
            return self.fail(io, Error::Cancelled);
        }
        let (mask, progressed) = match self.receive(io) {
            Ok((More::Input, progressed)) => (EventMask::READ | EventMask::EXTERNAL, progressed),
            Ok((More::Elsewhere, progressed)) => (EventMask::EXTERNAL, progressed),
            Ok((More::Complete(trailers), _)) => return self.finish(io, trailers),
            Ok((More::Switch(upgrade), _)) => return self.hand_over(io, upgrade),
            Ok((More::Closed, _)) => return self.fail(io, Error::Cancelled),
            Err(error) => return self.fail(io, error),
        };
        let Phase::Busy(work) = &mut self.phase else { return Go::Close };
        let waker = io.waker();
        let (progressed, pause) = match work.upload.send(&mut self.conn, &mut io.tx, &waker, now.mono) {
            Ok((sent, pause)) => (progressed || sent > 0, pause),
            Err(error) => return self.fail(io, error),
        };
        let reads = mask.contains(EventMask::READ);
        // The timeouts run only while the client waits for the server.
        let deadline = match pause {
            Pause::Room => Some(Timeout::Idle),
            Pause::Pipe | Pause::Held(_) => None,
            Pause::Done if !reads => None,
            Pause::Done if self.conn.awaits_head() => Some(Timeout::Head),
            Pause::Done => Some(Timeout::Idle),
        };
        work.clock = match (deadline, work.clock) {
            (Some(which), Some((running, by))) if running == which && !progressed => {
                if by <= now.mono {
                    return self.fail(io, Error::TimedOut(which));
                }
                Some((which, by))
            }
            (Some(which), _) => {
                let time = if which == Timeout::Head { work.head_timeout } else { work.idle_timeout };
                // None: the timeout is beyond what a clock can represent.
                now.mono.checked_add(time).map(|by| (which, by))
            }
            (None, _) => None,
        };
        let held = if let Pause::Held(until) = pause { Some(until) } else { None };
        let by = [work.deadline, work.clock.map(|(_, by)| by), held].into_iter().flatten().min();
        let mask = if pause == Pause::Room { mask | EventMask::WRITE } else { mask };
        Go::Wait(mask, by)
    }

    /// Ends a complete response. The connection is free before the application is called.
    fn finish(&mut self, io: &mut Io<'_>, trailers: Option<Box<Headers>>) -> Go {
        let Phase::Busy(work) = std::mem::replace(&mut self.phase, Phase::Closed) else { return Go::Close };
        let go = if !self.conn.is_idle() {
            self.permit = None;
            if self.conn.is_sending() { Go::Abort } else { Go::Close }
        } else if is_quiet(io) {
            self.release(io)
        } else {
            self.permit = None;
            Go::Close
        };
        let Work { to, channel, next, .. } = *work;
        if let Some(next) = next {
            pool::start(next, io.now());
        }
        if let Some(on_end) = channel.and_then(|channel| channel.take_on_end()) {
            on_end.complete(Ok(()));
        }
        if let Destination::Sink(sink) = to {
            sink.end(Ok(trailers));
        }
        go
    }

    fn fail(&mut self, io: &Io<'_>, error: Error) -> Go {
        let Phase::Busy(work) = std::mem::replace(&mut self.phase, Phase::Closed) else { return Go::Abort };
        let Work { exchange, reused, received, mut upload, streams, to, channel, next, .. } = *work;
        debug!(target: "uncork::client", "{:?}: {error}", self.key);
        let Some(mut exchange) = exchange else {
            self.permit = None;
            match next {
                Some(next) => pool::start(next, io.now()),
                None => fail_receiver(to, channel, error),
            }
            return Go::Abort;
        };
        // RFC 9112 §9.3.1: a connection may be closed just when it is used again. The request may be repeated once if that
        // does no harm.
        let stale = reused && !received && matches!(error, Error::Incomplete { .. });
        if !stale {
            self.permit = None;
            exchange.fail(error);
            return Go::Abort;
        }
        let held = upload.take_held();
        let may_repeat = exchange.request.options.repeatable.unwrap_or_else(|| is_idempotent(&exchange.request.method));
        if exchange.retried || (streams && held.is_none()) || !may_repeat {
            self.permit = None;
            exchange.fail(Error::Stale);
            return Go::Abort;
        }
        if let Some(content) = held {
            exchange.request.content = content;
        }
        exchange.retried = true;
        self.begin_again(exchange, io.now());
        Go::Abort
    }
}

/// Reports the error to the receiver of the rest of a response.
pub(super) fn fail_receiver(to: Destination, channel: Option<Arc<ResponseChannel>>, error: Error) {
    let choice = channel.as_ref().and_then(|channel| channel.is_over(error.clone()));
    if let Some(on_end) = channel.and_then(|channel| channel.take_on_end()) {
        on_end.complete(Err(error.clone()));
    }
    match (to, choice) {
        (Destination::Sink(sink), _) => sink.end(Err(error)),
        (_, Some(choice)) => choice.fail(error),
        (Destination::Undecided | Destination::Close | Destination::Switch(_), None) => {}
    }
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}
