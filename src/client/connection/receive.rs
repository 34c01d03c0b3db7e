//! Reads the response: informational heads (1xx), the final head, and the body.
//!
//! ```text
//!   head ──1xx──▶ head          (100: the body may go out)
//!     ├───3xx────▶ the request is redirected; this body is read and dropped
//!     └──────────▶ Response ──▶ choose: Sink │ Close │ Switch ──▶ body ──▶ End
//! ```

use super::{
    super::{
        error::{Error, TooLargePart},
        exchange::Exchange,
        redirect,
        response::{Choice, Response, ResponseChannel, ResponseHead},
        sink::{Direct, Sink, Taken},
        upload::Upload,
    },
    conn_state::ConnState,
    work::{Destination, Work},
};
use crate::{
    api::{Io, LoopHandle, ReadState, Upgrade},
    base::Timeout,
    conn::client::HeadKind,
    h1::{
        HeadLimits, Headers, ParsedResponse,
        chunked::{BodyLimits, Step},
        field_slots,
    },
};

/// Splices in one call, before other connections have their turn.
const SPLICES: u32 = 8;

/// The application limits the body; the trailers have fixed limits.
const BODY: BodyLimits = BodyLimits { body: u64::MAX, trailers: 8 * 1024, fields: 100 };

/// The state of the response after reading.
pub(super) enum Received {
    NeedsInput,
    /// The application must act: choose, or read from its pipe.
    NeedsApplication,
    /// With the trailer fields.
    Complete(Option<Box<Headers>>),
    /// The request was redirected, or its receiver was dropped: the rest is not read.
    Unwanted,
    Switch(Box<dyn Upgrade>),
}

/// Processes the input. The `bool` is `true` if it had body data that the application wants.
pub(super) fn receive(state: &mut ConnState, work: &mut Work, io: &mut Io<'_>) -> Result<(Received, bool), Error> {
    let now = io.now();
    let (mut progressed, mut spliced, mut at_socket) = (false, 0, false);
    loop {
        if work.deadline.is_some_and(|by| by <= now.mono) {
            return Err(Error::TimedOut(Timeout::Total));
        }
        if state.conn.awaits_head() {
            if !read_head(state, work, io)? {
                return match io.rx.state() {
                    ReadState::Open => Ok((Received::NeedsInput, progressed)),
                    _ => Err(Error::Incomplete { received: 0, expected: None }),
                };
            }
            continue;
        }
        match &mut work.to {
            Destination::Undecided => match work.channel.as_ref().and_then(|channel| channel.chosen()) {
                Some(choice) => choose(state, work, choice, io)?,
                None if io.events().is_error() => return Err(truncated(state)),
                None => return Ok((Received::NeedsApplication, progressed)),
            },
            Destination::Close => return Ok((Received::Unwanted, progressed)),
            Destination::Switch(_) => {
                let Destination::Switch(upgrade) = std::mem::replace(&mut work.to, Destination::Close) else {
                    continue;
                };
                return Ok((Received::Switch(upgrade), progressed));
            }
            Destination::Sink(sink) if io.rx.bytes().is_empty() && !at_socket => {
                at_socket = true;
                match sink.splice(state.conn.direct(), &mut io.splicer) {
                    Direct::Bytes(n) => {
                        state.conn.took(n);
                        progressed = true;
                        spliced += 1;
                        at_socket = false;
                        if spliced == SPLICES && state.conn.direct() > 0 {
                            io.commands.splices_in = true;
                            return Ok((Received::NeedsInput, progressed));
                        }
                    }
                    // Also at the end of the input, which is handled below.
                    Direct::Blocked => io.commands.splices_in = true,
                    Direct::Full if io.events().is_error() => return Err(truncated(state)),
                    Direct::Full => return Ok((Received::NeedsApplication, progressed)),
                    Direct::Closed => return Ok((Received::Unwanted, progressed)),
                    Direct::Copy => {}
                }
            }
            Destination::Sink(sink) => match state.conn.poll_body(io.rx.bytes(), &BODY).map_err(Error::from_rule)? {
                Step::Skip(n) => io.rx.consume(n),
                Step::Data(n) => match sink.take(&io.rx.bytes()[..n], &io.waker())? {
                    Taken::Closed => return Ok((Received::Unwanted, progressed)),
                    Taken::Bytes(0) if io.events().is_error() => return Err(truncated(state)),
                    Taken::Bytes(0) => return Ok((Received::NeedsApplication, progressed)),
                    Taken::Bytes(taken) => {
                        io.rx.consume(taken);
                        state.conn.took(taken);
                        progressed |= sink.is_wanted();
                    }
                },
                Step::End(n, mut trailers) => {
                    io.rx.consume(n);
                    if let Some(trailers) = &mut trailers {
                        work.listed.iter().for_each(|name| trailers.remove(name));
                    }
                    return Ok((Received::Complete(trailers), progressed));
                }
                Step::NeedMore => {
                    if sink.is_abandoned() {
                        return Ok((Received::Unwanted, progressed));
                    }
                    match io.rx.state() {
                        ReadState::Open => return Ok((Received::NeedsInput, progressed)),
                        end if state.conn.handle_end(end == ReadState::Eof) => {
                            return Ok((Received::Complete(None), progressed));
                        }
                        _ => return Err(truncated(state)),
                    }
                }
            },
        }
    }
}

fn truncated(state: &ConnState) -> Error {
    let (received, expected) = state.conn.progress();
    Error::Incomplete { received, expected }
}

/// Reads the next head. Returns `false` if it is incomplete.
fn read_head(state: &mut ConnState, work: &mut Work, io: &mut Io<'_>) -> Result<bool, Error> {
    let limits: HeadLimits = work.permit.pool().settings.head_limits;
    work.received |= !io.rx.bytes().is_empty();
    // A head in pieces is assembled here: the loop's limit on input may be smaller than the client's.
    let before = state.partial.len();
    if before > 0 {
        let room = limits.head.saturating_add(1).saturating_sub(before);
        state.partial.extend_from_slice(&io.rx.bytes()[..room.min(io.rx.bytes().len())]);
    }
    let mut slots = field_slots();
    let input = if before > 0 { &state.partial[..] } else { io.rx.bytes() };
    let Some((end, head)) = state.conn.poll_head(input, &mut slots, &limits).map_err(Error::from_rule)? else {
        let taken = if before > 0 { state.partial.len() - before } else { io.rx.bytes().len() };
        if before == 0 {
            state.partial.extend_from_slice(io.rx.bytes());
        }
        io.rx.consume(taken);
        return Ok(false);
    };
    let received = state.conn.received_head(&head).map_err(Error::from_rule)?;
    if let HeadKind::Informational(status) = received {
        if status == 100 {
            work.upload.start(&io.waker());
            if let Some(call) = work.exchange.as_mut().and_then(|exchange| exchange.request.on_continue.take()) {
                call();
            }
        } else if let Some(call) = work.exchange.as_mut().and_then(|exchange| exchange.request.informational.as_mut()) {
            call(status, head.fields.to_owned());
        }
    } else {
        deliver(work, &head, received == HeadKind::Switched, io, &state.loop_handle)?;
    }
    io.rx.consume(end - before);
    state.partial = Vec::new();
    Ok(true)
}

/// Carries out the application's choice.
fn choose(state: &ConnState, work: &mut Work, choice: Choice, io: &Io<'_>) -> Result<(), Error> {
    let announced = state.conn.progress().1;
    let bodiless = state.conn.has_no_body();
    work.to = match choice {
        Choice::Switch(upgrade) => Destination::Switch(upgrade),
        // There is nothing to read.
        Choice::Close if bodiless => Destination::Sink(Sink::discard()),
        choice => Sink::of(choice, announced, &io.waker()).map_or(Destination::Close, Destination::Sink),
    };
    match &work.to {
        Destination::Sink(sink) if sink.is_too_small_for(announced) => Err(Error::TooLarge(TooLargePart::Body)),
        _ => Ok(()),
    }
}

/// Processes a final head: a redirect, or the response for the application.
fn deliver(
    work: &mut Work,
    head: &ParsedResponse<'_>,
    switched: bool,
    io: &Io<'_>,
    loop_handle: &LoopHandle,
) -> Result<(), Error> {
    let Some(mut exchange) = work.exchange.take() else { return Ok(()) };
    let held = work.upload.take_held();
    let spent = work.streams && held.is_none();
    if let Some(content) = held {
        exchange.request.content = content;
    }
    // RFC 9112 §9.5: a client that receives an error while sending should stop.
    if head.status >= 400 {
        work.upload = Upload::Done;
    }
    let expectation_failed = head.status == 417 && exchange.request.options.expect_continue && !spent;
    let redirected = match redirect::follow(&mut exchange, head.status, head.fields, spent) {
        Ok(redirected) => redirected,
        Err(error) => {
            work.exchange = Some(exchange);
            return Err(error);
        }
    };
    if expectation_failed || redirected {
        exchange.request.options.expect_continue &= !expectation_failed;
        work.to = Destination::Sink(Sink::discard());
        work.next = Some(exchange);
        return Ok(());
    }
    let Exchange { then, .. } = *exchange;
    let response = ResponseHead {
        status: head.status,
        version: head.version,
        headers: head.fields.to_owned(),
        length: if switched { None } else { head.announced },
    };
    work.listed = head.fields.connection_names();
    let channel = ResponseChannel::new(io.waker(), loop_handle.clone(), switched);
    work.channel = Some(channel.clone());
    then.complete(Ok(Response::new(response, channel)));
    Ok(())
}
