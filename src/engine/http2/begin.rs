//! From the head of a request to its response, or to the slot of its stream.

use log::debug;

use super::{Http2, Stream, request_number};
use crate::{
    api::{Action, Handler, Head, Request, Response, request::RequestContext, request::RequestHooks, response::Kind},
    base::{EndReason, RequestId, lock, time::Tick},
    conn::{ServerConn, message::ResponseSpec},
    engine::{
        arrivals::Peer,
        conn_io::{ConnIo, tls_info},
        core::Core,
        dispatch,
        http::{announced, is_whole},
        job::JobExit,
        phase::{Closing, Phase, Slot, Step},
    },
    h1::{Framing, Misbehaved, write::BodyLength},
    h2::{fields::Fields, frame::ErrorCode, request::StreamRequest, stream},
    transport::{Socket, Transport},
};

/// A stream whose request has begun.
#[derive(Clone, Copy)]
struct Begun {
    number: u32,
    /// The request has no body.
    ended: bool,
    urgency: u8,
    /// Bytes of the request's body, if that is known.
    length: Option<u64>,
}

/// What the handler wants to be done.
struct Dispatched {
    conn: ServerConn,
    action: Result<Action, JobExit>,
    hooks: Option<Box<RequestHooks>>,
    copy: Option<Head>,
}

impl Http2 {
    /// Calls the handler, and carries out its action.
    pub(super) fn begin(
        &mut self,
        io: &mut ConnIo,
        core: &mut Core,
        handler: &mut dyn Handler,
        number: u32,
        ended: bool,
    ) {
        self.requests = self.requests.saturating_add(1);
        self.rests = core.tick;
        io.stop_timeout();
        let fields = self.connection().take_fields();
        let mut begun = Begun { number, ended, urgency: 0, length: None };
        let dispatched = dispatch(&fields, &mut begun, self.rejects, io, core, handler);
        self.connection().return_fields(fields);
        match dispatched {
            Err(rule) => self.reject(io, core, begun, rule),
            Ok(Dispatched { conn, action: Ok(Action::Respond(response)), hooks: None, copy: None })
                if is_whole(&response) && !conn.is_receiving() =>
            {
                self.respond_at_once(io, core, conn, begun, response);
            }
            Ok(dispatched) => self.serve(io, core, begun, dispatched),
        }
    }

    /// Gives the stream a slot, in which the action is carried out.
    fn serve(&mut self, io: &ConnIo, core: &mut Core, begun: Begun, dispatched: Dispatched) {
        let Dispatched { mut conn, action, hooks, copy } = dispatched;
        let stream = self.open(begun);
        conn.speak(Box::new(stream.clone()));
        let mut own = own_io(io, begun, stream, conn);
        if let Some(timeout) = hooks.as_ref().and_then(|hooks| hooks.timeout) {
            own.set_timeout(timeout);
        }
        let step = own.start_job(core, action, hooks, copy);
        self.add(own, core, begun, step);
    }

    /// Responds with the rule that a head breaks. A malformed request gets no response: RFC 9113 §8.1.1 has a stream
    /// error of type PROTOCOL_ERROR for it.
    #[cold]
    fn reject(&mut self, io: &ConnIo, core: &mut Core, begun: Begun, rule: Misbehaved) {
        let malformed = rule.status() == 400;
        if malformed && core.access_log.is_none() {
            debug!(target: "uncork::conn", "{} {}: {}", io.id, io.peer.addr, rule.rule());
            return self.connection().reject(begun.number);
        }
        let stream = self.open(begun);
        if malformed {
            self.connection().reject(begun.number);
        }
        let mut conn = ServerConn::new();
        conn.speak(Box::new(stream.clone()));
        let mut own = own_io(io, begun, stream, conn);
        let step = own.reject(core, rule, None);
        match step {
            // Only the log learns the rule. No response was sent, so its status is 0.
            Ok(Step::Become(mut phase)) if malformed => {
                let reason = EndReason::Rejected { status: rule.status(), rule: rule.rule() };
                own.out.clear();
                if let Phase::Closing(closing) = &mut phase
                    && let Some(job) = &mut closing.job
                {
                    (job.status, job.written) = (0, 0);
                }
                drop(Slot { io: own, phase }.end(core, reason));
            }
            step => self.add(own, core, begun, step),
        }
    }

    /// Sends a response that is at hand. If the client's windows do not allow that, it gets a slot.
    fn respond_at_once(
        &mut self,
        io: &ConnIo,
        core: &mut Core,
        mut conn: ServerConn,
        begun: Begun,
        mut response: Response,
    ) {
        let head_only = conn.is_head_only();
        let spec = ResponseSpec {
            status: response.status,
            fields: &response.headers,
            length: announced(&response, head_only),
            date: core.date.at(core.now.wall),
        };
        let length = match conn.length_of(&spec) {
            BodyLength::Known(length) => Some(length),
            _ => None,
        };
        let mut connection = lock(&self.connection);
        connection.encode_response(&spec, length, false);
        let body = match &mut response.body.0 {
            Kind::Bytes(block) if length == Some(block.bytes().len() as u64) && !head_only => std::mem::take(block),
            _ => Default::default(),
        };
        if connection.send_whole(begun.number, body.bytes()) {
            if !begun.ended {
                // RFC 9113 §8.1: the response is complete. The end of an empty body may come behind it.
                connection.reset_stream(begun.number, ErrorCode::NoError);
            }
            return;
        }
        drop(connection);
        self.send_slowly(io, core, conn, begun, body);
    }

    /// Sends a response whose head was encoded, as the client's windows allow it.
    #[cold]
    fn send_slowly(
        &mut self,
        io: &ConnIo,
        core: &mut Core,
        conn: ServerConn,
        begun: Begun,
        mut body: crate::base::out::Block,
    ) {
        let stream = self.open(begun);
        self.connection().send_head(begun.number, false, Some(body.bytes().len() as u64));
        let mut own = own_io(io, begun, stream, conn);
        own.out.push_block(&mut body);
        let phase = Phase::Closing(Box::new(Closing::new(EndReason::Complete, false)));
        self.add(own, core, begun, Ok(Step::Become(phase)));
    }

    fn open(&self, begun: Begun) -> stream::Stream {
        self.connection().open(begun.number, begun.urgency, begun.ended, begun.length);
        stream::Stream::new(self.connection.clone(), begun.number)
    }

    /// Adds a stream whose first step was taken. It is driven in this turn.
    fn add(&mut self, mut own: ConnIo, core: &mut Core, begun: Begun, step: Result<Step, EndReason>) {
        // Hundreds may begin before the first is driven: each would keep a buffer until then.
        own.out.settle(&mut core.pool);
        let phase = match step {
            Ok(Step::Become(phase)) => phase,
            Ok(_) => return drop(Slot { io: own, phase: Phase::Head }.end(core, EndReason::Complete)),
            Err(reason) => return drop(Slot { io: own, phase: Phase::Head }.end(core, reason)),
        };
        lock(&self.connection).wake(begun.number);
        let slot = Slot { io: own, phase };
        let stream = Stream { slot, due: Tick::NEVER, output_end: 0, taken_before: self.taken };
        // Streams begin in the order of their numbers.
        self.streams.push((begun.number, Box::new(stream)));
    }
}

/// Checks the head of a request, and calls the handler unless the connection rejects all requests.
fn dispatch(
    fields: &Fields,
    begun: &mut Begun,
    rejects: Option<Misbehaved>,
    io: &ConnIo,
    core: &mut Core,
    handler: &mut dyn Handler,
) -> Result<Dispatched, Misbehaved> {
    let request = StreamRequest::new(fields, begun.ended);
    let words = request.words()?;
    begun.urgency = words.urgency;
    let head = request.head(&words, &core.head_limits, &mut core.known_host)?;
    if let Framing::Length(length) = head.framing {
        begun.length = Some(length);
    }
    let mut conn = ServerConn::new();
    let taken = conn.begin(&head, &core.limits, true);
    let taken = rejects.map_or(taken, Err);
    let copy = core.access_log.is_some().then(|| Head::copy(&head));
    let context = RequestContext {
        id: RequestId { conn: io.id, number: request_number(begun.number) },
        peer: &io.peer.addr,
        listener: io.peer.listener.into(),
        now: core.now,
        mailbox: &core.mailbox,
        tls_info: tls_info(&io.transport),
        socket: io.transport.socket_ref(),
    };
    let mut hooks = None;
    let mut request = Request { head: &head, context: &context, hooks: &mut hooks };
    let action = match taken {
        Ok(()) => dispatch::request(handler, &mut request).map_err(JobExit::from),
        Err(rule) => Err(rule.into()),
    };
    Ok(Dispatched { conn, action, hooks, copy })
}

/// Returns the resources of a stream.
fn own_io(io: &ConnIo, begun: Begun, stream: stream::Stream, conn: ServerConn) -> ConnIo {
    let socket = Socket::within(Box::new(stream));
    let mut own = ConnIo::new(io.id, Transport::plain(socket), Peer::adopted(io.peer.addr));
    own.conn = conn;
    own.number = request_number(begun.number);
    own.peer.listener = io.peer.listener;
    own.peer.timeout = io.peer.timeout;
    own
}
