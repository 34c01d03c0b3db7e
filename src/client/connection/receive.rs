//! Reads the response: interim heads, the final head, and the body.
//!
//! ```text
//!   head ──1xx──▶ head          (100: the body may go out)
//!     ├───3xx────▶ the request is redirected; this body is read and dropped
//!     └──────────▶ Response ──▶ choose: Sink │ Close │ Switch ──▶ body ──▶ End
//! ```

use super::{
    super::{
        Error, Response, Timeout, TooLargePart,
        exchange::Exchange,
        redirect,
        response::{Choice, ResponseChannel, ResponseHead},
        sink::{Sink, Taken},
        upload::Upload,
    },
    Connection, Phase,
    work::{Destination, Work},
};
use crate::{
    api::{Io, LoopHandle, ReadState, Upgrade},
    conn::client::HeadKind,
    h1::{
        HeadLimits, Headers, ParsedResponse, Version,
        chunked::{BodyLimits, Step},
        field_slots,
    },
};

/// The application limits the body; the trailers have fixed limits.
const BODY: BodyLimits = BodyLimits { body: u64::MAX, trailers: 8 * 1024, fields: 100 };

/// The state of the response after reading.
pub(super) enum More {
    /// More input is needed.
    Input,
    /// The application must act: choose, or read from its pipe.
    Elsewhere,
    Complete(Option<Box<Headers>>),
    /// The request was redirected, or its receiver was dropped: the rest is not read.
    Closed,
    Switch(Box<dyn Upgrade>),
}

impl Connection {
    /// Processes the input. The `bool` is `true` if it had body data that the application wants.
    pub(super) fn receive(&mut self, io: &mut Io<'_>) -> Result<(More, bool), Error> {
        let now = io.now();
        let mut progressed = false;
        loop {
            let Phase::Busy(work) = &mut self.phase else { return Ok((More::Closed, progressed)) };
            if work.deadline.is_some_and(|by| by <= now.mono) {
                return Err(Error::TimedOut(Timeout::Total));
            }
            if self.conn.awaits_head() {
                if !self.head(io)? {
                    return match io.rx.state() {
                        ReadState::Open => Ok((More::Input, progressed)),
                        _ => Err(Error::Incomplete { got: 0, of: None }),
                    };
                }
                continue;
            }
            match &mut work.to {
                Destination::Undecided => match work.channel.as_ref().and_then(|channel| channel.chosen()) {
                    Some(choice) => self.choose(choice, io)?,
                    None if io.events().is_error() => return Err(self.cut_off()),
                    None => return Ok((More::Elsewhere, progressed)),
                },
                Destination::Close => return Ok((More::Closed, progressed)),
                Destination::Switch(_) => {
                    let Destination::Switch(upgrade) = std::mem::replace(&mut work.to, Destination::Close) else {
                        continue;
                    };
                    return Ok((More::Switch(upgrade), progressed));
                }
                Destination::Sink(sink) => match self.conn.poll_body(io.rx.bytes(), &BODY).map_err(Error::from_rule)? {
                    Step::Skip(n) => io.rx.consume(n),
                    Step::Data(n) => match sink.take(&io.rx.bytes()[..n], &io.waker())? {
                        Taken::Closed => return Ok((More::Closed, progressed)),
                        Taken::Bytes(0) if io.events().is_error() => return Err(self.cut_off()),
                        Taken::Bytes(0) => return Ok((More::Elsewhere, progressed)),
                        Taken::Bytes(taken) => {
                            io.rx.consume(taken);
                            self.conn.took(taken);
                            progressed |= sink.is_wanted();
                        }
                    },
                    Step::End(n, mut trailers) => {
                        io.rx.consume(n);
                        if let Some(trailers) = &mut trailers {
                            work.listed.iter().for_each(|name| trailers.remove(name));
                        }
                        return Ok((More::Complete(trailers), progressed));
                    }
                    Step::NeedMore => {
                        if sink.is_abandoned() {
                            return Ok((More::Closed, progressed));
                        }
                        match io.rx.state() {
                            ReadState::Open => return Ok((More::Input, progressed)),
                            end if self.conn.handle_end(end == ReadState::Eof) => {
                                return Ok((More::Complete(None), progressed));
                            }
                            _ => return Err(self.cut_off()),
                        }
                    }
                },
            }
        }
    }

    fn cut_off(&self) -> Error {
        let (got, of) = self.conn.progress();
        Error::Incomplete { got, of }
    }

    /// Reads the next head. Returns `false` if it is incomplete.
    fn head(&mut self, io: &mut Io<'_>) -> Result<bool, Error> {
        let Phase::Busy(work) = &mut self.phase else { return Ok(false) };
        let limits: HeadLimits = work.shared.settings.head_limits;
        work.received |= !io.rx.bytes().is_empty();
        // A head in pieces is assembled here: the loop's limit on input may be smaller than the client's.
        let before = self.partial.len();
        if before > 0 {
            let room = limits.head.saturating_add(1).saturating_sub(before);
            self.partial.extend_from_slice(&io.rx.bytes()[..room.min(io.rx.bytes().len())]);
        }
        let mut slots = field_slots();
        let input = if before > 0 { &self.partial[..] } else { io.rx.bytes() };
        let Some((end, head)) = self.conn.poll_head(input, &mut slots, &limits).map_err(Error::from_rule)? else {
            let taken = if before > 0 { self.partial.len() - before } else { io.rx.bytes().len() };
            if before == 0 {
                self.partial.extend_from_slice(io.rx.bytes());
            }
            io.rx.consume(taken);
            return Ok(false);
        };
        let received = self.conn.received_head(&head).map_err(Error::from_rule)?;
        if let HeadKind::Interim(status) = received {
            if status == 100 {
                work.upload.go(&io.waker());
            } else if let Some(fail_receiver) =
                work.exchange.as_mut().and_then(|exchange| exchange.request.interim.as_mut())
            {
                fail_receiver(status, head.fields.to_owned());
            }
        } else {
            deliver(work, &head, received == HeadKind::Switched, io, &self.loop_handle)?;
        }
        io.rx.consume(end - before);
        self.partial = Vec::new();
        Ok(true)
    }

    /// Carries out the application's choice.
    fn choose(&mut self, choice: Choice, io: &Io<'_>) -> Result<(), Error> {
        let announced = self.conn.progress().1;
        let bodiless = self.conn.has_no_body();
        let Phase::Busy(work) = &mut self.phase else { return Ok(()) };
        work.to = match choice {
            Choice::Switch(upgrade) => Destination::Switch(upgrade),
            // There is nothing to read.
            Choice::Close if bodiless => Destination::Sink(Sink::discard()),
            choice => Sink::of(choice, announced, &io.waker()).map_or(Destination::Close, Destination::Sink),
        };
        match &work.to {
            Destination::Sink(sink) if sink.refuses(announced) => Err(Error::TooLarge(TooLargePart::Body)),
            _ => Ok(()),
        }
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
    let unexpected = head.status == 417 && exchange.request.options.expect_continue && !spent;
    let elsewhere = match redirect::follow(&mut exchange, head.status, head.fields, spent) {
        Ok(elsewhere) => elsewhere,
        Err(error) => {
            work.exchange = Some(exchange);
            return Err(error);
        }
    };
    if unexpected || elsewhere {
        exchange.request.options.expect_continue &= !unexpected;
        work.to = Destination::Sink(Sink::discard());
        work.next = Some(exchange);
        return Ok(());
    }
    let Exchange { then, .. } = *exchange;
    let response = ResponseHead {
        status: head.status,
        minor_version: u8::from(head.version == Version::Http11),
        headers: head.fields.to_owned(),
        length: if switched { None } else { head.announced },
    };
    work.listed = head.fields.connection_names();
    let channel = ResponseChannel::new(io.waker(), loop_handle.clone(), switched);
    work.channel = Some(channel.clone());
    then.complete(Ok(Response::new(response, channel)));
    Ok(())
}
