//! What a server says to a call: interim heads, the final one, and a body on its way to whoever wants it.
//!
//! ```text
//!   head ──1xx──▶ head          (100: the body may go out)
//!     ├───3xx────▶ the call goes elsewhere; this body is read and thrown away
//!     └──────────▶ Response ──▶ choose: Sink │ Close │ Switch ──▶ body ──▶ End
//! ```

use super::{
    super::{
        Deadline, Error, Response, TooLargePart,
        pool::Exchange,
        redirect,
        response::{Choice, ResponseChannel, ResponseHead},
        sink::{Sink, Took},
        upload::Upload,
    },
    Connection, Phase,
    work::{To, Work},
};
use crate::{
    api::{Io, LoopHandle, ReadState, Upgrade},
    conn::client::Heard,
    h1::{
        HeadLimits, Headers, ParsedResponse, Version,
        chunked::{BodyLimits, Step},
        field_slots,
    },
};

/// The body is whatever the application allows; its trailers are not.
const BODY: BodyLimits = BodyLimits { body: u64::MAX, trailers: 8 * 1024, fields: 100 };

/// Whether the answer goes on.
pub(super) enum More {
    /// More input is needed.
    Input,
    /// Somebody else must act: decide, or make room.
    Elsewhere,
    Whole(Option<Box<Headers>>),
    /// The call went elsewhere with this; nothing of this answer is waited for.
    Over,
    Switch(Box<dyn Upgrade>),
}

impl Connection {
    /// Does what can be done with what has come; whether any of it was body that somebody wants.
    pub(super) fn receive(&mut self, io: &mut Io<'_>) -> Result<(More, bool), Error> {
        let now = io.now();
        let mut moved = false;
        loop {
            let Phase::Busy(work) = &mut self.phase else { return Ok((More::Over, moved)) };
            if work.whole.is_some_and(|by| by <= now.mono) {
                return Err(Error::TimedOut(Deadline::Whole));
            }
            if self.conn.awaits_head() {
                if !self.head(io)? {
                    return match io.rx.state() {
                        ReadState::Open => Ok((More::Input, moved)),
                        _ => Err(Error::Incomplete { got: 0, of: None }),
                    };
                }
                continue;
            }
            match &mut work.to {
                To::Nobody => match work.line.as_ref().and_then(|line| line.chosen()) {
                    Some(choice) => self.choose(choice, io)?,
                    None if io.events().is_error() => return Err(self.cut_off()),
                    None => return Ok((More::Elsewhere, moved)),
                },
                To::Close => return Ok((More::Over, moved)),
                To::Switch(_) => {
                    let To::Switch(upgrade) = std::mem::replace(&mut work.to, To::Close) else { continue };
                    return Ok((More::Switch(upgrade), moved));
                }
                To::Sink(sink) => match self.conn.poll_body(io.rx.bytes(), &BODY).map_err(Error::broken)? {
                    Step::Skip(n) => io.rx.consume(n),
                    Step::Data(n) => match sink.take(&io.rx.bytes()[..n], &io.waker())? {
                        Took::Gone => return Ok((More::Over, moved)),
                        Took::Some(0) if io.events().is_error() => return Err(self.cut_off()),
                        Took::Some(0) => return Ok((More::Elsewhere, moved)),
                        Took::Some(taken) => {
                            io.rx.consume(taken);
                            self.conn.took(taken);
                            moved |= sink.is_wanted();
                        }
                    },
                    Step::End(n, mut trailers) => {
                        io.rx.consume(n);
                        if let Some(trailers) = &mut trailers {
                            work.listed.iter().for_each(|name| trailers.remove(name));
                        }
                        return Ok((More::Whole(trailers), moved));
                    }
                    Step::NeedMore => {
                        if sink.is_abandoned() {
                            return Ok((More::Over, moved));
                        }
                        match io.rx.state() {
                            ReadState::Open => return Ok((More::Input, moved)),
                            end if self.conn.handle_end(end == ReadState::Eof) => {
                                return Ok((More::Whole(None), moved));
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

    /// Reads the next head, if it is whole; whether it was.
    fn head(&mut self, io: &mut Io<'_>) -> Result<bool, Error> {
        let Phase::Busy(work) = &mut self.phase else { return Ok(false) };
        let limits: HeadLimits = work.shared.settings.head;
        work.heard |= !io.rx.bytes().is_empty();
        // A head that comes in pieces is put together here: the loop's limit on input may be smaller than ours.
        let before = self.partial.len();
        if before > 0 {
            let room = limits.head.saturating_add(1).saturating_sub(before);
            self.partial.extend_from_slice(&io.rx.bytes()[..room.min(io.rx.bytes().len())]);
        }
        let mut slots = field_slots();
        let input = if before > 0 { &self.partial[..] } else { io.rx.bytes() };
        let Some((end, head)) = self.conn.poll_head(input, &mut slots, &limits).map_err(Error::broken)? else {
            let taken = if before > 0 { self.partial.len() - before } else { io.rx.bytes().len() };
            if before == 0 {
                self.partial.extend_from_slice(io.rx.bytes());
            }
            io.rx.consume(taken);
            return Ok(false);
        };
        let heard = self.conn.heard(&head).map_err(Error::broken)?;
        if let Heard::Interim(status) = heard {
            if status == 100 {
                work.upload.go(&io.waker());
            } else if let Some(tell) = work.exchange.as_mut().and_then(|exchange| exchange.call.interim.as_mut()) {
                tell(status, head.fields.to_owned());
            }
        } else {
            deliver(work, &head, heard == Heard::Switched, io, &self.here)?;
        }
        io.rx.consume(end - before);
        self.partial = Vec::new();
        Ok(true)
    }

    /// The application has decided.
    fn choose(&mut self, choice: Choice, io: &Io<'_>) -> Result<(), Error> {
        let announced = self.conn.progress().1;
        let bodiless = self.conn.has_no_body();
        let Phase::Busy(work) = &mut self.phase else { return Ok(()) };
        work.to = match choice {
            Choice::Switch(upgrade) => To::Switch(upgrade),
            // There was nothing to be read anyway.
            Choice::Close if bodiless => To::Sink(Sink::discard()),
            choice => Sink::of(choice, announced, &io.waker()).map_or(To::Close, To::Sink),
        };
        match &work.to {
            To::Sink(sink) if sink.refuses(announced) => Err(Error::TooLarge(TooLargePart::Body)),
            _ => Ok(()),
        }
    }
}

/// A final head has come: it may lead elsewhere, or is the application's.
fn deliver(
    work: &mut Work,
    head: &ParsedResponse<'_>,
    switched: bool,
    io: &Io<'_>,
    here: &LoopHandle,
) -> Result<(), Error> {
    let Some(mut exchange) = work.exchange.take() else { return Ok(()) };
    let held = work.upload.take_held();
    let spent = work.streams && held.is_none();
    if let Some(content) = held {
        exchange.call.content = content;
    }
    // RFC 9112 §9.5: whoever is told of an error while sending should stop.
    if head.status >= 400 {
        work.upload = Upload::Done;
    }
    let unexpected = head.status == 417 && exchange.call.options.expect && !spent;
    let elsewhere = match redirect::follow(&mut exchange, head.status, head.fields, spent) {
        Ok(elsewhere) => elsewhere,
        Err(error) => {
            work.exchange = Some(exchange);
            return Err(error);
        }
    };
    if unexpected || elsewhere {
        exchange.call.options.expect &= !unexpected;
        work.to = To::Sink(Sink::discard());
        work.next = Some(exchange);
        return Ok(());
    }
    let Exchange { then, .. } = *exchange;
    let answer = ResponseHead {
        status: head.status,
        minor_version: u8::from(head.version == Version::Http11),
        headers: head.fields.to_owned(),
        length: if switched { None } else { head.announced },
    };
    work.listed = head.fields.connection_names();
    let line = ResponseChannel::new(io.waker(), here.clone(), switched);
    work.line = Some(line.clone());
    then.tell(Ok(Response::new(answer, line)));
    Ok(())
}
