//! Serves one request: it is sent, its timeouts run, and it ends in one of three ways.
//!
//! ```text
//!   serve ──head──▶ busy: receive ─▶ upload ─▶ timeouts ──┐ until woken
//!                    ▲────────────────────────────────────┘
//!                    ├─▶ finish  the response is complete: the connection is free, then the receiver is called
//!                    ├─▶ fail    the receiver gets the error, and the connection is aborted; or the connection was
//!                    │           stale, and a repeat does no harm: the request is sent on a new connection
//!                    └─▶ Switch  to another protocol
//! ```

use std::time::{Duration, Instant};

use log::debug;

use super::{
    super::{
        cancel::Stage,
        error::Error,
        exchange::Pending,
        pool::Permitted,
        request::Content,
        upload::{Pause, Upload},
    },
    conn_state::{ConnState, is_quiet},
    phase::{Phase, Step},
    receive::{Received, receive},
    work::{Destination, Work, fail_receiver},
};
use crate::{
    api::{Io, Upgrade},
    base::{EventMask, Timeout},
    conn::client::RequestSpec,
    h1::{Headers, write::BodyLength},
};

/// How long the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1: "a client
/// SHOULD NOT wait for an indefinite period").
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The progress of a request after a step.
pub(super) enum Progress {
    /// Waits for these events, or until this time.
    Wait(EventMask, Option<Instant>),
    Ended(End),
}

/// The end of a request that has not failed.
pub(super) enum End {
    /// With the trailer fields.
    Complete(Option<Box<Headers>>),
    Switch(Box<dyn Upgrade>),
}

/// Begins to send a request.
pub(super) fn serve(state: &mut ConnState, (mut exchange, permit): Permitted, io: &mut Io<'_>) -> Step {
    let now = io.now();
    if state.used && !is_quiet(io) {
        // It was closed while idle. Nothing of the request was sent, so any request may use a new connection.
        exchange.retried = true;
        permit.connect(Pending::new(exchange, now), now);
        return Step::Close;
    }
    // In this order: a request that is cancelled in between wakes this connection in vain.
    exchange.request.note(|| Some(Stage::Served(io.waker())));
    if exchange.request.is_cancelled() {
        exchange.fail(Error::Cancelled);
        return state.release(permit, now);
    }
    let request = &mut exchange.request;
    let content = match &request.content {
        Content::Memory(bytes) => Content::Memory(bytes.clone()),
        Content::None | Content::Stream(..) => std::mem::replace(&mut request.content, Content::None),
    };
    let length = match &content {
        Content::Memory(bytes) if !request.options.chunked => BodyLength::Known(bytes.as_slice().len() as u64),
        Content::Stream(_, Some(n)) => BodyLength::Known(*n),
        Content::Memory(_) | Content::Stream(..) => BodyLength::Chunked,
        // RFC 9110 §8.6: "A user agent SHOULD send Content-Length in a request when the method defines a meaning for
        // enclosed content and it is not sending Transfer-Encoding."
        Content::None if matches!(&*request.method, "POST" | "PUT" | "PATCH") => BodyLength::Known(0),
        Content::None => BodyLength::None,
    };
    let has_body = !matches!(length, BodyLength::None | BodyLength::Known(0));
    let expect = request.options.expect_continue && has_body;
    let connect = &*request.method == "CONNECT";
    let authority =
        if connect { format!("{}:{}", request.url.host, request.url.port) } else { request.url.authority() };
    let spec = RequestSpec {
        method: &request.method,
        target: if connect { &authority } else { &request.url.target },
        host: request.authority.as_deref().unwrap_or(&authority),
        fields: &request.headers,
        length,
        expect,
        upgrade: request.options.upgrade,
        last: exchange.close || state.stopping,
    };
    if let Err(rule) = state.conn.begin(&spec, io.tx.sink()) {
        exchange.fail(Error::InvalidRequest(rule.to_string()));
        return state.release(permit, now);
    }
    let waker = io.waker();
    let streams = matches!(content, Content::Stream(..));
    let upload = match expect {
        // With a callback, the application waits for the 100 itself.
        true => {
            let default = exchange.request.on_continue.is_none().then_some(CONTINUE_TIMEOUT);
            let timeout = exchange.request.options.continue_timeout.or(default);
            Upload::Held(content, timeout.and_then(|timeout| now.mono.checked_add(timeout)))
        }
        false => {
            // It waited for a 100, and there was a 417.
            if let Some(call) = exchange.request.on_continue.take().filter(|_| has_body) {
                call();
            }
            Upload::of(content, &waker)
        }
    };
    let (options, settings) = (&exchange.request.options, &permit.pool().settings);
    let work = Work {
        reused: std::mem::replace(&mut state.used, true),
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
        permit,
    };
    Step::Become(Phase::Busy(Box::new(work)))
}

/// Receives and sends what is possible.
pub(super) fn busy(state: &mut ConnState, work: &mut Work, io: &mut Io<'_>) -> Result<Progress, Error> {
    let now = io.now();
    if work.exchange.as_ref().is_some_and(|exchange| exchange.request.is_cancelled()) {
        return Err(Error::Cancelled);
    }
    let (mask, received) = match receive(state, work, io)? {
        (Received::NeedsInput, received) => (EventMask::READ | EventMask::EXTERNAL, received),
        (Received::NeedsApplication, received) => (EventMask::EXTERNAL, received),
        (Received::Complete(trailers), _) => return Ok(Progress::Ended(End::Complete(trailers))),
        (Received::Switch(upgrade), _) => return Ok(Progress::Ended(End::Switch(upgrade))),
        (Received::Unwanted, _) => return Err(Error::Cancelled),
    };
    let waker = io.waker();
    if work.upload.is_overdue(now.mono)
        && let Some(call) = work.exchange.as_mut().and_then(|exchange| exchange.request.on_continue.take())
    {
        call();
    }
    let (sent, pause) = work.upload.send(&mut state.conn, &mut io.tx, &mut io.splicer, &waker, now.mono)?;
    let progressed = received || sent > 0;
    let reads = mask.contains(EventMask::READ);
    // The timeouts run only while the client waits for the server.
    let timeout = match pause {
        Pause::Room | Pause::Socket => Some(Timeout::Idle),
        Pause::Pipe | Pause::Held(_) => None,
        Pause::Done if !reads => None,
        Pause::Done if state.conn.awaits_head() => Some(Timeout::Head),
        Pause::Done => Some(Timeout::Idle),
    };
    work.clock = match (timeout, work.clock) {
        (Some(timeout), Some((running, by))) if running == timeout && !progressed => {
            if by <= now.mono {
                return Err(Error::TimedOut(timeout));
            }
            Some((timeout, by))
        }
        (Some(timeout), _) => {
            let limit = if timeout == Timeout::Head { work.head_timeout } else { work.idle_timeout };
            // None: the timeout is beyond what a clock can represent.
            now.mono.checked_add(limit).map(|by| (timeout, by))
        }
        (None, _) => None,
    };
    let held = if let Pause::Held(until) = pause { until } else { None };
    let by = [work.deadline, work.clock.map(|(_, by)| by), held].into_iter().flatten().min();
    let mask = match pause {
        Pause::Room => mask | EventMask::WRITE,
        // With CORK nothing of the output is held back: what follows it is not added to it.
        Pause::Socket => mask | EventMask::WRITE | EventMask::CORK,
        Pause::Done | Pause::Pipe | Pause::Held(_) => mask,
    };
    io.commands.splices_out = pause == Pause::Socket;
    Ok(Progress::Wait(mask, by))
}

/// Ends a complete response. The connection is free before the application is called.
pub(super) fn finish(state: &mut ConnState, work: Work, trailers: Option<Box<Headers>>, io: &Io<'_>) -> Step {
    let Work { to, channel, next, permit, .. } = work;
    let pool = permit.pool().clone();
    let step = if state.conn.is_idle() && is_quiet(io) {
        state.release(permit, io.now())
    } else {
        drop(permit);
        if state.conn.is_sending() { Step::Abort } else { Step::Close }
    };
    if let Some(next) = next {
        pool.start(next, io.now());
    }
    if let Some(on_end) = channel.and_then(|channel| channel.take_on_end()) {
        on_end.complete(Ok(()));
    }
    if let Destination::Sink(sink) = to {
        sink.end(Ok(trailers));
    }
    step
}

/// Reports an error, or sends the request again on a new connection. This connection is aborted.
pub(super) fn fail(state: &ConnState, work: Work, error: Error, io: &Io<'_>) -> Step {
    let Work { exchange, reused, received, mut upload, streams, to, channel, next, permit, .. } = work;
    debug!(target: "uncork::client", "{}: {error}", state.key);
    let Some(mut exchange) = exchange else {
        let pool = permit.pool().clone();
        drop(permit);
        match next {
            Some(next) => pool.start(next, io.now()),
            None => fail_receiver(to, channel, error),
        }
        return Step::Abort;
    };
    // RFC 9112 §9.3.1: a connection may be closed just when it is used again. The request may be repeated once if that
    // does no harm.
    let stale = reused && !received && matches!(error, Error::Incomplete { .. });
    if !stale {
        drop(permit);
        exchange.fail(error);
        return Step::Abort;
    }
    let held = upload.take_held();
    let may_repeat = exchange.request.options.repeatable.unwrap_or_else(|| is_idempotent(&exchange.request.method));
    if exchange.retried || (streams && held.is_none()) || !may_repeat {
        drop(permit);
        exchange.fail(Error::Stale);
        return Step::Abort;
    }
    if let Some(content) = held {
        exchange.request.content = content;
    }
    exchange.retried = true;
    permit.connect(Pending::new(exchange, io.now()), io.now());
    Step::Abort
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}
