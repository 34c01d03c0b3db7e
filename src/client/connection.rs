//! One connection to a server: an [`Upgrade`] around the machine of `conn/client`.
//!
//! ```text
//!   New ──▶ Busy ──head──▶ (Answer: what shall become of the body?) ──end──▶ Idle ──given a call──▶ Busy
//!             │                                                                └─FIN, bytes, time─▶ Over
//!             ├──broken, late, cut off──▶ Over, and whoever waits is told
//!             └──101, CONNECT──▶ Handed: another Upgrade speaks
//! ```
//!
//! Everything happens in one call of [`ready`](Upgrade::ready): what has come is read, what can be sent is written, and
//! the mask says what is waited for. Back-pressure is a mask without READ.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use log::debug;

use super::{
    Answer, Deadline, Error,
    answer::{AnswerHead, Choice, Line},
    call::Content,
    connect,
    pool::{self, Exchange, Key, Next, Pending, Place, Shared},
    redirect,
    seat::{Left, Seat},
    sink::{Sink, Took},
    upload::{Pause, Upload},
};
use crate::{
    api::{Io, Loop, RxEnd, Upgrade, Waker, Why},
    base::{EventMask, Moment},
    conn::client::{Ask, ClientConn, Heard},
    h1::{
        HeadLimits, Headers, ParsedResponse, Version,
        chunked::{BodyLimits, Step},
        field_slots,
        write::BodyLength,
    },
};

/// How long a server may take to say `100 Continue` before the body is sent all the same (RFC 9110 §10.1.1: "a client
/// SHOULD NOT wait for an indefinite period").
const CONTINUE_WITHIN: Duration = Duration::from_secs(1);

/// The body is whatever the application allows; its trailers are not.
const BODY: BodyLimits = BodyLimits { body: u64::MAX, trailers: 8 * 1024, fields: 100 };

pub(super) struct Connection {
    here: Loop,
    shared: Weak<Shared>,
    key: Key,
    seat: Arc<Seat>,
    place: Option<Place>,
    conn: ClientConn,
    /// The beginning of a head that is not whole yet.
    partial: Vec<u8>,
    phase: Phase,
    /// It has waited, or served a call.
    used: bool,
    stopping: bool,
}

enum Phase {
    New(Option<Box<Exchange>>),
    Busy(Box<Work>),
    /// Until then.
    Idle(Option<Instant>),
    Handed(Box<dyn Upgrade>),
    Over,
}

/// What is under way for one call.
struct Work {
    shared: Arc<Shared>,
    /// Until the answer's head is there.
    exchange: Option<Box<Exchange>>,
    /// The connection had served another call before.
    reused: bool,
    /// Something of an answer has come.
    heard: bool,
    upload: Upload,
    /// The request's body is a stream.
    streams: bool,
    to: To,
    line: Option<Arc<Line>>,
    /// What the call has become: to be made when this answer is out of the way.
    next: Option<Box<Exchange>>,
    whole: Option<Instant>,
    head_within: Duration,
    idle_within: Duration,
    /// What runs now, and until when.
    clock: Option<(Deadline, Instant)>,
}

/// Where what comes goes to.
enum To {
    /// To nobody yet: the head is not there, or what it announces is still to be decided on.
    Nobody,
    Sink(Sink),
    /// Not even to be read: the connection is closed.
    Close,
    Switch(Box<dyn Upgrade>),
}

/// How it goes on after a step.
enum Go {
    On,
    Wait(EventMask, Option<Instant>),
    /// Closes in order.
    Close,
    /// Breaks off.
    Break,
}

/// Whether the answer goes on.
enum More {
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
    /// A connection that stands, for this call; or for the next, if this one's time was up just now. `None` if nobody is
    /// there to want it.
    pub(super) fn new(here: Loop, waker: Waker, place: Place, exchange: Option<Box<Exchange>>) -> Option<Self> {
        let (shared, key) = place.whose()?;
        let seat = Seat::new(here.clone(), waker);
        Some(Self {
            here,
            shared,
            key,
            seat,
            place: Some(place),
            conn: ClientConn::new(),
            partial: Vec::new(),
            phase: Phase::New(exchange),
            used: false,
            stopping: false,
        })
    }

    fn step(&mut self, io: &mut Io<'_>) -> Go {
        match &mut self.phase {
            Phase::New(exchange) => match exchange.take() {
                Some(exchange) => self.serve(exchange, io),
                None => self.release(io),
            },
            Phase::Busy(_) => self.busy(io),
            Phase::Idle(until) => {
                let until = *until;
                self.idle(io, until)
            }
            Phase::Handed(_) | Phase::Over => Go::Close,
        }
    }

    // Idle.

    fn idle(&mut self, io: &mut Io<'_>, until: Option<Instant>) -> Go {
        match self.seat.look() {
            Ok(Some((exchange, place))) => {
                self.place = Some(place);
                return self.serve(exchange, io);
            }
            Ok(None) => {}
            Err(()) => return Go::Close,
        }
        if !is_quiet(io) || self.stopping || until.is_some_and(|until| until <= io.now().mono) {
            if !io.rx.bytes().is_empty() {
                debug!(target: "uncork::client", "{:?}: the server talks unasked", self.key);
            }
            if let Some((exchange, place)) = self.leave() {
                self.place = Some(place);
                return self.serve(exchange, io);
            }
            return Go::Close;
        }
        Go::Wait(EventMask::READ | EventMask::EXTERNAL, until)
    }

    /// Gives up its seat; a call that was left in it just now is to be served nevertheless.
    fn leave(&mut self) -> Option<(Box<Exchange>, Place)> {
        let left = match self.shared.upgrade() {
            Some(shared) => shared.leave(&self.key, &self.seat),
            None => self.seat.leave(),
        };
        match left {
            Left::With(exchange, place) => Some((exchange, place)),
            Left::Alone(_) => None,
        }
    }

    /// Free for another call.
    fn release(&mut self, io: &Io<'_>) -> Go {
        self.used = true;
        let next = match self.shared.upgrade() {
            Some(shared) if !self.stopping => {
                let until = io.now().mono.checked_add(shared.settings.idle_time);
                self.phase = Phase::Idle(until);
                shared.release(&self.key, &self.seat, &mut self.place, &self.here)
            }
            _ => Next::Close,
        };
        match next {
            Next::Wait => Go::On,
            Next::Serve(exchange) => {
                self.phase = Phase::New(Some(exchange));
                Go::On
            }
            Next::Close => {
                self.phase = Phase::Over;
                self.place = None;
                Go::Close
            }
        }
    }

    // The request.

    fn serve(&mut self, mut exchange: Box<Exchange>, io: &mut Io<'_>) -> Go {
        self.phase = Phase::Over;
        if self.used && !is_quiet(io) {
            // It was closed while it waited: nothing of the request was sent, and any may go on a new connection.
            exchange.again = true;
            return self.begin_again(exchange, io.now());
        }
        let call = &mut exchange.call;
        let content = match &call.content {
            Content::Whole(bytes) => Content::Whole(bytes.clone()),
            Content::None | Content::Stream(..) => std::mem::replace(&mut call.content, Content::None),
        };
        let length = match &content {
            Content::Whole(bytes) if !call.options.chunked => BodyLength::Known(bytes.as_slice().len() as u64),
            Content::Stream(_, Some(n)) => BodyLength::Known(*n),
            Content::Whole(_) | Content::Stream(..) => BodyLength::Chunked,
            // RFC 9110 §8.6: "A user agent SHOULD send Content-Length in a request when the method defines a meaning for
            // enclosed content and it is not sending Transfer-Encoding."
            Content::None if matches!(&*call.method, "POST" | "PUT" | "PATCH") => BodyLength::Known(0),
            Content::None => BodyLength::None,
        };
        let expect = call.options.expect && !matches!(length, BodyLength::None | BodyLength::Known(0));
        let connect = &*call.method == "CONNECT";
        let authority = if connect { format!("{}:{}", call.url.host, call.url.port) } else { call.url.authority() };
        let ask = Ask {
            method: &call.method,
            target: if connect { &authority } else { &call.url.target },
            host: call.host.as_deref().unwrap_or(&authority),
            fields: &call.headers,
            length,
            expect,
            upgrade: call.options.upgrade,
            last: exchange.close || self.stopping,
        };
        if let Err(rule) = self.conn.begin(&ask, io.tx.out) {
            exchange.fail(Error::Call(rule.to_string()));
            return self.release(io);
        }
        let (waker, now) = (io.waker(), io.now().mono);
        let streams = matches!(content, Content::Stream(..));
        let upload = match expect {
            true => Upload::Held(content, now + CONTINUE_WITHIN),
            false => Upload::of(content, &waker),
        };
        let (options, settings) = (&exchange.call.options, &exchange.shared.settings);
        self.phase = Phase::Busy(Box::new(Work {
            shared: exchange.shared.clone(),
            reused: std::mem::replace(&mut self.used, true),
            heard: false,
            upload,
            streams,
            to: To::Nobody,
            line: None,
            next: None,
            whole: exchange.whole,
            head_within: options.head.unwrap_or(settings.head_within),
            idle_within: options.idle.unwrap_or(settings.idle_within),
            clock: None,
            exchange: Some(exchange),
        }));
        Go::On
    }

    /// The call goes on a new connection, which takes this one's place.
    fn begin_again(&mut self, exchange: Box<Exchange>, now: Moment) -> Go {
        match self.place.take() {
            Some(place) => connect::begin(Pending::new(exchange, now), place, now),
            None => pool::start(exchange, now),
        }
        Go::Close
    }

    fn busy(&mut self, io: &mut Io<'_>) -> Go {
        let now = io.now();
        let (mask, moved) = match self.work(io) {
            Ok((More::Input, moved)) => (EventMask::READ | EventMask::EXTERNAL, moved),
            Ok((More::Elsewhere, moved)) => (EventMask::EXTERNAL, moved),
            Ok((More::Whole(trailers), _)) => return self.finish(io, trailers),
            Ok((More::Switch(upgrade), _)) => return self.hand_over(io, upgrade),
            Ok((More::Over, _)) => return self.fail(io, Error::Abandoned),
            Err(error) => return self.fail(io, error),
        };
        let Phase::Busy(work) = &mut self.phase else { return Go::Close };
        let waker = io.waker();
        let (moved, pause) = match work.upload.send(&mut self.conn, &mut io.tx, &waker, now.mono) {
            Ok((sent, pause)) => (moved || sent > 0, pause),
            Err(error) => return self.fail(io, error),
        };
        let reads = mask.contains(EventMask::READ);
        // Whom do we wait for? Only the server has deadlines.
        let deadline = match pause {
            Pause::Room => Some(Deadline::Idle),
            Pause::Pipe | Pause::Held(_) => None,
            Pause::Done if !reads => None,
            Pause::Done if self.conn.awaits_head() => Some(Deadline::Head),
            Pause::Done => Some(Deadline::Idle),
        };
        work.clock = match (deadline, work.clock) {
            (Some(which), Some((running, by))) if running == which && !moved => {
                if by <= now.mono {
                    return self.fail(io, Error::TimedOut(which));
                }
                Some((which, by))
            }
            (Some(which), _) => {
                let time = if which == Deadline::Head { work.head_within } else { work.idle_within };
                // None: as long as a clock can show.
                now.mono.checked_add(time).map(|by| (which, by))
            }
            (None, _) => None,
        };
        let held = if let Pause::Held(until) = pause { Some(until) } else { None };
        let by = [work.whole, work.clock.map(|(_, by)| by), held].into_iter().flatten().min();
        let mask = if pause == Pause::Room { mask | EventMask::WRITE } else { mask };
        Go::Wait(mask, by)
    }

    // The answer.

    /// Does what can be done with what has come; whether any of it was body.
    fn work(&mut self, io: &mut Io<'_>) -> Result<(More, bool), Error> {
        let now = io.now();
        let mut moved = false;
        loop {
            let Phase::Busy(work) = &mut self.phase else { return Ok((More::Over, moved)) };
            if work.whole.is_some_and(|by| by <= now.mono) {
                return Err(Error::TimedOut(Deadline::Whole));
            }
            if self.conn.awaits_head() {
                if !self.head(io)? {
                    return match io.rx.end() {
                        RxEnd::NotYet => Ok((More::Input, moved)),
                        _ => Err(Error::Incomplete { got: 0, of: None }),
                    };
                }
                continue;
            }
            match &mut work.to {
                To::Nobody => match work.line.as_ref().and_then(|line| line.chosen()) {
                    Some(choice) => self.choose(choice, io)?,
                    None if io.why().reset() => return Err(self.cut_off()),
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
                        Took::Some(0) if io.why().reset() => return Err(self.cut_off()),
                        Took::Some(0) => return Ok((More::Elsewhere, moved)),
                        Took::Some(taken) => {
                            io.rx.consume(taken);
                            self.conn.took(taken);
                            moved = true;
                        }
                    },
                    Step::End(n, trailers) => {
                        io.rx.consume(n);
                        return Ok((More::Whole(trailers), moved));
                    }
                    Step::NeedMore => {
                        if sink.is_abandoned() {
                            return Ok((More::Over, moved));
                        }
                        match io.rx.end() {
                            RxEnd::NotYet => return Ok((More::Input, moved)),
                            end if self.conn.handle_end(end == RxEnd::Clean) => return Ok((More::Whole(None), moved)),
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
            To::Sink(sink) if sink.refuses(announced) => Err(Error::TooLarge(super::Part::Body)),
            _ => Ok(()),
        }
    }

    /// The answer is whole. The connection is free before the application hears of it.
    fn finish(&mut self, io: &mut Io<'_>, trailers: Option<Box<Headers>>) -> Go {
        let Phase::Busy(work) = std::mem::replace(&mut self.phase, Phase::Over) else { return Go::Close };
        let go = if !self.conn.is_idle() {
            self.place = None;
            if self.conn.is_sending() { Go::Break } else { Go::Close }
        } else if is_quiet(io) {
            self.release(io)
        } else {
            self.place = None;
            Go::Close
        };
        let Work { to, line, next, .. } = *work;
        if let Some(next) = next {
            pool::start(next, io.now());
        }
        if let Some(on_end) = line.and_then(|line| line.take_on_end()) {
            on_end.tell(Ok(()));
        }
        if let To::Sink(sink) = to {
            sink.end(Ok(trailers));
        }
        go
    }

    fn hand_over(&mut self, io: &mut Io<'_>, upgrade: Box<dyn Upgrade>) -> Go {
        // It is no HTTP connection any more, and its own affair.
        self.place = None;
        io.set_deadline(None);
        self.phase = Phase::Handed(upgrade);
        Go::On
    }

    // What goes wrong.

    fn fail(&mut self, io: &Io<'_>, error: Error) -> Go {
        let Phase::Busy(work) = std::mem::replace(&mut self.phase, Phase::Over) else { return Go::Break };
        let Work { exchange, reused, heard, mut upload, streams, to, line, next, .. } = *work;
        debug!(target: "uncork::client", "{:?}: {error}", self.key);
        let Some(mut exchange) = exchange else {
            self.place = None;
            match next {
                Some(next) => pool::start(next, io.now()),
                None => tell(to, line, error),
            }
            return Go::Break;
        };
        // RFC 9112 §9.3.1: a connection may be closed just when it is used again, and a request be repeated if that does
        // no harm. Once.
        let stale = reused && !heard && matches!(error, Error::Incomplete { .. });
        if !stale {
            self.place = None;
            exchange.fail(error);
            return Go::Break;
        }
        let held = upload.take_held();
        let may_repeat = exchange.call.options.repeatable.unwrap_or_else(|| is_idempotent(&exchange.call.method));
        if exchange.again || (streams && held.is_none()) || !may_repeat {
            self.place = None;
            exchange.fail(Error::Stale);
            return Go::Break;
        }
        if let Some(content) = held {
            exchange.call.content = content;
        }
        exchange.again = true;
        self.begin_again(exchange, io.now());
        Go::Break
    }
}

/// A final head has come: it may lead elsewhere, or is the application's.
fn deliver(work: &mut Work, head: &ParsedResponse<'_>, switched: bool, io: &Io<'_>, here: &Loop) -> Result<(), Error> {
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
    let answer = AnswerHead {
        status: head.status,
        minor_version: u8::from(head.version == Version::Http11),
        headers: head.fields.to_owned(),
        length: if switched { None } else { head.announced },
    };
    let line = Line::new(io.waker(), here.clone(), switched);
    work.line = Some(line.clone());
    then.tell(Ok(Answer::new(answer, line)));
    Ok(())
}

/// Whoever waits for the rest of an answer learns that it will not come.
fn tell(to: To, line: Option<Arc<Line>>, error: Error) {
    let choice = line.as_ref().and_then(|line| line.is_over(error.clone()));
    if let Some(on_end) = line.and_then(|line| line.take_on_end()) {
        on_end.tell(Err(error.clone()));
    }
    match (to, choice) {
        (To::Sink(sink), _) => sink.end(Err(error)),
        (_, Some(choice)) => choice.fail(error),
        (To::Nobody | To::Close | To::Switch(_), None) => {}
    }
}

/// The server has neither said nor ended anything.
fn is_quiet(io: &Io<'_>) -> bool {
    io.rx.bytes().is_empty() && io.rx.end() == RxEnd::NotYet && !io.why().reset()
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

impl Upgrade for Connection {
    fn ready(&mut self, io: &mut Io<'_>) -> EventMask {
        if let Phase::Handed(upgrade) = &mut self.phase {
            return upgrade.ready(io);
        }
        self.stopping |= io.why().stopping();
        loop {
            match self.step(io) {
                Go::On => {}
                Go::Wait(mask, by) => {
                    io.set_deadline(by);
                    return mask;
                }
                Go::Close => {
                    self.phase = Phase::Over;
                    return EventMask::TERMINATE;
                }
                Go::Break => {
                    self.phase = Phase::Over;
                    io.abort();
                    return EventMask::TERMINATE;
                }
            }
            if let Phase::Handed(upgrade) = &mut self.phase {
                // Its first call: nothing was told to it yet.
                let stopping = if self.stopping { Why::STOPPING } else { 0 };
                io.why = Why(io.why.0 & (Why::READ | Why::END | Why::RESET) | stopping);
                return upgrade.ready(io);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Busy(work) => {
                // The loop has ended; or it has broken the connection off, because the server takes nothing.
                let stuck = matches!(work.clock, Some((Deadline::Idle, _))) && self.conn.is_sending();
                let error = if stuck { Error::TimedOut(Deadline::Idle) } else { Error::LoopEnded };
                let Work { exchange, to, line, .. } = *work;
                if let Some(exchange) = exchange {
                    return exchange.fail(error);
                }
                tell(to, line, error);
            }
            // A call that was left there is told that the loop has ended.
            Phase::Idle(_) => drop(self.leave()),
            Phase::New(_) | Phase::Handed(_) | Phase::Over => {}
        }
    }
}
