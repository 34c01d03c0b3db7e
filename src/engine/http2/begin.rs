//! From the head of a request to its response, or to the slot of its stream.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::HeaderValue;

use super::{Http2, Stream};
use crate::{
    api::{Action, Handler, Head, Request, Response, request::RequestContext, request::RequestHooks, response::Kind},
    base::{EndReason, RequestId, out::Block, time::Tick},
    conn::{ServerConn, server::ResponseSpec},
    engine::{
        arrivals::Peer,
        conn_io::{ConnIo, tls_info},
        core::Core,
        dispatch,
        http::{announced, is_whole},
        job::JobExit,
        phase::{Closing, Phase, Slot, Step},
    },
    h1::{Misbehaved, write::BodyLength},
    h2::{fields, request::StreamRequest, stream},
    transport::{Socket, Transport},
};

impl Http2 {
    /// Calls the handler, and carries out its action.
    pub(super) fn begin(
        &mut self,
        io: &mut ConnIo,
        core: &mut Core,
        handler: &mut dyn Handler,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) {
        self.number = self.number.wrapping_add(1);
        io.stop_timeout();
        let (parts, recv) = request.into_parts();
        let recv = Some(recv).filter(|recv| !recv.is_end_stream());
        let text = StreamRequest::new(parts, recv.is_none(), &core.head_limits);
        self.urgency = text.urgency();
        let fields = match text.fields(&core.head_limits) {
            Ok(fields) => fields,
            Err(rule) => return self.reject(io, core, respond, rule),
        };
        let head = match text.head(&fields, &core.head_limits, &mut core.known_host) {
            Ok(head) => head,
            Err(rule) => return self.reject(io, core, respond, rule),
        };
        let mut conn = ServerConn::new();
        let begun = conn.begin(&head, &core.limits, true);
        let copy = core.access_log.is_some().then(|| Head::copy(&head));
        let context = RequestContext {
            id: RequestId { conn: io.id, number: self.number },
            peer: &io.peer.addr,
            listener: io.peer.listener.into(),
            now: core.now,
            mailbox: &core.mailbox,
            tls_info: tls_info(&io.transport),
            socket: io.transport.socket_ref(),
        };
        let mut hooks = None;
        let mut request = Request { head: &head, context: &context, hooks: &mut hooks };
        let action = match begun {
            Ok(()) => dispatch::request(handler, &mut request).map_err(JobExit::from),
            Err(rule) => Err(rule.into()),
        };
        match action {
            Ok(Action::Respond(response))
                if hooks.is_none() && copy.is_none() && is_whole(&response) && !conn.is_receiving() =>
            {
                self.respond_at_once(io, core, conn, respond, response);
            }
            action => self.serve(io, core, conn, (recv, respond), action, hooks, copy),
        }
    }

    /// Gives the stream a slot, in which the action is carried out.
    #[expect(clippy::too_many_arguments, reason = "a request and the parts of its job")]
    fn serve(
        &mut self,
        io: &ConnIo,
        core: &mut Core,
        mut conn: ServerConn,
        (recv, respond): (Option<RecvStream>, SendResponse<Bytes>),
        action: Result<Action, JobExit>,
        hooks: Option<Box<RequestHooks>>,
        copy: Option<Head>,
    ) {
        let stream = stream::Stream::new(recv, respond, self.next_waker(), self.date(core), self.shared.clone());
        conn.speak(Box::new(stream.clone()));
        let mut own = self.own_io(io, stream, conn);
        if let Some(timeout) = hooks.as_ref().and_then(|hooks| hooks.timeout) {
            own.set_timeout(timeout);
        }
        let step = own.start_job(core, action, hooks, copy);
        self.add(own, core, step);
    }

    /// Responds with the rule that a head breaks. A malformed request gets no response: RFC 9113 §8.1.1 has a stream
    /// error of type PROTOCOL_ERROR for it.
    #[cold]
    fn reject(&mut self, io: &ConnIo, core: &mut Core, respond: SendResponse<Bytes>, rule: Misbehaved) {
        let stream = stream::Stream::new(None, respond, self.next_waker(), self.date(core), self.shared.clone());
        let malformed = rule.status() == 400;
        if malformed {
            stream.reset(Reason::PROTOCOL_ERROR);
        }
        let mut conn = ServerConn::new();
        conn.speak(Box::new(stream.clone()));
        let mut own = self.own_io(io, stream, conn);
        let step = own.reject(core, rule, None);
        match step {
            // Only the log learns the status.
            Ok(Step::Become(phase)) if malformed => {
                let reason = EndReason::Rejected { status: rule.status(), rule: rule.rule() };
                own.out.clear();
                drop(Slot { io: own, phase }.end(core, reason));
            }
            step => self.add(own, core, step),
        }
    }

    /// Sends a response that is at hand. If the client's windows do not allow that, the rest of it gets a slot.
    fn respond_at_once(
        &mut self,
        io: &ConnIo,
        core: &mut Core,
        mut conn: ServerConn,
        mut respond: SendResponse<Bytes>,
        response: Response,
    ) {
        let date = self.date(core);
        let head_only = conn.is_head_only();
        let spec = ResponseSpec {
            status: response.status,
            fields: &response.headers,
            length: announced(&response, head_only),
            date: &self.date.0,
        };
        let length = match conn.length_of(&spec) {
            BodyLength::Known(length) => Some(length),
            _ => None,
        };
        let head = fields::response(&spec, length, date, false);
        if response.close {
            self.shared.closes.store(true, Ordering::Relaxed);
        }
        let body = match response.body.0 {
            Kind::Bytes(block) if length == Some(block.bytes().len() as u64) && length > Some(0) && !head_only => block,
            // If the stream is gone, so is its client.
            _ => return drop(respond.send_response(head, true)),
        };
        let Ok(mut send) = respond.send_response(head, false) else { return };
        let n = body.bytes().len();
        send.reserve_capacity(n);
        if send.capacity() >= n {
            let _ = send.send_data(owned(body), true);
        } else {
            self.send_rest(io, core, conn, send, body);
        }
    }

    /// Sends a body as the client's windows allow it.
    #[cold]
    fn send_rest(&mut self, io: &ConnIo, core: &mut Core, conn: ServerConn, send: SendStream<Bytes>, mut body: Block) {
        let stream =
            stream::Stream::responding(send, body.bytes().len() as u64, self.next_waker(), self.shared.clone());
        let mut own = self.own_io(io, stream, conn);
        own.out.push_block(&mut body);
        let phase = Phase::Closing(Box::new(Closing::new(EndReason::Complete, false)));
        self.add(own, core, Ok(Step::Become(phase)));
    }

    /// Returns the resources of a stream.
    fn own_io(&self, io: &ConnIo, stream: stream::Stream, conn: ServerConn) -> ConnIo {
        let socket = Socket::within(Box::new(stream));
        let mut own = ConnIo::new(io.id, Transport::plain(socket), Peer::adopted(io.peer.addr));
        own.conn = conn;
        own.number = self.number;
        own.peer.listener = io.peer.listener;
        own.peer.timeout = io.peer.timeout;
        own
    }

    /// Adds a stream whose first step was taken. It is driven in this turn.
    fn add(&mut self, own: ConnIo, core: &mut Core, step: Result<Step, EndReason>) {
        let phase = match step {
            Ok(Step::Become(phase)) => phase,
            Ok(_) => return drop(Slot { io: own, phase: Phase::Head }.end(core, EndReason::Complete)),
            Err(reason) => return drop(Slot { io: own, phase: Phase::Head }.end(core, reason)),
        };
        let number = own.number;
        let key =
            self.streams.insert(Stream { slot: Slot { io: own, phase }, due: Tick::NEVER, urgency: self.urgency });
        self.numbers.insert(number, key);
        self.wakers[key].wake_by_ref();
    }

    /// Returns the waker of the next stream.
    fn next_waker(&mut self) -> std::task::Waker {
        let key = self.streams.vacant_key();
        while self.wakers.len() <= key {
            self.wakers.push(self.wakes.waker(self.wakers.len()));
        }
        self.wakers[key].clone()
    }

    /// Returns the value of `Date`.
    fn date(&mut self, core: &mut Core) -> HeaderValue {
        let now = core.date.at(core.now.wall);
        if self.date.0 != *now {
            self.date = (*now, HeaderValue::from_bytes(now).unwrap_or(HeaderValue::from_static("")));
        }
        self.date.1.clone()
    }
}

/// Returns the bytes without a copy.
fn owned(block: Block) -> Bytes {
    match block {
        Block::Static(bytes) => Bytes::from_static(bytes),
        Block::Owned(bytes) => bytes.into(),
        Block::Shared(bytes) => Bytes::from_owner(bytes),
    }
}
